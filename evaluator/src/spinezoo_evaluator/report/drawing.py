"""Pictures of answers: truth and every network side by side, in the manner of the study's Figure 3.

Colours say what is what, not who said it: a vertebra has the colour of the true vertebra that it
matches at IoU >= 0.5, the same in every column, so that a row is compared at a glance. What matches
none (a false or a badly drawn one, or several fused into one blob) is red; grey where the truth is
not complete and cannot judge it. Implants have one colour a structure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import VERTEBRAE, Film, Segment, Structure
from spinezoo_spine.inference.preprocess import unit_grey
from spinezoo_spine.instances import to_instances
from spinezoo_spine.metrics.matching import MATCH_IOU

from spinezoo_evaluator.results.columns import beyond_truth

Colour = tuple[int, int, int]

VERTEBRA_COLOURS: tuple[Colour, ...] = (
    (86, 180, 233),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (90, 110, 255),
    (165, 140, 240),
    (180, 130, 90),
)
"""Of the true vertebrae from top to bottom; neighbours differ, also for colour-blind eyes."""

UNMATCHED_COLOUR: Colour = (230, 30, 30)

UNJUDGED_COLOUR: Colour = (184, 190, 198)

IMPLANT_COLOURS: Mapping[Structure, Colour] = {
    Structure.CAGE: (255, 140, 255),
    Structure.SCREW: (0, 255, 255),
    Structure.ROD: (180, 255, 0),
}

_BACKGROUND: Colour = (18, 20, 24)
_INK: Colour = (235, 235, 235)
_SOFT_INK: Colour = (165, 170, 178)
_GAP = 8
_FILL_WEIGHT = 0.38


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a row.

    Attributes:
        title: Who answered.
        caption: What it is worth; several lines.
        segments: Outlines, or None where there is no answer: the film is shown dimmed.
        plain: Whether to show the film without outlines.
        named: Whether to write the levels of the segments into the picture.
    """

    title: str
    caption: str = ""
    segments: tuple[Segment, ...] | None = ()
    plain: bool = False
    named: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One film with several answers.

    Attributes:
        heading: Above the row.
        film: The film.
        truth: Its outlines, which colours go by.
        tiles: From left to right.
        complete_truth: Whether the truth holds every vertebra in view.
    """

    heading: str
    film: Film
    truth: tuple[Segment, ...]
    tiles: tuple[Tile, ...]
    complete_truth: bool = True


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def grey_picture(film: Film) -> NDArray[np.uint8]:
    """The film as (height, width) 8-bit grey, stretched to the range that its pixels use."""
    grey = unit_grey(film.pixels)
    low, high = np.percentile(grey[::4, ::4], (0.5, 99.5))
    stretched = (grey - low) / max(float(high - low), 1e-6)
    return (np.clip(stretched, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def colours_of(
    segments: Sequence[Segment], truth: Sequence[Segment], *, complete_truth: bool = True
) -> list[Colour]:
    """One colour a segment; see the module's text.

    Args:
        segments: Instances.
        truth: True instances of the same film.
        complete_truth: Whether these hold every vertebra in view.
    """
    true_vertebrae = sorted(
        (segment for segment in truth if segment.structure in VERTEBRAE),
        key=lambda segment: segment.box.y + segment.box.height / 2,
    )
    encoded = [
        {"size": [s.mask.height, s.mask.width], "counts": s.mask.counts} for s in true_vertebrae
    ]
    colours = []
    for segment in segments:
        if segment.structure not in VERTEBRAE:
            colours.append(IMPLANT_COLOURS[segment.structure])
            continue
        judged = complete_truth or not beyond_truth(segment, true_vertebrae)
        colour = UNMATCHED_COLOUR if judged else UNJUDGED_COLOUR
        if encoded:
            mask = segment.mask
            own = [{"size": [mask.height, mask.width], "counts": mask.counts}]
            overlaps = coco_mask.iou(own, encoded, [0] * len(encoded))[0]
            best = int(np.argmax(overlaps))
            if overlaps[best] >= MATCH_IOU:
                colour = VERTEBRA_COLOURS[best % len(VERTEBRA_COLOURS)]
        colours.append(colour)
    return colours


def overlay(
    grey: NDArray[np.uint8],
    segments: Sequence[Segment],
    truth: Sequence[Segment],
    height: int,
    width: int,
    *,
    complete_truth: bool = True,
) -> NDArray[np.uint8]:
    """A film with outlines: filled lightly, with a contour, vertebrae below implants.

    Args:
        grey: The film; see :func:`grey_picture`.
        segments: Outlines; regions are cut into components first.
        truth: True outlines, which colours go by.
        height: Rows of the picture.
        width: Columns of the picture.
        complete_truth: Whether the truth holds every vertebra in view.

    Returns:
        (height, width, 3) RGB.
    """
    small = np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    picture: NDArray[np.uint8] = np.repeat(small[:, :, None], 3, axis=2)
    instances = list(to_instances(segments))
    # Regions of specks only would vanish; what a network said is shown.
    kept = {segment.structure for segment in instances}
    instances += [segment for segment in segments if segment.structure not in kept]
    instances.sort(key=lambda segment: segment.structure not in VERTEBRAE)
    colours = colours_of(instances, to_instances(truth), complete_truth=complete_truth)
    thickness = max(1, round(height / 350))
    scale_xy = np.array([width / grey.shape[1], height / grey.shape[0]])
    for segment, colour in zip(instances, colours, strict=True):
        _draw(picture, segment, colour, scale_xy, thickness)
    return picture


def _draw(
    picture: NDArray[np.uint8],
    segment: Segment,
    colour: Colour,
    scale_xy: NDArray[np.float64],
    thickness: int,
) -> None:
    """Draws one outline into a picture; works on the segment's box only."""
    box = segment.box
    left, top = int(box.x), int(box.y)
    crop = decode_mask(segment.mask)[top : top + int(box.height), left : left + int(box.width)]
    outlines, _ = cv2.findContours(
        np.ascontiguousarray(crop, dtype=np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    low = np.floor(np.array([left, top]) * scale_xy).astype(int) - 1 - thickness
    low = np.maximum(low, 0)
    high = np.ceil(np.array([left + box.width, top + box.height]) * scale_xy).astype(int)
    part = picture[low[1] : high[1] + 1 + thickness, low[0] : high[0] + 1 + thickness]
    # Points are pixel centres; OpenCV counts from those as well, in 16ths of a pixel.
    corner = np.array([left + 0.5, top + 0.5])
    points = [
        np.rint(((outline + corner) * scale_xy - 0.5 - low) * 16).astype(np.int32)
        for outline in outlines
    ]
    filled = np.zeros(part.shape[:2], dtype=np.uint8)
    cv2.fillPoly(filled, points, 255, cv2.LINE_AA, shift=4)
    weight = (filled.astype(np.float32) * (_FILL_WEIGHT / 255.0))[:, :, None]
    tinted = part * (1.0 - weight) + np.array(colour, dtype=np.float32) * weight
    part[:] = tinted.astype(np.uint8)
    drawn = np.ascontiguousarray(part)
    cv2.polylines(drawn, points, True, colour, thickness, cv2.LINE_AA, shift=4)
    part[:] = drawn


def _tile_picture(
    row: Row, grey: NDArray[np.uint8], tile: Tile, height: int, width: int
) -> Image.Image:
    segments = () if tile.segments is None or tile.plain else tile.segments
    drawn = overlay(grey, segments, row.truth, height, width, complete_truth=row.complete_truth)
    picture = Image.fromarray(drawn)
    if tile.named:
        _write_names(picture, segments, width / row.film.width, height / row.film.height)
    if tile.segments is None:
        picture = Image.blend(picture, Image.new("RGB", picture.size, _BACKGROUND), 0.75)
        pen = ImageDraw.Draw(picture)
        font = _font(max(12, height // 24))
        pen.text((width / 2, height / 2), "no answer", _INK, font=font, anchor="mm")
    return picture


def _write_names(
    picture: Image.Image, segments: Sequence[Segment], scale_x: float, scale_y: float
) -> None:
    """Writes each vertebra's level, or a question mark, at the middle of its box."""
    pen = ImageDraw.Draw(picture)
    font = _font(max(11, picture.height // 32))
    for segment in segments:
        if segment.structure not in VERTEBRAE:
            continue
        box = segment.box
        place = ((box.x + box.width / 2) * scale_x, (box.y + box.height / 2) * scale_y)
        text = segment.level or "?"
        pen.text(place, text, _INK, font=font, anchor="mm", stroke_width=2, stroke_fill=_BACKGROUND)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Breaks lines that are wider than ``width`` pixels, at spaces where there are any."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return "\n".join(lines)


def _text_height(text: str, font_size: int) -> int:
    return (text.count("\n") + 1) * round(font_size * 1.3)


def sheet(
    rows: Sequence[Row], *, tile_height: int = 460, title: str = "", columns: int | None = None
) -> Image.Image:
    """A picture sheet: one block of tiles a row, headings above, captions below, a legend last.

    Args:
        rows: The films.
        tile_height: Height of a film in pixels; widths follow from the films.
        title: Above everything; may be empty.
        columns: Tiles beside each other before a block breaks into lines; None: all.
    """
    size = max(14, round(tile_height / 25))
    small = max(12, round(tile_height / 31))
    font, small_font, big_font = _font(size), _font(small), _font(round(size * 1.35))
    blocks = []
    for row in rows:
        width = round(tile_height * row.film.width / row.film.height)
        width = min(max(width, tile_height // 3), tile_height * 2)
        per_line = columns or len(row.tiles)
        captions = [_wrapped(tile.caption, small_font, width) for tile in row.tiles]
        caption_height = max(_text_height(text, small) for text in captions)
        line_height = _text_height("", size) + tile_height + caption_height + 2 * _GAP
        lines = -(-len(row.tiles) // per_line)
        blocks.append((row, width, per_line, captions, line_height, lines))
    total_width = 2 * _GAP + max(
        per_line * (width + _GAP) - _GAP for _, width, per_line, *_ in blocks
    )
    heading_height = round(size * 1.9)
    title_height = round(size * 2.4) if title else 0
    legend_height = round(size * 2.2)
    total_height = (
        title_height
        + sum(
            (heading_height if row.heading else _GAP) + lines * line_height
            for row, _, _, _, line_height, lines in blocks
        )
        + legend_height
    )
    picture = Image.new("RGB", (total_width, total_height), _BACKGROUND)
    pen = ImageDraw.Draw(picture)
    y = 0
    if title:
        pen.text((_GAP, title_height / 2), title, _INK, font=big_font, anchor="lm")
        y = title_height
    for row, width, per_line, captions, line_height, lines in blocks:
        grey = grey_picture(row.film)
        if row.heading:
            heading = _shortened(row.heading, font, total_width - 2 * _GAP)
            pen.text((_GAP, y + heading_height / 2), heading, _INK, font=font, anchor="lm")
            y += heading_height
        else:
            y += _GAP
        for index, (tile, caption) in enumerate(zip(row.tiles, captions, strict=True)):
            x = _GAP + (index % per_line) * (width + _GAP)
            top = y + (index // per_line) * line_height
            name = _shortened(tile.title, font, width)
            pen.text((x, top), name, _INK, font=font)
            top += _text_height("", size)
            picture.paste(_tile_picture(row, grey, tile, tile_height, width), (x, top))
            pen.multiline_text(
                (x, top + tile_height + _GAP // 2), caption, _SOFT_INK, font=small_font, spacing=3
            )
        y += lines * line_height
    complete = all(row.complete_truth for row in rows)
    unnamed = any(_has_unnamed(tile) for row in rows for tile in row.tiles)
    _draw_legend(
        pen, y, legend_height, total_width, small, complete_truth=complete, unnamed=unnamed
    )
    return picture


def _has_unnamed(tile: Tile) -> bool:
    """Whether a question mark stands on a tile."""
    said = tile.segments if tile.named and tile.segments else ()
    return any(each.structure in VERTEBRAE and not each.level for each in said)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _draw_legend(
    pen: ImageDraw.ImageDraw,
    top: int,
    height: int,
    width: int,
    font_size: int,
    *,
    complete_truth: bool,
    unnamed: bool,
) -> None:
    entries: list[tuple[tuple[Colour, ...], str]] = [
        (
            VERTEBRA_COLOURS[:4],
            "vertebra, coloured as the true one it matches (IoU 0.5 or more)",
        ),
        ((UNMATCHED_COLOUR,), "vertebra that matches no true one"),
        *(
            ((colour,), structure.name.lower().replace("_", " "))
            for structure, colour in IMPLANT_COLOURS.items()
        ),
    ]
    if not complete_truth:
        entries.insert(2, ((UNJUDGED_COLOUR,), "sacral, or above the truth: not judged"))
    if unnamed:
        entries.append(((), "?  no name is given"))

    def needed(size: int) -> float:
        font = _font(size)
        return sum(len(c) * size + font.getlength(text) + 2.2 * size for c, text in entries)

    size = font_size
    while size > 9 and needed(size) > width - 2 * _GAP:
        size -= 1
    font = _font(size)
    x, middle = float(_GAP), top + height / 2
    for colours, text in entries:
        for colour in colours:
            box = (x, middle - size * 0.45, x + size * 0.9, middle + size * 0.45)
            pen.rectangle(box, fill=colour)
            x += size
        pen.text((x + size * 0.3, middle), text, _SOFT_INK, font=font, anchor="lm")
        x += font.getlength(text) + 1.6 * size
