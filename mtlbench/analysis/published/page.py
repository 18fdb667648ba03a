"""A page of sentences and tables, in the formats for people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from mtlbench.analysis.table import FORMATS, Table
from mtlbench.analysis.writers import STYLE, is_plain, markdown, tex, wrapped, writer_of
from mtlbench.errors import unknown


@dataclass(frozen=True)
class Finding:
    """A sentence that is judged.

    Attributes:
        sentence: what is judged.
        verdict: in a few words.
        evidence: sentences behind it.
    """

    sentence: str
    verdict: str
    evidence: list[str]


@dataclass(frozen=True)
class Page:
    """What a page holds, from top to bottom.

    Attributes:
        summary: sentences.
        tables: tables.
        heading: above the findings.
        findings: in a numbered list; there may be none.
        remarks: sentences.
    """

    summary: list[str]
    tables: list[Table]
    heading: str = ""
    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def write_page(format: str, page: Callable[[bool], Page], *, terminal: bool = False) -> str:
    """Writes a page in one of the `table.FORMATS` that are for people.

    Args:
        format: one of the formats.
        page: makes it; told whether the text is plain, so that marks are ¹ and ².
        terminal: for the format `table`: whether the reader is a terminal that shows bold text.

    Raises:
        UserError: there is no such format.
    """
    writers = {"table": _text, "github": _github, "latex": _latex, "html": _html}
    if format not in writers:
        raise unknown("format", format, FORMATS)
    made = page(is_plain(format, terminal))
    return writers[format](made, list(map(writer_of(format, terminal), made.tables)))


def _text(page: Page, tables: Sequence[str]) -> str:
    summary = [line for sentence in page.summary for line in wrapped(sentence, "  ")]
    blocks = ["\n".join(summary), *tables]
    if page.findings:
        lines = [page.heading]
        for number, finding in enumerate(page.findings, start=1):
            lines += wrapped(f"{number}. {finding.sentence}: {finding.verdict}", "   ")
            for sentence in finding.evidence:
                lines += wrapped(sentence, "     ", first="   ")
        blocks.append("\n".join(lines))
    blocks.append("\n".join(line for remark in page.remarks for line in wrapped(remark, "  ")))
    return "\n\n".join(filter(None, blocks)) + "\n"


def _github(page: Page, tables: Sequence[str]) -> str:
    blocks = ["\n".join(f"- {markdown(sentence)}" for sentence in page.summary), *tables]
    if page.findings:
        items = []
        for number, finding in enumerate(page.findings, start=1):
            items.append(f"{number}. {markdown(finding.sentence)}: **{finding.verdict}**")
            items += [f"   - {markdown(sentence)}" for sentence in finding.evidence]
        blocks += [f"**{page.heading}**", "\n".join(items)]
    blocks += [markdown(sentence) for sentence in page.remarks]
    return "\n\n".join(blocks) + "\n"


def _latex(page: Page, tables: Sequence[str]) -> str:
    lines = [rf"{tex(sentence)}.\par" for sentence in page.summary]
    lines += tables
    if page.findings:
        lines += [rf"{page.heading}:", r"\begin{enumerate}"]
        for finding in page.findings:
            evidence = "; ".join(map(tex, finding.evidence))
            sentence = tex(finding.sentence)
            lines.append(rf"\item {sentence}: \textbf{{{finding.verdict}}}. {evidence}.")
        lines.append(r"\end{enumerate}")
    lines += [rf"{tex(sentence)}.\par" for sentence in page.remarks]
    return "\n".join([*lines, ""])


def _html(page: Page, tables: Sequence[str]) -> str:
    lines = [f"{STYLE}<p>{'<br>'.join(map(escape, page.summary))}</p>", *tables]
    if page.findings:
        lines += [f"<p>{escape(page.heading)}</p>", "<ol>"]
        for finding in page.findings:
            evidence = "<br>".join(map(escape, finding.evidence))
            sentence, verdict = escape(finding.sentence), escape(finding.verdict)
            lines.append(f"<li>{sentence}: <b>{verdict}</b><br>{evidence}</li>")
        lines.append("</ol>")
    lines += [f"<p>{escape(sentence)}</p>" for sentence in page.remarks]
    return "\n".join([*lines, ""])
