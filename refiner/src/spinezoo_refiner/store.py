"""The bodies that the refiner is trained on: crops of phantom films at their own resolution.

::

    python -m spinezoo_refiner.store --seed 950 --patients 1200 --out data/refiner-950

A shard is a NumPy file of twenty patients. A store that was cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_phantom.settings import GENERATOR
from spinezoo_spine.measures.refiner.looking import crop_of
from spinezoo_training.phantom_films import ColumnBody, TrainingColumn, training_columns
from tqdm import tqdm

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


def make_shard(folder: Path, seed: int, looks: int, patients: int, start: int) -> int:
    """Makes the shard that begins with patient ``start``; returns its number of bodies."""
    cv2.setNumThreads(1)
    rows: list[tuple[Any, ...]] = []
    for index in range(start, min(start + PATIENTS_A_SHARD, patients)):
        for column in training_columns(seed, index, *CANVAS_PX, looks):
            rows += rows_of(column)
    grey, mask, corners, middles, spurs, sacral = zip(*rows, strict=True)
    path = folder / f"{start:06d}.npz"
    unfinished = path.with_suffix(".part.npz")
    np.savez(
        unfinished,
        grey=np.stack(grey),
        outline=np.packbits(np.stack(mask), axis=-1),
        corners=np.array(corners, np.float32),
        middles=np.array(middles, np.float32),
        spurs=np.array(spurs, np.float32),
        sacral=np.array(sacral),
    )
    os.replace(unfinished, path)
    return len(rows)


def read_store(folder: Path) -> Crops:
    """All bodies of a store, in order.

    Raises:
        ConfigurationError: There is none.
    """
    paths = sorted(folder.glob("[0-9]*[0-9].npz"))
    if not paths:
        raise ConfigurationError(f"{folder} holds no bodies; make them first (refiner/README.md)")
    parts: dict[str, list[NDArray[Any]]] = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as shard:
            for name in shard.files:
                parts.setdefault(name, []).append(shard[name])
    whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    whole["outline"] = np.unpackbits(whole["outline"], axis=-1)
    return Crops(**whole)


def make_store(folder: Path, seed: int, patients: int, looks: int, workers: int) -> None:
    """Makes what is missing of a store.

    Raises:
        ConfigurationError: The folder holds bodies of other numbers.
    """
    record = {"generator": str(GENERATOR), "seed": seed, "patients": patients, "looks": looks}
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "store.json"
    if note.is_file():
        if json.loads(note.read_text()) != record:
            raise ConfigurationError(
                f"{folder} holds other bodies; remove it or choose another folder"
            )
    else:
        note.write_text(json.dumps(record) + "\n")
    starts = [
        start
        for start in range(0, patients, PATIENTS_A_SHARD)
        if not (folder / f"{start:06d}.npz").is_file()
    ]
    task = partial(make_shard, folder, seed, looks, patients)
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        tqdm(total=len(starts), unit="shard", disable=None) as bar,
    ):
        for _ in pool.map(task, starts):
            bar.update()


def read_record(folder: Path) -> dict[str, Any]:
    """What a store holds: generator, seed, patients, looks."""
    record: dict[str, Any] = json.loads((folder / "store.json").read_text())
    return record


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m spinezoo_refiner.store", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--patients", type=int, required=True)
    parser.add_argument("--looks", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    make_store(
        arguments.out, arguments.seed, arguments.patients, arguments.looks, arguments.workers
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
