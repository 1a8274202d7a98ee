"""From attenuation to stored grey levels: beam, scatter, noise, response, display look."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from spinezoo_spine.phantom.settings import PhantomSettings

_COARSE_ROWS = 320


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the display of a film needs.

    Attributes:
        pixels: (H, W) uint16 stored grey levels.
        window_centre: Middle of the display window, grey levels.
        window_width: Width of the display window, grey levels.
        low_contrast: Whether the film was made faint.
    """

    pixels: np.ndarray
    window_centre: float
    window_width: float
    low_contrast: bool


def _coarse(image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    factor = max(1.0, height / _COARSE_ROWS)
    size = (max(8, round(width / factor)), max(8, round(height / factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _enlarge(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draws from a log-uniform distribution."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def expose(
    attenuation: np.ndarray,
    thickness_cm: np.ndarray,
    mm_per_px: float,
    spacing_mm: float,
    settings: PhantomSettings,
    rng: np.random.Generator,
) -> np.ndarray:
    """Lets the beam through and reads the detector.

    Args:
        attenuation: (H, W) float32 line integrals, no unit.
        thickness_cm: (h, w) soft tissue on a coarse grid: where the body is.
        mm_per_px: Pixel size in the sagittal mid-plane.
        spacing_mm: Pixel size at the detector plane.
        settings: Knobs.
        rng: The detector's own random stream.

    Returns:
        (H, W) float32 logarithmic signal, dense parts high.
    """
    hardness = rng.uniform(0.75, 1.1)  # a harder beam lowers every contrast
    primary = cv2.exp(np.maximum(attenuation, 0) * np.float32(-hardness))
    coarse = _coarse(primary)
    body = cv2.resize(thickness_cm, (coarse.shape[1], coarse.shape[0])) > 8
    typical = float(np.median(coarse[body])) if body.any() else float(np.median(coarse))
    # Scatter comes from the body: clamping keeps the bare beam beside it from flooding the film.
    clamped = np.minimum(coarse, typical * rng.uniform(1, 4))
    coarse_mm = mm_per_px * attenuation.shape[0] / coarse.shape[0]
    spread = rng.uniform(15, 50) / coarse_mm
    scatter = cv2.GaussianBlur(clamped, (0, 0), spread) * np.float32(log_uniform(rng, 0.05, 1.2))
    signal = primary + _enlarge(scatter, primary.shape)
    blur_px = rng.uniform(0.10, 0.42) / spacing_mm  # focus and detector blur, mm to px
    if blur_px > 0.25:
        signal = cv2.GaussianBlur(signal, (0, 0), blur_px)
    # Quantum noise: relative deviation 1/sqrt(quanta); quanta scale with the pixel's area.
    quanta_per_mm2 = log_uniform(rng, 3e3, 1.2e5)
    reference = float(np.percentile(coarse, 20)) + 1e-6
    noise_scale = 1.5 * settings.noise_scale / np.sqrt(quanta_per_mm2 * spacing_mm**2)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    relative = cv2.sqrt(np.clip(reference / np.maximum(signal, 1e-7), 0.01, 16.0))
    grain_px = rng.uniform(0.0, 0.9)
    if grain_px > 0.35:  # the phosphor spreads quanta: noise is not white
        noise = cv2.GaussianBlur(noise, (0, 0), grain_px)
    signal = cv2.log(np.maximum(signal, 1e-7))
    return noise * relative * np.float32(noise_scale) - signal


def _draw_grid(image: np.ndarray, px_per_film_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Burns in the white stitching grid of upright wall stands."""
    height, width = image.shape
    pitch = rng.uniform(35, 75) * px_per_film_mm
    mask = np.zeros(image.shape, np.uint8)
    lean = rng.normal(0, 0.004)
    thickness = max(1, round(rng.uniform(0.35, 0.9) * px_per_film_mm))
    for column in np.arange(rng.uniform(0, pitch), width, pitch):
        cv2.line(
            mask,
            (int(column), 0),
            (int(column + lean * height), height),
            255,
            thickness,
            cv2.LINE_AA,
        )
    for row in np.arange(rng.uniform(0, pitch), height, pitch):
        cv2.line(mask, (0, int(row)), (width, int(row - lean * width)), 255, thickness, cv2.LINE_AA)
    strength = mask * np.float32(rng.uniform(0.08, 0.8) / 255)
    bright = np.maximum(image, 1.0 if rng.random() < 0.5 else image + np.float32(0.2))
    return image + (bright - image) * strength


def _draw_text(image: np.ndarray, rng: np.random.Generator) -> None:
    """Burns in a side letter or a note."""
    height, width = image.shape
    words = ("R", "L", "STANDING", "LAT", "P 12", "25.0", "UPRIGHT")
    word = words[int(rng.integers(0, len(words)))]
    near_left = rng.random() < 0.5  # technicians keep clear of the spine
    column = rng.uniform(0.02, 0.15) if near_left else rng.uniform(0.72, 0.92)
    where = (int(column * width), int(rng.uniform(0.05, 0.98) * height))
    size = rng.uniform(0.8, 1.9) * height / 1024
    mask = np.zeros(image.shape, np.uint8)
    cv2.putText(
        mask,
        word,
        where,
        cv2.FONT_HERSHEY_SIMPLEX,
        size,
        255,
        max(1, round(2.5 * height / 1024)),
        cv2.LINE_AA,
    )
    image += (np.float32(rng.uniform(0.75, 1.0)) - image) * (mask * np.float32(1 / 255))


def _collimate(image: np.ndarray, rng: np.random.Generator) -> None:
    """Shades borders as collimator blades, or paints the bars of a cropped print."""
    height, width = image.shape
    spans = (
        (0.20, (slice(None), slice(0, int(rng.uniform(0, 0.10) * width)))),
        (0.15, (slice(None), slice(width - int(rng.uniform(0, 0.12) * width), width))),
        (0.12, (slice(0, int(rng.uniform(0, 0.07) * height)), slice(None))),
        (0.10, (slice(height - int(rng.uniform(0, 0.06) * height), height), slice(None))),
    )
    for share, span in spans:
        if rng.random() < share:
            value = float(rng.choice([0.0, 0.0, 1.0, rng.uniform(0, 1)]))
            keep = rng.uniform(0, 0.15) if value < 0.5 else 0.0
            image[span] = image[span] * np.float32(keep) + np.float32(value * (1 - keep))


def develop(
    signal: np.ndarray,
    thickness_cm: np.ndarray,
    mm_per_px: float,
    spacing_mm: float,
    settings: PhantomSettings,
    rng: np.random.Generator,
    *,
    mirrored: bool = False,
) -> Exposure:
    """Gives the logarithmic signal one of many viewing-station looks.

    Args:
        signal: (H, W) float32 from `expose`.
        thickness_cm: (h, w) soft tissue: where the body is.
        mm_per_px: Pixel size in the sagittal mid-plane.
        spacing_mm: Pixel size at the detector plane.
        settings: Knobs; `display_variation` scales how often and how far looks differ.
        rng: The display's own random stream.
        mirrored: Turn the patient round, before anything is written on the film.

    Returns:
        Stored grey levels and their display window.
    """
    vary = settings.display_variation
    low_contrast = bool(rng.random() < settings.low_contrast_share * vary)
    image = signal
    if mirrored:
        image, thickness_cm = cv2.flip(image, 1), cv2.flip(thickness_cm, 1)
    small = _coarse(image)
    small_mm = mm_per_px * image.shape[0] / small.shape[0]
    body = cv2.resize(thickness_cm, (small.shape[1], small.shape[0])) > 8
    if not body.any():
        body = np.ones_like(body)

    if rng.random() < 0.85:  # dynamic range compression: take away part of the local mean
        share = rng.uniform(0.1, 0.8) if vary else 0.4
        local = cv2.GaussianBlur(small, (0, 0), rng.uniform(8, 45) / small_mm)
        image = image - np.float32(share) * _enlarge(local, image.shape)
        small = small - np.float32(share) * local
    if rng.random() < 0.6:  # saturating table: what lies outside the body is pressed together
        centre = float(np.median(small[body]))
        low = float(np.percentile(small, 3))
        gain = rng.uniform(1.2, 4.0)
        image = np.maximum((image - np.float32(low)) * np.float32(1 / (centre - low + 1e-3)), 0)
        image = np.minimum(image, 1) + np.maximum(image - 1, 0) * np.float32(gain)
        small = np.maximum((small - low) / (centre - low + 1e-3), 0)
        small = np.minimum(small, 1) + np.maximum(small - 1, 0) * gain
    sample = image[::3, ::3]
    low = float(np.percentile(sample, rng.uniform(0, 10) * vary))
    high = float(np.percentile(sample, 100 - rng.uniform(0, 1.6) * vary))
    high = max(high, low + 0.3)
    reach = high - low
    high += reach * rng.uniform(-0.05, 0.15) * vary
    low -= reach * rng.uniform(-0.10, 0.25) * vary
    image = np.clip((image - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    gamma = float(np.exp(rng.uniform(-0.65, 0.45) * vary))
    image = cv2.pow(image, gamma)
    if rng.random() < 0.30 * vary:
        tiles = int(rng.integers(3, 9))
        equaliser = cv2.createCLAHE(float(rng.uniform(1, 3.5)), (tiles, tiles))
        image = equaliser.apply((image * 4095).astype(np.uint16)).astype(np.float32)
        image /= max(float(image.max()), 1.0)
    if rng.random() < 0.5 * vary:  # edge enhancement
        strength = rng.uniform(0.1, 1.0)
        mean = cv2.GaussianBlur(_coarse(image), (0, 0), rng.uniform(1.5, 12) / small_mm)
        image = image + np.float32(strength) * (image - _enlarge(mean, image.shape))
    if low_contrast:
        centre = float(np.median(_coarse(image)[body]))
        image = np.float32(centre) + (image - np.float32(centre)) * np.float32(
            rng.uniform(0.25, 0.6)
        )
    else:
        image = image * np.float32(1 - 0.25 * vary * rng.random() ** 2)
    image = image + np.float32(vary * rng.uniform(0, 0.12) * rng.random())
    if rng.random() < 0.60 * vary:
        image = _draw_grid(image, 1 / spacing_mm, rng)
    if rng.random() < 0.12 * vary:  # seam of two stitched exposures
        seam = int(rng.uniform(0.04, 0.96) * image.shape[0])
        image[seam:] = image[seam:] * np.float32(rng.uniform(0.88, 1.12)) + np.float32(
            rng.uniform(-0.04, 0.04)
        )
        image[seam : seam + max(1, image.shape[0] // 500)] += np.float32(rng.uniform(-0.3, 0.6))
    if rng.random() < 0.5 * vary:
        _collimate(image, rng)
    if rng.random() < 0.4 * vary:
        _draw_text(image, rng)

    top = 2**settings.bits_stored - 1
    # The stored range is a little wider than the window, as on real equipment.
    floor, ceiling = (rng.uniform(0, 0.08) * vary, 1 - rng.uniform(0, 0.08) * vary)
    stored = np.clip(image, -0.2, 1.2) * np.float32(ceiling - floor) + np.float32(floor)
    pixels = np.rint(np.clip(stored, 0, 1) * top).astype(np.uint16)
    centre_level = round((floor + ceiling) / 2 * top, 1)
    return Exposure(pixels, centre_level, round((ceiling - floor) * top, 1), low_contrast)
