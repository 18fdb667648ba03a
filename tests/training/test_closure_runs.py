"""Runs of strategies that take the losses of a batch again at other parameters."""

from pathlib import Path
from typing import Any

import pytest
from conftest import require_to_go_on, tiny_spec, trained

from mtlbench.spec import RunSpec
from mtlbench.study.plan import plan
from mtlbench.study.trials import plan_trials


def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(tmp_path: Path) -> None:
    require_to_go_on(tiny_spec("ilt+samo+cagrad", "left@0.4", epochs=3), tmp_path / "checkpoint")


def test_a_step_nearby_is_one_of_equal_weights_with_dropout_and_batch_norm_too() -> None:
    """Of draws, labels that are missing and statistics nothing is different."""

    def spec(name: str, **parameters: float) -> RunSpec:
        overrides: dict[str, Any] = {
            "epochs": 1,
            **{f"samo.{key}": value for key, value in parameters.items()},
        }
        options: dict[str, Any] = {
            "strategies": [name],
            "variants": ["clean"],
            "overrides": overrides,
        }
        (found,) = plan("yeast", seeds=1, **options)
        return found

    near, equal = trained(spec("samo", rho=1e-9)), trained(spec("equal"))
    for key, column in equal.history.items():
        if not key.startswith("validation/"):
            assert near.history[key] == pytest.approx(column, rel=1e-4), key
    far = trained(spec("samo", rho=1.0))
    assert any(
        far.history[key] != pytest.approx(column, rel=1e-3)
        for key, column in equal.history.items()
        if key.startswith("train_loss/")
    )


def test_trials_vary_the_distance_and_the_share_of_all_tasks_together() -> None:
    (candidate,) = plan_trials("digits", ["samo+mgda"], ["clean"], 4, {"epochs": 1})
    for name in ("samo.rho", "samo.alpha"):
        assert len({trial.strategy_parameters[name] for trial in candidate.trials}) == 4
