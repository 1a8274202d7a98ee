"""U-Net as a predictor that the server shell can serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_serving.cards import ModelCard
from spinezoo_spine.inference.class_planes import ClassPlanes
from spinezoo_spine.inference.engines import Graph, GraphEngine
from spinezoo_spine.inference.loading import load_served
from spinezoo_spine.inference.options import ResolvedOptions
from spinezoo_spine.inference.predictors import FilmPredictor
from spinezoo_spine.inference.semantic import SemanticGraphPredictor

from spinezoo_unet.windows import SCALE, Span, box_of, right_part, window_of


class UNetPredictor(SemanticGraphPredictor):
    """The exported U-Net, its last steps only where a structure may be."""

    def __init__(self, card: ModelCard, engine: GraphEngine, graphs: Mapping[str, Graph]) -> None:
        """Takes what :func:`load_served` gives."""
        super().__init__(card, engine, graphs)
        self.finest = graphs["finest"]

    def infer(self, inputs: NDArray[np.float32], settings: ResolvedOptions) -> ClassPlanes:
        """Probabilities where a structure may be, everywhere where maps are asked for."""
        found = self.network.run(inputs[np.newaxis])
        if not settings.include_probability_maps:
            planes = self._in_window(found)
            if planes is not None:
                return planes
        logits = self.checked(self._last_steps(found)[0])
        everywhere = settings.include_probability_maps
        return ClassPlanes.of_logits(logits, self.size, everywhere=everywhere)

    def _in_window(self, found: Mapping[str, NDArray[Any]]) -> ClassPlanes | None:
        """Probabilities in the window of what may be a structure; None where that was too small."""
        maybe = self.checked(found["structures"])[0, 0] > 0.0
        box = box_of(maybe)
        if box is None:
            return ClassPlanes(np.zeros((1, 0, 0), dtype=np.float32), self.size)
        window = window_of(box, maybe.shape)
        (top, bottom), (left, right) = right_part(window, maybe.shape)
        logits = self.checked(self._last_steps(found, window)[0])[:, top:bottom, left:right]
        planes = ClassPlanes.of_logits(logits, (logits.shape[1], logits.shape[2]))
        row, column = SCALE * window[0][0] + top, SCALE * window[1][0] + left
        inner = box_of(logits[1:].max(axis=0) >= logits[0])
        if inner is not None:
            # A structure that reaches the window's border may go on beyond it.
            begins = (row > 0, column > 0)
            ends = (row + logits.shape[1] < self.size[0], column + logits.shape[2] < self.size[1])
            for (first, last), side, before, after in zip(
                inner, logits.shape[1:], begins, ends, strict=True
            ):
                if (before and first == 0) or (after and last == side):
                    return None
        return ClassPlanes(planes.values, self.size, planes.top + row, planes.left + column)

    def _last_steps(
        self, found: Mapping[str, NDArray[Any]], window: tuple[Span, Span] | None = None
    ) -> NDArray[np.float32]:
        """(1, 1 + structures, ., .) logits of a window of cells, of all where there is none."""
        parts = []
        for name, times in (("coarse", 1), ("skip1", 2), ("skip0", 4)):
            values = found[name]
            if window is not None:
                (top, bottom), (left, right) = window
                values = values[:, :, times * top : times * bottom, times * left : times * right]
            parts.append(np.ascontiguousarray(values))
        return self.finest.run(*parts)["logits"]

    def _logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.checked(self._last_steps(self.network.run(inputs[np.newaxis]))[0])

    def probe(self, seed: int, count: int) -> NDArray[np.float64]:
        """What :func:`spinezoo_unet.weights.probe_values` picks: channels last, not clipped."""
        shape = (self.card.input.height, self.card.input.width, self.card.input.channels)
        film = np.random.default_rng(seed).standard_normal((1, *shape)).astype(np.float32)
        film = np.ascontiguousarray(film.transpose(0, 3, 1, 2))
        logits = self._last_steps(self.network.run(film)).transpose(0, 2, 3, 1).ravel()
        return logits[np.linspace(0, logits.size - 1, count).astype(int)].astype(np.float64)


def load_predictor(card_path: Path, *, device: str | None = None) -> FilmPredictor[Any]:
    """The network of a card, its weights and probe checked; see :func:`load_served`."""
    return load_served(card_path, UNetPredictor, "tensorflow", with_tensorflow, device=device)


def with_tensorflow(card_path: Path, device: str) -> FilmPredictor[Any]:
    """The network in Keras, which is imported only now."""
    from spinezoo_unet.framework import load_keras_predictor

    return load_keras_predictor(card_path, device)
