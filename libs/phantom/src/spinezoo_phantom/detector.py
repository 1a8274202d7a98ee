"""From path lengths to grey levels: beam, scatter, noise, response, processing, marks.

`look(layers, ...)` draws one of very many ways in which the same patient may have been exposed,
processed and printed. Attenuation after *Hubbell & Seltzer 1995* (NISTIR 5632) near 60 keV:
cortical bone exceeds the soft tissue that it displaces by 0.40 per cm, titanium is 3.5 per cm
before the beam hardens in it. Scatter-to-primary ratios follow *Boone 2000* only in their order
of magnitude (0.1 to 2 behind a grid in a thick patient). Ranges are wider than physics asks: that
is what makes networks carry over to other equipment (shared prototype, lessons 2, 4 and 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from spinezoo_phantom.settings import PhantomSettings

_COARSE_ROWS = 160
_CORTICAL_PER_CM = 0.40
_CANCELLOUS_PER_CM = 0.055
_TITANIUM_PER_CM = 3.5


@dataclass(slots=True)
class Layers:
    """A patient's path lengths on one grid, (H, W) float32, and its scale.

    Attributes:
        body_core: Cancellous bone of bodies, cm weighted by density.
        body_shell: Cortical bone of bodies, cm.
        arch_core: Cancellous bone of arches, cm weighted by density.
        arch_shell: Cortical bone of arches, cm.
        far_core: Cancellous bone of pelvis and ribs, cm weighted by density.
        far_shell: Cortical bone of pelvis and ribs, cm.
        metal: cm of titanium.
        cement: cm of bone cement.
        soft: Attenuation of soft tissue, no unit.
        dense: Attenuation of small dense things, no unit.
        texture: Trabecular noise, mean 0, deviation about 1.
        thickness_cm: (h, w) tissue on a coarse grid.
        mm_per_px: Pixel size in the sagittal mid-plane.
        spacing_mm: Pixel size at the detector plane.
    """

    body_core: np.ndarray
    body_shell: np.ndarray
    arch_core: np.ndarray
    arch_shell: np.ndarray
    far_core: np.ndarray
    far_shell: np.ndarray
    metal: np.ndarray
    cement: np.ndarray
    soft: np.ndarray
    dense: np.ndarray
    texture: np.ndarray
    thickness_cm: np.ndarray
    mm_per_px: float
    spacing_mm: float


@dataclass(frozen=True, slots=True)
class Look:
    """One exposure and display of a patient.

    Attributes:
        grey: (H, W) float32 displayed brightness, 0 to 1, bone bright.
        low_contrast: Whether bone was made faint on purpose.
        maker: Name of the processing.
        marks: What is on the film: grid, text, seam, scratches, shutters.
    """

    grey: np.ndarray
    low_contrast: bool
    maker: str
    marks: tuple[str, ...]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draws from a log-uniform distribution."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _coarse(image: np.ndarray, rows: int = _COARSE_ROWS) -> np.ndarray:
    height, width = image.shape
    factor = max(1.0, height / rows)
    size = (max(8, round(width / factor)), max(8, round(height / factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _enlarge(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def _smooth(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian blur; wide ones on a coarser grid, where they cost nothing."""
    if sigma_px < 3.0:
        return cv2.GaussianBlur(image, (0, 0), max(sigma_px, 0.1))
    factor = min(sigma_px / 1.5, image.shape[0] / 16, image.shape[1] / 16)
    size = (max(8, round(image.shape[1] / factor)), max(8, round(image.shape[0] / factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px * size[1] / image.shape[0])
    return _enlarge(small, image.shape)


def attenuate(layers: Layers, rng: np.random.Generator) -> np.ndarray:
    """Sums up attenuation with one patient's mineral and one beam's hardness.

    Returns:
        (H, W) float32 line integrals, no unit.
    """
    mineral = log_uniform(rng, 0.6, 1.5)
    core = np.float32(_CANCELLOUS_PER_CM * mineral * log_uniform(rng, 0.45, 1.9))
    shell = np.float32(_CORTICAL_PER_CM * mineral * log_uniform(rng, 0.5, 1.5))
    arch = np.float32(log_uniform(rng, 0.55, 1.5))
    far = np.float32(log_uniform(rng, 0.25, 1.0))
    grain = np.float32(rng.uniform(0, 0.3))
    total = layers.soft * np.float32(rng.uniform(0.85, 1.15))
    total += core * (layers.body_core * (1 + grain * layers.texture) + arch * layers.arch_core)
    total += shell * (layers.body_shell + arch * layers.arch_shell)
    total += far * (core * layers.far_core + shell * layers.far_shell)
    total += layers.dense
    # The beam hardens in metal; many films show it at an unsaturated grey.
    metal = np.float32(_TITANIUM_PER_CM * log_uniform(rng, 0.15, 1.3))
    darkest = np.float32(6.0 if rng.random() < 0.7 else log_uniform(rng, 1.0, 6.0))
    total += np.minimum(metal * layers.metal, darkest)
    total += np.float32(rng.uniform(0.4, 1.3)) * layers.cement
    np.maximum(total, 0, out=total)
    return total


def _veil(
    scatter: np.ndarray, coarse: np.ndarray, layers: Layers, rng: np.random.Generator
) -> np.ndarray:
    """Stronger scatter over part of the film, as behind hips, arms and thick flanks.

    Where scatter is several times the primary beam, bone and its neighbours become one grey.

    Args:
        scatter: (h, w) coarse scatter.
        coarse: (h, w) coarse primary beam.
        layers: The patient.
        rng: Where chance comes from.

    Returns:
        (h, w) coarse scatter.
    """
    height, width = coarse.shape
    bone = cv2.resize(layers.body_core, (width, height), interpolation=cv2.INTER_AREA)
    rows, columns = np.nonzero(bone > 0.2 * float(bone.max()))
    if len(rows) == 0:
        return scatter
    # Half of them over the lumbosacral region, where the body is thickest.
    low = np.quantile(rows, 0.7)
    part = rows >= low if rng.random() < 0.5 else np.ones(len(rows), dtype=bool)
    place = int(rng.choice(np.flatnonzero(part)))
    spread = height * rng.uniform(0.08, 0.35, 2)
    across = (np.arange(width, dtype=np.float32)[None] - columns[place]) / np.float32(spread[0])
    along = (np.arange(height, dtype=np.float32)[:, None] - rows[place]) / np.float32(spread[1])
    field = np.exp(np.float32(-0.5) * (across * across + along * along))
    local = float(np.median(coarse[rows[part], columns[part]]))
    return scatter + field * np.float32(local * log_uniform(rng, 0.5, 8.0))


def expose(
    attenuation: np.ndarray, layers: Layers, noise_scale: float, rng: np.random.Generator
) -> np.ndarray:
    """Lets the beam through and reads the detector.

    Returns:
        (H, W) float32 logarithmic signal, dense parts high.
    """
    hardness = rng.uniform(0.75, 1.1)  # a harder beam lowers every contrast
    primary = cv2.exp(attenuation * np.float32(-hardness))
    coarse = _coarse(primary)
    body = cv2.resize(layers.thickness_cm, (coarse.shape[1], coarse.shape[0])) > 8
    typical = float(np.median(coarse[body])) if body.any() else float(np.median(coarse))
    # Scatter comes from the body: clamping keeps the bare beam beside it from flooding the film.
    clamped = np.minimum(coarse, np.float32(typical * rng.uniform(1, 4)))
    coarse_mm = layers.mm_per_px * attenuation.shape[0] / coarse.shape[0]
    scatter = cv2.GaussianBlur(clamped, (0, 0), rng.uniform(15, 50) / coarse_mm)
    scatter *= np.float32(log_uniform(rng, 0.05, 2.2))
    if rng.random() < 0.3:
        scatter = _veil(scatter, coarse, layers, rng)
    signal = primary + _enlarge(scatter, primary.shape)
    # Focus (0.6 to 1.2 mm, seen through the magnification) and detector blur.
    blur_px = rng.uniform(0.08, 0.38) / layers.spacing_mm
    if blur_px > 0.25:
        signal = cv2.GaussianBlur(signal, (0, 0), blur_px)
    # Quantum noise: relative deviation 1/sqrt(quanta); quanta scale with the pixel's area.
    quanta_per_mm2 = log_uniform(rng, 8e2, 6e4) if rng.random() < 0.9 else rng.uniform(2e2, 1e3)
    reference = float(np.percentile(coarse, 20)) + 1e-6
    amount = 1.5 * noise_scale / np.sqrt(quanta_per_mm2 * layers.spacing_mm**2)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    grain_px = rng.uniform(0.0, 0.9)
    if grain_px > 0.35:  # the phosphor spreads quanta: noise is not white
        noise = cv2.GaussianBlur(noise, (0, 0), grain_px)
    relative = cv2.sqrt(np.clip(reference / np.maximum(signal, 1e-7), 0.01, 16.0))
    # Electronic noise does not fall with the signal: it shows where little light is left.
    electronic = rng.uniform(0, 0.25) * noise_scale * amount
    relative += np.float32(electronic) * relative * relative
    signal = cv2.log(np.maximum(signal, 1e-7))
    return noise * relative * np.float32(amount) - signal


MAKERS = ("plain", "compressed", "bands", "local", "print")


def _process(
    signal: np.ndarray, body: np.ndarray, mm_per_px: float, vary: float, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """Gives the logarithmic signal one maker's processing; returns it without fixed range."""
    maker = str(rng.choice(MAKERS, p=[0.28, 0.22, 0.20, 0.10, 0.20])) if vary else "compressed"
    image = signal
    if maker in ("compressed", "local", "print") and vary:
        # Dynamic range compression: part of the local mean is taken away.
        share = rng.uniform(0.1, 0.85) * (0.5 if maker == "print" else 1.0)
        image = image - np.float32(share) * _smooth(image, rng.uniform(8, 45) / mm_per_px)
    elif maker == "compressed":
        image = image - np.float32(0.4) * _smooth(image, 25 / mm_per_px)
    if maker == "bands":
        # A pyramid: every band with a gain of its own, large amplitudes pressed.
        lower = image
        result = np.zeros_like(image)
        press = rng.uniform(0.55, 1.0)
        tilt = rng.uniform(0.0, 1.2)
        for step, sigma_mm in enumerate((0.6, 1.5, 4.0, 11.0, 30.0)):
            smooth = _smooth(lower, sigma_mm / mm_per_px)
            band = lower - smooth
            lower = smooth
            gain = np.float32((1.4 - 0.18 * step * tilt) * log_uniform(rng, 0.7, 1.6))
            if step in (2, 3) and press < 0.9:
                scale = np.float32(max(float(np.std(band[::4, ::4])), 1e-4))
                size = np.abs(band) / scale
                band = np.sign(band) * scale * np.power(size + np.float32(0.02), np.float32(press))
            result += gain * band
        image = result + np.float32(rng.uniform(0.15, 0.75)) * lower
    if rng.random() < 0.4:  # saturating table: what lies outside the body is pressed together
        small = _coarse(image)
        centre = float(np.median(small[body]))
        low = float(np.percentile(small, 3))
        image = np.maximum((image - np.float32(low)) * np.float32(1 / (centre - low + 1e-3)), 0)
        gain = np.float32(log_uniform(rng, 0.5, 3.5))
        image = np.minimum(image, 1) + np.maximum(image - 1, 0) * gain
    return image, maker


def _tone(
    image: np.ndarray, body: np.ndarray, mm_per_px: float, maker: str, vary: float,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Window, response curve, local contrast and edge enhancement; returns about 0 to 1."""
    sample = image[::3, ::3]
    # Most films hold everything from bare beam to hip: bone is then a few per cent of the range.
    spans = rng.random() < 0.5 * vary
    if spans:
        low = float(np.percentile(sample, rng.uniform(0, 3)))
        high = float(np.percentile(sample, 100 - rng.uniform(0, 0.3)))
    else:
        if rng.random() < 0.4 * vary:  # the window is set on the body alone
            sample = _coarse(image)[body]
        low = float(np.percentile(sample, rng.uniform(0, 10) * vary))
        high = float(np.percentile(sample, 100 - rng.uniform(0, 1.6) * vary))
    high = max(high, low + 0.25)
    reach = high - low
    high += reach * rng.uniform(-0.05, 0.18) * vary
    low -= reach * rng.uniform(-0.12, 0.20) * vary
    image = np.clip((image - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    if maker == "print":  # toe and shoulder of film
        steep = rng.uniform(3.0, 7.0)
        middle = rng.uniform(0.35, 0.65)
        ends = 1 / (1 + np.exp(-steep * (np.array([0.0, 1.0]) - middle)))
        image = 1 / (1 + cv2.exp(np.float32(-steep) * (image - np.float32(middle))))
        image = (image - np.float32(ends[0])) * np.float32(1 / (ends[1] - ends[0]))
        image = np.clip(image, 0, 1)
    gamma = float(np.exp(rng.uniform(-0.65, 0.5) * vary))
    if spans:  # the table puts the body where readers want it
        middle = float(np.clip(np.median(_coarse(image)[body]), 0.05, 0.95))
        gamma = float(np.clip(np.log(rng.uniform(0.5, 0.88)) / np.log(middle), 0.3, 2.5))
    image = cv2.pow(image, gamma)
    if maker == "local" or rng.random() < 0.15 * vary:
        tiles = int(rng.integers(3, 9))
        equaliser = cv2.createCLAHE(float(rng.uniform(1, 3.5)), (tiles, tiles))
        # In 8 bits it is twenty times faster; what is finer than a level is put back.
        levels = cv2.convertScaleAbs(image, alpha=255)
        finer = image - levels * np.float32(1 / 255)
        image = equaliser.apply(levels) * np.float32(1 / 255) + finer
    if rng.random() < 0.55 * vary:  # edge enhancement
        strength = np.float32(rng.uniform(0.1, 1.1))
        image = image + strength * (image - _smooth(image, rng.uniform(0.8, 10) / mm_per_px))
    return image


def _shade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Uneven brightness: heel effect, cut-off of the grid, dark corners."""
    height, width = image.shape
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = rng.normal(0, 0.10, 2)
    field = 1 + np.float32(slope[0]) * x + np.float32(slope[1]) * y
    if rng.random() < 0.4:
        field = field - np.float32(rng.uniform(0, 0.35)) * (x * x + y * y)
    return image * np.maximum(field, 0.1)


def _draw_grid(image: np.ndarray, px_per_film_mm: float, rng: np.random.Generator) -> np.ndarray:
    """White lines of a stitching ruler: strong over the body, fading where the film is black."""
    height, width = image.shape
    pitch = (50.0 if rng.random() < 0.6 else rng.uniform(18, 80)) * px_per_film_mm
    width_px = rng.uniform(0.35, 0.9) * px_per_film_mm
    lean = rng.normal(0, 0.003)
    columns = np.arange(width, dtype=np.float32)[None] + 0.5
    rows = np.arange(height, dtype=np.float32)[:, None] + 0.5

    def comb(across: np.ndarray, along: np.ndarray) -> np.ndarray:
        phase = across + np.float32(lean) * along - np.float32(rng.uniform(0, pitch))
        away = np.abs(phase - np.float32(pitch) * np.round(phase * np.float32(1 / pitch)))
        return np.clip(np.float32(width_px / 2 + 0.5) - away, 0, min(1.0, width_px))

    lines = comb(columns, rows)
    if rng.random() < 0.9:
        lines = np.maximum(lines, comb(rows, -columns))
    strength = np.float32(rng.uniform(0.15, 1.0))
    if rng.random() < 0.6:
        lines = lines * np.clip(image * np.float32(rng.uniform(2, 6)), 0, 1)
    bright = np.float32(rng.uniform(0.8, 1.0)) if rng.random() < 0.6 else image + np.float32(0.2)
    return image + np.maximum(bright - image, 0) * lines * strength


def _draw_scratches(image: np.ndarray, px_per_film_mm: float, rng: np.random.Generator) -> None:
    """Clusters of short bright dashes and dust, as rollers leave them on digitised film."""
    height, width = image.shape
    mask = np.zeros(image.shape, np.uint8)
    for _ in range(int(rng.integers(1, 9))):
        middle = rng.uniform(0, 1, 2) * [width, height]
        spread = rng.uniform(2, 25, 2) * px_per_film_mm
        for _dash in range(int(rng.integers(3, 30))):
            x, y = middle + rng.normal(0, 1, 2) * spread
            length = rng.exponential(3.5) * px_per_film_mm
            rise = rng.normal(0, 0.08) * length
            grey = int(rng.uniform(40, 255))
            start, end = (int(x * 16), int(y * 16)), (int((x + length) * 16), int((y + rise) * 16))
            cv2.line(mask, start, end, grey, 1, cv2.LINE_AA, 4)
    for _ in range(int(rng.integers(0, 12))):  # dust
        x, y = rng.uniform(0, 1, 2) * [width, height]
        cv2.circle(
            mask, (int(x), int(y)), max(0, round(0.5 * px_per_film_mm)), 200, -1, cv2.LINE_AA
        )
    if rng.random() < 0.2:  # hairs and seams
        course = np.cumsum(rng.normal(0, 6, (8, 2)) * px_per_film_mm, axis=0)
        course = course + rng.uniform(0, 1, 2) * [width, height]
        cv2.polylines(mask, [(course * 16).astype(np.int32)], False, 120, 1, cv2.LINE_AA, 4)
    share = np.float32(rng.uniform(0.15, 0.7) / 255) * min(1.0, px_per_film_mm * 0.5)
    image += np.maximum(np.float32(0.95) - image, 0) * mask * np.float32(share)


def _draw_text(image: np.ndarray, rng: np.random.Generator) -> None:
    """Burns in a side letter or a note, or a lead marker."""
    height, width = image.shape
    words = ("R", "L", "STANDING", "LAT", "P 12", "25.0", "UPRIGHT", "L-SPINE", "RT", "LEFT")
    word = words[int(rng.integers(0, len(words)))]
    near_left = rng.random() < 0.5  # technicians keep clear of the spine
    column = rng.uniform(0.02, 0.15) if near_left else rng.uniform(0.72, 0.92)
    where = (int(column * width), int(rng.uniform(0.05, 0.98) * height))
    size = rng.uniform(0.8, 2.2) * height / 1024
    thick = max(1, round(2.5 * height / 1024))
    mask = np.zeros(image.shape, np.uint8)
    if rng.random() < 0.25:  # on a dark label
        (wide, high), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, size, thick)
        low = (max(where[0] - 3, 0), max(where[1] - high - 3, 0))
        image[low[1] : where[1] + 3, low[0] : where[0] + wide + 3] = 0
    cv2.putText(mask, word, where, cv2.FONT_HERSHEY_SIMPLEX, size, 255, thick, cv2.LINE_AA)
    image += (np.float32(rng.uniform(0.75, 1.0)) - image) * (mask * np.float32(1 / 255))


def _collimate(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shades borders as collimator blades, or paints the bars of a cropped print."""
    height, width = image.shape
    x = (np.arange(width, dtype=np.float32) + 0.5)[None] * np.float32(1 / width)
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None] * np.float32(1 / height)
    cut = rng.uniform(0, 1, 4) < [0.25, 0.2, 0.15, 0.12]
    depth = rng.uniform(0, [0.12, 0.14, 0.08, 0.07])
    lean = rng.normal(0, 0.01, 4)
    soft = np.float32(1 / rng.uniform(0.001, 0.02))
    open_part = np.ones_like(image)
    for use, inner in zip(
        cut,
        (
            x - depth[0] + lean[0] * y, 1 - x - depth[1] + lean[1] * y,
            y - depth[2] + lean[2] * x, 1 - y - depth[3] + lean[3] * x,
        ),
        strict=True,
    ):  # fmt: skip
        if use:
            open_part = open_part * np.clip(inner.astype(np.float32) * soft + 0.5, 0, 1)
    value = float(rng.choice([0.0, 0.0, 1.0, rng.uniform(0, 1)]))
    keep = np.float32(rng.uniform(0, 0.15)) if value < 0.5 else np.float32(0)
    closed = image * keep + np.float32(value * (1 - float(keep)))
    return image * open_part + closed * (1 - open_part)


def look(
    layers: Layers, settings: PhantomSettings, rng: np.random.Generator, *, mirrored: bool
) -> Look:
    """Exposes, processes and prints a patient in one of very many ways.

    Args:
        layers: The patient's path lengths, facing right.
        settings: Knobs; `display_variation` scales how often and how far looks differ.
        rng: Where chance comes from.
        mirrored: Turn the patient round, before anything is written on the film.

    Returns:
        The displayed film.
    """
    vary = settings.display_variation
    low_contrast = bool(rng.random() < settings.low_contrast_share * vary)
    signal = expose(attenuate(layers, rng), layers, settings.noise_scale, rng)
    thickness = layers.thickness_cm
    if mirrored:
        signal, thickness = cv2.flip(signal, 1), cv2.flip(thickness, 1)
    small = _coarse(signal)
    body = cv2.resize(thickness, (small.shape[1], small.shape[0])) > 8
    if not body.any():
        body = np.ones_like(body)
    image, maker = _process(signal, body, layers.mm_per_px, vary, rng)
    image = _tone(image, body, layers.mm_per_px, maker, vary, rng)
    if rng.random() < 0.35 * vary:
        image = _shade(image, rng)
    if low_contrast:
        centre = float(np.median(_coarse(image)[body]))
        share = np.float32(rng.uniform(0.2, 0.7))
        image = np.float32(centre) + (image - np.float32(centre)) * share
    else:
        image = image * np.float32(1 - 0.25 * vary * rng.random() ** 2)
    image = image + np.float32(vary * rng.uniform(0, 0.12) * rng.random())
    if rng.random() < 0.7 * vary:  # grain of film, noise of the digitiser: the same in every grey
        grain: Any = rng.standard_normal(image.shape, dtype=np.float32)
        grain_px = rng.uniform(0.15, 0.35) / layers.spacing_mm
        if grain_px > 0.35:
            grain = cv2.GaussianBlur(grain, (0, 0), grain_px)
        amount = settings.noise_scale * log_uniform(rng, 0.003, 0.035)
        image += grain * np.float32(amount * min(1.0, 0.4 / layers.spacing_mm))
    marks: list[str] = []
    px_per_film_mm = 1 / layers.spacing_mm
    if rng.random() < 0.12 * vary:  # seam of two stitched exposures
        seam = int(rng.uniform(0.04, 0.96) * image.shape[0])
        image[seam:] = image[seam:] * np.float32(rng.uniform(0.85, 1.15)) + np.float32(
            rng.uniform(-0.05, 0.05)
        )
        image[seam : seam + max(1, image.shape[0] // 500)] += np.float32(rng.uniform(-0.3, 0.6))
        marks.append("seam")
    if rng.random() < 0.6 * vary:
        image = _draw_grid(image, px_per_film_mm, rng)
        marks.append("grid")
    if rng.random() < 0.3 * vary:
        _draw_scratches(image, px_per_film_mm, rng)
        marks.append("scratches")
    if rng.random() < 0.45 * vary:
        image = _collimate(image, rng)
        marks.append("shutters")
    if rng.random() < 0.35 * vary:
        _draw_text(image, rng)
        marks.append("text")
    return Look(image, low_contrast, maker, tuple(marks))
