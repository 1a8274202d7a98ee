"""Exact truth of posed solids, grades, hardware, sets."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from spinezoo_phantom import PhantomFilm, PhantomSettings, make_film, write_film_set
from spinezoo_phantom.__main__ import main
from spinezoo_phantom.anatomy import Spine, Vertebra, build_spine
from spinezoo_phantom.implants import build_hardware, draw_hardware
from spinezoo_phantom.make import build_scene, streams_of
from spinezoo_phantom.projection import Camera, Window
from spinezoo_phantom.records import turned_points
from spinezoo_phantom.solids import (
    _add_sample,
    along_ray,
    body_paths,
    pillow_paths,
    project,
    tube_paths,
)
from spinezoo_phantom.truth import is_simple, outline_of, polygon_area
from spinezoo_spine.annotations.corners import read_corners
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.raster import rasterise
from spinezoo_spine.films.reader import read_film_file

SMALL = PhantomSettings(height_px=320, width_px=256)
PLAIN = PhantomSettings(
    height_px=480,
    width_px=384,
    implant_share=0,
    noise_scale=0,
    clutter=0,
    display_variation=0,
    tight_share=0,
    wide_share=0,
)
STRUCTURES = {"lumbar_vertebra", "sacral_vertebra", "cage", "screw", "rod"}


@pytest.fixture(scope="module")
def films() -> list[PhantomFilm]:
    return [make_film(seed, SMALL) for seed in range(48)]


def spines(count: int) -> list[Spine]:
    return [build_spine(np.random.default_rng(seed)) for seed in range(count)]


def square_camera(spacing_mm: float = 0.4, size: int = 300) -> Camera:
    """A camera whose middle ray meets the world's origin."""
    middle = np.array([size / 2, size / 2])
    return Camera(1500.0, 250.0, spacing_mm, np.zeros(2), middle, size, size)


def plain_body(**changes: object) -> Vertebra:
    """An upright body without waist, hollow, spurs or rotation, in the world's origin."""
    spine = build_spine(np.random.default_rng(0))
    body = spine.vertebrae[2]
    known: dict[str, object] = {
        "centre_mm": np.zeros(3), "frame": np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, 1]]),
        "height_mm": 26.0, "lower_depth_mm": 34.0, "upper_depth_mm": 34.0, "width_mm": 46.0,
        "lower_slope": 0.0, "upper_slope": 0.0, "concavity_mm": (0.0, 0.0),
        "node_mm": (0.0, 0.0, 0.0), "waist": 0.0, "rounding": 0.0, "exponent": 3.0,
        "notch_mm": 0.0, "spurs_mm": np.zeros(4), "wall_mm": 0.5, "plate_mm": 0.8,
        "sclerosis": (0.0, 0.0),
    }  # fmt: skip
    for name, value in (known | changes).items():
        setattr(body, name, value)
    return body


# ------------------------------------------------------------------------------------- path lengths


def test_the_path_through_a_body_is_its_width() -> None:
    """The middle ray runs through 46 mm of bone, 2 x 0.5 mm of it cortex."""
    camera = square_camera()
    paths = body_paths(plain_body(), camera)
    assert paths is not None
    row, column = 150 - paths.window.top, 150 - paths.window.left
    assert paths.inside_cm[row, column] == pytest.approx(4.6, rel=0.01)
    front = column + 12  # behind it the wall is open for the pedicles
    assert paths.shell_cm[row, front] == pytest.approx(0.1, rel=0.2)


def test_the_volume_of_a_body_is_that_of_its_solid() -> None:
    """The sum of path lengths over the mid-plane is the volume, whatever the pose."""
    from scipy.special import gamma

    # Area of a superellipse with exponent n and halves a, b; back half with n + 1.2.
    def half_area(n: float) -> float:
        return 2 * 17 * 23 * gamma(1 + 1 / n) ** 2 / gamma(1 + 2 / n)

    volume_cm3 = (half_area(3.0) + half_area(4.2)) * 26 / 1000
    for pixel in (0.25, 1.2):
        camera = square_camera(pixel, int(120 / pixel))
        paths = body_paths(plain_body(), camera)
        assert paths is not None
        area_cm2 = (1 / camera.px_per_mm / 10) ** 2
        assert paths.inside_cm.sum() * area_cm2 == pytest.approx(volume_cm3, rel=0.03)


def test_an_endplate_along_the_ray_is_a_dense_line() -> None:
    """Through a flat endplate the ray meets nothing but cortex; tilted, the line is gone."""
    camera = square_camera(0.25, 400)
    flat = body_paths(plain_body(plate_mm=1.0), camera)
    assert flat is not None
    column = 200 - flat.window.left
    top = 200 - 12.5 * camera.px_per_mm - flat.window.top
    shell = flat.shell_cm[:, column]
    assert shell[round(top)] > 3.5  # 0.5 mm below the upper border, within the plate
    assert shell[len(shell) // 2] < 0.2
    tilt = np.deg2rad(12)
    frame = np.array(
        [[1.0, 0, 0], [0, -np.cos(tilt), np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
    )
    tilted = body_paths(plain_body(plate_mm=1.0, frame=frame), camera)
    assert tilted is not None
    assert tilted.shell_cm[:, 200 - tilted.window.left].max() < 1.5


def test_the_outline_is_where_the_solid_ends() -> None:
    camera = square_camera(0.3, 400)
    paths = body_paths(plain_body(), camera)
    assert paths is not None
    outline = outline_of(paths.inside_cm, paths.window, 0.36 * 4.6, 400, 400)
    assert outline is not None
    local_mm = (outline - 200) / camera.px_per_mm
    np.testing.assert_allclose(local_mm[:, 1].min(), -13, atol=0.5)
    np.testing.assert_allclose(local_mm[:, 1].max(), 13, atol=0.5)
    np.testing.assert_allclose(local_mm[:, 0].max(), 17, atol=0.7)
    np.testing.assert_allclose(local_mm[:, 0].min(), -17, atol=0.7)


def test_rotation_doubles_the_back_wall_and_shows_both_plates() -> None:
    """Rotated bodies have two borders: the band between full and no path is the slide."""
    camera = square_camera(0.25, 500)

    def band(frame: np.ndarray) -> float:
        paths = body_paths(plain_body(frame=frame, exponent=8.0), camera)
        assert paths is not None
        line = paths.inside_cm[250 - paths.window.top]
        return float(((line > 0.1 * line.max()) & (line < 0.9 * line.max())).sum())

    turn = np.deg2rad(15)
    still = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, 1]])
    turned = np.array(
        [[np.cos(turn), 0, -np.sin(turn)], [0, -1, 0], [np.sin(turn), 0, np.cos(turn)]]
    )
    assert band(turned) > band(still) + 2 * 0.6 * 46 * np.sin(turn) * camera.px_per_mm


def test_what_is_nearer_to_the_tube_is_larger() -> None:
    camera = square_camera()
    points = np.array([[10.0, 0, 60.0], [10.0, 0, -60.0]])
    near, far = project(camera, points)[:, 0] - 150
    assert near / far == pytest.approx((1250 + 60) / (1250 - 60), rel=1e-6)
    place = np.array([40.0, -30.0, 80.0])
    paths = body_paths(plain_body(centre_mm=place), camera)
    assert paths is not None
    rows, columns = np.nonzero(paths.inside_cm > 1.0)
    middle = np.array([columns.mean(), rows.mean()]) + 0.5 + paths.window.origin
    np.testing.assert_allclose(middle, project(camera, place), atol=2.0)


def test_for_a_frontal_film_the_patient_turns_to_the_tube() -> None:
    """What faced the tube lies to the film's left, what lay in front is nearer to the tube."""
    lateral = square_camera()
    frontal = replace(lateral, view="anteroposterior")
    place = np.array([10.0, 20.0, 30.0])
    np.testing.assert_array_equal(lateral.posed(place), place)
    np.testing.assert_array_equal(frontal.posed(place), [-30.0, 20.0, 10.0])
    larger = 1500.0 / (1500.0 - 250.0 - 10.0) / 0.4
    np.testing.assert_allclose(project(frontal, place), [150 - 30 * larger, 150 + 20 * larger])


def test_chords_of_pillows_and_tubes() -> None:
    around = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    ball = 100 + 40 * np.stack([np.cos(around), np.sin(around)], axis=1)
    drawn = pillow_paths(ball, 8.0, 40.0, 4.0, 0.4)
    assert drawn is not None
    window, shell, core = drawn
    middle = 100 - window.top, 100 - window.left
    assert (shell + core)[middle] == pytest.approx(8.0, rel=0.01)
    assert core[middle] == pytest.approx(7.2, rel=0.02)
    course = np.column_stack([np.linspace(20, 180, 30), np.full(30, 100.0)])
    found = tube_paths(
        course, np.full(30, 12.0), np.full(30, 0.6), np.ones(30), 0.25, Window(0, 0, 200, 200)
    )
    assert found is not None
    window, shell, core = found
    column = (shell + core)[:, 100 - window.left]
    assert column.max() == pytest.approx(1.2, rel=0.01)
    # The area under a round bar's chords is that of a circle.
    assert column.sum() == pytest.approx(np.pi * 12.0 * 0.6, rel=0.03)


def test_a_bar_along_the_ray_is_longer() -> None:
    slanted = np.column_stack([np.arange(5.0), np.zeros(5), np.arange(5.0)])
    np.testing.assert_allclose(along_ray(slanted), np.sqrt(2), rtol=1e-6)
    end_on = np.column_stack([np.zeros(5), np.zeros(5), np.arange(5.0)])
    assert along_ray(end_on).max() == 4.0


# ----------------------------------------------------------------------------------------- patients


def test_sizes_and_curves_are_those_of_people() -> None:
    people = spines(300)
    third = [spine.by_level()["L3"] for spine in people]
    depth = np.array([body.depth_mm for body in third])
    assert 32 < depth.mean() < 36.5
    assert 0.8 < np.mean([b.height_mm / b.depth_mm for b in third if b.fracture == "none"]) < 0.95
    slope = np.degrees([spine.sacral_slope_rad for spine in people])
    assert 35 < slope.mean() < 43
    assert 8 < slope.std() < 14
    lordosis = np.array([spine.lordosis_deg() for spine in people])
    assert 38 < lordosis.mean() < 62
    assert np.corrcoef(slope, lordosis)[0, 1] > 0.5  # lordosis follows sacral slope
    kyphosis = np.array([spine.kyphosis_deg() for spine in people])
    assert -15 < kyphosis.mean() < 20


def test_four_five_and_six_lumbar_vertebrae() -> None:
    counts = [spine.lumbar_count for spine in spines(400)]
    assert {4, 5, 6} == set(counts)
    assert 0.05 < np.mean(np.array(counts) != 5) < 0.16
    for wanted in (4, 6):
        spine = next(spine for spine in spines(400) if spine.lumbar_count == wanted)
        names = [body.level for body in spine.vertebrae]
        assert names[0] == f"L{wanted}"
        assert names[wanted] == "T12"
        assert spine.discs[0].name == f"L{wanted}/S1"


def test_incidence_is_slope_and_tilt() -> None:
    people = spines(300)
    incidence = np.degrees([spine.pelvis.incidence_rad for spine in people])
    slope = np.degrees([spine.pelvis.slope_rad for spine in people])
    tilt = np.degrees([spine.pelvis.tilt_rad for spine in people])
    np.testing.assert_allclose(incidence, slope + tilt)
    assert 48 < incidence.mean() < 60  # Legaye 1998, Vialle 2005
    assert slope.min() < 18
    assert slope.max() > 62
    for spine in people[:20]:  # the angles can be measured on the hips
        hip = spine.pelvis.heads_mm().mean(axis=0)
        assert np.arctan2(hip[0], hip[1]) == pytest.approx(spine.pelvis.tilt_rad)


def test_transitional_vertebrae_of_every_grade() -> None:
    people = [spine for spine in spines(900) if spine.transition.kind != "none"]
    assert {spine.transition.kind for spine in people} == {"sacralised", "lumbarised"}
    grades = {"Ia", "Ib", "IIa", "IIb", "IIIa", "IIIb", "IV"}
    assert {spine.transition.grade for spine in people} == grades
    for spine in people:
        one, other = sorted(spine.transition.wings)
        assert (one == other) == spine.transition.grade.endswith("b")
        lumbarised = spine.transition.kind == "lumbarised"
        assert spine.transition.level == ("S1" if lumbarised else "L5")
        if lumbarised:  # squared (O'Driscoll 1996)
            assert spine.sacrum[0].lower_depth_mm > 0.75 * spine.sacrum[0].upper_depth_mm


def test_a_sacrum_tapers_and_its_discs_vary() -> None:
    people = spines(200)
    usual = [spine for spine in people if spine.sacral_disc < 4]
    ratio = [s.sacrum[0].lower_depth_mm / s.sacrum[0].upper_depth_mm for s in usual]
    assert 0.55 < np.median(ratio) < 0.8
    gaps = [
        np.linalg.norm(s.sacrum[0].corners_mm()[2:].mean(0) - s.sacrum[1].corners_mm()[:2].mean(0))
        for s in people
    ]
    assert min(gaps) < 0.5
    assert max(gaps) > 4
    for spine in people:
        for upper, lower in pairwise(spine.sacrum):
            assert lower.upper_depth_mm < upper.upper_depth_mm + 2


def test_every_patient_is_ill_and_all_grades_occur() -> None:
    people = spines(300)
    for spine in people:
        assert any(disc.narrowing >= 2 for disc in spine.discs[:5])
    discs = [disc for spine in people for disc in spine.discs]
    assert {disc.narrowing for disc in discs} == {0, 1, 2, 3}
    assert {disc.osteophytes for disc in discs} == {0, 1, 2, 3}
    assert {disc.sclerosis for disc in discs} >= {0, 1, 2, 3}
    assert {disc.slip_grade for disc in discs} >= {-1, 0, 1, 2}
    bodies = [body for spine in people for body in spine.vertebrae]
    assert {body.fracture for body in bodies} == {"none", "wedge", "biconcave", "crush"}
    assert {body.fracture_grade for body in bodies} == {0, 1, 2, 3}
    assert {spine.osteoporosis for spine in people} == {0, 1, 2, 3}


def test_grades_show() -> None:
    people = spines(300)
    heights: dict[int, list[float]] = {0: [], 1: [], 2: [], 3: []}
    for spine in people:
        for disc in spine.discs[:4]:
            heights[disc.narrowing].append(disc.height_mm)
            if disc.slip_grade > 0:
                assert (disc.slip_grade - 1) * 0.25 < disc.slip_mm / disc.depth_mm
                assert disc.slip_mm / disc.depth_mm < disc.slip_grade * 0.25 + 0.03
            if disc.slip_grade < 0:
                assert disc.slip_mm < -1
        for body in spine.vertebrae:
            if body.fracture == "wedge":
                corners = body.rims_mm()
                back = np.linalg.norm(corners[0] - corners[3])
                front = np.linalg.norm(corners[1] - corners[2])
                assert front < back
    means = [float(np.mean(heights[grade])) for grade in range(4)]
    assert means == sorted(means, reverse=True)
    dense = [float(np.mean([b.density for b in s.vertebrae])) for s in people]
    grade = [spine.osteoporosis for spine in people]
    assert np.corrcoef(dense, grade)[0, 1] < -0.6


def test_the_sacrum_curves_forward() -> None:
    for spine in spines(60):
        angles = [body.sagittal_rad for body in spine.sacrum]
        assert angles[-1] < angles[0] - 0.1


# ------------------------------------------------------------------------------------------- films


def test_the_cohort(films: list[PhantomFilm]) -> None:
    assert sum(bool(film.tags["has_hardware"]) for film in films) / len(films) > 0.70
    assert {film.tags["facing"] for film in films} == {"left", "right"}
    assert {region.structure for film in films for region in film.regions} == STRUCTURES
    assert np.mean([len(film.tags["visible_levels"]) for film in films]) > 6.5
    for film in films:
        assert film.tags["diseased_discs"]
        levels = [r.level for r in film.regions if r.structure == "lumbar_vertebra"]
        count = film.truth["lumbar_count"]
        assert set(levels) <= {"T12"} | {f"L{number + 1}" for number in range(count)}
        assert len(set(levels)) == len(levels)


def test_corners_lie_at_the_outlines_corners(films: list[PhantomFilm]) -> None:
    """Truth by corners and truth by outline are of one body: IoU as of careful outlines."""
    found = []
    for film in films:
        for region in film.regions:
            if not region.structure.endswith("vertebra"):
                continue
            quad = np.array(film.tags["corners_px"][region.level])
            if (quad < 2).any() or (quad > [254, 318]).any():
                continue
            outline = rasterise(region.polygon_xy, 320, 256)
            straight = rasterise(quad, 320, 256)
            found.append((outline & straight).sum() / (outline | straight).sum())
    assert len(found) > 150
    assert np.median(found) > 0.85
    assert np.mean(np.array(found) > 0.6) > 0.97


def test_bone_is_where_the_outline_says() -> None:
    """Line integrals of bone alone: nearly all lies within the outlines of bodies, none outside."""
    for seed in range(4):
        scene = build_scene(PLAIN, streams_of(seed))
        bodies = scene.layers.body_core + scene.layers.body_shell
        inside = np.zeros(bodies.shape, bool)
        for region in scene.regions:
            inside |= rasterise(region.polygon_xy, PLAIN.height_px, PLAIN.width_px)
        levels = {region.level for region in scene.regions}
        rows = np.concatenate([r.polygon_xy[:, 1] for r in scene.regions if r.level in levels])
        part = slice(int(rows.min()) + 2, int(rows.max()) - 2)
        # S3 and T11 reach into these rows, so outside is not nothing.
        assert bodies[part][inside[part]].mean() > 5 * bodies[part][~inside[part]].mean()
        assert bodies[inside].min() > 0


def test_hardware_is_drawn_where_its_outline_is() -> None:
    settings = PhantomSettings(height_px=640, width_px=480, implant_share=1)
    designs: set[str] = set()
    for seed in range(40):
        spine = build_spine(np.random.default_rng(seed))
        camera = Camera(
            1500.0, 250.0, 0.6, np.array([20.0, -60.0]), np.array([240.0, 320.0]), 640, 480
        )
        hardware = build_hardware(spine, camera, wanted=True, rng=np.random.default_rng(seed))
        assert hardware.implants, seed
        metal, _ = draw_hardware(hardware, (settings.height_px, settings.width_px), 4)
        union = np.zeros(metal.shape, bool)
        for implant in hardware.implants:
            designs.add(implant.design)
            for polygon in implant.truth_polygons():
                union |= rasterise(polygon, 640, 480)
        near = cv2.dilate(union.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        outside = metal[~near]
        # Keels of a disc prosthesis reach out of its outline on purpose.
        if "prosthesis" not in hardware.kinds:
            assert outside.sum() < 0.01 * metal.sum(), (seed, hardware.kinds)
    assert {"pedicle screw", "rod", "markers", "solid"} <= designs


def test_endplates_run_from_corner_to_corner(films: list[PhantomFilm]) -> None:
    for film in films[:10]:
        for facts in film.truth["vertebrae"].values():
            corners = np.array(facts["corners_px"])
            upper = np.array(facts["upper_endplate_px"])
            lower = np.array(facts["lower_endplate_px"])
            np.testing.assert_allclose(upper[[0, -1]], corners[:2], atol=0.02)
            np.testing.assert_allclose(lower[[0, -1]], corners[[3, 2]], atol=0.02)


def test_angles_are_those_of_the_film(films: list[PhantomFilm]) -> None:
    """Without rotation the sacral slope can be measured on the film."""
    checked = 0
    for film in films:
        back, front = np.array(film.truth["s1_endplate_px"])
        turn = abs(film.truth["vertebrae"]["S1"]["axial_rotation_deg"])
        if turn > 5:
            continue
        slope = np.degrees(np.arctan2(front[1] - back[1], abs(front[0] - back[0])))
        assert slope == pytest.approx(film.truth["angles_deg"]["sacral_slope"], abs=1.5)
        checked += 1
    assert checked > 15


def test_geometry_does_not_depend_on_resolution() -> None:
    small = make_film(11, PhantomSettings(height_px=320, width_px=240))
    large = make_film(11, PhantomSettings(height_px=640, width_px=480))
    assert small.row_spacing_mm == pytest.approx(2 * large.row_spacing_mm, rel=1e-3)
    bones = [
        [region for region in film.regions if region.structure.endswith("vertebra")]
        for film in (small, large)
    ]
    assert len(bones[0]) > 3
    for left, right in zip(*bones, strict=True):
        assert left.level == right.level
        for end in (np.min, np.max):
            np.testing.assert_allclose(
                end(left.polygon_xy, axis=0) * 2, end(right.polygon_xy, axis=0), atol=4
            )
        assert polygon_area(left.polygon_xy) * 4 == pytest.approx(
            polygon_area(right.polygon_xy), rel=0.06
        )


# ---------------------------------------------------------------------------------------- writing


def test_a_set_with_all_its_truth(tmp_path: Path) -> None:
    settings = PhantomSettings(height_px=320, width_px=240)
    write_film_set(tmp_path / "one", count=6, seed=5, settings=settings)
    write_film_set(tmp_path / "two", count=6, seed=5, settings=settings, workers=2)
    names = {path.name for path in (tmp_path / "one").iterdir() if path.is_file()}
    assert {"via.json", "phantom.json", "truth.json", "corners_coco.json"} < names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    record = json.loads((tmp_path / "one" / "phantom.json").read_text())
    assert record["generator"] == "4"
    assert record["settings"]["transitional_share"] == settings.transitional_share
    truth = json.loads((tmp_path / "one" / "truth.json").read_text())
    assert set(truth) == {film["filename"] for film in record["films"]}
    corners = read_corners(tmp_path / "one" / "corners_coco.json")
    assert len(corners) == 6
    assert sum(len(film.quads) for film in corners) > 20
    for film in corners:
        for level, quad in film.quads.items():
            wanted = truth[film.name]["vertebrae"][level]["corners_px"]
            np.testing.assert_allclose(quad, wanted, atol=1e-6)
    coco = json.loads((tmp_path / "one" / "corners_coco.json").read_text())
    found = coco["annotations"]
    assert [each["id"] for each in found] == list(range(1, len(found) + 1))
    for each in found:
        quad = np.reshape(each["segmentation"][0], (4, 2)).astype(np.float32)
        assert each["area"] == pytest.approx(cv2.contourArea(quad), abs=0.02)
        around = [*quad.min(axis=0), *np.ptp(quad, axis=0)]
        assert each["bbox"] == pytest.approx(around, abs=0.02)
    # The folder is a film set like any other.
    films = FilmSet.open(tmp_path / "one")
    assert len(films.names) == 6


def test_monochrome1_films_read_back_bone_bright(tmp_path: Path) -> None:
    settings = PhantomSettings(height_px=160, width_px=128, display_variation=0)
    seeds = [seed for seed in range(40) if make_film(seed, settings).tags["monochrome1"]]
    assert 1 <= len(seeds) <= 16
    write_film_set(tmp_path, count=14, seed=1, settings=settings)
    found = set()
    for path in sorted(tmp_path.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        found.add(dataset.PhotometricInterpretation)
        grey = read_film_file(path).pixels.astype(float)
        assert grey[:, 40:90].mean() > np.median(grey[:, [0, -1]]), path.name
    assert found == {"MONOCHROME1", "MONOCHROME2"}


def test_sheet_beside_other_films(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row of eight phantoms, and one of other films; a folder without films is refused."""
    folder = tmp_path / "others"
    folder.mkdir()
    line = "--count 2 --seed 1 --height 160 --width 120 --sheet"
    words = [*line.split(), str(tmp_path / "sheet.png"), "--beside", str(folder)]
    with pytest.raises(SystemExit):
        main(words)
    assert "holds no PNG film" in capsys.readouterr().err
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((200, 90), 40, np.uint8))
    assert main(words) == 0
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape == (420 * 2, 8 * 315, 3)


# ------------------------------------------------------------------------------- views and turns


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
def test_points_turn_as_pixels_do(turn_deg: int) -> None:
    film = np.zeros((32, 24))
    film[5, 3] = 1.0
    ((row, column),) = np.argwhere(np.rot90(film, -turn_deg // 90))
    turned = turned_points(np.array([[3.5, 5.5]]), 32, 24, turn_deg)
    np.testing.assert_array_equal(turned, [[column + 0.5, row + 0.5]])


@pytest.mark.parametrize("turn_deg", [90, 180, 270])
def test_a_turned_film_is_the_upright_one_turned(turn_deg: int) -> None:
    upright = PhantomSettings(height_px=320, width_px=240)
    size = (240, 320) if turn_deg in (90, 270) else (320, 240)
    settings = PhantomSettings(height_px=size[0], width_px=size[1], turn_deg=turn_deg)
    one, other = make_film(21, upright), make_film(21, settings)
    np.testing.assert_array_equal(np.rot90(one.pixels, -turn_deg // 90), other.pixels)
    assert other.tags["turn_deg"] == turn_deg
    for left, right in zip(one.regions, other.regions, strict=True):
        np.testing.assert_allclose(
            turned_points(left.polygon_xy, 320, 240, turn_deg), right.polygon_xy, atol=0.011
        )
        assert is_simple(right.polygon_xy)
    corners = np.array(other.truth["vertebrae"]["L3"]["corners_px"])
    outline = next(r.polygon_xy for r in other.regions if r.level == "L3")
    assert np.linalg.norm(corners.mean(axis=0) - outline.mean(axis=0)) < 12


def test_a_frontal_film_shows_the_same_patient_from_the_front() -> None:
    settings = PhantomSettings(height_px=480, width_px=400, view="anteroposterior")
    for seed in range(4):
        film = make_film(seed, settings)
        assert film.truth["view"] == film.tags["view"] == "anteroposterior"
        assert {r.structure for r in film.regions} <= {"lumbar_vertebra", "sacral_vertebra"}
        for region in film.regions:
            assert is_simple(region.polygon_xy)
            if region.level in ("L2", "L3"):
                wide, high = np.ptp(region.polygon_xy, axis=0)
                assert wide > 1.1 * high
        lateral = make_film(seed, PhantomSettings(height_px=480, width_px=400))
        for name in ("angles_deg", "lumbar_count", "transition", "discs"):
            assert film.truth[name] == lateral.truth[name]


def test_truth_reaches_from_t9_to_s2_and_knows_the_pelvis() -> None:
    film = make_film(31, PhantomSettings(height_px=320, width_px=240))
    levels = list(film.truth["vertebrae"])
    assert levels[:4] == ["T9", "T10", "T11", "T12"]
    assert levels[-2:] == ["S1", "S2"]
    assert set(film.truth["discs"]) == {f"{a}/{b}" for a, b in pairwise(levels[:-1])}
    angles = film.truth["angles_deg"]
    total = angles["sacral_slope"] + angles["pelvic_tilt"]
    assert angles["pelvic_incidence"] == pytest.approx(total, abs=0.02)
    assert len(film.truth["femoral_heads_px"]) <= 2


def test_whole_rods_have_no_break(films: list[PhantomFilm]) -> None:
    for film in films:
        broken = [i for i in film.truth["implants"] if i["design"] == "broken rod"]  # type: ignore[attr-defined]
        assert len(film.truth["rod_breaks"]) == len(broken) / 2  # type: ignore[arg-type]


def test_corners_lie_on_the_drawn_section() -> None:
    """In the mid-sagittal plane endplate and wall both pass through every corner without a spur."""
    spur_of = (3, 2, 1, 0)
    checked = 0
    for spine in spines(20):
        for body in [*spine.vertebrae[:7], spine.sacrum[0]]:
            local = ((body.corners_mm() - body.centre_mm) @ body.frame).astype(np.float32)
            plain = [body.spurs_mm[spur] == 0 for spur in spur_of]
            if any(body.node_mm[:2]) or not any(plain):
                continue
            along, up = local[plain, 0][None], local[plain, 1][None]
            inside, core = np.zeros((2, *up.shape), np.float32)
            _add_sample(body, [along, up, np.zeros_like(up)], 0.1, 0.1, inside, core, None)
            # Half of the wall's ramp times half of the endplate's, both about 0.1 mm wide.
            np.testing.assert_allclose(inside, 0.25, atol=0.1)
            checked += inside.size
    assert checked > 50
