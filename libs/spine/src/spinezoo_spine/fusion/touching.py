"""What the column says of implants: which vertebrae they touch, and how many screws one holds.

A vertebra above the sacrum holds two screws, one a side. Where more are found in it some are parts
of others, or both as one: the two that are surest and share least stay.

- A *screw* touches the vertebrae in whose outlines :data:`SCREW_SHARE` of it lies: the one that it
  sits in, and another one where it was driven through an endplate.
- A *cage* touches the vertebrae that it reaches when it grows by :data:`REACH_SHARE` of a body's
  height: those on both sides of its disc.
- A *rod* or plate touches the vertebrae that it reaches so, and those of every screw that it
  reaches so: behind the column a rod overlaps no body.

Only named vertebrae are said. An implant that touches none has no levels: nothing is guessed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import FusedImplant, Labelling, Segment, Structure

from spinezoo_spine.fusion import votes as fusion
from spinezoo_spine.instances import overlaps
from spinezoo_spine.windows import Window, crop, window_of

SCREW_SHARE = 0.12
"""Share of a screw that lies in a vertebra it touches; head and pedicle lie outside the body."""

REACH_SHARE = 0.12
"""How far another implant reaches, as a share of the median height of the named bodies."""

MOST_SCREWS = 2
"""Screws of one vertebra. The sacrum may hold more: those of the ilium cross it on the film."""

OVERLAP_COST = 2.0
"""How much of their scores two screws lose by what they share (IoU): of 1, 1.5, 2, 3 and 5 the one
with most screws right on 400 phantoms, though all lie within three of 1,220."""


def placed_in_column(
    implants: Sequence[FusedImplant], column: Labelling | None
) -> tuple[FusedImplant, ...]:
    """The implants without surplus screws, with the levels that each touches.

    Args:
        implants: Implants of one film.
        column: Its named column; None: no vertebra is known.
    """
    vertebrae = [] if column is None else [each.segment for each in column.vertebrae]
    surplus = _surplus_screws(implants, vertebrae)
    implants = [each for place, each in enumerate(implants) if place not in surplus]
    levels = touched_levels([each.segment for each in implants], vertebrae)
    return tuple(
        replace(implant, touches=touches) for implant, touches in zip(implants, levels, strict=True)
    )


def _surplus_screws(
    implants: Sequence[FusedImplant], vertebrae: Sequence[Segment]
) -> frozenset[int]:
    """Places of the screws beyond :data:`MOST_SCREWS` of a vertebra above the sacrum."""
    screws = [n for n, one in enumerate(implants) if one.segment.structure is Structure.SCREW]
    if len(screws) <= MOST_SCREWS or not vertebrae:
        return frozenset()
    segments = [implants[n].segment for n in screws]
    _, share = overlaps(segments, vertebrae)
    holds = np.where(share.max(axis=1) >= SCREW_SHARE, share.argmax(axis=1), -1)
    surplus: set[int] = set()
    for place, vertebra in enumerate(vertebrae):
        held = np.flatnonzero(holds == place).tolist()
        if len(held) <= MOST_SCREWS or vertebra.structure is Structure.SACRAL_VERTEBRA:
            continue
        iou, _ = overlaps([segments[n] for n in held], [segments[n] for n in held])
        scores = [segments[n].score for n in held]
        one, other = max(
            itertools.combinations(range(len(held)), MOST_SCREWS),
            key=lambda pair: sum(scores[n] for n in pair) - OVERLAP_COST * iou[pair],
        )
        surplus.update(screws[n] for n in held if n not in (held[one], held[other]))
    return frozenset(surplus)


def touched_levels(
    implants: Sequence[Segment], vertebrae: Sequence[Segment]
) -> list[tuple[str, ...]]:
    """The levels that each implant touches, from above.

    Args:
        implants: Cages, screws and rods of one film, instances.
        vertebrae: Vertebrae of the same film; those without a level are left out.

    Raises:
        MaskError: The run lengths of a mask are broken.
    """
    named = [segment for segment in vertebrae if segment.level is not None]
    named.sort(key=lambda segment: segment.box.y + segment.box.height / 2.0)
    if not named or not implants:
        return [()] * len(implants)
    height, width = named[0].mask.height, named[0].mask.width
    reach = max(1, round(REACH_SHARE * float(np.median([each.box.height for each in named]))))
    pixels = height * width
    bone = fusion.borders_of([segment.mask for segment in named], pixels)
    metal = fusion.borders_of([segment.mask for segment in implants], pixels)
    screws = [n for n, implant in enumerate(implants) if implant.structure is Structure.SCREW]
    _, share = overlaps([implants[n] for n in screws], named)
    sits_in = dict(zip(screws, share >= SCREW_SHARE, strict=True))
    found: list[set[int]] = []
    reaches: dict[int, _Near] = {}
    for place, implant in enumerate(implants):
        if place in sits_in:
            found.append(set(np.flatnonzero(sits_in[place]).tolist()))
        else:
            window = window_of([implant], reach, height, width)
            near = _Near(crop(metal[place], window, height), window, reach, height)
            found.append({n for n, one in enumerate(named) if near.meets(one, bone[n])})
            reaches[place] = near
    for place, implant in enumerate(implants):
        if implant.structure is Structure.ROD:
            for n in screws:
                if reaches[place].meets(implants[n], metal[n]):
                    found[place] |= found[n]
    return [tuple(str(named[n].level) for n in sorted(each)) for each in found]


class _Near:
    """What lies within ``reach`` pixels of a mask.

    Growing a mask by a disc is slow. Nearly always a pixel's distance says it, and the disc is laid
    only on pixels in doubt: a disc of pixels is a disc to within one pixel.
    """

    def __init__(self, mask: NDArray[np.bool_], window: Window, reach: int, height: int) -> None:
        """Measures distances.

        Args:
            mask: (bottom - top, right - left) pixels, at least one of them set.
            window: Where they lie on the film, with a margin of ``reach``.
            reach: In pixels.
            height: Rows of the film.
        """
        self._mask = mask.astype(np.uint8)
        self._window = window
        self._reach = reach
        self._height = height
        # Along steps of a knight and a king, several times as fast as exact and up to 3 % off.
        away = cv2.distanceTransform(1 - self._mask, cv2.DIST_L2, cv2.DIST_MASK_5)
        doubt = 1.5 + 0.03 * reach
        self._surely = np.asarray(away <= reach - doubt)
        self._perhaps = np.asarray(away <= reach + doubt)
        size = 2 * reach + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
        self._disc = np.asarray(disc, dtype=np.uint8)

    def meets(self, other: Segment, borders: NDArray[np.int64]) -> bool:
        """Whether another segment, whose borders are given, has a pixel that is so near."""
        left, top, right, bottom = self._window
        # Only where the other one lies.
        box = other.mask.box
        first_x, last_x = max(left, int(box.x)), min(right, int(box.x + box.width))
        first_y, last_y = max(top, int(box.y)), min(bottom, int(box.y + box.height))
        if first_x >= last_x or first_y >= last_y:
            return False
        pixels = crop(borders, (first_x, first_y, last_x, last_y), self._height)
        part = slice(first_y - top, last_y - top), slice(first_x - left, last_x - left)
        if bool((self._surely[part] & pixels).any()):
            return True
        # In doubt: the disc is laid on these pixels, one by one.
        rows, columns = np.nonzero(self._perhaps[part] & pixels)
        rows, columns = rows + (first_y - top), columns + (first_x - left)
        reach = self._reach
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            up, before = min(reach, row), min(reach, column)
            near = self._mask[row - up : row + reach + 1, column - before : column + reach + 1]
            disc = self._disc[reach - up :, reach - before :]
            if bool((near & disc[: near.shape[0], : near.shape[1]]).any()):
                return True
        return False
