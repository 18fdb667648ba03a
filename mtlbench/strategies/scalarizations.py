"""Fixed functions of the losses that are minimised in place of their sum."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import LossWeighting, Setting, register_strategy


def softmax_over(mask: Tensor, logits: Tensor) -> Tensor:
    """The softmax of logits [K] over the tasks that a mask [K] names; 0 for all others."""
    lowest = torch.finfo(logits.dtype).min
    return torch.softmax(torch.where(mask, logits, lowest), 0) * mask


def invert(losses: Tensor) -> Tensor:
    """1 / L, and 0 for a loss of 0, whose task has nothing left to learn."""
    return torch.where(losses > 0, 1 / losses.clamp(min=torch.finfo(losses.dtype).tiny), 0)


@register_strategy("log", label="SI")
class LogLoss(LossWeighting):
    """Minimises the sum of the logarithms of the losses (Navon et al. 2022).

        F = Σ_k log L_k,    hence w_k = 1 / L_k

    over the tasks that have a label in the batch. A loss counts by its relative change alone:
    the unit it is measured in makes no difference, which is why it is the scale-invariant (SI)
    baseline of that paper. Losses must be positive; a task whose loss is 0 has weight 0.

    In front of a weighting of gradients, `log+cagrad`, it has that weigh the gradients of log L_k
    in the place of those of L_k, and the heads learn from log L_k too. So MGDA, CAGrad and IMTL-G
    of logarithms are compared with in the code of FAMO (see there).

    Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya: Multi-Task Learning as a
    Bargaining Game, ICML 2022, baseline SI of Section 6.
    """

    least_loss = 0.0

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        return invert(losses) * present


@register_strategy("tch", label="TCH")
class Tchebycheff(LossWeighting):
    """Minimises the worst of the losses, the Tchebycheff scalarization (Bowman 1976).

        F = max_k λ_k L_k,    hence w_k = λ_k for the worst task and 0 for the others

    over the tasks that have a label in the batch; tasks that are worst together share the weight
    evenly. λ_k is the preference of a task, the ideal loss is 0. The largest loss is
    found in the losses' own units: where these differ, preferences bring them to one scale.

    Bowman: On the Relationship of the Tchebycheff Norm and the Efficient Frontier of
    Multiple-Criteria Objectives, Multiple Criteria Decision Making 1976; as the comparison of
    Lin et al., ICML 2024 (see `stch`).

    Args:
        preferences: task name to λ, at least 0; 1 for a task that is not named.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, preferences: dict[str, float] = {}) -> None:  # noqa: B006 (never changed)
        super().__init__()
        self.preferences: Mapping[str, float] = preferences

    def start(self, setting: Setting) -> None:
        self.register_buffer("preference", setting.per_task(self.preferences, "preference"))

    def objective(self, losses: Tensor, present: Tensor) -> Tensor:
        weighted = self.get_buffer("preference") * losses
        return torch.where(present, weighted, float("-inf")).amax()


@register_strategy("stch", label="STCH")
class SmoothTchebycheff(LossWeighting):
    """Minimises a smooth maximum of the losses' logarithms (Lin et al. 2024).

        F = n μ log Σ_k exp(x_k / μ),    x_k = log(λ_k L_k / r_k)

        hence w_k = n softmax_k(x / μ) / L_k

    over the n tasks that have a label in the batch. r_k is the reference loss of a task, the
    mean of its loss over the last epoch of the warm-up, and λ_k its preference. The smaller μ,
    the more the task that fell least against its reference has the whole weight. In the warm-up,
    and for a task that had no label in its last epoch until an epoch in which it has, r_k is
    the loss itself; with equal preferences the warm-up minimises Σ_k log L_k, as `log` does.
    Losses must be positive; a task whose loss or preference is 0 has weight 0.

    Departs from the authors' code: that knows equal preferences only; those of the paper enter
    here as factors of the losses. References are means over labels there over batches.

    Lin, Zhang, Yang, Liu, Wang, Zhang: Smooth Tchebycheff Scalarization for Multi-Objective
    Optimization, ICML 2024, Section 3; logarithms, references and warm-up are those of the
    authors' code for multi-task learning.

    Args:
        mu: μ, above 0; 1 in the authors' code.
        warm_up: epochs of the warm-up, at least 1; 5 in the authors' code.
        preferences: task name to λ, at least 0; 1 for a task that is not named.

    Raises:
        ValueError: a parameter out of its range.
    """

    least_loss = 0.0

    space: ClassVar = {"mu": Range(0.01, 10, log=True)}

    def __init__(
        self,
        mu: float = 1.0,
        warm_up: int = 5,
        preferences: dict[str, float] = {},  # noqa: B006 (never changed)
    ) -> None:
        super().__init__()
        if mu <= 0:
            raise ValueError(f"mu must be above 0, but is {mu}")
        if warm_up < 1:
            raise ValueError(f"warm_up must be at least 1, but is {warm_up}")
        self.mu, self.warm_up = mu, warm_up
        self.preferences: Mapping[str, float] = preferences

    def start(self, setting: Setting) -> None:
        self.register_buffer("preference", setting.per_task(self.preferences, "preference"))
        self.register_buffer("reference", setting.tensor([0.0] * len(setting.tasks)))  # 0: unknown
        self.register_buffer("epochs", torch.zeros((), dtype=torch.long, device=setting.device))

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        preference, reference = self.get_buffer("preference"), self.get_buffer("reference")
        counted = present & (losses > 0) & (preference > 0)
        reference = torch.where(reference > 0, reference, losses)
        x = torch.where(counted, preference * losses / reference, 1).log()
        return counted.sum() * softmax_over(counted, x / self.mu) * invert(losses)

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        reference, epochs = self.get_buffer("reference"), self.get_buffer("epochs")
        epochs += 1
        missing = (epochs >= self.warm_up) & (reference == 0) & (losses > 0)
        reference.copy_(torch.where(missing, losses, reference))
