"""The reader's card, and the numbers that were fitted for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spinezoo_contract.errors import CardError

from spinezoo_spine.built_in import BuiltInCard, BuiltInModel
from spinezoo_spine.column.reader.looking import VIEWS_ID

READER = BuiltInModel(
    kind="reader",
    folder=Path(__file__).parent,
    network="namer",
    input_key="views_id",
    input_id=VIEWS_ID,
    most_bytes=4 * 2**20,
    more_keys=frozenset({"calibration"}),
)
"""The reader as a model of this package."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Numbers fitted on phantoms.

    Attributes:
        temperature: Evidence is divided by it.
        threshold: A name is given when its probability reaches this.
        count_threshold: The number of lumbar vertebrae counts as read when its probability does.
        view_threshold: Names are given when the probability of an upright lateral film does.
    """

    temperature: float
    threshold: float
    count_threshold: float
    view_threshold: float


def calibration_of(card: BuiltInCard) -> Calibration:
    """The fitted numbers of a reader's card.

    Raises:
        CardError: A number is missing or unknown.
    """
    try:
        return Calibration(**card.more["calibration"])
    except TypeError as error:
        raise CardError(f"{READER.record_file}: calibration: {error}; correct it") from None
