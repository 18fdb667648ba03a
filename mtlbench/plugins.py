"""Plugins: files and installed packages that add strategies and suites."""

import ast
import dis
import hashlib
import importlib
import importlib.metadata
import os
import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mtlbench.errors import UserError, describe, shortened
from mtlbench.files import read_regular
from mtlbench.plugin_modules import Module, bring_in, modules_beside
from mtlbench.registry import registering_from

ENTRY_POINT_GROUP = "mtlbench.plugins"

LARGEST = 2**24
"""Bytes of a plugin file; it travels to every worker."""


@dataclass(frozen=True)
class PluginFile:
    """A plugin, which travels to workers on other machines.

    Attributes:
        path: as it was given.
        text: its content.
        directory: where it lies; what else lies there can be imported, as by a script.
        modules: what it imports from there.
    """

    path: str
    text: str
    directory: str
    modules: tuple[Module, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> "PluginFile":
        """Reads a plugin file.

        Raises:
            UserError: it is missing, unreadable or not Python.
        """
        shown = shortened(repr(str(path)))
        try:
            text = read_regular(Path(path), LARGEST).decode("utf-8")
        except FileNotFoundError:
            raise UserError(f"plugin file {shown} does not exist") from None
        except UnicodeDecodeError as error:
            raise UserError(f"plugin file {shown} cannot be read: {error}") from None
        except OSError as error:
            raise UserError(f"plugin file {shown} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise UserError(f"plugin file {shown} cannot be read: it {error}") from None
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            raise UserError(
                f"plugin file {shown}{where} is not Python: {describe(error)}"
            ) from None
        directory = Path(path).resolve().parent  # as Python does with the path of a script
        return cls(str(path), text, str(directory), modules_beside(text, directory, LARGEST))

    @property
    def digest(self) -> str:
        """Names its content, with that of the modules it imports from beside it."""
        parts = [self.text, *(part for m in self.modules for part in (m.name, m.text))]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]

    def load(self) -> None:
        """Runs the plugin, which registers what it brings; a second call does nothing.

        Raises:
            UserError: it fails, or registers a name that is taken.
        """
        _load_own()
        module_name = f"mtlbench_plugin_{Path(self.path).stem}_{self.digest}"
        if module_name in sys.modules:
            return
        bring_in(self.modules, self.directory)
        module = types.ModuleType(module_name)
        module.__file__ = self.path
        sys.modules[module_name] = module
        here = os.getcwd()
        with registering_from(self.digest):
            try:
                exec(compile(self.text, self.path, "exec"), module.__dict__)
                _require_directory(here)
            except BaseException as error:
                del sys.modules[module_name]
                if isinstance(error, KeyboardInterrupt) and not _raised(error):  # of a person
                    raise
                raise UserError(f"plugin file {self.path!r}: {describe(error)}") from error


def _require_directory(before: str) -> None:
    """Goes back to a directory, where results would be looked for in another.

    Raises:
        UserError: a plugin has changed it.
    """
    if os.getcwd() == before:
        return
    os.chdir(before)
    raise UserError(
        "it changes the working directory, where results are kept: take os.chdir out, and name "
        "files beside it by Path(__file__).parent"
    )


def _raised(error: BaseException) -> bool:
    """Whether a statement of somebody's code has raised it, and no signal."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    return dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]] == "RAISE_VARARGS"


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
            except BaseException as error:
                _loaded.discard(point.value)
                if isinstance(error, UserError | KeyboardInterrupt):
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
