"""DICOMweb with tokens: films come in by STOW-RS, results go out by it, sets come by WADO-RS."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from answers import dicom_of
from conftest import peers
from parts import SEEDS, NodeProcess, OrthancProcess, ZooProcess, until
from planted import planted_film
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless
from spinezoo_pacs.collect.command import main as collect
from spinezoo_pacs.results import Source, make_results
from spinezoo_serving.tokens import new_token
from test_node import dataset_of, film
from test_results import WHEN, answered
from web_guard import Guard

pytestmark = pytest.mark.filterwarnings("ignore")

BOUNDARY = "cut-here"


class WebNode(NodeProcess):
    """A node that takes films by STOW-RS."""

    def __init__(self, folder: Path, zoo: str, known: list[dict[str, Any]], **more: Any) -> None:
        super().__init__(folder, zoo, known, **more)
        self.tokens = folder / "tokens.txt"
        self.token = new_token(self.tokens, "STORESCU")

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "SPINEZOO_TOKENS": str(self.tokens)}

    def post(
        self, *parts: bytes, token: str | None = None, study: str = "", cut: int = 0, **more: str
    ) -> requests.Response:
        """Parts as one request; ``cut`` bytes are missing at its end."""
        body = b"".join(
            b"--%s\r\nContent-Type: application/dicom\r\n\r\n%s\r\n" % (BOUNDARY.encode(), part)
            for part in parts
        )
        body += f"--{BOUNDARY}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
        headers = {"Content-Type": kind, "Authorization": f"Bearer {token or self.token}", **more}
        url = f"http://127.0.0.1:{self.http}/dicom-web/studies{study and '/' + study}"
        return requests.post(url, data=body[: len(body) - cut], headers=headers, timeout=120)


@pytest.fixture
def web_node(tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess) -> WebNode:
    made = WebNode(tmp_path / "node", zoo.target, peers(orthanc), results=["seg", "sr"])
    start(made)
    return made


def compressed(seed: int, syntax: str) -> bytes:
    dataset = dcmread(io.BytesIO(dicom_of(seed)))
    dataset.compress(syntax, generate_instance_uid=False)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def reasons(reply: requests.Response) -> list[int]:
    failed = reply.json().get("00081198", {}).get("Value", [])
    return [item["00081197"]["Value"][0] for item in failed]


def test_films_in_several_syntaxes_come_in_by_one_request(
    web_node: WebNode, orthanc: OrthancProcess
) -> None:
    contents = [
        film(SEEDS[0]),
        compressed(SEEDS[1], JPEG2000Lossless),
        compressed(SEEDS[2], RLELossless),
    ]
    reply = web_node.post(*contents)
    assert reply.status_code == 200, reply.text
    assert reply.headers["Content-Type"] == "application/dicom+json"
    taken = [item["00081155"]["Value"][0] for item in reply.json()["00081199"]["Value"]]
    assert taken == [dataset_of(content).SOPInstanceUID for content in contents]
    web_node.settled(3)
    for content in contents:
        study = dataset_of(content).StudyInstanceUID
        found = [dataset_of(orthanc.file(each)) for each in orthanc.find(StudyInstanceUID=study)]
        assert sorted(each.Modality for each in found) == ["SEG", "SR"]
    # Sent again, by another way: known.
    assert web_node.post(contents[0]).status_code == 200
    assert web_node.status()["events"]["known"] == 1
    assert web_node.films()["done"] == 3


def test_who_may_not_store_is_turned_away(web_node: WebNode) -> None:
    content = film(3)
    assert web_node.post(content, token="spinezoo_wrong").status_code == 401
    assert web_node.post(content, Authorization="").status_code == 401
    stranger = new_token(web_node.tokens, "STRANGER")
    refused = web_node.post(content, token=stranger)
    assert refused.status_code == 401
    assert "no AE title" in refused.text
    assert web_node.films()["waiting"] == 0
    assert web_node.status()["events"]["web-not-authorized"] == 3
    assert web_node.post(content).status_code == 200


def test_what_cannot_be_taken_is_named_and_the_rest_is_taken(web_node: WebNode) -> None:
    content = film(3)
    study = dataset_of(content).StudyInstanceUID
    data, pixels, answer = answered(5)
    seg = make_results(Source(data), answer, pixels, WHEN).files()["seg"]
    some = web_node.post(content, seg, b"no DICOM at all")
    assert some.status_code == 202
    assert reasons(some) == [0x0122, 0xC000]
    other = web_node.post(film(6), study=study)
    assert other.status_code == 409
    assert reasons(other) == [0xA900]
    assert web_node.post(content, study=study).status_code == 200
    assert web_node.post(content, cut=20).status_code == 400
    assert web_node.post(**{"Content-Type": "application/dicom"}).status_code == 400
    assert web_node.post(**{"Content-Type": "multipart/related"}).status_code == 400
    assert web_node.post().status_code == 400
    until(lambda: web_node.films()["done"] == 1, 200)


def test_no_room_and_too_much_are_said(tmp_path: Path, start: Any, orthanc: OrthancProcess) -> None:
    limits = {"films_waiting": 1, "disk_free_mib": 1, "film_mib": 1}
    made = WebNode(tmp_path / "node", "127.0.0.1:1", peers(orthanc), limits=limits)
    start(made)
    assert made.post(film(3)).status_code == 200
    full = made.post(film(5))
    assert full.status_code == 503
    assert reasons(full) == [0xA700]
    assert full.headers["Retry-After"]
    large = made.post(b"\0" * (3 << 20), b"\0" * (3 << 20))
    assert large.status_code == 413
    assert made.post(*[b"x"] * 1001).status_code == 413
    long = f'multipart/related; type="application/dicom"; boundary={"x" * 500}'
    assert made.post(b"x", **{"Content-Type": long}).status_code == 400
    assert made.films()["waiting"] == 1


def test_two_nodes_do_not_share_a_spool(tmp_path: Path, start: Any) -> None:
    known = [{"ae_title": "A", "host": "127.0.0.1", "port": 1}]
    first = NodeProcess(tmp_path / "one", "127.0.0.1:1", known)
    start(first)
    (tmp_path / "two").mkdir()
    second = NodeProcess(tmp_path / "two", "127.0.0.1:1", known, spool=first.settings["spool"])
    second.start(wait=False)
    assert second.process is not None
    assert second.process.wait(120) == 1
    assert "another node is at work" in second.log.read_text()
    first.kill()
    third = NodeProcess(tmp_path / "two", "127.0.0.1:1", known, spool=first.settings["spool"])
    start(third)
    assert third.films()["waiting"] == 0


def test_without_tokens_there_is_no_stow(tmp_path: Path, start: Any) -> None:
    known = [{"ae_title": "A", "host": "127.0.0.1", "port": 1}]
    made = NodeProcess(tmp_path / "node", "127.0.0.1:1", known)
    start(made)
    url = f"http://127.0.0.1:{made.http}/dicom-web/studies"
    assert requests.post(url, data=b"", timeout=20).status_code == 404


def test_tokens_do_not_cross_a_network_in_the_clear(tmp_path: Path) -> None:
    known = [{"ae_title": "STORESCU", "host": "127.0.0.1", "port": 1}]
    made = WebNode(tmp_path / "node", "127.0.0.1:1", known, host="0.0.0.0")
    made.start(wait=False)
    assert made.process is not None
    assert made.process.wait(120) == 1
    assert "in the clear" in made.log.read_text()


def test_results_go_out_by_stow_with_a_token(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess
) -> None:
    token = tmp_path / "archive.token"
    token.write_text("wrong\n")
    with Guard(orthanc, "secret-of-the-archive") as guard:
        known = [
            {"ae_title": "STORESCU", "host": "127.0.0.1", "answers_to": ["WEB"]},
            {"ae_title": "WEB", "may_send": False, "web_url": guard.url,
             "web_token_file": str(token)},
        ]  # fmt: skip
        made = WebNode(tmp_path / "node", zoo.target, known)
        start(made)
        content = film(3)
        assert made.post(content).status_code == 200
        # A token that does not count is waited for, by name.
        until(lambda: [n["reason"] for n in made.status()["notable"]] == ["waits-AccessError"], 200)
        token.write_text("secret-of-the-archive\n")
        made.settled(1)
        assert guard.asked["turned away"] >= 1
    study = dataset_of(content).StudyInstanceUID
    found = [dataset_of(orthanc.file(each)) for each in orthanc.find(StudyInstanceUID=study)]
    assert sorted(each.Modality for each in found) == ["OT", "SEG", "SEG", "SR"]
    assert "secret-of" not in made.log.read_text()


def test_a_set_is_collected_with_a_token(
    tmp_path: Path, orthanc: OrthancProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 3):
        orthanc.upload(planted_film(number, number))
    token = tmp_path / "token"
    token.write_text("secret\n")
    query = tmp_path / "query.yaml"
    with Guard(orthanc, "secret") as guard:
        web = {"url": guard.url, "token_file": str(token)}
        query.write_text(yaml.safe_dump({"web": web, "key": "site.key"}))
        arguments = ["--query", str(query), "--out", str(tmp_path / "set")]
        assert collect(arguments) == 0
        token.write_text("another\n")
        assert collect(["--query", str(query), "--out", str(tmp_path / "other")]) == 1
    assert "status 401" in capsys.readouterr().err
    lines = (tmp_path / "set" / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["state"] for line in lines].count("kept") == 2
