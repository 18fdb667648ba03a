"""The geometric mean of the losses."""

import torch
from hypothesis import given
from toy import Problem, assert_agrees, gradient_of, many_examples, problem, problems, step


@many_examples
@given(problems())
def test_gls_agrees_with_its_oracle(
    case: Problem,
) -> None:
    network = case.network()
    strategy = case.strategy("gls", network)
    for batch in case.batches:
        losses = network.task_losses(batch)
        present = [x for x, k in zip(losses, batch.present.unbind(1), strict=True) if k.any()]
        objective = torch.stack(present).prod() ** (1 / len(present)) if present else 0 * losses[0]
        expected = gradient_of(objective, network)
        assert_agrees(step(strategy, network, batch), expected)


def test_a_loss_of_zero_leaves_all_gradients_finite() -> None:
    case = problem()
    network, batch = case.network(), case.batches[0]
    strategy = case.strategy("gls", network)
    first, second, third = network.losses(batch)
    strategy.backward([first * 0, second, third])
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_many_small_losses_do_not_underflow() -> None:
    """The product of ten losses of 1e-40 is no float64; their geometric mean is."""
    tasks = 10
    case = problem(tasks=tasks)
    stage = case.strategy("gls", case.network()).task
    losses = torch.full((tasks,), 1e-40, dtype=torch.float64)
    weights = stage.weights(losses, torch.ones(tasks, dtype=torch.bool))
    assert_agrees(weights, torch.full_like(weights, 1 / tasks))
