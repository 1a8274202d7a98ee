"""Augmentation: another look at the same film, moved and exposed differently, truth moved along."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import OptionError
from spinezoo_contract.types import Structure

from spinezoo_training.prepared_set import PreparedFilm


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
        part_share: Faint and noisy films of which only a part is so: a hip, an arm or a thick
            flank lies over it.
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
    faint_share: float = 0.2
    faint_range: tuple[float, float] = (0.12, 0.7)
    part_share: float = 0.4
    local_share: float = 0.15
    local_clip: float = 4.0
    brightness: float = 0.12
    blur_share: float = 0.25
    blur_px: float = 1.5
    sharpen_share: float = 0.2
    sharpen: float = 1.5
    noise_share: float = 0.5
    noise: float = 0.06
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
    if rng.random() < settings.part_share:
        part = _part(height, width, rng) * np.float32(1.0 - left)
        mixed: Any = cv2.blendLinear(smooth, grey, part, np.float32(1.0) - part)
        return mixed
    faded: Any = cv2.addWeighted(smooth, 1.0 - left, grey, left, 0.0)
    return faded


def _part(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(height, width) 0 to 1: high over one soft-edged part of the canvas."""
    middle = rng.uniform(0.15, 0.95, 2) * (height, width)
    spread = rng.uniform(0.1, 0.35, 2) * height
    along = (np.arange(height, dtype=np.float32) - np.float32(middle[0])) / np.float32(spread[0])
    across = (np.arange(width, dtype=np.float32) - np.float32(middle[1])) / np.float32(spread[1])
    # A plateau with soft edges: 1 where both are small.
    part = np.exp(np.float32(-0.5) * along**4)[:, None] * np.exp(np.float32(-0.5) * across**4)
    return np.asarray(part, dtype=np.float32)


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
    if rng.random() < settings.part_share:  # little light comes through a part
        noise *= np.float32(0.4) + np.float32(1.3) * _part(height, width, rng)
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
