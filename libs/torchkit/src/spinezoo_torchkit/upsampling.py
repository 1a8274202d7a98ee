"""From a classifier's coarse grid to the input's: bilinear, or through sub-cells first.

References:
- Shi et al.: Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
  Convolutional Neural Network. CVPR 2016. https://arxiv.org/abs/1609.05158.
- Wang et al.: Understanding Convolution for Semantic Segmentation. WACV 2018.
  https://arxiv.org/abs/1702.08502. Section 3.1, dense upsampling convolution.

At output stride 8 a usual disc is about one cell high, a narrowed one less: bilinear interpolation
of the cells' logits blurs such a gap away, and neighbours fuse. With a factor of f the last
convolution answers f x f sub-cells of every cell, which costs next to nothing, and only what is
left is interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F


def sub_cells_apart(logits: torch.Tensor, factor: int) -> torch.Tensor:
    """Logits on the grid of sub-cells, in float32 whatever the network computes in.

    Args:
        logits: (n, K factor^2, h, w); the sub-cells of a class follow each other, row by row.
        factor: Sub-cells a side of a cell; 1: none.

    Returns:
        (n, K, factor h, factor w).
    """
    return F.pixel_shuffle(logits.float(), factor) if factor > 1 else logits.float()


def enlarge(logits: torch.Tensor, size: torch.Size, factor: int = 1) -> torch.Tensor:
    """Logits at the size of the input; see :func:`sub_cells_apart`.

    Args:
        logits: (n, K factor^2, h, w).
        size: (rows, columns) of the input.
        factor: Sub-cells a side of a cell; 1: none.

    Returns:
        (n, K, rows, columns).
    """
    fine = sub_cells_apart(logits, factor)
    return F.interpolate(fine, size=size, mode="bilinear", align_corners=False)


def with_sub_cells(
    tensors: Mapping[str, torch.Tensor], layer: str, factor: int, classes: int
) -> dict[str, torch.Tensor]:
    """Weights of a network without sub-cells as a beginning for the same one with them.

    Every sub-cell begins as a copy of its cell, so the new network answers what the old one did,
    up to interpolation. Weights that have the sub-cells already come back as they are.

    Args:
        tensors: Weights by name.
        layer: Name of the classifier's last convolution.
        factor: Sub-cells a side of a cell.
        classes: Classes, with background.
    """
    begun = dict(tensors)
    for name in (f"{layer}.weight", f"{layer}.bias"):
        if name in begun and len(begun[name]) == classes:
            begun[name] = begun[name].repeat_interleave(factor * factor, dim=0)
    return begun
