"""A network, its optimiser and losses tried on a few instances, so that what does not fit is known
before training."""

import numbers
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from mtlbench.data.splits import Targets
from mtlbench.errors import UserError, describe
from mtlbench.suites.base import Suite


@torch.no_grad()
def try_network(suite: Suite, batches: Iterable[tuple[Any, Targets]]) -> None:
    """Makes sure that the network of a suite takes such inputs and gives outputs for such labels,
    and that losses are by instance.

    Args:
        suite: whose.
        batches: inputs as stored, and labels by task [B, …].

    Raises:
        UserError: it is not so.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            model = suite.model()
        except (Exception, SystemExit) as error:
            raise UserError(f"model= fails: {describe(error)}") from error
        if not isinstance(model, nn.Module):
            raise UserError(f"model= gives a {type(model).__name__}, and no torch.nn.Module")
        _try_recipe(suite, model)
        model.eval()
        for inputs, targets in batches:
            try:
                outputs = suite.call(model, suite.prepare(inputs))
            except UserError:
                raise
            except (Exception, SystemExit) as error:
                raise UserError(
                    f"the network fails on training items: {describe(error)}"
                ) from error
            _try_losses(suite, outputs, targets)


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


def _try_losses(suite: Suite, outputs: Targets, targets: Targets) -> None:
    for task in suite.tasks():
        output, target = outputs[task.name], targets[task.name]
        task.require_fit(output, target)
        try:
            losses = task.losses(output, target)
        except Exception as error:
            raise UserError(
                f"the loss of task {task.name!r} fails on outputs {list(output.shape)} and labels "
                f"{list(target.shape)} of {target.dtype}: {describe(error)}"
            ) from error
        if losses.shape != (len(target),):
            raise UserError(
                f"the loss of task {task.name!r} gives {list(losses.shape)} for {len(target)} "
                "instances, and not one number for each (reduction='none')"
            )
