"""Modules that lie beside a plugin and that it imports: a part of it.

They count in its hash and travel with it to workers on other machines, which run what the command
has read, whatever becomes of the files.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from mtlbench.errors import UserError
from mtlbench.files import read_regular


@dataclass(frozen=True)
class Module:
    """A module beside a plugin.

    Attributes:
        name: as it is imported, with dots.
        directory: where the plugin lies.
        path: its file; of a package without one, its directory.
        text: its content.
        is_package: whether it has modules of its own.
    """

    name: str
    directory: str
    path: str
    text: str
    is_package: bool


def modules_beside(text: str, directory: Path, largest: int) -> tuple[Module, ...]:
    """The modules in a directory that a Python text imports, and those that they import.

    Imports are read and not run: one whose name is made by the program is not seen.

    Args:
        text: of the plugin.
        directory: where it lies.
        largest: bytes of a file; a larger one is no such module.
    """
    found: dict[str, Module] = {}

    def look(text: str, package: str) -> None:
        for name in _imported(text, package):
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):
                if ".".join(parts[:depth]) in found:
                    continue
                module = _module(directory, parts[:depth], largest)
                if module is None or (depth == 1 and _is_elsewhere(parts[0], directory)):
                    break
                found[module.name] = module
                look(module.text, ".".join(parts[: depth if module.is_package else depth - 1]))

    look(text, "")
    return tuple(found[name] for name in sorted(found))


def _module(directory: Path, parts: Sequence[str], largest: int) -> Module | None:
    name, place = ".".join(parts), directory.joinpath(*parts)
    for file, is_package in ((place / "__init__.py", True), (place.with_suffix(".py"), False)):
        with suppress(OSError, ValueError):
            text = read_regular(file, largest).decode("utf-8")
            return Module(name, str(directory), str(file), text, is_package)
    return Module(name, str(directory), str(place), "", True) if place.is_dir() else None


def _imported(text: str, package: str) -> Iterator[str]:
    """The full names of what a module of this package imports, or may: of `from a import b`, `a.b`
    is a module or not."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # said when it is imported
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".") if package else []
            if node.level > len(parents):
                continue
            base = parents[: len(parents) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _is_elsewhere(name: str, directory: Path) -> bool:
    """Whether this package, Python or something that is installed has this name: a file beside a
    plugin does not hide it."""
    if name == __name__.partition(".")[0] or name in sys.stdlib_module_names:
        return True
    places = {entry: Path(entry).absolute() for entry in sys.path}
    others = [
        entry
        for entry, place in places.items()
        if place != directory and place not in _beside.directories
    ]
    return PathFinder.find_spec(name, others) is not None


class _Loader(InspectLoader):
    """Runs a module of its text."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def get_source(self, fullname: str) -> str:
        return self.module.text

    def is_package(self, fullname: str) -> bool:
        return self.module.is_package

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.module.text, self.module.path, "exec"), module.__dict__)


class _Beside(MetaPathFinder):
    """Finds modules beside plugins, which lie in these directories."""

    def __init__(self) -> None:
        self.known: dict[str, Module] = {}
        self.directories: set[Path] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        module = self.known.get(fullname)
        if module is None:
            return None
        spec = ModuleSpec(
            fullname, _Loader(module), origin=module.path, is_package=module.is_package
        )
        spec.has_location = bool(module.text)
        if module.is_package:  # modules of it that are no text may lie there
            place = Path(module.path)
            spec.submodule_search_locations = [str(place.parent if module.text else place)]
        return spec


_beside = _Beside()


def bring_in(modules: Sequence[Module], directory: str) -> None:
    """Lets the modules beside a plugin be imported, from now on as they are here, and whatever else
    lies in its directory.

    Raises:
        UserError: another plugin has brought another module of the same name.
    """
    known = _beside.known
    changed = [module for module in modules if known.get(module.name, module) != module]
    for module in changed:
        other = known[module.name]
        if other.directory != module.directory:
            raise UserError(
                f"two plugins import a module {module.name!r}, which cannot be told apart: "
                f"{module.path} and {other.path}"
            )
    if changed:  # what has imported them is stale, too
        for name in [n for n, module in known.items() if module.directory == changed[0].directory]:
            del known[name]
            sys.modules.pop(name, None)
    if directory not in sys.path:  # last: nothing that is installed is hidden by it
        sys.path.append(directory)
        _beside.directories.add(Path(directory))
    known.update((module.name, module) for module in modules)
    if known and _beside not in sys.meta_path:
        finders: list[object] = list(sys.meta_path)
        sys.meta_path.insert(finders.index(PathFinder), _beside)
