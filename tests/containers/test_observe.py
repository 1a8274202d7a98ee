"""compose.observe.yaml beside the composition: its Prometheus finds and scrapes every part.

The image that the file names cannot be pulled everywhere, so Debian's Prometheus stands in for it,
in an image with the same user and volume. Everything else is as the file says.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from spinezoo_tools import engine, images
from spinezoo_tools.checkout import FRONT
from spinezoo_tools.composition import NETWORKS, Composition, docker, inspect, wait_for

IMAGE = "spinezootest/prometheus:stand-in"
PACKAGES = ("prometheus", "busybox")
DOWNLOAD_LIMIT_S = 180.0

OVERLAY = f"""\
services:
  prometheus:
    image: {IMAGE}
"""

DOCKERFILE = """\
FROM {base}
USER 0
COPY prometheus busybox /bin/
RUN ln -s /bin/busybox /bin/wget && mkdir -p /prometheus && chown 65534:65534 /prometheus
USER 65534
WORKDIR /prometheus
ENTRYPOINT ["/bin/prometheus"]
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of Debian's Prometheus; nothing is installed on this machine."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip("Prometheus' image cannot be pulled for a test, and this is no Debian")
    folder = tmp_path_factory.mktemp("prometheus")
    folder.chmod(0o755)
    done = subprocess.run(
        ["apt-get", "download", *PACKAGES], cwd=folder, capture_output=True, text=True,
        timeout=DOWNLOAD_LIMIT_S,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"Debian's packages cannot be had: {done.stderr[-300:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True, timeout=60.0)
    context = folder / "context"
    context.mkdir()
    shutil.copy(folder / "root/usr/bin/prometheus", context)
    shutil.copy(folder / "root/bin/busybox", context)
    base = next(part.image for part in images.parts() if part.name == "gateway")
    (context / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    subprocess.run(
        [engine.docker(), "build", "--quiet", "--tag", IMAGE, str(context)],
        env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=True, capture_output=True, timeout=300.0,
    )  # fmt: skip
    yield IMAGE
    docker("rmi", "--force", IMAGE, check=False)


@pytest.fixture
def observed(composition: Composition, stand_in: str, tmp_path: Path) -> Iterator[Composition]:
    """The shared composition with Prometheus beside it."""
    overlay = tmp_path / "stand-in.yaml"
    overlay.write_text(OVERLAY)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = {
        "COMPOSE_FILE": f"compose.yaml:compose.observe.yaml:{overlay}",
        "SPINEZOO_GRAFANA_PASSWORD": "one-of-the-tests",
        "SPINEZOO_PROMETHEUS_PORT": str(port),
    }
    observed = replace(composition, environment={**composition.environment, **more})
    try:
        observed.compose("up", "-d", "--no-deps", "--no-build", "prometheus")
        yield observed
    finally:
        observed.compose("rm", "--stop", "--force", "-v", "prometheus", check=False)
        docker("network", "rm", f"{observed.project}_observe", check=False)
        # Compose makes all volumes of its files, Grafana's too.
        for name in ("prometheus-data", "grafana-data"):
            docker("volume", "rm", f"{observed.project}_{name}", check=False)


def test_prometheus_scrapes_every_part(observed: Composition) -> None:
    observed.wait_healthy("prometheus")
    address = f"http://127.0.0.1:{observed.environment['SPINEZOO_PROMETHEUS_PORT']}"

    def scraped() -> list[str] | None:
        answer = httpx.get(f"{address}/api/v1/query", params={"query": "up == 1"}, timeout=10.0)
        parts = sorted(each["metric"]["part"] for each in answer.json()["data"]["result"])
        return parts if len(parts) >= len((*NETWORKS, *FRONT)) else None

    assert wait_for("a scrape of every part", scraped, 120.0) == sorted((*NETWORKS, *FRONT))
    rules = httpx.get(f"{address}/api/v1/rules", timeout=10.0).json()["data"]["groups"]
    assert sum(len(group["rules"]) for group in rules) == 11
    host = inspect(observed.containers("prometheus")[0])["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
