"""The catalogue of suites, read from the registry and its docstrings."""

from itertools import groupby

from mtlbench.analysis.printing import MISSING, heading
from mtlbench.analysis.table import Column
from mtlbench.analysis.writers import markdown, markdown_table
from mtlbench.cli.docstrings import blocks, meanings, prose
from mtlbench.errors import UserError
from mtlbench.registry import Entry
from mtlbench.suites.base import Suite, suites
from mtlbench.tasks.task import Task

FIELDS = "Attributes:"


def render() -> str:
    """The whole catalogue as a page in Markdown."""
    entries = suites.entries()
    rows = [
        [f"[`{e.name}`](#{e.name})", markdown(e.label), str(len(e.cls().tasks())), prose(e.summary)]
        for e in entries
    ]
    columns = [Column("", words=True), Column("tasks"), Column("", words=True)]
    lines = [
        "# Suites",
        "",
        "A suite is data, tasks, a network, a training recipe and a default study. Made from the "
        "package by `mtlbench list suites --format github`.",
        "",
        markdown_table(["name", "", "tasks", "what it is"], rows, columns),
        "",
        "`mtlbench run SUITE` trains the default study. `--set NAME=VALUE` sets a parameter, "
        "`--variants TASK@FRACTION` corrupts that share of the training labels of a task, by the "
        "first kind of corruption that stands beside the task, or with `TASK@FRACTION:KIND` by "
        "another one. `mtlbench tune` searches the parameters that have a range in the column "
        "*tuned in*; those marked *by --space* are searched where `--space` asks for it.",
    ]
    for entry in entries:
        lines += ["", *_section(entry)]
    return "\n".join(lines) + "\n"


def _section(entry: Entry) -> list[str]:
    suite: Suite = entry.cls()
    summary, *others = blocks(entry.cls)
    lines = [f"## {entry.name}", "", f"**{markdown(entry.label)}.** {prose(summary)}"]
    for block in others:
        if not block.startswith(FIELDS):
            lines += ["", prose(block)]
    lines += ["", *_network(suite), _study(entry.name, suite)]
    return [*lines, "", _tasks(suite), "", _parameters(entry, suite)]


def _network(suite: Suite) -> list[str]:
    """What network it is, in words; nothing where its making takes files that are not there."""
    try:
        network = suite.model()
    except UserError:
        return []
    count = sum(parameter.numel() for parameter in network.parameters())
    kind = type(network)
    return [f"**Network:** `{kind.__name__}`, {count:,} parameters. {prose(blocks(kind)[0])}", ""]


def _study(name: str, suite: Suite) -> str:
    variants = ", ".join(f"`{variant}`" for variant in suite.default_variants)
    strategies = ", ".join(f"`{strategy}`" for strategy in suite.default_strategies)
    return (
        f"**Default study** (`mtlbench run {name}`): variants {variants}; strategies {strategies}; "
        f"{suite.default_seeds} seeds."
    )


def _tasks(suite: Suite) -> str:
    """A table of the tasks; those in a row that differ in their names alone share a line."""
    rows = []
    for (kind, metrics, corruptions), alike in groupby(suite.tasks(), _about):
        names = ", ".join(f"`{task.name}`" for task in alike)
        rows.append([names, kind, metrics, corruptions])
    columns = [Column("", words=True)] * 3
    return markdown_table(["task", "kind", "metrics", "corruptions"], rows, columns)


def _about(task: Task) -> tuple[str, str, str]:
    """Kind, metrics and corruptions in words."""
    kind: str = task.kind
    if task.binary:
        kind = "yes or no"
    elif task.classes:
        kind = f"classification, {len(task.classes)} classes"
    metrics = [heading(m.label, m.unit, m.direction) for m in task.metrics]
    corruptions = ", ".join(f"`{name}`" for name in task.corruptions)
    return kind, markdown("; ".join(metrics)) or MISSING, corruptions or MISSING


def _parameters(entry: Entry, suite: Suite) -> str:
    space = suite.space()
    described = {
        name: meaning
        for cls in reversed(entry.cls.__mro__)
        for block in blocks(cls)
        if block.startswith(FIELDS)
        for name, meaning in meanings(block).items()
    }
    rows = []
    for name, parameter in entry.parameters().items():
        searched = str(space.get(name, "by --space" if name in suite.searchable else ""))
        default = parameter.default if parameter.default != "" else MISSING
        about = prose(described.get(name, ""))
        rows.append([f"`{name}`", f"`{default}`", markdown(searched), about])
    columns = [Column("", words=True)] * 3
    return markdown_table(["parameter", "default", "tuned in", ""], rows, columns)
