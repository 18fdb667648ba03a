"""Strategies in the Trainer of Hugging Face train as they do in a plain loop."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import CHECKOUT

pytest.importorskip("transformers", reason="pip install mtlbench[transformers]")
pytest.importorskip("accelerate", reason="pip install mtlbench[transformers]")

from bert_of_two_tasks import (
    BATCH,
    INSTANCES,
    TASKS,
    Sentences,
    TwoHeads,
    accuracy_of,
    losses_of,
    parameters_of,
    trainer_of,
)
from torch import Tensor
from torch.utils.data import DataLoader

from mtlbench import build_strategy
from mtlbench.integrations.transformers import STATE

NAMES = ["equal", "ilt+mtu", "pcgrad", "ilt+cagrad", "dtp"]


def plain_loop(
    name: str, *, epochs: int = 2, accumulate: int = 1, clip: float = 1e9
) -> tuple[list[Tensor], list[list[float]]]:
    """The network's parameters, and the mean weights of each epoch."""
    net = TwoHeads()
    strategy = build_strategy(
        name, tasks=TASKS, num_instances=INSTANCES, model=net, dtype=torch.float64
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    weights = []
    for _ in range(epochs):
        net.train()
        for n, batch in enumerate(DataLoader(Sentences(), BATCH // accumulate)):
            losses = losses_of(net(batch["input_ids"]), batch)
            strategy.backward(losses, batch["index"], scale=1 / accumulate)
            if (n + 1) % accumulate == 0:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
        metrics = {"topic/accuracy": accuracy_of(net)}
        weights.append(strategy.end_epoch(metrics).weights.tolist())
    return parameters_of(net), weights


def close(one: list[Tensor], other: list[Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def weights_logged(trainer: Any) -> list[list[float]]:
    logs = [log for log in trainer.state.log_history if "weight/topic" in log]
    return [[log[f"weight/{task}"] for task in TASKS] for log in logs]


@pytest.mark.parametrize("name", NAMES)
def test_a_trainer_trains_as_a_plain_loop_does(name: str, tmp_path: Path) -> None:
    trainer = trainer_of(name, tmp_path)
    trainer.train()
    expected, weights = plain_loop(name)
    close(parameters_of(trainer.model), expected)
    for got, means in zip(weights_logged(trainer), weights, strict=True):
        assert got == pytest.approx(means, rel=1e-6)


def test_gradients_are_accumulated_and_clipped_as_by_hand(tmp_path: Path) -> None:
    halves = {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2}
    trainer = trainer_of("ilt+cagrad", tmp_path, **halves, max_grad_norm=0.5)
    trainer.train()
    close(parameters_of(trainer.model), plain_loop("ilt+cagrad", accumulate=2, clip=0.5)[0])


@pytest.mark.parametrize(("saved", "step"), [("epoch", 3), ("steps", 2)])
@pytest.mark.parametrize("name", ["ilt+dtp", "ilt+cagrad"])
def test_a_training_goes_on_with_the_same_bits(
    name: str, saved: str, step: int, tmp_path: Path
) -> None:
    whole = trainer_of(name, tmp_path, save_strategy=saved, save_steps=1)
    whole.train()
    resumed = trainer_of(name, tmp_path / "later")
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    for one, other in zip(parameters_of(resumed.model), parameters_of(whole.model), strict=True):
        assert torch.equal(one, other)
    for key, value in whole.strategy.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(value, resumed.strategy.state_dict()[key]), key
    assert weights_logged(resumed) == weights_logged(whole)


def test_an_evaluation_outside_of_training_tells_the_strategy_nothing(tmp_path: Path) -> None:
    trainer = trainer_of("dtp", tmp_path)
    assert trainer.evaluate()["eval_topic/accuracy"] == pytest.approx(accuracy_of(TwoHeads()))
    assert trainer.epochs.metrics == {}
    assert not trainer.strategy.get_buffer("sums_of_epoch").any()


def test_a_column_that_is_not_let_through_is_told_of(tmp_path: Path) -> None:
    trainer = trainer_of("ilt", tmp_path, remove_unused_columns=True)
    with pytest.raises(ValueError, match=r"no 'index', unless .*remove_unused_columns=False"):
        trainer.train()


def test_a_checkpoint_without_the_strategy_is_told_of(tmp_path: Path) -> None:
    trainer_of("mtu", tmp_path, save_strategy="epoch").train()
    (tmp_path / "checkpoint-3" / STATE).unlink()
    with pytest.warns(UserWarning, match="no state of the strategy, which begins anew"):
        trainer_of("mtu", tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    names = ["ilt+mtu", "ilt+cagrad"]
    script = Path(__file__).with_name("bert_of_two_tasks.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    ended = subprocess.run(
        [*launcher, str(script), str(tmp_path / "x"), *names],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    one, other = (torch.load(tmp_path / f"x.{rank}", weights_only=True) for rank in range(2))
    for name in names:
        for mine, yours in zip(one[name], other[name], strict=True):
            assert torch.equal(mine, yours)
        close(one[name], plain_loop(name)[0])
