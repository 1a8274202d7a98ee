"""gRPC messages made by chance, sent to a member, the gateway and the evaluator as they serve.

Each answers with a status of ours and a text, or with an answer; none hangs, dies or grows. Short
in every test run; ``SPINEZOO_FUZZ_MINUTES`` sets how long it goes on.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import numpy as np
import psutil
import pytest
from end_to_end.support import clean_environment, room_python, started, wait_for
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from spinezoo.v1 import ensemble_pb2, evaluation_pb2, image_pb2, segment_pb2, segmenter_pb2
from spinezoo_conformance import films as synthetic
from spinezoo_conformance.ports import free_ports
from spinezoo_contract import codec
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.status import ERROR_KEY, UNEXPECTED_MESSAGE
from spinezoo_contract.types import (
    EvaluationPair,
    Film,
    FusionOptions,
    PredictOptions,
    Segment,
    SegmentKind,
    Structure,
)

MINUTES = float(os.environ.get("SPINEZOO_FUZZ_MINUTES", "0"))

MOST_S = 5.0
"""Longest that one message may take, in s; one that takes longer is sent again."""

MOST_MIB = 1024
"""Most memory that a server may hold, in MiB, all its decoding processes together."""

SERVICE = Path(__file__).parents[1] / "end_to_end" / "file_reader"
PIXELS = synthetic.spine_like_pixels(64, 48)


class Method(NamedTuple):
    """One method of a server."""

    server: str
    path: str
    seeds: tuple[Message, ...]
    stream: str = ""


def seeds() -> list[Method]:
    """Valid messages by method."""
    mask = encode_mask(PIXELS.mean() < PIXELS)
    segment = Segment(Structure.CAGE, SegmentKind.REGION, mask, 0.5, mask_box(mask))
    images = (
        codec.film_to_proto(Film(PIXELS, 0.1, 0.1)),
        codec.film_to_proto(Film(PIXELS.astype(np.float32))),
        image_pb2.Image(encoded=synthetic.png_bytes(PIXELS)),
        image_pb2.Image(dicom=synthetic.dicom_bytes(PIXELS)),
    )
    options = PredictOptions(0.5, 0.5, 10, include_probability_maps=True)
    predict = tuple(codec.predict_request_to_proto(image, options) for image in images)
    ask = tuple(codec.ensemble_request_to_proto(image) for image in images)
    for each in ask:
        each.fusion.rule, each.quorum, each.member_deadline_ms = 4, 1, 2000
        each.fusion.weights["threshold"] = 2.0
        each.member_names.append("threshold")
    inputs = {"a": (segment,), "b": (segment, segment)}
    fuse = codec.fuse_request_to_proto(inputs, 64, 48, FusionOptions(weights={"a": 2.0}))
    labels = (PIXELS > 99).astype(np.uint8)
    pairs = (
        codec.to_proto(EvaluationPair("film", "model", 64, 48, (segment,), (segment,))),
        codec.to_proto(EvaluationPair("film", "model", 64, 48, labels, (segment,))),
    )
    ensemble = "/spinezoo.v1.EnsembleService/"
    evaluation = "/spinezoo.v1.EvaluationService/"
    streams = tuple(ensemble_pb2.SegmentStreamRequest(request=each) for each in ask)
    return [
        Method("member", "/spinezoo.v1.SegmenterService/Predict", predict),
        Method("gateway", ensemble + "Segment", ask),
        Method("gateway", ensemble + "SegmentStream", streams, "answer"),
        Method("evaluator", evaluation + "Fuse", (fuse,)),
        Method("evaluator", evaluation + "Evaluate", pairs, "request"),
    ]


ODD: dict[int, list[Any]] = {
    FieldDescriptor.TYPE_BYTES: [b"", b"\0", b"PPPP", b"\xff" * 40, b"`" * 3000, b"\x89PNG\r\n"],
    FieldDescriptor.TYPE_STRING: ["", "threshold", "a\0b", "é" * 300, "x" * 100_000, "T12", "L99"],
    FieldDescriptor.TYPE_DOUBLE: [0.0, -1.0, 0.5, 1e308, float("nan"), float("inf")],
    FieldDescriptor.TYPE_FLOAT: [0.0, -1.0, 0.5, float("nan"), float("inf")],
    FieldDescriptor.TYPE_UINT32: [0, 1, 15, 16, 48, 64, 20_000, 65_536, 2**31, 2**32 - 1],
    FieldDescriptor.TYPE_UINT64: [0, 1, 2**63, 2**64 - 1],
    FieldDescriptor.TYPE_INT32: [0, -1, 2**31 - 1],
    FieldDescriptor.TYPE_ENUM: [0, 1, 2, 99, -1, 2**31 - 1],
    FieldDescriptor.TYPE_BOOL: [True, False],
}


def _repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _change(draw: Callable[..., Any], message: Message) -> None:
    """One field somewhere within a message, changed."""
    field = draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[draw(st.sampled_from(["", "a", "zz"]))] = draw(
                st.sampled_from(ODD[FieldDescriptor.TYPE_DOUBLE])
            )
        elif _repeated(field):
            items = getattr(message, field.name)
            how = draw(st.sampled_from(["add", "clear", "many", "into", "into"]))
            if how == "clear":
                del items[:]
            elif how == "add":
                items.add()
            elif how == "many" and items:
                items.extend([items[0]] * draw(st.sampled_from([1, 5, 300])))
            elif items:
                _change(draw, items[draw(st.integers(0, len(items) - 1))])
        elif draw(st.integers(0, 5)) == 0:
            message.ClearField(field.name)
        else:
            _change(draw, getattr(message, field.name))
        return
    value = draw(st.sampled_from(ODD[field.type]))
    if field.type == FieldDescriptor.TYPE_BYTES and draw(st.booleans()):
        whole = bytearray(getattr(message, field.name))
        for _ in range(draw(st.integers(1, 8))):
            if whole:
                whole[draw(st.integers(0, len(whole) - 1))] = draw(st.integers(0, 255))
        value = bytes(whole)
    if _repeated(field):
        getattr(message, field.name).extend([value] * draw(st.sampled_from([1, 2, 50])))
    else:
        setattr(message, field.name, value)


@st.composite
def messages(draw: Callable[..., Any], methods: list[Method]) -> tuple[Method, bytes]:
    """A method and bytes that are nearly one of its requests."""
    method = draw(st.sampled_from(methods))
    request = type(method.seeds[0])()
    request.CopyFrom(draw(st.sampled_from(method.seeds)))
    for _ in range(draw(st.integers(1, 4))):
        _change(draw, request)
    data = bytearray(request.SerializeToString())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 5]))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    try:
        request.ParseFromString(bytes(data))
    except DecodeError:  # gRPC itself refuses what is no message
        return method, request.SerializeToString()
    return method, bytes(data)


class Servers(NamedTuple):
    """Servers by name: their channels and their processes."""

    channels: dict[str, grpc.Channel]
    processes: dict[str, psutil.Process]

    def held_mib(self, name: str) -> float:
        """Memory of a server and its children, in MiB."""
        process = self.processes[name]
        return sum(
            each.memory_info().rss for each in (process, *process.children(recursive=True))
        ) / (1 << 20)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A member, a gateway over it, and an evaluator, each a process of its own."""
    folder = tmp_path_factory.mktemp("servers")
    ports = free_ports(6)
    roster = folder / "roster.yaml"
    roster.write_text(f"members:\n  - {{name: threshold, target: '127.0.0.1:{ports[0]}'}}\n")
    python = room_python("gateway")
    commands = {
        "member": [python, "-m", "spinezoo_serving.bento", str(SERVICE)],
        "gateway": [python, "-m", "spinezoo_gateway.serve"],
        "evaluator": [python, "-m", "spinezoo_evaluator.serve"],
    }
    with _all_started(commands, ports, folder, roster) as running:
        channels = {
            name: grpc.insecure_channel(f"127.0.0.1:{port}")
            for name, port in zip(commands, ports[:3], strict=True)
        }
        processes = {name: psutil.Process(each.pid) for name, each in running.items()}
        yield Servers(channels, processes)
        for channel in channels.values():
            channel.close()


@contextlib.contextmanager
def _all_started(
    commands: dict[str, list[str]], ports: list[int], folder: Path, roster: Path
) -> Iterator[dict[str, subprocess.Popen]]:
    """The servers' processes by name, once all are ready."""
    with contextlib.ExitStack() as stack:
        running = {}
        for place, (name, command) in enumerate(commands.items()):
            environment = clean_environment(
                SPINEZOO_GRPC_PORT=str(ports[place]),
                SPINEZOO_HTTP_PORT=str(ports[place + 3]),
                SPINEZOO_ROSTER=str(roster),
                HOME=str(folder),
            )
            running[name] = stack.enter_context(
                started(command, folder / f"{name}.log", env=environment, cwd=folder)
            )
        for name, port in zip(commands, ports[3:], strict=True):
            wait_for(f"{name} to be ready", functools.partial(_is_ready, port), 120.0)
        yield running


def _is_ready(port: int) -> bool:
    url = f"http://127.0.0.1:{port}/readyz"
    try:
        return httpx.get(url, trust_env=False, timeout=5.0).is_success
    except httpx.TransportError:
        return False


def call(servers: Servers, method: Method, data: bytes) -> float:
    """Sends a message; lets our own refusals pass. Returns s taken."""
    channel = servers.channels[method.server]
    kinds: dict[str, Callable[..., Any]] = {
        "": channel.unary_unary,
        "answer": channel.unary_stream,
        "request": channel.stream_unary,
    }
    send = kinds[method.stream](
        method.path, request_serializer=lambda each: each, response_deserializer=bytes
    )
    started_at = time.monotonic()
    try:
        answer = send(iter([data]) if method.stream == "request" else data, timeout=30.0)
        if method.stream == "answer":
            assert list(answer)
    except grpc.RpcError as error:
        code, told = error.code(), error.details() or ""
        assert UNEXPECTED_MESSAGE not in told, told
        assert code is not grpc.StatusCode.UNKNOWN, told
        named = ERROR_KEY in dict(error.trailing_metadata() or ())
        too_long = code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert named or too_long or "eserializing" in told, (code, told)
        assert len(told) > 10, (code, told)
    return time.monotonic() - started_at


def test_messages_by_chance(servers: Servers, capsys: pytest.CaptureFixture[str]) -> None:
    methods = seeds()
    for method in methods:
        for seed in method.seeds:
            call(servers, method, seed.SerializeToString())
    count, slowest = 0, 0.0
    held: dict[str, float] = {}

    @settings(
        max_examples=1000 if MINUTES else 150,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(messages(methods))
    def one(made: tuple[Method, bytes]) -> None:
        nonlocal count, slowest
        taken = call(servers, *made)
        if taken > MOST_S:
            taken = call(servers, *made)
        count, slowest = count + 1, max(slowest, taken)
        assert taken < MOST_S, f"{taken:.1f} s"
        if count % 25 == 0:
            for name in servers.processes:
                held[name] = max(held.get(name, 0.0), servers.held_mib(name))

    end = time.monotonic() + 60.0 * MINUTES
    while True:
        one()
        if time.monotonic() >= end:
            break
    told = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in held.items())
    with capsys.disabled():
        print(f"\nmessages: {count} sent, slowest {slowest:.2f} s, peak {told}")
    assert all(process.is_running() for process in servers.processes.values())
    assert max(held.values()) < MOST_MIB
    for method in methods:  # and all is well after that
        call(servers, method, method.seeds[0].SerializeToString())


def test_every_kind_of_field_is_changed() -> None:
    """A field of a kind that is new to the contract is not left out unnoticed."""
    for module in (ensemble_pb2, evaluation_pb2, image_pb2, segment_pb2, segmenter_pb2):
        for message in module.DESCRIPTOR.message_types_by_name.values():
            for field in message.fields:
                assert field.type == FieldDescriptor.TYPE_MESSAGE or field.type in ODD
