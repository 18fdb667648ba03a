"""Writes the page: the template with everything it needs put inside."""

import base64
import hashlib
import math
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mtlbench.analysis.printing import BEST, MISSING, SECOND
from mtlbench.analysis.report.charts import BOTTOM, HEIGHT, LEFT, NAMES, RIGHT, TOP, WIDTH
from mtlbench.analysis.report.content import Content
from mtlbench.analysis.report.runs import (
    MAX_FAILURES,
    duration,
    numbers,
    strategy_parameters,
    suite_parameters,
    tally,
)
from mtlbench.stages import STAGES
from mtlbench.version import package_version

FOLDER = Path(__file__).parent
GENERATOR = '<meta name="generator" content="mtlbench '
"""The mark that tells our pages from others' files."""


def render(content: Content, title: str, command: str) -> str:
    """The whole page.

    Args:
        content: what it shows.
        title: its heading.
        command: the one that makes it.
    """
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number, "signed": signed, "p_value": p_value, "duration": duration,
    }  # fmt: skip
    style, script = ((FOLDER / name).read_text("utf-8") for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    geometry = {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT,
        "top": TOP, "bottom": HEIGHT - BOTTOM, "names": NAMES,
    }  # fmt: skip
    return environment.get_template("page.html").render(
        content=content,
        title=title,
        command=command,
        version=package_version(),
        generator=Markup(GENERATOR),
        style=Markup(style),
        script=Markup(script),
        digest=digest,
        box=geometry,
        suites=suite_parameters(content.runs),
        strategies=strategy_parameters(content.runs),
        versions=tally(run.versions for run in content.runs),
        devices=tally(run.device for run in content.runs),
        seeds=numbers(run.spec["seed"] for run in content.runs),
        seconds=sum(run.seconds for run in content.runs),
        stage_texts=STAGES,
        marks={BEST: "best", SECOND: "second"},
        missing=MISSING,
        max_failures=MAX_FAILURES,
    )


def number(value: float, places: int = 2) -> str:
    """A number as it prints; a dash where there is none."""
    return f"{value:.{places}f}".replace("-", "−") if math.isfinite(value) else MISSING


def signed(value: float, places: int = 1) -> str:
    """A number with its sign."""
    return f"{value:+.{places}f}".replace("-", "−") if math.isfinite(value) else MISSING


def p_value(value: float) -> str:
    if not math.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
