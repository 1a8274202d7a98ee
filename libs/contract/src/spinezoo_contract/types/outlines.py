"""Outlines: boxes, masks, segments, probability maps and label maps.

Coordinates are in pixels of the film; x runs right, y runs down, and the film's top-left corner
is (0, 0), so the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from spinezoo_contract.errors import MaskError
from spinezoo_contract.limits import LEVEL
from spinezoo_contract.runs import boxes_of, decode_runs, runs_box
from spinezoo_contract.types.checks import check_share


class Structure(IntEnum):
    """What an outline is an outline of. The numbers are those of the wire and of label maps."""

    LUMBAR_VERTEBRA = 1
    """Body of a vertebra from T12 to the last lumbar one, as the study annotated."""
    SACRAL_VERTEBRA = 2
    """Body of S1 or S2."""
    CAGE = 3
    """Interbody cage."""
    SCREW = 4
    """Screw, shaft and head together."""
    ROD = 5
    """Rod, plate and any other instrumentation."""


VERTEBRAE = frozenset({Structure.LUMBAR_VERTEBRA, Structure.SACRAL_VERTEBRA})
"""The structures that the vertebra recognition rate counts."""


NAMED_LEVELS = ("T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "L6", "S1", "S2")
"""Levels that a vertebra can be named by, head first."""


def structure_of_level(level: str) -> Structure:
    """What a vertebra of this level is: sacral from S1 on, else as the study calls those above."""
    return Structure.SACRAL_VERTEBRA if level.startswith("S") else Structure.LUMBAR_VERTEBRA


class SegmentKind(IntEnum):
    """Whether a segment is one object or everything of its class."""

    INSTANCE = 1
    REGION = 2


BOX_LEEWAY_PX = 1.0
"""By how much a number of a box may be off: it may come from another grid than its mask."""


@dataclass(frozen=True, slots=True)
class Box:
    """Axis-parallel box, in pixels of the film."""

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            MaskError: A number is not finite, or an extent is negative.
        """
        # A sum is finite where all are, but for extents that no film has.
        if not math.isfinite(self.x + self.y + self.width + self.height):
            raise MaskError("box holds a number that is NaN or infinite; send pixels of the film")
        if self.width < 0.0 or self.height < 0.0:
            raise MaskError(
                f"box is {self.width} x {self.height} pixels; send extents of 0 or more"
            )

    def is_near(self, other: Box) -> bool:
        """Whether no number differs by more than :data:`BOX_LEEWAY_PX`."""
        return (
            abs(self.x - other.x) <= BOX_LEEWAY_PX
            and abs(self.y - other.y) <= BOX_LEEWAY_PX
            and abs(self.width - other.width) <= BOX_LEEWAY_PX
            and abs(self.height - other.height) <= BOX_LEEWAY_PX
        )

    def __str__(self) -> str:
        """Where it is, for messages."""
        return f"box {self.x:g}, {self.y:g}, {self.width:g} x {self.height:g}"


@dataclass(frozen=True, slots=True)
class RunLengthMask:
    """A binary mask as COCO compressed run-length counts (column-major, background first).

    The counts may come from a stranger. They are decoded and checked once, when runs, area or box
    are first asked for; a :class:`Segment` asks when it is made. Equality, hash and pickle are
    those of height, width and counts. See :mod:`spinezoo_contract.masks` for the way from and to
    pixels.

    Attributes:
        height: Rows, in pixels.
        width: Columns, in pixels.
        counts: COCO's compressed counts.
    """

    height: int
    width: int
    counts: bytes
    _runs: NDArray[np.int64] | None = field(default=None, init=False, repr=False, compare=False)
    _area: int | None = field(default=None, init=False, repr=False, compare=False)
    _box: Box | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def runs(self) -> NDArray[np.int64]:
        """(number of runs,) run lengths, 0 or more, adding up to height * width; read-only.

        Raises:
            MaskError: The counts break the contract; the message says how.
        """
        if self._runs is None:
            self.keep_runs(decode_runs([(self.height, self.width, self.counts)])[0])
        assert self._runs is not None
        return self._runs

    @property
    def area(self) -> int:
        """Foreground pixels.

        Raises:
            MaskError: The counts break the contract.
        """
        if self._area is None:
            object.__setattr__(self, "_area", int(self.runs[1::2].sum()))
        assert self._area is not None
        return self._area

    @property
    def box(self) -> Box:
        """Box around the foreground; all zero for an empty mask.

        Raises:
            MaskError: The counts break the contract.
        """
        if self._box is None:
            box = runs_box(self.runs, self.height)
            object.__setattr__(self, "_box", Box(*map(float, box)))
        assert self._box is not None
        return self._box

    def keep_runs(self, runs: NDArray[np.int64]) -> None:
        """Keeps runs that are known to be those of the counts.

        Args:
            runs: (N,) run lengths, column-major, background first.
        """
        object.__setattr__(self, "_runs", runs)

    def __reduce__(self) -> tuple[type[RunLengthMask], tuple[int, int, bytes]]:
        """Pickles and copies the mask without what it keeps."""
        return RunLengthMask, (self.height, self.width, self.counts)


_DECODED_AT_ONCE_BYTES = 1 << 20
"""Counts that are decoded in one go: beyond it memory counts more than calls."""


def decode_together(masks: Iterable[RunLengthMask]) -> None:
    """Decodes masks in one go, at less than half the time of one by one.

    Raises:
        MaskError: The counts of a mask break the contract.
    """
    batch: list[RunLengthMask] = []
    size = 0
    for mask in masks:
        if mask._runs is None and len(mask.counts) < _DECODED_AT_ONCE_BYTES:
            batch.append(mask)
            size += len(mask.counts)
            if size > _DECODED_AT_ONCE_BYTES:
                _decode_batch(batch)
                batch, size = [], 0
    if batch:
        _decode_batch(batch)


def _decode_batch(batch: list[RunLengthMask]) -> None:
    runs = decode_runs([(mask.height, mask.width, mask.counts) for mask in batch])
    for mask, own in zip(batch, runs, strict=True):
        mask.keep_runs(own)
    # Every segment of a message is compared with its box.
    find_boxes_together(batch)


def find_boxes_together(masks: Sequence[RunLengthMask]) -> None:
    """Finds the boxes of masks whose runs are known, in less time than one by one."""
    if not masks:
        return
    boxes = boxes_of([mask.runs for mask in masks], [mask.height for mask in masks])
    for mask, box in zip(masks, boxes, strict=True):
        object.__setattr__(mask, "_box", Box(*map(float, box)))


@dataclass(frozen=True, slots=True)
class Segment:
    """One outline at the film's size.

    Attributes:
        structure: What it is.
        kind: One object, or all of the class.
        mask: Its pixels, never empty.
        score: Confidence, 0 to 1; 1 for truth.
        box: Box around the mask's foreground.
        level: Anatomical level such as ``"L4"``, or None where unknown.
    """

    structure: Structure
    kind: SegmentKind
    mask: RunLengthMask
    score: float
    box: Box
    level: str | None = None

    def __post_init__(self) -> None:
        """Checks the outline against its own mask.

        Raises:
            MaskError: A field breaks the contract; the message says which.
        """
        if not 0.0 <= self.score <= 1.0:
            check_share(self.score, f"score of a {self.structure.name.lower()}", MaskError)
        mask, box = self.mask, self.box
        if mask.area == 0:
            raise MaskError("mask is empty; leave a segment without pixels out")
        if box is not mask.box and not box.is_near(mask.box):
            raise MaskError(f"{box} is not around the mask, {mask.box} is; send that one or none")
        if self.level is not None and LEVEL.fullmatch(self.level) is None:
            # Not quoted: it might be free text with a name in it.
            raise MaskError("level is not of the form L4, S1 or T12; correct it or leave it out")


def check_mask_size(mask: RunLengthMask, height: int, width: int) -> None:
    """Checks that a mask has the size of its film.

    Raises:
        MaskError: The sizes differ.
    """
    if mask.height != height or mask.width != width:
        raise MaskError(
            f"mask is {mask.height} x {mask.width}, the film {height} x {width}; "
            "resize the mask to the film"
        )


def check_sizes(segments: Iterable[Segment], height: int, width: int) -> None:
    """Checks that the masks of segments have the size of their film.

    Raises:
        MaskError: One has another size; the message names it by its place, from 0.
    """
    for place, segment in enumerate(segments):
        try:
            check_mask_size(segment.mask, height, width)
        except MaskError as error:
            raise MaskError(f"segment {place}: {error}") from None


@dataclass(frozen=True, slots=True)
class ProbabilityMap:
    """Probability of one structure on the network's own grid.

    Attributes:
        structure: Of which structure.
        values: (grid height, grid width) ``uint8``; probability = value / 255.
        film_box: The rectangle of the film that the grid covers; it may exceed the film.
    """

    structure: Structure
    values: NDArray[np.uint8]
    film_box: Box

    def __post_init__(self) -> None:
        """Checks the grid.

        Raises:
            MaskError: The values are no (height, width) bytes.
        """
        values = self.values
        if values.ndim != 2 or values.dtype != np.uint8 or values.size == 0:
            raise MaskError(f"a probability map is {values.dtype} {values.shape}")


Annotation = tuple[Segment, ...] | NDArray[np.uint8]
"""Outlines of one film: segments, or a (height, width) label map of structure numbers."""


def check_annotation(annotation: Annotation, height: int, width: int) -> None:
    """Checks outlines against their film.

    Raises:
        MaskError: A mask or the label map has another size, or the label map is none.
    """
    if isinstance(annotation, tuple):
        check_sizes(annotation, height, width)
        return
    if annotation.ndim != 2 or annotation.dtype.kind not in "ui":
        raise MaskError(
            "a label map is a (height, width) array of uint8, not "
            f"{annotation.dtype} {annotation.shape}"
        )
    if annotation.shape != (height, width):
        rows, columns = annotation.shape
        raise MaskError(
            f"label map is {rows} x {columns}, the film {height} x {width}; "
            "resize it to the film without interpolation"
        )
    if annotation.size == 0:
        raise MaskError("label map has no pixels; send the film's size")
    low, high = int(annotation.min()), int(annotation.max())
    if low < 0 or high > max(Structure):
        hint = (
            "a 0/255 mask is no label map: write the number of the structure in place of 255"
            if high == 255
            else "write the number of a structure, or 0 for background"
        )
        raise MaskError(f"label map holds values {low} to {high}, allowed are 0 to 5; {hint}")
