"""Truth of double contours: how far both rims of an endplate lie apart on the film."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from spinezoo_phantom import PhantomSettings, make_film
from spinezoo_phantom.anatomy import build_spine
from spinezoo_phantom.make import build_scene, streams_of
from spinezoo_phantom.projection import Camera
from spinezoo_phantom.solids import body_paths, project
from spinezoo_phantom.vertebra import pose

SMALL = PhantomSettings(height_px=320, width_px=256)


def test_a_tilted_body_shows_both_rims_as_far_apart_as_is_said() -> None:
    """Between the rims bone fades: from none beyond the upper one to all of it below the lower."""
    camera = Camera(1500.0, 250.0, 0.25, np.zeros(2), np.array([250.0, 250.0]), 500, 500)
    square = replace(
        build_spine(np.random.default_rng(1)).vertebrae[2],
        centre_mm=np.zeros(3),
        lower_slope=0.0,
        upper_slope=0.0,
        concavity_mm=(0.0, 0.0),
        node_mm=(0.0, 0.0, 0.0),
        spurs_mm=np.zeros(4),
        waist=0.0,
        rounding=0.0,
        notch_mm=0.0,
        exponent=8.0,
    )
    for deg in (0.0, 4.0, 9.0):
        tilt = np.deg2rad(deg)
        body = replace(square, frame=pose(0.0, tilt, 0.0))
        sides = project(camera, body.sides_mm(upper=True))
        apart_px = abs(float(sides[1, 1] - sides[0, 1]))
        paths = body_paths(body, camera)
        assert paths is not None
        line = paths.inside_cm[:, 250 - paths.window.left]
        upper = line[: len(line) // 2]
        full = float(line.max())
        fades = float(((upper > 0.05 * full) & (upper < 0.95 * full)).sum())
        assert fades == pytest.approx(0.9 * apart_px, abs=4.0)


def test_double_contours_grow_with_the_tilt() -> None:
    film = make_film(3, SMALL)
    said = {
        (m["kind"], m["levels"][0]): m["value"]
        for m in film.truth["measures"]  # type: ignore[attr-defined]
        if m["kind"].startswith("DOUBLE_CONTOUR")
    }
    assert ("DOUBLE_CONTOUR_UPPER", "S1") in said
    assert ("DOUBLE_CONTOUR_LOWER", "S1") not in said
    assert min(said.values()) >= 0.0
    scene = build_scene(SMALL, streams_of(3))
    spine, camera = scene.spine, scene.camera
    for body in spine.vertebrae[:5]:
        rims = project(camera, body.sides_mm(upper=False)) * camera.spacing_mm
        span = float(np.hypot(*(rims[1] - rims[0])))
        assert said["DOUBLE_CONTOUR_LOWER", body.level] <= span + 0.01
        # Of a body without tilt only the divergence of the rays is left.
        level = replace(body, frame=pose(body.sagittal_rad, 0.0, 0.0), coronal_rad=0.0)
        rims = project(camera, level.sides_mm(upper=False)) * camera.spacing_mm
        beyond = abs(float(rims.mean(axis=0)[1] / camera.spacing_mm - camera.ray_px[1]))
        wide = 1.4 * level.width_mm / (camera.source_to_detector_mm - 400.0)
        assert abs(float(rims[1, 1] - rims[0, 1])) <= beyond * camera.spacing_mm * wide
