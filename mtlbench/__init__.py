"""MTLBench: a benchmark harness for multi-task learning.

Names are imported when first used, so that reading results does not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlbench.analysis.aggregate import Comparison, compare
    from mtlbench.analysis.figures.runs import draw_figures
    from mtlbench.analysis.label_errors.comparison import compare_detectors
    from mtlbench.analysis.label_errors.mixture import estimate_share
    from mtlbench.analysis.label_errors.scores import detector_scores
    from mtlbench.analysis.leaderboard import Leaderboard, leaderboard
    from mtlbench.analysis.leaderboard_tables import render_leaderboard
    from mtlbench.analysis.report import render_report, write_report
    from mtlbench.analysis.results import load_results
    from mtlbench.analysis.tables import render
    from mtlbench.data.splits import Data, Split
    from mtlbench.errors import UserError
    from mtlbench.space import Choice, Range, TaskWeights
    from mtlbench.store.merge import merge_results
    from mtlbench.strategies.base import (
        GradientWeighting,
        InstanceStage,
        LossWeighting,
        Setting,
        register_strategy,
    )
    from mtlbench.strategies.compose import build_strategy
    from mtlbench.strategies.strategy import Strategy
    from mtlbench.study.run import run
    from mtlbench.study.suspects import find_suspects
    from mtlbench.study.tune import tune
    from mtlbench.suites.base import Suite, register_suite
    from mtlbench.suites.datasets import suite_from
    from mtlbench.tasks.metrics import Metric
    from mtlbench.tasks.task import Task

_HOME = {
    "Choice": "space",
    "Comparison": "analysis.aggregate",
    "Data": "data.splits",
    "GradientWeighting": "strategies.base",
    "InstanceStage": "strategies.base",
    "Leaderboard": "analysis.leaderboard",
    "LossWeighting": "strategies.base",
    "Metric": "tasks.metrics",
    "Range": "space",
    "Setting": "strategies.base",
    "Split": "data.splits",
    "Strategy": "strategies.strategy",
    "Suite": "suites.base",
    "Task": "tasks.task",
    "TaskWeights": "space",
    "UserError": "errors",
    "build_strategy": "strategies.compose",
    "compare": "analysis.aggregate",
    "compare_detectors": "analysis.label_errors.comparison",
    "detector_scores": "analysis.label_errors.scores",
    "draw_figures": "analysis.figures.runs",
    "estimate_share": "analysis.label_errors.mixture",
    "find_suspects": "study.suspects",
    "leaderboard": "analysis.leaderboard",
    "load_results": "analysis.results",
    "merge_results": "store.merge",
    "register_strategy": "strategies.base",
    "register_suite": "suites.base",
    "render": "analysis.tables",
    "render_leaderboard": "analysis.leaderboard_tables",
    "render_report": "analysis.report",
    "run": "study.run",
    "suite_from": "suites.datasets",
    "tune": "study.tune",
    "write_report": "analysis.report",
}

_WITH_PLUGINS = ("study.run", "study.tune", "strategies.compose", "study.suspects")
"""Modules that look up strategies and suites by name, those of installed plugins too."""

__all__ = [
    "Choice",
    "Comparison",
    "Data",
    "GradientWeighting",
    "InstanceStage",
    "Leaderboard",
    "LossWeighting",
    "Metric",
    "Range",
    "Setting",
    "Split",
    "Strategy",
    "Suite",
    "Task",
    "TaskWeights",
    "UserError",
    "build_strategy",
    "compare",
    "compare_detectors",
    "detector_scores",
    "draw_figures",
    "estimate_share",
    "find_suspects",
    "leaderboard",
    "load_results",
    "merge_results",
    "register_strategy",
    "register_suite",
    "render",
    "render_leaderboard",
    "render_report",
    "run",
    "suite_from",
    "tune",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mtlbench' has no attribute {name!r}")
    if _HOME[name] in _WITH_PLUGINS:
        import_module("mtlbench.plugins").load_plugins()
    return getattr(import_module(f"mtlbench.{_HOME[name]}"), name)
