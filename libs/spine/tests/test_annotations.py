from __future__ import annotations

import numpy as np
import pytest
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.regions import (
    FilmAnnotation,
    Region,
    level_of,
    polygon_area,
    structure_of,
)

TRIANGLE = [[0, 0], [4, 0], [0, 3]]


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([[0, 0], [1, 1]], "2 points"),
        ([[0, 0, 0], [1, 1, 1], [2, 2, 2]], "shape"),
        ([[0, 0], [1, float("nan")], [2, 2]], "finite"),
        ([[0, 0], [1, 1e7], [2, 2]], "beyond"),
        ([[0, 0], ["a", 1], [2, 2]], "numbers"),
        ([], "shape"),
    ],
)
def test_outlines_of_the_wrong_form_are_refused(points: list, words: str) -> None:
    with pytest.raises(AnnotationError, match=words):
        Region(Structure.CAGE, points)


def test_a_region_owns_its_points() -> None:
    points = np.array(TRIANGLE, dtype=np.float64)
    region = Region(Structure.CAGE, points)
    points[0] = 99
    assert region.polygon_xy[0].tolist() == [0, 0]
    with pytest.raises(ValueError, match="read-only"):
        region.polygon_xy[0] = 1
    assert polygon_area(region.polygon_xy) == 6.0


def test_levels_are_levels() -> None:
    assert Region(Structure.CAGE, TRIANGLE, "L4/L5").level == "L4/L5"
    with pytest.raises(AnnotationError, match="level"):
        Region(Structure.CAGE, TRIANGLE, "patient 7")
    assert level_of("th12") == "T12"
    assert level_of(" l4-l5 ") == "L4/L5"
    assert level_of("") is None
    assert level_of(4) is None


def test_annotations_need_a_film_and_regions() -> None:
    with pytest.raises(AnnotationError, match="film name"):
        FilmAnnotation("", ())
    with pytest.raises(AnnotationError, match="region 0"):
        FilmAnnotation("a.png", (TRIANGLE,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("lumbar_vertebra", Structure.LUMBAR_VERTEBRA),
        ("Lumbar Vertebra", Structure.LUMBAR_VERTEBRA),
        ("Th12", Structure.LUMBAR_VERTEBRA),
        ("S1", Structure.SACRAL_VERTEBRA),
        ("sacral-vertebra", Structure.SACRAL_VERTEBRA),
        ("CAGE", Structure.CAGE),
        ("pedicle screw", Structure.SCREW),
        ("Rod/other", Structure.ROD),
        ("dog", None),
    ],
)
def test_class_names(name: str, structure: Structure | None) -> None:
    assert structure_of(name) is structure


def test_further_class_names_win() -> None:
    assert structure_of("WK 4", {"wk_4": Structure.LUMBAR_VERTEBRA}) is Structure.LUMBAR_VERTEBRA
    assert structure_of("rod", {"Rod": Structure.SCREW}) is Structure.SCREW
