"""Strategies in PyTorch Lightning train as they do in a plain loop."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import CHECKOUT

pytest.importorskip("lightning", reason="pip install mtlbench[lightning]")

import lightning as L  # noqa: N812
from lightning.pytorch.callbacks import LearningRateFinder, ModelCheckpoint, WeightAveraging
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy
from lit_three_tasks import (
    BATCH,
    INSTANCES,
    TASKS,
    Batch,
    LitNet,
    Logged,
    fit,
    loader,
    parameters_of,
    quiet_trainer,
    weighting,
)
from torch import Tensor, nn

from mtlbench import UserError, build_strategy
from mtlbench.integrations.lightning import strategy_of

NAMES = ["equal", "mtu", "ilt", "pcgrad", "ilt+cagrad", "dtp"]


def accuracy(net: LitNet) -> float:
    with torch.no_grad():
        right = [net.heads["a"](net.trunk(b["inputs"])).argmax(1) == b["a"] for b in loader()]
    return 100 * float(torch.cat(right).double().mean())


def plain_loop(
    name: str, *, epochs: int = 3, accumulate: int = 1, clip: float | None = None
) -> tuple[list[Tensor], list[list[float]]]:
    """The network's parameters, and the mean weights of each epoch."""
    net = LitNet()
    strategy = build_strategy(
        name, tasks=TASKS, num_instances=INSTANCES, model=net, dtype=torch.float64
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    weights = []
    for _ in range(epochs):
        batches = list(loader(BATCH // accumulate))
        for n, batch in enumerate(batches):
            strategy.backward(net.losses(batch), batch["index"], scale=1 / accumulate)
            if (n + 1) % accumulate == 0:
                if clip is not None:
                    nn.utils.clip_grad_norm_(net.parameters(), clip)
                optimizer.step()
                optimizer.zero_grad()
        weights.append(strategy.end_epoch({"a/accuracy": accuracy(net)}).weights.tolist())
    return parameters_of(net), weights


def close(one: list[Tensor], other: list[Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_trains_as_a_plain_loop_does(name: str, tmp_path: Path) -> None:
    net, logged = LitNet(), Logged()
    fit(net, tmp_path, weighting(name), logged)
    expected, weights = plain_loop(name)
    close(parameters_of(net), expected)
    assert expected[0].sub(parameters_of(LitNet())[0]).abs().max() > 0.01
    for epoch, means in zip(logged.epochs, weights, strict=True):
        assert [epoch[f"weight/{task}"] for task in TASKS] == pytest.approx(means, rel=1e-6)


@pytest.mark.parametrize("name", ["equal", "ilt+cagrad"])
def test_gradients_are_accumulated_and_clipped_as_by_hand(name: str, tmp_path: Path) -> None:
    net = LitNet()
    halves = {"batch": BATCH // 2, "accumulate_grad_batches": 2}
    fit(net, tmp_path, weighting(name), **halves, gradient_clip_val=0.5)
    close(parameters_of(net), plain_loop(name, accumulate=2, clip=0.5)[0])


def test_two_halves_of_a_batch_with_equal_weights_are_the_batch(tmp_path: Path) -> None:
    net = LitNet()
    fit(net, tmp_path, weighting("equal"), batch=BATCH // 2, accumulate_grad_batches=2)
    close(parameters_of(net), plain_loop("equal")[0])


@pytest.mark.parametrize("name", ["mtu", "ilt+cagrad"])
def test_several_optimisers_are_stepped_by_hand(name: str, tmp_path: Path) -> None:
    net = LitNet(manual=True)
    fit(net, tmp_path, weighting(name))
    close(parameters_of(net), plain_loop(name)[0])


class HalfOnCPU(MixedPrecision):
    """The scaler of `16-mixed`, with passes in float64, which the CPU can do."""

    def __init__(self) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))

    def autocast_context_manager(self) -> torch.autocast:
        return torch.autocast("cpu", enabled=False)


@pytest.mark.parametrize("name", ["mtu", "ilt+cagrad"])
def test_the_scale_of_half_precision_reaches_the_gradient_alone(name: str, tmp_path: Path) -> None:
    net, plugin = LitNet(), HalfOnCPU()
    halves = {"batch": BATCH // 2, "accumulate_grad_batches": 2}
    fit(net, tmp_path, weighting(name), **halves, plugins=[plugin], gradient_clip_val=0.5)
    assert plugin.scaler.get_scale() == 1024
    close(parameters_of(net), plain_loop(name, accumulate=2, clip=0.5)[0])


def test_a_bad_batch_is_skipped_by_the_scaler_and_counted(tmp_path: Path) -> None:
    class Spoilt(LitNet):
        def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            losses = super().losses(batch)
            return {**losses, "b": losses["b"].masked_fill(batch["index"] == 9, torch.nan)}

    net, logged = Spoilt(), Logged()
    fit(net, tmp_path, weighting("ilt+cagrad"), logged, plugins=[HalfOnCPU()])
    assert [epoch["bad_batches"] for epoch in logged.epochs] == [1, 1, 1]
    assert all(p.isfinite().all() for p in net.parameters())


def test_a_module_may_train_in_bfloat16(tmp_path: Path) -> None:
    net, logged = LitNet().float(), Logged()
    fit(net, tmp_path, weighting("ilt+cagrad"), logged, precision="bf16-mixed", max_epochs=1)
    exact = Logged()
    fit(LitNet(), tmp_path, weighting("ilt+cagrad"), exact, max_epochs=1)
    for key, value in exact.epochs[0].items():
        if key.startswith("weight/"):
            assert logged.epochs[0][key] == pytest.approx(value, rel=0.02)  # bfloat16 has 8 bits


# --- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("at_end", [True, False], ids=["end of the epoch", "validation"])
@pytest.mark.parametrize("name", ["ilt+cagrad", "mtu", "pcgrad", "dtp"])
def test_a_training_goes_on_with_the_same_bits(name: str, at_end: bool, tmp_path: Path) -> None:
    whole, logged = LitNet(), Logged()
    saves = ModelCheckpoint(
        tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=at_end
    )
    of_whole = weighting(name)
    fit(whole, tmp_path, of_whole, logged, saves, enable_checkpointing=True)
    resumed, of_resumed, logged_later = LitNet(), weighting(name), Logged()
    fit(resumed, tmp_path, of_resumed, logged_later, ckpt_path=tmp_path / "epoch=0.ckpt")
    for one, other in zip(parameters_of(resumed), parameters_of(whole), strict=True):
        assert torch.equal(one, other)
    for key, value in of_whole.strategy.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(value, of_resumed.strategy.state_dict()[key]), key
    assert logged_later.epochs[-2:] == logged.epochs[1:]


@pytest.mark.parametrize("name", ["ilt+dwa", "pcgrad"])
def test_an_epoch_whose_end_lightning_leaves_out_is_ended(name: str, tmp_path: Path) -> None:
    """What goes on from a checkpoint after the last step of an epoch begins with the next."""
    saves = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    whole, resumed = LitNet(), LitNet()
    fit(whole, tmp_path, weighting(name), saves, enable_checkpointing=True)
    fit(resumed, tmp_path, weighting(name), ckpt_path=tmp_path / "step=3.ckpt")
    for one, other in zip(parameters_of(resumed), parameters_of(whole), strict=True):
        assert torch.equal(one, other)


class Beginning(L.Callback):
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.sums = strategy_of(pl_module).get_buffer("sums_of_epoch").clone()


def test_a_training_goes_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    saves = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2, save_top_k=-1)
    fit(LitNet(), tmp_path, weighting("mtu"), saves, enable_checkpointing=True)
    beginning, later = Beginning(), weighting("mtu")
    fit(LitNet(), tmp_path, later, beginning, ckpt_path=tmp_path / "step=2.ckpt")
    assert beginning.sums[-1].tolist() == [2, 2, 2]  # batches


def test_a_checkpoint_is_loaded_without_the_strategy_and_without_unpickling(tmp_path: Path) -> None:
    net = LitNet()
    trainer = fit(net, tmp_path, weighting("ilt+cagrad"))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert set(torch.load(tmp_path / "x.ckpt", weights_only=True)["state_dict"]) == set(
        net.state_dict()
    )
    loaded = LitNet.load_from_checkpoint(tmp_path / "x.ckpt")
    assert torch.equal(loaded.trunk[0].weight, net.trunk[0].weight)
    trainer.validate(net, loader(), ckpt_path=tmp_path / "x.ckpt", verbose=False)
    assert trainer.callbacks[0].strategy.instance.log_variances().any()


def test_an_average_of_weights_does_not_meet_it(tmp_path: Path) -> None:
    """The mean of the network after each step, which replaces it at the end."""
    steps: list[Tensor] = []

    class Weights(L.Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            steps.append(net.trunk[0].weight.detach().clone())

    net, of_tasks = LitNet(), weighting("ilt")
    average = WeightAveraging()
    fit(net, tmp_path, of_tasks, average, Weights())
    close([net.trunk[0].weight.detach()], [torch.stack(steps).mean(0)])
    assert set(net.state_dict()) == set(LitNet().state_dict())
    assert of_tasks.strategy.instance.log_variances().any()


def test_a_second_fit_goes_on_with_the_strategy_of_its_module(tmp_path: Path) -> None:
    net, of_tasks = LitNet(), weighting("ilt")
    for _ in range(2):
        fit(net, tmp_path, of_tasks, max_epochs=1)
    close(parameters_of(net), plain_loop("ilt", epochs=2)[0])
    other = LitNet()
    fit(other, tmp_path, of_tasks, max_epochs=2)
    close(parameters_of(other), plain_loop("ilt", epochs=2)[0])


# --- two processes --------------------------------------------------------------------------------


def of_processes(directory: Path, options: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    """What two processes end with, each with a half of every batch."""
    script = Path(__file__).with_name("lit_three_tasks.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(directory / "x"), json.dumps(options), *names],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [torch.load(directory / f"x.{rank}", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_train_as_one(accumulate: int, tmp_path: Path) -> None:
    names = ["equal", "ilt+mtu", "ilt+cagrad"]
    if accumulate == 1:
        options: dict[str, Any] = {"strategy": "ddp_find_unused_parameters_true"}
        names += ["mtu by hand", "ilt+cagrad by hand"]
    else:
        options = {"strategy": "ddp", "batch": BATCH // 4, "accumulate_grad_batches": 2}
    one, other = of_processes(tmp_path, options, *names)
    for name in names:
        expected, weights = plain_loop(name.removesuffix(" by hand"), accumulate=accumulate)
        trunk = len(one[name]["network"])
        for mine, yours in zip(one[name]["network"], other[name]["network"], strict=True):
            assert torch.equal(mine, yours)
        close(one[name]["network"], expected[:trunk])
        for results in (one, other):
            for epoch, means in zip(results[name]["logged"], weights, strict=True):
                logged = [epoch[f"weight/{task}"] for task in TASKS]
                assert logged == pytest.approx(means, rel=1e-6)


def test_a_search_for_a_learning_rate_teaches_the_strategy_nothing(tmp_path: Path) -> None:
    class Searched(LitNet):
        lr = 0.05

    searched, plain = (weighting("ilt+mtu") for _ in range(2))
    search = LearningRateFinder(num_training_steps=4, update_attr=False)
    fit(Searched(), tmp_path, search, searched, max_epochs=1)
    fit(LitNet(), tmp_path, plain, max_epochs=1)
    for mine, yours in zip(searched.built().buffers(), plain.built().buffers(), strict=True):
        assert torch.equal(mine, yours)


# --- what is said ---------------------------------------------------------------------------------


def test_who_lacks_the_callback_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a strategy: Trainer"):
        fit(LitNet(), tmp_path)


def test_a_checkpoint_without_the_strategy_is_told_of(tmp_path: Path) -> None:
    class Plain(LitNet):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            return sum(loss.mean() for loss in self.losses(batch).values())  # type: ignore

    trainer = fit(Plain(), tmp_path, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    later = quiet_trainer(tmp_path, callbacks=[weighting("mtu")], max_epochs=2)
    with pytest.warns(UserWarning, match="no state of the strategy, which begins anew"):
        later.fit(LitNet(), loader(), loader(), ckpt_path=tmp_path / "plain.ckpt")


def test_a_checkpoint_of_another_strategy_is_refused(tmp_path: Path) -> None:
    trainer = fit(LitNet(), tmp_path, weighting("mtu"), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "mtu.ckpt")
    with pytest.raises(ValueError, match="strategy 'mtu', and this one has 'ilt'"):
        fit(LitNet(), tmp_path, weighting("ilt"), ckpt_path=tmp_path / "mtu.ckpt")


def test_what_does_not_fit_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pcgrat"):
        weighting("pcgrat")
    with pytest.raises(UserError, match="unknown parameter"):
        weighting("ilt", parameters={"ilt.rate": 1})
    net = LitNet()
    net._trainer = L.Trainer(callbacks=[weighting("ilt")], logger=False, accelerator="cpu")
    with pytest.raises(ValueError, match="is built when"):
        strategy_of(net)


def test_shared_layers_are_named(tmp_path: Path) -> None:
    net = LitNet()
    options = {"shared": ["trunk"], "representation": "trunk"}
    on = {"parameters": {"mgda.on": "representation"}}
    fit(net, tmp_path, weighting("mgda", **options, **on), max_epochs=1)
    with pytest.raises(ValueError, match=r"no submodule 'stem'; it has trunk, heads$"):
        fit(LitNet(), tmp_path, weighting("mgda", shared=["stem"]), max_epochs=1)


@pytest.mark.parametrize("hook", ["setup", "configure_model"])
def test_layers_may_be_made_when_fit_begins(hook: str, tmp_path: Path) -> None:
    class Late(LitNet):
        def __init__(self) -> None:
            super().__init__()
            self.later = self.trunk
            del self.trunk

    def make(self: Late, stage: str = "") -> None:
        self.trunk = self.later

    setattr(Late, hook, make)
    net, expected = Late(), LitNet()
    fit(net, tmp_path, weighting("mgda", shared=["trunk"]), max_epochs=1)
    fit(expected, tmp_path, weighting("mgda", shared=["trunk"]), max_epochs=1)
    for one, other in zip(parameters_of(net.trunk), parameters_of(expected.trunk), strict=True):
        assert torch.equal(one, other)


def test_a_network_that_is_cut_in_parts_is_refused() -> None:
    trainer: Any = SimpleNamespace(strategy=FSDPStrategy())
    with pytest.raises(ValueError, match=r"the whole network on each device.*not FSDPStrategy"):
        weighting("ilt").setup(trainer, LitNet(), "fit")


def test_mtlbench_itself_loads_no_trainer() -> None:
    code = (
        "import sys, mtlbench; mtlbench.build_strategy; mtlbench.run; "
        "sys.exit(bool({'lightning', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
