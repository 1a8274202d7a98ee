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
from spinezoo_spine.films.header import group_items, items_of, number_of, value_of, word_of
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

_SAME = 1e-3
"""Relative difference of two spacings that are the same, written with few digits."""

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
    "CTSPINE CERVICALSPINE THORACICSPINE THORAX "
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

_LATERAL = ("LL", "RL", "LAT", "LATERAL", "LEFT LATERAL", "RIGHT LATERAL")

_OBLIQUE_CODES = (
    "399182000 R-102C1 399160007 R-10204 399312000 R-10208 399059000 R-10216 399038007 R-10210 "
    "399006002 R-10212 399356000 R-40985 R-10218 399135007 R-10220 399236003 R-10234 399184004 "
    "R-10238 "
)

_NOT_LATERAL_CODES = {
    "399348003": "antero-posterior",
    "R-10206": "antero-posterior",
    "272479007": "postero-anterior",
    "R-10214": "postero-anterior",
    "R-40888": "postero-anterior",
    "399033003": "frontal",
    "R-10202": "frontal",
    **dict.fromkeys(_OBLIQUE_CODES.split(), "oblique"),
}
"""Codes of views (PS3.16 CID 4010, SNOMED CT and RT) that are not lateral."""

_LATERAL_CODES = ("399173006", "R-10236", "399198007", "R-10232", "399067008", "R-102CD")

_OTHER_PART_CODES = {
    "122494005": "cervical spine",
    "T-11501": "cervical spine",
    "122495006": "thoracic spine",
    "T-11502": "thoracic spine",
    "1217257000": "cervico-thoracic spine",
    "816094009": "chest",
    "51185008": "chest",
    "T-D3000": "chest",
    "69536005": "head",
    "T-D1100": "head",
    "89546000": "skull",
    "T-11100": "skull",
    "45048000": "neck",
    "T-D1600": "neck",
    "818981001": "abdomen",
    "113345001": "abdomen",
    "T-D4000": "abdomen",
    "816092008": "pelvis",
    "12921003": "pelvis",
    "T-D6000": "pelvis",
    "29836001": "hip",
    "T-D2500": "hip",
    "24136001": "hip joint",
    "T-15710": "hip joint",
    "72696002": "knee",
    "T-D9200": "knee",
    "16982005": "shoulder",
    "T-D2220": "shoulder",
    "85562004": "hand",
    "T-D8700": "hand",
    "56459004": "foot",
    "T-D9700": "foot",
}
"""Codes of regions (PS3.16 CID 4009) that are not the lumbar spine."""

_CODED_IN = ("SCT", "SRT", "SNM3", "99SDM")
"""Coding schemes of these codes: SNOMED CT, and SNOMED RT under its three names."""


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
    part = _other_part(dataset)
    if part:
        book.add(
            FilmNoteCode.NOT_LUMBAR,
            f"The header names another part of the body than the lumbar spine: {part}.",
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


def _other_part(dataset: Dataset) -> str:
    """The part of the body that the header names, by word or code, where it is not ours."""
    word = word_of(dataset, "BodyPartExamined").translate(_NO_GAPS)
    if word in _OTHER_PARTS:
        return word.lower()
    if "SPINE" in word or "LUMB" in word or "LWS" in word:
        return ""
    codes = _codes_of(dataset, "AnatomicRegionSequence")
    names = [_OTHER_PART_CODES.get(code, "") for code in codes]
    return names[0] if names and all(names) else ""


_NO_GAPS = str.maketrans("", "", " _-")


def _codes_of(dataset: Dataset, keyword: str) -> list[str]:
    """Code values of a sequence; one of a scheme that is not known counts as no known code."""
    found = []
    for item in items_of(dataset, keyword):
        scheme = word_of(item, "CodingSchemeDesignator")
        found.append(word_of(item, "CodeValue") if scheme in _CODED_IN else "")
    return found


def is_coded_lateral(dataset: Dataset) -> bool:
    """Whether the header says by a code that the view is lateral."""
    return any(code in _LATERAL_CODES for code in _codes_of(dataset, "ViewCodeSequence"))


def is_region_coded(dataset: Dataset) -> bool:
    """Whether the header names the part of the body by a code that is known or local."""
    return any(word_of(item, "CodeValue") for item in items_of(dataset, "AnatomicRegionSequence"))


def _note_view(dataset: Dataset, book: NoteBook) -> None:
    view = word_of(dataset, "ViewPosition")
    name = _NOT_LATERAL.get(view, "")
    if not name and view not in _LATERAL:
        codes = [_NOT_LATERAL_CODES.get(each) for each in _codes_of(dataset, "ViewCodeSequence")]
        name = next((each for each in codes if each), "")
    if name:
        book.add(
            FilmNoteCode.NOT_LATERAL,
            f"The header says that the view is {name}, not lateral.",
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
            calibrated = ""
            if code is FilmNoteCode.SPACING_PIXEL and (calibrated := _calibrated(dataset, pair)):
                code = FilmNoteCode.SPACING_CALIBRATED
            book.add(code, _spacing_sentence(dataset, name, pair, code, calibrated))
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


def _calibrated(dataset: Dataset, pair: tuple[float, float]) -> str:
    """How a Pixel Spacing was corrected for magnification (PS3.3 10.7.1.1 and 10.7.1.2), or ""."""
    kind = word_of(dataset, "PixelSpacingCalibrationType")
    said = {"GEOMETRY": "by geometry", "FIDUCIAL": "by an object of known size"}.get(kind)
    if said:
        return said
    scanned = _spacing_pair(value_of(dataset, "NominalScannedPixelSpacing"))
    if scanned is None:
        return ""
    # A film magnifies: what is no magnification has another cause, such as a film that was scaled.
    factors = [film / patient for film, patient in zip(scanned, pair, strict=True)]
    finer = all(1.0 + _SAME < factor < 10.0 for factor in factors)
    return "as it is finer than the scanner's" if finer else ""


def _differ(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return any(not math.isclose(a, b, rel_tol=_SAME) for a, b in zip(one, other, strict=True))


def _spacing_sentence(
    dataset: Dataset, name: str, pair: tuple[float, float], code: FilmNoteCode, calibrated: str
) -> str:
    text = f"The spacing is {name}: {pair[0]:.4g} x {pair[1]:.4g} mm"
    if calibrated:
        return f"{text}, calibrated {calibrated}: lengths are in the patient; divide nothing."
    if code is FilmNoteCode.SPACING_PIXEL:
        text += ", not said to be calibrated"
    other = _spacing_pair(value_of(dataset, "PixelSpacing"))
    if other is not None and _differ(pair, other):
        text += f", not its Pixel Spacing of {other[0]:.4g} x {other[1]:.4g} mm"
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
