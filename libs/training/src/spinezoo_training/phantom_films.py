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
    Scene,
    build_scene,
    corners_of,
    mirrored_regions,
    streams_of,
    turned_regions,
)
from spinezoo_phantom.projection import Camera
from spinezoo_phantom.records import PhantomRegion, turned_points
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
    """Films of one patient, as `prepared_set.prepare_films` would prepare them, with columns.

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
    fit = _fitted(streams[6], settings, height, width)
    patient = _Patient.of(build_scene(fit.settings, streams), fit)
    looks_of = np.random.SeedSequence((_PATIENTS, seed, index, 2)).spawn(looks)
    return [
        patient.look(
            np.random.Generator(np.random.PCG64(stream)),
            f"phantom{GENERATOR}-{seed}-{index}-{number}",
        )
        for number, stream in enumerate(looks_of)
    ]


@dataclass(frozen=True, slots=True)
class _Fit:
    """How a film lies on its canvas.

    Attributes:
        settings: Of the film, upright, at its size on the canvas.
        canvas: Rows and columns of the canvas.
        turn_deg: How far the film is turned clockwise.
    """

    settings: PhantomSettings
    canvas: tuple[int, int]
    turn_deg: int

    @property
    def upright(self) -> tuple[int, int]:
        """Rows and columns of the film before it is turned."""
        return self.settings.height_px, self.settings.width_px

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """Top, left, rows and columns of the turned film on the canvas."""
        rows, columns = self.upright[::-1] if self.turn_deg in (90, 270) else self.upright
        return (self.canvas[0] - rows) // 2, (self.canvas[1] - columns) // 2, rows, columns

    def placed(self, points_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of the turned film on the canvas."""
        top, left, *_ = self.frame
        moved: NDArray[np.float64] = points_xy + np.array([left, top], dtype=np.float64)
        return moved


def _fitted(
    chance: np.random.Generator, settings: PhantomSettings, height: int, width: int
) -> _Fit:
    """Draws a film's shape and fits it on a canvas of so many rows and columns."""
    # Films are not all alike in shape: plates of 3:4, crops, narrow whole-spine strips.
    shape = 0.75 if chance.random() < 0.3 else chance.uniform(0.52, 1.0)
    whole_spine = bool(chance.random() < _WHOLE_SPINE_SHARE)
    if whole_spine:
        shape = chance.uniform(0.36, 0.55)
    lying = settings.turn_deg in (90, 270)
    long, short = 1000, max(1, round(1000 * shape))
    box = Letterbox.fit(*((short, long) if lying else (long, short)), height, width)
    rows, columns = max(box.height, SMALLEST_SIDE_PX), max(box.width, SMALLEST_SIDE_PX)
    upright = (columns, rows) if lying else (rows, columns)
    fitted = replace(
        settings,
        height_px=upright[0],
        width_px=upright[1],
        turn_deg=0,
        field="whole_spine" if whole_spine else settings.field,
    )
    return _Fit(fitted, (height, width), settings.turn_deg)


@dataclass(frozen=True, slots=True, eq=False)
class _Patient:
    """A patient before the camera, ready to be exposed.

    Attributes:
        scene: The patient, projected once.
        fit: How films of it lie on the canvas.
        sides: Outlines of all structures and of all bodies on the turned film, by whether it is
            mirrored.
        landmarks: (22, 2) four corners, then both endplates, on the upright film, by level.
    """

    scene: Scene
    fit: _Fit
    sides: dict[bool, tuple[list[PhantomRegion], list[PhantomRegion]]]
    landmarks: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, scene: Scene, fit: _Fit) -> _Patient:
        """Works out what all films of the patient share."""
        width = fit.upright[1]

        def turned(regions: list[PhantomRegion], mirrored: bool) -> list[PhantomRegion]:
            seen = mirrored_regions(regions, width) if mirrored else regions
            return turned_regions(seen, *fit.upright, fit.turn_deg)

        sides = {
            mirrored: (turned(scene.regions, mirrored), turned(scene.bodies, mirrored))
            for mirrored in (False, True)
        }
        landmarks = {}
        for level, body in scene.spine.by_level().items():
            corners = project(scene.camera, corners_of(body, scene.camera))
            plates = [
                project(scene.camera, body.endplate_mm(upper=upper)) for upper in (True, False)
            ]
            landmarks[level] = np.concatenate([corners, *plates])
        return cls(scene, fit, sides, landmarks)

    def look(self, rng: np.random.Generator, name: str) -> TrainingColumn:
        """Exposes and processes the patient once.

        Args:
            rng: The look's own random stream.
            name: Of the film.
        """
        scene, fit = self.scene, self.fit
        mirrored = bool(rng.random() < fit.settings.mirror_share)
        seen = look(scene.layers, fit.settings, rng, mirrored=mirrored)
        grey = unit_grey(np.clip(seen.grey, 0, 1)) * np.float32(255)
        canvas = np.zeros(fit.canvas, np.uint8)
        top, left, rows, columns = fit.frame
        canvas[top : top + rows, left : left + columns] = np.rot90(
            cv2.convertScaleAbs(grey), -fit.turn_deg // 90
        )
        regions, outlines = self.sides[mirrored]
        outlined = tuple(
            (_STRUCTURES[region.structure], fit.placed(region.polygon_xy)) for region in regions
        )
        return TrainingColumn(
            PreparedFilm(name, canvas, outlined),
            tuple(self._body(region, mirrored) for region in outlines),
            fit.frame,
            scene.spine.lumbar_count,
            "left" if mirrored else "right",
            fit.settings.view,
            fit.turn_deg,
        )

    def _body(self, region: PhantomRegion, mirrored: bool) -> ColumnBody:
        level, fit = region.level, self.fit
        points = self.landmarks[level]
        if mirrored:
            points = np.column_stack([fit.upright[1] - points[:, 0], points[:, 1]])
        points = fit.placed(turned_points(points, *fit.upright, fit.turn_deg))
        return ColumnBody(
            level,
            fit.placed(region.polygon_xy),
            points[:4],
            points[4:].reshape(2, -1, 2),
            spurs_px(self.scene.spine.by_level()[level], self.scene.camera),
        )


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
