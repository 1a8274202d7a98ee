"""Which device a network runs on, and with how many threads: one setting each, in any framework."""

from __future__ import annotations

import re

from spinezoo_contract.errors import ConfigurationError
from spinezoo_serving.settings import NetworkSettings

DEVICE_VARIABLE = "SPINEZOO_DEVICE"
"""What messages tell to set; :class:`NetworkSettings` reads it."""


def device_name(setting: str | None, found: int, framework: str) -> str:
    """``cpu`` or ``cuda:<index>``, from a setting and what a framework finds.

    Args:
        setting: ``auto`` (CUDA when present, else CPU), ``cpu``, ``cuda`` or ``cuda:<index>``.
            None takes ``SPINEZOO_DEVICE``, or ``auto`` where that is not set.
        found: CUDA devices that the framework finds.
        framework: Its name, for the message.

    Raises:
        ConfigurationError: The setting is none of these, or asks for a device that is not there.
    """
    wanted = (setting or NetworkSettings.from_env().device).strip().lower()
    if wanted == "auto":
        return "cuda:0" if found else "cpu"
    if wanted == "cpu":
        return "cpu"
    match = re.fullmatch(r"cuda(?::(\d+))?", wanted)
    if match is None:
        raise ConfigurationError(
            f"device {wanted!r} is unknown; set {DEVICE_VARIABLE} to auto, cpu, cuda or cuda:1"
        )
    if not found:
        raise ConfigurationError(
            f"device {wanted!r} was asked for, but {framework} finds no CUDA device; set "
            f"{DEVICE_VARIABLE}=cpu, or install {framework} with CUDA and check `nvidia-smi`"
        )
    index = int(match.group(1) or 0)
    if index >= found:
        raise ConfigurationError(
            f"device {wanted!r} was asked for, but {framework} finds {found} CUDA devices; set "
            f"{DEVICE_VARIABLE} to cuda:0 .. cuda:{found - 1}"
        )
    return f"cuda:{index}"


def thread_count(setting: int | None = None) -> int:
    """CPU threads that a framework may use within one operation; 0 leaves it to the framework.

    Args:
        setting: Threads; None takes ``SPINEZOO_THREADS``, or 0 where that is not set.

    Raises:
        ConfigurationError: Not a number from 0 up.
    """
    if setting is None:
        return NetworkSettings.from_env().threads
    if setting < 0:
        raise ConfigurationError(
            f"{setting} threads is not a number from 0 up; take 0 (leave it to the framework) or "
            "the number of cores that this network may use"
        )
    return setting
