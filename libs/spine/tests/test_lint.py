from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.crossing import find_crossing
from spinezoo_spine.annotations.lint import lint_folder, main
from spinezoo_spine.annotations.outline_findings import lint_annotations
from spinezoo_spine.annotations.regions import FilmAnnotation, RawAnnotation, RawRegion, Region
from spinezoo_spine.annotations.rules import Finding

SIZE = {"a.png": (100, 80)}
SQUARE = np.array([[10.0, 10], [40, 10], [40, 40], [10, 40]])
BOW_TIE = np.array([[10.0, 10], [40, 40], [40, 10], [10, 40]])


def lint(*regions: RawRegion) -> list[Finding]:
    return lint_annotations([RawAnnotation("a.png", regions)], SIZE)


def raw(
    points: object, class_name: str | None = "rod", index: int = 3, **more: object
) -> RawRegion:
    outline = None if points is None else np.array(points, dtype=np.float64)
    return RawRegion(index, "polygon", outline, class_name, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("region", "rule", "words"),
    [
        (raw(BOW_TIE), "self-crossing", "points 0 and 2"),
        (raw(SQUARE + np.array([45, 0])), "outside-film", "5 px off"),
        (raw(SQUARE + np.array([60, 0])), "mostly-outside", "67 % of the region"),
        (raw(SQUARE - np.array([0, 12])), "outside-film", "2 px off"),
        (raw(SQUARE, "dog"), "unknown-class", "'dog'"),
        (raw(SQUARE, None), "unknown-class", "no class"),
        (raw(None, problem="a point"), "no-outline", "a point"),
        (raw([[1, 1], [5, 5], [1, 1], [5, 5]]), "degenerate", "3 distinct"),
        (raw([[1, 1], [5, 5.0001], [9, 9]]), "degenerate", "square pixels"),
        (raw([*SQUARE, *SQUARE]), "degenerate", "runs around twice"),
        (raw([*SQUARE, SQUARE[0], *SQUARE, SQUARE[0]]), "degenerate", "runs around twice"),
    ],
)
def test_each_rule_names_film_region_and_reason(region: RawRegion, rule: str, words: str) -> None:
    (finding,) = lint(region)
    assert (finding.film, finding.region_index, finding.rule) == ("a.png", 3, rule)
    assert words in finding.message
    assert str(finding).startswith(f"a.png, region 3: {rule}: ")


def test_what_is_right_is_left_alone() -> None:
    assert lint(raw(SQUARE), raw(SQUARE + 1, index=4)) == []
    at_border = np.array([[0.0, 0], [80.6, 0], [80, 100], [0, 100.9]])
    assert lint(raw(at_border)) == []
    repeated = np.insert(SQUARE, 1, SQUARE[1], axis=0)  # a double click
    assert lint(raw(repeated)) == []


def test_duplicates() -> None:
    turned = np.roll(SQUARE, 2, axis=0)[::-1]
    (finding,) = lint(raw(SQUARE, index=0), raw(turned, index=1))
    assert (finding.rule, finding.region_index) == ("duplicate", 1)
    assert lint(raw(SQUARE, index=0), raw(SQUARE, "cage", index=1)) == []
    twice = FilmAnnotation(
        "a.png",
        (
            Region(Structure.LUMBAR_VERTEBRA, SQUARE, "L4"),
            Region(Structure.LUMBAR_VERTEBRA, SQUARE + 30, "L4"),
            Region(Structure.SCREW, SQUARE + 2, "L4"),
            Region(Structure.SCREW, SQUARE + 3, "L4"),
        ),
    )
    (finding,) = lint_annotations([twice], SIZE)
    assert (finding.rule, finding.region_index) == ("same-level", 1)
    assert "L4" in finding.message


COLUMN = {"L3": 10, "L4": 30, "L5": 50, "S1": 70}
"""Upper edge of each vertebra of a column that is right, in rows."""


def column(**changed: int) -> RawAnnotation:
    """Vertebrae by their levels alone, each outlined with its upper edge at a row."""
    thin = SQUARE * [1, 0.5]
    edges = COLUMN | changed
    regions = [
        raw(thin + np.array([0, y]), name, index) for index, (name, y) in enumerate(edges.items())
    ]
    return RawAnnotation("a.png", tuple(regions))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"L3": 30, "L4": 10}, "region 1 (L4) above region 0 (L3); correct the levels"),
        ({"L3": 70, "L4": 50, "L5": 30, "S1": 10}, "(L4) above region 0 (L3) and 5 more"),  # y up
        ({"sacrum": 0}, "region 4 (sacral_vertebra) above region 0 (L3) and 2 more"),
        ({"vertebra": 80}, "region 3 (S1) above region 4 (lumbar_vertebra);"),
    ],
)
def test_vertebrae_lie_below_each_other_as_their_levels_say(
    changed: dict[str, int], words: str
) -> None:
    (finding,) = lint_annotations([column(**changed)], SIZE)
    assert (finding.rule, finding.region_index, finding.is_error) == ("level-order", None, False)
    assert words in finding.message


@pytest.mark.parametrize("more", [{}, {"vertebra": 0}, {"sacrum": 60}])
def test_an_order_that_may_be_right_is_left_alone(more: dict[str, int]) -> None:
    assert lint_annotations([column(**more)], SIZE) == []


def test_outlines_in_other_units_than_pixels() -> None:
    shares = column()
    regions = [
        replace(region, points_xy=region.points_xy / [80.0, 100.0])
        for region in shares.regions
        if region.points_xy is not None
    ]
    for size in (None, (100, 80)):
        first, *_ = lint_annotations([replace(shares, regions=tuple(regions), size=size)], SIZE)
        assert (first.rule, first.region_index) == ("wrong-size", None)
        assert "in pixels" in first.message
        percent = [replace(one, points_xy=100.0 * one.points_xy) for one in regions]
        (finding,) = lint_annotations(
            [replace(shares, regions=tuple(percent), size=size and (1000, 800))],
            {"a.png": (1000, 800)},
        )
        assert finding.rule == "maybe-scaled"


def test_films() -> None:
    missing = lint_annotations([RawAnnotation("b.png", (raw(SQUARE),))], SIZE)
    assert [(f.film, f.region_index, f.rule) for f in missing] == [("b.png", None, "no-film")]
    empty = lint_annotations([FilmAnnotation("a.png", ())], SIZE)
    assert [(f.rule, f.region_index) for f in empty] == [("no-region", None)]


def test_crossings() -> None:
    assert find_crossing(SQUARE) is None
    assert find_crossing(BOW_TIE) == (0, 2)
    spike = np.array([[0.0, 0], [10, 0], [10, 10], [10, 5], [5, 5], [0, 10]])
    assert find_crossing(spike) is not None  # there and back on one line
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert find_crossing(circle) is None
    circle[[700, 701]] = circle[[701, 700]]
    assert find_crossing(circle) is not None


def test_a_folder(film_folder: Path) -> None:
    assert lint_folder(film_folder) == []
    assert main([str(film_folder)]) == 0
    project = json.loads((film_folder / "via.json").read_text())
    entries = project["_via_img_metadata"]
    broken = next(entry for entry in entries.values() if entry["filename"] == "film_1.png")
    broken["regions"][1]["region_attributes"]["structure"] = "dog"
    ghost = next(entry for entry in entries.values() if entry["filename"] == "film_2.png")
    ghost["filename"] = "ghost.png"
    (film_folder / "via.json").write_text(json.dumps(project))
    film = film_folder / "film_3.png"
    film.write_bytes(film.read_bytes()[:20])
    found = {(f.film, f.region_index, f.rule) for f in lint_folder(film_folder)}
    assert found == {
        ("film_1.png", 1, "unknown-class"),
        ("ghost.png", None, "no-film"),
        ("film_2.png", None, "no-entry"),
        ("film_3.png", None, "unreadable-film"),
    }


def test_the_command(film_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "spinezoo_spine.annotations.lint"]
    done = subprocess.run([*command, str(film_folder)], capture_output=True, text=True, check=False)
    read = "films 6, outlines 11: nothing is wrong\n"
    assert (done.returncode, done.stdout) == (0, f"via.json, {read}")
    (film_folder / "coco.json").write_text("{}")
    done = subprocess.run([*command, str(film_folder)], capture_output=True, text=True, check=False)
    assert done.stdout == f"via.json (coco.json not read), {read}"
    (film_folder / "film_2.png").unlink()
    assert main([str(film_folder)]) == 1
    assert "error: film_2.png: no-film" in capsys.readouterr().out
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "not a folder" in capsys.readouterr().err


def test_a_folder_that_the_system_refuses_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x" * 300]) == 2
    assert "File name too long" in capsys.readouterr().err
