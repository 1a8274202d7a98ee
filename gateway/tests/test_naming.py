"""The fused vertebrae of an answer carry their names."""

from __future__ import annotations

import numpy as np
from spinezoo.v1 import labelling_pb2
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import Film, FusionOptions, Segment, SegmentKind, Structure
from spinezoo_gateway.members import vote_of
from spinezoo_gateway.service import fuse_and_name

HEIGHT, WIDTH = 320, 120


def column(lowest: Structure = Structure.SACRAL_VERTEBRA) -> list[Segment]:
    """Six bodies above each other as two regions; the lowest is of the given structure."""
    regions = {}
    for place in range(6):
        structure = lowest if place == 5 else Structure.LUMBAR_VERTEBRA
        pixels = regions.setdefault(structure, np.zeros((HEIGHT, WIDTH), bool))
        pixels[10 + 48 * place : 44 + 48 * place, 40:88] = True
    return [
        Segment(structure, SegmentKind.REGION, encode_mask(p), 0.9, mask_box(encode_mask(p)))
        for structure, p in regions.items()
    ]


def test_fused_regions_are_taken_apart_and_named() -> None:
    votes = {name: vote_of(column(), HEIGHT, WIDTH) for name in ("a", "b", "c")}
    fused = fuse_and_name(votes, FusionOptions())
    assert len(fused.segments) == 2
    assert fused.labelling is not None
    levels = [vertebra.segment.level for vertebra in fused.labelling.vertebrae]
    assert levels == ["L1", "L2", "L3", "L4", "L5", "S1"]


def test_an_outline_tells_vertebrae_apart_that_the_fused_region_holds_as_one() -> None:
    filled = np.zeros((HEIGHT, WIDTH), bool)
    filled[10:284, 40:88] = True  # no disc is left open
    mask = encode_mask(filled)
    region = Segment(Structure.LUMBAR_VERTEBRA, SegmentKind.REGION, mask, 0.9, mask_box(mask))
    outlines = []
    for place in range(6):
        pixels = np.zeros((HEIGHT, WIDTH), bool)
        pixels[10 + 48 * place : 44 + 48 * place, 40:88] = True
        mask = encode_mask(pixels)
        structure = Structure.SACRAL_VERTEBRA if place == 5 else Structure.LUMBAR_VERTEBRA
        outlines.append(Segment(structure, SegmentKind.INSTANCE, mask, 0.9, mask_box(mask)))
    votes = {
        "a": vote_of([region], HEIGHT, WIDTH),
        "b": vote_of([region], HEIGHT, WIDTH),
        "c": vote_of(outlines, HEIGHT, WIDTH),
    }
    fused = fuse_and_name(votes, FusionOptions())
    assert fused.labelling is not None
    said = [vertebra.segment for vertebra in fused.labelling.vertebrae]
    assert [segment.box for segment in said] == [segment.box for segment in outlines]


def test_an_answer_over_the_wire_says_why_it_names_nothing(five, film: Film) -> None:
    said = five.segment(film).fused.labelling
    assert not said.sacrum_in_view
    assert not said.HasField("lumbar_count")
    assert [vertebra.unnamed_reason for vertebra in said.vertebrae] == [
        labelling_pb2.UNNAMED_REASON_NO_SACRUM
    ]
    assert not said.vertebrae[0].segment.HasField("level")
