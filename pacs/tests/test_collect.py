"""A set from a real Orthanc: the lateral lumbar films, without their patients."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml
from parts import OrthancProcess, ZooProcess, until
from planted import needles, planted_film, text_region
from spinezoo_conformance.ports import free_ports
from spinezoo_pacs.collect.archives import archive_of
from spinezoo_pacs.collect.query import read_query
from spinezoo_pacs.deidentify.text import find_text

pytestmark = pytest.mark.filterwarnings("ignore")

COLLECT = [sys.executable, "-m", "spinezoo_pacs.collect.command"]


def query_file(tmp_path: Path, orthanc: OrthancProcess, **more: Any) -> Path:
    document = {
        "pacs": {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.port},
        "studies": {"StudyDate": "20190101-20191231"},
        "key": "keys/site.key",
        **more,
    }
    path = tmp_path / "query.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def run(query: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COLLECT, "--query", str(query), "--out", str(out)],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path, start: Any) -> OrthancProcess:
    made = OrthancProcess(
        tmp_path / "orthanc",
        {},
        DicomAlwaysAllowFind=True,
        DicomAlwaysAllowGet=True,
        DicomAlwaysAllowMove=True,
    )
    start(made)
    return made


def manifest(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_sixty_films_of_thirty_patients(
    tmp_path: Path, archive: OrthancProcess, zoo: ZooProcess
) -> None:
    headers: list[dict[str, object]] = []
    for number in range(60):
        if number % 3 == 2:  # 20 films are none of ours
            headers.append(
                (
                    {"ViewPosition": "AP", "PatientOrientation": ["L", "F"]},
                    {"BodyPartExamined": "CSPINE"},
                    {"BodyPartExamined": "CHEST", "ViewPosition": "PA"},
                )[number // 3 % 3]
            )
        elif number % 6 == 0:  # 10 films' headers say nothing
            headers.append(
                {"ViewPosition": None, "BodyPartExamined": None, "PatientOrientation": None}
            )
        else:
            headers.append({})
    burned = {7, 16, 25}
    contents = [
        planted_film(number, number // 2, burned_in=number in burned, **header)
        for number, header in enumerate(headers)
    ]
    for content in contents:
        archive.upload(content)
    query, out = query_file(tmp_path, archive, gateway=zoo.target), tmp_path / "set"
    # Killed on the way, then run again.
    log = (tmp_path / "log").open("wb")
    first = subprocess.Popen(
        [*COLLECT, "--query", str(query), "--out", str(out)], stdout=log, stderr=log
    )
    until(lambda: len(list(out.glob("*.dcm"))) >= 8, 300)
    first.kill()
    first.wait()
    done = run(query, out)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = manifest(out)
    kept = [line for line in lines if line["state"] == "kept"]
    reasons = Counter(line["reason"] for line in lines if line["state"] == "left_out")
    assert sum(reasons.values()) == 60 - len(kept)
    # A film whose writing lies over the spine is set aside; every other lateral one is there.
    text = {reason: number for reason, number in reasons.items() if reason.startswith("text")}
    assert len(kept) + sum(text.values()) == 40, reasons
    assert len(kept) >= 34, reasons
    # Every byte of the set.
    words = needles(contents)
    for path in out.rglob("*"):
        data = path.read_bytes().lower()
        for word in words:
            assert word.lower() not in data, (path.name, word)
        assert not any(word in path.name.lower().encode() for word in words)
    said = (done.stdout + done.stderr).lower().encode()
    assert not any(word.lower() in said for word in words)
    rows = list(csv.DictReader((out / "patients.csv").open()))
    assert sorted(row["film"] for row in rows) == sorted(path.name for path in out.glob("*.dcm"))
    assert all(row["film"].startswith(row["patient"]) for row in rows)
    assert len({row["patient"] for row in rows}) <= 30
    # What was written into the pixels is gone.
    for path in out.glob("*.dcm"):
        assert not find_text(pydicom.dcmread(path).pixel_array)
    assert any(line.get("blanked_lines") for line in kept)
    # A third run fetches nothing.
    assert run(query, out).returncode == 0
    assert manifest(out) == lines
    assert text_region(contents[7], 7).max() > 0


@pytest.mark.parametrize("way", ["get", "move", "web"])
def test_every_way_to_fetch_gives_the_same_set(
    tmp_path: Path, start: Any, archive: OrthancProcess, way: str
) -> None:
    port = free_ports(1)[0]
    if way == "move":
        archive.end()
        archive.settings["DicomModalities"] = {"us": ["SPINEZOO", "127.0.0.1", port]}
        archive.start()
    contents = [planted_film(number, number) for number in (1, 3, 4)]
    contents.append(planted_film(5, 5, ViewPosition=None, BodyPartExamined=None))
    for content in contents:
        archive.upload(content)
    more: dict[str, Any] = {}
    pacs = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": archive.port}
    if way == "web":
        more = {"pacs": None, "web": {"url": f"{archive.url}/dicom-web"}}
    elif way == "move":
        more = {"pacs": {**pacs, "retrieve": "move", "our_port": port}}
    done = run(query_file(tmp_path, archive, **more), tmp_path / "set")
    assert done.returncode == 0, done.stderr[-2000:]
    lines = manifest(tmp_path / "set")
    assert [line["state"] for line in lines].count("kept") == 3
    # Without a gateway, a film whose header is silent is left out by name.
    assert [line.get("reason") for line in lines].count("header-silent") == 1
    names = sorted(path.name[13:] for path in (tmp_path / "set").glob("*.dcm"))
    assert len(names) == 3


def test_an_archive_that_is_gone_or_refuses_is_named(
    tmp_path: Path, start: Any, orthanc: OrthancProcess
) -> None:
    query = query_file(tmp_path, orthanc)
    refused = run(query, tmp_path / "set")
    assert refused.returncode == 1
    assert "refused a search" in refused.stderr
    orthanc.kill()
    gone = run(query, tmp_path / "set")
    assert gone.returncode == 1
    assert "takes no association" in gone.stderr


PACS = {"ae_title": "A", "host": "127.0.0.1", "port": 1}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"web": {"url": "http://x"}}, "one of them"),
        ({"pacs": None, "web": {"url": "pacs.hospital/dicom-web"}}, "web.url"),
        ({"pacs": {**PACS, "retrieve": "move"}}, "our_port"),
        ({"studies": {"PatientComments": "x"}}, "cannot be matched"),
        ({"colour": 1}, "colour"),
        ({"key": "set/site.key"}, "key lies in the set"),
    ],
)
def test_a_wrong_query_is_named(tmp_path: Path, change: dict[str, Any], word: str) -> None:
    document = {"pacs": PACS, **change}
    path = tmp_path / "query.yaml"
    path.write_text(yaml.safe_dump(document))
    done = run(path, tmp_path / "set")
    assert done.returncode == 1
    assert word in done.stderr


def test_what_a_run_needs_on_this_machine_is_named(tmp_path: Path) -> None:
    token = {"web": {"url": "http://127.0.0.1:9", "token_file": str(tmp_path / "none")}}
    path = tmp_path / "query.yaml"
    path.write_text(yaml.safe_dump(token))
    missing = run(path, tmp_path / "set")
    assert missing.returncode == 1
    assert "none" in missing.stderr.splitlines()[0]
    path.write_text(yaml.safe_dump({"pacs": PACS, "key": "site.key"}))
    (tmp_path / "file").write_text("no folder")
    wrong = run(path, tmp_path / "file" / "set")
    assert wrong.returncode == 1
    assert "cannot be written" in wrong.stderr
    out = tmp_path / "set"
    out.mkdir()
    (out / "manifest.jsonl").write_text('{"state": "series", "series": "a"}\n{"state"\n')
    damaged = run(path, out)
    assert damaged.returncode == 1
    assert "line 2" in damaged.stderr
    assert "Traceback" not in missing.stderr + wrong.stderr + damaged.stderr


def test_a_name_beyond_ascii_is_found(tmp_path: Path, archive: OrthancProcess) -> None:
    named = pydicom.dcmread(io.BytesIO(planted_film(0, 0)))
    named.SpecificCharacterSet = "ISO_IR 192"
    named.StudyDescription = "腰椎 側面"
    other = pydicom.dcmread(io.BytesIO(planted_film(1, 1)))
    other.StudyDescription = "?? ??"
    for dataset in (named, other):
        content = io.BytesIO()
        dataset.save_as(content)
        archive.upload(content.getvalue())
    query = query_file(tmp_path, archive, studies={"StudyDescription": "腰椎 側面"})
    found = list(archive_of(read_query(query)).search())
    assert [each.study_uid for each in found] == [named.StudyInstanceUID]
