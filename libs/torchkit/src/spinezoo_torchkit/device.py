"""Which device a network runs on, and with how many threads: one setting each."""

from __future__ import annotations

import torch
from spinezoo_contract.errors import ConfigurationError
from spinezoo_spine.inference.device import device_name, thread_count

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""Precisions that a network can be trained or served in, and their torch type."""


def choose_device(setting: str | None = None) -> torch.device:
    """The device that a setting names; see :func:`spinezoo_spine.inference.device.device_name`.

    Raises:
        ConfigurationError: The setting is unknown, or asks for CUDA where there is none.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return torch.device(device_name(setting, found, "torch"))


def set_threads(setting: int | None = None) -> int:
    """Sets the CPU threads that torch uses within one operation.

    Args:
        setting: Threads; 0 leaves torch's own choice. None takes ``SPINEZOO_THREADS``.

    Returns:
        The threads now in use.

    Raises:
        ConfigurationError: Not a number from 0 up.
    """
    threads = thread_count(setting)
    if threads:
        torch.set_num_threads(threads)
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
