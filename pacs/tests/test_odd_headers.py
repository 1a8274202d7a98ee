"""Results of films whose headers are odd, sparse or in any character set."""

from __future__ import annotations

import io
from datetime import datetime

import pytest
from answers import answered, changed, dicom_of
from pydicom import dcmread
from spinezoo_pacs.results import Source, SourceError, make_results

WHEN = datetime(2026, 1, 2, 3, 4, 5)

NEEDED = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "PixelData",
)  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"PatientID": "x" * 65536}, "value-too-long"),
        ({"StudyInstanceUID": None}, "bad-uid"),
        ({"SeriesInstanceUID": "../../x"}, "bad-uid"),
        ({"Rows": None}, "no-image"),
        ({"PatientName": ["One^Man", "Another"]}, "several-values"),
        ({"PatientID": ["1", "2"]}, "several-values"),
    ],
)
def test_films_that_nothing_can_be_filed_under_are_named(
    values: dict[str, object], reason: str
) -> None:
    with pytest.raises(SourceError) as failed:
        Source(changed(dicom_of(3), **values))
    assert failed.value.reason == reason
    assert "xxx" not in str(failed.value)


def test_odd_headers_get_results() -> None:
    data, film, answer = answered(3)
    odd = changed(
        data, PatientName="../../x", PatientSex="FEMALE", StudyDate="1.4.2020", StudyTime=None,
        AccessionNumber=None, PatientBirthDate=None, Modality=None, StudyID=None,
        ReferringPhysicianName=None, SpecificCharacterSet="ISO_IR 100",
    )  # fmt: skip
    odd = changed(odd, PatientName="Mößner^Jürgen")
    files = make_results(Source(odd), answer, film, WHEN).files()
    for content in files.values():
        assert str(dcmread(io.BytesIO(content)).PatientName) == "Mößner^Jürgen"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, ""),
        ("", ""),
        ("A", ""),
        (["A", "F", "H"], ""),
        (["", "F"], ""),
        (["X", "Y"], ""),
        (["p", "f "], ["P", "F"]),
        (["AF", "FPR"], ["AF", "FPR"]),
    ],
)
def test_films_need_no_patient_orientation(given: object, kept: object) -> None:
    data, film, answer = answered(3)
    made = make_results(Source(changed(data, PatientOrientation=given)), answer, film, WHEN)
    assert set(made.datasets) == {"seg", "labelmap", "sr", "sc"}
    for kind in ("seg", "sc"):
        read = dcmread(io.BytesIO(made.files()[kind]))
        assert "PatientOrientation" in read
        assert (read.PatientOrientation or "") == kept


KOREAN = "Hong^Gildong=洪^吉洞=홍^길동"
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    ("given", "name", "kept"),
    [
        (["", "ISO 2022 IR 87"], JAPANESE, ["ISO 2022 IR 6", "ISO 2022 IR 87"]),
        (["ISO 2022 IR 6", "ISO 2022 IR 87"], JAPANESE, ["ISO 2022 IR 6", "ISO 2022 IR 87"]),
        (["", "ISO 2022 IR 149"], KOREAN, "ISO_IR 192"),
        ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
        ("ISO_IR 144", "Люкceмбypг", "ISO_IR 144"),
        ("ISO_IR 192", "Mößner^李", "ISO_IR 192"),
        (None, "Miller^Anne", None),
        # Misspelt and unknown ones are read as well as can be, and written as UTF-8.
        ("ISO-IR 100", "Mößner", "ISO_IR 192"),
        ("LATIN1", "Mößner", "ISO_IR 192"),
    ],
)
def test_names_in_every_character_set_come_back(given: object, name: str, kept: object) -> None:
    data, film, answer = answered(3)
    misspelt = isinstance(given, str) and given != kept
    right = "ISO_IR 100" if misspelt else given
    odd = changed(data, SpecificCharacterSet=right or "ISO_IR 6", PatientName=name)
    read = dcmread(io.BytesIO(odd))
    assert str(read.PatientName) == name
    if right is None:
        odd = changed(odd, SpecificCharacterSet=None)
    elif misspelt:
        odd = odd.replace(b"ISO_IR 100", str(given).ljust(10).encode())
    for content in make_results(Source(odd), answer, film, WHEN).files().values():
        back = dcmread(io.BytesIO(content))
        assert str(back.PatientName) == name
        found = back.get("SpecificCharacterSet")
        assert (list(found) if isinstance(kept, list) else found) == kept


def test_a_film_needs_nothing_but_its_uids_and_its_pixels() -> None:
    data, film, answer = answered(3)
    bare = dcmread(io.BytesIO(data))
    for element in list(bare):
        if element.keyword not in NEEDED:
            del bare[element.tag]
    buffer = io.BytesIO()
    bare.save_as(buffer, enforce_file_format=True)
    made = make_results(Source(buffer.getvalue()), answer, film, WHEN)
    assert set(made.files()) == {"seg", "labelmap", "sr", "sc"}
