"""How fast the page is: the first drawing of a film, and frames while windowing and panning.

    .venvs/core/bin/python benchmarks/page_speed.py [--times 10] [--record]

Debian's Chromium without a window, before a real gateway whose members answer at once. Gives
the time from the bytes to the first frame with the film (median, in ms, for a plain DICOM and a
PNG, with the page's own split), and frames a second (and the processor's time for each) while the
window is dragged, the film moved, and the window dragged over all small multiples.

The browser draws on the processor here; a graphics card makes it faster.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gateway" / "tests"))

import record
from bench import NAMES, Bench
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from spinezoo_phantom.make import make_film
from spinezoo_phantom.settings import PhantomSettings
from spinezoo_phantom.write import write_dicom, write_png
from spinezoo_testing.servers import Loop

OPEN = """
const [name, done] = [arguments[0], arguments[arguments.length - 1]];
performance.clearMeasures();
const seen = new PerformanceObserver((list) => {
  if (!list.getEntriesByName('first drawing').length) return;
  seen.disconnect();
  const all = performance.getEntriesByType('measure');
  done(Object.fromEntries(all.map((each) => [each.name, each.duration])));
});
seen.observe({ type: 'measure' });
document.querySelector('#film-file').dispatchEvent(new Event('change', { bubbles: true }));
"""
"""Opens the file that the file field holds; answers with what the page measured, in ms."""

FRAMES = """
const [button, count, done] = [arguments[0], arguments[1], arguments[arguments.length - 1]];
const stage = document.querySelector('.stage');
const box = document.querySelector('.pane canvas').getBoundingClientRect();
const film = document.querySelector('.pane svg');
const send = (kind, x, y) => film.dispatchEvent(new PointerEvent(kind, {
  bubbles: true, pointerId: 1, button, buttons: 1, clientX: x, clientY: y }));
const real = stage.setPointerCapture;
stage.setPointerCapture = () => {};
const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
send('pointerdown', x, y);
let [frame, began] = [0, 0];
const step = (now) => {
  if (frame === 10) began = now; // the first ones are the start of the gesture
  if (frame === count + 10) {
    send('pointerup', x, y);
    stage.setPointerCapture = real;
    done(1000 * count / (now - began));
    return;
  }
  frame += 1;
  send('pointermove', x + 60 * Math.sin(frame / 9), y + 60 * Math.cos(frame / 7));
  requestAnimationFrame(step);
};
requestAnimationFrame(step);
"""
"""Drags over the film, one step a frame; answers with frames a second."""


def browser() -> webdriver.Chrome:
    """A browser without a window."""
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--window-size=1280,900",
    ):
        options.add_argument(argument)
    made = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    made.set_script_timeout(60)
    return made


def ready(driver: webdriver.Chrome, url: str) -> None:
    """Opens the page anew."""
    driver.get(f"{url}/")
    script = "return Boolean(document.querySelector('#app[data-ready]'))"
    WebDriverWait(driver, 30).until(lambda _: driver.execute_script(script))


def open_film(driver: webdriver.Chrome, path: Path) -> dict[str, float]:
    """Opens a film; what the page measured, in ms."""
    field = driver.find_element(By.ID, "film-file")
    # The file is put into the field without the page hearing of it: its clock begins later.
    driver.execute_script(
        "window.held = (event) => { if (event.isTrusted) event.stopImmediatePropagation(); };"
        "document.addEventListener('change', window.held, true)"
    )
    field.send_keys(str(path))
    found: dict[str, float] = driver.execute_async_script(OPEN)
    script = "return document.querySelectorAll('.network.ok').length >= 5"
    WebDriverWait(driver, 30).until(lambda _: driver.execute_script(script))
    return found


def worked_ms(driver: webdriver.Chrome) -> float:
    """What the page's thread has had of the processor, in ms: the same on a busy machine."""
    found = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(each["value"] for each in found if each["name"] == "TaskDuration")) * 1e3


def main() -> int:
    """Measures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--frames", type=int, default=180)
    parser.add_argument("--height", type=int, default=2048)
    parser.add_argument("--width", type=int, default=1024)
    record.add_option(parser)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    film = make_film(707, PhantomSettings(height_px=options.height, width_px=options.width))
    write_dicom(film, folder / "film.dcm")
    write_png(film, folder / "film.png")
    loop = Loop()
    bench = Bench(loop, folder)
    for name in NAMES:
        bench.add_member(name)
    bench.start()
    url = bench.start_http()
    driver = browser()
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    result: dict[str, Any] = {"first_drawing_ms": {}, "frames_per_s": {}, "split_ms": {}}
    result["processor_ms_a_frame"] = {}

    try:
        for kind, name in (("DICOM", "film.dcm"), ("PNG", "film.png")):
            found: list[dict[str, float]] = []
            for turn in range(options.times + 1):
                ready(driver, url)
                measured = open_film(driver, folder / name)
                if turn:
                    found.append(measured)
            split = {
                part: round(statistics.median(each[part] for each in found), 1) for part in found[0]
            }
            result["first_drawing_ms"][kind] = split.pop("first drawing")
            result["split_ms"][kind] = split
        for what, button, key in (
            ("windowing", 2, "1"),
            ("panning", 0, "1"),
            ("windowing of all small multiples", 2, "4"),
        ):
            driver.execute_script(
                "document.querySelectorAll('[data-mode]')[Number(arguments[0]) - 1].click()", key
            )
            before = worked_ms(driver)
            rate = driver.execute_async_script(FRAMES, button, options.frames)
            spent = (worked_ms(driver) - before) / (options.frames + 10)
            result["frames_per_s"][what] = round(rate, 1)
            result["processor_ms_a_frame"][what] = round(spent, 2)
    finally:
        driver.quit()
        bench.close()
        loop.close()
    return record.finish("page_speed", result, options)


if __name__ == "__main__":
    sys.exit(main())
