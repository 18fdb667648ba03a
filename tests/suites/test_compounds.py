"""The suite of compounds: its tables, its structures, its splits, its runs."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import trained
from packages import hide_package, write_package
from torch import Tensor

from mtlbench.data import compounds
from mtlbench.data.cache import cache_directory
from mtlbench.data.compounds import (
    IDENTIFIERS,
    PROPERTIES,
    SOURCES,
    cas_text,
    read_compounds,
    source_values,
)
from mtlbench.data.fingerprints import BITS, DESCRIPTORS, ELEMENTS, read_structures
from mtlbench.data.splits import Data, Split
from mtlbench.errors import UserError
from mtlbench.study.plan import plan
from mtlbench.suites.compounds import SCALES, Compounds, _divided

needs_rdkit = pytest.mark.skipif(find_spec("rdkit") is None, reason="needs RDKit")
needs_both = pytest.mark.skipif(
    find_spec("rdkit") is None or find_spec("chemicals") is None,
    reason="needs RDKit and chemicals",
)

ETHANOL = "702\t64-17-5\tC2H6O\t46.06844\tCCO\tinchi\tkey\tethanol\tethanol\tspirit"
SALT = "517\t127-09-3\tC2H3NaO2\t82.03\tCC(=O)[O-].[Na+]\ti\tk\tsodium acetate\tsodium acetate"
CODED = "9\t420-26-8\tC3H7F\t62.08\tCC(C)F\ti\tk\t2-fluoropropane\tac1ld1yn\tx"

Rows = Mapping[str, Mapping[str, str]]
"""CAS number to column to value."""


def write_tables(
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    tables: Mapping[str, Rows],
    substances: Mapping[str, list[str]],
) -> None:
    """A package with these rows in its files, and an empty cache."""
    monkeypatch.setenv("MTLBENCH_CACHE", str(root / "cache"))
    files = {}
    for name, path in SOURCES.items():
        columns = sorted({kind.all_sources.get(name, "other") for kind in PROPERTIES.values()})
        lines = ["\t".join(["CAS", "Name", *columns])]
        for cas, values in tables.get(name, {}).items():
            lines.append("\t".join([cas, '5" name', *(values.get(c, "") for c in columns)]))
        files[path] = "\n".join([*lines, ""]).encode()
    for name in IDENTIFIERS:
        files[f"Identifiers/{name}"] = "\n".join([*substances.get(name, []), ""]).strip().encode()
    write_package(monkeypatch, root / "packages", "chemicals", files)


SMALL, LARGE = IDENTIFIERS[2:]

BOTH = {
    "Open Notebook": {"64-17-5": {"Tm": "159.05"}, "420-26-8": {"Tm": "406.55"}},
    "CRC": {"64-17-5": {"Tm": "159.01", "Tb": "351.39"}},
    "Yaws critical": {"64-17-5": {"Tc": "516.2", "Pc": "6383000", "Vc": "0.000167"}},
    "WebBook": {
        "64175": {"Tb": "351.5", "Hvap": "42300", "Hfg": "-234000", "Tm": "158.8"},
        "127093": {"Tm": "601.2"},
    },
    "Common Chemistry": {"420268": {"Tm": "139.75", "Tb": "263.75"}},
    "Wikidata": {"99999990": {"Tm": "300"}},
}
LISTS = {SMALL: [ETHANOL], LARGE: [ETHANOL.replace("ethanol", "alcohol"), SALT, CODED]}


def test_a_cas_number_is_written_with_its_hyphens() -> None:
    assert [cas_text(cas) for cas in (64175, 50000, 10606468)] == [
        "64-17-5", "50-00-0", "10606-46-8",
    ]  # fmt: skip


@needs_rdkit
def test_tables_are_joined_and_the_first_source_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables(monkeypatch, tmp_path, BOTH, LISTS)
    table = read_compounds()
    # A salt has none, a substance that no list knows neither.
    assert table.cas.tolist() == [64175, 420268]
    assert table.names == ["ethanol (64-17-5)", "2-fluoropropane (420-26-8)"]
    ethanol = dict(zip(PROPERTIES, table.labels[0].tolist(), strict=True))
    assert {name: value for name, value in ethanol.items() if value == value} == pytest.approx(
        {
            "melting_point": 159.05, "boiling_point": 351.5, "critical_temperature": 516.2,
            "critical_pressure": 6.383, "critical_volume": 167.0, "heat_of_vaporization": 42.3,
            "heat_of_formation_gas": -234.0,
        }
    )  # fmt: skip
    # What only gives values to compare with gives no label.
    other = dict(zip(PROPERTIES, table.labels[1].tolist(), strict=True))
    assert {name for name, value in other.items() if value == value} == {"melting_point"}
    assert other["melting_point"] == pytest.approx(406.55)


def test_all_sources_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(monkeypatch, tmp_path, BOTH, LISTS)
    values = source_values("melting_point")
    assert [*values] == ["Open Notebook", "Wikidata", "CRC", "WebBook", "Common Chemistry"]
    assert values.loc["64-17-5"].dropna().to_dict() == {
        "Open Notebook": 159.05, "CRC": 159.01, "WebBook": 158.8,
    }  # fmt: skip
    assert values.loc["420-26-8"].dropna().to_dict() == {
        "Open Notebook": 406.55, "Common Chemistry": 139.75,
    }  # fmt: skip
    assert source_values("heat_of_vaporization").loc["64-17-5", "WebBook"] == pytest.approx(42.3)


@needs_rdkit
def test_what_was_read_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tables(monkeypatch, tmp_path, BOTH, LISTS)
    first = read_compounds()
    assert len(list(cache_directory().iterdir())) == 1
    monkeypatch.setattr(compounds, "_joined", None)
    again = read_compounds()
    assert again.names == first.names
    np.testing.assert_array_equal(again.labels, first.labels)
    np.testing.assert_array_equal(again.counts, first.counts)


@pytest.mark.parametrize(
    ("row", "fault"),
    [("64-17-5\tx\tmuch", "could not convert"), ("ethanol\tx\t159", "invalid literal")],
)
def test_a_broken_table_is_told_in_one_line(
    row: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables(monkeypatch, tmp_path, BOTH, LISTS)
    file = tmp_path / "packages" / "chemicals" / SOURCES["Open Notebook"]
    file.write_text(f"CAS\tName\tTm\n{row}\n")
    with pytest.raises(UserError, match=f"OpenNotebook.*{fault}.*force-reinstall") as told:
        source_values("melting_point")
    assert "\n" not in str(told.value)
    file.write_text("CAS\tName\n")
    with pytest.raises(UserError, match="there is no column 'Tm'"):
        source_values("melting_point")


@pytest.mark.parametrize("module", ["chemicals", "rdkit"])
def test_a_missing_package_is_told_before_anything_is_trained(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chemicals", "rdkit"):
        write_package(monkeypatch, tmp_path, name, {})
    hide_package(monkeypatch, module)
    with pytest.raises(UserError, match=rf"needs '{module}': pip install 'mtlbench\[compounds\]'"):
        Compounds().check()


@needs_rdkit
@pytest.mark.parametrize(
    ("smiles", "kept"),
    [
        ("C", True),
        ("CCO", True),
        ("FC(F)(F)F", True),
        ("NC(N)=O", True),
        ("C[Si](C)(C)C", True),
        ("OB(O)c1ccccc1", True),
        ("C[N+](=O)[O-]", True),
        ("[2H]C([2H])([2H])[2H]", True),
        ("O", False),
        ("O=C=O", False),
        ("[C-]#[O+]", False),
        ("[C-]#[Si+]", False),
        ("[C]", False),
        ("FS(F)(F)(F)(F)F", False),
        ("CC(=O)[O-].[Na+]", False),
        ("CC(=O)[O-]", False),
        ("CCO.O", False),
        ("CC[Pb](CC)(CC)CC", False),
        ("C[As](C)C", False),
        ("C[CH2]", False),
        ("FI(F)(F)(F)(F)(F)C", False),
        ("no such", False),
    ],
)
def test_one_neutral_organic_molecule_is_kept(smiles: str, kept: bool) -> None:
    assert read_structures([smiles])[0] == [kept]


@needs_rdkit
def test_a_structure_is_counted() -> None:
    _, found = read_structures(["OC(=O)c1ccccc1", "CCO", "[2H]C([2H])([2H])CO"])
    benzoic, ethanol, deuterated = (
        dict(zip(DESCRIPTORS, row.tolist(), strict=True)) for row in found.descriptors
    )
    assert benzoic == pytest.approx(
        {
            **{f"atoms of {element}": 0 for element in ELEMENTS},
            "atoms of C": 7, "atoms of H": 6, "atoms of O": 2, "molecular weight": 122.12,
            "rings": 1, "aromatic rings": 1, "hydrogen bond donors": 1,
            "hydrogen bond acceptors": 1, "topological polar surface area": 37.3,
        },
        abs=5e-3,
    )  # fmt: skip
    assert ethanol["atoms of H"] == deuterated["atoms of H"] == 6
    assert deuterated["molecular weight"] > ethanol["molecular weight"] + 3
    assert found.skeletons == ["O=C(O)c1ccccc1", "CCO", "CCO"]
    assert found.scaffolds == ["c1ccccc1", "CCO", "CCO"]
    # Each of the three heavy atoms alone, with its neighbours, and with theirs, if that is more.
    assert found.counts.shape == (3, BITS)
    assert found.counts[1].sum() == 6


@needs_rdkit
def test_stereoisomers_look_the_same_and_have_one_skeleton() -> None:
    _, found = read_structures(["C/C=C/C", "C/C=C\\C", "CC=CC"])
    assert len(set(found.skeletons)) == 1
    assert (found.counts == found.counts[0]).all()


@pytest.mark.parametrize("largest_first", [False, True])
def test_no_group_is_in_two_splits(largest_first: bool) -> None:
    groups = np.random.default_rng(0).geometric(0.01, 5000)
    _, groups = np.unique(groups, return_inverse=True)
    parts = _divided(groups, largest_first=largest_first)
    assert sorted(np.concatenate(parts).tolist()) == list(range(5000))
    seen = [set(groups[part].tolist()) for part in parts]
    assert sum(map(len, seen)) == len(set().union(*seen))
    assert [len(part) / 5000 for part in parts] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    sizes = np.bincount(groups)
    if largest_first:
        assert min(sizes[[*seen[0]]]) >= max(sizes[[*seen[1], *seen[2]]])


def test_every_property_has_a_scale() -> None:
    assert [*SCALES] == [*PROPERTIES]
    assert all(scale.noise[0] > 0 for scale in SCALES.values() if scale.log)


def labels(split: Split, name: str) -> Tensor:
    found = split.targets[name]
    assert isinstance(found, Tensor)
    return found


def test_the_loss_can_be_a_robust_one() -> None:
    far = torch.tensor([350.0 + 90 * 3])
    for loss, value in (("squared_l2", 9.0), ("l1", 3.0)):
        task = Compounds(loss=loss).tasks()[0]  # type: ignore[arg-type]
        assert task.losses(torch.zeros(1), far).tolist() == pytest.approx([value])


# ------------------------------------------------------------------------------ the package itself


@pytest.fixture(scope="module")
def data() -> Data:
    return Compounds().data()


COUNTS = {
    "melting_point": 15093, "boiling_point": 11716, "flash_point": 1098, "density": 5081,
    "refractive_index": 4239, "permittivity": 1161, "critical_temperature": 6068,
    "critical_pressure": 6050, "critical_volume": 6042, "heat_of_vaporization": 2801,
    "heat_of_sublimation": 1475, "heat_of_fusion": 504, "heat_of_formation_gas": 2692,
    "heat_of_formation_liquid": 1800, "heat_of_formation_solid": 1660, "logp": 451,
}  # fmt: skip
"""Labels of chemicals 1.5.2. Other versions, and other ones of RDKit, know a few more or less."""


@needs_both
def test_every_property_has_its_labels(data: Data) -> None:
    splits = (data.train, data.validation, data.test)
    for name, count in COUNTS.items():
        found = [int((~labels(split, name).isnan()).sum()) for split in splits]
        assert sum(found) == pytest.approx(count, rel=0.03)
        assert min(found) > 30
    total = sum(len(split) for split in splits)
    assert len(data.train) / total == pytest.approx(0.8, abs=0.01)
    assert sum(COUNTS.values()) / (total * len(COUNTS)) == pytest.approx(0.174, abs=0.01)


@needs_both
def test_splits_share_no_compound_and_no_structure(data: Data) -> None:
    names = [set(split.names or ()) for split in (data.train, data.validation, data.test)]
    labelled = (~np.isnan(read_compounds().labels)).any(axis=1)
    assert sum(map(len, names)) == len(set().union(*names)) == labelled.sum()
    again = Compounds().data()
    assert [split.names for split in (again.train, again.validation, again.test)] == [
        split.names for split in (data.train, data.validation, data.test)
    ]
    scaffold = Compounds(split="scaffold").data()
    assert set(scaffold.test.names or ()) != names[2]
    assert len(scaffold.test) == pytest.approx(len(data.test), rel=0.02)


@needs_both
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ethanol (64-17-5)", {"boiling_point": 351.4, "melting_point": 159, "logp": -0.3,
                               "critical_pressure": 6.2, "heat_of_vaporization": 42.3}),
        ("benzene (71-43-2)", {"boiling_point": 353.2, "melting_point": 278.7,
                               "refractive_index": 1.501, "heat_of_formation_gas": 82.9,
                               "critical_temperature": 562.1}),
        ("naphthalene (91-20-3)", {"melting_point": 353.4, "heat_of_sublimation": 72.5,
                                   "heat_of_formation_solid": 78.0}),
    ],
)  # fmt: skip
def test_substances_that_everybody_knows(name: str, values: dict[str, float]) -> None:
    table = read_compounds()
    row = dict(zip(PROPERTIES, table.labels[table.names.index(name)].tolist(), strict=True))
    assert {key: row[key] for key in values} == pytest.approx(values, rel=0.03, abs=0.02)


@needs_both
def test_errors_stay_and_elements_and_salts_do_not() -> None:
    table = read_compounds()
    columns = dict(zip(PROPERTIES, table.labels.T, strict=True))
    assert np.nanmax(columns["boiling_point"]) > 3000
    assert np.nanmax(columns["heat_of_vaporization"]) > 5000
    assert columns["melting_point"][table.cas.tolist().index(420268)] == pytest.approx(406.55)
    # Water, sodium chloride, sodium acetate, graphite, C60, silicon carbide, carbon dioxide.
    left_out = {7732185, 7647145, 127093, 7782425, 99685968, 409212, 124389}
    assert not left_out & set(table.cas.tolist())


@needs_both
def test_sources_are_asked_by_how_many_compounds_they_know() -> None:
    own = {cas_text(cas) for cas in read_compounds().cas.tolist()}
    for name, kind in PROPERTIES.items():
        values = source_values(name)
        counts = values[values.index.isin(own)].notna().sum()[list(kind.sources)].tolist()
        assert counts == sorted(counts, reverse=True)


@needs_both
def test_scales_are_those_of_the_labels() -> None:
    table = read_compounds()
    for k, scale in enumerate(SCALES.values()):
        values = table.labels[:, k]
        values = values[~np.isnan(values)]
        low, high = np.quantile(values, (0.01, 0.99))
        assert abs(scale.noise[0] - low) < 0.05 * (high - low)
        assert abs(scale.noise[1] - high) < 0.05 * (high - low)
        values = np.log(values) if scale.log else values
        first, median, third = np.quantile(values, (0.25, 0.5, 0.75))
        assert scale.scale == pytest.approx((third - first) / 1.349, rel=0.07)
        assert abs(scale.center - median) < 0.1 * scale.scale


@needs_both
def test_inputs_are_logarithms_of_counts(data: Data) -> None:
    suite = Compounds()
    assert isinstance(data.test.inputs, dict)
    batch = {name: values[torch.arange(4)] for name, values in data.test.inputs.items()}
    prepared = suite.prepare(batch)
    assert isinstance(prepared, Tensor)
    assert prepared.shape == (4, BITS + len(DESCRIPTORS))
    assert torch.allclose(prepared[:, :BITS].expm1(), batch["counts"].float(), atol=1e-4)
    outputs = suite.model()(prepared)
    assert {name: tuple(output.shape) for name, output in outputs.items()} == dict.fromkeys(
        PROPERTIES, (4,)
    )


@needs_both
@pytest.mark.parametrize("strategy", ["equal", "ilt"])
def test_an_epoch_of_training_ends_with_finite_metrics(strategy: str) -> None:
    (spec,) = plan(
        "compounds",
        strategies=[strategy],
        variants=["melting_point@0.4"],
        seeds=1,
        overrides={"epochs": 1},
    )
    record = trained(spec)
    assert record.info["status"] == "done"
    values = {(m["task"], m["metric"]): m["value"] for m in record.info["metrics"]}
    assert {(name, "abs_err") for name in PROPERTIES} <= values.keys()
    assert np.isfinite(list(values.values())).all()
    assert values["boiling_point", "median_err"] < 60
