"""From outlines to places: one for each vertebra of the film, with its duplicates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from spinezoo_contract.types import VERTEBRAE, Segment, SegmentKind, Structure, UnnamedReason

from spinezoo_spine.column.anatomy import USUAL_BODY_HEIGHT, USUAL_STEP
from spinezoo_spine.column.bodies import Shape, shape_of
from spinezoo_spine.instances import DUPLICATE_SHARE, overlaps, spans_two

MOST_OUTLINES = 48
"""Vertebral outlines that are looked at, of a film or of one member: no film shows half as many."""

DUPLICATE_IOU = 0.35
"""Two outlines that overlap this much are of one vertebra. Neighbours that touch reach 0.1. So are
two of which one lies in the other by ``DUPLICATE_SHARE``."""


@dataclass(slots=True, eq=False)
class Place:
    """One place in the film that holds a vertebra: an outline and its duplicates."""

    index: int
    shape: Shape
    lumbar: float  # best score of a lumbar outline here, 0: none
    sacral: float
    score: float
    count: int = 1  # vertebrae that it covers
    lower_xy: tuple[float, float] = (0.0, 0.0)  # centre of its lowest vertebra
    upper_xy: tuple[float, float] = (0.0, 0.0)
    worth: float = 0.0
    size: float = 0.0
    cut_off: bool = False  # by the film's border


@dataclass(slots=True, eq=False)
class Places:
    """The places of one film, and the size of its usual body.

    Attributes:
        nodes: The places.
        left_out: Why an outline, by its index, stands for no place of its own.
        size: Side of the usual body, in pixels.
    """

    nodes: list[Place]
    left_out: dict[int, UnnamedReason] = field(default_factory=dict)
    size: float = 0.0


def places_of(segments: Sequence[Segment]) -> Places:
    """Vertebral instances without duplicates; duplicates are left out and said to be such."""
    found: list[tuple[int, Segment, Shape]] = []
    for index, segment in enumerate(segments):
        if segment.structure in VERTEBRAE and segment.kind is SegmentKind.INSTANCE:
            shape = shape_of(segment.mask)
            if shape is not None:
                found.append((index, segment, shape))
    film = Places([])
    found.sort(key=lambda item: (-item[1].score, -item[2].area_px, item[0]))
    if len(found) > MOST_OUTLINES:
        ranked = sorted(found, key=lambda item: -item[1].score * item[2].area_px)
        for index, _, _ in ranked[MOST_OUTLINES:]:
            film.left_out[index] = UnnamedReason.FRAGMENT
        found = [item for item in found if item[0] not in film.left_out]
    if not found:
        return film
    outlines = [segment for _, segment, _ in found]
    overlap, share = overlaps(outlines, outlines)
    areas = np.array([shape.area_px for _, _, shape in found])
    spanning = [spans_two(whole, overlap, share, areas) for whole in range(len(found))]
    kept: list[int] = []
    nodes: dict[int, Place] = {}
    for place, (index, segment, shape) in enumerate(found):
        if spanning[place]:
            film.left_out[index] = UnnamedReason.SEVERAL
            continue
        rival = next(
            (
                other
                for other in kept
                if overlap[place, other] >= DUPLICATE_IOU
                or max(share[place, other], share[other, place]) >= DUPLICATE_SHARE
            ),
            None,
        )
        lumbar = segment.score if segment.structure is Structure.LUMBAR_VERTEBRA else 0.0
        sacral = segment.score if segment.structure is Structure.SACRAL_VERTEBRA else 0.0
        if rival is None:
            kept.append(place)
            node = Place(index, shape, lumbar, sacral, segment.score)
            node.cut_off = _at_border(segment)
            nodes[place] = node
        else:
            node = nodes[rival]
            node.lumbar, node.sacral = max(node.lumbar, lumbar), max(node.sacral, sacral)
            film.left_out[index] = UnnamedReason.DUPLICATE
    film.nodes = list(nodes.values())
    return film


def _at_border(segment: Segment) -> bool:
    """Whether the film's border cuts an outline off."""
    box, mask = segment.box, segment.mask
    return (
        box.x < 1.0
        or box.y < 1.0
        or box.x + box.width > mask.width - 1.0
        or box.y + box.height > mask.height - 1.0
    )


def measure_sizes(film: Places) -> None:
    """The film's usual body, what each outline is worth by it, and how many bodies it covers."""
    sizes = [node.shape.size_px for node in film.nodes]
    weights = [max(node.score, 0.01) * size for node, size in zip(film.nodes, sizes, strict=True)]
    usual = _weighted_median(sizes, weights)
    film.size = usual
    for node in film.nodes:
        shape = node.shape
        node.lower_xy = node.upper_xy = shape.centre_xy
        ratio = shape.size_px / usual
        upright = abs(shape.direction_xy[1]) > 0.5
        if ratio > 1.22 and upright and shape.length_px > 1.35 * shape.breadth_px:
            body = USUAL_BODY_HEIGHT * usual
            node.count = max(1, round((shape.length_px - body) / (USUAL_STEP * usual) + 1.0))
        if node.count > 1:
            reach = max(0.0, (shape.length_px - USUAL_BODY_HEIGHT * usual) / 2.0)
            dx, dy = shape.direction_xy[0] * reach, shape.direction_xy[1] * reach
            x, y = shape.centre_xy
            node.lower_xy, node.upper_xy = (x - dx, y - dy), (x + dx, y + dy)
            ratio = shape.breadth_px / usual
        fit = math.exp(-((math.log(ratio) / 0.4) ** 2))
        if node.cut_off and ratio < 1.0:
            fit = max(fit, 0.5)
        node.worth = (0.4 + 0.6 * node.score) * fit * (1.0 + 0.8 * (node.count - 1))
        # A partial outline must not make its neighbours look far away.
        node.size = min(max(shape.size_px, 0.85 * usual), 1.15 * usual)
    for node in film.nodes:
        if node.worth < 0.12:
            film.left_out[node.index] = UnnamedReason.FRAGMENT


def _weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    order = np.argsort(values)
    running = np.cumsum(np.asarray(weights)[order])
    place = int(np.searchsorted(running, running[-1] / 2.0))
    return float(values[order[place]])
