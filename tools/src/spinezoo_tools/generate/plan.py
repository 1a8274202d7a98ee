"""What all files are made from: the services, their ports and the settings of ``.env``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spinezoo_tools.checkout import FRONT, Service, read_env_file, services_of
from spinezoo_tools.variables import default_of, shared
from spinezoo_tools.zoo import Zoo, ZooError

PREFIX = "spinezoo"
"""First part of the image names, and of the names of Secrets and ConfigMaps."""


@dataclass(frozen=True)
class Part:
    """One service with its two ports."""

    service: Service
    grpc_port: int
    http_port: int

    @property
    def name(self) -> str:
        """Its name."""
        return self.service.name

    @property
    def version(self) -> str:
        """Of its pyproject.toml; the tag of its image."""
        return self.service.version

    @property
    def is_member(self) -> bool:
        """Whether it is a network."""
        return self.name not in FRONT

    @property
    def host(self) -> str:
        """Its name in Kubernetes and in DNS, which know no underscore."""
        return self.name.replace("_", "-")

    @property
    def component(self) -> str:
        """``member``, ``gateway`` or ``evaluator``."""
        return "member" if self.is_member else self.name

    @property
    def selector(self) -> dict[str, str]:
        """The labels that pick its pods."""
        return {"app.kubernetes.io/name": self.name, "app.kubernetes.io/part-of": PREFIX}

    @property
    def labels(self) -> dict[str, str]:
        """All labels."""
        return {
            **self.selector,
            "app.kubernetes.io/component": self.component,
            "app.kubernetes.io/version": self.version,
        }

    @property
    def image(self) -> str:
        """Its image; a registry is put before it by kustomize."""
        return self.service.image

    @property
    def tls_secret(self) -> str:
        """Secret with tls.crt, tls.key and ca.crt."""
        return f"{PREFIX}-{self.host}-tls"


class Plan:
    """Everything that the files are made from."""

    def __init__(self, root: Path) -> None:
        """Reads services and ``.env`` below a checkout.

        Raises:
            ToolError: There is no network, ``.env`` is wrong, or a service names no framework.
        """
        zoo = Zoo(root, environment={})
        if not zoo.networks:
            raise ZooError(f"no network found: no card.yaml under {root / 'services'}/*/")
        ports = zoo.ports()
        self.parts = [Part(each, *ports[each.name]) for each in services_of(root)]
        self.env = (root / ".env").read_text(encoding="utf-8")
        # The other lines are ports, or for compose.yaml only.
        read = shared("Servers", "Decoding films", "Networks", "Gateway")
        self.settings = {
            key: value for key, value in read_env_file(root / ".env").items() if key in read
        }

    @property
    def members(self) -> list[Part]:
        """The networks."""
        return [part for part in self.parts if part.is_member]

    def part(self, name: str) -> Part:
        """One part by its name."""
        return next(part for part in self.parts if part.name == name)

    def number(self, key: str) -> float:
        """A number of ``.env``, else the setting's default."""
        return float(self.settings.get(key) or default_of(key))
