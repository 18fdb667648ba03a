"""Eleven properties of small molecules."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.data.qm9 import PROPERTIES, molecule_files, read_molecules
from mtlbench.data.splits import Data, Inputs, Split, each_input
from mtlbench.data.variants import CLEAN
from mtlbench.errors import UserError
from mtlbench.models.molecules import MoleculeNet
from mtlbench.randomness import derive_seed
from mtlbench.suites.base import Suite, register_suite
from mtlbench.tasks.metrics import absolute_error, root_mean_square_error
from mtlbench.tasks.task import Task, squared_l2

MOLECULES = 130_831
"""All that there are."""

HELD_OUT = 10_000
"""Molecules that validation, and so many that the test, can have; all others are for training."""

STANDARD = {
    "mu": (2.6717, 1.5034),
    "alpha": (75.282, 8.1695),
    "homo": (-6537.6, 596.85),
    "lumo": (320.91, 1274.6),
    "r2": (1189.16, 280.04),
    "zpve": (4057.6, 901.78),
    "u0": (-76124.0, 10329.0),
    "u": (-76589.0, 10420.0),
    "h": (-77026.0, 10495.0),
    "g": (-70844.0, 9503.2),
    "cv": (31.620, 4.0704),
}
"""Mean and standard deviation of each property over all molecules for training, in its unit."""


@register_suite("qm9", label="QM9")
@dataclass(frozen=True, kw_only=True)
class QM9(Suite):
    """Eleven properties of small organic molecules (QM9; Ramakrishnan et al. 2014), from their
    atoms and where these are.

    The tasks, labels, units, loss and splits are those of Nash-MTL (Navon et al. 2022), FAMO and
    FairGrad: dipole moment `mu`, polarizability `alpha`, energies of the highest occupied and the
    lowest unoccupied orbital `homo` and `lumo`, electronic spatial extent `r2`, zero point
    vibrational energy `zpve`, energies of atomization `u0`, `u`, `h` (enthalpy) and `g` (free
    energy), heat capacity `cv`; the squared error of labels brought to mean 0 and standard
    deviation 1. They train on all 110,831 molecules for 300 epochs; by default it is a small part
    of these, and a network that is quick on a CPU.

    Attributes:
        full: all molecules, 110,831 for training and 10,000 each for validation and test, whatever
            the sizes.
        train_size, validation_size, test_size: molecules of each split, the first of those that it
            has with `full`.
    """

    epochs: int = 12
    batch_size: int = 64
    lr: float = 4e-3
    full: bool = False
    train_size: int = 12_000
    validation_size: int = 1000
    test_size: int = 2000

    default_variants: ClassVar[tuple[str, ...]] = (CLEAN, "u0@0.4")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least_one("train_size", "validation_size", "test_size")
        most = {
            "train_size": MOLECULES - 2 * HELD_OUT,
            "validation_size": HELD_OUT,
            "test_size": HELD_OUT,
        }
        for name, count in most.items():
            if getattr(self, name) > count:
                raise ValueError(f"{name} must be at most {count}, but is {getattr(self, name)}")

    def check(self) -> None:
        molecule_files("qm9")

    def tasks(self) -> tuple[Task, ...]:
        return tuple(
            Task(
                name,
                "regression",
                loss=squared_l2(),
                metrics=(absolute_error(known.unit), root_mean_square_error(known.unit)),
                corruptions=("shuffle", "uniform"),
                unit=known.unit,
                center=STANDARD[name][0],
                scale=STANDARD[name][1],
            )
            for name, known in PROPERTIES.items()
        )

    def data(self) -> Data:
        molecules = read_molecules(molecule_files("qm9"))
        count = len(molecules.names)
        if count != MOLECULES:
            raise UserError(
                f"suite 'qm9' needs all {MOLECULES} molecules, but the files of 'qm9pack' have "
                f"{count}"
            )
        order = np.random.default_rng(derive_seed("qm9", "split")).permutation(count)
        # As in Nash-MTL's code, the test comes first.
        test, validation, train = np.split(order, (HELD_OUT, 2 * HELD_OUT))

        def split(rows: np.ndarray, size: int) -> Split:
            rows = rows if self.full else rows[:size]
            properties = torch.from_numpy(molecules.properties[rows])
            return Split(
                {
                    "elements": torch.from_numpy(molecules.elements[rows]),
                    "places": torch.from_numpy(molecules.places[rows]),
                },
                dict(zip(PROPERTIES, properties.T.contiguous(), strict=True)),
                names=[name.decode() for name in molecules.names[rows]],
            )

        return Data(
            split(train, self.train_size),
            split(validation, self.validation_size),
            split(test, self.test_size),
        )

    def model(self) -> nn.Module:
        return MoleculeNet(list(PROPERTIES))

    def prepare(self, inputs: Inputs) -> Inputs:
        """Atomic numbers to indices; they are no picture."""

        def prepared(values: Tensor) -> Tensor:
            return values.long() if values.dtype == torch.uint8 else values

        return each_input(inputs, prepared)
