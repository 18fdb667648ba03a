"""A population of networks that one run trains: generation after generation, its members as jobs.

All members share suite, labels, seed, first weights of the network and batches. So what a member
is after a generation follows from its lineage alone: the task weights of each generation up to
then. Its state is kept in a file named by it, and found there again by a copy of the member, by
another worker, and by a run that was killed.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtlbench.files import replacing
from mtlbench.randomness import named_generator
from mtlbench.spec import RunSpec
from mtlbench.store.runs import Store
from mtlbench.store.schema import DONE, FAILED
from mtlbench.store.sealed import DamagedRunError
from mtlbench.strategies.base import Member
from mtlbench.suites.build import suite_of
from mtlbench.tasks.epoch_rule import score
from mtlbench.training.checkpoint import save_tree
from mtlbench.training.job import Ended, Job, Messages, Parts, Place
from mtlbench.training.loop import train
from mtlbench.training.run import Run

Lineage = Sequence[Mapping[str, float]]
"""Task weights by task name, one mapping a generation."""


@dataclass(frozen=True)
class GenerationResult:
    """The result of training a member for one generation.

    Attributes:
        score: on validation data, see `tasks.epoch_rule.score`; −∞ where there is none.
        seconds: what it took, by what was done, as in a run's timings.
    """

    score: float
    seconds: dict[str, float]


# --- one member ---------------------------------------------------------------------------------


@dataclass(kw_only=True)
class LineageRun(Run):
    """A run in the state after some generations of a lineage.

    Attributes:
        lineage: which member it is.
        directory: where the states of all members are kept.
        generation: the one that it is in.
    """

    lineage: Lineage
    directory: Path
    generation: int = 0

    def identity(self) -> dict[str, Any]:
        name = state_file(Path(), self.lineage[: self.generation]).stem
        return super().identity() | {"lineage": name}

    def _go_on_from(self, lineage: Lineage) -> None:
        """Brings itself into the state after a lineage, with no time spent yet."""
        for known in range(len(lineage), -1, -1):
            super().start()
            self.generation = known
            try:
                if known:
                    self.load_state(self._state_after(lineage[:known]))
                break
            except ValueError:  # trained on another machine, whose files are not seen from here
                continue
        for generation in range(known + 1, len(lineage) + 1):
            self._take_weights(generation)
            while self.epoch < self.end and self.status == DONE:
                self.train_epoch()
        if lineage:
            self.seconds = dict.fromkeys(self.seconds, 0.0)

    def _state_after(self, lineage: Lineage) -> Any:
        """What `state` was at the end of a lineage.

        Raises:
            ValueError: there is no such file, or one from the middle of its last generation, which
                another machine has ended.
        """
        state = self.saved(state_file(self.directory, lineage))
        stage: Any = self.strategy.task
        end = min(len(lineage) * stage.every, self.suite.epochs)
        if state["status"] == DONE and state["epoch"] != end:
            raise ValueError(f"it is of epoch {state['epoch']}, and not {end}")
        return state

    def _take_weights(self, generation: int) -> None:
        self.generation = generation
        stage: Any = self.strategy.task
        stage.set_weights(self.lineage[generation - 1])
        self.end = min(generation * stage.every, self.suite.epochs)


class MemberRun(LineageRun):
    """A member in the last generation of its lineage, on from where the one before ended."""

    def start(self) -> None:
        self._go_on_from(self.lineage[:-1])
        self.first = self.epoch
        self._take_weights(len(self.lineage))

    def finish(self) -> GenerationResult:
        """Saves its state for those that go on from it."""
        save_tree(state_file(self.directory, self.lineage), self.state())
        # Selection waits for all members, so nobody copies one from before the last generation.
        for old in self.directory.glob("*.safetensors"):
            if int(old.name.partition("-")[0]) < len(self.lineage) - 1:
                old.unlink(missing_ok=True)
        reached = score(self.tasks, self.validation()) if self.status == DONE else -math.inf
        return GenerationResult(reached, self.seconds)

    def failure(self) -> None:
        return None


class BestRun(LineageRun):
    """The best member of the last generation, which alone is tested."""

    def start(self) -> None:
        self._go_on_from(self.lineage)
        self.first = self.end = self.epoch


def state_file(directory: Path, lineage: Lineage) -> Path:
    """The file of the state after a lineage."""
    digest = hashlib.sha256(json.dumps(list(lineage)).encode()).hexdigest()[:16]
    return directory / f"{len(lineage)}-{digest}.safetensors"


@dataclass(frozen=True)
class MemberJob(Job):
    """One generation of a member.

    Attributes:
        spec: the run that the population belongs to.
        lineage: the member's, up to this generation.
        traces: keep what `Traces` notes of every training instance.
    """

    spec: RunSpec
    lineage: tuple[Mapping[str, float], ...]
    traces: bool = False

    @property
    def hash(self) -> str:
        return f"{self.spec.hash}/{state_file(Path(), self.lineage).stem}"

    def __str__(self) -> str:
        return f"{self.spec}/generation-{len(self.lineage)}"

    def checkpoint(self, store: Store) -> Path:
        directory = store.checkpoint_file(self.spec.hash).with_name("members")
        return state_file(directory, self.lineage)

    def path(self, store: Store) -> Path:
        return self.checkpoint(store).with_suffix(".json")

    def read(self, store: Store) -> Ended:
        try:
            kept = json.loads(self.path(store).read_text())
            return Ended(**{**kept, "result": GenerationResult(**kept["result"])})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DamagedRunError("is damaged") from error

    def write(self, store: Store, ended: Ended) -> None:
        if ended.status != FAILED:
            path = self.path(store)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as aside:
                aside.write_text(json.dumps(asdict(ended)))

    def train(self, place: Place, checkpoint: Path | None) -> Messages:
        return train(lambda: self._run(MemberRun, place, checkpoint), checkpoint)

    def _run(self, kind: type[LineageRun], place: Place, checkpoint: Path | None) -> LineageRun:
        if checkpoint is None:
            raise ValueError("a member is found by its file")
        directory = checkpoint.parent
        return kind(self.spec, place, self.traces, lineage=self.lineage, directory=directory)


@dataclass(frozen=True)
class BestJob(MemberJob):
    """The test of the best member; what comes of it is the record of the whole run.

    Attributes:
        tested: as for `Run`.
    """

    tested: bool = True

    @property
    def hash(self) -> str:
        return f"{super().hash}-test"

    def read(self, store: Store) -> Ended:
        raise DamagedRunError("is kept by its run alone")

    def write(self, store: Store, ended: Ended) -> None:
        """Kept by the run."""

    def train(self, place: Place, checkpoint: Path | None) -> Messages:
        def run() -> LineageRun:
            best = self._run(BestRun, place, checkpoint)
            best.tested = self.tested
            return best

        return train(run)


# --- the population -----------------------------------------------------------------------------


def evolve(spec: RunSpec, stage: Any, traces: bool, tested: bool = True) -> Parts:
    """The jobs of a run whose task stage trains a population; it ends with the best's record.

    Args:
        spec: the run.
        stage: its task stage, see `TaskStage.networks`.
        traces: keep what `Traces` notes of every training instance.
        tested: as for `Run`.
    """
    suite = suite_of(spec)
    names = ("population", spec.suite, spec.strategy, spec.seed)
    search = stage.generations(
        tuple(task.name for task in suite.tasks()),
        lambda generation, member: named_generator(*names, generation, member),
    )
    lineages: list[tuple[Mapping[str, float], ...]] = []
    told: list[list[dict[str, Any]]] = []
    ends: list[Ended] = []
    all_ended: list[Ended] = []
    members: list[Member] = next(search)
    for generation in range(1, math.ceil(suite.epochs / stage.every) + 1):
        if generation > 1:
            members = search.send([ended.result.score for ended in ends])
        lineages = [
            (*(() if member.parent is None else lineages[member.parent]), member.weights)
            for member in members
        ]
        ends = yield [MemberJob(spec, lineage, traces) for lineage in lineages]
        for ended in ends:
            if ended.status == FAILED:
                return ended
        all_ended += ends
        told.append(
            [
                {"weights": member.weights, "score": ended.result.score, "parent": member.parent}
                for member, ended in zip(members, ends, strict=True)
            ]
        )
    best = max(range(len(ends)), key=lambda n: (ends[n].status == DONE, ends[n].result.score))
    (ended,) = yield [BestJob(spec, lineages[best], traces, tested)]
    if ended.result is not None:
        info = ended.result.info
        for each in all_ended:
            for name, value in each.result.seconds.items():
                info["timings"][f"{name}_seconds"] += value
        info["population"] = {
            "networks": len(members),
            "epochs": sum(each.epochs for each in all_ended),
            "generations": told,
        }
    return ended
