"""Settings of a serving process, read once from the environment."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import Field, field_validator
from spinezoo_contract.limits import (
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_MAX_PIXELS,
    IMAGE_TAG,
)

from spinezoo_serving.security import ServerSecurity
from spinezoo_serving.variables import EnvironmentSettings, LowerCase, setting

MIN_MAX_MESSAGE_BYTES = 1 << 20
"""Least message limit, 1 MiB: below it not even a small film passes."""

MAX_MAX_MESSAGE_BYTES = (1 << 31) - 1
"""Greatest message limit that gRPC can hold."""

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?")
_HOST_NAME = re.compile(r"([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.|$))+")
_NUMBERS = re.compile(r"[0-9.]+")
_ENGINE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class ServerSettings(EnvironmentSettings):
    """Servers: every process that serves."""

    host: str = setting(
        "127.0.0.1",
        "address to bind",
        allowed="an address of version 4 or 6 of this machine, or a name that stands for one",
    )
    grpc_port: int = setting(0, "port of the gRPC endpoint; 0 takes a free one", maximum=65535)
    http_port: int = setting(0, "port of the HTTP endpoint; 0 takes a free one", maximum=65535)
    max_message_bytes: int = setting(
        DEFAULT_MAX_MESSAGE_BYTES,
        "gRPC message limit, both ways, every hop",
        minimum=MIN_MAX_MESSAGE_BYTES,
        maximum=MAX_MAX_MESSAGE_BYTES,
        unit="bytes",
    )
    queue_limit: int = setting(
        16,
        "requests that may be in a network beyond one for each of its threads: those that wait, "
        "and films of a batch that runs; twice `SPINEZOO_BATCH` lets a batch fill while another "
        "one runs",
        minimum=1,
        maximum=100_000,
    )
    batch: int = setting(
        1,
        "most films that a network is given at once, for GPUs; 1: one by one",
        minimum=1,
        maximum=256,
    )
    batch_wait_ms: float = setting(
        5.0,
        "longest that a film waits for others which are being read, to go in with them",
        maximum=10_000.0,
        unit="ms",
    )
    drain_s: float = setting(
        20.0, "time for requests in flight after SIGTERM", maximum=3600.0, unit="s"
    )
    max_pixels: int = setting(
        DEFAULT_MAX_PIXELS, "most pixels of a film", minimum=256, maximum=400_000_000
    )
    image: str = setting(
        "",
        "tag of the container's image, for the provenance of every answer; the image sets it",
        allowed="the image's tag, such as spinezoo/pspnet:0.1.0: at most 255 printable ASCII "
        "characters without spaces",
    )
    security: ServerSecurity = Field(default_factory=ServerSecurity)

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        bare = host.removeprefix("[").removesuffix("]")
        if not is_host(bare):
            raise ValueError
        return bare

    @field_validator("image")
    @classmethod
    def _is_tag(cls, image: str) -> str:
        if not IMAGE_TAG.fullmatch(image):
            raise ValueError
        return image


def is_host(text: str) -> bool:
    """Whether a text can be an address of version 4 or 6, or a host's name.

    A name is of parts of 1 to 63 letters, digits, dashes or underscores, 253 characters at most;
    one of digits and dots alone can only be meant for an address.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        name = len(text) <= 253 and _HOST_NAME.fullmatch(text) is not None
        return name and not _NUMBERS.fullmatch(text)
    return True


def host_port(host: str, port: int) -> str:
    """An address as gRPC and browsers write it: an IPv6 one in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class NetworkSettings(EnvironmentSettings):
    """Networks: what a member's framework is told."""

    device: Annotated[str, LowerCase] = setting(
        "auto",
        "device of the network; auto takes CUDA where there is some",
        allowed="auto, cpu, cuda or cuda:<number>",
    )
    engine: str = setting(
        "auto",
        "what runs the network; auto takes the card's, else openvino on a CPU and the network's "
        "framework on a GPU",
        allowed="auto, openvino, onnxruntime, the network's framework (torch or tensorflow), or "
        "the import path of a module with open_engine",
    )
    precision: Annotated[str, LowerCase] = setting(
        "auto",
        "what openvino computes in; auto takes what the card names (int8) or bfloat16, where the "
        "processor has it; float32 gives the same pixels on every machine",
        allowed="auto, float32, bfloat16 or int8",
    )
    threads: int = setting(
        0, "CPU threads of a network; 0 lets it use all processors", maximum=1024
    )
    preset: str = setting("", "preset to serve", shown_default="the card's")

    @field_validator("device")
    @classmethod
    def _is_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise ValueError
        return device

    @field_validator("engine")
    @classmethod
    def _is_engine(cls, engine: str) -> str:
        if not _ENGINE.fullmatch(engine):
            raise ValueError
        return engine

    @field_validator("precision")
    @classmethod
    def _is_precision(cls, precision: str) -> str:
        if precision not in ("auto", "float32", "bfloat16", "int8"):
            raise ValueError
        return precision
