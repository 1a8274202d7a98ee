"""Several members' masks as one, on run lengths: no mask is decoded to pixels.

A member *has* a pixel of a structure when any of its segments of that structure covers it:
instances are united first, so that two overlapping outlines of one member are one vote. The
merged mask is fused the same way, from what each member's segments of all structures cover
together; it is not the union of the fused structures (three members that call a pixel lumbar,
sacral and cage agree that something is there, and on nothing else).

Rules
- union: at least one member has the pixel;
- intersection: every member has it;
- majority: more than half of the members have it;
- weighted vote: the weights of the members that have it are more than half of all weights.

Ties: exactly half is not more than half, so the pixel is background. Weights are taken as the
decimal numbers that were written (0.1 is one tenth, not the double beside it) and are added as
integers, so a tie is a tie whatever the order of the members: 0.1 and 0.2 against 0.3 is one.

A member that answered without segments takes part and has no pixel; a member that failed must not
be among the inputs.

Score of a fused region: the mean over its pixels of the share of votes (of weight, for the
weighted vote) for the pixel; 1 when all members agree on all of it. The members' own scores play
no part: they are not calibrated against each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import MaskError, OptionError
from spinezoo_contract.masks import mask_from_runs
from spinezoo_contract.types import (
    Box,
    FusedAnswer,
    FusionOptions,
    FusionRule,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
    decode_together,
)

_MERGED = 0
"""Plane of the merged mask; the structures' planes are their numbers."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """One member's masks, united by structure and ready to be counted.

    A ballot needs nothing of the other members, so that it can be made while they still work; only
    counting has to wait for the last one.

    Attributes:
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        borders: (2 * runs of foreground,) ``int64``, by turns twice the place where a run starts
            and twice the place where it ends plus 1, plane by plane. The places of plane p lie
            from p * (height * width + 1) on.
        planes: The planes that have any foreground.
    """

    height: int
    width: int
    borders: NDArray[np.int64]
    planes: frozenset[int]


def ballot(segments: Sequence[Segment], height: int, width: int, member_name: str = "") -> Ballot:
    """Makes one member's ballot.

    Args:
        segments: What the member answered; none is an answer too.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        member_name: Named in errors.

    Raises:
        MaskError: A mask is not of the film's size, or its run lengths do not fit the film.
    """
    if height < 1 or width < 1:
        raise MaskError(f"a film of {height} x {width} pixels cannot be; give both at least 1")
    for segment in segments:
        if (segment.mask.height, segment.mask.width) != (height, width):
            raise MaskError(
                f"a mask of {member_name!r} is {segment.mask.height} x {segment.mask.width} "
                f"pixels, the film {height} x {width}; masks are fused at the film's size"
            )
    if not segments:
        return Ballot(height, width, np.empty(0, dtype=np.int64), frozenset())
    pixels = height * width
    masks = [segment.mask for segment in segments]
    planes = [int(segment.structure) for segment in segments]
    borders, counts = _borders(masks, pixels, [0] * len(masks))
    marks = marked(borders)
    # Every mask is of its structure's plane and of the merged one.
    own = marks + np.repeat([2 * plane * (pixels + 1) for plane in planes], counts)
    return Ballot(height, width, outermost([marks, own]), frozenset({_MERGED, *planes}))


def borders_of(masks: Sequence[RunLengthMask], pixels: int) -> list[NDArray[np.int64]]:
    """Of each mask (2 * runs of foreground,) places, column-major: start and end by turns.

    Args:
        masks: Any number, of one size.
        pixels: Pixels of the film.

    Raises:
        MaskError: A mask's counts are none, or do not add up to the film.
    """
    if not masks:
        return []
    borders, counts = _borders(masks, pixels, [0] * len(masks))
    return np.split(borders, np.cumsum(counts)[:-1])


def _borders(
    masks: Sequence[RunLengthMask], pixels: int, firsts: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Borders of all masks end to end, mask k's places from ``firsts[k]`` on; and their numbers."""
    decode_together(masks)
    if any(mask.height * mask.width != pixels for mask in masks):
        raise MaskError(
            f"the runs of a mask do not add up to the film's {pixels} pixels; encode it again"
        )
    runs = np.concatenate([mask.runs for mask in masks])
    counts = np.array([len(mask.runs) for mask in masks])
    lasts = np.cumsum(counts) - 1
    # Every mask's runs add up to the film, so one running sum gives mask k's borders + k films.
    offsets = [first - k * pixels for k, first in enumerate(firsts)]
    borders = np.cumsum(runs) + np.repeat(offsets, counts)
    # A last run of background ends, but nothing starts there. Without it every mask has an even
    # number of borders, start and end by turns.
    odd = counts % 2 == 1
    return np.delete(borders, lasts[odd]), counts - odd


def marked(borders: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places as a ballot has them: twice the place, plus 1 where a run ends.

    Args:
        borders: (2 * runs,) places, see :func:`borders_of`.
    """
    places = borders << 1
    places[1::2] += 1
    return places


class Rows:
    """Runs of a mask with the rows that they lie in: what a part of the film has of it.

    Nothing is worked out before it is asked for.
    """

    def __init__(self, borders: NDArray[np.int64], height: int) -> None:
        """Keeps the runs.

        Args:
            borders: Of a mask, see :func:`borders_of`.
            height: Rows of the film.
        """
        self._runs = borders.reshape(-1, 2)
        self._height = height
        self._rows: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def within(self, box: Box) -> NDArray[np.int64]:
        """Borders of the runs that may lie in a box of a mask of the same film."""
        starts, ends = self._runs[:, 0], self._runs[:, 1]
        if self._rows is None:
            row = starts % self._height
            self._rows = row, row + (ends - starts)
        low = int(ends.searchsorted(int(box.x) * self._height, side="right"))
        high = int(starts.searchsorted(int(box.x + box.width) * self._height, side="left"))
        first, last = (rows[low:high] for rows in self._rows)
        # A run may go on into the next column.
        seen = (first < int(box.y + box.height)) | (last > self._height)
        seen &= last > int(box.y)
        return self._runs[low:high][seen].reshape(-1)


def either(*masks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Borders of the union of masks, from theirs; none for no masks.

    Args:
        masks: (2 * runs,) borders of each, see :func:`borders_of`.
    """
    if len(masks) == 1:
        return masks[0]
    return outermost([marked(each) for each in masks]) >> 1


def outermost(marks: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Of marked places those where the union of all masks begins or ends, ascending.

    Args:
        marks: Of each mask, see :func:`marked`; those of one plane are apart from another's.
    """
    every = np.concatenate([np.empty(0, dtype=np.int64), *marks])
    # At one place starts come first, so that runs that touch are one. Each mask's are in order: a
    # merging sort makes use of that.
    every.sort(kind="stable")
    ends = every & 1
    inside = np.cumsum(1 - 2 * ends)
    return every[inside == ends ^ 1]


def count(ballots: Mapping[str, Ballot], options: FusionOptions | None = None) -> FusedAnswer:
    """Fuses the members' ballots, for each structure and for the merged mask.

    Args:
        ballots: Ballots of one film by member name; at least one member.
        options: Rule and weights; None: majority.

    Returns:
        As :func:`fuse`.

    Raises:
        OptionError: As :func:`fuse`.
        MaskError: The ballots are of films of different sizes.
    """
    options = FusionOptions() if options is None else options
    names = sorted(ballots)
    if not names:
        raise OptionError("no member to fuse; give the segments of at least one")
    votes = votes_of(names, options)
    height, width = ballots[names[0]].height, ballots[names[0]].width
    for name in names:
        if (ballots[name].height, ballots[name].width) != (height, width):
            raise MaskError(
                f"the ballot of {name!r} is of a film of {ballots[name].height} x "
                f"{ballots[name].width} pixels, that of {names[0]!r} of {height} x {width}; "
                "fuse one film at a time"
            )
    total = sum(votes)
    least = least_votes(options.rule, total)
    planes = sweep([ballots[name] for name in names], votes, least, height * width, total)
    segments = []
    for structure in Structure:
        if structure in planes:
            runs, score = planes[structure]
            mask = mask_from_runs(runs, height, width)
            segments.append(Segment(structure, SegmentKind.REGION, mask, score, mask.box))
    merged = planes.get(_MERGED)
    return FusedAnswer(
        segments=tuple(segments),
        merged_mask=None if merged is None else mask_from_runs(merged[0], height, width),
        rule=options.rule,
        member_names=tuple(names),
    )


def fuse(
    inputs: Mapping[str, Sequence[Segment]],
    height: int,
    width: int,
    options: FusionOptions | None = None,
) -> FusedAnswer:
    """Fuses the members' masks, for each structure and for the merged mask.

    Args:
        inputs: Segments by member name; at least one member.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        options: Rule and weights; None: majority.

    Returns:
        One region a structure with any fused pixel, in the order of
        :class:`~spinezoo_contract.types.Structure`, and the fused merged mask (None: empty).

    Raises:
        OptionError: No member, or a weight for a member that is not among the inputs. Callers that
            hold weights for members that have failed leave those out.
        MaskError: A mask is not of the film's size.
    """
    ballots = {name: ballot(segments, height, width, name) for name, segments in inputs.items()}
    return count(ballots, options)


def least_votes(rule: FusionRule, total: int) -> int:
    """Votes that are enough by a rule, of ``total``; exactly half is not enough."""
    return {FusionRule.UNION: 1, FusionRule.INTERSECTION: total}.get(rule, total // 2 + 1)


def votes_of(names: Sequence[str], options: FusionOptions) -> list[int]:
    """Each member's votes as an integer, in the proportion of the weights.

    Raises:
        OptionError: As :func:`fuse`.
    """
    for name in options.weights:
        if name not in names:
            raise OptionError(
                f"a weight is given for {name!r}, which is not among the members "
                f"({', '.join(names)}); leave it out or mend the name"
            )
    if options.rule is not FusionRule.WEIGHTED_VOTE:
        return [1] * len(names)
    # repr is the shortest decimal that names the double: what was written.
    weights = [Fraction(repr(float(options.weights.get(name, 1.0)))) for name in names]
    common = math.lcm(*(weight.denominator for weight in weights))
    votes = [int(weight * common) for weight in weights]
    divisor = math.gcd(*votes)
    return [vote // divisor for vote in votes]


def sweep(
    ballots: Sequence[Ballot],
    votes: Sequence[int],
    least: int | Sequence[int],
    pixels: int,
    total: int,
    *,
    scored: bool = True,
) -> dict[int, tuple[NDArray[np.int64], float]]:
    """Walks along all run borders at once, with the votes that hold from each on.

    Planes are laid end to end on one line, a gap of one place between them, so that one sort and
    one running sum serve all of them.

    Args:
        ballots: Each member's.
        votes: Votes of each member.
        least: Votes that a pixel needs; a sequence: of each plane.
        pixels: Pixels of the film.
        total: Votes of all members; what scores are shares of.
        scored: Whether scores are wanted; else they are 0.

    Returns:
        Run lengths and score by plane, for planes with a fused pixel.
    """
    stride = pixels + 1
    # Sums below fit 64 bits, or else Python's integers take over: exact either way.
    number = np.int64 if 16 * max(total, sum(votes)) * stride < 2**62 else np.object_
    # A border is one integer, its place above the number of its step: sorting integers is faster
    # than sorting an index. Step 2 i is the start of a run of member i, 2 i + 1 its end.
    steps = np.array([sign * vote for vote in votes for sign in (1, -1)], dtype=number)
    shift = len(steps).bit_length()
    border = np.concatenate(
        [
            (one.borders >> 1 << shift) + ((one.borders & 1) + 2 * index)
            for index, one in enumerate(ballots)
        ]
    )
    if not len(border):
        return {}
    # Each member brings its borders in order; a merging sort makes use of that.
    border.sort(kind="stable")
    position = border >> shift
    running = np.cumsum(steps[border & ((1 << shift) - 1)])
    planes = sorted(frozenset().union(*(one.planes for one in ballots)))
    firsts = np.array([plane * stride for plane in planes])
    begins = position.searchsorted(firsts)
    enough: int | NDArray[Any] = 0
    if isinstance(least, int):
        enough = least
    else:
        counts = np.diff(begins, append=len(position))
        enough = np.repeat(np.array([least[plane] for plane in planes], dtype=number), counts)
    inside = running >= enough
    # Of several borders at one place only the last has the votes that hold from there on.
    last = np.flatnonzero(position[1:] != position[:-1])
    last = np.append(last, len(position) - 1)
    held = np.zeros(len(last) + 1, dtype=np.bool_)
    held[1:] = inside[last]
    change = position[last[np.flatnonzero(held[1:] != held[:-1])]]
    starts = change[0::2]
    voted = np.flatnonzero(inside[:-1]) if scored else np.empty(0, dtype=np.intp)
    # Borders at one place but the last hold for no pixel.
    cast = running[voted] * (position[voted + 1] - position[voted])
    of_plane = voted.searchsorted(np.append(begins, len(position))).tolist()

    found: dict[int, tuple[NDArray[np.int64], float]] = {}
    lows = starts.searchsorted(firsts)
    highs = starts.searchsorted(firsts + stride)
    for index, plane in enumerate(planes):
        first, low, high = firsts[index], lows[index], highs[index]
        if low == high:
            continue
        borders = change[2 * low : 2 * high] - first
        runs = np.empty(len(borders) + (borders[-1] < pixels), dtype=np.int64)
        runs[0] = borders[0]
        np.subtract(borders[1:], borders[:-1], out=runs[1 : len(borders)])
        area = int(runs[1::2].sum())
        if len(runs) > len(borders):
            runs[-1] = pixels - borders[-1]
        score = 0.0
        if scored:
            score = int(cast[of_plane[index] : of_plane[index + 1]].sum()) / (area * total)
        found[plane] = runs, score
    return found
