"""The version of this package, installed or not."""

from pathlib import Path


def package_version() -> str:
    """The version of the installed package; in a plain checkout, what `pyproject.toml` says."""
    from importlib import metadata  # takes longer than all that a command does before it is needed

    try:
        return metadata.version("mtlbench")
    except metadata.PackageNotFoundError:
        import tomllib

        project = Path(__file__).parents[1] / "pyproject.toml"
        version: str = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
        return version
