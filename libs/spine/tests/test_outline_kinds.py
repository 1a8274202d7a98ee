"""Outline folders of less usual kinds: half-stated sizes, look-alike names, other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spinezoo_contract.errors import AnnotationError
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.lint import lint_folder
from spinezoo_spine.annotations.regions import level_of
from spinezoo_spine.annotations.via import read_via

HEIGHT, WIDTH = 100, 80
BOX = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 60}
TABLE = (
    "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
    'region_attributes\na.png,-1,"{}",1,0,"{""name"":""rect"",""x"":10,""y"":20,""width"":30,'
    '""height"":60}","{""structure"":""cage""}"\n'
)


def film(folder: Path, name: str = "a.png") -> None:
    grey = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) % 200
    Image.fromarray(grey.astype(np.uint8)).save(folder / name)


def via(name: str, **more: object) -> dict[str, object]:
    region = {"shape_attributes": BOX, "region_attributes": {"structure": "cage"}}
    return {name: {"filename": name, "size": -1, "regions": [region], **more}}


def coco(**sides: object) -> dict[str, object]:
    polygon = [10, 20, 40, 20, 40, 80, 10, 80]
    return {
        "images": [{"id": 1, "file_name": "a.png", **sides}],
        "categories": [{"id": 1, "name": "cage"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [polygon]}],
    }


def save(folder: Path, value: object, name: str = "via.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


# ----------------------------------------------------------------------------- one side of a size


@pytest.mark.parametrize("form", ["coco", "via"])
@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ({"height": 100}, ""),
        ({"width": 80}, ""),
        ({"height": 100, "width": 0}, ""),
        ({"height": 50}, "of height 50, the film has 100"),
        ({"width": 40}, "of width 40, the film has 80"),
        ({"height": None, "width": 40}, "of width 40, the film has 80"),
        ({"height": 80}, "of height 80, the film has 100"),
    ],
)
def test_one_side_of_a_size_is_checked(
    tmp_path: Path, form: str, sides: dict[str, object], words: str
) -> None:
    film(tmp_path)
    value = coco(**sides) if form == "coco" else via("a.png", file_attributes=sides)
    save(tmp_path, value, f"{form}.json")
    findings = lint_folder(tmp_path)
    if not words:
        assert not findings
        assert FilmSet.open(tmp_path).names == ("a.png",)
        return
    assert [finding.rule for finding in findings] == ["wrong-size"]
    with pytest.raises(AnnotationError, match=words):
        FilmSet.open(tmp_path)


def test_run_lengths_go_with_one_stated_side(tmp_path: Path) -> None:
    film(tmp_path)
    value = coco(width=80)
    run_lengths = {"size": [HEIGHT, WIDTH], "counts": [1000, 2000, HEIGHT * WIDTH - 3000]}
    value["annotations"][0]["segmentation"] = run_lengths  # type: ignore[index]
    save(tmp_path, value, "coco.json")
    assert len(FilmSet.open(tmp_path).annotation("a.png").regions) == 1
    value["images"][0]["width"] = 40  # type: ignore[index]
    save(tmp_path, value, "coco.json")
    with pytest.raises(AnnotationError, match="mask is of size 100 x 80"):
        FilmSet.open(tmp_path)


# --------------------------------------------------------------------------- names that look alike


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("film\u00a01.png", "film 1.png"),  # a blank that does not break
        ("film  1.png", "film 1.png"),
        ("film\u20131.png", "film-1.png"),  # an en dash
        ("film\u200b1.png", "film1.png"),  # a blank without width
        ("\ufefffilm.png", "film.png"),  # a byte-order mark
        ("\uff11.png", "1.png"),  # a wide digit
        ("\ufb01lm.png", "film.png"),  # a ligature
        ("https://host/films/film.png?raw=true&x=1", "film.png"),
        ("https://host/film%201.PNG#top", "film 1.png"),
    ],
)
def test_names_that_look_alike_mean_one_film(tmp_path: Path, entry: str, name: str) -> None:
    film(tmp_path, name)
    save(tmp_path, via(entry))
    assert FilmSet.open(tmp_path).names == (name,)
    assert not lint_folder(tmp_path)


def test_names_that_look_alike_are_told_apart_where_both_are_there(tmp_path: Path) -> None:
    for name in ("film-1.png", "film\u20131.png"):
        film(tmp_path, name)
    save(tmp_path, via("film\u20131.png"))
    assert FilmSet.open(tmp_path).names == ("film\u20131.png",)
    save(tmp_path, via("film\u20141.png"))
    with pytest.raises(AnnotationError, match=r"may be 'film-1\.png' or 'film"):
        FilmSet.open(tmp_path)


# ------------------------------------------------------------------------------------- other files


@pytest.mark.parametrize("name", ["via.json", "outlines.txt", "outlines.tsv", "outlines.json"])
def test_a_table_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    film(tmp_path)
    path = save(tmp_path, TABLE, name)
    assert len(read_via(path)[0].regions) == 1
    assert FilmSet.open(tmp_path).annotation("a.png").regions[0].polygon_xy.shape == (4, 2)


def test_json_in_a_file_called_csv(tmp_path: Path) -> None:
    film(tmp_path)
    save(tmp_path, via("a.png"), "via.csv")
    assert FilmSet.open(tmp_path).names == ("a.png",)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"version": "5.0", "shapes": [], "imagePath": "a.png"}, "is a LabelMe file"),
        ([{"image_id": 1, "category_id": 1, "segmentation": []}], "a list of COCO results"),
        ([{"id": 1, "annotations": [], "data": {}}], "a Label Studio export"),
        ({"type": "FeatureCollection", "features": []}, "a GeoJSON file"),
    ],
)
def test_other_programs_files_are_called_by_their_name(
    tmp_path: Path, value: object, words: str
) -> None:
    film(tmp_path)
    path = save(tmp_path, value)
    with pytest.raises(AnnotationError, match=words):
        FilmSet.open(tmp_path)
    path.rename(tmp_path / "a.json")  # as these programs call them
    with pytest.raises(AnnotationError, match=f"a.json.*{words.removeprefix('is ')}.*COCO"):
        FilmSet.open(tmp_path)


def test_an_xml_file_is_called_by_its_name(tmp_path: Path) -> None:
    film(tmp_path)
    (tmp_path / "annotations.xml").write_text("<annotations><version>1.1</version></annotations>")
    with pytest.raises(AnnotationError, match=r"annotations\.xml is an XML file, as CVAT.*COCO"):
        FilmSet.open(tmp_path)
    save(tmp_path, via("a.png"), "outlines.json")
    assert FilmSet.open(tmp_path).names == ("a.png",)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("L4/5", "L4/L5"),
        ("l4-5", "L4/L5"),
        ("T11/12", "T11/T12"),
        ("L5/S1", "L5/S1"),
        ("4/5", None),
        ("L4/S1", "L4/S1"),
        ("T11/L1", "T11/L1"),
        ("L3/L5", None),
        ("L5/L4", None),
        ("L4/L4", None),
        ("L2/S1", None),
    ],
)
def test_short_forms_of_what_lies_between(text: str, level: str | None) -> None:
    assert level_of(text) == level


# ------------------------------------------------------------------- what was lost without a word


LEVELS = [
    ({"level": "L4"}, "L4"),
    ({"Level": "L4"}, "L4"),
    ({" VERTEBRAL_LEVEL ": "l4"}, "L4"),
    ({"level": None, "anatomical_level": "L4"}, "L4"),
    ({"level": "unsure", "vertebral_level": "L4"}, "L4"),
    ({"level": {"L4": True, "L5": False}}, "L4"),
    ({"level": ["L4"]}, "L4"),
    ({"level": {}}, None),
    ({"level": "undefined"}, None),
]
NO_LEVELS = [
    ({"level": {"L4": True, "L5": True}}, "'L4, L5'"),
    ({"level": ["L4", "L5"]}, "'L4, L5'"),
    ({"level": "L4", "vertebral_level": "L5"}, "'L4, L5'"),
    ({"level": "L4", "Level": "L5"}, "'L4, L5'"),
    ({"level": 4}, "'4'"),
]


def levelled(folder: Path, form: str, attributes: object) -> Path:
    """A vertebra with these attributes, in either form of file."""
    film(folder)
    if form == "coco":
        value = coco(height=HEIGHT, width=WIDTH)
        value["categories"][0]["name"] = "lumbar_vertebra"  # type: ignore[index]
        value["annotations"][0]["attributes"] = attributes  # type: ignore[index]
        save(folder, value, "coco.json")
        return folder
    value = via("a.png")
    own = {"structure": "lumbar_vertebra", **attributes}  # type: ignore[dict-item]
    value["a.png"]["regions"][0]["region_attributes"] = own  # type: ignore[index]
    save(folder, value)
    return folder


@pytest.mark.parametrize("form", ["coco", "via"])
@pytest.mark.parametrize(("attributes", "level"), LEVELS)
def test_a_level_is_found_however_its_attribute_is_spelt(
    tmp_path: Path, form: str, attributes: dict[str, object], level: str | None
) -> None:
    (region,) = FilmSet.open(levelled(tmp_path, form, attributes)).annotation("a.png").regions
    assert region.level == level


@pytest.mark.parametrize("form", ["coco", "via"])
@pytest.mark.parametrize(("attributes", "words"), NO_LEVELS)
def test_a_level_that_is_none_or_two_is_said(
    tmp_path: Path, form: str, attributes: dict[str, object], words: str
) -> None:
    films = FilmSet.open(levelled(tmp_path, form, attributes))
    assert films.annotation("a.png").regions[0].level is None
    (finding,) = films.findings
    assert finding.rule == "unknown-level"
    assert words in finding.message


@pytest.mark.parametrize("attributes", [[{"name": "level", "value": "L4"}], '{"level": "L4"}'])
def test_attributes_that_are_no_object_are_said(tmp_path: Path, attributes: object) -> None:
    (finding,) = FilmSet.open(levelled(tmp_path, "coco", attributes)).findings
    assert finding.rule == "unknown-level"
    assert 'write {"level": "L4"}' in finding.message


def test_a_level_beside_the_attributes_of_coco(tmp_path: Path) -> None:
    film(tmp_path)
    value = coco(height=HEIGHT, width=WIDTH)
    value["categories"] = [{"id": 1, "name": "vertebra"}]
    value["annotations"][0].update(Level="L3")  # type: ignore[index]
    save(tmp_path, value, "coco.json")
    assert FilmSet.open(tmp_path).annotation("a.png").regions[0].level == "L3"
    value["annotations"][0].update(attributes={"level": "L4"})  # type: ignore[index]
    save(tmp_path, value, "coco.json")
    assert [finding.rule for finding in lint_folder(tmp_path)] == ["unknown-level"]


@pytest.mark.parametrize("odd", [True, [10], {}, None, "x", "1,5"])
@pytest.mark.parametrize("form", ["coco", "via"])
def test_a_coordinate_that_is_no_number(tmp_path: Path, form: str, odd: object) -> None:
    film(tmp_path)
    xs, ys = [odd, 40, 40, 10], [20, 20, 80, 80]
    if form == "coco":
        value = coco(height=HEIGHT, width=WIDTH)
        flat = [number for pair in zip(xs, ys, strict=True) for number in pair]
        value["annotations"][0]["segmentation"] = [flat]  # type: ignore[index]
        save(tmp_path, value, "coco.json")
    else:
        value = via("a.png")
        shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
        value["a.png"]["regions"][0]["shape_attributes"] = shape  # type: ignore[index]
        save(tmp_path, value)
    (finding,) = lint_folder(tmp_path)
    assert (finding.rule, finding.region_index) == ("no-outline", 0)


def test_lists_as_coordinates_of_one_side(tmp_path: Path) -> None:
    film(tmp_path)
    value = via("a.png")
    shape = {"name": "polygon", "all_points_x": [[1], [2], [3]], "all_points_y": [1, 2, 3]}
    value["a.png"]["regions"][0]["shape_attributes"] = shape  # type: ignore[index]
    save(tmp_path, value)
    assert [finding.rule for finding in lint_folder(tmp_path)] == ["no-outline"]


def test_an_ellipse_turned_by_degrees_is_refused(tmp_path: Path) -> None:
    film(tmp_path)
    value = via("a.png")
    shape = {"name": "ellipse", "cx": 40, "cy": 50, "rx": 20, "ry": 10, "theta": 45}
    value["a.png"]["regions"][0]["shape_attributes"] = shape  # type: ignore[index]
    save(tmp_path, value)
    (finding,) = lint_folder(tmp_path)
    assert "VIA has theta in radians" in finding.message


SECOND = TABLE.splitlines()[1].replace('""x"":10', '""x"":45').replace(",1,0,", ",2,1,")


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [("{}", '{""width"":40}', "40 wide"), ('{""width"":80}', '{""width"":40}', "line 3.*another")],
)
def test_a_later_line_of_a_table_that_states_another_size(
    tmp_path: Path, first: str, second: str, words: str
) -> None:
    film(tmp_path)
    lines = [TABLE.replace('"{}"', f'"{first}"', 1).replace(",1,0,", ",2,0,"), SECOND]
    lines[1] = lines[1].replace('"{}"', f'"{second}"', 1)
    save(tmp_path, "".join(lines) + "\n", "via.csv")
    if first == "{}":
        assert [finding.rule for finding in lint_folder(tmp_path)] == ["wrong-size"]
        return
    with pytest.raises(AnnotationError, match=words):
        lint_folder(tmp_path)


def test_a_line_of_a_table_that_lost_its_shape(tmp_path: Path) -> None:
    film(tmp_path)
    rows = 'filename,region_shape_attributes,region_attributes\na.png,{},"{""structure"":""cage""}"'
    save(tmp_path, rows + "\n", "via.csv")
    assert [finding.rule for finding in lint_folder(tmp_path)] == ["no-outline"]
    save(tmp_path, rows.replace('"{""structure"":""cage""}"', "{}") + "\n", "via.csv")
    assert [finding.rule for finding in lint_folder(tmp_path)] == ["no-region"]
