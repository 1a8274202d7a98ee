"""What the notes of a film say, and that they say nothing of the patient."""

from __future__ import annotations

import io
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from odd_dicom import codes, wrapped
from PIL import Image
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEGLSLossless
from spinezoo_contract.types import Film, FilmNoteCode, MeasurePlane
from spinezoo_spine.films.notes import MEANINGS, spacing_plane
from spinezoo_spine.films.reader import read_film

Make = Callable[..., bytes]
GREY = (np.arange(64 * 48) % 251).astype(np.uint8).reshape(64, 48)
Code = FilmNoteCode


def text_of(film: Film, code: FilmNoteCode) -> str:
    return next(note.text for note in film.notes if note.code is code)


NOTED: dict[str, tuple[dict[str, object], FilmNoteCode]] = {
    "AP": ({"ViewPosition": "AP"}, Code.NOT_LATERAL),
    "PA": ({"ViewPosition": "pa "}, Code.NOT_LATERAL),
    "oblique": ({"ViewPosition": "LLO"}, Code.NOT_LATERAL),
    "decubitus": ({"ViewPosition": "RLD"}, Code.NOT_LATERAL),
    "frontal rows": ({"PatientOrientation": ["L", "F"]}, Code.NOT_LATERAL),
    "upside down": ({"PatientOrientation": ["A", "H"]}, Code.NOT_UPRIGHT),
    "lying": ({"PatientOrientation": ["F", "P"]}, Code.NOT_UPRIGHT),
    "chest": ({"BodyPartExamined": "CHEST"}, Code.NOT_LUMBAR),
    "neck": ({"BodyPartExamined": "CSPINE"}, Code.NOT_LUMBAR),
    "CT": ({"Modality": "CT"}, Code.NOT_RADIOGRAPH),
    "ultrasound": ({"Modality": "US"}, Code.NOT_RADIOGRAPH),
    "raw data": ({"PresentationIntentType": "FOR PROCESSING"}, Code.FOR_PROCESSING),
    "raw data by class": (
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"},
        Code.FOR_PROCESSING,
    ),
    "lossy once": ({"LossyImageCompression": "01"}, Code.LOSSY_COMPRESSION),
    "shutter": ({"ShutterShape": "RECTANGULAR"}, Code.OVERLAY_NOT_SHOWN),
    "no spacing": ({}, Code.NO_SPACING),
    "imager": ({"ImagerPixelSpacing": ["0.15", "0.2"]}, Code.SPACING_IMAGER),
    "pixel": ({"PixelSpacing": ["0.15", "0.2"]}, Code.SPACING_PIXEL),
    "scanner": ({"NominalScannedPixelSpacing": ["0.3", "0.3"]}, Code.SPACING_NOMINAL_SCANNED),
    "negative spacing": ({"PixelSpacing": ["-1", "0.1"]}, Code.SPACING_IGNORED),
    "zero spacing": ({"ImagerPixelSpacing": ["0", "0"]}, Code.SPACING_IGNORED),
    "pixels that are not square": ({"PixelAspectRatio": ["1", "2"]}, Code.SPACING_IGNORED),
    "half a spacing": ({"PixelSpacing": "0.1"}, Code.SPACING_IGNORED),
}


@pytest.mark.parametrize("name", NOTED)
def test_what_is_noted(make_dicom: Make, secret: str, name: str) -> None:
    attributes, code = NOTED[name]
    film = read_film(make_dicom(GREY, **attributes))
    assert code in codes(film)
    assert text_of(film, code).endswith(".")
    assert not any(secret.split("^")[0] in note.text for note in film.notes)


def code(value: str, scheme: str = "SCT", meaning: str = "Geheim^Person") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


AP, LATERAL, CHEST, LUMBAR = "399348003", "399173006", "816094009", "122496007"


@pytest.mark.parametrize(
    ("attributes", "noted"),
    [
        ({"ViewCodeSequence": [code(AP)]}, {Code.NOT_LATERAL}),
        ({"ViewCodeSequence": [code("R-10214", "SRT")]}, {Code.NOT_LATERAL}),
        ({"ViewCodeSequence": [code("r-102c1 ", "SNM3")], "ViewPosition": ""}, {Code.NOT_LATERAL}),
        ({"ViewCodeSequence": [code(LATERAL)]}, set()),
        ({"ViewCodeSequence": [code(AP, "99LOCAL")]}, set()),
        ({"ViewCodeSequence": [code("")]}, set()),
        ({"ViewCodeSequence": []}, set()),
        # What a person typed counts before what a device was set to.
        ({"ViewCodeSequence": [code(AP)], "ViewPosition": "LL"}, set()),
        ({"ViewCodeSequence": [code(LATERAL)], "ViewPosition": "AP"}, {Code.NOT_LATERAL}),
        ({"AnatomicRegionSequence": [code(CHEST)]}, {Code.NOT_LUMBAR}),
        ({"AnatomicRegionSequence": [code("T-11501", "SRT")]}, {Code.NOT_LUMBAR}),
        ({"AnatomicRegionSequence": [code(LUMBAR)]}, set()),
        ({"AnatomicRegionSequence": [code(CHEST), code(LUMBAR)]}, set()),
        ({"AnatomicRegionSequence": [code(CHEST)], "BodyPartExamined": "L-SPINE"}, set()),
        ({"BodyPartExamined": "T-SPINE"}, {Code.NOT_LUMBAR}),
        ({"BodyPartExamined": "CERVICAL SPINE"}, {Code.NOT_LUMBAR}),
    ],
)
def test_codes_of_view_and_region_count_where_words_say_nothing(
    make_dicom: Make, secret: str, attributes: dict[str, object], noted: set[FilmNoteCode]
) -> None:
    film = read_film(make_dicom(GREY, **attributes))
    assert codes(film) & {Code.NOT_LATERAL, Code.NOT_LUMBAR} == noted
    assert not any(secret.split("^")[0] in note.text for note in film.notes)


@pytest.mark.parametrize(
    "keyword", ["ViewCodeSequence", "AnatomicRegionSequence", "PresentationLUTSequence"]
)
@pytest.mark.parametrize("kind", ["LO", "OB"])
def test_a_sequence_that_is_none_is_not_looked_at(
    make_dicom: Make, keyword: str, kind: str
) -> None:
    def change(dataset: Dataset) -> None:
        tag = tag_for_keyword(keyword)
        assert tag is not None
        dataset.add(DataElement(tag, kind, "R-10206" if kind == "LO" else b"R-10206 "))

    assert (read_film(make_dicom(GREY, change=change)).pixels == GREY).all()


def test_an_ordinary_film_has_no_note_but_its_spacing(make_dicom: Make) -> None:
    film = read_film(
        make_dicom(
            GREY,
            Modality="DX",
            BodyPartExamined="LSPINE",
            ViewPosition="LL",
            PatientOrientation=["A", "F"],
            PresentationIntentType="FOR PRESENTATION",
            PresentationLUTShape="IDENTITY",
            LossyImageCompression="00",
            ImagerPixelSpacing=["0.15", "0.15"],
        )
    )
    assert codes(film) == {Code.SPACING_IMAGER}


@pytest.mark.parametrize(
    "spacing", [[0.00014, 0.00014], [140, 140], [1e-9, 1e-9], [0.14, 28], [0.14, 0.001]]
)
def test_a_spacing_of_no_radiograph_is_ignored(make_dicom: Make, spacing: list[float]) -> None:
    """In metres or micrometres, or of pixels that are 200 times as long as wide."""
    film = read_film(make_dicom(GREY, ImagerPixelSpacing=spacing, PixelSpacing=[0.2, 0.2]))
    assert (film.row_spacing_mm, film.column_spacing_mm) == (0.2, 0.2)
    assert FilmNoteCode.SPACING_IGNORED in codes(film)


def test_the_spacing_says_how_it_was_had(make_dicom: Make) -> None:
    both = {"ImagerPixelSpacing": ["0.15", "0.2"], "PixelSpacing": ["0.1", "0.1"]}
    film = read_film(make_dicom(GREY, EstimatedRadiographicMagnificationFactor="1.25", **both))
    assert "0.15 x 0.2 mm, not its Pixel Spacing of 0.1 x 0.1 mm" in text_of(
        film, Code.SPACING_IMAGER
    )
    same = read_film(make_dicom(GREY, **{name: ["0.15", "0.2"] for name in both}))
    assert "not its" not in text_of(same, Code.SPACING_IMAGER)
    assert "magnification of 1.250" in text_of(film, Code.SPACING_IMAGER)
    distances = {"DistanceSourceToDetector": "1150", "DistanceSourceToPatient": "1000"}
    film = read_film(make_dicom(GREY, PixelSpacing=["0.1", "0.1"], **distances))
    assert "magnification of 1.150" in text_of(film, Code.SPACING_PIXEL)
    assert "not said to be calibrated" in text_of(film, Code.SPACING_PIXEL)
    film = read_film(make_dicom(GREY, PixelSpacing=["0.1", "0.1"]))
    assert "says nothing of the magnification" in text_of(film, Code.SPACING_PIXEL)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"PixelSpacingCalibrationType": "GEOMETRY"}, "calibrated by geometry"),
        ({"PixelSpacingCalibrationType": "FIDUCIAL"}, "calibrated by an object of known size"),
        ({"NominalScannedPixelSpacing": ["0.12", "0.12"]}, "finer than the scanner's"),
    ],
)
def test_a_calibrated_spacing_is_in_the_patient(
    make_dicom: Make, attributes: dict[str, object], said: str
) -> None:
    """PS3.3 10.7.1.1 and 10.7.1.2: the spacing holds the magnification that the header names."""
    attributes = {"EstimatedRadiographicMagnificationFactor": "1.15", **attributes}
    film = read_film(make_dicom(GREY, PixelSpacing=["0.1", "0.1"], **attributes))
    assert film.row_spacing_mm == 0.1
    assert said in text_of(film, Code.SPACING_CALIBRATED)
    assert "divide nothing" in text_of(film, Code.SPACING_CALIBRATED)
    assert Code.SPACING_PIXEL not in codes(film)
    assert spacing_plane(film) is MeasurePlane.PATIENT


def test_a_spacing_that_no_magnification_explains_or_beside_the_detectors_is_not_calibrated(
    make_dicom: Make,
) -> None:
    pixel = {"PixelSpacing": ["0.1", "0.1"]}
    for scanned in (["0.1", "0.1"], ["0.05", "0.05"], ["0.1", "0.12"], ["1", "1"]):
        film = read_film(make_dicom(GREY, NominalScannedPixelSpacing=scanned, **pixel))
        assert spacing_plane(film) is MeasurePlane.UNSAID
    both = {"ImagerPixelSpacing": ["0.12", "0.12"], "PixelSpacingCalibrationType": "GEOMETRY"}
    film = read_film(make_dicom(GREY, **pixel, **both))
    assert (film.row_spacing_mm, spacing_plane(film)) == (0.12, MeasurePlane.DETECTOR)


def test_free_text_of_the_header_is_never_repeated(make_dicom: Make) -> None:
    secrets = {
        "BodyPartExamined": "MUSTERMANN",
        "ViewPosition": "MUSTERMANN",
        "Modality": "MUSTERMANN",
        "PresentationIntentType": "MUSTERMANN",
        "VOILUTFunction": "MUSTERMANN",
        "WindowCenter": "100",
        "WindowWidth": "100",
        "PatientOrientation": ["MUSTERMANN", "MUSTERMANN"],
        "PixelSpacingCalibrationType": "MUSTERMANN",
        "PixelSpacing": ["0.1", "0.1"],
        "PresentationLUTShape": "MUSTERMANN",
    }
    film = read_film(make_dicom(GREY, **secrets))
    assert film.notes
    assert not any("MUSTERMANN" in note.text.upper() for note in film.notes)


def test_the_orientation_of_functional_groups(make_dicom: Make) -> None:
    def change(dataset: Dataset) -> None:
        group, inner = Dataset(), Dataset()
        inner.PatientOrientation = ["A", "H"]
        group.PatientOrientationInFrameSequence = Sequence([inner])
        dataset.SharedFunctionalGroupsSequence = Sequence([group])

    assert Code.NOT_UPRIGHT in codes(read_film(make_dicom(GREY, change=change)))


def test_a_film_of_one_level_is_noted(make_dicom: Make) -> None:
    flat = np.full((64, 48), 7, np.uint8)
    assert Code.SINGLE_LEVEL in codes(read_film(make_dicom(flat)))
    buffer = io.BytesIO()
    Image.fromarray(flat).save(buffer, "PNG")
    assert codes(read_film(buffer.getvalue())) == {Code.SINGLE_LEVEL, Code.NO_SPACING}


def test_every_code_has_a_meaning() -> None:
    assert set(MEANINGS) == set(FilmNoteCode)


@pytest.mark.parametrize("error", [0, 2])
def test_jpeg_ls_that_loses_is_noted_whatever_the_header_says(make_dicom: Make, error: int) -> None:
    stream = imagecodecs.jpegls_encode(GREY, level=error)
    film = read_film(wrapped(make_dicom, GREY, JPEGLSLossless, stream))
    assert (FilmNoteCode.LOSSY_COMPRESSION in codes(film)) == bool(error)
