"""The suite of small molecules: its files, its network, its splits, its runs."""

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import trained
from packages import hide_package, write_package
from torch import Tensor

from mtlbench.data import qm9
from mtlbench.data.cache import cache_directory
from mtlbench.data.qm9 import ATOMS, ELEMENTS, PROPERTIES, Molecules, molecule_files, read_molecules
from mtlbench.data.splits import Data
from mtlbench.errors import UserError
from mtlbench.models.molecules import MoleculeNet
from mtlbench.study.plan import plan
from mtlbench.suites.qm9 import MOLECULES, QM9, STANDARD

HEAD = (
    "XYZ_file,Index,SMILES,N_atoms,Elements,XYZ_Ang,Dipole_debye,Polarizability_bohr3,HOMO_au,"
    "LUMO_au,HOMO_LUMO_gap_au,R2_bohr2,ZPVE_au,InternalEnergy_0K_au,InternalEnergy_298K_au,"
    "Enthalphy_298K_au,GibbsFreeEnergy_298K_au,Heatcapacity_Cv_cal_mol_K"
)

METHANE = (
    """"dsgdb9nsd_000001.xyz",1,"C",5,"['C','H','H','H','H']","[[-0.0126981359,1.0858041578,"""
    "0.0080009958],[0.002150416,-0.0060313176,0.0019761204],[1.0117308433,1.4637511618,"
    "0.0002765748],[-0.540815069,1.4475266138,-0.8766437152],[-0.5238136345,1.4379326443,"
    '0.9063972942]]",0.,13.21,-0.3877,0.1171,0.5048,35.3641,0.044749,-40.47893,-40.476062,'
    "-40.475117,-40.498597,6.469"
)

WATER = (
    """"dsgdb9nsd_000003.xyz",3,"O",3,"['O','H','H']","[[-0.0343604951,0.9775395708,"""
    "0.0076015923],[0.0647664923,0.0205721989,0.0015346341],[0.8717903737,1.3007924048,"
    '0.0006931336]]",1.8511,6.31,-0.2928,0.0687,0.3615,19.0002,0.021375,-76.404702,-76.401867,'
    "-76.400922,-76.422349,6.002"
)


def made_up(count: int) -> list[str]:
    """Rows of molecules of 3 to 7 atoms at random places."""
    chance = np.random.default_rng(0)
    rows = []
    for i in range(count):
        symbols = chance.choice(list(ELEMENTS), int(chance.integers(3, 8))).tolist()
        places = chance.normal(0, 1.5, (len(symbols), 3)).round(5).tolist()
        values = ",".join(f"{value:.6f}" for value in chance.normal(0, 1, 12))
        rows.append(f'"{i}.xyz",{i},"M{i}",{len(symbols)},"{symbols}","{places}",{values}')
    return [row.replace(", ", ",") for row in rows]


def write_files(
    monkeypatch: pytest.MonkeyPatch, root: Path, *parts: Sequence[str], head: str = HEAD
) -> list[Path]:
    """A package with rows in its three files, and an empty cache."""
    monkeypatch.setenv("MTLBENCH_CACHE", str(root / "cache"))
    files = {
        f"data/qm9_part{i}.csv": "\n".join([head, *rows, ""]).encode()
        for i, rows in enumerate(parts, 1)
    }
    write_package(monkeypatch, root / "packages", "qm9pack", files)
    return molecule_files("qm9")


def test_methane_and_water_have_the_published_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    molecules = read_molecules(write_files(monkeypatch, tmp_path, [METHANE], [], [WATER]))
    assert molecules.names.tolist() == [b"C", b"O"]
    assert molecules.elements[:, :6].tolist() == [[6, 1, 1, 1, 1, 0], [8, 1, 1, 0, 0, 0]]
    assert not molecules.elements[:, 6:].any()
    assert molecules.places.shape == (2, ATOMS, 3)
    assert molecules.places[1, 2].tolist() == pytest.approx(
        [0.8717903737, 1.3007924048, 0.0006931336]
    )
    assert not molecules.places[1, 3:].any()
    check_methane(dict(zip(PROPERTIES, molecules.properties[0].tolist(), strict=True)))
    water = dict(zip(PROPERTIES, molecules.properties[1].tolist(), strict=True))
    assert water["mu"] == pytest.approx(1.8511)
    # Two O-H bonds; −76.404702 + 75.064579 + 2 · 0.500273 hartree.
    assert water["u0"] == pytest.approx(-0.339577 * 27211.386, rel=1e-6)


def check_methane(values: dict[str, float]) -> None:
    """Compares with what MoleculeNet's copy of QM9 has of it, there in kcal/mol for energies of
    atomization, and in hartree for others."""
    kcal, hartree = 43.36410, 27211.386
    assert values == pytest.approx(
        {
            "mu": 0.0, "alpha": 13.21, "homo": -0.3877 * hartree, "lumo": 0.1171 * hartree,
            "r2": 35.3641, "zpve": 0.044749 * hartree, "u0": -395.999594594 * kcal,
            "u": -398.643290011 * kcal, "h": -401.014646522 * kcal, "g": -372.471772148 * kcal,
            "cv": 6.469,
        },
        rel=1e-6,
    )  # fmt: skip


def test_what_was_read_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_files(monkeypatch, tmp_path, [METHANE], [WATER], [])
    first = read_molecules(files)
    assert len(list(cache_directory().iterdir())) == 1
    monkeypatch.setattr(qm9, "_read", None)
    assert_same(read_molecules(files), first)


def assert_same(one: Molecules, other: Molecules) -> None:
    assert (one.elements == other.elements).all()
    assert (one.places == other.places).all()
    assert (one.properties == other.properties).all()
    assert (one.names == other.names).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-40.47893,", "", "it has 17 columns in place of 18"),
        ("'C'", "'Si'", "'Si' is none of the elements H, C, N, O, F"),
        ("['C','H','H','H','H']", "[]", "'' is none of the elements"),
        ("'C','H'", "'H'", "it has 15 coordinates of 4 atoms"),
        ("'C'", ",".join(["'C'"] * 26), "it has 30 atoms, but QM9 has at most 29"),
        ("13.21", "thirteen", "could not convert string to float: 'thirteen'"),
        ("1.0858041578", "nan", "a number is not finite"),
        ("-0.3877", "-inf", "a number is not finite"),
        ("6.469", '6.469\n"', "it has 1 columns in place of 18"),
    ],
)
def test_a_broken_row_is_refused_in_one_line(
    old: str, new: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert old in METHANE
    files = write_files(monkeypatch, tmp_path, [WATER], [WATER, METHANE.replace(old, new, 1)], [])
    with pytest.raises(UserError) as error:
        read_molecules(files)
    text = str(error.value)
    assert text.startswith("'qm9_part2.csv', line ")
    assert text.endswith("; pip install --force-reinstall 'mtlbench[qm9]'")
    assert message in text
    assert "\n" not in text
    assert not cache_directory().exists()


def test_a_file_without_a_column_or_of_other_bytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = HEAD.replace("ZPVE_au", "ZPVE_eV")
    files = write_files(monkeypatch, tmp_path, [WATER], [], [], head=other)
    with pytest.raises(UserError, match=r"'qm9_part1.csv'.*: there is no column 'ZPVE_au'; pip"):
        read_molecules(files)
    files[0].write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"'qm9_part1.csv'.*can't decode"):
        read_molecules(files)
    files[0].write_bytes(b"")
    with pytest.raises(UserError, match=r"'qm9_part1.csv'.*: there is no column 'SMILES'; pip"):
        read_molecules(files)


def test_files_with_fewer_molecules_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(monkeypatch, tmp_path, [METHANE], [WATER], [])
    with pytest.raises(UserError, match=r"needs all 130831 molecules, but the files .* have 2$"):
        QM9().data()


def test_a_package_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide_package(monkeypatch, "qm9pack")
    with pytest.raises(UserError, match=r"needs 'qm9pack': pip install 'mtlbench\[qm9\]'"):
        plan("qm9")


@pytest.mark.parametrize("field", ["train_size", "validation_size", "test_size"])
def test_sizes_are_those_of_parts_of_the_data(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be at least 1"):
        QM9(**{field: 0})
    with pytest.raises(ValueError, match=f"{field} must be at most"):
        QM9(**{field: 110_832})


def test_the_tasks_are_those_of_the_literature_in_their_order_and_units() -> None:
    tasks = QM9().tasks()
    assert [task.name for task in tasks] == [
        "mu", "alpha", "homo", "lumo", "r2", "zpve", "u0", "u", "h", "g", "cv",
    ]  # fmt: skip
    assert {task.name: task.unit for task in tasks if task.unit != "meV"} == {
        "mu": "D", "alpha": "bohr³", "r2": "bohr²", "cv": "cal/(mol K)",
    }  # fmt: skip
    for task in tasks:
        assert [metric.unit for metric in task.metrics] == [task.unit] * 2
        # An output of 0 is the mean, and an error of one standard deviation a loss of 1.
        mean, deviation = STANDARD[task.name]
        assert task.predict(torch.zeros(1)).item() == pytest.approx(mean)
        loss = task.losses(torch.zeros(1), torch.tensor([mean + deviation]))
        assert loss.item() == pytest.approx(1, rel=1e-4)


# --- the network --------------------------------------------------------------------------------


@pytest.fixture
def net() -> MoleculeNet:
    torch.manual_seed(0)
    return MoleculeNet(list(PROPERTIES))


def molecules(*sizes: int, seed: int = 0) -> dict[str, Tensor]:
    """Molecules of so many atoms each, padded to 29."""
    generator = torch.Generator().manual_seed(seed)
    there = torch.arange(ATOMS) < torch.tensor(sizes)[:, None]
    kinds = torch.tensor(list(ELEMENTS.values()))
    drawn = kinds[torch.randint(5, there.shape, generator=generator)]
    places = torch.randn(*there.shape, 3, generator=generator) * 2
    return {"elements": drawn.where(there, 0), "places": places.where(there[:, :, None], 0)}


def outputs(net: MoleculeNet, inputs: dict[str, Tensor]) -> Tensor:
    """[B, 11]."""
    found: dict[str, Tensor] = net(inputs)
    return torch.stack(list(found.values()), 1)


def assert_alike(one: Tensor, other: Tensor) -> None:
    # Sums of some hundred float32 values of about 1, in another order.
    assert (one - other).abs().max() < 1e-5


def test_outputs_do_not_depend_on_where_a_molecule_lies_and_how_it_is_turned(
    net: MoleculeNet,
) -> None:
    inputs = molecules(5, 18, 29)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))
    before = outputs(net, inputs)
    for places in (
        inputs["places"] @ turn,
        inputs["places"] + torch.tensor([3.0, -2.0, 1.0]),
        -inputs["places"],
    ):
        assert_alike(outputs(net, {**inputs, "places": places}), before)
    assert (outputs(net, {**inputs, "places": inputs["places"] * 1.1}) - before).abs().max() > 1e-3


def test_outputs_do_not_depend_on_the_order_of_the_atoms(net: MoleculeNet) -> None:
    inputs = molecules(5, 18, 29)
    order = torch.randperm(ATOMS, generator=torch.Generator().manual_seed(1))
    turned = {name: part[:, order] for name, part in inputs.items()}
    assert_alike(outputs(net, turned), outputs(net, inputs))
    # But which atom is of which element matters.
    swapped = {**inputs, "elements": inputs["elements"].where(inputs["elements"] == 0, 6)}
    assert (outputs(net, swapped) - outputs(net, inputs)).abs().max() > 1e-3


def test_padding_changes_nothing(net: MoleculeNet) -> None:
    inputs = molecules(5, 7, 3)
    before = outputs(net, inputs)
    assert_alike(outputs(net, {name: part[:, :7] for name, part in inputs.items()}), before)
    # Whatever stands there.
    noise = torch.randn_like(inputs["places"])
    places = inputs["places"].where(inputs["elements"][:, :, None] > 0, noise)
    assert_alike(outputs(net, {**inputs, "places": places}), before)
    # Beside a larger molecule, and alone.
    larger = molecules(29, seed=1)
    both = {name: torch.cat((part, larger[name])) for name, part in inputs.items()}
    assert_alike(outputs(net, both)[:3], before)
    for i in range(3):
        alone = {name: part[i : i + 1] for name, part in inputs.items()}
        assert_alike(outputs(net, alone)[0], before[i])


def test_every_parameter_learns_and_gradients_are_finite(net: MoleculeNet) -> None:
    outputs(net, molecules(1, 2, 18, 29)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_atomic_numbers_are_not_taken_for_brightness(net: MoleculeNet) -> None:
    stored = molecules(5, 18)
    prepared = QM9().prepare({**stored, "elements": stored["elements"].to(torch.uint8)})
    assert isinstance(prepared, dict)
    assert torch.equal(prepared["elements"], stored["elements"])
    assert torch.equal(prepared["places"], stored["places"])


# --- runs ---------------------------------------------------------------------------------------


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes 120 made-up molecules for all there are."""
    rows = made_up(120)
    write_files(monkeypatch, tmp_path, rows[:50], rows[50:80], rows[80:])
    monkeypatch.setattr("mtlbench.suites.qm9.MOLECULES", 120)
    monkeypatch.setattr("mtlbench.suites.qm9.HELD_OUT", 20)


SMALL = {"train_size": 48, "validation_size": 16, "test_size": 16, "epochs": 1, "batch_size": 16}


@pytest.mark.usefixtures("few")
def test_splits_are_disjoint_and_always_the_same() -> None:
    suite = QM9(full=True, train_size=1, validation_size=1, test_size=1)
    names = split_names(suite.data())
    assert list(map(len, names)) == [80, 20, 20]
    assert sorted(chain(*names)) == sorted(f"M{i}" for i in range(120))
    assert split_names(suite.data()) == names
    # A smaller study has the first of each.
    small = QM9(train_size=48, validation_size=16, test_size=8).data()
    assert split_names(small) == [names[0][:48], names[1][:16], names[2][:8]]
    assert isinstance(small.train.inputs, dict)
    assert small.train.inputs["elements"].dtype == torch.uint8
    assert small.train.inputs["elements"].shape == (48, ATOMS)


def split_names(data: Data) -> list[list[str]]:
    return [list(part.names or ()) for part in (data.train, data.validation, data.test)]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("strategy", "variant"), [("equal", "clean"), ("ilt", "homo@0.4"), ("mgda", "mu@0.2:uniform")]
)
def test_eleven_tasks_are_trained(strategy: str, variant: str) -> None:
    (spec,) = plan("qm9", strategies=[strategy], variants=[variant], seeds=1, overrides=SMALL)
    record = trained(spec)
    assert record.info["status"] == "done"
    values = {(m["task"], m["metric"]): m["value"] for m in record.info["metrics"]}
    for name in PROPERTIES:
        for metric in ("abs_err", "rmse"):
            assert np.isfinite(values[name, metric])


@pytest.mark.usefixtures("few")
def test_the_same_spec_gives_the_same_bits() -> None:
    (spec,) = plan("qm9", strategies=["equal"], variants=["clean"], seeds=1, overrides=SMALL)
    assert trained(spec).info["metrics"] == trained(spec).info["metrics"]


# --- the package itself -------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("qm9pack") is None, reason="qm9pack is not installed")
def test_the_published_molecules_are_all_there() -> None:
    all_molecules = read_molecules(molecule_files("qm9"))
    assert len(all_molecules.names) == len(set(all_molecules.names)) == MOLECULES
    assert all_molecules.names[:3].tolist() == [b"C", b"N", b"O"]
    check_methane(dict(zip(PROPERTIES, all_molecules.properties[0].tolist(), strict=True)))
    atoms = (all_molecules.elements > 0).sum(1)
    assert (atoms.min(), atoms.max()) == (3, ATOMS)

    whole = QM9(full=True).data()
    names = split_names(whole)
    assert list(map(len, names)) == [110_831, 10_000, 10_000]
    assert len(set(chain(*names))) == MOLECULES
    for name, (mean, deviation) in STANDARD.items():
        labels = whole.train.targets[name]
        assert isinstance(labels, Tensor)
        assert labels.double().mean().item() == pytest.approx(mean, rel=5e-5)
        assert labels.double().std().item() == pytest.approx(deviation, rel=5e-5)
