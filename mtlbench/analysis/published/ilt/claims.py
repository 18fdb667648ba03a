"""The paper's five claims, held against our runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mtlbench.analysis.aggregate import Comparison
from mtlbench.analysis.printing import MISSING
from mtlbench.analysis.published.agreement import Ranking
from mtlbench.analysis.published.ilt.tables import LABELS, corrupted_tasks
from mtlbench.store.runs import StoredRun, read_run
from mtlbench.store.schema import DONE
from mtlbench.tasks.detection import DETECTION

SHOWS_IN = {"pose": "vertices", "shape": "vertices"}
"""Tasks without a metric of their own, to the task whose metrics show their errors."""

YES, NO, CANNOT_TELL = "yes", "no", "cannot tell"

FOUND = 96.0
"""Detection accuracy (%) that counts as having found the corrupted labels: Table 7's lowest."""

EARLY = 0.95
"""Share of the last epoch's detection accuracy that counts as having found them by then."""

NO_OVERHEAD = 1.05
"""Ratio of training times up to which a strategy costs nothing that could be measured here."""


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, held against our runs.

    Attributes:
        sentence: the claim.
        verdict: `YES`, `NO` or `CANNOT_TELL`, of our runs.
        paper: the verdict by the same rule of the published tables; "" where they cannot give one.
        evidence: the numbers behind the verdict, and its rule where the sentence leaves it open.
    """

    sentence: str
    verdict: str
    paper: str
    evidence: list[str]


Runs = Mapping[tuple[str, str], Mapping[int, StoredRun]]
"""(variant, method) to the runs that are done, by seed."""


def judge_claims(
    rankings: Sequence[Ranking],
    comparison: Comparison,
    table: pd.DataFrame,
    variants: Mapping[str, str],
) -> list[Claim]:
    """The five claims, in the order of the paper.

    Args:
        rankings: ours and the paper's, of `variants`.
        comparison: our numbers, and the runs that they are from.
        table: the published numbers of one dataset.
        variants: our variants to the published ones.
    """
    labels = comparison.metric_labels
    runs = _runs(comparison, list(variants))
    return [
        _clean_labels(rankings, labels),
        _corrupted_labels(rankings, labels, table, variants),
        _spread(rankings),
        _found_early(runs, table, variants),
        _no_overhead(runs),
    ]


def _runs(comparison: Comparison, variants: Sequence[str]) -> Runs:
    rows = comparison.runs[comparison.runs["variant"].isin(list(variants))]
    rows = rows[rows["configuration"].isin(list(comparison.labels))]
    rows = rows[(rows["status"] == DONE) & (rows["path"] != "")].drop_duplicates("hash")
    return {
        (str(variant), str(method)): {
            int(seed): read_run(Path(path))
            for seed, path in zip(cells["seed"], cells["path"], strict=True)
        }
        for (variant, method), cells in rows.groupby(["variant", "strategy"], sort=False)
        if method in ("equal", "ilt")
    }


def _all(verdicts: Iterable[str]) -> str:
    """Of a claim about every one of several things."""
    found = set(verdicts)
    return NO if NO in found else YES if found == {YES} else CANNOT_TELL


def _within(ranking: Ranking, column: str, bar: int) -> str:
    """Whether ILT is among the best `bar`, whatever the methods that are missing may do."""
    ranks = ranking.ranks(column)
    if "ilt" not in ranks:
        return CANNOT_TELL
    missing = ranking.table[column].isna().sum()
    return NO if ranks["ilt"] > bar else YES if ranks["ilt"] + missing <= bar else CANNOT_TELL


# --- from means and standard deviations ---------------------------------------------------------


def _clean_labels(rankings: Iterable[Ranking], labels: Mapping[tuple[str, str], str]) -> Claim:
    clean = [ranking for ranking in rankings if not corrupted_tasks(ranking.variant)]
    evidence = [
        f"{ranking.task} {labels[ranking.metric, ranking.task]} {_ilt_place(ranking, 'ours')} "
        f"(paper {_ilt_place(ranking, 'paper')})"
        for ranking in clean
    ]
    verdicts = [_within(ranking, "ours", 2) for ranking in clean]
    return Claim(
        "On clean labels ILT is best or second best on every metric",
        _all(verdicts),
        _all(_within(ranking, "paper", 2) for ranking in clean),
        [f"ILT's place: {', '.join(evidence)}", *_absent(clean, verdicts)]
        if clean
        else ["no clean runs"],
    )


def _ilt_place(ranking: Ranking, column: str) -> str:
    ranks = ranking.ranks(column)
    return f"{ranks['ilt']} of {len(ranks)}" if "ilt" in ranks else MISSING


def _corrupted_labels(
    rankings: Iterable[Ranking],
    labels: Mapping[tuple[str, str], str],
    table: pd.DataFrame,
    variants: Mapping[str, str],
) -> Claim:
    corrupted = [ranking for ranking in rankings if corrupted_tasks(ranking.variant)]
    verdicts: dict[str, list[str]] = {"ours": [], "paper": []}
    evidence = []
    for variant, name in variants.items():
        group = [ranking for ranking in corrupted if ranking.variant == variant]
        if not group:
            continue
        affected = {SHOWS_IN.get(task, task) for task in corrupted_tasks(variant)}
        metrics = set(table.loc[table["variant"] == name, "metric"]) - {DETECTION}
        told = {}
        for column in verdicts:
            best = sum(ranking.ranks(column).get("ilt") == 1 for ranking in group)
            told[column] = f"best on {best} of {len(group)} metrics"
            falls = [(_fall(ranking, column), ranking) for ranking in group]
            falls = [(fall, ranking) for fall, ranking in falls if not math.isnan(fall)]
            most = CANNOT_TELL
            if len(falls) == len(metrics):
                fall, top = max(falls, key=lambda pair: pair[0])
                most = YES if top.task in affected else NO
                label = labels[top.metric, top.task]
                told[column] += f", error falls most ({fall:.1f} %) on {label} of {top.task}"
            verdicts[column] += [*(_within(ranking, column, 1) for ranking in group), most]
        evidence.append(f"{variant}: {told['ours']}; paper: {told['paper']}")
    rule = (
        "the fall is from equal weights; of an accuracy or IoU, what it lacks to 100 % is the error"
    )
    return Claim(
        "On corrupted labels ILT is best on every metric, and by the most on the corrupted task",
        _all(verdicts["ours"]),
        _all(verdicts["paper"]),
        [*evidence, *_absent(corrupted, verdicts["ours"]), rule]
        if evidence
        else ["no runs on corrupted labels"],
    )


def _fall(ranking: Ranking, column: str) -> float:
    """By how much ILT has less error than equal weights (%)."""
    means = ranking.table[column]
    errors = 100 - means if ranking.direction == "max" else means
    return 100 * (1 - errors["ilt"] / errors["equal"]) if errors["equal"] else math.nan


def _absent(rankings: Sequence[Ranking], verdicts: Iterable[str]) -> list[str]:
    """Which methods leave it open, where it is."""
    missing = [
        method
        for method in LABELS
        if any(pd.isna(ranking.table["ours"][method]) for ranking in rankings)
    ]
    if _all(verdicts) != CANNOT_TELL or not missing:
        return []
    return [f"open without all the numbers of {', '.join(missing)}"]


def _spread(rankings: Iterable[Ranking]) -> Claim:
    verdicts, told = {}, {}
    for column in ("std", "paper_std"):
        below = lowest = count = 0
        for ranking in rankings:
            stds = ranking.table[column].dropna()
            others = stds.drop("ilt", errors="ignore")
            if "ilt" in stds and len(others) > 1:
                count += 1
                below += bool(stds["ilt"] < others.median())
                lowest += bool(stds["ilt"] <= others.min())
        verdicts[column] = CANNOT_TELL if not count else YES if 2 * below > count else NO
        told[column] = f"below in {below} of {count}, lowest in {lowest}"
    return Claim(
        "ILT's standard deviation over seeds is lower",
        verdicts["std"],
        verdicts["paper_std"],
        [
            f"against the median of the other methods: {told['std']}; paper: {told['paper_std']}",
            "yes where it is below in more than half; a std over 3 runs is itself known to ±50 %",
        ],
    )


# --- from histories and times -------------------------------------------------------------------


def _found_early(runs: Runs, table: pd.DataFrame, variants: Mapping[str, str]) -> Claim:
    found = table[table["metric"] == DETECTION].set_index("variant")["mean"]
    verdicts, evidence = [], []
    for variant, name in variants.items():
        histories = [run.history() for run in runs.get((variant, "ilt"), {}).values()]
        for task in corrupted_tasks(variant):
            column = f"{DETECTION}/{task}"
            if not histories or column not in histories[0] or len(histories[0][column]) < 3:
                continue
            curve = np.stack([history[column] for history in histories]).mean(axis=0)
            third = len(curve) // 3
            early, last = curve[third - 1], curve[-1]
            verdicts.append(YES if last >= FOUND and early >= EARLY * last else NO)
            evidence.append(
                f"{variant}, {task}: {early:.1f} % by epoch {third} of {len(curve)}, "
                f"{last:.1f} % at the end (paper: {found[name]:.2f} %)"
            )
    rule = (
        f"yes where the end is at least {FOUND:g} %, Table 7's lowest, and the first third "
        f"reaches {100 * EARLY:g} % of it"
    )
    return Claim(
        "ILT finds the corrupt labels, within the first third of training",
        _all(verdicts),
        "",
        [*evidence, rule] if evidence else ["no detection accuracy in the runs"],
    )


def _no_overhead(runs: Runs) -> Claim:
    ratios = []
    for (variant, method), ilt in runs.items():
        equal = runs.get((variant, "equal"), {}) if method == "ilt" else {}
        for seed in ilt.keys() & equal.keys():
            if ilt[seed].info["device"] == equal[seed].info["device"]:
                ours, plain = (r[seed].info["timings"]["train_seconds"] for r in (ilt, equal))
                ratios.append(ours / plain)
    sentence = "ILT takes no measurable time more"
    if len(ratios) < 3:
        return Claim(sentence, CANNOT_TELL, "", ["fewer than three pairs of runs to time"])
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    verdict = YES if median <= NO_OVERHEAD else NO if low > 1 else CANNOT_TELL
    evidence = (
        f"training time of ilt over equal, same variant and seed: median {median:.2f}, quartiles "
        f"{low:.2f} and {high:.2f} of {len(ratios)} pairs; wall time, so noisy where runs shared "
        "a machine"
    )
    return Claim(sentence, verdict, "", [evidence])
