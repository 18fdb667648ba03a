"""Molecules as numbers: hashed counts of their fragments, and a few descriptors, by RDKit.

RDKit (BSD, https://www.rdkit.org) is imported where it is needed, since few suites need it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

BITS, RADIUS = 1024, 2
"""Length of a fingerprint, and how many bonds from its center a fragment goes."""

ELEMENTS = ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se", "Br", "I")
"""Those that a molecule may have."""

HALOGENS = {"F", "Cl", "Br", "I"}

DESCRIPTORS = (
    *(f"atoms of {element}" for element in ELEMENTS),
    "molecular weight",
    "rings",
    "aromatic rings",
    "hydrogen bond donors",
    "hydrogen bond acceptors",
    "topological polar surface area",
)


@dataclass(frozen=True)
class Structures:
    """M molecules.

    Attributes:
        counts: how often a molecule has the fragments that are hashed to each place: Morgan
            fingerprints (Rogers, Hahn: Extended-Connectivity Fingerprints, 2010) of radius 2, uint8
            [M, 1024].
        descriptors: float32 [M, len(DESCRIPTORS)].
        skeletons: SMILES without stereochemistry and isotopes.
        scaffolds: SMILES of the rings and what links them (Bemis, Murcko 1996); the skeleton where
            there is no ring.
    """

    counts: npt.NDArray[np.uint8]
    descriptors: npt.NDArray[np.float32]
    skeletons: list[str]
    scaffolds: list[str]


def rdkit_version() -> str:
    """Of which what is counted may depend."""
    return str(import_module("rdkit").__version__)


def read_structures(smiles: Sequence[str]) -> tuple[list[bool], Structures]:
    """Which of these are organic molecules (see `is_organic`), and what those are made of.

    SMILES that RDKit cannot read are none.
    """
    chem, scaffolds = _rdkit("Chem"), _rdkit("Chem.Scaffolds.MurckoScaffold")
    fingerprint = _rdkit("Chem.rdFingerprintGenerator").GetMorganGenerator(
        radius=RADIUS, fpSize=BITS
    )
    kept: list[bool] = []
    counts: list[npt.NDArray[np.uint8]] = []
    descriptors: list[list[float]] = []
    skeletons: list[str] = []
    rings: list[str] = []
    with _rdkit("rdBase").BlockLogs():
        for text in smiles:
            molecule = chem.MolFromSmiles(text)
            kept.append(molecule is not None and is_organic(molecule))
            if not kept[-1]:
                continue
            counted = fingerprint.GetCountFingerprintAsNumPy(molecule)
            counts.append(counted.clip(max=255).astype(np.uint8))
            descriptors.append(describe(molecule))
            plain = _without_isotopes(molecule)
            skeletons.append(chem.MolToSmiles(plain, isomericSmiles=False))
            rings.append(scaffolds.MurckoScaffoldSmiles(mol=plain) or skeletons[-1])
    return kept, Structures(
        np.array(counts, np.uint8).reshape(-1, BITS),
        np.array(descriptors, np.float32).reshape(-1, len(DESCRIPTORS)),
        skeletons,
        rings,
    )


def is_organic(molecule: Any) -> bool:
    """Whether a structure is one neutral molecule without unpaired electrons, of the elements in
    `ELEMENTS`, with carbon, and with hydrogen or a halogen.

    That leaves out elements, salts, hydrates and other mixtures, whatever has a metal or a
    metalloid but boron and silicon, radicals, and oxides, sulfides and carbides.
    """
    atoms = list(molecule.GetAtoms())
    symbols = {atom.GetSymbol() for atom in atoms}
    return (
        symbols <= set(ELEMENTS)
        and "C" in symbols
        and (bool(symbols & {"H", *HALOGENS}) or any(atom.GetTotalNumHs() for atom in atoms))
        and sum(atom.GetFormalCharge() for atom in atoms) == 0
        and not any(atom.GetNumRadicalElectrons() for atom in atoms)
        and len(_rdkit("Chem").GetMolFrags(molecule)) == 1
    )


def describe(molecule: Any) -> list[float]:
    """The `DESCRIPTORS` of a molecule."""
    of = _rdkit("Chem.rdMolDescriptors")
    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    # Hydrogen is an atom of its own where it is an isotope, and else counted with its neighbour.
    hydrogen = sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
    return [
        symbols.count("H") + hydrogen,
        *(symbols.count(element) for element in ELEMENTS[1:]),
        _rdkit("Chem.Descriptors").MolWt(molecule),
        of.CalcNumRings(molecule),
        of.CalcNumAromaticRings(molecule),
        of.CalcNumHBD(molecule),
        of.CalcNumHBA(molecule),
        of.CalcTPSA(molecule),
    ]


def _without_isotopes(molecule: Any) -> Any:
    """The molecule of the most common isotopes, its hydrogen counted with the neighbours."""
    special = [atom for atom in molecule.GetAtoms() if atom.GetIsotope()]
    for atom in special:
        atom.SetIsotope(0)
    return _rdkit("Chem").RemoveHs(molecule) if special else molecule


@cache
def _rdkit(part: str) -> Any:
    return import_module(f"rdkit.{part}")
