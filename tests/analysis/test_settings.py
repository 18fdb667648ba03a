"""What tells configurations apart, and what is left unsaid."""

import json
from pathlib import Path
from typing import Any

from synthetic_runs import metric, write_run

from mtlbench.analysis.aggregate import compare
from mtlbench.analysis.settings import settings_of
from mtlbench.store.sealed import sealed


def spec(strategy: str = "equal", **suite: Any) -> dict[str, Any]:
    return {
        "suite": "s", "variant": "clean", "strategy": strategy,
        "suite_parameters": {"lr": 0.1, "epochs": 5, **suite}, "strategy_parameters": {},
        "sources": {},
    }  # fmt: skip


def test_a_default_is_not_told_beside_other_values() -> None:
    specs = [spec(), spec(lr=0.2), spec(lr=0.3, epochs=2), spec("ilt")]
    changed = [[], ["lr"], ["lr", "epochs"], []]
    assert settings_of(specs, changed=changed) == ["", "lr=0.2", "epochs=2, lr=0.3", ""]


def test_where_no_run_says_what_its_defaults_were_all_values_are_told() -> None:
    specs = [spec(), spec(lr=0.2)]
    assert settings_of(specs) == ["lr=0.1", "lr=0.2"]
    assert settings_of(specs, changed=[None, ["lr"]]) == ["lr=0.1", "lr=0.2"]


def test_defaults_of_two_releases_are_told_apart() -> None:
    specs = [spec(), spec(lr=0.2)]
    assert settings_of(specs, changed=[[], []]) == ["lr=0.1", "lr=0.2"]


def test_values_alone_are_told_where_the_default_was_not_run() -> None:
    specs = [spec(lr=0.2), spec(lr=0.3)]
    assert settings_of(specs, changed=[["lr"], ["lr"]]) == ["lr=0.2", "lr=0.3"]


def test_reference_runs_keep_their_names_beside_others() -> None:
    specs = [spec(), spec(lr=0.2), spec(epochs=9)]
    reference = [True, False, True]
    changed = [[], ["lr"], ["epochs"]]
    assert settings_of(specs, reference, changed) == ["", "lr=0.2", "epochs=9"]


def test_other_data_under_the_same_parameters_is_told() -> None:
    specs = [spec(), spec("ilt"), spec(train_size=9)]
    named = [{**each, "fingerprint": name} for each, name in zip(specs, "abc", strict=True)]
    told = ["data=a", "data=b", ""]
    assert settings_of(named, changed=[[], [], ["train_size"]]) == [
        told[0],
        told[1],
        "train_size=9",
    ]
    assert settings_of(named[:1] * 2) == ["", ""]


def test_a_table_of_runs_on_different_data_says_so(tmp_path: Path) -> None:
    for strategy, data in (("equal", "a"), ("mtu", "b")):
        path = write_run(tmp_path, metric(50.0), strategy=strategy)
        info = json.loads((path / "run.json").read_text())
        info["spec"]["fingerprint"] = data
        (path / "run.json").write_bytes(sealed(info))
    found = compare(tmp_path, "streets")
    assert set(found.labels.values()) == {"Eq. Weight [data=a]", "MTU [data=b]"}
    assert "only rows with the same data can be compared" in found.remarks["clean"][0]
