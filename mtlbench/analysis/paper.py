"""The published numbers beside ours: what agrees and what does not.

The paper is Vasu, Saxena & Tuzel (2021), arXiv 2106.06129; `paper_tables.csv` holds its Tables 1
to 7, in which methods marked * are cited from other papers. Two suites are the paper's datasets,
two stand in for them on generated data. Numbers of a stand-in differ in size from the published
ones by nature; what can agree is the order of the methods and their gap to equal weights.
"""

import html
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtlbench.analysis import sheets
from mtlbench.analysis.aggregate import (
    DETECTION,
    SUMMARY_COLUMNS,
    Comparison,
    _paper_order,
    load_results,
    select,
)
from mtlbench.analysis.sheets import Section, Sheet
from mtlbench.analysis.tables import (
    ARROWS,
    FORMATS,
    LEGEND,
    MISSING,
    Cell,
    _cells,
    _digits,
    _markdown,
    _ranks,
    decimals,
)
from mtlbench.errors import UserError, unknown
from mtlbench.store import DONE, StoredRun, read_run

DATASETS = {
    "surreal": "surreal",
    "bodies": "surreal",
    "cityscapes": "cityscapes",
    "streets": "cityscapes",
}
"""Suite to the dataset of the paper that it is, or stands in for."""

TASK_OF = {
    "surface_error": "vertices",
    "mpjpe": "vertices",
    "pixel_accuracy": "segmentation",
    "miou": "segmentation",
    "abs_err": "depth",
}
"""Published metric to our task; detection belongs to the task that is corrupted."""

SHOWS_IN = {"pose": "vertices", "shape": "vertices"}
"""Tasks without a metric of their own, to the task whose metrics show their errors."""

LABELS = {
    "equal": "Eq. Weight", "mtu": "MTU", "dwa": "DWA", "gls": "GLS", "ilt": "ILT Params",
}  # fmt: skip
"""The methods that the paper ran itself, as its tables call them."""

ROW_COLUMNS = [
    *SUMMARY_COLUMNS, "paper_mean", "paper_std", "paper_runs", "paper_table",
    "gap", "paper_gap", "same_sign", "difference", "z",
]  # fmt: skip
AGREEMENT_COLUMNS = [
    "variant", "metric", "task", "methods", "tau", "order", "paper_order", "best", "paper_best",
    "same_best", "ilt_rank", "paper_ilt_rank", "ilt_lowest_std", "paper_ilt_lowest_std",
]  # fmt: skip

YES, NO, CANNOT_TELL = "yes", "no", "cannot tell"

FOUND = 96.0
"""Detection accuracy (%) that counts as having found the corrupted labels: Table 7's lowest."""

EARLY = 0.95
"""Share of the last epoch's detection accuracy that counts as having found them by then."""

NO_OVERHEAD = 1.05
"""Ratio of training times up to which a strategy costs nothing that could be measured here."""

CLAIMS = "The paper's claims, on these runs"


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


@dataclass(frozen=True)
class Against:
    """A comparison beside the published numbers.

    Attributes:
        suite: the suite's name.
        dataset: the dataset of the paper.
        rows: one row per (variant, metric, task, strategy) with the columns `ROW_COLUMNS` and
            `paper_text`, the published number as it is printed. `gap` and `paper_gap` are what a
            strategy is better (+) or worse (−) than equal weights (%), `same_sign` whether the
            two gaps have one sign. `difference` (ours − the paper's) and `z`, the difference over
            √(std² + std²), are given only where the data are the paper's.
        agreement: one row per (variant, metric, task), with the columns `AGREEMENT_COLUMNS`, over
            the methods that both have. Ranks are dense: means that print the same share one.
        claims: the paper's five claims.
        labels: what printed tables call each strategy of `rows`.
        metric_labels: what printed tables call each (metric, task).
        remarks: for each variant of `rows`, sentences about runs that are missing.
        left_out: sentences about variants that only one side has.
    """

    suite: str
    dataset: str
    rows: pd.DataFrame
    agreement: pd.DataFrame
    claims: list[Claim]
    labels: dict[str, str]
    metric_labels: dict[tuple[str, str], str]
    remarks: dict[str, list[str]]
    left_out: list[str]

    @property
    def stands_in(self) -> bool:
        return self.suite != self.dataset


@cache
def published() -> pd.DataFrame:
    """The paper's tables: one row per (dataset, variant, method, metric).

    Returns:
        The columns of `paper_tables.csv`, and `text`: mean and standard deviation as printed.
    """
    frame = pd.read_csv(Path(__file__).with_name("paper_tables.csv"), dtype=str)
    text = frame["mean"] + (" ± " + frame["std"]).fillna("")
    kinds: Any = {"table": int, "mean": float, "std": float, "runs": "Int64"}
    return frame.astype(kinds).assign(text=text)


def against_paper(comparison: Comparison, results: str | Path) -> Against:
    """Puts the published numbers beside a comparison.

    A variant is compared with the published one that corrupts the same tasks, whatever their
    order, at the same fraction by the default kind. Published detection of tasks that are
    corrupted together is one number, and stands beside that of each of them.

    Args:
        comparison: of all runs in `results` that match a suite, variants, strategies.
        results: the results directory, for the histories and timings of the same runs.

    Raises:
        UserError: nothing is published about the suite or any of the variants, or a strategy has
            runs with several settings, so that it would be unclear which are meant.
    """
    suite = comparison.suite
    if suite not in DATASETS:
        raise UserError(
            f"the paper has no numbers for suite {suite!r}; it has some for "
            + ", ".join(map(repr, DATASETS))
        )
    dataset = DATASETS[suite]
    table = published()
    table = table[table["dataset"] == dataset]
    names = {_variant_key(name): name for name in table["variant"].unique()}
    variants = {
        variant: names[_variant_key(variant)]
        for variant in comparison.variants
        if _variant_key(variant) in names
    }
    if not variants:
        raise UserError(
            f"the paper has no numbers for {', '.join(map(repr, comparison.variants))}; it has "
            f"some for {', '.join(map(repr, names.values()))}"
        )
    _require_one_setting(comparison, variants)

    rows = _rows(comparison, table, variants, comparable=suite == dataset)
    if rows.empty:
        raise UserError(
            f"no run of suite {suite!r} has a metric that the paper has: "
            + ", ".join(map(repr, table["metric"].unique()))
        )
    rankings = list(_rankings(rows))
    runs = _runs(comparison, results, list(variants))
    left_out = []
    extra = [name for name in comparison.variants if name not in variants]
    missing = [name for name in names.values() if name not in variants.values()]
    if extra:
        left_out.append(f"not in the paper: {', '.join(extra)}")
    if missing:
        left_out.append(f"in the paper, but not compared here: {', '.join(missing)}")
    return Against(
        suite=suite,
        dataset=dataset,
        rows=rows,
        agreement=_agreement(rankings),
        claims=[
            _clean_labels(rankings, comparison.metric_labels),
            _corrupted_labels(rankings, comparison.metric_labels, table, variants),
            _spread(rankings),
            _found_early(runs, table, variants),
            _no_overhead(runs),
        ],
        labels={name: name for name in rows["strategy"]} | LABELS | comparison.labels,
        metric_labels=comparison.metric_labels,
        remarks={name: comparison.remarks[name] for name in variants},
        left_out=left_out,
    )


# --- rows ---------------------------------------------------------------------------------------


def _variant_key(variant: str) -> tuple[frozenset[str], str]:
    """What makes two spellings the same variant: the tasks of its one clause and all the rest."""
    tasks, _, rest = variant.partition("@")
    return frozenset(tasks.split("+")), rest


def _corrupted_tasks(variant: str) -> list[str]:
    """The tasks that a published variant corrupts, on the same instances."""
    tasks, separator, _ = variant.partition("@")
    return tasks.split("+") if separator else []


def _method(strategy: str) -> str:
    """The strategy without its settings: `ilt` of `ilt[ilt.lr=4.0]`."""
    return strategy.partition("[")[0]


def _require_one_setting(comparison: Comparison, variants: Iterable[str]) -> None:
    for variant in variants:
        summary = comparison.summary[comparison.summary["variant"] == variant]
        configurations = pd.Series(summary["strategy"].unique())
        for method, same in configurations.groupby(configurations.map(_method)):
            if len(same) > 1:
                raise UserError(
                    f"{variant}: there are several settings of strategy {method!r}; "
                    f"choose by --strategies from {', '.join(map(repr, same))}"
                )


def _rows(
    comparison: Comparison, table: pd.DataFrame, variants: Mapping[str, str], *, comparable: bool
) -> pd.DataFrame:
    records: list[dict[str, Any]] = []
    for variant, name in variants.items():
        ours = comparison.summary[comparison.summary["variant"] == variant]
        for metric, theirs in table[table["variant"] == name].groupby("metric", sort=False):
            tasks = _corrupted_tasks(variant) if metric == DETECTION else [TASK_OF[str(metric)]]
            for task in tasks:
                if (str(metric), task) in comparison.metric_labels:
                    cells = ours[(ours["metric"] == metric) & (ours["task"] == task)]
                    records += [
                        {"suite": comparison.suite, "variant": variant, "task": task, **record}
                        for record in _cell_rows(cells, theirs, comparable=comparable)
                    ]
    frame = pd.DataFrame(records, columns=[*ROW_COLUMNS, "paper_text"])
    return frame.astype({"n": int, "paper_runs": "Int64", "paper_table": "Int64"}).astype(
        {"same_sign": "boolean"}
    )


def _cell_rows(
    ours: pd.DataFrame, theirs: pd.DataFrame, *, comparable: bool
) -> Iterator[dict[str, Any]]:
    """One row a strategy, of one metric of one variant."""
    here = {str(row["strategy"]): row for row in ours.to_dict("records")}
    there = {str(row["method"]): row for row in theirs.to_dict("records")}
    direction = theirs["direction"].iloc[0]
    unit = ours["unit"].iloc[0] if len(ours) else theirs["unit"].iloc[0]
    base = next((row["mean"] for key, row in here.items() if _method(key) == "equal"), math.nan)
    paper_base = there["equal"]["mean"] if "equal" in there else math.nan
    known = {_method(key) for key in here}
    strategies = [*here, *(method for method in there if method not in known)]
    for strategy in sorted(strategies, key=_cited_last):
        our = here.get(strategy, {"mean": math.nan, "std": math.nan, "n": 0})
        paper = there.get(_method(strategy), {})
        mean, paper_mean = float(our["mean"]), float(paper.get("mean", math.nan))
        std, paper_std = float(our["std"]), float(paper.get("std", math.nan))
        gap, paper_gap = _gap(mean, base, direction), _gap(paper_mean, paper_base, direction)
        no_sign = _method(strategy) == "equal" or math.isnan(gap) or math.isnan(paper_gap)
        difference = mean - paper_mean if comparable else math.nan
        spread = math.hypot(std, paper_std)
        yield {
            "strategy": strategy,
            "metric": theirs["metric"].iloc[0],
            "unit": unit,
            "direction": direction,
            "mean": mean,
            "std": std,
            "n": our["n"],
            "paper_mean": paper_mean,
            "paper_std": paper_std,
            "paper_runs": paper.get("runs", pd.NA),
            "paper_table": paper.get("table", pd.NA),
            "gap": gap,
            "paper_gap": paper_gap,
            "same_sign": pd.NA if no_sign else np.sign(gap) == np.sign(paper_gap),
            "difference": difference,
            "z": difference / spread if spread else math.nan,
            "paper_text": paper.get("text", ""),
        }


def _cited_last(strategy: str) -> tuple[bool, tuple[int, str]]:
    return strategy.endswith("*"), _paper_order(_method(strategy))


def _gap(value: float, equal: float, direction: str) -> float:
    """How much better (+) than equal weights a value is (%)."""
    better = value - equal if direction == "max" else equal - value
    return 100 * better / abs(equal) if equal else math.nan


# --- order --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """One metric of one variant, over the five methods that the paper ran.

    Attributes:
        variant, metric, task, direction: which.
        table: columns `ours`, `std`, `paper`, `paper_std` by method; NaN where there is none. Our
            means are rounded as they print, like the paper's.
    """

    variant: str
    metric: str
    task: str
    direction: str
    table: pd.DataFrame

    def ranks(self, column: str, methods: Iterable[str] | None = None) -> pd.Series:
        """Dense ranks from 1, the best, among some methods or all."""
        values = self.table[column] if methods is None else self.table.loc[list(methods), column]
        return values.dropna().rank(method="dense", ascending=self.direction == "min").astype(int)

    @property
    def both(self) -> list[str]:
        """The methods with a mean on both sides."""
        return list(self.table.dropna(subset=["ours", "paper"]).index)


def _rankings(rows: pd.DataFrame) -> Iterator[Ranking]:
    ordered = rows[rows["metric"] != DETECTION]
    for (variant, metric, task), cells in ordered.groupby(
        ["variant", "metric", "task"], sort=False
    ):
        places = decimals(cells["mean"], cells["std"])
        table = pd.DataFrame(
            {
                "ours": [float(_digits(mean, places)) for mean in cells["mean"]],
                "std": cells["std"].to_numpy(),
                "paper": cells["paper_mean"].to_numpy(),
                "paper_std": cells["paper_std"].to_numpy(),
            },
            index=cells["strategy"].map(_method),
        )
        direction = cells["direction"].iloc[0]
        yield Ranking(str(variant), str(metric), str(task), direction, table.reindex(list(LABELS)))


def _agreement(rankings: Iterable[Ranking]) -> pd.DataFrame:
    records = []
    for ranking in rankings:
        methods = ranking.both
        if len(methods) < 2:
            continue
        ours, theirs = (ranking.ranks(column, methods) for column in ("ours", "paper"))
        best, paper_best = _best(ours), _best(theirs)
        records.append(
            {
                "variant": ranking.variant,
                "metric": ranking.metric,
                "task": ranking.task,
                "methods": len(methods),
                "tau": _tau(ours, theirs),
                "order": _order(ours),
                "paper_order": _order(theirs),
                "best": " = ".join(best),
                "paper_best": " = ".join(paper_best),
                "same_best": best == paper_best,
                "ilt_rank": ours.get("ilt"),
                "paper_ilt_rank": theirs.get("ilt"),
                "ilt_lowest_std": _lowest(ranking.table.loc[methods, "std"]),
                "paper_ilt_lowest_std": _lowest(ranking.table.loc[methods, "paper_std"]),
            }
        )
    kinds: Any = dict.fromkeys(("ilt_rank", "paper_ilt_rank"), "Int64")
    kinds |= dict.fromkeys(("ilt_lowest_std", "paper_ilt_lowest_std"), "boolean")
    return pd.DataFrame(records, columns=AGREEMENT_COLUMNS).astype(kinds)


def _tau(ours: pd.Series, theirs: pd.Series) -> float:
    """Kendall's τ-b; NaN where one side has nothing but ties."""
    from scipy.stats import kendalltau  # takes a second

    return float(kendalltau(ours, theirs).statistic)


def _best(ranks: pd.Series) -> list[str]:
    return [str(method) for method in ranks.index[ranks == 1]]


def _order(ranks: pd.Series) -> str:
    """Best first, as "ilt > equal = dwa > mtu"."""
    places = (ranks.index[ranks == rank] for rank in sorted(set(ranks)))
    return " > ".join(" = ".join(methods) for methods in places)


def _lowest(stds: pd.Series) -> Any:
    """Whether ILT's standard deviation is the lowest; missing where it, or all others, are."""
    stds = stds.dropna()
    return pd.NA if "ilt" not in stds or len(stds) < 2 else bool(stds["ilt"] == stds.min())


# --- claims -------------------------------------------------------------------------------------


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


def _clean_labels(rankings: Iterable[Ranking], labels: Mapping[tuple[str, str], str]) -> Claim:
    clean = [ranking for ranking in rankings if not _corrupted_tasks(ranking.variant)]
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


def _absent(rankings: Iterable[Ranking], verdicts: Iterable[str]) -> list[str]:
    """Which methods leave it open, where it is."""
    missing = {
        method
        for ranking in rankings
        for method in LABELS
        if pd.isna(ranking.table["ours"][method])
    }
    if _all(verdicts) != CANNOT_TELL or not missing:
        return []
    return [f"open without all the numbers of {', '.join(m for m in LABELS if m in missing)}"]


def _ilt_place(ranking: Ranking, column: str) -> str:
    ranks = ranking.ranks(column)
    return f"{ranks['ilt']} of {len(ranks)}" if "ilt" in ranks else MISSING


def _corrupted_labels(
    rankings: Iterable[Ranking],
    labels: Mapping[tuple[str, str], str],
    table: pd.DataFrame,
    variants: Mapping[str, str],
) -> Claim:
    corrupted = [ranking for ranking in rankings if _corrupted_tasks(ranking.variant)]
    verdicts: dict[str, list[str]] = {"ours": [], "paper": []}
    evidence = []
    for variant, name in variants.items():
        group = [ranking for ranking in corrupted if ranking.variant == variant]
        if not group:
            continue
        affected = {SHOWS_IN.get(task, task) for task in _corrupted_tasks(variant)}
        metrics = set(table.loc[table["variant"] == name, "metric"]) - {DETECTION}
        told = {}
        for column in verdicts:
            places = [_within(ranking, column, 1) for ranking in group]
            cuts = {index: _cut(ranking, column) for index, ranking in enumerate(group)}
            cuts = {index: cut for index, cut in cuts.items() if not math.isnan(cut)}
            best = sum(ranking.ranks(column).get("ilt") == 1 for ranking in group)
            told[column] = f"best on {best} of {len(group)} metrics"
            most = CANNOT_TELL
            if len(cuts) == len(metrics):
                top = max(cuts, key=cuts.__getitem__)
                metric, task = group[top].metric, group[top].task
                most = YES if task in affected else NO
                told[column] += (
                    f", error falls most ({cuts[top]:.1f} %) on {labels[metric, task]} of {task}"
                )
            verdicts[column] += [*places, most]
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


def _cut(ranking: Ranking, column: str) -> float:
    """By how much ILT has less error than equal weights (%)."""
    means = ranking.table[column]
    errors = 100 - means if ranking.direction == "max" else means
    return 100 * (1 - errors["ilt"] / errors["equal"]) if errors["equal"] else math.nan


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


Runs = Mapping[tuple[str, str], Mapping[int, StoredRun]]
"""(variant, method) to the runs that are done, by seed."""


def _runs(comparison: Comparison, results: str | Path, variants: Sequence[str]) -> Runs:
    rows = select(load_results(results), comparison.suite, variants)
    rows = rows[rows["configuration"].isin(list(comparison.labels))]
    rows = rows[rows["status"] == DONE].drop_duplicates("path")
    return {
        (str(variant), str(method)): {
            int(seed): read_run(Path(path))
            for seed, path in zip(cells["seed"], cells["path"], strict=True)
        }
        for (variant, method), cells in rows.groupby(["variant", "strategy"], sort=False)
        if method in ("equal", "ilt")
    }


def _found_early(runs: Runs, table: pd.DataFrame, variants: Mapping[str, str]) -> Claim:
    found = table[table["metric"] == DETECTION].set_index("variant")["mean"]
    verdicts, evidence = [], []
    for variant, name in variants.items():
        histories = [run.history() for run in runs.get((variant, "ilt"), {}).values()]
        for task in _corrupted_tasks(variant):
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


# --- printed ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """All that is printed: sentences, sheets, claims, sentences."""

    summary: list[str]
    sheets: list[Sheet]
    claims: list[Claim]
    left_out: list[str]


def render_against(against: Against, format: str, *, terminal: bool = False) -> str:
    """Writes a comparison with the paper in one of the `FORMATS`.

    Args:
        against: what to write.
        format: one of `FORMATS`. CSV is long form, with the columns `ROW_COLUMNS`; JSON has the
            same rows, and the agreement and the claims, too.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format.
    """
    if format == "csv":
        return against.rows[ROW_COLUMNS].to_csv(index=False, lineterminator="\n")
    if format == "json":
        return _json(against)
    writers = {"github": _github, "latex": _latex, "html": _html}
    if format != "table" and format not in writers:
        raise unknown("format", format, FORMATS)
    legend = LEGEND if terminal or format != "table" else "¹ best, ² second best"
    page = Page(
        _summary(against),
        [*_variant_sheets(against, legend), *_agreement_sheet(against)],
        against.claims,
        against.left_out,
    )
    return _text(page, terminal) if format == "table" else writers[format](page)


def _summary(against: Against) -> list[str]:
    """What agrees, in a few sentences."""
    sentences = [f"{against.suite} against {against.dataset} in Vasu, Saxena & Tuzel (2021)"]
    if against.stands_in:
        sentences.append(
            f"{against.suite} stands in for {against.dataset}: not comparable in size, only in "
            "order, direction and relative gap"
        )
    signs = against.rows["same_sign"].dropna()
    table = against.agreement
    found = []
    if len(signs):
        found.append(f"gap to equal weights has the same sign in {signs.sum()} of {len(signs)}")
    if len(table):
        found.append(f"the same method is best in {table['same_best'].sum()} of {len(table)}")
        found.append(f"median τ {table['tau'].median():+.2f}")
    return sentences + ([f"agreement: {', '.join(found)}"] if found else [])


def _variant_sheets(against: Against, legend: str) -> Iterator[Sheet]:
    for variant, rows in against.rows.groupby("variant", sort=False):
        columns = [("ours", "mean ± std"), ("ours", "vs equal")]
        columns += [("paper", "mean ± std"), ("paper", "vs equal"), ("same", "sign")]
        notes = [
            legend,
            f"ours over {sheets.count_of_runs(rows['n'])}",
            "vs equal: better (+) or worse (−) than Eq. Weight",
        ]
        if not against.stands_in:
            columns.append(("", "z"))
        tables = [str(table) for table in sorted(set(rows["paper_table"].dropna()))]
        yield Sheet(
            f"{against.suite}: {variant} (Table{'s'[: len(tables) - 1]} {' and '.join(tables)})",
            columns,
            [
                _section(against, str(metric), str(task), cells)
                for (metric, task), cells in rows.groupby(["metric", "task"], sort=False)
            ],
            [
                "; ".join(notes),
                *([] if against.stands_in else ["z: (ours − paper) / √(std² + std²)"]),
                *against.remarks[str(variant)],
            ],
        )


def _section(against: Against, metric: str, task: str, rows: pd.DataFrame) -> Section:
    first = rows.iloc[0]
    unit = f" ({first['unit']})" if first["unit"] else ""
    direction = first["direction"]
    ours = _cells(list(rows["mean"]), list(rows["std"]), direction)
    theirs = [text.partition(" ± ") for text in rows["paper_text"]]
    paper_ranks = _ranks([mean for mean, _, _ in theirs], direction)
    columns = [
        ours,
        [_percent(gap) for gap in rows["gap"]],
        [Cell(mean, std, rank) for (mean, _, std), rank in zip(theirs, paper_ranks, strict=True)],
        [_percent(gap) for gap in rows["paper_gap"]],
        [_yes_no(same) for same in rows["same_sign"]],
    ]
    if not against.stands_in:
        columns.append([Cell("" if math.isnan(z) else f"{z:+.1f}") for z in rows["z"]])
    cells = [list(row) for row in zip(*columns, strict=True)]
    names = [against.labels[strategy] for strategy in rows["strategy"]]
    return Section(
        f"{task} {against.metric_labels[metric, task]}{unit} {ARROWS[direction]}",
        list(zip(names, cells, strict=True)),
    )


def _percent(value: float) -> Cell:
    return Cell("" if math.isnan(value) else f"{value:+z.2f} %")


def _yes_no(value: Any) -> Cell:
    return Cell("" if pd.isna(value) else YES if value else NO)


def _agreement_sheet(against: Against) -> list[Sheet]:
    if against.agreement.empty:
        return []
    sections = []
    for variant, table in against.agreement.groupby("variant", sort=False):
        rows = []
        for row in table.to_dict("records"):
            tau = "" if math.isnan(row["tau"]) else f"{row['tau']:+.2f}"
            cells = [Cell(str(row["methods"])), Cell(tau)]
            for name in ("best", "ilt_rank", "ilt_lowest_std"):
                cells.append(Cell(f"{_word(row[name])} / {_word(row[f'paper_{name}'])}"))
            rows.append(
                (f"{row['task']} {against.metric_labels[row['metric'], row['task']]}", cells)
            )
        sections.append(Section(str(variant), rows))
    columns = [("", "methods"), ("", "τ-b")]
    columns += [(name, "ours / paper") for name in ("best", "ILT's place", "ILT's std lowest")]
    note = "over the methods that both have; τ-b: Kendall's, 1 where the order is the same"
    return [Sheet("Order of the methods", columns, sections, [note])]


def _word(value: Any) -> str:
    if pd.isna(value):
        return MISSING
    return {True: YES, False: NO}[value] if isinstance(value, bool) else str(value)


def _verdict(claim: Claim) -> str:
    return claim.verdict + (f" (the paper's own numbers: {claim.paper})" if claim.paper else "")


def _text(page: Page, terminal: bool) -> str:
    summary = [line for sentence in page.summary for line in sheets.wrapped(sentence, "  ")]
    blocks = ["\n".join(summary), *(sheets.text(sheet, terminal) for sheet in page.sheets)]
    lines = [CLAIMS]
    for number, claim in enumerate(page.claims, start=1):
        lines += sheets.wrapped(f"{number}. {claim.sentence}: {_verdict(claim)}", "   ")
        for sentence in claim.evidence:
            lines += sheets.wrapped(sentence, "     ", first="   ")
    blocks += ["\n".join(lines), "\n".join(page.left_out)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _github(page: Page) -> str:
    blocks = ["\n".join(f"- {_markdown(sentence)}" for sentence in page.summary)]
    blocks += map(sheets.github, page.sheets)
    items = []
    for number, claim in enumerate(page.claims, start=1):
        items.append(f"{number}. {_markdown(claim.sentence)}: **{_verdict(claim)}**")
        items += [f"   - {_markdown(sentence)}" for sentence in claim.evidence]
    blocks += [f"**{CLAIMS}**", "\n".join(items)]
    blocks += [_markdown(sentence) for sentence in page.left_out]
    return "\n\n".join(blocks) + "\n"


def _latex(page: Page) -> str:
    lines = [rf"{sheets.tex(sentence)}.\par" for sentence in page.summary]
    lines += map(sheets.latex, page.sheets)
    lines += [rf"{CLAIMS}:", r"\begin{enumerate}"]
    for claim in page.claims:
        evidence = "; ".join(map(sheets.tex, claim.evidence))
        sentence, verdict = sheets.tex(claim.sentence), _verdict(claim)
        lines.append(rf"\item {sentence}: \textbf{{{verdict}}}. {evidence}.")
    lines.append(r"\end{enumerate}")
    lines += [rf"{sheets.tex(sentence)}.\par" for sentence in page.left_out]
    return "\n".join([*lines, ""])


def _html(page: Page) -> str:
    lines = [f"<p>{'<br>'.join(map(html.escape, page.summary))}</p>"]
    lines += map(sheets.html, page.sheets)
    lines += [f"<p>{html.escape(CLAIMS)}</p>", "<ol>"]
    for claim in page.claims:
        evidence = "<br>".join(map(html.escape, claim.evidence))
        sentence, verdict = html.escape(claim.sentence), html.escape(_verdict(claim))
        lines.append(f"<li>{sentence}: <b>{verdict}</b><br>{evidence}</li>")
    lines.append("</ol>")
    lines += [f"<p>{html.escape(sentence)}</p>" for sentence in page.left_out]
    return "\n".join([*lines, ""])


# --- data ---------------------------------------------------------------------------------------


def _json(against: Against) -> str:
    def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
        return [
            {str(key): None if pd.isna(value) else value for key, value in record.items()}
            for record in frame.to_dict("records")
        ]

    content = {
        "suite": against.suite,
        "dataset": against.dataset,
        "stands_in": against.stands_in,
        "rows": records(against.rows[ROW_COLUMNS]),
        "agreement": records(against.agreement),
        "claims": [vars(claim) for claim in against.claims],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
