"""Instance-level task parameters, against autograd through the whole objective."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd.aggregation import PCGrad
from toy import (
    NUM_INSTANCES,
    Batch,
    Problem,
    Toy,
    assert_agrees,
    assert_same_bits,
    gradient_of,
    many_examples,
    problem,
    problems,
    step,
)

from mtlbench.errors import UserError
from mtlbench.strategies import Strategy
from mtlbench.strategies.compose import build_strategy
from mtlbench.strategies.table import InstanceTable


class ByHand:
    """The instance parameters as single numbers, each with PyTorch's own SGD."""

    def __init__(self, case: Problem, lr: float, momentum: float) -> None:
        self.constants = case.constants
        self.s = [
            [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in case.kinds]
            for _ in range(NUM_INSTANCES)
        ]
        each = [s for row in self.s for s in row]
        # SGD passes over parameters without a gradient: value and momentum stay.
        self.optimizer = torch.optim.SGD(each, lr=lr, momentum=momentum)

    def task_objectives(self, losses: list[Tensor], batch: Batch, *, with_s: bool) -> list[Tensor]:
        """c ℓ e^(−s) + s of each task, averaged over its present labels."""
        objectives = []
        for k, (c, loss) in enumerate(zip(self.constants, losses, strict=True)):
            rows = batch.present[:, k].nonzero()[:, 0].tolist()
            total = 0 * loss.sum()
            for b in rows:
                s = self.s[batch.index[b]][k]
                total = total + c * loss[b] * torch.exp(-s) + (s if with_s else 0)
            objectives.append(total / max(len(rows), 1))
        return objectives

    def learn(self, losses: list[Tensor], batch: Batch) -> None:
        self.optimizer.zero_grad()
        constant = [loss.detach() for loss in losses]
        total = sum(self.task_objectives(constant, batch, with_s=True))
        if total.requires_grad:
            total.backward()
        self.optimizer.step()
        with torch.no_grad():
            for row in self.s:
                for s in row:
                    s.clamp_(-4, 4)

    def table(self) -> Tensor:
        return torch.stack([torch.stack(row) for row in self.s]).detach()


@many_examples
@given(problems(steps=4), st.floats(0.1, 10), st.sampled_from([0.0, 0.5, 0.9]))
def test_ilt_agrees_with_its_oracle(case: Problem, lr: float, momentum: float) -> None:
    network = case.network()
    strategy = case.strategy("ilt", network, ilt__lr=lr, ilt__momentum=momentum)
    by_hand = ByHand(case, lr, momentum)
    for batch in case.batches:
        losses = network.losses(batch)
        objective = sum(by_hand.task_objectives(losses, batch, with_s=True))
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
        by_hand.learn(losses, batch)
        assert_agrees(strategy.instance.log_variances(), by_hand.table())


def geometric_mean(objectives: list[Tensor], network: Toy) -> Tensor:
    return gradient_of(torch.stack(objectives).prod() ** (1 / len(objectives)), network)


def dwa_in_its_third_epoch(objectives: list[Tensor], network: Toy) -> Tensor:
    ratios = torch.tensor([0.5, 0.75, 1.0], dtype=torch.float64)
    weights = 3 * torch.softmax(ratios / 2, 0)
    return gradient_of(
        sum(w * objective for w, objective in zip(weights, objectives, strict=True)), network
    )


def pcgrad(objectives: list[Tensor], network: Toy) -> Tensor:
    """The trunk by TorchJD, drawing as the strategy does; the heads by their own task."""
    shared = list(network.trunk.parameters())
    jacobian = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(x, shared, retain_graph=True)])
            for x in objectives
        ]
    )
    heads = gradient_of(sum(objectives), network)[jacobian.shape[1] :]
    return torch.cat([PCGrad()(jacobian), heads])


@pytest.mark.parametrize(
    ("task_stage", "expected"),
    [("gls", geometric_mean), ("dwa", dwa_in_its_third_epoch), ("pcgrad", pcgrad)],
)
def test_a_task_stage_sees_the_weighted_losses_and_the_table_learns_as_alone(
    task_stage: str, expected: Callable[[list[Tensor], Toy], Tensor]
) -> None:
    case = problem(steps=5)
    network = case.network()
    strategy = case.strategy(f"ilt+{task_stage}", network, generator_seed=5)
    by_hand = ByHand(case, lr=4.0, momentum=0.9)
    if task_stage == "dwa":
        for losses in ([1.0, 2.0, 4.0], [0.5, 1.5, 4.0]):
            strategy.task.end_epoch(torch.tensor(losses, dtype=torch.float64), {})
    for batch in case.batches:
        assert batch.present.any(0).all()
        losses = network.losses(batch)
        objectives = by_hand.task_objectives(losses, batch, with_s=False)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(strategy.setting.generator.get_state())
            wanted = expected(objectives, network)
        assert_agrees(step(strategy, network, batch), wanted)
        by_hand.learn(losses, batch)
        assert_agrees(strategy.instance.log_variances(), by_hand.table())


def started(case: Problem, network: Toy) -> Strategy:
    """A strategy whose values and momenta are all different from 0."""
    strategy = case.strategy("ilt", network, ilt__lr=0.1)
    index = torch.arange(NUM_INSTANCES)
    inputs = torch.ones(NUM_INSTANCES, 3, dtype=torch.float64)
    targets = torch.ones(NUM_INSTANCES, len(case.kinds), dtype=torch.float64)
    step(strategy, network, Batch(inputs, targets, index, targets > 0))
    assert (table(strategy) != 0).all()
    return strategy


def table(strategy: Strategy) -> torch.Tensor:
    """log σ² and velocities [N, 2, K], as a copy."""
    return strategy.instance.state_dict()["table.values"].clone()


def test_instances_outside_the_batch_keep_value_and_momentum_bit_for_bit() -> None:
    case = problem()
    network = case.network()
    strategy = started(case, network)
    for batch in case.batches:
        before = table(strategy)
        step(strategy, network, batch)
        outside = [i for i in range(NUM_INSTANCES) if i not in batch.index]
        assert outside
        assert_same_bits(table(strategy)[outside], before[outside])


def test_an_absent_label_moves_neither_its_value_nor_its_momentum() -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    strategy = started(case, network)
    before = table(strategy)
    step(strategy, network, batch)
    seen = torch.zeros(NUM_INSTANCES, len(case.kinds), dtype=torch.bool)
    for b, i in enumerate(batch.index):
        seen[i] |= batch.present[b]
    assert 0 < seen.sum() < seen.numel()
    for moved in (table(strategy) != before).unbind(1):
        assert torch.equal(moved, seen)


def one_task(kind: str, lr: float, num_instances: int = 1) -> Strategy:
    return build_strategy(
        "ilt",
        tasks={"t0": kind},
        num_instances=num_instances,
        parameters={"ilt.lr": lr},
        dtype=torch.float64,
    )


@pytest.mark.parametrize(("loss", "bound"), [(1e6, 4.0), (0.0, -4.0)])
def test_values_stay_within_four(loss: float, bound: float) -> None:
    strategy = one_task("regression", lr=10.0)
    for _ in range(3):
        value = torch.tensor([loss], dtype=torch.float64, requires_grad=True)
        strategy.backward([value], torch.tensor([0]))
        assert strategy.instance.log_variances().item() == bound


def test_the_bound_is_a_parameter() -> None:
    strategy = build_strategy(
        "ilt", tasks={"t0": "regression"}, num_instances=1, parameters={"ilt.clamp": 0.5}
    )
    strategy.backward([torch.tensor([100.0], requires_grad=True)], torch.tensor([0]))
    assert strategy.instance.log_variances().item() == 0.5


def test_an_instance_drawn_twice_moves_by_the_sum_of_its_gradients() -> None:
    strategy = one_task("classification", lr=0.1)
    losses = torch.tensor([3.0, 5.0], dtype=torch.float64, requires_grad=True)
    strategy.backward([losses], torch.tensor([0, 0]))
    # −lr · ((1 − 3) + (1 − 5)) / 2 at s = 0
    assert_agrees(strategy.instance.log_variances(), torch.tensor([[0.3]], dtype=torch.float64))


@pytest.mark.parametrize(("kind", "weight"), [("classification", 1.0), ("regression", 0.5)])
def test_the_first_batch_is_weighed_by_the_constant_of_the_likelihood(
    kind: str, weight: float
) -> None:
    strategy = one_task(kind, lr=1.0, num_instances=2)
    losses = torch.tensor([3.0, 5.0], dtype=torch.float64, requires_grad=True)
    strategy.backward([losses], torch.tensor([0, 1]))
    assert_agrees(losses.grad, torch.full((2,), weight / 2, dtype=torch.float64))


def test_the_index_is_needed() -> None:
    strategy = one_task("regression", lr=1.0)
    with pytest.raises(ValueError, match="index is needed"):
        strategy.backward([torch.ones(1, requires_grad=True)])


def test_the_number_of_instances_is_needed() -> None:
    with pytest.raises(UserError, match="num_instances"):
        build_strategy("ilt", tasks={"t0": "regression"})


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("ilt__lr", 0, "lr must be above 0, but is 0.0"),
        ("ilt__momentum", 1, "momentum must be at least 0 and below 1, but is 1.0"),
        ("ilt__clamp", -4, "clamp must be above 0, but is -4.0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameter: str, value: float, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy("ilt", case.network(), **{parameter: value})


# --- where the table lies -----------------------------------------------------------------------


@pytest.mark.parametrize("where", ["cpu", "directory"])
def test_the_table_learns_the_same_wherever_it_lies(where: str, tmp_path: Path) -> None:
    case = problem()
    network = case.network()
    place = tmp_path if where == "directory" else where
    beside = case.strategy("ilt", network)

    def with_its_table_elsewhere() -> Strategy:
        return build_strategy(
            "ilt",
            tasks=dict(zip(beside.setting.tasks, case.kinds, strict=True)),
            num_instances=NUM_INSTANCES,
            dtype=torch.float64,
            instance_tables=place,
        )

    elsewhere = with_its_table_elsewhere()
    for batch in case.batches:
        assert_same_bits(step(elsewhere, network, batch), step(beside, network, batch))
        assert_same_bits(table(elsewhere), table(beside))
    restored = with_its_table_elsewhere()
    restored.load_state_dict(elsewhere.state_dict())
    assert_same_bits(table(restored), table(beside))
    assert not list(tmp_path.iterdir())  # nothing is left behind, however the process ends


def test_a_table_on_disk_may_be_larger_than_the_memory(tmp_path: Path) -> None:
    rows = 2 * 10**9  # 2 x 4 bytes each for s and its velocity: 16 GB of holes
    strategy = build_strategy(
        "ilt", tasks={"y": "regression"}, num_instances=rows, instance_tables=tmp_path
    )
    index = torch.tensor([0, rows // 2, rows - 1])
    loss = torch.tensor([1.0, 4.0, 9.0], requires_grad=True)
    strategy.backward([loss], index)
    s = strategy.instance.table.read(index)[:, 0, 0]
    expected = (-4.0 * (1 - loss.detach() / 2) / 3).clamp(-4, 4)
    torch.testing.assert_close(s, expected, rtol=1e-6, atol=1e-6)  # float32
    assert (strategy.instance.table.read(index + torch.tensor([1, 1, -1])) == 0).all()


def test_a_table_in_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no directory '.*nowhere'"):
        build_strategy(
            "ilt",
            tasks={"y": "regression"},
            num_instances=1,
            instance_tables=tmp_path / "nowhere",
        )


def test_rows_still_on_their_way_to_the_table_are_not_written_over_a_loaded_state() -> None:
    """From a GPU they arrive later than the step that wrote them."""

    class Arrived:
        def synchronize(self) -> None:
            pass

    table = InstanceTable((3, 2, 1), "cpu", torch.device("cpu"), torch.float32)
    saved = {name: value.clone() for name, value in table.state_dict().items()}
    table._written = torch.tensor([1]), torch.ones(1, 2, 1), Arrived()
    table.load_state_dict(saved)
    assert (table.column(0) == 0).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_table_learns_the_same_on_the_cpu() -> None:
    chance = torch.Generator().manual_seed(0)
    tasks = {"y": "regression", "z": "classification"}
    beside, elsewhere = (
        build_strategy("ilt", tasks=tasks, num_instances=50, device="cuda", instance_tables=where)
        for where in ("device", "cpu")
    )
    for _ in range(20):
        index = torch.randint(50, (8,), generator=chance)
        losses = [torch.rand(8, generator=chance) for _ in tasks]
        for strategy in (beside, elsewhere):
            strategy.backward([x.cuda().requires_grad_() for x in losses], index)
    assert elsewhere.instance.log_variances().device.type == "cpu"
    expected = beside.instance.log_variances().cpu()
    torch.testing.assert_close(elsewhere.instance.log_variances(), expected)
