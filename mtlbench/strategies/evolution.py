"""Static task weights evolved by a population of networks."""

import itertools
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import LossWeighting, Member, Setting, register_strategy


@register_strategy("evolution", label="Evolution")
class Evolution(LossWeighting):
    """Weights evolved by a population of networks trained side by side (Leang et al. 2020).

        w_k ← K w_k exp(a u_k) / Σ_j w_j exp(a u_j),     a = log factor, u_k uniform in [−1, 1]

    In the harness a run of this strategy is the training of a whole population. All its members
    start from the same weights of the network and see the same batches; the first has equal task
    weights, the others log-uniform ones. After every few epochs they are ranked on validation
    data. Each of the worst share goes on as a copy of one of the best share, drawn at random, with
    its state of training and the weights above (truncation selection and exploration as in
    Population Based Training, Jaderberg, Dalibard, Osindero et al. 2017, Algorithm 1); the others
    go on as they are. The best member at the end is the result, and its cost is that of all
    members. Weights sum to K: a common factor would only change the learning rate. A task without
    a label in a batch changes nothing for the others.

    Members are ranked by the mean over tasks of the mean over a task's metrics of ±log m, + where
    more is better: differences of it are relative improvements, whatever the unit of a metric.
    A member whose training diverged comes last.

    In a training loop of one's own this is one member: equal weights until `set_weights`.

    Departs from the authors' code: Leang et al. published none. Their second part, task-based
    selective backpropagation, is left out. Factors are drawn from a range where Jaderberg et al.
    have two of them: copies differ from each other and from what they were copied from.

    Leang, Sistu, Bürger, Bursuc, Yogamani: Dynamic Task Weighting Methods for Multi-task Networks
    in Autonomous Driving Systems, ITSC 2020.

    Args:
        population: networks trained side by side, at least 2.
        every: epochs from one selection to the next, at least 1.
        quantile: share of the population that is replaced, above 0, at most 0.5; default of Ray
            Tune, 0.2 in the paper of Jaderberg et al.
        factor: largest factor by which a copy's weight is changed, above 1.
        spread: the first weights lie between 1 / spread and spread, before they are rescaled;
            above 1.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"spread": Range(1.5, 10, log=True), "factor": Range(1.1, 2, log=True)}

    def __init__(
        self,
        population: int = 8,
        every: int = 2,
        quantile: float = 0.25,
        factor: float = 1.5,
        spread: float = 4.0,
    ) -> None:
        super().__init__()
        if population < 2:
            raise ValueError(f"population must be at least 2, but is {population}")
        if every < 1:
            raise ValueError(f"every must be at least 1, but is {every}")
        if not 0 < quantile <= 0.5:
            raise ValueError(f"quantile must be above 0 and at most 0.5, but is {quantile:g}")
        for name, value in (("factor", factor), ("spread", spread)):
            if not value > 1:
                raise ValueError(f"{name} must be above 1, but is {value:g}")
        self.networks, self.every, self.quantile = population, every, quantile
        self.factor, self.spread = factor, spread

    def start(self, setting: Setting) -> None:
        self._setting = setting
        self.register_buffer("evolved", setting.per_task({}, "weight"))

    def weights(self, losses: Tensor, present: Tensor) -> Tensor:
        return self.get_buffer("evolved")

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Sets the weight of each task; 1 for a task that is not named.

        Raises:
            ValueError: a name that is no task, or a negative weight.
        """
        self.get_buffer("evolved").copy_(self._setting.per_task(weights, "weight"))

    def generations(
        self, tasks: Sequence[str], draws: Callable[[int, int], torch.Generator]
    ) -> Generator[list[Member], list[float], None]:
        """Yields the members of one generation after the other, and is sent their scores."""
        equal = dict.fromkeys(tasks, 1.0)
        others = range(1, self.networks)
        members = [Member(equal)]
        members += [Member(_scaled(equal, self.spread, draws(1, number))) for number in others]
        # Of a small population, no member is among both the worst and the best.
        replaced = min(math.ceil(self.networks * self.quantile), self.networks // 2)
        for generation in itertools.count(2):
            scores = yield members
            ranked = sorted(range(self.networks), key=scores.__getitem__)
            worst, best = ranked[:replaced], ranked[-replaced:]
            before, members = members, []
            for number in range(self.networks):
                if number in worst:
                    chance = draws(generation, number)
                    parent = best[int(torch.randint(replaced, (), generator=chance))]
                    weights = _scaled(before[parent].weights, self.factor, chance)
                    members.append(Member(weights, parent))
                else:
                    members.append(Member(before[number].weights, number))


def _scaled(
    weights: Mapping[str, float], factor: float, generator: torch.Generator
) -> dict[str, float]:
    """Each weight times a factor, log-uniform in [1 / factor, factor]; all of them sum to K."""
    draws = torch.rand(len(weights), generator=generator, dtype=torch.float64).tolist()
    scaled = [
        weight * math.exp((2 * draw - 1) * math.log(factor))
        for weight, draw in zip(weights.values(), draws, strict=True)
    ]
    share = len(weights) / math.fsum(scaled)
    return {task: weight * share for task, weight in zip(weights, scaled, strict=True)}
