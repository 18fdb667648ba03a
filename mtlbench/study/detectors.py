"""Trains the runs and the folds that detectors read, where they are missing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlbench.analysis.label_errors.confident import require_cleanlab
from mtlbench.analysis.label_errors.scores import (
    CLEANLAB,
    DETECTORS,
    FOLDED,
    ILT_LOSS,
    LOSS,
    MARGIN,
    SIGMA,
    STRATEGY,
)
from mtlbench.errors import UserError, require_known
from mtlbench.execution import progress
from mtlbench.execution.resources import Resources
from mtlbench.plugins import PluginFile
from mtlbench.spec import RunSpec
from mtlbench.store.runs import Store
from mtlbench.store.schema import DONE
from mtlbench.study import run as studies
from mtlbench.study.plan import plan
from mtlbench.suites.build import suite_of
from mtlbench.training.jobs import FoldJob, cross_validations

DEFAULT_DETECTORS = (SIGMA, ILT_LOSS, LOSS, MARGIN)
"""Detectors that need no more than one run of `equal` and one of `ilt`."""


def chosen_detectors(names: Sequence[str] | None) -> list[str]:
    """The detectors asked for, each once; `DEFAULT_DETECTORS` where None.

    Raises:
        UserError: there is no such detector, or its package is not installed.
    """
    if names is None:
        return list(DEFAULT_DETECTORS)
    require_known("detector", names, DETECTORS)
    if CLEANLAB in names:
        require_cleanlab()
    return list(dict.fromkeys(names))


def runs_read(
    suite: str,
    variants: Sequence[str],
    chosen: Sequence[str],
    seeds: int | None,
    overrides: Mapping[str, Any] | None,
) -> list[RunSpec]:
    """The runs that the detectors read; for those of `FOLDED`, those whose training folds
    repeat."""
    strategies = list(dict.fromkeys(STRATEGY.get(name, "equal") for name in chosen))
    return plan(suite, strategies=strategies, variants=variants, seeds=seeds, overrides=overrides)


def train_missing(
    suite: str,
    specs: Sequence[RunSpec],
    chosen: Sequence[str],
    overrides: Mapping[str, Any] | None,
    plugins: Sequence[PluginFile],
    results: str | Path,
    resources: Resources,
) -> None:
    """Trains the runs and folds that are missing.

    Raises:
        UserError: of some strategy no run ended well, or a fold did not.
    """
    store = Store(results)
    folded = bool(set(chosen) & set(FOLDED))
    folds = cross_validations([s for s in specs if folded and s.strategy == "equal"])
    studies.require_way(folds, store)
    missing = [fold for fold in folds if not fold.path(store).exists()]
    if missing:
        _require_instances(missing[0])
    read = {STRATEGY[name] for name in chosen if name not in FOLDED}
    if read:
        studies.run_study(
            suite,
            strategies=sorted(read),
            variants=list(dict.fromkeys(spec.variant for spec in specs)),
            seeds=1 + max(spec.seed for spec in specs),
            overrides=overrides,
            plugins=plugins,
            results=results,
            resources=resources,
            traces=frozenset(read),
            trackers=(),
        )
        _require_done([spec for spec in specs if spec.strategy in read], store)
    if folds:
        _train_folds(folds, plugins, store, resources)


def _require_done(specs: Sequence[RunSpec], store: Store) -> None:
    statuses: dict[tuple[str, str], list[str]] = {}
    for spec in specs:
        key = (spec.variant, spec.strategy)
        statuses.setdefault(key, []).append(studies.status_of(spec, store))
    for (variant, strategy), ended in statuses.items():
        if DONE not in ended:
            counts = " and ".join(f"{ended.count(s)} {s}" for s in sorted(set(ended)))
            raise UserError(
                f"no run of {strategy!r} on {variant!r} is done ({counts}): there are no scores"
            )
        if set(ended) != {DONE}:
            progress.say(
                f"{variant}/{strategy}: only {ended.count(DONE)} of {len(ended)} runs are done"
            )


def _require_instances(fold: FoldJob) -> None:
    """Makes sure that each fold has an instance, before anything is trained.

    Raises:
        UserError: there are too few.
    """
    count = len(suite_of(fold.spec).data().train)
    if count < fold.folds:
        raise UserError(
            f"{fold.folds} folds need as many training instances, but suite {fold.spec.suite!r} "
            f"has {count}"
        )


def _train_folds(
    folds: Sequence[FoldJob],
    plugins: Sequence[PluginFile],
    store: Store,
    resources: Resources,
) -> None:
    studies.train_missing(
        folds, store, "cross-validation", "folds", plugins=plugins, resources=resources
    )
    left = [fold for fold in folds if not fold.path(store).exists()]
    if left:
        raise UserError(f"{len(left)} of {len(folds)} folds failed or diverged, as {left[0]}")
