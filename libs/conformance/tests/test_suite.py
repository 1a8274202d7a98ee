"""The suite, the command, and that right containers pass."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent import futures
from typing import Any

import numpy as np
import pytest
from spinezoo_conformance import command, session
from spinezoo_conformance import films as synthetic
from spinezoo_conformance.check import check
from spinezoo_conformance.rules import RULES
from spinezoo_conformance.verdict import Outcome, RuleResult
from spinezoo_serving.segmenter import NetworkRunner, segmenter_server
from spinezoo_serving.settings import ServerSettings
from spinezoo_testing.plain_server import LIMIT_BYTES, PlainServicer, Thresholder, read_film, serve

QUICK = {rule.rule_id for rule in RULES if not rule.slow}


def failed(results: list[RuleResult]) -> dict[str, str]:
    return {result.rule_id: result.message for result in results if result.failed}


# --- right containers ----------------------------------------------------------------------------


def test_a_strangers_plain_server_conforms(network: Thresholder) -> None:
    with serve(PlainServicer(network)) as target:
        results = check(target, timeout_s=120)
    assert not failed(results)
    assert {result.outcome for result in results} == {Outcome.PASS}
    assert [result.rule_id for result in results] == [rule.rule_id for rule in RULES]
    judged = {result.rule_id: result.message for result in results}
    assert "judged on 2 outlines" in judged["C06"]


def test_our_shell_conforms(network: Thresholder) -> None:
    started: futures.Future[int] = futures.Future()
    stop = threading.Event()

    async def run() -> None:
        settings = ServerSettings(max_message_bytes=LIMIT_BYTES)
        runner = NetworkRunner(settings, network)
        server = segmenter_server(runner, read_film=read_film)
        await server.start()
        started.set_result(server.port)
        await asyncio.to_thread(stop.wait)
        await server.stop()
        runner.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        results = check(f"127.0.0.1:{started.result(timeout=20)}", timeout_s=120)
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not failed(results)
    assert {result.outcome for result in results} == {Outcome.PASS}


class Unsorted(PlainServicer):
    def fault(self, response: Any, context: Any) -> Any:
        backwards = list(response.segments)[::-1]
        del response.segments[:]
        response.segments.extend(backwards)
        return response


def test_the_quick_part_is_what_the_gateway_asks_of_a_newcomer() -> None:
    # One film each, no flood of bad or large ones: these run beside the old member's traffic.
    assert sorted(QUICK) == [f"C{n:02}" for n in (*range(1, 15), 18, 19, 20, 24, 25)]


# --- the command line, the rules themselves ------------------------------------------------------


def test_command_line(network: Thresholder, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(PlainServicer(network)) as target:
        assert command.main([target, "--quick"]) == 0
    table = capsys.readouterr().out
    assert f"{target} conforms: {len(QUICK)} rules hold, 0 broken" in table
    assert all(rule.rule_id in table for rule in RULES)

    with serve(Unsorted(network)) as target:
        assert command.main([target, "--quick", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] == ["C07"]
    assert document["conforms"] is False
    assert document["rules"][6]["outcome"] == "fail"


def test_command_line_without_container(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "_CONNECT_TIMEOUT_S", 0.3)
    assert command.main(["127.0.0.1:1"]) == 2
    assert "start the container" in capsys.readouterr().err


def test_ids_are_unique_and_in_order() -> None:
    ids = [rule.rule_id for rule in RULES]
    assert ids == sorted(set(ids))
    assert all(rule.statement.endswith(".") for rule in RULES)


def test_synthetic_films_are_the_same_every_time() -> None:
    first = synthetic.spine_like_pixels(100, 60)
    assert (first == synthetic.spine_like_pixels(100, 60)).all()
    assert (read_film(synthetic.png_bytes(first), kind="encoded").pixels == first).all()
    wide = first.astype(np.uint16) * np.uint16(257)
    assert (read_film(synthetic.png_bytes(wide), kind="encoded").pixels == wide).all()
    assert (read_film(synthetic.dicom_bytes(first), kind="dicom").pixels == first).all()
