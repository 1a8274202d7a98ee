"""TLS and tokens: the evaluator as a process, and the benchmark against a protected zoo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from outlines import block
from spinezoo_contract.client import EvaluationClient
from spinezoo_contract.errors import AccessError, NotServingError
from spinezoo_contract.tls import client_settings
from spinezoo_contract.types import EvaluationPair
from spinezoo_evaluator.benchmark import command as benchmark
from spinezoo_evaluator.benchmark import real_check
from spinezoo_evaluator.serve import make_server
from spinezoo_serving.settings import ServerSettings
from spinezoo_serving.tokens import TokenFile, new_token, revoke_token
from spinezoo_testing.servers import serving
from spinezoo_tools import certs as tool
from stand_in import StandInGateway, make_gateway
from test_benchmark import FILMS, write_films
from test_real_check import Answering, write_set

PAIR = EvaluationPair("film", "unet", 64, 48, (block(4, 10, 11, 24),), (block(4, 10, 11, 24),))


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    tool.write_all(folder, ["gateway", "evaluator", "client"])
    return folder


def tls(certs, name, prefix="SPINEZOO_TLS"):
    return {
        prefix: "mutual",
        f"{prefix}_CERT": str(certs / f"{name}.crt"),
        f"{prefix}_KEY": str(certs / f"{name}.key"),
        f"{prefix}_CA": str(certs / "ca.crt"),
    }


@contextmanager
def process(tmp_path, **settings):
    """The evaluator as a process of its own; gives its ports and its log."""
    log = tmp_path / "log"
    ports = {"SPINEZOO_GRPC_PORT": "0", "SPINEZOO_HTTP_PORT": "0"}
    with log.open("w") as stream:
        child = subprocess.Popen(
            [sys.executable, "-m", "spinezoo_evaluator.serve"],
            # gRPC's own line for each refused connection is no JSON.
            env={**os.environ, "GRPC_VERBOSITY": "ERROR", **ports, **settings},
            stdout=subprocess.DEVNULL,
            stderr=stream,
            cwd=tmp_path,
        )
    try:
        while True:
            whole = [line for line in log.read_text().splitlines(keepends=True) if line[-1] == "\n"]
            lines = [json.loads(line) for line in whole]
            if any(line.get("phase") == "serving" for line in lines):
                break
            assert child.poll() is None, log.read_text()
            time.sleep(0.05)
        yield {line["endpoint"]: line["port"] for line in lines if "endpoint" in line}, log
    finally:
        child.terminate()
        child.wait(30)


def test_the_process_with_tls_and_tokens(certs, tmp_path):
    tokens = tmp_path / "tokens.txt"
    token = new_token(tokens, "clinic-a")
    settings = tls(certs, "evaluator") | {"SPINEZOO_TOKENS": str(tokens)}
    client = client_settings(
        tls(certs, "client", "SPINEZOO_CLIENT_TLS") | {"SPINEZOO_TOKEN": token}
    )
    with process(tmp_path, **settings) as (ports, log):
        target = f"127.0.0.1:{ports['grpc']}"
        with EvaluationClient(target, **client) as evaluator:
            (model,) = evaluator.evaluate([PAIR])
            assert model.film_count == 1
            # A stream that is refused is refused at once.
            revoke_token(tokens, "clinic-a")
            with pytest.raises(AccessError, match="revoked"):
                evaluator.evaluate([PAIR])
        with (
            EvaluationClient(target, **{**client, "token": None}) as nobody,
            pytest.raises(AccessError, match="no token"),
        ):
            nobody.evaluate([PAIR])
        with EvaluationClient(target) as plain, pytest.raises(NotServingError):
            plain.evaluate([PAIR])
        probe = subprocess.run(
            [sys.executable, "-m", "spinezoo_serving.health"],
            env={**os.environ, **settings, "SPINEZOO_GRPC_PORT": str(ports["grpc"])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (probe.returncode, probe.stdout) == (0, f"{target} SERVING\n")
        base = f"http://127.0.0.1:{ports['http']}"
        assert httpx.get(f"{base}/readyz").status_code == 200
        assert 'code="UNAUTHENTICATED"' in httpx.get(f"{base}/metrics").text
    told = log.read_text()
    calls = [line for line in map(json.loads, told.splitlines()) if line["message"] == "call"]
    assert [(line["code"], line.get("caller")) for line in calls] == [
        ("OK", "clinic-a"),
        ("UNAUTHENTICATED", None),
        ("UNAUTHENTICATED", None),
    ]
    assert token not in told
    assert (certs / "evaluator.key").read_text().splitlines()[1] not in told


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"SPINEZOO_TLS": "server"}, "SPINEZOO_TLS_CERT is not set"),
        ({"SPINEZOO_HOST": "0.0.0.0", "SPINEZOO_TOKENS": "tokens.txt"}, "in the clear"),
        ({"SPINEZOO_TOKENS": "absent.txt"}, "SPINEZOO_TOKENS names absent.txt"),
    ],
)
def test_what_is_wrong_ends_the_process_with_2(tmp_path, settings, says):
    new_token(tmp_path / "tokens.txt", "clinic-a")
    ports = {"SPINEZOO_GRPC_PORT": "0", "SPINEZOO_HTTP_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "spinezoo_evaluator.serve"],
        env={**os.environ, **ports, **settings},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert says in done.stderr


def test_the_benchmark_against_a_protected_zoo(certs, tmp_path, monkeypatch, capsys):
    tokens = tmp_path / "tokens.txt"
    token = new_token(tokens, "researcher")
    common = {"SPINEZOO_TOKENS": str(tokens)}
    settings = {
        name: ServerSettings.from_env(tls(certs, name) | common)
        for name in ("gateway", "evaluator")
    }
    data = write_films(tmp_path / "films")

    def gateway():
        known = TokenFile.for_server(settings["gateway"].security, "127.0.0.1")
        return make_gateway(StandInGateway(data), settings=settings["gateway"], tokens=known)

    monkeypatch.chdir(tmp_path)
    for name, value in tls(certs, "client", "SPINEZOO_CLIENT_TLS").items():
        monkeypatch.setenv(name, value)
    with (
        serving(gateway) as gateway_target,
        serving(lambda: make_server(settings["evaluator"])) as evaluator_target,
    ):
        words = ["--data", str(data), "--report", "run", "--wait-s", "10", "--no-pictures"]
        words += ["--gateway", gateway_target, "--evaluator", evaluator_target]
        assert benchmark.main(words) == 2
        assert "SPINEZOO_TOKEN_FILE" in capsys.readouterr().err
        (tmp_path / "token").write_text(token)
        monkeypatch.setenv("SPINEZOO_TOKEN_FILE", "token")
        assert benchmark.main(words) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["films"]["measured"] == FILMS
    assert report["evaluator"]["agrees"] == 1
    assert token not in (tmp_path / "run" / "report.json").read_text()


def test_the_check_on_real_films_against_a_protected_zoo(certs, tmp_path, monkeypatch, capsys):
    tokens = tmp_path / "tokens.txt"
    token = new_token(tokens, "researcher")
    settings = ServerSettings.from_env(tls(certs, "gateway") | {"SPINEZOO_TOKENS": str(tokens)})
    data = write_set(tmp_path / "films", names=("a.png",))

    def gateway():
        known = TokenFile.for_server(settings.security, "127.0.0.1")
        return make_gateway(Answering(), settings=settings, tokens=known)

    monkeypatch.chdir(tmp_path)
    with serving(gateway) as target:
        words = ["--data", str(data), "--report", "run", "--gateway", target, "--no-pictures"]
        words += ["--wait-s", "1", "--variants", "plain"]
        assert real_check.main(words) == 2
        assert "does not answer" in capsys.readouterr().err
        for name, value in tls(certs, "client", "SPINEZOO_CLIENT_TLS").items():
            monkeypatch.setenv(name, value)
        assert real_check.main(words) == 2
        assert "SPINEZOO_TOKEN_FILE" in capsys.readouterr().err
        monkeypatch.setenv("SPINEZOO_TOKEN", token)
        assert real_check.main(words) == 0
    report = (tmp_path / "run" / "report.json").read_text()
    assert json.loads(report)["summary"]["plain"]["unet"]["films"] == 1
    assert token not in report
