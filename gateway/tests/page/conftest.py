"""Debian's Chromium, without a window, before a real gateway whose members know the phantoms."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import films
import pytest
from bench import NAMES, Bench
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select
from spinezoo_phantom.records import PhantomFilm
from spinezoo_testing.servers import Loop, until
from truth_member import TruthMember

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

WAIT_S = 60.0
"""Time that the page has for anything, in s: the machine may have other work."""


@pytest.fixture(scope="session")
def phantoms() -> dict[str, PhantomFilm]:
    """The example films at half their size: small enough to be quick."""
    return {name: films.film_of(name, small=True) for name in films.FILMS}


@pytest.fixture(scope="session")
def folder(phantoms: dict[str, PhantomFilm], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The films as files, those of other kinds, and downloads."""
    made = tmp_path_factory.mktemp("page")
    for name, film in phantoms.items():
        films.write(name, made / name, film)
    return made


@pytest.fixture(scope="session")
def driver(folder: Path) -> Iterator[webdriver.Chrome]:
    """One browser for all tests."""
    if not CHROMIUM or not DRIVER:
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--force-device-scale-factor=1",
        "--window-size=1280,900",
        "--ignore-certificate-errors",
    ):
        options.add_argument(argument)
    options.add_experimental_option(
        "prefs",
        {
            "download.default_directory": str(folder / "downloads"),
            "profile.default_content_setting_values.automatic_downloads": 1,
        },
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(DRIVER))
    made.set_script_timeout(60)
    yield made
    made.quit()


class Browser:
    """A page in the browser, as a person uses it."""

    def __init__(self, driver: webdriver.Chrome, url: str, folder: Path) -> None:
        self.driver = driver
        self.url = url
        self.folder = folder
        # The tests themselves read pixels back. Where somebody makes a network on this machine,
        # as Docker does, the browser breaks off what is under way; the page asks again.
        self.expected: list[str] = ["willReadFrequently", "ERR_NETWORK_CHANGED"]
        self.hosts: set[str] = set()

    def size(self, width: int, height: int) -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def load(self) -> None:
        self.size(1280, 860)
        for _ in range(4):
            with contextlib.suppress(WebDriverException):
                self.driver.get(f"{self.url}/")
            if until(lambda: self.quietly(self.ready), WAIT_S / 4):
                return
        raise AssertionError(f"the page did not come: {self.text('body')}")

    def ready(self) -> bool:
        return bool(self.all("#app[data-ready]") or self.all("dialog[open]"))

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any], what: str = "") -> None:
        assert until(lambda: bool(self.quietly(condition)), WAIT_S), what or self.text("body")

    @staticmethod
    def quietly(condition: Callable[[], Any]) -> Any:
        """The page may be drawing anew just now."""
        try:
            return condition()
        except Exception:
            return False

    def text(self, css: str) -> str:
        return self.js("return document.querySelector(arguments[0])?.innerText ?? ''", css)

    def texts(self, css: str) -> list[str]:
        return self.js(
            "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)", css
        )

    def count(self, css: str) -> int:
        return int(self.js("return document.querySelectorAll(arguments[0]).length", css))

    def click(self, css: str) -> None:
        self.one(css).click()

    def choose(self, css: str, value: str) -> None:
        Select(self.one(css)).select_by_value(value)

    def key(self, name: str, *, shift: bool = False, alt: bool = False, ctrl: bool = False) -> None:
        """A key on the film."""
        self.js(
            "document.querySelector('.stage').dispatchEvent(new KeyboardEvent('keydown', {"
            "key: arguments[0], shiftKey: arguments[1], altKey: arguments[2],"
            "ctrlKey: arguments[3], bubbles: true, cancelable: true}))",
            name, shift, alt, ctrl,
        )  # fmt: skip

    def open(self, name: str | Path) -> None:
        self.one("#film-file").send_keys(str(self.folder / name))

    def example(self, name: str) -> None:
        """Chooses an example film, also while a dialog of the browser would come of it."""
        self.js(
            "const list = document.querySelector('#phantoms'); list.value = arguments[0];"
            "list.dispatchEvent(new Event('change'))",
            name,
        )

    def answered(self, name: str | Path) -> None:
        """Opens a film and waits for its fused answer."""
        self.load()
        self.open(name)
        self.wait(lambda: self.count(".column .row") > 5, "no fused answer")

    def drop(self, name: str) -> None:
        """Drops a file on the page, as from a file manager."""
        field = self.driver.execute_script(
            "const f = document.createElement('input'); f.type = 'file'; f.id = 'drop-file';"
            "document.body.append(f); return f;"
        )
        field.send_keys(str(self.folder / name))
        self.js(
            "const t = new DataTransfer(); t.items.add(arguments[0].files[0]);"
            "document.querySelector('.stage').dispatchEvent(new DragEvent('drop',"
            "{dataTransfer: t, bubbles: true, cancelable: true})); arguments[0].remove();",
            field,
        )

    def notice(self, name: str) -> str:
        self.wait(lambda: self.count(f"[data-notice='{name}'] p"), f"no notice {name}")
        return str(self.texts(f"[data-notice='{name}'] p")[0])

    def saved(self, form: str, ending: str) -> Path:
        """Saves outlines and gives the file."""
        for old in (self.folder / "downloads").glob("*"):
            old.unlink()
        self.click(f"[data-save={form}]")

        def found() -> list[Path]:
            fresh = (self.folder / "downloads").glob(f"*{ending}")
            return [path for path in fresh if path.stat().st_size]

        self.wait(found, f"no file {ending}")
        return found()[0]

    def pixels(self) -> list[int]:
        """A row of grey levels of the first picture."""
        return self.js(
            "const c = document.querySelector('.pane canvas');"
            "return [...c.getContext('2d').getImageData(0, c.height / 2, c.width, 1).data]"
            ".filter((_, i) => i % 4 === 0)"
        )

    def drawn(self) -> None:
        """Waits for the next two frames."""
        self.driver.execute_async_script(
            "requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))"
        )

    def check(self) -> None:
        """No error on the console but those that a test expects, no request to another host."""
        wrong = [
            line["message"]
            for line in self.driver.get_log("browser")
            if line["level"] in ("SEVERE", "WARNING")
            and not any(part in line["message"] for part in self.expected)
        ]
        assert not wrong
        own = self.url.split("//")[1]
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked = message["params"]["request"]["url"]
                if asked.startswith(("http:", "https:", "ws:", "wss:")):
                    assert asked.split("/")[2] == own, asked


@pytest.fixture(scope="session")
def page_loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def zoo(page_loop: Loop, tmp_path: Path, phantoms: dict[str, PhantomFilm]) -> Iterator[Bench]:
    """A gateway's bench with five members that know the phantoms; a test starts the gateway."""
    bench = Bench(page_loop, tmp_path)
    for name in NAMES:
        member = TruthMember(name=name, films=list(phantoms.values()))
        page_loop.run(member.start())
        bench.members[name] = member
    yield bench
    for member in bench.members.values():
        if isinstance(member, TruthMember):
            page_loop.loop.call_soon_threadsafe(member.gate.set)
    bench.close()


@pytest.fixture
def browse(driver: webdriver.Chrome, zoo: Bench, folder: Path) -> Iterator[Callable[..., Browser]]:
    """Starts the gateway and opens the page; in the end the console is looked at."""
    opened: list[Browser] = []

    def start(**environment: str) -> Browser:
        zoo.start(**environment)
        driver.get("about:blank")
        driver.get_log("browser")
        driver.get_log("performance")
        browser = Browser(driver, zoo.start_http(), folder)
        opened.append(browser)
        return browser

    yield start
    for browser in opened:
        browser.check()
        driver.execute_script("window.onbeforeunload = null")
        driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
        driver.get("about:blank")
        if driver.current_url != "about:blank":
            driver.switch_to.alert.accept()
