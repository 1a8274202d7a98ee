"""Errors of measures against corner truth, from answers that are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.types import (
    BodyCorner,
    BodyLandmarks,
    FilmMeasures,
    Landmark,
    Measure,
    MeasureKind,
    MeasureUnit,
    Osteophyte,
    Point,
    RodBreak,
    Segment,
    Structure,
    WithheldReason,
)
from spinezoo_evaluator.measures import run
from spinezoo_evaluator.measures.errors import Errors, icc, summary_of
from spinezoo_evaluator.measures.fit import (
    WANTED,
    blend_of,
    fit_intervals,
    fit_posture,
    fit_shape,
    rows_of_shape,
)
from spinezoo_evaluator.measures.paired import paired_tests, to_markdown
from spinezoo_evaluator.measures.report import landmarks_text, write_errors, write_measures
from spinezoo_evaluator.measures.run import KeptFilm, Shape, kept_films
from spinezoo_evaluator.measures.truth import TrueBreak, TrueFilm, of_corner_film, read_truth
from spinezoo_evaluator.results.records import FUSED, RunFolder, named
from spinezoo_phantom import PhantomSettings, write_film_set
from spinezoo_spine.annotations.corners import CornerFilm
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.annotations.regions import Region

HEIGHT, WIDTH = 900, 700


def drawn_truth() -> CornerFilm:
    """L1 to L5 along an arc of 40 degrees, looking right, and S1's endplate below."""
    quads: dict[str, NDArray[np.float64]] = {}
    for place, level in enumerate(("L1", "L2", "L3", "L4", "L5")):
        angle = np.deg2rad(-20.0 + 10.0 * place)
        along = np.array([np.cos(angle), np.sin(angle)])
        down = np.array([-np.sin(angle), np.cos(angle)])
        middle = np.array([330.0, 130.0 + 105.0 * place]) + np.array(
            [30 - 7.0 * (place - 2) ** 2, 0.0]
        )
        offsets = ((-48, -38), (48, -38), (48, 38), (-48, 38))
        quads[level] = np.array([middle + x * along + y * down for x, y in offsets])
    return CornerFilm("drawn.png", HEIGHT, WIDTH, quads, None)


def answered(film: CornerFilm) -> tuple[Segment, ...]:
    """Its outlines, as a network that sees everything would answer them."""
    return tuple(replace(segment, level=None) for segment in film.segments())


@pytest.fixture
def kept() -> KeptFilm:
    corners = drawn_truth()
    said = answered(corners)
    return KeptFilm(of_corner_film(corners), {"one": said, "two": said}, said)


def test_corner_truth_tells_angles_and_no_lengths() -> None:
    truth = of_corner_film(drawn_truth())
    assert truth.measures[MeasureKind.LORDOSIS, ("L1", "L5")][0] == pytest.approx(40.0)
    assert truth.measures[MeasureKind.DISC_ANGLE, ("L2", "L3")][0] == pytest.approx(10.0)
    assert not any(kind is MeasureKind.SLIP for kind, _ in truth.measures)
    assert not truth.faces_left


def test_pelvic_angles_are_asked_only_where_both_femoral_heads_are_on_the_film(
    tmp_path: Path,
) -> None:
    settings = PhantomSettings(height_px=160, width_px=120, field_height_mm=480.0)
    write_film_set(tmp_path, count=12, seed=3, settings=settings, file_format="png")
    said = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    kinds = (MeasureKind.PELVIC_INCIDENCE, MeasureKind.PELVIC_TILT, MeasureKind.SACRAL_SLOPE)
    sides = set()
    for film in read_truth(tmp_path):
        asked = [film.measures.get((kind, ("S1",))) for kind in kinds]
        both = len(said[film.name]["femoral_heads_px"]) == 2
        assert [each is not None for each in asked] == [both, both, True]
        if both:
            incidence, tilt, slope = (float(each[0] or 0.0) for each in asked if each)
            assert incidence == pytest.approx(tilt + slope, abs=0.2)
            # The film shows the patient from one point: not quite as the patient is.
            drawn = said[film.name]["angles_deg"]
            assert incidence == pytest.approx(drawn["pelvic_incidence"], abs=8.0)
            assert tilt == pytest.approx(drawn["pelvic_tilt"], abs=8.0)
            sides.add(film.faces_left)
    assert sides == {True, False}


def test_phantoms_tell_middles_of_endplates_and_the_worst_disc(tmp_path: Path) -> None:
    settings = PhantomSettings(height_px=160, width_px=120)
    write_film_set(tmp_path, count=3, seed=3, settings=settings, file_format="png")
    said = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    for film in read_truth(tmp_path):
        for level, (back, front, *_) in film.quads.items():
            along = (film.middles[level][0] - back) @ (front - back)
            assert along / ((front - back) @ (front - back)) == pytest.approx(0.5, abs=0.05)
        grades = [disc["narrowing_grade"] for disc in said[film.name]["discs"].values()]
        assert min(grades) < max(grades)
        assert film.traits["degeneration"] == f"worst disc of grade {max(grades)}"


def test_true_names_go_to_the_outlines_and_s1_to_the_one_at_its_endplate() -> None:
    endplate = np.array([(266.0, 592.0), (348.0, 632.0)])
    body = np.vstack([endplate, endplate[::-1] + np.array([0.0, 70.0])])
    sacrum = segments_from_regions([Region(Structure.SACRAL_VERTEBRA, body, None)], HEIGHT, WIDTH)
    corners = drawn_truth()
    said = (*answered(corners)[::-1], *sacrum)
    for film, lowest in ((replace(corners, s1_endplate=endplate), "S1"), (corners, None)):
        column = of_corner_film(film).named(said)
        assert column.sacrum_in_view == (lowest == "S1")
        levels = [vertebra.segment.level for vertebra in column.vertebrae]
        assert levels == ["L5", "L4", "L3", "L2", "L1", lowest]


def test_outlines_without_fault_have_small_errors(kept: KeptFilm) -> None:
    measured = kept.measured()
    (lordosis,) = (
        m for m in measured.measures if m.kind is MeasureKind.LORDOSIS and m.levels == ("L1", "L5")
    )
    assert lordosis.value == pytest.approx(40.0, abs=4.0)


@pytest.mark.parametrize("left", [False, True])
def test_corner_truth_and_measures_count_to_the_same_side(left: bool) -> None:
    """L3 is wedged, L4 has slipped, and the patient looks to either side."""
    corners = drawn_truth()
    quads = {**corners.quads, "L4": corners.quads["L4"] - (10, 0)}
    quads["L3"] = quads["L3"] + [(0, 0), (0, 16), (0, -8), (0, 0)]
    endplate = np.array([(266.0, 592.0), (348.0, 632.0)])
    if left:
        quads = {level: quad * [-1, 1] + [WIDTH, 0] for level, quad in quads.items()}
        endplate = endplate * [-1, 1] + [WIDTH, 0]
    corners = replace(corners, quads=quads, s1_endplate=endplate)
    body = np.vstack([endplate, endplate[::-1] + np.array([0.0, 70.0])])
    sacrum = segments_from_regions([Region(Structure.SACRAL_VERTEBRA, body, None)], HEIGHT, WIDTH)
    said = answered(corners) + tuple(sacrum)
    kept = KeptFilm(of_corner_film(corners), {"one": said, "two": said}, said)
    assert kept.truth.faces_left == left
    measured = {(m.kind, m.levels): m for m in kept.measured().measures}
    for key, (value, _) in kept.truth.measures.items():
        found = measured[key]
        off = 10.0 if "S1" in key[1] else 5.0  # a sacrum is no drawn block
        off = 0.1 if found.unit is MeasureUnit.RATIO else off
        assert found.value == pytest.approx(value, abs=off), key
    assert measured[MeasureKind.BODY_WEDGING, ("L3",)].value == pytest.approx(14.0, abs=5.0)
    errors = Errors()
    errors.add(kept.truth, kept.measured())
    assert np.abs(errors.endplates).max() < 10.0
    assert len(errors.endplates) == 11


def test_a_report_of_measures_is_written(kept: KeptFilm, tmp_path: Path) -> None:
    text = write_errors(tmp_path, [kept])
    assert "lordosis L1-L5" in text
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"measures.md", "measures.csv", "measures.json", "bland_altman.png"}
    figures = json.loads((tmp_path / "measures.json").read_text())
    assert set(figures) == {"fused ensemble", "one", "two"}
    assert figures["fused ensemble"]["corners"]["median"] < 0.05
    assert figures["one"]["measures"]["lordosis L1-L5"]["coverage"] == 1.0


def test_answers_are_taken_from_a_run(kept: KeptFilm, tmp_path: Path) -> None:
    RunFolder(tmp_path).write_answer(
        "drawn.png",
        {
            **kept.members,
            named("one"): kept.vertebrae[:2],
            named(FUSED): kept.vertebrae,
        },
    )
    (read,) = kept_films([kept.truth], tmp_path)
    assert read.members.keys() == kept.members.keys()
    assert len(read.vertebrae) == 5


def test_a_damaged_answer_is_named_and_not_left_out(kept: KeptFilm, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_answer(kept.truth.name, {FUSED: ()})
    other = replace(kept.truth, name="other.png")
    assert len(list(kept_films([other, kept.truth], tmp_path))) == 1  # the other has no answer
    folder.write_answer(other.name, {FUSED: ()})
    folder._answer_path(other.name).write_bytes(b"half")
    with pytest.raises(ConfigurationError, match=r"'other\.png' cannot be read"):
        list(kept_films([kept.truth, other], tmp_path))


@pytest.mark.parametrize("damaged", ["{", "[1]", '{"film.png": 3}'])
def test_damaged_truth_of_phantoms_ends_no_benchmark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    about = {"settings": {}, "films": [{"filename": "film.png"}]}
    (tmp_path / "phantom.json").write_text(json.dumps(about))
    (tmp_path / "truth.json").write_text(damaged)
    write_measures(tmp_path, tmp_path / "report")
    assert "no measures are written: truth.json" in caplog.text
    assert "move them away" in caplog.text


def test_a_run_without_answers_is_an_error(tmp_path: Path) -> None:
    truth = TrueFilm("other.png", HEIGHT, WIDTH, None, {}, {})
    with pytest.raises(ConfigurationError, match="make benchmark"):
        list(kept_films([truth], tmp_path))


def test_summary_counts_what_is_withheld_and_what_lies_inside() -> None:
    rows = [("a", 11.0, 10.0, 2.0), ("b", 9.0, 10.0, 0.5), ("c", None, 10.0, None)]
    said = summary_of(rows)
    assert said["coverage"] == pytest.approx(2 / 3)
    assert said["bias"] == pytest.approx(0.0)
    assert said["inside"] == pytest.approx(0.5)
    assert said["limits"] == pytest.approx([-1.96 * np.sqrt(2), 1.96 * np.sqrt(2)])


def test_icc_of_shrout_and_fleiss() -> None:
    """Two raters who differ by a constant agree less than they correlate."""
    truth = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert icc(np.stack([truth, truth], axis=1)) == pytest.approx(1.0)
    shifted = icc(np.stack([truth + 1.0, truth], axis=1))
    # MSR 5, MSC 2.5, MSE 0: 5 / (5 + 2 * 2.5 / 5).
    assert shifted == pytest.approx(5.0 / 6.0)


def errors_by_film(values: dict[str, dict[str, float]]) -> Errors:
    """Errors of endplates by film and landmark."""
    errors = Errors()
    errors.films = {film: {"corners": {}, "endplates": said} for film, said in values.items()}
    return errors


WORSE = {f"{place}": {"a": 1.0 + 0.1 * place, "b": 2.0} for place in range(12)}
BETTER = {film: {"a": each["a"] / 2, "b": 1.0} for film, each in WORSE.items()}


class TestPaired:
    def test_the_better_side_is_told_with_its_films(self) -> None:
        sides = [errors_by_film(BETTER)], [errors_by_film(WORSE)]
        groups = {"few": [*"0123456"], "many": [*"01234567"]}
        tests = paired_tests([("one", sides[0], "two", sides[1])], groups)
        assert [(test.group, test.films) for test in tests] == [("all films", 12), ("many", 8)]
        assert all(test.better == 1.0 and test.medians[0] < test.medians[1] for test in tests)
        # Twelve films of one sign: 2 / 2 ** 12, the least of two tests.
        assert tests[0].p_value == pytest.approx(2 / 2**12)
        assert tests[0].corrected == pytest.approx(2 * tests[0].p_value)
        assert tests[1].corrected == pytest.approx(tests[1].p_value)
        assert "| endplates, degrees | all films | 12 | one | two |" in to_markdown(tests)

    def test_landmarks_that_one_side_lacks_do_not_count(self) -> None:
        lacking = {film: {"a": each["a"] + 0.5} for film, each in WORSE.items()}
        tests = paired_tests(
            [("one", [errors_by_film(WORSE)], "two", [errors_by_film(lacking)])], {}
        )
        assert tests[0].medians[1] - tests[0].medians[0] == pytest.approx(0.5)

    def test_sides_that_do_not_differ_are_not_tested(self) -> None:
        same = [errors_by_film(WORSE)]
        assert paired_tests([("one", same, "two", same)], {}) == []
        assert to_markdown([]) == ""


def disturbed(seed: int) -> KeptFilm:
    """A film whose outlines lie a little off the truth."""
    corners = drawn_truth()
    rng = np.random.default_rng(seed)
    moved = {
        level: quad + rng.normal(0.0, 2.0, quad.shape) for level, quad in corners.quads.items()
    }
    said = answered(replace(corners, quads=moved))
    truth = of_corner_film(replace(corners, name=f"{seed}.png"))
    middles = {
        level: np.stack([quad[:2].mean(axis=0), quad[2:].mean(axis=0)])
        for level, quad in truth.quads.items()
    }
    return KeptFilm(replace(truth, middles=middles), {"one": said}, said)


def test_fitted_intervals_hold_nine_of_ten_true_values_of_other_films() -> None:
    films = [disturbed(seed) for seed in range(40)]
    plain: list[Shape] = [{} for _ in films]
    read = fit_intervals(films, plain, None, refined=False)
    intervals = {name: (floor, factor) for name, (floor, factor) in read.items()}
    errors = Errors()
    for seed in range(40, 80):
        film = disturbed(seed)
        errors.add(film.truth, film.measured(shape={}, intervals=intervals))
    said = errors.summary()["measures"]
    inside = [said[title]["inside"] for title in ("body_wedging", "disc_angle", "segmental_angle")]
    assert WANTED - 0.05 <= np.mean(inside) <= WANTED + 0.04


def test_a_model_of_shape_is_fitted_to_the_films_that_it_is_given() -> None:
    rows = [rows_of_shape(disturbed(seed)) for seed in range(6)]
    assert [len(film["body"]) for film in rows] == [5] * 6
    with_sacrum = [film | {"sacrum": film["body"]} for film in rows]
    model = fit_shape(with_sacrum)
    assert model["body"].shape == (len(rows[0]["body"][0][0]), 12)
    assert not np.allclose(model["body"], fit_shape(with_sacrum[:3])["body"])


def test_many_films_are_measured_by_processes_as_by_one(kept: KeptFilm, monkeypatch) -> None:
    films = [replace(kept, truth=replace(kept.truth, name=f"{n}.dcm")) for n in range(8)]
    monkeypatch.setattr(run.os, "cpu_count", lambda: 1)
    alone = run.errors_of(films)
    monkeypatch.setattr(run.os, "cpu_count", lambda: 2)
    assert run.errors_of(films) == alone
    assert len(alone.by_model[FUSED].corners) > 8


def test_weights_follow_the_better_source_and_spreads_what_it_says() -> None:
    """The refiner is off by 1.5 times what it says, the outlines by far more."""
    rng = np.random.default_rng(4)
    said = np.exp(rng.uniform(np.log(0.01), np.log(0.08), 3000))
    refiner = rng.laplace(0.0, 1.5 * said)
    outline = refiner + rng.laplace(0.0, 0.03, 3000)
    rows = np.stack([outline, refiner, said, np.full(3000, 1e-4)], axis=1)
    alone, share, spread = blend_of(rows)
    assert share > 0.9
    assert alone > 0.04
    assert spread[1] > 0.6
    poor = np.stack([refiner, outline, said, np.full(3000, 1e-4)], axis=1)
    assert blend_of(poor)[1] < 0.1


def test_usual_turns_are_those_of_the_truth() -> None:
    films = [
        replace(
            disturbed(0),
            truth=TrueFilm(
                f"{place}",
                HEIGHT,
                WIDTH,
                None,
                {},
                {
                    (MeasureKind.BODY_WEDGING, ("L1",)): (2.0 + (place % 2), None),
                    (MeasureKind.BODY_WEDGING, ("T12",)): (1.0, None),
                    (MeasureKind.DISC_ANGLE, ("T12", "L1")): (-2.5, None),
                    (MeasureKind.DISC_ANGLE, ("L5", "S1")): (13.0, None),
                    (MeasureKind.DISC_ANGLE, ("L4", "S1")): (40.0, None),
                },
            ),
        )
        for place in range(40)
    ]
    posture = fit_posture(films)
    assert posture == {
        # Of the chest half way to what is published: -3 and 1.5 degrees.
        "bodies": {"L1": [-2.5, 0.5], "T12": [-2.0, 1.0]},
        "discs": {"L5": [13.0, 0.0], "T12": [-0.5, 2.0]},
    }


def test_breaks_of_rods_are_matched_by_their_ends() -> None:
    """One is found by one end alone, one is told where none is, one is covered and missed."""
    ends = np.array([(100.0, 200.0), (102.0, 212.0)])
    true = (
        TrueBreak(("L3", "L4"), ends, 6.0, 0.1),
        TrueBreak(("L1", "L2"), ends - (0, 150), 6.0, 0.9),
    )
    film = TrueFilm("drawn.png", HEIGHT, WIDTH, 0.5, {}, {}, rod_breaks=true)
    kind, unit = MeasureKind.ROD_BREAK_GAP, MeasureUnit.MILLIMETRE
    hidden = WithheldReason.NOT_SHOWN
    measured = FilmMeasures(
        None,
        0.0,
        None,
        measures=(
            Measure(kind, ("L3", "L4"), unit, withheld_reason=hidden, implant_index=0),
            Measure(kind, ("L4", "L5"), unit, 5.0, 4.0, 6.0, implant_index=1),
        ),
        rod_breaks=(
            RodBreak((0,), ("L3", "L4"), None, Point(104.0, 220.0)),
            RodBreak((1,), ("L4", "L5"), Point(100.0, 300.0), Point(102.0, 312.0)),
        ),
    )
    errors = Errors()
    errors.add(film, measured)
    errors.extend(errors_of_nothing(film))
    said = errors.summary()
    assert said["rod_breaks"] == {
        "true": 4, "found": 1, "open": 2, "open_found": 1, "said": 2, "right": 1,
        "levels_right": 1,
    }  # fmt: skip
    assert said["measures"]["rod_break_gap"] == {"asked": 1, "coverage": 0.0}
    assert "1 of 4 found" in landmarks_text(said)


def test_landmarks_and_osteophytes_are_compared_where_the_body_lies_on_the_film() -> None:
    quad = np.array([(100.0, 100.0), (200.0, 100.0), (200.0, 180.0), (100.0, 180.0)])
    below = quad + np.array([0.0, HEIGHT - 150.0])
    true = {"SUPERIOR_ANTERIOR": 4.0, "INFERIOR_ANTERIOR": 2.0, "INFERIOR_POSTERIOR": 5.0}
    spurs = {(level, corner): mm for level in ("L3", "L4") for corner, mm in true.items()}
    film = TrueFilm(
        "drawn.png", HEIGHT, WIDTH, 0.5, {"L3": quad, "L4": below}, {}, osteophytes=spurs
    )
    places = quad + np.array([(0, 10), (0, 0), (0, 10), (0, 0)])
    corners = tuple(
        Landmark(corner, Point(float(x), float(y)), 5.0 if corner.value > 1 else 12.0)
        for corner, (x, y) in zip(BodyCorner, places, strict=True)
    )
    said = tuple(
        Osteophyte(corner, 3.0, 0.1, 0.0, Point(0.0, 0.0))
        for corner in BodyCorner
        if corner is not BodyCorner.INFERIOR_POSTERIOR
    )
    bodies = tuple(
        BodyLandmarks(level, place, corners, (), None, None, 0.0, said)
        for place, level in enumerate(("L3", "L4", "L5"))
    )
    errors = Errors()
    errors.add(film, FilmMeasures(None, 0.0, None, bodies))
    assert errors.corners == [(0.1, True), (0.0, True), (0.1, False), (0.0, True)]
    off_deg = np.degrees(np.arctan2(10, 100))
    assert errors.endplates == pytest.approx([-off_deg, off_deg])
    assert errors.of_film("endplates")["drawn.png"]["L3 SUPERIOR_POSTERIOR"] > 0.0
    figures = errors.summary()
    assert figures["osteophytes"] == {
        "true": 2, "recall": 0.5, "said": 3, "precision": pytest.approx(2 / 3)
    }  # fmt: skip
    assert figures["corners"]["inside"] == 0.75


def errors_of_nothing(film: TrueFilm) -> Errors:
    """A film of which nothing is told."""
    errors = Errors()
    errors.add(film, FilmMeasures(None, 0.0, None))
    return errors
