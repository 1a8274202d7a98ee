"""Prometheus itself reads our files, and finds in real processes what alerts and panels ask for.

Needs `promtool` and `prometheus` on the PATH or in the folder SPINEZOO_PROMETHEUS_BIN
(docs/observability.md says where they come from); without them these tests are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml
from kubernetes.test_balancing import unshare
from spinezoo_conformance import films as synthetic
from spinezoo_contract.client import EnsembleClient, EvaluationClient
from spinezoo_contract.errors import BadInputError, QuorumError
from spinezoo_contract.types import EnsembleOptions, Film
from spinezoo_tools.environments import python_of

from observe.test_files import OBSERVE, ROOT, dashboard, expressions

_T = TypeVar("_T")

HERE = Path(__file__).resolve().parent
LIMIT_S = 420.0
"""Every wait ends here, in s: on a busy machine processes take minutes to come up."""


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("SPINEZOO_PROMETHEUS_BIN")) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is neither on the PATH nor in SPINEZOO_PROMETHEUS_BIN")
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *map(str, arguments)],
        capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip


# --------------------------------------------------------------------------------- the files


def test_promtool_accepts_the_configuration_and_the_alerts() -> None:
    done = promtool("check", "config", OBSERVE / "prometheus.yml")
    assert done.returncode == 0, done.stderr
    assert "11 rules found" in done.stdout


def test_promtool_accepts_the_configuration_for_kubernetes(tmp_path: Path) -> None:
    path = OBSERVE / "prometheus-kubernetes.yml"
    done = promtool("check", "config", path)
    if "kubernetes_sd_configs not found" in done.stderr:
        # Debian builds Prometheus without the discovery of Kubernetes: check all the rest.
        config = yaml.safe_load(path.read_text())
        (job,) = config["scrape_configs"]
        assert job.pop("kubernetes_sd_configs") == [
            {"role": "pod", "namespaces": {"names": ["spinezoo"]}}
        ]
        job["static_configs"] = [{"targets": ["127.0.0.1:1"]}]
        rest = tmp_path / "prometheus.yml"
        rest.write_text(yaml.safe_dump(config))
        shutil.copy(OBSERVE / "alerts.yml", tmp_path)
        done = promtool("check", "config", rest)
    assert done.returncode == 0, done.stderr


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    done = promtool("test", "rules", HERE / "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    cases = (HERE / "alerts_test.yml").read_text()
    for rule in yaml.safe_load((OBSERVE / "alerts.yml").read_text())["groups"]:
        for alert in rule["rules"]:
            assert alert["alert"] in cases, f"{alert['alert']} has no case"


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("> 0.05", "> 0.6"),
        ("unless count by (part)", "unless sum without (part)"),
        ('unless spinezoo_failures_total{reason="unexpected"} offset 10m', "unless vector(1)"),
        (">= 0.75", "> 0.75"),
        ("> 0.2\n", "> 0.5\n"),
        ("|5..", ""),
        ('code!~"ok|invalid_argument"', 'code!~"ok"'),
    ],
)
def test_the_alerts_tests_can_fail(was: str, becomes: str, tmp_path: Path) -> None:
    rules = (OBSERVE / "alerts.yml").read_text()
    assert was in rules
    (tmp_path / "alerts.yml").write_text(rules.replace(was, becomes, 1))
    cases = (HERE / "alerts_test.yml").read_text()
    (tmp_path / "cases.yml").write_text(cases.replace("../../deploy/observe/", ""))
    assert promtool("test", "rules", tmp_path / "cases.yml").returncode != 0


def test_every_replica_behind_a_name_is_found_and_named_by_its_service(tmp_path: Path) -> None:
    """The shipped file, unchanged: one replica of each service, three of mask_rcnn."""
    prometheus = program("prometheus")
    (job,) = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())["scrape_configs"]
    services, wanted = [], []
    for number, each in enumerate(job["dns_sd_configs"], start=2):
        (name,), port = each["names"], each["port"]
        count = 3 if name == "mask_rcnn" else 1
        addresses = [f"127.0.{number}.{index}" for index in range(1, count + 1)]
        services.append(f"{name}={','.join(addresses)}:{port}")
        wanted += [[name, f"{address}:{port}"] for address in addresses]
    # What Docker gives its containers, but for the address of its DNS server.
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions ndots:0\n")
    shutil.copy(OBSERVE / "prometheus.yml", tmp_path)
    shutil.copy(OBSERVE / "alerts.yml", tmp_path)
    done = subprocess.run(
        [*unshare(), sys.executable, "-m", "observe.discovery", tmp_path / "resolv.conf",
         prometheus, tmp_path, *services],
        cwd=HERE.parent, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert json.loads(done.stdout.splitlines()[-1]) == sorted(wanted)


# ----------------------------------------------------------------------- a real Prometheus


def wait_for(what: str, look: Callable[[], _T | None]) -> _T:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {LIMIT_S:g} s")


class Running:
    """A process and its log. Each takes a free port by itself (port 0) and says which."""

    def __init__(self, command: list[str], folder: Path, name: str, **more: str) -> None:
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("SPINEZOO_")
        }
        self._name, self._log = name, folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment | more, stdout=log, stderr=subprocess.STDOUT
            )

    def port(self, pattern: str) -> int:
        """The port in the first line of the log that fits."""

        def look() -> str | None:
            log = self._log.read_text(errors="replace")
            assert self._process.poll() is None, f"{self._name} has ended: {log[-3000:]}"
            found = re.search(pattern, log)
            return found[1] if found else None

        return int(wait_for(f"{self._name} listens", look))

    def endpoint(self, endpoint: str) -> int:
        """The port of one of the zoo's endpoints, `grpc` or `http`."""
        return self.port(rf'"endpoint": "{endpoint}", "host": "127.0.0.1", "port": (\d+)')

    def stop(self) -> None:
        """Ends it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Watched:
    """A small zoo of real processes, and the Prometheus that watches it."""

    def __init__(self, gateway_port: int, evaluator_port: int, prometheus_port: int) -> None:
        self.gateway = f"127.0.0.1:{gateway_port}"
        self.evaluator = f"127.0.0.1:{evaluator_port}"
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{prometheus_port}", timeout=10.0)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression; a failure names what Prometheus says of it."""
        answer = self._http.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        assert not answer.get("warnings"), answer
        return answer["data"]["result"]

    def get(self, path: str) -> Any:
        """What the interface of Prometheus answers."""
        return self._http.get(path).raise_for_status().json()["data"]

    def close(self) -> None:
        self._http.close()


def film() -> Film:
    return Film(synthetic.spine_like_pixels(64, 48))


def make_events(watched: Watched) -> None:
    """A film that is answered, one below the quorum, one that is refused."""
    with EnsembleClient(watched.gateway) as client:
        client.segment(film(), EnsembleOptions(quorum=1), timeout_s=30)
        with pytest.raises(QuorumError):
            client.segment(film(), EnsembleOptions(quorum=2), timeout_s=30)
        with pytest.raises(BadInputError):
            client.segment(b"no film", EnsembleOptions(quorum=1), timeout_s=30)
    with EvaluationClient(watched.evaluator) as client, contextlib.suppress(BadInputError):
        client.fuse({}, 8, 8, timeout_s=30)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A member, an absent member, gateway and evaluator; scraped every second."""
    prometheus = program("prometheus")
    for room in ("gateway", "evaluator"):
        if not python_of(ROOT, ROOT / room).exists():
            pytest.skip(f"{room} is not set up: run `make setup`")
    folder = tmp_path_factory.mktemp("watched")
    with contextlib.ExitStack() as stack:

        def start(name: str, command: list[str], **more: str) -> Running:
            process = Running(command, folder, name, **more)
            stack.callback(process.stop)
            return process

        zero = {"SPINEZOO_GRPC_PORT": "0", "SPINEZOO_HTTP_PORT": "0"}
        member = start("member", [sys.executable, str(HERE / "member.py")], **zero)
        # Held, but nobody listens: a member that cannot be reached.
        nobody = stack.enter_context(socket.socket())
        nobody.bind(("127.0.0.1", 0))
        (folder / "roster.yaml").write_text(
            f"members:\n  - {{name: pspnet, target: '127.0.0.1:{member.endpoint('grpc')}'}}\n"
            f"  - {{name: unet, target: '127.0.0.1:{nobody.getsockname()[1]}'}}\n"
        )
        gateway, evaluator = (
            start(
                name,
                [str(python_of(ROOT, ROOT / name)), "-m", f"spinezoo_{name}.serve"],
                **zero,
                SPINEZOO_ROSTER=str(folder / "roster.yaml"),
                SPINEZOO_DRAIN_S="2",
            )
            for name in ("gateway", "evaluator")
        )
        config = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())
        intervals = ("scrape_interval", "scrape_timeout", "evaluation_interval")
        config["global"] = dict.fromkeys(intervals, "1s")
        (job,) = config["scrape_configs"]
        # Names of containers resolve in compose only; everything else stays as it is.
        del job["dns_sd_configs"], job["relabel_configs"]
        job["static_configs"] = [
            {"targets": [f"127.0.0.1:{process.endpoint('http')}"], "labels": {"part": label}}
            for process, label in (
                (member, "pspnet"),
                (gateway, "gateway"),
                (evaluator, "evaluator"),
            )
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(OBSERVE / "alerts.yml", folder)
        watcher = start(
            "prometheus",
            [
                prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                "--web.listen-address=127.0.0.1:0",
            ],
        )  # fmt: skip
        watched = Watched(
            gateway.endpoint("grpc"),
            evaluator.endpoint("grpc"),
            watcher.port(r"Listening on.*:(\d+)"),
        )
        stack.callback(watched.close)

        def all_up() -> bool:
            # Until it has read its own log, Prometheus answers with 503 and a text.
            with contextlib.suppress(httpx.TransportError, json.JSONDecodeError):
                return len(watched.query('up{job="spinezoo"} == 1')) == 3
            return False

        wait_for("three targets are up", all_up)
        yield watched


def as_prometheus_sees_it(expression: str) -> str:
    """A panel's expression with Grafana's variables filled in."""
    return expression.replace("$__rate_interval", "20s").replace("$part", ".*")


def test_every_panel_shows_something(watched: Watched) -> None:
    asked = [
        (panel["title"], as_prometheus_sees_it(target["expr"]))
        for panel in dashboard()["panels"]
        for target in panel.get("targets", [])
    ]
    assert len(asked) > 10
    missing: list[str] = []

    def all_there() -> bool:
        make_events(watched)
        missing[:] = [title for title, expression in asked if not watched.query(expression)]
        return not missing

    try:
        wait_for("every panel has a series", all_there)
    except AssertionError as error:
        raise AssertionError(f"{error}: nothing in {missing}") from None


def test_every_expression_parses_and_its_labels_exist(watched: Watched) -> None:
    """Each selector finds series once its values are left open; so a misspelt label is found."""
    for where, expression in expressions():
        expression = as_prometheus_sees_it(expression)
        watched.query(expression)
        for name, matchers in re.findall(r"\b(spinezoo_\w+|up)(\{[^}]*\})?", expression):
            labels = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", matchers)
            open_ones = ",".join(f'{label}!=""' for label in labels)
            selector = f"{name}{{{open_ones}}}"
            wait_for(
                f"{where}: series of {selector}", lambda selector=selector: watched.query(selector)
            )


def test_prometheus_runs_the_alerts_without_an_error(watched: Watched) -> None:
    make_events(watched)

    def evaluated() -> list[dict[str, Any]]:
        groups = watched.get("/api/v1/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    rules = wait_for("all rules were evaluated", evaluated)
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    # The absent member and the films below the quorum are real.
    wait_for(
        "the quorum alert fires",
        lambda: watched.query('ALERTS{alertname="SpineZooQuorumFailures",alertstate="firing"}'),
    )
