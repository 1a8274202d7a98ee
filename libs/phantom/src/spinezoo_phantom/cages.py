"""Devices between two bodies: cages of many designs, disc prostheses."""

from __future__ import annotations

import numpy as np

from spinezoo_phantom.anatomy import Disc
from spinezoo_phantom.implant_shapes import STEEL, Implant, box_outline
from spinezoo_phantom.projection import Camera, ribbon, smooth_curve
from spinezoo_phantom.solids import project

CAGES = {
    "solid": 0.17, "markers": 0.27, "mesh": 0.07, "window": 0.11, "expandable": 0.09,
    "bullet": 0.11, "cylinder": 0.05, "prosthesis": 0.05, "porous": 0.08,
}  # fmt: skip
"""Designs and how often each is seen; half are of a polymer that only its pins show."""


def cage(disc: Disc, camera: Camera, design: str, rng: np.random.Generator) -> Implant:
    """One interbody device; it may dig into the endplates above and below."""
    px = camera.px_per_mm
    height_mm = min(max(disc.height_mm + rng.uniform(-0.5, 2.5), rng.uniform(6.0, 10.5)), 15.0)
    half_height = height_mm / 2 * px
    half_length = rng.uniform(0.24, 0.46) * disc.depth_mm * px
    along_mm = rng.uniform(-0.16, 0.20) * disc.depth_mm
    middle = disc.middle_mm + disc.frame @ np.array([along_mm, 0.0, rng.uniform(-8, 8)])
    ends = project(camera, np.stack([middle, middle + disc.frame[:, 0]]))
    centre, axis = ends[0], ends[1] - ends[0]
    turn = rng.normal(0, 0.05 if rng.random() < 0.85 else 0.15)
    axis = axis / np.linalg.norm(axis)
    axis = np.array(
        [
            axis[0] * np.cos(turn) - axis[1] * np.sin(turn),
            axis[0] * np.sin(turn) + axis[1] * np.cos(turn),
        ]
    )
    # A lordotic cage is lower at the back.
    block = box_outline(centre, -axis, half_length, half_height, rng.uniform(0, 0.3))
    device = Implant("cage", disc.name, design, outline=[block])
    across = np.array([axis[1], -axis[0]])

    def bar(start: np.ndarray, end: np.ndarray, width_mm: float, cm: float) -> None:
        device.pieces.append((ribbon(np.stack([start, end]), width_mm / 2 * px), cm))

    def edges(width_mm: float, cm: float) -> None:
        for corner in range(4):
            bar(block[corner], block[(corner + 1) % 4], width_mm, cm)

    if design == "solid":  # titanium with ridges that bite into the endplates
        device.pieces.append((block, rng.uniform(0.5, 1.6)))
        if rng.random() < 0.5:
            teeth = np.linspace(-0.85, 0.85, int(rng.integers(5, 9)))
            for share in teeth:
                foot = centre + axis * half_length * share
                bar(foot - across * half_height * 0.8, foot + across * half_height * 0.8, 0.7, 0.3)
    elif design == "bullet":
        nose = smooth_curve(block, rounds=2)
        device.outline = [nose]
        device.pieces.append((nose, rng.uniform(0.4, 1.4)))
        inner = centre + (nose - centre) * np.array([0.6, 0.6])
        device.pieces.append((inner, -0.5 * device.pieces[0][1]))
    elif design == "markers":  # radiolucent polymer with tantalum pins
        device.pieces.append((block, rng.uniform(0.01, 0.05)))
        places = ((-0.85, 0.8), (-0.85, 0.0, 0.8), (-0.9, -0.3, 0.85))[int(rng.integers(3))]
        dots = rng.random() < 0.35  # beads or short pins in the corners instead of posts
        for place in places:
            foot = centre + axis * half_length * place
            reach = across * half_height * rng.uniform(0.5, 0.9)
            width_mm, cm = rng.uniform(0.9, 1.6), rng.uniform(0.5, 1.4)
            if dots:
                tick = axis * 0.6 * px
                for sign in (-1, 1) if place != 0.0 else (0,):
                    spot = foot + reach * sign
                    bar(spot - tick, spot + tick, width_mm, cm)
            else:
                bar(foot - reach, foot + reach, width_mm, cm)
    elif design == "porous":  # printed titanium: a frame filled by a sponge
        device.pieces.append((block, rng.uniform(0.15, 0.4)))
        edges(rng.uniform(0.8, 1.3), rng.uniform(0.3, 0.6))
        for _ in range(int(rng.integers(12, 26))):
            spot = centre + axis * half_length * rng.uniform(-0.8, 0.8)
            spot = spot + across * half_height * rng.uniform(-0.3, 0.3)
            reach = (axis + across * np.clip(rng.normal(0, 1), -1, 1)) * 0.9 * px
            bar(spot - reach, spot + reach, 0.6, rng.uniform(-0.15, 0.3))
    elif design == "mesh":
        device.pieces.append((block, rng.uniform(0.08, 0.2)))
        edges(1.4, 0.5)
        for share in np.linspace(-1, 1, 5):
            foot = centre + axis * half_length * share * 0.9
            bar(foot - across * half_height * 0.9, foot + across * half_height * 0.9, 0.8, 0.35)
        bar(block[0], block[2], 0.8, 0.35)
        bar(block[1], block[3], 0.8, 0.35)
    elif design == "window":  # solid frame round a graft window
        device.pieces.append((block, rng.uniform(0.5, 1.1)))
        inner = centre + (block - centre) * np.array([0.55, 0.55])
        device.pieces.append((inner, -0.75 * device.pieces[0][1]))
    elif design == "expandable":  # two plates and a post
        for sign in (-1, 1):
            edge = across * half_height * 0.82 * sign
            start, end = centre - axis * half_length + edge, centre + axis * half_length + edge
            bar(start, end, height_mm * 0.22, rng.uniform(0.8, 1.4))
        post = across * half_height * 0.7
        bar(centre - post, centre + post, disc.depth_mm * 0.2, rng.uniform(0.6, 1.2))
    elif design == "cylinder":  # threaded, seen along its side
        course = np.linspace(centre - axis * half_length, centre + axis * half_length, 12)
        half = half_height * np.where(np.arange(12) % 2 == 0, 0.9, 1.0)
        outline = ribbon(course, half)
        device.outline = [outline]
        device.pieces.append((outline, rng.uniform(0.4, 0.9)))
        device.pieces.append((ribbon(course, half_height * 0.6), -0.25))
    else:  # disc prosthesis: two metal plates with keels, polymer between
        for sign in (-1, 1):
            edge = across * half_height * 0.7 * sign
            start, end = centre - axis * half_length + edge, centre + axis * half_length + edge
            bar(start, end, max(height_mm * 0.3, 2.0), rng.uniform(1.0, 2.0) * STEEL)
            keel = across * half_height * 1.3 * sign
            bar(centre + edge, centre + keel, 6.0, 0.3)
        device.pieces.append((block, 0.03))
    return device
