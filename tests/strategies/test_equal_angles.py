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
    """IMTL-G's closed form: α_{2:K} = g_1 Uᵀ (D Uᵀ)⁻¹ with rows u_1 − u_k of U, g_1 − g_k of D."""
    of_units = units(rows)[0] - units(rows)[1:]
    differences = rows[0] - rows[1:]
    others = rows[0] @ of_units.T @ np.linalg.inv(differences @ of_units.T)
    return np.array([1 - others.sum(), *others])


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


@every_strategy
@many_examples
@given(jacobians(min_tasks=2, spread=1))
def test_a_gradient_of_zero_is_left_out(name: str, rows: Array) -> None:
    rows[0] = 0
    weights = weigh(stage(name, len(rows)), rows)
    assert weights[0] == 0
    alone = weigh(stage(name, len(rows) - 1), rows[1:])
    np.testing.assert_allclose(weights[1:], alone, rtol=1e-9, atol=1e-9 * np.abs(alone).max())
