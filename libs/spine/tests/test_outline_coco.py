"""COCO files as programs really write them: sizes, ids, run lengths, parts and holes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations import convert
from spinezoo_spine.annotations.coco import read_coco
from spinezoo_spine.annotations.corners import read_corners
from spinezoo_spine.annotations.film_set import FilmSet, read_annotations_raw
from spinezoo_spine.annotations.lint import lint_folder
from spinezoo_spine.annotations.raster import rasterise, segments_from_regions
from spinezoo_spine.annotations.regions import judge, polygon_area

HEIGHT, WIDTH = 60, 90
BODY = [10.0, 10.0, 60.0, 12.0, 58.0, 40.0, 9.0, 38.0]


def coco(
    *segmentations: object, size: object = (HEIGHT, WIDTH), name: str = "a.png", **more: object
) -> dict:
    height, width = size  # type: ignore[misc]
    return {
        "images": [{"id": 1, "file_name": name, "height": height, "width": width}],
        "annotations": [
            {"id": 7 + i, "image_id": 1, "category_id": 3, "segmentation": s, **more}
            for i, s in enumerate(segmentations)
        ],
        "categories": [{"id": 3, "name": "cage"}, {"id": 4, "name": "screw"}],
    }


def write(folder: Path, value: object, *, films: tuple[str, ...] = ("a.png",)) -> Path:
    for name in films:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        grey = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.uint8)
        Image.fromarray(grey).save(folder / name)
    path = folder / "coco.json"
    path.write_text(json.dumps(value))
    return path


def masks() -> dict[str, np.ndarray]:
    """Masks whose outlines are not one simple ring."""
    ring = np.zeros((HEIGHT, WIDTH), dtype=bool)
    ring[5:50, 5:60] = True
    ring[15:40, 20:50] = False
    rows, columns = np.indices(ring.shape)
    return {
        "a hole": ring,
        "a part in a hole": ring | ((rows > 20) & (rows < 30) & (columns > 30) & (columns < 40)),
        "parts of one size": (columns % 30 < 14) & (rows % 30 < 20),
        "parts that touch in a corner": ((rows // 8 + columns // 8) % 2 == 0) & (rows < 40),
        "the whole film": np.ones_like(ring),
        "one pixel": (rows == 3) & (columns == 4),
        "a slanted rod": np.abs(rows - columns / 2) < 1.5,
    }


# -------------------------------------------------------------------------- run lengths and parts


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("name", masks())
@pytest.mark.parametrize("iscrowd", [0, 1])
def test_run_lengths_have_pycocotools_own_area(
    tmp_path: Path, name: str, compressed: bool, iscrowd: int
) -> None:
    mask = masks()[name]
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts: object = encoded["counts"].decode()
    if not compressed:
        flat = mask.ravel(order="F")
        borders = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *borders, flat.size]).tolist()
        counts = [0, *runs] if flat[0] else runs
    value = coco({"size": [HEIGHT, WIDTH], "counts": counts}, iscrowd=iscrowd)
    write(tmp_path, value)
    (segment,) = segments_from_regions(
        FilmSet.open(tmp_path).annotation("a.png").regions, HEIGHT, WIDTH
    )
    assert segment.mask.area == int(coco_mask.area(encoded)) == mask.sum()
    assert segment.mask.counts == encoded["counts"]
    rules = {finding.rule for finding in lint_folder(tmp_path)}
    assert rules - {"maybe-scaled"} == ({"crowd"} if iscrowd else set())


@pytest.mark.parametrize(
    ("parts", "area"),
    [
        ([[0, 0, 20, 0, 20, 10, 0, 10], [30, 20, 50, 20, 50, 40, 30, 40]], 600),  # apart
        ([[0, 0, 20, 0, 20, 10, 0, 10], [10, 5, 30, 5, 30, 25, 10, 25]], 550),  # they overlap
        ([[0, 0, 40, 0, 40, 40, 0, 40], [10, 10, 20, 10, 20, 20, 10, 20]], 1600),  # one within
        ([[0, 0, 20, 0, 20, 10, 0, 10], [20, 0, 40, 0, 40, 10, 20, 10]], 400),  # they touch
        ([[0, 0, 0, 10, 20, 10, 20, 0], [30, 20, 50, 20, 50, 40, 30, 40], [5, 5]], 600),  # stray
    ],
)
def test_parts_add_up_as_in_pycocotools(tmp_path: Path, parts: list, area: int) -> None:
    whole = [part for part in parts if len(part) > 4]
    reference = coco_mask.merge(coco_mask.frPyObjects(whole, HEIGHT, WIDTH))
    write(tmp_path, coco(parts))
    (region,) = FilmSet.open(tmp_path).annotation("a.png").regions
    assert rasterise(region.polygon_xy, HEIGHT, WIDTH).sum() == area
    assert polygon_area(region.polygon_xy) == pytest.approx(area)
    # pycocotools rounds corners its own way: up to half a pixel along the border.
    assert abs(int(coco_mask.area(reference)) - area) <= 0.05 * area
    expected = {"stray-part"} if len(whole) < len(parts) else set()
    if area == 1600:
        expected.add("part-within")
    assert {f.rule for f in lint_folder(tmp_path)} == expected


def test_odd_lists_of_coordinates(tmp_path: Path) -> None:
    pairs = np.array(BODY).reshape(-1, 2).tolist()
    as_text = [[str(number) for number in BODY]]
    for form in ([BODY], BODY, pairs, [pairs], as_text, [[*BODY, *BODY[:2]]]):
        (film,) = read_coco(write(tmp_path, coco(form)))
        assert film.regions[0].polygon_xy.ravel().tolist() == BODY


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ({"size": [HEIGHT, WIDTH], "counts": [5, 6]}, "cover 11 of 5400"),
        ({"size": [HEIGHT, WIDTH], "counts": [-5, 5405]}, "0 or more"),
        ({"size": [HEIGHT, WIDTH], "counts": [5.5, 5394.5]}, "whole counts"),
        ({"size": [HEIGHT, WIDTH], "counts": ["many"]}, "no number"),
        ({"size": [HEIGHT, WIDTH], "counts": [10**400]}, "no number"),
        ({"size": [HEIGHT, WIDTH], "counts": "é"}, "do not cover the film"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "do not cover the film"),
        ({"size": [HEIGHT, WIDTH], "counts": None}, "neither a list nor text"),
        ({"size": [WIDTH, HEIGHT], "counts": [5400]}, "size 90 x 60, its image 60 x 90"),
        ({"size": [10**9, 10**9], "counts": [1]}, "more than 67108864 pixels"),
        ({"size": [float("inf"), 4], "counts": [1]}, "no finite number"),
        ({"size": "big", "counts": [1]}, "no size"),
        ({"counts": [5400]}, "no size"),
        ([[]], "0 points"),
        ([[1, 2, 3, 4]], "2 points"),
        ([[[1, 2], [3, 4], [5]]], "x, y"),
        ([[[[1, 2], [3, 4]]]], "x, y"),
        ([[1, 1, 2, 2], [3, 3]], "of its 2 parts none"),
        ([[10**400, 1, 2, 2, 3, 3]], "no number"),
        ([{}], "x, y"),
        ("poly", "neither polygons nor run lengths"),
        ([[0.0, 0, 1e5, 0, 1e5, 1e5], [1, 1, 1e5, 1, 9, 9e4]], "limit is 67108864"),
        ([[float(i), 0, i + 1.0, 0, i, 1] for i in range(501)], "501 parts, the limit is 500"),
    ],
)
def test_a_wrong_region_is_named_with_its_id(
    tmp_path: Path, segmentation: object, words: str
) -> None:
    path = write(tmp_path, coco([BODY], segmentation))
    with pytest.raises(AnnotationError, match=rf"region 1 \(annotation 8\): .*{words}"):
        read_coco(path)
    assert len(FilmSet.open(tmp_path, skip_bad_regions=True).annotation("a.png").regions) == 1


def along_rows(mask: np.ndarray) -> list[int]:
    """Run lengths as a mask gives them that is not turned first: row by row."""
    changes = np.flatnonzero(np.diff(mask.ravel().astype(int))) + 1
    return np.diff([0, *changes, mask.size]).tolist()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("slim", [False, True])
def test_run_lengths_along_rows_are_no_scattered_mask(
    tmp_path: Path, slim: bool, compressed: bool
) -> None:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[20 : 24 if slim else 45, 15:45] = True
    counts: object = along_rows(mask)
    if compressed:
        packed = coco_mask.frPyObjects({"size": [HEIGHT, WIDTH], "counts": counts}, HEIGHT, WIDTH)
        counts = packed["counts"].decode()
    path = write(tmp_path, coco({"size": [HEIGHT, WIDTH], "counts": counts}))
    with pytest.raises(AnnotationError, match="run lengths count along rows"):
        read_coco(path)


@pytest.mark.parametrize(
    ("box", "doubted"),
    [
        ([9, 10, 51, 30], False),  # as it is
        ([8.4, 9.2, 53, 32.5], False),  # rounded, with a margin
        ([18, 20, 102, 60], True),  # of a film of twice the size
        ([0, 0, 0, 0], False),  # none
        ([[9], [10], 51, "x"], False),
        (None, False),
    ],
)
def test_an_outline_that_lies_off_its_box_is_doubted(
    tmp_path: Path, box: object, doubted: bool
) -> None:
    write(tmp_path, coco([BODY], bbox=box))
    assert [finding.rule for finding in lint_folder(tmp_path)] == ["box-differs"] * doubted


def test_noise_is_refused_with_its_number(tmp_path: Path) -> None:
    mask = np.random.default_rng(1).random((400, 400)) < 0.5
    counts = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    path = write(tmp_path, coco({"size": [400, 400], "counts": counts}, size=(400, 400)))
    with pytest.raises(AnnotationError, match=r"border has \d+ corners, the limit is 20000"):
        read_coco(path)


# ----------------------------------------------------------------------------------- image sizes


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((HEIGHT // 2, WIDTH // 2), "30 x 45 pixels .* has 60 x 90, 2 times as much"),
        ((WIDTH, HEIGHT), "height and width are swapped"),
        ((61, 91), "61 x 91 pixels .* has 60 x 90"),
        (("30", "45.0"), "30 x 45 pixels"),
    ],
)
def test_an_image_size_that_is_not_the_film_s(tmp_path: Path, size: tuple, words: str) -> None:
    write(tmp_path, coco([BODY], size=size))
    with pytest.raises(AnnotationError, match=rf"coco\.json: film 'a\.png' .*{words}"):
        FilmSet.open(tmp_path)
    (finding,) = lint_folder(tmp_path)
    assert (finding.rule, finding.is_error) == ("wrong-size", True)
    films = FilmSet.open(tmp_path, skip_bad_regions=True)
    assert films.names == ()
    assert "wrong-size" in films.left_out["a.png"]


def test_run_lengths_tell_the_size_where_the_image_does_not(tmp_path: Path) -> None:
    mask = {"size": [30, 45], "counts": [0, 30 * 45]}
    write(tmp_path, coco(mask, size=(None, 0)))
    (finding,) = lint_folder(tmp_path)
    assert finding.rule == "wrong-size"
    write(tmp_path, coco([BODY], size=(None, 0)))
    assert FilmSet.open(tmp_path).names == ("a.png",)


@pytest.mark.parametrize("side", [float("inf"), float("nan"), "tall", -4, 1.5, 10**400, [3], {}])
def test_an_image_size_that_is_none(tmp_path: Path, side: object) -> None:
    path = write(tmp_path, coco([BODY], size=(HEIGHT, side)))
    with pytest.raises(AnnotationError, match=r"coco\.json: images\[0\] \('a\.png'\): width is"):
        FilmSet.open(tmp_path)
    with pytest.raises(AnnotationError):
        read_corners(path)


# ------------------------------------------------------------------------------------------- ids


def test_ids_as_text_and_as_numbers_are_the_same(tmp_path: Path) -> None:
    value = coco([BODY])
    value["images"][0]["id"] = "1"
    value["annotations"][0]["image_id"] = 1
    value["annotations"][0]["category_id"] = "3"
    (film,) = read_coco(write(tmp_path, value))
    assert film.regions[0].structure is Structure.CAGE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["categories"].append({"id": 3, "name": "rod"}), "'cage' and 'rod'.* id 3"),
        (lambda v: v["categories"].append({"id": "3", "name": "rod"}), "'cage' and 'rod'.* id 3"),
        (lambda v: v["images"].append({"id": 1, "file_name": "b.png"}), "'a.png' and 'b.png'"),
        (lambda v: v["images"].append({"id": 2, "file_name": "a.png"}),
         "'a.png' is listed twice, as image 1 and as image 2"),
        (lambda v: v["annotations"][0].update(image_id=9), "annotation 7 is of image 9, which"),
        (lambda v: v["annotations"][0].pop("image_id"), "annotation 7: image_id is missing"),
        (lambda v: v["annotations"][0].update(image_id=True), "image_id is true"),
        (lambda v: v["annotations"].append(None), r"annotations\[1\] is no object"),
        (lambda v: v["images"].append({"id": 5}), r"images\[1\] has no file_name"),
        (lambda v: v["images"].append(4), r"images\[1\] is no object"),
        (lambda v: v["annotations"][0].update(category_id=8),
         "category 8 is not listed; there are 3 'cage', 4 'screw'"),
        (lambda v: v["annotations"][0].pop("category_id"), "category_id is missing"),
        (lambda v: v.update(categories=[]), "lists no categories"),
        (lambda v: v.update(categories={"3": "cage"}), "categories is no list"),
        (lambda v: v["categories"].append({"id": 5}), r"categories\[2\] has no name"),
    ],
)  # fmt: skip
def test_ids_that_are_wrong_are_named(tmp_path: Path, change, words: str) -> None:
    value = coco([BODY])
    change(value)
    with pytest.raises(AnnotationError, match=rf"coco\.json: .*{words}"):
        FilmSet.open(write(tmp_path, value).parent)


def test_a_category_listed_twice_alike_and_annotations_of_one_id(tmp_path: Path) -> None:
    value = coco([BODY], [[70, 5, 80, 5, 80, 30]])
    value["categories"].append({"id": 3, "name": "cage"})
    value["annotations"][1]["id"] = 7
    write(tmp_path, value)
    assert [f.rule for f in lint_folder(tmp_path)] == ["same-id"]
    assert len(FilmSet.open(tmp_path).annotation("a.png").regions) == 2


def test_the_class_from_an_attribute(tmp_path: Path) -> None:
    write(tmp_path, coco([BODY], attributes={"kind": "body", "level": "L4"}))
    films = FilmSet.open(
        tmp_path, class_attribute="kind", classes={"body": Structure.LUMBAR_VERTEBRA}
    )
    (region,) = films.annotation("a.png").regions
    assert (region.structure, region.level) == (Structure.LUMBAR_VERTEBRA, "L4")
    with pytest.raises(AnnotationError, match=r"no attribute 'sort' .*'kind', 'level'"):
        FilmSet.open(tmp_path, class_attribute="sort")


def test_a_coco_file_that_lacks_a_list_is_called_so(tmp_path: Path) -> None:
    value = coco([BODY])
    del value["annotations"]
    write(tmp_path, value)
    (tmp_path / "coco.json").rename(tmp_path / "instances.json")
    with pytest.raises(AnnotationError, match=r"instances\.json: is not a COCO instances file"):
        FilmSet.open(tmp_path)


@pytest.mark.parametrize("name", masks())
def test_parts_and_holes_survive_conversion(tmp_path: Path, name: str) -> None:
    mask = masks()[name]
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    source = write(tmp_path, coco({"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}))
    for form, target in (("via2", "via2.json"), ("via3", "via3.csv"), ("coco", "again.json")):
        assert (
            convert.main(["--from", str(source), "--to", str(tmp_path / target), "--format", form])
            == 0
        )
        (film,) = (judge(raw) for raw in read_annotations_raw(tmp_path / target))
        assert (rasterise(film.regions[0].polygon_xy, HEIGHT, WIDTH) == mask).all()
        found = {finding.rule for finding in lint_folder(tmp_path, tmp_path / target)}
        assert found - {"maybe-scaled"} == set()


def test_convert_takes_names_of_classes(tmp_path: Path) -> None:
    source = write(tmp_path, coco([BODY], attributes={"kind": "body"}))
    words = ["--from", str(source), "--to", str(tmp_path / "via.json")]
    more = ["--class-attribute", "kind", "--map", "body=lumbar_vertebra"]
    assert convert.main(words + more[:2]) == 2
    assert convert.main(words + more) == 0
    (raw,) = read_annotations_raw(tmp_path / "via.json")
    assert raw.regions[0].class_name == "lumbar_vertebra"
