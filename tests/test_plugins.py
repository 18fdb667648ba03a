"""Strategies and suites from files, and what becomes of a study when they misbehave."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY_OPTIONS

from mtlbench.cli.main import main
from mtlbench.errors import UserError
from mtlbench.plugins import PluginFile
from mtlbench.store.runs import RUN_FILE, Store, read_run
from mtlbench.strategies.base import strategies
from mtlbench.study.plan import plan

GOOD = '''
import torch

import mtlbench


@mtlbench.register_strategy("half", label="Half")
class Half(mtlbench.LossWeighting):
    """Half of every task.

    Args:
        share: how much.
    """

    def __init__(self, share: float = 0.5):
        super().__init__()
        self.share = share

    def weights(self, losses, present):
        return torch.full_like(losses, self.share)
'''

BAD = '''
import os
from pathlib import Path

import torch

import mtlbench

MENDED = Path("PLACE")


@mtlbench.register_strategy("nanny")
class Nanny(mtlbench.LossWeighting):
    """No weights at all."""

    def weights(self, losses, present):
        return losses * float("nan")


@mtlbench.register_strategy("huge")
class Huge(mtlbench.LossWeighting):
    """Far too much."""

    def weights(self, losses, present):
        return torch.full_like(losses, float("inf"))


@mtlbench.register_strategy("raising")
class Raising(mtlbench.LossWeighting):
    """Raises unless mended."""

    def weights(self, losses, present):
        if not MENDED.exists():
            raise ArithmeticError("no weights today")
        return torch.ones_like(losses)


@mtlbench.register_strategy("dying")
class Dying(mtlbench.LossWeighting):
    """Takes its process with it unless mended."""

    def weights(self, losses, present):
        if not MENDED.exists():
            os._exit(9)
        return torch.ones_like(losses)
'''

SUITE = '''
from dataclasses import dataclass

from mtlbench.suites.digits import Digits

import mtlbench


@mtlbench.register_suite("tens")
@dataclass(frozen=True, kw_only=True)
class Tens(Digits):
    """Digits under another name."""

    default_strategies = ("half",)
    default_seeds = 1
'''


def plugin(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def statuses(root: Path) -> dict[str, str]:
    return {
        path.parent.name: json.loads((path / RUN_FILE).read_text())["status"]
        for path in Store(root).run_directories()
    }


def test_plugins_work_in_workers_and_those_that_misbehave_spoil_no_other_run(
    cluster_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, mended = tmp_path / "runs", tmp_path / "mended"
    command = ["run", "tens", *TINY_OPTIONS, "--address", cluster_address, "--results", str(root)]
    for name, text in (
        ("good.py", GOOD),
        ("bad.py", BAD.replace('"PLACE"', repr(str(mended)))),
        ("suite.py", SUITE),
    ):
        command += ["--plugin", str(plugin(tmp_path / name, text))]
    command += ["--strategies", "raising,dying,nanny,huge,equal,half", "--variants", "clean"]
    command += ["--cpus-per-run", "2"]  # one at a time: a worker less to start

    with pytest.raises(SystemExit) as ended:
        main(command)
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert statuses(root) == {
        "raising": "failed",
        "dying": "failed",
        "nanny": "diverged",
        "huge": "diverged",
        "equal": "done",
        "half": "done",
    }
    assert err.splitlines()[-1] == (
        "mtlbench: not all 6 runs are done: 2 diverged, 2 done, 2 failed"
    )
    (raised,) = [line for line in err.splitlines() if "/raising/" in line]
    assert "failed" in raised
    assert "ArithmeticError: no weights today" in raised
    assert "Traceback" not in err
    for label in ("Eq. Weight", "Half"):
        assert label in out

    paths = {path.parent.name: path for path in Store(root).run_directories()}
    info = read_run(paths["raising"], thorough=True).info
    assert info["error"].startswith("Traceback")
    assert "ArithmeticError: no weights today" in info["error"]
    assert "worker process died, 3 times" in read_run(paths["dying"]).info["error"]
    lost = [line for line in err.splitlines() if "/dying/" in line and "lost its worker" in line]
    assert len(lost) == 2
    for name in ("nanny", "huge"):
        history = read_run(paths[name], thorough=True).history()
        assert len(history["epoch"]) >= 1
    sources = read_run(paths["half"]).info["spec"]["sources"]
    assert set(sources) == {"half", "tens"}
    assert read_run(paths["half"]).info["spec"]["strategy_parameters"] == {"half.share": 0.5}

    # The same command tries again what had failed, and nothing else; the old directory is kept.
    mended.touch()
    with pytest.raises(SystemExit) as ended:
        main(command)
    _, err = capsys.readouterr()
    assert ended.value.code == 1
    lines = err.splitlines()
    assert lines[-1] == "mtlbench: not all 6 runs are done: 2 diverged, 4 done"
    assert sum("had failed; it is kept as" in line for line in lines) == 2
    ended_lines = [line for line in lines if line.startswith("[")]
    assert len(ended_lines) == 2
    assert all(" done" in line for line in ended_lines)
    assert statuses(root)["raising"] == statuses(root)["dying"] == "done"
    kept = {path.parent.parent.name for path in (root / ".set-aside").rglob(RUN_FILE)}
    assert kept == {"raising", "dying"}


def test_a_parameter_of_a_plugin_can_be_set_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    PluginFile.read(plugin(tmp_path / "good.py", GOOD)).load()

    def parameters(**overrides: str) -> dict[str, float]:
        options = {key.replace("__", "."): value for key, value in overrides.items()}
        (spec,) = plan(
            "digits", strategies=["half"], variants=["clean"], seeds=1, overrides=options
        )
        return dict(spec.strategy_parameters)

    assert parameters(half__share="0.25") == {"half.share": 0.25}
    with pytest.raises(UserError, match=r"half\.shar.*half\.share"):
        parameters(half__shar="1")


def test_a_changed_plugin_is_another_run(tmp_path: Path) -> None:
    hashes = set()
    for text in (GOOD, GOOD.replace("self.share)", "self.share * 2)")):
        strategies._entries.pop("half", None)
        PluginFile.read(plugin(tmp_path / "good.py", text)).load()
        (spec,) = plan("digits", strategies=["half"], variants=["clean"], seeds=1)
        hashes.add(spec.hash)
    assert len(hashes) == 2


def test_a_plugin_moved_elsewhere_is_the_same_run(tmp_path: Path) -> None:
    hashes = set()
    for name in ("here", "there"):
        strategies._entries.pop("half", None)
        (tmp_path / name).mkdir()
        PluginFile.read(plugin(tmp_path / name / f"{name}.py", GOOD)).load()
        (spec,) = plan("digits", strategies=["half"], variants=["clean"], seeds=1)
        hashes.add(spec.hash)
    assert len(hashes) == 1


def test_loading_a_plugin_twice_registers_once(tmp_path: Path) -> None:
    file = PluginFile.read(plugin(tmp_path / "good.py", GOOD))
    file.load()
    file.load()
    assert strategies.get("half").label == "Half"


def test_a_plugin_that_fails_halfway_can_be_mended_and_loaded(tmp_path: Path) -> None:
    broken = PluginFile.read(plugin(tmp_path / "good.py", GOOD + "\nraise RuntimeError('half')\n"))
    with pytest.raises(UserError, match="RuntimeError: half"):
        broken.load()
    PluginFile.read(plugin(tmp_path / "good.py", GOOD)).load()
    assert strategies.get("half").label == "Half"


def test_a_plugin_imports_what_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    plugin(tmp_path / "beside_the_plugin.py", GOOD)
    PluginFile.read(plugin(tmp_path / "p.py", "import beside_the_plugin")).load()
    assert strategies.get("half").label == "Half"


# --- modules beside a plugin ----------------------------------------------------------------------

IMPORTS = '''
import torch

import mtlbench
from PACKAGE.values import FACTOR


@mtlbench.register_strategy("NAME")
class Helped(mtlbench.LossWeighting):
    """A factor from beside."""

    def weights(self, losses, present):
        return torch.full_like(losses, FACTOR)
'''


def helped(directory: Path, name: str, factor: float, package: str = "") -> Path:
    """A plugin that imports a package beside it, which imports its own module."""
    package = package or f"beside_{name}"
    (directory / package).mkdir(parents=True, exist_ok=True)
    (directory / package / "__init__.py").write_text("from . import numbers_of_it\n")
    (directory / package / "numbers_of_it.py").write_text(f"FACTOR = {factor}\n")
    (directory / package / "values.py").write_text("from .numbers_of_it import FACTOR\n")
    path = directory / f"{name}.py"
    path.write_text(IMPORTS.replace("NAME", name).replace("PACKAGE", package))
    return path


def weight_of(name: str) -> float:
    strategy = strategies.get(name).cls()
    return float(strategy.weights(torch.ones(1), torch.ones(1, dtype=torch.bool)))


def test_what_a_plugin_imports_from_beside_it_counts_in_its_hash(tmp_path: Path) -> None:
    before = PluginFile.read(helped(tmp_path, "h1", 1.0))
    assert [m.name for m in before.modules] == [
        "beside_h1", "beside_h1.numbers_of_it", "beside_h1.values"
    ]  # fmt: skip
    (tmp_path / "beside_h1" / "unused.py").write_text("1\n")
    assert PluginFile.read(tmp_path / "h1.py").digest == before.digest
    helped(tmp_path, "h1", 2.0)
    assert PluginFile.read(tmp_path / "h1.py").digest != before.digest


def test_what_lies_beside_a_plugin_travels_with_it(tmp_path: Path) -> None:
    plugin = PluginFile.read(helped(tmp_path, "h2", 3.0))
    shutil.rmtree(tmp_path / "beside_h2")  # as on another machine
    plugin.load()
    assert weight_of("h2") == 3.0


def test_a_plugin_whose_module_has_changed_is_another_one(tmp_path: Path) -> None:
    PluginFile.read(helped(tmp_path, "h3", 1.0)).load()
    helped(tmp_path, "h3", 2.0).write_text(
        IMPORTS.replace("NAME", "h3b").replace("PACKAGE", "beside_h3")
    )
    PluginFile.read(tmp_path / "h3.py").load()
    assert (weight_of("h3"), weight_of("h3b")) == (1.0, 2.0)


def test_modules_of_one_name_beside_two_plugins_are_refused(tmp_path: Path) -> None:
    PluginFile.read(helped(tmp_path / "a", "h4", 1.0, "beside_both")).load()
    other = PluginFile.read(helped(tmp_path / "b", "h5", 2.0, "beside_both"))
    with pytest.raises(UserError, match="two plugins import a module 'beside_both"):
        other.load()


def test_what_is_installed_is_not_hidden_by_a_file_beside_a_plugin(tmp_path: Path) -> None:
    for name in ("torch", "json", "mtlbench"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit\n")
    path = tmp_path / "h6.py"
    path.write_text("import json\nimport torch.nn\nfrom mtlbench import errors\n")
    plugin = PluginFile.read(path)
    assert plugin.modules == ()
    plugin.load()


def test_a_link_to_a_plugin_finds_what_lies_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "beside_the_linked.py").write_text("NUMBER = 1\n")
    (tmp_path / "there" / "linked.py").write_text("from beside_the_linked import NUMBER\n")
    (tmp_path / "link.py").symlink_to(tmp_path / "there" / "linked.py")
    plugin = PluginFile.read(tmp_path / "link.py")
    assert plugin.digest == PluginFile.read(tmp_path / "there" / "linked.py").digest
    plugin.load()
