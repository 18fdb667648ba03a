"""One HTML page of results directories: self-contained, offline, the same bytes for the same runs.

What the page shows is gathered in `content`, drawn as SVG in `charts` and written by the template
`page.html`; `style.css` and `script.js` are put inside it. The page fetches nothing, and its
content security policy forbids it to.
"""

import os
import shlex
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mtlbench.analysis.report.content import gather
from mtlbench.analysis.report.page import GENERATOR, render
from mtlbench.analysis.results import directories
from mtlbench.errors import UserError, listed
from mtlbench.files import replacing
from mtlbench.store.runs import Places

__all__ = ["render_report", "write_report"]

Damaged = Sequence[tuple[str, str]]

TITLE = "Multi-task learning benchmark"


def render_report(
    results: Places | None = None,
    *,
    title: str | None = None,
    suites: Iterable[str] | None = None,
    reference: bool = False,
    out: str | Path = "report.html",
) -> str:
    """The page of results directories, as HTML.

    Args:
        results: one or several results directories; `runs` where None, or with `reference` none
            where there is no such directory. With `reference` there may be none: `()`.
        title: the page's heading.
        suites: only these suites; all by default.
        reference: the reference results that come with the package, too. They have no curves over
            epochs and no pictures.
        out: the file named in the command that the page says it was made by.

    Raises:
        UserError: there is no such directory or suite, or not one run that can be read.
    """
    return _page(results, title, suites, reference, out)[0]


def _page(
    results: Places | None,
    title: str | None,
    suites: Iterable[str] | None,
    reference: bool,
    out: str | Path,
) -> tuple[str, Damaged]:
    suites = listed("suite", suites)
    roots = directories(results, reference)
    content = gather(roots, suites, reference=reference)
    command = ["mtlbench", "report"]
    command += [word for root in roots for word in ("--results", str(root))]
    command += ["--reference"] * reference
    command += ["--out", str(out)]
    if suites is not None:
        command += ["--suites", ",".join(suites)]
    if title is not None:
        command += ["--title", title]
    return render(content, title or TITLE, shlex.join(command)), content.damaged


def write_report(
    results: Places | None = None,
    out: str | Path = "report.html",
    *,
    title: str | None = None,
    suites: Iterable[str] | None = None,
    reference: bool = False,
    tell_damaged: Callable[[Damaged], None] = lambda damaged: None,
) -> Path:
    """Writes the page of results directories: aside first, then renamed into its place.

    Args:
        results, title, suites, reference: as for `render_report`.
        out: the file to write. One that is there is replaced only if it is such a page itself.
        tell_damaged: told of run directories that could not be read, as (path, what is wrong).

    Raises:
        UserError: as `render_report`; or the file cannot be written, or is not ours to replace.
    """
    out = Path(out)
    _check(out)
    page, damaged = _page(results, title, suites, reference, out)
    try:
        with replacing(out) as aside:
            aside.write_text(page, encoding="utf-8")
            _check(out)  # something else may have come there meanwhile
    except OSError as error:
        raise UserError(f"{str(out)!r} cannot be written: {error.strerror}") from error
    tell_damaged(damaged)
    return out


def _check(out: Path) -> None:
    """Makes sure that nothing is there but an older page of ours."""
    shown = repr(str(out))
    if out.is_dir():
        raise UserError(
            f"{shown} is a directory; give the page a file name, as in --out report.html"
        )
    if not out.parent.is_dir():
        raise UserError(f"no directory {str(out.parent)!r} to write {out.name!r} into")
    if os.path.lexists(out):
        try:
            ours = False
            if stat.S_ISREG(out.stat().st_mode):  # a pipe would be waited for
                with out.open("rb") as file:
                    ours = GENERATOR.encode() in file.read(4096)
        except OSError as error:
            raise UserError(f"{shown} is there and cannot be read: {error.strerror}") from error
        if not ours:
            raise UserError(f"{shown} is there and is not a report; give another file with --out")
