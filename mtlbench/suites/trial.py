"""A network, its optimiser and losses tried on a few instances, so that what does not fit is known
before training."""

import numbers
import warnings
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from mtlbench.data.items import same
from mtlbench.data.splits import Split, Targets, each_input
from mtlbench.errors import UserError, describe
from mtlbench.randomness import global_draws_kept, seed_global_draws
from mtlbench.suites.base import Suite
from mtlbench.tasks.metrics import new_meter, update, value_of
from mtlbench.tasks.task import Task

TRIED = 2
"""Training instances that a network is tried on: of one, batch norm has no variance."""

_trained: MutableMapping[Tensor, bool] = WeakIdKeyDictionary()
"""The parameters of networks that runs of this process have been given."""


def require_untrained(model: nn.Module) -> None:
    """Makes sure that no parameter that is to be trained was given to a run before.

    Raises:
        UserError: one was.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if parameter in _trained:
                raise UserError(
                    f"model= gives a network whose {name} an earlier run has trained: it must make "
                    "all that is trained anew each time"
                )
            _trained[parameter] = True


def first_items(split: Split, batch_size: int) -> tuple[Any, Targets]:
    """Inputs as stored and labels by task of as many instances as a network is tried on."""
    rows = torch.arange(min(TRIED, batch_size, len(split)))
    inputs = each_input(split.inputs, lambda values: values[rows])
    return inputs, {name: values[rows] for name, values in split.targets.items()}


def try_network(suite: Suite, batches: Iterable[tuple[Any, Targets]]) -> None:
    """Makes sure that the network of a suite takes such inputs and gives outputs for such labels,
    in evaluation and in training, that losses are by instance and can be learned from, and that
    metrics are of such outputs.

    Args:
        suite: whose.
        batches: inputs as stored, and labels by task [B, …].

    Raises:
        UserError: it is not so.
    """
    with global_draws_kept():
        model = _new_network(suite)
        _try_recipe(suite, model)
        for inputs, targets in batches:
            complete = suite.complete(targets)
            if without := [t.name for t in suite.tasks() if t.name not in complete]:
                raise UserError(f"the data has no labels of task {without[0]!r}")
            for learns in (False, True):
                model.train(learns)
                with torch.set_grad_enabled(learns):
                    try:
                        outputs = suite.call(model, suite.prepare(inputs))
                    except UserError:
                        raise
                    except (Exception, SystemExit) as error:
                        raise UserError(
                            f"the network fails on training items: {describe(error)}"
                        ) from error
                    _require_outputs(suite, outputs)
                    for task in suite.tasks():
                        output, target = outputs[task.name], complete[task.name]
                        _try_loss(task, output, target, learns)
                        if not learns:
                            _try_metrics(task, output, target)


def _new_network(suite: Suite) -> nn.Module:
    """A network of a suite, which makes another one each time, with the same draws the same."""
    made = []
    for _ in range(2):
        seed_global_draws(0, of_devices=True)
        try:
            model = suite.model()
        except (Exception, SystemExit) as error:
            raise UserError(f"model= fails: {describe(error)}") from error
        if not isinstance(model, nn.Module):
            raise UserError(f"model= gives a {type(model).__name__}, and no torch.nn.Module")
        made.append(model)
    first, second = (dict(model.named_parameters()) for model in made)
    for name, parameter in first.items():
        if parameter.is_meta:
            raise UserError(f"model= gives a network whose {name} has no values (device meta)")
        other = second.get(name)
        if parameter is other and parameter.requires_grad:
            raise UserError(
                f"model= gives the same {name} each time: it must make all that is trained anew"
            )
        if other is None or not (is_lazy(parameter) or same(parameter, other)):
            raise UserError(
                f"model= gives another {name} each time: what it draws must come from the global "
                "generators of torch, numpy or random, which are seeded for each run"
            )
    return made[0]


def _try_recipe(suite: Suite, model: nn.Module) -> None:
    """Makes sure of what the suite makes of a network for its training."""
    for what, find, kind, wanted in (
        ("optimizer", lambda: suite.optimizer(model), torch.optim.Optimizer, "an optimizer"),
        ("lr_factor", lambda: suite.lr_factor(0.0), numbers.Real, "a number"),
        ("representation", lambda: suite.representation(model), nn.Module | None, "a module"),
    ):
        try:
            found = find()
        except (Exception, SystemExit) as error:
            raise UserError(f"{what}= fails: {describe(error)}") from error
        if not isinstance(found, kind):
            raise UserError(f"{what}= gives a {type(found).__name__}, and not {wanted}")


def _require_outputs(suite: Suite, outputs: Any) -> None:
    names = [task.name for task in suite.tasks()]
    if not isinstance(outputs, Mapping) or not set(names) <= set(outputs):
        given = list(outputs) if isinstance(outputs, Mapping) else f"a {type(outputs).__name__}"
        raise UserError(f"the network gives {given}, and not a mapping of the tasks {names}")
    for name in names:
        if not isinstance(outputs[name], Tensor):
            raise UserError(
                f"the network gives a {type(outputs[name]).__name__} for task {name!r}, and no "
                "tensor"
            )
        if outputs[name].is_complex():
            raise UserError(f"the network gives complex numbers for task {name!r}")


def _try_loss(task: Task, output: Tensor, target: Tensor, learns: bool) -> None:
    task.require_fit(output, target)
    losses = _losses(task, output, target)
    if not isinstance(losses, Tensor):
        raise UserError(
            f"the loss of task {task.name!r} gives a {type(losses).__name__}, and no tensor"
        )
    if losses.shape != (len(target),):
        raise UserError(
            f"the loss of task {task.name!r} gives {list(losses.shape)} for {len(target)} "
            "instances, and not one number for each (reduction='none')"
        )
    if not same(losses, _losses(task, output, target)):
        raise UserError(
            f"the loss of task {task.name!r} is another one each time: it must remember nothing, "
            "and draw from the global generators of torch, numpy or random"
        )
    if learns and not losses.requires_grad:
        raise UserError(
            f"the loss of task {task.name!r} depends on no parameter that learns: something on "
            "the way is detached, under torch.no_grad, or frozen"
        )
    if isinstance(task.loss, nn.Module) and any(p.requires_grad for p in task.loss.parameters()):
        raise UserError(
            f"the loss of task {task.name!r} has parameters, which no optimiser trains: make them "
            "part of the network"
        )
    if learns and task.ignore is not None and target.ndim > 1:
        _try_ignored(task, task.ignore, output, target)


def _losses(task: Task, output: Tensor, target: Tensor) -> Any:
    seed_global_draws(0)
    try:
        return task.losses(output, target)
    except Exception as error:
        raise UserError(
            f"the loss of task {task.name!r} fails on outputs {list(output.shape)} and labels "
            f"{list(target.shape)} of {target.dtype}: {describe(error)}"
        ) from error


def _try_ignored(task: Task, ignore: float, output: Tensor, target: Tensor) -> None:
    """Makes sure that nothing is learned from where a label has the value to be ignored."""
    by_class = task.kind == "classification" and not task.binary
    if output.shape[2 if by_class else 1 :] != target.shape[1:]:
        return
    target = target.clone()
    target[0].view(-1)[0] = ignore
    hint = (
        f"the loss of task {task.name!r} does not leave out what the task ignores, the label "
        f"{ignore:g}: it is told, too, as by l1(ignore={ignore:g})"
    )
    try:
        loss = task.losses(output, target)[0]
    except Exception as error:
        raise UserError(f"{hint} ({describe(error)})") from error
    (gradient,) = torch.autograd.grad(loss, output, retain_graph=True, allow_unused=True)
    if gradient is not None and gradient[0].flatten(int(by_class))[..., 0].any():
        raise UserError(hint)


def _try_metrics(task: Task, output: Tensor, target: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so few labels
        meters = {metric.name: new_meter(metric, task) for metric in task.metrics}
        update(meters, task, output, target)
        for metric in task.metrics:
            new_meter(metric, task)  # another one
            try:
                value_of(metric, meters[metric.name])
            except UserError:
                raise
            except Exception:  # of so few labels
                continue
