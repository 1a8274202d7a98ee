"""Implants of every kind: drawn where their outline is, broken and loose ones, scatter."""

from __future__ import annotations

from collections import Counter
from functools import cache

import cv2
import numpy as np
import pytest
from spinezoo_phantom.anatomy import Spine, build_spine
from spinezoo_phantom.cages import CAGES, cage
from spinezoo_phantom.detector import Layers, expose
from spinezoo_phantom.implants import Hardware, build_hardware, draw_hardware
from spinezoo_phantom.projection import Camera, Window, coverage_of
from spinezoo_phantom.screws import ScrewKind, screw
from spinezoo_phantom.truth import outline_of

HEIGHT, WIDTH = 640, 480
CAMERA = Camera(
    1500.0, 250.0, 0.6, np.array([20.0, -60.0]), np.array([240.0, 320.0]), HEIGHT, WIDTH
)


@cache
def patient(seed: int) -> tuple[Spine, Hardware]:
    spine = build_spine(np.random.default_rng(seed))
    return spine, build_hardware(spine, CAMERA, wanted=True, rng=np.random.default_rng(seed))


def one_screw(**changes: float) -> Hardware:
    kind = ScrewKind.draw(np.random.default_rng(1), tulip=True)
    kind.loose = kind.broken = 0.0
    for name, value in changes.items():
        setattr(kind, name, value)
    head, tip = np.array([-20.0, -60.0, 0.0]), np.array([25.0, -62.0, 0.0])
    made = screw(CAMERA, head, tip, "L4", kind, None, np.random.default_rng(2))
    return Hardware(["pedicle_screws"], [made])


def test_every_kind_of_construct_is_drawn() -> None:
    designs: Counter[str] = Counter()
    for seed in range(120):
        designs.update({implant.design for implant in patient(seed)[1].implants})
    assert {"rod", "broken rod", "satellite rod", "cross-link", "broken screw"} <= set(designs)
    assert {"markers", "porous", "solid", "window"} <= set(designs)
    assert designs["broken screw"] < designs["pedicle screw"] / 4


def test_screws_reach_the_ilium_behind_s2() -> None:
    found = [
        implant
        for seed in range(120)
        for implant in patient(seed)[1].implants
        if implant.structure == "screw" and implant.level == "S2"
    ]
    assert found
    spine_levels = {implant.level for seed in range(120) for implant in patient(seed)[1].implants}
    assert {"S1", "L5", "L1", "T10"} <= spine_levels


def test_a_broken_screw_is_drawn_in_two_and_outlined_as_one() -> None:
    hardware = one_screw(broken=1.0)
    (made,) = hardware.implants
    assert made.design == "broken screw"
    metal, _ = draw_hardware(hardware, (HEIGHT, WIDTH), 4)
    count, _ = cv2.connectedComponents((metal > 0.3 * np.median(metal[metal > 0])).astype(np.uint8))
    assert count == 3  # background and two
    polygons = made.truth_polygons()
    window = Window.around(np.vstack(polygons))
    outline = outline_of(coverage_of(polygons, window), window, 0.5, HEIGHT, WIDTH)
    assert outline is not None
    whole = one_screw().implants[0].truth_polygons()
    assert np.ptp(outline[:, 0]) > 0.98 * np.ptp(np.vstack(whole)[:, 0])


def test_a_loose_screw_lies_in_a_lucent_gap_outside_its_outline() -> None:
    hardware = one_screw(loose=1.0)
    metal, bone = draw_hardware(hardware, (HEIGHT, WIDTH), 4)
    assert bone.min() < -0.02
    assert (bone[metal == 0] < -0.01).sum() > 50
    assert draw_hardware(one_screw(), (HEIGHT, WIDTH), 4)[1].min() == 0


@pytest.mark.parametrize("design", CAGES)
def test_cages_of_every_design_are_drawn_within_their_outline(design: str) -> None:
    for seed in range(4):
        spine, _ = patient(seed)
        made = cage(spine.discs[1], CAMERA, design, np.random.default_rng(seed))
        metal, _ = draw_hardware(Hardware(["cage"], [made]), (HEIGHT, WIDTH), 4)
        polygons = made.truth_polygons()
        covered = np.zeros((HEIGHT, WIDTH), np.float32)
        covered[:] = coverage_of(polygons, Window(0, 0, WIDTH, HEIGHT))
        near = cv2.dilate(covered, np.ones((3, 3), np.uint8)) > 0
        assert metal.sum() > 0
        if design != "prosthesis":  # its keels reach into the bodies
            assert metal[~near].sum() < 0.02 * metal.sum()


def test_designs_are_shares_of_one() -> None:
    assert sum(CAGES.values()) == pytest.approx(1.0)


def test_scatter_over_a_part_takes_contrast_there() -> None:
    """The same patient under many exposures: some lose contrast in one half of the body only."""
    shape = (320, 240)
    bars = np.zeros(shape, np.float32)
    bars[::8] = bars[1::8] = bars[2::8] = bars[3::8] = 1.0
    bone = np.where(np.abs(np.arange(240) - 120) < 40, bars, 0.0).astype(np.float32)
    nothing = np.zeros(shape, np.float32)
    layers = Layers(
        body_core=bone + 0.5 * (bone.sum(axis=0) > 0),
        body_shell=nothing, arch_core=nothing, arch_shell=nothing, far_core=nothing,
        far_shell=nothing, metal=nothing, cement=nothing, soft=nothing, dense=nothing,
        texture=nothing, thickness_cm=np.full((32, 24), 20.0, np.float32),
        mm_per_px=1.2, spacing_mm=1.4,
    )  # fmt: skip
    uneven = 0
    for seed in range(60):
        signal = expose(0.4 * bone + 3.0, layers, 0.0, np.random.default_rng(seed))
        contrast = np.abs(np.diff(signal[:, 100:140], axis=0)).reshape(11, 29, 40).max(axis=(1, 2))
        uneven += bool(contrast.min() < 0.6 * contrast.max())
    assert 8 < uneven < 40
