"""What lies around YOLACT's graphs."""

from __future__ import annotations

import numpy as np
import torch
from spinezoo_yolact.arrays import cells_around, make_neighbours
from spinezoo_yolact.export import _Coefficients
from spinezoo_yolact.network import PredictionHead
from torch import nn


class _Head(nn.Module):
    def __init__(self, head: PredictionHead) -> None:
        super().__init__()
        self.prediction_layers = nn.ModuleList([head])


@torch.no_grad()
def test_coefficients_of_single_cells_are_those_of_the_convolution() -> None:
    torch.manual_seed(0)
    head = PredictionHead(
        8, priors_per_cell=3, class_count=2, prototype_count=5, normalise=True
    ).eval()
    sizes = [(6, 4), (3, 2), (1, 1)]
    levels = [torch.randn(1, 8, *size) for size in sizes]
    expected = torch.cat([head(level)[2] for level in levels], dim=1)[0]
    features = torch.cat([head.upfeature(level).flatten(2) for level in levels], dim=2)[0]

    around = cells_around(features.numpy(), make_neighbours(sizes))
    found = _Coefficients(_Head(head))(torch.from_numpy(np.ascontiguousarray(around)))
    np.testing.assert_allclose(found.reshape(-1, 5), expected, atol=1e-5)
    # Zeros beyond a level's border, not a cell of the next one: else a corner would differ.
    assert not around[0, :, :4].any()
