"""Settings of a serving process, read once from the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.limits import IMAGE_TAG

from spinezoo_serving.security import ServerSecurity

MIN_MAX_MESSAGE_BYTES = 1 << 20
"""Least message limit, 1 MiB: below it not even a small film passes."""

MAX_MAX_MESSAGE_BYTES = (1 << 31) - 1
"""Greatest message limit that gRPC can hold."""


def integer_setting(
    environment: Mapping[str, str], variable: str, default: int, minimum: int, maximum: int
) -> int:
    """An integer from the environment; unset or empty takes the default.

    Raises:
        ConfigurationError: Not an integer of the range; the message names the variable.
    """
    text = environment.get(variable, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not minimum <= value <= maximum:
        raise ConfigurationError(
            f"{variable} is {text!r}; set an integer from {minimum} to {maximum}, or unset it "
            f"for {default}"
        )
    return value


def number_setting(
    environment: Mapping[str, str], variable: str, default: float, minimum: float, maximum: float
) -> float:
    """A number from the environment; unset or empty takes the default.

    Raises:
        ConfigurationError: Not a number of the range; the message names the variable.
    """
    text = environment.get(variable, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not minimum <= value <= maximum:
        raise ConfigurationError(
            f"{variable} is {text!r}; set a number from {minimum} to {maximum}, or unset it "
            f"for {default}"
        )
    return value


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What every serving process needs to know; the table stands in ``docs/architecture.md``.

    Attributes:
        host: Address to bind.
        grpc_port: Port of the gRPC endpoint; 0 takes a free one.
        http_port: Port of the HTTP endpoint; 0 takes a free one.
        max_message_bytes: gRPC message limit, both ways.
        queue_limit: Requests that may wait.
        drain_seconds: Time for requests in flight after SIGTERM, in s.
        device: Device of the network: ``auto``, ``cpu``, ``cuda`` or ``cuda:<n>``.
        threads: CPU threads that a network may use; 0 leaves it to the framework.
        preset: Preset to serve; None takes the card's.
        max_pixels: Most pixels of a film.
        image: Tag of the container's image, for the provenance; empty outside a container.
        security: TLS and tokens.
    """

    host: str = "127.0.0.1"
    grpc_port: int = 0
    http_port: int = 0
    max_message_bytes: int = 67_108_864
    queue_limit: int = 16
    drain_seconds: float = 20.0
    device: str = "auto"
    threads: int = 0
    preset: str | None = None
    max_pixels: int = 67_108_864
    image: str = ""
    security: ServerSecurity = field(default_factory=ServerSecurity)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> ServerSettings:
        """Settings from environment variables; unset or empty takes the default.

        Args:
            environment: Where to look; None looks at the process's own.

        Raises:
            ConfigurationError: A value is wrong; the message names the variable.
        """
        env = os.environ if environment is None else environment
        default = cls()
        device = env.get("SPINEZOO_DEVICE", "").strip().lower() or default.device
        kind, _, number = device.partition(":")
        if device not in ("auto", "cpu", "cuda") and not (kind == "cuda" and number.isdigit()):
            raise ConfigurationError(
                f"SPINEZOO_DEVICE is {device!r}; set auto, cpu, cuda or cuda:<number>"
            )
        image = env.get("SPINEZOO_IMAGE", "").strip()
        if not IMAGE_TAG.fullmatch(image):
            raise ConfigurationError(
                f"SPINEZOO_IMAGE is {image[:300]!r}; set the image's tag, such as "
                "spinezoo/pspnet:0.1.0: at most 255 printable ASCII characters without spaces, "
                "or unset it"
            )
        return cls(
            host=env.get("SPINEZOO_HOST", "").strip() or default.host,
            grpc_port=integer_setting(env, "SPINEZOO_GRPC_PORT", 0, 0, 65535),
            http_port=integer_setting(env, "SPINEZOO_HTTP_PORT", 0, 0, 65535),
            max_message_bytes=integer_setting(
                env,
                "SPINEZOO_MAX_MESSAGE_BYTES",
                default.max_message_bytes,
                MIN_MAX_MESSAGE_BYTES,
                MAX_MAX_MESSAGE_BYTES,
            ),
            queue_limit=integer_setting(
                env, "SPINEZOO_QUEUE_LIMIT", default.queue_limit, 1, 100_000
            ),
            drain_seconds=number_setting(
                env, "SPINEZOO_DRAIN_SECONDS", default.drain_seconds, 0.0, 3600.0
            ),
            device=device,
            threads=integer_setting(env, "SPINEZOO_THREADS", 0, 0, 1024),
            preset=env.get("SPINEZOO_PRESET", "").strip() or None,
            max_pixels=integer_setting(
                env, "SPINEZOO_MAX_PIXELS", default.max_pixels, 256, 400_000_000
            ),
            image=image,
            security=ServerSecurity.from_env(env),
        )
