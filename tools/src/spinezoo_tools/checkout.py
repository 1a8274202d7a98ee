"""What a checkout says of itself: its networks, what each is made of, and ``.env``.

The networks are the folders of ``services/`` that have a ``card.yaml``. No other list of them is
written by hand: `make generate` writes the rest from this one. Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from spinezoo_tools.environments import Room

FRONT = ("gateway", "evaluator")
"""Rooms that are no network but run as well."""

FLAVOURS = {"torch": "torch", "tensorflow": "tensorflow"}
"""Flavour of the image by the framework that a service's pyproject.toml names."""


ENGINE_FLAVOUR = "engine"
"""Flavour of the networks that are served without their framework."""


class ToolError(Exception):
    """Something the user has to know, worded for the user."""


@dataclass(frozen=True)
class Service:
    """One thing that serves: a network, the gateway or the evaluator.

    Attributes:
        name: Its name in composition, roster and variables.
        folder: Its folder below the repository.
        flavour: Of its image on the CPU; see the Dockerfile.
        environment: The environment it serves in, which names the lock of its image.
        version: Of its pyproject.toml; the tag of its image.
        gpu_flavour: Of its image where a GPU is used; gateway and evaluator have the one.
        gpu_environment: The environment of that image.
        gpu_lock: That image's lock.
    """

    name: str
    folder: str
    flavour: str
    environment: str
    version: str
    gpu_flavour: str = ""
    gpu_environment: str = ""
    gpu_lock: str = ""

    @property
    def is_network(self) -> bool:
        """Whether it is a network."""
        return self.name not in FRONT

    @property
    def lock_argument(self) -> str:
        """Its lock as compose's files write it."""
        variable = lock_variable(self.flavour, self.environment)
        return f"${{{variable}:-locks/{self.environment}.lock}}"

    @property
    def gpu_lock_argument(self) -> str:
        """The lock of its image for GPUs, likewise."""
        return f"${{{lock_variable(self.gpu_flavour, self.gpu_environment)}:-{self.gpu_lock}}}"

    @property
    def image(self) -> str:
        """Name and tag of its image where nothing else is said."""
        return f"spinezoo/{self.name}:{self.version}"

    @property
    def gpu_image(self) -> str:
        """Name and tag of its image for GPUs."""
        return f"{self.image}-gpu"

    @property
    def host(self) -> str:
        """Its name in Kubernetes and in certificates, which know no underscore."""
        return self.name.replace("_", "-")


def lock_variable(flavour: str, environment: str) -> str:
    """The variable that replaces the lock of an image; each environment has its own.

    Args:
        flavour: Of the image; see the Dockerfile.
        environment: The service's.
    """
    named = "light" if flavour == "light" else environment
    return f"{named.upper().replace('-', '_')}_LOCK"


def networks_of(root: Path) -> list[str]:
    """Names of the networks of a checkout, sorted."""
    return sorted(card.parent.name for card in root.glob("services/*/card.yaml"))


def services_of(root: Path) -> list[Service]:
    """The networks, sorted, then gateway and evaluator.

    Raises:
        ToolError: A network names no framework that the Dockerfile knows.
        SystemExit: A room names no environment.
    """
    folders = [*(root / "services" / name for name in networks_of(root))]
    folders += [root / name for name in FRONT]
    found = []
    for folder in folders:
        room = Room(folder)
        project = room.project["project"]
        needs = [
            *project["dependencies"],
            *project.get("optional-dependencies", {}).get("framework", []),
        ]
        named = {re.split(r"[^a-z0-9_-]", text.lower())[0] for text in needs}
        flavours = {flavour for framework, flavour in FLAVOURS.items() if framework in named}
        if folder.name in FRONT:
            flavours = {"light"}
        if len(flavours) != 1:
            raise ToolError(
                f"{folder.name}: its pyproject.toml must name one of {', '.join(FLAVOURS)}; "
                "give a new framework a layer in the Dockerfile and a line in FLAVOURS"
            )
        framework = flavours.pop()
        own, serving = room.environment, room.serving_environment
        lock = own.gpu_lock if "gpu" in room.extras else own.lock
        found.append(
            Service(
                name=folder.name,
                folder=folder.relative_to(root).as_posix(),
                flavour=framework if own == serving else ENGINE_FLAVOUR,
                environment=serving.name,
                version=str(project["version"]),
                gpu_flavour=framework,
                gpu_environment=own.name,
                gpu_lock=f"locks/{lock.name}",
            )
        )
    return found


def read_env_file(path: Path) -> dict[str, str]:
    """The ``KEY=VALUE`` lines of a file; comments and blank lines are left out.

    Returns:
        The values without quotes; nothing where there is no such file.

    Raises:
        ToolError: A line is neither.
    """
    values: dict[str, str] = {}
    if not path.exists():
        return values
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        if not equals or not key.strip().isidentifier():
            raise ToolError(f"{path}:{number}: write KEY=VALUE, found {text!r}")
        values[key.strip()] = value.strip().strip("\"'")
    return values
