"""Docstrings that describe several names at once, as mkdocstrings reads them: one by one."""

import re
from typing import Any

from griffe import Extension, Object

JOINT = re.compile(r"^ {4}(\w+(?:, \w+)+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
"""Such as "    low, high: the ends." in `Args` or `Attributes`, with the lines that go on."""


class JointNames(Extension):
    """Gives each name of "a, b: what they are" the description."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = JOINT.sub(_apart, obj.docstring.value)


def _apart(joint: re.Match[str]) -> str:
    return "\n".join(f"    {name}: {joint[2]}" for name in joint[1].split(", "))
