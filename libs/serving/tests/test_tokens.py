"""Bearer tokens: the file, the command, and who gets in over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import stat
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from spinezoo.v1 import segmenter_pb2, segmenter_pb2_grpc
from spinezoo_contract import codec
from spinezoo_contract.certificates import PemFile
from spinezoo_contract.client import AsyncSegmenterClient, SegmenterClient
from spinezoo_contract.errors import AccessError, ConfigurationError
from spinezoo_contract.services import SEGMENTER_SERVICE
from spinezoo_contract.status import ERROR_KEY, REQUEST_ID_KEY
from spinezoo_contract.types import Film
from spinezoo_serving import tokens
from spinezoo_serving.metrics import ServerMetrics
from spinezoo_serving.security import ServerSecurity
from spinezoo_serving.segmenter import NetworkRunner, SegmenterServicer
from spinezoo_serving.server import GrpcServer, channel_options
from spinezoo_serving.settings import ServerSettings
from spinezoo_serving.tokens import TokenFile, digest_of, new_token, parse_tokens, revoke_token
from spinezoo_testing.threshold import ThresholdPredictor

FILM = Film(np.random.default_rng(0).integers(0, 200, (32, 48)).astype(np.uint8))
TODAY = datetime.now(UTC).date()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.txt"


@contextlib.asynccontextmanager
async def serving(
    path: Path, environment: dict[str, str] | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[GrpcServer]:
    """A server that asks for tokens, as gateway and evaluator do."""
    env = {"SPINEZOO_TOKENS": str(path), "SPINEZOO_HOST": host, **(environment or {})}
    settings = ServerSettings.from_env(env).model_copy(update={"drain_s": 5.0})
    runner = NetworkRunner(settings, ThresholdPredictor())
    server = GrpcServer(
        settings,
        metrics=ServerMetrics(),
        tokens=TokenFile.for_server(settings.security, settings.host),
    )
    server.add(
        segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server,
        SegmenterServicer(runner),
        SEGMENTER_SERVICE,
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        runner.close()


async def predict(server: GrpcServer, token: str | None, **more: Any) -> int:
    target = f"127.0.0.1:{server.port}"
    async with AsyncSegmenterClient(target, token=token, timeout_s=20, **more) as client:
        return (await client.predict(FILM)).width


async def refusal(server: GrpcServer, token: str | None) -> str:
    with pytest.raises(AccessError) as caught:
        await predict(server, token)
    assert type(caught.value) is AccessError
    return str(caught.value)


# --- the file ------------------------------------------------------------------------------------


def test_a_file_of_callers() -> None:
    digest = digest_of("x").hex()
    other = digest_of("y").hex()
    text = f"# who\n\na.b-c_1 {digest}\n  clinic {other} 2027-06-30 \n"
    first, second = parse_tokens(text.encode(), "file")
    assert (first.name, first.digest, first.not_after) == ("a.b-c_1", digest_of("x"), None)
    assert (second.name, second.not_after) == ("clinic", date(2027, 6, 30))
    assert not second.expired(date(2027, 6, 30))
    assert second.expired(date(2027, 7, 1))


D = "ab" * 32
E = "cd" * 32


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"# x\nclinic {D} soon", "line 2: the last day"),
        ("clinic", "line 1: it has 1 part;"),
        (f"clinic {D} 2027-01-01 x", "line 1: it has 4 parts"),
        (f"cli\u00f1ic {D}", "line 1: the name"),
        (f"{'x' * 65} {D}", "line 1: the name"),
        ("clinic spinezoo_SECRET", "line 1: the second part"),
        (f"clinic {D.upper()}", "line 1: the second part"),
        (f"clinic {D[:-2]}", "line 1: the second part"),
        (f"clinic {D}\nclinic {E}", "line 2: the name or the token stands there twice"),
        (f"clinic {D}\nother {D}", "line 2: the name or the token stands there twice"),
        ("\n".join(f"c{i} {i:064x}" for i in range(1001)), "1001 tokens, the limit is 1000"),
    ],
)
def test_a_wrong_line_is_named_by_its_number_and_never_quoted(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        parse_tokens(text.encode(), "file")
    assert "SECRET" not in str(caught.value)
    assert D not in str(caught.value)


def test_the_text_of_the_module_is_a_file_that_is_right() -> None:
    text = (tokens.__doc__ or "").partition("::\n")[2].partition("\n\nA token")[0]
    (entry,) = parse_tokens(text.encode(), "doc")
    assert entry.name == "clinic-a"


def test_bytes_that_are_no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00clinic")
    with pytest.raises(ConfigurationError, match="line 1"):
        TokenFile(PemFile(path, "SPINEZOO_TOKENS"))


# --- the command ---------------------------------------------------------------------------------


def command(capsys: Any, *arguments: str) -> tuple[int, str, str]:
    code = tokens.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_new_list_revoke(path: Path, capsys: Any) -> None:
    where = ("--file", str(path))
    code, out, err = command(capsys, "new", "clinic-a", *where)
    token = out.strip()
    assert (code, out.count("\n")) == (0, 1)
    assert "not shown again" in err
    assert token not in err
    assert token.startswith(tokens.TOKEN_PREFIX)
    assert len(token) == len(tokens.TOKEN_PREFIX) + 43  # 256 bits, 6 a character
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == f"clinic-a {hashlib.sha256(token.encode()).hexdigest()}\n"

    assert command(capsys, "new", "clinic-b", "--days", "0", *where)[0] == 0
    assert command(capsys, "new", "clinic-c", "--not-after", "2001-02-03", *where)[0] == 0
    code, out, _ = command(capsys, "list", *where)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["clinic-a", "for", "ever"],
        ["clinic-b", "until", TODAY.isoformat()],
        ["clinic-c", "expired"],
    ]
    assert command(capsys, "revoke", "clinic-a", *where)[0] == 0
    assert [line.split()[0] for line in path.read_text().splitlines()] == ["clinic-b", "clinic-c"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("new", "there"), "has a token"),
        (("new", "two words"), "is no name"),
        (("new", "x", "--days", "-1"), "--days is -1"),
        (("revoke", "nobody"), "has no nobody"),
        (("revoke", "#"), "has no #"),
    ],
)
def test_what_the_command_refuses(
    path: Path, capsys: Any, arguments: tuple[str, ...], says: str
) -> None:
    path.write_text(f"# note\nthere {D}\n")
    code, out, err = command(capsys, *arguments, "--file", str(path))
    assert (code, out) == (1, "")
    assert says in err
    assert path.read_text() == f"# note\nthere {D}\n"


def test_the_command_keeps_comments_and_refuses_a_file_that_is_wrong(
    path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPINEZOO_TOKENS", str(path))
    path.write_text(f"# note\nthere {D}\n")
    path.chmod(0o644)
    assert command(capsys, "new", "two")[0] == 0
    assert path.read_text().startswith(f"# note\nthere {D}\ntwo ")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("there spinezoo_SECRET\n")
    for arguments in (("new", "three"), ("revoke", "there"), ("list",)):
        code, out, err = command(capsys, *arguments)
        assert (code, out) == (1, "")
        assert "line 1" in err
        assert "SECRET" not in err
    path.unlink()
    assert "cannot be read" in command(capsys, "list")[2]
    assert command(capsys, "new", "x", "--file", str(path.parent / "no" / "tokens"))[0] == 1


# --- who gets in ---------------------------------------------------------------------------------


async def test_who_has_a_token_gets_in(path: Path, lines: Any) -> None:
    token = new_token(path, "clinic-a")
    async with serving(path) as server:
        assert await predict(server, token) == 48
        assert "no token" in await refusal(server, None)
        assert "unknown or was revoked" in await refusal(server, token[:-1] + "!")

        def blocking() -> int:
            with SegmenterClient(f"127.0.0.1:{server.port}", token=token) as client:
                return client.predict(FILM, timeout_s=20).width

        assert await asyncio.to_thread(blocking) == 48
        counted = server.metrics.render().decode()
    calls = [line for line in lines() if line["message"] == "call"]
    assert [(line["code"], line.get("caller")) for line in calls] == [
        ("OK", "clinic-a"),
        ("UNAUTHENTICATED", None),
        ("UNAUTHENTICATED", None),
        ("OK", "clinic-a"),
    ]
    assert calls[1]["error"] == "AccessError"
    assert 'spinezoo_failures_total{reason="AccessError"} 2.0' in counted
    told = json.dumps(lines())
    assert token not in told
    assert token[:-1] not in told
    assert digest_of(token).hex() not in told


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Basic {token}"),),
        (("authorization", "{token}"),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer {token}"), ("authorization", "Bearer {token}")),
        (("authorization", "Bearer {token}{padding}"),),
        (("authorization", "Bearer {token} x"),),
        (("x-authorization", "Bearer {token}"),),
    ],
)
async def test_other_forms_of_authorization_are_refused(path: Path, metadata: Any) -> None:
    token = new_token(path, "clinic-a")
    sent = [(key, value.format(token=token, padding="A" * 1024)) for key, value in metadata]
    async with (
        serving(path) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = segmenter_pb2_grpc.SegmenterServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetModel(
                segmenter_pb2.GetModelRequest(),
                metadata=[*sent, (REQUEST_ID_KEY, "abc")],
                timeout=20,
            )
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        trailer = dict(caught.value.trailing_metadata())
        assert (trailer[ERROR_KEY], trailer[REQUEST_ID_KEY]) == ("AccessError", "abc")
        lower = [("authorization", f"bearer {token}")]
        got = await stub.GetModel(segmenter_pb2.GetModelRequest(), metadata=lower, timeout=20)
        assert got.model.name == "threshold"


async def test_a_refused_film_is_not_even_waited_for(path: Path, lines: Any) -> None:
    """The caller has said which method and sends nothing yet: refused all the same."""
    new_token(path, "clinic-a")
    async with (
        serving(path) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call = channel.stream_unary(f"/{SEGMENTER_SERVICE}/Predict")(timeout=20)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        # And a large film that is sent nevertheless gets the same word.
        large = Film(np.zeros((4096, 6144), np.uint8))
        options = channel_options(64 << 20)
        target = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(target, options=options) as wide:
            stub = segmenter_pb2_grpc.SegmenterServiceStub(wide)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Predict(codec.predict_request_to_proto(large), timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    calls = [line for line in lines() if line["message"] == "call"]
    assert [(call["code"], call["bytes_in"]) for call in calls] == [("UNAUTHENTICATED", 0)] * 2


async def test_probes_need_no_token_but_all_else_does(path: Path) -> None:
    token = new_token(path, "clinic-a")
    asked = reflection_pb2.ServerReflectionRequest(list_services="")

    async def said(call: Any) -> Any:
        try:
            return await anext(aiter(call)) if hasattr(call, "__aiter__") else await call
        except grpc.aio.AioRpcError as error:
            return error.code().name

    async with (
        serving(path) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        checked = await said(health.Check(health_pb2.HealthCheckRequest(), timeout=20))
        assert checked.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        for metadata, expected in (((), True), ((("authorization", f"Bearer {token}"),), False)):
            more = {"metadata": metadata, "timeout": 20}
            answers = (
                await said(health.Watch(health_pb2.HealthCheckRequest(), **more)),
                await said(reflection.ServerReflectionInfo(iter([asked]), **more)),
            )
            assert [answer == "UNAUTHENTICATED" for answer in answers] == [expected, expected]


async def test_expired_revoked_and_added_without_a_restart(path: Path, lines: Any) -> None:
    day = timedelta(days=1)
    over = new_token(path, "over", TODAY - day)
    last = new_token(path, "last", TODAY)
    async with serving(path) as server:
        assert f"the token of over expired on {TODAY - day}" in await refusal(server, over)
        # Midnight may pass while this runs; then the token of the last day is over by rights.
        if datetime.now(UTC).date() == TODAY:
            assert await predict(server, last) == 48
        added = new_token(path, "added")
        assert await predict(server, added) == 48
        revoke_token(path, "added")
        assert "revoked" in await refusal(server, added)
        again = new_token(path, "added")
        assert await predict(server, again) == 48
        # A file that is wrong, or gone, changes nothing.
        kept = path.read_text()
        path.write_text(kept + "intruder nonsense\n")
        assert await predict(server, again) == 48
        path.unlink()
        assert await predict(server, again) == 48
        path.write_text("# nobody\n")
        assert "revoked" in await refusal(server, again)
    told = [line for line in lines() if line["logger"] == "spinezoo.security"]
    assert [line["message"] for line in told] == [
        "tokens renewed",
        "tokens renewed",
        "tokens renewed",
        "tokens not renewed",
        "tokens not renewed",
        "tokens renewed",
    ]
    assert "line 4" in told[3]["reason"]
    (expired,) = [line for line in lines() if line.get("caller") == "over"]
    assert expired["code"] == "UNAUTHENTICATED"
    assert not [secret for secret in (over, last, added, again) if secret in json.dumps(lines())]


async def test_the_last_day_is_checked_at_every_call(path: Path) -> None:
    token = new_token(path, "clinic", date(2030, 1, 1))
    today = [date(2030, 1, 1)]
    known = TokenFile(PemFile(path, "SPINEZOO_TOKENS"), today=lambda: today[0])
    metadata = (("authorization", f"Bearer {token}"),)
    assert known.caller(metadata) == "clinic"
    today[0] = date(2030, 1, 2)
    with pytest.raises(AccessError, match="expired on 2030-01-01") as caught:
        known.caller(metadata)
    assert caught.value.caller == "clinic"


def test_every_entry_is_compared_in_constant_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of five matches, and all five are compared all the same."""
    made = [new_token(path, f"clinic-{number}") for number in range(5)]
    known = TokenFile(PemFile(path, "SPINEZOO_TOKENS"))
    compared = []
    real = hmac.compare_digest

    def spy(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr(tokens.hmac, "compare_digest", spy)
    for number, token in enumerate(made):
        compared.clear()
        assert known.caller([("authorization", f"Bearer {token}")]) == f"clinic-{number}"
        assert [right for _, right in compared] == [digest_of(token)] * 5
        assert [left for left, _ in compared] == [digest_of(each) for each in made]


# --- tokens in the clear -------------------------------------------------------------------------


def test_tokens_in_the_clear_are_refused_unless_allowed(
    path: Path, certificates: Any, lines: Any
) -> None:
    new_token(path, "clinic-a")
    plain = {"SPINEZOO_TOKENS": str(path)}

    def made(host: str, **environment: str) -> TokenFile | None:
        return TokenFile.for_server(ServerSecurity.from_env(plain | environment), host)

    for host in ("0.0.0.0", "::", "10.0.0.1", "zoo"):
        with pytest.raises(ConfigurationError, match=f"SPINEZOO_TOKENS is set, .* {host}: "):
            made(host)
        assert made(host, **certificates.server()).names == ("clinic-a",)
    assert not [line for line in lines() if line["level"] == "warning"]
    assert made("0.0.0.0", SPINEZOO_TOKENS_WITHOUT_TLS="1").names == ("clinic-a",)
    (warning,) = [line for line in lines() if line["level"] == "warning"]
    assert "without TLS" in warning["message"]
    assert made("127.0.0.1").names == ("clinic-a",)
    assert TokenFile.for_server(ServerSecurity(), "0.0.0.0") is None


def test_a_wrong_file_is_named_at_the_start(path: Path, lines: Any) -> None:
    settings = ServerSecurity.from_env({"SPINEZOO_TOKENS": str(path)})
    with pytest.raises(ConfigurationError, match=r"SPINEZOO_TOKENS names .* cannot be read"):
        TokenFile.for_server(settings, "127.0.0.1")
    path.write_text("clinic nonsense")
    with pytest.raises(ConfigurationError, match=r"SPINEZOO_TOKENS \(.*\), line 1"):
        TokenFile.for_server(settings, "127.0.0.1")
    path.write_text("")
    assert TokenFile.for_server(settings, "127.0.0.1").names == ()
    assert "nobody has a token" in [line["message"] for line in lines()]


async def test_tokens_over_tls(path: Path, certificates: Any) -> None:
    token = new_token(path, "clinic-a")
    async with serving(path, certificates.server(), host="0.0.0.0") as server:
        ca_file = certificates.path("ca.crt")
        assert await predict(server, token, ca_file=ca_file) == 48
        with pytest.raises(AccessError):
            await predict(server, None, ca_file=ca_file)
