"""Double contours of endplates: drawn bodies with two rims at a known distance."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from spinezoo_contract.masks import encode_mask
from spinezoo_contract.types import (
    Box,
    FilmReading,
    FilmView,
    FusedImplant,
    Labelling,
    Measure,
    MeasureKind,
    MeasureOptions,
    MeasureUnit,
    NamedVertebra,
    Segment,
    SegmentKind,
    Structure,
    WithheldReason,
)
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.annotations.regions import Region
from spinezoo_spine.measures.double_contours import (
    KINDS,
    Strips,
    covered,
    endplates_of,
    shipped_model,
    strips_of,
    told,
)
from spinezoo_spine.measures.film import measure_film

HEIGHT, WIDTH = 640, 480
UPPER, LOWER = KINDS
LEVELS = ("L2", "L3", "L4")
DEPTH, TALL, STEP = 110.0, 80.0, 105.0
MM = 0.4


def axes(level: str) -> NDArray[np.float64]:
    """(2, 2) rows: a body's directions to the front and to the feet. The column is lordotic."""
    angle = np.deg2rad(7.0 * (LEVELS.index(level) - 1))
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def quads(left: float = 170.0, top: float = 160.0) -> dict[str, NDArray[np.float64]]:
    """Corners of three bodies that look to the right: back upper, front upper, front, back."""
    half = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (DEPTH / 2, TALL / 2)
    return {
        level: half @ axes(level) + (left + DEPTH / 2, top + TALL / 2 + number * STEP)
        for number, level in enumerate(LEVELS)
    }


def drawn(
    bodies: dict[str, NDArray[np.float64]], apart: float, seed: int = 0
) -> NDArray[np.uint16]:
    """A film of bodies whose rims lie so many pixels apart: bone fades from one to the other.

    Between both the rays run along the endplate's cortex, which is denser.
    """
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    film = np.full((HEIGHT, WIDTH), 900.0) + 0.3 * rows
    broad = max(apart, 1.0)
    for level, corners in bodies.items():
        places = np.stack([columns, rows], axis=-1) - corners.mean(axis=0)
        along, down = np.moveaxis(np.abs(places @ axes(level).T), -1, 0)
        wide = np.clip(DEPTH / 2 - along + 0.5, 0, 1)
        inside = np.clip((TALL / 2 - down) / broad + 0.5, 0, 1)
        cortex = np.clip((broad / 2 + 1.5 - np.abs(TALL / 2 - down)) / 2, 0, 1)
        film += wide * (260.0 * inside + 330.0 * cortex / (1.0 + 0.25 * broad))
    film = cv2.GaussianBlur(film, (0, 0), 0.8)
    film += np.random.default_rng(seed).normal(0, 12.0, film.shape)
    return np.asarray(np.clip(film, 0, 4095), dtype=np.uint16)


def outlines(bodies: dict[str, NDArray[np.float64]]) -> Labelling:
    """The bodies with their names."""
    regions = [Region(Structure.LUMBAR_VERTEBRA, quad, level) for level, quad in bodies.items()]
    segments = segments_from_regions(regions, HEIGHT, WIDTH)
    reading = FilmReading(FilmView.LATERAL, 0.9, 0.05, 0.03, 0.02, 0.0)
    return Labelling(tuple(NamedVertebra(each, 0.99, None) for each in segments), False,
                     film=reading)  # fmt: skip


def strips(
    pixels: NDArray[np.uint16],
    bodies: dict[str, NDArray[np.float64]],
    spacing: tuple[float, float] = (MM, MM),
    implants: tuple[Segment, ...] = (),
) -> Strips:
    """What the film shows along all endplates, the upper ones first."""
    plates = endplates_of(np.stack(list(bodies.values())))
    upper = np.repeat([True, False], len(bodies))
    ends = np.concatenate([plates[:, 0], plates[:, 1]])
    return strips_of(ends, upper, pixels, spacing, implants)


def distances(found: Strips) -> NDArray[np.float64]:
    """What the network says of them, in mm."""
    return told(found.features, shipped_model())[0] * found.depths_mm


def measured(
    pixels: NDArray[np.uint16] | None,
    bodies: dict[str, NDArray[np.float64]],
    spacing: tuple[float | None, float | None] = (MM, MM),
    implants: tuple[FusedImplant, ...] = (),
    scale: float | None = None,
) -> dict[tuple[MeasureKind, str], Measure]:
    """Every double contour of a film."""
    options = MeasureOptions(scale)
    film = measure_film(outlines(bodies), {}, implants, spacing, options, pixels=pixels, model={})
    return {(m.kind, m.levels[0]): m for m in film.measures if m.kind in KINDS}


def plate_of_metal(x: int, y: int, width: int, height: int) -> FusedImplant:
    """An implant that covers a rectangle."""
    drawn_mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    drawn_mask[y : y + height, x : x + width] = True
    mask = encode_mask(drawn_mask)
    box = Box(x, y, width, height)
    return FusedImplant(Segment(Structure.CAGE, SegmentKind.INSTANCE, mask, 0.9, box))


@pytest.mark.parametrize("apart_px", [5.0, 8.0, 12.0, 16.0])
def test_two_rims_at_a_known_distance(apart_px: float) -> None:
    bodies = quads()
    every = np.stack([distances(strips(drawn(bodies, apart_px, n), bodies)) for n in range(3)])
    assert np.abs(every.mean() - apart_px * MM) < 0.5
    assert np.abs(every - apart_px * MM).max() < 1.5


def test_one_rim_alone_is_no_double_contour() -> None:
    bodies = quads()
    assert distances(strips(drawn(bodies, 0.0), bodies)).max() < 1.3


def test_it_is_told_with_an_interval_that_begins_at_zero() -> None:
    bodies = quads()
    for apart_px in (0.0, 9.0):
        said = measured(drawn(bodies, apart_px), bodies)
        assert len(said) == 6
        for each in said.values():
            assert each.unit is MeasureUnit.MILLIMETRE
            assert each.value is not None
            assert each.low is not None
            assert each.high is not None
            assert 0.0 <= each.low <= each.value < each.high
            assert each.vertebra_indices == (LEVELS.index(each.levels[0]),)
            assert each.low - 0.3 <= apart_px * MM <= each.high
    alone = measured(drawn(bodies, 0.0), bodies)
    assert alone[UPPER, "L3"].low == 0.0


def test_a_mirrored_film_says_the_same() -> None:
    bodies = quads()
    film = drawn(bodies, 9.0)
    turned = {level: quad * [-1.0, 1.0] + [WIDTH, 0.0] for level, quad in bodies.items()}
    one, other = strips(film, bodies), strips(film[:, ::-1], turned)
    np.testing.assert_allclose(other.features, one.features, atol=1e-2)


def test_a_film_of_oblong_pixels_is_read_where_its_endplates_lie() -> None:
    bodies = quads()
    film = drawn(bodies, 9.0)
    narrow = np.full_like(film, 900)
    narrow[:, : WIDTH // 2] = cv2.resize(film, (WIDTH // 2, HEIGHT), interpolation=cv2.INTER_AREA)
    halved = {level: quad * [0.5, 1.0] for level, quad in bodies.items()}
    one, other = measured(film, bodies), measured(narrow, halved, (MM, 2 * MM))
    for key, said in one.items():
        assert other[key].value == pytest.approx(said.value, abs=0.6)


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (3, 3), (1, 2), (2, 1)])
def test_a_finer_film_and_oblong_pixels_say_the_same(rows: int, columns: int) -> None:
    bodies = quads()
    film = drawn(bodies, 9.0)
    size = (WIDTH * columns, HEIGHT * rows)
    finer = cv2.resize(film, size, interpolation=cv2.INTER_LINEAR)
    larger = {level: quad * [columns, rows] for level, quad in bodies.items()}
    found = distances(strips(finer, larger, (MM / rows, MM / columns)))
    np.testing.assert_allclose(found, distances(strips(film, bodies)), atol=0.6)


def test_grey_levels_may_be_of_any_scale_and_type() -> None:
    bodies = quads()
    film = drawn(bodies, 9.0)
    wanted = strips(film, bodies).features
    for other in (film * 7.5 - 300.0, film.astype(np.int32), film.astype(np.float32)):
        np.testing.assert_allclose(strips(other, bodies).features, wanted, atol=2e-2)


def test_in_the_patient_it_is_divided_by_the_magnification() -> None:
    bodies = quads()
    film = drawn(bodies, 9.0)
    plain, less = (measured(film, bodies, scale=each) for each in (None, 1.25))
    one, other = plain[UPPER, "L3"].value, less[UPPER, "L3"].value
    assert one is not None
    assert other == pytest.approx(one / 1.25)


def test_why_it_is_withheld() -> None:
    bodies = quads()
    film = drawn(bodies, 9.0)

    def reasons(said: dict[tuple[MeasureKind, str], Measure]) -> set[WithheldReason | None]:
        return {each.withheld_reason for each in said.values()}

    assert reasons(measured(None, bodies)) == {WithheldReason.NOT_SHOWN}
    assert reasons(measured(film, bodies, (None, None))) == {WithheldReason.NO_SPACING}
    assert reasons(measured(np.full_like(film, 700), bodies)) == {WithheldReason.NOT_SHOWN}
    noise = np.random.default_rng(1).integers(0, 4096, film.shape).astype(np.uint16)
    assert reasons(measured(noise, bodies)) == {WithheldReason.TOO_UNSURE}


def test_metal_over_an_endplate_hides_it_alone() -> None:
    bodies = quads()
    x, y = bodies["L3"][0].astype(int).tolist()
    metal = plate_of_metal(x, y - 20, int(DEPTH), 24)
    said = measured(drawn(bodies, 9.0), bodies, implants=(metal,))
    assert said[UPPER, "L3"].withheld_reason is WithheldReason.NOT_SHOWN
    assert said[LOWER, "L3"].value is not None
    assert said[UPPER, "L4"].value is not None


def test_what_the_film_cuts_is_withheld() -> None:
    bodies = quads(top=14.0)
    said = measured(drawn(bodies, 9.0), bodies)
    assert said[UPPER, "L2"].withheld_reason in {
        WithheldReason.NOT_SHOWN,
        WithheldReason.CUT_BY_FILM,
    }
    assert said[LOWER, "L2"].value is not None


def test_a_body_that_lies_off_the_film_is_no_error() -> None:
    bodies = {"L3": quads()["L3"] + [3000.0, 3000.0]}
    assert not strips(drawn(quads(), 9.0), bodies).shown.any()


def test_pixels_of_an_outline() -> None:
    metal = plate_of_metal(10, 20, 30, 40).segment
    places = np.array([[10, 20], [39, 59], [9, 20], [10, 19], [40, 30], [-1, 5], [5, HEIGHT]])
    assert covered(metal, places).tolist() == [True, True, False, False, False, False, False]
