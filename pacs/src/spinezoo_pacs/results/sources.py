"""The source film's header, made fit to be the parent of results."""

from __future__ import annotations

import io
import re
import warnings

import pydicom
from highdicom.enum import SpecificCharacterSetValues
from pydicom.datadict import dictionary_VM
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import UID
from spinezoo_contract.errors import FilmError
from spinezoo_spine.films.about import spacing_mm
from spinezoo_spine.films.notes import NoteBook


class SourceError(FilmError):
    """A film whose results could not be filed under it; ``reason`` is a short name."""

    def __init__(self, reason: str, message: str) -> None:
        """Keeps the name under which the film is set aside."""
        super().__init__(message)
        self.reason = reason


_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Type 2 attributes that results copy; a source without them gets them empty."""

_LIMITS = {
    "PatientID": 64, "PatientName": 324, "StudyID": 16, "AccessionNumber": 16,
    "ReferringPhysicianName": 324,
}  # fmt: skip
"""Most characters of a value by its VR (PS3.5 table 6.2-1)."""

_KNOWN_SETS = frozenset(each.value for each in SpecificCharacterSetValues)

_COPIED = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate",
    "PatientSex", "PatientAge", "PatientSize", "PatientWeight", "StudyInstanceUID", "StudyID",
    "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
    "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "Modality", "Rows", "Columns",
    "ImagerPixelSpacing", "PixelSpacing", "FrameOfReferenceUID", "PositionReferenceIndicator",
    "PatientOrientation", "Laterality", "BodyPartExamined", "InstanceNumber", "SeriesNumber",
    "PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "ImageType",
)  # fmt: skip


class Source:
    """One film as the parent of results: header only, Type 2 attributes present.

    Attributes:
        dataset: What results are made from; holds no pixels.
        spacing_mm: Distance of rows and of columns, the one that films are measured by; None twice
            where the header states none.
    """

    def __init__(self, data: bytes) -> None:
        """Reads a DICOM file's header.

        Raises:
            SourceError: It is no DICOM file, or an attribute that results need is missing or
                impossible.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
                self.dataset = _fit(read)
                self.spacing_mm = spacing_mm(read, NoteBook())
            except SourceError:
                raise
            except (InvalidDicomError, EOFError) as error:
                raise SourceError("no-dicom", "not a DICOM file; send DICOM") from error
            except Exception as error:
                raise SourceError(
                    "bad-header",
                    f"the header cannot be read ({type(error).__name__}); export the film again",
                ) from None

    @property
    def sop_instance_uid(self) -> str:
        """The film's UID."""
        return str(self.dataset.SOPInstanceUID)

    @property
    def study_instance_uid(self) -> str:
        """Its study's UID."""
        return str(self.dataset.StudyInstanceUID)

    def check_size(self, height: int, width: int) -> None:
        """Checks that an answer is of the film as it is stored.

        Raises:
            SourceError: It has another size.
        """
        if (height, width) != (self.dataset.Rows, self.dataset.Columns):
            raise SourceError(
                "other-size",
                f"the answer is {height} x {width}, the film {self.dataset.Rows} x "
                f"{self.dataset.Columns}; ask the gateway again",
            )


def _fit(read: Dataset) -> Dataset:
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"):
        value = read.get(name)
        if not value or not UID(str(value)).is_valid:
            raise SourceError("bad-uid", f"{name} is missing or no UID; export the film again")
    if not read.get("Rows") or not read.get("Columns"):
        raise SourceError("no-image", "the object has no rows and columns; send an image")
    for name, most in _LIMITS.items():
        if isinstance(read.get(name), MultiValue):
            raise SourceError(
                "several-values",
                f"{name} has {len(read.get(name))} values, the standard allows one; correct it in "
                "the archive",
            )
        value = str(read.get(name) or "")
        if len(value) > most:
            raise SourceError(
                "value-too-long",
                f"{name} has {len(value)} characters, the standard allows {most}; correct it "
                "in the archive",
            )
    made = Dataset()
    for name in _COPIED:
        several = isinstance(read.get(name), MultiValue)
        if name in read and not (several and dictionary_VM(name) == "1"):
            made.add(read[name])
    for name in _EMPTY:
        if name not in made or made.get(name) is None:
            setattr(made, name, "")
    if made.get("SpecificCharacterSet"):
        made.SpecificCharacterSet = _character_set(made.SpecificCharacterSet)
    if made.PatientSex not in ("M", "F", "O", ""):
        made.PatientSex = ""
    for name, kind in (("StudyDate", "DA"), ("PatientBirthDate", "DA"), ("StudyTime", "TM")):
        value = str(made.get(name) or "")
        if value and not _parses(value, kind):
            setattr(made, name, "")
    if not made.get("Modality"):
        made.Modality = "OT"
    return made


def _character_set(value: object) -> str | list[str]:
    """The film's character set as results have it; UTF-8 where highdicom does not know it.

    The first of several terms may be empty and means the default then (PS3.3 C.12.1.1.2), as in
    Japanese and Korean films; highdicom wants it said.
    """
    terms = [str(term) for term in value] if isinstance(value, MultiValue) else [str(value)]
    if len(terms) == 1:
        return terms[0] if terms[0] in _KNOWN_SETS else "ISO_IR 192"
    terms[0] = terms[0] or "ISO 2022 IR 6"
    known = all(term in _KNOWN_SETS and term.startswith("ISO 2022") for term in terms)
    return terms if known else "ISO_IR 192"


def orientation_of(dataset: Dataset) -> list[str] | str:
    """Patient Orientation of results: that of the film, or empty where it has none that is one.

    Up to three letters a side (PS3.3 C.7.6.1.1.1): ``A``, ``FP``.
    """
    given = dataset.get("PatientOrientation")
    sides = [str(each).strip().upper() for each in given] if isinstance(given, MultiValue) else []
    right = len(sides) == 2 and all(re.fullmatch("[APRLHF]{1,3}", side) for side in sides)
    return sides if right else ""


def _parses(value: str, kind: str) -> bool:
    try:
        (pydicom.valuerep.DA if kind == "DA" else pydicom.valuerep.TM)(value)
    except (ValueError, OverflowError):
        return False
    return True
