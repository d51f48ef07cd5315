"""A report in a real browser: Debian's Chromium, without a window."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conversion.parity.metrics import Distance
from conversion.parity.verdict import PointVerdict, Verdict
from conversion.report.records import Record, Result, gather
from conversion.report.render import write_report
from tests.support.reports import draw
from tests.support.verified import fail, pick

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")

PATIENCE = 120_000
"""Milliseconds: other tests run beside."""

UNMARKED = """[...document.querySelectorAll("*")].filter((part) => {
  const style = getComputedStyle(part);
  const isCut = part.scrollWidth > part.clientWidth + 1 && style.overflowX !== "visible" && style.display !== "inline";
  const hint = part.nextElementSibling;
  const isShown = part.clientWidth && hint?.className === "scrolls-hint" && hint.checkVisibility()
    && hint.textContent.includes("Scroll sideways for more columns");
  return part.checkVisibility() && isCut && !isShown;
}).map((part) => part.outerHTML.slice(0, 200))"""
"""What is wider than its place and does not say that it scrolls."""

OPEN_ALL = "for (const part of document.querySelectorAll('details')) part.open = true"
SETTLED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"

WIDTHS, SCHEMES = (1280, 390), ("light", "dark")


@pytest.fixture(scope="module")
def report(made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three models that passed, one with pictures, and one that did not come to a comparison."""
    from conversion.report import pictures

    first, *others = gather(made.values()).results
    tokens = draw(4, 4, 8)
    shown = (pictures.show_components(tokens, tokens + 0.01), pictures.show_classes(draw(9), draw(9), {0: "cat"}))
    crashed = Result("dinov2_vits14", "cpu", "float32", "sdpa", "official weights", message="worker 'gw0' crashed")
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(Record(("pytest -n 2",), (replace(first, pictures=shown, seconds=1.5), *others, crashed)), path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    # for root, and where there is little shared memory: in a container
    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=PATIENCE)
        except playwright.Error as error:
            pytest.skip(f"{CHROMIUM} does not start here: {error}")
        yield browser
        browser.close()


def show_all(page: Any) -> None:
    """Open all that can be opened, and wait until it is drawn."""
    page.evaluate(OPEN_ALL)
    page.evaluate(SETTLED)


class Visit:
    """A page, and what it complained of or asked for."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page = page
        self.noise: list[str] = []
        page.on("console", lambda message: self.noise.append(message.text))
        page.on("pageerror", lambda error: self.noise.append(str(error)))
        page.on("request", lambda request: self._note(request.url))
        page.goto(path.as_uri())

    def _note(self, address: str) -> None:
        if not address.startswith(("file:", "data:")):
            self.noise.append(address)

    def column(self, index: int) -> list[str]:
        """Of the matrix: what is shown in one column."""
        cells = self.page.locator(f"#matrix-table tbody tr:visible > :nth-child({index})").all()
        return [cell.inner_text().split("\n")[0] for cell in cells]


@pytest.fixture
def visit(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Visit]:
    width, scheme = getattr(request, "param", (1280, "light"))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    visit = Visit(context.new_page(), report)
    yield visit
    context.close()
    assert visit.noise == []


@pytest.mark.parametrize("visit", [(w, s) for w in WIDTHS for s in SCHEMES], ids=str, indirect=True)
def test_it_opens_from_a_file_at_any_width_in_light_and_dark(visit: Visit) -> None:
    page = visit.page
    assert "1 of 4 models failed: worker 'gw0' crashed" in page.inner_text("header")
    dark, light = ("rgb(20, 23, 26)", "rgb(251, 251, 250)")
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (dark if is_dark else light)
    show_all(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # tables scroll within themselves
    assert page.evaluate(UNMARKED) == []
    assert page.locator("figure svg:visible").count() > 0
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


@pytest.mark.parametrize("visit", [(w, s) for w in WIDTHS for s in SCHEMES], ids=str, indirect=True)
def test_it_is_accessible(visit: Visit) -> None:
    """By axe: names, roles, headings, contrast, in either scheme, with all opened."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    show_all(visit.page)
    found = axe.Axe().run(visit.page)
    assert found.violations_count == 0, found.generate_report()


def test_a_column_sorts_up_down_and_back(visit: Visit) -> None:
    header = visit.page.locator("#matrix-table thead th").nth(1)
    before = visit.column(2)
    assert before == ["✗ failed", "≈ close", "≈ close", "≈ close"]
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert visit.column(2) == ["≈ close", "≈ close", "≈ close", "✗ failed"]
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert visit.column(2)[0] == "✗ failed"
    header.get_by_role("button").click()
    assert visit.column(2) == before


def test_a_column_sorts_by_keyboard(visit: Visit) -> None:
    visit.page.locator("#matrix-table thead button").first.focus()
    visit.page.keyboard.press("Enter")
    assert visit.column(1) == sorted(visit.column(1))
    assert visit.page.locator("#matrix-table thead th").first.get_attribute("aria-sort") == "ascending"


def test_figures_sort_as_numbers(visit: Visit) -> None:
    show_all(visit.page)
    cell = visit.page.locator("details.cell", has=visit.page.locator("summary > .badge.close")).first
    table = cell.locator("table.sortable")
    table.get_by_role("button", name="max difference").click()
    texts = [cell.inner_text() for cell in table.locator("tbody tr > :nth-child(4)").all()]
    sizes = [float(text) for text in texts if text]
    assert len(sizes) > 3
    assert sizes == sorted(sizes)
    assert texts[: len(texts) - len(sizes)] == [""] * (len(texts) - len(sizes))  # exact ones come first


def test_the_filters_hide_rows_and_models(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("searchbox").fill("vits14 dinov2")
    assert visit.column(1) == ["dinov2_vits14"]
    assert page.inner_text("#shown") == "1 of 4 models"
    assert page.locator("details.model:visible").count() == 1
    page.get_by_role("searchbox").fill("")
    page.get_by_label("failed", exact=True).uncheck()
    assert page.inner_text("#shown") == "3 of 4 models"
    assert "✗ failed" not in visit.column(2)
    page.get_by_role("searchbox").press("Enter")  # sends no form
    assert page.inner_text("#shown") == "3 of 4 models"


def test_a_cell_of_the_matrix_opens_its_part_and_takes_the_focus_there(visit: Visit) -> None:
    page = visit.page
    link = page.locator("a.cell.close").first
    link.click()
    target = page.locator(link.get_attribute("href"))
    assert target.evaluate("part => part.open && part.parentElement.closest('details').open")
    assert target.locator("summary").first.evaluate("part => part === document.activeElement")
    target.locator("summary").first.click()
    link.click()  # again, with the address unchanged
    assert target.evaluate("part => part.open")


def test_what_failed_says_why_without_a_click_too_many(visit: Visit) -> None:
    visit.page.locator("a.cell.failed").click()
    assert visit.page.locator("pre.message").get_by_text("worker 'gw0' crashed").is_visible()


@pytest.mark.parametrize("visit", [(390, "light")], ids=str, indirect=True)
def test_a_narrow_screen_shows_verdict_and_cause_of_each_model(visit: Visit) -> None:
    page = visit.page
    for row in page.locator("#matrix-table tbody tr").all():
        for part in (row.locator("td .badge").first, row.locator("td.short")):
            box = part.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
    cell = page.locator("a.cell.failed").locator("xpath=..")
    assert cell.evaluate("part => getComputedStyle(part, '::before').content") == '"cpu float32 sdpa"'


@pytest.mark.parametrize("width", WIDTHS)
def test_the_answer_to_one_model_is_on_the_first_screen(
    browser: Any, gathered: Record, width: int, tmp_path: Path
) -> None:
    passed = [result for result in gathered.results if result.origin == gathered.results[0].origin]
    off = PointVerdict("block.0.norm1", Verdict.FAILED, Distance(2e-5, 3e-6), reason="RMS error 3e-06 exceeds 8e-07")
    failed = [fail(result, off, "not the same\n  explained  by layer norm eps 1e-05") for result in passed]
    for results, text in ((passed, "What to do"), (failed, "layer norm eps 1e-05")):
        write_report(Record((), tuple(results)), tmp_path / "one.html")
        page = browser.new_context(viewport={"width": width, "height": 844}).new_page()
        page.goto((tmp_path / "one.html").as_uri())
        box = page.get_by_text(text).first.bounding_box()
        assert 0 < box["y"] < 600
        assert page.locator(".filters, #matrix-table").count() == 0
        show_all(page)
        assert page.evaluate(UNMARKED) == []
        page.context.close()


def test_a_reason_takes_few_lines(browser: Any, gathered: Record, tmp_path: Path) -> None:
    """It stood in a narrow column, a word a line."""
    off = PointVerdict("block.0.norm1", Verdict.FAILED, Distance(2e-5, 3e-6), reason="word " * 40)
    write_report(Record((), (fail(pick(gathered, "sdpa"), off),)), tmp_path / "one.html")
    page = browser.new_context(viewport={"width": 390, "height": 844}).new_page()
    page.goto((tmp_path / "one.html").as_uri())
    show_all(page)
    assert page.locator(".points tbody tr").first.bounding_box()["height"] < 200
    page.context.close()


def test_all_of_it_is_printed(visit: Visit) -> None:
    page = visit.page
    closed = page.locator("details:not([open])").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert not page.locator(".filters").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == closed > 3


def test_it_can_be_read_without_its_script(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    page.locator("details.model > summary").nth(1).click()
    assert page.locator("details.model[open] table").count() > 0
    context.close()
