"""The page of a report in headless Chromium: order, filters, switches, and what axe-core says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import axe_core_python
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from small_zoo import FILMS, Zoo, write_films
from spinezoo_contract.types import MemberCode
from spinezoo_testing.servers import serving
from stand_in import StandInGateway, make_gateway

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory, evaluator_target) -> Path:
    """The page of a run in which one network fails on a film."""
    folder = tmp_path_factory.mktemp("browser")
    data = write_films(folder / "films")
    gateway = StandInGateway(data)
    gateway.plan = lambda film, member: (
        MemberCode.UNAVAILABLE if (film, member) == ("film_2.png", "unet") else MemberCode.OK
    )

    class Silent:
        def readouterr(self):
            return "", ""

    with serving(lambda: make_gateway(gateway)) as target:
        zoo = Zoo(gateway, target, evaluator_target, data, folder / "run", Silent())
        assert zoo.run(pictures=True) == 0
    return folder / "run" / "index.html"


@pytest.fixture(scope="module")
def chromium():
    options = Options()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(chromium, page):
    """The page, freshly opened at 1280 pixels; afterwards the console has to be clean."""
    size(chromium, 1280)
    chromium.get_log("browser")
    chromium.get_log("performance")
    chromium.get(page.as_uri())
    yield chromium
    assert chromium.get_log("browser") == []
    asked = [
        message["params"]["request"]["url"]
        for entry in chromium.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("data:", page.as_uri()))] == []


def size(driver, width, *, dark=False):
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def shown(driver):
    """Names of the films that are shown, in their order."""
    cards = driver.find_elements(By.CSS_SELECTOR, ".card:not([hidden]) h3")
    return [card.get_attribute("textContent") for card in cards]


def data_of(driver):
    text = driver.find_element(By.ID, "data").get_attribute("textContent")
    return json.loads(text)


def choose(driver, field, value):
    Select(driver.find_element(By.ID, field)).select_by_value(value)


def test_films_are_sorted_by_any_figure_of_any_network(opened):
    data = data_of(opened)
    assert len(shown(opened)) == FILMS
    for figure in ("mean_iou", "vertebra_precision", "latency_ms", "iou_screw"):
        choose(opened, "figure", figure)
        for model in ("mask_rcnn", "unet"):
            choose(opened, "of", model)
            known = data["figures"][figure]
            for order in ("worst", "best"):
                choose(opened, "order", order)
                values = {
                    film["name"]: film["values"][model][known["place"]] for film in data["films"]
                }
                got = [values[name] for name in shown(opened)]
                numbers = [value for value in got if value is not None]
                falling = known["higherIsBetter"] == (order == "best")
                assert numbers == sorted(numbers, reverse=falling)
                missing = (
                    got[: len(got) - len(numbers)] if order == "worst" else got[len(numbers) :]
                )
                assert set(missing) <= {None}
    choose(opened, "order", "name")
    assert shown(opened) == sorted(shown(opened))


def test_films_are_filtered_by_name_figure_group_and_failure_and_come_back(opened):
    data = data_of(opened)
    status = opened.find_element(By.ID, "count")
    before = shown(opened)
    opened.find_element(By.ID, "search").send_keys("FILM_3")
    assert shown(opened) == ["film_3.png"]
    assert status.text == f"1 of {FILMS} films"
    opened.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    opened.execute_async_script("setTimeout(arguments[0], 50)")
    assert shown(opened) == before

    place = data["figures"]["mean_iou"]["place"]
    values = {film["name"]: 100 * film["values"]["fused ensemble"][place] for film in data["films"]}
    middle = sorted(values.values())[FILMS // 2]
    opened.find_element(By.ID, "most").send_keys(f"{middle:.4f}")
    assert set(shown(opened)) == {n for n, v in values.items() if v <= float(f"{middle:.4f}")}
    opened.find_element(By.ID, "least").send_keys("101")
    assert shown(opened) == []
    opened.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    opened.execute_async_script("setTimeout(arguments[0], 50)")

    Select(opened.find_element(By.CSS_SELECTOR, "[data-stratum=Hardware]")).select_by_visible_text(
        "screws or rods"
    )
    assert sorted(shown(opened)) == ["film_1.png", "film_3.png"]
    opened.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    opened.execute_async_script("setTimeout(arguments[0], 50)")
    opened.find_element(By.ID, "failed").click()
    assert shown(opened) == ["film_2.png"]


def layers(driver):
    """Texts of the caption that is shown on each card."""
    cards = driver.find_elements(By.CSS_SELECTOR, ".card")
    return [
        [c.text for c in card.find_elements(By.CSS_SELECTOR, ".caption") if c.is_displayed()]
        for card in cards
    ]


def test_the_answer_is_switched_by_keyboard_and_truth_stays(opened):
    assert all(len(of) == 1 and of[0].startswith("Fused ensemble:") for of in layers(opened))
    radio = opened.find_element(By.CSS_SELECTOR, "input[name=show]:checked")
    radio.send_keys(Keys.ARROW_LEFT)
    assert all(len(of) == 1 and of[0].startswith("YOLACT:") for of in layers(opened))
    opened.find_element(By.ID, "show-0").send_keys(Keys.SPACE)
    texts = [of[0] for of in layers(opened)]
    assert sum("failed, unavailable" in text for text in texts) == 1
    opened.find_element(By.ID, "show-none").send_keys(Keys.SPACE)
    assert layers(opened) == [[]] * FILMS
    visible = opened.execute_script(
        "return [...document.querySelectorAll('.pair path')]"
        ".filter(each => each.getClientRects().length).length"
    )
    assert visible >= 5 * FILMS  # the truth's


def test_it_reads_without_script(chromium, page):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chromium.get(page.as_uri())
        chromium.find_element(By.ID, "show-0").click()
        assert chromium.find_element(By.CSS_SELECTOR, ".caption.l0").is_displayed()
        assert not chromium.find_element(By.ID, "figure").is_displayed()
        assert "need JavaScript" in chromium.find_element(By.ID, "films").text
        assert len(shown(chromium)) == FILMS
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(opened, width, dark):
    size(opened, width, dark=dark)
    wide = opened.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
    for details in opened.find_elements(By.CSS_SELECTOR, "main > section > details"):
        opened.execute_script("arguments[0].open = true", details)
    axe = Path(axe_core_python.__file__).parent / "axe.min.js"
    opened.execute_script(axe.read_text())
    result = opened.execute_async_script(
        "axe.run().then(arguments[0], error => arguments[0](String(error)))"
    )
    serious = [
        (found["id"], [node["html"][:120] for node in found["nodes"][:3]])
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
    ]
    assert serious == []
