"""The tables of the pages on detectors, made of the runs that `mtlbench detectors` trained.

    python benchmarks/detector_tables.py DIR

Prints the rows of docs/suspects.md: AUROC and average precision, and the estimated
shares of wrong labels; last, what was seen in tasks whose labels are all right. How the runs are
trained stands in results/reference/README.md.
"""

import argparse
from collections import Counter
from pathlib import Path

import pandas as pd

from mtlbench.analysis.label_errors.comparison import stored_scores
from mtlbench.analysis.label_errors.mixture import estimate_share
from mtlbench.analysis.label_errors.scores import CLEANLAB, DETECTORS

REFERENCE = Path(__file__).parents[1] / "results" / "reference"

ROWS = [
    *(("digits", "left", f"left@{level}", "") for level in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)),
    ("digits", "right", "right@0.4:next-class", ", each the next class"),
    ("digits", "offset", "offset@0.1", ""),
    ("digits", "offset", "offset@0.4", ""),
    ("streets", "segmentation", "segmentation@0.4", ""),
    *(("streets", "depth", f"depth@{level}", "") for level in (0.2, 0.4, 0.6, 0.8)),
    ("bodies", "pose", "pose+shape@0.4", ""),
    ("bodies", "shape", "pose+shape@0.4", ""),
]

MADE_OF_OTHERS = "vertices"
"""A task whose labels are made of those of others, wrong ones too."""

SUITES = [*dict.fromkeys(suite for suite, *_ in ROWS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("results", metavar="DIR")
    options = parser.parse_args()
    measured = pd.concat(pd.read_csv(REFERENCE / f"detectors_{suite}.csv") for suite in SUITES)
    print(f"| labels | wrong (%) | {' | '.join(f'`{name}`' for name in DETECTORS)} |")
    print(f"| :-- |{' --: |' * (1 + len(DETECTORS))}")
    for suite, task, variant, said in ROWS:
        print(
            f"| {suite} {task}{said} | {_level(variant)} | {_measures(measured, task, variant)} |"
        )
    shares = pd.DataFrame(row for suite in SUITES for row in _shares(options.results, suite))
    print()
    for suite, task, variant, said in ROWS:
        told = [_told(shares, task, variant, name) for name in DETECTORS if name != CLEANLAB]
        print(f"| {suite} {task}{said} | {_level(variant)} | {' | '.join(told)} |")
    print()
    clean = shares[~shares["corrupted"] & (shares["task"] != MADE_OF_OTHERS)]
    for detector, found in clean.groupby("detector"):
        seen = found.loc[found["kind"] != "none", ["kind", "share"]]
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(seen["kind"]).items())
        most = "" if seen.empty else f"; up to {seen['share'].max():.1f} %"
        print(f"{detector}: of {len(found)} cases {len(seen)} with a second group ({kinds}{most})")


def _level(variant: str) -> str:
    return f"{100 * float(variant.partition('@')[2].partition(':')[0]):.0f}"


def _measures(measured: pd.DataFrame, task: str, variant: str) -> str:
    found = measured[(measured["task"] == task) & (measured["variant"] == variant)]
    found = found.set_index("detector")[["roc_auc", "average_precision"]].round(1)
    best = found.max()
    cells = []
    for name in DETECTORS:
        if name not in found.index:
            cells.append("")
            continue
        told = [
            (f"{value:.1f}", value == best[column]) for column, value in found.loc[name].items()
        ]
        cells.append(" / ".join(f"**{text}**" if first else text for text, first in told))
    return " | ".join(cells)


def _shares(results: str, suite: str) -> list[dict[str, object]]:
    """The estimate of each run: `kind` is `none`, `apart`, `rough` or `cannot tell`."""
    rows = []
    names = [name for name in DETECTORS if name != CLEANLAB]
    for variant, _, scores in stored_scores(results, suite, detectors=names):
        found = estimate_share(scores.score, scores.detector, losses=scores.losses, resamples=0)
        kind = {"apart": "apart", "overlapping": "rough"}.get(found.verdict, "none")
        wrong = scores.corrupted is not None and bool(scores.corrupted.any())
        rows.append(
            {
                "variant": variant,
                "task": scores.task,
                "detector": scores.detector,
                "seed": scores.seed,
                "corrupted": wrong,
                "kind": "cannot tell" if found.hard else kind,
                "share": found.share,
            }
        )
    return rows


def _told(shares: pd.DataFrame, task: str, variant: str, detector: str) -> str:
    """The mean where the seeds agree in kind, else what each says."""
    here = (shares["task"] == task) & (shares["variant"] == variant)
    found = shares[here & (shares["detector"] == detector)].sort_values("seed")
    if found.empty:
        return ""
    if found["kind"].nunique() == 1:
        return _share(found["kind"].iloc[0], found["share"].mean())
    return ", ".join(_share(*each) for each in zip(found["kind"], found["share"], strict=True))


def _share(kind: str, share: float) -> str:
    marks = {"apart": "", "rough": "~", "cannot tell": "?"}
    return "none" if kind == "none" else f"{marks[kind]}{share:.1f}"


if __name__ == "__main__":
    main()
