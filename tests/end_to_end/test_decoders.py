"""A member whose decoders hang or crash: over gRPC and HTTP, beside good films; and its notes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest
from spinezoo.v1 import image_pb2
from spinezoo_conformance.ports import free_ports
from spinezoo_contract.client import SegmenterClient
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import FilmNoteCode
from spinezoo_testing.bad_decoders import SETTINGS, film_that_says, rle_film

from end_to_end.support import clean_environment, room_python, started, wait_for

SERVICE = Path(__file__).with_name("file_reader")
GREY = (np.arange(64 * 48) % 251).astype(np.uint8).reshape(64, 48)


class Member(NamedTuple):
    """Where a member is reached."""

    grpc: SegmenterClient
    http: httpx.Client


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A process of the threshold network whose decoders do what a stream says."""
    folder = tmp_path_factory.mktemp("member")
    grpc_port, http_port = free_ports(2)
    environment = clean_environment(
        SPINEZOO_GRPC_PORT=str(grpc_port),
        SPINEZOO_HTTP_PORT=str(http_port),
        SPINEZOO_DECODER_S="3",
        HOME=str(folder),
        **SETTINGS,
    )
    command = [room_python("gateway"), "-m", "spinezoo_serving.bento", str(SERVICE)]
    base = f"http://127.0.0.1:{http_port}"
    with (
        started(command, folder / "log", env=environment, cwd=folder),
        httpx.Client(base_url=base, trust_env=False, timeout=60.0) as http,
        SegmenterClient(f"127.0.0.1:{grpc_port}") as client,
    ):

        def ready() -> bool:
            try:
                return http.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        wait_for("the member", ready, 120.0)
        yield Member(client, http)


@pytest.mark.parametrize("fault", ["sleep", "panic", "abort", "allocate natively"])
def test_a_bad_decoder_costs_its_film_an_error(member: Member, fault: str) -> None:
    bad, good = film_that_says(fault), rle_film(GREY)
    with ThreadPoolExecutor(4) as threads:
        hung = [
            threads.submit(member.grpc.predict, image_pb2.Image(dicom=bad)),
            threads.submit(member.http.post, "/predict", content=bad),
        ]
        assert member.grpc.predict(image_pb2.Image(dicom=good)).height == 64
        assert member.http.post("/predict", content=good).json()["height"] == 64
        with pytest.raises(FilmError, match=r"film's decoder (was stopped|broke off)"):
            hung[0].result(timeout=60)
        answer = hung[1].result(timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"] == "FilmError"
    assert "film's decoder" in answer.json()["message"]


def test_a_member_that_reads_the_film_itself_notes_it(member: Member) -> None:
    by_grpc = member.grpc.predict(image_pb2.Image(dicom=rle_film(GREY)))
    assert [note.code for note in by_grpc.notes] == [FilmNoteCode.NO_SPACING]
    by_http = member.http.post("/predict", content=rle_film(GREY)).json()
    assert by_http["notes"] == [{"code": "no_spacing", "text": by_grpc.notes[0].text}]
