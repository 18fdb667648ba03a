"""What the reference studies show of the paper's claims, each beside the bar it is held against.

    python benchmarks/claims.py             of the reference results that come with the package
    for suite in digits streets bodies census compounds qm9; do
        mtlbench run $suite --results DIR
    done
    for suite in digits streets bodies census; do
        mtlbench run $suite --strategies all --seeds 1 --results DIR
    done
    mtlbench run yeast --strategies all --results DIR
    mtlbench tune digits --strategies all --seeds 5 --results DIR
    mtlbench tune yeast --strategies all --results DIR
    mtlbench tune digits --strategies equal,static,ilt,mtu --space weight_decay=0.001:1:log \\
        --set epoch_rule=best --seeds 5 --results DIR
    mtlbench tune streets --strategies equal,static,mtu,dwa,gls,ilt,stch \\
        --variants segmentation@0.4 clean --results DIR
    mtlbench tune bodies --strategies equal,static,mtu,dwa,gls,ilt \\
        --variants pose+shape@0.4 clean --results DIR
    mtlbench tune census --strategies equal,static,mtu,dwa,gls,ilt --results DIR
    python benchmarks/claims.py DIR         of runs of one's own

Ends with status 1 where a bar is missed.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from mtlbench import load_results
from mtlbench.analysis.aggregate import summarise
from mtlbench.analysis.leaderboard import leaderboard
from mtlbench.stages import GRADIENT

PAPER = ("equal", "mtu", "dwa", "gls", "ilt")
"""The strategies that the paper compares."""

TUNED = tuple(f"{name}[tuned]" for name in (*PAPER, "static"))
"""Those that were tuned wherever the central result is from."""

REGULARISED = {
    name: f"{name}[epoch_rule=best, tuned]" for name in ("equal", "static", "ilt", "mtu")
}
"""With early stopping, tuned over learning rate, weight decay and their own parameters."""

SUITES = ("digits", "streets", "bodies")
"""Those of the reference studies."""


OF_ALL = (*SUITES, "yeast", "census", "compounds")
"""Suites on which all strategies were run."""

ALL_ON = (
    "clean", "left@0.4", "segmentation@0.4", "depth@0.4", "pose+shape@0.4", "class2@0.4",
    "education@0.4",
)  # fmt: skip
"""Their variants with which all were."""


ON_COMPOUNDS = (*PAPER, "robust", "famo", "log", "trim", "stch")
"""Strategies with three seeds there."""


@dataclass(frozen=True)
class Claim:
    """A sentence, what was measured, and the bar."""

    sentence: str
    measured: float
    bar: float
    met: bool


def at_least(sentence: str, measured: float, bar: float) -> Claim:
    return Claim(sentence, measured, bar, measured >= bar)


def at_most(sentence: str, measured: float, bar: float) -> Claim:
    return Claim(sentence, measured, bar, measured <= bar)


class Means:
    """Test results of one suite with the paper's strategies as they are, averaged over seeds.

    Args:
        results: rows as from `load_results`.
        suite: the suite's name.
    """

    def __init__(self, results: pd.DataFrame, suite: str) -> None:
        self.suite = suite
        summary = summarise(results, suite, strategies=PAPER)
        self.summary = summary[summary["strategy"].isin(PAPER)]
        self._mean = self.summary.set_index(["variant", "strategy", "metric", "task"])["mean"]

    def __call__(self, variant: str, strategy: str, metric: str, task: str) -> float:
        return float(self._mean[variant, strategy, metric, task])

    def gain(self, variant: str, metric: str, task: str) -> float:
        """What ILT is above equal weights."""
        return self(variant, "ilt", metric, task) - self(variant, "equal", metric, task)

    def lowest_other(self, variant: str, metric: str, task: str) -> float:
        """The lowest value of a strategy that is not ILT."""
        others = self._mean[variant].drop("ilt", level="strategy")
        return float(others.xs((metric, task), level=("metric", "task")).min())

    def detections(self, least: float) -> Iterator[Claim]:
        found = self.summary[self.summary["metric"] == "detection_accuracy"]
        for row in found[found["strategy"] == "ilt"].itertuples():
            yield at_least(
                f"{self.suite} {row.variant}: detection of {row.task} (%)", row.mean, least
            )

    def ranks(self, variant: str, worst: int) -> Iterator[Claim]:
        """ILT's rank among the paper's strategies, in every metric that all of them have."""
        rows_of = self.summary[self.summary["variant"] == variant]
        rows_of = rows_of[rows_of["metric"] != "detection_accuracy"]
        for (metric, task), rows in rows_of.groupby(["metric", "task"], sort=False):
            ranks = rows["mean"].rank(ascending=rows["direction"].iloc[0] == "min", method="min")
            rank = float(ranks[rows["strategy"] == "ilt"].iloc[0])
            yield at_most(f"{self.suite} {variant}: rank of ilt in {task} {metric}", rank, worst)


class Tuned:
    """Strategies of one suite and variant that were given the same budget of trials.

    Args:
        results: rows as from `load_results`.
        suite, variant: which.
    """

    def __init__(self, results: pd.DataFrame, suite: str, variant: str) -> None:
        self.results, self.suite, self.variant = results, suite, variant
        summary = summarise(results, suite)
        summary = summary[summary["variant"] == variant]
        self.names = set(summary["strategy"])
        self._mean = summary.set_index(["strategy", "metric", "task"])["mean"]

    def gain(self, ours: str, theirs: str, metric: str, task: str) -> float:
        """What one is above another."""
        return self.mean(ours, metric, task) - self.mean(theirs, metric, task)

    def mean(self, name: str, metric: str, task: str) -> float:
        """What one has."""
        return float(self._mean[name, metric, task])

    def delta_m(self, baseline: str, *others: str) -> pd.DataFrame:
        """`delta_m`, `delta_m_low` and `delta_m_high` (%) of the tuned rows, and of others, over a
        baseline."""
        board = leaderboard(
            self.results,
            suites=[self.suite],
            variants=[self.variant],
            strategies=[name for name in dict.fromkeys((*others, *TUNED)) if name in self.names],
            baseline=baseline,
        ).table
        return board[board["scope"] == "all"].set_index("strategy")


def equal_budgets(results: pd.DataFrame) -> Iterator[Claim]:
    """What is left of the differences when every strategy is tuned."""
    noisy, clean = (Tuned(results, "digits", variant) for variant in ("left@0.4", "clean"))
    left = ("accuracy", "left")
    yield at_least(
        "digits left@0.4: accuracy of left, ilt (tuned) − equal (tuned) (points)",
        noisy.gain("ilt[tuned]", "equal[tuned]", *left),
        8,
    )
    yield at_least(
        "digits left@0.4: accuracy of left, ilt (tuned) − static (tuned) (points)",
        noisy.gain("ilt[tuned]", "static[tuned]", *left),
        8,
    )
    yield at_most(
        "digits left@0.4: accuracy of left, equal (tuned) − equal (points)",
        noisy.gain("equal[tuned]", "equal", *left),
        0,
    )
    for name in ("famo", "nash-mtl"):
        yield at_most(
            f"digits left@0.4: accuracy of left, {name} − frozen:{name} (points)",
            noisy.gain(name, f"frozen:{name}", *left),
            0,
        )
    yield at_least(
        "digits left@0.4: accuracy of left, mtu − frozen:mtu (points)",
        noisy.gain("mtu", "frozen:mtu", *left),
        10,
    )
    yield at_least(
        "digits left@0.4: Δm of ilt (tuned) over static (tuned), lower end (%)",
        noisy.delta_m("static[tuned]")["delta_m_low"]["ilt[tuned]"],
        10,
    )
    over_static = clean.delta_m("static[tuned]", "stch")
    yield at_least(
        "digits clean: Δm of stch over static (tuned), lower end (%)",
        over_static["delta_m_low"]["stch"],
        0,
    )
    yield from of_the_field(clean, noisy)
    yield from regularised(clean, noisy)
    dynamic = [f"{name}[tuned]" for name in PAPER if name != "equal"]
    yield at_most(
        "digits clean: best Δm of a strategy (tuned) over static (tuned) (%)",
        over_static["delta_m"][dynamic].max(),
        0,
    )
    yield at_most(
        "digits clean: Δm of ilt (tuned) over equal (tuned), upper end (%)",
        clean.delta_m("equal[tuned]")["delta_m_high"]["ilt[tuned]"],
        2,
    )
    for suite, variant, bar in (
        ("streets", "clean", 0),
        ("streets", "segmentation@0.4", 5),
        ("bodies", "clean", 0),
        ("bodies", "pose+shape@0.4", 4),
    ):
        yield at_least(
            f"{suite} {variant}: Δm of ilt (tuned) over static (tuned), lower end (%)",
            Tuned(results, suite, variant).delta_m("static[tuned]")["delta_m_low"]["ilt[tuned]"],
            bar,
        )
    streets = Tuned(results, "streets", "segmentation@0.4").delta_m("static[tuned]")
    for name in ("mtu", "gls"):
        yield at_least(
            f"streets segmentation@0.4: Δm of {name} (tuned) over static (tuned), lower end (%)",
            streets["delta_m_low"][f"{name}[tuned]"],
            0,
        )
    bodies = Tuned(results, "bodies", "pose+shape@0.4").delta_m("static[tuned]")
    yield at_most(
        "bodies pose+shape@0.4: Δm of mtu, gls, dwa (tuned) over static (tuned), upper ends (%)",
        bodies["delta_m_high"][["mtu[tuned]", "gls[tuned]", "dwa[tuned]"]].max(),
        -15,
    )
    ends = ["delta_m_low", "delta_m_high"]
    on_census = [
        Tuned(results, "census", variant).delta_m("static[tuned]")[ends].abs().max(axis=None)
        for variant in ("clean", "education@0.4")
    ]
    yield at_most(
        "census: Δm of the paper's (tuned) over static (tuned), farthest end (%)",
        max(on_census),
        1.5,
    )
    yield from many_tasks(results)


def many_tasks(results: pd.DataFrame) -> Iterator[Claim]:
    """The 14 tasks of `yeast`, for whose weights eight trials are few: over tuned equal weights."""
    for variant, bars in (
        ("clean", {"fairgrad": 1, "log": 0, "go4align": 0}),
        ("class2@0.4", {"mtu": 4, "go4align": 6, "log": 5, "ilt": 2}),
    ):
        rows = [f"{name}[tuned]" for name in ("static", *bars)]
        over_equal = Tuned(results, "yeast", variant).delta_m("equal[tuned]", *rows)
        yield at_most(
            f"yeast {variant}: Δm of static (tuned) over equal (tuned) (%)",
            over_equal["delta_m"]["static[tuned]"],
            0,
        )
        for name, bar in bars.items():
            yield at_least(
                f"yeast {variant}: Δm of {name} (tuned) over equal (tuned), lower end (%)",
                over_equal["delta_m_low"][f"{name}[tuned]"],
                bar,
            )


def of_the_field(clean: Tuned, noisy: Tuned) -> Iterator[Claim]:
    """All that were tuned on `digits` over fixed weights that were."""
    everyone = [name for name in clean.names if name.endswith("[tuned]") and "," not in name]
    on_clean, on_noisy = (t.delta_m("static[tuned]", *everyone) for t in (clean, noisy))
    others = [name for name in everyone if name != "static[tuned]"]
    yield at_least("digits: strategies that were tuned beside fixed weights", len(others), 40)
    yield at_most(
        "digits clean: tuned strategies surely ahead of static (tuned)",
        float((on_clean["delta_m_low"][others] > 0).sum()),
        0,
    )
    yield at_least(
        "digits clean: tuned strategies surely behind static (tuned)",
        float((on_clean["delta_m_high"][others] < 0).sum()),
        38,
    )
    yield at_least(
        "digits left@0.4: tuned strategies surely ahead of static (tuned)",
        float((on_noisy["delta_m_low"][others] > 0).sum()),
        25,
    )
    stages = on_noisy["stage"]
    best = {
        stage: max(noisy.mean(name, "accuracy", "left") for name in others if stages[name] in names)
        for stage, names in {"instance": ("instance",), "task": ("loss", "gradient")}.items()
    }
    yield at_least(
        "digits left@0.4: accuracy of left, best of instances − best of tasks, tuned (points)",
        best["instance"] - best["task"],
        10,
    )


def regularised(clean: Tuned, noisy: Tuned) -> Iterator[Claim]:
    """What early stopping and weight decay do, on clean labels of digits and on left@0.4."""
    equal, static, ilt, mtu = REGULARISED.values()
    yield at_least(
        "digits clean: Δm of equal (regularised) over equal (tuned), lower end (%)",
        clean.delta_m("equal[tuned]", equal)["delta_m_low"][equal],
        0,
    )
    over_equal = clean.delta_m(equal, equal, ilt, mtu)
    for name, row in (("ilt", ilt), ("mtu", mtu)):
        yield at_most(
            f"digits clean: Δm of {name} (regularised) over equal (regularised), lower end (%)",
            over_equal["delta_m_low"][row],
            0,
        )
    for name, row, bar in (("equal", equal, 10), ("static", static, 5)):
        yield at_least(
            f"digits left@0.4: Δm of ilt (regularised) over {name} (regularised), lower end (%)",
            noisy.delta_m(row, row, ilt)["delta_m_low"][ilt],
            bar,
        )
    yield at_least(
        "digits left@0.4: Δm of mtu (regularised) over ilt (regularised), lower end (%)",
        noisy.delta_m(ilt, ilt, mtu)["delta_m_low"][mtu],
        0,
    )


def claims(results: pd.DataFrame) -> Iterator[Claim]:
    """All claims, from the means over seeds.

    Args:
        results: rows as from `load_results`.
    """
    digits, streets, bodies = (Means(results, suite) for suite in SUITES)

    yield at_least(
        "digits left@0.4: accuracy of left, ilt − equal (points)",
        digits.gain("left@0.4", "accuracy", "left"),
        8,
    )
    yield from digits.detections(97)
    yield at_most(
        "streets depth@0.4: absolute depth error, ilt / equal",
        streets("depth@0.4", "ilt", "abs_err", "depth")
        / streets("depth@0.4", "equal", "abs_err", "depth"),
        0.6,
    )
    yield at_least(
        "streets segmentation@0.4: mIoU, ilt − equal (points)",
        streets.gain("segmentation@0.4", "miou", "segmentation"),
        10,
    )
    yield at_least(
        "streets depth@0.4: detection of depth, the bar for noise (%)",
        streets("depth@0.4", "ilt", "detection_accuracy", "depth"),
        99,
    )
    yield from streets.detections(97)
    yield from streets.ranks("clean", 2)
    yield at_most(
        "bodies pose+shape@0.4: surface error, ilt / next best",
        bodies("pose+shape@0.4", "ilt", "surface_error", "vertices")
        / bodies.lowest_other("pose+shape@0.4", "surface_error", "vertices"),
        0.7,
    )
    yield from bodies.ranks("segmentation@0.4", 1)
    yield from bodies.ranks("clean", 2)
    yield from bodies.detections(97)
    yield from equal_budgets(results)
    yield from all_strategies(results)
    yeast, census, compounds = (
        board[board["scope"] == "all"].set_index("strategy")
        for board in (
            leaderboard(results, suites=[suite], strategies=strategies).table
            for suite, strategies in (("yeast", None), ("census", PAPER), ("compounds", PAPER))
        )
    )
    yield at_most("yeast: Δm of ilt over equal, upper end (%)", yeast["delta_m_high"]["ilt"], 0)
    yield at_least(
        "yeast: Δm of config over equal, lower end (%)", yeast["delta_m_low"]["config"], 0
    )
    yield at_most(
        "census: Δm over equal, the ends of all intervals, farthest (%)",
        census[["delta_m_low", "delta_m_high"]].abs().max(axis=None),
        1.4,
    )
    of_all = leaderboard(results, suites=["census"], seeds=1).table
    of_all = of_all[of_all["scope"] == "all"].set_index("strategy")["delta_m"]
    of_all = of_all[[name for name in of_all.index if "[" not in name]]
    yield at_most("census: largest Δm of any strategy over equal, one seed (%)", of_all.max(), 0.3)
    for name in ("gls", "ilt"):
        yield at_least(
            f"compounds: Δm of {name} over equal, lower end (%)",
            compounds["delta_m_low"][name],
            0,
        )
    yield at_most(
        "compounds: Δm of mtu over equal, upper end (%)", compounds["delta_m_high"]["mtu"], 0
    )
    on_clean = leaderboard(
        results, suites=["compounds"], variants=["clean"], strategies=ON_COMPOUNDS
    ).table
    on_clean = on_clean[on_clean["scope"] == "all"].set_index("strategy")
    low, high = on_clean["delta_m_low"], on_clean["delta_m_high"]
    squared = high[[name for name in high.index if "[" not in name]].drop("equal")
    for name in ("robust", "famo"):
        yield at_least(
            f"compounds clean: lower end of Δm of {name}, less the upper ones of 7 others (%)",
            low[name] - squared.drop(["robust", "famo"]).max(),
            0,
        )
    yield at_least(
        "compounds clean: lower end of Δm of equal with loss=l1, less all upper ones without (%)",
        low["equal[loss=l1]"] - squared.max(),
        0,
    )
    yield at_least(
        "compounds clean: lower end of Δm of equal with loss=l1, less the upper one of ilt (%)",
        low["equal[loss=l1]"] - high["ilt[loss=l1]"],
        0,
    )


def all_strategies(results: pd.DataFrame) -> Iterator[Claim]:
    """All strategies with one seed, over six suites."""
    board = leaderboard(results, suites=OF_ALL, variants=ALL_ON, seeds=1).table
    board = board[(board["scope"] == "all") & board["mean_rank"].notna()].set_index("strategy")
    places = board["mean_rank"].rank(method="min")
    yield at_least("six suites, one seed: strategies that are complete", len(board), 35)
    yield at_most("six suites, one seed: place of stch by mean rank", places["stch"], 1)
    yield at_most("six suites, one seed: place of ilt by mean rank", places["ilt"], 6)
    yield at_most(
        "six suites, one seed: place of ilt by Δm",
        board["delta_m"].rank(ascending=False)["ilt"],
        1,
    )
    weigh_gradients = results.loc[results["stage"] == GRADIENT, "strategy"].unique()
    of_gradients = board.loc[board.index.isin(weigh_gradients), "mean_rank"].nsmallest(2)
    yield at_most(
        "six suites, one seed: places of fairgrad and nash-mtl among gradient weightings, sum",
        of_gradients.rank().reindex(["fairgrad", "nash-mtl"]).sum(skipna=False),
        3,
    )


def main() -> None:
    own = sys.argv[1:]
    found = list(claims(load_results(own, reference=not own)))
    for claim in found:
        verdict = "met" if claim.met else "MISSED"
        print(f"{claim.sentence:73} {claim.measured:8.2f}  bar {claim.bar:6.2f}  {verdict}")
    sys.exit(not all(claim.met for claim in found))


if __name__ == "__main__":
    main()
