from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.regions import FilmAnnotation, Region, polygon_area
from spinezoo_spine.annotations.via import read_via, read_via_raw, write_via

FORMS = [(version, suffix) for version in (1, 2, 3) for suffix in (".json", ".csv")]
TRIANGLE = {"name": "polygon", "all_points_x": [1, 9, 1], "all_points_y": [1, 1, 7]}


def via2(*regions: dict, name: str = "a.png") -> dict:
    return {f"{name}1": {"filename": name, "size": 1, "regions": list(regions)}}


def region(shape: dict, **attributes: object) -> dict:
    return {"shape_attributes": shape, "region_attributes": attributes}


def write(tmp_path: Path, value: object, name: str = "via.json") -> Path:
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def outline(tmp_path: Path, shape: dict) -> np.ndarray:
    path = write(tmp_path, via2(region(shape, structure="cage")))
    return read_via(path)[0].regions[0].polygon_xy


# --------------------------------------------------------------------------------- round trips


coordinate = st.floats(-1e3, 1e4, allow_nan=False, width=64)
regions = st.builds(
    lambda structure, points, level: Region(structure, np.array(points), level),
    st.sampled_from(Structure),
    st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=12, unique=True),
    st.sampled_from([None, "L4", "S1", "L4/L5"]),
)


@pytest.mark.parametrize(("version", "suffix"), FORMS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(regions, max_size=4), min_size=1, max_size=3))
def test_what_is_written_reads_back_the_same(
    tmp_path: Path, version: int, suffix: str, films: list[list[Region]]
) -> None:
    before = [FilmAnnotation(f'film "{i}", ä&b.png', tuple(some)) for i, some in enumerate(films)]
    path = tmp_path / f"via{suffix}"
    write_via(path, before, version=version)
    after = read_via(path)
    assert [film.film_name for film in after] == [film.film_name for film in before]
    for old, new in zip(before, after, strict=True):
        assert [r.structure for r in new.regions] == [r.structure for r in old.regions]
        assert [r.level for r in new.regions] == [r.level for r in old.regions]
        for one, other in zip(old.regions, new.regions, strict=True):
            np.testing.assert_allclose(other.polygon_xy, one.polygon_xy, rtol=0, atol=1e-9)


def test_the_size_in_the_key_is_that_of_the_film_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12345")
    films = [FilmAnnotation("a.png", ()), FilmAnnotation("b.png", ())]
    write_via(tmp_path / "via.json", films)
    project = json.loads((tmp_path / "via.json").read_text())
    assert list(project["_via_img_metadata"]) == ["a.png5", "b.png-1"]
    assert project["_via_image_id_list"] == ["a.png5", "b.png-1"]


def test_writing_refuses(tmp_path: Path) -> None:
    film = FilmAnnotation("a.png", ())
    with pytest.raises(AnnotationError, match="version 4"):
        write_via(tmp_path / "via.json", [film], version=4)
    with pytest.raises(AnnotationError, match=r"\.json or \.csv"):
        write_via(tmp_path / "via.txt", [film])
    with pytest.raises(AnnotationError, match="twice"):
        write_via(tmp_path / "via.json", [film, film])
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------------- shapes


def test_rect(tmp_path: Path) -> None:
    points = outline(tmp_path, {"name": "rect", "x": 2, "y": 3, "width": 4, "height": 5})
    assert points.tolist() == [[2, 3], [6, 3], [6, 8], [2, 8]]


def test_circle_keeps_its_area_and_middle(tmp_path: Path) -> None:
    points = outline(tmp_path, {"name": "circle", "cx": 20, "cy": 30, "r": 10})
    assert polygon_area(points) == pytest.approx(math.pi * 100, rel=1e-12)
    assert points.mean(axis=0).tolist() == pytest.approx([20, 30])


def test_ellipse_turns_from_x_towards_y(tmp_path: Path) -> None:
    shape = {"name": "ellipse", "cx": 50, "cy": 50, "rx": 20, "ry": 5, "theta": math.pi / 6}
    points = outline(tmp_path, shape)
    assert polygon_area(points) == pytest.approx(math.pi * 100, rel=1e-12)
    tip = points[np.argmax(points[:, 0])] - 50
    assert math.degrees(math.atan2(tip[1], tip[0])) == pytest.approx(30, abs=3)
    upright = outline(tmp_path, {**shape, "theta": 0})
    assert np.ptp(upright[:, 1]) == pytest.approx(10, rel=0.01)


def test_closed_polyline_and_via_1s_repeated_last_point(tmp_path: Path) -> None:
    shape = {"name": "polyline", "all_points_x": [1, 9, 9, 1, 1.5], "all_points_y": [1, 1, 7, 7, 2]}
    assert len(outline(tmp_path, shape)) == 4
    shape = {"name": "polygon", "all_points_x": [1, 9, 9, 1], "all_points_y": [1, 1, 7, 1]}
    assert outline(tmp_path, shape).tolist() == [[1, 1], [9, 1], [9, 7]]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"name": "point", "cx": 1, "cy": 1}, "encloses nothing"),
        ({"name": "line", "x1": 1}, "encloses nothing"),
        (
            {"name": "polyline", "all_points_x": [1, 9, 9, 30], "all_points_y": [1, 1, 7, 30]},
            "does not close",
        ),
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "2 points"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "equal length"),
        ({"name": "polygon"}, "all_points_x"),
        ({"name": "rect", "x": 1, "y": 1, "width": 3}, "height"),
        ({"name": "circle", "cx": 1, "cy": 1, "r": "wide"}, "no finite number"),
        ({"name": "circle", "cx": 1, "cy": 1, "r": float("inf")}, "finite"),
        ({}, "no shape"),
    ],
)
def test_what_encloses_nothing_names_film_and_region(
    tmp_path: Path, shape: dict, words: str
) -> None:
    path = write(tmp_path, via2(region(TRIANGLE, structure="rod"), region(shape, structure="rod")))
    with pytest.raises(AnnotationError, match=f"film 'a.png', region 1.*{words}"):
        read_via(path)
    raw = read_via_raw(path)[0].regions
    assert raw[0].points_xy is not None
    assert raw[1].points_xy is None
    assert words in raw[1].problem


# ------------------------------------------------------------------------------------- classes


def test_unknown_class_names_everything(tmp_path: Path) -> None:
    path = write(tmp_path, via2(region(TRIANGLE, structure="dog")))
    with pytest.raises(AnnotationError) as caught:
        read_via(path)
    for word in ("a.png", "region 0", "'dog'", "lumbar_vertebra", "rod"):
        assert word in str(caught.value)
    found = read_via(path, classes={"Dog": Structure.CAGE})[0].regions[0]
    assert found.structure is Structure.CAGE
    with pytest.raises(AnnotationError, match="has no class"):
        read_via(write(tmp_path, via2(region(TRIANGLE))))


def test_the_class_attribute_is_the_one_with_known_names(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        via2(
            region(TRIANGLE, type="instrument", Label="Screw", level="L4"),
            region(TRIANGLE, type="bone", Label={"lumbar vertebra": True, "rod": False}),
        ),
    )
    first, second = read_via(path)[0].regions
    assert (first.structure, first.level) == (Structure.SCREW, "L4")
    assert second.structure is Structure.LUMBAR_VERTEBRA
    with pytest.raises(AnnotationError, match="'instrument'"):
        read_via(path, class_attribute="type")


def test_a_level_as_class_gives_both(tmp_path: Path) -> None:
    path = write(tmp_path, via2(region(TRIANGLE, name="L3"), region(TRIANGLE, name="s1")))
    first, second = read_via(path)[0].regions
    assert (first.structure, first.level) == (Structure.LUMBAR_VERTEBRA, "L3")
    assert (second.structure, second.level) == (Structure.SACRAL_VERTEBRA, "S1")


def test_a_level_beside_the_class_is_the_level(tmp_path: Path) -> None:
    regions = (
        region(TRIANGLE, label="L4", type="vertebra"),
        region(TRIANGLE, label="l4", type="Screw"),
        region(TRIANGLE, label="L3", type="vertebra", level="L5"),
        region(TRIANGLE, label="L3", type="vertebra", name="L4"),
    )
    (film,) = read_via_raw(write(tmp_path, via2(*regions)))
    found = [(one.class_name, one.level) for one in film.regions]
    assert found == [("vertebra", "L4"), ("Screw", "L4"), ("vertebra", "L5"), ("vertebra", None)]
    assert film.regions[3].level_text == "L3, L4"


def test_attributes_that_name_different_structures_are_said(tmp_path: Path) -> None:
    regions = (
        region(TRIANGLE, structure="screw", **{"class": "rod"}),
        region(TRIANGLE, structure="screw", name="Pedicle screw", type="instrumentation"),
        region(TRIANGLE, structure="sacrum", type="vertebra", name="S1"),
        region(TRIANGLE, structure="cage", name="the upper one"),
        region(TRIANGLE, structure="screw", type="sacral", name="lumbar"),
    )
    path = write(tmp_path, via2(*regions))
    first, *others = read_via_raw(path)[0].regions
    ((rule, message),) = first.doubts
    assert rule == "class-conflict"
    assert "'screw' by its attribute 'structure', which counts, and 'rod' by 'class'" in message
    assert all(not each.doubts for each in others)
    # Whoever says which attribute counts has decided.
    (film,) = read_via_raw(path, class_attribute="class")
    assert film.regions[0].class_name == "rod"
    assert not film.regions[0].doubts


# --------------------------------------------------------------------------------------- forms


def test_via_1_regions_by_number_keep_their_order(tmp_path: Path) -> None:
    numbered = {str(n): region(TRIANGLE, name=f"L{n % 5 + 1}") for n in (10, 2, 0)}
    path = write(tmp_path, {"a1": {"filename": "a.png", "size": 1, "regions": numbered}})
    assert [r.level for r in read_via(path)[0].regions] == ["L1", "L3", "L1"]


def test_via_3_project_with_options_and_extreme_shapes(tmp_path: Path) -> None:
    project = {
        "project": {"pid": "x", "vid_list": ["1", "2"]},
        "attribute": {
            "1": {"aname": "class", "type": 4, "options": {"0": "screw", "1": "rod"}},
            "2": {"aname": "seen", "type": 2, "options": {"0": "yes", "1": "no"}},
        },
        "file": {
            "1": {"fid": "1", "fname": "a.png", "type": 2, "loc": 1, "src": ""},
            "2": {"fid": "2", "fname": "b.png", "type": 2, "loc": 1, "src": ""},
        },
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
        "metadata": {
            "a": {"vid": "1", "flg": 0, "z": [], "xy": [2, 1, 2, 3, 4], "av": {"1": "0"}},
            "b": {"vid": "2", "flg": 0, "z": [], "xy": [3, 9, 9, 2], "av": {"1": "1", "2": "0,1"}},
            "c": {"vid": "1", "flg": 0, "z": [], "xy": [4, 9, 9, 2, 1], "av": {"1": "1"}},
            "d": {
                "vid": "1",
                "flg": 0,
                "z": [],
                "xy": [8, 0, 5, 4, 0, 8, 5, 4, 9],
                "av": {"1": "1"},
            },
            "e": {"vid": "1", "flg": 0, "z": [], "xy": [9, 0, 5, 5, 0, 10, 5], "av": {"1": "1"}},
            "f": {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {"1": "1"}},
        },
    }
    a, b = read_via(write(tmp_path, project))
    assert (a.film_name, b.film_name) == ("a.png", "b.png")
    assert a.regions[0].structure is Structure.SCREW
    assert a.regions[0].polygon_xy.tolist() == [[1, 2], [4, 2], [4, 6], [1, 6]]
    assert polygon_area(b.regions[0].polygon_xy) == pytest.approx(4 * math.pi)
    assert polygon_area(a.regions[1].polygon_xy) == pytest.approx(2 * math.pi)
    assert a.regions[2].polygon_xy.tolist() == [[0, 0], [8, 0], [8, 9], [0, 9]]
    assert polygon_area(a.regions[3].polygon_xy) == pytest.approx(25 * math.pi)
    assert len(a.regions) == 4


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("via.json", "{", "not valid JSON"),
        ("via.json", "[1, 2]", "not a VIA file"),
        ("via.json", '{"a": {"no": 1}}', "not a VIA file"),
        ("via.json", "[" * 100_000, "not valid JSON"),
        ("via.csv", "a,b\n1,2\n", "not a VIA file"),
        ("via.csv", "", "not a VIA file"),
        (
            "via.csv",
            "filename,region_shape_attributes,region_attributes\na.png,{,{}\n",
            "a.png.*not valid JSON",
        ),
        ("via.json", json.dumps(via2(name="")), "no filename"),
        (
            "via.json",
            json.dumps({"file": {}, "view": {"1": {"fid_list": ["1", "2"]}}, "metadata": {}}),
            "one film a view",
        ),
        (
            "via.json",
            json.dumps({"a1": via2()["a.png1"], "a2": via2()["a.png1"]}),
            "a.png.*twice",
        ),
    ],
)
def test_files_that_are_no_via_files(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(AnnotationError, match=words) as caught:
        read_via(write(tmp_path, text, name))
    assert name in str(caught.value)


def test_a_missing_and_a_binary_file(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"nothing\.json: cannot be read"):
        read_via(tmp_path / "nothing.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(AnnotationError, match="not valid JSON"):
        read_via(tmp_path / "a.json")


# -------------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_the_official_via_1_sample(shared_data: Path, suffix: str) -> None:
    films = read_via_raw(shared_data / "via" / f"via1_official_region_data_{suffix}.{suffix}")
    assert [(film.film_name, len(film.regions)) for film in films] == [
        ("test_pattern_qbist.jpg", 8),
        ("a_swan_swimming_in_geneve_lake.jpg", 1),
        ("sinus_test_pattern.jpg", 3),
    ]
    shapes = [r.shape for r in films[0].regions]
    assert shapes == ["ellipse", "rect", "point", "point", "point", "circle", "ellipse", "point"]
    swan = films[1].regions[0]
    assert swan.points_xy is not None
    assert len(swan.points_xy) == 11
    assert swan.class_name == 'a "white" swan, good fortune'


def test_the_via_2_sample_with_nested_attributes(shared_data: Path) -> None:
    path = shared_data / "via" / "via2_rect_nested_attrs.json"
    classes = {"dog": Structure.CAGE, "cat": Structure.ROD}
    one, two = read_via(path, classes=classes)
    assert [r.structure for r in (*one.regions, *two.regions)] == [
        Structure.CAGE,
        Structure.CAGE,
        Structure.ROD,
    ]
    with pytest.raises(AnnotationError, match=r"1\.jpeg.*'dog'"):
        read_via(path, class_attribute="name")
