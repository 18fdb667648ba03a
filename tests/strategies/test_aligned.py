"""Aligned gradients, against a singular value decomposition of the gradients themselves."""

import numpy as np
import pytest
import torch
from gramians import Array, independent_jacobians, jacobians, stage, weigh
from hypothesis import given
from torchjd.aggregation import AlignedMTL
from toy import many_examples


def aligned(rows: Array) -> Array:
    """The rows of σ_min U Wᵀ for J = U Σ Wᵀ: orthogonal and equally long."""
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    return values[-1] * left @ right


@many_examples
@given(independent_jacobians(spread=0.5))
def test_aligned_mtl_agrees_with_its_oracle(rows: Array) -> None:
    update = weigh(stage("aligned-mtl", len(rows)), rows) @ rows
    # Eigenvalues of the Gramian are squares: half the digits of the smallest are lost.
    np.testing.assert_allclose(update, aligned(rows).sum(0), atol=1e-8 * np.abs(rows).max())


@many_examples
@given(independent_jacobians(spread=0.5))
def test_aligned_mtl_adds_up_orthogonal_gradients_of_the_smallest_length(rows: Array) -> None:
    """The condition number of what it sums is 1."""
    parts = aligned(rows)
    np.testing.assert_allclose(parts @ parts.T, parts[0] @ parts[0] * np.eye(len(rows)), atol=1e-9)
    update = weigh(stage("aligned-mtl", len(rows)), rows) @ rows
    smallest = np.linalg.svd(rows, compute_uv=False)[-1]
    assert np.linalg.norm(update) == pytest.approx(np.sqrt(len(rows)) * smallest, rel=1e-6)


@many_examples
@given(jacobians(spread=1))
def test_aligned_mtl_is_torchjds_with_a_sum_for_its_mean(rows: Array) -> None:
    if not rows.any():
        return
    theirs = len(rows) * AlignedMTL()(torch.from_numpy(rows)).numpy()
    ours = weigh(stage("aligned-mtl", len(rows)), rows) @ rows
    # Both decompose the Gramian; rounding of its eigenvalues shows as its root.
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(rows).max())


def test_aligned_mtl_leaves_out_what_rounding_cannot_tell_from_zero() -> None:
    """In float32 the third direction is noise; its scale would stop the other two."""
    rows = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1e-6]])
    exact = weigh(stage("aligned-mtl", 3), rows) @ rows
    assert np.linalg.norm(exact) == pytest.approx(0, abs=1e-5)
    rough = weigh(stage("aligned-mtl", 3, dtype=torch.float32), rows.astype(np.float32)) @ rows
    expected = weigh(stage("aligned-mtl", 3), rows * [1, 1, 0]) @ rows
    np.testing.assert_allclose(rough, expected, atol=1e-5)
