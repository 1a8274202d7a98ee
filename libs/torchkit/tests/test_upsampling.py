"""Sub-cells of a classifier: their order, and beginning from weights without them."""

from __future__ import annotations

import pytest
import torch
from spinezoo_contract.errors import WeightsError
from spinezoo_torchkit.checkpoints import begin_with, load_weights, save_weights
from spinezoo_torchkit.upsampling import enlarge, with_sub_cells
from torch import nn


class Coarse(nn.Module):
    """A classifier on a grid of stride 8, of three classes."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.head = nn.Conv2d(2, 3 * factor**2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cells = nn.functional.avg_pool2d(x, 8)
        return enlarge(self.head(cells), x.shape[-2:], self.factor)

    def begin_with(self, tensors):
        return with_sub_cells(tensors, "head", self.factor, 3)


def test_sub_cells_of_a_class_lie_row_by_row_in_their_cell():
    logits = torch.zeros(1, 2 * 4, 1, 2)
    logits[0, 4 + 2, 0, 1] = 7.0  # class 1, sub-cell (1, 0), of the right cell
    fine = enlarge(logits, torch.Size((2, 4)), 2)
    assert fine.shape == (1, 2, 2, 4)
    assert torch.nonzero(fine).tolist() == [[0, 1, 1, 2]]


def test_without_sub_cells_it_is_bilinear():
    logits = torch.randn(2, 3, 4, 5, dtype=torch.bfloat16)
    size = torch.Size((32, 40))
    expected = nn.functional.interpolate(logits.float(), size=size, mode="bilinear")
    assert torch.equal(enlarge(logits, size), expected)


def test_a_network_with_sub_cells_begins_as_the_one_without(tmp_path):
    torch.manual_seed(0)
    old, new = Coarse(1).eval(), Coarse(4).eval()
    record = save_weights(old, tmp_path / "old.safetensors")
    begin_with(new, record.path, record.sha256)
    load_weights(old, record.path, record.sha256)
    film = torch.randn(1, 2, 64, 48)
    cells = old.head(nn.functional.avg_pool2d(film, 8))
    grid = nn.functional.interpolate(cells, scale_factor=4, mode="nearest")
    assert torch.allclose(new(film), enlarge(grid, film.shape[-2:]), atol=1e-5)
    # Weights that have the sub-cells are taken as they are.
    own = save_weights(new, tmp_path / "new.safetensors")
    again = Coarse(4)
    begin_with(again, own.path, own.sha256)
    assert torch.equal(again.head.weight, new.head.weight.half().float())


def test_other_shapes_are_refused_as_ever(tmp_path):
    record = save_weights(Coarse(2), tmp_path / "two.safetensors")
    with pytest.raises(WeightsError, match="shapes differ"):
        begin_with(Coarse(4), record.path, record.sha256)
