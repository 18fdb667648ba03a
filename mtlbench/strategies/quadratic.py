"""Quadratic programmes of a few variables that may not be negative."""

import numpy as np

from mtlbench.strategies.gramian import Array

FULL_EXCHANGES, MOST_EXCHANGES = 10, 500


def minimize_nonnegative(hessian: Array, linear: Array) -> Array:
    """x ≥ 0 that minimises ½ xᵀ H x − bᵀ x, for each row b.

    By principal pivoting: x is 0 in some places and solves H x = b in the others, and the places
    where x is negative or its multiplier H x − b is change sides. All of them at once is fast; if
    that has not ended soon, only the last of them, which ends always (Murty 1974). All rows are
    solved together.

    Júdice, Pires: A Block Principal Pivoting Algorithm for Large-Scale Strictly Monotone Linear
    Complementarity Problems, Computers & Operations Research 1994.

    Args:
        hessian: H [m, m], positive definite.
        linear: the rows b [n, m].

    Returns:
        The rows x [n, m].
    """
    identity = np.eye(len(hessian))
    free = linear > 0
    x: Array = np.zeros_like(linear)
    for exchange in range(MOST_EXCHANGES):
        system = np.where(free[:, :, None] & free[:, None, :], hessian, identity)
        x = np.linalg.solve(system, (free * linear)[:, :, None])[:, :, 0].astype(np.float64)
        noise = 1e-13 * (np.abs(x) + np.abs(linear)).max(axis=1, keepdims=True)
        wrong = np.where(free, x, x @ hessian - linear) < -noise
        if not wrong.any():
            break
        if exchange >= FULL_EXCHANGES:
            wrong &= wrong[:, ::-1].cumsum(1)[:, ::-1] == 1
        free ^= wrong
    return np.maximum(x, 0)
