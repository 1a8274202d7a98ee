from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from spinezoo_contract.errors import AnnotationError, ConfigurationError, FilmError, OptionError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.raster import rasterise
from spinezoo_spine.films.reader import read_film_file
from spinezoo_spine.inference.preprocess import letterbox, two_channels
from spinezoo_training.augmentation import AugmentSettings, augment
from spinezoo_training.prepared_set import (
    PreparedFilm,
    make_grey,
    open_film_set,
    prepare_films,
)
from spinezoo_training.targets import (
    GAP_WEIGHT,
    instances_of,
    label_map_of,
    label_map_with_gaps,
    network_input,
)

LATER_LOOKS_OFF = {
    "far_share": 0,
    "faint_share": 0,
    "part_share": 0,
    "local_share": 0,
    "sharpen_share": 0,
    "metal_share": 0,
    "mask_share": 0,
}

STILL = AugmentSettings(
    mirror_share=0,
    rotation_deg=0,
    scale_range=(1, 1),
    shift=0,
    anisotropy=0,
    gamma_range=(1, 1),
    contrast_range=(1, 1),
    brightness=0,
    blur_share=0,
    noise_share=0,
    haze_share=0,
    invert_share=0,
    grid_share=0,
    border_grey_share=0,
    **LATER_LOOKS_OFF,
)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float)


def disc_film(height: int = 96, width: int = 80) -> PreparedFilm:
    """A bright disc whose outline is its border."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    disc = np.array([35.0, 50.0]) + 18 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    grey = np.where(rasterise(disc, height, width), 200, 40).astype(np.uint8)
    return PreparedFilm("disc", grey, ((Structure.LUMBAR_VERTEBRA, disc),))


# --------------------------------------------------------------------------------------- prepare


def test_a_prepared_film_is_what_serving_makes_of_it(film_folder: Path) -> None:
    films = prepare_films(open_film_set(film_folder), 96, 64, progress=False)
    assert (len(films), films.height, films.width) == (6, 96, 64)
    film = films[3]
    assert film.name == "film_3.png"
    assert (film.grey.dtype, film.grey.shape) == (np.uint8, (96, 64))
    canvas, fit = letterbox(read_film_file(film_folder / film.name).pixels, 96, 64)
    assert np.abs(film.grey / 255 - canvas).max() <= 0.5 / 255 + 1e-6
    outlines = FilmSet.open(film_folder).annotation(film.name).regions
    for (structure, polygon), region in zip(film.regions, outlines, strict=True):
        assert structure is region.structure
        np.testing.assert_allclose(polygon, fit.to_canvas(region.polygon_xy))
    assert (network_input(film) == two_channels(film.grey.astype(np.float32) / 255)).all()
    body = rasterise(film.regions[0][1], 96, 64)
    assert film.grey[body].mean() > film.grey[~body].mean() + 80


def test_outlines_belong_to_their_film(film_folder: Path) -> None:
    films = prepare_films(open_film_set(film_folder), 160, 120, progress=False)
    assert [len(film.regions) for film in films] == [1, 2, 2, 2, 2, 2]
    for number, film in enumerate(films):
        assert film.regions[0][1][0].tolist() == pytest.approx([40.0, 30.0 + 5 * number])


def test_films_are_decoded_once(film_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = prepare_films(open_film_set(film_folder), 96, 64, cache_dir=cache, progress=False)
    stamp = (first.folder / "grey.npy").stat().st_mtime_ns
    films = open_film_set(film_folder)
    again = prepare_films(films, 96, 64, cache_dir=cache, progress=False, workers=2)
    assert again.folder == first.folder
    assert (again.folder / "grey.npy").stat().st_mtime_ns == stamp
    assert not (film_folder / ".prepared").exists()
    assert [p.name for p in cache.iterdir()] == [first.folder.name]
    other = prepare_films(open_film_set(film_folder), 64, 64, cache_dir=cache, progress=False)
    assert other.folder != first.folder


def test_a_changed_film_or_outline_is_prepared_anew(film_folder: Path) -> None:
    before = prepare_films(open_film_set(film_folder), 96, 64, progress=False)
    path = film_folder / "via.json"
    project = json.loads(path.read_text())
    next(iter(project["_via_img_metadata"].values()))["regions"][0]["shape_attributes"][
        "all_points_x"
    ][0] += 1
    path.write_text(json.dumps(project))
    moved = prepare_films(open_film_set(film_folder), 96, 64, progress=False)
    assert moved.folder != before.folder
    film = film_folder / "film_1.png"
    cv2.imwrite(str(film), np.zeros((160, 120), np.uint8))
    os.utime(film, ns=(1, 1))
    dark = prepare_films(open_film_set(film_folder), 96, 64, progress=False)
    assert dark[1].grey.max() == 0
    assert moved[1].grey.max() == 255


def test_a_broken_film_is_named_and_leaves_no_cache(film_folder: Path) -> None:
    (film_folder / "film_4.png").write_bytes(b"not a film")
    with pytest.raises(FilmError, match=r"film_4\.png"):
        prepare_films(open_film_set(film_folder), 96, 64, progress=False)
    assert list((film_folder / ".prepared").glob("*")) == []
    some = prepare_films(open_film_set(film_folder), 96, 64, names=["film_1.png"], progress=False)
    assert some.names == ("film_1.png",)
    with pytest.raises(FilmError, match=r"nothing\.png"):
        prepare_films(open_film_set(film_folder), 96, 64, names=["nothing.png"], progress=False)
    with pytest.raises(OptionError, match="height 0"):
        prepare_films(open_film_set(film_folder), 0, 64, progress=False)
    (film_folder / "via.json").unlink()
    with pytest.raises(AnnotationError, match="no VIA"):
        prepare_films(open_film_set(film_folder), 96, 64, progress=False)


def test_subsets_and_other_processes(film_folder: Path) -> None:
    films = prepare_films(open_film_set(film_folder), 96, 64, progress=False)
    some = films.subset(["film_4.png", "film_1.png"])
    assert some.names == ("film_4.png", "film_1.png")
    assert (some[1].grey == films[1].grey).all()
    assert some.subset(["film_1.png"])[0].name == "film_1.png"
    sent = pickle.dumps(some)
    assert len(sent) < 1000
    assert pickle.loads(sent).names == some.names
    with pytest.raises(FilmError, match=r"film_2\.png"):
        some.subset(["film_2.png"])
    with pytest.raises(IndexError):
        some[2]


@pytest.mark.parametrize("name", ["outlines.npz", "grey.npy", "index.json"])
@pytest.mark.parametrize("cut", [lambda _: b"", lambda whole: whole[:-300], lambda _: b"[]"])
def test_a_damaged_cache_says_so(film_folder: Path, name: str, cut: Any) -> None:
    films = prepare_films(open_film_set(film_folder), 96, 64, progress=False)
    path = films.folder / name
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(ConfigurationError, match="damaged"):
        prepare_films(open_film_set(film_folder), 96, 64, progress=False)


def test_a_film_whose_grey_levels_are_not_those_written_is_named(film_folder: Path) -> None:
    films = prepare_films(open_film_set(film_folder), 96, 64, progress=False)
    path = films.folder / "grey.npy"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    again = prepare_films(open_film_set(film_folder), 96, 64, progress=False)
    np.testing.assert_array_equal(again[0].grey, films[0].grey)
    with pytest.raises(ConfigurationError, match=rf"film {again.names[-1]} .* is damaged; remove"):
        again[len(again) - 1]


def test_a_phantom_set_end_to_end(tmp_path: Path) -> None:
    phantom = pytest.importorskip("spinezoo_phantom")
    settings = phantom.PhantomSettings(height_px=256, width_px=192)
    phantom.write_film_set(tmp_path, count=2, seed=3, settings=settings, file_format="dicom")
    films = prepare_films(open_film_set(tmp_path), 128, 96, progress=False)
    assert len(films) == 2
    for film in films:
        labels = label_map_of(augment(film, np.random.default_rng(0), STILL))
        assert Structure.LUMBAR_VERTEBRA in set(labels.ravel())


# --------------------------------------------------------------------------------------- augment


def test_nothing_switched_on_changes_nothing() -> None:
    film = disc_film()
    still = augment(film, np.random.default_rng(0), STILL)
    assert (still.grey == film.grey).all()
    np.testing.assert_allclose(still.regions[0][1], film.regions[0][1], atol=1e-12)


def test_outlines_move_with_the_grey_levels() -> None:
    rng = np.random.default_rng(5)
    film = disc_film()
    before = film.grey.copy()
    looks = AugmentSettings(
        gamma_range=(1, 1),
        contrast_range=(1, 1),
        brightness=0,
        blur_share=0,
        noise_share=0,
        haze_share=0,
        invert_share=0,
        grid_share=0,
        border_grey_share=0,
        **LATER_LOOKS_OFF,
    )
    mirrored = 0
    for _ in range(60):
        moved = augment(film, rng, looks)
        seen = moved.grey > 120
        drawn = label_map_of(moved) > 0
        # Only pixels of the border itself may differ: 2 pi 18 * 1.3 pixels long.
        assert (seen != drawn).sum() < 0.12 * drawn.sum()
        shift = [np.argwhere(mask).mean(axis=0) for mask in (seen, drawn)]
        assert np.abs(shift[0] - shift[1]).max() < 0.2
        points = moved.regions[0][1]
        (ax, ay), (bx, by) = points[1] - points[0], points[2] - points[1]
        mirrored += bool(ax * by < ay * bx)
    assert 15 < mirrored < 45
    assert (film.grey == before).all()


def test_the_same_seed_gives_the_same_look() -> None:
    film = disc_film()
    one, two, other = (augment(film, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one.grey == two.grey).all()
    assert (one.regions[0][1] == two.regions[0][1]).all()
    assert (one.grey != other.grey).any()


@pytest.mark.parametrize(
    "change",
    [
        {"gamma_range": (2, 2)},
        {"contrast_range": (0.5, 0.5)},
        {"brightness": 0.2},
        {"blur_share": 1, "blur_px": 3},
        {"noise_share": 1, "noise": 0.1},
        {"haze_share": 1, "haze": 0.5},
        {"invert_share": 1},
        {"grid_share": 1},
        {"faint_share": 1},
        {"local_share": 1},
        {"sharpen_share": 1, "sharpen": 3},
        {"noise_share": 1, "noise": 0.1, "coarse_noise_share": 1},
        {"mask_share": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_look_changes_grey_levels_and_no_outline(change: dict) -> None:
    values = {name: getattr(STILL, name) for name in AugmentSettings.__dataclass_fields__}
    film = disc_film()
    looked = augment(film, np.random.default_rng(3), AugmentSettings(**{**values, **change}))
    assert (looked.grey != film.grey).mean() > 0.01
    assert looked.grey.dtype == np.uint8
    np.testing.assert_allclose(looked.regions[0][1], film.regions[0][1], atol=1e-12)


def changed(**changes: object) -> AugmentSettings:
    """Nothing switched on but what is named."""
    values = {name: getattr(STILL, name) for name in AugmentSettings.__dataclass_fields__}
    return AugmentSettings(**{**values, **changes})


def test_fading_keeps_the_large_differences() -> None:
    grey = np.zeros((320, 256), np.uint8)
    grey[:, 128:] = 200  # body and air
    grey[150:170:2, 180:200] = 250  # trabeculae
    film = PreparedFilm("x", grey, ())
    faded = augment(film, np.random.default_rng(0), changed(faint_share=1, faint_range=(0.3, 0.3)))
    assert faded.grey[:, 20].mean() < 10
    assert faded.grey[20:100, 240].mean() > 190
    detail = faded.grey[150:170, 185:195].astype(float)
    assert detail.std() == pytest.approx(0.3 * 25, rel=0.1)


def test_a_part_of_a_film_fades_or_is_noisy_and_the_rest_is_not() -> None:
    stripes = np.zeros((320, 256), np.uint8)
    stripes[::2] = 200
    film = PreparedFilm("x", stripes, ())
    faint = changed(faint_share=1, faint_range=(0.1, 0.1), part_share=1)
    noisy = changed(noise_share=1, noise=0.1, part_share=1)
    flat = PreparedFilm("x", np.full((320, 256), 128, np.uint8), ())
    for seed in range(6):
        faded = augment(film, np.random.default_rng(seed), faint).grey.astype(float)
        left = np.abs(np.diff(faded, axis=0)).reshape(11, 29, 8, 32).mean(axis=(1, 3))
        assert left.min() < 60
        assert left.max() > 150
        noise = augment(flat, np.random.default_rng(seed), noisy).grey.astype(float)
        spread = noise.reshape(10, 32, 8, 32).std(axis=(1, 3))
        assert spread.max() > 2 * spread.min()


def test_metal_is_taught_where_it_is_drawn() -> None:
    film = disc_film(320, 256)
    inside = outside = 0
    for seed in range(8):
        looked = augment(film, np.random.default_rng(seed), changed(metal_share=1))
        assert [structure for structure, _ in looked.regions[1:]]
        assert {structure for structure, _ in looked.regions[1:]} == {Structure.ROD}
        drawn = label_map_of(looked) == Structure.ROD
        different = looked.grey != film.grey
        inside += int((different & drawn).sum())
        outside += int((different & ~drawn).sum())
    assert inside > 1000
    assert outside < 0.5 * inside, "soft borders only"


def test_coarse_noise_is_as_strong_and_smoother() -> None:
    film = PreparedFilm("x", np.full((200, 200), 128, np.uint8), ())
    noises = []
    for share in (0, 1):
        settings = changed(noise_share=1, noise=0.2, coarse_noise_share=share)
        looked = [augment(film, np.random.default_rng(seed), settings).grey for seed in range(12)]
        noises.append(np.stack(looked).astype(float) - 128)
    assert noises[1].std() == pytest.approx(noises[0].std(), rel=0.35)
    step = [np.abs(np.diff(noise, axis=2)).mean() / noise.std() for noise in noises]
    assert step[1] < 0.7 * step[0]


def test_every_look_at_once_still_fits_a_network() -> None:
    film = disc_film()
    shares = {n: 1.0 for n in AugmentSettings.__dataclass_fields__ if n.endswith("_share")}
    for seed in range(20):
        looked = augment(film, np.random.default_rng(seed), AugmentSettings(**shares))
        assert (looked.grey.dtype, looked.grey.shape) == (np.uint8, film.grey.shape)
        assert np.isfinite(network_input(looked)).all()


def test_noise_and_haze_do_not_wrap_around() -> None:
    white = PreparedFilm("white", np.full((64, 64), 255, np.uint8), ())
    loud = AugmentSettings(
        noise_share=1,
        noise=0.1,
        haze_share=1,
        haze=0.5,
        invert_share=0,
        gamma_range=(1, 1),
        contrast_range=(1, 1),
        brightness=0,
        scale_range=(1.5, 1.5),
        rotation_deg=0,
        shift=0,
        blur_share=0,
        **LATER_LOOKS_OFF,
    )
    for seed in range(10):
        # Wrapping would leave isolated black pixels in a white film.
        assert np.percentile(augment(white, np.random.default_rng(seed), loud).grey, 1) > 5


def test_settings_out_of_range() -> None:
    for wrong in ({"mirror_share": 2}, {"scale_range": (2, 1)}, {"noise": -1}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            AugmentSettings(**wrong)


# --------------------------------------------------------------------------------------- targets


def test_instances_overlap_and_slivers_are_left_out() -> None:
    film = PreparedFilm(
        "x",
        np.zeros((60, 50), np.uint8),
        (
            (Structure.LUMBAR_VERTEBRA, box(10, 10, 30, 30)),
            (Structure.SCREW, box(20, 18, 44, 22)),
            (Structure.ROD, box(-40, 40, 8, 50)),  # 1/6 of it on the canvas
            (Structure.ROD, box(1, 1, 5, 7)),  # 24 pixels
            (Structure.CAGE, box(40, 50, 60, 70)),  # a quarter on the canvas
        ),
    )
    masks, boxes, structures = instances_of(film)
    assert (masks.dtype, boxes.dtype, structures.dtype) == (np.uint8, np.float32, np.int64)
    assert masks.shape == (3, 60, 50)
    assert structures.tolist() == [1, 4, 3]
    assert boxes.tolist() == [[10, 10, 30, 30], [20, 18, 44, 22], [40, 50, 50, 60]]
    assert masks.reshape(3, -1).sum(axis=1).tolist() == [400, 96, 100]
    assert (masks[0] & masks[1]).sum() == 40
    labels = label_map_of(film)
    assert labels[20, 25] == Structure.SCREW
    assert labels[12, 12] == Structure.LUMBAR_VERTEBRA


def test_a_film_without_outlines_is_background() -> None:
    film = PreparedFilm("x", np.zeros((32, 24), np.uint8), ())
    film = augment(film, np.random.default_rng(0))
    masks, boxes, structures = instances_of(film)
    assert (masks.shape, boxes.shape, structures.shape) == ((0, 32, 24), (0, 4), (0,))
    assert label_map_of(film).max() == 0
    assert network_input(film).shape == (2, 32, 24)


def boxes_film(*boxes: tuple[Structure, np.ndarray], height: int = 320) -> PreparedFilm:
    return PreparedFilm("x", np.zeros((height, 256), np.uint8), boxes)


def test_vertebrae_that_touch_are_taught_with_a_line_of_background() -> None:
    upper, lower = box(20, 20, 60, 50), box(20, 50, 60, 80)
    film = boxes_film((Structure.LUMBAR_VERTEBRA, upper), (Structure.SACRAL_VERTEBRA, lower))
    labels, weights = label_map_with_gaps(film)
    assert (labels.dtype, weights.dtype) == (np.uint8, np.float32)
    assert not labels[49:51, 20:60].any()  # the last row of the one, the first of the other
    assert (labels[20:49, 20:60] == Structure.LUMBAR_VERTEBRA).all()
    assert (labels[51:80, 20:60] == Structure.SACRAL_VERTEBRA).all()
    count, _ = cv2.connectedComponents((labels > 0).astype(np.uint8), connectivity=8)
    assert count == 3
    assert weights[49, 40] > 0.9 * GAP_WEIGHT
    assert weights.max() <= 1 + GAP_WEIGHT


def test_vertebrae_that_overlap_are_parted_too() -> None:
    film = boxes_film(
        (Structure.LUMBAR_VERTEBRA, box(20, 20, 60, 53)),
        (Structure.LUMBAR_VERTEBRA, box(20, 50, 60, 80)),
    )
    labels, _ = label_map_with_gaps(film)
    assert not labels[49:54, 20:60].any()
    assert labels[48, 20:60].all()
    assert labels[54, 20:60].all()


def test_pixels_weigh_the_more_the_narrower_the_gap() -> None:
    def at_gap(rows: int, height: int = 320) -> tuple[float, float]:
        film = boxes_film(
            (Structure.LUMBAR_VERTEBRA, box(20, 20, 60, 50)),
            (Structure.LUMBAR_VERTEBRA, box(20, 50 + rows, 60, 80 + rows)),
            height=height,
        )
        labels, weights = label_map_with_gaps(film)
        assert (labels == label_map_of(film)).all()  # a real gap is left as it is
        return float(weights[50 + rows // 2, 40]), float(weights[49, 40])

    gaps = [at_gap(rows) for rows in (2, 4, 8, 20)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0][0] > 1 + 0.5 * GAP_WEIGHT
    assert gaps[-1] == (1, 1)
    # The bone along a gap weighs as much as the gap, so that outlines are not taught too small.
    assert gaps[1][1] == pytest.approx(gaps[1][0])
    assert at_gap(8, height=640)[0] > at_gap(8)[0]  # as a share of the canvas


def test_a_vertebra_alone_and_hardware_change_nothing() -> None:
    film = boxes_film(
        (Structure.LUMBAR_VERTEBRA, box(20, 20, 60, 50)),
        (Structure.CAGE, box(20, 50, 60, 56)),
        (Structure.SCREW, box(10, 30, 40, 34)),
    )
    labels, weights = label_map_with_gaps(film)
    assert (labels == label_map_of(film)).all()
    assert (weights == 1).all()


def test_hardware_between_touching_vertebrae_keeps_its_label() -> None:
    film = boxes_film(
        (Structure.LUMBAR_VERTEBRA, box(20, 20, 60, 50)),
        (Structure.LUMBAR_VERTEBRA, box(20, 50, 60, 80)),
        (Structure.CAGE, box(30, 47, 50, 53)),
    )
    labels, _ = label_map_with_gaps(film)
    assert (labels[47:53, 30:50] == Structure.CAGE).all()
    assert not labels[49:51, 20:30].any()


def bar(x: float, y: float, rise: float, width: float = 8.0, length: float = 60.0) -> np.ndarray:
    """A slanted bar, its left end at (x, y)."""
    return np.array(
        [[x, y], [x + length, y - rise], [x + length, y - rise + width], [x, y + width]]
    )


def objects_in(labels: np.ndarray, structure: Structure) -> list[int]:
    """Pixels of the components of a structure, the largest first."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(
        (labels == structure).astype(np.uint8), connectivity=8
    )
    return sorted(statistics[1:, cv2.CC_STAT_AREA].tolist(), reverse=True)


def test_of_screws_that_overlap_the_lower_is_whole_and_a_line_parts_the_other() -> None:
    upper, lower = bar(40, 60, 0), bar(44, 64, 0)
    film = boxes_film((Structure.SCREW, lower), (Structure.SCREW, upper))
    labels, weights = label_map_with_gaps(film)
    assert len(objects_in(label_map_of(film), Structure.SCREW)) == 1
    whole, rest = objects_in(labels, Structure.SCREW)
    assert whole == 480
    assert rest == 60 * 8 - 56 * 4 - 57 - 4  # what is covered, and the line above and beside it
    assert (labels[63, 44:100] == 0).all()
    assert (weights[63, 44:100] == 1 + GAP_WEIGHT).all()
    assert (weights[66, 50:90] == 1).all()  # inside the metal nothing changes


def test_a_screw_of_which_hardly_anything_is_seen_is_not_parted() -> None:
    film = boxes_film((Structure.SCREW, bar(40, 60, 0)), (Structure.SCREW, bar(40, 62, 0)))
    labels, weights = label_map_with_gaps(film)
    assert objects_in(labels, Structure.SCREW) == [60 * 10]
    assert (weights[62:68, 42:98] <= 1 + 0.1 * GAP_WEIGHT).all()


def test_a_screw_lies_on_a_rod_without_a_line_and_near_rods_weigh_at_their_gap() -> None:
    def standing(x: float) -> np.ndarray:
        return box(x, 20, x + 6, 120)

    film = boxes_film(
        (Structure.ROD, standing(40)),
        (Structure.ROD, standing(48)),
        (Structure.SCREW, bar(30, 60, 0)),
    )
    labels, weights = label_map_with_gaps(film)
    assert (labels == label_map_of(film)).all()
    assert len(objects_in(labels, Structure.SCREW)) == 1
    assert weights[40, 47] > 1 + 0.5 * GAP_WEIGHT
    assert weights[100, 20] == 1


def test_a_film_without_vertebrae_or_with_one_off_the_canvas_has_even_weights() -> None:
    film = boxes_film((Structure.LUMBAR_VERTEBRA, box(-40, -40, -10, -10)))
    labels, weights = label_map_with_gaps(film)
    assert not labels.any()
    assert (weights == 1).all()


def test_sampling_is_quick_enough_to_feed_training() -> None:
    """The aim is 150 films a second a core; a tenth of it holds on any machine."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    regions = tuple(
        (Structure(1 + i % 5), rng.uniform(40, 220, 2) + ring * rng.uniform(5, 25))
        for i in range(16)
    )
    film = PreparedFilm("x", rng.integers(0, 256, (320, 256)).astype(np.uint8), regions)
    start = time.perf_counter()
    for _ in range(20):
        label_map_of(augment(film, rng))
    assert time.perf_counter() - start < 20 / 15


def test_room_for_all_films_is_kept_beforehand(tmp_path: Path) -> None:
    """A file with holes meets a full disk while it is written to, which ends the process."""
    make_grey(tmp_path, 8, 512, 512)
    assert (tmp_path / "grey.npy").stat().st_blocks * 512 >= 8 * 512 * 512


def test_a_cache_whose_files_are_of_several_sets_says_so(film_folder: Path) -> None:
    films = prepare_films(open_film_set(film_folder), 96, 64, progress=False)
    index = films.folder / "index.json"
    index.write_text(json.dumps({"names": films.names[1:]}))
    with pytest.raises(ConfigurationError, match="damaged"):
        prepare_films(open_film_set(film_folder), 96, 64, progress=False)
