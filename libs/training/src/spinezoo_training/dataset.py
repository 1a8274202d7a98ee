"""Films on a network's canvas, ready for training: decode once, then sample and vary quickly.

::

    films = prepare_film_set("data/train", 320, 256)          # decodes each film once, then cached
    train_names, validation_names = split_names(films.names, seed=1)
    train = films.subset(train_names)
    film = augment(train[0], rng)                              # another look, same truth
    x, y = network_input(film), label_map_of(film)             # (2, h, w), (h, w)
    masks, boxes, structures = instances_of(film)

Outlines stay polygons until the very end, so turning and scaling a film loses nothing of them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError, FilmError, OptionError
from spinezoo_contract.types import VERTEBRAE, Structure
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.raster import paint, patches
from spinezoo_spine.annotations.regions import polygon_area
from spinezoo_spine.inference.preprocess import PREPROCESSING_ID, letterbox, two_channels
from tqdm import tqdm

CACHE_FOLDER = ".prepared"
"""Folder inside the films' folder that holds prepared films."""

CACHE_FORMAT = "1"
"""Part of every cache key; raised when the stored form or its meaning changes."""

MIN_INSTANCE_PX = 25
"""Instances with fewer pixels on the canvas are not taught: nothing recognisable is left."""

MIN_INSTANCE_SHARE = 0.2
"""Instances of which less than this share lies on the canvas are not taught."""

GAP_WEIGHT = 5.0
"""Most that the narrowest gap between two vertebrae adds to a pixel's weight."""

GAP_REACH = 0.01
"""How fast that falls with the gap's width (standard deviation), as a share of the canvas' height;
3.2 pixels of 320. The paper of U-Net has 5 of 512."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFilm:
    """A film on the canvas.

    Attributes:
        name: The film's name.
        grey: (height, width) ``uint8``, unit grey times 255; bars around the film are 0.
        regions: Structure and (N, 2) outline on the canvas, x right, y down, in pixel edges.
    """

    name: str
    grey: NDArray[np.uint8]
    regions: tuple[tuple[Structure, NDArray[np.float64]], ...]


class PreparedSet:
    """Films of one folder on one canvas; grey levels stay on disk and are mapped into memory.

    Sets are cheap to send to worker processes: only the cache folder's path and the selection
    travel.
    """

    def __init__(self, folder: Path, selection: tuple[int, ...] | None = None) -> None:
        """Opens a cache folder that :func:`prepare_film_set` has made.

        Args:
            folder: The cache folder.
            selection: Which of its films, by position; None takes all.

        Raises:
            ConfigurationError: The cache is damaged.
        """
        self.folder = folder
        try:
            self._index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            self._grey = np.load(folder / "grey.npy", mmap_mode="r", allow_pickle=False)
            with np.load(folder / "outlines.npz", allow_pickle=False) as outlines:
                self._points: NDArray[np.float64] = outlines["points_xy"]
                self._point_ends: NDArray[np.int64] = outlines["point_ends"]
                self._structures: NDArray[np.uint8] = outlines["structures"]
                self._region_ends: NDArray[np.int64] = outlines["region_ends"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ConfigurationError(
                f"prepared films in {folder} are damaged; remove that folder and start again"
            ) from error
        every = tuple(range(len(self._index["names"])))
        self._selection = every if selection is None else selection

    def __reduce__(self) -> tuple[type[PreparedSet], tuple[Path, tuple[int, ...]]]:
        return PreparedSet, (self.folder, self._selection)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the films, in the order of their positions."""
        return tuple(self._index["names"][position] for position in self._selection)

    @property
    def height(self) -> int:
        """Rows of the canvas."""
        return int(self._grey.shape[1])

    @property
    def width(self) -> int:
        """Columns of the canvas."""
        return int(self._grey.shape[2])

    def __len__(self) -> int:
        return len(self._selection)

    def __getitem__(self, index: int) -> PreparedFilm:
        position = self._selection[index]
        first_region = int(self._region_ends[position - 1]) if position else 0
        regions = []
        for region in range(first_region, int(self._region_ends[position])):
            first_point = int(self._point_ends[region - 1]) if region else 0
            points = self._points[first_point : int(self._point_ends[region])]
            regions.append((Structure(int(self._structures[region])), points))
        return PreparedFilm(
            self._index["names"][position], np.array(self._grey[position]), tuple(regions)
        )

    def __iter__(self) -> Iterator[PreparedFilm]:
        return (self[index] for index in range(len(self)))

    def subset(self, names: Iterable[str]) -> PreparedSet:
        """The films of these names, in that order, over the same cache.

        Raises:
            FilmError: A film is not in this set.
        """
        places = dict(zip(self.names, self._selection, strict=True))
        try:
            return PreparedSet(self.folder, tuple(places[name] for name in names))
        except KeyError as error:
            raise FilmError(f"film {error.args[0]!r} is not in this set") from None


# --------------------------------------------------------------------------------------- prepare


def _fingerprint(films: FilmSet, names: tuple[str, ...], height: int, width: int) -> str:
    """Key of a cache: everything its content depends on."""
    digest = hashlib.sha256()
    head = {
        "format": CACHE_FORMAT,
        "preprocessing": PREPROCESSING_ID,
        "height": height,
        "width": width,
    }
    digest.update(json.dumps(head, sort_keys=True).encode())
    for name in names:
        stat = films.path(name).stat()
        digest.update(json.dumps([name, stat.st_size, stat.st_mtime_ns]).encode())
        for region in films.annotation(name).regions:
            digest.update(bytes([int(region.structure)]) + region.polygon_xy.tobytes())
    return digest.hexdigest()[:24]


def _prepare_one(
    films: FilmSet, name: str, height: int, width: int
) -> tuple[NDArray[np.uint8], list[tuple[Structure, NDArray[np.float64]]]]:
    film = films.film(name)
    grey, fit = letterbox(film.pixels, height, width)
    regions = [
        (region.structure, fit.to_canvas(region.polygon_xy))
        for region in films.annotation(name).regions
    ]
    return np.rint(grey * 255.0).astype(np.uint8), regions


def prepare_film_set(
    folder: str | os.PathLike[str],
    height: int,
    width: int,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    names: Iterable[str] | None = None,
    progress: bool = True,
    workers: int = 1,
    annotations: str | os.PathLike[str] | None = None,
) -> PreparedSet:
    """Every film of a folder on a canvas, decoded once and kept.

    The cache is keyed by names, sizes and times of the film files, the outlines themselves and
    the canvas, so a changed film or outline is prepared anew. It appears whole or not at all:
    two processes may prepare the same films at once, and one that is stopped leaves nothing that
    would be read.

    Args:
        folder: Films with their VIA or COCO file; see :class:`FilmSet`.
        height: Rows of the canvas.
        width: Columns of the canvas.
        cache_dir: Where prepared films are kept; None keeps them in the films' folder.
        names: Only these films; None takes all that have an entry.
        progress: Show a progress bar.
        workers: Threads that decode.
        annotations: The annotation file; None looks for it in the folder.

    Raises:
        FilmError: A film is missing or wrong; the message names it.
        AnnotationError: The outlines are missing or wrong.
        OptionError: The canvas or the number of workers is not positive.
    """
    if height < 1 or width < 1 or workers < 1:
        raise OptionError(
            f"height {height}, width {width}, workers {workers}: choose 1 or more of each"
        )
    films = FilmSet.open(folder, annotations)
    chosen = films.names if names is None else tuple(names)
    if not chosen:
        raise FilmError(f"folder {films.folder.name!r} holds no film with outlines")
    for name in chosen:
        films.path(name)
    base = Path(cache_dir) if cache_dir is not None else films.folder / CACHE_FOLDER
    target = base / f"{height}x{width}-{_fingerprint(films, chosen, height, width)}"
    if target.is_dir():
        return PreparedSet(target)
    base.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=base))
    try:
        _write_cache(partial, films, chosen, height, width, progress=progress, workers=workers)
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first with the same content
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return PreparedSet(target)


def _write_cache(
    folder: Path,
    films: FilmSet,
    names: tuple[str, ...],
    height: int,
    width: int,
    *,
    progress: bool,
    workers: int,
) -> None:
    grey = np.lib.format.open_memmap(
        folder / "grey.npy", mode="w+", dtype=np.uint8, shape=(len(names), height, width)
    )
    outlines: list[list[tuple[int, NDArray[np.float64]]]] = []
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda name: _prepare_one(films, name, height, width), names)
        bar = tqdm(done, total=len(names), desc="preparing films", disable=not progress)
        for position, (canvas, regions) in enumerate(bar):
            grey[position] = canvas
            outlines.append([(int(structure), polygon) for structure, polygon in regions])
    grey.flush()
    write_prepared_index(folder, names, outlines)


def write_prepared_index(
    folder: Path,
    names: Sequence[str],
    outlines: Sequence[Sequence[tuple[int, NDArray[np.float64]]]],
) -> None:
    """Writes what :class:`PreparedSet` reads beside ``grey.npy``.

    Args:
        folder: The cache folder.
        names: Of the films, in the order of ``grey.npy``.
        outlines: Of each film, number of the structure and (N, 2) outline on the canvas.
    """
    regions = [region for film in outlines for region in film]
    np.savez(
        folder / "outlines.npz",
        points_xy=np.concatenate([p for _, p in regions]) if regions else np.zeros((0, 2)),
        point_ends=np.cumsum([len(polygon) for _, polygon in regions], dtype=np.int64),
        structures=np.array([structure for structure, _ in regions], dtype=np.uint8),
        region_ends=np.cumsum([len(film) for film in outlines], dtype=np.int64),
    )
    index = {"names": list(names), "preprocessing_id": PREPROCESSING_ID}
    (folder / "index.json").write_text(json.dumps(index) + "\n", encoding="utf-8")


# --------------------------------------------------------------------------------------- augment


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """How far :func:`augment` goes. Shares are of films, 0 to 1; every other 0 switches off.

    Attributes:
        mirror_share: Films mirrored left to right: spines face either way.
        rotation_deg: Largest turn, either way.
        scale_range: Least and largest scale, drawn evenly on a logarithmic axis.
        far_share: Films scaled further than that: tight crops and whole-spine views.
        far_scale_range: Least and largest scale of those.
        shift: Largest shift, as a share of the canvas.
        anisotropy: Largest stretch of one axis against the other (0.05 is 5 %).
        gamma_range: Least and largest exponent of the grey levels, logarithmic.
        contrast_range: Least and largest contrast about the mean, logarithmic.
        faint_share: Films whose bones fade while body and air keep their levels, under the same
            noise and haze: obese patients, where scatter buries the spine.
        faint_range: What is left of the contrast of those, least and most, logarithmic.
        local_share: Films with local contrast as makers' processing leaves it (CLAHE).
        local_clip: Largest clip limit of that.
        brightness: Largest shift of unit grey, either way.
        blur_share: Films blurred.
        blur_px: Largest blur (standard deviation), in canvas pixels.
        sharpen_share: Films with enhanced edges; never those that are blurred.
        sharpen: Largest strength of that, as a share of what an unsharp mask finds.
        noise_share: Films with noise.
        noise: Largest standard deviation of noise, in unit grey.
        coarse_noise_share: Noisy films whose noise is correlated, as a scaled-down film's is.
        haze_share: Films with smooth local haze or shading.
        haze: Largest haze, in unit grey.
        invert_share: Films turned negative.
        grid_share: Films crossed by bright straight lines, as stitching leaves them.
        border_grey_share: Films whose outside is grey instead of black after a turn.
        metal_share: Films crossed by bright bars that are taught as rods: hardware in places and
            sizes that a generator would not think of.
        mask_share: Films whose border is covered, as collimation and shutters do.
    """

    mirror_share: float = 0.5
    rotation_deg: float = 10.0
    scale_range: tuple[float, float] = (0.7, 1.3)
    far_share: float = 0.1
    far_scale_range: tuple[float, float] = (0.55, 1.7)
    shift: float = 0.08
    anisotropy: float = 0.05
    gamma_range: tuple[float, float] = (0.6, 1.7)
    contrast_range: tuple[float, float] = (0.6, 1.5)
    faint_share: float = 0.15
    faint_range: tuple[float, float] = (0.2, 0.7)
    local_share: float = 0.15
    local_clip: float = 4.0
    brightness: float = 0.12
    blur_share: float = 0.25
    blur_px: float = 1.5
    sharpen_share: float = 0.2
    sharpen: float = 1.5
    noise_share: float = 0.5
    noise: float = 0.05
    coarse_noise_share: float = 0.3
    haze_share: float = 0.5
    haze: float = 0.3
    invert_share: float = 0.05
    grid_share: float = 0.05
    border_grey_share: float = 0.2
    metal_share: float = 0.05
    mask_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuses values outside their range.

        Raises:
            OptionError: A value is out of range; the message names it.
        """
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name.endswith("_share") and not 0.0 <= value <= 1.0:
                raise OptionError(f"{name} is {value}; choose 0 to 1")
            if name.endswith("_range") and not 0.0 < value[0] <= value[1]:
                raise OptionError(f"{name} is {value}; choose (least, largest) above 0")
            if not name.endswith(("_share", "_range")) and value < 0.0:
                raise OptionError(f"{name} is {value}; choose 0 or more")


def _between(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """A factor drawn evenly on a logarithmic axis."""
    return math.exp(rng.uniform(math.log(ends[0]), math.log(ends[1])))


def _draw_affine(
    height: int, width: int, rng: np.random.Generator, settings: AugmentSettings
) -> NDArray[np.float64]:
    """(2, 3) map from canvas to canvas in pixel edges: mirror, stretch, scale, turn, shift."""
    mirror = -1.0 if rng.random() < settings.mirror_share else 1.0
    angle = math.radians(rng.uniform(-settings.rotation_deg, settings.rotation_deg))
    far = rng.random() < settings.far_share
    scale = _between(rng, settings.far_scale_range if far else settings.scale_range)
    stretch = math.exp(rng.uniform(-1.0, 1.0) * math.log1p(settings.anisotropy) / 2.0)
    shift = rng.uniform(-settings.shift, settings.shift, 2) * (width, height)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.diag([mirror * scale * stretch, scale / stretch])
    middle = np.array([width / 2.0, height / 2.0])
    return np.column_stack([linear, middle + shift - linear @ middle])


def _warp(grey: NDArray[np.uint8], affine: NDArray[np.float64], border: int) -> NDArray[np.uint8]:
    """The canvas moved by a map in pixel edges; OpenCV counts from pixel centres."""
    centred = affine.copy()
    centred[:, 2] += affine[:, :2] @ (0.5, 0.5) - 0.5
    warped: Any = cv2.warpAffine(
        grey,
        centred,
        (grey.shape[1], grey.shape[0]),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    )
    return warped


def _tone_table(
    mean: float, rng: np.random.Generator, settings: AugmentSettings
) -> NDArray[np.float32]:
    """(256,) grey of each level after gamma, contrast, brightness and inversion."""
    levels = np.linspace(0.0, 1.0, 256, dtype=np.float32)
    gamma = _between(rng, settings.gamma_range)
    contrast = _between(rng, settings.contrast_range)
    brightness = rng.uniform(-settings.brightness, settings.brightness)
    middle = mean**gamma
    levels = (levels**gamma - middle) * contrast + middle + brightness
    if rng.random() < settings.invert_share:
        levels = 1.0 - levels
    return np.clip(levels, 0.0, 1.0) * np.float32(255.0)


def _smooth_field(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(height, width) smooth random field, about -1 to 1."""
    rows, columns = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    coarse = rng.uniform(-1.0, 1.0, (rows, columns)).astype(np.float32)
    field: Any = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return field


def _draw_grid(grey: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Bright straight lines over the whole canvas, in place."""
    height, width = grey.shape
    value = int(rng.integers(170, 256))
    step = int(rng.integers(height // 8, height // 2 + 1))
    for row in range(int(rng.integers(step)), height, step):
        grey[row] = np.maximum(grey[row], value)
    if rng.random() < 0.5:
        for column in range(int(rng.integers(step)), width, step):
            grey[:, column] = np.maximum(grey[:, column], value)


def _fade(
    grey: NDArray[np.uint8], rng: np.random.Generator, settings: AugmentSettings
) -> NDArray[np.uint8]:
    """The film with less contrast within about a vertebra's size; larger differences stay."""
    height, width = grey.shape
    left = _between(rng, settings.faint_range)
    # A wide blur is taken on an eighth of the pixels.
    small = cv2.resize(
        grey, (max(1, width // 8), max(1, height // 8)), interpolation=cv2.INTER_AREA
    )
    small = cv2.GaussianBlur(small, (0, 0), max(0.5, 0.06 * height / 8.0))
    smooth = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    faded: Any = cv2.addWeighted(smooth, 1.0 - left, grey, left, 0.0)
    return faded


def _draw_metal(
    grey: NDArray[np.uint8], rng: np.random.Generator
) -> list[tuple[Structure, NDArray[np.float64]]]:
    """One to three bright bars with soft ends, in place; their outlines."""
    height, width = grey.shape
    bars: list[tuple[Structure, NDArray[np.float64]]] = []
    for _ in range(int(rng.integers(1, 4))):
        middle = rng.uniform(0.2, 0.8, 2) * (width, height)
        along = _between(rng, (0.06, 0.4)) * height
        across = _between(rng, (0.012, 0.035)) * height
        angle = rng.uniform(0.0, math.pi)
        axis = np.array([math.cos(angle), math.sin(angle)])
        side = np.array([-axis[1], axis[0]])
        polygon = (
            middle
            + np.array(
                [
                    -axis * along - side * across,
                    axis * along - side * across,
                    axis * along + side * across,
                    -axis * along + side * across,
                ]
            )
            / 2.0
        )
        # OpenCV counts from pixel centres; 4 fractional bits keep thin bars straight.
        points = np.rint((polygon - 0.5) * 16.0).astype(np.int32)
        brightest = int(grey.max())
        value = int(np.clip(brightest * rng.uniform(0.95, 1.4), 0, 255))
        cv2.fillPoly(grey, [points], value, cv2.LINE_AA, shift=4)
        bars.append((Structure.ROD, polygon))
    return bars


def _cover_border(grey: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Covers one to four sides with one grey level, in place; outlines stay as they are."""
    height, width = grey.shape
    value = int(rng.choice((0, 0, 255, int(rng.integers(256)))))
    for side in rng.permutation(4)[: int(rng.integers(1, 5))]:
        depth = rng.uniform(0.02, 0.1)
        rows, columns = round(depth * height), round(depth * width)
        if side == 0:
            grey[:rows] = value
        elif side == 1:
            grey[height - rows :] = value
        elif side == 2:
            grey[:, :columns] = value
        else:
            grey[:, width - columns :] = value


def _noise(
    height: int, width: int, rng: np.random.Generator, settings: AugmentSettings
) -> NDArray[np.float32]:
    """(height, width) noise in grey levels of 255, white or correlated over about two pixels."""
    amount = np.float32(255.0 * rng.uniform(0.0, settings.noise))
    noise = rng.standard_normal((height, width), dtype=np.float32)
    if rng.random() < settings.coarse_noise_share:
        sigma = rng.uniform(0.5, 1.2)
        coarse: Any = cv2.GaussianBlur(noise, (0, 0), sigma)
        noise = coarse * np.float32(2.0 * math.sqrt(math.pi) * sigma)  # as strong as before
    return noise * amount


def augment(
    film: PreparedFilm,
    rng: np.random.Generator,
    settings: AugmentSettings = AugmentSettings(),
) -> PreparedFilm:
    """Another look at the same film: moved, then another exposure; outlines move exactly along.

    The same film, generator state and settings give the same result. The input is not changed.

    Args:
        film: A film on its canvas.
        rng: Where chance comes from.
        settings: How far to go.
    """
    height, width = film.grey.shape
    affine = _draw_affine(height, width, rng, settings)
    border = int(rng.integers(0, 160)) if rng.random() < settings.border_grey_share else 0
    grey: Any = _warp(film.grey, affine, border)  # OpenCV's types are wider than its values
    regions = film.regions
    if regions:
        points = np.concatenate([polygon for _, polygon in regions])
        moved = points @ affine[:, :2].T + affine[:, 2]
        ends = np.cumsum([len(polygon) for _, polygon in regions])[:-1]
        regions = tuple(
            (structure, polygon)
            for (structure, _), polygon in zip(regions, np.split(moved, ends), strict=True)
        )
    if rng.random() < settings.faint_share:
        grey = _fade(grey, rng, settings)
    if rng.random() < settings.metal_share:
        regions = (*regions, *_draw_metal(grey, rng))
    if rng.random() < settings.grid_share:
        _draw_grid(grey, rng)
    if rng.random() < settings.local_share:
        tiles = int(rng.integers(3, 9))
        clip = _between(rng, (1.0, max(1.0, settings.local_clip)))
        grey = cv2.createCLAHE(clip, (tiles, tiles)).apply(grey)
    mean = float(cv2.mean(grey)[0]) / 255.0
    table = _tone_table(mean, rng, settings)
    hazy, noisy = rng.random() < settings.haze_share, rng.random() < settings.noise_share
    if hazy or noisy:
        toned = cv2.LUT(grey, table)
        if hazy:
            # Haze lightens and flattens; shading (negative) darkens: grey += field * (white - grey)
            field = _smooth_field(height, width, rng) * np.float32(rng.uniform(0, settings.haze))
            toned = (
                toned + field * (np.float32(255.0) - toned)
                if rng.random() < 0.5
                else (toned * (np.float32(1.0) + field))
            )
        if noisy:
            toned = toned + _noise(height, width, rng, settings)
        grey = cv2.convertScaleAbs(np.maximum(toned, 0.0))
    else:
        grey = cv2.LUT(grey, np.rint(table).astype(np.uint8))
    if rng.random() < settings.blur_share:
        grey = cv2.GaussianBlur(grey, (0, 0), max(0.1, rng.uniform(0.0, settings.blur_px)))
    elif rng.random() < settings.sharpen_share:
        smooth = cv2.GaussianBlur(grey, (0, 0), rng.uniform(1.0, 4.0))
        strength = rng.uniform(0.0, settings.sharpen)
        grey = cv2.addWeighted(grey, 1.0 + strength, smooth, -strength, 0.0)
    if rng.random() < settings.mask_share:
        _cover_border(grey, rng)
    return PreparedFilm(film.name, grey, regions)


# --------------------------------------------------------------------------------------- targets


def network_input(film: PreparedFilm) -> NDArray[np.float32]:
    """(2, height, width) input of the networks, as serving makes it from the same canvas."""
    return two_channels(film.grey.astype(np.float32) / np.float32(255.0))


def label_map_of(film: PreparedFilm) -> NDArray[np.uint8]:
    """(height, width) ``uint8`` label map, 0 for background; hardware lies on top."""
    height, width = film.grey.shape
    return paint(
        [structure for structure, _ in film.regions],
        [polygon for _, polygon in film.regions],
        height,
        width,
    )


def label_map_with_gaps(film: PreparedFilm) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """What a semantic network is taught so that neighbouring vertebrae stay apart.

    After the weight map of Ronneberger et al. 2015 (https://arxiv.org/abs/1505.04597, section 3):
    vertebrae that touch are parted by a line of background, and pixels count the more, the narrower
    the gap between the two nearest vertebrae. Unlike there, the bone along a gap counts as much as
    the gap itself: weight on background alone teaches outlines that are too small. Hardware in a
    gap keeps its label.

    Returns:
        labels: (height, width) ``uint8``, as :func:`label_map_of` but for the lines.
        weights: (height, width) ``float32``, 1 to 1 + :data:`GAP_WEIGHT`.
    """
    height, width = film.grey.shape
    labels = label_map_of(film)
    sigma = GAP_REACH * height
    margin = math.ceil(3.0 * sigma)
    far = np.float32(1e3)
    nearest = np.full((height, width), far, dtype=np.float32)
    second = np.full((height, width), far, dtype=np.float32)
    bone = np.zeros((height, width), dtype=bool)
    polygons = [polygon for structure, polygon in film.regions if structure in VERTEBRAE]
    for patch in patches(polygons, height, width):
        if not patch.pixels.any():
            continue
        rows = slice(max(0, patch.rows.start - margin), min(height, patch.rows.stop + margin))
        columns = slice(
            max(0, patch.columns.start - margin), min(width, patch.columns.stop + margin)
        )
        outside = np.ones((rows.stop - rows.start, columns.stop - columns.start), dtype=np.uint8)
        top, left = patch.top - rows.start, patch.left - columns.start
        own = outside[top:, left:][: patch.pixels.shape[0], : patch.pixels.shape[1]]
        own[patch.pixels] = 0
        distance = np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, 3), dtype=np.float32)
        before = nearest[rows, columns]
        second[rows, columns] = np.minimum(second[rows, columns], np.maximum(before, distance))
        nearest[rows, columns] = np.minimum(before, distance)
        bone[patch.rows, patch.columns] |= patch.pixels
    # Within one pixel of two vertebrae: they touch or overlap here. (1.5: a diagonal step is 1.37
    # in OpenCV's measure.)
    line = bone & (second < 1.5)
    labels[line & np.isin(labels, [int(structure) for structure in VERTEBRAE])] = 0
    gap = np.exp(-np.square(nearest + second) / np.float32(2.0 * sigma**2))
    gap[bone & ~line] = 0.0
    gap = cv2.dilate(gap, np.ones((5, 5), dtype=np.uint8))
    return labels, np.float32(1.0) + np.float32(GAP_WEIGHT) * np.asarray(gap, dtype=np.float32)


def instances_of(
    film: PreparedFilm,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """What an instance network is taught: every object by itself, overlaps kept.

    Objects with fewer than :data:`MIN_INSTANCE_PX` pixels on the canvas, or with less than
    :data:`MIN_INSTANCE_SHARE` of their area on it, are left out.

    Returns:
        masks: (n, height, width) ``uint8``, 0 or 1.
        boxes: (n, 4) ``float32``, left, top, right, bottom in pixel edges around the mask.
        structures: (n,) ``int64``, the structures' numbers.
    """
    height, width = film.grey.shape
    drawn = patches([polygon for _, polygon in film.regions], height, width)
    kept = []
    for (structure, polygon), patch in zip(film.regions, drawn, strict=True):
        visible = int(np.count_nonzero(patch.pixels))
        if visible >= max(MIN_INSTANCE_PX, MIN_INSTANCE_SHARE * polygon_area(polygon)):
            kept.append((structure, patch))
    masks = np.zeros((len(kept), height, width), dtype=np.uint8)
    boxes = np.zeros((len(kept), 4), dtype=np.float32)
    structures = np.zeros(len(kept), dtype=np.int64)
    for index, (structure, patch) in enumerate(kept):
        masks[index, patch.rows, patch.columns] = patch.pixels
        rows = np.flatnonzero(patch.pixels.any(axis=1))
        columns = np.flatnonzero(patch.pixels.any(axis=0))
        boxes[index] = (
            patch.left + columns[0],
            patch.top + rows[0],
            patch.left + columns[-1] + 1,
            patch.top + rows[-1] + 1,
        )
        structures[index] = int(structure)
    return masks, boxes, structures
