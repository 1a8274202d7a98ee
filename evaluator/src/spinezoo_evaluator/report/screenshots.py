"""``python -m spinezoo_evaluator.report.screenshots reports/phantom-test``: pictures for the docs.

Opens the report's page in headless Chromium and writes what a reader sees of it to
``docs/images/``. Only pages of phantoms are taken: pictures of other films are not for the project.
Needs Debian's ``chromium`` and ``chromium-driver``, and the ``dev`` extra. Ends with 0, or with 2
and says why.
"""

# ruff: noqa: T201 - a command: its messages go to the terminal.
from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_contract.output import end_with_reader

from spinezoo_evaluator.report.page.render import PAGE_FILE
from spinezoo_evaluator.results.records import RunFolder

SHOTS: dict[str, tuple[str, int, int, bool]] = {
    "report.png": ("", 1280, 1180, False),
    "report_films.png": ("films", 1280, 1330, True),
}
"""What is taken: by file the place on the page, width and height in pixels, and whether dark."""


def open_chromium() -> Any:
    """A headless Chromium under a driver.

    Raises:
        ConfigurationError: Chromium, its driver or Selenium is not there.
    """
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        raise ConfigurationError("there is no Chromium; apt-get install chromium chromium-driver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service
    except ImportError as error:
        raise ConfigurationError("Selenium is missing; run make setup") from error
    options = Options()
    options.binary_location = binary
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    return webdriver.Chrome(options=options, service=Service(driver))


def take(page: Path, out: Path) -> list[Path]:
    """Writes every picture of :data:`SHOTS`; returns their paths.

    Args:
        page: The report's page.
        out: Folder of the pictures.

    Raises:
        ConfigurationError: There is no browser to take them with.
    """
    driver = open_chromium()
    written = []
    try:
        for name, (place, width, height, dark) in SHOTS.items():
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            driver.get(page.resolve().as_uri())
            if place:
                driver.execute_script(
                    "document.getElementById(arguments[0]).scrollIntoView()", place
                )
            # Two frames on, what has come into view is drawn.
            driver.execute_async_script(
                "requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))"
            )
            picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
            out.mkdir(parents=True, exist_ok=True)
            picture.save(out / name, optimize=True)
            written.append(out / name)
    finally:
        driver.quit()
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_evaluator.report.screenshots",
        description="Pictures of a report's page, for the documentation.",
    )
    parser.add_argument("report", type=Path, help="folder of a report on phantoms")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/images"), help="default: %(default)s"
    )
    arguments = parser.parse_args(argv)
    try:
        report = RunFolder(arguments.report).read_report()
        if not report.get("run", {}).get("data", {}).get("phantom"):
            raise ConfigurationError("the report is not of phantoms; its films are not to be shown")
        page = arguments.report / PAGE_FILE
        if not page.is_file():
            raise ConfigurationError(f"there is no {PAGE_FILE}; write it with make report")
        written = take(page, arguments.out)
    except SpineZooError as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(path.as_posix())
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
