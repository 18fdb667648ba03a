"""Docstrings as Markdown, for the catalogues of strategies and of suites."""

import inspect
import re
import textwrap

from mtlbench.analysis.printing import one_line
from mtlbench.analysis.writers import markdown

PARAMETER = re.compile(r"(\w+(?:, \w+)*): (.*)", re.DOTALL)

AS_WRITTEN = re.compile(r"(`[^`]+`|\*\*[^*]+\*\*)")
"""What docstrings write as Markdown does: code, and what opens a paragraph in bold."""


def blocks(cls: type) -> list[str]:
    """The parts of a class's docstring that are apart by empty lines, the summary first."""
    return re.split(r"\n\s*\n", inspect.getdoc(cls) or "")


def prose(text: str) -> str:
    """A paragraph of a docstring: its code and bold words stay, all else is shown as it is."""
    parts = AS_WRITTEN.split(one_line(text))
    return "".join(part if i % 2 else markdown(part) for i, part in enumerate(parts))


def meanings(block: str) -> dict[str, str]:
    """Name to description, from a section such as `Args` or `Attributes`."""
    body = textwrap.dedent(block.partition("\n")[2])
    found = {}
    for item in re.split(r"\n(?=\S)", body):
        if match := PARAMETER.match(item):
            for name in match[1].split(", "):
                found[name] = one_line(match[2])
    return found
