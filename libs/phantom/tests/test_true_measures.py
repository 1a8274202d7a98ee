"""True measures and breaks of rods: of a column known by hand, and on films."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from spinezoo_phantom import PhantomFilm, PhantomSettings, make_film
from spinezoo_phantom.anatomy import Spine, build_spine
from spinezoo_phantom.implant_shapes import Hardware, Implant
from spinezoo_phantom.measures import measures_of, osteophytes_of, rod_breaks_of
from spinezoo_phantom.projection import Camera
from spinezoo_phantom.solids import project
from spinezoo_phantom.vertebra import Vertebra, forward, pose, upward

LARGER = 1.2
CAMERA = Camera(1500.0, 250.0, 0.4, np.zeros(2), np.full(2, 150.0), 300, 300)
"""It shows the mid-plane 1500 / (1500 - 250) = 1.2 times as large."""

TILT_DEG = {
    "S1": 40.0, "L5": 25.0, "L4": 12.0, "L3": 4.0, "L2": -4.0, "L1": -10.0, "T12": -10.0,
    "T11": -6.0, "T10": -3.0, "T9": 0.0, "T8": 3.0,
}  # fmt: skip
HIGH, DEEP, GAP = 30.0, 36.0, 14.0


def solid(level: str, centre_mm: np.ndarray, **changes: Any) -> Vertebra:
    """A body with flat endplates and walls, depth and height as above."""
    tilt = np.deg2rad(TILT_DEG[level])
    known: dict[str, Any] = {
        "level": level, "centre_mm": centre_mm, "frame": pose(tilt, 0.0, 0.0),
        "sagittal_rad": tilt, "height_mm": HIGH, "lower_depth_mm": DEEP, "upper_depth_mm": DEEP,
        "lower_slope": 0.0, "upper_slope": 0.0, "concavity_mm": (0.0, 0.0), "waist": 0.0,
        "node_mm": (0.0, 0.0, 0.0), "rounding": 0.0, "notch_mm": 0.0, "spurs_mm": np.zeros(4),
    }  # fmt: skip
    return replace(build_spine(np.random.default_rng(1)).vertebrae[2], **(known | changes))


def column() -> Spine:
    """L2 is a wedge: in front its upper endplate falls by 8 degrees. T12 slips by 9 mm.

    S1's lower end, which nothing is measured by, is turned against its endplate.
    """
    bodies: list[Vertebra] = []
    for level in TILT_DEG:
        if not bodies:
            deep = {"lower_depth_mm": 40.0, "upper_depth_mm": 40.0, "lower_slope": 0.1}
            bodies.append(solid(level, np.zeros(3), **deep))
            continue
        below = bodies[-1]
        tilt = np.deg2rad([TILT_DEG[below.level], TILT_DEG[level]])
        place = (HIGH / 2 + GAP) * upward(tilt[0]) + HIGH / 2 * upward(tilt[1])
        place = place + (9.0 * forward(tilt[0]) if level == "T12" else 0.0)
        wedge = {"upper_slope": -np.tan(np.deg2rad(8.0)), "fracture_grade": 2}
        centre = below.centre_mm + np.array([*place, 0.0])
        bodies.append(solid(level, centre, **(wedge if level == "L2" else {})))
    made = build_spine(np.random.default_rng(1))
    discs = [
        replace(disc, slip_grade=2 if disc.name == "T12/L1" else 0)
        for disc in made.discs[: len(bodies) - 1]
    ]
    assert discs[-1].name == "T8/T9"
    return replace(made, vertebrae=bodies[1:], sacrum=bodies[:1], discs=discs)


def test_measures_of_a_column_are_those_known_by_hand() -> None:
    said = measures_of(column(), CAMERA)
    found = {(m["kind"], *m["levels"]): m["value"] for m in said}
    # From T9 to S1: five of the whole, 5 and 2 of a body, 1 of S1, 9 of a disc.
    assert len(found) == len(said) == 5 + 9 * (5 + 2) + 1 + 9 * 9
    opens, low = np.deg2rad(7.5), DEEP / 2 + 40.0 / 2
    fall = DEEP / 2 * np.tan(np.deg2rad(8.0))
    for (kind, *levels), value in {
        ("LORDOSIS", "L1", "S1"): 40.0 - -10.0,
        ("LORDOSIS", "L1", "L5"): 25.0 - -10.0,
        ("LORDOSIS", "L4", "S1"): 40.0 - 12.0,
        ("SACRAL_SLOPE", "S1"): 40.0,
        ("LUMBOSACRAL_ANGLE", "L5", "S1"): 40.0 - 25.0,
        ("SEGMENTAL_ANGLE", "L5", "S1"): 40.0 - 25.0,
        ("SEGMENTAL_ANGLE", "L2", "L3"): 4.0 - (-4.0 + 8.0),
        ("SEGMENTAL_ANGLE", "L1", "L2"): -4.0 - -10.0,
        ("DISC_ANGLE", "L2", "L3"): 4.0 - -4.0,
        ("DISC_ANGLE", "L1", "L2"): -4.0 + 8.0 - -10.0,
        ("BODY_WEDGING", "L2"): 8.0,
        ("BODY_WEDGING", "T9"): 0.0,
        ("BODY_HEIGHT_ANTERIOR", "L2"): LARGER * (HIGH - fall),
        ("BODY_HEIGHT_MIDDLE", "L2"): LARGER * HIGH,
        ("BODY_HEIGHT_POSTERIOR", "L2"): LARGER * (HIGH + fall),
        # Endplates that open by 15 degrees, measured square to the line between them.
        ("DISC_HEIGHT_ANTERIOR", "L5", "S1"): LARGER * (GAP * np.cos(opens) + low * np.sin(opens)),
        ("DISC_HEIGHT_MIDDLE", "L5", "S1"): LARGER * GAP * np.cos(opens),
        ("DISC_HEIGHT_POSTERIOR", "L5", "S1"): LARGER * (GAP * np.cos(opens) - low * np.sin(opens)),
        ("DISC_INDEX_HURXTHAL", "T12", "L1"): GAP / HIGH,
        ("DISC_INDEX_HURXTHAL", "L2", "L3"): GAP * np.cos(np.deg2rad(4.0)) / HIGH,
        ("DISC_INDEX_FARFAN", "T12", "L1"): 2 * GAP / DEEP,
        ("DISC_INDEX_FARFAN", "L5", "S1"): 2 * GAP * np.cos(opens) / low,
        ("SLIP", "T12", "L1"): LARGER * 9.0,
        ("SLIP_PERCENT", "T12", "L1"): 25.0,
        ("SLIP_PERCENT", "L5", "S1"): 100 * (20.0 - 18.0 * np.cos(2 * opens)) / 40.0,
        ("BODY_HEIGHT_LOSS", "L2"): None,
    }.items():
        expected = None if value is None else pytest.approx(value, abs=1e-3)
        assert found[(kind, *levels)] == expected, (kind, levels)


def test_grades_are_those_that_were_drawn() -> None:
    said = measures_of(column(), CAMERA)
    graded = {(m["kind"], *m["levels"]): m["grade"] for m in said if "grade" in m}
    assert len(graded) == 9 + 9
    drawn = {("BODY_HEIGHT_LOSS", "L2"): 2, ("SLIP_PERCENT", "T12", "L1"): 2}
    assert {which: grade for which, grade in graded.items() if grade} == drawn


def test_a_frontal_film_has_no_measures() -> None:
    assert measures_of(column(), replace(CAMERA, view="anteroposterior")) == []


def test_a_spur_is_what_stands_out_from_its_rounded_corner() -> None:
    """Spurs of 5.8 and 3.0 mm and a rim rounded by 1.8, 1500 / (1500 - 250 - 50) times as large."""
    spurs = {"rounding": 0.1, "spurs_mm": np.array([0.0, 5.8, 2.7, 3.0])}
    bodies = [solid(level, np.array([0.0, 0.0, 50.0]), **spurs) for level in ("L4", "T8")]
    found = osteophytes_of(replace(column(), vertebrae=bodies), CAMERA)
    assert found == [
        {"level": "L4", "corner": "INFERIOR_ANTERIOR", "length_mm": 5.0},
        {"level": "L4", "corner": "SUPERIOR_POSTERIOR", "length_mm": 1.5},
    ]


def rod(course_px: list[tuple[float, float]], below: Implant | None = None) -> Implant:
    """A rod of 20 pixels on this film, in the mid-plane."""
    course = np.array(course_px)
    made = Implant("rod", "", "broken rod", below=below)
    made.bar(course, 10.0, 1.0)
    made.course_mm = np.column_stack([(course - 150) * 0.4 / LARGER, np.zeros(len(course))])
    return made


def test_a_break_is_as_wide_and_as_covered_as_it_was_made() -> None:
    """20 pixels of 0.4 mm along the rod and 3 across; a screw's head lies over the lower half."""
    lower = rod([(153, 150), (153, 165), (153, 180)])
    upper = rod([(150, 100), (150, 115), (150, 130)], lower)
    head = np.array([(100.0, 140.0), (200.0, 140.0), (200.0, 200.0), (100.0, 200.0)])
    screw = Implant("screw", "L4", "pedicle screw", pieces=[(head, 1.0)])
    unseen = Implant("rod", "", "broken rod", below=lower)
    whole = rod([(50, 100), (50, 115)], Implant("rod", "", "broken rod"))
    hardware = Hardware(implants=[upper, lower, screw, unseen, whole])
    (found,) = rod_breaks_of(column(), hardware, CAMERA, lambda points: project(CAMERA, points))
    np.testing.assert_allclose(found["upper_end_px"], [150, 130])
    np.testing.assert_allclose(found["lower_end_px"], [153, 150])
    assert found["gap_mm"] == pytest.approx(8.0, abs=0.01)
    assert found["offset_mm"] == pytest.approx(1.2, abs=0.01)
    assert found["covered_share"] == pytest.approx(0.5, abs=0.01)


def away_px(place: list[float], film: PhantomFilm) -> list[float]:
    """How far a place lies outside each rod, negative inside, nearest first."""
    rods = [each.polygon_xy for each in film.regions if each.structure == "rod"]
    x, y = place
    found = [-cv2.pointPolygonTest(each.astype(np.float32), (x, y), True) for each in rods]
    return sorted(found, key=abs)


@pytest.mark.parametrize("turn_deg", [0, 90])
@pytest.mark.parametrize(("seed", "levels"), [(93, ["L1", "L2"]), (94, ["L3", "L4"])])
def test_a_break_lies_between_the_two_parts_of_its_rod(
    seed: int, levels: list[str], turn_deg: int
) -> None:
    """Both films face left; the place is that of the finished film."""
    size = (320, 256) if turn_deg == 0 else (256, 320)
    film = make_film(seed, PhantomSettings(height_px=size[0], width_px=size[1], turn_deg=turn_deg))
    (told,) = film.truth["rod_breaks"]  # type: ignore[misc]
    assert told["levels"] == levels
    assert told["covered_share"] < 0.05
    ends = np.array([told["upper_end_px"], told["lower_end_px"]])
    apart_mm = float(np.hypot(*(ends[1] - ends[0]))) * film.row_spacing_mm
    assert apart_mm == pytest.approx(np.hypot(told["gap_mm"], told["offset_mm"]), abs=0.1)
    for end in ends.tolist():
        assert abs(away_px(end, film)[0]) < 1.0
    middle = min(away_px(ends.mean(axis=0).tolist(), film))
    assert middle > 0.3 * told["gap_mm"] / film.row_spacing_mm
