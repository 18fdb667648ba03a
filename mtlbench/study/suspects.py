"""Suspects and detectors: training what is missing, then finding wrong labels."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mtlbench.analysis.label_errors.comparison import compare_detectors, stored_scores
from mtlbench.analysis.label_errors.found import (
    FEW_TASKS,
    LIST_FILE,
    Findings,
    Found,
    leading,
    list_suspects,
    stem_of,
    write_csv,
    write_found,
)
from mtlbench.analysis.label_errors.scores import CLEANLAB, MARGIN, Scores
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError, listed, require_known
from mtlbench.execution.resources import Resources
from mtlbench.plugins import read_plugins
from mtlbench.store import DEFAULT_RESULTS
from mtlbench.store.runs import check_writable
from mtlbench.study.detectors import chosen_detectors, runs_read, train_missing
from mtlbench.study.examples import Examples
from mtlbench.suites.base import Suite, suites
from mtlbench.suites.build import suite_of


def find_suspects(
    suite: str,
    variant: str = CLEAN,
    tasks: Sequence[str] | None = None,
    *,
    detectors: Sequence[str] | None = None,
    seeds: int | None = None,
    top: int = 100,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    results: str | Path = DEFAULT_RESULTS,
    resources: Resources | None = None,
) -> Findings:
    """Finds the labels that are most likely wrong; trains what that needs and is missing.

    Writes `suspects.csv`, one list over all tasks; and for each detector and each of the `tasks` a
    table, `suspects_TASK_DETECTOR.csv`, and a contact sheet, `suspects_TASK_DETECTOR.png`.

    Args:
        suite: the suite's name.
        variant: of the training labels; a corrupted one shows how well suspects are found.
        tasks: whose labels. By default those of all, with tables and sheets of each where there are
            few tasks, and of the few that lead the list where there are many.
        detectors: `sigma`, `ilt-loss`, `loss`, `margin`, `fold-loss`, `cleanlab`; by default all
            but the last two, which train 5 more networks a seed.
        seeds: how many, counted from 0; the suite's own number by default. Scores are averaged
            over them.
        top: how many suspects the list and the tables hold.
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
    files = read_plugins(plugins)
    chosen = chosen_detectors(detectors)
    specs = runs_read(suite, [variant], chosen, seeds, overrides)
    variant = specs[0].variant
    built = suite_of(specs[0])
    asked = listed("tasks", tasks)
    _require_classes(built, chosen)
    names = _tasks(built, asked, chosen, detectors is not None)
    out = Path(out) if out is not None else Path("suspects") / suite / variant
    _check_out(out, names, chosen)
    train_missing(suite, specs, chosen, overrides, files, results, resources or Resources())

    hashes = {spec.hash for spec in specs}
    scored = stored_scores(results, suite, [variant], detectors=chosen, hashes=hashes)
    of_pair: dict[tuple[str, str], list[Scores]] = {}
    for _, _, scores in scored:
        of_pair.setdefault((scores.task, scores.detector), []).append(scores)
    found = [
        Found.of(*pair, of_pair[pair])
        for pair in ((name, detector) for name in names for detector in chosen)
        if pair in of_pair
    ]
    if not found:
        raise UserError(
            f"no detector has scores for {' or '.join(map(repr, names))} in {str(results)!r}"
        )
    examples = Examples.load(built, specs[0])
    counts = {len(scores.score) for _, _, scores in scored} - {len(examples.split)}
    if counts:
        raise UserError(
            f"{str(results)!r} has scores of {counts.pop()} training instances, but suite "
            f"{suite!r} has {len(examples.split)}"
        )
    take = examples.take
    suspects = list_suspects(found, take, top)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(suspects, out / LIST_FILE)
    detailed = names if asked or len(names) <= FEW_TASKS else leading(suspects)
    detailed = [name for name in detailed if any(each.task == name for each in found)]
    title = f"{suite} {variant}"
    written = [each for each in found if each.task in detailed]
    for each in written:
        others = [other for other in found if other.task == each.task]
        write_found(each, others, take, top, out, title)
    return Findings(title, suspects, found, detailed, out, 1 + 2 * len(written))


def study_detectors(
    suite: str,
    variants: Sequence[str] | None = None,
    *,
    detectors: Sequence[str] | None = None,
    seeds: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    results: str | Path = DEFAULT_RESULTS,
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
    files = read_plugins(plugins)
    chosen = chosen_detectors(detectors)
    if variants is None:
        kind: Any = suites.get(suite).cls
        variants = [variant for variant in kind.default_variants if variant != CLEAN]
        if not variants:
            raise UserError(
                f"suite {suite!r} has no corrupted variant by default; give one, such as "
                "--variants TASK@0.4"
            )
    specs = runs_read(suite, variants, chosen, seeds, overrides)
    _require_classes(suite_of(specs[0]), chosen)
    names = list(dict.fromkeys(spec.variant for spec in specs))
    train_missing(suite, specs, chosen, overrides, files, results, resources or Resources())
    hashes = {spec.hash for spec in specs}
    return compare_detectors(results, suite, names, detectors=chosen, hashes=hashes)


def _check_out(out: Path, tasks: Sequence[str], detectors: Sequence[str]) -> None:
    """Makes sure that tables and sheets can be written, before anything is trained.

    Raises:
        UserError: they cannot.
    """
    check_writable(out, "output path")
    stems = [stem_of(task, detector) for task in tasks for detector in detectors]
    for name in (LIST_FILE, *(f"{stem}{end}" for stem in stems for end in (".csv", ".png"))):
        if os.path.lexists(out / name) and not (out / name).is_file():
            raise UserError(f"{str(out / name)!r} is in the way: it is not a file")


def _tasks(
    suite: Suite, asked: Sequence[str] | None, chosen: Sequence[str], own_detectors: bool
) -> list[str]:
    kinds = {each.name: each.kind for each in suite.tasks()}
    if asked is None:
        return list(kinds)
    require_known("task", asked, kinds)
    for task in asked:
        if own_detectors and kinds[task] == "regression" and set(chosen) <= CLASSIFYING:
            raise UserError(f"{_for_classes(chosen)}, but task {task!r} is a regression; {OTHERS}")
    return list(dict.fromkeys(asked))


CLASSIFYING = {MARGIN, CLEANLAB}
OTHERS = "others: 'sigma', 'ilt-loss', 'loss', 'fold-loss'"


def _for_classes(chosen: Sequence[str]) -> str:
    return f"detectors {', '.join(map(repr, chosen))} are for classification"


def _require_classes(suite: Suite, chosen: Sequence[str]) -> None:
    """Makes sure that some task has labels for one of the detectors, before anything is trained.

    Raises:
        UserError: none has.
    """
    if set(chosen) <= CLASSIFYING and all(each.kind == "regression" for each in suite.tasks()):
        raise UserError(f"{_for_classes(chosen)}, but all tasks are regressions; {OTHERS}")
