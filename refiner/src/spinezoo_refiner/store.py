"""The bodies that the refiner is trained on: crops of phantom films at their own resolution.

A shard is a NumPy file of twenty patients, see :mod:`spinezoo_training.shards`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_spine.measures.refiner.looking import crop_of
from spinezoo_training.phantom_films import ColumnBody, TrainingColumn, training_columns
from spinezoo_training.shards import make_shards, read_shards, write_shard

CANVAS_PX = (1120, 840)
"""Rows and columns of the canvas that films are made on: bodies of 45 to 90 pixels."""

STORED_PX = 144
"""Side of a stored crop."""

STORED_HALF = 1.4
"""Half the side of a stored crop, in sizes of the body: room to turn and shift."""

LEAST_SIZE_PX = 28.0
"""Smaller bodies are left out."""

LEVELS = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "L6", "S1")
"""Bodies that are stored."""

PATIENTS_A_SHARD = 20


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """N bodies, the patient looking to the right.

    Attributes:
        grey: (N, STORED_PX, STORED_PX) ``uint8``.
        outline: (N, STORED_PX, STORED_PX) ``uint8``, 0 or 1: the true outline.
        corners: (N, 4, 2) upper back, upper front, lower front, lower back, in sizes of the body
            from the middle of the crop; of the mid-sagittal plane.
        middles: (N, 2, 2) middle of the upper and lower endplate, hollows included.
        spurs: (N, 4) length of the osteophyte at each corner in sizes of the body; 0: none.
        sacral: (N,) whether it is S1, of which only the upper endplate counts.
    """

    grey: NDArray[np.uint8]
    outline: NDArray[np.uint8]
    corners: NDArray[np.float32]
    middles: NDArray[np.float32]
    spurs: NDArray[np.float32]
    sacral: NDArray[np.bool_]


def axes_of(body: ColumnBody, *, mirrored: bool) -> tuple[NDArray[np.float64], float]:
    """(2, 2) unit vectors to the front and to the feet, as columns, and the size of a body.

    Args:
        body: A true body; corners are named, so its front is known.
        mirrored: Whether the patient looks to the left.
    """
    front = body.corners[1] - body.corners[0]
    if body.level != "S1":
        front = front + body.corners[2] - body.corners[3]
    front = front / max(float(np.hypot(*front)), 1e-9)
    down = np.array([-front[1], front[0]]) * (-1.0 if mirrored else 1.0)
    size = float(np.sqrt(cv2.contourArea(body.outline.astype(np.float32))))
    return np.stack([front, down], axis=1), size


def rows_of(column: TrainingColumn) -> list[tuple[Any, ...]]:
    """One row of :class:`Crops` for each body of a film that lies on it whole."""
    top, left, rows, columns = column.frame
    low, high = np.array([left, top]), np.array([left + columns, top + rows])
    film = column.film.grey[top : top + rows, left : left + columns]
    found = []
    for body in column.bodies:
        if body.level not in LEVELS:
            continue
        axes, size = axes_of(body, mirrored=column.facing == "left")
        wanted = body.corners[:2] if body.level == "S1" else body.corners
        if size < LEAST_SIZE_PX or (wanted < low + 2).any() or (wanted > high - 2).any():
            continue
        centre = _middle(body.outline)
        grey = crop_of(film, centre - low, axes * size * STORED_HALF, STORED_PX)
        points = np.concatenate([body.corners, body.endplates[:, 4]])
        points = (points - centre) @ axes / size
        outline = (body.outline - centre) @ axes / size
        mask = np.zeros((STORED_PX, STORED_PX), np.uint8)
        places = (outline / STORED_HALF + 1.0) * (STORED_PX / 2.0) - 0.5
        cv2.fillPoly(mask, [np.rint(places * 16).astype(np.int32)], 1, shift=4)
        spurs = np.maximum(body.spurs_px, 0.0) / size
        found.append((grey, mask, points[:4], points[4:], spurs, body.level == "S1"))
    return found


def _middle(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    moments = cv2.moments(outline.astype(np.float32))
    return np.array([moments["m10"], moments["m01"]]) / max(moments["m00"], 1e-9)


def make_shard(path: Path, seed: int, looks: int, patients: range) -> None:
    """Makes one shard."""
    cv2.setNumThreads(1)
    rows: list[tuple[Any, ...]] = []
    for index in patients:
        for column in training_columns(seed, index, *CANVAS_PX, looks):
            rows += rows_of(column)
    grey, mask, corners, middles, spurs, sacral = zip(*rows, strict=True)
    write_shard(
        path,
        grey=np.stack(grey),
        outline=np.packbits(np.stack(mask), axis=-1),
        corners=np.array(corners, np.float32),
        middles=np.array(middles, np.float32),
        spurs=np.array(spurs, np.float32),
        sacral=np.array(sacral),
    )


def make_store(folder: Path, seed: int, patients: int, looks: int, workers: int) -> None:
    """Makes what is missing of a store.

    Raises:
        ConfigurationError: The folder holds bodies of other numbers.
    """
    make_shards(
        folder, make_shard, patients_a_shard=PATIENTS_A_SHARD,
        seed=seed, patients=patients, looks=looks, workers=workers,
    )  # fmt: skip


def read_store(folder: Path) -> Crops:
    """All bodies of a store, in order.

    Raises:
        ConfigurationError: There is none, or a file of it is damaged.
    """
    shards = list(read_shards(folder, Crops.__slots__))
    whole = {name: np.concatenate([shard[name] for shard in shards]) for name in Crops.__slots__}
    whole["outline"] = np.unpackbits(whole["outline"], axis=-1)
    return Crops(**whole)
