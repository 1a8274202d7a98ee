"""From one source's segments to a named column, in the contract's form: apart, then by level."""

from __future__ import annotations

from collections.abc import Sequence

from spinezoo_contract.types import (
    VERTEBRAE,
    Labelling,
    NamedVertebra,
    Segment,
)

from spinezoo_spine.column.levels import name_levels, with_levels
from spinezoo_spine.column.separation import separate


def named_column(
    segments: Sequence[Segment], height: int, width: int, *, top_is_t12: bool = False
) -> Labelling:
    """The vertebrae of one source, taken apart where they touch, and named.

    Args:
        segments: A network's answer, or fused regions; implants give back what they cover.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        top_is_t12: See :func:`~spinezoo_spine.column.levels.name_levels`.

    Raises:
        MaskError: The run lengths of a mask are broken.
    """
    apart = [part for part in separate(segments) if part.structure in VERTEBRAE]
    return named_vertebrae(apart, height, width, top_is_t12=top_is_t12)


def named_vertebrae(
    apart: Sequence[Segment], height: int, width: int, *, top_is_t12: bool = False
) -> Labelling:
    """Vertebral instances of one source, such as fused ones, named.

    Args:
        apart: Instances; implants are ignored.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        top_is_t12: See :func:`~spinezoo_spine.column.levels.name_levels`.

    Raises:
        MaskError: The run lengths of a mask are broken.
    """
    said = name_levels(apart, height, width, top_is_t12=top_is_t12)
    named = with_levels(apart, said)
    return Labelling(
        vertebrae=tuple(
            NamedVertebra(named[name.index], name.confidence, name.reason) for name in said.names
        ),
        sacrum_in_view=said.sacrum_in_view,
        missing_levels=said.missing,
        lumbar_count=said.lumbar_count,
        suspected_lumbar_count=said.suspected_count,
        count_reason=said.count_reason.value,
    )
