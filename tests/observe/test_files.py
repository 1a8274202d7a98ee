"""Alerts, dashboard and compose file: they name only what exists, and leave nothing out."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from spinezoo_contract import status
from spinezoo_contract.types import MemberCode
from spinezoo_tools.checkout import read_env_file
from spinezoo_tools.environments import python_of

ROOT = Path(__file__).resolve().parents[2]
OBSERVE = ROOT / "deploy/observe"
NETWORKS = sorted(card.parent.name for card in ROOT.glob("services/*/card.yaml"))
PARTS = [*NETWORKS, "gateway", "evaluator"]

PAGE = ROOT / "docs/observability.md"


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((OBSERVE / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return json.loads((OBSERVE / "grafana/dashboards/spinezoo.json").read_text())


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[tuple[str, str]]:
    found = [(rule["alert"], rule["expr"]) for rule in alerts()]
    for panel in panels():
        found += [(panel["title"], target["expr"]) for target in panel["targets"]]
    return found


METRICS = """
import json
from spinezoo_gateway.serve import MemberMetrics
from spinezoo_serving.metrics import ServerMetrics

metrics = ServerMetrics()
MemberMetrics(metrics.registry)
print(json.dumps({each.name: each.type for each in metrics.registry.collect()}))
"""


@functools.cache
def metrics_of_the_code() -> dict[str, str]:
    """Names as they are scraped, with their kinds, of every metric that a process of ours makes."""
    found = subprocess.run(
        [python_of(ROOT, ROOT / "gateway"), "-c", METRICS],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    return {
        f"{name}_total" if kind == "counter" else name: kind
        for name, kind in json.loads(found).items()
    }


def test_the_metrics_of_the_code_are_found() -> None:
    assert metrics_of_the_code() == {
        "spinezoo_requests_total": "counter",
        "spinezoo_failures_total": "counter",
        "spinezoo_stage_seconds": "histogram",
        "spinezoo_queue_length": "gauge",
        "spinezoo_queue_limit": "gauge",
        "spinezoo_member_answers_total": "counter",
        "spinezoo_member_seconds": "histogram",
    }


def test_prometheus_looks_for_every_part_on_its_http_port() -> None:
    (job,) = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())["scrape_configs"]
    env = read_env_file(ROOT / ".env")
    found = {each["names"][0]: each["port"] for each in job["dns_sd_configs"]}
    assert found == {name: int(env[f"SPINEZOO_{name.upper()}_HTTP_PORT"]) for name in PARTS}
    assert {each["type"] for each in job["dns_sd_configs"]} == {"A"}


@pytest.mark.parametrize(("where", "expression"), expressions())
def test_expressions_use_only_metrics_that_exist(where: str, expression: str) -> None:
    names = {
        name if kind != "histogram" else f"{name}{end}"
        for name, kind in metrics_of_the_code().items()
        for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    used = set(re.findall(r"\bspinezoo_[a-z_]+", expression))
    assert used <= names, f"{where} uses {used - names}"
    assert used or re.search(r"\b(up|ALERTS)\{", expression), f"{where} asks for nothing of ours"


def label_values(label: str) -> Iterator[str]:
    for _, expression in expressions():
        for found in re.findall(rf'\b{label}(?:=|!=|=~|!~)"([^"]*)"', expression):
            yield from found.split("|")


def test_expressions_name_only_label_values_that_the_code_writes() -> None:
    reasons = {cls.__name__ for cls in status.CODES} | {"unexpected"}
    assert set(label_values("reason")) <= reasons
    codes = {code.name for code in grpc.StatusCode} | {"ABORTED_BY_METHOD", "5.."}
    codes |= {code.name.lower() for code in MemberCode}
    assert set(label_values("code")) <= codes
    assert set(label_values("part")) <= {*PARTS, "$part"}
    assert {each for each in label_values("stage")} <= {"total", "infer"}
    assert set(label_values("job")) == {"spinezoo"}


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert len(rule["annotations"]["description"]) > 40
        assert rule["annotations"]["summary"]


def test_the_page_explains_every_metric_and_every_alert_and_no_other() -> None:
    page = PAGE.read_text()
    explained = set(re.findall(r"^\| `(spinezoo_[a-z_]+)`", page, re.M))
    assert explained == set(metrics_of_the_code())
    assert set(re.findall(r"^\| `(SpineZoo\w+)`", page, re.M)) == {r["alert"] for r in alerts()}


def test_the_dashboard_is_whole() -> None:
    board = dashboard()
    assert board["uid"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    source = yaml.safe_load(
        (OBSERVE / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"][0]
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
    for panel in panels():
        assert panel["description"], f"{panel['title']} says nothing of what it shows"
        assert panel["datasource"]["uid"] == source["uid"]
        assert [each["refId"] for each in panel["targets"]] == list(
            "ABCDEF"[: len(panel["targets"])]
        )
        assert all(each["datasource"]["uid"] == source["uid"] for each in panel["targets"])
    variables = {each["name"] for each in board["templating"]["list"]}
    asked = set(re.findall(r"\$(?!__)(\w+)", json.dumps(board["panels"])))
    assert asked == variables


def test_the_compose_file_mounts_what_is_there_and_opens_nothing_to_the_network() -> None:
    compose = yaml.safe_load((ROOT / "compose.observe.yaml").read_text())
    assert sorted(compose["services"]) == ["grafana", "prometheus"]
    mounted = {}
    for each in compose["services"].values():
        image, tag = each["image"].rsplit(":", 1)
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), f"{image} has no fixed version"
        assert each["read_only"] is True
        assert each["cap_drop"] == ["ALL"]
        assert each["mem_limit"]
        for port in each["ports"]:
            assert port.startswith("127.0.0.1:")
        for volume in each["volumes"]:
            source, target, *mode = volume.split(":")
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert mode == ["ro"]
                mounted[target] = source
            else:
                assert source in compose["volumes"]
        for network in each["networks"]:
            # The other two are compose.yaml's.
            assert network in {"front", "members", *compose["networks"]}
    flags = compose["services"]["prometheus"]["command"]
    config = next(each.split("=")[1] for each in flags if each.startswith("--config.file="))
    assert mounted[config] == "./deploy/observe/prometheus.yml"
    for rules in yaml.safe_load((OBSERVE / "prometheus.yml").read_text())["rule_files"]:
        assert str(Path(config).parent / rules) in mounted
    provider = yaml.safe_load(
        (OBSERVE / "grafana/provisioning/dashboards/spinezoo.yml").read_text()
    )["providers"][0]
    assert mounted[provider["options"]["path"]] == "./deploy/observe/grafana/dashboards"
    source = yaml.safe_load(
        (OBSERVE / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"][0]
    assert source["url"] == "http://prometheus:9090"


@pytest.mark.parametrize("others", [["compose.yaml"], ["compose.yaml", "compose.gpu.yaml"]])
def test_compose_accepts_the_files_together(others: list[str]) -> None:
    if shutil.which("docker-compose"):
        command = ["docker-compose"]
    elif (
        shutil.which("docker")
        and not subprocess.run(
            ["docker", "compose", "version"], capture_output=True, timeout=60
        ).returncode
    ):
        command = ["docker", "compose"]
    else:
        pytest.skip("neither docker-compose nor docker compose is there")
    if not all((ROOT / name).exists() for name in others):
        pytest.skip(f"there is no {' or '.join(others)} yet")
    for name in (*others, "compose.observe.yaml"):
        command += ["-f", str(ROOT / name)]
    environment = {key: value for key, value in os.environ.items() if "SPINEZOO" not in key}
    refused = subprocess.run(
        [*command, "config"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert refused.returncode != 0
    assert "SPINEZOO_GRAFANA_PASSWORD" in refused.stderr
    environment["SPINEZOO_GRAFANA_PASSWORD"] = "one-of-the-tests"
    done = subprocess.run(
        [*command, "config"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    whole = yaml.safe_load(done.stdout)
    assert {*PARTS, "prometheus", "grafana"} <= set(whole["services"])


def test_compose_has_the_networks_and_services_that_are_scraped() -> None:
    path = ROOT / "compose.yaml"
    if not path.exists():
        pytest.skip("there is no compose.yaml yet: nothing to hold this against")
    compose = yaml.safe_load(path.read_text())
    assert {"front", "members"} <= set(compose["networks"])
    assert set(PARTS) <= set(compose["services"])
    reached = {"front", "members"}
    for name in PARTS:
        assert reached & set(compose["services"][name]["networks"]), f"{name} cannot be scraped"
