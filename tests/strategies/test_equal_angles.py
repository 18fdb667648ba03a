"""IMTL-G and ConFIG, against the papers' formulas on the gradients themselves."""

import numpy as np
import pytest
import torch
from gramians import Array, independent_jacobians, jacobians, stage, weigh
from hypothesis import given
from hypothesis import strategies as st
from torchjd.aggregation import IMTLG, ConFIG
from toy import many_examples

every_strategy = pytest.mark.parametrize("name", ["imtl-g", "config"])


def units(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def impartial_weights(rows: Array) -> Array:
    """IMTL-G's closed form: α_{2:K} = g_1 Uᵀ (D Uᵀ)⁻¹ with rows u_1 − u_k of U, g_1 − g_k of D.

    The update is no longer than all gradients together.
    """
    of_units = units(rows)[0] - units(rows)[1:]
    differences = rows[0] - rows[1:]
    others = rows[0] @ of_units.T @ np.linalg.inv(differences @ of_units.T)
    alpha = np.array([1 - others.sum(), *others])
    longest = np.linalg.norm(rows, axis=1).sum()
    return alpha * min(1, longest / np.linalg.norm(alpha @ rows))


def conflict_free_direction(rows: Array) -> Array:
    """ConFIG's Eqs. 2 and 3."""
    direction = np.linalg.pinv(units(rows)) @ np.ones(len(rows))
    direction /= np.linalg.norm(direction)
    return (rows @ direction).sum() * direction


@many_examples
@given(independent_jacobians(min_tasks=2, spread=0.5))
def test_imtl_g_agrees_with_its_oracle(rows: Array) -> None:
    expected = impartial_weights(rows)
    # Σ α = 1 is a difference of large numbers where α is large.
    np.testing.assert_allclose(
        weigh(stage("imtl-g", len(rows)), rows),
        expected,
        rtol=1e-7,
        atol=1e-9 * max(abs(expected)) ** 2,
    )


@many_examples
@given(independent_jacobians())
def test_config_agrees_with_its_oracle(rows: Array) -> None:
    update = weigh(stage("config", len(rows)), rows) @ rows
    expected = conflict_free_direction(rows)
    np.testing.assert_allclose(update, expected, atol=1e-9 * np.abs(rows).max())


@many_examples
@given(independent_jacobians(max_tasks=3), st.integers(0, 2))
def test_imtl_g_and_config_agree_with_torchjd_on_dependent_gradients(
    rows: Array, copied: int
) -> None:
    rows = np.vstack([rows, rows[copied % len(rows)]])
    ours = weigh(stage("config", len(rows)), rows) @ rows
    theirs = ConFIG()(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-8 * np.abs(rows).max())

    rows = units(rows)  # the pseudo-inverse of the Gramian is that of the cosines
    ours = weigh(stage("imtl-g", len(rows)), rows)
    theirs = IMTLG()(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(ours @ rows, theirs, atol=1e-8 * max(1, np.abs(ours).max()))


@every_strategy
@many_examples
@given(independent_jacobians(max_tasks=10, spread=3))
def test_the_update_projects_equally_on_all_unit_gradients(name: str, rows: Array) -> None:
    update = weigh(stage(name, len(rows)), rows) @ rows
    projections = units(rows) @ update
    # Cosines are solved for to 1e-16 times their condition number, 1000.
    np.testing.assert_allclose(projections, projections.mean(), atol=1e-10 * np.linalg.norm(update))


@every_strategy
@many_examples
@given(independent_jacobians(), st.lists(st.floats(-6, 6), min_size=6, max_size=6))
def test_the_direction_does_not_depend_on_the_scale_of_any_task(
    name: str, rows: Array, exponents: list[float]
) -> None:
    def direction(rows: Array) -> Array:
        update = weigh(stage(name, len(rows)), rows) @ rows
        return update / np.linalg.norm(update)

    scaled = 10.0 ** np.array(exponents[: len(rows)])[:, None] * rows
    # IMTL-G's projections may be negative: its length may change sign.
    agreement = direction(scaled) @ direction(rows)
    assert abs(agreement) == pytest.approx(1, abs=1e-10)
    if name == "config":
        assert agreement > 0


@many_examples
@given(independent_jacobians())
def test_imtl_g_weights_sum_to_one(rows: Array) -> None:
    weights = weigh(stage("imtl-g", len(rows)), rows)
    assert weights.sum() == pytest.approx(1, abs=1e-12 * np.abs(weights).sum())


@many_examples
@given(independent_jacobians())
def test_config_conflicts_with_no_task_and_is_as_long_as_the_gradients_reach(rows: Array) -> None:
    update = weigh(stage("config", len(rows)), rows) @ rows
    length = np.linalg.norm(update)
    assert (rows @ update > 0).all()
    assert length == pytest.approx((rows @ update).sum() / length, rel=1e-9)


@every_strategy
def test_opposite_gradients_give_no_update(name: str) -> None:
    rows = np.array([[1.0, 2.0], [-3.0, -6.0]])
    np.testing.assert_allclose(weigh(stage(name, 2), rows) @ rows, 0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("rows", "weights"),
    [
        ([[1, 1], [-3, -3]], [3 / 4, 1 / 4]),
        ([[1, 1], [-1.001, -1.001]], [1.001 / 2.001, 1 / 2.001]),
        ([[1, 1], [-1, -1.001]], None),
        ([[1, 0], [0, 2], [-1, -2]], [1 / 3, 1 / 3, 1 / 3]),
        ([[1, 1], [2, 2], [-1, -1]], [2 / 7, 1 / 7, 4 / 7]),
        ([[1, 1], [1, 1], [-1, -1], [-1, -1]], [1 / 4] * 4),
        ([[1, 1], [3, 3]], [3 / 4, 1 / 4]),
        ([[1, 1]] * 3, [1 / 3] * 3),
        ([[1, 0], [1, 0], [0, 1]], [1 / 4, 1 / 4, 1 / 2]),
    ],
)
def test_imtl_g_has_the_equations_value_for_dependent_gradients(
    rows: list[list[float]], weights: list[float] | None, dtype: type
) -> None:
    """Opposite, nearly opposite and equal gradients, and more than there are dimensions."""
    jacobian = np.array(rows, dtype=dtype)
    strategy = stage("imtl-g", len(rows), dtype=torch.from_numpy(jacobian).dtype)
    found = weigh(strategy, jacobian)
    longest = np.linalg.norm(jacobian, axis=1).max()
    if weights is not None:
        np.testing.assert_allclose(found, weights, rtol=8 * np.finfo(dtype).eps)
    if (jacobian < 0).any():  # the gradients have 0 among their combinations, or nearly so
        update = np.linalg.norm(found.astype(np.float64) @ jacobian)
        assert update <= 4 * np.finfo(dtype).eps * longest + (1e-3 if weights is None else 0)


@many_examples
@given(
    independent_jacobians(min_tasks=2, max_tasks=2),
    st.floats(1e-9, 1),
    st.sampled_from([1, -1]),
)
def test_imtl_g_of_two_tasks_weighs_each_by_the_others_length_whatever_the_angle(
    rows: Array, angle: float, sign: int
) -> None:
    lengths = np.linalg.norm(rows, axis=1)
    aside = rows[1] - rows[1] @ units(rows)[0] * units(rows)[0]
    rows[1] = sign * np.cos(angle) * units(rows)[0] + np.sin(angle) * units(aside[None])[0]
    rows[1] *= lengths[1]
    expected = lengths[::-1] / lengths.sum()
    np.testing.assert_allclose(weigh(stage("imtl-g", 2), rows), expected, rtol=1e-6)


@many_examples
@given(jacobians(max_tasks=10), st.sampled_from([np.float32, np.float64]))
def test_imtl_g_is_never_longer_than_all_gradients_together(rows: Array, dtype: type) -> None:
    jacobian = rows.astype(dtype)
    strategy = stage("imtl-g", len(rows), dtype=torch.from_numpy(jacobian).dtype)
    update = weigh(strategy, jacobian).astype(np.float64) @ jacobian.astype(np.float64)
    # Rounding of dependent gradients counts in their Gramian, and is a root of it in the update.
    assert np.linalg.norm(update) <= 2 * np.linalg.norm(rows, axis=1).sum()


@many_examples
@given(jacobians(min_tasks=2), st.data())
def test_imtl_g_has_one_update_whatever_the_order_of_dependent_gradients(
    rows: Array, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(rows))))
    update = weigh(stage("imtl-g", len(rows)), rows) @ rows
    permuted = weigh(stage("imtl-g", len(rows)), rows[order]) @ rows[order]
    # Where gradients cancel, of a square of their lengths the rounding is left: its root.
    np.testing.assert_allclose(permuted, update, atol=1e-6 * np.linalg.norm(rows, axis=1).sum())


def test_imtl_g_is_cut_where_its_equation_has_no_solution() -> None:
    """u_3 lies between the others, and 1 / ‖g_3‖ brings the sum of all weights to 0."""
    gradients = np.array([[1.0, 0.0, 0.2], [0.0, 1.0, 0.2], [0.5, 0.5, 0.3]])
    beta = np.linalg.solve(units(gradients) @ units(gradients).T, np.ones(3))
    of_third = -beta[2] / (beta[:2] / np.linalg.norm(gradients[:2], axis=1)).sum()
    gradients[2] *= of_third / np.linalg.norm(gradients[2])
    assert of_third > 0
    for factor, sign in ((1 - 1e-6, -1), (1 + 1e-6, 1)):
        rows = gradients * np.array([[1], [1], [factor]])
        update = weigh(stage("imtl-g", 3), rows) @ rows
        assert np.linalg.norm(update) == pytest.approx(np.linalg.norm(rows, axis=1).sum())
        projections = units(rows) @ update
        np.testing.assert_allclose(projections, projections[0], rtol=1e-9)
        assert np.sign(projections[0]) == sign


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_imtl_g_goes_down_to_the_pareto_front_and_stays_there(dtype: torch.dtype) -> None:
    """Two quadratics: at their front the gradients are opposite, but for rounding."""
    chance = torch.Generator().manual_seed(0)
    ends = torch.randn(2, 200, generator=chance, dtype=dtype)
    theta = 3 * torch.randn(200, generator=chance, dtype=dtype)
    strategy = stage("imtl-g", 2, dtype=dtype)
    present = torch.tensor([True, True])
    updates = []
    for _ in range(400):
        rows = theta - ends
        weights = strategy.weights(rows @ rows.T, rows.square().sum(1) / 2, present)
        update = weights @ rows
        updates.append(float(update.norm()))
        theta = theta - 0.1 * update
    assert max(updates) == updates[0]
    assert updates[-1] < 1e-3


@every_strategy
@many_examples
@given(jacobians(min_tasks=2, spread=1))
def test_a_gradient_of_zero_is_left_out(name: str, rows: Array) -> None:
    rows[0] = 0
    weights = weigh(stage(name, len(rows)), rows)
    assert weights[0] == 0
    alone = weigh(stage(name, len(rows) - 1), rows[1:])
    np.testing.assert_allclose(weights[1:], alone, rtol=1e-9, atol=1e-9 * np.abs(alone).max())
