"""Sentences about what the numbers of a scope rest on."""

from collections import defaultdict

import numpy as np

from mtlbench.analysis import statistics
from mtlbench.analysis.cells import block_names, cell_name, missing
from mtlbench.analysis.remarks import on_validation_labels, plural
from mtlbench.analysis.scope import Scope

FEW_SEEDS = 5
"""Of fewer seeds, bootstrap intervals are clearly too short."""


def notes(scope: Scope) -> list[str]:
    """Sentences about what the numbers of a scope rest on."""
    found = [_extent(scope), *_tests(scope), *_baseline(scope), *_intervals(scope), *_rating(scope)]
    for block in scope.without_results:
        found.append(f"{block.name}: no run has results")
    for i, block in scope.parts.items():
        for cell in scope.field.blocks[i].cells:
            if cell not in block.cells:
                found.append(f"{block.name}: no run has a finite {cell_name(cell)}")
    labels = map(scope.field.label, scope.strategies)
    return [*found, *_incomplete(scope), *on_validation_labels(labels)]


def _extent(scope: Scope) -> str:
    suites = len({block.suite for block in scope.parts.values()})
    return (
        f"{_count(len(scope.units), 'unit')} (a suite with a seed), "
        f"{_count(scope.total, 'cell')} in {_count(len(scope.parts), 'variant')} of "
        f"{_count(suites, 'suite')}"
    )


def _tests(scope: Scope) -> list[str]:
    found: list[str] = []
    level = f"{100 * statistics.ALPHA:g} %"
    units = _count(len(scope.units), "unit")
    test = scope.friedman
    if test:
        found.append(
            f"Friedman's test of {len(test.strategies)} strategies over {units}: χ² = "
            f"{test.statistic:.1f}, p = {test.p_value:.2g}; "
            + (
                f"average ranks at least {test.critical_difference:.2f} apart differ (Nemenyi)"
                if test.rejected
                else "no difference shown"
            )
        )
    elif len(scope.complete) > 2:
        found.append(f"{units}: too few for Friedman's test to reject at {level}")
    if scope.base is None or not scope.others:
        return found
    tests = len(scope.others)
    some = f"any of {tests} tests" if tests > 1 else "a test"
    baseline = scope.field.label(scope.complete[scope.base])
    too_few = f"too few for {some} against {baseline} to reject at {level}; "
    too_few += f"{statistics.pairs_needed(tests)} are needed"
    if scope.held_by_seed and not scope.testable(len(scope.units)):
        found.append(f"{units}: {too_few}")
    if scope.held_by_variant:
        variants = _count(len(scope.blocks), "variant")
        able = scope.testable(len(scope.blocks))
        found.append(
            "what was tuned is tested over variants, in each of which it was tuned once, and its "
            f"intervals say nothing of other tunings: {variants}{'' if able else f', {too_few}'}"
        )
    return found


def _baseline(scope: Scope) -> list[str]:
    field = scope.field
    if scope.base is None:
        if field.baseline in field.strategies:
            label = field.labels[field.baseline]
            return [
                f"{label} is incomplete: no Δm and no test against it; Better and W, T, L are of "
                "the cells and seeds that it shares"
            ]
        alike = [s for s in field.strategies if s.startswith(f"{field.baseline}[")]
        stands = f"the baseline {field.baseline!r} "
        stands += f"stands for {', '.join(alike)}" if alike else "has no runs"
        return [f"{stands}: nothing can be held against it"]
    return [
        f"Δm leaves out {cell_name(cell)} in {block.name}, where "
        f"{scope.field.label(scope.complete[scope.base])} is 0"
        for block in scope.blocks.values()
        for cell, zero in zip(block.cells, block.values[scope.base].mean(0) == 0, strict=True)
        if zero
    ]


def _intervals(scope: Scope) -> list[str]:
    rated = scope.rating.blocks if scope.rating else []
    blocks = list(scope.blocks.values()) if scope.complete else rated
    fewest = min((len(block.seeds) for block in blocks), default=FEW_SEEDS)
    if fewest >= FEW_SEEDS:
        return []
    if fewest == 1:
        places = defaultdict(list)
        for block in blocks:
            if len(block.seeds) == 1:
                places[block.suite].append(block.variant)
        known = scope.rating is not None and scope.rating.varied.any()
        of = " of mean rank and Δm" if known else ""
        return [f"no intervals{of}: a single seed of {block_names(places)}"]
    return [f"intervals from {fewest} seeds are shorter than 95 % intervals should be"]


def _rating(scope: Scope) -> list[str]:
    rating = scope.rating
    if rating is None:
        return ["no Elo: there are no two strategies to compare"]
    labels = np.array([scope.field.label(scope.strategies[i]) for i in scope.players], dtype=object)
    always, never = rating.always
    told = [
        (~rating.rated, "no Elo of {}: no cell and seed in common with those that have one"),
        (always, "{} won every comparison: a draw alone keeps that Elo from being higher"),
        (never, "{} lost every comparison: a draw alone keeps that Elo from being lower"),
    ]
    if rating.varied.any():
        alone = rating.rated & ~rating.varied
        told.append((alone, "no interval of the Elo of {}: in some variant a single seed"))
    return [text.format(", ".join(labels[those])) for those, text in told if those.any()]


def _incomplete(scope: Scope) -> list[str]:
    alike: dict[str, list[str]] = defaultdict(list)
    for position, strategy in enumerate(scope.strategies):
        if strategy not in scope.complete:
            text = missing(list(scope.parts.values()), position)
            alike[text].append(scope.field.label(strategy))
    found = [f"incomplete: {', '.join(labels)} ({text})" for text, labels in alike.items()]
    # Often, only some strategies were trained on some variants.
    there = {i: (block.status != "").any(1) for i, block in scope.parts.items()}
    by_all = [i for i in there if there[i].all()]
    if len(by_all) < len(there) and by_all:
        rest = np.array([scope.parts[i].whole().all(1) for i in by_all]).all(0).sum()
        left_out = [i for i in there if i not in by_all]
        if rest > len(scope.complete):
            fewer = min(left_out, by_all, key=len)
            places = defaultdict(list)
            for i in fewer:
                places[scope.parts[i].suite].append(scope.parts[i].variant)
            where = f"{'without' if fewer is left_out else 'on only'} {block_names(places)}"
            found.append(f"{rest} strategies are complete {where}")
    return found


def _count(number: int, word: str) -> str:
    return f"{number} {plural(word, number)}"
