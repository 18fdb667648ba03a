"""Instances chosen by their losses, against loops over sorted lists."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toy import Batch, Problem, assert_agrees, gradient_of, many_examples, problem, problems, step

from mtlbench.errors import UserError
from mtlbench.strategies import Setting, curriculum
from mtlbench.strategies.compose import build_strategy

assert curriculum.SmallLossTrimming  # registered by its module

STEPS, EPOCHS = 2, 5

small_and_large_batches = st.one_of(
    problems(steps=EPOCHS * STEPS),
    st.builds(
        problem,
        steps=st.just(EPOCHS * STEPS),
        batch=st.integers(8, 16),
        seed=st.integers(0, 2**31),
    ),
)


def present_losses(losses: list[Tensor], batch: Batch) -> list[list[tuple[float, int]]]:
    """Of each task, the losses of present labels and their places in the batch."""
    return [
        [(loss[b].item(), b) for b in batch.present[:, k].nonzero()[:, 0].tolist()]
        for k, loss in enumerate(losses)
    ]


def setting(kinds: tuple[str, ...], num_instances: int = 8) -> Setting:
    tasks = tuple(f"t{k}" for k in range(len(kinds)))
    generator, cpu = torch.Generator(), torch.device("cpu")
    return Setting(tasks, kinds, num_instances, cpu, torch.float64, generator)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


# --- small losses only ---


@many_examples
@given(
    small_and_large_batches,
    st.sampled_from(["0", "0.1", "0.2", "0.3", "0.45", "0.7", "0.95"]),
    st.integers(0, 4),
)
def test_trim_agrees_with_its_oracle(case: Problem, share: str, warmup: int) -> None:
    network = case.network()
    strategy = case.strategy("trim", network, trim__share=share, trim__warmup=warmup)
    for number, batch in enumerate(case.batches):
        epoch = number // STEPS
        forgotten = Fraction(share) * (min(Fraction(epoch, warmup), 1) if warmup else 1)
        losses = network.losses(batch)
        objective = 0 * sum(loss.sum() for loss in losses)
        for k, each in enumerate(present_losses(losses, batch)):
            kept = math.ceil((1 - forgotten) * len(each))
            for _, b in sorted(each)[:kept]:
                objective = objective + losses[k][b] / kept
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
        if number % STEPS == STEPS - 1:
            strategy.end_epoch()


@many_examples
@given(
    st.lists(st.floats(0, 10, width=16), min_size=1, max_size=12),
    st.floats(0, 0.99),
    st.integers(0, 12),
)
def test_no_loss_kept_is_above_one_left_out_and_the_weights_are_those_of_a_mean(
    values: list[float], share: float, absent: int
) -> None:
    stage = curriculum.SmallLossTrimming(share=share, warmup=0)
    stage.start(setting(("regression",)))
    present = torch.arange(len(values))[:, None] >= min(absent, len(values) - 1)
    losses = torch.where(present, column(*values), 0)
    weights = stage.weights(losses, torch.arange(len(values)), present)[present]
    kept, left_out = losses[present][weights > 0], losses[present][weights == 0]
    assert len(kept) >= 1
    assert len(left_out) == pytest.approx(share * len(weights), abs=1)
    assert len(left_out) <= share * len(weights) + 1e-4
    assert not len(left_out) or kept.max() <= left_out.min()
    assert_agrees(weights.mean(), torch.ones_like(weights.mean()))


def test_an_instance_drawn_twice_may_lose_one_of_its_two_places() -> None:
    stage = curriculum.SmallLossTrimming(share=0.5, warmup=0)
    stage.start(setting(("regression",)))
    weights = stage.weights(column(4, 4, 1, 9), torch.tensor([7, 7, 1, 2]), column(1, 1, 1, 1) > 0)
    assert weights[:, 0].tolist() == [2, 0, 2, 0]


# --- small losses first ---


def threshold_by_hand(losses: list[float], share: Fraction) -> float:
    """The upper end of the bin, a 32nd of an octave wide, that holds the share-th loss."""
    if share == 1:
        return math.inf
    last = sorted(losses)[math.ceil(share * len(losses)) - 1]
    return 2 ** ((math.floor(32 * math.log2(last)) + 1) / 32)


@many_examples
@given(
    small_and_large_batches,
    st.sampled_from(["hard", "linear"]),
    st.sampled_from([("0.5", "1"), ("0.3", "0.6"), ("0.8", "0.8"), ("1", "1")]),
    st.integers(1, 4),
)
def test_self_paced_agrees_with_its_oracle(
    case: Problem, weighting: str, shares: tuple[str, str], ramp: int
) -> None:
    start, end = map(Fraction, shares)
    network = case.network()
    strategy = case.strategy(
        "self-paced",
        network,
        **{
            "self-paced.weighting": weighting,
            "self-paced.start": shares[0],
            "self-paced.end": shares[1],
            "self-paced.ramp": ramp,
        },
    )
    thresholds = [math.inf] * len(case.kinds)
    of_epoch: list[list[float]] = [[] for _ in case.kinds]
    for number, batch in enumerate(case.batches):
        losses = network.losses(batch)
        objective = 0 * sum(loss.sum() for loss in losses)
        for k, each in enumerate(present_losses(losses, batch)):
            for value, b in each:
                weight = max(0, 1 - value / thresholds[k])
                if weighting == "hard":
                    weight = value < thresholds[k]
                objective = objective + weight * losses[k][b] / len(each)
            of_epoch[k] += [value for value, _ in each]
        assert_agrees(step(strategy, network, batch), gradient_of(objective, network))
        if number % STEPS == STEPS - 1:
            strategy.end_epoch()
            share = start + (end - start) * min(Fraction(number // STEPS, ramp), 1)
            for k, values in enumerate(of_epoch):
                if values:
                    thresholds[k] = threshold_by_hand(values, share)
            of_epoch = [[] for _ in case.kinds]


@many_examples
@given(
    st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=50),
    st.sampled_from([0.1, 0.25, 0.5, 0.9, 0.99]),
)
def test_the_threshold_is_a_quantile_to_the_width_of_a_bin(
    values: list[float], share: float
) -> None:
    stage = curriculum.SelfPacedLearning(start=share, end=share)
    stage.start(setting(("regression",)))
    present = column(*values) > 0
    weights = stage.weights(column(*values), torch.arange(len(values)), present)
    assert (weights == 1).all()
    stage.end_epoch(torch.zeros(1), {})
    threshold = stage.get_buffer("threshold").item()
    below = [value for value in values if value < threshold]
    assert len(below) >= share * len(values) - 1e-6
    assert sum(value < threshold / 2 ** (1 / 32) for value in values) < share * len(values)


def test_one_setting_serves_losses_of_any_unit() -> None:
    stage = curriculum.SelfPacedLearning()
    stage.start(setting(("regression",) * 3))
    losses = torch.tensor([[1.0], [2.0], [3.0], [4.0]]) * torch.tensor([1e-6, 1.0, 1e6])
    present = torch.ones_like(losses, dtype=torch.bool)
    stage.weights(losses.double(), torch.arange(4), present)
    stage.end_epoch(torch.zeros(3), {})
    weights = stage.weights(losses.double(), torch.arange(4), present)
    assert weights.T.tolist() == [[1, 1, 0, 0]] * 3


def test_losses_beyond_the_bins_are_counted_in_the_outermost() -> None:
    stage = curriculum.SelfPacedLearning(start=0.5)
    stage.start(setting(("regression",) * 2))
    losses = torch.tensor([[0, 1e30], [1e-30, math.inf], [1e30, math.nan], [1, 1e31]])
    present = torch.ones_like(losses, dtype=torch.bool)
    stage.weights(losses.double(), torch.arange(4), present)
    assert stage.get_buffer("counts").sum(0).tolist() == [4, 4]
    stage.end_epoch(torch.zeros(2), {})
    weights = stage.weights(losses.double(), torch.arange(4), present)
    assert weights[:, 0].tolist() == [1, 1, 0, 0]


def test_a_task_without_a_label_in_an_epoch_keeps_its_threshold() -> None:
    stage = curriculum.SelfPacedLearning()
    stage.start(setting(("regression",) * 2))
    losses = torch.tensor([[1.0, 8.0], [2.0, 4.0]], dtype=torch.float64)
    both = torch.ones_like(losses, dtype=torch.bool)
    stage.weights(losses, torch.arange(2), both)
    stage.end_epoch(torch.zeros(2), {})
    before = stage.get_buffer("threshold").clone()
    stage.weights(10 * losses, torch.arange(2), both & torch.tensor([True, False]))
    stage.end_epoch(torch.zeros(2), {})
    moved = stage.get_buffer("threshold") != before
    assert moved.tolist() == [True, False]


# --- both ---


@pytest.mark.parametrize("name", ["trim", "self-paced"])
def test_what_is_kept_does_not_depend_on_the_number_of_instances(name: str) -> None:
    def size(num_instances: int) -> int:
        tasks = {"y": "regression"}
        strategy = build_strategy(name, tasks=tasks, num_instances=num_instances)
        tensors = [v for v in strategy.state_dict().values() if isinstance(v, Tensor)]
        return sum(value.numel() for value in tensors)

    assert size(10**15) == size(1)


@pytest.mark.parametrize("name", ["trim", "self-paced"])
def test_a_restored_stage_goes_on_as_it_would_have(name: str) -> None:
    case = problem(steps=10)
    network = case.network()
    strategy, restored = case.strategy(name, network), case.strategy(name, network)
    for number, batch in enumerate(case.batches[:5]):
        step(strategy, network, batch)
        if number % 2:
            strategy.end_epoch()
    restored.load_state_dict(strategy.state_dict())
    for batch in case.batches[5:]:
        assert torch.equal(step(restored, network, batch), step(strategy, network, batch))
        for one in (strategy, restored):
            one.end_epoch()


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("trim.share", 1, "share must be at least 0 and below 1, but is 1.0"),
        ("trim.warmup", -1, "warmup must be at least 0, but is -1"),
        ("self-paced.weighting", "soft", "weighting must be 'hard' or 'linear', but is 'soft'"),
        ("self-paced.start", 0, "start must be above 0 and at most 1, but is 0.0"),
        ("self-paced.end", 0.4, "end must be at least start, 0.5, and at most 1, but is 0.4"),
        ("self-paced.end", 1.5, "end must be at least start, 0.5, and at most 1, but is 1.5"),
        ("self-paced.ramp", 0, "ramp must be at least 1, but is 0"),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(
    parameter: str, value: object, message: str
) -> None:
    case = problem()
    with pytest.raises(UserError, match=message):
        case.strategy(parameter.partition(".")[0], case.network(), **{parameter: value})


def test_an_unknown_weighting_is_refused_in_python_too() -> None:
    with pytest.raises(ValueError, match="weighting must be 'hard' or 'linear', but is 'soft'"):
        curriculum.SelfPacedLearning(weighting="soft")  # type: ignore[arg-type]
