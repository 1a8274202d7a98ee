"""A small folder of films with outlines."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.regions import FilmAnnotation, Region
from spinezoo_spine.annotations.via import write_via

BODY_XY = np.array([[40.0, 30.0], [90.0, 34.0], [88.0, 70.0], [38.5, 66.25]])


@pytest.fixture
def film_folder(tmp_path: Path) -> Path:
    """Six PNG films of 160 x 120 with a bright body and a rod each, and a VIA 2 file."""
    folder = tmp_path / "films"
    folder.mkdir()
    rng = np.random.default_rng(4)
    annotations = []
    for number in range(6):
        body = BODY_XY + np.array([0.0, 5.0 * number])
        rod = np.array([[60.0, 10.0], [64.0, 10.0], [64.0, 110.0], [60.0, 110.0]])
        grey = rng.integers(20, 60, (160, 120)).astype(np.uint8)
        cv2.fillPoly(grey, [np.rint(body).astype(np.int32)], 200)
        name = f"film_{number}.png"
        assert cv2.imwrite(str(folder / name), grey)
        regions = (
            Region(Structure.LUMBAR_VERTEBRA, body, f"L{number % 5 + 1}"),
            Region(Structure.ROD, rod),
        )
        annotations.append(FilmAnnotation(name, regions if number else regions[:1]))
    write_via(folder / "via.json", annotations)
    return folder
