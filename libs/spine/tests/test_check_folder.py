"""A folder is checked before anything reads its outlines: films, regions, names, the command."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations import crossing, lint
from spinezoo_spine.annotations.crossing import find_crossing
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.lint import lint_folder, main
from spinezoo_spine.annotations.regions import FilmAnnotation, Region
from spinezoo_spine.annotations.via import write_via

HEIGHT, WIDTH = 100, 80
SQUARE = [[10.0, 10], [40, 10], [40, 40], [10, 40]]


def film(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    grey = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.uint8)
    Image.fromarray(grey).save(folder / name, format="PNG")


def shape(points: list) -> dict:
    return {
        "name": "polygon",
        "all_points_x": [x for x, _ in points],
        "all_points_y": [y for _, y in points],
    }


def outlines(folder: Path, films: dict[str, list], structure: str = "lumbar_vertebra") -> None:
    value = {
        f"{name}{index}": {
            "filename": name,
            "size": -1,
            "regions": [
                {"shape_attributes": one if isinstance(one, dict) else shape(one),
                 "region_attributes": {"structure": structure}}
                for one in regions
            ],
        }
        for index, (name, regions) in enumerate(films.items())
    }  # fmt: skip
    (folder / "via.json").write_text(json.dumps(value), encoding="utf-8")


def moved(x: float, y: float) -> list:
    return [[px + x, py + y] for px, py in SQUARE]


# ------------------------------------------------------------------------- regions without truth


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (moved(200, 0), "no-pixels"),  # off the film
        (moved(-60, -60), "no-pixels"),
        ([[10, 10], [10.4, 10], [10.4, 60], [10, 60]], "no-pixels"),  # between two columns
        ([[10, 10], [40, 40], [25, 25]], "no-pixels"),  # a line
        ({"name": "circle", "cx": 20, "cy": 20, "r": 0}, "no-outline"),
        ({"name": "point", "cx": 20, "cy": 20}, "no-outline"),
        (shape([(10, 10)]), "no-outline"),
        (moved(57, 0), "mostly-outside"),
        (SQUARE, "duplicate"),
        ([*SQUARE[2:], *SQUARE[:2]], "duplicate"),  # begun at another corner
        (moved(1, 1), "duplicate"),  # the same vertebra, outlined twice by hand
    ],
)
def test_no_region_is_dropped_or_counted_twice_without_a_word(
    tmp_path: Path, wrong: object, rule: str
) -> None:
    film(tmp_path, "a.png")
    outlines(tmp_path, {"a.png": [SQUARE, wrong]})
    errors = [finding for finding in lint_folder(tmp_path) if finding.is_error]
    assert [(f.film, f.region_index, f.rule) for f in errors] == [("a.png", 1, rule)]
    with pytest.raises(AnnotationError, match=r"via\.json: film 'a\.png', region 1"):
        FilmSet.open(tmp_path)
    films = FilmSet.open(tmp_path, skip_bad_regions=True)
    assert len(films.annotation("a.png").regions) == 1
    assert [str(f) for f in films.findings if f.is_error] == [str(f) for f in errors]


def test_a_film_of_which_nothing_stays_is_left_out_and_not_measured_as_empty(
    tmp_path: Path,
) -> None:
    film(tmp_path, "a.png")
    film(tmp_path, "b.png")
    outlines(tmp_path, {"a.png": [SQUARE], "b.png": [moved(200, 0)]})
    films = FilmSet.open(tmp_path, skip_bad_regions=True)
    assert films.names == ("a.png",)
    assert films.left_out == {"b.png": "of its 1 region none is without an error"}


def test_many_errors_are_told_at_once(tmp_path: Path) -> None:
    film(tmp_path, "a.png")
    outlines(tmp_path, {"a.png": [SQUARE, *[moved(200 + i, i) for i in range(30)]]})
    with pytest.raises(AnnotationError) as caught:
        FilmSet.open(tmp_path)
    text = str(caught.value)
    assert "30 errors" in text
    assert "--skip-bad-regions" in text
    assert text.count("region ") == 20
    assert "and 10 more" in text


def test_what_is_right_stays_right(tmp_path: Path) -> None:
    """Rods lie on each other on lateral films; vertebrae of one film touch."""
    film(tmp_path, "a.png")
    outlines(tmp_path, {"a.png": [SQUARE, moved(1, 1), moved(0, 30)]}, "rod")
    assert lint_folder(tmp_path) == []
    outlines(tmp_path, {"a.png": [SQUARE, moved(0.4, 0.4)]}, "rod")  # rounded by an export
    assert [f.rule for f in lint_folder(tmp_path)] == ["duplicate"]
    outlines(tmp_path, {"a.png": [SQUARE, moved(0, 29), moved(0, 58)]})
    assert lint_folder(tmp_path) == []


def test_levels(tmp_path: Path) -> None:
    film(tmp_path, "a.png")
    outlines(tmp_path, {"a.png": [SQUARE, moved(0, 30), moved(30, 0), moved(30, 30)]})
    value = json.loads((tmp_path / "via.json").read_text())
    attributes = [r["region_attributes"] for r in value["a.png0"]["regions"]]
    attributes[0]["level"] = "fourth"
    attributes[1]["level"] = "S1"
    attributes[2].update(structure="L4", level="L3")
    attributes[3]["level"] = "L3"
    (tmp_path / "via.json").write_text(json.dumps(value))
    assert [(f.region_index, f.rule) for f in lint_folder(tmp_path)] == [
        (0, "unknown-level"),
        (1, "odd-level"),
        (2, "level-conflict"),
        (3, "same-level"),
    ]


def test_outlines_of_a_film_of_half_the_size_are_doubted(tmp_path: Path) -> None:
    film(tmp_path, "a.png")
    small = [[[x / 3, y / 3 + 12 * i] for x, y in SQUARE] for i in range(3)]
    outlines(tmp_path, {"a.png": small})
    assert [(f.film, f.rule) for f in lint_folder(tmp_path)] == [("a.png", "maybe-scaled")]


# ----------------------------------------------------------------------------------- film names

NFC, NFD = (unicodedata.normalize(form, "Röntgen é.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("in_folder", "in_file"),
    [
        (NFC, NFD),
        (NFD, NFC),
        ("Film.PNG", "film.png"),
        ("film.png", "FILM.PNG"),
        ("film.png", "C:\\Users\\x\\Films\\film.png"),
        ("film.png", "file:///films/film.png"),
        ("my film.png", "https://host/films/my%20film.png"),
        ("film.png", "film.png123456"),
        ("film.png", "film.png-1"),
        ("film.png", " film.png "),
        ("set1/film.png", "set1/film.png"),
        ("set1/film.png", "SET1\\film.png"),
        ("set1/film.png", "film.png"),
        ("set1/film.png", "/home/x/set1/film.png"),
        ("film.png", "film.bmp"),
        ("film.png", "film.dcm"),
        ("film.png", "film"),
    ],
)
def test_a_name_that_can_mean_one_film_only_is_found(
    tmp_path: Path, in_folder: str, in_file: str
) -> None:
    film(tmp_path, in_folder)
    outlines(tmp_path, {in_file: [SQUARE]})
    films = FilmSet.open(tmp_path)
    assert films.names == (in_folder,)
    assert len(films.annotation(in_folder).regions) == 1
    assert films.film(in_folder).pixels.shape == (HEIGHT, WIDTH)
    other_ending = in_file.endswith((".bmp", ".dcm", "film"))
    assert [f.rule for f in films.findings] == (["name-differs"] if other_ending else [])


@pytest.mark.parametrize(
    ("in_folder", "in_file", "words"),
    [
        (["a.png", "b/a.png"], ["b/a.png", "c/a.png"], None),
        (["x/a.png", "y/a.png"], ["a.png"], r"may be 'x/a\.png' or 'y/a\.png'"),
        (["a.png"], ["x/a.png", "y/a.png"], r"'x/a\.png' and 'y/a\.png' both mean film 'a\.png'"),
        (["A.png", "a.PNG"], ["a.png"], r"may be 'A\.png' or 'a\.PNG'"),
        (["x/a.png"], ["y/a.png"], r"'y/a\.png' is not in .* there is 'x/a\.png'"),
        (["a.png", "a.jpg"], ["a.bmp"], r"may be 'a\.jpg' or 'a\.png'"),
        (["a.png"], ["a.png", "A.PNG"], r"'a\.png' and 'A\.PNG' both mean film 'a\.png'"),
        (["a.png"], [NFC], r"R.*ntgen.* is not in folder"),
        (["a.png"], ["/"], "is no file name"),
    ],
)
def test_a_name_that_can_mean_several_or_none_shows_both(
    tmp_path: Path, in_folder: list, in_file: list, words: str | None
) -> None:
    for name in in_folder:
        film(tmp_path, name)
    outlines(tmp_path, {name: [SQUARE] for name in in_file})
    if words is None:
        assert FilmSet.open(tmp_path).names == ("a.png", "b/a.png")
        return
    with pytest.raises(AnnotationError, match=words):
        FilmSet.open(tmp_path)


def test_a_picture_of_a_kind_that_is_not_taken_is_said_so(tmp_path: Path) -> None:
    film(tmp_path, "a.png")
    (tmp_path / "Film.bmp").write_bytes(b"BM")
    outlines(tmp_path, {"a.png": [SQUARE], "film.bmp": [SQUARE]})
    found = {f.film: (f.rule, f.message) for f in lint_folder(tmp_path)}
    assert found["film.bmp"][0] == "no-film"
    assert "as 'Film.bmp', which is no film of a kind that is taken" in found["film.bmp"][1]
    assert found["Film.bmp"][0] == "not-taken"
    films = FilmSet.open(tmp_path, skip_bad_regions=True)
    assert sorted(films.left_out) == ["Film.bmp", "film.bmp"]


def test_a_file_whose_name_is_no_text_is_left_out(tmp_path: Path) -> None:
    film(tmp_path, "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/R\xf6ntgen.png")
    with open(os.fsencode(tmp_path) + b"/R\xf6ntgen", "wb") as file:  # no ending, as DICOM has
        file.write(b"\0" * 128 + b"DICM")
    film(tmp_path, "a.png")
    outlines(tmp_path, {"a.png": [SQUARE]})
    findings = lint_folder(tmp_path)
    assert {finding.rule for finding in findings} == {"not-taken"}
    said = "not-taken: has a name that is no Unicode text; rename it"
    assert [str(finding) for finding in findings] == [
        f"R\\udcf6ntgen: {said}",
        f"R\\udcf6ntgen.png: {said}",
    ]
    assert FilmSet.open(tmp_path).names == ("a.png",)


def test_a_blank_behind_a_name_hides_no_film(tmp_path: Path) -> None:
    film(tmp_path, "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.png ")
    outlines(tmp_path, {"a.png": [SQUARE]})
    assert lint_folder(tmp_path) == []
    assert FilmSet.open(tmp_path).names == ("a.png ",)


def test_sub_folders_are_looked_into_only_where_entries_need_them(tmp_path: Path) -> None:
    for name in ("a.png", "x/a.png", "x/b.png", "reports/p.png", ".prepared/q.png"):
        film(tmp_path, name)
    outlines(tmp_path, {"a.png": [SQUARE]})
    assert FilmSet.open(tmp_path).film_paths.keys() == {"a.png"}
    outlines(tmp_path, {"a.png": [SQUARE], "x/a.png": [SQUARE]})
    films = FilmSet.open(tmp_path)
    assert films.names == ("a.png", "x/a.png")
    assert list(films.left_out) == ["x/b.png"]
    assert films.path("x/a.png") == tmp_path / "x" / "a.png"


def test_names_do_not_break_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film(tmp_path, "a.png")
    outlines(tmp_path, {"a.png": [SQUARE], "b\x1b[31m\n\ud800.png": [SQUARE]})
    assert main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "b\\x1b[31m\\n\\ud800.png: no-film" in out
    assert "\x1b" not in out


# ----------------------------------------------------------------------------------- the command


def test_the_command_tells_errors_from_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film(tmp_path, "a.png")
    film(tmp_path, "b.png")
    outlines(tmp_path, {"a.png": [SQUARE]})
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        "warning: b.png: no-entry: has no entry in via.json; outline it, or it is left out\n"
        "via.json, films 1, outlines 1: 0 errors, 1 warning\n"
    )
    outlines(tmp_path, {"a.png": [SQUARE], "b.png": [SQUARE]}, "Wirbel")
    assert main([str(tmp_path)]) == 1
    assert '--map "Wirbel=structure"' in capsys.readouterr().out
    assert main([str(tmp_path), "--map", "wirbel=lumbar_vertebra"]) == 0
    assert main([str(tmp_path), "--class-attribute", "anatomy"]) == 1
    assert "--class-attribute" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--map", "wirbel"])
    assert "name=structure" in capsys.readouterr().err


def test_every_rule_that_is_told_is_documented(film_folder: Path) -> None:
    assert lint.RULES["wrong-size"].weight.value == "error"
    for rule in lint.RULES.values():
        assert rule.code
        assert rule.meaning
        assert rule.advice


# ----------------------------------------------------------------------------------------- speed


@pytest.mark.parametrize("shape", ["wavy", "spiral", "comb"])
def test_a_long_outline_is_compared_with_its_neighbours_only(
    monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """20,000 points make 200 million pairs of edges."""
    looked = 0
    cross = crossing._cross

    def counted(a, b, c, d):
        nonlocal looked
        looked += len(a)
        return cross(a, b, c, d)

    monkeypatch.setattr(crossing, "_cross", counted)
    if shape == "comb":
        x = np.concatenate([np.repeat(np.arange(5000), 2), [5000, -1]]) * 1.0
        y = np.concatenate([np.tile([100.0, 900, 900, 100], 2500), [1000, 1000]])
    else:
        turns = 1 if shape == "wavy" else 100
        angles = np.linspace(0, 2 * np.pi * turns, 10_000, endpoint=False)
        radius = 400 + 20 * np.sin(50 * angles) if shape == "wavy" else 5 + 4 * angles / np.pi
        if shape == "spiral":  # there, and back beside itself
            angles, radius = np.r_[angles, angles[::-1]], np.r_[radius, radius[::-1] + 3]
        x, y = radius * np.cos(angles), radius * np.sin(angles)
    outline = np.stack([x, y], axis=1) + 1000.0
    assert find_crossing(outline) is None
    assert looked < 1_000_000
    outline[[7000, 7002]] = outline[[7002, 7000]]
    assert find_crossing(outline) is not None


def test_regions_on_a_large_film_need_little_memory(tmp_path: Path) -> None:
    """A thousand outlines of a whole film are drawn a few at a time."""
    import tracemalloc

    from spinezoo_spine.annotations.raster import each_patch

    whole = np.array([[0.0, 0], [2000, 0], [2000, 3000], [0, 3000]])
    tracemalloc.start()
    try:
        covered = sum(int(patch.pixels.all()) for patch in each_patch([whole] * 40, 3000, 2000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert covered == 40
    assert peak < 300 * 2**20


def test_regions_that_fill_the_film_many_times_are_refused(tmp_path: Path) -> None:
    film(tmp_path, "a.png")
    whole = [[[0, 0], [WIDTH, 0], [WIDTH - i / 10, HEIGHT], [0, HEIGHT]] for i in range(31)]
    outlines(tmp_path, {"a.png": whole}, "rod")
    (finding,) = lint_folder(tmp_path)
    assert finding.rule == "too-many-regions"
    assert "31 times the film" in finding.message


def test_via_regions_still_read_back(film_folder: Path) -> None:
    region = Region(Structure.ROD, SQUARE)
    write_via(film_folder / "via.json", [FilmAnnotation("film_1.png", (region,))])
    assert FilmSet.open(film_folder).names == ("film_1.png",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" + "1," * 10_000_001 + "1]", "10000001 values, the limit is 10000000"),
        ("[" + "[]" * 2_000_001 + "]", "2000002 lists and objects, the limit is 2000000"),
        (
            '{"a":{"filename":"a","regions":[' + "{}," * 200_000 + "{}]}}",
            "200001 regions, the limit is 200000",
        ),
        (
            '{"images":[],"annotations":[' + "{}," * 200_000 + '{}],"categories":[]}',
            "200001 annotations, the limit is 200000",
        ),
        (
            '{"images":[' + "{}," * 100_000 + '{}],"annotations":[],"categories":[]}',
            "100001 images, the limit is 100000",
        ),
    ],
    ids=["values", "lists", "regions", "annotations", "images"],
)
def test_a_file_that_holds_too_much_is_refused_before_it_is_read(
    tmp_path: Path, text: str, words: str
) -> None:
    film(tmp_path, "a.png")
    (tmp_path / "via.json").write_text(text)
    with pytest.raises(AnnotationError, match=rf"via\.json: has {words}"):
        FilmSet.open(tmp_path)


# ---------------------------------------------------------------------------- links and copies


def test_one_film_under_two_names_is_said(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        film(tmp_path, name)
    (tmp_path / "d.png").symlink_to(tmp_path / "a.png")
    names = ("b.png", "c.png", "d.png")
    outlines(tmp_path, {name: [SQUARE] for name in ("a.png", *names)})
    told = [(f.film, f.rule) for f in lint_folder(tmp_path)]
    assert told == [(name, "same-film") for name in names]
    data = bytearray((tmp_path / "a.png").read_bytes())
    (tmp_path / "b.png").write_bytes(bytes(data) + b"\0")  # of another size
    data[-1] ^= 1
    (tmp_path / "c.png").write_bytes(data)  # of the same size
    outlines(tmp_path, {name: [SQUARE] for name in ("a.png", "b.png", "c.png")})
    assert "same-film" not in {f.rule for f in lint_folder(tmp_path)}
    outlines(tmp_path, {"a.png": [SQUARE]})  # d.png has no entry: it counts nowhere
    assert "same-film" not in {f.rule for f in lint_folder(tmp_path)}


def test_linked_sub_folders_are_looked_into_once(tmp_path: Path) -> None:
    elsewhere, data = tmp_path / "elsewhere", tmp_path / "data"
    for folder in (elsewhere, data):
        folder.mkdir()
    film(elsewhere, "a.png")
    film(data, "b.png")
    (data / "set1").symlink_to(elsewhere)
    (data / "set2").symlink_to(elsewhere)
    (data / "again").symlink_to(data)
    (elsewhere / "up").symlink_to(data)
    outlines(data, {"set1/a.png": [SQUARE]})
    assert FilmSet.open(data).names == ("set1/a.png",)
