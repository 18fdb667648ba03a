"""QM9: small organic molecules and what quantum chemistry says of them, from a package's files.

134 thousand molecules of up to nine atoms of carbon, nitrogen, oxygen and fluorine, with their
hydrogen (Ramakrishnan et al. 2014, https://doi.org/10.1038/sdata.2014.22), in the geometry of
lowest energy. The package `qm9pack` has the 130,831 of them that pass the consistency check of
their authors, which are those that PyTorch Geometric has, too.
"""

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mtlbench.data.cache import Arrays, cached_arrays
from mtlbench.data.packaged import packaged_file
from mtlbench.errors import UserError

INSTALL = "'mtlbench[qm9]'"

FILES = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")

ATOMS = 29
"""Of the largest molecule."""

ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
"""Their atomic numbers."""

HARTREE = 27211.386246
"""In meV."""

_VERSION = 1
"""Of the arrays; to be raised with every change to them, lest old ones be found in a cache."""


@dataclass(frozen=True)
class Property:
    """One number that is known of each molecule.

    Attributes:
        column: of the files.
        unit: here.
        factor: from the unit of the files to this one.
        alone: what each element's atom has of it when it is alone, in the unit of the files, in the
            order of `ELEMENTS`. It is subtracted for every atom of the molecule.
    """

    column: str
    unit: str
    factor: float = 1.0
    alone: tuple[float, ...] = ()


PROPERTIES = {
    "mu": Property("Dipole_debye", "D"),
    "alpha": Property("Polarizability_bohr3", "bohr³"),
    "homo": Property("HOMO_au", "meV", HARTREE),
    "lumo": Property("LUMO_au", "meV", HARTREE),
    "r2": Property("R2_bohr2", "bohr²"),
    "zpve": Property("ZPVE_au", "meV", HARTREE),
    "u0": Property(
        "InternalEnergy_0K_au",
        "meV",
        HARTREE,
        (-0.500273, -37.846772, -54.583861, -75.064579, -99.718730),
    ),
    "u": Property(
        "InternalEnergy_298K_au",
        "meV",
        HARTREE,
        (-0.498857, -37.845355, -54.582445, -75.063163, -99.717314),
    ),
    "h": Property(
        "Enthalphy_298K_au",
        "meV",
        HARTREE,
        (-0.497912, -37.844411, -54.581501, -75.062219, -99.716370),
    ),
    "g": Property(
        "GibbsFreeEnergy_298K_au",
        "meV",
        HARTREE,
        (-0.510927, -37.861317, -54.598897, -75.079532, -99.733544),
    ),
    "cv": Property("Heatcapacity_Cv_cal_mol_K", "cal/(mol K)"),
}
"""The eleven that Nash-MTL and its followers predict, in their order, by name.

The energies u0, u, h and g are those of atomization, not the total ones, as in those papers' code
(targets 12 to 15 of PyTorch Geometric): a total energy is that of the lone atoms but for 0.4 %. The
energies of lone atoms are those that come with QM9.
"""


@dataclass(frozen=True)
class Molecules:
    """N molecules, in the order of the files."""

    elements: npt.NDArray[np.uint8]  # [N, 29], atomic numbers; 0 where there is no further atom
    places: npt.NDArray[np.float32]  # [N, 29, 3], Å; 0 where there is no further atom
    properties: npt.NDArray[np.float32]  # [N, 11], in the order and units of PROPERTIES
    names: npt.NDArray[np.bytes_]  # [N], SMILES


def molecule_files(suite: str) -> list[Path]:
    """The files of the package.

    Raises:
        UserError: it is not installed.
    """
    return [packaged_file("qm9pack", "data", f, suite=suite, install=INSTALL) for f in FILES]


def read_molecules(files: Sequence[Path]) -> Molecules:
    """All molecules of files of the package.

    Reading their 226 MB of text takes 7 s, so what was read is kept in the cache: 59 MB, in 0.2 s.

    Raises:
        UserError: a file cannot be read, or has a broken row.
    """
    sizes = [file.stat().st_size for file in files]
    return Molecules(**cached_arrays({"qm9": _VERSION, "sizes": sizes}, lambda: _read(files)))


def _read(files: Sequence[Path]) -> Arrays:
    found = [molecule for file in files for molecule in _molecules(file)]
    elements = np.zeros((len(found), ATOMS), np.uint8)
    places = np.zeros((len(found), ATOMS, 3), np.float32)
    for i, molecule in enumerate(found):
        atoms = len(molecule.elements)
        elements[i, :atoms] = np.frombuffer(molecule.elements, np.uint8)
        places[i, :atoms] = np.reshape(molecule.places, (atoms, 3))
    values = np.array([molecule.properties for molecule in found])
    for k, kind in enumerate(PROPERTIES.values()):
        for element, energy in zip(ELEMENTS.values(), kind.alone, strict=False):
            values[:, k] -= energy * (elements == element).sum(1)
        values[:, k] *= kind.factor
    return {
        "elements": elements,
        "places": places,
        "properties": values.astype(np.float32),
        "names": np.array([molecule.name.encode() for molecule in found]),
    }


class _Molecule(NamedTuple):
    """A row, in the units of the file."""

    name: str
    elements: bytes  # [atoms], atomic numbers
    places: "array[float]"  # [atoms · 3]; half a gigabyte for all molecules were it a list
    properties: list[float]  # [11]


def _molecules(file: Path) -> Iterator[_Molecule]:
    """The molecules of a file.

    Raises:
        UserError: it cannot be read, or has a broken row.
    """
    where = repr(file.name)
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = csv.reader(lines)
            columns = _Columns.find(next(rows, []))
            for row in rows:
                where = f"{file.name!r}, line {rows.line_num}"
                yield columns.molecule(row)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"{where}, of 'qm9pack' is broken: {' '.join(str(error).split())}; pip install "
            f"--force-reinstall {INSTALL}"
        ) from None


class _Columns(NamedTuple):
    """Where in a row is what."""

    width: int  # of a row
    name: int
    elements: int
    places: int
    properties: list[int]  # [11]

    @classmethod
    def find(cls, header: list[str]) -> "_Columns":
        """The columns of a file with this first row.

        Raises:
            ValueError: it lacks one of them.
        """
        wanted = ["SMILES", "Elements", "XYZ_Ang", *(p.column for p in PROPERTIES.values())]
        for column in wanted:
            if column not in header:
                raise ValueError(f"there is no column {column!r}")
        name, elements, places, *properties = map(header.index, wanted)
        return cls(len(header), name, elements, places, properties)

    def molecule(self, row: list[str]) -> _Molecule:
        """The molecule of a row.

        Raises:
            ValueError: something is wrong with it.
        """
        if len(row) != self.width:
            raise ValueError(f"it has {len(row)} columns in place of {self.width}")
        symbols = row[self.elements].strip("[]").replace("'", "").split(",")
        if unknown := set(symbols) - set(ELEMENTS):
            raise ValueError(f"{min(unknown)!r} is none of the elements {', '.join(ELEMENTS)}")
        if len(symbols) > ATOMS:
            raise ValueError(f"it has {len(symbols)} atoms, but QM9 has at most {ATOMS}")
        places = _numbers(row[self.places].replace("[", "").replace("]", "").split(","))
        if len(places) != 3 * len(symbols):
            raise ValueError(f"it has {len(places)} coordinates of {len(symbols)} atoms")
        return _Molecule(
            row[self.name],
            bytes([ELEMENTS[symbol] for symbol in symbols]),
            array("f", places),
            _numbers([row[column] for column in self.properties]),
        )


def _numbers(texts: Sequence[str]) -> list[float]:
    """Numbers from their text.

    Raises:
        ValueError: one is none, or not finite.
    """
    values = list(map(float, texts))
    if not math.isfinite(sum(values)):  # which takes a tenth of the time of asking each
        raise ValueError("a number is not finite")
    return values
