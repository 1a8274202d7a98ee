"""Collecting by DIMSE from an archive whose answers are odd."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from planted import planted_film
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.sop_class import (
    ComputedRadiographyImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)
from spinezoo_conformance.ports import free_ports
from spinezoo_pacs.collect.command import main as collect

pytestmark = pytest.mark.filterwarnings("ignore")


class OddScp:
    """An archive of two series; ``status`` is how it ends the sending of the first."""

    def __init__(self) -> None:
        self.films = [dcmread(io.BytesIO(planted_film(number, number))) for number in (1, 3)]
        self.films.sort(key=lambda film: str(film.StudyInstanceUID))
        self.status, self.sends, self.more = 0x0000, True, list[Dataset]()
        self.asked: list[str] = []

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        if query.QueryRetrieveLevel == "STUDY":
            for film in self.films:
                yield 0xFF00, self.match(StudyInstanceUID=film.StudyInstanceUID)
            for odd in self.more:
                yield 0xFF00, odd
            return
        self.asked.append(str(query.get("StudyInstanceUID") or ""))
        for film in self.films:
            if film.StudyInstanceUID == query.StudyInstanceUID:
                yield 0xFF00, self.match(
                    StudyInstanceUID=film.StudyInstanceUID, Modality="CR",
                    SeriesInstanceUID=film.SeriesInstanceUID, NumberOfSeriesRelatedInstances=1,
                )  # fmt: skip
                yield 0xFF00, self.match(Modality="CR")

    @staticmethod
    def match(**values: Any) -> Dataset:
        found = Dataset()
        for name, value in values.items():
            setattr(found, name, value)
        return found

    def get(self, event: evt.Event) -> Iterator[Any]:
        uid = event.identifier.SeriesInstanceUID
        odd = uid == self.films[0].SeriesInstanceUID
        found = [film for film in self.films if film.SeriesInstanceUID == uid]
        found = found if self.sends or not odd else []
        yield len(found) + bool(odd and self.status)
        for film in found:
            yield 0xFF00, film
        if odd and self.status:
            yield self.status, None

    @contextmanager
    def serving(self, query: Path, **more: Any) -> Iterator[None]:
        port = free_ports(1)[0]
        ae = AE("ODD")
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
        ae.add_supported_context(
            ComputedRadiographyImageStorage, ALL_TRANSFER_SYNTAXES, scp_role=True, scu_role=True
        )
        handlers = [(evt.EVT_C_FIND, self.find), (evt.EVT_C_GET, self.get)]
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        pacs = {"ae_title": "ODD", "host": "127.0.0.1", "port": port, **more}
        query.write_text(yaml.safe_dump({"pacs": pacs, "key": "site.key"}))
        try:
            yield
        finally:
            server.shutdown()


def run(tmp_path: Path) -> int:
    return collect(["--query", str(tmp_path / "query.yaml"), "--out", str(tmp_path / "set")])


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    manifest = tmp_path / "set" / "manifest.jsonl"
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def kept(tmp_path: Path) -> int:
    return sum(line["state"] == "kept" for line in lines(tmp_path))


@pytest.mark.parametrize(
    ("status", "sends"),
    [(0xB000, True), (0xA702, False), (0xC123, False), (0xFE00, False), (0x0000, False)],
)
def test_a_series_that_is_not_sent_costs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, sends: bool
) -> None:
    archive = OddScp()
    archive.status, archive.sends = status, sends
    with archive.serving(tmp_path / "query.yaml"):
        assert run(tmp_path) == 1
        assert "did not come whole" in capsys.readouterr().err
        assert kept(tmp_path) == 1 + sends
        archive.status, archive.sends = 0x0000, True
        assert run(tmp_path) == 0
    assert kept(tmp_path) == 2


def test_matches_without_a_uid_ask_for_nothing_more(tmp_path: Path) -> None:
    archive = OddScp()
    archive.more = [archive.match(StudyInstanceUID=""), archive.match(PatientID="x")]
    with archive.serving(tmp_path / "query.yaml"):
        assert run(tmp_path) == 0
    assert kept(tmp_path) == 2
    assert "" not in archive.asked
    assert "series-without-uid" in {line.get("reason") for line in lines(tmp_path)}


def test_a_port_that_is_taken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other, OddScp().serving(tmp_path / "query.yaml"):
        other.bind(("127.0.0.1", 0))
        other.listen()
        query = yaml.safe_load((tmp_path / "query.yaml").read_text())
        query["pacs"] |= {"retrieve": "move", "our_port": other.getsockname()[1]}
        (tmp_path / "query.yaml").write_text(yaml.safe_dump(query))
        assert run(tmp_path) == 1
    assert "cannot listen" in capsys.readouterr().err
