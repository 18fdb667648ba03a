"""The contract of every strategy and every stage, also of one's own."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import (
    NUM_INSTANCES,
    Batch,
    Problem,
    Toy,
    assert_agrees,
    assert_same_bits,
    gradient,
    gradient_of,
    problem,
    step,
)

from mtlbench.errors import UserError
from mtlbench.strategies import (
    GradientWeighting,
    InstanceStage,
    LossWeighting,
    Setting,
    Strategy,
    TaskStage,
)
from mtlbench.strategies.base import strategies
from mtlbench.strategies.compose import Composition, build_strategy
from mtlbench.training.checkpoint import load_tree, save_tree

REGISTERED = [entry.name for entry in strategies.entries()]
COMPOSED = [
    *("ilt+mtu", "ilt+dwa", "ilt+gls", "ilt+mgda", "ilt+pcgrad"),
    *("ilt+log+mgda", "log+moco", "samo+graddrop"),
]


def looks(name: str) -> bool:
    """Whether a strategy takes gradients apart from the step, to compare with held-out ones."""
    return any(entry.cls.held_out for entry in Composition.parse(name).stages)


every_strategy = pytest.mark.parametrize("name", REGISTERED + COMPOSED)
TASK_STAGES = [name for name in REGISTERED if Composition.parse(name).instance is None]
NEED_TRUNK = [
    name for name in REGISTERED + COMPOSED if Composition.parse(name).task.cls.needs_representation
]
every_strategy_without_trunk = pytest.mark.parametrize(
    "name", [name for name in REGISTERED + COMPOSED if name not in NEED_TRUNK]
)
every_gradient_weighting = pytest.mark.parametrize(
    "name",
    [
        name
        for name in REGISTERED + COMPOSED
        if issubclass(Composition.parse(name).task.cls, GradientWeighting)
        and name not in NEED_TRUNK
    ],
)


def own(
    case: Problem,
    task: TaskStage,
    network: nn.Module,
    instance: InstanceStage | None = None,
) -> Strategy:
    """A strategy of stages written here."""
    return Strategy(
        instance or InstanceStage(),
        task,
        tasks=case.tasks,
        num_instances=NUM_INSTANCES,
        model=network,
        dtype=torch.float64,
    )


def train(strategy: Strategy, network: Toy, batches: list[Batch]) -> Tensor:
    """Two batches an epoch, with steps of the network between them; all gradients [steps, P]."""
    gradients = []
    for number, batch in enumerate(batches):
        gradients.append(step(strategy, network, batch))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.01 * parameter.grad
        if number % 2:
            strategy.end_epoch()
    return torch.stack(gradients)


# --- labels that are not there ---


@every_strategy
def test_the_loss_of_an_absent_label_does_not_matter(name: str) -> None:
    case = problem(steps=8)

    def gradients(change: Callable[[Tensor], Tensor]) -> Tensor:
        network = case.network()
        strategy = case.strategy(name, network)
        results = []
        for number, batch in enumerate(case.batches):
            losses = [
                torch.where(here, loss, change(loss))
                for loss, here in zip(network.losses(batch), batch.present.unbind(1), strict=True)
            ]
            network.zero_grad()
            strategy.backward(losses, batch.index, batch.present)
            results.append(gradient(network))
            if number % 2:
                strategy.end_epoch()
        return torch.stack(results)

    as_it_is = gradients(lambda loss: loss)
    assert as_it_is.abs().sum(1).all()
    assert_same_bits(gradients(lambda loss: 1000 - 7 * loss), as_it_is)


@every_strategy
@pytest.mark.parametrize("unlabelled", [[0], [1, 2], [0, 1, 2]])
def test_a_batch_without_a_label_of_a_task_gives_finite_gradients_and_none_to_its_head(
    name: str, unlabelled: list[int]
) -> None:
    case = problem(steps=6)
    network = case.network()
    strategy = case.strategy(name, network)
    for batch in case.batches:
        batch.present[:, unlabelled] = False
        assert step(strategy, network, batch).isfinite().all()
        for k in unlabelled:
            assert all((p.grad == 0).all() for p in network.heads[k].parameters())
    for key, value in strategy.state_dict().items():
        if isinstance(value, Tensor) and key != "sums_of_epoch":  # NaN: a direction has no weights
            assert value.isfinite().all() or name.endswith("dwa")  # NaN before the first epoch


# --- one backward pass through each head ---


class Passes:
    """Counts how often gradients flow back through a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.count = 0
        tensor.register_hook(self.add)

    def add(self, grad: Tensor) -> None:
        self.count += 1


def count_passes(case: Problem, name: str) -> tuple[int, list[int]]:
    """Passes through the trunk, and through each head."""
    network, batch = case.network(), case.batches[0]
    strategy = case.strategy(name, network)
    features = network.trunk(batch.inputs)
    trunk = Passes(features)
    outputs = [head(features)[:, 0] for head in network.heads]
    heads = [Passes(output) for output in outputs]
    losses = [output.square() for output in outputs]
    strategy.backward(losses, batch.index, batch.present)
    return trunk.count, [head.count for head in heads]


SAMPLES = {"modo": 2}
"""Of those that take the gradients of parts of a batch, how many parts."""


@pytest.mark.parametrize("name", [name for name in REGISTERED + COMPOSED if not looks(name)])
def test_each_head_is_passed_once_and_the_trunk_no_more_than_needed(name: str) -> None:
    case = problem(tasks=4)
    weighs_gradients = issubclass(Composition.parse(name).task.cls, GradientWeighting)
    samples = SAMPLES.get(name, 1)
    first = int(Composition.parse(name).recomputes)  # tells where to take the gradients
    expected = (first + (samples * 4 if weighs_gradients else 1), [first + samples] * 4)
    assert count_passes(case, name) == expected


# --- saving and restoring ---


@every_strategy
@pytest.mark.parametrize("steps", [6, 7], ids=["between epochs", "within an epoch"])
def test_a_restored_strategy_goes_on_bit_for_bit(name: str, steps: int, tmp_path: Path) -> None:
    case = problem(steps=12)
    network = case.network()
    strategy = case.strategy(name, network, generator_seed=3)
    train(strategy, network, case.batches[:steps])
    state = {"network": dict(network.state_dict()), "strategy": dict(strategy.state_dict())}
    save_tree(tmp_path / "state.safetensors", state)

    restored = load_tree(tmp_path / "state.safetensors")
    other_network = case.network()
    other = case.strategy(name, other_network, generator_seed=4)
    other_network.load_state_dict(restored["network"])
    other.load_state_dict(restored["strategy"])

    rest = case.batches[steps:]
    if steps % 2:  # finish the epoch, so that both go on with whole ones
        assert_same_bits(train(other, other_network, rest[:1]), train(strategy, network, rest[:1]))
        for one in (other, strategy):
            one.end_epoch()
        rest = rest[1:]
    assert_same_bits(train(other, other_network, rest), train(strategy, network, rest))
    final, other_final = strategy.state_dict(), other.state_dict()
    assert final.keys() == other_final.keys()
    for key, value in final.items():
        if isinstance(value, Tensor):
            assert_same_bits(other_final[key], value)


def pickled(both: tuple[Strategy, Toy]) -> tuple[Strategy, Toy]:
    copied: tuple[Strategy, Toy] = pickle.loads(pickle.dumps(both))
    return copied


CUT = {
    "mgda on the representation": ("mgda", {"mgda__on": "representation"}),
    "mgda in every 3rd step": ("mgda", {"mgda__every": 3}),
}


@pytest.mark.parametrize(
    ("name", "copy_of"),
    [(name, pickled) for name in [*REGISTERED, *COMPOSED, *CUT]]
    + [(name, copy.deepcopy) for name in ["ilt", "modo", "iwmtl", *CUT]],
)
def test_a_copy_with_its_network_goes_on_bit_for_bit(
    name: str, copy_of: Callable[[Any], tuple[Strategy, Toy]]
) -> None:
    case = problem(steps=5)
    network = case.network()
    of, parameters = CUT.get(name, (name, {}))
    strategy = case.strategy(of, network, generator_seed=3, **parameters)
    train(strategy, network, case.batches[:3])
    other, other_network = copy_of((strategy, network))
    rest = case.batches[3:]
    expected = train(strategy, network, rest)
    assert_same_bits(train(other, other_network, rest), expected)


# --- the gradients themselves ---


@every_strategy
def test_gradients_add_up_until_they_are_zeroed(name: str) -> None:
    case = problem(steps=2)
    network = case.network()
    apart = case.strategy(name, network)
    total = sum(step(apart, network, batch) for batch in case.batches)
    together = case.strategy(name, network)
    network.zero_grad()
    for batch in case.batches:
        together.backward(network.losses(batch), batch.index, batch.present)
    assert_agrees(gradient(network), total)


class TwoBiases(nn.Module):
    """A head whose two parameters have the same gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Parameter(torch.ones(2))
        self.one, self.other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))

    def losses(self) -> list[Tensor]:
        return [self.trunk * 3 + (self.one + self.other), self.trunk * 4]


@every_strategy_without_trunk
def test_gradients_can_be_changed_in_place_one_by_one(name: str) -> None:
    """As `clip_grad_norm_` does: no two parameters may share the memory of their gradients."""
    network = TwoBiases()
    strategy = build_strategy(
        name,
        tasks={"a": "regression", "b": "regression"},
        num_instances=2,
        model=network,
    )
    strategy.backward(network.losses(), torch.arange(2))
    before = [p.grad.clone() for p in network.parameters()]
    for parameter in network.parameters():
        parameter.grad.mul_(2)
    for parameter, grad in zip(network.parameters(), before, strict=True):
        assert_same_bits(parameter.grad, 2 * grad)


class TwoImageHeads(nn.Module):
    """A convolution that two tasks share, its weights in `channels_last` as on fast paths."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(2, 3, 3)
        self.heads = nn.ModuleList([nn.Conv2d(3, 1, 3), nn.Conv2d(3, 1, 3)])
        self.to(memory_format=torch.channels_last)

    def losses(self, images: Tensor) -> list[Tensor]:
        features = self.trunk(images.contiguous(memory_format=torch.channels_last))
        return [head(features).square().mean((1, 2, 3)) for head in self.heads]


@every_strategy
@pytest.mark.parametrize("batches", [1, 2], ids=["first", "added up"])
def test_gradients_lie_in_memory_as_their_parameters_do(name: str, batches: int) -> None:
    """Fused optimisers pair up memory: another layout would train, but on shuffled gradients."""
    network = TwoImageHeads()
    strategy = build_strategy(
        name,
        tasks={"a": "regression", "b": "regression"},
        num_instances=4,
        model=network,
        representation=network.trunk,
    )
    for _ in range(batches):
        strategy.backward(network.losses(torch.randn(4, 2, 8, 8)), torch.arange(4))
    for parameter in network.parameters():
        assert parameter.grad.stride() == parameter.stride()


@every_strategy
def test_a_frozen_trunk_stays_without_gradient_and_the_heads_learn(name: str) -> None:
    case = problem()
    network = case.network()
    network.trunk.requires_grad_(False)
    strategy = case.strategy(name, network)
    batch = case.batches[0]
    strategy.backward(network.losses(batch), batch.index, batch.present)
    assert all(p.grad is None for p in network.trunk.parameters())
    learn = [any(p.grad.any() for p in head.parameters()) for head in network.heads]
    assert any(learn) if name == "tch" else all(learn)  # the worst task alone


@every_strategy
def test_parameters_that_no_task_reaches_get_no_gradient(name: str) -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    network.unused = nn.Linear(2, 2)
    strategy = case.strategy(name, network)
    strategy.backward(network.losses(batch), batch.index, batch.present)
    assert network.unused.weight.grad is None


# --- precision ---


@every_strategy
def test_bfloat16_losses_work_and_the_strategys_own_state_is_float32(name: str) -> None:
    case = problem(steps=6)
    network = case.network().float()
    strategy = build_strategy(
        name,
        tasks=case.tasks,
        num_instances=NUM_INSTANCES,
        model=network,
        representation=network.trunk,
    )
    for number, batch in enumerate(case.batches):
        network.zero_grad()
        batch = Batch(batch.inputs.float(), batch.targets.float(), batch.index, batch.present)
        losses = [loss.bfloat16() for loss in network.losses(batch)]
        strategy.backward(losses, batch.index, batch.present)
        grads = gradient(network)
        assert grads.dtype == torch.float32
        assert grads.isfinite().all()
        assert grads.any()
        if number % 2:
            strategy.end_epoch()
    state = [v for v in strategy.state_dict().values() if isinstance(v, Tensor)]
    assert all(v.dtype == torch.float32 for v in state if v.is_floating_point())


@every_strategy
def test_losses_of_two_precisions_can_be_mixed(name: str) -> None:
    """Under autocast some losses come in float32 and others need not."""
    case = problem()
    network, batch = case.network(), case.batches[0]
    exact = step(case.strategy(name, network), network, batch)
    network.zero_grad()
    strategy = case.strategy(name, network)
    first, *others = network.losses(batch)
    strategy.backward([first.float(), *others], batch.index, batch.present)
    # float32 keeps seven digits, of which sums and differences take one or two.
    torch.testing.assert_close(gradient(network), exact, rtol=1e-5, atol=1e-5)


# --- one's own training loop ---


@pytest.mark.parametrize(
    "name", [name for name in TASK_STAGES if name not in SAMPLES and name not in NEED_TRUNK]
)
def test_scalar_losses_will_do_without_an_instance_stage(name: str) -> None:
    case = problem(steps=1)
    batch = case.batches[0]
    batch.present[:] = True
    network = case.network()
    expected = step(case.strategy(name, network), network, batch)
    network.zero_grad()
    scalars = {task: loss.mean() for task, loss in zip(case.tasks, network.losses(batch))}  # noqa: B905 (both [K])
    case.strategy(name, network).backward(scalars)
    assert_agrees(gradient(network), expected)


def test_losses_by_name_may_come_in_any_order() -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    weights = {"t0": 1.0, "t1": 5.0, "t2": 0.1}
    expected = step(case.strategy("static", network, static__weights=weights), network, batch)
    network.zero_grad()
    first, second, third = network.losses(batch)
    case.strategy("static", network, static__weights=weights).backward(
        {"t2": third, "t0": first, "t1": second}, batch.index, batch.present
    )
    assert_agrees(gradient(network), expected)


def test_one_loss_can_stand_for_two_tasks() -> None:
    case = problem(tasks=2, steps=1)
    network, batch = case.network(), case.batches[0]
    strategy = case.strategy("pcgrad", network)
    loss = network.losses(batch)[0]
    strategy.backward([loss, loss])
    trunk = torch.cat([p.grad.flatten() for p in network.trunk.parameters()])
    network.zero_grad()
    (2 * network.losses(batch)[0].mean()).backward()
    assert_agrees(trunk, torch.cat([p.grad.flatten() for p in network.trunk.parameters()]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"losses": [3, 3]}, "losses must be one a task, 3, but are 2"),
        ({"losses": [3, 4, 3]}, r"one shape \[B\], but task 't1' has \(4,\) and 't0' \(3,\)"),
        ({"losses": {"t0": 3, "t1": 3, "depth": 3}}, r"losses must name the tasks \('t0', 't1'"),
        ({"index": torch.arange(4)}, r"index must have shape \(3,\), but has \(4,\)"),
        (
            {"present": torch.ones(3) > 0},
            r"present must be bool and have shape \(3, 3\), but is bool and has \(3,\)",
        ),
        ({"present": torch.ones(3, 3)}, r"present must be bool .* is float32 and has \(3, 3\)"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_one_line(
    change: dict[str, Any], message: str
) -> None:
    case = problem()
    strategy = case.strategy("equal", case.network())
    sizes = change.pop("losses", [3, 3, 3])
    losses: Any
    if isinstance(sizes, dict):
        losses = {task: torch.ones(n, requires_grad=True) for task, n in sizes.items()}
    else:
        losses = [torch.ones(n, requires_grad=True) for n in sizes]
    with pytest.raises(ValueError, match=message) as raised:
        strategy.backward(losses, **change)
    assert "\n" not in str(raised.value)


def test_losses_that_are_label_maps_are_refused() -> None:
    case = problem(tasks=1)
    strategy = case.strategy("equal", case.network())
    with pytest.raises(ValueError, match=r"a real number for each instance, shape \[B\]"):
        strategy.backward([torch.ones(2, 3, requires_grad=True)])


def test_a_kind_that_is_neither_classification_nor_regression_is_refused() -> None:
    with pytest.raises(UserError, match=r"kind of task 'a' must be one of .* but is 'ranking'"):
        build_strategy("equal", tasks={"a": "ranking"})


@every_gradient_weighting
def test_a_gradient_weighting_needs_the_model(name: str) -> None:
    strategy = build_strategy(name, tasks={"a": "regression"}, num_instances=2)
    with pytest.raises(ValueError, match="model is needed"):
        strategy.backward([torch.ones(2, requires_grad=True)], torch.tensor([0, 1]))


def test_the_summary_of_an_epoch_holds_means_over_present_labels_and_mean_weights() -> None:
    tasks = {"a": "regression", "b": "regression", "c": "regression"}
    strategy = build_strategy("static", tasks=tasks, parameters={"static.weights": "a:2,b:3"})
    for values, mask in (([1.0, 2.0], [1, 1]), ([6.0, 100.0], [1, 0])):
        loss = torch.tensor(values, requires_grad=True)
        here = torch.tensor(mask) > 0
        present = torch.stack([here, torch.ones_like(here), torch.zeros_like(here)], dim=1)
        strategy.backward([loss, loss + 1, loss * 1], present=present)
    summary = strategy.end_epoch()
    # (1 + 2 + 6) / 3, (2 + 3 + 7 + 101) / 4, and no label at all
    expected = torch.tensor([3.0, 28.25, float("nan")])
    torch.testing.assert_close(summary.losses, expected, equal_nan=True)
    torch.testing.assert_close(summary.weights, torch.tensor([2.0, 3.0, 0.0]))


def test_each_epoch_has_a_summary_of_its_own() -> None:
    strategy = build_strategy("equal", tasks={"a": "regression"})
    for value in (1.0, 5.0):
        strategy.backward([torch.tensor([value], requires_grad=True)])
        assert strategy.end_epoch().losses.item() == value


# --- stages of one's own ---


def test_a_loss_weighting_of_ones_own_writes_weights() -> None:
    class Inverse(LossWeighting):
        def weights(self, losses: Tensor, present: Tensor) -> Tensor:
            return 1 / losses

    case = problem()
    network, batch = case.network(), case.batches[0]
    objective = sum(loss.log() for loss in network.task_losses(batch))
    assert batch.present.any(0).all()
    actual = step(own(case, Inverse(), network), network, batch)
    assert_agrees(actual, gradient_of(objective, network))


def test_a_loss_weighting_of_ones_own_writes_an_objective() -> None:
    class Norm(LossWeighting):
        def objective(self, losses: Tensor, present: Tensor) -> Tensor:
            return losses.square().sum().sqrt()

    case = problem()
    network, batch = case.network(), case.batches[0]
    objective = torch.stack(network.task_losses(batch)).norm()
    actual = step(own(case, Norm(), network), network, batch)
    assert_agrees(actual, gradient_of(objective, network))


def test_an_objective_of_ones_own_may_have_parameters_and_their_optimizer() -> None:
    class Learned(LossWeighting):
        def start(self, setting: Setting) -> None:
            self.logits = nn.Parameter(setting.tensor([0.0] * len(setting.tasks)))
            self.optimizer = torch.optim.Adam([self.logits], lr=0.1)

        def objective(self, losses: Tensor, present: Tensor) -> Tensor:
            return (torch.softmax(self.logits, 0) * losses).sum()

    case = problem()
    network = case.network()
    strategy = own(case, Learned(), network)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for batch in case.batches:
        objective = torch.softmax(logits, 0) @ torch.stack(network.task_losses(batch))
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
        optimizer.zero_grad()
        objective.backward(inputs=[logits])
        optimizer.step()
        assert_agrees(strategy.task.logits.detach(), logits.detach())


def test_a_gradient_weighting_of_ones_own_writes_weights_from_the_gramian() -> None:
    class Normalised(GradientWeighting):
        def weights(self, gramian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
            return gramian.diagonal().rsqrt()

    case = problem()
    network, batch = case.network(), case.batches[0]
    step(own(case, Normalised(), network), network, batch)
    trunk = list(network.trunk.parameters())
    actual = torch.cat([p.grad.flatten() for p in trunk])
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk, retain_graph=True)])
        for loss in network.task_losses(batch)
    ]
    assert_agrees(actual, sum(row / row.norm() for row in rows))


class SignAgreement(GradientWeighting):
    """Moves only where all tasks agree on the direction."""

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> Tensor:
        agree = jacobian.sign().sum(0).abs() == len(jacobian)
        return jacobian.sum(0) * agree


def test_a_gradient_weighting_of_ones_own_writes_a_direction() -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    strategy = own(case, SignAgreement(), network)
    step(strategy, network, batch)
    trunk = list(network.trunk.parameters())
    actual = torch.cat([p.grad.flatten() for p in trunk])
    heads = torch.cat([p.grad.flatten() for p in network.heads.parameters()])
    losses = network.task_losses(batch)
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk, retain_graph=True)])
        for loss in losses
    ]
    agree = [len({bool(g > 0) for g in column}) == 1 for column in zip(*rows, strict=True)]
    assert 0 < sum(agree) < len(agree)
    assert_agrees(actual, torch.where(torch.tensor(agree), sum(rows), 0))
    assert_agrees(heads, gradient_of(sum(losses), network)[len(actual) :])
    assert strategy.end_epoch().weights.isnan().all()


def test_a_direction_of_ones_own_works_where_nothing_is_shared() -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    network.trunk.requires_grad_(False)
    strategy = own(case, SignAgreement(), network)
    strategy.backward(network.losses(batch), batch.index, batch.present)
    assert all(p.grad is not None for p in network.heads.parameters())


def test_an_instance_stage_of_ones_own_writes_weights() -> None:
    class Hardest(InstanceStage):
        def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
            return (losses == losses.max(0).values) * (1 + index[:, None]).to(losses.dtype)

    case = problem()
    network, batch = case.network(), case.batches[0]
    strategy = own(case, SumOfLosses(), network, Hardest())
    objective = sum(
        (1 + batch.index[loss.detach().where(here, 0).argmax()]) * loss[here].max() / here.sum()
        for loss, here in zip(network.losses(batch), batch.present.unbind(1), strict=True)
    )
    assert_agrees(step(strategy, network, batch), gradient_of(objective, network))


class SumOfLosses(LossWeighting):
    def objective(self, losses: Tensor, present: Tensor) -> Tensor:
        return losses.sum()


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (LossWeighting, "Empty must define weights or objective"),
        (GradientWeighting, "Empty must define weights or direction"),
    ],
)
def test_a_stage_that_defines_nothing_is_told_what_to_define(
    stage: type[TaskStage], message: str
) -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    strategy = own(case, type("Empty", (stage,), {})(), network)
    with pytest.raises(TypeError, match=message):
        step(strategy, network, batch)


def test_both_stages_hear_of_the_end_of_an_epoch() -> None:
    heard: list[tuple[str, list[float], dict[str, float]]] = []

    class Instance(InstanceStage):
        def end_epoch(self, losses: Tensor, validation: Any) -> None:
            heard.append(("instance", losses.tolist(), dict(validation)))

    class Task(SumOfLosses):
        def end_epoch(self, losses: Tensor, validation: Any) -> None:
            heard.append(("task", losses.tolist(), dict(validation)))

    case = problem(tasks=1)
    strategy = own(case, Task(), case.network(), Instance())
    for values in ([1.0, 2.0], [6.0]):
        strategy.backward([torch.tensor(values, requires_grad=True)])
    strategy.end_epoch({"t0/accuracy": 50.0})
    assert heard == [
        ("instance", [3.0], {"t0/accuracy": 50.0}),
        ("task", [3.0], {"t0/accuracy": 50.0}),
    ]
