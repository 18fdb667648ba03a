"""Physical properties of organic compounds, from the tables of the package `chemicals`.

`chemicals` (MIT, https://github.com/CalebBell/chemicals) comes with the tables of many handbooks
and databases, and with a list of substances. All are joined here by CAS number.

**Which file gives a property.** Several have most of them. They are asked in the order in which
`PROPERTIES` lists them, and the first that knows a substance gives its label: the file with the
most substances first, whatever its quality. Those with few, mostly the critically evaluated ones,
are so left to check labels against: `source_values` gives what all of them say.

**Left out files**: those of predicted values (Joback, Wilson and Jasperson, Fedors, the acentric
factors; PSI4); Yaws' heats of formation, which are mostly estimated as well; tables of inorganic
substances. Yaws' other two and DIPPR's critical properties are mixed: much of what they say of
large molecules has been estimated, and nothing tells which. CAS Common Chemistry, whose terms do
not allow commercial use, gives no label, but can be compared with; nor does TRC: its heats of
formation are of 0 K, where all others are of 298 K (methane: −66.6 and −74.6 kJ/mol; in the median
of 695 compounds, 27 above the others).

**Left out substances**: those without a structure in the package's lists that RDKit can read, and
those whose structure is not that of one neutral, closed-shell organic molecule; see
`mtlbench.data.fingerprints`. 114 that only TRC knows have no label and are in no split, but are
drawn with the others: without them, the training labels would be others than those that were looked
at (results/compounds).

**Nothing is cleaned.** A label is what the file says, in another unit at most: also a boiling point
of 3,053 K, or a heat of vaporization of 5,515 kJ/mol. Finding them is the purpose. Other values are
right but of another state, as a permittivity at 400 K.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mtlbench.data.cache import Arrays, cached_arrays
from mtlbench.data.fingerprints import rdkit_version, read_structures
from mtlbench.data.packaged import packaged_file
from mtlbench.errors import UserError

SUITE, INSTALL = "compounds", "'mtlbench[compounds]'"

SOURCES = {
    "API": "Reactions/API TDB Albahri Hf (g).tsv",
    "ATcT (gas)": "Reactions/ATcT 1.112 (g).tsv",
    "ATcT (liquid)": "Reactions/ATcT 1.112 (l).tsv",
    "Common Chemistry": "Misc/common_chemistry_data.tsv",
    "CRC": "Misc/Physical Constants of Organic Compounds.csv",
    "CRC critical": "Critical Properties/CRCCriticalOrganics.tsv",
    "CRC fusion": "Phase Change/CRC Handbook Heat of Fusion.tsv",
    "CRC logP": "Environment/CRC logP table.tsv",
    "CRC permittivity": "Electrolytes/Permittivity (Dielectric Constant) of Liquids.tsv",
    "CRC refraction": "Misc/CRC Handbook Organic RI.csv",
    "CRC thermodynamics": (
        "Heat Capacity/CRC Standard Thermodynamic Properties of Chemical Substances.tsv"
    ),
    "CRC vaporization": "Phase Change/CRC Handbook Heat of Vaporization.tsv",
    "DIPPR critical": "Critical Properties/DIPPRPinaMartines.tsv",
    "DIPPR flash": "Safety/DIPPR T_flash Serat.csv",
    "Gharagheizi sublimation": "Phase Change/Ghazerati Appendix Sublimation Enthalpy.tsv",
    "Gharagheizi vaporization": "Phase Change/Ghazerati Appendix Vaporization Enthalpy.tsv",
    "IEC": "Safety/IS IEC 60079-20-1 2010.tsv",
    "IUPAC": "Critical Properties/IUPACOrganicCriticalProps.tsv",
    "JANAF": "Reactions/JANAF_1998.tsv",
    "NFPA": "Safety/NFPA 497 2008.tsv",
    "Open Notebook": "Phase Change/OpenNotebook Melting Points.tsv",
    "Passut and Danner": "Critical Properties/PassutDanner1973.tsv",
    "PSRK": "Critical Properties/Appendix to PSRK Revision 4.tsv",
    "REFPROP": "Misc/heos_constants.tsv",
    "TRC": "Heat Capacity/TRC Thermodynamics of Organic Compounds in the Gas State.tsv",
    "WebBook": "Misc/webbook_constants.tsv",
    "Wikidata": "Misc/wikidata_properties.tsv",
    "Yaws boiling": "Phase Change/Yaws Boiling Points.tsv",
    "Yaws critical": "Critical Properties/Yaws Collection.tsv",
}
"""Tables of the package by name. Many of Wikidata's values are those of CRC and Open Notebook."""

IDENTIFIERS = (
    "Inorganic db.tsv",
    "chemical identifiers example user db.tsv",
    "chemical identifiers pubchem small.tsv",
    "chemical identifiers pubchem large.tsv",
)
"""Lists of substances, in the order in which the package itself believes them."""

_CATALOGUED = re.compile(r"[\d-]*|[a-z]+[ -]?\d[\d/-]{3,}|ac1\w{5}|agn-pc-\w{6}|ctk\w{6}")
"""Names that are numbers of a catalogue, as nsc149615 or ac1ld1yn."""

_VERSION = 2
"""Of the arrays; to be raised with every change to them, lest old ones be found in a cache."""


@dataclass(frozen=True)
class Property:
    """A property of a substance.

    Attributes:
        unit: here.
        sources: names in `SOURCES` with the column there; the first that has a value gives it.
        factor: from the unit of the tables, SI without prefixes, to this one.
        checks: more of them, which give no labels.
    """

    unit: str
    sources: dict[str, str]
    factor: float = 1.0
    checks: dict[str, str] = field(default_factory=dict)

    @property
    def all_sources(self) -> dict[str, str]:
        """`sources`, and then `checks`."""
        return self.sources | self.checks


def _critical(unit: str, column: str, factor: float = 1.0) -> Property:
    order = ("Yaws critical", "DIPPR critical", "PSRK", "CRC critical", "IUPAC", "WebBook")
    names = [*order, *(["Passut and Danner"] if column != "Vc" else []), "REFPROP"]
    return Property(unit, dict.fromkeys(names, column), factor)


PROPERTIES = {
    "melting_point": Property(
        "K",
        dict.fromkeys(("Open Notebook", "Wikidata", "CRC", "WebBook"), "Tm"),
        checks={"Common Chemistry": "Tm"},
    ),
    "boiling_point": Property(
        "K",
        dict.fromkeys(("Yaws boiling", "WebBook", "CRC", "Wikidata"), "Tb"),
        checks={"Common Chemistry": "Tb"},
    ),
    "flash_point": Property(
        "K", dict.fromkeys(("DIPPR flash", "Wikidata", "IEC", "NFPA"), "T_flash")
    ),
    "density": Property("kg/m³", {"CRC": "rho"}),
    "refractive_index": Property("", dict.fromkeys(("CRC refraction", "Wikidata"), "RI")),
    "permittivity": Property("", {"CRC permittivity": "Permittivity"}),
    "critical_temperature": _critical("K", "Tc"),
    "critical_pressure": _critical("MPa", "Pc", 1e-6),
    "critical_volume": _critical("cm³/mol", "Vc", 1e6),
    "heat_of_vaporization": Property(
        "kJ/mol",
        {
            "WebBook": "Hvap",
            "Gharagheizi vaporization": "Hvap298",
            "CRC vaporization": "Hvap298",
            "Wikidata": "Hvap",
        },
        1e-3,
    ),
    "heat_of_sublimation": Property(
        "kJ/mol", dict.fromkeys(("WebBook", "Gharagheizi sublimation"), "Hsub"), 1e-3
    ),
    "heat_of_fusion": Property(
        "kJ/mol", dict.fromkeys(("CRC fusion", "Wikidata", "WebBook"), "Hfus"), 1e-3
    ),
    "heat_of_formation_gas": Property(
        "kJ/mol",
        dict.fromkeys(("WebBook", "CRC thermodynamics", "API", "ATcT (gas)", "JANAF"), "Hfg"),
        1e-3,
        checks={"TRC": "Hfg"},  # of 0 K
    ),
    "heat_of_formation_liquid": Property(
        "kJ/mol",
        dict.fromkeys(("WebBook", "CRC thermodynamics", "ATcT (liquid)"), "Hfl"),
        1e-3,
    ),
    "heat_of_formation_solid": Property(
        "kJ/mol", dict.fromkeys(("WebBook", "CRC thermodynamics"), "Hfs"), 1e-3
    ),
    "logp": Property("", dict.fromkeys(("CRC logP", "Wikidata"), "logP")),
}
"""The sixteen. Heats of vaporization and of formation, refractive indices and logP (decadic
logarithm of the partition between octanol and water) are of about 298 K, boiling points of one
atmosphere."""


@dataclass(frozen=True)
class CompoundTable:
    """N substances, those without a label that are drawn with the others included, in the order of
    their CAS numbers."""

    cas: npt.NDArray[np.int64]  # [N], without hyphens
    names: list[str]  # [N]
    counts: npt.NDArray[np.uint8]  # [N, BITS]; see `fingerprints.Structures`
    descriptors: npt.NDArray[np.float32]  # [N, len(DESCRIPTORS)]
    skeleton: npt.NDArray[np.int64]  # [N]; the same for stereoisomers and isotopologues
    scaffold: npt.NDArray[np.int64]  # [N]; the same for those with the same rings and links
    labels: npt.NDArray[np.float32]  # [N, 16], in the order and units of PROPERTIES; NaN: none


def cas_text(cas: int) -> str:
    """A CAS number as people write it: 64-17-5 for 64175."""
    return f"{cas // 1000}-{cas // 10 % 100:02d}-{cas % 10}"


def require_compounds() -> None:
    """Raises UserError where the package, one of its files, or RDKit is missing."""
    packaged_file("rdkit", "__init__.py", suite=SUITE, install=INSTALL)
    _files()


def read_compounds() -> CompoundTable:
    """All substances, and what the first source says of each.

    Reading takes about 15 s, so what was read is kept in the cache: 33 MB, in 0.2 s.

    Raises:
        UserError: a file is missing or broken, or RDKit is not installed.
    """
    require_compounds()
    files = _files()
    sizes = {name: file.stat().st_size for name, file in files.items()}
    key = {"compounds": _VERSION, "rdkit": rdkit_version(), "sizes": sizes}
    arrays = cached_arrays(key, lambda: _joined(files))
    names = str(arrays.pop("names")).split("\n")
    return CompoundTable(names=names, **arrays)


def source_values(name: str) -> pd.DataFrame:
    """What each source says of a property, whether or not it gives the label.

    Args:
        name: in `PROPERTIES`.

    Returns:
        A column for each source, in the order in which they are asked; NaN where it is silent. A
        row for each substance, those that are no compound of the suite included, by CAS number as
        people write it.

    Raises:
        UserError: a file is missing or broken.
    """
    kind = PROPERTIES[name]
    files = _files()
    columns = {
        source: _columns(files[source], (column,))[column]
        for source, column in kind.all_sources.items()
    }
    table = pd.DataFrame(columns).sort_index() * kind.factor
    return table.set_axis(table.index.map(cas_text), axis=0).rename_axis("cas")


def _files() -> dict[str, Path]:
    """Files of the package: tables by name, lists of substances by file name."""

    def file(*parts: str) -> Path:
        return packaged_file("chemicals", *parts, suite=SUITE, install=INSTALL)

    tables = {name: file(*path.split("/")) for name, path in SOURCES.items()}
    return {**tables, **{name: file("Identifiers", name) for name in IDENTIFIERS}}


def _joined(files: Mapping[str, Path]) -> Arrays:
    wanted: dict[str, set[str]] = {}
    for kind in PROPERTIES.values():
        for source, column in kind.sources.items():
            wanted.setdefault(source, set()).add(column)
    tables = {name: _columns(files[name], sorted(columns)) for name, columns in wanted.items()}
    labels: list[dict[int, float]] = []
    for kind in PROPERTIES.values():
        first: dict[int, float] = {}
        for source, column in reversed(kind.sources.items()):
            first |= tables[source][column]
        labels.append({cas: value * kind.factor for cas, value in first.items()})

    drawn = set().union(*labels, _columns(files["TRC"], ("Hfg",))["Hfg"])
    known = _identified([files[name] for name in IDENTIFIERS], drawn)
    numbers = sorted(known)
    kept, structures = read_structures([known[cas].smiles for cas in numbers])
    numbers = [cas for cas, keep in zip(numbers, kept, strict=True) if keep]
    return {
        "cas": np.array(numbers, np.int64),
        "names": np.array("\n".join(f"{known[c].name} ({cas_text(c)})" for c in numbers)),
        "counts": structures.counts,
        "descriptors": structures.descriptors,
        "skeleton": _groups(structures.skeletons),
        "scaffold": _groups(structures.scaffolds),
        "labels": np.array(
            [[values.get(cas, np.nan) for values in labels] for cas in numbers], np.float32
        ).reshape(-1, len(labels)),
    }


def _groups(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Texts to numbers, the same for the same text, from 0 in the order of their first places."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(text, len(seen)) for text in texts], np.int64)


@dataclass(frozen=True)
class _Substance:
    smiles: str
    name: str


def _identified(files: Sequence[Path], wanted: set[int]) -> dict[int, _Substance]:
    """The substances of these numbers that one of the files knows; the first counts.

    A row has a PubChem number, CAS number, formula, molecular weight, SMILES, InChI, its key, a
    systematic and a common name, and further ones.
    """
    found: dict[int, _Substance] = {}
    for file in files:
        try:
            with file.open(encoding="utf-8") as lines:
                for line in lines:
                    cells = line.rstrip("\n").split("\t", 9)
                    cas = int(cells[1].replace("-", ""))
                    if cas in wanted and cas not in found:
                        found[cas] = _Substance(cells[4], _name(cells[7], cells[8]))
        except (OSError, ValueError, IndexError) as error:
            raise _broken(file, str(error)) from None
    return found


def _name(systematic: str, common: str) -> str:
    """The common name, or the systematic one where that is a number of some catalogue."""
    return systematic if systematic and _CATALOGUED.fullmatch(common) else common


def _columns(file: Path, columns: Sequence[str]) -> dict[str, dict[int, float]]:
    """Values of some columns of a table by CAS number; the first row counts.

    Raises:
        UserError: the file is not what is expected.
    """
    values: dict[str, dict[int, float]] = {column: {} for column in columns}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            for column in ("CAS", *columns):
                if column not in (rows.fieldnames or ()):
                    raise ValueError(f"there is no column {column!r}")
            for row in rows:
                for column in columns:
                    if (row[column] or "").strip():
                        cas = int(row["CAS"].replace("-", ""))
                        values[column].setdefault(cas, float(row[column]))
    except (OSError, ValueError, csv.Error) as error:
        raise _broken(file, str(error)) from None
    return values


def _broken(file: Path, why: str) -> UserError:
    return UserError(
        f"{file.name!r} of 'chemicals' is broken: {' '.join(why.split())}; "
        f"pip install --force-reinstall {INSTALL}"
    )
