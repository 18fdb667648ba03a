"""Output whose reader may go away, or may know few letters."""

import os
import sys
from contextlib import suppress
from typing import Any

from mtlbench.letters import SPELLED


def spell_out(*streams: Any) -> None:
    """Lets streams write any letter, whatever their encoding."""
    for stream in streams:
        with suppress(AttributeError, ValueError):  # a stand-in for a stream, or a closed one
            stream.reconfigure(errors=SPELLED)


def shows_styles() -> bool:
    """Whether standard output is a terminal that knows bold and underlined."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


class Forgiving:
    """Standard error whose reader may go away, or whose disk be full: that must not end a study."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            silence(self._stream)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def silence(stream: Any) -> None:
    """Lets all that is still to be written to a stream vanish."""
    with suppress(OSError):  # it has no file below it
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
