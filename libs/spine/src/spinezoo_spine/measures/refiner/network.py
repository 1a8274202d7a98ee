"""The refiner's network in ONNX Runtime: what it says of the bodies of a film."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from spinezoo_contract.errors import InvalidOutputError

from spinezoo_spine.built_in import BuiltInCard, load_built_in_card
from spinezoo_spine.measures.refiner.card import REFINER


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """What the network says of N bodies; see :mod:`spinezoo_spine.measures.refiner.answers`.

    Attributes:
        numbers: (N, NUMBERS) endplates.
        spreads: (N, NUMBERS) how far they are off: scales of Laplace distributions.
        spur_odds: (N, 4) log-odds of a long osteophyte at each corner.
        spur_lengths: (N, 4) their lengths in sizes of the body.
    """

    numbers: NDArray[np.float64]
    spreads: NDArray[np.float64]
    spur_odds: NDArray[np.float64]
    spur_lengths: NDArray[np.float64]


class LandmarkRefiner:
    """A loaded refiner; may be called from several threads.

    Attributes:
        card: Its card.
    """

    def __init__(self, card: BuiltInCard) -> None:
        """Loads the network of a checked card."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a film's bodies take some milliseconds
        options.inter_op_num_threads = 1
        self.card = card
        self._session = onnxruntime.InferenceSession(
            str(card.weights_path), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, crops: NDArray[np.float32]) -> Refined:
        """What the network says of (N, 2, CROP_PX, CROP_PX) film and mask of one body or more.

        Raises:
            InvalidOutputError: The network was given or answered numbers that are not finite.
        """
        answers = self._session.run(None, {"crops": crops})
        numbers, spreads, spurs = (np.asarray(answer, np.float64) for answer in answers)
        # 8-bit integers know no NaN: what goes in is looked at too.
        if not all(np.isfinite(each).all() for each in (crops, numbers, spreads, spurs)):
            raise InvalidOutputError("the refiner met numbers that are not finite; check it")
        return Refined(numbers, spreads, spurs[:, :4], spurs[:, 4:])


@functools.cache
def built_in_refiner() -> LandmarkRefiner:
    """The refiner of this package, loaded once.

    Raises:
        CardError: Its card is wrong.
        WeightsError: Its weights are not those of the card.
    """
    return LandmarkRefiner(load_built_in_card(REFINER))
