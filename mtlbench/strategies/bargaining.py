"""Directions that share out what the tasks gain."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import Setting, register_strategy
from mtlbench.strategies.gramian import Array, GramianWeighting, lengths_and_cosines

MOST_STEPS = 100


class FairWeighting(GramianWeighting):
    """Weights that are a power of what each task gains."""

    needs_directions = True

    def share(self, gramian: Array, power: float, least: float = 0.0) -> Array:
        """The weights w > 0 [m] with G w = w^(−power).

        They minimise the convex function ½ wᵀ G w − Σ w^(1 − power) / (1 − power), found by
        Newton's method. Each weight changes by less than 1 / max(1, power) of itself in a step,
        which makes every step a descent, and stays `least` of itself.
        """
        lengths, cosines = lengths_and_cosines(gramian)
        cosines = self.regularize(cosines)
        # z = w · length, of which `alone` would be the solution if the gradients were orthogonal
        alone = lengths ** ((power - 1) / (power + 1))
        z = alone * ((alone @ alone) / (alone @ cosines @ alone)) ** (1 / (power + 1))
        last = np.inf
        for _ in range(MOST_STEPS):
            wanted = alone * (z / alone) ** -power
            step = np.linalg.solve(cosines + np.diag(power * wanted / z), wanted - cosines @ z)
            largest = np.abs(step / z).max()
            z = np.maximum(z + step / (1 + max(1.0, power) * largest), least * z)
            if largest < 1e-6 or 1e-2 > largest >= last:  # converged, or as near as rounding lets
                break
            last = largest
        return z / lengths

    def cut(self, weights: Array, gramian: Array) -> Array:
        """The weights, or smaller ones that make an update of length `max_norm`."""
        norm = np.sqrt((weights @ gramian @ weights).clip(min=0))
        return weights * self.max_norm / norm if 0 < self.max_norm < norm else weights


@register_strategy("nash-mtl", label="Nash-MTL")
class NashBargaining(FairWeighting):
    """The tasks' Nash bargaining solution (Navon et al. 2022).

        G α = 1 / α,    d = Jᵀ α · min(1, max_norm / ‖Jᵀ α‖)

    G = J Jᵀ is the Gramian of the gradients, rows of J, and α > 0. d maximises Σ_k log ⟨g_k, d⟩
    among the directions of its length. A task's scale does not matter: α_k g_k stays the same.
    ‖Jᵀ α‖ is √K for any gradients, so d has length max_norm if that is less; in steps that keep
    the α of an earlier one, and on the representation, it is the update of the shared parameters
    that is cut to max_norm, as the authors' code does. Tasks without a
    label in the batch are left out, and so is a task whose gradient is zero, because nothing can
    be gained for it. Tasks whose gradients are opposed have nothing to gain: their α is large, and
    their α_k g_k cancel.

    Departs from the authors' code: that approaches α by up to 20 convex programmes in G / ‖G‖,
    whose constraints α_k (G α)_k ≥ 1 are of G itself, so that this normalisation changes nothing
    but rounding; here the equation is solved to the end by Newton's method. There the heads'
    losses are weighed by α too.

    Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya: Multi-Task Learning as a
    Bargaining Game, ICML 2022, Algorithm 1.

    Args:
        max_norm: longest update, at least 0; 0 for no limit; 1 in the authors' code.

    Raises:
        ValueError: a parameter out of its range.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        super().__init__()
        if max_norm < 0:
            raise ValueError(f"max_norm must be at least 0, but is {max_norm}")
        self.max_norm = max_norm

    def solve(self, gramian: Array, losses: Array) -> Array:
        return self.cut(self.share(gramian, 1.0), gramian)


@register_strategy("fairgrad", label="FairGrad")
class FairResourceAllocation(FairWeighting):
    """Shares out the tasks' gains by α-fairness (Ban & Ji 2024).

        G w = w^(−1/α),    d = Jᵀ w

    G = J Jᵀ is the Gramian of the gradients, rows of J, and w > 0. d maximises the α-fair utility
    Σ_k ⟨g_k, d⟩^(1−α) / (1−α) among the directions of its length: a sum of gains for α near 0, the
    product of gains (Nash-MTL's direction) for 1, the smallest gain for large α. Tasks without
    a label in the batch are left out, and so is a task whose gradient is zero, because nothing
    can be gained for it.

    Departs from the authors' code: w is exact, where that takes the result of a bounded
    least-squares search, and d is neither multiplied by K nor cut to length 1, which the paper
    does not mention.

    Ban, Ji: Fair Resource Allocation in Multi-Task Learning, ICML 2024, Eq. 4 and Algorithm 1.

    Args:
        alpha: α, above 0; 1 in the authors' code, where their scripts for NYUv2, CityScapes, QM9
            and CelebA give 2.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"alpha": Range(0.5, 10, log=True)}

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        if alpha <= 0:
            raise ValueError(f"alpha must be above 0, but is {alpha}")
        self.alpha = alpha

    def solve(self, gramian: Array, losses: Array) -> Array:
        return self.share(gramian, 1 / self.alpha)


@register_strategy("pivrg", label="PIVRG")
class PerformanceInformedWeighting(FairWeighting):
    """Shares out more to tasks that are far behind single-task networks (Qin et al. 2025).

        G w = (p / w)^½,    d = K Jᵀ w · min(1, max_norm / ‖K Jᵀ w‖)
        p = K softmax(s / T),    T = max((max s − min s) / ln bound, temperature)
        s_k = 100 · mean over the metrics m of task k of (b_m − v_m) / |b_m|

    G = J Jᵀ is the Gramian of the gradients, rows of J, and w > 0. d minimises Σ_k p_k / ⟨g_k, d⟩
    among the directions of its length: FairGrad with α = 2 (minimum potential delay), of which the
    terms are weighed. v_m is a metric on validation data after the epoch before, b_m what networks
    of single tasks reach, with signs exchanged where less is better; so s_k is by how many percent
    task k is behind, and no p_k is more than `bound` times another. p is 1 in the first epoch, and
    always where no b is given. A metric that is NaN is left out, and a task without another keeps
    its s. Tasks without a label in the batch are left out, of K too, and so is a task whose
    gradient is zero.

    In a study b are the validation results after the last epoch of the run of `single` with seed 0
    on the same variant, and the same for all seeds.

    Departs from the authors' code: w is exact, where that takes the result of a bounded
    least-squares search. b are test results there, and v on two of four datasets training results.

    Qin, Wang, Yan: Revisiting Fairness in Multitask Learning: A Performance-Driven Approach for
    Variance Reduction, CVPR 2025.

    Args:
        more: b of metrics of which more is better, by `TASK/METRIC`.
        less: b of metrics of which less is better, by `TASK/METRIC`.
        bound: above 1; authors' code, 1.8 on two of its datasets.
        temperature: above 0; authors' code, 20 and 100 on two of its datasets.
        max_norm: longest update, at least 0; 0 for no limit; authors' code.

    Raises:
        ValueError: a parameter out of its range, a b that is 0 or of no task, or a task without
            one; metrics of an epoch in which one is missing.

    Attributes:
        of: the strategy whose run gives the parameters `taken`.
    """

    of: ClassVar[str] = "single"
    taken: ClassVar = ("more", "less")

    space: ClassVar = {
        "bound": Range(1.5, 3, log=True),
        "temperature": Range(10, 100, log=True),
    }

    def __init__(
        self,
        more: dict[str, float] = {},  # noqa: B006 (never changed)
        less: dict[str, float] = {},  # noqa: B006 (never changed)
        bound: float = 2.0,
        temperature: float = 10.0,
        max_norm: float = 1.0,
    ) -> None:
        super().__init__()
        if bound <= 1:
            raise ValueError(f"bound must be above 1, but is {bound}")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, but is {temperature}")
        if max_norm < 0:
            raise ValueError(f"max_norm must be at least 0, but is {max_norm}")
        self.reached = {name: (value, 1.0) for name, value in more.items()}
        self.reached |= {name: (value, -1.0) for name, value in less.items()}
        self.bound, self.temperature, self.max_norm = bound, temperature, max_norm

    def start(self, setting: Setting) -> None:
        super().start(setting)
        self._tasks = setting.tasks
        named = {name.partition("/")[0] for name in self.reached}
        for name, (value, _) in self.reached.items():
            if name.partition("/")[0] not in self._tasks:
                raise ValueError(
                    f"more and less name {name!r}, which is no TASK/METRIC; tasks: "
                    f"{', '.join(self._tasks)}"
                )
            if value == 0:
                raise ValueError(f"{name!r} is 0, of which nothing is a percentage")
        for task in self._tasks:
            if named and task not in named:
                raise ValueError(f"more and less must name a metric of task {task!r}, too")
        self.register_buffer("behind", torch.zeros(len(self._tasks), dtype=setting.dtype))

    def solve(self, gramian: Array, losses: Array) -> Array:
        behind = self.get_buffer("behind").double().numpy()
        spread = (behind.max() - behind.min()) / np.log(self.bound)
        p = np.exp((behind - behind.max()) / max(spread, self.temperature))[self.here]
        p = len(p) * p / p.sum()
        # With w = z / p this is G z / (p pᵀ) = z^(−½).
        weights = self.share(gramian / np.outer(p, p), 0.5, least=1e-3) / p
        lengths, cosines = lengths_and_cosines(gramian)
        # Gradients that nearly cancel have large weights, and rounding is all that is left of d.
        raised = np.outer(lengths, lengths) * self.regularize(cosines)
        return self.cut(len(p) * weights, raised)

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        by_task: dict[str, list[float]] = {task: [] for task in self._tasks}
        for name, (value, sign) in self.reached.items():
            if name not in validation:
                raise ValueError(f"validation must have {name!r}, as more or less has")
            if np.isfinite(validation[name]):
                gap = 100 * sign * (value - validation[name]) / abs(value)
                by_task[name.partition("/")[0]].append(gap)
        behind = self.get_buffer("behind")
        for k, gaps in enumerate(by_task.values()):
            if gaps:
                behind[k] = sum(gaps) / len(gaps)
