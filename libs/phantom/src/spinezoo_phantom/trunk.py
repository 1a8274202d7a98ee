"""Everything but bone and metal: skin, fat, lung, bowel, organs, arms, clothing, calcification.

What is smooth is drawn on a coarse grid and enlarged; what has edges (gas, folds, clothing) is
drawn on the film's own grid. Attenuation per cm near 60 keV after *Hubbell & Seltzer 1995*
(NISTIR 5632): muscle 0.215, water 0.206, fat 0.187.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from spinezoo_phantom.anatomy import Spine
from spinezoo_phantom.painter import smooth_course
from spinezoo_phantom.projection import Camera, Window, add_line, smooth_noise
from spinezoo_phantom.solids import paste, project, tube_paths

LEAN_PER_CM = 0.215
FAT_PER_CM = 0.187
_COARSE_ROWS = 512


@dataclass(slots=True)
class TrunkLayers:
    """Attenuation of everything but bone and metal, as line integrals (no unit).

    Attributes:
        soft: (H, W) float32 sum.
        dense: (H, W) float32 small dense things: plaques, electrodes, seams of clothing.
        thickness_cm: (h, w) float32 tissue on a coarse grid: where the body is.
        fatness: 0 slim to 1 obese.
        kinds: What is there, for the tags.
    """

    soft: np.ndarray
    dense: np.ndarray
    thickness_cm: np.ndarray
    fatness: float
    kinds: list[str]


def _blur_profile(values: np.ndarray, sigma: float) -> np.ndarray:
    column = values.astype(np.float32)[:, None]
    return cv2.GaussianBlur(column, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)[:, 0]


def add_ellipsoid(
    layer: np.ndarray,
    centre_px: np.ndarray,
    radii_px: tuple[float, float],
    angle_rad: float,
    value: float,
    *,
    lobes: tuple[float, float, float] = (0.0, 0.0, 0.0),
    floor_px: float | None = None,
    greatest: bool = False,
) -> None:
    """Adds the chord through an ellipsoid.

    Args:
        layer: (H, W) float32, changed in place.
        centre_px: (2,) middle.
        radii_px: Half axes on the film.
        angle_rad: Turn of the first axis.
        value: Value in the middle.
        lobes: Share, number and phase of waves on the outline.
        floor_px: Row below which nothing is drawn: gas stands on fluid.
        greatest: Take the greater of layer and chord instead of their sum.
    """
    reach = max(radii_px) * (1 + abs(lobes[0])) + 2
    corners = np.array([centre_px - reach, centre_px + reach])
    window = Window.around(corners, 1).cut(*layer.shape)
    if window.is_empty:
        return
    x = (window.left + np.arange(window.width) + 0.5 - centre_px[0]).astype(np.float32)[None]
    y = (window.top + np.arange(window.height) + 0.5 - centre_px[1]).astype(np.float32)[:, None]
    cosine, sine = np.float32(np.cos(angle_rad)), np.float32(np.sin(angle_rad))
    u = (x * cosine + y * sine) * np.float32(1 / radii_px[0])
    v = (y * cosine - x * sine) * np.float32(1 / radii_px[1])
    square = u * u + v * v
    if lobes[0]:
        wave = 1 + np.float32(lobes[0]) * np.cos(np.float32(lobes[1]) * np.arctan2(v, u) + lobes[2])
        square = square / (wave * wave)
    chord = np.sqrt(np.clip(1 - square, 0, None)) * np.float32(value)
    if floor_px is not None:
        rows = window.top + np.arange(window.height) + 0.5
        chord *= np.clip(floor_px - rows + 0.5, 0, 1).astype(np.float32)[:, None]
    view = layer[window.top : window.top + window.height, window.left : window.left + window.width]
    if greatest:
        np.maximum(view, chord, out=view)
    else:
        view += chord


class _Scene:
    """What all parts of the trunk share while it is drawn."""

    def __init__(self, spine: Spine, camera: Camera, clutter: float, rng: np.random.Generator):
        self.spine, self.camera, self.clutter, self.rng = spine, camera, clutter, rng
        self.px = camera.px_per_mm
        self.height, self.width = camera.height_px, camera.width_px
        chain_mm = np.array(
            [body.centre_mm for body in spine.vertebrae[::-1]]
            + [np.zeros(3), spine.sacrum[1].centre_mm, spine.sacrum[3].centre_mm]
        )
        chain = project(camera, chain_mm)
        order = np.argsort(chain[:, 1], kind="stable")
        rows = np.arange(self.height) + 0.5
        course = np.interp(rows, chain[order, 1], chain[order, 0])
        # Skin follows the spine loosely, the belly hardly: smoothed over centimetres.
        self.spine_x = _blur_profile(course, 30 * self.px)
        self.belly_x = _blur_profile(course, 80 * self.px)
        shoulder = spine.by_level()["T1"].centre_mm[1]
        self.above_t1_mm = float(shoulder) - 5.0
        self.below_s1_mm = (rows - project(camera, np.zeros(3))[1]) / self.px
        self.soft: Any = np.zeros((self.height, self.width), np.float32)
        self.dense: Any = np.zeros_like(self.soft)
        self.kinds: list[str] = []
        self.back = self.belly = self.spine_x  # skin; `_draw_torso` knows better

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share * self.clutter)

    def count(self, most: int) -> int:
        return int(self.rng.integers(0, most + 1) * self.clutter + 0.5)

    def row(self, low: float = 0.1, high: float = 0.9) -> int:
        return int(np.clip(self.rng.uniform(low, high) * self.height, 0, self.height - 1))


def _draw_torso(scene: _Scene, fatness: float) -> np.ndarray:
    """Skin, fat and lean tissue; fills `scene.soft`, returns the coarse thickness (cm)."""
    rng, px = scene.rng, scene.px
    t = scene.below_s1_mm
    buttock = rng.uniform(-16, 26) * (1 + 0.6 * fatness) * np.exp(-(((t - 90) / 70.0) ** 2))
    wave = 6 * np.sin(t / rng.uniform(40, 90) + rng.uniform(0, 6))
    fat_back = 6 + 45 * fatness * rng.uniform(0.5, 1.2)
    back_mm = rng.uniform(48, 66) + fat_back + buttock + rng.normal(0, 3) + wave
    hang = 90 * fatness * rng.uniform(0.3, 1) / (1 + np.exp(-(t + rng.uniform(-20, 40)) / 30.0))
    belly_wave = rng.uniform(-5, 25) * np.sin(t / rng.uniform(60, 120) + rng.uniform(0, 6))
    fat_front = 8 + 55 * fatness * rng.uniform(0.4, 1.2)
    lean = rng.uniform(-0.25, 0.25) * np.clip(t, -150, 150)
    belly_mm = rng.uniform(70, 130) + fat_front + hang + belly_wave + lean
    # The chest is deeper than a slim belly.
    chest = 1 / (1 + np.exp(np.clip((t + 230) / 40, -30, 30)))
    ribs_mm = scene.spine.chest_mm + rng.uniform(18, 30)
    chest_mm = np.maximum(belly_mm, ribs_mm + 0.6 * fat_front)
    belly_mm = belly_mm + (chest_mm - belly_mm) * chest
    # Above the shoulders only the neck is left.
    neck_at = (t - scene.above_t1_mm) / 18
    neck = 1 / (1 + np.exp(np.clip(neck_at, -30, 30)))
    back_mm = back_mm + (rng.uniform(42, 60) - back_mm) * neck
    belly_mm = belly_mm + (rng.uniform(48, 70) - belly_mm) * neck
    back = _blur_profile(scene.spine_x - px * back_mm, 10 * px)
    belly = _blur_profile(scene.belly_x + px * np.maximum(belly_mm, 45), 10 * px)
    # Ribs stay inside, however the chest leans.
    inside = (1 / (1 + np.exp(np.clip((t + 200) / 25, -30, 30)))) * (1 - neck)
    ribs = scene.spine_x + px * (ribs_mm - 10)
    belly = belly + np.maximum(ribs - belly, 0) * inside
    scene.back, scene.belly = back, belly

    factor = max(1.0, scene.height / _COARSE_ROWS)
    rows, columns = round(scene.height / factor), max(8, round(scene.width / factor))
    at = (np.arange(rows) + 0.5) * scene.height / rows - 0.5
    grid = np.arange(scene.height)
    x = ((np.arange(columns, dtype=np.float32) + 0.5) * (scene.width / columns))[None]

    def coarse(values: np.ndarray) -> np.ndarray:
        return np.interp(at, grid, values).astype(np.float32)[:, None]

    # From the iliac crests down the body is broader and holds more bone and muscle.
    crest = scene.spine.pelvis.crest_mm
    hips = (t + crest - rng.uniform(-20, 30)) / rng.uniform(15, 40)
    hips = 1 + rng.uniform(0.06, 0.38) / (1 + np.exp(-np.clip(coarse(hips), -30, 30)))
    shoulders = np.exp(-np.square((t - scene.above_t1_mm - 55) / 60.0))
    hips = hips + coarse(0.45 * shoulders - 0.6 * neck)
    lateral_cm = (rng.uniform(22, 30) + 15 * fatness * rng.uniform(0.6, 1.1)) * hips
    power = rng.uniform(2.0, 4.5)

    def section(left: np.ndarray, right: np.ndarray, width_cm: np.ndarray) -> np.ndarray:
        across = (2 * x - left - right) / np.maximum(right - left, np.float32(1))
        inside = np.maximum(1 - cv2.pow(np.abs(across), power), 0)
        return cv2.pow(inside, 1 / power) * width_cm

    whole = section(coarse(back), coarse(belly), lateral_cm)
    side_fat_cm = 1.0 + 9 * fatness * rng.uniform(0.4, 1.1)
    lean = section(
        coarse(back + fat_back * px),
        coarse(belly - fat_front * px),
        np.maximum(lateral_cm - np.float32(2 * side_fat_cm), np.float32(12)),
    )
    soft = whole * np.float32(FAT_PER_CM) + lean * np.float32(LEAN_PER_CM - FAT_PER_CM)
    # Organs and fat planes: broad, soft and faint.
    streaks = smooth_noise(rng, (rows, columns), rng.uniform(18, 60) * px * rows / scene.height, 4)
    soft += streaks * np.float32(rng.uniform(0, 0.07)) * (whole > 3)
    scene.soft += cv2.resize(soft, (scene.width, scene.height), interpolation=cv2.INTER_LINEAR)
    np.maximum(scene.soft, 0, out=scene.soft)
    return whole


def _draw_lungs(scene: _Scene, whole: np.ndarray) -> None:
    """Both lungs above the diaphragm's domes, with vessels."""
    rng, px = scene.rng, scene.px
    levels = scene.spine.by_level()
    name = str(rng.choice(["T9", "T10", "T11", "T12", "L1"], p=[0.1, 0.25, 0.3, 0.25, 0.1]))
    dome = project(scene.camera, levels[name].point(0, levels[name].height_mm / 2))
    if dome[1] < -60 * px:
        return
    x = (np.arange(scene.width, dtype=np.float32) + 0.5)[None]
    thick = cv2.resize(whole, (scene.width, scene.height), interpolation=cv2.INTER_LINEAR)
    last = int(np.clip(dome[1] + 150 * px, 1, scene.height))
    y = (np.arange(last, dtype=np.float32) + 0.5)[:, None]
    vessels = smooth_noise(rng, (last, scene.width), rng.uniform(5, 11) * px, 4)
    middle = ((scene.back + scene.belly) / 2)[:last, None]
    half = ((scene.belly - scene.back) / 2)[:last, None]
    across = np.abs(x - middle) / np.maximum(half, 1)
    lung_cm = rng.uniform(2, 8)
    apex = project(scene.camera, levels["T1"].centre_mm)[1]
    for _side in (-1, 1):
        top_y = dome[1] + rng.normal(0, 9) * px
        top_x = dome[0] + px * rng.uniform(10, 60)
        wide_back, wide_front = px * rng.uniform(45, 90), px * rng.uniform(50, 120)
        drop_back, drop_front = px * rng.uniform(30, 80), px * rng.uniform(5, 60)
        fall = np.where(
            x < top_x,
            np.float32(drop_back) * np.square((x - top_x) / np.float32(wide_back)),
            np.float32(drop_front) * np.square((x - top_x) / np.float32(wide_front)),
        )
        deepest = np.float32(px * rng.uniform(50, 110))  # the recesses end
        fall = deepest * np.tanh(fall / deepest)
        sharp = np.float32(1 / (rng.uniform(0.3, 1.2) * px))
        air = 1 / (1 + np.exp(np.clip((y - np.float32(top_y) - fall) * sharp, -30, 30)))
        # Deeper into the chest the lung widens.
        depth = np.clip((np.float32(top_y) + fall - y) / np.float32(45 * px), 0, 1)
        air *= np.clip((np.float32(rng.uniform(0.75, 0.92)) - across) * 12, 0, 1)
        air *= np.clip((y - np.float32(apex)) / np.float32(60 * px), 0, 1)
        air *= np.minimum(thick[:last] / 8, 1) * (np.float32(0.45) + np.float32(0.55) * depth)
        scene.soft[:last] -= air * np.float32(LEAN_PER_CM * 0.75 * lung_cm)
        scene.soft[:last] += air * vessels * np.float32(rng.uniform(0.005, 0.045))
    scene.kinds.append("lung")


def _add_rectal_gas(scene: _Scene, gas: np.ndarray) -> None:
    """Adds gas of rectum and sigmoid in front of the sacrum, in cm of air."""
    rng, px = scene.rng, scene.px
    sacrum = scene.spine.sacrum
    if not scene.chance(0.6):
        return
    for _ in range(int(rng.integers(1, 5))):
        body = sacrum[int(rng.integers(1, 5))]
        ahead = body.depth_mm / 2 + rng.uniform(8, 55)
        place = body.point(ahead, rng.uniform(-12, 12), rng.uniform(-15, 15))
        radius = rng.uniform(7, 22)
        long = rng.uniform(1.0, 1.9)
        add_ellipsoid(
            gas,
            project(scene.camera, place),
            (radius * long * px, radius * px),
            body.sagittal_rad + np.pi / 2 + rng.normal(0, 0.5),
            radius * rng.uniform(0.05, 0.22),
            lobes=(rng.uniform(0, 0.12), float(rng.integers(2, 5)), rng.uniform(0, 6)),
            greatest=True,
        )


def _draw_foam(scene: _Scene) -> None:
    """Adds bowel content full of small bubbles: dark specks with brighter seams between."""
    rng, px = scene.rng, scene.px
    shape = (max(8, scene.height // 2), max(8, scene.width // 2))
    bubbles = smooth_noise(rng, shape, rng.uniform(2.0, 6.0) * px, 2)
    bubbles = np.clip(bubbles + rng.uniform(-0.3, 0.9), rng.uniform(-0.5, 0), 1.4)
    where = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        row = float(scene.row(0.35, 1.0))
        middle = np.array([scene.spine_x[int(row)] + px * rng.uniform(15, 130), row])
        add_ellipsoid(
            where,
            middle / 2,
            (px * rng.uniform(20, 70) / 2, px * rng.uniform(12, 35) / 2),
            rng.uniform(0, np.pi),
            1.0,
            lobes=(rng.uniform(0, 0.25), float(rng.integers(2, 6)), rng.uniform(0, 6)),
            greatest=True,
        )
    foam = cv2.resize(bubbles * where, (scene.width, scene.height), interpolation=cv2.INTER_LINEAR)
    x = (np.arange(scene.width, dtype=np.float32) + 0.5)[None]
    foam *= x < scene.belly[:, None] - 8 * px
    scene.soft -= foam * np.float32(rng.uniform(0.05, 0.4))
    scene.kinds.append("foam")


def _draw_gas(scene: _Scene) -> None:
    """Stomach bubble on its fluid level, haustra of the colon, loops, faeces."""
    rng, px = scene.rng, scene.px
    gas = np.zeros_like(scene.soft)  # cm of air

    def bubble(
        centre: np.ndarray, radius_mm: float, depth_cm: float, floor_px: float | None = None
    ) -> None:
        stretch = rng.uniform(0.65, 1.5)
        add_ellipsoid(
            gas,
            centre,
            (radius_mm * stretch * px, radius_mm / stretch * px),
            rng.uniform(0, np.pi),
            depth_cm,
            lobes=(rng.uniform(0, 0.09), float(rng.integers(2, 5)), rng.uniform(0, 6)),
            floor_px=floor_px,
            greatest=True,
        )

    for _ in range(scene.count(8)):
        row = scene.row(0.1, 1.0)
        start = np.array([scene.spine_x[row] + px * rng.uniform(-15, 130), float(row)])
        bubbles, mean_mm = int(rng.integers(1, 16)), rng.uniform(4, 12)
        course = rng.normal(0, 1, 2)
        course /= np.linalg.norm(course) + 1e-6
        for step in range(bubbles):
            radius = float(np.clip(mean_mm * np.exp(rng.normal(0, 0.4)), 2, 24))
            spot = start + course * px * mean_mm * 1.3 * step + rng.normal(0, 0.8, 2) * px * mean_mm
            bubble(spot, radius, radius * rng.uniform(0.03, 0.2))
            course += rng.normal(0, 0.35, 2)
            course /= np.linalg.norm(course) + 1e-6
    if scene.chance(0.4):  # stomach: gas above a level of fluid
        row = scene.row(0.02, 0.3)
        spot = np.array([scene.spine_x[row] + px * rng.uniform(20, 100), float(row)])
        level = spot[1] + px * rng.uniform(-5, 25) if rng.random() < 0.6 else None
        bubble(spot, rng.uniform(15, 40), rng.uniform(1.5, 6), level)
    _add_rectal_gas(scene, gas)
    scene.soft -= np.minimum(gas, 7) * np.float32(LEAN_PER_CM * rng.uniform(0.5, 1.1))
    # Walls between bubbles are a little denser than what lies around.
    if scene.chance(0.6):
        smooth = cv2.GaussianBlur(gas, (0, 0), max(0.6, 0.8 * px))
        wall = np.clip(smooth, 0, 0.5) * (gas < 0.15)
        scene.soft += wall * np.float32(rng.uniform(0.0, 0.25))
    if scene.chance(0.6):  # faeces: mottled
        shape = (max(8, scene.height // 2), max(8, scene.width // 2))
        patches = np.clip(smooth_noise(rng, shape, 35 * px, 2) - rng.uniform(0.1, 1), 0, 1)
        grains = np.maximum(smooth_noise(rng, shape, rng.uniform(4, 9) * px, 4), -0.6)
        mottle = cv2.resize(grains * patches, (scene.width, scene.height))
        x = (np.arange(scene.width, dtype=np.float32) + 0.5)[None]
        front = np.clip((x - scene.spine_x[:, None]) / np.float32(15 * px), 0, 1)
        front *= x < scene.belly[:, None] - 12 * px
        scene.soft -= mottle * front * np.float32(rng.uniform(0.05, 0.28))
    if scene.chance(0.45):
        _draw_foam(scene)
    if gas.any():
        scene.kinds.append("gas")


def _draw_outer_parts(scene: _Scene) -> None:
    """Breast, arms with their bones, folds of skin, and organs with fat around them."""
    rng, px = scene.rng, scene.px
    extra = np.zeros_like(scene.soft)  # cm of tissue
    front = scene.belly
    if scene.chance(0.4):
        for _ in range(int(rng.integers(1, 3))):
            spot = np.array(
                [
                    front[scene.row(0, 0.1)] + px * rng.uniform(-60, 25),
                    rng.uniform(-0.08, 0.2) * scene.height,
                ]
            )
            radii = (px * rng.uniform(25, 60), px * rng.uniform(35, 90))
            add_ellipsoid(extra, spot, radii, rng.uniform(-0.6, 0.6), rng.uniform(1, 6))
        scene.kinds.append("breast")
    film = Window(0, 0, scene.width, scene.height)
    whole_spine = scene.height / px > 600
    if scene.chance(0.85 if whole_spine else 0.3):
        away = rng.uniform(-40, 50) * px
        shoulder = np.array([front[0] + away, -15.0 * px])
        elbow = np.array(
            [
                front[scene.row(0.1, 0.3)] + rng.uniform(-20, 70) * px,
                rng.uniform(0.1, 0.45) * scene.height,
            ]
        )
        if whole_spine:  # upper arms hang forward from the shoulder
            beside = project(scene.camera, scene.spine.by_level()["T3"].centre_mm)
            shoulder = beside + px * rng.uniform((0, -15), (50, 30))
            elbow = shoulder + px * rng.uniform((20, 150), (130, 270))
        course = np.linspace(shoulder, elbow, 12) + rng.normal(0, 1, 2)
        wide = np.linspace(rng.uniform(35, 55), rng.uniform(28, 42), 12)
        flesh = tube_paths(course, wide * px, wide / 10, np.ones(12), 0.0, film)
        if flesh is not None:
            paste(extra, flesh[2], flesh[0])
        bone = tube_paths(course, np.full(12, 11.0) * px, np.full(12, 1.1), np.ones(12), 0.4, film)
        if bone is not None:
            paste(scene.dense, bone[1] * np.float32(rng.uniform(0.15, 0.4)), bone[0])
        scene.kinds.append("arm")
    for _ in range(scene.count(4)):  # kidney, liver tip, spleen, loops: tissue against fat
        row = scene.row()
        spot = np.array([scene.spine_x[row] + px * rng.uniform(-25, 90), float(row)])
        radii = (px * rng.uniform(15, 45), px * rng.uniform(25, 80))
        value = rng.uniform(-5, 6) * (LEAN_PER_CM - FAT_PER_CM) / LEAN_PER_CM * 2.0
        add_ellipsoid(extra, spot, radii, rng.uniform(-0.7, 0.7), value)
    x = (np.arange(scene.width, dtype=np.float32) + 0.5)[None]
    for _ in range(scene.count(4)):  # folds
        middle = rng.uniform(0.05, 0.95) * scene.height
        slope = rng.uniform(-0.3, 0.3)
        line = middle + slope * (x[0] - scene.width / 2)
        line = line + rng.uniform(-8, 8) * px * np.sin(x[0] / (rng.uniform(30, 90) * px))
        spread = rng.uniform(0.8, 7.0) * px
        top, bottom = (
            int(max(line.min() - 4 * spread, 0)),
            int(min(line.max() + 4 * spread, scene.height)),
        )
        if bottom - top < 2:
            continue
        y = (np.arange(top, bottom, dtype=np.float32) + 0.5)[:, None]
        away = (y - line.astype(np.float32)[None]) * np.float32(1 / spread)
        # A crease is sharp on one side: skin lies on skin.
        crease = np.exp(-away * away) if rng.random() < 0.5 else np.exp(-np.abs(away)) * (away > 0)
        across = (x - scene.back[top:bottom, None]) * (scene.belly[top:bottom, None] - x)
        begin, reach = rng.uniform(-0.2, 0.7), rng.uniform(0.3, 1.3)
        span = np.clip((x / scene.width - begin) * 8, 0, 1) * np.clip(
            (begin + reach - x / scene.width) * 8, 0, 1
        )
        extra[top:bottom] += crease * (across > 0) * span * np.float32(rng.uniform(-2.5, 2.0))
    scene.soft += extra * np.float32(0.2)


def _draw_calcification(scene: _Scene) -> None:
    """Plaques of the aorta in front of the bodies, lymph nodes, gallstones."""
    rng, px, camera = scene.rng, scene.px, scene.camera
    if scene.chance(0.35):
        upper = int(rng.integers(3, min(9, len(scene.spine.vertebrae))))
        gap_mm, wide_mm = rng.uniform(4, 14), rng.uniform(12, 24)
        for behind in (0.0, wide_mm):
            line_mm = np.array(
                [
                    body.point(body.depth_mm / 2 + gap_mm + behind, 0, rng.uniform(5, 15))
                    for body in scene.spine.vertebrae[1:upper]
                ]
            )
            if len(line_mm) < 2:
                continue
            course = project(camera, smooth_course(line_mm))
            for index in range(len(course) - 1):
                if rng.random() < 0.4:
                    plaque = course[index : index + 2] + rng.normal(0, 0.8, 2) * px
                    add_line(
                        scene.dense, plaque, rng.uniform(0.04, 0.3), rng.uniform(0.5, 1.8) * px
                    )
        scene.kinds.append("aortic_calcification")
    for _ in range(scene.count(1) * int(rng.integers(0, 4))):
        row = scene.row()
        spot = np.array([scene.spine_x[row] + px * rng.uniform(10, 110), float(row)])
        radius = rng.uniform(1, 5) * px
        add_ellipsoid(scene.dense, spot, (radius, radius * 0.8), 0.3, rng.uniform(0.05, 0.5))


def _draw_clothing(scene: _Scene) -> None:
    """Waistbands, seams, buttons, zips; electrodes and their leads."""
    rng, px = scene.rng, scene.px
    x = np.linspace(0.0, float(scene.width), 24)
    if scene.chance(0.25):  # a waistband or a seam across the trunk, braided or plain
        row = scene.row(0.55, 1.0) if rng.random() < 0.75 else scene.row(0.0, 0.3)
        sag = rng.uniform(-25, 25) * px * np.sin(np.linspace(0, np.pi, 24))
        slope = rng.uniform(-0.15, 0.15) * (x - scene.width / 2)
        strands = int(rng.integers(1, 5))
        low, high = (0, 24) if rng.random() < 0.4 else (0, 8) if rng.random() < 0.5 else (16, 24)
        for strand in range(strands):
            y = (
                row
                + sag
                + slope
                + strand * rng.uniform(1.2, 3.0) * px
                + rng.normal(0, 0.4, 24) * px
            )
            course = np.column_stack([x, y])[low:high]
            add_line(scene.dense, course, rng.uniform(0.03, 0.25), rng.uniform(0.4, 1.2) * px)
        scene.kinds.append("clothing")
    if scene.chance(0.12):  # buttons, hooks, zip
        base = np.array([rng.uniform(0, 1) * scene.width, rng.uniform(0.1, 0.9) * scene.height])
        step = np.array([rng.normal(0, 3), rng.uniform(2, 30)]) * px
        radius = rng.uniform(1.0, 6.0) * px
        for number in range(int(rng.integers(1, 9))):
            spot = base + step * number
            value = rng.uniform(0.2, 1.5)
            add_ellipsoid(scene.dense, spot, (radius, radius * 0.9), 0.0, value)
        scene.kinds.append("clothing")
    if scene.chance(0.08):
        for _ in range(int(rng.integers(1, 4))):
            spot = np.array(
                [rng.uniform(0.1, 0.9) * scene.width, rng.uniform(0, 0.5) * scene.height]
            )
            radius = rng.uniform(3, 7) * px
            add_ellipsoid(scene.dense, spot, (radius, radius), 0.0, rng.uniform(0.3, 1.5))
            away = rng.normal(0, 70, (3, 2)) * px
            lead = np.column_stack(
                [spot + np.cumsum(np.vstack([np.zeros(2), away]), axis=0), np.zeros(4)]
            )
            add_line(
                scene.dense,
                smooth_course(lead)[:, :2],
                rng.uniform(0.1, 0.6),
                rng.uniform(0.6, 1.4) * px,
            )
        scene.kinds.append("electrodes")
    if scene.chance(0.05):  # a lead or tube along the trunk
        rows = np.linspace(0, scene.height, 6)
        course = np.column_stack([scene.spine_x[0] + rng.normal(0, 40, 6) * px, rows, np.zeros(6)])
        line = smooth_course(course)[:, :2]
        add_line(scene.dense, line, rng.uniform(0.1, 0.5), rng.uniform(0.8, 2.5) * px)
        scene.kinds.append("tube")


def draw_trunk(
    spine: Spine, camera: Camera, clutter: float, rng: np.random.Generator
) -> TrunkLayers:
    """Draws the trunk around the spine.

    Args:
        spine: The patient.
        camera: The film's geometry.
        clutter: 0 to 1, factor on how often gas, folds and the like occur.
        rng: The trunk's own random stream.

    Returns:
        The layers.
    """
    scene = _Scene(spine, camera, clutter, rng)
    fatness = float(rng.beta(1.3, 2.0))
    whole = _draw_torso(scene, fatness)
    _draw_lungs(scene, whole)
    _draw_outer_parts(scene)
    _draw_gas(scene)
    np.maximum(scene.soft, 0, out=scene.soft)
    _draw_calcification(scene)
    _draw_clothing(scene)
    soft_px = max(0.3, 0.25 * scene.px)
    scene.soft = cv2.GaussianBlur(scene.soft, (0, 0), soft_px)
    # Muscle fibres, fat lobules, mesentery: fine streaks that lean with the trunk.
    shape = (max(8, scene.height // 2), max(8, scene.width // 2))
    fibres = smooth_noise(rng, shape, rng.uniform(1.0, 3.0) * scene.px, 3)
    fibres = cv2.resize(fibres, (scene.width, scene.height), interpolation=cv2.INTER_LINEAR)
    scene.soft += fibres * np.float32(rng.uniform(0.0, 0.03)) * (scene.soft > 0.6)
    return TrunkLayers(scene.soft, scene.dense, whole, fatness, scene.kinds)
