"""Traces: numbers of every training instance and epoch, to find wrong labels with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlbench.strategies.ranks import Ranks
from mtlbench.tasks.task import Task

NO_CLASS = -1
"""Prediction of a task that does not name one class for an instance."""

LARGEST = torch.finfo(torch.float16).max


class Traces:
    """Loss, margin and prediction of every training instance, as its batch saw them.

    The loss is that before all weights. The margin is the logit of the given label minus the
    largest other logit, averaged over the labelled pixels of a label map (Pleiss et al. 2020,
    Eq. 1). Classes are kept of every epoch, predicted numbers, which need more room, of the last.
    Of validation instances there is the loss after each epoch: hard labels have a large one there,
    too.
    Written on the device without waiting for it; what an epoch never visits stays NaN.

    Args:
        tasks: the K tasks.
        num_instances: N.
        device: where the batches are.
        ranks: the processes that train together, each of which gives its part of every batch.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        num_instances: int,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        self.tasks, self.ranks = tasks, ranks
        shape = (num_instances, len(tasks))
        self.losses: list[Tensor] = []
        self.validation_losses: list[Tensor] = []
        self.margins: list[Tensor] = []
        self.predictions: list[Tensor] = []
        self.value = torch.full(shape, torch.nan)
        self._loss = torch.full(shape, torch.nan, device=device)
        self._margin = torch.full(shape, torch.nan, device=device)
        self._prediction = torch.full(shape, NO_CLASS, device=device, dtype=torch.int16)
        self._value = torch.full(shape, torch.nan, device=device)

    @torch.no_grad()
    def add(
        self,
        index: Tensor,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        losses: Mapping[str, Tensor],
        present: Tensor | None,
        mine: slice = slice(None),
    ) -> None:
        """Notes one batch.

        Args:
            index: dataset index of each instance [B], on the device.
            outputs: the network's, by task [B, …].
            targets: the labels, by task [B, …].
            losses: per-instance losses, by task [B].
            present: which labels are present, bool [B, K], or None for all of them.
            mine: which of these rows count.
        """
        shape = (len(index), len(self.tasks))
        loss, margin, value = self._loss.new_full((3, *shape), torch.nan)
        prediction = self._prediction.new_full(shape, NO_CLASS)
        for k, task in enumerate(self.tasks):
            output, target = outputs[task.name], targets[task.name]
            here = task.any_labelled(target, None if present is None else present[:, k])
            loss[:, k] = torch.where(here, losses[task.name].float(), torch.nan)
            if task.kind == "classification":
                margin[:, k] = torch.where(here, margins(task, output, target), torch.nan)
                if task.logits(output).ndim == 2:
                    prediction[:, k] = task.predict(output).to(torch.int16)
            elif output.ndim == 1:
                value[:, k] = torch.where(here, task.predict(output.float()), torch.nan)
        rows = [loss, margin, prediction, value]
        if self.ranks is not None:
            (index, *rows), _ = self.ranks.gather(*(each[mine] for each in (index, *rows)))
        notes = (self._loss, self._margin, self._prediction, self._value)
        for note, new in zip(notes, rows, strict=True):
            note[index] = new

    def end_epoch(self, validation_losses: Tensor) -> None:
        """Keeps what was noted, and starts anew.

        Args:
            validation_losses: of each validation instance after the epoch [M, K]; NaN where there
                is no label.
        """
        self.validation_losses.append(_half(validation_losses))
        self.losses.append(_half(self._loss))
        self.margins.append(_half(self._margin))
        self.predictions.append(self._prediction.cpu().clone())
        self.value = self._value.cpu().clone()
        for values in (self._loss, self._margin, self._value):
            values.fill_(torch.nan)
        self._prediction.fill_(NO_CLASS)

    def arrays(self) -> dict[str, np.ndarray]:
        """`loss`, `margin` float16 and `prediction` int16, each [E, N, K]; `validation_loss`
        float16 [E, M, K]; `value` float32 [N, K], the numbers predicted in the last epoch, in the
        unit of the label."""
        kept = {
            "loss": self.losses,
            "margin": self.margins,
            "prediction": self.predictions,
            "validation_loss": self.validation_losses,
        }
        arrays = {name: torch.stack(values).numpy() for name, values in kept.items() if values}
        return arrays | ({"value": self.value.numpy()} if arrays else {})

    def state(self) -> dict[str, Any]:
        """What was noted in the epochs that are over."""
        return {
            "losses": self.losses,
            "margins": self.margins,
            "predictions": self.predictions,
            "validation_losses": self.validation_losses,
            "value": self.value,
        }

    def load_state(self, state: Mapping[str, Any], epochs: int) -> None:
        """Takes over what `state` gave.

        Raises:
            ValueError: it is not of so many epochs of these instances.
        """
        wanted = [self._loss.shape] * epochs
        for name in ("losses", "margins", "predictions"):
            if [values.shape for values in state[name]] != wanted:
                raise ValueError(f"traces of {name} are not those of {epochs} epochs")
        of_validation = {values.shape[1:] for values in state["validation_losses"]}
        if len(state["validation_losses"]) != epochs or of_validation != {wanted[0][1:]}:
            raise ValueError(f"traces of validation are not those of {epochs} epochs")
        if state["value"].shape != self._value.shape:
            raise ValueError("predicted values are not those of these instances")
        self.losses, self.margins = state["losses"], state["margins"]
        self.predictions, self.value = state["predictions"], state["value"]
        self.validation_losses = state["validation_losses"]


def margins(task: Task, output: Tensor, target: Tensor) -> Tensor:
    """Margins [B] of the given labels of a classification task.

    Args:
        task: with the label that stands for "not labelled".
        output: logits [B, C, …], or [B, …] of a binary task.
        target: labels [B, …].
    """
    labelled = task.labelled(target)
    logits = task.logits(output).float()
    given = torch.where(labelled, target, 0).long().unsqueeze(1)
    others = logits.scatter(1, given, -torch.inf).amax(1)
    margin = logits.gather(1, given).squeeze(1) - others
    if margin.ndim == 1:
        return margin
    margin, labelled = margin.flatten(1), labelled.flatten(1)
    return torch.where(labelled, margin, 0).sum(1) / labelled.sum(1)


def _half(values: Tensor) -> Tensor:
    """As float16 on the CPU; a loss beyond its range stays the largest finite one."""
    clamped = torch.where(values.isfinite(), values.clamp(-LARGEST, LARGEST), values)
    return clamped.to("cpu", torch.float16)
