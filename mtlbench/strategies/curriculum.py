"""Instances chosen by their losses: small ones only, or small ones first."""

import typing
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mtlbench.space import Range
from mtlbench.strategies.base import InstanceStage, Setting, register_strategy

OCTAVES, BINS_AN_OCTAVE = 40, 32
"""Losses are counted in bins from 2^−40 to 2^40, each 2 % wide."""

Weighting = Literal["hard", "linear"]


@register_strategy("trim", label="Small-Loss")
class SmallLossTrimming(InstanceStage):
    """Leaves out the largest losses of each task in a batch (Han et al. 2018).

        v_i = n / m for the m = n − ⌊τ n⌋ smallest of a task's n losses, 0 for the others
        τ = share · min(t / warmup, 1)

    t is the number of epochs that are over. Every task leaves out labels of its own; the rest
    keeps the mean as its weight. Absent labels are not among the n, of which one at least stays.
    With one network this is the iterative trimmed loss of Shen and Sanghavi (ICML 2019), taken in
    each batch.

    Departs from the authors' code: one network learns, from what itself selects; the share of
    epoch t is that of the paper (the code reaches it one epoch earlier), and so is the number of
    labels kept, at least (1 − τ) n (the code rounds it down).

    Han, Yao, Yu, Niu, Xu, Hu, Tsang, Sugiyama: Co-teaching: Robust Training of Deep Neural
    Networks with Extremely Noisy Labels, NeurIPS 2018, Algorithm 1.

    Args:
        share: the share of the labels that is assumed to be wrong, at least 0 and below 1; both
            papers take the true one, which is not known here. The default is the authors' code's.
        warmup: epochs until the whole share is left out, at least 0; the default is the paper's.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"share": Range(0.05, 0.5), "warmup": Range(2, 12, whole=True)}

    needs_index = False

    def __init__(self, share: float = 0.2, warmup: int = 10) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"share must be at least 0 and below 1, but is {share}")
        if warmup < 0:
            raise ValueError(f"warmup must be at least 0, but is {warmup}")
        self.share, self.warmup = share, warmup

    def start(self, setting: Setting) -> None:
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        ramp = (self.get_buffer("epochs") / self.warmup).clamp(max=1) if self.warmup else 1
        count = present.sum(0).to(losses.dtype)
        # 0.3 of 10 labels are 3, however the product is rounded.
        left_out = torch.floor(self.share * ramp * count + 1e-4)
        kept = (count - left_out).clamp(min=1)
        order = torch.where(present, losses, torch.inf).argsort(dim=0, stable=True)
        return (order.argsort(dim=0) < kept) * count / kept

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        self.get_buffer("epochs").add_(1)


@register_strategy("self-paced", label="Self-Paced")
class SelfPacedLearning(InstanceStage):
    """Learns from easy labels first, those of small loss (Kumar, Packer, Koller 2010).

        hard      v_i = 1 where ℓ_i < λ, 0 elsewhere
        linear    v_i = max(0, 1 − ℓ_i / λ)

    minimise Σ_i v_i ℓ_i − λ Σ_i v_i, or + λ Σ_i (½ v_i² − v_i), over v in [0, 1]. The threshold λ
    is one for each task and grows: after each epoch it becomes the quantile of that epoch's
    losses below which a share of them lies, `start` after the first epoch, growing evenly to
    `end` over `ramp` epochs. A quantile has no unit, so that one setting serves all tasks. It is
    read off a histogram with bins of 2 %, whose size does not depend on the number of instances.
    In the first epoch, and where the share is 1, λ is infinite and all weights are 1. Absent
    labels are not counted, and a task without a label in an epoch keeps its λ. Linear weights are
    those of Jiang et al. (Easy Samples First, ACM Multimedia 2014).

    Departs from the authors' code: there λ grows by a factor whenever the model has converged for
    fixed weights; here the share of easy labels grows from epoch to epoch.

    Kumar, Packer, Koller: Self-Paced Learning for Latent Variable Models, NeurIPS 2010,
    Algorithm 2.

    Args:
        weighting: `hard` or `linear`.
        start: share of easy labels at first, above 0 and at most 1.
        end: share at last, from `start` to 1; below 1 the hardest labels are never learned from.
        ramp: epochs from `start` to `end`, at least 1; as many as co-teaching takes to its share.

    Raises:
        ValueError: a parameter out of its range.
    """

    space: ClassVar = {"start": Range(0.3, 0.8), "ramp": Range(4, 16, whole=True)}

    needs_index = False

    def __init__(
        self, weighting: Weighting = "hard", start: float = 0.5, end: float = 1.0, ramp: int = 10
    ) -> None:
        super().__init__()
        if weighting not in typing.get_args(Weighting):
            raise ValueError(f"weighting must be 'hard' or 'linear', but is {weighting!r}")
        if not 0 < start <= 1:
            raise ValueError(f"start must be above 0 and at most 1, but is {start}")
        if not start <= end <= 1:
            raise ValueError(f"end must be at least start, {start}, and at most 1, but is {end}")
        if ramp < 1:
            raise ValueError(f"ramp must be at least 1, but is {ramp}")
        self.weighting, self.first, self.last, self.ramp = weighting, start, end, ramp

    def start(self, setting: Setting) -> None:
        octaves = torch.arange(-OCTAVES * BINS_AN_OCTAVE, OCTAVES * BINS_AN_OCTAVE + 1)
        edges = torch.exp2(octaves.double() / BINS_AN_OCTAVE).to(setting.dtype)
        infinite = setting.tensor([torch.finfo(setting.dtype).max])  # state stays finite
        self.register_buffer("edges", torch.cat([edges.to(setting.device), infinite]))
        counts = torch.zeros(len(edges) + 1, len(setting.tasks), dtype=torch.int64)
        self.register_buffer("counts", counts)
        self.register_buffer("threshold", infinite.repeat(len(setting.tasks)))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def weights(self, losses: Tensor, index: Tensor, present: Tensor) -> Tensor:
        edges, counts = self.get_buffer("edges"), self.get_buffer("counts")
        bins = torch.bucketize(losses, edges, right=True).clamp(max=len(edges) - 1)
        counts.scatter_add_(0, bins, present.to(counts.dtype))
        threshold = self.get_buffer("threshold")
        if self.weighting == "hard":
            return (losses < threshold).to(losses.dtype)
        return (1 - losses / threshold).clamp(min=0)

    def end_epoch(self, losses: Tensor, validation: Mapping[str, float]) -> None:
        edges, counts = self.get_buffer("edges"), self.get_buffer("counts")
        epochs, threshold = self.get_buffer("epochs"), self.get_buffer("threshold")
        grown = (epochs.double() / self.ramp).clamp(max=1)
        share = self.first + (self.last - self.first) * grown
        needed = share * counts.sum(0) - 1e-6  # 0.3 of 10 labels are 3, however it is rounded
        quantile = edges[(counts.cumsum(0) < needed).sum(0)]
        quantile = torch.where(share < 1 - 1e-9, quantile, edges[-1])
        threshold.copy_(torch.where(counts.any(0), quantile, threshold))
        counts.zero_()
        epochs.add_(1)
