"""The exceptions that a person is told in one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user asked for cannot be done; the message is one line that says what and why.

    The command line prints it on standard error and exits with status 2.
    """


class UnfinishedError(Exception):
    """A study cannot go on, for no fault of what was asked; the message is one line that says why.

    The command line prints it on standard error and exits with status 1. What was trained stays.
    """


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """An error for a name that is not in `known`, which offers the nearest names that are."""
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        hint = "did you mean " + " or ".join(repr(n) for n in near) + "?"
    else:
        hint = "known: " + ", ".join(known)
    return UserError(f"unknown {what} {name!r}; {hint}")


def require_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raises the error of `unknown` for the first of the names that is not in `known`."""
    known = set(known)
    for name in names:
        if name not in known:
            raise unknown(what, name, known)


def describe(error: BaseException) -> str:
    """An exception in one line: its kind, unless it speaks for itself, and its message."""
    message = " ".join(str(error).split())
    return message if isinstance(error, UserError) else f"{type(error).__name__}: {message}"
