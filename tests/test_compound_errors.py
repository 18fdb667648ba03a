"""The verdicts on labels of `compounds`, and what the documentation makes of them."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtlbench.data.compounds import PROPERTIES, SOURCES

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import label_errors  # noqa: E402 (a script, not a package)

needs_packages = pytest.mark.skipif(
    find_spec("rdkit") is None or find_spec("chemicals") is None,
    reason="needs RDKit and chemicals",
)

FURTHER = {
    "Alibakhshi", "ChemSep", "Landolt-Börnstein", "Perry", "Syrres", "VDI",
    "WebBook (triple point)",
}  # fmt: skip
"""Sources that the suite does not know; see results/compounds/README.md."""


@pytest.fixture(scope="module")
def file() -> pd.DataFrame:
    return label_errors.written()


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    return pd.read_csv(label_errors.MEASURED)


@pytest.fixture(scope="module")
def data() -> label_errors.Training:
    return label_errors.training()


def with_values(file: pd.DataFrame, verdict: str) -> Iterator[tuple[str, float]]:
    """The property and how far the other value is, of rows that have one."""
    rows = file[(file["verdict"] == verdict) & (file["other value"] != "")]
    for row in rows.to_dict("records"):
        pair = np.array([float(row["label"]), float(row["other value"])])
        label, other = label_errors._scaled(row["property"], pair)
        yield f"{row['property']} {row['cas']}", abs(other - label)


def test_every_row_says_what_and_why(file: pd.DataFrame) -> None:
    assert [*file] == [
        "property", "cas", "name", "label", "unit", "verdict", "other value", "source", "reason",
        "found",
    ]  # fmt: skip
    assert not file.duplicated(["property", "cas"]).any()
    assert set(file["verdict"]) == {"wrong", "right", "unknown"}
    assert set(file["found"]) == {"comparison", "suspects"}
    assert (file["name"] != "").all()
    assert (file["reason"] != "").all()
    assert (file["unit"] == file["property"].map({n: p.unit for n, p in PROPERTIES.items()})).all()
    named = set("; ".join(file["source"]).split("; ")) - {""}
    assert named <= {*SOURCES, *FURTHER}


def test_cas_numbers_have_their_check_digit(file: pd.DataFrame) -> None:
    for cas in file["cas"]:
        *digits, check = (int(digit) for digit in cas.replace("-", ""))
        assert sum(i * digit for i, digit in enumerate(reversed(digits), 1)) % 10 == check, cas


def test_values_of_common_chemistry_are_not_repeated(file: pd.DataFrame) -> None:
    alone = file["source"] == "Common Chemistry"
    assert alone.any()
    assert (file.loc[alone, "other value"] == "").all()


def test_a_wrong_label_is_far_from_the_other_value(file: pd.DataFrame) -> None:
    near = [what for what, away in with_values(file, "wrong") if away < label_errors.CONTRADICTS]
    assert near == []


def test_a_right_label_is_near_the_other_value_unless_the_reason_says_whose_is_wrong(
    file: pd.DataFrame,
) -> None:
    far = [what for what, away in with_values(file, "right") if away > label_errors.AGREES]
    # Of these the other value is in °C, or lost its decimal point.
    assert far == ["boiling_point 109-19-3", "refractive_index 139-45-7"]


@needs_packages
def test_every_row_is_a_training_label(file: pd.DataFrame, data: label_errors.Training) -> None:
    for row in file.to_dict("records"):
        label = data.labels[row["property"]].get(row["cas"])
        assert label == pytest.approx(float(row["label"]), rel=1e-5), row


@needs_packages
def test_what_was_measured_is_of_these_verdicts(
    data: label_errors.Training, measured: pd.DataFrame
) -> None:
    every = measured[measured["detector"] == label_errors.ALL].set_index("property")
    for name, labels in data.labels.items():
        counts = label_errors.verdicts(name, labels).value_counts()
        for verdict in ("wrong", "right", "unknown"):
            assert every.loc[name, verdict] == counts.get(verdict, 0), (name, verdict)


@needs_packages
def test_a_source_that_copies_confirms_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = pd.DataFrame(
        {
            "Open Notebook": [400.0, 400.0, 400.0, 400.0],
            "Wikidata": [400.1, 405.0, 405.0, 320.0],
            "CRC": [np.nan, np.nan, 405.1, 320.1],
            "WebBook": [np.nan, np.nan, np.nan, 250.0],
            "Common Chemistry": [400.0, np.nan, np.nan, np.nan],
        },
        index=["copies", "confirmed", "once, as they copy", "contradicted twice"],
    )
    monkeypatch.setattr(label_errors, "source_values", lambda _: said)
    confirm, contradict = label_errors.witnesses("melting_point", said["Open Notebook"])
    assert confirm.tolist() == [0, 1, 1, 0]
    assert contradict.tolist() == [0, 0, 0, 2]


def test_numbers_of_the_documentation_are_those_measured(measured: pd.DataFrame) -> None:
    text = (ROOT / "docs" / "suspects.md").read_text()
    for line in label_errors.summary(measured).splitlines():
        assert line in text
    every = measured[measured["detector"] == label_errors.ALL].set_index("property")
    wrong, right, count = (every[key].sum() for key in ("wrong", "right", "first"))
    assert f"{wrong - every['compared'].sum():.0f} were found by looking" in text
    boiling = every.loc["boiling_point"]
    shares = [100 * w / (w + r) for w, r in ((wrong, right), (boiling["wrong"], boiling["right"]))]
    assert f"{shares[0]:.1f} % are wrong, of the boiling points {shares[1]:.1f} %" in text
    assert f"Of {count:,.0f} training labels, {right:,.0f} are right and {wrong:,.0f} wrong" in text
    zero = pd.read_csv(label_errors.FOLDER / "absolute_zero.csv")
    areas = zero.groupby("detector")["roc_auc"].mean()
    assert f"{zero['labels'].iloc[0]} of the training labels" in text
    assert f"AUROC was [{areas.min():.0f} to {areas.max():.0f} %]" in text


def test_numbers_of_the_readme_are_those_measured(measured: pd.DataFrame) -> None:
    text = (ROOT / "README.md").read_text()
    shares = label_errors.pooled(measured)["wrong"]

    def first(detector: str) -> str:
        return f"{shares.xs((detector, 20)).mean():.0f}"

    sigma, loss, folded, robust = map(first, ("sigma", "loss", "fold-loss", "fold-loss-l1"))
    assert (
        f"{sigma} % of σ's, {loss} of the summed loss's, {folded} of the out-of-fold loss's and "
        f"{robust} of that with `--set loss=l1` are wrong labels"
    ) in text
    assert f"[{(label_errors.written()['verdict'] == 'wrong').sum()} are known" in text
