"""Coded terms of the results: SNOMED CT, DCM and UCUM.

Only codes that DICOM's own context groups hold are used. Where those have none for a thing (S1,
S2, L6, rod, cage), the next wider term stands and the label says what it is.

Sources: PS3.16 CID 7603 (vertebra), CID 7150 (segmentation property category), CID 7157
(physical object types), CID 7162 (algorithm families).
"""

from __future__ import annotations

from highdicom.sr import CodedConcept
from spinezoo_contract.types import VERTEBRAE, Structure


def _sct(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, "SCT", meaning)


ANATOMICAL_STRUCTURE = _sct("91723000", "Anatomical Structure")
PHYSICAL_OBJECT = _sct("260787004", "Physical object")
LUMBAR_SPINE = _sct("122496007", "Lumbar spine")
SACRUM = _sct("54735007", "Sacrum")
VERTEBRA = _sct("51282000", "Vertebra")
BONE_SCREW = _sct("68183006", "Bone screw")
IMPLANT = _sct("40388003", "Implant")

ARTIFICIAL_INTELLIGENCE = CodedConcept("123110", "DCM", "Artificial Intelligence")
COMMENT = CodedConcept("121106", "DCM", "Comment")
QUALITY_FINDING = CodedConcept("111052", "DCM", "Quality Finding")
NOT_INTERPRETABLE = CodedConcept("110531", "DCM", "Insufficient quality for interpretation")
RADIOGRAPHIC_IMAGING = CodedConcept("363680008", "SCT", "Radiographic imaging procedure")

LEVELS = {
    "T9": _sct("82687006", "T9 vertebra"),
    "T10": _sct("7610001", "T10 vertebra"),
    "T11": _sct("12989004", "T11 vertebra"),
    "T12": _sct("23215003", "T12 vertebra"),
    "L1": _sct("66794005", "L1 vertebra"),
    "L2": _sct("14293000", "L2 vertebra"),
    "L3": _sct("36470004", "L3 vertebra"),
    "L4": _sct("11994002", "L4 vertebra"),
    "L5": _sct("49668003", "L5 vertebra"),
}
"""Code of each level that CID 7603 names."""

STRUCTURE_WORDS = {
    Structure.LUMBAR_VERTEBRA: "vertebra",
    Structure.SACRAL_VERTEBRA: "sacral vertebra",
    Structure.CAGE: "cage",
    Structure.SCREW: "screw",
    Structure.ROD: "rod",
}


def category_of(structure: Structure) -> CodedConcept:
    """Anatomical structure or physical object."""
    return ANATOMICAL_STRUCTURE if structure in VERTEBRAE else PHYSICAL_OBJECT


def site_of(level: str | None, structure: Structure) -> CodedConcept:
    """The code of a vertebra by its level; the lumbar spine for an implant without one."""
    if level in LEVELS:
        return LEVELS[level]
    if level is not None and level.startswith("S"):
        return SACRUM
    if structure is Structure.SACRAL_VERTEBRA:
        return SACRUM
    return VERTEBRA if structure in VERTEBRAE else LUMBAR_SPINE


def type_of(structure: Structure, level: str | None) -> CodedConcept:
    """What an outline is an outline of."""
    if structure in VERTEBRAE:
        return site_of(level, structure)
    return BONE_SCREW if structure is Structure.SCREW else IMPLANT
