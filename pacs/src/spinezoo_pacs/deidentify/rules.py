"""What of a film's header is kept: technical values, checked; everything else goes.

The Basic Application Level Confidentiality Profile (PS3.15 table E.1-1) says of some 600 attributes
what becomes of them. It comes from a library, dicom-anonymizer, and is applied to what this list
lets pass: attributes that neither the list nor the profile knows (private ones, free text, curves,
overlays, new ones) do not pass at all. A kept text must be one of the words that are listed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

NUMBERS = frozenset(
    {
        "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing",
        "EstimatedRadiographicMagnificationFactor", "DistanceSourceToDetector",
        "DistanceSourceToPatient", "KVP", "Exposure", "ExposureTime", "XRayTubeCurrent",
        "FieldOfViewDimensions", "LossyImageCompressionRatio", "PixelAspectRatio",
    }
)  # fmt: skip
"""Attributes that are kept where they hold numbers."""

WORDS: Mapping[str, frozenset[str]] = {
    "Modality": frozenset({"CR", "DX", "RG", "RF", "XA", "OT", "SC"}),
    "ImageType": frozenset({"ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY"}),
    "BodyPartExamined": frozenset(
        {"LSPINE", "LUMBAR", "LUMBAR SPINE", "LUMBARSPINE", "SPINE", "LSSPINE", "LWS", "TLSPINE"}
    ),
    "ViewPosition": frozenset({"LL", "RL", "LAT", "LATERAL", "LLD", "RLD"}),
    "PatientOrientation": frozenset({"A", "P", "H", "F", "L", "R"}),
    "Laterality": frozenset({"L", "R"}),
    "ImageLaterality": frozenset({"L", "R", "B", "U"}),
    "PresentationIntentType": frozenset({"FOR PRESENTATION", "FOR PROCESSING"}),
    "PixelSpacingCalibrationType": frozenset({"FIDUCIAL", "GEOMETRY"}),
    "LossyImageCompression": frozenset({"00", "01"}),
    "LossyImageCompressionMethod": frozenset(
        {"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_13818_2"}
    ),
}
"""Attributes that are kept where they hold these words."""

UIDS = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"})
"""Replaced by UIDs that follow from the site's key."""

IDENTITY = frozenset({"PatientID", "PatientName", "StudyDate"})
"""Replaced by pseudonym and moved date."""

CODES = frozenset({"ViewCodeSequence", "AnatomicRegionSequence"})
"""Sequences of codes that are kept where their scheme is public."""

_CODE_VALUE = re.compile(r"[0-9]{4,16}|[A-Z][0-9]?-[0-9A-F]{4,6}|RP-[0-9]{1,3}")
"""How values of public schemes look: no word of a language does."""

SCHEMES = frozenset({"SCT", "SRT", "SNM3", "DCM", "99SDM"})


def kept(dataset: Dataset) -> Dataset:
    """A new dataset with what passes, not yet pseudonymous."""
    made = Dataset()
    for name in (*sorted(NUMBERS), *WORDS, *sorted(UIDS), *sorted(IDENTITY), *sorted(CODES)):
        if name not in dataset:
            continue
        value = dataset.get(name)
        if name in NUMBERS and not _all_numbers(value):
            continue
        if name in WORDS:
            value = _known_words(value, WORDS[name])
            if value is None:
                continue
        if name in CODES:
            value = _public_codes(value)
            if not value:
                continue
        setattr(made, name, value)
    return made


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]


def _all_numbers(value: object) -> bool:
    values = _values(value)
    try:
        [float(each) for each in values]
    except (TypeError, ValueError):
        return False
    return bool(values)


def _known_words(value: object, words: frozenset[str]) -> list[str] | str | None:
    texts = [str(each).strip().upper() for each in _values(value)]
    texts = [text for text in texts if text in words]
    if not texts:
        return None
    return texts if len(texts) > 1 else texts[0]


def _public_codes(value: object) -> DicomSequence:
    found = []
    for item in value if isinstance(value, DicomSequence) else ():
        if item.get("CodingSchemeDesignator") in SCHEMES and str(item.get("CodeValue", "")):
            code = Dataset()
            code.CodeValue = str(item.CodeValue)
            code.CodingSchemeDesignator = str(item.CodingSchemeDesignator)
            # The meaning is a text that anybody may have written; the code says it.
            code.CodeMeaning = "see code"
            if _CODE_VALUE.fullmatch(code.CodeValue):
                found.append(code)
    return DicomSequence(found)
