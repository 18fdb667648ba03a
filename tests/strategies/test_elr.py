"""Early-learning regularization, against sums by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from toy import assert_agrees, assert_same_bits

from mtlbench.errors import UserError
from mtlbench.strategies import Strategy
from mtlbench.strategies.compose import build_strategy
from mtlbench.training.checkpoint import load_tree, save_tree

N, B = 6, 5
KINDS = {"digit": "classification", "depth": "regression", "sex": "classification"}
BETA, STRENGTH = 0.7, 3.0


def make(name: str = "elr", **options: object) -> Strategy:
    return build_strategy(name, tasks=KINDS, num_instances=N, dtype=torch.float64, **options)


class Labelled:
    """Logits of four classes, numbers, and logits of class 1, and which labels are there."""

    def __init__(self, seed: int) -> None:
        chance = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return 2 * torch.randn(*shape, generator=chance, dtype=torch.float64)

        self.outputs = {"digit": normal(B, 4), "depth": normal(B), "sex": normal(B)}
        for output in self.outputs.values():
            output.requires_grad_()
        self.targets = {
            "digit": torch.randint(4, (B,), generator=chance),
            "depth": normal(B),
            "sex": torch.randint(2, (B,), generator=chance),
        }
        self.index = torch.randint(N, (B,), generator=chance)  # some twice
        self.present = torch.rand(B, 3, generator=chance) < 0.7

    def losses(self) -> dict[str, Tensor]:
        outputs, targets = self.outputs, self.targets
        return {
            "digit": functional.cross_entropy(outputs["digit"], targets["digit"], reduction="none"),
            "depth": (outputs["depth"] - targets["depth"]).square(),
            "sex": functional.binary_cross_entropy_with_logits(
                outputs["sex"], targets["sex"].double(), reduction="none"
            ),
        }

    def step(self, strategy: Strategy, scale: float | None = None) -> dict[str, Tensor]:
        """The gradient in each output."""
        for output in self.outputs.values():
            output.grad = None
        strategy.transform(self.outputs, self.targets, self.index, self.present)
        strategy.backward(self.losses(), self.index, self.present, scale=scale)
        return {name: output.grad for name, output in self.outputs.items()}


class ByHand:
    """Running predictions as lists, by (task, instance)."""

    def __init__(self) -> None:
        self.means: dict[tuple[str, int], Tensor] = {}

    def step(self, batch: Labelled) -> dict[str, Tensor]:
        total = torch.zeros((), dtype=torch.float64)
        for k, task in enumerate(KINDS):
            here = batch.present[:, k].nonzero().flatten().tolist()
            losses = batch.losses()[task]
            for b in here:
                total = total + losses[b] / len(here)
            if task == "depth":
                continue
            output = batch.outputs[task]
            if task == "sex":
                p = torch.stack([1 - output.sigmoid(), output.sigmoid()], 1)
            else:
                p = output.exp() / output.exp().sum(1, keepdim=True)
            p = p.clamp(1e-4, 1 - 1e-4)
            drawn: dict[int, list[Tensor]] = {}
            for b in here:
                drawn.setdefault(int(batch.index[b]), []).append((p[b] / p[b].sum()).detach())
            for i, predictions in drawn.items():
                before = self.means.get((task, i), torch.zeros_like(predictions[0]))
                mean = sum(predictions) / len(predictions)
                self.means[task, i] = BETA * before + (1 - BETA) * mean
            for b in here:
                t = self.means[task, int(batch.index[b])]
                total = total + STRENGTH * (1 - p[b] @ t).log() / len(here)
        return dict(
            zip(
                KINDS,
                torch.autograd.grad(total, list(batch.outputs.values()), materialize_grads=True),
                strict=True,
            )
        )


def test_elr_agrees_with_its_oracle() -> None:
    strategy, by_hand = make(), ByHand()
    for seed in range(30):
        batch = Labelled(seed)
        gradients, expected = batch.step(strategy), by_hand.step(batch)
        for task in KINDS:
            assert_agrees(gradients[task], expected[task])
    assert strategy.instance.table.values.shape == (N, 4 + 2, 1)
    for (task, i), mean in by_hand.means.items():
        columns = slice(0, 4) if task == "digit" else slice(4, 6)
        assert_agrees(strategy.instance.table.values[i, columns, 0], mean)


def test_a_prediction_that_was_once_sure_holds_out_against_a_wrong_label() -> None:
    strategy = build_strategy("elr", tasks={"y": "classification"}, num_instances=1)
    index = torch.zeros(1, dtype=torch.int64)
    for _ in range(20):
        logits = torch.tensor([[3.0, 0.0]], requires_grad=True)
        strategy.transform({"y": logits}, {"y": torch.tensor([1])}, index)
        strategy.backward(
            {"y": functional.cross_entropy(logits, torch.tensor([1]), reduction="none")}, index
        )
    # Cross entropy alone would lower the first logit: its gradient there is p = 0.953.
    assert logits.grad[0, 0] < 0


@pytest.mark.parametrize("name", ["elr+mtu", "elr+pcgrad", "elr+log"])
def test_the_task_stage_sees_the_losses_without_the_penalty(name: str) -> None:
    torch.manual_seed(0)
    net = nn.ModuleDict({"trunk": nn.Linear(3, 4), "y": nn.Linear(4, 2), "z": nn.Linear(4, 1)})
    kinds = {"y": "classification", "z": "regression"}
    strategy = build_strategy(name, tasks=kinds, num_instances=4, model=net)
    label, index = torch.tensor([0, 0, 0, 0]), torch.arange(4)
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(60):
        seen = net["trunk"](inputs)
        logits = net["y"](seen)
        strategy.transform({"y": logits}, {"y": label}, index)
        losses = {
            "y": functional.cross_entropy(logits, label, reduction="none"),
            "z": 1 + net["z"](seen)[:, 0].square(),
        }
        strategy.backward(losses, index)  # with the penalty they are below 0, which is refused
        summary = strategy.end_epoch()
        expected = torch.stack([losses["y"].mean(), losses["z"].mean()]).detach()
        torch.testing.assert_close(summary.losses, expected, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    p = logits.softmax(1)[:, 0]
    assert (losses["y"] + 3 * torch.log(1 - p * p)).mean() < 0


def test_what_is_not_labelled_has_no_penalty_and_moves_no_prediction() -> None:
    strategy = make()
    Labelled(0).step(strategy)
    before = strategy.instance.table.values.clone()
    batch = Labelled(1)
    batch.present[:] = True
    batch.targets["digit"][:] = -1
    strategy.transform(batch.outputs, batch.targets, batch.index, batch.present)
    losses = batch.losses
    batch.targets["digit"][:] = 0
    strategy.backward(losses() | {"digit": 0 * batch.outputs["digit"].sum(1)}, batch.index)
    assert not batch.outputs["digit"].grad.any()
    assert_same_bits(strategy.instance.table.values[:, :4], before[:, :4])
    assert not torch.equal(strategy.instance.table.values[:, 4:], before[:, 4:])


def test_a_bad_batch_leaves_predictions_and_the_next_penalty_as_they_were() -> None:
    one, other = make(), make()
    for strategy in (one, other):
        Labelled(0).step(strategy)
    bad = Labelled(1)
    bad.present[:] = True
    bad.targets["depth"][0] = math.nan
    assert not bad.step(one)["depth"].isfinite().all()
    batch = Labelled(2)
    expected = batch.step(other)
    for task, gradient in batch.step(one).items():
        assert_same_bits(gradient, expected[task])


def test_a_restored_table_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    strategy = make()
    for seed in range(4):
        Labelled(seed).step(strategy)
    save_tree(tmp_path / "state.safetensors", dict(strategy.state_dict()))
    other = make()
    other.load_state_dict(load_tree(tmp_path / "state.safetensors"))
    batch = Labelled(5)
    expected = {task: gradient.clone() for task, gradient in batch.step(strategy).items()}
    for task, gradient in batch.step(other).items():
        assert_same_bits(gradient, expected[task])


def test_a_table_in_a_file_gives_what_one_on_the_device_does(tmp_path: Path) -> None:
    here, there = make(), make(instance_tables=tmp_path)
    for seed in range(3):
        batch = Labelled(seed)
        expected = {task: gradient.clone() for task, gradient in batch.step(here).items()}
        for task, gradient in batch.step(there).items():
            assert_same_bits(gradient, expected[task])


def test_regression_alone_is_the_plain_mean_and_needs_no_index() -> None:
    strategy = build_strategy("elr", tasks={"z": "regression"})
    z = torch.tensor([1.0, 2.0], requires_grad=True)
    strategy.transform({"z": z}, {"z": z}, torch.arange(2))
    strategy.backward({"z": z.square()})
    assert z.grad.tolist() == [1.0, 2.0]


def test_label_maps_have_the_plain_mean() -> None:
    strategy = build_strategy("elr", tasks={"parts": "classification"}, num_instances=2)
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.ones(2, 4, 4, dtype=torch.int64)
    for _ in range(2):
        logits.grad = None
        strategy.transform({"parts": logits}, {"parts": labels}, torch.arange(2))
        losses = functional.cross_entropy(logits, labels, reduction="none").mean((1, 2))
        strategy.backward({"parts": losses}, torch.arange(2))
        (expected,) = torch.autograd.grad(functional.cross_entropy(logits, labels), logits)
        torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize(
    ("parameter", "value"), [("beta", 1.0), ("beta", -0.1), ("strength", -1.0)]
)
def test_parameters_out_of_their_range_are_refused(parameter: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{parameter} must be at least 0"):
        make(parameters={f"elr.{parameter}": value})


def test_a_table_needs_the_number_of_instances() -> None:
    with pytest.raises(UserError, match="num_instances must be at least 1, but is 0"):
        build_strategy("elr", tasks=KINDS)
