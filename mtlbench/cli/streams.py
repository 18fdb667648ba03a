"""Output whose reader may go away, or may know few letters."""

import codecs
import os
import sys
import unicodedata
from contextlib import suppress
from typing import Any

WORDS = {
    "±": "+-", "−": "-", "–": "-", "—": "-", "×": "x", "÷": "/", "·": "-", "…": "...", "•": "*",
    "→": "->", "←": "<-", "↑": "(higher is better)", "↓": "(lower is better)", "≤": "<=", "≥": ">=",
    "≠": "!=", "≈": "~", "∞": "inf", "√": "sqrt", "∑": "sum", "∇": "grad", "∂": "d", "∈": "in",
    "∥": "||", "⋅": "*", "∗": "*", "‖": "||", "⊤": "T", "∘": "o", "∩": "and", "∪": "or",
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta",
    "θ": "theta", "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi",
    "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "χ": "chi", "ψ": "psi",
    "ω": "omega", "Δ": "Delta", "Γ": "Gamma", "Λ": "Lambda", "Σ": "Sigma", "Φ": "Phi", "Ω": "Omega",
    "─": "-", "│": "|", "┃": "|", "━": "-", "█": "#", "“": '"', "”": '"', "’": "'", "‘": "'",
    "°": "deg", "ø": "o", "ß": "ss", "æ": "ae", "ł": "l", "Ł": "L", "Ø": "O",
}  # fmt: skip
"""Letters that not every output knows, and what stands for them there."""

SPELLED = "mtlbench-words"


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """The error handler of an encoder: words, or the letter without its accents, or an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(map(_word, letters)), error.end


def _word(letter: str) -> str:
    if letter in WORDS:
        return WORDS[letter]
    plain = "".join(each for each in unicodedata.normalize("NFKD", letter) if each.isascii())
    return plain or ascii(letter)[1:-1]


codecs.register_error(SPELLED, _spelled)


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
