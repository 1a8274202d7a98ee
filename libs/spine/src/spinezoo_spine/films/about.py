"""What a DICOM header says about a film beside its pixels: spacing, view, part of the body.

Sentences hold values of the header only where they are numbers or one of the standard's own terms:
anything else could be about the patient.
"""

from __future__ import annotations

import math

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from spinezoo_contract.limits import MAX_SPACING_MM, MIN_SPACING_MM
from spinezoo_contract.types import NO_SPACING_NOTE, FilmNoteCode

from spinezoo_spine.films.codecs import is_lossy
from spinezoo_spine.films.header import group_items, number_of, value_of, word_of
from spinezoo_spine.films.notes import LOSSY_NOTE, NoteBook
from spinezoo_spine.films.stored import has_overlay

_SPACINGS = (
    ("ImagerPixelSpacing", FilmNoteCode.SPACING_IMAGER, "Imager Pixel Spacing, at the detector"),
    ("PixelSpacing", FilmNoteCode.SPACING_PIXEL, "Pixel Spacing"),
    (
        "NominalScannedPixelSpacing",
        FilmNoteCode.SPACING_NOMINAL_SCANNED,
        "Nominal Scanned Pixel Spacing, that of the scanner",
    ),
)

_MAX_ASPECT = 10.0
"""Most that a pixel may be longer than wide, or wider than long."""

_RADIOGRAPHS = ("", "CR", "DX", "DR", "RF", "XA", "RG", "OT", "SC", "XC", "HC", "XRF")

_OTHER_IMAGES = {
    "CT": "a CT image",
    "MR": "an MR image",
    "US": "an ultrasound image",
    "NM": "a nuclear medicine image",
    "PT": "a PET image",
    "MG": "a mammogram",
    "IO": "a dental film",
    "PX": "a dental panorama",
    "OP": "a photograph of the eye",
    "OPT": "a tomogram of the eye",
    "ES": "an endoscopic image",
    "GM": "a microscopic image",
    "SM": "a microscopic slide",
    "BMD": "a bone densitometry image",
    "SR": "a structured report",
    "DOC": "a document",
}

_OTHER_PART_WORDS = (
    "ABDOMEN ABDOMENPELVIS ANKLE ARM BREAST CALCANEUS CHEST CLAVICLE COCCYX CSPINE ELBOW "
    "EXTREMITY EYE FACE FEMUR FINGER FOOT FOREARM HAND HEAD HEART HIP HUMERUS JAW KNEE LEG "
    "MANDIBLE MAXILLA NECK NOSE ORBIT PATELLA PELVIS RADIUS RIB RIBS SCAPULA SHOULDER SINUS "
    "SKULL STERNUM TEETH THIGH THUMB TIBIA TOE TSPINE ULNA WRIST ZYGOMA "
)
_OTHER_PARTS = frozenset(_OTHER_PART_WORDS.split())

_NOT_LATERAL = {
    "AP": "antero-posterior",
    "PA": "postero-anterior",
    "LLD": "a decubitus view",
    "RLD": "a decubitus view",
    "LLO": "oblique",
    "RLO": "oblique",
}


def note_about(dataset: Dataset, book: NoteBook) -> None:
    """Notes what the header says that a reader of the answer should know."""
    if is_lossy(dataset):
        book.add(LOSSY_NOTE.code, LOSSY_NOTE.text)
    intent = word_of(dataset, "PresentationIntentType")
    if intent == "FOR PROCESSING" or str(value_of(dataset, "SOPClassUID")) in (
        "1.2.840.10008.5.1.4.1.1.1.1.1",
        "1.2.840.10008.5.1.4.1.1.1.2.1",
        "1.2.840.10008.5.1.4.1.1.1.3.1",
    ):
        book.add(
            FilmNoteCode.FOR_PROCESSING,
            "The header says For Processing: raw detector data, not the picture that is read.",
        )
    modality = word_of(dataset, "Modality")
    if modality not in _RADIOGRAPHS:
        said = _OTHER_IMAGES.get(modality, "no radiograph")
        book.add(FilmNoteCode.NOT_RADIOGRAPH, f"The header says that this is {said}.")
    part = word_of(dataset, "BodyPartExamined").replace(" ", "").replace("_", "")
    if part in _OTHER_PARTS:
        book.add(
            FilmNoteCode.NOT_LUMBAR,
            f"The header names another part of the body than the lumbar spine: {part.lower()}.",
        )
    _note_view(dataset, book)
    if has_overlay(dataset):
        book.add(
            FilmNoteCode.OVERLAY_NOT_SHOWN,
            "The file holds overlays; they are not shown to the networks.",
        )
    if value_of(dataset, "ShutterShape"):
        book.add(
            FilmNoteCode.OVERLAY_NOT_SHOWN,
            "The file holds a shutter; what it hides is shown to the networks.",
        )


def _note_view(dataset: Dataset, book: NoteBook) -> None:
    view = word_of(dataset, "ViewPosition")
    if view in _NOT_LATERAL:
        book.add(
            FilmNoteCode.NOT_LATERAL,
            f"The header says that the view is {_NOT_LATERAL[view]}, not lateral.",
        )
    for item in group_items(dataset, "PatientOrientationInFrameSequence"):
        directions = value_of(item, "PatientOrientation")
        if not isinstance(directions, (MultiValue, list, tuple)) or len(directions) != 2:
            continue
        across, down = (str(each).strip().upper()[:1] for each in directions)
        if across in ("L", "R"):
            book.add(
                FilmNoteCode.NOT_LATERAL,
                "The header says that the rows run from one side of the patient to the other, as "
                "on a frontal view.",
            )
        if down == "H" or across in ("H", "F"):
            book.add(
                FilmNoteCode.NOT_UPRIGHT,
                "The header says that the head is "
                + ("at the bottom." if down == "H" else "at one side."),
            )
        return


def spacing_mm(dataset: Dataset, book: NoteBook) -> tuple[float | None, float | None]:
    """Row and column spacing in mm, or None twice where unknown; notes which one it is.

    Imager Pixel Spacing comes first, then Pixel Spacing, then Nominal Scanned Pixel Spacing.
    """
    for keyword, code, name in _SPACINGS:
        macro = "PixelMeasuresSequence"
        if keyword == "ImagerPixelSpacing":
            macro = "FramePixelDataPropertiesSequence"
        for item in group_items(dataset, macro):
            value = value_of(item, keyword)
            if value is None or value == "":
                continue
            pair = _spacing_pair(value)
            if pair is None:
                book.add(
                    FilmNoteCode.SPACING_IGNORED,
                    f"{name.split(',')[0]} of the header is no spacing; it was not used.",
                )
                continue
            book.add(code, _spacing_sentence(dataset, name, pair, code))
            return pair
    book.add(NO_SPACING_NOTE.code, NO_SPACING_NOTE.text)
    _note_aspect(dataset, book)
    return None, None


def _note_aspect(dataset: Dataset, book: NoteBook) -> None:
    """Notes a film without spacing whose pixels are not square (PS3.3 C.7.6.3.1.7)."""
    ratio = value_of(dataset, "PixelAspectRatio")
    if not isinstance(ratio, (MultiValue, list, tuple)) or len(ratio) != 2:
        return
    tall, wide = (number_of(part) for part in ratio)
    if tall and wide and tall != wide:
        book.add(
            FilmNoteCode.SPACING_IGNORED,
            f"By the header a pixel is {tall:g} tall where it is {wide:g} wide; the film was not "
            "stretched, and angles are those of its pixels as if they were square.",
        )


def _spacing_pair(value: object) -> tuple[float, float] | None:
    if not isinstance(value, (MultiValue, list, tuple)) or len(value) != 2:
        return None
    row, column = (number_of(part) for part in value)
    if row is None or column is None:
        return None
    if not all(MIN_SPACING_MM <= each <= MAX_SPACING_MM for each in (row, column)):
        return None
    return (row, column) if 1.0 / _MAX_ASPECT <= row / column <= _MAX_ASPECT else None


def _spacing_sentence(
    dataset: Dataset, name: str, pair: tuple[float, float], code: FilmNoteCode
) -> str:
    text = f"The spacing is {name}: {pair[0]:.4g} x {pair[1]:.4g} mm"
    if code is FilmNoteCode.SPACING_PIXEL:
        kind = word_of(dataset, "PixelSpacingCalibrationType")
        calibrated = {"GEOMETRY": "by geometry", "FIDUCIAL": "by an object of known size"}.get(kind)
        text += f", calibrated {calibrated}" if calibrated else ", not said to be calibrated"
    factor = magnification(dataset)
    if factor is None:
        return f"{text}; the header says nothing of the magnification."
    return f"{text}; the header gives a magnification of {factor:.3f}."


def magnification(dataset: Dataset) -> float | None:
    """How much larger the patient's spine is on the detector, or None where unknown."""
    factor = number_of(value_of(dataset, "EstimatedRadiographicMagnificationFactor"))
    if factor is None:
        detector = number_of(value_of(dataset, "DistanceSourceToDetector"))
        patient = number_of(value_of(dataset, "DistanceSourceToPatient"))
        if detector and patient and patient > 0.0:
            factor = detector / patient
    return factor if factor is not None and math.isfinite(factor) and 1 <= factor < 10 else None


def is_other_part(said: str) -> bool:
    """Whether a Body Part Examined names another part of the body than the lumbar spine."""
    return "".join(filter(str.isalnum, said.upper())) in _OTHER_PARTS
