"""Data that lies in installed packages, read without importing them."""

from importlib.util import find_spec
from pathlib import Path

from mtlbench.errors import UserError


def packaged_file(module: str, *parts: str, suite: str, install: str) -> Path:
    """A file of an installed package.

    The package itself is not imported, which may take seconds or not be possible at all.

    Args:
        module: its name for `import`.
        parts: of the path inside it.
        suite: that needs it, for the message.
        install: what to give to `pip install`.

    Raises:
        UserError: the package is not installed, or has no such file.
    """
    found = find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"suite {suite!r} needs {module!r}: pip install {install}")
    file = Path(found.submodule_search_locations[0], *parts)
    if not file.is_file():
        raise UserError(
            f"suite {suite!r} reads {'/'.join(parts)!r} of {module!r}, which this version of the "
            f"package does not have: pip install --upgrade {install}"
        )
    return file
