"""What the detectors found, for a person to judge: tables, contact sheets, a summary."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich import box
from rich.table import Table as RichTable
from torch import Tensor

from mtlbench.analysis.label_errors.mixture import estimate_share
from mtlbench.analysis.label_errors.scores import DETECTOR_LABELS, Scores, mean, order
from mtlbench.analysis.label_errors.sheet import MOST_TILES, Suspects, class_name, draw_sheet
from mtlbench.analysis.printing import digits, printed
from mtlbench.data.rows import Rows
from mtlbench.data.splits import Split
from mtlbench.data.variants import Variant
from mtlbench.spec import RunSpec
from mtlbench.store.runs import Store, read_run
from mtlbench.suites.base import Suite
from mtlbench.tasks.detection import average_precision, detection_accuracy, roc_auc
from mtlbench.tasks.task import Task
from mtlbench.training.run import training_labels


@dataclass(frozen=True)
class Found:
    """What one detector says of one task, over all seeds.

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


@dataclass(frozen=True)
class Pictures:
    """What sheets show: training inputs with their given labels, and what the networks saw."""

    suite: Suite
    split: Split
    tasks: Mapping[str, Task]
    predictions: np.ndarray | None
    title: str

    @classmethod
    def load(cls, suite: Suite, spec: RunSpec, results: str | Path, hashes: set[str]) -> "Pictures":
        tasks = {task.name: task for task in suite.tasks()}
        variant = Variant.parse(spec.variant, suite.tasks())
        split, _ = training_labels(suite, spec.suite, variant, suite.data(), torch.device("cpu"))
        seen = []
        for path in Store(results).require().run_directories():
            if path.name.rpartition("-")[2] in hashes:
                traces = read_run(path).traces()
                if traces is not None:
                    seen.append(traces["prediction"])
        predictions = np.concatenate(seen) if seen else None
        return cls(suite, split, tasks, predictions, f"{spec.suite} {spec.variant}")

    def take(self, name: str, rows: np.ndarray, corrupted: np.ndarray | None) -> Suspects:
        index = torch.from_numpy(rows)

        def of(values: Rows) -> Tensor:
            return values[index]

        inputs = of(self.split.inputs)
        labels = self.suite.complete({k: of(v) for k, v in self.split.targets.items()})
        task, label = self.tasks[name], labels[name]
        shown = label.numpy()
        if task.kind == "classification":
            shown = np.where(task.labelled(label).numpy(), shown, -1).astype(np.int64)
        elif label.ndim > 1:
            shown = np.where(task.labelled(label).numpy(), shown, np.nan)
        views = self.suite.views(inputs, labels) if label.ndim not in (1, 3) else {}
        k = list(self.tasks).index(name)
        suggestions = None
        if self.predictions is not None and task.kind == "classification":
            suggestions = _most_frequent(self.predictions[:, rows, k])
        info = {
            "name": name,
            "kind": task.kind,
            "unit": task.unit,
            "classes": list(task.classes),
            "palette": [list(colour) for colour in task.palette] or None,
        }
        mask = None if corrupted is None else corrupted[rows]
        return Suspects(info, rows, inputs.numpy(), shown, suggestions, mask, views)


def _most_frequent(predictions: np.ndarray) -> np.ndarray:
    """The class predicted most often [n], of predictions [E, n]; -1 where there is none."""
    found = np.full(predictions.shape[1], -1)
    for i, column in enumerate(predictions.T):
        seen = column[column >= 0]
        if len(seen):
            found[i] = np.bincount(seen).argmax()
    return found


def write_found(
    task: str, detector: str, scores: Sequence[Scores], pictures: Pictures, top: int, out: Path
) -> Found:
    """Writes the table of a task's first `top` suspects and their contact sheet into `out`.

    Args:
        scores: of one detector, one a seed.
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
    suspects = pictures.take(task, ranked, corrupted)
    stem = f"suspects_{task}_{detector}"
    table, sheet = out / f"{stem}.csv", out / f"{stem}.png"
    _table(suspects, score[ranked], trace[:, ranked]).to_csv(table, index=False)
    first = dataclasses.replace(
        suspects,
        index=suspects.index[:MOST_TILES],
        inputs=suspects.inputs[:MOST_TILES],
        labels=suspects.labels[:MOST_TILES],
        views={name: view[:MOST_TILES] for name, view in suspects.views.items()},
    )
    title = (
        f"{pictures.title}: {task}, the {len(first.index)} of {len(order(score)):,} with the "
        f"largest {DETECTOR_LABELS[detector]}"
    )
    if suspects.suggestions is not None and suspects.labels.ndim == 1:
        title += " · given label (prediction?)"
    if corrupted is not None:
        title += " · red: corrupted, blue: not"
    draw_sheet(first, title, sheet)
    return Found(task, detector, len(scores), score, trace, estimate, corrupted, (table, sheet))


def _table(suspects: Suspects, score: np.ndarray, trace: np.ndarray) -> pd.DataFrame:
    """The suspects, the first first: rank, dataset index, score, label where it is one value, and
    the trace by epoch."""
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(score) + 1),
        "index": suspects.index,
        "score": score,
    }
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
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for name in ("task", "detector", "labels that look wrong"):
        table.add_column(name, no_wrap=True)
    measures = ("top fraction", "AUROC", "avg. precision") if known else ()
    for name in measures:
        table.add_column(f"{name} (%)", justify="right", no_wrap=True)
    for each in found:
        values: list[str] = []
        if known:
            values = [""] * 3
        if each.corrupted is not None:
            values = [
                digits(detection_accuracy(each.score[:, None], each.corrupted[:, None]), 1),
                digits(roc_auc(each.score, each.corrupted), 1),
                digits(average_precision(each.score, each.corrupted), 1),
            ]
        table.add_row(each.task, DETECTOR_LABELS[each.detector], each.estimate, *values)
    lines = printed(table, terminal)
    folder = found[0].files[0].parent
    lines.append(f"{2 * len(found)} files in {folder}")
    return "\n".join(lines) + "\n"
