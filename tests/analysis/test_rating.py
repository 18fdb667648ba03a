"""Ratings from pairwise wins, against choix and SciPy and by hand."""

import math
import time
from collections.abc import Sequence

import choix
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from threadpoolctl import threadpool_info, threadpool_limits

from mtlbench.analysis.cells import Block
from mtlbench.analysis.rating import (
    SCALE,
    Rating,
    bradley_terry,
    connected,
    largest_connected,
    win_shares,
    wins_by_seed,
)
from mtlbench.analysis.statistics import draw_seeds

NAN = float("nan")
EXACT = 1e-9
"""Newton's last step is below 1e-7 and converges quadratically; the rest is rounding."""


def block(
    values: np.ndarray | Sequence[object],
    suite: str = "streets",
    variant: str = "clean",
    cells: Sequence[tuple[str, str]] = (("segmentation", "mIoU"),),
) -> Block:
    """The runs of values [S, R, C]."""
    values = np.asarray(values, float)
    status = np.full(values.shape[:2], "done", dtype=object)
    return Block(suite, variant, np.arange(values.shape[1]), list(cells), values, status)


def drawn(strengths: np.ndarray, generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Values [S, *shape] of which those of two strategies compare as the model says.

    With Gumbel noise, P(θ_i + g_i > θ_j + g_j) = π_i / (π_i + π_j).
    """
    noise = generator.gumbel(size=(len(strengths), *shape))
    return strengths.reshape(-1, *[1] * len(shape)) + noise


def draws(suite: str, seeds: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return draw_seeds(len(seeds), 300, *suite.encode(), *seeds)


def random_wins(strategies: int, seed: int = 0) -> np.ndarray:
    wins = np.random.default_rng(seed).integers(0, 9, (strategies, strategies)).astype(float)
    np.fill_diagonal(wins, 0)
    return wins


def with_average(wins: np.ndarray, draw: float) -> np.ndarray:
    """The same with one strategy more, which all others have drawn with."""
    more = np.pad(wins, (0, 1), constant_values=draw / 2)
    more[-1, -1] = 0
    return more


# --- comparisons ----------------------------------------------------------------------------------


def test_wins_weigh_tasks_and_metrics_alike_and_a_tie_counts_half() -> None:
    cells = [("segmentation", "mIoU"), ("segmentation", "accuracy"), ("depth", "error")]
    values = [[[1, 5, 3]], [[2, 4, 3]]]
    wins = wins_by_seed(block(values, cells=cells))
    # The first loses one metric of segmentation, wins the other and ties in depth.
    np.testing.assert_allclose(wins, [[[0, 0.25 + 0.25], [0.25 + 0.25, 0]]])
    values = [[[1, 5, 4]], [[2, 4, 3]]]
    np.testing.assert_allclose(wins_by_seed(block(values, cells=cells))[0, 0, 1], 0.25 + 0.5)


def test_only_cells_and_seeds_that_both_have_are_compared() -> None:
    cells = [("segmentation", "mIoU"), ("depth", "error")]
    values = [[[1, 1], [1, NAN]], [[0, 2], [0, 0]], [[9, 9], [NAN, NAN]]]
    wins = wins_by_seed(block(values, cells=cells))
    np.testing.assert_allclose(wins[0], [[0, 0.5, 0], [0.5, 0, 0], [1, 1, 0]])
    np.testing.assert_allclose(wins[1], [[0, 0.5, 0], [0, 0, 0], [0, 0, 0]])
    # The depth of the second seed counts for none of them: 1 of 1.5 comparisons are won.
    assert win_shares(wins.mean(0))[0, 1] == pytest.approx(1 / 1.5)


def test_the_win_share_of_two_that_share_nothing_is_unknown() -> None:
    wins = wins_by_seed(block([[[1], [NAN]], [[NAN], [1]], [[0], [0]]])).mean(0)
    shares = win_shares(wins)
    assert np.isnan(shares[0, 1])
    assert shares[0, 2] == shares[1, 2] == 1


def test_a_variant_with_more_seeds_weighs_no_more_than_another() -> None:
    few, many = [[[1.0]] * 2, [[0.0]] * 2], [[[0.0]] * 6, [[1.0]] * 6]
    rating = Rating([block(few), block(many, variant="depth@0.4")], None)
    np.testing.assert_allclose(rating.wins, [[0, 1], [1, 0]])
    assert rating.draw == 2 / 8, "one run of the mean variant"


# --- the model ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_strengths_are_those_of_choix_with_an_average_strategy_among_them(seed: int) -> None:
    wins, draw = random_wins(8, seed), 0.5
    ours = bradley_terry(wins, draw)
    theirs = choix.ilsr_pairwise_dense(with_average(wins, draw), max_iter=10_000, tol=1e-12)
    np.testing.assert_allclose(ours, theirs[:-1] - theirs[-1], atol=1e-8)  # their tolerance


def test_with_a_draw_of_next_to_no_weight_strengths_are_the_plain_maximum_of_choix() -> None:
    wins = random_wins(12)
    ours = bradley_terry(wins, 1e-9)
    theirs = choix.ilsr_pairwise_dense(wins, max_iter=10_000, tol=1e-12)
    np.testing.assert_allclose(ours - ours.mean(), theirs - theirs.mean(), atol=1e-7)


def test_strengths_maximise_the_likelihood() -> None:
    wins, draw = random_wins(6), 0.7

    def loss(theta: np.ndarray) -> float:
        log_chance = -np.logaddexp(0, theta[None] - theta[:, None])
        drawn = np.logaddexp(0, theta) + np.logaddexp(0, -theta)
        return float(draw / 2 * drawn.sum() - (wins * log_chance).sum())

    theta = bradley_terry(wins, draw)
    found = minimize(loss, np.zeros(6), tol=1e-10).x
    np.testing.assert_allclose(theta, found, atol=1e-4)  # of BFGS
    assert loss(theta) <= loss(found)


def test_of_two_strategies_the_difference_is_the_log_odds_of_a_win() -> None:
    theta = bradley_terry(np.array([[0, 3], [1, 0.0]]), 1e-9)
    assert theta[0] - theta[1] == pytest.approx(math.log(3))
    assert SCALE * (theta[0] - theta[1]) == pytest.approx(400 * math.log10(3))


def test_many_fits_at_once_are_each_as_alone() -> None:
    wins = np.stack([random_wins(9, seed) for seed in range(7)])
    together = bradley_terry(wins, 0.3)
    for alone, one in zip(wins, together, strict=True):
        np.testing.assert_allclose(bradley_terry(alone, 0.3), one, atol=EXACT)
    from_another = bradley_terry(wins, 0.3, start=together[3])
    np.testing.assert_allclose(from_another, together, atol=EXACT)


def test_systems_are_solved_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several wait for each other busily: beside training, a leaderboard took minutes."""
    solve, threads = np.linalg.solve, []

    def solved(*systems: np.ndarray) -> np.ndarray:
        pools = [pool for pool in threadpool_info() if "numpy" in pool["filepath"]]
        threads.extend(pool["num_threads"] for pool in pools)
        return solve(*systems)

    monkeypatch.setattr(np.linalg, "solve", solved)
    with threadpool_limits(2, user_api="blas"):
        bradley_terry(random_wins(5, 0), 0.3)
    assert threads
    assert set(threads) == {1}


WINS = arrays(float, (5, 5), elements=st.sampled_from([0, 0, 0.25, 1, 40])).map(
    lambda wins: wins * (1 - np.eye(5))
)


@given(WINS, st.sampled_from([0.01, 1]))
def test_whatever_is_won_the_fit_is_finite_and_wins_as_often_as_it_should(
    wins: np.ndarray, draw: float
) -> None:
    theta = bradley_terry(wins, draw)
    more, strength = with_average(wins, draw), np.exp(np.append(theta, 0))
    chance = strength[:, None] / (strength[:, None] + strength)
    expected = ((more + more.T) * chance).sum(1)
    np.testing.assert_allclose(expected[:-1], more.sum(1)[:-1], atol=1e-8)


@given(WINS, st.permutations(range(5)))
def test_the_order_of_strategies_changes_no_strength(wins: np.ndarray, order: list[int]) -> None:
    permuted = bradley_terry(wins[np.ix_(order, order)], 0.5)
    np.testing.assert_allclose(permuted, bradley_terry(wins, 0.5)[order], atol=EXACT)


@given(WINS)
def test_to_win_instead_of_lose_is_to_change_the_sign(wins: np.ndarray) -> None:
    np.testing.assert_allclose(bradley_terry(wins.T, 0.5), -bradley_terry(wins, 0.5), atol=EXACT)


# --- what is joined -------------------------------------------------------------------------------


def test_a_chain_of_comparisons_joins_strategies() -> None:
    wins = np.zeros((5, 5))
    wins[0, 1] = wins[2, 1] = wins[4, 3] = 1
    assert connected(wins, 0).tolist() == [True, True, True, False, False]
    assert connected(np.stack([wins, wins.T]), 3)[1].tolist() == [False] * 3 + [True] * 2
    assert largest_connected(wins, 3).tolist() == [True, True, True, False, False]


def test_of_two_sets_of_one_size_that_of_the_baseline_is_rated() -> None:
    wins = np.zeros((4, 4))
    wins[0, 1] = wins[2, 3] = 1
    assert largest_connected(wins, 3).tolist() == [False, False, True, True]
    assert largest_connected(wins, None).tolist() == [True, True, False, False]
    assert not largest_connected(np.zeros((4, 4)), 0).any()


def test_what_no_comparison_joins_to_the_rest_has_no_rating() -> None:
    here = block([[[1], [1]], [[0], [0]], [[0], [1]], [[NAN]] * 2, [[NAN]] * 2])
    there = block([[[NAN]] * 2, [[NAN]] * 2, [[NAN]] * 2, [[1], [2]], [[2], [1]]], "digits")
    rating = Rating([here, there], 0)
    assert rating.rated.tolist() == [True, True, True, False, False]
    assert np.isfinite(rating.elo).tolist() == rating.rated.tolist()
    assert np.isnan(rating.resampled(draws)[:, 3:]).all()
    assert np.isnan(rating.intervals(draws)[:, 3:]).all()


# --- ratings --------------------------------------------------------------------------------------


def test_ratings_by_hand() -> None:
    # Two variants of two seeds, of which the first wins 3 of 4 runs: w = 1.5 and 0.5.
    values = [[[[1], [1]], [[0], [0]]], [[[1], [0]], [[0], [1]]]]
    rating = Rating([block(values[0]), block(values[1], variant="depth@0.4")], 1)
    assert rating.draw == 0.5
    # By symmetry θ = ±t: 1.5 - 2 σ(2t) + 0.25 - 0.5 σ(t) = 0, at t = 0.474443.
    t = 0.474443
    left = 1.75 - 2 / (1 + math.exp(-2 * t)) - 0.5 / (1 + math.exp(-t))
    assert left == pytest.approx(0, abs=1e-5)
    assert rating.elo[1] == 1000
    assert rating.elo[0] == pytest.approx(1000 + 400 * 2 * t / math.log(10), abs=0.01)


def test_without_a_baseline_the_mean_is_1000() -> None:
    values = drawn(np.array([0, 1, 2.0]), np.random.default_rng(0), 4, 1)
    with_one, without = Rating([block(values)], 2), Rating([block(values)], None)
    assert without.elo.mean() == pytest.approx(1000)
    assert with_one.elo[2] == 1000
    np.testing.assert_allclose(np.diff(with_one.elo), np.diff(without.elo), atol=EXACT)


@pytest.mark.parametrize("strategies", [2, 40])
@pytest.mark.parametrize("seeds", [1, 10])
def test_what_wins_or_loses_everything_has_a_finite_rating(strategies: int, seeds: int) -> None:
    values = drawn(np.zeros(strategies), np.random.default_rng(0), seeds, 1)
    values[0], values[-1] = 99, -99
    rating = Rating([block(values)], None)
    always, never = rating.always
    assert always.tolist() == [True] + [False] * (strategies - 1)
    assert never.tolist() == [False] * (strategies - 1) + [True]
    assert rating.elo.argmax() == 0
    assert rating.elo.argmin() == strategies - 1
    # A single run that orders 40 strategies is all that is known of the widest of these scales.
    assert 1050 < rating.elo[0] < 2700
    assert rating.elo[0] - 1000 == pytest.approx(1000 - rating.elo[-1], rel=0.2)


def test_more_runs_all_won_rate_higher() -> None:
    elo = [Rating([block([[[1]] * seeds, [[0]] * seeds])], 1).elo[0] for seeds in (1, 2, 8)]
    assert 1000 < elo[0] < elo[1] < elo[2]


def test_a_strategy_that_ran_the_easy_variant_alone_gains_nothing_by_it() -> None:
    generator = np.random.default_rng(0)
    strengths = np.array([0, 0.5, 1, 1.5, 1.5])
    easy = 90 + drawn(strengths, generator, 20, 6)
    hard = 10 + drawn(strengths, generator, 20, 6)
    cells = [(f"task-{i}", "accuracy") for i in range(6)]
    hard[-1] = NAN
    twins = easy[-2:].mean(0)
    easy[-2:] = twins  # the same runs, one of them on the easy variant alone
    rating = Rating([block(easy, cells=cells), block(hard, variant="x@0.8", cells=cells)], 0)
    mean = np.nanmean(np.concatenate([easy, hard], 1), (1, 2))
    assert mean[-1] > mean[-2] + 30, "the means over what was run would have it far ahead"
    assert rating.elo[-1] == pytest.approx(rating.elo[-2], abs=40)


def test_a_strategy_that_ran_where_others_are_strong_loses_nothing_by_it() -> None:
    """Two strategies never meet, one against the strong, one against the weak."""
    strengths = np.array([-1.5, -1.5, 0, 0, 1.5, 1.5])
    values = drawn(strengths, np.random.default_rng(0), 4000, 1)
    weak, strong = values[:, :2000].copy(), values[:, 2000:].copy()
    weak[[3, 4, 5]] = NAN
    strong[[2, 0, 1]] = NAN
    everyone = drawn(strengths, np.random.default_rng(1), 2000, 1)
    everyone[2:4] = NAN
    rating = Rating(
        [block(weak), block(strong, variant="b"), block(everyone, variant="c")], baseline=0
    )
    shares = win_shares(rating.wins)
    assert np.isnan(shares[2, 3])
    assert np.nanmean(shares[2]) > 0.8 > 0.2 > np.nanmean(shares[3])
    # Of 2,000 runs a rating has a standard error of about 15.
    assert rating.elo[2] == pytest.approx(rating.elo[3], abs=50)


# --- intervals ------------------------------------------------------------------------------------


def test_intervals_hold_the_rating_and_the_baseline_stands_still() -> None:
    values = drawn(np.array([0, 0.3, 1, -1]), np.random.default_rng(0), 6, 3)
    cells = [(f"task-{i}", "accuracy") for i in range(3)]
    rating = Rating([block(values, cells=cells)], 0)
    low, high = rating.intervals(draws)
    assert low[0] == high[0] == 1000
    assert (low <= rating.elo).all()
    assert (rating.elo <= high).all()
    assert (low[1:] < high[1:]).all()


def test_every_resample_is_the_rating_of_the_drawn_seeds() -> None:
    generator = np.random.default_rng(0)
    parts = [
        block(drawn(np.array([0, 1, 2.0]), generator, seeds, 1), suite, variant)
        for suite, variant, seeds in (("a", "clean", 3), ("a", "x@0.4", 3), ("b", "clean", 4))
    ]
    rating = Rating(parts, 0)
    resampled = rating.resampled(draws)
    for number in range(0, 300, 23):
        wins = np.zeros((3, 3))
        for part in parts:
            shares, which = draws(part.suite, tuple(map(int, part.seeds)))
            wins += np.tensordot(shares[which[number]], wins_by_seed(part), 1)
        theta = bradley_terry(wins, rating.draw)
        expected = 1000 + SCALE * (theta - theta[0])
        np.testing.assert_allclose(resampled[number], expected, atol=1e-6)


def test_a_strategy_with_a_single_seed_somewhere_has_a_rating_and_no_interval() -> None:
    values = drawn(np.array([0, 0.5, 1]), np.random.default_rng(0), 4, 1)
    values[2, 1:] = NAN
    rating = Rating([block(values)], 0)
    low, high = rating.intervals(draws)
    assert np.isfinite(rating.elo).all()
    assert np.isfinite(low).tolist() == np.isfinite(high).tolist() == [True, True, False]


def test_resamples_without_a_strategys_seeds_say_nothing_of_it() -> None:
    values = drawn(np.array([0, 0.5, 1]), np.random.default_rng(0), 6, 1)
    values[2, 2:] = NAN
    rating = Rating([block(values)], 0)
    resampled = rating.resampled(draws)
    missing = np.isnan(resampled[:, 2])
    assert 0.05 < missing.mean() < 0.3, "(4/6)⁵ = 0.13 of them"
    assert np.isfinite(resampled[:, :2]).all()
    assert np.isfinite(rating.intervals(draws)).all()


def test_without_a_baseline_what_is_missing_in_a_resample_does_not_shift_the_others() -> None:
    values = drawn(np.array([0, 0.2, 0.4, -6]), np.random.default_rng(0), 6, 1)
    values[3, 2:] = NAN
    rating = Rating([block(values)], None)
    resampled = rating.resampled(draws)
    missing = np.isnan(resampled[:, 3])
    assert missing.any()
    others = rating.elo[:3].mean()
    np.testing.assert_allclose(resampled[missing, :3].mean(1), others, atol=EXACT)


def test_variants_with_the_same_seeds_are_resampled_together() -> None:
    generator = np.random.default_rng(0)
    values = drawn(np.array([0, 1.0]), generator, 6, 1)
    one = Rating([block(values)], 0)
    twice = Rating([block(values), block(values, variant="x@0.4")], 0)
    twice.draw *= 2  # beside twice as many wins
    np.testing.assert_allclose(
        twice.resampled(draws)[:, 1] - twice.elo[1], one.resampled(draws)[:, 1] - one.elo[1], atol=9
    )


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 9))
def test_the_order_of_strategies_changes_no_rating_and_no_interval(
    order: list[int], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    values = drawn(np.array([0, 0.5, 1, -1]), generator, 4, 1)
    values[2, :2] = NAN
    one, other = Rating([block(values)], 0), Rating([block(values[order])], order.index(0))
    np.testing.assert_allclose(other.elo, one.elo[order], atol=EXACT)
    np.testing.assert_allclose(
        other.intervals(draws), one.intervals(draws)[:, order], atol=1e-7, equal_nan=True
    )


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    strengths = np.array([0, 0.4, 0.8, -0.5])
    truth = 1000 + SCALE * strengths
    cells = [(f"task-{i}", "accuracy") for i in range(2)]
    covered = []
    for study in range(150):
        generator = np.random.default_rng(study)
        parts = [
            block(drawn(strengths, generator, 12, 2), f"suite-{i}", cells=cells) for i in range(2)
        ]
        parts[1].values[2] = NAN  # one strategy was not run on one of them
        low, high = Rating(parts, 0).intervals(draws)
        covered.append((low <= truth) & (truth <= high))
    share = np.mean(covered, 0)
    assert share[0] == 1
    # 150 studies: a share of 0.95 has a standard error of 0.018; 24 units make it a bit less.
    assert (share[1:] > 0.88).all()
    assert share[1:].mean() < 0.99


def test_a_thousand_resamples_of_45_strategies_take_less_than_two_seconds() -> None:
    generator = np.random.default_rng(0)
    strengths = generator.normal(size=45)
    cells = [(f"task-{i}", "accuracy") for i in range(3)]
    parts = [
        block(drawn(strengths, generator, 10, 3), f"suite-{suite}", f"{variant}", cells)
        for suite in range(3)
        for variant in range(4)
    ]

    def thousand(suite: str, seeds: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        return draw_seeds(len(seeds), 1000, *suite.encode(), *seeds)

    started = time.process_time()
    intervals = Rating(parts, 0).intervals(thousand)
    taken = time.process_time() - started
    assert np.isfinite(intervals).all()
    assert taken < 2, f"{taken:.2f} s of CPU time; 0.3 to 0.6 s were measured"
