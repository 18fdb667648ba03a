"""What `mkdocs build` makes of the package and of the repository, beside the pages in this folder.

- Pages that are printed from the registry and the argument parser: suites, command line.
- The report of the reference results, as a page of its own.
- The pages of `results/`, and every other file of the repository that a page links to.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mtlbench.analysis.report import render_report
from mtlbench.analysis.writers import markdown
from mtlbench.cli import suite_catalogue
from mtlbench.cli.main import build_parser

ROOT = Path(__file__).parents[1]
RESULTS = "results"

LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<path>(?!\w+:|#|/)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
"""A link or a picture with a relative address."""

MENTION = re.compile(r"\bdocs/([\w-]+\.md)\b")
"""How docstrings name a page."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made, and what pages link to outside of this folder."""
    made = {
        "suites.md": suite_catalogue.render(),
        "command-line.md": command_line(),
        "reference.html": render_report(
            (), title="The reference results of MTLBench", reference=True, out="reference.html"
        ),
    }
    for name, content in made.items():
        content = content if name.endswith(".html") else MENTION.sub(r"[\1](\1)", content)
        files.append(File.generated(config, name, content=content))
    pages = [
        Path("docs") / file.src_uri for file in files if (ROOT / "docs" / file.src_uri).exists()
    ]
    pages += [page.relative_to(ROOT) for page in sorted((ROOT / RESULTS).rglob("*.md"))]
    known = {file.src_uri for file in files}
    for page in pages:
        linked = [page, *_linked(page)] if page.suffix == ".md" else [page]
        for path in linked:
            address = _address(path)
            if address not in known:
                known.add(address)
                files.append(File.generated(config, address, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Points links at the places that files of the repository have in the site."""
    made_of = page.file.abs_src_path
    if made_of is None:
        return markdown
    here = Path(made_of).parent
    up = "../" * page.file.src_uri.count("/")

    def pointed(link: re.Match[str]) -> str:
        path = (here / link["path"]).resolve()
        if not path.is_relative_to(ROOT):
            return link[0]
        if path.is_dir():
            path /= "README.md"
            if not path.exists():
                return link["text"]
        return f"[{link['text']}]({up}{_address(path.relative_to(ROOT))}{link['anchor'] or ''})"

    return LINK.sub(pointed, markdown)


def _linked(page: Path) -> Iterator[Path]:
    """The files that a page of the repository links to."""
    for link in LINK.finditer((ROOT / page).read_text("utf-8")):
        path = ((ROOT / page).parent / link["path"]).resolve()
        if path.is_relative_to(ROOT) and path.is_file():
            yield path.relative_to(ROOT)


def _address(path: Path) -> str:
    """Where a file of the repository lies in the site's sources."""
    return path.as_posix().removeprefix("docs/")


# --- the command line -----------------------------------------------------------------------------


def command_line() -> str:
    """Every verb with its options, as a page in Markdown."""
    parser = build_parser()
    (verbs,) = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    lines = ["# Command line", "", f"`mtlbench COMMAND --help` prints the same. {STATUS}"]
    for name, verb in verbs.items():
        verb.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=80)
        lines += ["", f"## {name}", "", str(verb.description), "", "```text"]
        lines += [verb.format_usage().removeprefix("usage: ").rstrip(), "```", ""]
        lines += ["| option | | default |", "| :-- | :-- | :-- |"]
        expand = verb._get_formatter()._expand_help
        for action in verb._actions:
            if not isinstance(action, argparse._HelpAction):
                told = markdown(expand(action)) if action.help else ""
                lines.append(f"| {_option(action)} | {told} | {_default(action)} |")
    return "\n".join(lines) + "\n"


STATUS = (
    "The exit status is 0 where all that was asked for is done, 1 where some of it is not, 2 for "
    "bad input (one line says what is wrong, and nothing is written), and 128 plus its number "
    "after a signal, 130 for Ctrl-C."
)


def _option(action: argparse.Action) -> str:
    name = action.option_strings[-1] if action.option_strings else action.dest.upper()
    choices = f"{{{','.join(action.choices)}}}" if action.choices else ""
    value = action.metavar or choices
    more = " …" if action.nargs in ("+", "*") else ""
    return f"`{name} {value}{more}`" if action.option_strings else f"`{value or name}`"


def _default(action: argparse.Action) -> str:
    default = action.default
    told = "default" in (action.help or "")
    if told or default is None or default is False or default in ([], argparse.SUPPRESS):
        return ""
    return f"`{default}`"
