"""Physical properties of organic compounds, as the handbooks and databases have them."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.data.compounds import PROPERTIES, read_compounds, require_compounds
from mtlbench.data.fingerprints import BITS, DESCRIPTORS
from mtlbench.data.splits import Data, Inputs, Split
from mtlbench.data.variants import CLEAN
from mtlbench.models.tables import SharedBottom
from mtlbench.randomness import derive_seed
from mtlbench.suites.base import Suite, register_suite
from mtlbench.tasks.metrics import absolute_error, median_error
from mtlbench.tasks.task import Task, l1, squared_l2


class _Scale(NamedTuple):
    """What a network predicts of a property: (value − center) / scale, of its logarithm with `log`.

    Median of the labels, and their interquartile range over 1.349, which is the standard deviation
    of normal ones; a gross error changes neither. `noise` is where all but 1 % on either side lie.
    """

    center: float
    scale: float
    noise: tuple[float, float]
    log: bool = False


SCALES = {
    "melting_point": _Scale(350, 90, (145, 580)),
    "boiling_point": _Scale(460, 80, (260, 760)),
    "flash_point": _Scale(325, 60, (215, 500)),
    "density": _Scale(1015, 235, (690, 2200)),
    "refractive_index": _Scale(1.456, 0.07, (1.33, 1.64)),
    "permittivity": _Scale(1.7, 0.9, (1.9, 83), log=True),
    "critical_temperature": _Scale(645, 95, (395, 1030)),
    "critical_pressure": _Scale(1.04, 0.42, (0.45, 6.3), log=True),
    "critical_volume": _Scale(6.19, 0.4, (185, 2200), log=True),
    "heat_of_vaporization": _Scale(52, 19, (22, 190)),
    "heat_of_sublimation": _Scale(100, 25, (45, 205)),
    "heat_of_fusion": _Scale(2.5, 0.75, (0.9, 130), log=True),
    "heat_of_formation_gas": _Scale(-130, 270, (-1570, 485)),
    "heat_of_formation_liquid": _Scale(-215, 280, (-2050, 370)),
    "heat_of_formation_solid": _Scale(-230, 380, (-1750, 600)),
    "logp": _Scale(2.4, 1.8, (-1, 7.4)),
}


@register_suite("compounds", label="Compounds")
@dataclass(frozen=True, kw_only=True)
class Compounds(Suite):
    """Sixteen physical properties of 24,458 organic compounds: labels that are wrong by nature.

    The tables of the package chemicals, joined by CAS number (`pip install 'mtlbench[compounds]'`).
    `mtlbench.data.compounds` says which of them, in what order, what is left out, and why nothing
    is cleaned. Inputs are what RDKit counts of a structure: fragments of up to two bonds around
    each atom, as log(1 + count); atoms of each element, rings and the like, the logarithms
    standardised by the training compounds. A compound is in one split with its stereoisomers and
    isotopologues: 80 % are for training, 10 % each for validation and test.

    Tasks: those of `PROPERTIES`. A compound has 2.8 of the labels in the mean, so that 83 % are
    missing: 15,093 have a melting point, 451 a logP. The network predicts the logarithm of those
    that span orders, and all standardised by median and interquartile range, which errors do not
    move.

    **The errors** are in all splits. The heat of vaporization of isobutyl pivalate is given as
    5,515 kJ/mol, where the median is 52; triallyl trimellitate boils at 2,378 K; 2-fluoropropane,
    which melts at −133 °C, lost its minus sign. The loss is the squared error, as customary and as
    ILT's Eq. 2 has it: what to do about a few labels that are most of a task's loss is left to the
    weighting. A robust loss is the simpler remedy. Mean absolute errors in the test over those of
    equal weights with the squared loss, geometric mean over the tasks (seed 0): ILT 0.90; with
    `loss=l1`, equal weights 0.79 and ILT 0.95.

    **Metrics** are the mean absolute error and the median one. To the mean, a gross error in the
    test labels adds the same whatever the network; the median does not see it. Root mean square
    errors and R² are left out: for the heat of vaporization, they are those of one label.

    Attributes:
        loss: `squared_l2` or `l1`.
        split: `random`, or `scaffold`, where training has the most frequent ring systems, so that
            molecules in the test have rare ones.
    """

    gpu_share: ClassVar[float] = 1 / 8

    epochs: int = 15
    batch_size: int = 256
    lr: float = 4e-3
    weight_decay: float = 0.01
    loss: Literal["squared_l2", "l1"] = "squared_l2"
    split: Literal["random", "scaffold"] = "random"

    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "melting_point@0.4")

    def check(self) -> None:
        require_compounds()

    def tasks(self) -> tuple[Task, ...]:
        loss = l1() if self.loss == "l1" else squared_l2()
        return tuple(
            Task(
                name,
                "regression",
                loss=loss,
                metrics=(absolute_error(kind.unit), median_error(kind.unit)),
                corruptions=("shuffle", "uniform"),
                unit=kind.unit,
                **SCALES[name]._asdict(),
            )
            for name, kind in PROPERTIES.items()
        )

    def data(self) -> Data:
        table = read_compounds()
        by_scaffold = self.split == "scaffold"
        groups = table.scaffold if by_scaffold else table.skeleton
        labelled = np.asarray(np.isfinite(table.labels).any(axis=1))
        train, validation, test = (
            rows[labelled[rows]] for rows in _divided(groups, largest_first=by_scaffold)
        )

        descriptors = np.log1p(table.descriptors)
        mean, std = descriptors[train].mean(0), descriptors[train].std(0)
        # The few atoms of a rare element would be fifty deviations from none.
        descriptors = ((descriptors - mean) / std.clip(1e-6)).clip(-8, 8)

        def split(rows: np.ndarray) -> Split:
            labels = torch.from_numpy(table.labels[rows].T.copy())
            return Split(
                {
                    "counts": torch.from_numpy(table.counts[rows]),
                    "descriptors": torch.from_numpy(descriptors[rows]),
                },
                dict(zip(PROPERTIES, labels, strict=True)),
                names=[table.names[row] for row in rows],
            )

        return Data(split(train), split(validation), split(test))

    def prepare(self, inputs: Inputs) -> Tensor:
        assert isinstance(inputs, dict)
        return torch.cat((inputs["counts"].float().log1p(), inputs["descriptors"]), 1)

    def model(self) -> nn.Module:
        outputs = dict.fromkeys(PROPERTIES, 1)
        return SharedBottom(outputs, numbers=BITS + len(DESCRIPTORS), hidden=(256, 128))


def _divided(groups: np.ndarray, *, largest_first: bool) -> list[np.ndarray]:
    """Rows of training, validation and test: 80, 10 and 10 %.

    Args:
        groups: of each row, numbered from 0. No group is in two splits.
        largest_first: whether training gets the groups with the most rows, or any.
    """
    sizes = np.bincount(groups)
    order = np.random.default_rng(derive_seed("compounds", "split")).permutation(len(sizes))
    if largest_first:
        order = order[np.argsort(-sizes[order], kind="stable")]
    before = np.empty_like(sizes)
    before[order] = sizes[order].cumsum() - sizes[order]
    place = np.searchsorted((0.8, 0.9), before[groups] / len(groups), side="right")
    return [np.flatnonzero(place == part) for part in range(3)]
