"""Packages that tests write in place of installed ones."""

import sys
from pathlib import Path

import pytest


def write_package(
    monkeypatch: pytest.MonkeyPatch, root: Path, module: str, files: dict[str, bytes]
) -> None:
    """Makes a package with these files by path the one that is found; it cannot be imported."""
    package = root / module
    for name, content in {"__init__.py": b"raise ImportError\n", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.delitem(sys.modules, module, raising=False)


def hide_package(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Makes a package one that is not installed."""
    import mtlbench.data.packaged as packaged

    find = packaged.find_spec
    monkeypatch.setattr(packaged, "find_spec", lambda name: None if name == module else find(name))
