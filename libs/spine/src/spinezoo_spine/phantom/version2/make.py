"""One film of generator 2 from one seed: the order of the work."""

from __future__ import annotations

import numpy as np

from spinezoo_spine.phantom.projection import Camera, polygons_mask
from spinezoo_spine.phantom.records import (
    ANNOTATED_LUMBAR,
    ANNOTATED_SACRAL,
    PhantomFilm,
    PhantomRegion,
    mirrored_outline,
)
from spinezoo_spine.phantom.settings import DEFAULT_SETTINGS, PhantomSettings
from spinezoo_spine.phantom.truth import outline_of
from spinezoo_spine.phantom.version2.anatomy import Spine, build_spine
from spinezoo_spine.phantom.version2.body import draw_body
from spinezoo_spine.phantom.version2.detector import develop, expose, log_uniform
from spinezoo_spine.phantom.version2.hardware import Hardware, build_hardware, draw_hardware
from spinezoo_spine.phantom.version2.skeleton import BoneLayers, draw_skeleton

_BODY_LEVEL = 0.42
"""Share of the greatest path length at which a reader draws a body's border.

0.5 is the middle of the blurred border of a rotated body; readers lean slightly outwards, because
they follow the outer edge of the cortical line.
"""


def _set_up_camera(spine: Spine, settings: PhantomSettings, rng: np.random.Generator) -> Camera:
    """Chooses distances, field of view and where the spine lies on the film."""
    source_mm = rng.uniform(1100, 2000)
    to_detector_mm = rng.uniform(170, 330)
    spread = 1 + rng.uniform(-settings.field_spread, settings.field_spread)
    field_mm = settings.field_height_mm * spread
    view = rng.random()
    if view < settings.tight_share:
        field_mm = settings.field_height_mm * rng.uniform(0.62, 0.80)
    elif view > 1 - settings.wide_share:
        field_mm = settings.field_height_mm * rng.uniform(1.2, 1.6)
    spacing_mm = round(field_mm / settings.height_px, 5)
    height, width = settings.height_px, settings.width_px
    magnification = source_mm / (source_mm - to_detector_mm)
    px_per_mm = magnification / spacing_mm
    levels = spine.by_level()
    # The film is centred between T12 and S2, give or take; sometimes the sacrum meets the border.
    middle_mm = (levels["T12"].upper_mid_mm + levels["S2"].lower_mid_mm) / 2
    drift = rng.normal(0, 0.05) + (rng.uniform(0.08, 0.2) if rng.random() < 0.08 else 0.0)
    lumbar_x = np.mean([levels[name].centre_mm[0] for name in ("L1", "L3", "L5")])
    middle_mm = np.array([lumbar_x, middle_mm[1]])
    middle_px = np.array([rng.uniform(0.34, 0.60) * width, (0.5 + drift) * height])
    # The perpendicular ray points at the film's middle, give or take.
    ray_px = np.array([0.5 * width, 0.5 * height]) + rng.normal(0, 0.06, 2) * height
    ray_mm = middle_mm + (ray_px - middle_px) / px_per_mm
    return Camera(source_mm, to_detector_mm, spacing_mm, ray_mm, ray_px, height, width)


def _trace_regions(
    bones: BoneLayers, hardware: Hardware, settings: PhantomSettings
) -> list[PhantomRegion]:
    """Outlines vertebrae from the head down, then hardware."""
    height, width = settings.height_px, settings.width_px
    regions = []
    for level in (*ANNOTATED_LUMBAR, *ANNOTATED_SACRAL):
        if level not in bones.coverage:
            continue
        coverage, window = bones.coverage[level]
        outline = outline_of(coverage, window, _BODY_LEVEL * float(coverage.max()), height, width)
        if outline is not None:
            structure = "lumbar_vertebra" if level in ANNOTATED_LUMBAR else "sacral_vertebra"
            regions.append(PhantomRegion(structure, level, outline))
    for implant in hardware.implants:
        coverage, window = polygons_mask(implant.truth_polygons())
        if window.cut(height, width).is_empty:
            continue
        outline = outline_of(coverage, window, 0.5, height, width)
        if outline is not None:
            regions.append(PhantomRegion(implant.structure, implant.level, outline))
    return regions


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
    streams = [
        np.random.Generator(np.random.PCG64(child))
        for child in np.random.SeedSequence(seed).spawn(8)
    ]
    choices, anatomy, optics, skeleton, metalwork, trunk, detector, display = streams
    wanted = bool(choices.random() < settings.implant_share)
    faces_left = bool(choices.random() < settings.mirror_share)
    spine = build_spine(anatomy)
    camera = _set_up_camera(spine, settings, optics)
    bones = draw_skeleton(spine, camera, skeleton)
    hardware = build_hardware(spine, camera, wanted=wanted, rng=metalwork)
    body = draw_body(spine, camera, settings.clutter, trunk)
    metal_cm, cement_cm = draw_hardware(hardware, (settings.height_px, settings.width_px))

    # Excess attenuation per cm over the soft tissue that bone displaces (ranges as they look on
    # real films; the lesson was that looks must vary widely).
    mineral = log_uniform(choices, 0.55, 1.6)
    trabecular = choices.uniform(0, 0.22)
    attenuation = body.attenuation
    attenuation += (
        (log_uniform(choices, 0.02, 0.13) * mineral)
        * bones.body
        * (1 + np.float32(trabecular) * body.texture)
    )
    attenuation += np.float32(log_uniform(choices, 0.14, 0.85) * mineral) * bones.shell
    attenuation += np.float32(log_uniform(choices, 0.07, 0.5) * mineral) * bones.posterior
    attenuation += np.float32(log_uniform(choices, 0.03, 0.33) * mineral) * bones.pelvis
    attenuation += np.float32(choices.uniform(0.08, 0.5) * mineral) * bones.ribs
    if hardware.implants:  # titanium to cobalt-chrome; the low end stays unsaturated
        attenuation += np.float32(log_uniform(choices, 0.7, 5.0)) * metal_cm
    if hardware.cement:
        attenuation += np.float32(choices.uniform(0.3, 1.2)) * cement_cm
    spacing_mm = camera.spacing_mm
    mm_per_px = 1 / camera.px_per_mm
    signal = expose(
        attenuation.astype(np.float32, copy=False),
        body.coarse_thickness_cm,
        mm_per_px,
        spacing_mm,
        settings,
        detector,
    )
    exposure = develop(
        signal,
        body.coarse_thickness_cm,
        mm_per_px,
        spacing_mm,
        settings,
        display,
        mirrored=faces_left,
    )

    regions = _trace_regions(bones, hardware, settings)
    pixels = exposure.pixels
    corners = {
        bone.level: camera.project(bone.corners_mm())
        for bone in [*spine.vertebrae[:6][::-1], *spine.sacrum[:2]]
    }
    if faces_left:
        regions = [
            PhantomRegion(
                region.structure,
                region.level,
                mirrored_outline(region.polygon_xy, settings.width_px),
            )
            for region in regions
        ]
        corners = {
            level: np.stack([settings.width_px - points[:, 0], points[:, 1]], axis=1)
            for level, points in corners.items()
        }
    bone_regions = [region for region in regions if region.structure.endswith("vertebra")]
    tags: dict[str, object] = {
        "facing": "left" if faces_left else "right",
        "hardware": hardware.kind,
        "has_hardware": len(bone_regions) < len(regions),
        "cement": bool(hardware.cement),
        "discs": {
            disc.name: {
                "grade": disc.grade,
                "height_mm": round(disc.height_mm, 2),
                "slip_mm": round(disc.slip_mm, 2),
            }
            for disc in spine.discs[:6]
        },
        "diseased_discs": spine.diseased,
        "fractures": [bone.level for bone in spine.vertebrae if bone.fractured],
        "visible_levels": [region.level for region in bone_regions],
        "sacral_slope_deg": round(float(np.degrees(spine.sacral_slope_rad)), 2),
        "lordosis_deg": round(spine.lordosis_deg(), 2),
        "rotation_deg": round(float(np.degrees(spine.rotation_rad)), 2),
        "tilt_deg": round(float(np.degrees(spine.tilt_rad)), 2),
        "low_contrast": exposure.low_contrast,
        "window_centre": exposure.window_centre,
        "window_width": exposure.window_width,
        "corners_px": {level: np.round(points, 2).tolist() for level, points in corners.items()},
    }
    return PhantomFilm(
        seed=seed,
        settings=settings,
        pixels=np.ascontiguousarray(pixels),
        row_spacing_mm=spacing_mm,
        column_spacing_mm=spacing_mm,
        magnification=round(float(camera.magnification()), 5),
        regions=tuple(regions),
        tags=tags,
    )
