"""Films and folders that several test files use."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from spinezoo_testing.film_folder import film_folder

__all__ = ["film_folder"]

SHARED_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

SECRET = "Testperson^Geheim"


@pytest.fixture
def shared_data() -> Path:
    """Development data beside the repository; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no shared development data beside the repository")
    return SHARED_DATA


@pytest.fixture
def make_dicom() -> Callable[..., bytes]:
    """Builds DICOM bytes from stored values and further attributes."""

    def build(
        stored: np.ndarray,
        *,
        syntax: str = ExplicitVRLittleEndian,
        preamble: bool = True,
        change: Callable[[Dataset], None] | None = None,
        **attributes: object,
    ) -> bytes:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = syntax
        dataset = FileDataset(
            "",
            Dataset(),
            file_meta=meta,
            preamble=b"\0" * 128,
            is_implicit_VR=meta.TransferSyntaxUID.is_implicit_VR,
            is_little_endian=meta.TransferSyntaxUID.is_little_endian,
        )
        dataset.SOPClassUID = meta.MediaStorageSOPClassUID
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.PatientName = SECRET
        dataset.PatientID = SECRET
        dataset.Modality = "CR"
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = stored.shape[-2:]
        dataset.BitsAllocated = 8 * stored.dtype.itemsize
        dataset.BitsStored = dataset.BitsAllocated
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(stored.dtype.kind == "i")
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
            if keyword == "BitsStored":
                dataset.HighBit = int(str(value)) - 1
        dataset.PixelData = stored.tobytes()
        dataset["PixelData"].VR = "OW"
        if change is not None:
            change(dataset)
        buffer = io.BytesIO()
        dataset.save_as(
            buffer,
            enforce_file_format=preamble,
            implicit_vr=dataset.file_meta.TransferSyntaxUID.is_implicit_VR,
            little_endian=dataset.file_meta.TransferSyntaxUID.is_little_endian,
        )
        content = buffer.getvalue()
        if preamble:
            return content
        # The bare data set: what is left without preamble, prefix and meta information.
        bare = io.BytesIO()
        Dataset(dataset).save_as(bare, implicit_vr=False, little_endian=True)
        return bare.getvalue()

    return build
