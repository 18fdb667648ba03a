"""Evolves a population of networks on Ray Tune: the runs of `evolution`.

Tune places the members on machines, waits for all of them after each generation and selects
(Population Based Training, synchronous). What it moves between them is their lineage alone, as
part of their configuration; states lie in files named by it, see `lineage`. Draws have named
generators, so that neither how many members are trained at a time nor which ends first matters.
"""

import logging
import math
import os
import signal
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining
from ray.tune.search.basic_variant import BasicVariantGenerator

from mtlbench.lineage import Lineage, Members, Segment
from mtlbench.randomness import named_generator
from mtlbench.store import DONE, RunRecord
from mtlbench.strategies.compose import Composition
from mtlbench.strategies.evolution import Evolution
from mtlbench.study import RunSpec
from mtlbench.worker import Workplace

TUNE_SETTINGS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the command, as everywhere else
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


class MemberError(Exception):
    """A member could not be trained; the message is a traceback or a reason."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to train members.

    Attributes:
        spec: the search.
        directory: where members are kept.
        workplace: what a worker is set up with.
        keep_traces: keep what `Traces` notes of every training instance.
    """

    spec: RunSpec
    directory: Path
    workplace: Workplace
    keep_traces: bool

    def begin(self) -> Members:
        """Prepares this process."""
        place = self.workplace
        place.set_up()
        device = torch.device(place.device)
        return Members(self.spec, self.directory, device, place.instance_tables, self.keep_traces)


@dataclass(frozen=True)
class Trained:
    """A member after a generation.

    Attributes:
        lineage: its task weights up to this generation.
        parent: which member of the generation before it comes from; None in the first.
        segment: what came of its training.
    """

    lineage: Lineage
    parent: int | None
    segment: Segment


def evolve(
    job: Job, reserve: Mapping[str, float], progress: Callable[[int, int], None]
) -> RunRecord:
    """Trains a population and gives the record of its best member, with the cost of all.

    Args:
        job: what to train.
        reserve: what Ray is to reserve for each member, `num_cpus` and `num_gpus`.
        progress: told how many epochs are over, of all members together, and of how many.

    Raises:
        MemberError: a member raised, or its worker died.
    """
    search = Search(job.spec, progress)
    as_tune = {"cpu": reserve["num_cpus"], "gpu": reserve["num_gpus"]}
    with _quiet(), tempfile.TemporaryDirectory(prefix="mtlbench-") as scratch:
        results = tune.Tuner(
            tune.with_resources(tune.with_parameters(_Member, job=job), as_tune),
            param_space={"member": tune.grid_search(search.first())},
            tune_config=tune.TuneConfig(
                search_alg=_Population(search), scheduler=_Selection(search), reuse_actors=True
            ),
            run_config=tune.RunConfig(
                name="population",
                storage_path=scratch,
                stop=search,
                failure_config=tune.FailureConfig(fail_fast=True),
                verbose=0,
            ),
        ).fit()
    if search.error:
        raise MemberError(search.error)
    if results.errors:
        raise MemberError(f"a worker process died: {results.errors[0]}")
    conclude: Any = ray.remote(_conclude).options(**reserve, max_retries=0)
    try:
        record: RunRecord = ray.get(conclude.remote(job, search.best().lineage))
    except ray.exceptions.RayError as error:
        raise MemberError(f"a worker process died: {error}") from error
    search.complete(record)
    return record


def _conclude(job: Job, lineage: Lineage) -> RunRecord:
    return job.begin().record(lineage)


class Search(tune.Stopper):
    """All that was trained, as Tune reports it, and when that is enough.

    Attributes:
        stage: the strategy's task stage.
        trained: members by generation, from 1, and number, from 0.
        error: what a member raised, or "".
    """

    def __init__(self, spec: RunSpec, progress: Callable[[int, int], None]) -> None:
        suite = spec.build_suite()
        entry = Composition.parse(spec.strategy).task
        own = {
            key.removeprefix(f"{entry.name}."): value
            for key, value in spec.strategy_parameters.items()
            if key.startswith(f"{entry.name}.")
        }
        self.spec, self.progress = spec, progress
        self.stage: Evolution = entry.cls(**own)
        self.tasks = tuple(task.name for task in suite.tasks())
        self.epochs = suite.epochs
        self.generations = math.ceil(suite.epochs / self.stage.every)
        self.trained: dict[tuple[int, int], Trained] = {}
        self.error = ""

    def __getstate__(self) -> dict[str, Any]:
        """Without the way to a terminal: Tune writes all that it is given aside, unread by us."""
        return {name: value for name, value in self.__dict__.items() if name != "progress"}

    def draws(self, generation: int, member: int) -> torch.Generator:
        """For what a member is to be in a generation."""
        spec = self.spec
        return named_generator(
            "population", spec.suite, spec.strategy, spec.seed, generation, member
        )

    def first(self) -> list[dict[str, Any]]:
        """The members of the first generation, as a worker is told of them."""
        return [
            {
                "number": number,
                "parent": None,
                "lineage": [self.stage.first_weights(number, self.tasks, self.draws(1, number))],
            }
            for number in range(self.stage.population)
        ]

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self.error = self.error or result["error"]
        if self.error:
            return True
        member, generation = result["member"], result["generation"]
        self.trained[generation, member["number"]] = Trained(
            member["lineage"], member["parent"], Segment(**result["segment"])
        )
        self.progress(self.epochs_trained(), self.stage.population * self.epochs)
        return bool(generation == self.generations)

    @property
    def over(self) -> bool:
        """Whether all that was to be trained is."""
        return len(self.trained) == self.generations * self.stage.population

    def stop_all(self) -> bool:
        return bool(self.error)

    def epochs_trained(self) -> int:
        return sum(trained.segment.epochs for trained in self.trained.values())

    def best(self) -> Trained:
        """Of the last generation; the first of equals."""
        last = [self.trained[self.generations, n] for n in range(self.stage.population)]
        return max(last, key=lambda t: (t.segment.status == DONE, t.segment.score))

    def complete(self, record: RunRecord) -> None:
        """Adds to the best member's record what all the members cost, and how they came about."""
        for trained in self.trained.values():
            for name, value in trained.segment.seconds.items():
                record.info["timings"][f"{name}_seconds"] += value
        record.info["population"] = {
            "networks": self.stage.population,
            "epochs": self.epochs_trained(),
            "generations": [
                [
                    {
                        "weights": self.trained[generation, number].lineage[-1],
                        "score": self.trained[generation, number].segment.score,
                        "parent": self.trained[generation, number].parent,
                    }
                    for number in range(self.stage.population)
                ]
                for generation in range(1, self.generations + 1)
            ],
        }


class _Population(BasicVariantGenerator):
    """Brings the members, once each.

    Tune ends idle workers as soon as nothing is to come; but those that wait for the last member
    of a generation are needed in the next one. So there is something to come until all is over.
    """

    def __init__(self, search: Search) -> None:
        super().__init__()
        self.search = search

    def next_trial(self) -> Any:
        trial = super().next_trial()
        self._finished = self.search.over
        return trial


class _Selection(PopulationBasedTraining):
    """Ranks and waits as its base does; draws and lineages are our own."""

    def __init__(self, search: Search) -> None:
        super().__init__(
            time_attr="generation",
            metric="score",
            mode="max",
            perturbation_interval=1,
            quantile_fraction=search.stage.quantile,
            custom_explore_fn=lambda config: config,
            log_config=False,
            synch=True,
        )
        self.search = search

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        # Idle workers are kept, as many as there may be; left to itself Tune keeps one.
        tune_controller._actor_cache.increase_max(trial.placement_group_factory)

    def _checkpoint_or_exploit(
        self, trial: Any, tune_controller: Any, upper_quantile: list[Any], lower_quantile: list[Any]
    ) -> None:
        """Tells a member with which weights, and as whose copy, it goes on."""
        member = trial.config["member"]
        generation, number = len(member["lineage"]), member["number"]
        parent = number
        draws = self.search.draws(generation + 1, number)
        if trial in lower_quantile:
            drawn = int(torch.randint(len(upper_quantile), (), generator=draws))
            # Its own number never changes, whatever its lineage.
            parent = upper_quantile[drawn].config["member"]["number"]
        lineage = self.search.trained[generation, parent].lineage
        weights = lineage[-1] if parent == number else self.search.stage.mutated(lineage[-1], draws)
        trial.set_config(
            {"member": {"number": number, "parent": parent, "lineage": [*lineage, weights]}}
        )


class _Member(tune.Trainable):
    """Trains, for one generation after the other, the member that its configuration names.

    What there is to save is in the configuration and in files. Tune's own checkpoints would need
    a file system that all machines share.
    """

    def setup(self, config: dict[str, Any], job: Job) -> None:  # type: ignore[override]
        self._members = job.begin()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        member = self.config["member"]
        result = {"member": member, "generation": len(member["lineage"]), "error": ""}
        try:
            segment = self._members.train(member["lineage"])
        except Exception:
            return result | {"score": -math.inf, "error": traceback.format_exc()}
        return result | {"score": segment.score, "segment": asdict(segment)}

    def save(self, checkpoint_dir: str | None = None) -> Any:
        return SimpleNamespace(checkpoint=None, metrics={})

    def restore(self, checkpoint_path: Any) -> None:
        pass


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Tune from writing on the terminal, and from signals, which are the command's."""
    before = {name: os.environ.get(name) for name in TUNE_SETTINGS}
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGUSR1)
    logger = logging.getLogger("ray")
    level = logger.level
    os.environ.update(TUNE_SETTINGS)
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if main:
            signal.signal(signal.SIGUSR1, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
