"""The predictor of the semantic networks: class probabilities a pixel, one region a structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_serving.cards import ModelCard
from spinezoo_spine.inference.class_planes import ClassPlanes
from spinezoo_spine.inference.options import ResolvedOptions
from spinezoo_spine.inference.predictors import SemanticPredictor
from torch import nn

from spinezoo_torchkit.device import autocast
from spinezoo_torchkit.loading import inference_precision, load_network, precision_name


class TorchSemanticPredictor(SemanticPredictor):
    """A loaded semantic network.

    Attributes:
        network: In evaluation mode on the device; (n, 2, h, w) to logits (n, 1 + structures, h, w)
            or a coarser grid that covers the same canvas.
    """

    def __init__(self, card: ModelCard, network: nn.Module, device: torch.device) -> None:
        """Takes a network from :func:`spinezoo_torchkit.loading.load_network`.

        Raises:
            CardError: The card asks for another preprocessing.
            ConfigurationError: It names an unknown precision.
        """
        super().__init__(card, str(device), precision_name(card), engine="torch")
        self.network = network.eval()
        self._precision = inference_precision(card)

    @torch.inference_mode()
    def probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(2, h, w) network input to (1 + structures, h, w) probabilities."""
        device = torch.device(self.device)
        film = torch.from_numpy(inputs).unsqueeze(0)
        with autocast(device, self._precision):
            logits = self.network(film.to(device, memory_format=torch.channels_last))
        found: NDArray[np.float32] = logits.float().softmax(dim=1)[0].cpu().numpy()
        return found

    @torch.inference_mode()
    def infer_many(
        self, inputs: Sequence[NDArray[np.float32]], settings: Sequence[ResolvedOptions]
    ) -> list[ClassPlanes]:
        """The probabilities of several films in one go; see ``FilmPredictor.infer_many``."""
        device = torch.device(self.device)
        films = torch.from_numpy(np.stack(inputs))
        with autocast(device, self._precision):
            logits = self.network(films.to(device, memory_format=torch.channels_last))
        found: NDArray[np.float32] = logits.float().softmax(dim=1).cpu().numpy()
        return [ClassPlanes.whole(self.checked(each)) for each in found]


def load_semantic(
    card_path: Path, make: Callable[..., nn.Module], device: str | None
) -> TorchSemanticPredictor:
    """The network of a card, its weights and probe checked; see :func:`load_network`."""
    card, network, chosen = load_network(card_path, make, device=device)
    return TorchSemanticPredictor(card, network, chosen)
