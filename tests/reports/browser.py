"""Open a report in a real browser, watch what it does, and take its picture.

python tests/reports/browser.py runs/NAME-HASH/report.html docs/report.png
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@dataclass
class Watched:
    """A page, with what it said and asked for while it was open."""

    page: Any
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def chromium() -> str | None:
    """Find the distribution's browser."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def opened(
    path: Path, width: int, height: int = 900, *, dark: bool = False, sandbox: bool = False
) -> Iterator[Watched]:
    """Open a report; ``sandbox`` puts it into a frame that may only run scripts, as the MLflow UI does."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        try:
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                device_scale_factor=2 if width < 600 else 1,
            )
            watched = Watched(page)
            page.on("console", lambda message: watched.console.append(message.text))
            page.on("pageerror", lambda error: watched.console.append(str(error)))
            page.on("request", lambda request: watched.requests.append(request.url))
            if sandbox:
                page.set_content('<iframe sandbox="allow-scripts" style="width:100%;height:800px;border:0"></iframe>')
                page.eval_on_selector("iframe", "(frame, text) => { frame.srcdoc = text }", path.read_text("utf-8"))
                page.frame_locator("iframe").locator("main").wait_for()
            else:
                page.goto(path.resolve().as_uri())
            yield watched
        finally:
            browser.close()


def picture(report: Path, to: Path, width: int = 1100, height: int = 1400) -> Path:
    """Take the picture of the top of a report, for the README."""
    with opened(report, width, height) as watched:
        watched.page.screenshot(path=str(to))
    return to


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(picture(Path(sys.argv[1]), Path(sys.argv[2])))
