"""MTLBench: a benchmark harness for multi-task learning.

Names are imported when first used, so that reading results does not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlbench.analysis.aggregate import Comparison, compare, load_results
    from mtlbench.analysis.figures import draw_figures
    from mtlbench.analysis.tables import render
    from mtlbench.api import run
    from mtlbench.errors import UserError
    from mtlbench.metrics import Metric
    from mtlbench.registry import register_strategy, register_suite
    from mtlbench.strategies.base import (
        GradientWeighting,
        InstanceStage,
        LossWeighting,
        Setting,
        Strategy,
    )
    from mtlbench.strategies.compose import build_strategy
    from mtlbench.suites.base import Data, Split, Suite
    from mtlbench.tasks import Task

_HOME = {
    "Comparison": "analysis.aggregate",
    "Data": "suites.base",
    "GradientWeighting": "strategies.base",
    "InstanceStage": "strategies.base",
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
    "draw_figures": "analysis.figures",
    "load_results": "analysis.aggregate",
    "register_strategy": "registry",
    "register_suite": "registry",
    "render": "analysis.tables",
    "run": "api",
}

__all__ = [
    "Comparison",
    "Data",
    "GradientWeighting",
    "InstanceStage",
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
    "draw_figures",
    "load_results",
    "register_strategy",
    "register_suite",
    "render",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mtlbench' has no attribute {name!r}")
    return getattr(import_module(f"mtlbench.{_HOME[name]}"), name)
