"""Annotation files as programs really write them: encodings, separators, odd entries, limits."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.film_set import FilmSet, read_annotations_raw
from spinezoo_spine.annotations.lint import lint_folder
from spinezoo_spine.annotations.regions import FilmAnnotation, judge
from spinezoo_spine.annotations.via import read_via, read_via_raw, write_via

BOX = {"name": "rect", "x": 10, "y": 20, "width": 30, "height": 16}
HEADER = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)


def film(path: Path, height: int = 100, width: int = 80) -> Path:
    """A grey PNG film."""
    grey = np.add.outer(np.arange(height), np.arange(width)) % 200
    Image.fromarray(grey.astype(np.uint8)).save(path)
    return path


def region(shape: object = BOX, **attributes: object) -> dict:
    return {"shape_attributes": shape, "region_attributes": attributes or {"structure": "cage"}}


def entry(name: str, *regions: dict, **more: object) -> dict:
    return {"filename": name, "size": -1, "regions": list(regions), **more}


def via(*entries: dict) -> dict:
    return {f"{e['filename']}{e.get('size', '')}": e for e in entries}


def write(folder: Path, value: object, name: str = "via.json", encoding: str = "utf-8") -> Path:
    path = folder / name
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    path.write_bytes(text.encode(encoding))
    return path


def csv_text(rows: list[list[object]], separator: str = ",", header: tuple = HEADER) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator)
    writer.writerows([header, *rows])
    return buffer.getvalue()


def row(name: str, shape: object = BOX, attributes: object = None, **more: object) -> list[object]:
    cells = {"size": -1, "file": "{}", "count": 1, "id": 0, **more}
    return [
        name,
        cells["size"],
        cells["file"],
        cells["count"],
        cells["id"],
        json.dumps(shape),
        json.dumps(attributes or {"structure": "cage"}),
    ]


def outline(path: Path) -> list[list[float]]:
    (only,) = read_via(path)
    assert only.regions[0].structure is Structure.CAGE
    return only.regions[0].polygon_xy.tolist()


BOX_POINTS = [[10, 20], [40, 20], [40, 36], [10, 36]]


# ------------------------------------------------------------------------------------ encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be",
                                      "utf-32", "cp1252"])  # fmt: skip
@pytest.mark.parametrize("form", ["json", "csv"])
def test_encodings(tmp_path: Path, encoding: str, form: str) -> None:
    name = "Röntgen é.png"
    text = csv_text([row(name)]) if form == "csv" else json.dumps(
        via(entry(name, region())), ensure_ascii=False
    )  # fmt: skip
    path = write(tmp_path, text, f"via.{form}", encoding)
    film(tmp_path / name)
    assert outline(path) == BOX_POINTS
    assert FilmSet.open(tmp_path).names == (name,)


def test_a_file_in_no_encoding_names_line_and_column(tmp_path: Path) -> None:
    text = json.dumps(via(entry("a.png", region())), indent=1).encode()
    (tmp_path / "via.json").write_bytes(text.replace(b"a.png", b"\x81.png", 1))
    with pytest.raises(AnnotationError, match=r"via\.json: line 2, column 3: is neither UTF-8"):
        read_via(tmp_path / "via.json")


# ------------------------------------------------------------------------------------------ CSV


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("version", [1, 2])
def test_separators(tmp_path: Path, separator: str, version: int) -> None:
    header = ("#filename" if version == 1 else "filename", *HEADER[1:])
    rows = [row("a, b; c.png"), row("b.png", count=0, shape={}, attributes={})]
    path = write(tmp_path, csv_text(rows, separator, header), "via.csv")
    first, second = read_via(path)
    assert first.film_name == "a, b; c.png"
    assert first.regions[0].polygon_xy.tolist() == BOX_POINTS
    assert (second.film_name, second.regions) == ("b.png", ())


def test_via_3_csv_saved_by_a_program_for_tables(tmp_path: Path) -> None:
    write_via(tmp_path / "a.csv", [FilmAnnotation("a.png", read_via(
        write(tmp_path, via(entry("a.png", region()))))[0].regions)], version=3)  # fmt: skip
    text = (tmp_path / "a.csv").read_text()
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=";").writerows(csv.reader(io.StringIO(text)))
    path = write(tmp_path, buffer.getvalue(), "b.csv", "utf-8-sig")
    assert outline(path) == outline(tmp_path / "a.csv") == BOX_POINTS


def test_a_hint_for_the_separator_and_two_exports_in_one_file(tmp_path: Path) -> None:
    text = csv_text([row("a.png")], ";") + csv_text([row("b.png")], ";")
    path = write(tmp_path, "sep=;\r\n" + text, "via.csv")
    assert [f.film_name for f in read_via(path)] == ["a.png", "b.png"]


def test_cells_with_line_breaks_and_cells_of_any_length(tmp_path: Path) -> None:
    shape = {
        "name": "polygon",
        "all_points_x": [10 + 30 * (i % 10_000 < 5000) for i in range(20_000)],
        "all_points_y": [20 + i / 1000 for i in range(20_000)],
    }
    pretty = json.dumps(BOX, indent=2)
    long = row("a.png", shape, {"structure": "rod"}, count=2)
    assert max(len(str(cell)) for cell in long) > 131_072
    rows = [long, row("a.png", id=1, count=2)]
    rows[1][5] = pretty
    (only,) = read_via(write(tmp_path, csv_text(rows), "via.csv"))
    assert len(only.regions[0].polygon_xy) == 20_000
    assert only.regions[1].polygon_xy.tolist() == BOX_POINTS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (csv_text([row("a.png"), row("b.png")[:4]]), r"line 3: has 4 cells"),
        (csv_text([row("a.png"), [*row("b.png"), "x"]]), r"line 3: has 8 cells"),
        (
            csv_text([row("a.png"), row("b\nc.png"), row("d.png")]).replace(
                '""name"": ""rect""', '""name"" ""rect""'
            ).replace('""name"" ""rect""', '""name"": ""rect""', 2),
            r"line 5, film 'd\.png', column region_shape_attributes.*line 1, column 9",
        ),
        (csv_text([row("a.png")]) + '"b.png,1\n', r"line 3: a quoted cell"),
        (csv_text([row("a.png")], header=("filename", *HEADER[:6])), "2 columns 'filename'"),
        (csv_text([row("a.png")], header=(*HEADER[:5], "x", "y")), "not a VIA file"),
    ],
)  # fmt: skip
def test_a_wrong_csv_says_where(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text, "via.csv")
    with pytest.raises(AnnotationError, match=rf"via\.csv: .*{words}"):
        read_via(path)


def test_a_csv_that_lost_rows_is_doubted(tmp_path: Path) -> None:
    film(tmp_path / "a.png")
    write(tmp_path, csv_text([row("a.png", count=3)]), "via.csv")
    (finding,) = lint_folder(tmp_path)
    assert finding.rule == "region-count"
    assert "has 1 row, its region_count says 3" in finding.message


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("version", [1, 3])
def test_line_ends_of_every_system(tmp_path: Path, ends: str, version: int) -> None:
    films = read_via(write(tmp_path, via(entry("a.png", region()), entry("b.png"))))
    write_via(tmp_path / "a.csv", films, version=version)
    text = (tmp_path / "a.csv").read_text().replace("\n", ends)
    (tmp_path / "b.csv").write_bytes(text.encode())
    assert [f.film_name for f in read_via(tmp_path / "b.csv")] == ["a.png", "b.png"]
    assert read_via(tmp_path / "b.csv")[0].regions[0].polygon_xy.tolist() == BOX_POINTS


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04rest", "a ZIP archive"),
        (b"\x1f\x8brest", "compressed by gzip"),
        (b"\x89PNG\r\n", "a picture"),
        (b"", "not valid JSON"),
        (b"   ", "not valid JSON"),
    ],
)
def test_files_of_other_kinds_are_called_by_their_name(
    tmp_path: Path, data: bytes, words: str
) -> None:
    film(tmp_path / "a.png")
    (tmp_path / "outlines.json").write_bytes(data)
    with pytest.raises(AnnotationError, match=rf"outlines\.json: is {words}"):
        FilmSet.open(tmp_path)


# ----------------------------------------------------------------------------------------- JSON


def test_wrong_json_says_line_and_column(tmp_path: Path) -> None:
    text = json.dumps(via(entry("a.png", region())), indent=1).replace('"size": -1,', '"size": -1')
    with pytest.raises(AnnotationError, match=r"not valid JSON \(line 5, column 3"):
        read_via(write(tmp_path, text))


def test_a_broken_file_is_named_even_where_no_name_was_given(tmp_path: Path) -> None:
    film(tmp_path / "a.png")
    write(tmp_path, '{"a.png1": {', "project.json")
    with pytest.raises(AnnotationError, match=r"project\.json: is not valid JSON \(line 1"):
        FilmSet.open(tmp_path)


def test_an_entry_without_regions_is_a_film_without_outlines(tmp_path: Path) -> None:
    bare = {"filename": "b.png", "size": 1, "file_attributes": {}}
    first, second = read_via(write(tmp_path, via(entry("a.png", region()), bare)))
    assert (len(first.regions), second.film_name, second.regions) == (1, "b.png", ())


def test_one_film_twice_as_a_key(tmp_path: Path) -> None:
    one, two = (json.dumps(entry("a.png", *[region()] * n)) for n in (2, 5))
    path = write(tmp_path, f'{{"a.png-1": {one}, "a.png-1": {two}}}')
    with pytest.raises(AnnotationError, match=r"'a\.png-1' stands twice.* 2 regions and 5 regions"):
        read_via(path)
    same = write(tmp_path, f'{{"a.png-1": {one}, "a.png-1": {one}}}', "same.json")
    assert len(read_via(same)[0].regions) == 2


def test_one_film_under_two_keys_names_both(tmp_path: Path) -> None:
    value = {"a.png10": entry("a.png", region()), "a.png20": entry("a.png")}
    with pytest.raises(AnnotationError, match=r"'a\.png10' and as 'a\.png20'"):
        read_via(write(tmp_path, value))


def test_attributes_given_twice_come_together(tmp_path: Path) -> None:
    text = json.dumps(via(entry("a.png", region(), file_attributes={"width": 80})))
    text = text.replace(
        '"file_attributes":', '"file_attributes": {"height": 100},"file_attributes":'
    )
    assert read_via_raw(write(tmp_path, text))[0].size == (100, 80)


def test_regions_as_list_object_and_none(tmp_path: Path) -> None:
    value = via(entry("a.png"), entry("b.png"), entry("c.png"))
    value["a.png-1"]["regions"] = {"1": region(structure="rod"), "0": region()}
    value["b.png-1"]["regions"] = None
    value["c.png-1"]["regions"] = {}
    a, b, c = read_via(write(tmp_path, value))
    assert [r.structure.name for r in a.regions] == ["CAGE", "ROD"]
    assert (b.regions, c.regions) == ((), ())
    listed = write(tmp_path, list(value.values()), "list.json")
    assert [f.film_name for f in read_via(listed)] == ["a.png", "b.png", "c.png"]


def test_a_region_that_is_nothing_is_its_own_error(tmp_path: Path) -> None:
    film(tmp_path / "a.png")
    write(tmp_path, via(entry("a.png", region(), None, {"shape_attributes": 3}, region(  # type: ignore[arg-type]
        {"name": "rect", "x": 50, "y": 60, "width": 9, "height": 9}))))  # fmt: skip
    found = lint_folder(tmp_path)
    assert {(f.region_index, f.rule) for f in found} == {
        (1, "no-outline"),
        (1, "unknown-class"),
        (2, "no-outline"),
        (2, "unknown-class"),
    }
    films = FilmSet.open(tmp_path, skip_bad_regions=True)
    assert len(films.annotation("a.png").regions) == 2


# --------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"name": "polygon", "all_points_x": [4], "all_points_y": [5]}, "1 point and encloses"),
        ({"name": "polygon", "all_points_x": 4, "all_points_y": 5}, "1 point and encloses"),
        ({"name": "polygon", "all_points_x": [], "all_points_y": []}, "0 points"),
        ({"name": "polygon", "all_points_x": [1, float("nan"), 3], "all_points_y": [1, 2, 3]},
         "not a finite number"),
        ({"name": "polygon", "all_points_x": [1, 10**400, 3], "all_points_y": [1, 2, 3]},
         "no number"),
        ({"name": "polygon", "all_points_x": [1, None, 3], "all_points_y": [1, 2, 3]}, "finite"),
        ({"name": "circle", "cx": 5, "cy": 5, "r": 0}, "radius of 0"),
        ({"name": "circle", "cx": 5, "cy": 5, "r": -4}, "radius of -4"),
        ({"name": "ellipse", "cx": 5, "cy": 5, "rx": 4, "ry": 0}, "radius of 0"),
        ({"name": "circle", "cx": 10**400, "cy": 5, "r": 4}, "no finite number"),
        ({"name": "rect", "x": 1e300, "y": 5, "width": 4, "height": 4}, "beyond"),
        ({"name": "rect", "x": 1, "y": 5, "width": 4, "height": 4, "rotation": 0.5}, "turned"),
        ({"name": "polyline", "all_points_x": [], "all_points_y": []}, "does not close"),
    ],
)  # fmt: skip
def test_shapes_that_enclose_nothing(tmp_path: Path, shape: dict, words: str) -> None:
    path = write(tmp_path, via(entry("a.png", region(), region(shape))))
    with pytest.raises(AnnotationError, match=rf"film 'a\.png', region 1: .*{words}"):
        read_via(path)


def test_numbers_as_text_and_negative_widths(tmp_path: Path) -> None:
    as_text = {"name": "rect", "x": "10", "y": "20.0", "width": "30", "height": "16"}
    assert outline(write(tmp_path, via(entry("a.png", region(as_text))))) == BOX_POINTS
    leftwards = {"name": "rect", "x": 40, "y": 20, "width": -30, "height": 16}
    points = outline(write(tmp_path, via(entry("a.png", region(leftwards)))))
    assert sorted(points) == sorted(BOX_POINTS)
    polygon = {"name": "polygon", "all_points_x": ["1", "9", "9"], "all_points_y": ["1", "1", "7"]}
    assert outline(write(tmp_path, via(entry("a.png", region(polygon))))) == [
        [1, 1],
        [9, 1],
        [9, 7],
    ]


# -------------------------------------------------------------------------------------- classes


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"anatomy": "cage"}, r"'anatomy' \(cage\), the class is looked for in structure, class,"),
        (
            {"structure": {"cage": False, "rod": False}},
            r"'structure', no box is ticked \(of cage, rod",
        ),
        ({"structure": {"cage": True, "rod": True}}, r"2 boxes are ticked \(cage, rod\)"),
        ({"structure": {}}, "no box is ticked"),
        ({"structure": "undefined"}, "'undefined': nothing was chosen"),
        ({"structure": "  "}, "it is empty"),
        ({"structure": None}, "nothing is chosen"),
        ({"structure": "femur"}, r"'femur' is unknown; known are .*--map \"femur=structure\""),
    ],
)
def test_a_missing_class_names_what_was_found(tmp_path: Path, attributes: dict, words: str) -> None:
    path = write(tmp_path, via(entry("a.png", {"shape_attributes": BOX,
                                               "region_attributes": attributes})))  # fmt: skip
    with pytest.raises(AnnotationError, match=words):
        read_via(path)


def test_the_options_of_the_commands_name_attribute_and_classes(tmp_path: Path) -> None:
    path = write(tmp_path, via(entry("a.png", region(Anatomy="Gehäuse"))))
    classes = {"gehäuse": Structure.CAGE}
    (found,) = read_via(path, class_attribute="anatomy", classes=classes)
    assert found.regions[0].structure is Structure.CAGE


def test_regions_of_one_file_may_use_different_attributes(tmp_path: Path) -> None:
    more = {"name": "rect", "x": 1, "y": 1, "width": 5, "height": 5}
    path = write(
        tmp_path, via(entry("a.png", region(structure="rod"), region(more, label="screw")))
    )
    (found,) = read_via(path)
    assert [r.structure.name for r in found.regions] == ["ROD", "SCREW"]
    path = write(
        tmp_path, via(entry("a.png", region(structure="rod"), region(more, label="thing")))
    )
    with pytest.raises(AnnotationError, match=r"region 1: .*'label' \(thing\)"):
        read_via(path)


def test_a_project_s_options_stand_for_their_descriptions(tmp_path: Path) -> None:
    project = {
        "_via_img_metadata": via(entry("a.png", region(structure="2"))),
        "_via_attributes": {
            "region": {"structure": {"type": "dropdown", "options": {"1": "rod", "2": "cage"}}}
        },
    }
    assert outline(write(tmp_path, project)) == BOX_POINTS


# --------------------------------------------------------------------------------- film's sizes


def test_a_via_file_that_states_another_size(tmp_path: Path) -> None:
    film(tmp_path / "a.png", 100, 80)
    stated = {"width": 40, "height": "50"}
    write(tmp_path, via(entry("a.png", region(), file_attributes=stated)))
    (finding,) = lint_folder(tmp_path)
    assert (finding.rule, finding.is_error) == ("wrong-size", True)
    assert "50 x 40 pixels (height x width), the film has 100 x 80, 2 times" in finding.message
    with pytest.raises(AnnotationError, match="50 x 40"):
        FilmSet.open(tmp_path)
    films = FilmSet.open(tmp_path, skip_bad_regions=True)
    assert films.names == ()
    assert "wrong-size" in films.left_out["a.png"]


@pytest.mark.parametrize("width", ["wide", float("inf"), -3, 2.5, 10**400])
def test_a_size_that_is_none_is_named(tmp_path: Path, width: object) -> None:
    film(tmp_path / "a.png")
    write(tmp_path, via(entry("a.png", file_attributes={"width": width, "height": 3})))
    with pytest.raises(AnnotationError, match=r"film 'a\.png': width is"):
        FilmSet.open(tmp_path)


def test_another_file_than_the_outlined_one(tmp_path: Path) -> None:
    size = film(tmp_path / "a.png", 100, 80).stat().st_size
    inside = region({"name": "rect", "x": 10, "y": 20, "width": 60, "height": 70})
    write(tmp_path, via(entry("a.png", inside, size=size)))
    assert lint_folder(tmp_path) == []
    write(tmp_path, via(entry("a.png", inside, size=size + 7)))
    (finding,) = lint_folder(tmp_path)
    assert (finding.rule, finding.is_error) == ("other-file", False)
    # Drawn at twice the size: some of it lies off the film.
    beyond = region({"name": "rect", "x": 20, "y": 40, "width": 61.5, "height": 59})
    write(tmp_path, via(entry("a.png", beyond, size=size + 7)))
    assert [f.rule for f in lint_folder(tmp_path) if f.is_error] == ["wrong-size"]
    # Drawn at half the size.
    small = [region({"name": "rect", "x": 5, "y": y, "width": 30, "height": 9}) for y in (9, 30)]
    write(tmp_path, via(entry("a.png", *small, size=size + 7)))
    assert [f.rule for f in lint_folder(tmp_path) if f.is_error] == ["wrong-size"]


# --------------------------------------------------------------------------------------- limits


def test_limits_are_said_with_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {
        "name": "polygon",
        "all_points_x": list(range(20_001)),
        "all_points_y": [0, 9, 3] * 6667,
    }
    path = write(tmp_path, via(entry("a.png", region(many))))
    with pytest.raises(AnnotationError, match=r"20001 points, the limit is 20000"):
        read_via(path)
    film(tmp_path / "a.png")
    boxes = [
        region({"name": "rect", "x": i % 60, "y": i // 60, "width": 9, "height": 7})
        for i in range(1001)
    ]
    write(tmp_path, via(entry("a.png", *boxes)))
    (finding,) = lint_folder(tmp_path)
    assert finding.rule == "too-many-regions"
    assert "1001 regions, the limit is 1000" in finding.message
    monkeypatch.setattr("spinezoo_spine.annotations.text.MAX_FILE_BYTES", 1000)
    with pytest.raises(AnnotationError, match=r"via\.json: has \d+ bytes, the limit is 1000"):
        FilmSet.open(tmp_path)


def test_the_reader_of_a_folder_reads_every_form(tmp_path: Path) -> None:
    for name, text in (("a.json", json.dumps(via(entry("a.png", region())))),
                       ("a.csv", csv_text([row("a.png")])),):  # fmt: skip
        (raw,) = read_annotations_raw(write(tmp_path, text, name))
        assert judge(raw).regions[0].polygon_xy.tolist() == BOX_POINTS
