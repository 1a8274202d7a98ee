"""Correcting outlines in the browser, and the files that come of it."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from selenium.webdriver.common.action_chains import ActionChains

Browse = Callable[..., Any]
"""Starts the gateway and gives a ``Browser`` of ``conftest.py``."""


def correcting(browse: Browse, film: str = "fusion.dcm") -> Any:
    """A page with an answered film, in Correct."""
    page = browse()
    page.answered(film)
    page.key("6")
    page.wait(lambda: page.count(".column .row") > 5)
    return page


def choose_level(page: Any, level: str) -> None:
    page.wait(lambda: level in " ".join(page.texts(".column .name")))
    names = [name.replace(" ?", "") for name in page.texts(".column .name")]
    page.js("document.querySelectorAll('.column .row')[arguments[0]].click()", names.index(level))


def ring(page: Any) -> str:
    return str(page.js("return document.querySelector('.shape.selected')?.getAttribute('d')"))


def rows(page: Any) -> list[str]:
    return list(page.texts(".column .name"))


def test_points_are_moved_added_and_deleted_and_every_step_undone(browse: Browse) -> None:
    page = correcting(browse)
    choose_level(page, "L3")
    first = ring(page)
    points = page.count(".handle")
    assert points >= 4
    seen = [first]
    page.key("n")
    page.key("ArrowRight", shift=True)
    seen.append(ring(page))
    page.key("ArrowDown", shift=True, alt=True)
    seen.append(ring(page))
    page.key("a")
    assert page.count(".handle") == points + 1
    seen.append(ring(page))
    page.key("Delete")
    assert page.count(".handle") == points
    # By mouse: a point is dragged.
    handle = page.one(".handle .reach")
    ActionChains(page.driver).move_to_element(handle).click_and_hold().move_by_offset(
        12, 9
    ).move_by_offset(4, 2).release().perform()
    moved = ring(page)
    assert moved not in seen
    assert "corrected by a person" in page.text(".details")
    assert page.count(".shape.corrected") == 1
    assert page.count(".shape.predicted") == page.count(".shape") - 1
    for _ in range(5):
        page.key("z", ctrl=True)
    assert ring(page) == first
    assert page.count(".shape.corrected") == 0
    assert page.one("#undo").get_attribute("disabled")
    for _ in range(5):
        page.key("y", ctrl=True)
    assert ring(page) == moved
    assert page.one("#redo").get_attribute("disabled")


def test_outlines_are_split_joined_renamed_added_and_removed(browse: Browse) -> None:
    page = correcting(browse)
    count = page.count(".shape")
    choose_level(page, "L4")
    handles = page.count(".handle")
    page.key("n")
    page.key("x")
    assert page.count(".picked") == 1
    # The second point of the cut: across the outline.
    page.js("document.querySelectorAll('.handle')[arguments[0]].id = 'across'", handles // 2)
    ActionChains(page.driver).move_to_element(page.one("#across .reach")).click().perform()
    page.wait(lambda: page.count(".shape") == count + 1, "the outline was not split")
    assert "L4" not in rows(page)
    page.wait(lambda: page.count("#level"))
    page.choose("#level", "L4")
    page.wait(lambda: "L4" in rows(page))
    # Joined again with its other half.
    other = page.js(
        "return [...document.querySelectorAll('#join option')].find(o => o.text.startsWith("
        "'Lumbar vertebra (')).value"
    )
    page.choose("#join", other)
    page.wait(lambda: page.count(".shape") == count, "the halves were not joined")
    assert "L4" in rows(page)
    # A name that stands twice is said.
    page.choose("#level", "L3")
    page.wait(lambda: "L3 stands twice" in page.text(".tools"))
    page.choose("#level", "L4")
    page.wait(lambda: "twice" not in page.text(".tools"))
    page.choose("#structure", "cage")
    page.wait(lambda: page.count(".shape.cage.corrected") == 1)
    page.click("#remove")
    page.wait(lambda: page.count(".shape") == count - 1)
    # One added without a pointer, one drawn with it.
    page.click("#add")
    page.wait(lambda: page.count(".shape") == count)
    page.click("#draw")
    stage = page.one(".stage")
    for dx, dy in ((-150, -80), (-90, -80), (-90, -20), (-150, -20)):
        ActionChains(page.driver).move_to_element_with_offset(stage, dx, dy).click().perform()
    page.key("Enter")
    page.wait(lambda: page.count(".shape") == count + 1, "nothing was drawn")
    for _ in range(9):
        page.key("z", ctrl=True)
    assert page.count(".shape") == count
    assert page.count(".shape.corrected") == 0


def test_via_is_saved_loaded_again_and_clean(browse: Browse, folder: Path, tmp_path: Path) -> None:
    page = correcting(browse)
    choose_level(page, "L3")
    page.key("n")
    page.key("ArrowRight", shift=True, alt=True)
    page.choose("#level", "L2")
    page.wait(lambda: "L2 stands twice" in page.text(".tools"))
    page.choose("#level", "L3")
    kept = page.count(".shape")
    saved = page.saved("via", ".via.json")
    project = json.loads(saved.read_text())
    (entry,) = project["_via_img_metadata"].values()
    assert entry["filename"] == "fusion.dcm"
    assert entry["size"] == (folder / "fusion.dcm").stat().st_size
    origins = [region["region_attributes"]["origin"] for region in entry["regions"]]
    assert origins.count("corrected") == 1
    assert set(origins) == {"corrected", "predicted"}
    assert project["_via_image_id_list"] == list(project["_via_img_metadata"])
    # As `make check` reads it, and `make train`.
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(folder / "fusion.dcm", data)
    shutil.copy(saved, data / "via.json")
    done = subprocess.run(
        [sys.executable, "-m", "spinezoo_spine.annotations.lint", str(data)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error" not in done.stdout.lower().replace("0 errors", "")
    # Beside the film again.
    page.one("#via-file").send_keys(str(saved))
    assert "outlines of" in page.notice("loaded")
    page.wait(lambda: page.texts(".pane figcaption") == ["Corrected", "Loaded file"])
    page.wait(lambda: "Lumbar vertebra 100 %" in page.text(".agree"))
    assert page.count(".shape.loaded") == len(entry["regions"]) <= kept


def test_the_picture_has_the_films_proportions(browse: Browse, folder: Path) -> None:
    """Pixels three times as tall, or as wide, make a picture that is, to its last pixel."""
    content = pydicom.dcmread(folder / "fusion.dcm")
    for name, spacing in (("tall.dcm", [0.525, 0.175]), ("wide.dcm", [0.175, 0.525])):
        content.ImagerPixelSpacing = spacing
        content.save_as(folder / name)
    page = browse()
    shown = []
    for name in ("fusion.dcm", "tall.dcm", "wide.dcm"):
        page.answered(name)
        page.key("6")
        picture = cv2.imread(str(page.saved("png", ".png")), cv2.IMREAD_UNCHANGED).astype(int)
        assert picture[..., 3].min() == 255
        rows, columns = np.nonzero(np.ptp(picture[..., :3], axis=2) > 60)
        shown.append((picture.shape[:2], rows.min(), rows.max(), columns.min(), columns.max()))
    (size, *place), (tall, *tall_place), (wide, *wide_place) = shown
    assert (size, tall, wide) == ((412, 308), (1236, 308), (412, 924))
    assert np.allclose(np.multiply(place, (3, 3, 1, 1)), tall_place, atol=6)
    assert np.allclose(np.multiply(place, (1, 1, 3, 3)), wide_place, atol=6)


def test_the_other_files(browse: Browse, folder: Path, tmp_path: Path) -> None:
    page = correcting(browse)
    count = page.count(".shape")
    coco = json.loads(page.saved("coco", ".coco.json").read_text())
    assert coco["images"][0]["height"] == 412
    assert 0 < len(coco["annotations"]) <= count
    table = list(csv.DictReader(page.saved("csv", ".csv").read_text().splitlines()))
    assert len(table) == count
    assert {row["origin"] for row in table} == {"predicted"}
    assert "area_mm2_at_detector" in table[0]
    whole = json.loads(page.saved("json", "fusion.json").read_text())
    assert len(whole["answer"]["members"]) == 5
    assert len(whole["outlines"]) == count
    picture = cv2.imread(str(page.saved("png", ".png")))
    assert picture.shape[:2] == (412, 308)
    # COCO is read by the same check.
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(folder / "fusion.dcm", data)
    (data / "coco.json").write_text(json.dumps(coco))
    done = subprocess.run(
        [sys.executable, "-m", "spinezoo_spine.annotations.lint", str(data)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def region(xs: list[float], **attributes: str) -> dict[str, Any]:
    shape = {"name": "polygon", "all_points_x": xs, "all_points_y": [0, 20, 20][: len(xs)]}
    return {"shape_attributes": shape, "region_attributes": attributes}


GOOD = region([10, 40, 10], structure="lumbar_vertebra", level="L3")


NONE = region([1, 2], structure="cage")
ODD = region([1, 9, 1], structure="?")


def test_classes_and_levels_are_read_as_by_make_check(browse: Browse, tmp_path: Path) -> None:
    """Plurals, other separators, attributes in capital letters, old names of levels."""
    regions = [
        region([10, 40, 10], Structure="Lumbar vertebrae", Level="th12"),
        region([50, 80, 50], Class="Pedicle-screws"),
        region([90, 120, 90], type="Rod/other.instrumentation"),
        region([130, 160, 130], label="constructor"),
    ]
    page = browse()
    page.answered("fusion.dcm")
    path = tmp_path / "outlines.json"
    path.write_text(json.dumps({"f": {"filename": "fusion.dcm", "regions": regions}}))
    page.one("#via-file").send_keys(str(path))
    notice = page.notice("loaded")
    assert "3 outlines of outlines.json are shown" in notice
    assert "1 outline is not understood" in notice
    assert page.count(".shape.loaded") == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"o": {"filename": "other.dcm", "regions": [GOOD]}}, "another film (other.dcm)"),
        ({"f": {"filename": "fusion.dcm", "regions": [GOOD] * 10_000}}, "10,000 outlines"),
        ({"f": {"filename": "fusion.dcm", "regions": [NONE]}}, "no outline that is"),
        ({"f": {"filename": "fusion.dcm", "regions": [GOOD, ODD]}}, "1 outline is not"),
        ({"a": {"filename": "a", "regions": []}, "b": {"filename": "b", "regions": []}}, "2 films"),
        ({"x": 1}, "no VIA 2 file"),
        ("[1, 2", "no JSON file"),
    ],
)
def test_files_that_do_not_fit(browse: Browse, tmp_path: Path, content: Any, says: str) -> None:
    page = browse()
    page.answered("fusion.dcm")
    path = tmp_path / "outlines.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    page.one("#via-file").send_keys(str(path))
    assert says in page.notice("loaded")
    if "another film" in says:
        assert page.count(".shape.loaded") == 0
        page.click("[data-notice=loaded] button")
        page.wait(lambda: page.count(".shape.loaded") == 1)


OTHER = {"name": "polyline", "all_points_x": [10, 40, 40, 10], "all_points_y": [90, 90, 99, 99]}


def test_outlines_of_a_file_mean_what_the_check_says(browse: Browse, tmp_path: Path) -> None:
    page = browse()
    page.answered("fusion.dcm")
    right = [
        region([10, 40, 10], structure="lumbar_vertebra", level=" l3 "),
        region([50, 90, 50], Class="Th12"),
        region([110, 140, 110], structure={"S1": True, "S2": False}),
        region([150, 180, 150], structure="vertebra", level="L2", vertebral_level="L4"),
        region([190, 210, 190], structure="vertebra", level="L9"),
    ]
    closed = {**OTHER, "all_points_x": [10, 40, 40, 11], "all_points_y": [90, 90, 99, 91]}
    right.append({"shape_attributes": closed, "region_attributes": {"structure": "cage"}})
    wrong = [
        {"shape_attributes": OTHER, "region_attributes": {"structure": "cage"}},  # an open line
        region([True, 40, 10], structure="cage"),
        region([10, 40, 10], structure={"cage": True, "rod": True}),
    ]
    of_film = {"filename": "png/1.png", "file_attributes": {"film": "FUSION.dcm", "width": "308"}}
    path = tmp_path / "outlines.json"
    path.write_text(
        json.dumps({
            "a": {"filename": "other.dcm", "regions": []},
            "b": {**of_film, "regions": [*right, *wrong]},
        })
    )  # fmt: skip
    page.one("#via-file").send_keys(str(path))
    assert "6 outlines of outlines.json" in page.notice("loaded")
    assert "3 outlines are not understood" in page.notice("loaded")
    page.wait(lambda: page.count(".shape.loaded") == len(right))
    marks = page.texts(".mark.loaded")
    assert [mark for mark in marks if mark[:1] in "TLS" and mark[1:].isdigit()] == [
        "L3",
        "T12",
        "S1",
    ]
    of_film["file_attributes"]["width"] = "616"  # type: ignore[index]
    path.write_text(json.dumps({"b": {**of_film, "regions": right}}))
    page.one("#via-file").send_keys(str(path))
    page.wait(lambda: "drawn on a film of width 616" in page.notice("loaded"))
