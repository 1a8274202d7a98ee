"""The refiner as a model of this package."""

from __future__ import annotations

from pathlib import Path

from spinezoo_spine.built_in import BuiltInModel
from spinezoo_spine.measures.refiner.looking import LOOK_ID

REFINER = BuiltInModel(
    kind="refiner",
    folder=Path(__file__).parent,
    network="refiner",
    input_key="look_id",
    input_id=LOOK_ID,
    most_bytes=2 * 2**20,
)
