"""compose.pacs.yaml beside the zoo: a film goes in by storescu, results lie in Orthanc.

Needs the images of `make images ARGS="pacs orthanc"`, and dcmtk for the sender.
"""

from __future__ import annotations

import io
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
import yaml
from spinezoo_conformance.ports import free_ports
from spinezoo_phantom import make_film, write_dicom
from spinezoo_tools import engine, images
from spinezoo_tools.composition import Composition, docker, inspect, wait_for

from containers.needed import need, need_images

PROJECT = "spinezoopacs"
PASSWORD = "one-of-the-tests"
RESULTS = ["SC", "SEG", "SEG", "SR"]
"""Modality beside the film: SEG is the segmentation and the label map; SC the picture."""

ANSWER_LIMIT_S = 180.0


@dataclass
class Site:
    """The composition with node and archive, and the ports that both publish."""

    composition: Composition
    dicom: int
    page: str
    archive: httpx.Client

    def films(self) -> dict[str, int]:
        """Films by state, as the node's page says."""
        return dict(httpx.get(f"{self.page}/status.json", timeout=10.0).json()["films"])

    def container(self, name: str) -> str:
        """Id of the container of a service."""
        (found,) = self.composition.containers(name)
        return found

    def send(self, path: Path, title: str = "STORESCU") -> subprocess.CompletedProcess[str]:
        """Sends a film from this machine through the published port; may fail."""
        command = ["storescu", "-v", "-aet", title, "-aec", "SPINEZOO", "127.0.0.1"]
        return subprocess.run(
            [*command, str(self.dicom), str(path)], capture_output=True, text=True, timeout=120.0
        )

    def study(self, film: pydicom.Dataset) -> list[pydicom.Dataset]:
        """All that the archive has of a film's study."""
        query = {"StudyInstanceUID": film.StudyInstanceUID}
        asked = {"Level": "Instance", "Query": query}
        found = self.archive.post("/tools/find", json=asked).json()
        files = (self.archive.get(f"/instances/{each}/file").content for each in found)
        return [pydicom.dcmread(io.BytesIO(each)) for each in files]

    def answered(self, number: int) -> None:
        """Waits until so many films are done."""
        wait_for("answers", lambda: self.films()["done"] >= number, ANSWER_LIMIT_S)


def why_not() -> str | None:
    """Why the node cannot be run here; None where it can."""
    wanted = [part.image for part in images.parts([images.NODE])] + [images.archive_image()]
    missing = [image for image in wanted if not engine.have_image(image)]
    if missing:
        return f'not built: {", ".join(missing)}; run `make images ARGS="pacs orthanc"`'
    return None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The zoo, the node and Orthanc in containers; all are healthy."""
    need_images()
    need(why_not())
    if shutil.which("storescu") is None:
        pytest.skip("storescu is not installed (Debian: dcmtk)")
    dicom, page, archive = free_ports(3)
    folder = tmp_path_factory.mktemp("settings")
    folder.chmod(0o755)
    composition = Composition.prepare(
        tmp_path_factory.mktemp("site"),
        PROJECT,
        COMPOSE_FILE="compose.yaml:compose.pacs.yaml",
        COMPOSE_PROFILES="trial",
        SPINEZOO_PACS_SETTINGS=str(folder),
        SPINEZOO_PACS_PORT=str(dicom),
        SPINEZOO_PACS_HTTP_PORT=str(page),
        SPINEZOO_ORTHANC_HTTP_PORT=str(archive),
        SPINEZOO_ORTHANC_PASSWORD=PASSWORD,
    )
    # A folder as a hospital's: it names a sender, whom the node sees as the gateway of a network of
    # Docker's because it is on this machine, and it has a key, so that the spool is encrypted.
    settings = yaml.safe_load((composition.root / "deploy/pacs/node.yaml").read_text())
    networks = ["172.16.0.0/12", "192.168.0.0/16"]
    sender = {"ae_title": "STORESCU", "addresses": networks, "answers_to": ["ORTHANC"]}
    settings["peers"].append({**sender, "host": "127.0.0.1"})
    settings["spool_key"] = "/etc/spinezoo/spool.key"
    (folder / "node.yaml").write_text(yaml.safe_dump(settings))
    (folder / "spool.key").write_text(secrets.token_hex(32))
    try:
        composition.up()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{archive}", auth=("zoo", PASSWORD), timeout=60.0
        ) as client:
            wait_for("Orthanc", lambda: reached(client), 60.0)
            yield Site(composition, dicom, f"http://127.0.0.1:{page}", client)
    finally:
        composition.compose("down", "--volumes", check=False)
        composition.down()


def reached(archive: httpx.Client) -> bool:
    """Whether Orthanc answers."""
    try:
        return archive.get("/system").status_code == 200
    except httpx.HTTPError:
        return False


def film(folder: Path, seed: int) -> tuple[Path, pydicom.Dataset]:
    """A phantom as a file, and its header."""
    path = folder / f"{seed}.dcm"
    write_dicom(make_film(seed), path)
    return path, pydicom.dcmread(path, stop_before_pixels=True)


def results_of(found: list[pydicom.Dataset], source: pydicom.Dataset) -> list[str]:
    """Modalities of the results; they are of the film's patient."""
    results = [each for each in found if each.SOPInstanceUID != source.SOPInstanceUID]
    assert {each.PatientID for each in results} == {source.PatientID}
    return sorted("SC" if "ConversionType" in each else each.Modality for each in results)


def test_a_film_by_storescu_comes_back_to_the_archive(site: Site, tmp_path: Path) -> None:
    path, source = film(tmp_path, 3)
    done = site.send(path)
    assert done.returncode == 0, done.stdout + done.stderr
    site.answered(1)
    assert results_of(site.study(source), source) == RESULTS
    log = docker("logs", site.container("pacs"))
    for secret in (str(source.PatientName), source.PatientID, source.SOPInstanceUID):
        assert secret not in log.stdout + log.stderr


def test_a_film_that_the_archive_sends_comes_back_to_it(site: Site, tmp_path: Path) -> None:
    before = site.films()["done"]
    path, source = film(tmp_path, 5)
    stored: dict[str, Any] = site.archive.post("/instances", content=path.read_bytes()).json()
    sent = site.archive.post("/modalities/spinezoo/store", json=[stored["ID"]])
    assert sent.status_code == 200, sent.text
    site.answered(before + 1)
    found = site.study(source)
    assert len(found) == 1 + len(RESULTS)
    assert results_of(found, source) == RESULTS


def test_a_node_that_is_killed_knows_its_films_afterwards(site: Site, tmp_path: Path) -> None:
    before = site.films()
    path, source = film(tmp_path, 6)
    assert site.send(path).returncode == 0
    docker("kill", site.container("pacs"))
    docker("start", site.container("pacs"))
    site.composition.wait_healthy("pacs")
    site.answered(before["done"] + 1)
    assert site.send(path).returncode == 0
    assert site.films() == {**before, "done": before["done"] + 1}
    assert results_of(site.study(source), source) == RESULTS


def test_a_stranger_is_refused(site: Site, tmp_path: Path) -> None:
    path, _ = film(tmp_path, 11)
    before = site.films()
    done = site.send(path, "STRANGER")
    assert done.returncode != 0
    assert "Rejected" in done.stdout + done.stderr
    assert site.films() == before
    assert site.archive.get("/system", auth=("zoo", "wrong")).status_code == 401


@pytest.mark.parametrize(("name", "pids"), [("pacs", 512), ("orthanc", 256)])
def test_both_are_locked_down(site: Site, name: str, pids: int) -> None:
    container = site.container(name)
    host = inspect(container)["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] >= 2**30
    assert host["PidsLimit"] == pids
    assert docker("exec", container, "id", "-u").stdout.strip() != "0"
    done = docker("exec", "--user", "0", container, "touch", "/written", check=False)
    assert "Read-only file system" in done.stderr
    # Open to this machine alone.
    for bound in inspect(container)["NetworkSettings"]["Ports"].values():
        assert {each["HostIp"] for each in bound or []} <= {"127.0.0.1"}


def test_the_spool_is_for_the_node_alone_and_encrypted(site: Site, tmp_path: Path) -> None:
    before = site.films()["done"]
    path, source = film(tmp_path, 14)
    assert site.send(path).returncode == 0
    site.answered(before + 1)
    container, spool = site.container("pacs"), "/var/lib/spinezoo/spool"
    told = docker("exec", container, "stat", "-c", "%a %u", spool)
    assert told.stdout.split() == ["700", "10001"]
    kept = docker("exec", container, "find", spool, "-type", "f").stdout.split()
    assert len([name for name in kept if name.endswith(".dcm")]) >= 1 + len(RESULTS)
    # Nothing of a DICOM file or of the patient stands in the files; the queue has UIDs.
    for words in ("DICM", str(source.PatientName), source.PatientID):
        done = docker("exec", container, "grep", "-rlaF", words, spool, check=False)
        assert done.stdout == "", words
    done = docker("exec", container, "grep", "-rlaF", source.SOPInstanceUID, spool)
    assert {Path(name).name.partition("-")[0] for name in done.stdout.split()} == {"queue.sqlite"}


def test_orthanc_does_not_start_without_a_password(site: Site) -> None:
    done = docker("run", "--rm", "--network", "none", images.archive_image(), check=False)
    assert done.returncode != 0
    assert "SPINEZOO_ORTHANC_PASSWORD" in done.stderr
