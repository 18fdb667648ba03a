"""The HTML report in Chromium, as the system's packages have it: what it does when it is used."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from analysis.synthetic_runs import metric, study, write_run

from mtlbench.analysis.report import write_report
from mtlbench.store.schema import DIVERGED

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium among the system's packages")

HOSTILE = "<img src=x onerror=alert(1)>"
PHONE = {"width": 400, "height": 800}
ROWS = "#board tbody:not([hidden]) tr:not([hidden])"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two suites; one strategy with a hostile name, one that diverged."""
    root = tmp_path_factory.mktemp("report")
    results = root / "runs"
    study(results, strategies=("equal", "mtu", "gls", "ilt"), seeds=3, epochs=6, instances=60)
    for seed in range(3):
        write_run(results, metric(40.0 + seed), metric(30.0, "abs_err", "depth", direction="min"),
                  strategy=HOSTILE, seed=seed)  # fmt: skip
        for strategy in ("equal", "ilt"):
            write_run(results, metric(80.0), suite="roads", strategy=strategy, seed=seed)
    write_run(results, strategy="dwa", status=DIVERGED)
    return write_report(results, root / "report.html", title="A study")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


class Visit:
    """The page as opened once, with everything that went wrong on the way.

    Attributes:
        page: the browser's.
        problems: errors, messages on the console, dialogs.
        requests: addresses that were asked for beside the page's own.
    """

    def __init__(self, browser: Any, report: Path, **context: Any) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self._request(request.url, report.as_uri()))
        self.page.goto(report.as_uri())

    def _dialog(self, dialog: Any) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, address: str, own: str) -> None:
        if address != own and not address.startswith("data:"):
            self.requests.append(address)

    def names(self) -> list[str]:
        """The strategies of the leaderboard, as they are shown."""
        return self.page.locator(f"{ROWS} .who").evaluate_all(
            "cells => cells.map(cell => cell.firstChild.textContent.trim())"
        )

    def value(self, name: str) -> str:
        return str(self.page.locator(f"#filters [name={name}]").input_value())

    def choose(self, **choice: str) -> None:
        for name, value in choice.items():
            self.page.locator(f"#filters [name={name}]").select_option(value)


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Visit]:
    visit = Visit(browser, report)
    yield visit
    assert not visit.problems
    assert not visit.requests
    visit.context.close()


def test_the_page_loads_without_errors_and_asks_for_nothing(visit):
    assert visit.page.title() == "A study"
    assert visit.page.locator("section").count() == 5
    visit.page.wait_for_load_state("networkidle")


def test_names_of_strategies_are_text(visit):
    assert visit.page.locator("main img:not([src^='data:'])").count() == 0
    assert visit.page.locator("th", has_text=HOSTILE).first.is_visible()
    visit.choose(suite="streets", variant="clean")
    assert HOSTILE in visit.names()


@pytest.mark.parametrize("key", [None, "Enter", "Space"])
def test_columns_are_sorted_by_a_click_or_a_key(visit, key):
    visit.choose(suite="streets", variant="depth@0.4")
    header = visit.page.locator("#board thead th", has_text="Δm")
    button = header.locator("button")

    def press() -> list[float]:
        button.focus()
        button.press(key) if key else button.click()
        values = visit.page.locator(f"{ROWS} td:nth-child(3)").evaluate_all(
            "cells => cells.map(cell => cell.dataset.v)"
        )
        return [float(value) for value in values if value]

    falling = press()
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) > 2
    assert header.get_attribute("aria-sort") == "descending"
    assert press() == falling[::-1]
    assert header.get_attribute("aria-sort") == "ascending"
    assert visit.page.locator("#board [aria-sort]").count() == 1


def test_names_are_sorted_too_and_incomplete_strategies_stay_last_by_number(visit):
    visit.choose(suite="streets", variant="clean")
    visit.page.locator("#board thead button", has_text="Strategy").click()
    names = visit.names()
    assert names == sorted(names, key=str.casefold)
    visit.page.locator("#board thead button", has_text="Mean rank").click()
    assert visit.names()[-1] == "DWA"


def test_filters_change_the_rows(visit):
    everything, variant = visit.names(), visit.value("variant")
    visit.choose(suite="roads")
    assert set(visit.names()) == {"Eq. Weight", "ILT Params"}
    visit.choose(suite="streets", variant="depth@0.4")
    assert set(visit.names()) == {"Eq. Weight", "MTU", "GLS", "ILT Params"}
    visit.choose(variant="", stage="instance")
    assert set(visit.names()) == {"Eq. Weight", "ILT Params"}
    visit.choose(suite="", variant=variant, stage="")
    assert visit.names() == everything


def test_a_choice_that_there_is_not_cannot_be_made(visit):
    visit.choose(suite="streets", variant="depth@0.4")
    visit.choose(suite="roads")  # which has no such variant
    assert visit.page.locator("#filters [name=variant]").input_value() == ""
    option = visit.page.locator("#filters [name=variant] option[value='depth@0.4']")
    assert option.is_disabled()
    assert visit.names()


def test_search_keeps_the_strategies_that_contain_the_text(visit):
    visit.choose(suite="streets", variant="clean")
    search = visit.page.get_by_label("Search")
    search.fill("PARAMS")
    assert visit.names() == ["ILT Params"]
    assert visit.page.locator("#count").inner_text() == "1 of 6 strategies"
    search.fill("<img")
    assert visit.names() == [HOSTILE]
    search.fill("no such strategy")
    assert visit.names() == []
    search.fill("")
    assert len(visit.names()) == 6


def test_a_suite_shows_one_variant_at_a_time_or_all(visit):
    suite = visit.page.locator(
        "section.suite", has=visit.page.get_by_role("heading", name="streets")
    )
    shown = suite.locator(".variant:visible h3")
    assert shown.all_inner_texts() == ["clean"]
    suite.get_by_text("depth@0.4", exact=True).first.click()
    assert shown.all_inner_texts() == ["depth@0.4"]
    suite.get_by_role("radio", name="all", exact=True).check(force=True)
    assert shown.all_inner_texts() == ["clean", "depth@0.4"]


def test_charts_tell_their_values_to_mouse_and_keyboard(visit):
    page, tip = visit.page, visit.page.locator("#tip")
    dots = page.locator("svg[data-kind=dots]:visible").first
    dots.locator(".mark", has_text="ILT Params").hover()
    assert tip.inner_text().startswith("ILT Params: ")
    assert tip.inner_text().endswith("(3 runs)")
    page.mouse.move(2, 2)
    assert tip.is_hidden()

    curves = page.locator("svg[data-kind=curves]:visible").first
    curves.focus()
    page.keyboard.press("ArrowLeft")
    first = tip.inner_text()
    page.keyboard.press("ArrowLeft")
    assert first.endswith("at epoch 5") or first.endswith("at epoch 6")
    assert tip.inner_text() != first
    page.keyboard.press("ArrowUp")
    assert tip.inner_text().partition(":")[0] != first.partition(":")[0]
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_the_nearest_curve_answers_the_mouse_with_its_value(visit):
    chart = visit.page.locator("svg[data-kind=curves]:visible").first
    chart.scroll_into_view_if_needed()
    series = chart.locator(".series").last
    wanted = series.get_attribute("data-y").split()[-1]
    place = series.evaluate(
        """one => {
          const line = one.querySelector(".line");
          const end = line.getPointAtLength(line.getTotalLength());
          const at = new DOMPoint(end.x, end.y).matrixTransform(line.getScreenCTM());
          return [at.x, at.y];
        }"""
    )
    visit.page.mouse.move(*place)
    label = series.get_attribute("data-label")
    assert visit.page.locator("#tip").inner_text().startswith(f"{label}: {wanted}")


def test_the_legend_makes_a_strategy_stand_out_until_pressed_again(visit):
    button = visit.page.locator(".legend:visible button", has_text="ILT Params").last
    button.focus()
    visit.page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert visit.page.locator(".series.hot").count() > 0
    visit.page.keyboard.press("Enter")
    assert visit.page.locator(".series.hot").count() == 0


def test_every_control_can_be_reached_by_keyboard(visit):
    reached = set()
    for _ in range(120):
        visit.page.keyboard.press("Tab")
        reached.add(visit.page.evaluate(
            "document.activeElement.name || document.activeElement.textContent.trim().slice(0, 20)"
        ))  # fmt: skip
    assert {"suite", "variant", "stage", "search", "Mean rank", "Δm (%)", "Copy"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(browser, report, scheme, tmp_path):
    visit = Visit(browser, report, viewport=PHONE, color_scheme=scheme, device_scale_factor=2)
    width = "document.documentElement.scrollWidth"
    assert visit.page.evaluate(width) <= PHONE["width"]
    visit.page.get_by_role("radio", name="all", exact=True).first.check(force=True)
    assert visit.page.evaluate(width) <= PHONE["width"]
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    assert (visit.page.evaluate(brightness) < 64) == (scheme == "dark")
    # A place for people who want to look.
    folder = Path(os.environ.get("MTLBENCH_SCREENSHOTS", tmp_path))
    visit.page.screenshot(path=folder / f"report-400-{scheme}.png", full_page=True)
    assert not visit.problems
    visit.context.close()


def test_on_paper_everything_is_there_and_light(browser, report):
    visit = Visit(browser, report, color_scheme="dark")
    visit.page.get_by_label("Search").fill("ilt")
    visit.page.emulate_media(media="print")
    assert visit.page.locator(".variant:visible").count() == 3
    assert len(visit.page.locator("#board tbody:not([hidden]) tr:visible").all()) > 1
    assert not visit.page.locator("nav").is_visible()
    assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    assert visit.page.pdf()[:4] == b"%PDF"
    visit.context.close()


def test_without_script_all_tables_are_there(browser, report):
    visit = Visit(browser, report, java_script_enabled=False)
    assert visit.page.locator(".variant:visible").count() == 3
    assert visit.page.locator("#board tbody:not([hidden]) tr").count() > 1
    assert not visit.page.locator("#filters").is_visible()
    assert not visit.problems
    visit.context.close()
