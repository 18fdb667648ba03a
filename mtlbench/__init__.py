"""MTLBench: a benchmark harness for multi-task learning.

Names are imported when first used, so that reading results does not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlbench.analysis.aggregate import Comparison, compare, load_results
    from mtlbench.analysis.figures import draw_figures
    from mtlbench.analysis.leaderboard import Leaderboard, leaderboard
    from mtlbench.analysis.leaderboard_tables import render_leaderboard
    from mtlbench.analysis.tables import render
    from mtlbench.api import run
    from mtlbench.errors import UserError
    from mtlbench.metrics import Metric
    from mtlbench.report import render_report, write_report
    from mtlbench.strategies.base import (
        GradientWeighting,
        InstanceStage,
        LossWeighting,
        Setting,
        Strategy,
        register_strategy,
    )
    from mtlbench.strategies.compose import build_strategy
    from mtlbench.suites.base import Data, Split, Suite, register_suite
    from mtlbench.suspects.command import find_suspects
    from mtlbench.suspects.comparison import compare_detectors
    from mtlbench.suspects.mixture import estimate_share
    from mtlbench.suspects.scores import detector_scores
    from mtlbench.tasks import Task

_HOME = {
    "Comparison": "analysis.aggregate",
    "Data": "suites.base",
    "GradientWeighting": "strategies.base",
    "InstanceStage": "strategies.base",
    "Leaderboard": "analysis.leaderboard",
    "LossWeighting": "strategies.base",
    "Metric": "metrics",
    "Setting": "strategies.base",
    "Split": "suites.base",
    "Strategy": "strategies.base",
    "Suite": "suites.base",
    "Task": "tasks",
    "UserError": "errors",
    "build_strategy": "strategies.compose",
    "compare": "analysis.aggregate",
    "compare_detectors": "suspects.comparison",
    "detector_scores": "suspects.scores",
    "draw_figures": "analysis.figures",
    "estimate_share": "suspects.mixture",
    "find_suspects": "suspects.command",
    "leaderboard": "analysis.leaderboard",
    "load_results": "analysis.aggregate",
    "register_strategy": "strategies.base",
    "register_suite": "suites.base",
    "render": "analysis.tables",
    "render_leaderboard": "analysis.leaderboard_tables",
    "render_report": "report",
    "run": "api",
    "write_report": "report",
}

_WITH_PLUGINS = ("api", "strategies.compose", "suspects.command")
"""Where names of strategies and suites are looked up, those of installed plugins too."""

__all__ = [
    "Comparison",
    "Data",
    "GradientWeighting",
    "InstanceStage",
    "Leaderboard",
    "LossWeighting",
    "Metric",
    "Setting",
    "Split",
    "Strategy",
    "Suite",
    "Task",
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
    "register_strategy",
    "register_suite",
    "render",
    "render_leaderboard",
    "render_report",
    "run",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mtlbench' has no attribute {name!r}")
    if _HOME[name] in _WITH_PLUGINS:
        import_module("mtlbench.plugins").load_plugins()
    return getattr(import_module(f"mtlbench.{_HOME[name]}"), name)
