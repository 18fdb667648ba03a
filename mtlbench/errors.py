"""The exceptions that a person is told in one line."""

import sysconfig
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
"""Where Python's own modules lie, and packages."""


class UserError(Exception):
    """Something the user asked for cannot be done; the message is one line that says what and why.

    The command line prints it on standard error and exits with status 2.
    """


class UnfinishedError(Exception):
    """A study cannot go on, for no fault of what was asked; the message is one line that says why.

    The command line prints it on standard error and exits with status 1. What was trained stays.
    """


MOST_KNOWN = 12
"""So many names are offered where none is near to what was asked for."""


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """An error for a name that is not in `known`, which offers the nearest names that are."""
    known = sorted(known)
    name = str(name)
    near = get_close_matches(name[: 2 * MOST_LETTERS], known, n=3, cutoff=0.5)
    if near:
        hint = "did you mean " + " or ".join(repr(n) for n in near) + "?"
    else:
        shown = ", ".join(known[:MOST_KNOWN])
        more = len(known) - MOST_KNOWN
        hint = f"known: {shown or 'none'}" + (f" and {more} more" if more > 0 else "")
    return UserError(f"unknown {what} {shortened(repr(name), 2 * MOST_LETTERS)}; {hint}")


def require_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises the error of `unknown` for the first of the names that is not in `known`."""
    known = set(known)
    for name in names:
        if name not in known:
            raise unknown(what, name, known)


def listed(what: str, names: Iterable[str] | None) -> list[str] | None:
    """Names as a list, where one name or any iterable of names may be given; None stays None.

    Raises:
        UserError: there is none, or something that is no name.
    """
    if names is None:
        return None
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Iterable):
        raise UserError(f"{what}: a list of names is needed, not {names!r}")
    found = list(names)
    for name in found:
        if not isinstance(name, str):
            raise UserError(f"{what}: {name!r} is no name")
    if not found:
        raise UserError(f"no {what} given")
    return found


MOST_LETTERS = 64
"""Of a name: directories and columns are called by it."""

NAMES = "letters, digits, - and _, of which the first is no -"
"""What names may have, in words."""


def is_name(text: object) -> bool:
    """Whether a text can stand on a command line and name a directory."""
    return (
        isinstance(text, str)
        and 0 < len(text) <= MOST_LETTERS
        and text[0] != "-"
        and all(letter.isalnum() or letter in "-_" for letter in text)
    )


def printable(text: str) -> str:
    """A text from anywhere, for a terminal: escapes stand for what cannot be shown."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def require_printable(what: str, text: object) -> None:
    """Raises an error for what is no text, or has characters that cannot be shown in a table."""
    if not isinstance(text, str) or not text.isprintable():
        raise UserError(f"{what} must be text of printable characters, but is {ascii(text)[:60]}")
    if len(text) > MOST_LETTERS * 4:
        raise UserError(f"{what} is too long: {text[:MOST_LETTERS]!r}… has {len(text)} letters")


MOST_TOLD = 600
"""Letters of a line on the terminal, and of what others say that is repeated in one."""


def shortened(text: str, most: int = MOST_TOLD) -> str:
    """A text that may be of any length, without its middle where it is too long."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 :]}"


def describe(error: BaseException) -> str:
    """An exception in one line: its kind, unless it speaks for itself, and its message."""
    try:
        message = shortened(" ".join(str(error).split()))
    except Exception:  # it is somebody's own
        message = "without a message"
    if isinstance(error, UserError):
        return message
    return f"{type(error).__name__}: {message}{place_of(error)}"


def place_of(error: BaseException) -> str:
    """The last line of somebody's own code that an exception came through, in brackets, or ""."""
    here = str(Path(__file__).parent)
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if not file.startswith((here, *INSTALLED, "<")):
            found = f" ({file}, line {line})"
    return found
