"""Every setting of SpineZoo as a table: ``python -m spinezoo_tools.variables``.

The settings of processes stand in their models (``spinezoo_serving.variables``), which the core
environment reads. Here stand those that only the Makefile's commands, images and compositions read.
The tools run before anything is installed, so this is standard library only.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from spinezoo_tools.environments import ROOT, python_of
from spinezoo_tools.output import end_with_reader

MODULES = (
    "spinezoo_serving.settings",
    "spinezoo_serving.security",
    "spinezoo_spine.films.limits",
    "spinezoo_gateway.settings",
    "spinezoo_evaluator.settings",
)
"""Modules that define settings of processes."""


class Variable(NamedTuple):
    """One variable.

    Attributes:
        name: Its name; ``<NAME>`` stands for a service in capital letters.
        default: Its value where it is unset or empty.
        allowed: What may be set.
        meaning: What it is.
    """

    name: str
    default: str
    allowed: str
    meaning: str

    def of(self, environment: Mapping[str, str] = os.environ) -> str:
        """Its value, or the default."""
        return environment.get(self.name, "").strip() or self.default


RUN_DIR = Variable("SPINEZOO_RUN_DIR", "run", "a folder", "where `make up` keeps ids and logs")
TLS_DIR = Variable(
    "SPINEZOO_TLS_DIR",
    "certs",
    "a folder",
    "`ca.crt` and `<name>.crt`, `<name>.key` for each process of `make up`; not used where "
    "SPINEZOO_TLS_CERT is set",
)
FAULTS_PORT = Variable(
    "SPINEZOO_FAULTS_EVALUATOR_PORT",
    "50061",
    "a port",
    "`make faults`: port of its evaluator on this machine",
)
LIBFAKETIME = Variable(
    "SPINEZOO_LIBFAKETIME", "", "a file", "`make faults`: libfaketime; found where Debian puts it"
)
DOCKER = Variable("SPINEZOO_DOCKER", "", "a program", "docker client; found on the path")
CA_BUNDLE = Variable(
    "SPINEZOO_CA_BUNDLE",
    "",
    "a PEM file",
    "certificate authorities of a build, as a secret; else SSL_CERT_FILE, PIP_CERT or "
    "REQUESTS_CA_BUNDLE",
)
INDEX_URL = Variable(
    "SPINEZOO_INDEX_URL",
    "",
    "an address",
    "package index of a build, as a secret; else UV_DEFAULT_INDEX, UV_INDEX_URL or PIP_INDEX_URL",
)
PUBLISH_HOST = Variable(
    "SPINEZOO_PUBLISH_HOST",
    "127.0.0.1",
    "an address",
    "where the gateway's ports are published: gRPC, and HTTP with the page",
)
REQUIRE_DOCKER = Variable(
    "SPINEZOO_REQUIRE_DOCKER", "0", "1", "containers' tests fail without an engine, not skip"
)
TEST_GPU_IMAGES = Variable(
    "SPINEZOO_TEST_GPU_IMAGES",
    "",
    "names of networks",
    "the containers' tests try their images for GPUs, which have to be built",
)

TOOLS = (
    Variable(
        "SPINEZOO_<NAME>_GRPC_PORT, SPINEZOO_<NAME>_HTTP_PORT",
        "of `.env`",
        "ports",
        "the two ports that `make up` and the composition give a process",
    ),
    Variable(
        "SPINEZOO_<NAME>_TARGET",
        "",
        "host:port",
        "gRPC target of each process, for the command that `make benchmark` runs beside the zoo, "
        "which sets it",
    ),
    RUN_DIR,
    TLS_DIR,
    FAULTS_PORT,
    LIBFAKETIME,
)
"""What the Makefile's commands read."""

CONTAINERS = (
    Variable(
        "SPINEZOO_<NAME>_IMAGE",
        "spinezoo/<name>:<version>",
        "a tag",
        "image of a service, gateway or evaluator: what is built and what is started",
    ),
    Variable(
        "SPINEZOO_VERSION",
        "of each service",
        "a version",
        "label of images that compose builds",
    ),
    PUBLISH_HOST,
    Variable(
        "SPINEZOO_NETWORK_MEMORY, SPINEZOO_GATEWAY_MEMORY, SPINEZOO_EVALUATOR_MEMORY",
        "3g, 2g, 2g",
        "a size",
        "memory limit of each container",
    ),
    Variable(
        "SPINEZOO_<NAME>_GPU_IMAGE",
        "spinezoo/<name>:<version>-gpu",
        "a tag",
        "`compose.gpu.yaml`: image of a network with its framework and CUDA",
    ),
    Variable("SPINEZOO_<NAME>_GPU", "0", "an index", "`compose.gpu.yaml`: GPU of a network"),
    Variable(
        "SPINEZOO_GPU_MEMORY_SHARE",
        "0.2",
        "0 to 1",
        "`compose.gpu.yaml`: share of its memory that a torch network may take",
    ),
    Variable(
        "SPINEZOO_COMPOSE_TLS_DIR",
        "./certs/compose",
        "a folder",
        "`compose.tls.yaml`: a certificate folder per container",
    ),
    Variable(
        "SPINEZOO_COMPOSE_GATEWAY_TLS",
        "server",
        "off, server or mutual",
        "`compose.tls.yaml`: SPINEZOO_TLS of the gateway",
    ),
    Variable(
        "SPINEZOO_COMPOSE_TOKENS",
        "",
        "a file",
        "`compose.tls.yaml`: the gateway's SPINEZOO_TOKENS",
    ),
    DOCKER,
    CA_BUNDLE,
    INDEX_URL,
    Variable(
        "BASE_IMAGE, TORCH_INDEX, LIGHT_LOCK, <ENVIRONMENT>_LOCK",
        "of the `Dockerfile`",
        "build arguments",
        "base image; index of torch; lock of gateway and evaluator, and of the networks of an "
        "environment, such as TORCH_LOCK",
    ),
    Variable("SPINEZOO_PROMETHEUS_PORT", "9090", "a port", "`compose.observe.yaml`: Prometheus"),
    Variable("SPINEZOO_GRAFANA_PORT", "3000", "a port", "`compose.observe.yaml`: Grafana"),
    Variable(
        "SPINEZOO_GRAFANA_PASSWORD", "", "a password", "`compose.observe.yaml`: yours, needed"
    ),
    Variable(
        "SPINEZOO_PACS_IMAGE, SPINEZOO_ORTHANC_IMAGE",
        "spinezoo/pacs:<version>, spinezoo/orthanc:<version>",
        "a tag",
        "`compose.pacs.yaml`: images of the DICOM node and of the Orthanc for trying it",
    ),
    Variable(
        "SPINEZOO_PACS_PORT, SPINEZOO_PACS_HTTP_PORT, SPINEZOO_ORTHANC_HTTP_PORT",
        "11112, 8070, 8042",
        "a port",
        "`compose.pacs.yaml`: DICOM and HTTP of the node, Orthanc's page",
    ),
    Variable(
        "SPINEZOO_PACS_PUBLISH_HOST",
        "127.0.0.1",
        "an address",
        "`compose.pacs.yaml`: where the node's DICOM port is open; the PACS has to reach it",
    ),
    Variable(
        "SPINEZOO_PACS_SETTINGS",
        "./deploy/pacs",
        "a folder",
        "`compose.pacs.yaml`: of `node.yaml`, key and certificates; /etc/spinezoo inside",
    ),
    Variable("SPINEZOO_PACS_MEMORY", "2g", "a size", "`compose.pacs.yaml`: limit of the node"),
    Variable(
        "SPINEZOO_ORTHANC_PASSWORD", "", "a password", "`compose.pacs.yaml`: yours, for Orthanc"
    ),
    Variable(
        "DEBIAN_IMAGE", "debian:bookworm-slim", "a tag", "`compose.pacs.yaml`: base of Orthanc"
    ),
    REQUIRE_DOCKER,
    TEST_GPU_IMAGES,
    Variable("SPINEZOO_PROMETHEUS_BIN", "", "a folder", "tests: where `promtool` is"),
)
"""What images, compositions and their tests read."""


HEAD = """<!-- Written by `make generate` from the models of the settings; change those. -->
# Settings

A variable of the environment wins over its line in `.env`, where yours may stand for good; shipped
are the ports alone. An empty one counts as unset. A process refuses a value that is not allowed and
names the variable. Seconds end in `_S`.
"""


@functools.cache
def _read(python: str, *modules: str) -> Mapping[str, Sequence[Variable]]:
    """The settings that modules define, by who reads them."""
    said = subprocess.run(
        [python, "-m", "spinezoo_serving.variables", *modules],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return {who: [Variable(*row) for row in rows] for who, rows in json.loads(said).items()}


def processes() -> Mapping[str, Sequence[Variable]]:
    """The settings of processes, by who reads them."""
    return _read(str(python_of(ROOT, ROOT / "gateway")), *MODULES)


ONE_PROCESS = frozenset(
    f"SPINEZOO_{name}"
    for name in ("HOST", "GRPC_PORT", "HTTP_PORT", "IMAGE", "PRESET", "ROSTER", "DECODER_IMPORT")
)
"""Settings that differ from process to process, or name what is in an image: compositions and
manifests set them by part, or not at all."""


def shared(*readers: str) -> tuple[str, ...]:
    """Names of the settings that every process of these readers may be given alike."""
    rows = [one for reader in readers for one in processes()[reader]]
    return tuple(row.name for row in rows if "<" not in row.name and row.name not in ONE_PROCESS)


def default_of(name: str, python: str = "", *modules: str) -> str:
    """Default of a setting of a process, as text.

    Args:
        name: The variable.
        python: Interpreter that reads the modules; empty takes the gateway's and all modules.
        modules: Such as ``spinezoo_serving.settings``.

    Raises:
        subprocess.CalledProcessError: That interpreter has no such modules.
    """
    kinds = _read(python, *modules) if python else processes()
    return next(one.default for rows in kinds.values() for one in rows if one.name == name)


def reference(name: str) -> str:
    """A variable of :data:`CONTAINERS` as compositions refer to it, with its default."""
    defaults = {
        each: default
        for one in CONTAINERS
        for each, default in zip(one.name.split(", "), one.default.split(", "), strict=False)
    }
    return f"${{{name}:-{defaults[name]}}}"


def names() -> frozenset[str]:
    """Names of all settings."""
    groups = [*processes().values(), TOOLS, CONTAINERS]
    return frozenset(name for rows in groups for one in rows for name in one.name.split(", "))


def _escaped(cell: str) -> str:
    """A cell whose ``<`` is none of HTML's; between backticks it is plain already."""
    parts = cell.split("`")
    parts[::2] = [part.replace("<", "\\<") for part in parts[::2]]
    return "`".join(parts)


def markdown() -> str:
    """The table, a section for each reader."""
    sections = {
        **processes(),
        "Commands of the Makefile": TOOLS,
        "Images and compositions": CONTAINERS,
    }
    lines = [HEAD]
    for reader, variables in sections.items():
        lines += [f"## {reader}", "", "| variable | default | what may be set | what it is |"]
        lines += ["|---|---|---|---|"]
        for one in variables:
            names = ", ".join(f"`{name}`" for name in one.name.split(", "))
            default = f"`{one.default}`" if one.default and " " not in one.default else one.default
            cells = (names, default, one.allowed, one.meaning)
            lines.append(f"| {' | '.join(map(_escaped, cells))} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    end_with_reader()
    print(markdown(), end="")
