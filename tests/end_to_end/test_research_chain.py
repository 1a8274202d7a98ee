"""From a PACS to a measured zoo: collect, annotate, correct, train, benchmark, by their commands.

A real Orthanc, the real zoo of these tests, twelve films of six patients. The corrections of a
person are made by a script in the VIA file.
"""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from spinezoo_contract.masks import decode_mask
from spinezoo_phantom import PhantomSettings
from spinezoo_serving.cards import load_card, verify_weights
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.via import read_via_raw
from spinezoo_testing.processes import ORTHANC, OrthancProcess

from end_to_end.support import ROOT, Zoo, clean_environment, dicom_bytes, phantom_file, room_python
from end_to_end.test_training import CANVAS, SMALL_CANVAS

FILMS = 12
CORRECTED = 3

pytestmark = pytest.mark.skipif(
    ORTHANC is None, reason="Orthanc is not installed (Debian: orthanc, orthanc-dicomweb)"
)


def run(command: list[str], zoo: Zoo) -> str:
    """A command's output; fails with it where the command does."""
    done = subprocess.run(
        command,
        env=clean_environment(SPINEZOO_RUN_DIR=str(zoo.folder / "run")),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600.0,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make(zoo: Zoo, target: str, *variables: str) -> str:
    """``make TARGET``, without building environments first."""
    old = ("--old-file=setup", "--old-file=setup-core", "--old-file=setup-serving")
    return run(["make", "--no-print-directory", *old, "-C", str(ROOT), target, *variables], zoo)


def fill(archive: OrthancProcess, folder: Path) -> None:
    """Twelve lateral phantoms of six patients into an archive."""
    settings = PhantomSettings(height_px=512, width_px=384)
    for seed in range(FILMS):
        path = phantom_file(folder / f"{seed}.dcm", seed=100 + seed, settings=settings)
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.PatientName = f"PID{seed // 2:03d}", f"Patient^{seed // 2}"
        archive.upload(dicom_bytes(dataset))


def correct(project: Path) -> dict[str, list[tuple[float, float]]]:
    """Does what a person does in VIA: moves a point of three outlines, approves all others.

    Returns:
        First point of the corrected outlines, by film.
    """
    document: dict[str, Any] = json.loads(project.read_text())
    moved: dict[str, list[tuple[float, float]]] = {}
    left = CORRECTED
    for key in document["_via_image_id_list"]:
        entry = document["_via_img_metadata"][key]
        entry["file_attributes"]["film_status"] = "finished"
        for place, region in enumerate(entry["regions"]):
            assert region["region_attributes"]["status"] == "predicted"
            if place == 0 and left:
                left -= 1
                shape = region["shape_attributes"]
                shape["all_points_x"][0] += 0.75
                region["region_attributes"]["status"] = "corrected"
                film = entry["file_attributes"]["film"]
                point = (shape["all_points_x"][0], shape["all_points_y"][0])
                moved.setdefault(film, []).append(point)
            else:
                region["region_attributes"]["status"] = "approved"
    assert left == 0
    project.write_text(json.dumps(document))
    return moved


def test_collect_annotate_correct_train_benchmark(zoo: Zoo, tmp_path: Path) -> None:
    archive = OrthancProcess(
        tmp_path / "orthanc", {}, DicomAlwaysAllowFind=True, DicomAlwaysAllowGet=True
    )
    data = tmp_path / "set"
    query = tmp_path / "query.yaml"
    query.write_text(yaml.safe_dump({
        "pacs": {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": archive.port},
        "gateway": zoo.grpc("gateway"),
        "key": "site.key",
    }))  # fmt: skip
    try:
        archive.start()
        fill(archive, tmp_path)
        make(zoo, "collect", f"QUERY={query}", f"OUT={data}")
    finally:
        archive.kill()
    rows = list(csv.DictReader((data / "patients.csv").read_text().splitlines()))
    assert len(rows) == FILMS
    assert len({row["patient"] for row in rows}) == FILMS // 2

    make(zoo, "annotate", f"DATA={data}", f"TARGET={zoo.grpc('gateway')}")
    project = tmp_path / "set-annotate" / "via_project.json"
    moved = correct(project)
    said = make(zoo, "annotate", f"DATA={data}", "ARGS=--finish")
    assert f"{FILMS} films finished, 0 not yet" in said

    # What counts are the corrected outlines, with where each comes from.
    annotated = {each.film_name: each for each in read_via_raw(data / "via.json")}
    assert len(annotated) == FILMS
    corrected = 0
    for film, each in annotated.items():
        for region in each.regions:
            assert region.attributes["source"].startswith("fused: ")
            assert region.attributes["source_version"]
            assert region.attributes["made_at"]
            if region.attributes["status"] == "corrected":
                corrected += 1
                assert region.points_xy is not None
                assert tuple(region.points_xy[0]) in moved[film]
    assert corrected == CORRECTED
    make(zoo, "check", f"DATA={data}")
    assert len(FilmSet.open(data).names) == FILMS

    # One epoch on a quarter of the canvas, on a copy of the card.
    card = tmp_path / "pspnet" / "card.yaml"
    card.parent.mkdir()
    text = (ROOT / "services/pspnet/card.yaml").read_text()
    assert text.count(CANVAS) == 1
    card.write_text(text.replace(CANVAS, SMALL_CANVAS))
    options = f"--card {card} --run-dir {tmp_path / 'run'} --epochs 1 --batch-size 4 --threads 1"
    make(zoo, "train", "NETWORK=pspnet", f"DATA={data}", f"ARGS={options} --workers 0 --quiet")
    trained = load_card(card, "lite")
    assert trained.training["epochs"] == 1
    assert verify_weights(trained).is_file()

    # What `make benchmark DATA=...` runs once the zoo is up, here with the zoo of these tests.
    report = tmp_path / "report"
    command = [room_python("evaluator"), "-m", "spinezoo_evaluator.benchmark", "--no-pictures"]
    run(
        [
            *command, "--data", str(data), "--report", str(report),
            "--gateway", zoo.grpc("gateway"), "--evaluator", zoo.grpc("evaluator"),
        ],
        zoo,
    )  # fmt: skip
    films = [json.loads(line) for line in (report / "films.jsonl").read_text().splitlines()]
    assert len(films) == FILMS

    # The outlines came from the zoo, so its fused answer must match them nearly everywhere.
    with zoo.gateway() as gateway:
        name = sorted(annotated)[0]
        answer = gateway.segment(data / name)
    assert answer.fused.merged_mask is not None
    assert np.count_nonzero(decode_mask(answer.fused.merged_mask)) > 0
