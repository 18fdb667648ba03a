"""Quadratic programmes of a few variables that may not be negative."""

import numpy as np
from numpy.typing import NDArray

from mtlbench.strategies.gramian import Array

PATIENCE, MOST_EXCHANGES = 3, 500
ALIKE = 8
"""A system takes the cube of its size: with 100 tasks sizes go from 30 to 60."""


def minimize_nonnegative(
    hessian: Array, linear: Array, free: NDArray[np.bool_] | None = None
) -> Array:
    """x ≥ 0 that minimises ½ xᵀ H x − bᵀ x, for each row b.

    By principal pivoting: x is 0 in some places and solves H x = b in the others, and the places
    where x is negative or its multiplier H x − b is change sides. All at once is fast; a row
    where that has not left fewer of them for some time is solved by descent. Rows are solved
    together, each until it is right.

    Júdice, Pires: A Block Principal Pivoting Algorithm for Large-Scale Strictly Monotone Linear
    Complementarity Problems, Computers & Operations Research 1994.

    Args:
        hessian: H [m, m], positive definite, or several [s, m, m].
        linear: the rows b [n, m], for each H [s, n, m].
        free: where x may well be above 0, in the shape of b, as in a problem nearby; None if
            nothing is known. It makes no difference to the result, but to the time.

    Returns:
        The rows x, in the shape of b.
    """
    shape, m = linear.shape, linear.shape[-1]
    hessian, linear = hessian.reshape(-1, m, m), linear.reshape(-1, m)
    of = np.repeat(np.arange(len(hessian)), len(linear) // max(len(hessian), 1))  # a row's H
    result: Array = np.zeros_like(linear)
    rows = np.arange(len(linear))
    free = linear > 0 if free is None else free.reshape(-1, m)
    fewest, chances = np.full(len(linear), np.inf), np.zeros(len(linear))
    for _ in range(MOST_EXCHANGES):
        b = linear[rows]
        result[rows] = x = _solve_where(free, hessian, of[rows], b)
        noise = 1e-13 * (np.abs(x) + np.abs(b)).max(axis=1, keepdims=True)
        products = x @ hessian[0] if len(hessian) == 1 else _each(x, hessian[of[rows]])
        wrong = np.where(free, x, products - b) < -noise
        count = wrong.sum(1)
        left = count > 0
        if not left.any():
            break
        chances = np.where(count < fewest, PATIENCE, chances - 1)
        fewest = np.minimum(count, fewest)
        for row in rows[left & (chances < 0)]:
            result[row] = _descend(hessian[of[row]], linear[row])
        left &= chances >= 0
        rows, free = rows[left], (free ^ wrong)[left]
        fewest, chances = fewest[left], chances[left]
    return np.maximum(result, 0).reshape(shape)


def _descend(hessian: Array, linear: Array) -> Array:
    """The same x [m] for one H [m, m] and one b [m].

    By an active set: the place where it promises most becomes free, and x goes towards the solution
    in the free places until one of them is 0, which is free no longer. ½ xᵀ H x − bᵀ x only falls.

    Lawson, Hanson: Solving Least Squares Problems, 1974, chapter 23.
    """
    x = np.zeros_like(linear)
    free = np.zeros(len(x), dtype=bool)
    for _ in range(MOST_EXCHANGES):
        slope = np.where(free, 0, linear - hessian @ x)
        best = slope.argmax()
        if slope[best] <= 1e-13 * (np.abs(x) + np.abs(linear)).max():
            break
        free[best] = True
        while True:
            wanted = np.zeros_like(x)
            wanted[free] = np.linalg.solve(hessian[free][:, free], linear[free])
            below = free & (wanted <= 0)
            if not below.any():
                break
            shares = x[below] / (x[below] - wanted[below])
            x += shares.min() * (wanted - x)
            free[below.nonzero()[0][shares == shares.min()]] = False
            x[~free] = 0
        x = wanted
    return x


def _each(rows: Array, matrices: Array) -> Array:
    """Each row [n, m] times its matrix [n, m, m]."""
    product: Array = np.matmul(rows[:, None], matrices)[:, 0]
    return product


def _solve_where(
    free: NDArray[np.bool_], hessian: Array, of: NDArray[np.intp], linear: Array
) -> Array:
    """The rows x [n, m] that are 0 but where they are free [n, m], and solve H x = b there.

    Args:
        free: where they are.
        hessian: H [s, m, m].
        of: which H is that of a row [n].
        linear: the rows b [n, m].
    """
    m = hessian.shape[-1]
    x = np.zeros_like(linear)
    count = free.sum(1)
    size = -(-count // ALIKE)
    order = np.argsort(~free, axis=1, kind="stable")  # the places that are free come first
    rest = m + np.arange(m)  # places of an identity beside H, to fill up a row
    extended = np.zeros((len(hessian), 2 * m, 2 * m))
    extended[:, :m, :m], extended[:, rest, rest] = hessian, 1
    for one in np.unique(size[count > 0]):  # rows with about as many of them are solved together
        (rows,) = (size == one).nonzero()
        width = count[rows].max()
        filled = np.arange(width) < count[rows, None]
        places = np.where(filled, order[rows, :width], rest[:width])
        first = 4 * m * m * of[rows, None, None]
        system = extended.take(first + 2 * m * places[:, :, None] + places[:, None, :])
        b = np.where(filled, linear[rows[:, None], order[rows, :width]], 0)
        x[rows[:, None], order[rows, :width]] = np.linalg.solve(system, b[:, :, None])[:, :, 0]
    return x
