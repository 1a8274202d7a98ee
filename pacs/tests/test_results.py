"""Results are valid DICOM, say exactly what the gateway said, and are the same each time."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cv2
import highdicom
import nrrd
import numpy as np
import pytest
from answers import answer_of, answered, changed, dicom_of, phantom
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID
from spinezoo_contract.masks import decode_mask, encode_mask
from spinezoo_contract.types import (
    Film,
    FilmMeasures,
    FilmNote,
    FilmNoteCode,
    FilmView,
    Measure,
    MeasureKind,
    MeasurePlane,
    MeasureUnit,
    MemberAnswer,
    MemberCode,
    MemberStatus,
    Structure,
    UnnamedReason,
    WithheldReason,
)
from spinezoo_pacs.results import Results, Source, make_results
from spinezoo_pacs.results import codes as result_codes
from spinezoo_pacs.results.findings import Verdict, findings_of, verdict_of
from spinezoo_pacs.results.nrrd import write_nrrd
from spinezoo_pacs.results.outline import TOLERANCE_PX, polygon_of
from spinezoo_pacs.results.seg import label_map
from spinezoo_pacs.results.values import Value
from spinezoo_phantom.settings import PhantomSettings
from spinezoo_spine.annotations.mask_outlines import rings_of_mask
from spinezoo_spine.films.reader import read_film

WHEN = datetime(2026, 1, 2, 3, 4, 5)
SEEDS = (3, 5, 22)


def results(seed: int, viewer: str = "standard") -> Results:
    data, film, answer = answered(seed)
    return make_results(Source(data), answer, film, WHEN, viewer=viewer)  # type: ignore[arg-type]


def groups_of(report: Dataset) -> list[Dataset]:
    (measurements,) = [
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    ]
    return list(measurements.ContentSequence)


def codes_said(group: Dataset) -> list[str]:
    return [
        item.ConceptCodeSequence[0].CodeValue
        for item in group.ContentSequence
        if item.ValueType == "CODE"
    ]


def texts_of(group: Dataset) -> list[str]:
    return [item.TextValue for item in group.ContentSequence if item.ValueType == "TEXT"]


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_equal_the_answers_pixel_for_pixel(seed: int, tmp_path: Path) -> None:
    _, _, answer = answered(seed)
    findings = findings_of(answer)
    assert len(findings) >= 5
    for kind, content in results(seed).files().items():
        (tmp_path / f"{kind}.dcm").write_bytes(content)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    by_highdicom = seg.get_pixels_by_source_instance(
        [answered_uid(seed)], ignore_spatial_locations=True
    )
    raw = dcmread(tmp_path / "seg.dcm").pixel_array
    for place, finding in enumerate(findings):
        mask = decode_mask(finding.mask)
        assert (by_highdicom[0, :, :, place] == mask).all()
        assert (raw[place] == mask).all()
        item = seg.SegmentSequence[place]
        assert (item.SegmentNumber, item.SegmentLabel) == (finding.number, finding.label)
        assert item.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "SCT"
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert "pspnet 0.1.0 lite weights abab" in str(algorithm.AlgorithmParameters)
    painted = dcmread(tmp_path / "labelmap.dcm").pixel_array
    assert (painted == label_map(findings)).all()
    levels = {item.SegmentLabel.split()[0] for item in seg.SegmentSequence}
    assert {"L3", "L4", "L5"} <= levels


def answered_uid(seed: int) -> UID:
    return dcmread(io.BytesIO(answered(seed)[0])).SOPInstanceUID


def test_codes_are_those_of_dicoms_context_groups() -> None:
    seg = results(3).datasets["seg"]
    known = {level: getattr(codes.SCT, f"{level}Vertebra", None) for level in ("T12", "L1", "L5")}
    said = {
        item.SegmentLabel.split()[0]: item.SegmentedPropertyTypeCodeSequence[0].CodeValue
        for item in seg.SegmentSequence
    }
    assert {level: said[level] for level in known} == {
        level: code.value for level, code in known.items()
    }


def test_every_code_means_what_dicoms_dictionary_says() -> None:
    known = {
        (code.scheme_designator, code.value, code.meaning.lower())
        for scheme in ("DCM", "SCT", "UCUM")
        for code in getattr(codes, scheme).concepts.values()
    }
    ours = {
        (each.scheme_designator, each.value, each.meaning.lower())
        for each in (*vars(result_codes).values(), *result_codes.LEVELS.values())
        if isinstance(each, highdicom.sr.CodedConcept)
    }
    # This one stands in SNOMED CT, but in no context group.
    assert ours - known == {("SCT", "363680008", "radiographic imaging procedure")}


@pytest.mark.parametrize("seed", SEEDS)
def test_polygons_lie_within_half_a_pixel(seed: int) -> None:
    data, _, answer = answered(seed)
    named = {finding.label: finding for finding in findings_of(answer) if finding.named}
    report = dcmread(io.BytesIO(results(seed).files()["sr"]))
    parsed = highdicom.sr.srread(io.BytesIO(results(seed).files()["sr"]))
    groups = parsed.content.get_planar_roi_measurement_groups()
    assert len(groups) == len(named) >= 4
    for group in groups:
        finding = named[group.tracking_identifier]
        value = group.roi.value
        assert (value[0] == value[-1]).all()
        assert len(value) >= 7
        border = max(rings_of_mask(decode_mask(finding.mask)), key=len)
        for point in border:
            distance = cv2.pointPolygonTest(value.astype(np.float32), point.tolist(), True)
            assert abs(distance) <= 0.5
        assert group.finding_sites[0].value.scheme_designator == "SCT"
    source = Source(data).dataset
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == source.StudyInstanceUID
    assert evidence.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID


def test_small_and_odd_masks_have_polygons() -> None:
    for rows, columns in ((1, 1), (2, 3), (1, 9)):
        pixels = np.zeros((32, 32), bool)
        pixels[5 : 5 + rows, 6 : 6 + columns] = True
        points = polygon_of(encode_mask(pixels))
        assert len(points) >= 6
        assert points.min(axis=0).tolist() == [6, 5]
        assert points.max(axis=0).tolist() == [6 + columns, 5 + rows]
    assert TOLERANCE_PX < 0.5


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
@pytest.mark.parametrize("viewer", ["standard", "ohif"])
@pytest.mark.parametrize("seed", SEEDS)
def test_dciodvfy_finds_no_error_that_the_film_did_not_have(
    seed: int, viewer: str, tmp_path: Path
) -> None:
    def errors(content: bytes, name: str) -> set[str]:
        path = tmp_path / name
        path.write_bytes(content)
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True)
        return {line for line in (done.stdout + done.stderr).splitlines() if "Error" in line}

    before = errors(answered(seed)[0], "film.dcm")
    for kind, content in results(seed, viewer).files().items():
        found = errors(content, f"{kind}.dcm") - before
        if kind == "labelmap":
            # Debian's dciodvfy is older than label maps: it knows neither class nor number 0.
            found = {
                line
                for line in found
                if "Information Object Not found" not in line and "SegmentNumber of 0" not in line
            }
        assert not found, kind


def test_the_largest_part_of_a_mask_has_the_polygon() -> None:
    mask = np.zeros((120, 160), dtype=bool)
    mask[4:40, 4:40] = mask[100:110, 140:150] = True
    assert polygon_of(encode_mask(mask)).max() == 40


def test_results_carry_the_films_patient_and_study() -> None:
    _, film, answer = answered(3)
    own = {
        "PatientID": "X1", "PatientName": "Muster^Eva", "PatientBirthDate": "19500102",
        "PatientSex": "F", "AccessionNumber": "A7", "StudyID": "S7", "StudyDate": "20260102",
        "StudyTime": "101112",
    }  # fmt: skip
    made = make_results(Source(changed(dicom_of(3), **own)), answer, film, WHEN)
    for content in made.files().values():
        dataset = dcmread(io.BytesIO(content))
        assert {name: str(dataset[name].value) for name in own} == own


def test_the_same_film_and_answer_give_the_same_bytes() -> None:
    first, second = results(3).files(), results(3).files()
    assert first == second
    assert set(first) == {"seg", "labelmap", "sr", "sc"}


def test_other_weights_give_other_uids() -> None:
    data, film, answer = answered(3)
    member = answer.members[0]
    assert member.prediction is not None
    other = replace(member.prediction.provenance, weights_sha256="cd" * 32)
    members = (
        replace(member, prediction=replace(member.prediction, provenance=other)),
        *answer.members[1:],
    )
    made = make_results(Source(data), replace(answer, members=members), film, WHEN)
    before = results(3).datasets
    for kind, dataset in made.datasets.items():
        assert dataset.SOPInstanceUID != before[kind].SOPInstanceUID
        assert dataset.StudyInstanceUID == before[kind].StudyInstanceUID


@pytest.mark.parametrize(
    "code", [FilmNoteCode.NOT_LATERAL, FilmNoteCode.NOT_LUMBAR, FilmNoteCode.NOT_RADIOGRAPH]
)
def test_a_film_that_the_networks_do_not_know_gets_a_report_that_says_so(
    code: FilmNoteCode,
) -> None:
    data, film, answer = answered(3)
    note = FilmNote(code, "The header says something else.")
    made = make_results(Source(data), replace(answer, notes=(note,)), film, WHEN)
    assert set(made.datasets) == {"sr", "sc"}
    (group,) = groups_of(made.datasets["sr"])
    assert "The header says something else." in texts_of(group)
    assert "110531" in codes_said(group)
    assert not [item for item in group.ContentSequence if item.ValueType == "SCOORD"]


def test_a_report_says_what_a_reader_should_know() -> None:
    data, film, answer = answered(3)
    labelling = answer.fused.labelling
    assert labelling is not None
    first, *others = labelling.vertebrae
    bare = replace(first.segment, level=None)
    unsure = replace(
        labelling,
        vertebrae=(
            replace(first, segment=bare, unnamed_reason=UnnamedReason.SPACING),
            *others,
        ),
        sacrum_in_view=False,
        missing_levels=("L2", "L3"),
        lumbar_count=None,
        suspected_lumbar_count=6,
    )
    late = MemberStatus("pspnet", MemberCode.DEADLINE_EXCEEDED, 1.0)
    doubted = replace(
        answer,
        notes=(FilmNote(FilmNoteCode.OTHER, "The film has 8 bits."),),
        members=(*answer.members[:-1], MemberAnswer(late, None)),
        fused=replace(answer.fused, labelling=unsure),
    )
    said = (
        "The film has 8 bits.",
        "1 outlined vertebra has no name, because none is likely enough.",
        "The sacrum is not in view; names may rest on the ribs.",
        "Levels without an outline: L2, L3.",
        "How many lumbar vertebrae there are was not read; names presume it.",
        "6 lumbar vertebrae are likely.",
        "Networks that did not answer: pspnet.",
    )
    made = make_results(Source(data), doubted, film, WHEN)
    assert made.verdict.cautions == said
    cautions = groups_of(made.datasets["sr"])[-1]
    assert tuple(texts_of(cautions)[-len(said) :]) == said
    assert "Cautions" in texts_of(cautions)
    assert "110531" not in codes_said(cautions)  # the film is interpretable
    # Nothing is doubted: nothing is said.
    sure = replace(
        labelling, sacrum_in_view=True, missing_levels=(), lumbar_count=5,
        suspected_lumbar_count=None,
        vertebrae=tuple(each for each in labelling.vertebrae if each.segment.level),
    )  # fmt: skip
    assert verdict_of(replace(answer, notes=(), fused=replace(answer.fused, labelling=sure))) == (
        Verdict((), ())
    )


@pytest.mark.parametrize("view", list(FilmView))
def test_outlines_are_given_of_a_lateral_film_only(view: FilmView) -> None:
    answer = answered(3)[2]
    labelling = answer.fused.labelling
    assert labelling is not None
    assert labelling.film is not None
    seen = replace(labelling, film=replace(labelling.film, view=view))
    verdict = verdict_of(replace(answer, fused=replace(answer.fused, labelling=seen)))
    assert verdict.trusted == (view is FilmView.LATERAL)


def test_a_frontal_phantom_is_refused_by_the_reader() -> None:
    settings = PhantomSettings(height_px=512, width_px=384, view="anteroposterior")
    data = changed(dicom_of(5, settings), ViewPosition="")
    film = read_film(data)
    answer = answer_of(film, ())
    made = make_results(Source(data), answer, film, WHEN)
    assert not made.verdict.trusted
    assert "sr" in made.datasets
    assert groups_of(made.datasets["sr"])
    labelling = answer.fused.labelling
    assert labelling is None or labelling.film is None or labelling.film.view in FilmView


def test_nothing_found_is_said_and_not_empty() -> None:
    data, film, _ = answered(3)
    made = make_results(Source(data), answer_of(film, ()), film, WHEN)
    assert not made.verdict.trusted
    (group,) = groups_of(made.datasets["sr"])
    assert any("No " in text for text in texts_of(group))


def test_measures_carry_ucum_units() -> None:
    data, film, answer = answered(3)
    named = [finding for finding in findings_of(answer) if finding.named]
    coded = highdicom.sr.CodedConcept("81827009", "SCT", "Diameter")
    unit = highdicom.sr.CodedConcept("mm", "UCUM", "mm")
    measure = Value(named[0].label, coded, 31.5, unit)
    made = make_results(Source(data), answer, film, WHEN, measures=[measure])
    values = [
        item.MeasuredValueSequence[0]
        for group in groups_of(made.datasets["sr"])
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    ]
    (value,) = values
    assert float(value.NumericValue) == 31.5
    assert value.MeasurementUnitsCodeSequence[0].CodingSchemeDesignator == "UCUM"


def test_measures_of_the_answer_stand_with_their_body_or_for_the_film() -> None:
    data, film, answer = answered(3)
    millimetre, degree = MeasureUnit.MILLIMETRE, MeasureUnit.DEGREE
    measures = (
        Measure(MeasureKind.BODY_HEIGHT_ANTERIOR, ("L4",), millimetre, 30.5, 29.0, 32.0),
        Measure(MeasureKind.BODY_HEIGHT_ANTERIOR, ("L3",), millimetre, 31.5, 30.0, 33.0),
        Measure(MeasureKind.LORDOSIS, ("L1", "S1"), degree, 47.25, 40.0, 55.0),
        Measure(
            MeasureKind.SACRAL_SLOPE, ("S1",), degree, withheld_reason=WithheldReason.NOT_SHOWN
        ),
    )
    measured = FilmMeasures(None, 0.0, MeasurePlane.DETECTOR, measures=measures)
    answer = replace(answer, fused=replace(answer.fused, measures=measured))
    groups = groups_of(make_results(Source(data), answer, film, WHEN).datasets["sr"])
    values = {
        texts_of(group)[0]: [
            (
                item.ConceptNameCodeSequence[0].CodeMeaning,
                float(item.MeasuredValueSequence[0].NumericValue),
                item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
            )
            for item in group.ContentSequence
            if item.ValueType == "NUM"
        ]
        for group in groups
    }
    assert {title: said for title, said in values.items() if said} == {
        "L3 vertebra": [("Body height anterior L3", 31.5, "mm")],
        "L4 vertebra": [("Body height anterior L4", 30.5, "mm")],
        "Measures": [("Lordosis L1/S1", 47.25, "deg")],
    }
    told = [text for group in groups for text in texts_of(group)]
    assert "Lordosis L1/S1: 90 % interval 40 to 55" in told
    assert "Millimetres are measured at the detector." in told
    for plane, said in (
        (MeasurePlane.PATIENT, "are measured in the patient."),
        (MeasurePlane.UNSAID, "does not say whether they hold at the detector"),
    ):
        other = replace(measured, plane=plane)
        answer = replace(answer, fused=replace(answer.fused, measures=other))
        groups = groups_of(make_results(Source(data), answer, film, WHEN).datasets["sr"])
        assert any(said in text for group in groups for text in texts_of(group))


def test_a_zero_of_a_report_bears_no_sign() -> None:
    data, film, answer = answered(3)
    slip = Measure(MeasureKind.SLIP, ("L4", "L5"), MeasureUnit.MILLIMETRE, -1e-9, -1e-9, -0.0)
    measured = FilmMeasures(None, 0.0, MeasurePlane.DETECTOR, measures=(slip,))
    answer = replace(answer, fused=replace(answer.fused, measures=measured))
    report = make_results(Source(data), answer, film, WHEN).datasets["sr"]
    groups = groups_of(report)
    (said,) = (
        item.MeasuredValueSequence[0].NumericValue
        for group in groups
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    )
    assert str(said) == "0.0"
    told = [text for group in groups for text in texts_of(group)]
    assert "Slip L4/L5: 90 % interval 0 to 0" in told


def test_implants_are_segments_with_codes() -> None:
    for seed in range(3, 30):
        if any(str(region.structure) == "screw" for region in phantom(seed).regions):
            break
    answer = answered(seed)[2]
    findings = findings_of(answer)
    screws = [each for each in findings if each.structure is Structure.SCREW]
    assert screws
    seg = results(seed).datasets["seg"]
    item = seg.SegmentSequence[screws[0].number - 1]
    assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "260787004"
    assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == "68183006"
    assert item.SegmentLabel.startswith("screw 1")
    # An implant is of the networks that saw it; where none is named, of all that were fused.
    for said, told in ((("unet",), ("unet",)), ((), answer.fused.member_names)):
        implants = tuple(replace(each, member_names=said) for each in answer.fused.implants)
        found = findings_of(replace(answer, fused=replace(answer.fused, implants=implants)))
        assert {each.member_names for each in found[-len(implants) :]} == {told}


def test_the_ohif_option_adds_what_ohif_reads_and_changes_no_mask() -> None:
    plain, ohif = results(3), results(3, "ohif")
    assert plain.datasets["seg"].PixelData == ohif.datasets["seg"].PixelData
    shared = ohif.datasets["seg"].SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    for group in groups_of(ohif.datasets["sr"]):
        # OHIF 3.13 stops at a group without a region.
        assert any(item.ValueType == "SCOORD" for item in group.ContentSequence)


@pytest.mark.parametrize("missing", ["none", "ImagerPixelSpacing", "PixelSpacing", "both"])
def test_ohif_reads_lengths_and_areas_in_the_films_millimetres(missing: str) -> None:
    data, film, answer = answered(3)
    names = ("ImagerPixelSpacing", "PixelSpacing")
    data = changed(data, **{name: None for name in names if missing in (name, "both")})
    made = make_results(Source(data), answer, film, WHEN, viewer="ohif").datasets
    spacing_mm = [1, 1] if missing == "both" else [film.row_spacing_mm, film.column_spacing_mm]
    shared = made["seg"].SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == spacing_mm
    group = groups_of(made["sr"])[0]
    assert texts_of(group)[0].startswith("Cornerstone3DTools@^0.1.0:PlanarFreehandROI")
    (area,) = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    assert area.ContentSequence[0].ValueType == "SCOORD"
    (value,) = area.MeasuredValueSequence
    unit = "{pixels}" if missing == "both" else "mm2"
    assert value.MeasurementUnitsCodeSequence[0].CodeValue == unit
    named = next(each for each in findings_of(answer) if each.named)
    wanted = named.mask.area * spacing_mm[0] * spacing_mm[1]
    assert float(value.NumericValue) == pytest.approx(wanted)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("values", "spacing_mm"),
    [
        ({"ImagerPixelSpacing": ["0.2", "0.1"], "PixelSpacing": ["0.18", "0.09"]}, (0.2, 0.1)),
        ({"ImagerPixelSpacing": ["0", "0"], "PixelSpacing": ["0.18", "0.09"]}, (0.18, 0.09)),
        ({"ImagerPixelSpacing": "0.2", "PixelSpacing": ["0.18", "0.09"]}, (0.18, 0.09)),
        (
            {
                "ImagerPixelSpacing": None,
                "PixelSpacing": None,
                "NominalScannedPixelSpacing": ["0.175", "0.1"],
            },
            (0.175, 0.1),
        ),
    ],
)
def test_results_are_in_the_millimetres_that_the_film_is_measured_by(
    values: dict[str, object], spacing_mm: tuple[float, float], tmp_path: Path
) -> None:
    data, film, answer = answered(3)
    data = changed(data, **values)
    read = read_film(data)
    assert (read.row_spacing_mm, read.column_spacing_mm) == spacing_mm
    made = make_results(Source(data), answer, film, WHEN, viewer="ohif")
    for kind in ("seg", "labelmap"):
        shared = made.datasets[kind].SharedFunctionalGroupsSequence[0]  # type: ignore[index]
        assert tuple(shared.PixelMeasuresSequence[0].PixelSpacing) == spacing_mm
    (area,) = [each for each in groups_of(made.datasets["sr"])[0].ContentSequence
               if each.ValueType == "NUM"]  # fmt: skip
    named = next(each for each in findings_of(answer) if each.named)
    wanted = decode_mask(named.mask).sum() * spacing_mm[0] * spacing_mm[1]
    assert float(area.MeasuredValueSequence[0].NumericValue) == pytest.approx(wanted)
    write_nrrd(made.datasets["seg"], tmp_path / "a.seg.nrrd", dcmread(io.BytesIO(data)))
    directions = nrrd.read_header(str(tmp_path / "a.seg.nrrd"))["space directions"]
    assert (directions[2][1], directions[1][0]) == spacing_mm


@pytest.mark.parametrize("spacing_mm", [(0.2, 0.1), (0.1, 0.3)])
def test_the_capture_has_the_films_proportions(spacing_mm: tuple[float, float]) -> None:
    data, film, answer = answered(3)
    row_mm, column_mm = spacing_mm
    odd = replace(film, row_spacing_mm=row_mm, column_spacing_mm=column_mm)

    def shown(of: Film) -> tuple[tuple[int, ...], np.ndarray]:
        made = make_results(Source(data), answer, of, WHEN).files()["sc"]
        pixels = dcmread(io.BytesIO(made)).pixel_array.astype(int)
        rows, columns = np.nonzero(np.ptp(pixels, axis=2) > 60)
        return pixels.shape, np.array(
            [rows.min(), rows.max(), columns.min(), columns.max()]
        ) / np.repeat(pixels.shape[:2], 2)

    square = shown(replace(film, row_spacing_mm=0.1, column_spacing_mm=0.1))[1]
    shape, place = shown(odd)
    proportions = film.height * row_mm / (film.width * column_mm)
    assert shape[0] / shape[1] == pytest.approx(proportions, rel=0.01)
    assert np.allclose(place, square, atol=0.02)


def test_the_capture_shows_outlines_in_the_films_study() -> None:
    data, film, _ = answered(3)
    picture = dcmread(io.BytesIO(results(3).files()["sc"]))
    pixels = picture.pixel_array.astype(int)
    assert pixels.shape == (*film.pixels.shape, 3)
    assert (np.ptp(pixels, axis=2) > 60).sum() > 500
    assert picture.StudyInstanceUID == Source(data).study_instance_uid
