"""Pictures of the page for the documents, of phantoms: ``make screens``.

Runs beside a zoo (``make screens`` starts one), in Debian's Chromium without a window. Writes
``docs/images/page-*.png``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from films import FILMS
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

SIZE = (1280, 800)
"""Width and height of a picture, in px."""

WAIT_S = 120.0
"""Time the networks have for a film on a busy machine, in s."""


class Screens:
    """One browser that takes pictures."""

    def __init__(self, url: str, folder: Path) -> None:
        """Opens the page.

        Args:
            url: Address of the gateway's HTTP port.
            folder: Where pictures go.
        """
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
            options.add_argument(argument)
        self.driver = webdriver.Chrome(
            options=options, service=Service(shutil.which("chromedriver"))
        )
        self.folder = folder
        self.resize(*SIZE)
        self.driver.get(url)

    def resize(self, width: int, height: int) -> None:
        """Makes the page this large, in px."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def js(self, script: str, *arguments: object) -> object:
        """Runs a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> None:
        """Waits until a script says yes."""
        WebDriverWait(self.driver, WAIT_S).until(lambda _: self.js(f"return {script}"))

    def open(self, name: str) -> None:
        """Opens an example film and waits for the fused answer."""
        self.wait("document.querySelector('#phantoms')")
        self.js(
            "const list = document.querySelector('#phantoms'); list.value = arguments[0];"
            "list.dispatchEvent(new Event('change'))",
            name,
        )
        self.wait("document.querySelectorAll('.column .row').length > 5")

    def mode(self, name: str) -> None:
        """Chooses an overlay."""
        self.js("document.querySelector(`button[data-mode=${arguments[0]}]`).click()", name)

    def row(self, name: str) -> None:
        """Chooses the outline of a name."""
        self.js(
            "const rows = [...document.querySelectorAll('.column .row')];"
            "(rows.find(row => row.textContent.includes(arguments[0])) ?? rows[3]).click()",
            name,
        )

    def key(self, name: str, **more: bool) -> None:
        """Presses a key on the film."""
        self.js(
            "document.querySelector('.stage').dispatchEvent(new KeyboardEvent('keydown',"
            "{key: arguments[0], bubbles: true, ...arguments[1]}))",
            name,
            more,
        )

    def take(self, name: str) -> None:
        """Takes a picture."""
        time.sleep(0.8)
        self.driver.save_screenshot(str(self.folder / f"page-{name}.png"))


def answer(screens: Screens) -> None:
    """The fused, named column, one vertebra chosen."""
    screens.open("fusion.dcm")
    screens.row("L3")
    screens.take("answer")


def multiples(screens: Screens) -> None:
    """Every network and the fused answer."""
    screens.mode("all")
    screens.take("all")


def disagreement(screens: Screens) -> None:
    """Where networks disagree."""
    screens.mode("disagreement")
    screens.take("disagreement")


def correction(screens: Screens) -> None:
    """An outline that is corrected, zoomed in, on the light page."""
    screens.js("document.querySelector('#theme').click()")
    screens.mode("correct")
    screens.row("L4")
    for _ in range(3):
        screens.key("+")
    screens.key("ArrowUp")
    for _ in range(2):
        screens.key("n")
    for _ in range(6):
        screens.key("ArrowRight", shiftKey=True)
    screens.take("correct")


STEPS: tuple[Callable[[Screens], None], ...] = (answer, multiples, disagreement, correction)


def main() -> int:
    """Takes all pictures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    port = os.environ.get("SPINEZOO_GATEWAY_HTTP_PORT", "8050")
    parser.add_argument("--url", default=f"http://127.0.0.1:{port}/")
    parser.add_argument("--out", type=Path, default=IMAGES)
    options = parser.parse_args()
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        sys.stderr.write("Chromium is not installed: apt-get install chromium chromium-driver\n")
        return 1
    assert "fusion.dcm" in FILMS
    screens = Screens(options.url, options.out)
    try:
        for step in STEPS:
            step(screens)
    finally:
        screens.driver.quit()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
