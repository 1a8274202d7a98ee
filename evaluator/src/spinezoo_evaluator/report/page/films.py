"""Films as small pictures, and outlines over them as SVG paths."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import VERTEBRAE, Segment
from spinezoo_spine.instances import to_instances
from spinezoo_spine.metrics.matching import matched_pairs

from spinezoo_evaluator.report.drawing import VERTEBRA_COLOURS
from spinezoo_evaluator.report.page.content import Drawing, Outline
from spinezoo_evaluator.results.columns import beyond_truth

PICTURE_PX = 640
"""Longer side of a film's picture in the page."""

_QUALITIES = (68, 50, 35)
MOST_BYTES = 110_000
"""Of a film's picture: noise compresses badly, and a page of 100 films stays below 25 MB."""

_UNITS = 2
"""Drawing units in a pixel of the picture: outlines are exact to half a pixel."""

_SMOOTH_PX = 0.6
"""By how much an outline may be off once points are left out, in pixels of the picture."""

_MOST_OUTLINES = 400
"""Of a layer; the smallest are left out."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From pixels of a film to drawing units.

    Attributes:
        height: Of the drawing.
        width: Of the drawing.
        factor: Drawing units in a pixel of the film.
    """

    height: int
    width: int
    factor: float

    @classmethod
    def of(cls, height: int, width: int) -> Scale:
        """The scale of a film of this size, in pixels."""
        factor = min(1.0, PICTURE_PX / max(height, width))
        rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
        return cls(rows * _UNITS, columns * _UNITS, factor * _UNITS)


def small_picture(grey: NDArray[np.uint8], scale: Scale) -> NDArray[np.uint8]:
    """The film at the size of its picture."""
    size = (scale.width // _UNITS, scale.height // _UNITS)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def as_address(grey: NDArray[np.uint8]) -> str:
    """A grey picture as a ``data:`` address, in the best quality that has room."""
    picture, content = Image.fromarray(grey), b""
    while not content or len(content) > MOST_BYTES:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality, optimize=True)
            content = buffer.getvalue()
            if len(content) <= MOST_BYTES:
                break
        picture = picture.reduce(2)
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")


def path_of(segment: Segment, factor: float) -> str:
    """SVG path data of a segment's outline: every part and hole, in drawing units.

    Args:
        segment: The segment.
        factor: Drawing units in a pixel.
    """
    box = segment.box
    left, top = int(box.x), int(box.y)
    mask = decode_mask(segment.mask)[top : top + int(box.height), left : left + int(box.width)]
    found, _ = cv2.findContours(
        np.ascontiguousarray(mask, dtype=np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    parts = []
    for contour in found:
        points = (contour[:, 0, :] + (left + 0.5, top + 0.5)) * factor
        smooth = cv2.approxPolyDP(points.astype(np.float32)[:, None], _SMOOTH_PX * _UNITS, True)
        whole = np.rint(smooth[:, 0, :]).astype(int)
        steps = np.diff(whole, axis=0)
        moves = " ".join(f"{x} {y}" for x, y in steps)
        parts.append(f"M{whole[0][0]} {whole[0][1]}" + (f"l{moves}" if moves else "h1") + "z")
    return "".join(parts)


def _kind(
    segment: Segment, match: int | None, truth: Sequence[Segment], *, complete_truth: bool
) -> str:
    """The class of an outline in the style sheet.

    Args:
        segment: An object.
        match: Place of the true vertebra that it matches.
        truth: True vertebrae.
        complete_truth: Whether these are all in view.
    """
    if segment.structure not in VERTEBRAE:
        return segment.structure.name.lower()
    if match is not None:
        return f"v{match % len(VERTEBRA_COLOURS)}"
    judged = complete_truth or not beyond_truth(segment, truth)
    return "unmatched" if judged else "unjudged"


def outlines_of(
    segments: Sequence[Segment],
    truth: Sequence[Segment],
    factor: float,
    *,
    named: bool = False,
    judged: bool = True,
    complete_truth: bool = True,
) -> tuple[Outline, ...]:
    """Outlines of one answer; vertebrae have the colour of the true one that they match.

    Args:
        segments: The answer; regions are cut into objects.
        truth: True vertebrae, from top to bottom.
        factor: Drawing units in a pixel.
        named: Whether vertebrae carry their level, or a question mark.
        judged: Whether names are held against the truth's.
        complete_truth: Whether the truth holds every vertebra in view; else what lies beyond it
            has a colour of its own.
    """
    objects = list(to_instances(segments))
    kept = {segment.structure for segment in objects}
    objects += [segment for segment in segments if segment.structure not in kept]  # specks
    objects.sort(key=lambda segment: -segment.mask.area)
    del objects[_MOST_OUTLINES:]
    objects.sort(key=lambda segment: segment.structure not in VERTEBRAE)
    bones = [segment for segment in objects if segment.structure in VERTEBRAE]
    match_of = {place: true for true, place, _ in matched_pairs(truth, bones)}
    outlines = []
    for place, segment in enumerate(objects):
        match = match_of.get(place) if place < len(bones) else None
        label = label_kind = ""
        if named and segment.structure in VERTEBRAE:
            true = None if match is None else truth[match].level
            label, label_kind = segment.level or "?", "" if segment.level else "withheld"
            if judged and segment.level and true:
                label_kind = "right" if true == segment.level else "wrong"
                if label_kind == "wrong":
                    label = f"{segment.level} ≠ {true}"
        box = segment.box
        x, y = box.x + box.width / 2, box.y + box.height / 2
        outlines.append(
            Outline(
                path_of(segment, factor),
                _kind(segment, match, truth, complete_truth=complete_truth),
                label,
                label_kind,
                round(x * factor),
                round(y * factor),
            )
        )
    return tuple(outlines)


def true_vertebrae(truth: Sequence[Segment]) -> list[Segment]:
    """True vertebrae from top to bottom, which colours go by."""
    bones = [segment for segment in to_instances(truth) if segment.structure in VERTEBRAE]
    return sorted(bones, key=lambda segment: segment.box.y + segment.box.height / 2)


def draw(
    small: NDArray[np.uint8],
    scale: Scale,
    truth: Sequence[Segment],
    answers: Mapping[str, Sequence[Segment]],
    named: Sequence[str],
    *,
    complete_truth: bool = True,
) -> Drawing:
    """A film with its truth and every answer.

    Args:
        small: Its picture; see :func:`small_picture`.
        scale: Of the film.
        truth: True outlines, with levels where they are known.
        answers: Segments by model.
        named: Models whose segments carry names.
        complete_truth: Whether the truth holds every vertebra in view.
    """
    bones = true_vertebrae(truth)
    levels = any(segment.level for segment in bones)
    return Drawing(
        as_address(small),
        scale.width,
        scale.height,
        {
            name: outlines_of(
                segments, bones, scale.factor, named=name in named, complete_truth=complete_truth
            )
            for name, segments in answers.items()
        },
        outlines_of(truth, bones, scale.factor, named=levels, judged=False),
    )
