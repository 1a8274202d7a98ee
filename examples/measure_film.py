r"""Measures one film with a running zoo, or two films of one patient: a picture and tables.

    .venvs/core/bin/python examples/measure_film.py film.dcm --out answer
    .venvs/core/bin/python examples/measure_film.py before.dcm --compare after.dcm --out answer

writes for each film ``<film>.measures.png`` (corners, endplates, angles, heights),
``<film>.measures.csv`` and ``<film>.measures.json``, and with ``--compare`` ``changes.csv``: the
change of every measure with its uncertainty. A measure that is withheld stands in the tables with
its reason. ``docs/measures.md`` defines all of them.

``--magnification 1.15`` gives lengths in the patient instead of at the detector. Connection and
access are those of ``segment_film.py``. No medical device: whoever treats by a number, measures it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from segment_film import access_of, not_written, read_grey, write_picture, write_whole
from spinezoo_contract.client import DEFAULT_GATEWAY, EnsembleClient
from spinezoo_contract.codec import to_json
from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.measures.compare import compare_films
from spinezoo_contract.measures.tables import UNITS, changes_to_csv, to_csv
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.types import (
    BodyCorner,
    BodyLandmarks,
    EnsembleAnswer,
    EnsembleOptions,
    FilmMeasures,
    Measure,
    MeasureKind,
    MeasureOptions,
    MeasurePlane,
    RodBreak,
)
from spinezoo_contract.words import counted

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

PLATE = (255, 200, 0)
WALL = (86, 180, 233)
CORNER = (255, 80, 60)
LENGTH = (150, 230, 150)
TEXT = (255, 255, 255)

PANEL_PX = 330
"""Width of the list beside the film, on a film of 1000 rows."""

HEIGHTS = (MeasureKind.BODY_HEIGHT_ANTERIOR, MeasureKind.BODY_HEIGHT_POSTERIOR)
CONTOURS = (MeasureKind.DOUBLE_CONTOUR_UPPER, MeasureKind.DOUBLE_CONTOUR_LOWER)

PLANES = {
    None: "no mm: no pixel spacing",
    MeasurePlane.DETECTOR: "mm in the detector plane",
    MeasurePlane.PATIENT: "mm in the patient plane",
    MeasurePlane.UNSAID: "mm in a plane that the film leaves unsaid",
}

LISTED = (
    MeasureKind.LORDOSIS,
    MeasureKind.LUMBOSACRAL_ANGLE,
    MeasureKind.SACRAL_SLOPE,
    MeasureKind.PELVIC_INCIDENCE,
    MeasureKind.PELVIC_TILT,
    MeasureKind.ROD_BREAK_GAP,
)


def main(argv: list[str] | None = None) -> int:
    """Runs the example; returns 0 when every film was measured."""
    parser = argparse.ArgumentParser(description="Measure one film, or compare two.")
    parser.add_argument("film", type=Path, help="DICOM, PNG, JPEG or TIFF")
    parser.add_argument("--compare", type=Path, help="a later film of the same patient")
    parser.add_argument("--magnification", type=float, help="of the spine on the film")
    parser.add_argument("--target", default=DEFAULT_GATEWAY, help="gRPC address of the gateway")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for what is written")
    for name in ("--ca", "--cert", "--key", "--server-name", "--token-file"):
        parser.add_argument(name, help="as in segment_film.py")
    options = parser.parse_args(argv)
    paths = [options.film] + ([options.compare] if options.compare else [])
    # Some file systems know no difference between film.png and FILM.png.
    if len({path.name.casefold() for path in paths}) < len(paths):
        print("both films have one name, and so would what is written; rename one", file=sys.stderr)
        return 1
    found = []
    try:
        asked = EnsembleOptions(measures=MeasureOptions(options.magnification))
        with EnsembleClient(options.target, **access_of(options)) as zoo:
            for path in paths:
                found.append(_measured(zoo.segment(path, asked), path, options.out))
        changes = compare_films(*found) if len(found) == 2 else ()
        if len(found) == 2:
            write_whole(options.out / "changes.csv", changes_to_csv(changes))
    except SpineZooError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(not_written(error), file=sys.stderr)
        return 1
    for change in changes:
        if change.beyond and change.change is not None and change.half_width is not None:
            name = change.kind.name.lower().replace("_", " ")
            unit = UNITS[change.unit]
            print(
                f"{name} {'/'.join(change.levels)}: {change.change:+.1f} {unit} "
                f"(90 % interval of {change.half_width:.1f} to either side)"
            )
    return 0


def _measured(answer: EnsembleAnswer, path: Path, out: Path) -> FilmMeasures:
    """Writes what was measured on one film."""
    measures = answer.fused.measures
    if measures is None:
        raise SpineZooError("the gateway does not measure; it is older than measures")
    out.mkdir(parents=True, exist_ok=True)
    name = f"{path.name}.measures"
    write_whole(out / f"{name}.csv", to_csv(measures))
    text = json.dumps(to_json(measures), indent=2)
    write_whole(out / f"{name}.json", text)
    said = [each for each in measures.measures if each.value is not None]
    print(
        f"{path.name}: {counted(len(said), 'measure')}, {len(measures.measures) - len(said)} "
        "withheld"
    )
    grey = read_grey(path, answer.height, answer.width)
    if grey is not None:
        write_picture(out / f"{name}.png", measures_picture(grey, measures))
    return measures


def measures_picture(grey: NDArray[np.uint8], measures: FilmMeasures) -> Image:
    """The film with corners, endplates, angles and heights, and a list beside it.

    Args:
        grey: (H, W) film.
        measures: What was measured on it.
    """
    from PIL import Image, ImageDraw, ImageFont

    factor = max(1.0, 1400 / grey.shape[0])
    size = (round(grey.shape[1] * factor), round(grey.shape[0] * factor))
    unit = size[1] / 1000
    film = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    picture = Image.new("RGB", (size[0] + round(PANEL_PX * unit), size[1]), (16, 16, 16))
    picture.paste(film, (0, 0))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13 * unit)
    assert isinstance(font, ImageFont.FreeTypeFont)
    by_levels: dict[tuple[str, ...], list[Measure]] = {}
    for measure in measures.measures:
        by_levels.setdefault(measure.levels, []).append(measure)
    for body in measures.bodies:
        _draw_body(pen, body, factor, unit, font)
        _draw_contours(pen, body, by_levels, factor, unit)
    for above, below in zip(measures.bodies, measures.bodies[1:], strict=False):
        _draw_disc(pen, above, below, by_levels, factor, unit, font)
    gaps = [m for m in measures.measures if m.kind is MeasureKind.ROD_BREAK_GAP]
    for broken, gap in zip(measures.rod_breaks, gaps, strict=True):
        _draw_break(pen, broken, gap, factor, unit, font)
    _write_list(pen, measures, size[0] + round(14 * unit), unit)
    return picture


def _places(body: BodyLandmarks, factor: float) -> dict[BodyCorner, tuple[float, float]]:
    return {c.corner: (c.place.x * factor, c.place.y * factor) for c in body.corners}


def _draw_body(
    pen: ImageDraw, body: BodyLandmarks, factor: float, unit: float, font: FreeTypeFont
) -> None:
    """Endplates over their ends, walls, corners, osteophytes, the name."""
    corners = _places(body, factor)
    width = max(1, round(2.4 * unit))
    ends = BodyCorner
    for first, last in (
        (ends.SUPERIOR_POSTERIOR, ends.SUPERIOR_ANTERIOR),
        (ends.INFERIOR_POSTERIOR, ends.INFERIOR_ANTERIOR),
    ):
        if first in corners and last in corners:
            one, other = np.array(corners[first]), np.array(corners[last])
            longer = 0.12 * (other - one)
            pen.line([tuple(one - longer), tuple(other + longer)], fill=PLATE, width=width)
    for first, last in (
        (ends.SUPERIOR_POSTERIOR, ends.INFERIOR_POSTERIOR),
        (ends.SUPERIOR_ANTERIOR, ends.INFERIOR_ANTERIOR),
    ):
        if first in corners and last in corners:
            pen.line([corners[first], corners[last]], fill=WALL, width=max(1, width // 2))
    for x, y in corners.values():
        dot = 3.2 * unit
        pen.ellipse([x - dot, y - dot, x + dot, y + dot], fill=CORNER)
    for spur in body.osteophytes:
        x, y, dot = spur.tip.x * factor, spur.tip.y * factor, 4 * unit
        pen.ellipse([x - dot, y - dot, x + dot, y + dot], outline=CORNER, width=width)
    if corners:
        x, y = np.mean(list(corners.values()), axis=0)
        if body.level == "S1":
            y += 26 * unit
        pen.text((x, y), body.level, fill=TEXT, font=font, anchor="mm", stroke_width=2,
                 stroke_fill=(0, 0, 0))  # fmt: skip


def _draw_contours(
    pen: ImageDraw,
    body: BodyLandmarks,
    by_levels: dict[tuple[str, ...], list[Measure]],
    factor: float,
    unit: float,
) -> None:
    """Where an endplate has a double contour: a short line beside either contour."""
    corners, ends = _places(body, factor), BodyCorner
    heights = [m.value for m in by_levels.get((body.level,), []) if m.value and m.kind in HEIGHTS]
    if len(corners) < 4 or not heights:
        return
    back = np.array([corners[ends.SUPERIOR_POSTERIOR], corners[ends.INFERIOR_POSTERIOR]])
    front = np.array([corners[ends.SUPERIOR_ANTERIOR], corners[ends.INFERIOR_ANTERIOR]])
    down = back[1] - back[0] + front[1] - front[0]
    pixels_a_mm = float(np.hypot(*down)) / 2 / float(np.mean(heights))
    down = down / np.hypot(*down)
    for measure in by_levels.get((body.level,), []):
        if measure.kind not in CONTOURS or measure.low is None or not measure.low > 0.0:
            continue
        which = CONTOURS.index(measure.kind)
        apart = down * float(measure.value or 0.0) * pixels_a_mm / 2
        along = front[which] - back[which]
        for share in (0.35, 0.55):
            for side in (-1.0, 1.0):
                start = back[which] + share * along + side * apart
                pen.line([tuple(start), tuple(start + 0.1 * along)], fill=PLATE,
                         width=max(1, round(unit)))  # fmt: skip


def _draw_disc(
    pen: ImageDraw,
    above: BodyLandmarks,
    below: BodyLandmarks,
    by_levels: dict[tuple[str, ...], list[Measure]],
    factor: float,
    unit: float,
    font: FreeTypeFont,
) -> None:
    """Heights of a disc in front and behind, and its angle and heights in words in front of it.

    Nothing of a disc that was not measured, nor across a vertebra that is missing.
    """
    said = {m.kind: m for m in by_levels.get((above.level, below.level), [])}
    if all(measure.value is None for measure in said.values()):
        return
    one, other = _places(above, factor), _places(below, factor)
    ends = BodyCorner
    for low, high in (
        (ends.INFERIOR_POSTERIOR, ends.SUPERIOR_POSTERIOR),
        (ends.INFERIOR_ANTERIOR, ends.SUPERIOR_ANTERIOR),
    ):
        if low in one and high in other:
            pen.line([one[low], other[high]], fill=LENGTH, width=max(1, round(1.6 * unit)))
    if ends.INFERIOR_ANTERIOR not in one or ends.SUPERIOR_ANTERIOR not in other:
        return
    words = []
    angle = said.get(MeasureKind.DISC_ANGLE)
    if angle is not None and angle.value is not None:
        words.append(f"{angle.value:z.0f}°")
    heights = [
        said[kind].value
        for kind in (MeasureKind.DISC_HEIGHT_ANTERIOR, MeasureKind.DISC_HEIGHT_POSTERIOR)
        if kind in said
    ]
    if all(height is not None for height in heights) and heights:
        words.append("/".join(f"{height:z.0f}" for height in heights) + " mm")
    slip = said.get(MeasureKind.SLIP_PERCENT)
    text = "  ".join(words)
    if slip is not None and slip.grade and slip.value is not None:
        text += f"\nslip {slip.value:+.0f} %, grade {abs(slip.grade)}"
    front = (np.array(one[ends.INFERIOR_ANTERIOR]) + np.array(other[ends.SUPERIOR_ANTERIOR])) / 2
    back = np.mean([corner for corner in one.values()], axis=0)
    right = front[0] > back[0]
    at = (front[0] + (14 if right else -14) * unit, front[1])
    pen.text(at, text, fill=LENGTH, font=font, anchor="lm" if right else "rm",
             stroke_width=2, stroke_fill=(0, 0, 0))  # fmt: skip


def _draw_break(
    pen: ImageDraw, broken: RodBreak, gap: Measure, factor: float, unit: float, font: FreeTypeFont
) -> None:
    """A circle around the gap of a broken rod, and its size."""
    ends = [end for end in (broken.upper_end, broken.lower_end) if end is not None]
    x, y = np.mean([(end.x, end.y) for end in ends], axis=0) * factor
    reach = 13 * unit
    pen.ellipse([x - reach, y - reach, x + reach, y + reach], outline=CORNER, width=round(2 * unit))
    told = "rod broken" if gap.value is None else f"rod broken, {gap.value:.0f} mm"
    pen.text((x, y - 1.4 * reach), told, fill=CORNER, font=font, anchor="mb", stroke_width=2,
             stroke_fill=(0, 0, 0))  # fmt: skip


def _write_list(pen: ImageDraw, measures: FilmMeasures, left: int, unit: float) -> None:
    """Angles of the whole column, fractures and slips, and where lengths are measured."""
    from PIL import ImageFont

    font = ImageFont.load_default(13 * unit)
    small = ImageFont.load_default(11 * unit)
    top = 20 * unit
    for measure in measures.measures:
        loss = measure.kind is MeasureKind.BODY_HEIGHT_LOSS and bool(measure.grade)
        slip = measure.kind is MeasureKind.SLIP_PERCENT and bool(measure.grade)
        if measure.kind not in LISTED and not loss and not slip:
            continue
        name = measure.kind.name.lower().replace("_", " ").capitalize()
        name = f"{name} {'-'.join(measure.levels)}"
        if measure.value is None:
            reason = measure.withheld_reason
            told = "withheld: " + (reason.name.lower().replace("_", " ") if reason else "")
        else:
            unit_name = {"deg": "°"}.get(UNITS[measure.unit], " " + UNITS[measure.unit])
            told = f"{measure.value:z.0f}{unit_name}"
            if measure.low is not None and measure.high is not None:
                told += f"  ({measure.low:z.0f} to {measure.high:z.0f})"
            if measure.grade:
                told += f"  grade {abs(measure.grade)}"
        pen.text((left, top), name, fill=(190, 190, 190), font=small)
        pen.text((left, top + 14 * unit), told, fill=TEXT, font=font)
        top += 40 * unit
    plane = PLANES[measures.plane]
    for line in (
        plane,
        "in brackets: 90 % interval",
        "small circles: osteophytes",
        "two short lines: double contour",
        "no medical device",
    ):
        pen.text((left, top), line, fill=(140, 140, 140), font=small)
        top += 16 * unit


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
