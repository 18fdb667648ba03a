"""Rows of results that are asked for, in the order in which tables show them."""

import re
from collections.abc import Iterable

import pandas as pd

from mtlbench.analysis.settings import configuration
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError, listed, require_known

APART = ("single",)
"""Strategies that others are held against: first in a table, and not ranked among them."""

PAPER_ORDER = (*APART, "equal", "mtu", "dwa", "gls")


def configured(results: pd.DataFrame) -> pd.DataFrame:
    """The same rows with one more column `configuration`: the strategy's key with its settings."""
    keys = map(configuration, results["strategy"], results["settings"])
    return results.assign(configuration=pd.Series(keys, index=results.index, dtype=object))


def first_seeds(results: pd.DataFrame, seeds: int | None) -> pd.DataFrame:
    """The rows of the first so many seeds, counted from 0; all where None.

    Raises:
        UserError: that is no number of seeds.
    """
    if seeds is None:
        return results
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise UserError(f"seeds must be at least 1, but is {seeds!r}")
    return results[results["seed"] < seeds]


def select(
    results: pd.DataFrame,
    suite: str,
    variants: Iterable[str] | None = None,
    strategies: Iterable[str] | None = None,
    metrics: Iterable[str] | None = None,
) -> pd.DataFrame:
    """The rows of one suite that are asked for, in the order in which tables show them.

    Args:
        results: rows as from `load_results`, in any order.
        suite: the suite's name.
        variants: names of variants; all by default.
        strategies: keys of strategies, with settings (`ilt[ilt.lr=4.0]`) or without, which
            stands for all settings; all by default.
        metrics: names of metrics; all by default. Runs without metrics stay, to be counted.

    Returns:
        Those rows, with one more column `configuration`: the strategy's key with its settings.

    Raises:
        UserError: a name is not among the results.
    """
    require_known("suite", [suite], results["suite"].unique())
    variants, strategies = listed("variant", variants), listed("strategy", strategies)
    metrics = listed("metric", metrics)
    # The index keeps the order of loading, whatever was done to the rows since.
    frame = configured(results[results["suite"] == suite].sort_index())
    if variants is not None:
        require_known("variant", variants, frame["variant"].unique())
        frame = frame[frame["variant"].isin(variants)]
    if strategies is not None:
        known = [*frame["strategy"].unique(), *frame["configuration"].unique()]
        require_known("strategy", strategies, known)
        asked = frame["strategy"].isin(strategies) | frame["configuration"].isin(strategies)
        frame = frame[asked]
    if metrics is not None:
        require_known("metric", metrics, frame["metric"].dropna().unique())
        frame = frame[frame["metric"].isin(metrics) | frame["metric"].isna()]
    if variants is None:
        variants = sorted(frame["variant"].unique(), key=_clean_first)
    place = {variant: number for number, variant in enumerate(variants)}
    first = frame.drop_duplicates("configuration")
    order = {
        configuration: (paper_order(strategy), _natural(settings))
        for configuration, strategy, settings in zip(
            first["configuration"], first["strategy"], first["settings"], strict=True
        )
    }
    keys = [
        (place[variant], order[configuration], seed)
        for variant, configuration, seed in zip(
            frame["variant"], frame["configuration"], frame["seed"], strict=True
        )
    ]
    return frame.iloc[sorted(range(len(frame)), key=keys.__getitem__)]


def is_apart(configuration: str) -> bool:
    """Whether a strategy's key, with settings or without, is that of one of `APART`."""
    return configuration.partition("[")[0] in APART


# --- order --------------------------------------------------------------------------------------


def _natural(text: str) -> list[tuple[float, str]]:
    """A sort key by which "lr=2.0" comes before "lr=10.0"."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", text)
    return [(float(p), "") if p[0].isdecimal() else (float("inf"), p) for p in parts]


def _clean_first(variant: str) -> tuple[bool, list[tuple[float, str]]]:
    return variant != CLEAN, _natural(variant)


def paper_order(strategy: str) -> tuple[int, str]:
    """Sorts strategies as the paper does: its own first, ILT last, all others between; before all
    of them those that stand apart."""
    if strategy in PAPER_ORDER:
        return PAPER_ORDER.index(strategy), ""
    last = strategy == "ilt" or strategy.startswith("ilt+")
    return len(PAPER_ORDER) + last, strategy
