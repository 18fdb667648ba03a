"""Properties of all weightings by the Gramian."""

import numpy as np
import pytest
import torch
from gramians import PARAMETERS, Array, independent_jacobians, jacobians, stage, weigh
from hypothesis import given
from hypothesis import strategies as st
from toy import assert_agrees, many_examples, problem, step

from mtlbench.strategies.base import strategies
from mtlbench.strategies.gramian import GramianWeighting, lengths_and_cosines
from mtlbench.strategies.surgery import SurgeryWeighting

every_strategy = pytest.mark.parametrize("name", PARAMETERS)
DRAWS = ("pcgrad", "gradvac")
"""Strategies whose weights depend on the order of the tasks."""


def test_all_of_them_are_tested_here() -> None:
    registered = {
        entry.name
        for entry in strategies.entries()
        if issubclass(entry.cls, GramianWeighting)
        and entry.cls.__module__.startswith("mtlbench.strategies.")
    }
    assert registered >= set(PARAMETERS)


@every_strategy
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e10])
@many_examples
@given(jacobians(max_tasks=10))
@pytest.mark.filterwarnings("error")
def test_weights_are_finite_for_zero_parallel_opposite_and_dependent_gradients(
    name: str, scale: float, rows: Array
) -> None:
    for dtype in (torch.float64, torch.float32):
        strategy = stage(name, len(rows), dtype=dtype, **PARAMETERS[name])
        numbers = (scale * rows).astype(np.float64 if dtype == torch.float64 else np.float32)
        for _ in range(2):
            assert np.isfinite(weigh(strategy, numbers)).all()


@every_strategy
@many_examples
@given(independent_jacobians())
def test_the_direction_does_not_depend_on_the_unit_of_all_losses(name: str, rows: Array) -> None:
    def direction(scale: float) -> Array:
        update = weigh(stage(name, len(rows), **PARAMETERS[name]), scale * rows) @ rows
        return update / np.linalg.norm(update)

    # Rounding of 1e-16 is multiplied by the condition number, 1000 at most, and solvers stop
    # at 1e-9.
    for scale in (1e-10, 1e10):
        np.testing.assert_allclose(direction(scale), direction(1.0), atol=1e-7)


@every_strategy
@many_examples
@given(independent_jacobians(min_tasks=2), st.data())
def test_tasks_without_a_label_are_left_out(name: str, rows: Array, data: st.DataObject) -> None:
    tasks = len(rows)
    flags = st.lists(st.booleans(), min_size=tasks, max_size=tasks)
    batches = data.draw(st.lists(flags, min_size=1, max_size=3))
    strategy = stage(name, tasks, **PARAMETERS[name])
    for present in batches:
        state = {key: value.clone() for key, value in strategy.named_buffers()}
        weights = weigh(strategy, rows, present)
        assert (weights[~np.array(present)] == 0).all()
        absent = ~torch.tensor(present)
        for key, value in strategy.named_buffers():
            assert torch.equal(value[absent], state[key][absent])

    # A strategy that knows only the tasks that are present gives them the same weights.
    present = batches[0]
    fresh = weigh(stage(name, tasks, **PARAMETERS[name]), rows, present)
    if any(present):
        alone = stage(name, sum(present), **PARAMETERS[name])
        np.testing.assert_allclose(fresh[present], weigh(alone, rows[present]), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name not in DRAWS])
@many_examples
@given(independent_jacobians(min_tasks=2), st.data())
def test_weights_do_not_depend_on_the_order_of_the_tasks(
    name: str, rows: Array, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    parameters = PARAMETERS[name]
    weights = weigh(stage(name, len(rows), **parameters), rows)
    permuted = weigh(stage(name, len(rows), **parameters), rows[order])
    # Solvers stop at 1e-9 of the largest weight, in units of the gradients' lengths.
    lengths = np.linalg.norm(rows, axis=1)
    size = (np.abs(weights) * lengths).max()
    np.testing.assert_allclose(
        permuted * lengths[order], (weights * lengths)[order], atol=1e-7 * size
    )


@every_strategy
@many_examples
@given(independent_jacobians(max_tasks=1))
def test_a_single_task_goes_down_its_own_gradient(name: str, rows: Array) -> None:
    assert weigh(stage(name, 1, **PARAMETERS[name]), rows) > 0


@every_strategy
def test_a_gramian_that_is_not_finite_gives_no_numbers_and_leaves_the_state_alone(
    name: str,
) -> None:
    strategy = stage(name, 3, **PARAMETERS[name])
    rows = np.random.default_rng(0).standard_normal((3, 5))
    weigh(strategy, rows)
    state = {key: value.clone() for key, value in strategy.named_buffers()}
    rows[1, 2] = np.inf
    assert np.isnan(weigh(strategy, rows)).all()
    for key, value in strategy.named_buffers():
        assert torch.equal(value, state[key])


@every_strategy
def test_weights_come_in_the_precision_of_the_gramian(name: str) -> None:
    strategy = stage(name, 2, dtype=torch.float32, **PARAMETERS[name])
    weights = strategy.weights(torch.eye(2), torch.ones(2), torch.tensor([True, True]))
    assert weights.dtype == torch.float32


@every_strategy
def test_every_head_gets_the_gradient_of_its_own_task_unweighted(name: str) -> None:
    case = problem()
    network = case.network()
    strategy = case.strategy(name, network)
    for batch in case.batches:
        expected = [
            torch.autograd.grad(loss, list(head.parameters()), retain_graph=True)
            for loss, head in zip(network.task_losses(batch), network.heads, strict=True)
        ]
        step(strategy, network, batch)
        for head, grads in zip(network.heads, expected, strict=True):
            for parameter, grad in zip(head.parameters(), grads, strict=True):
                assert_agrees(parameter.grad, grad)


@every_strategy
def test_the_trunk_gets_the_weighted_sum_of_the_gradients(name: str) -> None:
    case = problem(steps=1)
    network, batch = case.network(), case.batches[0]
    trunk = list(network.trunk.parameters())
    rows = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk, retain_graph=True)])
            for loss in network.task_losses(batch)
        ]
    ).numpy()
    present = batch.present.any(0).tolist()
    expected = weigh(stage(name, len(rows), seed=5), rows, present) @ rows
    step(case.strategy(name, network, generator_seed=5), network, batch)
    update = torch.cat([p.grad.flatten() for p in trunk]).numpy()
    # Solvers stop at 1e-9; the Gramian is summed in another order.
    np.testing.assert_allclose(update, expected, atol=1e-8 * np.linalg.norm(expected))


@every_strategy
def test_the_global_generator_is_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    weigh(stage(name, 3), np.random.default_rng(0).standard_normal((3, 5)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["gradvac", "sdmgrad"])
def test_the_state_survives_saving(name: str) -> None:
    rows = np.random.default_rng(0).standard_normal((4, 3, 5))
    strategy = stage(name, 3, dtype=torch.float32)
    for batch in rows[:3]:
        weigh(strategy, batch.astype(np.float32))
    restored = stage(name, 3, dtype=torch.float32)
    restored.load_state_dict(strategy.state_dict())
    fresh = weigh(stage(name, 3, dtype=torch.float32), rows[3].astype(np.float32))
    for one in (strategy, restored):
        if isinstance(one, SurgeryWeighting):
            one.generator.manual_seed(0)
    weights = weigh(strategy, rows[3].astype(np.float32))
    assert (weigh(restored, rows[3].astype(np.float32)) == weights).all()
    assert (fresh != weights).any()


def test_the_state_stays_where_the_solver_is() -> None:
    strategy = stage("gradvac", 3)
    assert strategy.to("meta").get_buffer("targets").device.type == "cpu"


def test_cosines_of_a_gradient_of_zero_are_zero() -> None:
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    lengths, cosines = lengths_and_cosines(rows @ rows.T)
    np.testing.assert_allclose(lengths, [5, 0, 2])
    np.testing.assert_allclose(cosines, [[1, 0, -0.8], [0, 0, 0], [-0.8, 0, 1]])


def test_a_weighting_that_defines_nothing_is_told_what_to_define() -> None:
    class Empty(GramianWeighting):
        pass

    strategy = Empty()
    strategy.resolution = 0.0
    with pytest.raises(TypeError, match="Empty must define solve"):
        strategy.weights(torch.eye(2), torch.ones(2), torch.tensor([True, True]))
