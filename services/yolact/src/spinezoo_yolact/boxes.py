"""Boxes: corners and centres, the published coding against priors, overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from spinezoo_yolact.arrays import VARIANCES


def to_corners(centres: Tensor) -> Tensor:
    """(..., 4) centres to corners."""
    half = centres[..., 2:] / 2
    return torch.cat([centres[..., :2] - half, centres[..., :2] + half], dim=-1)


def encode_boxes(corners: Tensor, priors: Tensor) -> Tensor:
    """(..., P, 4) corners as offsets from (..., P, 4) priors."""
    centre = (corners[..., :2] + corners[..., 2:]) / 2
    size = corners[..., 2:] - corners[..., :2]
    offset = (centre - priors[..., :2]) / (VARIANCES[0] * priors[..., 2:])
    return torch.cat([offset, torch.log(size / priors[..., 2:]) / VARIANCES[1]], dim=-1)


def decode_boxes(offsets: Tensor, priors: Tensor) -> Tensor:
    """(..., P, 4) offsets from (P, 4) priors as corners."""
    centre = priors[:, :2] + offsets[..., :2] * VARIANCES[0] * priors[:, 2:]
    size = priors[:, 2:] * torch.exp(offsets[..., 2:] * VARIANCES[1])
    return to_corners(torch.cat([centre, size], dim=-1))


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """(..., n, 4) and (..., m, 4) corners to (..., n, m) intersection over union."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(dim=-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(dim=-1)
    return overlap / (area_a[..., :, None] + area_b[..., None, :] - overlap).clamp(min=1e-12)


def box_window(boxes: Tensor, height: int, width: int, padding_px: float) -> Tensor:
    """(n, height, width) bool: the cells of a grid that lie in (n, 4) corners plus padding."""
    x1 = (boxes[:, 0] * width - padding_px).clamp(min=0)[:, None, None]
    x2 = (boxes[:, 2] * width + padding_px).clamp(max=width)[:, None, None]
    y1 = (boxes[:, 1] * height - padding_px).clamp(min=0)[:, None, None]
    y2 = (boxes[:, 3] * height + padding_px).clamp(max=height)[:, None, None]
    columns = torch.arange(width, device=boxes.device)[None, None, :]
    rows = torch.arange(height, device=boxes.device)[None, :, None]
    return (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)
