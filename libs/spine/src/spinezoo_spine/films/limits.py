"""Limits of reading films: what is refused by size, and what a decoder may use."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from pydantic import field_validator
from spinezoo_contract.errors import FilmError, TooLargeError
from spinezoo_contract.limits import (
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_MAX_PIXELS,
    MAX_SIDE_PX,
    MIN_SIDE_PX,
)
from spinezoo_contract.words import counted
from spinezoo_serving.variables import EnvironmentSettings, setting

TO_ONE_GREY = "convert it to one grey channel of 8 or 16 bits"

MAX_CLIPPED_SHARE = 0.9
"""A window or look-up table is not used where it leaves more than this share of the film black or
white. Only pixels between the film's darkest and brightest level count."""

MAX_CHANNEL_DIFFERENCE = 2 / 255
"""Channels that differ by no more than this share of the full range are one grey channel: what
JPEG makes of equal channels."""


@dataclass(frozen=True, slots=True)
class FilmLimits:
    """What is refused before it is decoded.

    Attributes:
        max_pixels: Most pixels (rows times columns).
        max_bytes: Most bytes of the file.
        max_raw_bytes: Most bytes of the decoded pixels; None sets no limit. A gateway sends them
            on, and a message has a limit.
    """

    max_pixels: int = DEFAULT_MAX_PIXELS
    max_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    max_raw_bytes: int | None = None


DEFAULT_LIMITS = FilmLimits()
"""The limits where none are given."""


PATIENCE = 4
"""How many times its time a decoder may take on a machine that is too busy to let it work."""


def _by_commas(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


class DecoderLimits(EnvironmentSettings):
    """Decoding films: what a film may use, and how many processes decode.

    A megapixel is 1,000,000 pixels of the size that the film's header states.
    """

    decoder_s: float = setting(
        4.0, "time that decoding any film has", minimum=0.1, maximum=600.0, unit="s"
    )
    decoder_per_megapixel_s: float = setting(
        0.5, "further time for each megapixel of a film", maximum=60.0, unit="s"
    )
    decoder_mib: int = setting(
        256, "memory that decoding any film may take", minimum=64, maximum=65536, unit="MiB"
    )
    decoder_bytes_per_pixel: int = setting(
        10, "further memory for each pixel of a film", minimum=8, maximum=256, unit="bytes"
    )
    decoder_processes: int = setting(
        4,
        "most decoding processes of one process that reads films; each starts when it is needed",
        minimum=1,
        maximum=64,
    )
    decoder_import: str = setting(
        "",
        "modules that decoding processes import: further decoders of pydicom",
        allowed="names of modules that are installed, by commas",
    )

    @field_validator("decoder_import")
    @classmethod
    def _are_there(cls, names: str) -> str:
        for name in _by_commas(names):
            try:
                found = importlib.util.find_spec(name)
            except (ImportError, AttributeError, ValueError):
                found = None
            if found is None:
                raise ValueError
        return names

    @property
    def imports(self) -> tuple[str, ...]:
        """Modules that each decoding process imports at its start."""
        return _by_commas(self.decoder_import)

    def time_s(self, pixels: int) -> float:
        """Time for a film of so many pixels, in s."""
        return self.decoder_s + self.decoder_per_megapixel_s * pixels / 1e6

    def memory_for(self, pixels: int) -> int:
        """Memory for a film of so many pixels, in bytes."""
        return (self.decoder_mib << 20) + self.decoder_bytes_per_pixel * pixels


def check_size(height: int, width: int, limits: FilmLimits) -> None:
    """Refuses a film by the size that its header states.

    Raises:
        TooLargeError: More pixels than allowed, or a side above :data:`MAX_SIDE_PX`.
        FilmError: A side below :data:`MIN_SIDE_PX`.
    """
    if height * width > limits.max_pixels:
        raise TooLargeError(
            f"film is {height} x {width} pixels, more than the {limits.max_pixels} allowed; "
            "scale it down or raise SPINEZOO_MAX_PIXELS"
        )
    if height > MAX_SIDE_PX or width > MAX_SIDE_PX:
        raise TooLargeError(
            f"film is {height} x {width} pixels, the limit is {MAX_SIDE_PX} a side; scale it down"
        )
    if height < MIN_SIDE_PX or width < MIN_SIDE_PX:
        raise FilmError(
            f"film is {height} x {width} pixels; send one of at least {MIN_SIDE_PX} x {MIN_SIDE_PX}"
        )


def check_raw_size(height: int, width: int, pixel_bytes: int, limits: FilmLimits) -> None:
    """Refuses a film whose decoded pixels would not fit into a message.

    Raises:
        TooLargeError: They would not.
    """
    if limits.max_raw_bytes is None:
        return
    size = height * width * pixel_bytes
    if size > limits.max_raw_bytes:
        raise TooLargeError(
            f"film of {height} x {width} pixels has {size} bytes once decoded ({pixel_bytes} a "
            f"pixel), more than the {limits.max_raw_bytes} that a message to a network may have; "
            f"scale it down to {limits.max_raw_bytes // pixel_bytes} pixels or raise "
            "SPINEZOO_MAX_MESSAGE_BYTES of the gateway and of every member"
        )


def check_bytes(size: int, limits: FilmLimits) -> None:
    """Refuses a file by its size in bytes.

    Raises:
        FilmError: It is empty.
        TooLargeError: More bytes than allowed.
    """
    if size == 0:
        raise FilmError("film has 0 bytes; send the whole file")
    if size > limits.max_bytes:
        raise TooLargeError(
            f"film file has {counted(size, 'byte')}; at most {limits.max_bytes} are taken: scale "
            "it down, or raise SPINEZOO_MAX_MESSAGE_BYTES"
        )
