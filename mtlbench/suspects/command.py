"""What `mtlbench suspects` and `mtlbench detectors` do: train what is missing, then look at it."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from torch import Tensor

from mtlbench import executor, progress, registry
from mtlbench.analysis.printing import digits, printed
from mtlbench.api import run_study
from mtlbench.corruption import CLEAN, Variant
from mtlbench.detection import average_precision, detection_accuracy, roc_auc
from mtlbench.errors import UserError, unknown
from mtlbench.executor import Resources, run_directory
from mtlbench.registry import PluginFile
from mtlbench.rows import Rows
from mtlbench.store import DONE, Store, read_run
from mtlbench.study import RunSpec, plan
from mtlbench.suites.base import Split, Suite
from mtlbench.suspects.comparison import compare_detectors, stored_scores
from mtlbench.suspects.confident import require_cleanlab
from mtlbench.suspects.folds import fold_file, missing_folds, train_folds
from mtlbench.suspects.mixture import estimate_share
from mtlbench.suspects.scores import (
    CLEANLAB,
    DETECTOR_LABELS,
    DETECTORS,
    LOSS,
    MARGIN,
    SIGMA,
    STRATEGY,
    Scores,
    mean,
    order,
)
from mtlbench.suspects.sheet import MOST_TILES, Suspects, class_name, draw_sheet
from mtlbench.tasks import Task
from mtlbench.trainer import training_labels

DEFAULT_DETECTORS = (SIGMA, LOSS, MARGIN)
"""Those that need no more than one run of `equal` and one of `ilt`."""


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


def find_suspects(
    suite: str,
    variant: str = CLEAN,
    task: str | None = None,
    *,
    detectors: Sequence[str] | None = None,
    seeds: int | None = None,
    top: int = 100,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    results: str | Path = "runs",
    resources: Resources | None = None,
) -> list[Found]:
    """Finds the labels that are most likely wrong; trains what that needs and is missing.

    Writes for each task and detector a table, `suspects_TASK_DETECTOR.csv`, and a contact sheet,
    `suspects_TASK_DETECTOR.png`.

    Args:
        suite: the suite's name.
        variant: of the training labels; a corrupted one shows how well suspects are found.
        task: which labels; those of all tasks by default.
        detectors: `sigma`, `loss`, `margin`, `cleanlab`; by default all but the last, which trains
            5 more networks a seed.
        seeds: how many, counted from 0; the suite's own number by default. Scores are averaged
            over them.
        top: how many suspects the tables hold.
        out: directory for tables and sheets; `suspects/SUITE/VARIANT` by default.
        overrides: parameters, as for `mtlbench.run`.
        plugins: files that register further suites.
        results: the results directory.
        resources: what a run takes.

    Raises:
        UserError: anything that does not exist or is out of range, or no run that ended well.
    """
    if top < 1:
        raise UserError(f"top must be at least 1, but is {top}")
    files = _load(plugins)
    chosen = _detectors(detectors)
    specs = _plan(suite, [variant], chosen, seeds, overrides)
    variant = specs[0].variant
    built = specs[0].build_suite()
    tasks = _tasks(built, task, chosen, asked=detectors is not None)
    out = Path(out) if out is not None else Path("suspects") / suite / variant
    if out.exists() and not out.is_dir():
        raise UserError(f"output path {str(out)!r} is a file, not a directory")
    _train(suite, specs, chosen, overrides, files, plugins, results, resources or Resources())

    hashes = {spec.hash for spec in specs}
    scored = stored_scores(results, suite, [variant], detectors=chosen, hashes=hashes)
    of_pair: dict[tuple[str, str], list[Scores]] = {}
    for _, _, scores in scored:
        of_pair.setdefault((scores.task, scores.detector), []).append(scores)
    wanted = [
        (each, detector) for each in tasks for detector in chosen if (each, detector) in of_pair
    ]
    if not wanted:
        raise UserError(
            f"no detector has scores for {' or '.join(map(repr, tasks))} in {str(results)!r}"
        )
    pictures = _Pictures.load(built, specs[0], results, hashes)
    out.mkdir(parents=True, exist_ok=True)
    return [_found(*pair, of_pair[pair], pictures, top, out) for pair in wanted]


def study_detectors(
    suite: str,
    variants: Sequence[str] | None = None,
    *,
    detectors: Sequence[str] | None = None,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    results: str | Path = "runs",
    resources: Resources | None = None,
) -> pd.DataFrame:
    """Compares the detectors on corrupted variants; trains what that needs and is missing.

    Args:
        variants: the suite's corrupted default variants where None.
        detectors: as for `find_suspects`.
        suite, seeds, overrides, plugins, results, resources: as for `find_suspects`.

    Returns:
        As `compare_detectors`.

    Raises:
        UserError: anything that does not exist or is out of range, or no run that ended well.
    """
    files = _load(plugins)
    chosen = _detectors(detectors)
    if variants is None:
        kind: Any = registry.suites.get(suite).cls
        variants = [variant for variant in kind.default_variants if variant != CLEAN]
        if not variants:
            raise UserError(
                f"suite {suite!r} has no corrupted variant by default; give one, such as "
                "--variants TASK@0.4"
            )
    specs = _plan(suite, variants, chosen, seeds, overrides)
    names = list(dict.fromkeys(spec.variant for spec in specs))
    _train(suite, specs, chosen, overrides, files, plugins, results, resources or Resources())
    hashes = {spec.hash for spec in specs}
    return compare_detectors(results, suite, names, detectors=chosen, hashes=hashes)


# --- what is asked for --------------------------------------------------------------------------


def _load(plugins: Sequence[str | Path]) -> list[PluginFile]:
    files = [PluginFile.read(path) for path in plugins]
    for file in files:
        file.load()
    return files


def _detectors(names: Sequence[str] | None) -> list[str]:
    if names is None:
        return list(DEFAULT_DETECTORS)
    for name in names:
        if name not in DETECTORS:
            raise unknown("detector", name, DETECTORS)
    if CLEANLAB in names:
        require_cleanlab()
    return list(dict.fromkeys(names))


def _plan(
    suite: str,
    variants: Sequence[str],
    chosen: Sequence[str],
    seeds: int | None,
    overrides: Mapping[str, Any] | None,
) -> list[RunSpec]:
    """The runs that the detectors read; for cleanlab those whose training its folds repeat."""
    strategies = list(dict.fromkeys(STRATEGY.get(name, "equal") for name in chosen))
    return plan(suite, strategies=strategies, variants=variants, seeds=seeds, overrides=overrides)


def _tasks(suite: Suite, task: str | None, chosen: Sequence[str], *, asked: bool) -> list[str]:
    names = [each.name for each in suite.tasks()]
    if task is None:
        return names
    if task not in names:
        raise unknown("task", task, names)
    kind = next(each.kind for each in suite.tasks() if each.name == task)
    classifying = {MARGIN, CLEANLAB}
    if asked and kind == "regression" and set(chosen) <= classifying:
        raise UserError(
            f"detectors {', '.join(map(repr, chosen))} are for classification, but task {task!r} "
            "is a regression; others: 'sigma', 'loss'"
        )
    return [task]


# --- training -----------------------------------------------------------------------------------


def _train(
    suite: str,
    specs: Sequence[RunSpec],
    chosen: Sequence[str],
    overrides: Mapping[str, Any] | None,
    files: Sequence[PluginFile],
    plugins: Sequence[str | Path],
    results: str | Path,
    resources: Resources,
) -> None:
    """Trains the runs and folds that are missing.

    Raises:
        UserError: of some strategy no run ended well, or a fold did not.
    """
    read = {STRATEGY[name] for name in chosen if name != CLEANLAB}
    traced = frozenset({"equal"} & {STRATEGY.get(n, "") for n in chosen})
    if read:
        run_study(
            suite,
            strategies=sorted(read),
            variants=list(dict.fromkeys(spec.variant for spec in specs)),
            seeds=1 + max(spec.seed for spec in specs),
            overrides=overrides,
            plugins=plugins,
            results=results,
            resources=dataclasses.replace(resources, traces=traced),
            trackers=(),
        )
        _require_done([spec for spec in specs if spec.strategy in read], Store(results))
    if CLEANLAB in chosen:
        _train_folds([s for s in specs if s.strategy == "equal"], files, results, resources)


def _require_done(specs: Sequence[RunSpec], store: Store) -> None:
    statuses: dict[tuple[str, str], list[str]] = {}
    for spec in specs:
        path = run_directory(spec, store)
        status = read_run(path).info["status"] if path.exists() else "missing"
        statuses.setdefault((spec.variant, spec.strategy), []).append(status)
    for (variant, strategy), ended in statuses.items():
        if DONE not in ended:
            counts = " and ".join(f"{ended.count(s)} {s}" for s in sorted(set(ended)))
            raise UserError(
                f"no run of {strategy!r} on {variant!r} is done ({counts}): there are no scores"
            )
        if set(ended) != {DONE}:
            _say(f"{variant}/{strategy}: only {ended.count(DONE)} of {len(ended)} runs are done")


def _train_folds(
    specs: Sequence[RunSpec], files: Sequence[PluginFile], results: str | Path, resources: Resources
) -> None:
    store = Store(results)
    store.check_writable()
    folds = missing_folds(specs, store)
    if not folds:
        return
    with executor.cluster(resources) as fits:
        parallel = min(fits, len(folds))
        _say(f"cross-validation: {len(folds)} folds to train, {parallel} at a time")
        with progress.show_progress(len(folds), Console(stderr=True)) as report:
            train_folds(folds, store, parallel, plugins=files, resources=resources, report=report)
    left = [fold for fold in folds if not fold_file(store, fold).exists()]
    if left:
        raise UserError(f"{len(left)} of {len(folds)} folds failed or diverged, as {left[0]}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- tables and sheets --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pictures:
    """What sheets show: training inputs with their given labels, and what the networks saw."""

    suite: Suite
    split: Split
    tasks: Mapping[str, Task]
    predictions: np.ndarray | None
    title: str

    @classmethod
    def load(
        cls, suite: Suite, spec: RunSpec, results: str | Path, hashes: set[str]
    ) -> "_Pictures":
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


def _found(
    task: str, detector: str, scores: Sequence[Scores], pictures: _Pictures, top: int, out: Path
) -> Found:
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
