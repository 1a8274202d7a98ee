"""A film without its patient: nothing left, the film the same."""

from __future__ import annotations

import io
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from answers import changed, dicom_of
from planted import needles, planted_film, written
from pydicom import dcmread
from pydicom.dataset import Dataset
from spinezoo_contract.errors import ConfigurationError
from spinezoo_pacs.deidentify.film import SetAsideError, clean_film
from spinezoo_pacs.deidentify.keys import SiteKey
from spinezoo_pacs.deidentify.scan import left_over
from spinezoo_pacs.deidentify.text import find_text
from spinezoo_serving.disk import alone_in
from spinezoo_spine.films.reader import read_film

pytestmark = pytest.mark.filterwarnings("ignore")

KEY = SiteKey(b"k" * 32)


def test_nothing_of_the_patient_is_left() -> None:
    contents = [planted_film(number, number // 2) for number in range(1, 4)]
    for content in contents:
        clean = clean_film(content, KEY)
        for needle in needles(contents):
            assert needle.lower() not in clean.content.lower(), needle


def test_the_film_and_its_technical_header_stay() -> None:
    content = changed(dicom_of(5), ViewPosition="LL")
    clean = clean_film(content, KEY)
    before, after = read_film(content), read_film(clean.content)
    assert (before.pixels == after.pixels).all()
    assert (before.row_spacing_mm, before.column_spacing_mm) == pytest.approx(
        (after.row_spacing_mm, after.column_spacing_mm)
    )
    header = dcmread(io.BytesIO(clean.content))
    assert (header.ViewPosition, header.BodyPartExamined) == ("LL", "LSPINE")
    assert header.PatientIdentityRemoved == "YES"
    codes = {item.CodeValue for item in header.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113101", "113105", "113107"}


def test_that_pixels_are_not_square_stays_said() -> None:
    without = {"PixelSpacing": None, "ImagerPixelSpacing": None}
    content = changed(dicom_of(5), PixelAspectRatio=[2, 1], **without)
    before, after = read_film(content), read_film(clean_film(content, KEY).content)
    assert before.notes == after.notes
    assert any("2 tall where it is 1 wide" in note.text for note in after.notes)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
def test_the_result_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(clean_film(planted_film(1, 1), KEY).content)
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    assert not [line for line in lines if line.startswith("Error")]


def test_pseudonyms_and_dates_are_consistent_over_a_set_and_differ_by_key() -> None:
    first, second = (clean_film(planted_film(number, 7), KEY) for number in (1, 2))
    other = clean_film(planted_film(1, 7), SiteKey(b"x" * 32))
    stranger = clean_film(planted_film(3, 8), KEY)
    assert first.patient == second.patient != stranger.patient
    assert other.patient != first.patient
    one, two = (dcmread(io.BytesIO(each.content)) for each in (first, second))
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    days = KEY.shifted("A", "20200301"), KEY.shifted("A", "20200229")
    assert int(days[0]) - int(days[1]) in (1, 70, 71, 72, 73, 8870)
    assert KEY.shifted("A", "no date") == ""


def test_a_key_for_which_there_is_no_room_leaves_none_behind(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "site.key"
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, most[1]))
    try:
        with pytest.raises(ConfigurationError, match=r"cannot be used \(File too large\)"):
            SiteKey.open(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert list(path.parent.iterdir()) == []
    with alone_in(path.parent, "one"), pytest.raises(ConfigurationError, match="makes a key"):
        SiteKey.open(path)
    first = SiteKey.open(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert SiteKey.open(path).pseudonym("A") == first.pseudonym("A")


def test_pseudonyms_are_those_of_sets_that_were_collected_before() -> None:
    assert KEY.pseudonym("A") == "PXHB2I3QTTPY"
    assert KEY.pseudonym("A", "ward") == "P7GPZKRTSXYD"
    assert KEY.uid("1.2.3") == "2.25.113647308726213742028661034022748995042"
    assert KEY.mark("film", "1.2.3") == "ca6d4c11d3a902ba"
    assert KEY.shifted("A", "20200301") == "20190313"


def test_words_that_are_not_known_do_not_pass() -> None:
    content = changed(
        dicom_of(5), BodyPartExamined="SMITH", ViewPosition="JONES",
        ImageType=["DERIVED", "MILLER"], Modality="DX", Exposure="",
    )  # fmt: skip
    clean = dcmread(io.BytesIO(clean_film(content, KEY).content))
    assert "BodyPartExamined" not in clean
    assert "ViewPosition" not in clean
    assert "Exposure" not in clean
    assert (clean.ImageType, clean.Modality) == ("DERIVED", "DX")


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0])
@pytest.mark.parametrize("at", [(8, 25), (200, 500)])
def test_burned_in_text_is_blanked(scale: float, at: tuple[int, int]) -> None:
    dataset = dcmread(io.BytesIO(dicom_of(6)))
    plain = dataset.pixel_array
    pixels = plain.copy()
    written(pixels, "MUSTER 1951", at, scale)
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert find_text(pixels)
    clean = clean_film(buffer.getvalue(), KEY)
    assert clean.blanked_lines
    assert not find_text(clean.film.pixels)
    assert np.ptp(clean.film.pixels[pixels > plain]) == 0


def test_text_is_found_on_large_films_too() -> None:
    pixels = dcmread(io.BytesIO(dicom_of(6))).pixel_array.copy()
    written(pixels, "MUSTER 1951", (8, 25), 1.0)
    large = np.asarray(cv2.resize(pixels, None, fx=5, fy=5, interpolation=cv2.INTER_LINEAR))
    assert any(box.bottom < 200 and box.right > 500 for box in find_text(large))


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("seed", [5, 11, 14])
def test_text_along_an_edge_is_blanked_too(turn: int, seed: int) -> None:
    dataset = dcmread(io.BytesIO(dicom_of(seed)))
    turned = np.rot90(dataset.pixel_array, turn).copy()
    before = len(find_text(dataset.pixel_array))
    written(turned, "MUSTER 1951", (20, 25), 0.7)
    pixels = np.rot90(turned, -turn).copy()
    assert len(find_text(pixels)) > before
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    clean = clean_film(buffer.getvalue(), KEY)
    assert clean.blanked_lines
    row = np.rot90(clean.film.pixels, turn)[21:24, 26:80]
    assert np.ptp(row) == 0


@pytest.mark.parametrize(
    ("value", "stays"),
    [("51185008", True), ("T-D3000", True), ("R-10206", True), ("MILLER1951", False)],
)
def test_words_in_codes_do_not_pass(value: str, stays: bool) -> None:
    dataset = dcmread(io.BytesIO(dicom_of(5)))
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", "of Miller"
    dataset.AnatomicRegionSequence = [code]
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    clean = clean_film(buffer.getvalue(), KEY)
    assert (value.encode() in clean.content) == stays
    assert b"Miller" not in clean.content


def _with_text_in_the_middle() -> bytes:
    dataset = dcmread(io.BytesIO(dicom_of(5)))
    pixels = dataset.pixel_array.copy()
    height, width = pixels.shape
    written(pixels, "MUSTER", (width // 2 - 40, height // 2), 0.8)
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_with_text_in_the_middle, "text-in-the-middle"),
        (lambda: changed(dicom_of(5), BurnedInAnnotation="YES"), "text-said-but-not-found"),
        (lambda: changed(dicom_of(5), PatientID="", PatientName=""), "no-patient"),
        (lambda: dicom_of(5)[:-9000], "unreadable-FilmError"),
        (
            lambda: changed(dicom_of(5), BodyPartExamined="LSPINE", PatientName="Who^LSPINE"),
            "value-left",
        ),
    ],
)
def test_films_that_cannot_be_freed_with_certainty_are_set_aside(
    content: Callable[[], bytes], reason: str
) -> None:
    clean_film(dicom_of(5), KEY)
    with pytest.raises(SetAsideError, match=f": {reason};"):
        clean_film(content(), KEY)


def test_the_last_check_finds_every_value_of_the_header() -> None:
    content = planted_film(
        1, 7, PatientComments="Zqm\u00fcller", SpecificCharacterSet="ISO_IR 100",
        OtherPatientNames=["Zqone^Zql", "Zqtwo"],
    )  # fmt: skip
    original = dcmread(io.BytesIO(content), stop_before_pixels=True)
    texts = (
        "Zqname007^Zqfirst007", "Zqfirst007", "ZQID00007", "19170517", "Zqnested007", "ZQREQ1",
        "Zqprivate007", "Zqbytes007", "Zqoverlay", "Zqm\u00fcller", "Zqtwo", "Zql",
        str(original.StudyInstanceUID),
    )  # fmt: skip
    for text in texts:
        for codec in ("utf-8", "latin-1", "utf-16-le"):
            header = b"before" + text.encode(codec) + b"behind"
            assert left_over(original, header), (text, codec)
    # What the rules let pass is none, and neither are the standard's own words and UIDs.
    original.BurnedInAnnotation, original.KVP = "NO", "77"
    kept = (original.BodyPartExamined, original.SOPClassUID, "CR", "NO", "77", "Zqnam")
    assert left_over(original, " ".join(kept).encode()) == 0
