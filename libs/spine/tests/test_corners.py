"""Corner files: what is put in order, and what is refused by name."""

from __future__ import annotations

import copy
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spinezoo_contract.errors import AnnotationError
from spinezoo_spine.annotations.corners import (
    CornerFilm,
    find_corner_file,
    read_corner_folder,
    read_corners,
)

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


def with_l3(value: dict[str, Any], *levels: str) -> None:
    """A third vertebra above; the levels from above."""
    above = [number - 70 * (place % 2) for place, number in enumerate(L4)]
    entry = {"image_id": 1, "category_id": 3, "segmentation": [above]}
    value["annotations"].insert(0, entry)
    value["categories"] = [
        {"id": number, "name": level} for number, level in zip((3, 1, 2), levels, strict=True)
    ]


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
        (
            lambda v: v["images"][0].update(s1_endplate=[[1e300, 1], [-1e300, 300]]),
            "s1_endplate is not two points",
        ),
        (lambda v: v["images"][0].update(s1_endplate="below"), "s1_endplate is not two points"),
        (
            lambda v: v["images"][0].update(s1_endplate=[[True, 240], [150, 265]]),
            "s1_endplate has a coordinate that is no number",
        ),
        (
            lambda v: v["images"][0].update(s1_endplate=[[95, 20], [150, 25]]),
            "a.png: S1 does not lie below L5 along the column",
        ),
        (
            lambda v: (
                with_l3(v, "L3", "L4", "L5"),
                v["annotations"][2].update(segmentation=[L4]),
            ),
            "a.png: L5 does not lie below L4 along the column",
        ),
        (
            lambda v: with_l3(v, "L4", "L3", "L5"),
            "a.png: L4 does not lie below L3 along the column",
        ),
        (lambda v: v["annotations"].append(None), "annotation 2 is no object"),
        (lambda v: v["annotations"][1].pop("segmentation"), r"annotation 1 \(L5\): has no outline"),
        (lambda v: v["annotations"][1].pop("image_id"), "annotation 1: image_id is missing"),
        (lambda v: v["annotations"][1].pop("category_id"), "annotation 1: category_id is missing"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(AnnotationError, match=rf"corners\.json: .*{words}"):
        read(tmp_path, change)


def test_the_upper_corners_of_an_outlined_s1_are_its_endplate(tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        del value["images"][0]["s1_endplate"]
        with_l3(value, "L4", "L5", "S1")

    film = read(tmp_path, change)
    assert film.s1_endplate is not None
    assert film.s1_endplate.ravel().tolist() == L5[:4]


def folder_of(folder: Path, films: list[str], *names: str) -> Path:
    """Films and a corner file that gives these names."""
    for film in films:
        (folder / film).parent.mkdir(exist_ok=True)
        (folder / film).write_bytes(b"only its name is looked at")
    value = copy.deepcopy(FILE)
    image = value["images"][0]
    value["images"] = [{**image, "id": n, "file_name": name} for n, name in enumerate(names, 1)]
    (folder / "corners_coco.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("film", "name"),
    [
        ("a.png", "./a.png"),
        ("a.png", "A.PNG"),
        ("a.png", "/home/x/films/a.png"),
        ("a.png", "C:\\films\\a.png"),
        (unicodedata.normalize("NFD", "ü.png"), unicodedata.normalize("NFC", "ü.png")),
        ("set1/a.png", "a.png"),
    ],
)
def test_a_film_is_found_whatever_its_name_looks_like(tmp_path: Path, film: str, name: str) -> None:
    (found,), missing = read_corner_folder(folder_of(tmp_path, [film], name))
    assert (found.name, missing) == (film, {})


def test_two_images_of_one_film_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, ["a.png"], "a.png", "./a.png")
    with pytest.raises(AnnotationError, match=r"two of its images mean film 'a\.png'"):
        read_corner_folder(tmp_path)
    films, missing = read_corner_folder(folder_of(tmp_path, ["a.png"], "a.png", "b/../c.png"))
    assert [film.name for film in films] == ["a.png", "b/../c.png"]
    assert "is not in folder" in missing["b/../c.png"]
    (film,), missing = read_corner_folder(folder_of(tmp_path, ["a.png"], "a.bmp"))
    assert missing[film.name].endswith("name both alike")


def test_the_corner_file_is_found_beside_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "Corners.JSON").write_text("{}")
    (tmp_path / "._Corners.JSON").write_bytes(b"\0\5\x16\7")
    assert find_corner_file(tmp_path).name == "Corners.JSON"
