"""Corner files: what is put in order, and what is refused by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spinezoo_contract.errors import AnnotationError
from spinezoo_spine.annotations.corners import CornerFilm, read_corners

L4 = [100, 100, 160, 100, 160, 150, 100, 150]
L5 = [100, 170, 160, 172, 158, 222, 98, 220]
FILE: dict[str, Any] = {
    "images": [
        {
            "id": 1,
            "file_name": "a.png",
            "height": 400,
            "width": 300,
            "s1_endplate": [[95, 240], [150, 265]],
        }
    ],
    "categories": [{"id": 1, "name": "L4"}, {"id": 2, "name": "L5"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [L4]},
        {"id": 2, "image_id": 1, "category_id": 2, "segmentation": [L5]},
    ],
}

Change = Callable[[dict[str, Any]], object]


def read(folder: Path, change: Change) -> CornerFilm:
    value = copy.deepcopy(FILE)
    change(value)
    path = folder / "corners.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    (film,) = read_corners(path)
    return film


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_the_endplate_of_s1_goes_from_back_to_front(
    tmp_path: Path, turned: bool, mirrored: bool
) -> None:
    ends = np.array([[95.0, 240.0], [150.0, 265.0]])

    def change(value: dict[str, Any]) -> None:
        image = value["images"][0]
        if turned:
            image["s1_endplate"].reverse()
        if mirrored:
            image["s1_endplate"] = [[300 - x, y] for x, y in image["s1_endplate"]]
            for entry in value["annotations"]:
                flat = np.array(entry["segmentation"]).reshape(4, 2)
                entry["segmentation"] = [(flat * [-1, 1] + [300, 0]).ravel().tolist()]

    found = read(tmp_path, change).s1_endplate
    assert found is not None
    assert (found == (ends * [-1, 1] + [300, 0] if mirrored else ends)).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["annotations"][0].update(category_id="1", image_id="1"),
        lambda v: v["images"][0].update(id="1", height="400"),
        lambda v: v["annotations"][0].update(segmentation=L4),
        lambda v: v["annotations"][0].update(segmentation=np.reshape(L4, (4, 2)).tolist()),
        lambda v: v["annotations"][0].update(segmentation=[np.reshape(L4, (4, 2)).tolist()]),
        lambda v: v["annotations"][0].update(segmentation=[[*L4, *L4[:2]]]),
    ],
)
def test_other_spellings_of_the_same(tmp_path: Path, change: Change) -> None:
    film = read(tmp_path, change)
    assert (film.height, film.width) == (400, 300)
    assert film.quads["L4"].ravel().tolist() == L4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["images"][0].update(height=0), "a.png: height or width is not stated"),
        (lambda v: v["images"][0].pop("width"), "a.png: height or width is not stated"),
        (lambda v: v["categories"][0].update(name="L4/L5"), "annotation 0: its category is no"),
        (lambda v: v["annotations"][0].update(segmentation=[L4, L4]), "has 2 outlines"),
        (lambda v: v["annotations"][0].update(segmentation=[L4[:6]]), "has 3 points"),
        (lambda v: v["annotations"][0].update(segmentation={"counts": "a"}), "has no outline"),
        (lambda v: v["annotations"][0].update(segmentation=[]), "has no outline"),
        (lambda v: v["annotations"][0].update(segmentation=[L4[:7]]), "polygon is not a list"),
        (
            lambda v: v["annotations"][0].update(segmentation=[[*L4[:2], *L4[:6]]]),
            r"annotation 0 \(L4\): two of its corners are one",
        ),
        (
            lambda v: v["annotations"][1].update(segmentation=[[x / 300 for x in L5]]),
            r"annotation 1 \(L5\): .*encloses nothing",
        ),
        (
            lambda v: v["annotations"][1].update(segmentation=[[x * 3 for x in L5]]),
            r"annotation 1 \(L5\): lies off the film",
        ),
        (
            lambda v: v["images"][0].update(s1_endplate=[[95, 640], [150, 665]]),
            "a.png: s1_endplate: lies off the film",
        ),
        (
            lambda v: v["images"][0].update(s1_endplate=[[95, 240], [95, 240]]),
            "s1_endplate is not two points",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(AnnotationError, match=rf"corners\.json: .*{words}"):
        read(tmp_path, change)
