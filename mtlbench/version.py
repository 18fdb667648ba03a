"""The version of this package, installed or not."""

import tomllib
from importlib import metadata
from pathlib import Path


def package_version() -> str:
    """The version of the installed package; in a plain checkout, what `pyproject.toml` says."""
    try:
        return metadata.version("mtlbench")
    except metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        version: str = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
        return version
