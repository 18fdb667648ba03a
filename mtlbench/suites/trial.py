"""A network, its optimiser and losses tried on a few instances, so that what does not fit is known
before training."""

import numbers
from collections.abc import Iterable, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.weak import WeakIdKeyDictionary

from mtlbench.data.items import same
from mtlbench.data.splits import Targets
from mtlbench.errors import UserError, describe
from mtlbench.randomness import global_draws_kept, seed_global_draws
from mtlbench.suites.base import Suite

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


def try_network(suite: Suite, batches: Iterable[tuple[Any, Targets]]) -> None:
    """Makes sure that the network of a suite takes such inputs and gives outputs for such labels,
    in evaluation and in training, and that losses are by instance and can be learned from.

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
                    _try_losses(suite, outputs, targets, learns)


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


def _try_losses(suite: Suite, outputs: Targets, targets: Targets, learns: bool) -> None:
    for task in suite.tasks():
        output, target = outputs[task.name], targets[task.name]
        if not isinstance(output, Tensor):
            raise UserError(
                f"the network gives a {type(output).__name__} for task {task.name!r}, and no tensor"
            )
        task.require_fit(output, target)
        try:
            losses = task.losses(output, target)
        except Exception as error:
            raise UserError(
                f"the loss of task {task.name!r} fails on outputs {list(output.shape)} and labels "
                f"{list(target.shape)} of {target.dtype}: {describe(error)}"
            ) from error
        if not isinstance(losses, Tensor):
            raise UserError(
                f"the loss of task {task.name!r} gives a {type(losses).__name__}, and no tensor"
            )
        if losses.shape != (len(target),):
            raise UserError(
                f"the loss of task {task.name!r} gives {list(losses.shape)} for {len(target)} "
                "instances, and not one number for each (reduction='none')"
            )
        if learns and not losses.requires_grad:
            raise UserError(
                f"the loss of task {task.name!r} depends on no parameter that learns: something on "
                "the way is detached, under torch.no_grad, or frozen"
            )
