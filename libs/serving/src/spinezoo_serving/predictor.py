"""What a network has to be, for the server shell to serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from spinezoo_contract.types import Film, Prediction, PredictOptions

if TYPE_CHECKING:
    from spinezoo_serving.cards import ModelCard


class Predictor(Protocol):
    """One loaded network.

    ``predict`` is called from one thread at a time. It fills ``prepare_ms``, ``infer_ms`` and
    ``finish_ms`` of the provenance's timing; the server shell adds ``decode_ms`` and ``queue_ms``.
    A text ``precision``, such as ``float32``, is logged where a predictor has one.
    """

    card: ModelCard
    device: str

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        """Outlines of one film at the film's own size.

        Args:
            film: (height, width) pixels of any size from 16 x 16 up.
            options: Settings; None fields take the card's defaults.

        Raises:
            FilmError: The film cannot be used.
            OptionError: A setting is out of its range.
        """
        ...
