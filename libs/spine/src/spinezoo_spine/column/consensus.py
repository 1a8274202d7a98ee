"""The vertebrae that several members see, as objects: outlines of some, regions of others.

The regions of :mod:`spinezoo_spine.fusion.votes` are right pixel by pixel, but touching
vertebrae are one region in them, and taking a region apart is a guess. Networks that answer
instances have told the vertebrae apart already. So here their outlines say *which* vertebrae there
are, and all members vote on each of them:

1. outlines of different members that overlap (IoU 0.4) are of one vertebra; each member brings at
   most one to it. An outline over two others that are apart counts for nothing;
2. a member *has* the vertebra when it brings an outline, or when its whole-class regions cover half
   of the outlines' union. Whether the vertebra is kept is decided by the members that have it, by
   the rule of the fusion (majority: more than half of all votes);
3. its pixels are decided by the members that have it, by the same rule, within the union of the
   outlines. In both votes a member that answers outlines counts twice one that answers regions: a
   region says where bone is, an outline also that this is one vertebra and where it ends;
4. it is lumbar or sacral by the votes of the members that have it, one each: that a bone is of the
   sacrum a region says as well as an outline;
5. of two that overlap by 40 % of either, the one of more votes stays;
6. what the fused regions hold beyond these (vertebrae that no outline shows) is taken apart by
   :mod:`spinezoo_spine.column.separation` and added.

Without a member that answers outlines only the last step is left. Everything works on run lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from spinezoo_contract.errors import OptionError
from spinezoo_contract.masks import mask_from_runs
from spinezoo_contract.types import (
    VERTEBRAE,
    FusionOptions,
    FusionRule,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
)

from spinezoo_spine.column.places import MOST_OUTLINES
from spinezoo_spine.column.separation import separate
from spinezoo_spine.fusion import votes as fusion
from spinezoo_spine.fusion.objects import OUTLINE_VOTES, left_over
from spinezoo_spine.instances import box_around, coco_form, overlaps, spans_two, unite

SAME_IOU = 0.4
"""Outlines of two members that overlap this much are of one vertebra. Neighbours reach 0.1."""

COVERED_SHARE = 0.5
"""Share of a vertebra that a member's regions have to cover to count as having it."""

OVERLAP_SHARE = 0.4
"""Two vertebrae that share more than this of either's area are one."""


@dataclass(frozen=True, slots=True)
class Vertebrae:
    """What one member says of the column, ready to be fused; made while other members still work.

    Attributes:
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        segments: All that it answered, implants too.
        outlines: Its vertebral instances, the best first.
        borders: Of each outline (2 * runs,) ``int64``: by turns the place where a run starts and
            where it ends, counted down the columns.
        regions: Its whole-class regions of vertebrae.
        region_borders: The same borders, of the union of the regions.
    """

    height: int
    width: int
    segments: tuple[Segment, ...]
    outlines: tuple[Segment, ...]
    borders: tuple[NDArray[np.int64], ...]
    regions: tuple[Segment, ...]
    region_borders: NDArray[np.int64]


def vertebrae_of(segments: Sequence[Segment], height: int, width: int) -> Vertebrae:
    """One member's vertebrae, made ready.

    Args:
        segments: What the member answered; only vertebrae are made ready.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.

    Raises:
        MaskError: A mask's run lengths do not fit the film.
    """
    bony = [segment for segment in segments if segment.structure in VERTEBRAE]
    outlines = sorted(
        (segment for segment in bony if segment.kind is SegmentKind.INSTANCE),
        key=lambda segment: -segment.score,
    )[:MOST_OUTLINES]
    regions = tuple(segment for segment in bony if segment.kind is SegmentKind.REGION)
    masks = [segment.mask for segment in (*regions, *outlines)]
    borders = fusion.borders_of(masks, height * width)
    return Vertebrae(
        height,
        width,
        tuple(segments),
        tuple(outlines),
        tuple(borders[len(regions) :]),
        regions,
        fusion.either(*borders[: len(regions)]),
    )


@dataclass(slots=True, eq=False)
class _Candidate:
    """Outlines of one vertebra: places in the list of all outlines, one a member at most."""

    members: list[int]
    outlines: list[Segment]
    borders: list[NDArray[np.int64]]
    union: RunLengthMask


def fuse_vertebrae(
    members: Mapping[str, Vertebrae],
    fused: Sequence[Segment] = (),
    options: FusionOptions | None = None,
) -> tuple[Segment, ...]:
    """The vertebrae of several members as instances, from top to bottom.

    Args:
        members: What each member says, by name; at least one.
        fused: Fused regions of the same members; what they hold beyond the outlines is added.
        options: Rule and weights; None: majority.

    Returns:
        Instances without levels. Their score is the share of all members' votes for the vertebra,
        times the share of these for its structure. Parts of the fused regions have their region's
        score, beside outlined vertebrae half of it: that they are one vertebra each is a guess.

    Raises:
        OptionError: No member, or weights as :func:`spinezoo_spine.fusion.votes.fuse` refuses them.
    """
    options = FusionOptions() if options is None else options
    names = sorted(members)
    if not names:
        raise OptionError("no member to fuse; give the segments of at least one")
    votes = fusion.votes_of(names, options)
    total = sum(votes)
    said = [members[name] for name in names]
    height, width = said[0].height, said[0].width
    candidates = _candidates(said, height, width)
    kept: list[Segment] = []
    if candidates:
        kept = _vote(candidates, said, votes, total, options.rule, height, width)
        kept = _apart(kept)
    kept += _left_over(kept, [s for s in fused if s.structure in VERTEBRAE])
    kept.sort(key=lambda segment: segment.box.y + segment.box.height / 2.0)
    return tuple(kept)


def _candidates(said: Sequence[Vertebrae], height: int, width: int) -> list[_Candidate]:
    """Outlines of all members, grouped by vertebra; the group most agree on first."""
    outlines = [segment for one in said for segment in one.outlines]
    if not outlines:
        return []
    borders = [each for one in said for each in one.borders]
    owner = np.repeat(np.arange(len(said)), [len(one.outlines) for one in said])
    iou, share = overlaps(outlines, outlines)
    areas = np.array([segment.mask.area for segment in outlines], dtype=np.float64)
    free = [not spans_two(place, iou, share, areas) for place in range(len(outlines))]
    same = (iou >= SAME_IOU) & (owner[:, None] != owner[None, :])
    friends = [len(set(owner[same[place]].tolist())) for place in range(len(outlines))]
    order = sorted(
        range(len(outlines)), key=lambda place: (-friends[place], -outlines[place].score, place)
    )
    found: list[_Candidate] = []
    for seed in order:
        if not free[seed]:
            continue
        group = {int(owner[seed]): seed}
        for place in np.flatnonzero(same[seed] & np.array(free)).tolist():
            member = int(owner[place])
            if member not in group or iou[seed, place] > iou[seed, group[member]]:
                group[member] = place
        for place in group.values():
            free[place] = False
        places = [group[member] for member in sorted(group)]
        found.append(
            _Candidate(
                sorted(group),
                [outlines[place] for place in places],
                [borders[place] for place in places],
                unite([outlines[place].mask for place in places], height, width),
            )
        )
    return found


def _vote(
    candidates: Sequence[_Candidate],
    said: Sequence[Vertebrae],
    votes: Sequence[int],
    total: int,
    rule: FusionRule,
    height: int,
    width: int,
) -> list[Segment]:
    """The candidates that enough members have, with the pixels that enough of these have."""
    covered = _coverage(candidates, said)
    ballots: list[list[NDArray[np.int64]]] = [[] for _ in said]  # outlines, by member
    region_ballots: list[list[NDArray[np.int64]]] = [[] for _ in said]
    chosen: list[tuple[_Candidate, Structure, float]] = []
    least: list[int] = []
    # More than all other votes together: a pixel outside the outlines' union never gets there.
    inside = OUTLINE_VOTES * total + 1
    # A member that says nothing may be of either kind: it weighs against as much as one can.
    weights = [
        vote * (1 if one.regions and not one.outlines else OUTLINE_VOTES)
        for one, vote in zip(said, votes, strict=True)
    ]
    regions = [fusion.Rows(one.region_borders, height) for one in said]
    unions: list[NDArray[np.int64]] = []
    stride = height * width + 1
    for candidate, shares in zip(candidates, covered, strict=True):
        by_region = [
            member
            for member in range(len(said))
            if member not in candidate.members and sum(shares[member].values()) >= COVERED_SHARE
        ]
        support = sum(weights[member] for member in (*candidate.members, *by_region))
        if support < fusion.least_votes(rule, sum(weights)):
            continue
        structure, agreed = _structure(candidate, by_region, shares, votes)
        offset = 2 * len(chosen) * stride
        pixel_votes = sum(votes[member] for member in by_region)
        for member, borders in zip(candidate.members, candidate.borders, strict=True):
            marks = fusion.marked(borders) + offset
            ballots[member].append(marks)
            unions.append(marks)
            pixel_votes += OUTLINE_VOTES * votes[member]
        box = box_around([outline.mask.box for outline in candidate.outlines])
        for member in by_region:
            near = regions[member].within(box)
            region_ballots[member].append(fusion.marked(near) + offset)
        least.append(inside + fusion.least_votes(rule, pixel_votes))
        chosen.append((candidate, structure, support / sum(weights) * agreed))
    if not chosen:
        return []
    planes = frozenset(range(len(chosen)))
    sides = [(each, OUTLINE_VOTES * vote) for each, vote in zip(ballots, votes, strict=True)]
    sides += list(zip(region_ballots, votes, strict=True))
    sides.append(([fusion.outermost(unions)], inside))
    sides = [(each, vote) for each, vote in sides if each]
    swept = fusion.sweep(
        [fusion.Ballot(height, width, np.concatenate(each), planes) for each, _ in sides],
        [vote for _, vote in sides],
        least,
        height * width,
        inside,
        scored=False,
    )
    segments = []
    for plane, (_, structure, score) in enumerate(chosen):
        if plane in swept:
            runs, _ = swept[plane]
            mask = mask_from_runs(runs, height, width)
            segments.append(Segment(structure, SegmentKind.INSTANCE, mask, score, mask.box))
    return segments


def _coverage(
    candidates: Sequence[_Candidate], said: Sequence[Vertebrae]
) -> list[list[dict[Structure, float]]]:
    """By candidate and member: the share of the candidate that each of its regions covers."""
    regions = [(member, s) for member, one in enumerate(said) for s in one.regions]
    shares: list[list[dict[Structure, float]]] = [[{} for _ in said] for _ in candidates]
    if not regions:
        return shares
    # "Crowd" divides by the first one's area alone.
    covered = np.asarray(
        coco_mask.iou(
            [coco_form(candidate.union) for candidate in candidates],
            [coco_form(segment.mask) for _, segment in regions],
            [1] * len(regions),
        ),
        dtype=np.float64,
    )
    for place in range(len(candidates)):
        for (member, segment), share in zip(regions, covered[place].tolist(), strict=True):
            shares[place][member][segment.structure] = share
    return shares


def _structure(
    candidate: _Candidate,
    by_region: Sequence[int],
    shares: Sequence[Mapping[Structure, float]],
    votes: Sequence[int],
) -> tuple[Structure, float]:
    """The structure that most call it, and the share of the votes for it; ties: lumbar."""
    counts = dict.fromkeys(sorted(VERTEBRAE), 0.0)
    for member, outline in zip(candidate.members, candidate.outlines, strict=True):
        counts[outline.structure] += votes[member] * max(outline.score, 1e-3)
    for member in by_region:
        for structure, share in shares[member].items():
            counts[structure] += votes[member] * share
    best = max(counts, key=lambda structure: counts[structure])
    return best, counts[best] / sum(counts.values())


def _apart(segments: Sequence[Segment]) -> list[Segment]:
    """The outlines without those that share too much with a better one."""
    kept: list[Segment] = []
    ranked = sorted(segments, key=lambda segment: -segment.score)
    _, share = overlaps(ranked, ranked)
    places: list[int] = []
    for place, segment in enumerate(ranked):
        if all(max(share[place, o], share[o, place]) <= OVERLAP_SHARE for o in places):
            places.append(place)
            kept.append(segment)
    return kept


def _left_over(kept: Sequence[Segment], regions: Sequence[Segment]) -> list[Segment]:
    """Vertebrae of the fused regions where no outline is."""
    if not regions:
        return []
    if kept:
        height, width = regions[0].mask.height, regions[0].mask.width
        union = unite([segment.mask for segment in kept], height, width)
        held = np.asarray(
            coco_mask.iou(
                [coco_form(segment.mask) for segment in regions], [coco_form(union)], [1]
            ),
            dtype=np.float64,
        )[:, 0]
        areas = np.array([segment.mask.area for segment in regions], dtype=np.float64)
        body = float(np.median([segment.mask.area for segment in kept]))
        if float((areas * (1.0 - held)).sum()) < 0.5 * body:
            return []
    parts = separate(regions)
    return left_over(parts, kept) if kept else list(parts)
