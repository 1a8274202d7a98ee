"""Secondary Capture: the film with outlines and names drawn in, for archives that show no more."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import VERTEBRAE, Film

from spinezoo_pacs.results.equipment import Making
from spinezoo_pacs.results.findings import Finding, Verdict
from spinezoo_pacs.results.seg import colour_of
from spinezoo_pacs.results.sources import orientation_of

LONGEST_SIDE_PX = 2048
"""Pictures of larger films are scaled down to it."""

_ANY_ORIENTATION = ("P", "F")
"""highdicom wants one, of one letter a side; many radiographs have none, and it may be empty."""

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def capture(making: Making, findings: Sequence[Finding], verdict: Verdict, film: Film) -> Dataset:
    """An RGB picture of the film with what was found, or with why nothing is shown."""
    picture = draw(film, findings, verdict)
    source = making.source.dataset
    made = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=source.StudyInstanceUID,
        patient_id=source.PatientID,
        patient_name=source.PatientName,
        patient_birth_date=source.PatientBirthDate,
        patient_sex=source.PatientSex,
        accession_number=source.AccessionNumber,
        study_id=source.StudyID,
        study_date=source.StudyDate or None,
        study_time=source.StudyTime or None,
        referring_physician_name=source.ReferringPhysicianName,
        patient_orientation=_ANY_ORIENTATION,
        specific_character_set=source.get("SpecificCharacterSet"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **making.series("sc", 9004, "SpineZoo overlay"),
    )
    made.ImageType = ["DERIVED", "SECONDARY", "SPINEZOO"]
    made.DerivationDescription = "Outlines by SpineZoo drawn on the film"
    made.BurnedInAnnotation = "YES"
    made.PatientOrientation = orientation_of(source)
    made.Laterality = ""
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    made.SourceImageSequence = [reference]
    if picture.shape[:2] != (film.height, film.width):
        made.DerivationDescription += ", scaled"
    return made


def draw(film: Film, findings: Sequence[Finding], verdict: Verdict) -> NDArray[np.uint8]:
    """(height, width, 3) RGB picture; no patient data in it."""
    height, width = _size(film)
    grey = cv2.resize(_grey(film.pixels), (width, height), interpolation=cv2.INTER_AREA)
    picture = np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8, order="C")
    thick = max(1, round(max(height, width) / 600))
    size = max(height, width) / 1400.0
    if verdict.trusted:
        for finding in findings:
            _outline(picture, finding, thick, size)
        _write(picture, "SpineZoo: computed outlines, not for diagnosis", thick, size, [])
    else:
        _write(picture, "SpineZoo: no outlines are given", thick, size, verdict.refusals)
    return picture


def _size(film: Film) -> tuple[int, int]:
    """Height and width of the picture, whose pixels are square: nothing reads a spacing in it."""
    row_mm, column_mm = film.row_spacing_mm or 1.0, film.column_spacing_mm or 1.0
    finer_mm = min(row_mm, column_mm)
    sides = film.height * row_mm / finer_mm, film.width * column_mm / finer_mm
    scale = min(1.0, LONGEST_SIDE_PX / max(sides))
    height, width = (max(1, round(side * scale)) for side in sides)
    return height, width


def _outline(picture: NDArray[np.uint8], finding: Finding, thick: int, size: float) -> None:
    height, width = picture.shape[:2]
    full = decode_mask(finding.mask).astype(np.uint8)
    mask = cv2.resize(full, (width, height), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    colour = colour_of(finding)
    cv2.drawContours(picture, contours, -1, colour, thick)
    if finding.structure in VERTEBRAE and contours:
        x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
        text = finding.level or "?"
        (tw, th), _ = cv2.getTextSize(text, _FONT, size * 1.4, thick)
        at = (x + (w - tw) // 2, y + (h + th) // 2)
        cv2.putText(picture, text, at, _FONT, size * 1.4, (0, 0, 0), thick * 3, cv2.LINE_AA)
        cv2.putText(picture, text, at, _FONT, size * 1.4, colour, thick, cv2.LINE_AA)


def _write(
    picture: NDArray[np.uint8], title: str, thick: int, size: float, sentences: Sequence[str]
) -> None:
    lines = [title, *(part for each in sentences for part in textwrap.wrap(each, 60))]
    for row, line in enumerate(lines):
        at = (round(20 * size) + 4, round((40 + 36 * row) * size) + 8)
        cv2.putText(picture, line, at, _FONT, size, (0, 0, 0), thick * 3, cv2.LINE_AA)
        cv2.putText(picture, line, at, _FONT, size, (255, 255, 255), thick, cv2.LINE_AA)


def _grey(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    values = pixels.astype(np.float32)
    low, high = (float(each) for each in np.percentile(values[::4, ::4], (0.5, 99.5)))
    if high <= low:
        low, high = float(values.min()), float(values.max()) + 1.0
    scaled = (values - low) * np.float32(255.0 / (high - low))
    return np.clip(scaled, 0, 255).astype(np.uint8)
