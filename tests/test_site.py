"""The documentation site: it builds without a warning, its links hold, and it fetches nothing."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import mtlbench
from mtlbench.cli.main import VERBS
from mtlbench.strategies.base import strategies
from mtlbench.suites.base import suites

pytest.importorskip("material", reason="mkdocs-material is not installed: pip install '.[docs]'")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install '.[docs]'")

ROOT = Path(__file__).parent.parent
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
"""Tags whose address a browser fetches by itself."""

VERBATIM = ("code", "pre", "script", "style")


class Page(HTMLParser):
    """The ids of a page, where its links go, what it loads, and its text but for code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self._text: list[str] = []
        self._verbatim = 0
        self.feed(text)
        self.text = "".join(self._text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attributes if value is not None}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        self.links += [values[name] for name in ("href", "src") if name in values]
        if LOADED.get(tag) in values:
            self.loads.append(values[LOADED[tag]])
        self._verbatim += tag in VERBATIM

    def handle_endtag(self, tag: str) -> None:
        self._verbatim -= tag in VERBATIM

    def handle_data(self, data: str) -> None:
        if not self._verbatim:
            self._text.append(data)


@cache
def read(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    built = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(built)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    return built


def test_every_link_inside_the_site_leads_to_a_place_that_is_there(site: Path) -> None:
    broken = []
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        for link in read(page).links:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            path = unquote(address.path)
            # The page for addresses that are not there may be shown in any folder.
            target = site / path[1:] if path.startswith("/") else page.parent / path
            target = target / "index.html" if target.is_dir() and path else target
            target = target if path else page
            if not target.is_file() or (
                address.fragment
                and target.suffix == ".html"
                and unquote(address.fragment) not in read(target.resolve()).ids
            ):
                broken.append((str(page.relative_to(site)), link))
    assert len(pages) > 30
    assert broken == []


def test_no_page_shows_marks_of_markdown(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = read(page).text
        assert re.findall(r".*(?:\*\*|\]\(|`|--8<--|\S - \*|\\[_\[]).*", text) == [], page.name


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert [each for each in read(page).loads if urlsplit(each).netloc] == []
    for style in site.rglob("*.css"):
        text = style.read_text("utf-8")
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']*", text) == []


def test_every_public_name_is_described(site: Path) -> None:
    ids = set().union(*(read(page).ids for page in (site / "api").glob("*.html")))
    assert {f"mtlbench.{name}" for name in mtlbench.__all__} <= ids


def test_every_strategy_suite_and_command_has_a_place_of_its_own(site: Path) -> None:
    for page, names in {
        "strategies.html": [entry.name for entry in strategies.entries()],
        "suites.html": [entry.name for entry in suites.entries() if entry.of_package],
        "command-line.html": list(VERBS),
    }.items():
        assert set(names) <= read(site / page).ids


def test_every_option_stands_on_the_page_of_the_command_line(site: Path) -> None:
    text = (site / "command-line.html").read_text("utf-8")
    formats = "--format {table,github,latex,html,csv,json}"
    for option in ("--halving", "--gpus-per-run G", formats, "SUITE"):
        assert f"<code>{option}</code>" in text


def test_the_leaderboard_is_the_report_of_the_reference_results(site: Path) -> None:
    assert "reference.html" in read(site / "leaderboard.html").loads
    report = (site / "reference.html").read_text("utf-8")
    assert '<table class="sortable board" id="board">' in report
    assert 'data-label="ILT Params"' in report


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium among the system's packages")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


def test_a_phone_shows_every_page_without_scrolling_sideways(site: Path, browser: Any) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 800})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    wide = []
    for path in sorted(site.rglob("*.html")):
        page.goto(path.as_uri())
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 400:
            wide.append((path.name, width))
    context.close()
    assert wide == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
