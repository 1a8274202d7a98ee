"""Rods redrawn along the edges of the film: films drawn here, members' outlines blurred on purpose.

The films are bright bands on a darker ground with noise, the members' outlines blobs around them:
what is tested is that the rods are told from the film, not from the outlines.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.masks import decode_mask, encode_mask
from spinezoo_contract.types import (
    Film,
    FusedImplant,
    FusionOptions,
    FusionRule,
    Segment,
    SegmentKind,
    Structure,
)
from spinezoo_spine.fusion import ribbons, rods
from spinezoo_spine.fusion.implants import Implants, implants_of
from spinezoo_spine.fusion.rods import fuse_implants_on_film, redrawn_rods

ROD, SCREW, CAGE = Structure.ROD, Structure.SCREW, Structure.CAGE
SHAPE = (1000, 400)
BREADTH = 18
MEMBERS = ("a", "b", "c")

Mask = NDArray[np.bool_]
Line = tuple[tuple[int, int], tuple[int, int]]

ONE: tuple[Line, ...] = (((200, 200), (220, 800)),)
CROSSING: tuple[Line, ...] = (((175, 150), (215, 850)), ((215, 220), (170, 780)))


def band(line: Line, breadth: float = BREADTH, shape: tuple[int, int] = SHAPE) -> Mask:
    """A rod with square ends."""
    (x0, y0), (x1, y1) = line
    along = np.array([x1 - x0, y1 - y0]) / math.hypot(x1 - x0, y1 - y0)
    side = np.array([-along[1], along[0]]) * breadth / 2
    ends = np.array([[x0, y0], [x1, y1]], dtype=np.float64)
    corners = np.stack([ends[0] + side, ends[1] + side, ends[1] - side, ends[0] - side])
    drawn = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(drawn, [np.rint(corners).astype(np.int32)], 1)
    return drawn > 0


def film_of(
    bands: list[Mask], *, bright: tuple[Mask, ...] = (), shape: tuple[int, int] = SHAPE
) -> NDArray[np.uint16]:
    """A film where what lies on each other adds up, with noise."""
    noise = np.random.default_rng(5).normal(0.0, 150.0, shape)
    film = 12_000.0 + noise + np.linspace(0.0, 4000.0, shape[1])
    for each in bands:
        film += 5000.0 * each
    for each in bright:
        film += 20_000.0 * each
    return np.clip(film, 0, 65_535).astype(np.uint16)


def grown(mask: Mask, pixels: int) -> Mask:
    size = 2 * pixels + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0


def one(structure: Structure, mask: Mask, kind: SegmentKind = SegmentKind.REGION) -> Segment:
    encoded = encode_mask(mask)
    return Segment(structure, kind, encoded, 0.9, encoded.box)


def said(blob: Mask, *others: Segment, members: tuple[str, ...] = MEMBERS) -> dict[str, Implants]:
    """Members that all see one blob, and the same others."""
    return {name: implants_of([one(ROD, blob), *others], *blob.shape) for name in members}


def fused_from(blob: Mask, *others: Segment) -> list[FusedImplant]:
    rod = one(ROD, blob, SegmentKind.INSTANCE)
    return [*(FusedImplant(each) for each in others), FusedImplant(rod, member_names=MEMBERS)]


def rods_in(implants: tuple[FusedImplant, ...]) -> list[Mask]:
    return [decode_mask(i.segment.mask) for i in implants if i.segment.structure is ROD]


def iou(one: Mask, two: Mask) -> float:
    return float((one & two).sum() / (one | two).sum())


def test_a_ragged_outline_becomes_the_rod_of_the_film() -> None:
    rod = band(ONE[0])
    blob = grown(rod, 5)
    blob[300:340, 150:260] = True
    (found,) = rods_in(redrawn_rods(fused_from(blob), said(blob), film_of([rod])))
    assert iou(blob, rod) < 0.65
    assert iou(found, rod) > 0.85


def test_two_rods_that_cross_are_two_where_every_member_sees_one_blob() -> None:
    true = [band(line) for line in CROSSING]
    blob = grown(true[0] | true[1], 2)
    found = rods_in(redrawn_rods(fused_from(blob), said(blob), film_of(true)))
    assert len(found) == 2
    for rod in true:
        assert max(iou(rod, each) for each in found) > 0.65


def test_a_rod_goes_on_beneath_the_heads_of_its_screws() -> None:
    rod = band(ONE[0])
    heads = np.zeros(SHAPE, dtype=bool)
    for y in (300, 480, 660):
        heads[y : y + 60, 180:240] = True
    screws = one(SCREW, heads, SegmentKind.INSTANCE)
    blob = grown(rod, 3) & ~heads
    film = film_of([rod], bright=(heads,))
    found = redrawn_rods(fused_from(blob, screws), said(blob, one(SCREW, heads)), film)
    (drawn,) = rods_in(found)
    assert iou(drawn, rod) > 0.8
    assert [each.segment for each in found if each.segment.structure is SCREW] == [screws]


@pytest.mark.parametrize("lines", [ONE, CROSSING], ids=["one rod", "two rods"])
def test_what_the_film_does_not_show_stays_as_the_members_drew_it(lines: tuple[Line, ...]) -> None:
    """A blank film, and one of noise alone: nothing is redrawn, nothing is lost."""
    blob = np.logical_or.reduce([band(line) for line in lines])
    implants = tuple(fused_from(blob))
    assert redrawn_rods(implants, said(blob), np.full(SHAPE, 300, np.uint16)) == implants
    assert redrawn_rods(implants, said(blob), np.zeros(SHAPE, np.float32)) == implants


def test_nothing_to_redraw_is_no_error() -> None:
    blob = band(ONE[0])
    film = film_of([blob])
    assert redrawn_rods((), said(blob), film) == ()
    silent = {"a": implants_of([], *SHAPE)}
    implants = tuple(fused_from(blob))
    assert redrawn_rods(implants, silent, film) == implants
    cage = (FusedImplant(one(CAGE, blob, SegmentKind.INSTANCE)),)
    assert redrawn_rods(cage, said(blob), film) == cage


def test_a_round_spot_is_no_rod_from_the_side_and_stays() -> None:
    spot = np.zeros(SHAPE, dtype=bool)
    spot[500:540, 190:230] = True
    implants = tuple(fused_from(spot))
    assert redrawn_rods(implants, said(spot), film_of([spot])) == implants


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("pixel_mm", [None, 0.36])
def test_films_of_any_size_and_pixel(scale: int, pixel_mm: float | None) -> None:
    shape = (SHAPE[0] * scale, SHAPE[1] * scale)
    (x0, y0), (x1, y1) = ONE[0]
    line = ((x0 * scale, y0 * scale), (x1 * scale, y1 * scale))
    rod = band(line, BREADTH * scale, shape)
    blob = grown(rod, 4 * scale)
    film = film_of([rod], shape=shape)
    size_mm = None if pixel_mm is None else pixel_mm / scale
    (found,) = rods_in(redrawn_rods(fused_from(blob), said(blob), film, size_mm))
    assert iou(found, rod) > 0.85


def test_a_rod_at_the_border_of_the_film_stays_on_it() -> None:
    rod = band(((4, 0), (12, 999)))
    blob = grown(rod, 4)
    (mask,) = rods_in(redrawn_rods(fused_from(blob), said(blob), film_of([rod])))
    assert mask.shape == SHAPE
    assert iou(mask, rod) > 0.6


@pytest.mark.parametrize(("x", "y"), [(-60, 500), (460, 500), (200, -60), (200, 1060), (-60, -60)])
def test_a_ribbon_off_the_film_is_no_rod(x: int, y: int) -> None:
    corners = np.array([(x, y), (x + 9, y), (x + 9, y + 40), (x, y + 40)], dtype=np.float64)
    assert rods._segment(ribbons.Ribbon(corners, 1.0), 0, 0, *SHAPE) is None


@pytest.mark.parametrize(
    ("rule", "redrawn"),
    [(FusionRule.MAJORITY, False), (FusionRule.UNION, True), (FusionRule.INTERSECTION, False)],
)
def test_the_rule_says_how_many_members_have_to_see_a_rod(rule: FusionRule, redrawn: bool) -> None:
    """One member of five sees the rod."""
    rod = band(ONE[0])
    blob = grown(rod, 5)
    members = said(blob, members=("a",)) | {n: implants_of([], *SHAPE) for n in "bcde"}
    implants = tuple(fused_from(blob))
    found = redrawn_rods(implants, members, film_of([rod]), options=FusionOptions(rule))
    assert (found != implants) is redrawn


def test_a_redrawn_rod_says_whose_it_is_and_how_sure() -> None:
    rod = band(ONE[0])
    blob = grown(rod, 3)
    (found,) = redrawn_rods(fused_from(blob), said(blob), film_of([rod]))
    assert found.member_names == MEMBERS
    assert found.segment.kind is SegmentKind.INSTANCE
    assert 0.9 < found.segment.score <= 1.0


def test_a_film_and_its_members_in_one_go() -> None:
    rod = band(ONE[0])
    blob = grown(rod, 5)
    film = Film(film_of([rod]), row_spacing_mm=0.36, column_spacing_mm=0.36)
    (found,) = fuse_implants_on_film(said(blob), (), None, film)
    assert iou(decode_mask(found.segment.mask), rod) > 0.85


def test_a_window_too_large_to_unroll_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rod = band(ONE[0])
    implants = tuple(fused_from(rod))
    monkeypatch.setattr(rods, "LONGEST_PX", 300)
    assert redrawn_rods(implants, said(rod), film_of([rod])) == implants
    monkeypatch.undo()
    monkeypatch.setattr(ribbons, "MOST_CELLS", (20, 200))
    assert redrawn_rods(implants, said(rod), film_of([rod])) == implants


def test_the_best_path_is_that_of_all() -> None:
    """Against every path of a small array."""
    gain = np.random.default_rng(2).normal(0.0, 1.0, (5, 4))

    def best_from(row: int, column: int) -> float:
        here = float(gain[row, column])
        if row + 1 == len(gain):
            return here
        further = [
            best_from(row + 1, aside) - ribbons.SLOPE * (aside != column)
            for aside in (column - 1, column, column + 1)
            if 0 <= aside < gain.shape[1]
        ]
        return here + max(0.0, *further)

    total, path = ribbons.best_path(gain)
    assert total == pytest.approx(max(best_from(r, c) for r in range(5) for c in range(4)))
    steps = np.abs(np.diff(path[:, 1]))
    assert gain[path[:, 0], path[:, 1]].sum() - ribbons.SLOPE * steps.sum() == pytest.approx(total)
    assert (np.diff(path[:, 0]) == 1).all()
    assert (steps <= 1).all()


@pytest.mark.parametrize("seed", range(12))
def test_no_path_gives_more_than_the_best_of_each_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gain = rng.normal(-0.3, 0.8, (int(rng.integers(1, 40)), int(rng.integers(1, 12))))
    most, total = ribbons._most(gain), ribbons.best_path(gain)[0]
    assert total <= most
    if gain.shape[1] == 1:
        assert total == pytest.approx(most, abs=1e-5)


def test_specks_and_blobs_all_over_a_film_are_only_looked_at_so_far() -> None:
    """Members that answer nonsense: a net of specks, and the whole film."""
    specks = np.zeros(SHAPE, dtype=bool)
    specks[::4, ::4] = True
    film = film_of([band(ONE[0])])
    for blob in (specks, np.ones(SHAPE, dtype=bool)):
        implants = tuple(fused_from(blob))
        assert len(redrawn_rods(implants, said(blob), film)) >= 1
