"""Gradient weightings with fewer backward passes through the shared layers."""

import typing
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from mtlbench.strategies.base import GRADIENT, GradientWeighting, Setting, TaskStage
from mtlbench.strategies.gradients import Jacobian, TaskLosses, readable
from mtlbench.strategies.network import Network

On = Literal["parameters", "representation"]


class FewerPasses(TaskStage):
    """A gradient weighting at a lower cost: from other gradients, or in some steps only.

    A wrapper around any gradient weighting; the parameters `NAME.on` and `NAME.every` of the
    command line are its own. The graph is cut where the shared layers hand over to the heads.

    Args:
        inner: the weighting.
        on: `parameters`: weights come from the gradients over the shared parameters, which costs
            a backward pass through the shared layers for each task; `representation`: from those
            over what the shared layers give to the heads, which costs one pass (the upper bound
            of Sener & Koltun 2018, Sec. 3.3).
        every: weights are computed anew in every so many steps of the whole training, and kept in
            between, where a step costs one backward pass through the shared layers.

    Raises:
        ValueError: an option out of its range, weights to keep where there are none, a
            representation for a weighting that tracks each shared parameter, or a weighting with
            gradients of its own or one that looks at held-out data.
    """

    stage = GRADIENT
    needs_representation = True

    def __init__(self, inner: GradientWeighting, on: On = "parameters", every: int = 1) -> None:
        super().__init__()
        if on not in typing.get_args(On):
            raise ValueError(f"on must be 'parameters' or 'representation', but is {on!r}")
        if every < 1:
            raise ValueError(f"every must be at least 1, but is {every}")
        if on != "parameters" and inner.tracks_parameters:
            raise ValueError(
                f"on must be 'parameters', but is {on!r}: the strategy follows each shared "
                "parameter from step to step, and a representation is another one in every batch"
            )
        if inner.own_gradients:
            raise ValueError(
                "on and every must stay as they are: the strategy takes other gradients than those "
                "of the task losses"
            )
        if every > 1 and inner.gives_direction:
            raise ValueError("every must be 1: the strategy gives a direction and has no weights")
        if inner.held_out:
            raise ValueError(
                "on must be 'parameters' and every 1: the strategy looks at held-out data"
            )
        self.inner, self.on, self.every = inner, on, every
        # The length of an update is known after the last pass only, so the limit is kept here.
        self.limit, inner.max_norm = inner.max_norm, 0.0
        self._steps = 0

    @property
    def gives_direction(self) -> bool:
        return self.inner.gives_direction

    @property
    def least_loss(self) -> Tensor | float | None:  # type: ignore[override]
        return self.inner.least_loss

    def start(self, setting: Setting) -> None:
        self.inner.start(setting)
        self.register_buffer("held_weights", setting.tensor([1.0] * len(setting.tasks)))

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        self.inner.end_epoch(losses, validation)

    def backward(self, losses: TaskLosses, network: Network) -> Tensor:
        features = network.detached_features()
        anew = self._steps % self.every == 0
        through_trunk = anew and self.on == "parameters"
        shared = network.task_gradients(losses, features, through_trunk=through_trunk)
        with torch.no_grad():
            jacobian = Jacobian(
                shared,
                losses.values,
                as_matrix=self.inner.gives_direction,
                scale=losses.scale,
                ranks=network.ranks,
                features={id(leaf) for each in features for _, leaf in each.pairs()},
                counts=bool(len(losses.vectors[0])),
            )
            held = self.get_buffer("held_weights")
            if anew:
                weights, update = self.inner.weighted_update(jacobian, losses)
                held.copy_(torch.where(losses.present & weights.isfinite(), weights, held))
            else:
                weights = torch.where(losses.present, held, 0)
                update = jacobian.weighted(weights)
        network.add_update(update, features, self.limit, losses.scale)
        finite = weights.isfinite().all()
        if self.inner.gives_direction or not readable(finite) or finite.numpy():
            self._steps += 1  # else the next step weighs, in the place of this one
        return weights

    def get_extra_state(self) -> dict[str, Any]:
        return super().get_extra_state() | {"steps": self._steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self._steps = state["steps"]
