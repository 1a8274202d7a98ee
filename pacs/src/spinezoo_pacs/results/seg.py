"""DICOM Segmentation: BINARY (one frame a segment, may overlap) and LABELMAP (one frame)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import VERTEBRAE, Structure

from spinezoo_pacs.results.codes import category_of, site_of, type_of
from spinezoo_pacs.results.equipment import Making, algorithm_of
from spinezoo_pacs.results.findings import Finding
from spinezoo_pacs.results.sources import orientation_of

COLOURS_RGB = {
    Structure.LUMBAR_VERTEBRA: (255, 200, 60),
    Structure.SACRAL_VERTEBRA: (255, 120, 60),
    Structure.CAGE: (60, 220, 120),
    Structure.SCREW: (70, 160, 255),
    Structure.ROD: (200, 110, 255),
}
"""Display colour of each structure, sRGB."""

SECOND_LUMBAR_RGB = (120, 220, 255)
"""Every second lumbar vertebra, so that neighbours can be told apart."""

PAINTED = (
    Structure.SACRAL_VERTEBRA,
    Structure.LUMBAR_VERTEBRA,
    Structure.ROD,
    Structure.SCREW,
    Structure.CAGE,
)
"""In a label map the later one covers, as docs/data-format.md has it."""


def colour_of(finding: Finding) -> tuple[int, int, int]:
    """Display colour of an outline, sRGB, 0 to 255."""
    if finding.structure is Structure.LUMBAR_VERTEBRA and finding.number % 2:
        return SECOND_LUMBAR_RGB
    return COLOURS_RGB[finding.structure]


def binary_seg(making: Making, findings: Sequence[Finding]) -> Dataset:
    """One frame a segment; pixels equal the answer's masks."""
    stack = np.stack([decode_mask(each.mask) for each in findings], axis=-1)[None]
    return _segmentation(
        making,
        findings,
        stack.astype(np.uint8),
        SegmentationTypeValues.BINARY,
        ("seg-binary", 9001, "SpineZoo outlines"),
    )


def labelmap_seg(making: Making, findings: Sequence[Finding]) -> Dataset:
    """One frame; where outlines overlap, the later of :data:`PAINTED` covers."""
    return _segmentation(
        making,
        findings,
        label_map(findings)[None],
        SegmentationTypeValues.LABELMAP,
        ("seg-labelmap", 9002, "SpineZoo label map"),
    )


def label_map(findings: Sequence[Finding]) -> NDArray[np.uint16]:
    """(height, width) segment numbers, 0 is background."""
    first = findings[0].mask
    painted = np.zeros((first.height, first.width), dtype=np.uint16)
    for finding in sorted(findings, key=lambda each: PAINTED.index(each.structure)):
        painted[decode_mask(finding.mask)] = finding.number
    return painted


def _segmentation(
    making: Making,
    findings: Sequence[Finding],
    pixels: NDArray[np.unsignedinteger],
    kind: SegmentationTypeValues,
    series: tuple[str, int, str],
) -> Dataset:
    source = copy.deepcopy(making.source.dataset)  # a shallow copy shares its elements
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        # A segmentation's spacing is that in the patient, which a radiograph does not know.
        if name in source:
            del source[name]
    made = Segmentation(
        source_images=[source],
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[_description(making, each) for each in findings],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=False,
        content_label="SPINEZOO",
        content_description="Vertebrae and implants found by SpineZoo",
        **making.series(*series),
    )
    organization = making.uid(series[0], "dimensions")
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in made.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
    made.BodyPartExamined = "LSPINE"
    made.PatientOrientation = orientation_of(making.source.dataset)
    if making.viewer == "ohif":
        _for_ohif(making, made)
    return made


def _description(making: Making, finding: Finding) -> SegmentDescription:
    return SegmentDescription(
        segment_number=finding.number,
        segment_label=finding.label,
        segmented_property_category=category_of(finding.structure),
        segmented_property_type=type_of(finding.structure, finding.level),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm_of(making, finding.member_names),
        tracking_uid=making.tracking_uid(finding.label),
        tracking_id=finding.label,
        anatomic_regions=(
            None if finding.structure in VERTEBRAE else [site_of(finding.level, finding.structure)]
        ),
        display_color=CIELabColor.from_rgb(*colour_of(finding)),
    )


def _for_ohif(making: Making, made: Dataset) -> None:
    """Adds the plane that OHIF reads although a radiograph has no frame of reference."""
    shared = made.SharedFunctionalGroupsSequence[0]
    if "PlaneOrientationSequence" not in shared:
        plane = Dataset()
        plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared.PlaneOrientationSequence = [plane]
    if "PixelMeasuresSequence" not in shared:
        measures = Dataset()
        measures.PixelSpacing = [value or 1.0 for value in making.source.spacing_mm]
        measures.SliceThickness = 1
        shared.PixelMeasuresSequence = [measures]
