"""What a network has to be, for the server shell to serve it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from spinezoo_contract.types import Film, Prediction, PredictOptions

if TYPE_CHECKING:
    from spinezoo_serving.cards import ModelCard


class Predictor(Protocol):
    """One loaded network.

    ``predict`` is called from one thread at a time, or from as many as an attribute ``concurrent``
    says where a predictor has one: so one film is prepared while another is computed. It fills
    ``prepare_ms``, ``infer_ms`` and ``finish_ms`` of the provenance's timing; the server shell adds
    ``decode_ms`` and ``queue_ms``.
    A text ``precision``, such as ``float32``, is logged where a predictor has one. One that has a
    text ``shrinking_id`` takes films shrunk in the way of that name too (``Film.shrunk_from``), and
    answers at the whole film's size.
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


@runtime_checkable
class BatchPredictor(Protocol):
    """A network that takes several films at once faster than one after the other."""

    def predict_many(
        self, films: Sequence[Film], options: Sequence[PredictOptions]
    ) -> Sequence[Prediction]:
        """What :meth:`Predictor.predict` answers for each film, in their order.

        ``infer_ms`` of each answer is its share of the batch's time.

        Args:
            films: One or more, of any sizes.
            options: Settings of each.

        Raises:
            SpineZooError: A film fails; each is then asked alone.
        """
        ...
