"""Suspects for a person to judge: tables, contact sheets, a summary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtlbench.analysis.label_errors.mixture import estimate_share
from mtlbench.analysis.label_errors.scores import DETECTOR_LABELS, Scores, mean, order
from mtlbench.analysis.label_errors.sheet import MOST_TILES, Suspects, class_name, draw_sheet
from mtlbench.analysis.printing import Cell, digits
from mtlbench.analysis.table import Column, Row, Section, Table
from mtlbench.analysis.writers import writer_of
from mtlbench.tasks.detection import average_precision, detection_accuracy, roc_auc

Take = Callable[[str, np.ndarray, np.ndarray | None], Suspects]
"""A task's name, row numbers [M] and the mask of corrupted labels, bool [N] or None, to these
instances."""


@dataclass(frozen=True)
class Found:
    """The suspects of one detector in one task, over all seeds.

    Attributes:
        task, detector: what it is of.
        seeds: how many.
        score: mean over seeds, large where suspicious [N]; NaN where there is no label.
        trace: mean over seeds by epoch [E, N]; E is 0 for cleanlab.
        estimate: the share of wrong labels.
        corrupted: whether a label is corrupted, bool [N], where that is known.
        files: the table and the contact sheet.
    """

    task: str
    detector: str
    seeds: int
    score: np.ndarray
    trace: np.ndarray
    estimate: str
    corrupted: np.ndarray | None
    files: tuple[Path, Path]


def write_found(
    task: str,
    detector: str,
    scores: Sequence[Scores],
    take: Take,
    top: int,
    out: Path,
    title: str,
) -> Found:
    """Writes the table of a task's first `top` suspects and their contact sheet into `out`.

    Args:
        scores: of one detector, one a seed.
        take: gives training instances with their labels.
        title: of the study, for the sheet.
    """
    score = mean(np.stack([each.score for each in scores]))
    trace = mean(np.stack([each.trace for each in scores]))
    corrupted = scores[0].corrupted
    if corrupted is not None and not corrupted.any():
        corrupted = None
    own = [each.estimate for each in scores if not np.isnan(each.estimate)]
    if own:
        estimate = f"{np.mean(own):.1f} %, by confident learning's counts"
    else:
        estimate = str(estimate_share(score, detector))
    ranked = order(score)[:top]
    suspects = take(task, ranked, corrupted)
    stem = f"suspects_{task}_{detector}"
    table, sheet = out / f"{stem}.csv", out / f"{stem}.png"
    _table(suspects, score[ranked], trace[:, ranked]).to_csv(table, index=False)
    first = suspects.first(MOST_TILES)
    heading = (
        f"{title}: {task}, the {len(first.index)} of {len(order(score)):,} with the "
        f"largest {DETECTOR_LABELS[detector]}"
    )
    if suspects.suggestions is not None and suspects.labels.ndim == 1:
        heading += " · given label (prediction?)"
    if corrupted is not None:
        heading += " · red: corrupted, blue: not"
    draw_sheet(first, heading, sheet)
    return Found(task, detector, len(scores), score, trace, estimate, corrupted, (table, sheet))


def _table(suspects: Suspects, score: np.ndarray, trace: np.ndarray) -> pd.DataFrame:
    """The suspects, the first first: rank, dataset index, score, name, label where it is one value,
    and the trace by epoch."""
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(score) + 1),
        "index": suspects.index,
        "score": score,
    }
    if suspects.names is not None:
        columns["name"] = suspects.names
    if suspects.corrupted is not None:
        columns["corrupted"] = suspects.corrupted
    if suspects.labels.ndim == 1:
        classes = suspects.task["kind"] == "classification"
        columns["label"] = [
            class_name(suspects.task, int(label)) if classes else label for label in suspects.labels
        ]
        if suspects.suggestions is not None and (suspects.suggestions >= 0).any():
            columns["prediction"] = [
                class_name(suspects.task, int(seen)) if seen >= 0 else ""
                for seen in suspects.suggestions
            ]
    by_epoch = {f"epoch_{e}": values for e, values in enumerate(trace, start=1)}
    return pd.DataFrame(columns | by_epoch)


# --- what is printed ----------------------------------------------------------------------------


def render_found(found: Sequence[Found], *, terminal: bool = False) -> str:
    """A line for each task and detector: the share that looks wrong and how far to trust that;
    where it is known which labels are corrupted, how well they are found."""
    known = any(each.corrupted is not None for each in found)
    columns = [Column("labels that look wrong", words=True)]
    if known:
        names = ("top fraction", "AUROC", "avg. precision")
        columns += [Column(name, "found (%)") for name in names]
    sections = []
    for task, inside in groupby(found, lambda each: each.task):
        rows = []
        for each in inside:
            cells = [Cell(each.estimate), *_measures(each)] if known else [Cell(each.estimate)]
            rows.append(Row(DETECTOR_LABELS[each.detector], cells))
        sections.append(Section(task, rows))
    table = Table("Suspects", columns, sections, [])
    folder = found[0].files[0].parent
    return f"{writer_of('table', terminal)(table)}\n{2 * len(found)} files in {folder}\n"


def _measures(found: Found) -> list[Cell]:
    """How well corrupted labels are found (%), empty where it is not known which they are."""
    if found.corrupted is None:
        return [Cell()] * 3
    accuracy = detection_accuracy(found.score[:, None], found.corrupted[:, None])
    ranked = [measure(found.score, found.corrupted) for measure in (roc_auc, average_precision)]
    return [Cell(digits(value, 1)) for value in (accuracy, *ranked)]
