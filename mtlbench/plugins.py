"""Plugins: files and installed packages that add strategies and suites."""

import ast
import hashlib
import importlib
import importlib.metadata
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mtlbench.errors import UserError, describe
from mtlbench.registry import registering_from

ENTRY_POINT_GROUP = "mtlbench.plugins"


@dataclass(frozen=True)
class PluginFile:
    """A plugin, which travels to workers on other machines.

    Attributes:
        path: as it was given.
        text: its content.
        directory: where it lies; what else lies there can be imported, as by a script.
    """

    path: str
    text: str
    directory: str

    @classmethod
    def read(cls, path: str | Path) -> "PluginFile":
        """Reads a plugin file.

        Raises:
            UserError: it is missing, unreadable or not Python.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"plugin file {str(path)!r} does not exist") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"plugin file {str(path)!r} cannot be read: {error}") from None
        try:
            ast.parse(text)
        except (SyntaxError, ValueError) as error:
            where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            raise UserError(f"plugin file {str(path)!r}{where} is not Python: {error}") from None
        return cls(str(path), text, str(Path(path).absolute().parent))

    def load(self) -> None:
        """Runs the plugin, which registers what it brings; a second call does nothing.

        Raises:
            UserError: it fails, or registers a name that is taken.
        """
        _load_own()
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:8]
        module_name = f"mtlbench_plugin_{Path(self.path).stem}_{digest}"
        if module_name in sys.modules:
            return
        if self.directory not in sys.path:  # last: nothing that is installed is hidden by it
            sys.path.append(self.directory)
        module = types.ModuleType(module_name)
        module.__file__ = self.path
        sys.modules[module_name] = module
        with registering_from(digest):
            try:
                exec(compile(self.text, self.path, "exec"), module.__dict__)
            except (Exception, SystemExit) as error:
                del sys.modules[module_name]
                raise UserError(f"plugin file {self.path!r}: {describe(error)}") from error


def read_plugins(paths: str | Path | Iterable[str | Path]) -> list[PluginFile]:
    """Reads one plugin file or several and runs them, after the installed plugins; see
    `load_plugins`.

    All are read before the first is run.
    """
    files = [
        PluginFile.read(path) for path in ([paths] if isinstance(paths, str | Path) else paths)
    ]
    load_plugins(files)
    return files


def load_plugins(files: Iterable[PluginFile] = ()) -> None:
    """Runs the installed plugins, and then these: whoever starts does so, once.

    Raises:
        UserError: one is missing, is not Python, fails, or registers a name that is taken.
    """
    _load_own()
    for point in _installed():
        if point.value in _loaded:
            continue
        _loaded.add(point.value)
        origin = f"{point.value} {point.dist.version if point.dist else ''}"
        with registering_from(hashlib.sha256(origin.encode()).hexdigest()[:8]):
            try:
                point.load()
            except Exception as error:
                _loaded.discard(point.value)
                if isinstance(error, UserError):
                    raise
                raise UserError(
                    f"plugin {point.name!r} ({point.value}) cannot be loaded: {describe(error)}"
                ) from error
    for file in files:
        file.load()


_loaded: set[str] = set()


@cache
def _installed() -> importlib.metadata.EntryPoints:
    """Looked for once: that reads the metadata of every package there is."""
    return importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)


def _load_own() -> None:
    """Registers what is in the package: a plugin may not take its names."""
    importlib.import_module("mtlbench.strategies")
    importlib.import_module("mtlbench.suites")
