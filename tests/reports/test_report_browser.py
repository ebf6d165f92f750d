"""The report in a real browser: silent, self-contained, and no wider than the screen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import browser
import pytest

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(browser.chromium() is None, reason="no chromium on this machine"),
]
Report = Callable[[str], str]


def _written(report: Report, kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.html"
    path.write_text(report(kind), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("kind", ["results", "strange_names", "nothing_measured", "partial", "empty", "relations"])
def test_no_errors_no_requests_no_overflow(report: Report, tmp_path: Path, kind: str, width: int) -> None:
    """The console stays empty, nothing but the file is asked for, and the page does not scroll sideways."""
    path = _written(report, kind, tmp_path)
    with browser.opened(path, width) as watched:
        page = watched.page
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelectorAll('svg').length > 0") or kind == "empty"
        assert watched.console == []
        assert watched.requests == [path.resolve().as_uri()]


def test_letters_in_charts_stay_legible_on_a_telephone(report: Report, tmp_path: Path) -> None:
    """At 400 px the smallest letters of a visible chart are at least 9 px high as drawn."""
    with browser.opened(_written(report, "results", tmp_path), 400) as watched:
        sizes = watched.page.evaluate(
            """() => [...document.querySelectorAll('figure svg')]
                .filter(svg => svg.getBoundingClientRect().width > 0)
                .map(svg => 11 * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)"""
        )
        assert sizes and min(sizes) >= 9


def test_pointing_at_a_dot_shows_its_value(report: Report, tmp_path: Path) -> None:
    """The script adds the value under the pointer, as text."""
    with browser.opened(_written(report, "strange_names", tmp_path), 1280) as watched:
        page = watched.page
        dot = page.locator("svg [data-tip]").first
        dot.scroll_into_view_if_needed()
        dot.hover(force=True)
        tip = page.locator("#tip")
        assert tip.is_visible()
        assert tip.inner_text().strip() != ""
        assert tip.locator("*").count() == 0


def test_the_report_works_in_a_sandboxed_frame(report: Report, tmp_path: Path) -> None:
    """In a frame that may only run scripts the page is drawn, its links stay inside, nothing is loaded."""
    path = _written(report, "partial", tmp_path)
    with browser.opened(path, 1280, sandbox=True) as watched:
        frame = watched.page.frame_locator("iframe")
        assert frame.locator("svg").count() > 0
        frame.locator("nav a", has_text="Provenance").click()
        watched.page.wait_for_timeout(100)
        assert frame.locator("h2", has_text="Provenance").is_visible()
        assert [url for url in watched.requests if not url.startswith("about:")] == []
        assert watched.console == []


def test_the_picture_for_the_readme_can_be_taken(report: Report, tmp_path: Path) -> None:
    """The command that takes the picture writes a PNG."""
    picture = browser.picture(_written(report, "partial", tmp_path), tmp_path / "report.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
