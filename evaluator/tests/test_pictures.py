from __future__ import annotations

import numpy as np
from outlines import as_regions, block, segment, shifted
from spinezoo_contract.types import Film, SegmentKind, Structure
from spinezoo_evaluator.report.drawing import (
    IMPLANT_COLOURS,
    UNJUDGED_COLOUR,
    UNMATCHED_COLOUR,
    VERTEBRA_COLOURS,
    Row,
    Tile,
    colours_of,
    grey_picture,
    overlay,
    sheet,
)

SIZE = (120, 80)
TRUTH = tuple(block(4 + 28 * i, 20, 22, 40, size=SIZE) for i in range(4))
FILM = Film(np.linspace(0, 4095, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16))


def test_a_vertebra_has_the_colour_of_the_one_it_matches():
    assert colours_of(TRUTH, TRUTH) == list(VERTEBRA_COLOURS[:4])
    moved = [shifted(s, 3, 2) for s in TRUTH]
    assert colours_of(moved[::-1], TRUTH[::-1]) == list(VERTEBRA_COLOURS[3::-1])


def test_fused_and_false_vertebrae_are_red():
    fused = np.zeros(SIZE, dtype=bool)
    fused[4:80, 20:60] = True
    far = block(0, 0, 10, 10, size=SIZE)
    assert colours_of([segment(fused), far], TRUTH) == [UNMATCHED_COLOUR] * 2
    assert colours_of(TRUTH, ()) == [UNMATCHED_COLOUR] * 4


def test_what_an_incomplete_truth_cannot_judge_is_grey():
    above, below = block(0, 0, 6, 10, size=SIZE), block(60, 60, 10, 10, size=SIZE)
    sacral = block(110, 0, 10, 10, size=SIZE, structure=Structure.SACRAL_VERTEBRA)
    found = colours_of([above, below, sacral], TRUTH[1:3], complete_truth=False)
    assert found == [UNJUDGED_COLOUR, UNMATCHED_COLOUR, UNJUDGED_COLOUR]
    assert colours_of(TRUTH[1:2], TRUTH[1:3], complete_truth=False) == [VERTEBRA_COLOURS[0]]


def test_implants_have_a_colour_a_structure():
    screw = block(0, 0, 5, 5, size=SIZE, structure=Structure.SCREW)
    assert colours_of([screw], TRUTH) == [IMPLANT_COLOURS[Structure.SCREW]]


def test_an_overlay_tints_where_the_mask_is_and_nowhere_else():
    picture = overlay(grey_picture(FILM), TRUTH, TRUTH, *SIZE).astype(int)
    plain = overlay(grey_picture(FILM), (), (), *SIZE).astype(int)
    changed = (picture != plain).any(axis=2)
    inside = np.zeros(SIZE, dtype=bool)
    for i in range(4):
        inside[4 + 28 * i : 26 + 28 * i, 20:60] = True
    assert changed[inside].mean() > 0.98
    near = np.zeros(SIZE, dtype=bool)
    for i in range(4):
        near[max(0, 1 + 28 * i) : 29 + 28 * i, 17:63] = True
    assert not changed[~near].any()


def test_an_overlay_follows_the_picture_s_scale():
    picture = overlay(grey_picture(FILM), TRUTH[:1], TRUTH, 360, 240).astype(int)
    plain = overlay(grey_picture(FILM), (), (), 360, 240).astype(int)
    rows, columns = np.nonzero((picture != plain).any(axis=2))
    assert abs(rows.min() - 12) <= 3
    assert abs(rows.max() - 78) <= 3
    assert abs(columns.min() - 60) <= 3
    assert abs(columns.max() - 180) <= 3


def test_a_hole_stays_open():
    pixels = np.zeros(SIZE, dtype=bool)
    pixels[20:100, 10:70] = True
    pixels[40:80, 25:55] = False
    ring = segment(pixels, kind=SegmentKind.REGION)
    picture = overlay(grey_picture(FILM), [ring], TRUTH, *SIZE).astype(int)
    plain = overlay(grey_picture(FILM), (), (), *SIZE).astype(int)
    assert not (picture != plain)[45:75, 30:50].any()


def test_specks_of_a_region_are_shown_too():
    pixels = np.zeros((1000, 800), dtype=bool)
    pixels[500:504, 400:404] = True  # 16 pixels: too few to count as an object
    film = Film(np.zeros((1000, 800), dtype=np.uint8))
    speck = segment(pixels, kind=SegmentKind.REGION)
    picture = overlay(grey_picture(film), [speck], (), 1000, 800)
    assert picture.any()


def test_a_sheet_holds_every_tile_also_without_an_answer():
    tiles = (
        Tile("Film", "as it comes", plain=True),
        Tile("Truth", "4 vertebrae", TRUTH),
        Tile("A network with a very long name indeed", "caption " * 20, as_regions(TRUTH)),
        Tile("Ill", "deadline exceeded", None),
    )
    row = Row("Best film: film_0001.dcm " + "and more " * 40, FILM, TRUTH, tiles)
    one = sheet([row], tile_height=240)
    two = sheet([row, row], tile_height=240, title="Two films")
    assert one.width == two.width == 4 * 160 + 5 * 8
    assert two.height > 1.8 * one.height
    broken = sheet([row], tile_height=240, columns=2)
    assert broken.width < one.width
    assert broken.height > one.height


def test_a_film_of_one_grey_is_drawn():
    film = Film(np.full((64, 64), 7, dtype=np.uint8))
    assert grey_picture(film).shape == (64, 64)
