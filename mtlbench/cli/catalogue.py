"""The catalogue of strategies, read from the registry and its docstrings.

A strategy's docstring has, apart by empty lines and in this order: a summary line; the equation,
indented; prose; what departs from the authors' code, where anything does; the paper; `Args` and
`Raises`.
"""

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from mtlbench.analysis.printing import MISSING, one_line
from mtlbench.analysis.table import Column
from mtlbench.analysis.writers import markdown, markdown_table
from mtlbench.cli.docstrings import blocks, meanings, prose
from mtlbench.registry import Entry
from mtlbench.space import Space
from mtlbench.stages import SEES_VALIDATION, STAGES
from mtlbench.strategies.base import strategies
from mtlbench.strategies.compose import stage_of

STEP_COSTS = "step_costs.json"
"""A file of the package: strategy name to the measured time of a step, relative to `equal`."""

DEPARTS = "Departs from the authors' code:"

PAPER = re.compile(r"[A-Z][^:]*:\s.*,\s.*\b((?:19|20)\d\d)\b", re.DOTALL)
"""Authors: title, venue year."""


@dataclass(frozen=True)
class Parameter:
    """One that `--set` reaches, and the values among which `mtlbench tune` searches it, if it
    does."""

    name: str
    default: str
    space: str
    meaning: str


@dataclass(frozen=True)
class Card:
    """What the catalogue says of a strategy; "" or 0 for what its docstring does not say.

    Attributes:
        name, label, stage, summary: as in the registry.
        body: paragraphs and, indented by four spaces, equations.
        departs: in what it is not as the authors' code.
        paper, year: where it is from.
        parameters: what `--set` reaches, without what all strategies of its kind have.
        networks: how many are trained for one run.
        network_per_task: whether that is one for each task.
        held_out: whether it looks at validation labels while it trains.
    """

    name: str
    label: str
    stage: str
    summary: str
    body: tuple[str, ...]
    departs: str
    paper: str
    year: int
    parameters: tuple[Parameter, ...]
    networks: int
    network_per_task: bool
    held_out: bool


def card(entry: Entry) -> Card:
    """Reads a strategy's docstring."""
    summary, *others = blocks(entry.cls)
    departs, paper, year = "", "", 0
    body: list[str] = []
    described: dict[str, str] = {}
    for block in others:
        if block.startswith("Args:"):
            described = meanings(block)
        elif block.startswith("Raises:"):
            continue
        elif block.startswith(DEPARTS):
            departs = one_line(block.removeprefix(DEPARTS))
        elif match := PAPER.match(block):
            paper, year = one_line(block), int(match[1])
        else:
            body.append(block)
    space: Space = getattr(entry.cls, "space", {})
    parameters = tuple(
        Parameter(
            f"{entry.name}.{name}",
            str(parameter.default),
            str(space.get(name, "")),
            described.get(name, ""),
        )
        for name, parameter in entry.parameters().items()
    )
    return Card(
        entry.name,
        entry.label,
        stage_of(entry),
        one_line(summary),
        tuple(body),
        departs,
        paper,
        year,
        parameters,
        getattr(entry.cls(), "networks", 1),
        getattr(entry.cls, "network_per_task", False),
        getattr(entry.cls, "held_out", False),
    )


def step_costs() -> dict[str, float]:
    """What `benchmarks/step_cost.py --write` measured; empty where it has not."""
    file = resources.files("mtlbench.cli") / STEP_COSTS
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def render(costs: Mapping[str, float]) -> str:
    """The whole catalogue as a page in Markdown.

    Args:
        costs: strategy name to the measured time of a step, relative to `equal`.
    """
    cards = [card(entry) for entry in strategies.entries()]
    lines = [
        "# Strategies",
        "",
        f"{len(cards)} strategies. Every one of the instance stage goes with every one of the "
        "other two: `ilt+cagrad`. Made from the package by `mtlbench list strategies --format "
        "github`.",
        "",
        "Those that weigh by gradients have two more parameters: `NAME.on=representation` weighs "
        "the gradients over what the shared layers give to the heads and not over the shared "
        "parameters, and `NAME.every=N` weighs in every N-th step of the whole training only. "
        "`log+NAME` weighs the gradients of the losses' logarithms: `ilt+log+cagrad`; `samo+NAME` "
        "those where the losses are larger nearby.",
        "",
        "`frozen:NAME` is the mean weights that one of the other two stages found, fixed from the "
        "first step on.",
        "",
        f"{SEES_VALIDATION} looks at a batch of validation data in every step. Validation labels "
        "are never corrupted here: with wrong training labels that is an advantage which the "
        "others do not have, and what is chosen by the same data, a trial or an epoch, looks "
        "better than it is. In a loop of one's own the losses of such a batch are given as "
        "`held_out=`.",
        "",
        "`mtlbench tune` searches the parameters that have a range in the column *tuned in*, and "
        "for every strategy alike what the suite shares: the learning rate, from an eighth to "
        "eight times that of the recipe. *(log)*: by the order of magnitude.",
    ]
    for stage, title in STAGES.items():
        chosen = sorted((c for c in cards if c.stage == stage), key=lambda c: (c.year, c.name))
        lines += ["", f"## {title.capitalize()}", "", _overview(chosen, costs)]
        for each in chosen:
            lines += ["", *_section(each)]
    return "\n".join(lines) + "\n"


def _overview(cards: list[Card], costs: Mapping[str, float]) -> str:
    columns = [Column("", words=True), Column("year"), Column("what it does", words=True)]
    columns += [Column("step / `equal`")] * bool(costs)
    rows = []
    for each in cards:
        mark = f" {SEES_VALIDATION}" * each.held_out
        row = [
            f"[`{each.name}`](#{each.name}){mark}",
            markdown(each.label),
            str(each.year or MISSING),
        ]
        row.append(prose(each.summary))
        if costs:
            cost = costs.get(each.name)
            times = f"{each.networks} networks × " if each.networks > 1 else ""
            times = "tasks × " if each.network_per_task else times
            row.append(MISSING if cost is None else f"{times}{cost:.2f}×")
        rows.append(row)
    return markdown_table(["name", *(column.name for column in columns)], rows, columns)


def _section(each: Card) -> list[str]:
    lines = [f"### {each.name}", "", f"{markdown(each.label)}. {prose(each.summary)}"]
    for block in each.body:
        if block.startswith("    "):
            lines += ["", "```text", inspect.cleandoc(block), "```"]
        else:
            lines += ["", prose(block)]
    if each.departs:
        lines += ["", f"**{DEPARTS}** {prose(each.departs)}"]
    if each.paper:
        lines += ["", prose(each.paper)]
    if each.parameters:
        rows = [
            [f"`{p.name}`", f"`{p.default}`", markdown(p.space), prose(p.meaning)]
            for p in each.parameters
        ]
        columns = [Column("", words=True)] * 3
        lines += ["", markdown_table(["parameter", "default", "tuned in", ""], rows, columns)]
    return lines
