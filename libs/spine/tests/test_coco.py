from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.coco import outline_of_mask, read_coco, write_coco
from spinezoo_spine.annotations.mask_outlines import rings_of_mask
from spinezoo_spine.annotations.raster import rasterise
from spinezoo_spine.annotations.regions import FilmAnnotation, Region, polygon_area

BODY = Region(
    Structure.LUMBAR_VERTEBRA, [[10.3, 5.2], [30.7, 6.0], [29.0, 20.4], [9.1, 18.8]], "L4"
)
CAGE = Region(Structure.CAGE, [[12, 21], [28, 21], [28, 25], [12, 25]])
FILMS = [FilmAnnotation("a.png", (BODY, CAGE)), FilmAnnotation("b.png", ())]
SIZES = {"a.png": (40, 50), "b.png": (16, 16)}


def test_polygons_read_back_exactly(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco.json", FILMS, SIZES)
    a, b = read_coco(tmp_path / "coco.json")
    assert (a.film_name, b.film_name, b.regions) == ("a.png", "b.png", ())
    for before, after in zip(FILMS[0].regions, a.regions, strict=True):
        assert (after.polygon_xy == before.polygon_xy).all()
        assert (after.structure, after.level) == (before.structure, before.level)


def test_run_lengths_read_back_to_the_pixel(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco.json", FILMS, SIZES, run_lengths=True)
    regions = read_coco(tmp_path / "coco.json")[0].regions
    for before, after in zip(FILMS[0].regions, regions, strict=True):
        drawn = rasterise(after.polygon_xy, 40, 50)
        assert (drawn == rasterise(before.polygon_xy, 40, 50)).all()


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_a_traced_mask_draws_all_of_its_parts_and_holes(mask: np.ndarray) -> None:
    if not mask.any():
        with pytest.raises(AnnotationError, match="no pixels"):
            outline_of_mask(mask)
        return
    outline = outline_of_mask(mask)
    assert (rasterise(outline, *mask.shape) == mask).all()
    assert polygon_area(outline) == mask.sum()
    _, parts = ndimage.label(mask)  # 4-connected: parts that touch in a corner are parted
    _, others = ndimage.label(~np.pad(mask, 1), np.ones((3, 3)))
    areas = [signed_area(ring) for ring in rings_of_mask(mask)]
    assert sum(area > 0 for area in areas) == parts
    assert sum(area < 0 for area in areas) == others - 1  # holes: all but the surroundings


def signed_area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def coco(segmentation: object, **changes: object) -> dict:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 5}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 4, "segmentation": segmentation, **changes}
        ],
        "categories": [{"id": 4, "name": "Screw"}],
    }


def test_uncompressed_run_lengths_are_column_major(tmp_path: Path) -> None:
    # Column 1, rows 1 and 2, and column 2, rows 1 and 2.
    value = coco({"size": [4, 5], "counts": [5, 2, 2, 2, 9]})
    (tmp_path / "coco.json").write_text(json.dumps(value))
    found = read_coco(tmp_path / "coco.json")[0].regions[0]
    expected = np.zeros((4, 5), dtype=bool)
    expected[1:3, 1:3] = True
    assert (rasterise(found.polygon_xy, 4, 5) == expected).all()
    assert found.structure is Structure.SCREW


@pytest.mark.parametrize(
    ("segmentation", "changes", "words"),
    [
        ([], {}, "region 0.*no outline"),
        ([[0, 0, 1, 1]], {}, "2 points"),
        ([[0, 0, 1, 1, 2]], {}, "x, y"),
        ({"size": [5, 4], "counts": [20]}, {}, "size"),
        ({"size": [4, 5], "counts": [3, 2]}, {}, "5 of 20"),
        ({"size": [4, 5], "counts": [-3, 23]}, {}, "0 or more"),
        ({"size": [4, 5], "counts": "zz~"}, {}, "do not cover"),
        ({"size": [4, 5], "counts": "\x07"}, {}, "do not cover"),
        ({"size": [4, 5], "counts": [20]}, {}, "no pixels"),
        ({"size": [4, 5], "counts": [0, 2, 2, 2, 14]}, {}, None),
        ({"size": [4, 5], "counts": [0, 4, 4, 4, 8]}, {}, None),
        ([[0, 0, 4, 0, 4, 4]], {"category_id": 9}, "no class"),
        ([[0, 0, 4, 0, 4, 4]], {"image_id": 9}, "not listed"),
    ],
)
def test_wrong_regions(
    tmp_path: Path, segmentation: object, changes: dict, words: str | None
) -> None:
    (tmp_path / "coco.json").write_text(json.dumps(coco(segmentation, **changes)))
    if words is None:
        assert read_coco(tmp_path / "coco.json")
        return
    with pytest.raises(AnnotationError, match=words):
        read_coco(tmp_path / "coco.json")


@pytest.mark.parametrize(
    "value",
    [[], {"images": []}, {"images": [{}], "annotations": []}, {"images": [], "annotations": [1]}],
)
def test_files_of_another_form(tmp_path: Path, value: object) -> None:
    (tmp_path / "coco.json").write_text(json.dumps(value))
    with pytest.raises(AnnotationError, match=r"coco\.json"):
        read_coco(tmp_path / "coco.json")


def test_writing_needs_sizes(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"b\.png.*size"):
        write_coco(tmp_path / "coco.json", FILMS, {"a.png": (40, 50)})


def test_the_development_films(shared_data: Path) -> None:
    path = shared_data / "real_lateral_dev" / "corners_coco.json"
    films = read_coco(path, classes={"T11": Structure.LUMBAR_VERTEBRA})
    assert len(films) == 8
    for film in films:
        levels = [region.level for region in film.regions]
        assert {"L1", "L2", "L3", "L4", "L5"} <= set(levels)
        assert all(len(region.polygon_xy) == 4 for region in film.regions)


def test_a_film_listed_twice(tmp_path: Path) -> None:
    value = coco([[0, 0, 4, 0, 4, 4]])
    value["images"].append({**value["images"][0], "id": 2})
    (tmp_path / "coco.json").write_text(json.dumps(value))
    with pytest.raises(AnnotationError, match=r"a\.png' is listed twice"):
        read_coco(tmp_path / "coco.json")
