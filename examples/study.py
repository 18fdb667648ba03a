"""A study from Python: one's own strategy on one's own suite, in a table beside the others.

    python examples/study.py

Trains 12 runs into `runs/`; started again, it trains nothing.
"""

from pathlib import Path

import mtlbench

HERE = Path(__file__).parent

comparison = mtlbench.run(
    "ink",
    strategies=["equal", "ilt", "inverse"],
    variants=["clean", "digit@0.3"],
    seeds=2,
    overrides={"epochs": 5, "inverse.power": 0.5},
    plugins=[HERE / "own_suite.py", HERE / "own_strategy.py"],
)
print(mtlbench.render(comparison))

board = mtlbench.leaderboard(mtlbench.load_results("runs"))
print(mtlbench.render_leaderboard(board))

# Everything is a pandas DataFrame, too: a row for each run and metric.
print(comparison.runs.groupby(["variant", "strategy"])["value"].size())
