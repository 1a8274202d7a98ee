"""One patient, one film, and what is true about it: the order of the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from spinezoo_contract.types import NAMED_LEVELS
from spinezoo_spine.annotations.regions import OUTLINED_LEVELS

from spinezoo_phantom.anatomy import Spine, build_spine
from spinezoo_phantom.bones import BoneLayers, draw_skeleton, rib_strength
from spinezoo_phantom.detector import Layers, Look, look
from spinezoo_phantom.frontal import draw_frontal_trunk
from spinezoo_phantom.implants import Hardware, build_hardware, draw_hardware
from spinezoo_phantom.measures import measures_of, osteophytes_of, rod_breaks_of
from spinezoo_phantom.projection import Camera, Window, coverage_of, smooth_noise
from spinezoo_phantom.records import (
    PhantomFilm,
    PhantomRegion,
    mirrored_outline,
    turned_points,
)
from spinezoo_phantom.settings import DEFAULT_SETTINGS, PhantomSettings
from spinezoo_phantom.solids import project
from spinezoo_phantom.trunk import TrunkLayers, draw_trunk
from spinezoo_phantom.truth import outline_of
from spinezoo_phantom.vertebra import Vertebra

_BODY_LEVEL = 0.36
"""Share of the greatest path length at which a reader draws a body's border.

0.5 is the middle of the blurred border of a rotated body; readers lean outwards, because they
follow the outer edge of the cortical line.
"""

Place = Callable[[np.ndarray], list[list[float]]]
"""Puts (N, 3) world points, mm, on the finished film: N pairs of x and y, px."""

_FINE_ROWS = 560
"""Films with fewer rows have thin structures computed on a finer grid and averaged."""


@dataclass(slots=True)
class Scene:
    """A patient before the detector: everything that does not depend on the exposure.

    Attributes:
        spine: The skeleton.
        hardware: The implants.
        trunk: Soft tissue.
        camera: The film's geometry.
        layers: Path lengths on the film's grid.
        regions: Outlines on the film as the study drew them (T12 to S2, implants), facing right.
        bodies: Outlines of all bodies from T9 to S2 that are on the film, head first, facing right.
    """

    spine: Spine
    hardware: Hardware
    trunk: TrunkLayers
    camera: Camera
    layers: Layers
    regions: list[PhantomRegion]
    bodies: list[PhantomRegion]


def _field_ends(
    spine: Spine, settings: PhantomSettings, rng: np.random.Generator
) -> tuple[float, float]:
    """Chooses where the film begins and ends: mm below S1's endplate, in the mid-plane."""
    levels = spine.by_level()
    hips_mm = float(spine.pelvis.hip_mm[1])
    if settings.field == "whole_spine":
        top = levels["T1"].centre_mm[1] - rng.uniform(-40, 290)
        return float(top), hips_mm + rng.uniform(-30, 140)
    # As measured on real films by the size of their bodies; 1.2 is the usual magnification.
    typical_mm = settings.field_height_mm
    view = rng.random()
    extent_mm = typical_mm * (1 + rng.uniform(-settings.field_spread, settings.field_spread))
    if view < settings.tight_share:
        extent_mm = typical_mm * rng.uniform(0.52, 0.80)
    elif view > 1 - settings.wide_share:
        extent_mm = typical_mm * rng.uniform(1.2, 1.7)
    elif rng.random() < 0.4:  # ends anywhere from T9 to L1 and from S1 to the hips
        name = str(rng.choice(["T9", "T10", "T11", "T12", "L1"]))
        upper = float(levels[name].point(0, levels[name].height_mm * rng.uniform(-0.4, 0.6))[1])
        lower = float(rng.uniform(12, hips_mm + 40))
        if lower - upper >= 200:
            return upper, lower
    # S1 stands at about 0.72 of the height, give or take; sometimes the sacrum meets the border.
    share = 0.72 + rng.normal(0, 0.05)
    if rng.random() < 0.15:
        share += float(rng.choice([-1, 1])) * rng.uniform(0.08, 0.22)
    return float(-share * extent_mm), float((1 - share) * extent_mm)


def set_up_camera(spine: Spine, settings: PhantomSettings, rng: np.random.Generator) -> Camera:
    """Chooses distances, field of view and where the spine lies on the film.

    Lateral lumbar films are taken at 1.0 to 1.15 m, whole-spine films at 1.8 m and more; the
    mid-plane lies 17 to 33 cm from the detector.
    """
    source_mm = rng.uniform(1000, 1250) if rng.random() < 0.5 else rng.uniform(1400, 2100)
    if settings.field == "whole_spine":
        source_mm = rng.uniform(1500, 2400)
    to_detector_mm = rng.uniform(170, 330)
    height, width = settings.height_px, settings.width_px
    top_mm, bottom_mm = _field_ends(spine, settings, rng)
    magnification = source_mm / (source_mm - to_detector_mm)
    field_mm = (bottom_mm - top_mm) * magnification
    spacing_mm = round(field_mm / settings.height_px, 5)
    px_per_mm = magnification / spacing_mm
    levels = spine.by_level()
    lowest = spine.vertebrae[0].level
    lumbar_x = np.mean([levels[name].centre_mm[0] for name in ("L1", "L3", lowest)])
    aside = rng.uniform(0.32, 0.60)
    if settings.field == "whole_spine":
        lumbar_x = np.mean([levels[name].centre_mm[0] for name in ("T2", "T8", "L1", lowest)])
        aside = rng.uniform(0.38, 0.62)
    if settings.view == "anteroposterior":
        lumbar_x, aside = 0.0, rng.uniform(0.42, 0.58)
    place_mm = np.array([lumbar_x, (top_mm + bottom_mm) / 2])
    place_px = np.array([aside * width, 0.5 * height])
    # The perpendicular ray points at the film's middle; on whole-spine films far from it.
    ray_px = np.array([0.5 * width, 0.5 * height])
    ray_px = ray_px + rng.normal(0, 0.06 if rng.random() < 0.8 else 0.3, 2) * height
    ray_mm = place_mm + (ray_px - place_px) / px_per_mm
    return Camera(
        source_mm, to_detector_mm, spacing_mm, ray_mm, ray_px, height, width, settings.view
    )


def resampled(camera: Camera, factor: float) -> Camera:
    """The same film on a grid with `factor` times as many rows and columns, rounded."""
    if factor == 1:
        return camera
    height, width = round(camera.height_px * factor), round(camera.width_px * factor)
    return Camera(
        camera.source_to_detector_mm,
        camera.spine_to_detector_mm,
        camera.spacing_mm / factor,
        camera.ray_mm,
        camera.ray_px * factor,
        height,
        width,
        camera.view,
    )


def _trace_bodies(spine: Spine, bones: BoneLayers, camera: Camera) -> list[PhantomRegion]:
    """Outlines the bodies from T9 to S2, head first."""
    bodies = []
    for body in [*spine.vertebrae[::-1], *spine.sacrum]:
        if body.level not in bones.coverage or body.level not in NAMED_LEVELS:
            continue
        coverage, window = bones.coverage[body.level]
        level = _BODY_LEVEL * float(coverage.max())
        outline = outline_of(coverage, window, level, camera.height_px, camera.width_px)
        if outline is not None:
            structure = "sacral_vertebra" if body.is_sacral else "lumbar_vertebra"
            bodies.append(PhantomRegion(structure, body.level, outline))
    return bodies


def _trace_hardware(hardware: Hardware, camera: Camera, fine: int) -> list[PhantomRegion]:
    """Outlines implants, laid out `fine` times finer than the film."""
    height, width = camera.height_px, camera.width_px
    regions = []
    for implant in hardware.implants:
        polygons = [polygon / fine for polygon in implant.truth_polygons()]
        window = Window.around(np.vstack(polygons))
        if window.cut(height, width).is_empty:
            continue
        coverage = coverage_of(polygons, window)
        outline = outline_of(coverage, window, 0.5, height, width)
        if outline is not None:
            regions.append(PhantomRegion(implant.structure, implant.level, outline))
    return regions


def streams_of(*entropy: int) -> list[np.random.Generator]:
    """Nine independent random streams: each part of a film has its own."""
    children = np.random.SeedSequence(entropy if len(entropy) > 1 else entropy[0]).spawn(9)
    return [np.random.Generator(np.random.PCG64(child)) for child in children]


def build_scene(settings: PhantomSettings, streams: list[np.random.Generator]) -> Scene:
    """Builds and projects a patient.

    Args:
        settings: Knobs.
        streams: Of `streams_of`; the first six and the last are used.

    Returns:
        The scene, facing right.
    """
    choices, anatomy, optics, skeleton, metalwork, torso = streams[:6]
    fine = max(1, round(_FINE_ROWS / settings.height_px))
    wanted = bool(choices.random() < settings.implant_share) and settings.view == "lateral"
    spine = build_spine(anatomy, transitional_share=settings.transitional_share)
    camera = set_up_camera(spine, settings, optics)
    near = resampled(camera, fine)  # what is thin needs more rays; bodies and tissue do not
    hardware = build_hardware(spine, near, wanted=wanted, rng=metalwork)
    # Pelvis and ribs are broad and soft: where the film is fine, half its rays do.
    far = near if camera.height_px < 1.5 * _FINE_ROWS else resampled(camera, 0.5)
    ribs = rib_strength(settings.faint_ribs_share, streams[8])
    bones = draw_skeleton(spine, camera, near, far, hardware.removed, skeleton, ribs)
    draw = draw_frontal_trunk if camera.is_frontal else draw_trunk
    trunk = draw(spine, camera, settings.clutter, torso)
    shape = (camera.height_px, camera.width_px)
    near_shape = (near.height_px, near.width_px)
    metal, cement = draw_hardware(hardware, near_shape, 2 if fine > 1 else 4)

    def fitted(layer: np.ndarray) -> np.ndarray:
        if layer.shape == shape:
            return layer
        kind = cv2.INTER_AREA if layer.shape[0] > shape[0] else cv2.INTER_LINEAR
        return cv2.resize(layer, (shape[1], shape[0]), interpolation=kind)

    half = (max(8, shape[0] // 2), max(8, shape[1] // 2))
    texture = smooth_noise(choices, half, max(1.5, 0.5 * camera.px_per_mm), 2)
    if spine.osteoporosis:  # cross struts go first, uprights stay: vertical streaks
        streaks = smooth_noise(choices, (max(8, half[0] // 6), half[1]), 1.5, 1)
        streaks = cv2.resize(streaks, (half[1], half[0]), interpolation=cv2.INTER_LINEAR)
        texture = texture + np.float32(0.5 * spine.osteoporosis) * streaks
    layers = Layers(
        body_core=bones.body_core,
        body_shell=bones.body_shell,
        arch_core=fitted(bones.arch_core),
        arch_shell=fitted(bones.arch_shell),
        far_core=fitted(bones.far_core),
        far_shell=fitted(bones.far_shell),
        metal=fitted(metal),
        cement=fitted(cement),
        soft=trunk.soft,
        dense=trunk.dense,
        texture=cv2.resize(texture, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR),
        thickness_cm=trunk.thickness_cm,
        mm_per_px=1 / camera.px_per_mm,
        spacing_mm=camera.spacing_mm,
    )
    bodies = _trace_bodies(spine, bones, camera)
    regions = [body for body in bodies if body.level in OUTLINED_LEVELS]
    regions += _trace_hardware(hardware, camera, fine)
    return Scene(spine, hardware, trunk, camera, layers, regions, bodies)


def mirrored_regions(regions: list[PhantomRegion], width_px: int) -> list[PhantomRegion]:
    """The outlines of the film turned left to right."""
    return [
        PhantomRegion(region.structure, region.level, mirrored_outline(region.polygon_xy, width_px))
        for region in regions
    ]


def turned_regions(
    regions: list[PhantomRegion], height_px: int, width_px: int, deg: int
) -> list[PhantomRegion]:
    """The outlines of an upright film of that size after it was turned clockwise."""
    if not deg:
        return regions
    return [
        PhantomRegion(
            region.structure,
            region.level,
            np.round(turned_points(region.polygon_xy, height_px, width_px, deg), 2),
        )
        for region in regions
    ]


def upright(settings: PhantomSettings) -> PhantomSettings:
    """The settings of the film before it is turned."""
    height, width = settings.height_px, settings.width_px
    if settings.turn_deg in (90, 270):
        height, width = width, height
    return replace(settings, height_px=height, width_px=width, turn_deg=0)


def corners_of(body: Vertebra, camera: Camera) -> np.ndarray:
    """(4, 3) corners: upper back, upper front, lower front, lower back.

    On a frontal film those of the coronal plane: upper left, upper right, lower right, lower left
    as seen on the film.
    """
    if not camera.is_frontal:
        return body.corners_mm()
    half, high = body.width_mm / 2, body.height_mm / 2
    places = ((0, high, half), (0, high, -half), (0, -high, -half), (0, -high, half))
    return body.points(np.array(places, dtype=float))


def _is_on_film(camera: Camera, point_mm: np.ndarray) -> bool:
    x, y = project(camera, point_mm)
    return bool(0 <= x <= camera.width_px and 0 <= y <= camera.height_px)


def _truth_of(scene: Scene, place: Place) -> dict[str, object]:
    """All that is true about the patient, JSON-ready."""
    spine, camera = scene.spine, scene.camera

    def degrees(angle_rad: float) -> float:
        return round(float(np.degrees(angle_rad)), 2)

    vertebrae = {
        body.level: {
            "corners_px": place(corners_of(body, camera)),
            "upper_endplate_px": place(body.endplate_mm(upper=True)),
            "lower_endplate_px": place(body.endplate_mm(upper=False)),
            "upper_endplate_deg": round(spine.plate_angle_deg(body.level, upper=True), 2),
            "lower_endplate_deg": round(spine.plate_angle_deg(body.level, upper=False), 2),
            "height_mm": round(body.height_mm, 2),
            "depth_mm": round(body.depth_mm, 2),
            "axial_rotation_deg": degrees(body.axial_rad),
            "coronal_tilt_deg": degrees(body.coronal_rad),
            "fracture": body.fracture,
            "fracture_grade": body.fracture_grade,
        }
        for body in [*spine.vertebrae[::-1], *spine.sacrum[:2]]
        if body.level in NAMED_LEVELS
    }
    discs = {
        disc.name: {
            "height_mm": round(disc.height_mm, 2),
            "narrowing_grade": disc.narrowing,
            "osteophytes_grade": disc.osteophytes,
            "sclerosis_grade": disc.sclerosis,
            "slip_mm": round(disc.slip_mm, 2),
            "slip_grade": disc.slip_grade,
            "vacuum": disc.vacuum,
        }
        for disc in spine.discs
        if disc.name.split("/")[0] in NAMED_LEVELS
    }
    return {
        "view": camera.view,
        "lumbar_count": spine.lumbar_count,
        "transition": {
            "kind": spine.transition.kind,
            "castellvi": spine.transition.grade,
            "level": spine.transition.level,
        },
        "disc_s1_s2_odriscoll": spine.sacral_disc,
        "vertebrae": vertebrae,
        "femoral_heads_px": [
            place(head[None])[0] for head in spine.pelvis.heads_mm() if _is_on_film(camera, head)
        ],
        "s1_endplate_px": place(spine.sacrum[0].corners_mm()[:2]),
        "discs": discs,
        "angles_deg": {
            "sacral_slope": degrees(spine.sacral_slope_rad),
            "pelvic_incidence": degrees(spine.pelvis.incidence_rad),
            "pelvic_tilt": degrees(spine.pelvis.tilt_rad),
            "lordosis_l1_s1": round(spine.lordosis_deg(), 2),
            "kyphosis_t10_l2": round(spine.kyphosis_deg(), 2),
            "cobb_coronal": round(spine.cobb_deg, 2),
            "cobb_levels": list(spine.cobb_levels),
        },
        "measures": measures_of(spine, camera),
        "osteophytes": osteophytes_of(spine, camera),
        "rod_breaks": rod_breaks_of(spine, scene.hardware, camera, place),
        "osteoporosis_grade": spine.osteoporosis,
        "implants": [
            {"structure": implant.structure, "level": implant.level, "design": implant.design}
            for implant in scene.hardware.implants
        ],
        "cement_levels": scene.hardware.cemented,
        "laminectomy_levels": sorted(scene.hardware.removed),
        "geometry": {
            "source_to_detector_mm": round(camera.source_to_detector_mm, 2),
            "mid_plane_to_detector_mm": round(camera.spine_to_detector_mm, 2),
            "magnification": round(float(camera.magnification()), 5),
            "spacing_mm": round(camera.spacing_mm, 5),
        },
    }


@dataclass(frozen=True, slots=True)
class _Exposure:
    """How a patient becomes a film's file.

    Attributes:
        faces_left: Whether the film is turned left to right.
        monochrome1: Whether the file holds dark as bright.
        floor: Stored level of the window's lower end, 0 to 1.
        ceiling: Of its upper end.
        top: Greatest stored level.
    """

    faces_left: bool
    monochrome1: bool
    floor: float
    ceiling: float
    top: int

    def stored(self, grey: np.ndarray) -> np.ndarray:
        """(height, width) ``uint16`` levels of grey, 0 to 1 within the window."""
        span = np.float32(self.ceiling - self.floor)
        levels = np.clip(grey, -0.2, 1.2) * span + np.float32(self.floor)
        return np.rint(np.clip(levels, 0, 1) * self.top).astype(np.uint16)


def _tags_of(
    scene: Scene, settings: PhantomSettings, exposure: _Exposure, seen: Look, place: Place
) -> dict[str, object]:
    """What the film shows, by which films are grouped; regions aside."""
    spine, hardware = scene.spine, scene.hardware
    floor, ceiling, top = exposure.floor, exposure.ceiling, exposure.top
    bones = [region.level for region in scene.regions if region.structure.endswith("vertebra")]
    return {
        "facing": "left" if exposure.faces_left else "right",
        "view": settings.view,
        "turn_deg": settings.turn_deg,
        "hardware": "+".join(hardware.kinds) or "none",
        "has_hardware": len(bones) < len(scene.regions),
        "cement": bool(hardware.cement),
        "lumbar_count": spine.lumbar_count,
        "discs": {
            disc.name: {
                "grade": disc.grade,
                "height_mm": round(disc.height_mm, 2),
                "slip_mm": round(disc.slip_mm, 2),
            }
            for disc in spine.discs[: spine.lumbar_count + 1]
        },
        "diseased_discs": [disc.name for disc in spine.discs if disc.narrowing >= 2],
        "fractures": spine.fractured,
        "osteoporosis_grade": spine.osteoporosis,
        "visible_levels": bones,
        "sacral_slope_deg": round(float(np.degrees(spine.sacral_slope_rad)), 2),
        "lordosis_deg": round(spine.lordosis_deg(), 2),
        "rotation_deg": round(float(np.degrees(spine.vertebrae[0].axial_rad)), 2),
        "tilt_deg": round(float(np.degrees(spine.vertebrae[0].coronal_rad)), 2),
        "cobb_deg": round(spine.cobb_deg, 2),
        "fatness": round(scene.trunk.fatness, 3),
        "trunk": sorted(set(scene.trunk.kinds)),
        "low_contrast": seen.low_contrast,
        "processing": seen.maker,
        "marks": list(seen.marks),
        "monochrome1": exposure.monochrome1,
        "window_centre": round((floor + ceiling) / 2 * top, 1),
        "window_width": round((ceiling - floor) * top, 1),
        "corners_px": {
            body.level: place(corners_of(body, scene.camera))
            for body in [*spine.vertebrae[: spine.lumbar_count + 1][::-1], *spine.sacrum[:2]]
        },
    }


def make_film(seed: int, settings: PhantomSettings = DEFAULT_SETTINGS) -> PhantomFilm:
    """Makes one film.

    The same seed and settings give the same bytes on the same machine and library versions. Each
    part of the film has its own random stream, so the patient does not change when, for example,
    the noise does.

    Args:
        seed: Non-negative integer.
        settings: Knobs.

    Returns:
        The film with its truth.
    """
    streams = streams_of(seed)
    stood = upright(settings)
    scene = build_scene(stood, streams)
    choices, display = streams[6], streams[7]
    faces_left = bool(choices.random() < settings.mirror_share)
    monochrome1 = bool(choices.random() < 0.15)
    seen = look(scene.layers, stood, display, mirrored=faces_left)
    vary = settings.display_variation
    # The stored range is a little wider than the window, as on real equipment.
    floor, ceiling = choices.uniform(0, 0.08) * vary, 1 - choices.uniform(0, 0.08) * vary
    exposure = _Exposure(faces_left, monochrome1, floor, ceiling, 2**settings.bits_stored - 1)
    pixels = np.rot90(exposure.stored(seen.grey), -settings.turn_deg // 90)
    height, width = stood.height_px, stood.width_px

    def place(points_mm: np.ndarray) -> list[list[float]]:
        points = project(scene.camera, points_mm)
        if faces_left:
            points[:, 0] = width - points[:, 0]
        points = turned_points(points, height, width, settings.turn_deg)
        return [[round(float(x), 2), round(float(y), 2)] for x, y in points]

    regions = mirrored_regions(scene.regions, width) if faces_left else scene.regions
    spacing_mm = round(scene.camera.spacing_mm, 5)
    return PhantomFilm(
        seed=seed,
        settings=settings,
        pixels=np.ascontiguousarray(pixels),
        row_spacing_mm=spacing_mm,
        column_spacing_mm=spacing_mm,
        magnification=round(float(scene.camera.magnification()), 5),
        regions=tuple(turned_regions(regions, height, width, settings.turn_deg)),
        tags=_tags_of(scene, settings, exposure, seen, place),
        truth=_truth_of(scene, place),
    )
