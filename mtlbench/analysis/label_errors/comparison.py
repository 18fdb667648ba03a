"""How well each detector finds the corrupted labels, where it is known which they are."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtlbench.analysis.label_errors.confident import has_cleanlab, require_cleanlab
from mtlbench.analysis.label_errors.folds import fold_scores
from mtlbench.analysis.label_errors.mixture import estimate_share
from mtlbench.analysis.label_errors.scores import (
    CLEANLAB,
    DETECTOR_LABELS,
    DETECTORS,
    FOLDED,
    STRATEGY,
    Scores,
)
from mtlbench.analysis.label_errors.scores import scores_of as _scores_of
from mtlbench.analysis.printing import (
    Cell,
    count_of_runs,
    decimals,
    digits,
    heading,
    legend,
    marked_cells,
)
from mtlbench.analysis.results import load_results, require_suite
from mtlbench.analysis.selection import select
from mtlbench.analysis.settings import settings_of
from mtlbench.analysis.table import Column, Section, Table
from mtlbench.analysis.writers import write
from mtlbench.errors import UserError, listed, require_known
from mtlbench.store.runs import Store, read_run
from mtlbench.store.schema import DONE
from mtlbench.tasks.detection import average_precision, detection_accuracy, roc_auc

COLUMNS = [
    "suite", "variant", "task", "detector", "settings", "seed", "epoch", "last", "corrupted",
    "accuracy", "roc_auc", "average_precision", "estimate",
]  # fmt: skip
MEASURES = {"accuracy": "Top fraction", "roc_auc": "AUROC", "average_precision": "Avg. precision"}


def stored_scores(
    results: str | Path,
    suite: str,
    variants: Sequence[str] | None = None,
    *,
    detectors: Sequence[str] | None = None,
    hashes: Collection[str] | None = None,
) -> list[tuple[str, str, Scores]]:
    """The scores of every detector that a results directory holds, as (variant, settings, scores).

    Args:
        results: the results directory.
        suite: the suite's name.
        variants: which; all by default.
        detectors: which; by default all whose package is installed.
        hashes: only runs, and cross-validations of runs, with these hashes; all by default.

    Raises:
        UserError: there is no such directory, suite, variant or detector, or its package is not
            installed.
    """
    if detectors is None:
        detectors = [name for name in DETECTORS if name != CLEANLAB or has_cleanlab()]
    require_known("detector", detectors, DETECTORS)
    if CLEANLAB in detectors:
        require_cleanlab()
    variants = listed("variant", variants)
    found: list[tuple[str, str, Scores]] = []
    specs, changed = [], []
    read = [name for name in detectors if name not in FOLDED]
    folded = [name for name in detectors if name in FOLDED]
    known = []
    if folded:
        known = fold_scores(Store(results).require(), suite, variants, hashes, folded)
    if read:
        frame = _runs(results, suite, variants, hashes, {a["spec"]["variant"] for a, _ in known})
        frame = frame[(frame["status"] == DONE) & frame["strategy"].isin(STRATEGY.values())]
        frame = frame.drop_duplicates("hash")
        for path, variant, settings, strategy in zip(
            frame["path"], frame["variant"], frame["settings"], frame["strategy"], strict=True
        ):
            mine = [name for name in read if STRATEGY[name] == strategy]
            run = read_run(Path(path))
            found += [(variant, settings, each) for each in _scores_of(run, mine)]
            specs.append(run.info["spec"])
            changed.append(run.info["changed"])
    specs += [about["spec"] for about, _ in known]
    changed += [about["changed"] for about, _ in known]
    told = settings_of(specs, changed=changed)[len(specs) - len(known) :]
    for (about, scores), settings in zip(known, told, strict=True):
        found += [(about["spec"]["variant"], settings, each) for each in scores]
    return found


def _runs(
    results: str | Path,
    suite: str,
    variants: Sequence[str] | None,
    hashes: Collection[str] | None,
    folded: Collection[str],
) -> pd.DataFrame:
    """The rows of a suite's runs; there may be none of the variants `folded`, which have
    cross-validations."""
    frame = load_results(results)
    if hashes is not None:
        frame = frame[frame["hash"].isin(list(hashes))]
    there = set(frame.loc[frame["suite"] == suite, "variant"])
    if folded and not there:
        return frame[:0]
    if variants is not None:
        variants = [name for name in variants if name in there or name not in folded]
    return select(require_suite(frame, suite, repr(str(results))), suite, variants)


def compare_detectors(
    results: str | Path,
    suite: str,
    variants: Sequence[str] | None = None,
    *,
    detectors: Sequence[str] | None = None,
    hashes: Collection[str] | None = None,
) -> pd.DataFrame:
    """How well each detector finds corrupted labels, by variant, task, seed and epoch.

    Args:
        results: a results directory with runs of `equal` and `ilt` that kept traces, and folds.
        suite: the suite's name.
        variants: which; all by default. Of clean labels there is only `estimate`.
        detectors: which of `DETECTORS`; by default all whose package is installed.
        hashes: only runs, and cross-validations of runs, with these hashes; all by default.

    Returns:
        A row for each epoch, `last` true in the last one. `corrupted` is the share of corrupted
        labels (%), `accuracy` that of corrupted ones among as many with the largest scores (%),
        `roc_auc` and `average_precision` those of the scores (%), `estimate` what
        `estimate_share` makes of the scores without knowing (%; in the last epoch only, and NaN
        where it sees no second group, or one that may be of hard labels). `settings` tells
        configurations apart where there is more than one.

    Raises:
        UserError: there is no such directory, suite, variant or detector, its package is not
            installed, or there is nothing to compare.
    """
    scored = stored_scores(results, suite, variants, detectors=detectors, hashes=hashes)
    scored.sort(key=lambda each: DETECTORS.index(each[2].detector))
    rows = []
    for variant, settings, scores in scored:
        by_epoch = scores.by_epoch()
        wrong = np.zeros(by_epoch.shape[1], bool)
        if scores.corrupted is not None:
            wrong = scores.corrupted
        estimate = scores.estimate
        if np.isnan(estimate):
            estimate = estimate_share(
                scores.score, scores.detector, losses=scores.losses, resamples=0
            ).wrong
        labelled = ~np.isnan(scores.score)
        about = {
            "suite": suite,
            "variant": variant,
            "task": scores.task,
            "detector": scores.detector,
            "settings": settings,
            "seed": scores.seed,
            "corrupted": 100 * float(wrong[labelled].mean()),
        }
        for epoch, score in enumerate(by_epoch, start=1):
            last = epoch == len(by_epoch)
            if last or wrong.any():
                measures = _measures(score, wrong)
                seen = {"epoch": epoch, "last": last, "estimate": estimate if last else np.nan}
                rows.append(about | seen | measures)
    if not rows:
        raise UserError(
            f"nothing to compare in {str(results)!r}: no run of suite {suite!r} has instance "
            "parameters or traces; 'mtlbench detectors' trains what is needed"
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _measures(score: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": detection_accuracy(score[:, None], wrong[:, None]),
        "roc_auc": roc_auc(score, wrong),
        "average_precision": average_precision(score, wrong),
    }


# --- tables -------------------------------------------------------------------------------------


def summarise(detected: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds, at the last epoch.

    Args:
        detected: as from `compare_detectors`.

    Returns:
        A row for each variant, task, detector and settings: `n` seeds, `corrupted`, and of every
        measure and of the estimate NAME and NAME_std; `estimate_n` seeds have an estimate.
    """
    last = detected[detected["last"]]
    keys = ["suite", "variant", "task", "detector", "settings"]
    values = [*MEASURES, "estimate"]
    groups = last.groupby(keys, sort=False)
    means = groups[values].mean()
    stds = groups[values].std(ddof=1).add_suffix("_std")
    counts = groups.agg(n=("seed", "size"), estimate_n=("estimate", "count"))
    summary = means.join(stds).join(groups["corrupted"].mean()).join(counts)
    return summary.reset_index()


def render_detectors(
    detected: pd.DataFrame, format: str = "table", *, terminal: bool = False
) -> str:
    """One table a variant: a section a task, a row a detector.

    Args:
        detected: as from `compare_detectors`.
        format: one of the `table.FORMATS`; `csv` and `json` hold what `summarise` makes.
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format.
    """
    summary = summarise(detected)
    return write(
        format,
        lambda plain: [
            _table(str(variant), rows, legend(plain=plain))
            for variant, rows in summary.groupby("variant", sort=False)
        ],
        summary,
        terminal=terminal,
    )


def _estimate(row: Mapping[Any, Any]) -> Cell:
    """The share that looks wrong, over the seeds that have an estimate, and how many of them do."""
    if not row["estimate_n"]:
        return Cell("none")
    some = f" ({row['estimate_n']} of {row['n']})" if row["estimate_n"] < row["n"] else ""
    return Cell(digits(row["estimate"], 1) + some, "" if some else digits(row["estimate_std"], 1))


def _table(variant: str, rows: pd.DataFrame, marks: str) -> Table:
    columns = [Column(heading(label, "%", "max")) for label in MEASURES.values()]
    columns.append(Column("Est. wrong (%)"))
    sections = []
    for task, inside in rows.groupby("task", sort=False):
        cells = []
        for name in MEASURES:
            places = min(2, decimals(inside[name], inside[f"{name}_std"]))
            means, stds = inside[name], inside[f"{name}_std"]
            shown = [digits(value, places) for value in means]
            cells.append(marked_cells(shown, [digits(value, places) for value in stds], "max"))
        cells.append([_estimate(row) for row in inside.to_dict("records")])
        names = [
            DETECTOR_LABELS[detector] + (f" [{settings}]" if settings else "")
            for detector, settings in zip(inside["detector"], inside["settings"], strict=True)
        ]
        share = inside["corrupted"].iloc[0]
        known = f"{share:.3g} % corrupted" if share else "not corrupted"
        sections.append(Section.of_columns(f"{task} ({known})", names, cells))
    suite = rows["suite"].iloc[0]
    notes = [
        f"mean ± std over {count_of_runs(rows['n'])}; {marks}",
        "Est. wrong: without knowing, over the seeds that show a second group; else none",
    ]
    return Table(f"{suite} {variant}: label errors found", columns, sections, notes)
