"""From class probabilities to regions at the film's size: pixels of the plain way, less work."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from spinezoo_contract.masks import decode_mask, encode_mask
from spinezoo_contract.types import Structure
from spinezoo_spine.inference.class_planes import ClassPlanes
from spinezoo_spine.inference.postprocess import regions_from_probabilities
from spinezoo_spine.inference.preprocess import Letterbox

STRUCTURES = tuple(Structure)
CANVAS = (320, 256)


def on_film(plane: np.ndarray, fit: Letterbox) -> np.ndarray:
    canvas = cv2.resize(plane, (fit.canvas_width, fit.canvas_height))
    part = canvas[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width]
    return cv2.resize(part, (fit.film_width, fit.film_height))


def plain(
    probabilities: np.ndarray, fit: Letterbox, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every plane at the film's size, compared there: label, its probability, its lead."""
    planes = np.stack([on_film(plane, fit) for plane in probabilities])
    label = planes.argmax(axis=0)
    best = planes.max(axis=0)
    label[best < threshold] = 0
    second, first = np.sort(planes, axis=0)[-2:]
    lead = np.minimum(first - second, np.abs(best - threshold) if threshold else 1.0)
    return label, best, lead


def probabilities(
    rng: np.random.Generator, grid: tuple[int, int], classes: Sequence[int]
) -> np.ndarray:
    """Soft blobs of some classes, which meet, cross and reach over the border."""
    height, width = grid
    logits = np.zeros((1 + len(STRUCTURES), height, width), dtype=np.float32)
    logits[1:] = -6.0
    for number in classes:
        drawn = np.zeros(grid, dtype=np.float32)
        for _ in range(int(rng.integers(1, 5))):
            centre = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
            axes = (float(rng.uniform(2, width / 2)), float(rng.uniform(1, height / 5)))
            cv2.ellipse(drawn, (centre, axes, float(rng.uniform(0, 180))), 1.0, -1)
        soft = cv2.GaussianBlur(drawn, (0, 0), 1.2)
        logits[number] += 12.0 * soft + rng.normal(0.0, 1.0, grid).astype(np.float32) * soft
    exp = np.exp(logits)
    return exp / exp.sum(axis=0)


@pytest.mark.parametrize("threshold", [0.0, 0.6])
@pytest.mark.parametrize(
    ("film", "grid"),
    [
        ((1024, 768), CANVAS),
        ((2048, 700), CANVAS),
        ((701, 333), (80, 64)),
        ((90, 300), CANVAS),
        ((320, 256), CANVAS),
        ((17, 16), CANVAS),
        ((16, 9000), CANVAS),
        ((6000, 16), (40, 32)),
    ],
)
def test_regions_are_those_of_resizing_every_plane(
    film: tuple[int, int], grid: tuple[int, int], threshold: float
) -> None:
    rng = np.random.default_rng([*film, *grid])
    fit = Letterbox.fit(*film, *CANVAS)
    seen = 0
    for classes in ((1,), (1, 2), (1, 2, 3, 4, 5), (5,)):
        soft = probabilities(rng, grid, classes)
        label, best, lead = plain(soft, fit, threshold)
        found = regions_from_probabilities(
            ClassPlanes.whole(soft), STRUCTURES, fit, score_threshold=threshold
        )
        assert [each.score for each in found] == sorted((e.score for e in found), reverse=True)
        by_structure = {segment.structure: segment for segment in found}
        for structure in STRUCTURES:
            expected = label == int(structure)
            segment = by_structure.get(structure)
            pixels = np.zeros(film, bool) if segment is None else decode_mask(segment.mask)
            # Only where two classes are equal, or at the threshold, to the last bits of a float32.
            assert (lead[pixels != expected] < 1e-5).all()
            assert np.count_nonzero(pixels != expected) <= 1e-5 * expected.size
            if segment is not None:
                seen += 1
                assert segment.mask == encode_mask(pixels)
                assert segment.score == pytest.approx(best[pixels].mean(), abs=1e-5)
    assert seen >= (4 if min(film) > 16 else 1)


def test_a_class_between_two_others_wins_where_none_of_its_corners_does() -> None:
    """Two classes of 0.55 beside each other, a third of 0.45 under both: it wins between them."""
    fit = Letterbox.fit(640, 512, *CANVAS)
    soft = np.zeros((6, *CANVAS), np.float32)
    soft[1, :160], soft[2, 160:], soft[3] = 0.55, 0.55, 0.45
    label, _, _ = plain(soft, fit, 0.0)
    assert (label == 3).any()
    found = {
        s.structure: s
        for s in regions_from_probabilities(
            ClassPlanes.whole(soft), STRUCTURES, fit, score_threshold=0.0
        )
    }
    assert np.array_equal(decode_mask(found[Structure.CAGE].mask), label == 3)


def test_nothing_but_background_is_no_region() -> None:
    fit = Letterbox.fit(640, 512, *CANVAS)
    soft = np.zeros((6, *CANVAS), np.float32)
    soft[0] = 1.0
    assert (
        regions_from_probabilities(ClassPlanes.whole(soft), STRUCTURES, fit, score_threshold=0.0)
        == ()
    )


def test_one_class_everywhere_fills_the_film() -> None:
    fit = Letterbox.fit(640, 300, *CANVAS)
    soft = np.zeros((6, *CANVAS), np.float32)
    soft[4] = 0.75
    (found,) = regions_from_probabilities(
        ClassPlanes.whole(soft), STRUCTURES, fit, score_threshold=0.0
    )
    assert found.structure is Structure.SCREW
    assert found.score == pytest.approx(0.75)
    assert found.mask.area == 640 * 300


def test_the_regions_of_highest_score_are_kept() -> None:
    fit = Letterbox.fit(*CANVAS, *CANVAS)
    soft = np.zeros((6, *CANVAS), np.float32)
    soft[0] = 0.5
    soft[1, 20:40], soft[5, 60:90] = 0.7, 0.8
    found = regions_from_probabilities(
        ClassPlanes.whole(soft), STRUCTURES, fit, score_threshold=0.0, max_segments=1
    )
    assert [segment.structure for segment in found] == [Structure.ROD]


@pytest.mark.parametrize("threshold", [0.0, 0.6])
@pytest.mark.parametrize("grid", [CANVAS, (160, 128), (80, 64), (96, 64)])
@pytest.mark.parametrize("film", [(1024, 768), (700, 333), (320, 256), (16, 9000), (6000, 16)])
def test_what_is_left_out_of_logits_is_background(
    film: tuple[int, int], grid: tuple[int, int], threshold: float
) -> None:
    rng = np.random.default_rng([*film, *grid])
    fit = Letterbox.fit(*film, *CANVAS)
    left_out = 0
    for classes in ((1,), (3,), (5,), (1, 2, 5), ()):
        logits = np.log(probabilities(rng, grid, classes)).astype(np.float32)
        whole = ClassPlanes.of_logits(logits, CANVAS, everywhere=True)
        part = ClassPlanes.of_logits(logits, CANVAS)
        assert whole.values.shape[1:] == CANVAS == part.size == whole.size
        rows = slice(part.top, part.top + part.values.shape[1])
        columns = slice(part.left, part.left + part.values.shape[2])
        assert np.array_equal(part.values, whole.values[:, rows, columns])
        beyond = whole.values.argmax(axis=0) > 0
        beyond[rows, columns] = False
        assert not beyond.any()
        left_out += part.values.size < whole.values.size
        found, expected = (
            regions_from_probabilities(each, STRUCTURES, fit, score_threshold=threshold)
            for each in (part, whole)
        )
        assert [(s.structure, s.mask) for s in found] == [(s.structure, s.mask) for s in expected]
        assert [s.score for s in found] == pytest.approx([s.score for s in expected], abs=1e-9)
    assert left_out >= 1 or grid == (96, 64)


def test_a_window_may_lie_beyond_the_film() -> None:
    """A network that sees something only in the bars around a film has found nothing."""
    fit = Letterbox.fit(320, 64, *CANVAS)
    logits = np.zeros((6, *CANVAS), np.float32)
    logits[1:] = -5.0
    logits[1, 40:80, 10:30] = 5.0
    part = ClassPlanes.of_logits(logits, CANVAS)
    assert regions_from_probabilities(part, STRUCTURES, fit, score_threshold=0.0) == ()
