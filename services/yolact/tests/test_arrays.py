"""What lies around YOLACT's graphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_yolact.arrays import (
    STEP,
    Part,
    assemble_masks,
    cells_around,
    make_neighbours,
    part_of,
)
from spinezoo_yolact.export import _Coefficients, _Network, _Prototypes
from spinezoo_yolact.network import PredictionHead, Yolact
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


SMALL = {
    "in_channels": 2,
    "num_classes": 3,
    "block": "basic",
    "blocks": (1, 1, 1, 1),
    "widths": (4, 4, 8, 8),
    "pyramid_stages": (0, 1, 2, 3),
    "pyramid_channels": 8,
    "extra_levels": 0,
    "head_start": 1,
    "prototype_channels": 8,
    "prototype_count": 4,
    "prior_scales_px": ((20,), (54,), (126,)),
    "square_priors": False,
    "normalise": True,
}


@torch.no_grad()
def test_masks_of_a_part_of_the_finest_level_are_those_of_the_whole() -> None:
    torch.manual_seed(0)
    network = Yolact(**SMALL).eval()
    film = torch.randn(1, 2, 256, 224)
    finest = _Network(network)(film)[3]
    prototypes = _Prototypes(network)
    whole = prototypes(finest)[0].numpy()
    np.testing.assert_allclose(whole, network(film).prototypes[0].numpy(), atol=1e-5)
    coefficients = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    cases = [
        [(0.30, 0.35, 0.42, 0.50), (0.38, 0.52, 0.55, 0.61)],
        [(-0.2, 0.9, 0.05, 1.4), (0.0, 0.93, 0.04, 1.0)],  # beyond a corner of the film
        [(0.0, 0.0, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2)],
    ]
    for corners in cases:
        boxes = np.array(corners, dtype=np.float32)
        (top, left), (rows, columns) = part_of(boxes, tuple(finest.shape[2:]))
        seen = finest[:, :, top : top + rows, left : left + columns]
        part = Part(prototypes(seen)[0].numpy(), 2 * top, 2 * left)
        size = whole.shape[:2]
        wanted = assemble_masks(Part(whole, 0, 0), size, coefficients, boxes)
        found = assemble_masks(part, size, coefficients, boxes)
        assert (found.size, len(found)) == (wanted.size, 2)
        for one, other in zip(found.windows, wanted.windows, strict=True):
            assert (one.top, one.left) == (other.top, other.left)
            np.testing.assert_allclose(one.values, other.values, atol=1e-5)


def test_parts_are_of_few_sizes_and_within_the_level() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        low = rng.uniform(-0.1, 1.0, (3, 2))
        boxes = np.concatenate([low, low + rng.uniform(0.0, 0.5, (3, 2))], 1).astype(np.float32)
        (top, left), (rows, columns) = part_of(boxes, (128, 90))
        assert top >= 0
        assert left >= 0
        assert top + rows <= 128
        assert left + columns <= 90
        assert rows % STEP == 0
        assert columns % STEP == 0 or columns == 90


def test_boxes_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidOutputError, match="not numbers"):
        part_of(np.array([[0.1, np.nan, 0.2, 0.3]], dtype=np.float32), (128, 96))
