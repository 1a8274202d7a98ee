"""The films that the reader is trained on: phantoms, small, with every body from T9 to S2.

A shard is a NumPy file of forty patients, see :mod:`spinezoo_training.shards`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_training.phantom_films import TRAINING_SETTINGS, TrainingColumn, training_columns
from spinezoo_training.shards import MakeShard, make_shards, read_shards, write_shard

BODY_PX = 26.0
"""Side of the usual body of a stored film: a fifth finer than the finest view needs."""

CANVAS_PX = (640, 480)
"""Rows and columns of the canvas that films are made on."""

PATIENTS_A_SHARD = 40

FRONTAL_EVERY = 8
"""Every so many patients are taken from the front: films that must not be named."""

TRANSITIONAL_SHARE = 0.6
"""Share of patients with four or six lumbar vertebrae or a transitional one in films to learn from,
more than in the generator's films, so that counts are learnt from what is seen. Films to calibrate
and measure on have the generator's share: wrong names must be as rare as they are."""

FAINT_RIBS_SHARE = 0.75
"""Share of patients with faint ribs in films to learn from: patients' last ribs are fainter than
the generator's, and a rib that is not seen must not count as one that is not there."""


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """One vertebral body.

    Attributes:
        level: ``"T9"`` to ``"S2"``.
        outline: (N, 2) in pixels of the stored film.
    """

    level: str
    outline: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StoredFilm:
    """One film.

    Attributes:
        name: Seed, patient and look.
        grey: (height, width) ``uint8``.
        bodies: Head first.
        lumbar_count: 4, 5 or 6.
        view: ``"lateral"``, or another: no lateral column is on the film.
    """

    name: str
    grey: NDArray[np.uint8]
    bodies: tuple[Body, ...]
    lumbar_count: int
    view: str


def stored_film(column: TrainingColumn) -> StoredFilm | None:
    """A training film without its bars, scaled; None where no body tells the scale."""
    top, left, rows, columns = column.frame
    sides = [
        float(np.sqrt(cv2.contourArea(body.outline.astype(np.float32))))
        for body in column.bodies
        if body.level[0] in "TL"
    ]
    if not sides or float(np.median(sides)) < 6.0:
        return None
    factor = min(1.0, BODY_PX / float(np.median(sides)))
    height, width = round(rows * factor), round(columns * factor)
    film = column.film.grey[top : top + rows, left : left + columns]
    grey: Any = cv2.resize(film, (width, height), interpolation=cv2.INTER_AREA)
    scale, corner = np.array([width / columns, height / rows]), np.array([left, top])
    bodies = tuple(Body(b.level, (b.outline - corner) * scale) for b in column.bodies)
    return StoredFilm(column.film.name, grey, bodies, column.lumbar_count, column.view)


def make_shard(path: Path, seed: int, looks: int, patients: range) -> None:
    """Makes one shard to learn from."""
    _make_shard(path, seed, looks, patients, TRANSITIONAL_SHARE, FAINT_RIBS_SHARE)


def make_held_out_shard(path: Path, seed: int, looks: int, patients: range) -> None:
    """Makes one shard to calibrate or measure on."""
    _make_shard(path, seed, looks, patients, TRAINING_SETTINGS.transitional_share)


def make_frontal_shard(path: Path, seed: int, looks: int, patients: range) -> None:
    """Makes one shard of films from the front alone."""
    _make_shard(path, seed, looks, patients, TRANSITIONAL_SHARE, FAINT_RIBS_SHARE, 1)


def _make_shard(
    path: Path,
    seed: int,
    looks: int,
    patients: range,
    transitional: float,
    faint: float = 0.0,
    frontal_every: int = FRONTAL_EVERY,
) -> None:
    cv2.setNumThreads(1)
    films = []
    for index in patients:
        frontal = index % frontal_every == frontal_every - 1
        settings = replace(
            TRAINING_SETTINGS,
            transitional_share=transitional,
            faint_ribs_share=faint,
            view="anteroposterior" if frontal else "lateral",
        )
        for column in training_columns(seed, index, *CANVAS_PX, looks, settings=settings):
            film = stored_film(column)
            if film is not None:
                films.append(film)
    write_films(path, films)


def write_films(path: Path, films: Sequence[StoredFilm]) -> None:
    """Writes films as one shard."""
    said = [
        {
            "name": film.name,
            "height": film.grey.shape[0],
            "width": film.grey.shape[1],
            "lumbar_count": film.lumbar_count,
            "view": film.view,
            "bodies": [
                {"level": body.level, "outline": np.round(body.outline, 2).tolist()}
                for body in film.bodies
            ],
        }
        for film in films
    ]
    write_shard(
        path,
        grey=np.concatenate([film.grey.reshape(-1) for film in films]),
        films=np.frombuffer(json.dumps(said).encode(), np.uint8),
    )


def _films_of(shard: Mapping[str, NDArray[Any]]) -> Iterator[StoredFilm]:
    grey, said = shard["grey"], json.loads(shard["films"].tobytes())
    begin = 0
    for film in said:
        height, width = film["height"], film["width"]
        end = begin + height * width
        yield StoredFilm(
            film["name"],
            grey[begin:end].reshape(height, width),
            tuple(Body(b["level"], np.array(b["outline"])) for b in film["bodies"]),
            film["lumbar_count"],
            film["view"],
        )
        begin = end


def make_store(
    folder: Path,
    seed: int,
    patients: int,
    looks: int,
    workers: int,
    *,
    make: MakeShard = make_shard,
) -> None:
    """Makes what is missing of a store.

    Args:
        folder: Of the store.
        seed: Of the stream of patients.
        patients: How many.
        looks: Films of one patient.
        workers: Processes.
        make: One of :func:`make_shard`, :func:`make_held_out_shard`, :func:`make_frontal_shard`.

    Raises:
        ConfigurationError: The folder holds films of other numbers.
    """
    make_shards(
        folder, make, patients_a_shard=PATIENTS_A_SHARD,
        seed=seed, patients=patients, looks=looks, workers=workers,
    )  # fmt: skip


def read_store(folder: Path) -> list[StoredFilm]:
    """All films of a store, in order.

    Raises:
        ConfigurationError: There is none, or a file of it is damaged.
    """
    shards = read_shards(folder, ("grey", "films"))
    return [film for shard in shards for film in _films_of(shard)]
