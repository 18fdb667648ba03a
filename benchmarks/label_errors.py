"""How well the detectors find wrong labels that nobody planted: those of the suite `compounds`.

    mtlbench suspects compounds --detectors sigma,ilt-loss,loss,fold-loss --results DIR
    mtlbench suspects compounds --detectors loss,fold-loss --set loss=l1 --results DIR
    python benchmarks/label_errors.py DIR    measures, and writes results/compounds/detectors.csv
    python benchmarks/label_errors.py        the tables of that file

**Verdicts.** Differences are in units of the suite's scale of the property (`SCALES`: near a
standard deviation; of the logarithm for some).

- `right`: another source is within a tenth, and no more others are half a unit away. Other sources
  are those of `source_values`, and for a heat the sum of two others, as formation of a gas = of its
  liquid + vaporization. A value within 1/400 of the label or of another is a copy and counts for
  nothing: half of the values of some files are those of others.
- `wrong`: half a unit from the truth or more, or of another substance, by judgement; each stands
  with its reason in `label_errors.csv`. Looked at were all labels that other sources contradict
  more than they confirm, all boiling points below the melting point (both: `comparison` in the
  column `found`), and the first 20 of every list below (`suspects`): of means over the seeds, and
  of single seeds where the ridge regression is half a unit away.
- `unknown`: all others.

Who judged had seen the lists, and what the ridge regression below predicts. Labels of `comparison`
were at least not picked from them.

What the file says comes first, also where it says `right` or `unknown`: sources copy one another's
errors, and the homologues of a substance confirm a label where no source does.

**Lists.** One of each property, as `mtlbench suspects` prints them. Their first so many are counted
together: every property with as many labels for every detector, so that scores of different
properties need not be comparable. To compare with: chance; how far the label is from the median of
its property (`median`); and how far from the prediction of a ridge regression that has not seen it,
by five folds (`ridge`).
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from mtlbench.analysis.label_errors.comparison import stored_scores
from mtlbench.analysis.label_errors.scores import (
    DETECTOR_LABELS,
    FOLD_LOSS,
    ILT_LOSS,
    LOSS,
    SIGMA,
    order,
)
from mtlbench.data.compounds import PROPERTIES, cas_text, read_compounds, source_values
from mtlbench.suites.compounds import SCALES, Compounds

FOLDER = Path(__file__).parent.parent / "results" / "compounds"
VERDICTS, MEASURED = FOLDER / "label_errors.csv", FOLDER / "detectors.csv"

AGREES, CONTRADICTS, COPY = 0.1, 0.5, 1 / 400
"""In units of a property's scale."""

FIRST = (20, 50, 100)
SEEDS = (0, 1, 2)
TRAINED = (SIGMA, ILT_LOSS, LOSS, FOLD_LOSS)
L1, FOLD_L1 = f"{LOSS}-l1", f"{FOLD_LOSS}-l1"
MEDIAN, RIDGE, CHANCE, ALL = "median", "ridge", "chance", "all"
LABELS = {
    **{name: DETECTOR_LABELS[name] for name in TRAINED},
    L1: "summed loss, `loss=l1`",
    FOLD_L1: "out-of-fold loss, `loss=l1`",
    RIDGE: "ridge regression, out of fold",
    MEDIAN: "distance from the median",
    CHANCE: "chance",
}

SUMS = {
    "heat_of_formation_gas": (
        ("heat_of_formation_liquid", "heat_of_vaporization", 1),
        ("heat_of_formation_solid", "heat_of_sublimation", 1),
    ),
    "heat_of_formation_liquid": (("heat_of_formation_gas", "heat_of_vaporization", -1),),
    "heat_of_formation_solid": (("heat_of_formation_gas", "heat_of_sublimation", -1),),
    "heat_of_vaporization": (("heat_of_formation_gas", "heat_of_formation_liquid", -1),),
    "heat_of_sublimation": (("heat_of_formation_gas", "heat_of_formation_solid", -1),),
}
"""Heats as another one plus (1) or less (-1) a third."""

ABSOLUTE_ZERO = "TRC"
"""The file whose heats of formation are of 0 K, and so no witnesses."""


class Training(NamedTuple):
    """The training compounds.

    Attributes:
        cas: as people write them [N].
        inputs: of the network [N, …].
        labels: by property, of those that have one, by CAS number.
        scaled: what the network is to predict, by property [N]; NaN where there is no label.
    """

    cas: list[str]
    inputs: npt.NDArray[np.float32]
    labels: dict[str, pd.Series]
    scaled: dict[str, npt.NDArray[np.float64]]


def training() -> Training:
    suite = Compounds()
    split: Any = suite.data().train  # all of it tensors, in memory
    cas = [name.rpartition("(")[2].rstrip(")") for name in split.names]
    inputs = suite.prepare(split.inputs).numpy().astype(np.float32)
    labels, scaled = {}, {}
    for name in PROPERTIES:
        values = split.targets[name].numpy().astype(np.float64)
        labels[name] = pd.Series(values, index=cas).dropna()
        scaled[name] = _scaled(name, values)
    return Training(cas, inputs, labels, scaled)


def _scaled(name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values in units of the property's scale, from its center."""
    scale = SCALES[name]
    plain = np.log(np.maximum(values, 1e-6)) if scale.log else values
    return np.asarray((plain - scale.center) / scale.scale)


# --- verdicts -----------------------------------------------------------------------------------


def witnesses(name: str, labels: pd.Series) -> tuple[pd.Series, pd.Series]:
    """How many other sources, that are no copies, confirm a label, and how many contradict it.

    Args:
        name: the property.
        labels: by CAS number.
    """
    said = source_values(name).reindex(labels.index)
    giving = said[list(PROPERTIES[name].sources)].notna().idxmax(axis=1)
    others = [said[source].mask(giving == source) for source in said if source != ABSOLUTE_ZERO]
    others += list(_sums(name, labels.index))
    known = [_scaled(name, labels.to_numpy())]
    confirm, contradict = np.zeros(len(labels), int), np.zeros(len(labels), int)
    for other in others:
        value = _scaled(name, other.to_numpy(np.float64))
        # A comparison with NaN is false, so that what is silent is neither near nor far.
        copied = np.any([np.abs(value - before) <= COPY for before in known], axis=0)
        away = np.abs(value - known[0])
        confirm += (away <= AGREES) & ~copied
        contradict += (away >= CONTRADICTS) & ~copied
        known.append(value)
    return pd.Series(confirm, labels.index), pd.Series(contradict, labels.index)


def _sums(name: str, index: pd.Index) -> Iterator[pd.Series]:
    """A heat, as others of the same substance add up to it."""
    if name not in SUMS:
        return
    table = read_compounds()
    every = [cas_text(number) for number in table.cas]
    gas = source_values("heat_of_formation_gas").reindex(every)
    others = gas[list(PROPERTIES["heat_of_formation_gas"].sources)]

    def heat(kind: str) -> pd.Series:
        if kind == "heat_of_formation_gas":
            return others.bfill(axis=1).iloc[:, 0].reindex(index)
        column = table.labels[:, list(PROPERTIES).index(kind)]
        return pd.Series(column.astype(np.float64), every).reindex(index)

    for one, two, sign in SUMS[name]:
        yield heat(one) + sign * heat(two)


def written() -> pd.DataFrame:
    """The verdicts of the file: a row for each property and CAS number."""
    return pd.read_csv(VERDICTS, keep_default_na=False, dtype=str)


def verdicts(name: str, labels: pd.Series) -> pd.Series:
    """`right`, `wrong` or `unknown`, by CAS number."""
    confirm, contradict = witnesses(name, labels)
    found = pd.Series("unknown", labels.index)
    found[(confirm > 0) & (confirm >= contradict)] = "right"
    judged = written().query("property == @name").set_index("cas")["verdict"]
    found[judged.index] = judged
    return found


# --- scores -------------------------------------------------------------------------------------

Scored = dict[tuple[str, str, int], npt.NDArray[np.float64]]
"""Scores [N] by detector, property and seed: large where suspicious, NaN where no label is."""


def scores(results: str, data: Training) -> Scored:
    found: Scored = {}
    for _, settings, each in stored_scores(results, "compounds", ["clean"], detectors=TRAINED):
        robust = "-l1" if "loss=l1" in settings else ""
        found[each.detector + robust, each.task, each.seed] = each.score
    for name, scaled in data.scaled.items():
        for seed in SEEDS:
            found[RIDGE, name, seed] = np.abs(scaled - _out_of_fold(data.inputs, scaled, seed))
            found[MEDIAN, name, seed] = np.abs(scaled)
    return found


def _out_of_fold(
    inputs: npt.NDArray[np.float32], scaled: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.float64]:
    """Predictions by ridge regressions that have not seen the label; labels far out are cut to
    five units, so that one of them does not bend a whole fold."""
    there = np.flatnonzero(~np.isnan(scaled))
    predicted = np.full(len(scaled), np.nan)
    for seen, left in KFold(5, shuffle=True, random_state=seed).split(there):
        ridge = Ridge(alpha=30).fit(inputs[there[seen]], scaled[there[seen]].clip(-5, 5))
        predicted[there[left]] = ridge.predict(inputs[there[left]])
    return predicted


# --- measures -----------------------------------------------------------------------------------

COUNTED = ["wrong", "compared", "right", "confirmed", "unknown"]


def measure(data: Training, scored: Scored) -> pd.DataFrame:
    """Verdicts among the first of each list.

    Returns:
        Columns `detector`, `seed`, `property`, `first` (how many of the list; all of them for the
        detector `all`), `wrong`, `compared` (the wrong ones that comparison found), `right`,
        `confirmed` (the right ones that are not in the file) and `unknown`.
    """
    file = written()
    rows = []
    for name, labels in data.labels.items():
        known = verdicts(name, labels)
        mine = file[file["property"] == name]
        wrong = mine[mine["verdict"] == "wrong"]
        among = {
            "wrong": known == "wrong",
            "compared": known.index.isin(wrong[wrong["found"] == "comparison"]["cas"]),
            "right": known == "right",
            "confirmed": (known == "right") & ~known.index.isin(mine["cas"]),
            "unknown": known == "unknown",
        }
        counts = pd.DataFrame(among).astype(int)
        every = counts.sum()
        rows.append((ALL, 0, name, len(known), *every))
        for first in FIRST:
            rows.append((CHANCE, 0, name, first, *(every * first / len(known))))
        for detector in (*TRAINED, L1, FOLD_L1, RIDGE, MEDIAN):
            for seed in SEEDS:
                ranked = [data.cas[row] for row in order(scored[detector, name, seed])]
                for first in FIRST:
                    rows.append((detector, seed, name, first, *counts.loc[ranked[:first]].sum()))
    return pd.DataFrame(rows, columns=["detector", "seed", "property", "first", *COUNTED])


def pooled(measured: pd.DataFrame) -> pd.DataFrame:
    """The lists of all properties together, by detector, length and seed, in %: the share of
    `wrong` labels among the decided, the share that is `undecided`, the share of all wrong labels
    that is `found`, and that of wrong ones among those picked by comparison (`compared`)."""
    lists = measured["detector"] != ALL
    total = measured[~lists][COUNTED].sum()
    sums = measured[lists].groupby(["detector", "first", "seed"])[COUNTED].sum()
    decided = sums["wrong"] + sums["right"]
    shares = {
        "wrong": sums["wrong"] / decided,
        "undecided": sums["unknown"] / (decided + sums["unknown"]),
        "found": sums["wrong"] / total["wrong"],
        "compared": sums["compared"] / (sums["compared"] + sums["confirmed"]),
    }
    return 100 * pd.DataFrame(shares)


def summary(measured: pd.DataFrame) -> str:
    """A row for each detector, as the documentation has it; ± over seeds."""
    shares = pooled(measured)
    total = measured[measured["detector"] == ALL][COUNTED].sum()
    columns = [("wrong", first) for first in FIRST]
    columns += [
        ("undecided", 20),
        ("found", 20),
        ("found", 100),
        ("compared", 20),
        ("compared", 100),
    ]
    lines = [
        "| suspects by | wrong of the decided, first 20 (%) | first 50 | first 100 "
        f"| undecided, first 20 (%) | of all {total['wrong']:.0f} wrong ones, in the first 20 (%) "
        "| first 100 | wrong of those picked by comparison, first 20 (%) | first 100 |",
        "| :-- |" + " --: |" * len(columns),
    ]
    for detector, label in LABELS.items():
        cells = []
        for kind, first in columns:
            values = shares.xs((detector, first))[kind]
            spread = f" ± {values.std():.1f}" if values.nunique() > 1 else ""
            cells.append(f"{values.mean():.1f}{spread}")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_property(measured: pd.DataFrame, first: int = 20) -> str:
    """Wrong labels of the decided among the first of each list, means over seeds."""
    detectors = [name for name in LABELS if name != CHANCE]
    lines = [
        "| property | labels | wrong | right |" + "".join(f" {LABELS[d]} |" for d in detectors),
        "| :-- |" + " --: |" * (3 + len(detectors)),
    ]
    for name, rows in measured.groupby("property", sort=False):
        every = rows[rows["detector"] == ALL].iloc[0]
        cells = [f"{int(every[key]):,}" for key in ("first", "wrong", "right")]
        for detector in detectors:
            mine = rows[(rows["detector"] == detector) & (rows["first"] == first)]
            wrong, right = mine[["wrong", "right"]].mean()
            cells.append(f"{wrong:.1f} of {wrong + right:.1f}")
        lines.append(f"| {str(name).replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:]:
        data = training()
        measured = measure(data, scores(sys.argv[1], data))
        measured.to_csv(MEASURED, index=False, float_format="%.6g")
    measured = pd.read_csv(MEASURED)
    print(summary(measured), by_property(measured), sep="\n\n")


if __name__ == "__main__":
    main()
