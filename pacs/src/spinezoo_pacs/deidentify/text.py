"""Text that is burned into a film: found by the look of its letters, and blanked.

Writing on a film is drawn with one grey level, in strokes of one width, as letters of one height
beside each other. Implants and bones are not. Lines of at least three letters are found; a single
marker letter, as it stands on most films, is not text and stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MIDDLE = (0.35, 0.65)
"""Share of the film's width and of its height between which its middle lies."""

EDGE = 0.2
"""Share of the width, at the left and at the right, where text that runs upwards is found."""

CONTRASTS = ((120, 12, 0.45, 3), (70, 12, 0.45, 3), (45, 10, 0.5, 5), (30, 8, 0.5, 5))
"""Least contrast of letters against what is around them, greatest spread of their level (both of
255), share of a letter's pixels that keep to it, and letters beside each other that make a line:
more where they are faint, since ribs and gas give faint marks. Fainter text is missed."""


@dataclass(frozen=True, slots=True)
class TextBox:
    """Where a line of text stands, in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    def in_the_middle(self, height: int, width: int) -> bool:
        """Whether blanking it could take away a part of the spine."""
        first, last = MIDDLE
        return (
            self.right > first * width
            and self.left < last * width
            and self.bottom > first * height
            and self.top < last * height
        )


def find_text(pixels: NDArray[np.generic]) -> list[TextBox]:
    """Lines of text on a film, level or upright along an edge.

    Args:
        pixels: (height, width) grey levels of any type.
    """
    grey = pixels.astype(np.float32)
    low, high = float(grey.min()), float(grey.max())
    if high <= low:
        return []
    scaled = ((grey - low) * (255.0 / (high - low))).astype(np.uint8)
    found: list[TextBox] = []
    for picture in (scaled, 255 - scaled):
        found += _lines(picture)
        # Turned by 90 degrees: what ran up or down an edge is level.
        width = picture.shape[1]
        for box in _lines(np.ascontiguousarray(np.rot90(picture))):
            turned = TextBox(width - box.bottom, box.left, width - box.top, box.right)
            # Elsewhere screws beside each other look like that; they stay.
            if turned.right <= EDGE * width or turned.left >= (1.0 - EDGE) * width:
                found.append(turned)
    return found


def _lines(picture: NDArray[np.uint8]) -> list[TextBox]:
    """Lines of letters that are brighter than what is around them."""
    size = max(9, (picture.shape[0] // 40) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (size, size))
    strokes = cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, kernel)
    found: list[TextBox] = []
    for contrast, tolerance, share, least in CONTRASTS:
        letters = _letters(picture, strokes > contrast, tolerance, share)
        found += [_around(group) for group in _groups(letters) if len(group) >= least]
    return found


def _letters(
    picture: NDArray[np.uint8], marked: NDArray[np.bool_], tolerance: float, share: float
) -> list[tuple[int, int, int, int]]:
    """Boxes of marks that look like letters: left, top, right, bottom; from the left."""
    height = picture.shape[0]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        marked.astype(np.uint8), connectivity=8
    )
    letters = []
    for number in range(1, count):
        left, top, wide, tall, area = (int(value) for value in stats[number])
        if not (6 <= tall <= height * 0.08 and 1 <= wide <= 2 * tall and area >= 8):
            continue
        levels = picture[top : top + tall, left : left + wide][
            labels[top : top + tall, left : left + wide] == number
        ]
        peak = float(np.percentile(levels, 90))
        # One level but for the smooth rim of the letters.
        if float((np.abs(levels - peak) <= tolerance).mean()) < share:
            continue
        letters.append((left, top, left + wide, top + tall))
    return sorted(letters)


def _groups(letters: list[tuple[int, int, int, int]]) -> list[list[tuple[int, int, int, int]]]:
    """Letters of one line: next to each other, of like height, on one base line."""
    groups: list[list[tuple[int, int, int, int]]] = []
    for letter in letters:
        for group in groups:
            last = group[-1]
            tall, mine = last[3] - last[1], letter[3] - letter[1]
            if (
                letter[0] - last[2] <= 1.2 * max(tall, mine)
                and 0.5 <= mine / tall <= 2.0
                and abs(letter[3] - last[3]) <= 0.35 * max(tall, mine)
            ):
                group.append(letter)
                break
        else:
            groups.append([letter])
    return groups


def _around(group: list[tuple[int, int, int, int]]) -> TextBox:
    boxes = np.array(group)
    tall = int((boxes[:, 3] - boxes[:, 1]).max())
    left, top = boxes[:, 0].min() - tall, boxes[:, 1].min() - tall // 2
    right, bottom = boxes[:, 2].max() + tall, boxes[:, 3].max() + tall // 2
    return TextBox(int(left), int(top), int(right), int(bottom))


def blanked(pixels: NDArray[np.generic], boxes: list[TextBox]) -> NDArray[np.generic]:
    """A copy in which each box has the darkest level of the film."""
    made = pixels.copy()
    height, width = made.shape
    for box in boxes:
        rows = slice(max(0, box.top), min(height, box.bottom))
        columns = slice(max(0, box.left), min(width, box.right))
        made[rows, columns] = made.min()
    return made
