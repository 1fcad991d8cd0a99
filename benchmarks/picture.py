"""Takes the README's picture of the report: `python -m benchmarks.picture`, after a run and with Chromium installed."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

REPORT = Path("metrics/report.html")
PICTURE = Path("docs/report.png")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def browser() -> Iterator[Browser]:
    """Starts the machine's Chromium without a window.

    Raises:
        FileNotFoundError: there is none; the message says what to install.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise FileNotFoundError(
            "no Chromium on this machine; install the package `chromium` (apt-get install chromium)"
        )
    # As root, in a container, Chromium has no sandbox to use; it opens nothing but our own page.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


def take(page_file: Path, picture: Path, **options: Any) -> None:
    """Takes a picture of the top of the page, as high as the window, in light colours and without a network."""
    size = {"width": 1100, "height": 1240}
    with browser() as chromium:
        context = chromium.new_context(offline=True, viewport=size, color_scheme="light", **options)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(page_file.absolute().as_uri())
        picture.parent.mkdir(exist_ok=True)
        page.screenshot(path=picture)


if __name__ == "__main__":
    try:
        take(REPORT, PICTURE)
    except FileNotFoundError as error:
        sys.exit(f"picture: {error}")
