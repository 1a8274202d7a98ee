"""Outlines for tests."""

from __future__ import annotations

import numpy as np
from spinezoo_contract.masks import decode_mask, encode_mask, mask_box
from spinezoo_contract.types import Segment, SegmentKind, Structure


def segment(pixels, structure=Structure.LUMBAR_VERTEBRA, kind=SegmentKind.INSTANCE, score=0.9):
    mask = encode_mask(np.asarray(pixels).astype(bool))
    return Segment(structure, kind, mask, score, mask_box(mask))


def block(top, left, rows, columns, *, size=(64, 48), **more):
    pixels = np.zeros(size, dtype=bool)
    pixels[top : top + rows, left : left + columns] = True
    return segment(pixels, **more)


def shifted(source: Segment, down: int, right: int) -> Segment | None:
    """The segment moved; None where nothing of it is left."""
    pixels = decode_mask(source.mask)
    moved = np.zeros_like(pixels)
    height, width = pixels.shape
    moved[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = pixels[
        max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return segment(moved, source.structure, source.kind) if moved.any() else None


def as_regions(segments) -> tuple[Segment, ...]:
    """One region a structure: the answer of a semantic network."""
    regions = []
    for structure in Structure:
        own = [decode_mask(s.mask) for s in segments if s.structure is structure]
        if own:
            regions.append(segment(np.any(own, axis=0), structure, SegmentKind.REGION))
    return tuple(regions)
