"""Fused rods redrawn along the edges that the film shows: one rod a rod, of one breadth.

Members see where rods are, and their votes decide it (:mod:`spinezoo_spine.fusion.implants`). The
film says more about their shape: see :mod:`spinezoo_spine.fusion.ribbons`. A rod that the film
shows so takes the place of the fused outlines that it covers; every other fused rod stays as the
members drew it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from spinezoo_contract.types import (
    Film,
    FusedImplant,
    FusionOptions,
    FusionRule,
    Segment,
    SegmentKind,
    Structure,
)

from spinezoo_spine.fusion import votes as fusion
from spinezoo_spine.fusion.implants import Implants, fuse_implants
from spinezoo_spine.fusion.ribbons import Ribbon, Scene, ribbons_of
from spinezoo_spine.instances import coco_form, mask_from_crop, overlaps_both_ways, unite
from spinezoo_spine.windows import counted, crop, window_of

GRID_PX = 1400
"""Longest side of the grid that votes are counted on, coarser on larger films."""

MARGIN_SHARE = 0.06
"""How far beyond the rods of all members the film is looked at, as a share of its longest side."""

LONGEST_PX = 32_000
"""Longest side of a window that OpenCV can unroll."""

REPLACED_SHARE = 0.5
"""A fused rod of which this share lies in redrawn ones is one of them."""

OF_SHARE = 0.35
"""A redrawn rod is of the members of those fused ones of which it covers this share, or that cover
as much of it."""


def fuse_implants_on_film(
    members: Mapping[str, Implants],
    fused: Sequence[Segment],
    options: FusionOptions | None,
    film: Film,
) -> tuple[FusedImplant, ...]:
    """The implants of several members as objects, with rods as the film shows them.

    Raises:
        OptionError: As :func:`spinezoo_spine.fusion.implants.fuse_implants`.
    """
    found = fuse_implants(members, fused, options)
    spacing_mm = film.row_spacing_mm, film.column_spacing_mm
    known = [each for each in spacing_mm if each is not None]
    pixel_mm = math.sqrt(math.prod(known)) if len(known) == len(spacing_mm) else None
    return redrawn_rods(found, members, film.pixels, pixel_mm, options)


def redrawn_rods(
    implants: Sequence[FusedImplant],
    members: Mapping[str, Implants],
    pixels: NDArray[Any],
    pixel_mm: float | None = None,
    options: FusionOptions | None = None,
) -> tuple[FusedImplant, ...]:
    """The implants, with rods as the film shows them.

    Args:
        implants: Fused by :func:`spinezoo_spine.fusion.implants.fuse_implants`.
        members: What they were fused from.
        pixels: (height, width) film, bright means dense.
        pixel_mm: Size of its pixels; None: unknown.
        options: As the implants were fused; None: majority.

    Returns:
        Cages and screws as they are, rods from top to bottom. The score of a redrawn rod is the
        mean share of votes for its pixels.
    """
    options = FusionOptions() if options is None else options
    rods = [one for one in implants if one.segment.structure is Structure.ROD]
    screws = [one.segment for one in implants if one.segment.structure is Structure.SCREW]
    height, width = pixels.shape
    said = [
        segment
        for member in members.values()
        for segment in member.outlines
        if segment.structure is Structure.ROD
    ]
    if not rods or not said:
        return tuple(implants)
    margin = round(MARGIN_SHARE * max(height, width))
    window = left, top, right, bottom = window_of(said, margin, height, width)
    if max(right - left, bottom - top) > LONGEST_PX:
        return tuple(implants)
    step = max(1, -(-max(height, width) // GRID_PX))
    scene = Scene(
        np.asarray(pixels[top:bottom, left:right], dtype=np.float32),
        np.dstack(
            [
                _votes(members, options, window, step, (height, width)),
                _screws(screws, window, step, (height, width)),
            ]
        ),
        step,
        pixel_mm,
    )
    drawn = [_segment(ribbon, left, top, height, width) for ribbon in ribbons_of(scene)]
    redrawn = [one for one in drawn if one is not None]
    if not redrawn:
        return tuple(implants)
    union = unite([segment.mask for segment in redrawn], height, width)
    # "Crowd" divides by the first one's area alone.
    covered = np.asarray(
        coco_mask.iou([coco_form(one.segment.mask) for one in rods], [coco_form(union)], [1])
    )[:, 0]
    _, of_rod, of_new = overlaps_both_ways([one.segment for one in rods], redrawn)
    found = [one for one, share in zip(rods, covered, strict=True) if share < REPLACED_SHARE]
    for number, segment in enumerate(redrawn):
        same = np.maximum(of_rod[:, number], of_new[:, number]) >= OF_SHARE
        names = {name for place in np.flatnonzero(same) for name in rods[place].member_names}
        found.append(FusedImplant(segment, member_names=tuple(sorted(names))))
    found.sort(key=lambda one: one.segment.box.y + one.segment.box.height / 2.0)
    others = [one for one in implants if one.segment.structure is not Structure.ROD]
    return (*others, *found)


def _votes(
    members: Mapping[str, Implants],
    options: FusionOptions,
    window: tuple[int, int, int, int],
    step: int,
    film: tuple[int, int],
) -> NDArray[np.float32]:
    """Share of votes for a rod, on a grid of the window; 0 or 1 where not most votes decide."""
    names = sorted(members)
    weights = fusion.votes_of(names, options)
    total = sum(weights)
    share = counted(
        [members[name].rod_borders for name in names],
        [weight / total for weight in weights],
        window,
        film[0],
        step,
    )
    if options.rule is FusionRule.UNION:
        return (share > 0.0).astype(np.float32)
    if options.rule is FusionRule.INTERSECTION:
        return (share > 1.0 - 1e-3).astype(np.float32)
    return share


def _screws(
    screws: Sequence[Segment],
    window: tuple[int, int, int, int],
    step: int,
    film: tuple[int, int],
) -> NDArray[np.float32]:
    """1 where a screw lies, on the same grid."""
    borders = fusion.borders_of([each.mask for each in screws], film[0] * film[1])
    return crop(fusion.either(*borders), window, film[0])[::step, ::step].astype(np.float32)


def _segment(ribbon: Ribbon, left: int, top: int, height: int, width: int) -> Segment | None:
    """A ribbon as an instance; None where it lies off the film."""
    corners = ribbon.outline_xy + np.array([left, top])
    low = np.maximum(0, np.floor(corners.min(axis=0)).astype(int) - 1)
    high = np.minimum([width, height], np.ceil(corners.max(axis=0)).astype(int) + 2)
    if (high <= low).any():
        return None
    drawn = np.zeros((high[1] - low[1], high[0] - low[0]), dtype=np.uint8)
    cv2.fillPoly(drawn, [np.rint((corners - low) * 16.0).astype(np.int32)], 1, shift=4)
    if not drawn.any():
        return None
    mask = mask_from_crop(drawn > 0, int(low[1]), int(low[0]), height, width)
    share = min(1.0, max(0.0, ribbon.share))
    return Segment(Structure.ROD, SegmentKind.INSTANCE, mask, share, mask.box)
