"""What tells configurations apart, and what is left unsaid."""

from typing import Any

from mtlbench.analysis.settings import settings_of


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
