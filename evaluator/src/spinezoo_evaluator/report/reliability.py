"""How far names can be trusted: coverage against wrong names, and confidence against the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from spinezoo_evaluator.report.names import ordered_names
from spinezoo_evaluator.report.tables import Table

Names = Sequence[Sequence[Any]]
"""Of each vertebra: the likeliest name's confidence, and whether it is right."""

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Confidences from which names might be given."""

BINS = 10
"""Bins of one width, from 0 to 1."""

NAMES_FILE = "names.png"

_COLOURS = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (235, 235, 235),
)
_INK, _SOFT, _BACK = (235, 235, 235), (95, 100, 108), (18, 20, 24)


def given_from(names: Names, threshold: float) -> tuple[float, float]:
    """Shares of right and of wrong names, were they given from a confidence on."""
    if not names:
        return 0.0, 0.0
    right = sum(bool(ok) for confidence, ok in names if confidence >= threshold)
    wrong = sum(not ok for confidence, ok in names if confidence >= threshold)
    return right / len(names), wrong / len(names)


def bins_of(names: Names) -> list[tuple[float, float, int]]:
    """Mean confidence, share of right names and number of names of each bin that has any."""
    sorted_in: list[list[Sequence[Any]]] = [[] for _ in range(BINS)]
    for each in names:
        sorted_in[min(BINS - 1, int(each[0] * BINS))].append(each)
    return [
        (
            float(np.mean([confidence for confidence, _ in some])),
            float(np.mean([bool(ok) for _, ok in some])),
            len(some),
        )
        for some in sorted_in
        if some
    ]


def calibration_error(names: Names) -> float | None:
    """Expected calibration error, 0 to 1; None without names."""
    if not names:
        return None
    total = len(names)
    return sum(count / total * abs(right - said) for said, right, count in bins_of(names))


def curve_table(models: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> Table:
    """One row a model: right and wrong names by threshold, in percent."""
    rows = []
    for model in ordered_names(models):
        names = models[model]["names"]
        cells = (given_from(names, threshold) for threshold in THRESHOLDS)
        rows.append(
            [titles.get(model, model), *(f"{100 * r:.1f} / {100 * w:.1f}" for r, w in cells)]
        )
    return ["right / wrong from", *(f"{threshold:g}" for threshold in THRESHOLDS)], rows


def calibration_table(models: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> Table:
    """One row a model: the expected calibration error, and share right by confidence."""
    rows = []
    for model in ordered_names(models):
        names = models[model]["names"]
        error = calibration_error(names)
        by_bin = {min(BINS - 1, int(said * BINS)): (right, n) for said, right, n in bins_of(names)}
        cells = [
            f"{100 * by_bin[place][0]:.0f} ({by_bin[place][1]})" if place in by_bin else "–"
            for place in range(BINS // 2, BINS)
        ]
        said = "–" if error is None else f"{100 * error:.1f}"
        rows.append([titles.get(model, model), said, *cells])
    header = ["in percent", "calibration error"]
    header += [f"{place / BINS:g} to {(place + 1) / BINS:g}" for place in range(BINS // 2, BINS)]
    return header, rows


def names_picture(
    models: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]
) -> Image.Image:
    """Coverage against wrong names on the left, confidence against right names on the right."""
    side, edge = 420, 56
    picture = Image.new("RGB", (2 * (side + 2 * edge), side + 2 * edge + 24), _BACK)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    most_wrong = 0.2
    panels = (
        ("share of wrong names", "share of right names", most_wrong),
        ("confidence", "share of right names", 1.0),
    )
    corners = []
    for number, (across, up, reach) in enumerate(panels):
        left, top = edge + number * (side + 2 * edge), 24
        corners.append((left, top))
        draw.rectangle((left, top, left + side, top + side), outline=_SOFT)
        for tick in range(0, 11, 2):
            x, y = left + side * tick / 10, top + side - side * tick / 10
            draw.line((x, top, x, top + side), fill=(40, 42, 48))
            draw.line((left, y, left + side, y), fill=(40, 42, 48))
            draw.text((x - 10, top + side + 4), f"{reach * tick / 10:g}", fill=_INK, font=font)
            draw.text((left - 34, y - 8), f"{tick / 10:g}", fill=_INK, font=font)
        draw.text((left + side / 2 - 60, top + side + 24), across, fill=_INK, font=font)
        draw.text((left, top - 20), up, fill=_INK, font=font)
    (left, top), (other, _) = corners
    draw.line((other, top + side, other + side, top), fill=_SOFT)
    for number, model in enumerate(ordered_names(models)):
        colour = _COLOURS[number % len(_COLOURS)]
        names = models[model]["names"]
        shares = [given_from(names, t) for t in np.linspace(1.0, 0.0, 101)]
        curve = [
            (left + side * min(wrong / most_wrong, 1.0), top + side * (1 - right))
            for right, wrong in shares
        ]
        if names:
            draw.line(curve, fill=colour, width=2)
        points = [
            (other + side * said, top + side * (1 - right)) for said, right, _ in bins_of(names)
        ]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        for x, y in points:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        place = (left + 12 + side * 0.5, top + side - 20 * (len(models) - number) - 8)
        draw.text(place, titles.get(model, model), fill=colour, font=font)
    return picture
