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

import cv2
import numpy as np
from spinezoo_contract.errors import OptionError
from spinezoo_contract.types import Structure
from spinezoo_phantom.detector import look
from spinezoo_phantom.make import build_scene, mirrored_regions, streams_of
from spinezoo_phantom.settings import PhantomSettings
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

_PATIENTS = 0x70683300  # keeps these streams apart from those of `make_film`
_STRUCTURES = {structure.name.lower(): structure for structure in Structure}


def training_films(
    seed: int,
    index: int,
    height: int,
    width: int,
    looks: int = 3,
    *,
    settings: PhantomSettings = TRAINING_SETTINGS,
) -> list[PreparedFilm]:
    """Films of one patient, as `dataset.prepare_film_set` would prepare them.

    A pure function: the same arguments give the same films on the same machine and library
    versions, in any order and any process. Patients of different (seed, index) have nothing in
    common.

    Args:
        seed: Number of the stream, 0 or more.
        index: Number of the patient in the stream, 0 or more.
        height: Rows of the canvas, 96 or more.
        width: Columns of the canvas, 96 or more.
        looks: How often the patient is exposed and processed, 1 or more.
        settings: Knobs; sizes in them are not used.

    Returns:
        `looks` films named `phantom3-<seed>-<index>-<look>`: (height, width) uint8 unit grey times
        255 with black bars where the film is narrower than the canvas, and outlines in canvas
        pixels, numbered as everywhere (`spinezoo_contract.types.Structure`).

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
    fit = Letterbox.fit(1000, max(1, round(1000 * shape)), height, width)
    fitted = PhantomSettings(
        **(
            settings.as_dict()
            | {
                "height_px": max(fit.height, SMALLEST_SIDE_PX),
                "width_px": max(fit.width, SMALLEST_SIDE_PX),
            }
        )
    )
    rows, columns = fitted.height_px, fitted.width_px
    top, left = (height - rows) // 2, (width - columns) // 2
    scene = build_scene(fitted, streams)
    turned = mirrored_regions(scene.regions, columns)
    corner = np.array([left, top], dtype=np.float64)
    films = []
    for number, stream in enumerate(
        np.random.SeedSequence((_PATIENTS, seed, index, 2)).spawn(looks)
    ):
        rng = np.random.Generator(np.random.PCG64(stream))
        mirrored = bool(rng.random() < fitted.mirror_share)
        seen = look(scene.layers, fitted, rng, mirrored=mirrored)
        canvas = np.zeros((height, width), np.uint8)
        grey = unit_grey(np.clip(seen.grey, 0, 1)) * np.float32(255)
        canvas[top : top + rows, left : left + columns] = cv2.convertScaleAbs(grey)
        films.append(
            PreparedFilm(
                f"phantom3-{seed}-{index}-{number}",
                canvas,
                tuple(
                    (_STRUCTURES[region.structure], region.polygon_xy + corner)
                    for region in (turned if mirrored else scene.regions)
                ),
            )
        )
    return films
