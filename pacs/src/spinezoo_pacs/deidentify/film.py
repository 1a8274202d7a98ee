"""One film without its patient."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions_2024b
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.types import Film
from spinezoo_spine.films.reader import read_film

from spinezoo_pacs.deidentify import rules
from spinezoo_pacs.deidentify.keys import SiteKey
from spinezoo_pacs.deidentify.scan import left_over
from spinezoo_pacs.deidentify.text import blanked, find_text
from spinezoo_pacs.results.identity import derived_uid

METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113101", "Clean Pixel Data Option"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
"""Profile and options, as PS3.16 CID 7050 codes them."""


class SetAsideError(SpineZooError):
    """A film that cannot be freed of its patient with certainty; ``reason`` is a short name."""

    def __init__(self, reason: str) -> None:
        """Keeps the name."""
        super().__init__(f"the film was set aside: {reason}; docs/pacs.md says what to do")
        self.reason = reason


@dataclass(slots=True)
class AttributeReport:
    """What became of attributes over a set: keyword to number of films."""

    kept: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)

    def add(self, before: Dataset, after: Dataset) -> None:
        """Counts one film."""
        for element in before:
            name = element.keyword or ("private" if element.tag.is_private else "unknown")
            if element.tag not in after:
                self.removed[name] += 1
            elif after[element.tag].value == element.value:
                self.kept[name] += 1
            else:
                self.changed[name] += 1

    def as_dict(self) -> dict[str, dict[str, int]]:
        """For a JSON file."""
        return {
            "kept": dict(sorted(self.kept.items())),
            "changed": dict(sorted(self.changed.items())),
            "removed": dict(sorted(self.removed.items())),
        }


@dataclass(frozen=True, slots=True)
class CleanFilm:
    """A film without its patient.

    Attributes:
        content: The DICOM file.
        patient: Pseudonym.
        film: The pixels, with the notes of the original.
        blanked_lines: Lines of text that were blanked.
    """

    content: bytes
    patient: str
    film: Film
    blanked_lines: int


def clean_film(data: bytes, key: SiteKey, report: AttributeReport | None = None) -> CleanFilm:
    """Frees a film of its patient; nothing is written anywhere.

    Pixels are decoded and written anew, so that nothing hides in a compressed stream, in unused
    bits or behind the image. They are those that networks see: windowed, bone bright.

    Args:
        data: A DICOM file.
        key: The site's.
        report: Where attributes are counted.

    Raises:
        SetAsideError: It cannot be done with certainty.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            original = dcmread(io.BytesIO(data), stop_before_pixels=True)
            _ = str(original)  # reads every element, so that damage shows now
            film = read_film(data, kind="dicom")
        except SpineZooError as error:
            raise SetAsideError(f"unreadable-{type(error).__name__}") from None
        except Exception:
            raise SetAsideError("unreadable-header") from None
        if not original.get("PatientID") and not original.get("PatientName"):
            raise SetAsideError("no-patient")
        pixels, lines = _clean_pixels(film.pixels, original)
        try:
            made = _clean_header(original, key)
        except Exception as error:
            raise SetAsideError(f"profile-{type(error).__name__}") from None
        if report is not None:
            report.add(original, made)
        _put_pixels(made, pixels)
        header, content = _written(made)
    if left_over(original, header):
        raise SetAsideError("value-left")
    cleaned = Film(pixels, film.row_spacing_mm, film.column_spacing_mm, film.notes)
    return CleanFilm(content, str(made.PatientID), cleaned, lines)


def _clean_pixels(
    pixels: NDArray[np.generic], original: Dataset
) -> tuple[NDArray[np.generic], int]:
    height, width = pixels.shape
    boxes = find_text(pixels)
    if any(box.in_the_middle(height, width) for box in boxes):
        raise SetAsideError("text-in-the-middle")
    if not boxes and str(original.get("BurnedInAnnotation", "")).upper() == "YES":
        raise SetAsideError("text-said-but-not-found")
    if boxes:
        pixels = blanked(pixels, boxes)
        if find_text(pixels):
            raise SetAsideError("text-left")
    return pixels, len(boxes)


def _patient_of(original: Dataset) -> tuple[str, str]:
    own = str(original.get("PatientID") or original.get("PatientName"))
    return own, str(original.get("IssuerOfPatientID") or "")


def _clean_header(original: Dataset, key: SiteKey) -> Dataset:
    made = rules.kept(original)
    patient = _patient_of(original)
    own = {
        "PatientID": key.pseudonym(*patient),
        "PatientName": key.pseudonym(*patient),
        "StudyDate": key.shifted(patient[0], str(original.get("StudyDate") or "")),
        **{name: key.uid(str(original.get(name) or "")) for name in rules.UIDS},
    }

    def keep_ours(_dataset: Dataset, _tag: tuple[int, int]) -> None:
        """The profile's own dummy values would tear the set apart."""

    ours: dict[tuple[int, int], object] = {}
    for name, value in own.items():
        setattr(made, name, value)
        tag = tag_for_keyword(name)
        assert tag is not None
        ours[tag >> 16, tag & 0xFFFF] = keep_ours
    # The library prints tags that it does not know.
    with contextlib.redirect_stdout(io.StringIO()):
        anonymize_dataset(
            made, ours, delete_private_tags=True, base_rules_gen=initialize_actions_2024b
        )
    made.PatientBirthDate = made.PatientSex = made.StudyTime = ""
    made.AccessionNumber = made.StudyID = made.ReferringPhysicianName = ""
    made.Manufacturer = ""
    made.SeriesNumber = made.InstanceNumber = 1
    made.SOPClassUID = ComputedRadiographyImageStorage
    made.Modality = "CR" if made.get("Modality") not in ("CR", "DX", "RG") else made.Modality
    made.PatientIdentityRemoved = "YES"
    made.BurnedInAnnotation = "NO"
    made.LongitudinalTemporalInformationModified = "MODIFIED"
    made.DeidentificationMethod = "SpineZoo, PS3.15 table E.1-1 of 2024b"
    made.DeidentificationMethodCodeSequence = [_code(*each) for each in METHODS]
    made.SpecificCharacterSet = "ISO_IR 192"
    return made


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _put_pixels(made: Dataset, pixels: NDArray[np.generic]) -> None:
    if pixels.dtype.name not in ("uint8", "uint16"):
        raise SetAsideError("unusual-pixels")
    bits = pixels.dtype.itemsize * 8
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.Rows, made.Columns = pixels.shape
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit = bits - 1
    made.PixelRepresentation = 0
    made.add_new(0x7FE00010, "OW", pixels.astype(f"<u{bits // 8}").tobytes().ljust(2, b"\0"))
    if len(made.PixelData) % 2:
        made.PixelData += b"\0"


def _written(made: Dataset) -> tuple[bytes, bytes]:
    """(header bytes, whole file); both from an empty file meta header."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = derived_uid("implementation", "pacs")
    meta.ImplementationVersionName = "SPINEZOO"
    made.file_meta = meta
    made.preamble = b"\0" * 128
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    size = len(made.PixelData)
    return content[: len(content) - size], content
