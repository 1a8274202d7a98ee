"""Films of one patient stay on one side, wherever it is known whose they are."""

from __future__ import annotations

import json
import shutil
import struct
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from spinezoo_contract.errors import AnnotationError, ConfigurationError, OptionError
from spinezoo_training import splits
from spinezoo_training.data_options import add_data_arguments, open_data
from spinezoo_training.patients import Patients, patients_of

SECRET = "Geheim-4711"
NAMES = [f"film_{number:03d}.dcm" for number in range(120)]


def dicom(path: Path, patient: str, issuer: str = "") -> Path:
    """A small DICOM film of a patient."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality = "CR"
    dataset.PatientID = patient
    if issuer:
        dataset.IssuerOfPatientID = issuer
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = 160, 120
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    pixels = np.add.outer(np.arange(160), np.arange(120)).astype(np.uint16)
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def sides(names: list[str], patients: dict[str, str], **more: object) -> tuple[set, set]:
    training, validation = splits.split_names(names, patients=patients, **more)  # type: ignore[arg-type]
    assert sorted([*training, *validation]) == sorted(names)
    known: dict[str, set[int]] = defaultdict(set)
    for side, films in enumerate((training, validation)):
        for name in films:
            if name in patients:
                known[patients[name]].add(side)
    assert all(len(found) == 1 for found in known.values())
    return set(training), set(validation)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_no_patient_stands_on_both_sides(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    patients = {name: f"P{rng.integers(0, 40)}" for name in NAMES if rng.random() < 0.9}
    _, validation = sides(NAMES, patients, seed=seed, validation_share=share)
    assert abs(len(validation) - share * len(NAMES)) <= 4
    test = set(splits.test_names(NAMES, seed, 30, patients=patients))
    assert abs(len(test) - 30) <= 4
    for name in test:
        others = [n for n in NAMES if name in patients and patients.get(n) == patients[name]]
        assert set(others) <= test


def test_the_split_depends_on_who_is_whose_not_on_what_patients_are_called() -> None:
    patients = {name: f"P{number // 3}" for number, name in enumerate(NAMES)}
    renamed = {name: patient[::-1] + "x" for name, patient in patients.items()}
    one = splits.split_names(NAMES, 5, patients=patients)
    assert one == splits.split_names(NAMES[::-1], 5, patients=renamed)
    single = {name: name for name in NAMES}
    assert splits.split_names(NAMES, 5, patients=single) == splits.split_names(NAMES, 5)


def test_a_patient_with_many_films() -> None:
    patients = {name: "big" if number < 100 else name for number, name in enumerate(NAMES)}
    training, validation = sides(NAMES, patients, seed=3, validation_share=0.1)
    assert len(validation) == 12
    assert set(NAMES[:100]) <= training
    two = dict.fromkeys(NAMES[:60], "a") | dict.fromkeys(NAMES[60:], "b")
    training, validation = sides(NAMES, two, seed=3, validation_share=0.1)
    assert (len(training), len(validation)) == (60, 60)
    with pytest.raises(OptionError, match=r"all 120 films are of one patient.*patients\.csv"):
        splits.split_names(NAMES, 3, patients=dict.fromkeys(NAMES, "a"))


# ------------------------------------------------------------------------- where it is known from


def test_patient_id_of_dicom_is_used_and_kept_nowhere(tmp_path: Path) -> None:
    paths = {
        name: dicom(tmp_path / name, f"{SECRET}-{number // 2}") for number, name in
        enumerate(NAMES[:6])
    }  # fmt: skip
    names = list(paths)
    found = patients_of(paths, names, tmp_path)
    groups = [found.by_film[name] for name in names]
    assert groups[0] == groups[1] != groups[2] == groups[3] != groups[4] == groups[5]
    assert found.patient_count == 3
    assert "3 patients by the Patient ID" in found.sentence
    assert SECRET not in repr(found) + json.dumps(found.to_json())
    # Another salt each time: a digest that leaks tells nothing.
    assert patients_of(paths, names, tmp_path).by_film != found.by_film
    assert splits.split_names(names, 1, patients=found.by_film) == splits.split_names(
        names, 1, patients=patients_of(paths, names, tmp_path).by_film
    )


def test_an_odd_patient_id_shows_in_no_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {}
    for number, odd in enumerate((SECRET * 9, f"{SECRET}\\other", f"{SECRET}\x07")):
        path = dicom(tmp_path / f"{number}.dcm", "x" * 64)
        data = path.read_bytes()
        old = b"\x10\x00\x20\x00LO" + struct.pack("<H", 64) + b"x" * 64
        value = odd.encode().ljust(len(odd) + len(odd) % 2)
        path.write_bytes(data.replace(old, old[:6] + struct.pack("<H", len(value)) + value))
        paths[path.name] = path
    recwarn.clear()
    assert patients_of(paths, list(paths), tmp_path).patient_count == 3
    out = capsys.readouterr()
    assert SECRET not in "".join(str(w.message) for w in recwarn) + out.out + out.err


def test_equal_ids_of_two_issuers_are_two_patients(tmp_path: Path) -> None:
    paths = {
        "a.dcm": dicom(tmp_path / "a.dcm", "1", "north"),
        "b.dcm": dicom(tmp_path / "b.dcm", "1", "south"),
    }
    assert patients_of(paths, list(paths), tmp_path).patient_count == 2


def test_films_of_one_id_after_de_identification_are_refused(tmp_path: Path) -> None:
    paths = {name: dicom(tmp_path / name, "ANON") for name in NAMES[:3]}
    with pytest.raises(ConfigurationError, match=r"same Patient ID.*patients\.csv") as caught:
        patients_of(paths, list(paths), tmp_path)
    assert "ANON" not in str(caught.value)
    by_name = patients_of(paths, list(paths), tmp_path, pattern="(.+)")
    assert by_name.patient_count == 3


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_patients_csv(tmp_path: Path, separator: str) -> None:
    rows = [("Film", "Patient"), ("A.PNG", SECRET), ("b.png", SECRET), ("c.png", "2"), ("x", "9")]
    text = "\r\n".join(separator.join(row) for row in rows)
    (tmp_path / "patients.csv").write_bytes(text.encode("utf-8-sig"))
    names = ["a.png", "b.png", "c.png"]
    found = patients_of({}, names, tmp_path)
    assert found.by_film["a.png"] == found.by_film["b.png"] != found.by_film["c.png"]
    assert found.sentence == "films are split by patient: 2 patients by patients.csv"
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [("P01", "p01"), ("P 01", "P\u00a0 01"), ("M\u00fcller", "Mu\u0308ller"), ("P01", " P01 ")],
)
def test_a_patient_spelt_otherwise_is_the_same_one(tmp_path: Path, one: str, other: str) -> None:
    rows = f"film,patient\na.png,{one}\nb.png,{other}\nc.png,P02\n"
    (tmp_path / "patients.csv").write_text(rows, encoding="utf-8")
    found = patients_of({}, ["a.png", "b.png", "c.png"], tmp_path).by_film
    assert found["a.png"] == found["b.png"] != found["c.png"]
    paths = {name: dicom(tmp_path / name, "P1" if name == "a" else "p1") for name in ("a", "b")}
    paths["c"] = dicom(tmp_path / "c", "P2")
    (tmp_path / "patients.csv").unlink()
    found = patients_of(paths, list(paths), tmp_path).by_film
    assert found["a"] == found["b"] != found["c"]


@pytest.mark.parametrize("other", ["a.jpg", "A.png", "set1/a.png"])
def test_films_that_are_not_outlined_are_not_taken_for_others(tmp_path: Path, other: str) -> None:
    films = {name: tmp_path / name for name in ("a.png", "b.png", other)}
    names = ["a.png", "b.png"]
    for lines in ((f"{other},2", "a.png,1"), ("a.png,1", f"{other},2")):
        rows = "\n".join(("sep=,", "film,patient", *lines, "b.png,2"))
        (tmp_path / "patients.csv").write_text(rows)
        found = patients_of(films, names, tmp_path).by_film
        assert set(found) == set(names)
        assert found["a.png"] != found["b.png"]
    (tmp_path / "patients.csv").write_text(f"film,patient\n{other},1\nb.png,2\n")
    with pytest.raises(AnnotationError, match=r"names no patient of 1 film, such as 'a\.png'"):
        patients_of(films, names, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("film,patient\na.png,1\n", r"names no patient of 1 film, such as 'b\.png'"),
        ("film,patient\na.png,1\nb.png,\n", r"line 3: film 'b\.png' has no patient"),
        ("film,patient\na.png,1\nb.png,1\na.png,2\n", r"line 4: film 'a\.png' has two patients"),
        ("film;patient\na.png\n", "line 2: has 1 cell;"),
        ("a.png,1\nb.png,2\n", "0 columns 'film'.*film,patient"),
        ("film,film,patient\n", "2 columns 'film'"),
        ("", "0 columns"),
        ('film,patient\n"a.png,1\n', "line 2: a quoted cell"),
    ],
)
def test_a_wrong_patients_csv(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "patients.csv").write_text(text)
    with pytest.raises(AnnotationError, match=rf"patients\.csv: .*{words}"):
        patients_of({}, ["a.png", "b.png"], tmp_path)


def test_a_pattern_for_names(tmp_path: Path) -> None:
    names = ["P01_1.png", "P01_2.png", "P02_1.png"]
    found = patients_of({}, names, tmp_path, pattern="^(P[0-9]+)_")
    assert found.patient_count == 2
    with pytest.raises(ConfigurationError, match=r"finds nothing in film 'x\.png'"):
        patients_of({}, [*names, "x.png"], tmp_path, pattern="^(P[0-9]+)_")
    with pytest.raises(ConfigurationError, match="no regular expression"):
        patients_of({}, names, tmp_path, pattern="(")


def test_without_any_of_these_it_is_said() -> None:
    assert "split by film" in Patients({}, "", 5).sentence
    assert Patients({}, "", 5).to_json() == {
        "by": "film",
        "patients": 5,
        "films_without_patient": 5,
    }


# -------------------------------------------------------------------------------------- training


def arguments(folder: Path, *more: str) -> Namespace:
    parser = ArgumentParser()
    add_data_arguments(parser)
    return parser.parse_args(["--data", str(folder), "--validation-share", "0.3", *more])


def test_training_says_how_it_splits(film_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = open_data(arguments(film_folder), 64, 48, 1, progress=False)
    assert data.record["split"]["by"] == "film"
    assert "films are split by film: nothing says whose they are" in capsys.readouterr().err
    rows = "".join(f"film_{number}.png,{SECRET}{number // 3}\n" for number in range(6))
    (film_folder / "patients.csv").write_text("film,patient\n" + rows)
    data = open_data(arguments(film_folder), 64, 48, 1, progress=False)
    assert data.record["split"] == {
        "by": "patient (patients.csv)",
        "patients": 2,
        "films_without_patient": 0,
    }
    assert len(data.validation) == 3
    assert "2 patients by patients.csv" in capsys.readouterr().err
    kept = [path.read_bytes() for path in film_folder.rglob("*") if path.is_file()
            and path.name != "patients.csv"]  # fmt: skip
    assert not any(SECRET.encode() in content for content in kept)


def test_training_checks_outlines_first(
    film_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = json.loads((film_folder / "via.json").read_text())
    entries = list(project["_via_img_metadata"].values())
    entries[1]["regions"][0]["region_attributes"]["structure"] = "Wirbel"
    entries[2]["regions"][1]["shape_attributes"] = {"name": "circle", "cx": 9, "cy": 9, "r": 0}
    (film_folder / "via.json").write_text(json.dumps(project))
    with pytest.raises(AnnotationError, match=r"2 errors(.|\n)*Wirbel(.|\n)*radius of 0"):
        open_data(arguments(film_folder), 64, 48, 1, progress=False)
    mapped = ("--map", "wirbel=lumbar_vertebra")
    with pytest.raises(AnnotationError, match="radius of 0"):
        open_data(arguments(film_folder, *mapped), 64, 48, 1, progress=False)
    data = open_data(
        arguments(film_folder, *mapped, "--skip-bad-regions"), 64, 48, 1, progress=False
    )
    assert "skipped: film_2.png, region 1: no-outline" in capsys.readouterr().err
    assert data.record["outlines"] == {
        "class_attribute": None,
        "map": {"wirbel": "lumbar_vertebra"},
        "skip_bad_regions": True,
    }
    with pytest.raises(ConfigurationError, match="go with a folder only"):
        open_data(
            Namespace(**{**vars(arguments(film_folder, *mapped)), "data": "phantoms:1",
                         "validation_share": None}),
            64, 48, 1, progress=False,
        )  # fmt: skip


def test_dicom_films_of_a_folder_are_split_by_patient(tmp_path: Path, film_folder: Path) -> None:
    folder = tmp_path / "dicom"
    folder.mkdir()
    for number in range(6):
        dicom(folder / f"film_{number}.png", f"{SECRET}{number // 3}")
    shutil.copy(film_folder / "via.json", folder)
    data = open_data(arguments(folder), 64, 48, 1, progress=False)
    assert data.record["split"]["by"] == "patient (the Patient ID of DICOM films)"
    assert {name[5] < "3" for name in data.validation.names} in ({True}, {False})
    kept = [path.read_bytes() for path in (folder / ".prepared").rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in kept)
