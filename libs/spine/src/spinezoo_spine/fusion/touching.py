"""Which vertebrae an implant touches, by its outline and the named column.

- A *screw* touches the vertebrae in whose outlines :data:`SCREW_SHARE` of it lies: the one that it
  sits in, and another one where it was driven through an endplate.
- A *cage* touches the vertebrae that it reaches when it grows by :data:`REACH_SHARE` of a body's
  height: those on both sides of its disc.
- A *rod* or plate touches the vertebrae that it reaches so, and those of every screw that it
  reaches so: behind the column a rod overlaps no body.

Only named vertebrae are said. An implant that touches none has no levels: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import FusedImplant, Labelling, Segment, Structure

from spinezoo_spine.fusion import votes as fusion
from spinezoo_spine.fusion.windows import Window, crop, window_of
from spinezoo_spine.instances import overlaps

SCREW_SHARE = 0.12
"""Share of a screw that lies in a vertebra it touches; head and pedicle lie outside the body."""

REACH_SHARE = 0.12
"""How far another implant reaches, as a share of the median height of the named bodies."""


def with_touches(
    implants: Sequence[FusedImplant], column: Labelling | None
) -> tuple[FusedImplant, ...]:
    """The implants with the levels that each touches.

    Args:
        implants: Implants of one film.
        column: Its named column; None: no level is known.
    """
    vertebrae = [] if column is None else [each.segment for each in column.vertebrae]
    levels = touched_levels([each.segment for each in implants], vertebrae)
    return tuple(
        replace(implant, touches=touches) for implant, touches in zip(implants, levels, strict=True)
    )


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
    _, share = overlaps(implants, named)
    found: list[set[int]] = []
    for place, implant in enumerate(implants):
        if implant.structure is Structure.SCREW:
            found.append(set(np.flatnonzero(share[place] >= SCREW_SHARE).tolist()))
        else:
            window = window_of([implant], reach, height, width)
            grown = _grown(crop(metal[place], window, height), reach)
            found.append(
                {n for n, one in enumerate(named) if _meets(grown, window, one, bone[n], height)}
            )
    screws = [n for n, implant in enumerate(implants) if implant.structure is Structure.SCREW]
    for place, implant in enumerate(implants):
        if implant.structure is Structure.ROD:
            window = window_of([implant], reach, height, width)
            grown = _grown(crop(metal[place], window, height), reach)
            for n in screws:
                if _meets(grown, window, implants[n], metal[n], height):
                    found[place] |= found[n]
    return [tuple(str(named[n].level) for n in sorted(each)) for each in found]


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """A mask with all that lies within ``reach`` pixels of it."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc) > 0)


def _meets(
    grown: NDArray[np.bool_],
    window: Window,
    other: Segment,
    borders: NDArray[np.int64],
    height: int,
) -> bool:
    """Whether a mask within a window shares a pixel with another segment."""
    left, top, right, bottom = window
    box = other.box
    if box.x >= right or box.y >= bottom or box.x + box.width <= left or box.y + box.height <= top:
        return False
    return bool((grown & crop(borders, window, height)).any())
