"""Films with patients in every corner: header, sequences, private tags, overlays, pixels, meta."""

from __future__ import annotations

import io

import cv2
import numpy as np
from answers import dicom_of
from parts import SEEDS
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from spinezoo_pacs.results.identity import derived_uid

WORDS = (
    b"zqname", b"zqfirst", b"zqid0", b"zqother", b"zqstreet", b"zqacc", b"zqdoctor", b"zqhosp",
    b"zqstation", b"zqcomment", b"zqserial", b"zqreq", b"zqnested", b"zqprivate", b"zqbytes",
    b"zqoverl", b"zqcurve", b"zqtrail", b"zqsource", b"zqmeta", b"zqpreamble",
)  # fmt: skip
"""What :func:`planted_film` writes, in lower case."""


def planted_film(number: int, patient: int, *, burned_in: bool = False, **values: object) -> bytes:
    """One film of a patient; every word in it that points to the patient begins with ``Zq``."""
    dataset = dcmread(io.BytesIO(dicom_of(SEEDS[number % len(SEEDS)])))
    dataset.SOPInstanceUID = derived_uid("planted film", str(number))
    dataset.SeriesInstanceUID = derived_uid("planted series", str(number))
    dataset.StudyInstanceUID = derived_uid("planted study", str(patient))
    dataset.PatientName = f"Zqname{patient:03d}^Zqfirst{patient:03d}"
    dataset.PatientID = f"ZQID{patient:05d}"
    dataset.OtherPatientIDs = f"ZQOTHER{patient:05d}"
    dataset.PatientBirthDate = f"19{10 + patient:02d}0517"
    dataset.PatientAddress = f"Zqstreet {patient}"
    # One day for all: dates move back by chance, and could meet another patient's earlier one.
    dataset.StudyDate = "20191123"
    dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = dataset.StudyDate
    dataset.AccessionNumber = f"ZQACC{number:05d}"
    dataset.ReferringPhysicianName = "Zqdoctor^Who"
    dataset.InstitutionName = "Zqhospital"
    dataset.StationName = "ZQSTATION"
    dataset.StudyDescription = f"LWS of Zqname{patient:03d}"
    dataset.SeriesDescription = "lateral for Zqdoctor"
    dataset.ImageComments = f"Zqcomment {number}"
    dataset.DeviceSerialNumber = "ZQSERIAL1"
    request = Dataset()
    request.RequestedProcedureDescription = f"for Zqname{patient:03d}"
    request.RequestedProcedureID = f"ZQREQ{number}"
    inner = Dataset()
    inner.PatientName = f"Zqnested{patient:03d}"
    request.ReferencedPatientSequence = [inner]
    dataset.RequestAttributesSequence = [request]
    reference = Dataset()
    reference.ReferencedSOPClassUID = dataset.SOPClassUID
    reference.ReferencedSOPInstanceUID = derived_uid("planted reference", str(number))
    dataset.ReferencedImageSequence = [reference]
    block = dataset.private_block(0x0019, "ZQPRIVATE", create=True)
    block.add_new(1, "LO", f"Zqprivate{patient:03d}")
    block.add_new(2, "OB", f"Zqbytes{patient:03d} ".encode())
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60000011, "US", 8)
    dataset.add_new(0x60000022, "LO", "Zqoverlay")
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", b"ZqOVERLY")
    dataset.add_new(0x50000022, "LO", "Zqcurve")
    dataset.add_new(0x50003000, "OW", b"ZqCURVE ")
    dataset.DataSetTrailingPadding = b"Zqtrail1"
    if burned_in:
        pixels = dataset.pixel_array.copy()
        text = f"ZQNAME{patient} 1951"
        at = (6, 22 if number % 2 else pixels.shape[0] - 8)
        pixels[at[1] - 22 : at[1] + 8, :230] = 0
        written(pixels, text, at, 0.6)
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset.BurnedInAnnotation = "YES"
    for name, value in values.items():
        if value is None:
            if name in dataset:
                del dataset[name]
        else:
            setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.SourceApplicationEntityTitle = "ZQSOURCE"
    dataset.file_meta.PrivateInformationCreatorUID = UID("1.2.3.4.5.6.7.999")
    dataset.file_meta.PrivateInformation = b"Zqmeta"
    dataset.preamble = b"Zqpreamble".ljust(128, b"\0")
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def written(pixels: np.ndarray, text: str, at: tuple[int, int], scale: float) -> None:
    """Writes bright text on grey levels of any depth."""
    mask = np.zeros(pixels.shape, np.uint8)
    cv2.putText(mask, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 1, cv2.LINE_AA)
    share = mask / 255.0
    pixels[...] = (pixels * (1.0 - share) + int(pixels.max()) * share).astype(pixels.dtype)


def needles(contents: list[bytes]) -> set[bytes]:
    """What must not be found in a set: the planted words, dates, numbers and UIDs."""
    found = set(WORDS)
    for content in contents:
        dataset = dcmread(io.BytesIO(content), stop_before_pixels=True)
        for name in ("PatientBirthDate", "StudyDate", "SOPInstanceUID", "SeriesInstanceUID",
                     "StudyInstanceUID"):  # fmt: skip
            found.add(str(dataset.get(name)).encode())
        found.add(str(dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID).encode())
    return found


def text_region(content: bytes, number: int) -> np.ndarray:
    """Where :func:`planted_film` writes."""
    pixels = dcmread(io.BytesIO(content)).pixel_array
    at = 22 if number % 2 else pixels.shape[0] - 8
    return np.asarray(pixels[at - 14 : at + 2, 6:190])
