"""The reader's network in ONNX Runtime: what it says of a film."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from spinezoo_contract.errors import InvalidOutputError

from spinezoo_spine.built_in import BuiltInCard, load_built_in_card
from spinezoo_spine.column.reader.card import READER, Calibration, calibration_of
from spinezoo_spine.column.reader.looking import ReaderInput
from spinezoo_spine.column.reader.readings import Evidence

THREADS = 1
"""Threads of one film. A second one spares half a millisecond at most: metal is fused beside."""


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What the network says of a film.

    Attributes:
        evidence: Of its spots, not yet cooled.
        views: (4,) probability that the film is an upright lateral one, upside down, turned by 90
            degrees, or shows no lateral lumbar column.
    """

    evidence: Evidence
    views: NDArray[np.float64]


class ColumnReader:
    """A loaded reader; may be called from several threads.

    Attributes:
        card: Its card.
        calibration: Fitted numbers of the card.
    """

    def __init__(self, card: BuiltInCard) -> None:
        """Loads the network of a checked card.

        Raises:
            CardError: Its calibration is wrong.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        # Threads that wait must not take the processor from the networks beside them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.card = card
        self.calibration: Calibration = calibration_of(card)
        self._session = onnxruntime.InferenceSession(
            str(card.weights_path), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, given: ReaderInput) -> Said:
        """What the network says of one film with one spot or more.

        Raises:
            InvalidOutputError: The network was given or answered numbers that are not finite.
        """
        answers = self._session.run(
            None,
            {
                "views": given.views,
                "facts": given.facts,
                "pairs": given.pairs,
                "outlined": given.outlined,
                "film": given.film,
                "ribs": given.ribs,
            },
        )
        below, above, steps, counts, kind = (np.asarray(a, np.float64) for a in answers)
        # 8-bit integers know no NaN: what goes in is looked at too.
        seen = (given.views, given.film, given.ribs, below, above, steps, counts, kind)
        if not all(np.isfinite(a).all() for a in seen):
            raise InvalidOutputError("the reader met numbers that are not finite; check it")
        views = np.exp(kind - kind.max())
        return Said(Evidence(below, above, steps, counts), views / views.sum())


@functools.cache
def built_in_reader() -> ColumnReader:
    """The reader of this package, loaded once.

    Raises:
        CardError: Its card is wrong.
        WeightsError: Its weights are not those of the card.
    """
    return ColumnReader(load_built_in_card(READER))
