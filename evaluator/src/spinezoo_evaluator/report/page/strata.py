"""Groups of films that a reader asks about: hardware, disease, contrast, number of vertebrae."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import VERTEBRAE, Segment, Structure
from spinezoo_spine.instances import unite

HARDWARE = "Hardware"
DISEASE = "Disease"
CONTRAST = "Contrast"
LUMBAR = "Lumbar vertebrae"

HARDWARE_GROUPS = ("no hardware", "cage only", "screws or rods", "screws or rods, and cage")
DISEASE_GROUPS = (
    "collapsed disc",
    "slip over 5 mm",
    "fracture",
    "side curve over 10°",
    "porous bone",
    "none of these",
)
CONTRAST_GROUPS = ("lowest third", "middle third", "highest third")
LUMBAR_GROUPS = ("four", "five", "six", "not known")

STRATA: Mapping[str, tuple[str, ...]] = {
    HARDWARE: HARDWARE_GROUPS,
    DISEASE: DISEASE_GROUPS,
    CONTRAST: CONTRAST_GROUPS,
    LUMBAR: LUMBAR_GROUPS,
}
"""All strata and their groups, in the order that they are shown in."""

EXPLAINED: Mapping[str, str] = {
    HARDWARE: "by the outlines of the truth",
    DISEASE: "as built into the phantoms (known of these only; a film may be in several groups)",
    CONTRAST: "grey of the true vertebrae against their surroundings within 4 % of the film's "
    "height, as a share of the film's range of greys; thirds of these films",
    LUMBAR: "by the levels of the truth",
}
"""What each stratum goes by."""

_SLIP_MM, _CURVE_DEG, _POROUS_GRADE = 5.0, 10.0, 2


def hardware_of(truth: Sequence[Segment]) -> str:
    """The hardware group of a film by its true outlines."""
    structures = {segment.structure for segment in truth}
    rigid = bool({Structure.SCREW, Structure.ROD} & structures)
    caged = Structure.CAGE in structures
    return HARDWARE_GROUPS[2 * rigid + caged]


def lumbar_of(truth: Sequence[Segment]) -> str:
    """How many lumbar vertebrae a film has, where its truth shows the last one and the sacrum."""
    levels = {segment.level for segment in truth}
    if "S1" not in levels:
        return "not known"
    lowest = next((n for n in (6, 5, 4) if f"L{n}" in levels), 0)
    return {6: "six", 5: "five", 4: "four"}.get(lowest, "not known")


def diseases_of(tags: Mapping[str, Any]) -> tuple[str, ...]:
    """The disease groups of a phantom film.

    Args:
        tags: What the generator wrote about it; see ``docs/phantom.md``.
    """
    discs = tags.get("discs", {}).values()
    found = (
        any(disc.get("grade") == "collapsed" for disc in discs),
        any(disc.get("slip_mm", 0.0) > _SLIP_MM for disc in discs),
        bool(tags.get("fractures")),
        tags.get("cobb_deg", 0.0) > _CURVE_DEG,
        tags.get("osteoporosis_grade", 0) >= _POROUS_GRADE,
    )
    groups = tuple(group for group, has in zip(DISEASE_GROUPS, found, strict=False) if has)
    return groups or (DISEASE_GROUPS[-1],)


def phantom_tags(folder: Path) -> dict[str, Mapping[str, Any]]:
    """What the generator wrote about each film of a folder; empty where it made none of them."""
    try:
        record = json.loads((folder / "phantom.json").read_text())
        return {film["filename"]: film["tags"] for film in record["films"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def contrast_of(grey: NDArray[np.uint8], truth: Sequence[Segment]) -> float | None:
    """Grey of the true vertebrae against their surroundings, as a share of the film's range.

    Args:
        grey: (height, width) of the film; see ``drawing.grey_picture``; may be smaller than it.
        truth: True outlines; implants count neither as bone nor as surroundings.

    Returns:
        0 to 1, or None where there is no vertebra or nothing around it.
    """
    bones = [segment.mask for segment in truth if segment.structure in VERTEBRAE]
    if not bones:
        return None
    size = (grey.shape[1], grey.shape[0])

    def small(masks: Sequence[Any]) -> NDArray[np.uint8]:
        united = decode_mask(unite(list(masks), bones[0].height, bones[0].width))
        resized = cv2.resize(united.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        return np.asarray(resized, dtype=np.uint8)

    bone = small(bones)
    metal = [segment.mask for segment in truth if segment.structure not in VERTEBRAE]
    other = small(metal) if metal else np.zeros_like(bone)
    reach = 2 * max(1, round(0.04 * grey.shape[0])) + 1
    around = cv2.dilate(bone, np.ones((reach, reach), np.uint8)) - bone
    inside, outside = grey[(bone > 0) & (other == 0)], grey[(around > 0) & (other == 0)]
    if not inside.size or not outside.size:
        return None
    return abs(float(np.median(inside)) - float(np.median(outside))) / 255.0


def thirds(values: Mapping[str, float | None]) -> dict[str, str]:
    """The contrast group of each film that has a value, by rank; ties go by name."""
    ranked = sorted((value, name) for name, value in values.items() if value is not None)
    count = len(ranked)
    return {name: CONTRAST_GROUPS[3 * place // count] for place, (_, name) in enumerate(ranked)}
