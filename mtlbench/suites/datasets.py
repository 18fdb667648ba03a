"""Suites of datasets as they are: of a plain PyTorch project, without a line of it changed."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from mtlbench.data.items import Unpack
from mtlbench.data.reading import Items, Part, Reader, Transform
from mtlbench.data.splits import Data, Split, Targets
from mtlbench.data.variants import CLEAN, Variant
from mtlbench.errors import UserError, describe, listed
from mtlbench.randomness import named_generator
from mtlbench.registry import convert
from mtlbench.suites.base import LOCATION, PAPER_STRATEGIES, Suite, register_suite
from mtlbench.suites.trial import first_items, try_network
from mtlbench.tasks.task import Task

TRAIN, VALIDATION, TEST = "training", "validation", "test"

RECIPE = ("epochs", "batch_size", "lr", "weight_decay")
"""Numbers that are parameters of a run."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """What `suite_from` is given that no parameter of a run can be; there is what each means."""

    name: str
    train: Any
    validation: Any
    test: Any
    model: Callable[[], nn.Module]
    tasks: tuple[Task, ...]
    unpack: Unpack | None
    labels_of: Callable[[Any, int], Any] | None
    transform: Transform | None
    collate_fn: Callable[[list[Any]], Any] | None
    names: Callable[[Any], Sequence[str]] | None
    unpack_inputs: bool
    prepare: Callable[[Any], Any] | None
    optimizer: Callable[[nn.Module, float, float], torch.optim.Optimizer] | None
    lr_factor: Callable[[float], float] | None
    representation: Callable[[nn.Module], nn.Module] | None


@dataclass(frozen=True, kw_only=True)
class DatasetSuite(Suite):
    """A suite of datasets whose items are read one by one; see `suite_from`, which makes them.

    Attributes:
        workers: processes that read the data of a run; 0 for the one that trains.
    """

    workers: int = field(default=0, metadata=LOCATION)

    channels_last: ClassVar[bool] = False
    project: ClassVar[Project]
    validation_share: ClassVar[float] = 0.0
    """Share of the training data that is drawn for validation: a field of suites without such."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0:
            raise ValueError(f"workers must not be negative, but is {self.workers}")
        if self.project.validation is None and not 0 < self.validation_share < 1:
            raise ValueError(
                f"validation_share must be above 0 and below 1, but is {self.validation_share}"
            )

    def check(self) -> None:
        _check(type(self), self.validation_share, self.workers)

    def tasks(self) -> tuple[Task, ...]:
        return self.project.tasks

    def data(self) -> Data:
        return _data(type(self), self.validation_share, self.workers)

    def model(self) -> nn.Module:
        return self.project.model()

    def prepare(self, inputs: Any) -> Any:
        return inputs if self.project.prepare is None else self.project.prepare(inputs)

    def call(self, network: Callable[..., Any], inputs: Any) -> dict[str, Tensor]:
        if not self.project.unpack_inputs:
            outputs = network(inputs)
        elif isinstance(inputs, Mapping):
            outputs = network(**inputs)
        else:
            outputs = network(*inputs)
        return outputs_by_task(outputs, [task.name for task in self.project.tasks])

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        if self.project.optimizer is None:
            return super().optimizer(model)
        return self.project.optimizer(model, self.lr, self.weight_decay)

    def lr_factor(self, progress: float) -> float:
        given = self.project.lr_factor
        return super().lr_factor(progress) if given is None else given(progress)

    def representation(self, model: nn.Module) -> nn.Module | None:
        given = self.project.representation
        return super().representation(model) if given is None else given(model)


def suite_from(
    name: str,
    *,
    train: Any,
    test: Any,
    validation: Any = None,
    model: Callable[[], nn.Module],
    tasks: Sequence[Task],
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float = 0.0,
    optimizer: Callable[[nn.Module, float, float], torch.optim.Optimizer] | None = None,
    lr_factor: Callable[[float], float] | None = None,
    epoch_rule: str = "last",
    precision: Literal["float32", "bfloat16"] = "float32",
    seeds: int = 3,
    variants: Sequence[str] = (CLEAN,),
    strategies: Sequence[str] = PAPER_STRATEGIES,
    unpack: Unpack | None = None,
    labels_of: Callable[[Any, int], Any] | None = None,
    transform: Transform | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    workers: int = 0,
    names: Callable[[Any], Sequence[str]] | None = None,
    unpack_inputs: bool = False,
    prepare: Callable[[Any], Any] | None = None,
    channels_last: bool = False,
    representation: Callable[[nn.Module], nn.Module] | None = None,
    validation_share: float = 0.1,
    label: str | None = None,
    summary: str = "A suite of datasets of your own.",
) -> type[DatasetSuite]:
    """Registers a suite of datasets and a network as they are.

    An item of a dataset is (input, targets). Targets of a mapping belong to tasks by name, those of
    a tuple, list or vector in the order of the tasks; `data.items` has the other forms. Labels that
    are None or NaN are absent. The input goes to the network as it is, in batches as PyTorch's
    `default_collate` makes them.

    Each item is read with the global generators of PyTorch, NumPy and Python seeded by suite, seed,
    epoch and number of the item: every strategy sees the same random transforms, whatever the
    number of workers. Labels are read once in a process; corrupted ones are put in their place.

    Args:
        name: of the suite, on the command line and in tables.
        train, validation, test: datasets with a length and items by number, or functions that make
            them, called when the data is needed. Without `validation`, `validation_share` of the
            training data is drawn for it, the same in every run.
        model: makes a new network. Its outputs are by task: a mapping, an object with attributes of
            these names, or a tuple or list in the order of the tasks; of one task a tensor.
        tasks: the K tasks.
        epochs, batch_size, lr, weight_decay, epoch_rule, precision: as in `Suite`.
        optimizer: network, learning rate and weight decay to its optimizer; AdamW where None.
        lr_factor: share of the training in [0, 1) to the factor of the learning rate; half a cosine
            from 1 to 0 where None.
        seeds, variants, strategies: the study where a command names no other.
        unpack: an item to (input, targets), where items have another form.
        labels_of: dataset and number of an item to its targets, where labels can be had without
            reading inputs, which may be large.
        transform: input and labels by task of one item to the same, changed at random, in training:
            what moves both, as a crop of an image and its label map. It sees the corrupted label.
        collate_fn: list of inputs to a batch of them, such as padded ones.
        workers: processes that read the data of a run; 0 for the one that trains.
        names: the training dataset to what people call its items, such as file names.
        unpack_inputs: call the network with the parts of the input: `model(**inputs)` of a mapping,
            `model(*inputs)` of a sequence.
        prepare: batch of inputs on the device to what the network gets, such as 8-bit pictures to
            numbers from 0 to 1.
        channels_last: as in `Suite`.
        representation: the network to the part of it whose output all heads see; `model.trunk`
            where None.
        validation_share: of the training data, where there is no `validation`.
        label: how printed tables call the suite; the name where None.
        summary: what it is, in a line.

    Returns:
        The class of the suite.

    Raises:
        UserError: something of this cannot be; what data and network have wrong is told when they
            are first used, before anything is trained.
    """
    tasks = _checked_tasks(name, tasks)
    if isinstance(model, nn.Module) or not callable(model):
        raise UserError(
            f"suite {name!r}: model= makes a new network each time it is called, as a class or "
            f"lambda: Net(…) does; it is {type(model).__name__}"
        )
    for what, given in ((TRAIN, train), (VALIDATION, validation), (TEST, test)):
        if given is not None and not _makes(given):
            require_numbered(given, what)
    settings: dict[str, tuple[Any, type]] = {
        "epochs": (epochs, int),
        "batch_size": (batch_size, int),
        "lr": (lr, float),
        "weight_decay": (weight_decay, float),
        "seeds": (seeds, int),
        "workers": (workers, int),
        "validation_share": (validation_share, float),
        "unpack_inputs": (unpack_inputs, bool),
        "channels_last": (channels_last, bool),
    }
    try:
        values = {what: convert(what, *each) for what, each in settings.items()}
        if values["seeds"] < 1:
            raise UserError(f"seeds must be at least 1, but is {seeds}")
    except UserError as error:
        raise UserError(f"suite {name!r}: {error}") from error
    if not isinstance(summary, str):
        raise UserError(
            f"suite {name!r}: summary= is a line of text, and no {type(summary).__name__}"
        )
    project = Project(
        name=name,
        train=train,
        validation=validation,
        test=test,
        model=model,
        tasks=tasks,
        unpack=unpack,
        labels_of=labels_of,
        transform=transform,
        collate_fn=collate_fn,
        names=names,
        unpack_inputs=values["unpack_inputs"],
        prepare=prepare,
        optimizer=optimizer,
        lr_factor=lr_factor,
        representation=representation,
    )
    corrupted = listed("variant", variants) or []
    drawn = validation is None
    share = values["validation_share"]
    about = f" Validation data is drawn from the training data, a share of {share:g}." * drawn
    suite: Any = make_dataclass(
        "SuiteOfDatasets",
        [
            *((what, settings[what][1], values[what]) for what in RECIPE),
            ("epoch_rule", str, epoch_rule),
            ("precision", Literal["float32", "bfloat16"], precision),
            *[("validation_share", float, share)] * drawn,
            ("workers", int, field(default=values["workers"], metadata=LOCATION)),
        ],
        bases=(DatasetSuite,),
        namespace={
            "__doc__": summary + about,
            "project": project,
            "channels_last": values["channels_last"],
            "default_variants": tuple(corrupted),
            "default_strategies": tuple(listed("strategy", strategies) or ()),
            "default_seeds": values["seeds"],
        },
        frozen=True,
        kw_only=True,
    )
    try:
        suite()
    except (TypeError, ValueError) as error:
        raise UserError(f"suite {name!r}: {error}") from error
    for variant in corrupted:
        Variant.parse(variant, tasks)
    made: type[DatasetSuite] = register_suite(name, label=label)(suite)
    return made


def _checked_tasks(name: str, given: Any) -> tuple[Task, ...]:
    """The tasks of a suite.

    Raises:
        UserError: they cannot be.
    """
    listed_ones = isinstance(given, Iterable) and not isinstance(given, Mapping)
    tasks = tuple(given) if listed_ones else (given,)
    if not (listed_ones and all(isinstance(task, Task) for task in tasks)):
        raise UserError(f"suite {name!r}: tasks= is a list of Task(…)")
    known = [task.name for task in tasks]
    if not tasks:
        raise UserError(f"suite {name!r} has no tasks")
    if len(set(known)) < len(known):
        raise UserError(f"suite {name!r} has two tasks of one name: {', '.join(known)}")
    for task in tasks:
        if task.kind == "classification" and task.corruptions and not task.classes:
            raise UserError(
                f"task {task.name!r} of suite {name!r} needs classes=, their names: its labels are "
                "corrupted among them"
            )
    return tasks


def outputs_by_task(outputs: Any, tasks: Sequence[str]) -> dict[str, Tensor]:
    """Outputs of a network by task: of a mapping or an object by name, of a tuple or list in order.

    Raises:
        UserError: they are not those of these tasks.
    """
    if isinstance(outputs, Tensor) and len(tasks) == 1:
        return {tasks[0]: outputs}
    if isinstance(outputs, Mapping):
        if set(tasks) <= set(outputs):
            return {name: outputs[name] for name in tasks}
        given = ", ".join(map(repr, outputs)) or "nothing"
    elif isinstance(outputs, tuple | list):
        if set(tasks) <= set(getattr(outputs, "_fields", ())):
            return {name: getattr(outputs, name) for name in tasks}
        if len(outputs) == len(tasks):
            return dict(zip(tasks, outputs, strict=True))
        given = f"{len(outputs)} outputs"
    elif not isinstance(outputs, Tensor) and all(hasattr(outputs, name) for name in tasks):
        return {name: getattr(outputs, name) for name in tasks}
    else:
        given = f"one {type(outputs).__name__}"
    raise UserError(f"the network gives {given} for the tasks {', '.join(map(repr, tasks))}")


def require_numbered(dataset: Any, what: str) -> None:
    """Makes sure that items of a dataset have numbers.

    Raises:
        UserError: they have not.
    """
    if isinstance(dataset, IterableDataset) or not (
        hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    ):
        raise UserError(
            f"the {what} data ({type(dataset).__name__}) has no items by number, which tell labels "
            "apart: give a dataset with __len__ and __getitem__, such as list(…) of this one"
        )


def _makes(given: Any) -> bool:
    """Whether this makes a dataset and is none."""
    return isinstance(given, type) or (callable(given) and not hasattr(given, "__getitem__"))


def _dataset(given: Any, what: str) -> Any:
    try:
        made = given() if _makes(given) else given
    except (Exception, SystemExit) as error:
        raise UserError(f"the {what} data cannot be made: {describe(error)}") from error
    require_numbered(made, what)
    try:
        count = len(made)
    except (Exception, SystemExit) as error:
        raise UserError(f"the {what} data has no length: {describe(error)}") from error
    if not count:
        raise UserError(f"the {what} data has no items")
    return made


def _names(find: Callable[[Any], Sequence[str]], dataset: Any) -> list[str]:
    """What people call the items of the training data."""
    try:
        names = [str(each) for each in find(dataset)]
    except (Exception, SystemExit) as error:
        raise UserError(f"names= fails: {describe(error)}") from error
    if len(names) != len(dataset):
        raise UserError(f"names= gives {len(names)} names for {len(dataset)} items")
    return names


@functools.lru_cache(maxsize=2)
def _data(kind: type[DatasetSuite], validation_share: float, workers: int) -> Data:
    """Datasets are made, and their labels read, once in a process."""
    project = kind.project
    given = {TRAIN: project.train, VALIDATION: project.validation, TEST: project.test}
    parts = [Part(what, _dataset(of, what)) for what, of in given.items() if of is not None]
    reader = Reader(
        parts,
        project.tasks,
        unpack=project.unpack,
        keep_names=project.unpack_inputs,
        labels_of=project.labels_of,
        transform=project.transform,
        collate_fn=project.collate_fn,
        workers=workers,
    )
    train, *rest = (
        Items(reader, number, torch.arange(len(part.dataset))) for number, part in enumerate(parts)
    )
    names = None
    if project.names is not None:
        names = _names(project.names, parts[0].dataset)
    if project.validation is None:
        drawn = named_generator("validation", project.name)
        order = torch.randperm(len(train), generator=drawn)
        count = max(1, round(validation_share * len(train)))
        if count == len(train):
            raise UserError(f"the training data has {count} items, too few to draw validation from")
        held_out, rows = order[:count].sort().values, order[count:].sort().values
        rest.insert(0, train.some(held_out))
        # Rows are then not the numbers of items.
        names = [f"item {row}" if names is None else names[row] for row in rows.tolist()]
        train = train.some(rows)
    try:
        train.require_repeatable()
        splits = [
            Split(items, *items.gather_labels(), names if items is train else None)
            for items in (train, *rest)
        ]
    finally:
        reader.close()
    return Data(*splits)


@functools.lru_cache(maxsize=2)
def _check(kind: Any, validation_share: float, workers: int) -> None:
    """Reads the labels, and tries the network on a few items."""
    project = kind.project
    try:
        data = _data(kind, validation_share, workers).checked(project.tasks)
        suite = kind()
        try_network(suite, _few(data.train, suite.batch_size))
    except UserError as error:
        raise UserError(f"suite {project.name!r}: {error}") from error


def _few(train: Split, batch_size: int) -> Iterator[tuple[Any, Targets]]:
    """Inputs and labels of a few items, as they are and as the transform makes them."""
    inputs, given = first_items(train, batch_size)
    yield inputs, given
    items: Any = train.inputs
    labels: Any = dict(train.targets)
    if items.transforms:
        rows = torch.arange(len(next(iter(given.values()))))
        try:
            ((inputs, changed),) = items.batches([rows], ("trial",), labels)
        finally:
            items.reader.close()
        yield inputs, changed
