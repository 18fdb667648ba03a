"""The tables of equal budgets in README.md and docs/findings.md.

    python benchmarks/central_table.py             of the reference results
    python benchmarks/central_table.py DIR         of runs of one's own

Prints Δm (%) over tuned fixed weights with its 95 % interval, a row for each suite and variant in
which they were tuned; then the same of strategies that had early stopping and a search over weight
decay, too. Bold where the interval is above 0.
"""

import sys
from collections.abc import Sequence

import pandas as pd
from claims import REGULARISED, Tuned

from mtlbench import load_results

BASELINE = "static[tuned]"

COLUMNS = {
    "ILT Params": "ilt[tuned]",
    "STCH": "stch[tuned]",
    "MTU": "mtu[tuned]",
    "GLS": "gls[tuned]",
    "DWA": "dwa[tuned]",
    "Eq. Weight": "equal[tuned]",
}

CASES = [
    ("digits", "clean"),
    ("digits", "left@0.4"),
    ("streets", "clean"),
    ("streets", "segmentation@0.4"),
    ("bodies", "clean"),
    ("bodies", "pose+shape@0.4"),
    ("yeast", "clean"),
    ("yeast", "class2@0.4"),
    ("census", "clean"),
    ("census", "education@0.4"),
]

WITH_REGULARISATION = {
    "ILT Params": REGULARISED["ilt"],
    "MTU": REGULARISED["mtu"],
    "Fixed weights": REGULARISED["static"],
    "Eq. Weight": REGULARISED["equal"],
}


def central_table(results: pd.DataFrame) -> str:
    """Everything with the same 8 trials, in Markdown."""
    return _table(results, CASES, COLUMNS)


def regularised_table(results: pd.DataFrame) -> str:
    """What early stopping and weight decay add, in Markdown."""
    return _table(results, CASES[:2], WITH_REGULARISATION)


def _table(results: pd.DataFrame, cases: Sequence[tuple[str, str]], columns: dict[str, str]) -> str:
    lines = [
        f"| Δm (%) ↑ over tuned fixed weights | {' | '.join(columns)} |",
        f"| :-- |{' --: |' * len(columns)}",
    ]
    for suite, variant in cases:
        board = Tuned(results, suite, variant).delta_m(BASELINE, BASELINE, *columns.values())
        cells = [_cell(board, row) for row in columns.values()]
        lines.append(f"| {suite} {variant} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(board: pd.DataFrame, row: str) -> str:
    if row not in board.index:
        return ""
    mean, *ends = board.loc[row, ["delta_m", "delta_m_low", "delta_m_high"]]
    told = f"{mean:+.1f} [{', '.join(f'{end:+.1f}' for end in ends)}]".replace("-", "−")
    return f"**{told}**" if ends[0] > 0 else told


def main() -> None:
    own = sys.argv[1:]
    results = load_results(own, reference=not own)
    print(central_table(results))
    print(regularised_table(results), end="")


if __name__ == "__main__":
    main()
