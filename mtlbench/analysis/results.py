"""Stored runs as one tidy table."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mtlbench.analysis.reference import reference_runs, reference_tunings
from mtlbench.analysis.remarks import plural
from mtlbench.analysis.settings import TUNED, configuration, settings_of
from mtlbench.errors import UserError
from mtlbench.store import DEFAULT_RESULTS
from mtlbench.store.runs import Places, Store, places
from mtlbench.store.schema import FAILED
from mtlbench.store.trials import Tuning, tuning_file, tunings
from mtlbench.tasks.epoch_rule import LAST

RESULT_COLUMNS = [
    "suite", "variant", "strategy", "label", "stage", "seed", "settings", "status",
    "networks", "epoch_rule", "metric", "metric_label", "task", "unit", "direction", "value",
    "device", "hash", "path",
]  # fmt: skip


@dataclass(frozen=True)
class Copies:
    """All that some places hold, each run with all its copies.

    Attributes:
        counted: one copy of each run, as `load_results` gives them.
        others: the copies that do not count, with the same columns.
    """

    counted: pd.DataFrame
    others: pd.DataFrame


def load_results(
    results: Places | None = None, *, reference: bool = False, thorough: bool = False
) -> pd.DataFrame:
    """All runs of one or several results directories, one row per (run, metric).

    A run that is in several places (the same hash) counts once: one that failed gives way to one
    that did not, then the directory named first decides. A reference run counts where there is no
    own one of the same hash, whatever came of that.

    A run without metrics (failed or diverged) has one row, whose metric is missing. The column
    `settings` tells configurations of one suite apart; see `settings.settings_of`. `epoch_rule`
    names the epochs that the metrics are of; see `EpochRule`. `device` is what the run was trained
    on: `cpu`, or the name of a card. `path` is the run's directory, and empty for a reference run.

    Args:
        results: the results directories; `runs` where None, or with `reference` none where there
            is no such directory. With `reference` there may be none: `()`.
        reference: the reference results that come with the package, too.
        thorough: read every file of every run and leave out those with one that was altered, as
            all must that go on to read more than final metrics.

    Returns:
        A frame with the columns `RESULT_COLUMNS`. Its `attrs["damaged"]` lists the run
        directories that could not be read, as (path, what is wrong), and `attrs["tunings"]` has
        the tuning of each tuned (suite, variant, configuration).

    Raises:
        UserError: there is no such directory.
    """
    return load_copies(results, reference=reference, thorough=thorough).counted


def load_copies(
    results: Places | None = None, *, reference: bool = False, thorough: bool = False
) -> Copies:
    """The same with the copies that do not count.

    Raises:
        UserError: there is no such directory.
    """
    runs: list[_Run] = []
    tuned: dict[str, Tuning] = {}
    damaged: list[tuple[str, str]] = []
    for root in directories(results, reference):
        found, unreadable = _read(root, thorough)
        runs += found
        damaged += [*unreadable, *_take_tunings(root, tuned)]
    if reference:
        runs += [_Run(info, "") for info in reference_runs()]
        damaged += _take(reference_tunings(), tuned, lambda tuning: "the reference results")
    runs = _with_tuned(runs, list(tuned.values()))
    first: dict[tuple[str, str], int] = {}
    for i, run in enumerate(runs):
        key = run.hash, run.tuned
        other = first.setdefault(key, i)
        if runs[other].failed and not run.failed and run.path:
            first[key] = i
    counts = set(first.values())
    settings = settings_of(
        [run.spec for run in runs],
        [not run.path for run in runs],
        [run.changed for run in runs],
    )
    settings = [
        ", ".join(filter(None, (text, run.tuned))) for text, run in zip(settings, runs, strict=True)
    ]
    counted = _frame(runs, settings, [i for i in range(len(runs)) if i in counts])
    counted.attrs["damaged"] = sorted(damaged)
    counted.attrs["tunings"] = _Shared(
        {
            (
                run.spec["suite"],
                run.spec["variant"],
                configuration(run.spec["strategy"], text),
            ): run.tuning
            for run, text in zip(runs, settings, strict=True)
            if run.tuning is not None
        }
    )
    others = _frame(runs, settings, [i for i in range(len(runs)) if i not in counts])
    return Copies(counted, others)


def require_suite(results: pd.DataFrame, suite: str, where: str) -> pd.DataFrame:
    """The same results, if there are runs of this suite among them that can be read.

    Args:
        results: rows as from `load_results`.
        suite: the suite's name.
        where: in which places, for the message; see `named`.

    Raises:
        UserError: there are none; names the suites that there are.
    """
    present = sorted(set(results["suite"]))
    if suite in present:
        return results
    others = f"; it holds runs of {', '.join(map(repr, present))}" if present else ""
    if damaged := results.attrs.get("damaged"):
        path, what = damaged[0]
        others += f"; {len(damaged)} cannot be read: {path}: {what}"
    raise UserError(f"no runs of suite {suite!r} in {where}{others}")


def directories(results: Places | None, reference: bool = False) -> list[Path]:
    """The results directories that are to be read, each once.

    Args:
        results, reference: as for `load_results`.

    Raises:
        UserError: one is missing, or there is none.
    """
    if results is None:
        several: list[str | Path] = [DEFAULT_RESULTS]
        if reference and not Path(DEFAULT_RESULTS).exists():
            return []
    else:
        several = places(results)
    if not several and not reference:
        raise UserError("no results directory given")
    found: dict[Path, Path] = {}
    for root in several:
        found.setdefault(Store(root).require().root.resolve(), Path(root))
    return list(found.values())


def named(results: Places | None, reference: bool = False) -> str:
    """Places in words: "'runs', 'more' and the reference results"."""
    found = [repr(str(root)) for root in directories(results, reference)]
    found += ["the reference results"] if reference else []
    return " and ".join(filter(None, [", ".join(found[:-1]), found[-1]]))


# --- reading --------------------------------------------------------------------------------------


_IDENTITY = [
    "suite", "variant", "strategy", "label", "stage", "seed", "status", "networks", "epoch_rule",
    "device", "hash", "path",
]  # fmt: skip
_METRIC = ["metric", "metric_label", "task", "unit", "direction", "value"]
_METRIC_KEYS = ("metric", "label", "task", "unit", "direction", "value")


class _Shared(dict[Any, Any]):
    """What nobody changes: pandas makes a deep copy of all `attrs` in every operation on a frame,
    which of a hundred tunings takes ten times as long as all the rest of a comparison."""

    def __deepcopy__(self, memo: object) -> "_Shared":
        return self


class _Run:
    """A run's record, and its directory; "" for a reference run.

    Attributes:
        spec: with the parameters that tell its configuration from others: of a tuned one, those
            that it was tuned from.
        tuned, tuning: how, in words and in full; "" and None where it was not.
        changed: names of those parameters of `spec` that are not the default ones; None where the
            run does not say.
    """

    def __init__(
        self, info: Mapping[str, Any], path: str, tuning: Tuning | None = None, tuned: str = ""
    ) -> None:
        spec = info["spec"]
        self.info, self.path, self.tuned, self.tuning = info, path, tuned, tuning
        self.spec = spec if tuning is None else {**spec, **tuning.defaults}
        self.hash = info["hash"]
        self.failed = info["status"] == FAILED
        searched = () if tuning is None else tuning.chosen.parameters
        names = None if self.failed else info.get("changed")  # a run may fail before it knows
        self.changed = None if names is None else [n for n in names if n not in searched]
        self.identity = (
            spec["suite"], spec["variant"], spec["strategy"], info["label"], info.get("stage", ""),
            spec["seed"], info["status"], info.get("population", {}).get("networks", 1),
            spec["suite_parameters"].get("epoch_rule", LAST), info.get("device"), info["hash"],
            path,
        )  # fmt: skip

    @property
    def metrics(self) -> list[tuple[Any, ...]]:
        """The columns `_METRIC` of each metric, all missing where there is none."""
        metrics = self.info["metrics"] or [{}]
        return [tuple(metric.get(key) for key in _METRIC_KEYS) for metric in metrics]


def _read(root: Path, thorough: bool) -> tuple[list[_Run], list[tuple[str, str]]]:
    """The runs of a directory, and what cannot be read, as (path, what is wrong)."""
    stored, unreadable = Store(root).require().load(thorough=thorough)
    damaged = [(str(path), what) for path, what in unreadable]
    runs: dict[str, _Run] = {}
    for found in stored:
        path = str(found.path)
        run = _Run(found.info, path)
        if run.hash in runs:  # a copied directory: counting it would make n a lie
            damaged.append((path, f"holds the same run as {runs[run.hash].path}"))
        else:
            runs[run.hash] = run
    return list(runs.values()), damaged


def _take_tunings(root: Path, into: dict[str, Tuning]) -> list[tuple[str, str]]:
    """Adds the tunings of a directory to those of others; see `_take`."""
    store = Store(root)
    found, unreadable = tunings(store)
    damaged = [(str(path), what) for path, what in unreadable]
    return damaged + _take(found, into, lambda tuning: str(tuning_file(store, tuning.hash)))


def _take(
    found: Sequence[Tuning], into: dict[str, Tuning], place: Callable[[Tuning], str]
) -> list[tuple[str, str]]:
    """Adds tunings to those of others, by hash; what cannot be right, as (place, what is wrong)."""
    damaged = []
    for tuning in found:
        known = into.setdefault(tuning.hash, tuning)
        if known.trials == tuning.trials:
            into[tuning.hash] = known.with_seeds(tuning.seeds)
        else:
            damaged.append((place(tuning), "has other scores than the same trials elsewhere"))
    return damaged


def _with_tuned(runs: Sequence[_Run], tuned: Sequence[Tuning]) -> list[_Run]:
    """The same runs, those that were trained with what a tuning chose as tuned ones.

    Where it chose the default parameters, they count as both.
    """
    by_hash: dict[str, dict[str, Tuning]] = defaultdict(dict)
    for tuning, text in zip(tuned, _budgets(tuned), strict=True):
        for hash in tuning.runs:
            by_hash[hash][text] = tuning
    found = []
    for run in runs:
        mine = by_hash.get(run.hash, {})
        if all(not tuning.chosen.parameters for tuning in mine.values()):
            found.append(run)
        found += [_Run(run.info, run.path, tuning, text) for text, tuning in mine.items()]
    return found


def _budgets(tuned: Sequence[Tuning]) -> list[str]:
    """For each tuning, in words, what tells it from others that it must not join: how many trials,
    and whether they were halved, where not all have the same; what was searched, where it was not
    the same for all of its strategy with the same parameters of the suite; its hash, where there
    is still another of the same runs."""
    counts = {_count(tuning) for tuning in tuned}
    searched: dict[Any, set[str]] = defaultdict(set)
    for tuning in tuned:
        if len(tuning.points) > 1:
            searched[_group(tuning)].add(" ".join(tuning.searched))
    texts = []
    for tuning in tuned:
        parts = [TUNED]
        if len(counts) > 1:
            parts.append(_count(tuning))
        if len(searched[_group(tuning)]) > 1:
            parts.append(f"of {' '.join(tuning.searched) or 'nothing'}")
        texts.append(", ".join(parts))
    cells: dict[Any, set[str]] = defaultdict(set)
    keys = [
        (tuning.suite, tuning.variant, tuning.strategy, json.dumps(tuning.defaults), text)
        for tuning, text in zip(tuned, texts, strict=True)
    ]
    for key, tuning in zip(keys, tuned, strict=True):
        cells[key].add(tuning.hash)
    return [
        f"{text}, {tuning.hash}" if len(cells[key]) > 1 else text
        for key, tuning, text in zip(keys, tuned, texts, strict=True)
    ]


def _group(tuning: Tuning) -> tuple[str, str, str]:
    """Of tunings that differ in more than their variant, other names tell it."""
    defaults = json.dumps(tuning.defaults["suite_parameters"], sort_keys=True)
    return tuning.suite, tuning.strategy, defaults


def _count(tuning: Tuning) -> str:
    """ "8 trials", "8 trials halved"."""
    count = len(tuning.points)
    return f"{count} {plural('trial', count)}{' halved' * bool(tuning.rounds)}"


def _frame(runs: Sequence[_Run], settings: Sequence[str], chosen: Sequence[int]) -> pd.DataFrame:
    identities = pd.DataFrame([runs[i].identity for i in chosen], columns=_IDENTITY)
    identities["settings"] = [settings[i] for i in chosen]
    metrics = [runs[i].metrics for i in chosen]
    measured = pd.DataFrame([metric for of_run in metrics for metric in of_run], columns=_METRIC)
    repeated = identities.loc[identities.index.repeat(list(map(len, metrics)))]
    frame = pd.concat([repeated.reset_index(drop=True), measured], axis=1)[RESULT_COLUMNS]
    return frame.astype({"value": float})
