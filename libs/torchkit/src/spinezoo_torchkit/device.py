"""Which device a network runs on, and with how many threads: one setting each."""

from __future__ import annotations

import os
import re

import torch
from spinezoo_contract.errors import ConfigurationError

DEVICE_VARIABLE = "SPINEZOO_DEVICE"
"""Environment variable of the device; empty counts as ``auto``."""

THREADS_VARIABLE = "SPINEZOO_THREADS"
"""Environment variable of the CPU threads; 0 or empty leaves the number to torch."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Precisions that a network can be trained or served in, and their torch type."""


def choose_device(setting: str | None = None) -> torch.device:
    """The device that a setting names.

    Args:
        setting: ``auto`` (CUDA when present, else CPU), ``cpu``, ``cuda`` or ``cuda:<index>``.
            None takes ``SPINEZOO_DEVICE``, or ``auto`` where that is not set.

    Raises:
        ConfigurationError: The setting is none of these, or asks for CUDA where there is none.
    """
    wanted = (setting or os.environ.get(DEVICE_VARIABLE) or "auto").strip().lower()
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if wanted == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", wanted)
    if match is None:
        raise ConfigurationError(
            f"device {wanted!r} is unknown; set {DEVICE_VARIABLE} to auto, cpu, cuda or cuda:1"
        )
    if not torch.cuda.is_available():
        raise ConfigurationError(
            f"device {wanted!r} was asked for, but torch finds no CUDA device; set "
            f"{DEVICE_VARIABLE}=cpu, or install a torch build with CUDA and check `nvidia-smi`"
        )
    index = int(match.group(1) or 0)
    if index >= torch.cuda.device_count():
        raise ConfigurationError(
            f"device {wanted!r} was asked for, but there are {torch.cuda.device_count()} CUDA "
            f"devices; set {DEVICE_VARIABLE} to cuda:0 .. cuda:{torch.cuda.device_count() - 1}"
        )
    return torch.device(f"cuda:{index}")


def set_threads(setting: int | None = None) -> int:
    """Sets the CPU threads that torch uses within one operation.

    Args:
        setting: Threads; 0 leaves torch's own choice. None takes ``SPINEZOO_THREADS``.

    Returns:
        The threads now in use.

    Raises:
        ConfigurationError: Not a number from 0 up.
    """
    text = os.environ.get(THREADS_VARIABLE, "").strip() or "0" if setting is None else str(setting)
    if not text.isdecimal():
        raise ConfigurationError(
            f"{text!r} threads is not a number from 0 up; set {THREADS_VARIABLE} to 0 (leave it "
            "to torch) or to the number of cores that this network may use"
        )
    if int(text) > 0:
        torch.set_num_threads(int(text))
    return torch.get_num_threads()


def precision_of(name: str) -> torch.dtype:
    """The torch type of a precision's name.

    Raises:
        ConfigurationError: The name is not in :data:`PRECISIONS`.
    """
    if name not in PRECISIONS:
        raise ConfigurationError(
            f"precision {name!r} is unknown; use one of {', '.join(PRECISIONS)}"
        )
    return PRECISIONS[name]


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The autocast context of a precision: off for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)
