"""Suspects for a person to judge: one list over all tasks, tables, contact sheets, a summary."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtlbench.analysis.label_errors.mixture import ShareEstimate, estimate_share
from mtlbench.analysis.label_errors.scores import (
    DETECTOR_LABELS,
    FOLDED,
    ILT_LOSS,
    LOSS,
    MARGIN,
    SIGMA,
    Scores,
    mean,
    order,
)
from mtlbench.analysis.label_errors.sheet import (
    MOST_TILES,
    Suspects,
    class_name,
    draw_sheet,
    short_name,
)
from mtlbench.analysis.printing import Cell, decimals, digits
from mtlbench.analysis.table import Column, Row, Section, Table
from mtlbench.analysis.writers import wrapped, writer_of
from mtlbench.files import replacing
from mtlbench.tasks.detection import average_precision, detection_accuracy, roc_auc

LIST_FILE = "suspects.csv"

FEW_TASKS = 4
"""Of so many tasks each has its own files, and its own part of the printed table."""

LEADING = 3
"""Of more tasks, so many that lead the list have files of their own."""

DIGITS = 6
"""Of a score (significant ones)."""

UNMOVED = (FOLDED, (SIGMA, ILT_LOSS), (LOSS, MARGIN))
"""Detectors, those first whose networks are moved least by wrong labels; measured in
docs/suspects.md."""

Take = Callable[[str, np.ndarray, np.ndarray | None], Suspects]
"""A task's name, row numbers [M] and the mask of corrupted labels, bool [N] or None, to these
instances."""


@dataclass(frozen=True)
class Found:
    """What one detector makes of the labels of one task, over all seeds.

    Attributes:
        task, detector: what it is of.
        scores: one a seed.
        score: mean over seeds, large where suspicious [N]; NaN where there is no label.
        estimate: the share of wrong labels; or that by confident learning's counts (%).
        corrupted: whether a label is corrupted, bool [N], where that is known.
    """

    task: str
    detector: str
    scores: Sequence[Scores]
    score: np.ndarray
    estimate: ShareEstimate | float
    corrupted: np.ndarray | None

    @classmethod
    def of(cls, task: str, detector: str, scores: Sequence[Scores]) -> "Found":
        """From the scores of each seed."""
        score = mean(np.stack([each.score for each in scores]))
        corrupted = scores[0].corrupted
        if corrupted is not None and not corrupted.any():
            corrupted = None
        own = [each.estimate for each in scores if not np.isnan(each.estimate)]
        of_runs = [each.losses for each in scores if each.losses is not None]
        losses = None
        if of_runs:
            training, validation = (mean(np.stack(part)) for part in zip(*of_runs, strict=True))
            losses = (training, validation)
        estimate = float(np.mean(own)) if own else estimate_share(score, detector, losses=losses)
        return cls(task, detector, scores, score, estimate, corrupted)


@dataclass(frozen=True)
class Findings:
    """What `find_suspects` found.

    Attributes:
        title: suite and variant.
        suspects: the list over all tasks, as in `suspects.csv`; see `list_suspects`.
        found: what each detector makes of each task.
        detailed: tasks that have tables and sheets of their own.
        out: the directory of all files.
        files: how many they are.
    """

    title: str
    suspects: pd.DataFrame
    found: Sequence[Found]
    detailed: Sequence[str]
    out: Path
    files: int


# --- one list over all tasks --------------------------------------------------------------------


def mean_ranks(found: Sequence[Found]) -> np.ndarray:
    """Mean ranks of a task's labels by some detectors [N], from 1; NaN where there is no label."""
    ranks = np.full((len(found), len(found[0].score)), np.nan)
    for row, each in zip(ranks, found, strict=True):
        ordered = order(each.score)
        row[ordered] = np.arange(1, len(ordered) + 1)
    return mean(ranks)


def list_suspects(found: Sequence[Found], take: Take, top: int) -> pd.DataFrame:
    """The labels of all tasks that are most likely wrong.

    Scores of two tasks cannot be compared: they depend on the loss, its scale, and how hard a task
    is. What can be is the place among the labels of the task, so the list is in the order of that:
    of the mean rank by all detectors over the number of labels. Each task has as large a part of
    the list as of the labels, as if all tasks had the same share of wrong ones.

    Args:
        found: of every task and detector.
        take: gives training instances with their labels.
        top: how many.

    Returns:
        `rank`; `task`; `index` in the training data and `name`; `corrupted`, where that is known;
        `label`, `predicted`, `difference` (label less prediction) and `unit`, where a label is one
        class or number; `task_rank` and the number of `labels` of the task; `top_percent`, by which
        the list is ordered; and the score by each detector. Columns without any value are left out.
    """
    tasks = {task: list(inside) for task, inside in groupby(found, lambda each: each.task)}
    parts = []
    for task, inside in tasks.items():
        rank = mean_ranks(inside)
        ordered = order(-rank)
        first = ordered[:top]
        scores = {each.detector: _significant(each.score[first]) for each in inside}
        columns = {
            "task": task,
            "index": first,
            "task_rank": np.arange(1, len(first) + 1),
            "labels": len(ordered),
            "top_percent": _significant(100 * rank[first] / len(ordered)),
        }
        parts.append(pd.DataFrame(columns | scores))
    whole = pd.concat(parts, ignore_index=True)
    whole = whole.sort_values("top_percent", kind="stable", ignore_index=True)[:top]
    shown = []
    for task, rows in whole.groupby("task", sort=False):
        inside = tasks[str(task)]
        suspects = _seen(
            take(str(task), rows["index"].to_numpy(copy=True), inside[0].corrupted), inside
        )
        shown.append(pd.DataFrame(_values(suspects), index=rows.index, dtype=object))
    whole = whole.join(pd.concat(shown))
    if "corrupted" in whole:  # tasks whose labels are all right do not say so
        whole["corrupted"] = whole["corrupted"].isin([True])
    detectors = dict.fromkeys(each.detector for each in found)
    names = [
        "task", "index", "name", "corrupted", "label", "predicted", "difference", "unit",
        "task_rank", "labels", "top_percent", *detectors,
    ]  # fmt: skip
    kept = [name for name in names if name in whole and whole[name].notna().any()]
    whole = whole[kept]
    whole.insert(0, "rank", np.arange(1, len(whole) + 1))
    return whole


def leading(suspects: pd.DataFrame) -> list[str]:
    """The tasks with the most labels in the list."""
    return [str(task) for task in suspects["task"].value_counts(sort=True).index[:LEADING]]


def _seen(suspects: Suspects, found: Sequence[Found]) -> Suspects:
    """Suspects with what the networks predict: classes most often over epochs and seeds, numbers in
    the mean over seeds.

    A network learns wrong labels by heart. So it is one that has not seen the label, where there is
    one; or else one that ILT kept from believing it.
    """
    known = [each for each in found if each.scores[0].predictions is not None]
    if not known:
        return suspects
    best = next(each for those in UNMOVED for each in known if each.detector in those)
    seen = [each.predictions for each in best.scores if each.predictions is not None]
    joined = np.concatenate([each[:, suspects.index] for each in seen])
    if not suspects.classify:
        return replace(suspects, predictions=mean(joined))
    return replace(suspects, predictions=np.array([_most_frequent(c) for c in joined.T]))


def _most_frequent(classes: np.ndarray) -> int:
    """The class that is there most often; -1 where there is none."""
    there = classes[classes >= 0]
    return int(np.bincount(there).argmax()) if len(there) else -1


def _values(suspects: Suspects) -> dict[str, Any]:
    """Columns of what is known of suspects beside their scores."""
    columns: dict[str, Any] = {}
    if suspects.names is not None:
        columns["name"] = suspects.names
    if suspects.corrupted is not None:
        columns["corrupted"] = suspects.corrupted
    if suspects.labels.ndim != 1:
        return columns
    seen = [suspects.predicted(i) for i in range(len(suspects.index))]
    if suspects.classify:
        columns["label"] = [class_name(suspects.task, int(label)) for label in suspects.labels]
        columns["predicted"] = [s if s is None else class_name(suspects.task, s) for s in seen]
    else:
        predicted = np.array([np.nan if s is None else s for s in seen], np.float64)
        columns["label"] = [float(str(label)) for label in suspects.labels]  # 406.55, not 406.5499
        columns["predicted"] = _significant(predicted)
        columns["difference"] = _significant(suspects.labels - predicted)
        columns["unit"] = [suspects.task["unit"] or None] * len(predicted)
    return columns


def _significant(values: np.ndarray) -> np.ndarray:
    """Values with `DIGITS` significant digits."""
    return np.array([float(f"{value:.{DIGITS}g}") for value in values])


# --- the files of a task ------------------------------------------------------------------------


def stem_of(task: str, detector: str) -> str:
    """What the files of a detector's suspects in a task are called."""
    return f"suspects_{task}_{detector}"


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table, whole or not at all."""
    with replacing(path) as aside:
        table.to_csv(aside, index=False)


def write_found(
    found: Found, others: Sequence[Found], take: Take, top: int, out: Path, title: str
) -> None:
    """Writes the table of a detector's first `top` suspects in a task and their contact sheet, both
    called `suspects_TASK_DETECTOR`, into `out`.

    Args:
        others: what all detectors make of the task, for what their networks predict.
        take: gives training instances with their labels.
        title: of the study, for the sheet.
    """
    ordered = order(found.score)
    ranked = ordered[:top]
    suspects = _seen(take(found.task, ranked, found.corrupted), others)
    stem = stem_of(found.task, found.detector)
    trace = mean(np.stack([each.trace[:, ranked] for each in found.scores]))
    columns = {
        "rank": np.arange(1, len(ranked) + 1),
        "index": suspects.index,
        "score": _significant(found.score[ranked]),
        **_values(suspects),
        **{f"epoch_{e}": _significant(values) for e, values in enumerate(trace, start=1)},
    }
    table = pd.DataFrame(columns).dropna(axis=1, how="all")
    write_csv(table, out / f"{stem}.csv")
    first = suspects.first(MOST_TILES)
    heading = (
        f"{title}: {found.task}, the {len(first.index)} of {len(ordered):,} with the "
        f"largest {DETECTOR_LABELS[found.detector]}"
    )
    if first.predictions is not None and first.labels.ndim == 1:
        heading += " · given label (prediction?)"
    if found.corrupted is not None:
        heading += " · red: corrupted, blue: not"
    draw_sheet(first, heading, out / f"{stem}.png")


# --- what is printed ----------------------------------------------------------------------------


def render_found(found: Findings, shown: int, *, terminal: bool = False) -> str:
    """The first suspects of the list; the share of labels that look wrong, and how far to trust
    that; where it is known which labels are corrupted, how well they are found."""
    write = writer_of("table", terminal)
    tables = [_list_table(found, shown), *_share_tables(found.found)]
    of_tasks = f", of single tasks for {', '.join(found.detailed)}"
    last = f"{found.files} files in {found.out}: the list in {LIST_FILE}{of_tasks}"
    return "\n\n".join([*map(write, tables), "\n".join(wrapped(last))]) + "\n"


def _list_table(found: Findings, shown: int) -> Table:
    """The first so many of the list."""
    first = found.suspects[:shown]
    rows = []
    # Where only some tasks have a unit, or a label that is one number, there is NaN for the others.
    for row in first.astype(object).where(first.notna(), None).to_dict("records"):
        given, seen, apart = (row.get(name) for name in ("label", "predicted", "difference"))
        cells = {"task": row["task"], "instance": _instance(row)}
        if "corrupted" in row:
            cells["corrupted"] = "yes" if row["corrupted"] else "no"
        if isinstance(given, str):
            cells |= {"label": given, "predicted": "" if seen is None else seen}
        elif given is not None:
            there = [v for v in (given, seen) if v is not None]
            places = decimals(map(abs, there), [])
            cells |= {
                name: "" if value is None else digits(value, places)
                for name, value in (("label", given), ("predicted", seen), ("difference", apart))
            }
            cells["unit"] = row.get("unit") or ""
        cells["top"] = f"{row['top_percent']:.2g}"
        rows.append((str(row["rank"]), cells))
    heads = {
        "task": Column("task", words=True),
        "instance": Column("instance", words=True),
        "corrupted": Column("corrupted", words=True),
        "label": Column("label"),
        "predicted": Column("predicted"),
        "difference": Column("difference"),
        "unit": Column("unit", words=True),
        "top": Column("top (%)"),
    }
    kept = [name for name in heads if any(cells.get(name) for _, cells in rows)]
    lines = [Row(rank, [Cell(cells.get(name, "")) for name in kept]) for rank, cells in rows]
    number = len({each.task for each in found.found})
    notes = [
        "top: among the so many percent of its task's labels that are the most suspicious, by the "
        "mean rank of all detectors"
    ]
    return Table(
        f"{found.title}: the {len(rows)} labels that are most likely wrong"
        + (f", of {number} tasks" if number > 1 else ""),
        [heads[name] for name in kept],
        [Section("", lines)],
        notes,
    )


def _instance(row: Mapping[Any, Any]) -> str:
    """ "#4821 2-fluoropropane (420-26…"."""
    name = row.get("name")
    return f"#{row['index']}" + (f" {short_name(name)}" if name else "")


def _share_tables(found: Sequence[Found]) -> list[Table]:
    """Of few tasks, and of those with corrupted labels, a section each; of others a row."""
    few = len({each.task for each in found}) <= FEW_TASKS
    whole = [each for each in found if few or each.corrupted is not None]
    short = [each for each in found if not few and each.corrupted is None]
    return [*([_sections(whole)] if whole else []), *([_rows(short)] if short else [])]


HARD = "hard labels that are right, as those of a rare class, look the same in validation data"

CANNOT_TELL = "few of the labels are wrong, or the score cannot tell"


def _sections(found: Sequence[Found]) -> Table:
    known = any(each.corrupted is not None for each in found)
    columns = [Column("labels that look wrong", words=True)]
    if known:
        names = ("top fraction", "AUROC", "avg. precision")
        columns += [Column(name, "found (%)") for name in names]
    sections = []
    for task, inside in groupby(found, lambda each: each.task):
        rows = []
        for each in inside:
            cells = [Cell(_estimate(each)), *(_measures(each) if known else ())]
            rows.append(Row(DETECTOR_LABELS[each.detector], cells))
        sections.append(Section(task, rows))
    return Table(
        "Shares of wrong labels",
        columns,
        sections,
        [f"no second group: {CANNOT_TELL}; cannot tell: {HARD}"],
    )


def _estimate(found: Found) -> str:
    if isinstance(found.estimate, float):
        return f"{found.estimate:.1f} %, by confident learning's counts"
    one_group = found.estimate.verdict == "one group"
    return "no second group" if one_group else str(found.estimate)


def _rows(found: Sequence[Found]) -> Table:
    """A row for each task in which any detector sees wrong labels."""
    detectors = list(dict.fromkeys(each.detector for each in found))
    rows, others = [], 0
    for task, inside in groupby(found, lambda each: each.task):
        cells = {each.detector: _brief(each) for each in inside}
        if any(text[-1:].isdigit() for text in cells.values()):
            rows.append(Row(task, [Cell(cells.get(detector, "")) for detector in detectors]))
        else:
            others += 1
    notes = []
    if rows:
        notes.append(
            "none: no second group; ~: groups overlap, a rough guess; "
            f"?: none to so many, cannot tell: {HARD}"
        )
    if others:
        where = "the others" if rows else "any of them"
        notes.append(f"no second group in {where} ({others}): {CANNOT_TELL}")
    columns = [Column(DETECTOR_LABELS[detector]) for detector in detectors]
    return Table("Labels that look wrong (%)", columns, [Section("", rows)], notes)


def _brief(found: Found) -> str:
    """ "12.1", "~29.7", "?16.5" or "none"."""
    if isinstance(found.estimate, float):
        return digits(found.estimate, 1)
    if not found.estimate.second_group:
        return "none" if found.estimate.verdict == "one group" else "too few"
    mark = "?" if found.estimate.hard else "~" if found.estimate.verdict == "overlapping" else ""
    return mark + digits(found.estimate.share, 1)


def _measures(found: Found) -> list[Cell]:
    """How well corrupted labels are found (%), empty where it is not known which they are."""
    if found.corrupted is None:
        return [Cell()] * 3
    accuracy = detection_accuracy(found.score[:, None], found.corrupted[:, None])
    ranked = [measure(found.score, found.corrupted) for measure in (roc_auc, average_precision)]
    return [Cell(digits(value, 1)) for value in (accuracy, *ranked)]
