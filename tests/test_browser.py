"""The report in a real browser, with the network off: no error, no request, every figure, and a filter that works."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from benchmarks import picture
from stages.report.report import ReportParams, report
from tests.made_run import NUMBERS, SETS, make_run
from tests.test_report import HOSTILE
from tests.tiny import EXECUTION

pytestmark = pytest.mark.exhaustive

KINDS = {
    "pairs": {"examples": 300, "warnings": ["validation chose the epoch"]},
    "hostile": {"examples": 300, "names": ["<b>no</b>", "\u05db\u05df"], "texts": HOSTILE * 60},
    "twenty": {"examples": 300, "names": [f"intent number {i}" for i in range(20)], "pairs": False},
    "numbers": {"problem": NUMBERS},
    "sets": {"problem": SETS, "names": ["a", "b", "c"], "scored": ["validation", "test"], "others": []},
}


@pytest.fixture(params=[(kind, scheme) for kind in KINDS for scheme in ("light", "dark")], ids="-".join)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str, Page, list[str]]]:
    """Yields the kind of run, the colour scheme, the page, and what the browser complained of or asked for."""
    kind, scheme = request.param
    file = tmp_path / "report.html"
    report(ReportParams(errors=50, slice_columns=None), EXECUTION, make_run(tmp_path, **KINDS[kind]))
    with picture.browser() as chromium:
        page = chromium.new_context(
            offline=True, color_scheme=scheme, viewport={"width": 1200, "height": 900}
        ).new_page()
        seen: list[str] = []
        page.on("console", lambda message: seen.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: seen.append(f"dialog: {dialog.message}"))
        page.on("request", lambda asked: None if asked.url == file.as_uri() else seen.append(f"request: {asked.url}"))
        page.goto(file.as_uri())
        yield kind, scheme, page, seen


def test_the_page_opens_without_network_error_or_request(opened: tuple[str, str, Page, list[str]]) -> None:
    kind, scheme, page, seen = opened
    assert page.locator("section").count() == 7
    for figure in page.locator("figure svg").all():
        box = figure.bounding_box()
        assert box is not None and box["width"] > 200 and box["height"] > 100
    wanted = {"pairs": 6, "hostile": 6, "twenty": 6, "numbers": 4, "sets": 10}
    assert page.locator("figure svg").count() == wanted[kind]
    assert page.locator("table.matrix").count() == (kind in ("pairs", "hostile", "twenty"))
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ink = page.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
    assert [sum(map(int, colour[4:-1].split(","))) > 380 for colour in (background, ink)] == [
        scheme == "light",
        scheme == "dark",
    ]
    for width in (1200, 390):  # nothing sticks out of the window: what is wide scrolls in its own box
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert len(page.screenshot(full_page=True)) > 10_000
    assert page.pdf().startswith(b"%PDF")
    assert seen == []


@pytest.mark.parametrize("opened", [("pairs", "light")], indirect=True, ids="-".join)
def test_mistakes_can_be_searched_filtered_and_sorted(opened: tuple[str, str, Page, list[str]]) -> None:
    _, _, page, seen = opened
    rows = page.locator(".mistakes tbody tr")
    visible = page.locator(".mistakes tbody tr:not([hidden])")
    total = rows.count()
    texts = [text.lower() for text in page.locator(".mistakes .texts").all_inner_texts()]

    page.get_by_role("searchbox", name="Search").fill("NINE three")
    expected = sum("nine" in text and "three" in text for text in texts)
    assert 0 < visible.count() == expected < total
    assert page.locator("output").inner_text() == f"{expected} of {total} shown"
    page.get_by_role("searchbox", name="Search").fill("")
    page.locator("select[data-column=actual]").select_option("yes")
    assert 0 < visible.count() < total
    assert set(page.locator(".mistakes tr:not([hidden]) [data-column=actual]").all_inner_texts()) == {"yes"}
    page.locator("select[data-column=predicted]").select_option("yes")
    assert visible.count() == 0
    page.locator("select[data-column=actual]").select_option("")
    page.locator("select[data-column=predicted]").select_option("")
    assert visible.count() == total

    numbers = page.locator(".mistakes td:last-child")
    page.get_by_role("button", name="Row").click()
    ascending = list(map(int, numbers.all_inner_texts()))
    assert ascending == sorted(ascending)
    page.get_by_role("button", name="Row").press("Enter")
    assert list(map(int, numbers.all_inner_texts())) == ascending[::-1]
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Row")
    assert seen == []


def test_the_test_can_fail(tmp_path: Path) -> None:
    """A page that asks for something, or whose script is not ours, is noticed."""
    file = tmp_path / "report.html"
    report(ReportParams(errors=5, slice_columns=None), EXECUTION, make_run(tmp_path))
    foreign = '<img src="https://example.org/x.png"><script>console.log("foreign")</script></main>'
    file.write_text(file.read_text("utf-8").replace("</main>", foreign), encoding="utf-8")
    with picture.browser() as chromium:
        page = chromium.new_context(offline=True).new_page()
        seen: list[str] = []
        page.on("console", lambda message: seen.append(message.text))
        page.goto(file.as_uri())
    assert len(seen) == 2 and all("Content Security Policy" in line for line in seen)


def test_the_readmes_picture_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    report(ReportParams(errors=5, slice_columns=None), EXECUTION, make_run(tmp_path))
    picture.take(file, tmp_path / "docs" / "report.png")
    assert (tmp_path / "docs" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_without_chromium_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(FileNotFoundError, match="install the package `chromium`"), picture.browser():
        pass
