"""The refiner's network: attention maps whose middles become endplates, with a spread for each.

A convolutional hourglass makes maps on a grid of a quarter of the crop's size; of each map the
softmax is taken, and its mean place and spread are numbers finer than the grid (*Levine 2016*,
spatial softmax; *Nibali 2018*). A small network of layers makes endplates from them, so what is
seen of both rims can tell of the middle between them.
"""

from __future__ import annotations

import torch
from spinezoo_spine.measures.refiner.answers import NUMBERS, REFERENCE, SCALE
from spinezoo_spine.measures.refiner.looking import CROP_PX
from torch import Tensor, nn

CHANNELS = 2
"""The film, and the mask of the outline."""

MAPS = 48
"""Attention maps."""

GRID = CROP_PX // 4
"""Side of a map."""


def _layer(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class RefinerNetwork(nn.Module):
    """Crops of bodies to endplates and osteophytes."""

    def __init__(self, width: int = 24) -> None:
        """Makes the layers; ``width`` is the number of planes at a quarter of the size."""
        super().__init__()
        w = width
        self.stem = _layer(CHANNELS, w // 2, 2, 5)
        self.quarter = _layer(w // 2, w, 2)
        self.quarter_more = _layer(w, w)
        self.eighth = _layer(w, 2 * w, 2)
        self.eighth_more = _layer(2 * w, 2 * w)
        self.sixteenth = _layer(2 * w, 3 * w, 2)
        self.sixteenth_more = _layer(3 * w, 3 * w)
        self.up_eighth = nn.Conv2d(3 * w, 2 * w, 1)
        self.eighth_again = _layer(2 * w, 2 * w)
        self.up_quarter = nn.Conv2d(2 * w, w, 1)
        self.quarter_again = _layer(w, w + w // 3)
        self.maps = nn.Conv2d(w + w // 3, MAPS, 1)
        steps = (torch.arange(GRID) + 0.5) / GRID * 2.0 - 1.0
        self.register_buffer("steps", steps, persistent=False)
        self.straight = nn.Linear(2 * MAPS, NUMBERS)
        self.bent = nn.Sequential(
            nn.Linear(3 * MAPS + 3 * w, 128), nn.ReLU(), nn.Linear(128, 2 * NUMBERS)
        )
        # Osteophytes are small and stay where they are: they are read off the grid itself.
        self.spurs = nn.Sequential(
            _layer(2 * w, 12), nn.Flatten(), nn.Dropout(0.2), nn.Linear(12 * (GRID // 2) ** 2, 8)
        )
        nn.init.zeros_(self.straight.bias)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is said of each crop.

        Args:
            crops: (N, CHANNELS, CROP_PX, CROP_PX).

        Returns:
            (N, NUMBERS) numbers and (N, NUMBERS) their spreads, see
            :mod:`spinezoo_spine.measures.refiner.answers`; (N, 8) of the osteophytes at the four
            corners the log-odds of a long one, and their lengths in sizes of the body.
        """
        fine = self.quarter(self.stem(crops))
        fine = fine + self.quarter_more(fine)
        middle = self.eighth(fine)
        middle = middle + self.eighth_more(middle)
        coarse = self.sixteenth(middle)
        coarse = coarse + self.sixteenth_more(coarse)
        middle = middle + nn.functional.interpolate(self.up_eighth(coarse), scale_factor=2.0)
        middle = self.eighth_again(middle)
        fine = fine + nn.functional.interpolate(self.up_quarter(middle), scale_factor=2.0)
        fine = self.quarter_again(fine)
        with torch.autocast(crops.device.type, enabled=False):  # places are finer than bfloat16
            return self._told(fine.float(), middle.float(), coarse.float())

    def _told(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is read off the grids, from a quarter to a sixteenth of the crop's size."""
        weights = self.maps(fine).flatten(2).softmax(dim=2)
        weights = weights.unflatten(2, (GRID, GRID))
        across, along = weights.sum(dim=2), weights.sum(dim=3)
        x, y = across @ self.steps, along @ self.steps
        squares = across @ (self.steps**2) - x**2 + along @ (self.steps**2) - y**2
        places = torch.cat([x, y], dim=1)
        whole = coarse.mean(dim=(2, 3))
        more = self.bent(torch.cat([places, squares, whole], dim=1))
        scale = torch.tensor(SCALE, dtype=x.dtype, device=x.device)
        reference = torch.tensor(REFERENCE, dtype=x.dtype, device=x.device)
        numbers = reference + scale * (self.straight(places) + more[:, :NUMBERS])
        spreads = scale * torch.exp(more[:, NUMBERS:].clamp(-6.0, 2.0))
        return numbers, spreads, self.spurs(middle)
