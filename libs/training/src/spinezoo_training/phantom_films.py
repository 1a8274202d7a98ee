"""Films for training, made on the spot at the network's own size.

::

    for index in range(films // 3):
        for film in training_films(seed, index, 320, 256):
            ...

One patient is built and projected once and exposed several times: the detector costs less than the
patient, and the same bones under other looks is what networks have to learn. The physics is that of
full films; only the grid is coarser.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import OptionError
from spinezoo_contract.types import Structure
from spinezoo_phantom.detector import look
from spinezoo_phantom.make import (
    build_scene,
    corners_of,
    mirrored_regions,
    streams_of,
    turned_regions,
)
from spinezoo_phantom.projection import Camera
from spinezoo_phantom.records import turned_points
from spinezoo_phantom.settings import GENERATOR, PhantomSettings
from spinezoo_phantom.solids import project
from spinezoo_phantom.vertebra import Vertebra
from spinezoo_spine.inference.preprocess import Letterbox, unit_grey

from spinezoo_training.prepared_set import PreparedFilm

SMALLEST_SIDE_PX = 96
"""Least rows and columns of a canvas."""

TRAINING_SETTINGS = PhantomSettings(
    implant_share=0.6,
    field_spread=0.3,
    tight_share=0.18,
    wide_share=0.15,
    low_contrast_share=0.15,
)
"""More plain spines, more scales and more faint films than in a test set."""

_WHOLE_SPINE_SHARE = 0.1
_PATIENTS = 0x70683400  # keeps these streams apart from those of `make_film`
_STRUCTURES = {structure.name.lower(): structure for structure in Structure}


@dataclass(frozen=True, slots=True, eq=False)
class ColumnBody:
    """One vertebral body of a training film.

    Attributes:
        level: "T9" to "T12", "L1" to "L6", "S1" or "S2".
        outline: (N, 2) float64 simple outline on the canvas, x right, y down, pixel edges; cut at
            the film's border.
        corners: (4, 2) float64 upper back, upper front, lower front, lower back of the mid-sagittal
            plane on the canvas; may lie beyond the film's border.
        endplates: (2, 9, 2) float64 upper and lower endplate in that plane, back to front, hollows
            included, on the canvas.
        spurs_px: (4,) length of the osteophyte at each corner, in pixels of the canvas; 0 or
            less: none.
    """

    level: str
    outline: NDArray[np.float64]
    corners: NDArray[np.float64]
    endplates: NDArray[np.float64]
    spurs_px: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingColumn:
    """A training film and the column of bodies on it.

    Attributes:
        film: What networks are trained on.
        bodies: All bodies from T9 to S2 with a quarter or more on the film, head first.
        frame: (top, left, rows, columns) of the film on the canvas; bars around it.
        lumbar_count: 4, 5 or 6 lumbar vertebrae.
        facing: "right" or "left": where the patient's front is before the film is turned.
        view: "lateral" or "anteroposterior"; corners of the latter are those of the coronal plane.
        turn_deg: 0, 90, 180 or 270: how far the film is turned clockwise.
    """

    film: PreparedFilm
    bodies: tuple[ColumnBody, ...]
    frame: tuple[int, int, int, int]
    lumbar_count: int
    facing: str
    view: str
    turn_deg: int


def training_columns(
    seed: int,
    index: int,
    height: int,
    width: int,
    looks: int = 3,
    *,
    settings: PhantomSettings = TRAINING_SETTINGS,
) -> list[TrainingColumn]:
    """Films of one patient, as `prepared_set.prepare_film_set` would prepare them, with columns.

    A pure function: the same arguments give the same films on the same machine and library
    versions, in any order and any process. Patients of different (seed, index) have nothing in
    common.

    Args:
        seed: Number of the stream, 0 or more.
        index: Number of the patient in the stream, 0 or more.
        height: Rows of the canvas, 96 or more.
        width: Columns of the canvas, 96 or more.
        looks: How often the patient is exposed and processed, 1 or more.
        settings: Knobs; sizes in them are not used, view and turn are.

    Returns:
        `looks` columns; their films are named `phantom<generator>-<seed>-<index>-<look>`:
        (height, width) uint8 unit grey times 255 with black bars where the film is narrower than
        the canvas, and outlines in canvas pixels, numbered as everywhere
        (`spinezoo_contract.types.Structure`).

    Raises:
        OptionError: An argument is out of range; the message says which.
    """
    if seed < 0 or index < 0 or looks < 1:
        raise OptionError(
            f"seed {seed}, index {index}, looks {looks}: choose seed and index 0 or more, "
            "looks 1 or more"
        )
    if min(height, width) < SMALLEST_SIDE_PX:
        raise OptionError(f"canvas {height} x {width}: choose {SMALLEST_SIDE_PX} px or more")
    streams = streams_of(_PATIENTS, seed, index, 1)
    chance = streams[6]
    # Films are not all alike in shape: plates of 3:4, crops, narrow whole-spine strips.
    shape = 0.75 if chance.random() < 0.3 else chance.uniform(0.52, 1.0)
    whole_spine = bool(chance.random() < _WHOLE_SPINE_SHARE)
    if whole_spine:
        shape = chance.uniform(0.36, 0.55)
    turn_deg = settings.turn_deg
    lying = turn_deg in (90, 270)
    long, short = 1000, max(1, round(1000 * shape))
    fit = Letterbox.fit(*((short, long) if lying else (long, short)), height, width)
    rows, columns = max(fit.height, SMALLEST_SIDE_PX), max(fit.width, SMALLEST_SIDE_PX)
    upright = (columns, rows) if lying else (rows, columns)
    fitted = replace(
        settings,
        height_px=upright[0],
        width_px=upright[1],
        turn_deg=0,
        field="whole_spine" if whole_spine else settings.field,
    )
    top, left = (height - rows) // 2, (width - columns) // 2
    scene = build_scene(fitted, streams)
    sides = {
        mirrored: tuple(
            turned_regions(
                mirrored_regions(regions, upright[1]) if mirrored else regions, *upright, turn_deg
            )
            for regions in (scene.regions, scene.bodies)
        )
        for mirrored in (False, True)
    }
    corner = np.array([left, top], dtype=np.float64)
    level_corners = {
        level: project(scene.camera, corners_of(body, scene.camera))
        for level, body in scene.spine.by_level().items()
    }
    level_plates = {
        level: np.stack(
            [project(scene.camera, body.endplate_mm(upper=upper)) for upper in (True, False)]
        )
        for level, body in scene.spine.by_level().items()
    }
    columns_of_films = []
    for number, stream in enumerate(
        np.random.SeedSequence((_PATIENTS, seed, index, 2)).spawn(looks)
    ):
        rng = np.random.Generator(np.random.PCG64(stream))
        mirrored = bool(rng.random() < fitted.mirror_share)
        seen = look(scene.layers, fitted, rng, mirrored=mirrored)
        canvas = np.zeros((height, width), np.uint8)
        grey = unit_grey(np.clip(seen.grey, 0, 1)) * np.float32(255)
        seen_bytes = np.rot90(cv2.convertScaleAbs(grey), -turn_deg // 90)
        canvas[top : top + rows, left : left + columns] = seen_bytes
        film = PreparedFilm(
            f"phantom{GENERATOR}-{seed}-{index}-{number}",
            canvas,
            tuple(
                (_STRUCTURES[region.structure], region.polygon_xy + corner)
                for region in sides[mirrored][0]
            ),
        )
        bodies = []
        for region in sides[mirrored][1]:
            level = region.level
            points = np.concatenate([level_corners[level], level_plates[level].reshape(-1, 2)])
            if mirrored:
                points = np.column_stack([upright[1] - points[:, 0], points[:, 1]])
            points = turned_points(points, *upright, turn_deg) + corner
            bodies.append(
                ColumnBody(
                    level,
                    region.polygon_xy + corner,
                    points[:4],
                    points[4:].reshape(2, -1, 2),
                    spurs_px(scene.spine.by_level()[level], scene.camera),
                )
            )
        columns_of_films.append(
            TrainingColumn(
                film,
                tuple(bodies),
                (top, left, rows, columns),
                scene.spine.lumbar_count,
                "left" if mirrored else "right",
                fitted.view,
                turn_deg,
            )
        )
    return columns_of_films


def spurs_px(body: Vertebra, camera: Camera) -> NDArray[np.float64]:
    """(4,) length of the osteophyte at each corner on the film, in the order of the corners.

    A rim is rounded first; the length is what stands out after that.
    """
    rounded_mm = body.rounding * body.depth_mm / 2
    larger = float(camera.magnification(float(body.centre_mm[2])))
    upward = np.asarray(body.spurs_mm, dtype=np.float64)[::-1]  # the phantom's are from below
    return np.asarray((upward - rounded_mm) * larger / camera.spacing_mm)


def training_films(
    seed: int,
    index: int,
    height: int,
    width: int,
    looks: int = 3,
    *,
    settings: PhantomSettings = TRAINING_SETTINGS,
) -> list[PreparedFilm]:
    """The films of `training_columns`, which networks are trained on."""
    found = training_columns(seed, index, height, width, looks, settings=settings)
    return [column.film for column in found]
