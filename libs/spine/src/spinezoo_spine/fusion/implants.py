"""The implants of several members as objects: screws, rods and cages one by one.

The same idea as for vertebrae (:mod:`spinezoo_spine.column.consensus`), with what implants need:
two screws or rods may lie on each other, a semantic network's parts count as outlines too, and no
chain orders them.

1. Every member's implants are outlines: an instance network's as they are, a semantic network's
   regions taken apart by :func:`spinezoo_spine.instances.to_instances`. Outlines of one structure
   that overlap by :data:`SAME_IOU` are of one implant, at most one of each member. An outline that
   covers two others which are apart counts for nothing.
2. A member *has* the implant when it brings an outline, or when its regions cover
   :data:`COVERED_SHARE` of it and that of its structure :data:`OWN_SHARE`. An instance network's
   outline counts :data:`.objects.OUTLINE_VOTES` times, a part or a region once. The rule of the
   fusion decides whether the implant is kept; a cage is kept too when so many members have it. A
   member whose outline holds two implants as one is silent where others tell them apart.
3. Its pixels are decided by the members that have it, by the same rule, within the union of the
   outlines.
4. Of two that overlap too much the one of more votes stays.
5. What the fused regions hold beyond these is taken apart and added, with half the score.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from spinezoo_contract.errors import OptionError
from spinezoo_contract.masks import mask_from_runs
from spinezoo_contract.types import (
    FusedImplant,
    FusionOptions,
    FusionRule,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
)

from spinezoo_spine import windows
from spinezoo_spine.components import components
from spinezoo_spine.fusion import votes as fusion
from spinezoo_spine.fusion.objects import OUTLINE_VOTES, left_over
from spinezoo_spine.implant_parts import IMPLANTS
from spinezoo_spine.instances import (
    DUPLICATE_SHARE,
    box_around,
    coco_form,
    min_component_pixels,
    overlaps,
    to_instances,
    unite,
)

SAME_IOU = 0.35
"""Outlines of two members that overlap this much are of one implant."""

COVERED_SHARE = 0.65
"""Share of an implant that a member's regions of metal have to cover to count as having it."""

OWN_SHARE = 0.35
"""Share that its region of the implant's own structure has to cover: a label map shows the screw's
head where a rod runs under it, which is no vote against the rod."""

BY_HEAD = frozenset({Structure.CAGE})
"""Structures that one vote a member is enough for. Cages lie apart, so a region's part is as good
an outline as any; of screws and rods it kept blobs of two (precision fell by 8 to 22 points)."""

OVERLAPPING = frozenset({Structure.SCREW, Structure.ROD})
"""Structures of which two lie on each other."""

LEAST_TELLING = 2
"""Members that have to tell two such implants apart before blobs of two stop counting."""

APART_IOU = 0.5
"""Two implants of one class that overlap less than this are two."""

MOST_IOU = {Structure.CAGE: 0.4, Structure.SCREW: 0.8, Structure.ROD: 0.7}
"""Two fused implants that overlap more are one. 5 % of true screws and rods share 0.6; those of one
member have been told apart by it already."""

INSIDE_SHARE = 0.95
"""An implant of which more than this lies in a better one of its class is a piece of that."""

LEFT_SHARE = 0.25
"""A component of a fused region of which less than this is left beside the fused implants holds no
further one: the smaller half of a blob of two is a third of it, and most of a new one is left."""

LEFT_CELLS = 7
"""Cells on the side of the least object, by which that is looked at; what is left and thinner than
three is a border that members draw differently."""

MOST_OUTLINES = 64
"""Outlines of one member and structure that are looked at, by score."""


@dataclass(frozen=True, slots=True)
class Implants:
    """What one member says of implants, made ready while other members still work.

    Attributes:
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        outlines: Its implants, and parts of its regions.
        votes: Of each outline; see :data:`.objects.OUTLINE_VOTES`.
        borders: Of each outline (2 * runs,) ``int64``, see
            :func:`spinezoo_spine.fusion.votes.borders_of`.
        regions: The union of its whole-class regions, by structure.
        metal: All these regions together.
        metal_borders: The same borders of it.
        rod_borders: The same borders of its region of rods, or else of its rods together.
    """

    height: int
    width: int
    outlines: tuple[Segment, ...]
    votes: tuple[int, ...]
    borders: tuple[NDArray[np.int64], ...]
    regions: Mapping[Structure, RunLengthMask]
    metal: RunLengthMask
    metal_borders: NDArray[np.int64]
    rod_borders: NDArray[np.int64]


def implants_of(segments: Sequence[Segment], height: int, width: int) -> Implants:
    """One member's implants, made ready.

    Args:
        segments: What the member answered; vertebrae are left out.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.

    Raises:
        MaskError: A mask's run lengths do not fit the film.
    """
    metal = [segment for segment in segments if segment.structure in IMPLANTS]
    outlines: list[Segment] = []
    votes: list[int] = []
    for kind, weight in ((SegmentKind.INSTANCE, OUTLINE_VOTES), (SegmentKind.REGION, 1)):
        of_kind = [segment for segment in metal if segment.kind is kind]
        found = sorted(to_instances(of_kind), key=lambda segment: -segment.score)
        for structure in IMPLANTS:
            chosen = [one for one in found if one.structure is structure][:MOST_OUTLINES]
            outlines += chosen
            votes += [weight] * len(chosen)
    regions = {
        structure: unite([one.mask for one in metal if one.structure is structure], height, width)
        for structure in IMPLANTS
        if any(one.structure is structure and one.kind is SegmentKind.REGION for one in metal)
    }
    masks = [*regions.values(), *(outline.mask for outline in outlines)]
    every_border = fusion.borders_of(masks, height * width)
    of_regions = dict(zip(regions, every_border, strict=False))
    borders = every_border[len(regions) :]
    rods = [
        each for one, each in zip(outlines, borders, strict=True) if one.structure is Structure.ROD
    ]
    return Implants(
        height,
        width,
        tuple(outlines),
        tuple(votes),
        tuple(borders),
        regions,
        unite(list(regions.values()), height, width),
        fusion.either(*of_regions.values()),
        of_regions[Structure.ROD] if Structure.ROD in regions else fusion.either(*rods),
    )


def fuse_implants(
    members: Mapping[str, Implants],
    fused: Sequence[Segment] = (),
    options: FusionOptions | None = None,
) -> tuple[FusedImplant, ...]:
    """The implants of several members as objects: cages, screws, rods, each from top to bottom.

    The levels that they touch are not said here, see :mod:`spinezoo_spine.fusion.touching`.

    Args:
        members: What each member says, by name; at least one.
        fused: Fused regions of the same members; what they hold beyond the outlines is added.
        options: Rule and weights; None: majority.

    Raises:
        OptionError: No member, or weights as :func:`spinezoo_spine.fusion.votes.fuse` refuses them.
    """
    options = FusionOptions() if options is None else options
    names = sorted(members)
    if not names:
        raise OptionError("no member to fuse; give the segments of at least one")
    member_votes = fusion.votes_of(names, options)
    said = [members[name] for name in names]
    implants: list[FusedImplant] = []
    voted = _voted(said, names, member_votes, options.rule)
    apart = {
        structure: _apart([one for one in voted if one.segment.structure is structure])
        for structure in IMPLANTS
    }
    metal = [one for one in fused if one.structure in IMPLANTS]
    # Taking regions of metal apart is slow, and mostly their parts are implants already.
    wanted = {one.structure for one in metal if _holds_more(one, apart[one.structure])}
    parts = to_instances(metal, wanted) if wanted else ()
    for structure, kept in apart.items():
        kept += _left_over(kept, [part for part in parts if part.structure is structure])
        kept.sort(key=lambda one: one.segment.box.y + one.segment.box.height / 2.0)
        implants += kept
    return tuple(implants)


@dataclass(slots=True, eq=False)
class _Candidate:
    """Outlines of one implant, at most one of each member.

    Attributes:
        structure: What it is.
        outlines: Place of each member's outline among that one's outlines, by member.
        union: The outlines together.
        silent: Members that do not vote on it; see :func:`_silent`.
        regions: Members without an outline of it whose regions cover it.
    """

    structure: Structure
    outlines: dict[int, int]
    union: RunLengthMask
    silent: frozenset[int]
    regions: tuple[int, ...] = ()


def _candidates(said: Sequence[Implants], structure: Structure) -> list[_Candidate]:
    """The implants of one structure that any member outlines; the most agreed on first."""
    height, width = said[0].height, said[0].width
    places = [
        (member, place)
        for member, one in enumerate(said)
        for place, outline in enumerate(one.outlines)
        if outline.structure is structure
    ]
    if not places:
        return []
    outlines = [said[member].outlines[place] for member, place in places]
    iou, share = overlaps(outlines, outlines)
    return [
        _Candidate(
            structure,
            dict(places[index] for index in group),
            unite([outlines[index].mask for index in group], height, width),
            _silent(group, places, share, structure),
        )
        for group in _groups(places, outlines, iou, share)
    ]


def _note_regions(
    said: Sequence[Implants], structure: Structure, found: Sequence[_Candidate]
) -> None:
    """Says of each candidate of a structure which members' regions cover it."""
    seeing = [member for member, one in enumerate(said) if structure in one.regions]
    unions = [coco_form(one.union) for one in found]
    areas = coco_mask.area(unions)
    own = _covered(unions, areas, [said[member].regions[structure] for member in seeing])
    metal = _covered(unions, areas, [said[member].metal for member in seeing])
    for number, (candidate, area) in enumerate(zip(found, areas.tolist(), strict=True)):
        candidate.regions = tuple(
            member
            for place, member in enumerate(seeing)
            if member not in candidate.outlines
            and member not in candidate.silent
            and own[number, place] >= OWN_SHARE * area
            and metal[number, place] >= COVERED_SHARE * area
        )


def _covered(
    unions: Sequence[dict[str, object]], areas: NDArray[np.integer], masks: Sequence[RunLengthMask]
) -> NDArray[np.float64]:
    """(unions, masks) pixels of each union that each mask covers, whole numbers.

    Args:
        unions: As pycocotools takes them.
        areas: Of each of them, in pixels.
        masks: Any number.
    """
    if not masks:
        return np.zeros((len(unions), 0))
    # "Crowd" divides by the first one's area alone.
    shares = coco_mask.iou(unions, [coco_form(one) for one in masks], [1] * len(masks))
    return np.asarray(np.rint(np.asarray(shares, dtype=np.float64) * areas[:, np.newaxis]))


def _voted(
    said: Sequence[Implants],
    names: Sequence[str],
    member_votes: Sequence[int],
    rule: FusionRule,
) -> list[FusedImplant]:
    """The implants that enough members have, with the pixels they agree on."""
    height, width = said[0].height, said[0].width
    weights = [
        vote * (1 if one.regions and OUTLINE_VOTES not in one.votes else OUTLINE_VOTES)
        for one, vote in zip(said, member_votes, strict=True)
    ]
    # More than all votes together: a pixel outside the outlines' union never gets there.
    inside = OUTLINE_VOTES * sum(member_votes) + 1
    metal = [fusion.Rows(one.metal_borders, height) for one in said]
    sides: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    unions: list[NDArray[np.int64]] = []
    chosen: list[tuple[_Candidate, float]] = []
    least: list[int] = []
    stride = height * width + 1
    candidates = [one for structure in IMPLANTS for one in _candidates(said, structure)]
    for structure in {one.structure for one in candidates}:
        _note_regions(said, structure, [one for one in candidates if one.structure is structure])
    for candidate in candidates:
        outlined = [
            (member, place, said[member].borders[place])
            for member, place in candidate.outlines.items()
        ]
        box = box_around([said[m].outlines[place].mask.box for m, place, _ in outlined])
        marks: list[tuple[int, int, NDArray[np.int64]]] = []
        for member, place, borders in outlined:
            one = said[member]
            if candidate.structure is Structure.ROD and Structure.ROD in one.regions:
                near = metal[member].within(box)
                borders = fusion.either(borders, near)
            marks.append((member, member_votes[member] * one.votes[place], borders))
        for member in candidate.regions:
            near = metal[member].within(box)
            marks.append((member, member_votes[member], near))
        support = sum(vote for _, vote, _ in marks)
        total = sum(
            weight for member, weight in enumerate(weights) if member not in candidate.silent
        )
        kept = support >= fusion.least_votes(rule, total)
        if candidate.structure in BY_HEAD:
            by_head = sum(member_votes[member] for member, _, _ in marks)
            kept |= by_head >= fusion.least_votes(rule, sum(member_votes))
        if not kept:
            continue
        offset = 2 * len(chosen) * stride
        for member, vote, borders in marks:
            sides.setdefault((member, vote), []).append(fusion.marked(borders) + offset)
        unions += [fusion.marked(borders) + offset for _, _, borders in outlined]
        chosen.append((candidate, min(1.0, support / total)))
        least.append(inside + fusion.least_votes(rule, support))
    if not chosen:
        return []
    sides[-1, inside] = [fusion.outermost(unions)]
    planes = frozenset(range(len(chosen)))
    swept = fusion.sweep(
        [fusion.Ballot(height, width, np.concatenate(each), planes) for each in sides.values()],
        [vote for _, vote in sides],
        least,
        height * width,
        inside,
        scored=False,
    )
    implants = []
    for plane, (candidate, score) in enumerate(chosen):
        if plane in swept:
            mask = mask_from_runs(swept[plane][0], height, width)
            segment = Segment(candidate.structure, SegmentKind.INSTANCE, mask, score, mask.box)
            members = tuple(sorted(names[member] for member in candidate.outlines))
            implants.append(FusedImplant(segment, member_names=members))
    return implants


def _silent(
    group: Sequence[int],
    places: Sequence[tuple[int, int]],
    share: NDArray[np.float64],
    structure: Structure,
) -> frozenset[int]:
    """Members that see metal where an implant is, but not whether it is one or two.

    Their outline holds the implant and was taken for another one: the left and the right screw of
    a vertebra as one blob. That is no vote against either screw, and says nothing of its pixels.
    Where fewer than :data:`LEAST_TELLING` members tell them apart nobody is silent.
    """
    own = {places[index][0] for index in group}
    if structure not in OVERLAPPING or len(own) < LEAST_TELLING:
        return frozenset()
    held = share[list(group)].max(axis=0) >= COVERED_SHARE
    return frozenset(places[index][0] for index in np.flatnonzero(held).tolist()) - own


def _groups(
    places: Sequence[tuple[int, int]],
    outlines: Sequence[Segment],
    iou: NDArray[np.float64],
    share: NDArray[np.float64],
) -> list[list[int]]:
    """Outlines of one implant each, at most one of a member; the most agreed on first."""
    owner = np.array([member for member, _ in places])
    areas = np.array([outline.mask.area for outline in outlines], dtype=np.float64)
    free = np.array([not _spans_two(index, iou, share, areas) for index in range(len(outlines))])
    same = (iou >= SAME_IOU) & (owner[:, None] != owner[None, :])
    friends = [len(set(owner[same[index] & free].tolist())) for index in range(len(outlines))]
    order = sorted(
        range(len(outlines)), key=lambda index: (-friends[index], -outlines[index].score, index)
    )
    groups = []
    for seed in order:
        if not free[seed]:
            continue
        group = {int(owner[seed]): seed}
        for index in np.flatnonzero(same[seed] & free).tolist():
            member = int(owner[index])
            if member not in group or iou[seed, index] > iou[seed, group[member]]:
                group[member] = index
        free[list(group.values())] = False
        groups.append([group[member] for member in sorted(group)])
    return groups


def _spans_two(
    whole: int,
    iou: NDArray[np.float64],
    share: NDArray[np.float64],
    areas: NDArray[np.float64],
) -> bool:
    """Whether an outline covers two others that are two implants."""
    inner = [
        other
        for other in range(len(areas))
        if other != whole
        and share[other, whole] >= DUPLICATE_SHARE
        and areas[other] < 0.8 * areas[whole]
    ]
    return any(
        iou[a, b] < APART_IOU and max(share[a, b], share[b, a]) < DUPLICATE_SHARE
        for a, b in itertools.combinations(inner, 2)
    )


def _apart(implants: Sequence[FusedImplant]) -> list[FusedImplant]:
    """The implants without those that share too much with a better one."""
    ranked = sorted(implants, key=lambda one: (-one.segment.score, -one.segment.mask.area))
    segments = [one.segment for one in ranked]
    iou, share = overlaps(segments, segments)
    kept: list[int] = []
    for index, segment in enumerate(segments):
        if all(
            iou[index, other] <= MOST_IOU[segment.structure] and share[index, other] <= INSIDE_SHARE
            for other in kept
        ):
            kept.append(index)
    return [ranked[index] for index in kept]


def _holds_more(region: Segment, kept: Sequence[FusedImplant]) -> bool:
    """Whether a fused region may hold an implant beyond those of its structure.

    It may where components of it are left to :data:`LEFT_SHARE`, and are large enough together.
    """
    mask = region.mask
    height, width = mask.height, mask.width
    least = min_component_pixels(height, width)
    if not kept:
        return 2 * mask.area >= least
    window = windows.window_of([region], 0, height, width)
    own_borders, *others = fusion.borders_of(
        [mask, *(one.segment.mask for one in kept)], height * width
    )
    step = max(1, int(math.sqrt(least)) // LEFT_CELLS)
    # A crop lies column after column in memory: turned, OpenCV takes it as it is.
    own, held = (
        np.ascontiguousarray(windows.crop(each, window, height).T[::step, ::step]).view(np.uint8)
        for each in (own_borders, fusion.either(*others))
    )
    left = cv2.morphologyEx(own & ~held, cv2.MORPH_OPEN, np.ones((3, 3), dtype=np.uint8))
    if 2 * step**2 * cv2.countNonZero(left) < least:
        return False
    _, labels, statistics = components(own)
    areas = statistics[:, cv2.CC_STAT_AREA]
    of_component = np.bincount(labels[left > 0], minlength=len(areas))
    more = of_component[of_component > LEFT_SHARE * areas].sum()
    return bool(2 * step**2 * more >= least)


def _left_over(kept: Sequence[FusedImplant], parts: Sequence[Segment]) -> list[FusedImplant]:
    """Implants of the fused regions where none is."""
    return [FusedImplant(part) for part in left_over(parts, [one.segment for one in kept])]
