"""Instances that a dataset gives one by one, read by a `DataLoader`."""

import copy
import multiprocessing
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from mtlbench.data.items import Labels, Unpack, as_label, by_task, copied, same, take_apart
from mtlbench.errors import UserError, describe
from mtlbench.randomness import derive_seed, global_draws_kept, seed_global_draws
from mtlbench.tasks.task import Task

Transform = Callable[[Any, dict[str, Tensor]], tuple[Any, Mapping[str, Any]]]
"""Input and labels of one instance to the same, changed at random."""

LABELS_AT_ONCE = 64
"""Items whose labels one process reads at a time."""

PROBED, READINGS = 8, 4
"""So many items are read so often to see whether they stay what they are."""


@dataclass(frozen=True)
class Part:
    """A dataset that items are read from; `what` it is for stands in messages."""

    what: str
    dataset: Any


@dataclass(frozen=True)
class Request:
    """Items to be read together.

    Attributes:
        part: number of the dataset.
        items: numbers of the items in it [B].
        what: `inputs`, `labels`, or whether items stay what they are (`probe`).
        draws: the names of the draws of each item, but for its number.
        labels: of each item by task, for the transform; None for no transform.
    """

    part: int
    items: tuple[int, ...]
    what: Literal["inputs", "labels", "probe"] = "inputs"
    draws: tuple[object, ...] = ("evaluation",)
    labels: tuple[Mapping[str, np.ndarray], ...] | None = None


@dataclass(frozen=True)
class Failure:
    """What went wrong with a request, in one line, and where."""

    message: str
    trace: str


class OriginalError(Exception):
    """The traceback of what was raised while items were read, maybe by another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Requests(Sampler[Request]):
    """The requests of the iteration that begins next: workers stay for all of them."""

    def __init__(self) -> None:
        self.next: Iterator[Request] = iter(())

    def __iter__(self) -> Iterator[Request]:
        return self.next


class Reader(torch.utils.data.Dataset[Any]):
    """Reads items of several datasets, with one set of processes for all.

    An item is read with the global generators of PyTorch (on the CPU), NumPy and Python seeded for
    it, so that it does not matter which process reads it, nor what was read before.

    Args:
        parts: the datasets.
        tasks: the K tasks.
        unpack: item to input and targets; `items.take_apart` where None.
        keep_names: as for `items.take_apart`.
        labels_of: dataset and number of an item to its targets, where that is quicker than to
            read the item.
        transform: joint changes of inputs and labels in training.
        collate_fn: list of inputs to a batch of them; PyTorch's `default_collate` where None.
        workers: processes that read; 0 for this one.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        tasks: Sequence[Task],
        *,
        unpack: Unpack | None = None,
        keep_names: bool = False,
        labels_of: Callable[[Any, int], Any] | None = None,
        transform: Transform | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        workers: int = 0,
    ) -> None:
        self.parts, self.tasks = parts, tasks
        self.unpack, self.keep_names, self.labels_of = unpack, keep_names, labels_of
        self.transform, self.collate_fn, self.workers = transform, collate_fn, workers
        self._names = [task.name for task in tasks]
        self._requests = Requests()
        self._loader: DataLoader[Any] | None = None

    # --- in the process that reads --------------------------------------------------------------

    def __getitem__(self, request: Request) -> Any:
        """Collated inputs, and what the transform made of labels by task [B, …], None without; or
        the labels of each item by task; or a `Failure`, since not all exceptions can travel."""
        threads = torch.get_num_threads()
        if threads > 1:  # as in a worker: the order of a sum depends on it
            torch.set_num_threads(1)
        try:
            with global_draws_kept():
                return self._read(request)
        finally:
            if threads > 1:
                torch.set_num_threads(threads)

    def _read(self, request: Request) -> Any:
        found: list[Any] = []
        for place, number in enumerate(request.items):
            try:
                found.append(self._read_one(request, place, number))
            except (Exception, SystemExit) as error:
                where = f"item {number} of the {self.parts[request.part].what} data"
                return Failure(f"{where}: {describe(error)}", traceback.format_exc())
        if request.what != "inputs":
            return found
        try:
            inputs = self._collate([inputs for inputs, _ in found])
        except (Exception, SystemExit) as error:
            return Failure(self._uncollated(request, error), traceback.format_exc())
        if request.labels is None:
            return inputs, None
        try:
            return inputs, {
                task.name: torch.stack([labels[task.name] for _, labels in found])
                for task in self.tasks
            }
        except RuntimeError as error:
            message = f"transform= gives labels of several shapes: {describe(error)}"
            return Failure(message, traceback.format_exc())

    def _read_one(self, request: Request, place: int, number: int) -> Any:
        dataset = self.parts[request.part].dataset
        if request.what == "probe":
            return self._probe(dataset, number)
        seed_global_draws(derive_seed("item", *request.draws, number))
        if request.what == "labels":
            return self._read_labels(dataset, number)
        given = None if request.labels is None else request.labels[place]
        return self._read_inputs(dataset, number, given)

    def _read_inputs(
        self, dataset: Any, number: int, given: Mapping[str, np.ndarray] | None
    ) -> tuple[Any, dict[str, Tensor] | None]:
        inputs, _ = self.item(dataset, number)
        if given is None or self.transform is None:
            return inputs, None
        labels = {name: torch.from_numpy(np.array(label)) for name, label in given.items()}
        inputs, targets = self.transform(copied(inputs), labels)
        changed: dict[str, Tensor] = {}
        for name, label in self._as_labels(targets).items():
            if label is None:
                raise UserError(f"transform= leaves no label of task {name!r}")
            changed[name] = label
        return inputs, changed

    def _read_labels(self, dataset: Any, number: int) -> dict[str, Tensor | None]:
        if self.labels_of is None:
            targets = self.item(dataset, number)[1]
        else:
            targets = self.labels_of(dataset, number)
        return self._as_labels(targets)

    def _as_labels(self, targets: Any) -> dict[str, Tensor | None]:
        named = by_task(targets, self._names)
        return {task.name: as_label(named[task.name], task) for task in self.tasks}

    def _probe(self, dataset: Any, number: int) -> None:
        """Reads an item several times.

        Raises:
            UserError: it draws from other than the global generators, or its labels from any, or
                these are not those of `labels_of`.
        """

        def reading(draw: int) -> tuple[Any, Any]:
            seed_global_draws(derive_seed("item", "reading", draw, number))
            return self.item(dataset, number)

        first = copied(reading(0))  # what is read may be a part of the dataset, and change
        if self.labels_of is not None and first[1] is not None:
            own, other = self._as_labels(first[1]), self._read_labels(dataset, number)
            for name, label in own.items():
                if not same(label, other[name]):
                    raise UserError(f"labels_of= has another label of task {name!r}")
        if not same(first, reading(0)):
            raise UserError(
                "it is not the same each time: what it draws must come from the global generators "
                "of torch, numpy or random, which are seeded for each item, and reading it must "
                "change nothing"
            )
        if not all(same(first[1], reading(draw)[1]) for draw in range(1, READINGS)):
            raise UserError(
                "it has other labels each time: leave random changes of input and labels to "
                "transform=, which is given both"
            )

    def item(self, dataset: Any, number: int) -> tuple[Any, Any]:
        """The input of an item, and its targets as they are."""
        item = dataset[number]
        if self.unpack is None:
            return take_apart(item, self._names, keep_names=self.keep_names)
        inputs, targets = self.unpack(item)
        return inputs, targets

    def _collate(self, inputs: list[Any]) -> Any:
        return default_collate(inputs) if self.collate_fn is None else self.collate_fn(inputs)

    def _uncollated(self, request: Request, error: BaseException) -> str:
        items = ", ".join(map(str, request.items[:4])) + ", …" * (len(request.items) > 4)
        if self.collate_fn is not None:
            return f"collate_fn= fails on the inputs of items {items}: {describe(error)}"
        what = self.parts[request.part].what
        if isinstance(error, TypeError):  # as of pictures that no transform made tensors of
            return f"inputs of the {what} data are no tensors, arrays or numbers: {describe(error)}"
        return (
            f"inputs of items {items} of the {what} data make no batch (where they differ in size, "
            f"give collate_fn=): {describe(error)}"
        )

    # --- in the process that asks ---------------------------------------------------------------

    def read(self, requests: Iterator[Request], *, pin: bool = False) -> Iterator[Any]:
        """What each request gives, in order; as one iteration begins, one before it ends.

        Args:
            requests: drawn a few ahead of what is given.
            pin: whether tensors lie where a GPU can fetch them from by itself.

        Raises:
            UserError: an item cannot be read; the message names it.
        """
        if self._loader is None:
            self._loader = DataLoader(
                self,
                batch_size=None,
                sampler=self._requests,
                collate_fn=_as_it_is,
                num_workers=self.workers,
                persistent_workers=self.workers > 0,
                generator=torch.Generator(),  # it draws from the global one otherwise
                pin_memory=pin,
                # Plugins are no modules that another way to start would find.
                multiprocessing_context=_fork() if self.workers else None,
            )
        self._requests.next = requests
        for found in self._loader:
            yield _unless_failed(found)

    def apart(self) -> "Reader":
        """One of the same datasets whose iterations leave those of this one alone. It reads in the
        process that asks."""
        other = copy.copy(self)
        other.workers, other._loader, other._requests = 0, None, Requests()
        return other

    def close(self) -> None:
        """Ends the processes that read; the next iteration starts others."""
        self._loader = None

    def read_one(self, request: Request) -> Any:
        """What one request gives; no process stays for it that was not there."""
        stays = self._loader is not None
        try:
            return next(self.read(iter([request])))
        finally:
            if not stays:
                self.close()


class Items:
    """The inputs of N instances of a split, which lie in a dataset.

    Args:
        reader: reads them.
        part: number of the dataset there.
        rows: which items, in this order [N].
    """

    def __init__(self, reader: Reader, part: int, rows: Tensor) -> None:
        self.reader, self.part, self.rows = reader, part, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor, /) -> Any:
        """The inputs of some rows [n], as one batch."""
        return self.reader.read_one(self._request(index))[0]

    @property
    def collated(self) -> bool:
        """Whether batches are made by a function of the user's, and so may differ in size."""
        return self.reader.collate_fn is not None

    @property
    def transforms(self) -> bool:
        """Whether inputs and labels are changed together in training."""
        return self.reader.transform is not None

    def some(self, rows: Tensor) -> "Items":
        """Some of them [n]."""
        return Items(self.reader, self.part, self.rows[rows])

    def apart(self) -> "Items":
        """The same, to be read while others are."""
        return Items(self.reader.apart(), self.part, self.rows)

    def batches(
        self,
        chunks: Sequence[Tensor],
        draws: tuple[object, ...] | None = None,
        labels: Mapping[str, Tensor] | None = None,
        *,
        pin: bool = False,
    ) -> Iterator[tuple[Any, dict[str, Tensor] | None]]:
        """Inputs of batches of rows, with the labels that the transform made of those given.

        Args:
            chunks: the rows of each batch.
            draws: the names of what is drawn in training; None as for validation and test.
            labels: of all rows, by task [N, …], on the CPU, where they are to be changed as well.
            pin: as for `Reader.read`.
        """

        def given(rows: Tensor) -> tuple[Mapping[str, np.ndarray], ...] | None:
            if labels is None or draws is None or not self.transforms:
                return None
            some = {name: values[rows].numpy() for name, values in labels.items()}
            return tuple({n: values[i] for n, values in some.items()} for i in range(len(rows)))

        drawn = {} if draws is None else {"draws": draws}
        requests = (self._request(rows, labels=given(rows), **drawn) for rows in chunks)
        return self.reader.read(requests, pin=pin)

    def gather_labels(self) -> tuple[dict[str, Tensor], Tensor | None]:
        """The labels of all rows by task [N, …], and which are present, as `Labels.gathered`.

        Raises:
            UserError: an item cannot be read, or its labels do not go with the others.
        """
        gathered = Labels(self.reader.tasks, len(self))
        chunks = torch.arange(len(self)).split(LABELS_AT_ONCE)
        requests = (self._request(rows, what="labels") for rows in chunks)
        for rows, found in zip(chunks, self.reader.read(requests), strict=True):
            for row, labels in zip(rows.tolist(), found, strict=True):
                try:
                    gathered.add(row, labels)
                except UserError as error:
                    what = self.reader.parts[self.part].what
                    where = f"item {self.rows[row]} of the {what} data"
                    raise UserError(f"{where}: {error}") from error
        return gathered.gathered()

    def require_repeatable(self) -> None:
        """Makes sure that items draw from the global generators alone, and labels from none, by
        reading a few of them several times.

        Raises:
            UserError: they do not, or cannot be read.
        """
        few = torch.linspace(0, len(self) - 1, min(PROBED, len(self))).long()
        self.reader.read_one(self._request(few, what="probe"))

    def _request(self, rows: Tensor, **how: Any) -> Request:
        return Request(self.part, tuple(self.rows[rows].tolist()), **how)


def _unless_failed(found: Any) -> Any:
    if isinstance(found, Failure):
        raise UserError(found.message) from OriginalError(found.trace)
    return found


def _as_it_is(batch: Any) -> Any:
    return batch


def _fork() -> Any:
    return multiprocessing.get_context("fork")
