"""Words for letters that standard output may not know."""

import codecs
import sys
import unicodedata

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
    "°": "deg", "†": "*", "ø": "o", "ß": "ss", "æ": "ae", "ł": "l", "Ł": "L", "Ø": "O",
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


def as_printed(text: str) -> str:
    """A text as standard output writes it, so that columns are aligned as they will stand there."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, SPELLED).decode(encoding)
