"""Two screws in one blob, on named geometry."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from spinezoo_spine.implant_pairs import parted_pairs

SHAPE = (500, 300)


def screw(x: float, y: float, angle_deg: float = 5.0, length: float = 90.0) -> np.ndarray:
    """A head at (x, y) and a shaft to the right of it."""
    drawn = np.zeros(SHAPE, np.uint8)
    turn = np.radians(angle_deg)
    tip = (round(x + length * np.cos(turn)), round(y + length * np.sin(turn)))
    cv2.circle(drawn, (round(x), round(y)), 10, 1, -1)
    cv2.line(drawn, (round(x), round(y)), tip, 1, 12)
    return drawn > 0


SINGLES = [screw(80, 60), screw(84, 440, -10)]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (screw(80, 200), screw(80, 211)),
        (screw(80, 200), screw(92, 212)),
        (screw(80, 200, -2), screw(78, 210, 6)),
        (screw(80, 200, 5), screw(80, 214, 5, 70)),
    ],
    ids=["side by side", "one further in", "spread", "one shorter"],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_blob_of_two_screws_is_two(one: np.ndarray, two: np.ndarray, mirrored: bool) -> None:
    assert iou(one, one | two) < 0.75
    masks = [SINGLES[0], one | two, SINGLES[1]]
    if mirrored:
        masks, one, two = [mask[:, ::-1] for mask in masks], one[:, ::-1], two[:, ::-1]
    found = parted_pairs(masks)
    assert len(found) == 4
    assert (found[0] == masks[0]).all()
    assert (found[-1] == masks[-1]).all()
    best = [max(iou(part, truth) for part in found[1:3]) for truth in (one, two)]
    assert min(best) > 0.7
    assert np.mean(best) > 0.8


def test_single_screws_and_pairs_that_cover_each_other_stay() -> None:
    masks = [*SINGLES, screw(80, 200), screw(82, 300) | screw(83, 301)]
    found = parted_pairs(masks)
    assert len(found) == 4
    assert all((a == b).all() for a, b in zip(found, masks, strict=True))


def test_a_film_of_pairs_alone_has_nothing_to_compare_with() -> None:
    pairs = [screw(80, y) | screw(80, y + 11) for y in (60, 200, 340)]
    assert len(parted_pairs(pairs)) == 3


def test_nothing_a_dot_and_a_speck_beside_screws() -> None:
    assert parted_pairs([]) == []
    dot = np.zeros(SHAPE, bool)
    dot[250:252, 100:102] = True
    assert len(parted_pairs([dot])) == 1
    assert len(parted_pairs([*SINGLES, dot])) == 3
