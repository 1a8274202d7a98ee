"""What callers may send wrong over HTTP, who is let in, and TLS."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from bench import Bench
from spinezoo.v1 import image_pb2
from spinezoo_serving.tokens import new_token, revoke_token
from spinezoo_testing.certificates import Certificates
from test_requests import BAD_FILMS

Connect = Callable[..., httpx.Client]


def file_of(image: image_pb2.Image) -> bytes | None:
    form = image.WhichOneof("form")
    return getattr(image, form) if form in ("dicom", "encoded") else None


def test_every_bad_film_is_refused_by_name(connect: Connect, png: bytes) -> None:
    client = connect()
    wrong = []
    for name, (make, _, says) in BAD_FILMS.items():
        film = file_of(make())
        if film is None:
            continue
        for path in ("/v1/segment", "/v1/preview"):
            answer = client.post(path, files={"film": film})
            problem = answer.json()
            good = (
                answer.status_code in (400, 413)
                and answer.headers["content-type"] == "application/problem+json"
                and says in problem["detail"]
                and len(problem["detail"]) >= 20
                and problem["error"] in ("FilmError", "TooLargeError")
                and problem["request_id"] == answer.headers["x-request-id"]
            )
            if not good:
                wrong.append((name, path, answer.status_code, problem))
            assert "MUSTERMANN" not in answer.text
    assert not wrong
    assert client.post("/v1/segment", files={"film": png}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"quorum": "6"}, "quorum is 6, but only 5 members are asked"),
        ({"quorum": "0"}, "quorum is '0'"),
        ({"members": "unet,resnet"}, "no member is called 'resnet'"),
        ({"members": "unet, unet"}, "named twice"),
        ({"member_deadline_ms": "4000000000"}, "member_deadline_ms"),
        ({"score_threshold": "1.5"}, "score_threshold is '1.5'"),
        ({"score_threshold": "nan"}, "score_threshold"),
        ({"max_segments": "many"}, "max_segments is 'many'"),
        ({"fusion_rule": "mean"}, "fusion_rule is 'mean'"),
        ({"masks": "<script>"}, "masks is '<script>'"),
        ({"weights": "unet=-1", "fusion_rule": "weighted_vote"}, "weight of 'unet'"),
        ({"weights": "unet=1,unet=2"}, "each member once"),
        ({"weights": "resnet=1"}, "'resnet'"),
        ({"colour": "blue"}, "there are film, masks"),
    ],
)
def test_bad_settings_are_refused(connect: Connect, png: bytes, fields: dict, says: str) -> None:
    answer = connect().post("/v1/segment", files={"film": png}, data=fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] == "OptionError"
    assert says in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/segment", "/v1/preview"])
def test_settings_in_the_address_are_refused(connect: Connect, png: bytes, path: str) -> None:
    """They would go unread, and five networks answer who asked for one."""
    answer = connect().post(f"{path}?members=unet&quorum=1", files={"film": png})
    assert answer.status_code == 400
    assert answer.json()["error"] == "OptionError"
    assert "'members', 'quorum'" in answer.json()["detail"]


def test_an_address_with_a_slash_too_many_is_no_empty_answer(connect: Connect, png: bytes) -> None:
    answer = connect().post("/v1/segment/", files={"film": png})
    assert answer.status_code == 404
    assert answer.json()["error"] == "BadInputError"


def test_what_is_no_form(connect: Connect, png: bytes) -> None:
    client = connect()
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    for kwargs in (
        {"content": png},
        {"data": {"film": "text"}},
        {"files": {"picture": png}},
        {"content": b"--x\r\nnothing", "headers": multipart},
        {"content": b"", "headers": {"Content-Type": "multipart/form-data"}},
        {"files": [("film", png), ("film", png)]},
    ):
        answer = client.post("/v1/segment", **kwargs)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"] == "BadInputError"
        assert "film" in answer.json()["detail"]
    for method, path, code in (("GET", "/v1/segment", 405), ("GET", "/nothing", 404)):
        answer = client.request(method, path)
        assert answer.status_code == code
        assert answer.headers["content-type"] == "application/problem+json"


def test_too_large_a_form_is_refused_before_it_is_read(bench: Bench, connect: Connect) -> None:
    client = connect(SPINEZOO_MAX_MESSAGE_BYTES=str(1 << 20))
    # Said in the header: refused although not one byte of it is ever sent.
    with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
        line.settimeout(20)
        line.sendall(
            b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: 209715200\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        head = line.recv(4096)
    assert head.startswith(b"HTTP/1.1 413")

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="film"; filename="a"\r\n\r\n'
        for _ in range(200):
            yield bytes(1 << 16)

    # Not said: refused as soon as it is over the limit.
    answer = client.post(
        "/v1/segment",
        content=endless(),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 413
    assert answer.json()["error"] == "TooLargeError"
    assert "SPINEZOO_MAX_MESSAGE_BYTES" in answer.json()["detail"]


def test_films_are_never_written_to_a_disk(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()

    def refuse(*_args: object, **_more: object) -> None:
        raise AssertionError("a film is written to a disk")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    answer = client.post("/v1/preview", files={"film": bytes(8 << 20)})
    assert answer.status_code == 400
    assert answer.json()["error"] == "FilmError"


def test_tokens(bench: Bench, connect: Connect, png: bytes, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    token = new_token(tokens, "clinic-a")
    client = connect(SPINEZOO_TOKENS=str(tokens))
    good = {"Authorization": f"Bearer {token}"}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}"}):
        for method, path in (
            ("GET", "/v1/models"),
            ("GET", "/v1/access"),
            ("GET", "/v1/openapi.json"),
            ("POST", "/v1/segment"),
            ("POST", "/v1/preview"),
            ("GET", "/v1/nothing"),
        ):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["error"] == "AccessError"
            assert token not in answer.text
    access = client.get("/v1/access", headers=good).json()
    assert access["caller"] == "clinic-a"
    assert client.post("/v1/segment", files={"film": png}, headers=good).status_code == 200
    # The login is all that is served without a token; the rest lies behind a ticket.
    assert client.get("/").status_code == 200
    assert client.get(f"{access['page']}app.js").status_code == 200
    for path in (
        "/app.js",
        "/page/free/app.js",
        "/page//app.js",
        "/page/clinic-a.9999999999.0/app.js",
        "/page/clinic-a.9999999999.\u00e9/app.js",
        "/page/clinic-\u00e9.9999999999.0/app.js",
    ):
        assert client.get(path).status_code == 404, path
    name, until, seal = access["page"].split("/")[2].rsplit(".", 2)
    assert client.get(f"/page/{name}.{int(until) + 9}.{seal}/app.js").status_code == 404
    revoke_token(tokens, "clinic-a")
    assert client.get("/v1/models", headers=good).status_code == 401
    assert client.get(f"{access['page']}app.js").status_code == 404


def test_a_large_film_without_a_token_is_refused_before_it_is_read(
    connect: Connect, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens.txt"
    new_token(tokens, "clinic-a")
    client = connect(SPINEZOO_TOKENS=str(tokens))
    with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
        line.settimeout(20)
        line.sendall(
            b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 401")


def test_pages_carry_a_strict_policy(connect: Connect) -> None:
    answer = connect().get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in answer.text
    assert " style=" not in answer.text
    assert " on" not in answer.text.partition("<body")[0]


def test_tls_on_the_one_port(connect: Connect, png: bytes, certificates: Certificates) -> None:
    trust = ssl.create_default_context(cafile=str(certificates.path("ca.crt")))
    client = connect(client={"verify": trust}, SPINEZOO_CLIENT_TLS="off", **certificates.server())
    assert client.base_url.scheme == "https"
    assert client.post("/v1/segment", files={"film": png}).status_code == 200
    with client.stream(
        "POST", "/v1/segment", files={"film": png}, headers={"Accept": "text/event-stream"}
    ) as response:
        assert len([line for line in response.iter_lines() if line.startswith("event")]) == 6
    assert client.get("/readyz").status_code in (200, 503)
    # Without TLS: what probes and Prometheus ask, the way to the page, and no film.
    plain = httpx.Client(base_url=str(client.base_url).replace("https", "http"), trust_env=False)
    with plain:
        assert plain.get("/livez").status_code == 200
        assert plain.get("/metrics").status_code == 200
        assert plain.post("/v1/segment", files={"film": png}).status_code in (405, 426)
        turned = plain.get("/")
        assert turned.status_code == 307
        assert turned.headers["location"] == f"{client.base_url}".rstrip("/") + "/"
    with (
        httpx.Client(verify=ssl.create_default_context(), trust_env=False) as stranger,
        pytest.raises(httpx.ConnectError),
    ):
        stranger.get(f"{client.base_url}/readyz")


def test_mutual_tls_asks_browsers_for_a_certificate_and_takes_new_files(
    connect: Connect, certificates: Certificates
) -> None:
    own = ssl.create_default_context(cafile=str(certificates.path("ca.crt")))
    client = connect(
        client={"verify": own}, SPINEZOO_CLIENT_TLS="off", **certificates.server("mutual")
    )
    with pytest.raises(httpx.HTTPError):
        client.get("/v1/models")
    own.load_cert_chain(certificates.path("client.crt"), certificates.path("client.key"))
    assert client.get("/v1/models").status_code == 200
    certificates.add("server", names=("another.example",))
    with (
        httpx.Client(base_url=client.base_url, verify=own, trust_env=False) as later,
        pytest.raises(httpx.ConnectError, match="not valid for"),
    ):
        later.get("/v1/models")
