"""Runs of strategies that look at validation data while they train."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import require_to_go_on, tiny_spec, trained
from torch import Tensor

import mtlbench
from mtlbench.strategies import InstanceStage
from mtlbench.strategies.gradients import TaskLosses
from mtlbench.training.job import Place
from mtlbench.training.run import Run


def noting(seen: list[Tensor]) -> type[InstanceStage]:
    """An instance stage that notes the held-out losses of every step, and weighs nothing."""

    class Noting(InstanceStage):
        held_out = True

        def look(self, losses: TaskLosses) -> None:
            for _ in range(2):  # the same batch, however often it is asked for
                with losses.held_out.losses() as held:
                    seen.append(torch.stack([loss.detach() for loss in held.values()]))

    return Noting


def test_each_step_has_a_held_out_batch_which_is_the_same_for_all_strategies() -> None:
    first: list[Tensor] = []
    second: list[Tensor] = []
    mtlbench.register_strategy("one")(noting(first))
    mtlbench.register_strategy("other")(noting(second))
    for name in ("one", "other"):
        assert trained(tiny_spec(name)).info["status"] == "done"
    losses, others = torch.stack(first), torch.stack(second)
    assert len(losses) == 2 * 2 * 2  # epochs, steps (256 in batches of 128), times asked
    assert torch.equal(losses, others)
    assert torch.equal(losses[::2], losses[1::2])
    assert len(losses[::2].unique(dim=0)) == len(losses) // 2


def test_who_looks_at_held_out_data_and_does_nothing_trains_as_equal_weights() -> None:
    """To the bits: neither batch norm nor draws of the step notice the other batch."""
    mtlbench.register_strategy("noting")(noting([]))
    one, other = (trained(tiny_spec(name, "left@0.4")) for name in ("noting", "equal"))
    assert one.history == other.history


@pytest.mark.parametrize(
    "strategy", ["auto-lambda", "l2rw", "mw-net", "slgrad", "l2rw+auto-lambda"]
)
def test_a_run_goes_on_from_its_checkpoint_to_the_same_bits(strategy: str, tmp_path: Path) -> None:
    require_to_go_on(tiny_spec(strategy, "left@0.4", epochs=3), tmp_path / "checkpoint")


def test_held_out_losses_are_those_of_clean_validation_labels() -> None:
    run = Run(tiny_spec("l2rw", "left@0.4"), Place())
    run.start()
    run.model.train()
    (batch,) = run._held_out_batches(1)
    labels = run.suite.complete(run.data.validation.targets)
    assert torch.equal(batch.targets["left"], labels["left"][batch.index])
    losses = run._held_out_losses(batch)
    outputs = run.model(run.suite.prepare(batch.inputs))
    for task in run.tasks:
        expected = task.losses(outputs[task.name], batch.targets[task.name]).mean()
        torch.testing.assert_close(losses[task.name], expected)


def test_of_validation_labels_that_are_missing_a_held_out_loss_has_nothing() -> None:
    run = Run(tiny_spec("l2rw"), Place())
    run.start()
    (batch,) = run._held_out_batches(1)
    size, tasks = len(batch.index), len(run.tasks)
    present = torch.zeros(size, tasks, dtype=torch.bool)
    present[0, 0] = True
    losses = run._held_out_losses(
        type(batch)(batch.index, batch.rows, batch.inputs, batch.targets, present)
    )
    outputs = run.model(run.suite.prepare(batch.inputs))
    task = run.tasks[0]
    first = task.losses(outputs[task.name], batch.targets[task.name])[0]
    torch.testing.assert_close(losses[task.name], first)
    assert [losses[other.name].item() for other in run.tasks[1:]] == [0.0] * (tasks - 1)


@pytest.mark.parametrize("strategy", ["l2rw", "slgrad"])
def test_wrong_labels_weigh_less_than_right_ones(strategy: str) -> None:
    run = Run(tiny_spec(strategy, "left@0.4", epochs=4), Place())
    run.start()
    weights = np.full((len(run.train_split), len(run.tasks)), np.nan)
    kept = run.strategy.instance.weights

    def noted(losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        found = kept(losses, index, present)
        weights[index.numpy()] = found.numpy()
        return found

    run.strategy.instance.weights = noted
    for _ in range(4):
        run.train_epoch()
    left = [task.name for task in run.tasks].index("left")
    wrong = run.corrupted[:, left].numpy()
    assert 0 < wrong.sum() < len(wrong)
    assert weights[wrong, left].mean() < weights[~wrong, left].mean()
