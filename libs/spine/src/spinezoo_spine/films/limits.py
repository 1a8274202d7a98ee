"""What is refused by size, and what a decoder may use: the limits of reading films, in one place.

| setting | default | what |
|---|---|---|
| ``SPINEZOO_MAX_PIXELS`` | 67108864 | most pixels of a film (a setting of every server) |
| ``SPINEZOO_DECODER_SECONDS`` | 4 | time that decoding a film has, beside the next line |
| ``SPINEZOO_DECODER_SECONDS_PER_MEGAPIXEL`` | 0.5 | further time for each megapixel |
| ``SPINEZOO_DECODER_MIB`` | 256 | memory that decoding a film may take, beside the next line |
| ``SPINEZOO_DECODER_BYTES_PER_PIXEL`` | 10 | further memory for each pixel |
| ``SPINEZOO_DECODER_PROCESSES`` | 4 | most decoding processes of one process that reads films |
| ``SPINEZOO_DECODER_IMPORT`` | none | modules, by commas, that each decoding process imports: \
further decoders |

A megapixel is 1,000,000 pixels of the size that the film's header states.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from spinezoo_contract.errors import ConfigurationError, FilmError, TooLargeError
from spinezoo_contract.limits import DEFAULT_MAX_PIXELS, MIN_SIDE_PX

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
    max_bytes: int = 67_108_864
    max_raw_bytes: int | None = None


DEFAULT_LIMITS = FilmLimits()
"""The limits where none are given."""


@dataclass(frozen=True, slots=True)
class DecoderLimits:
    """What decoding one film may use, and how many processes decode.

    Attributes:
        seconds: Time, in s, for any film.
        seconds_per_megapixel: Further time, in s, for each megapixel.
        memory_bytes: Memory for any film, beside what the process takes by itself.
        memory_per_pixel_bytes: Further memory for each pixel.
        processes: Most processes.
        imports: Modules that each process imports at its start.
    """

    seconds: float = 4.0
    seconds_per_megapixel: float = 0.5
    memory_bytes: int = 256 << 20
    memory_per_pixel_bytes: int = 10
    processes: int = 4
    imports: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> DecoderLimits:
        """Reads the settings of the table above.

        Raises:
            ConfigurationError: One is no number, or out of its range.
        """
        source: Mapping[str, str] = os.environ if env is None else env
        default = cls()
        names = source.get("SPINEZOO_DECODER_IMPORT", "").split(",")
        return cls(
            _number(source, "SPINEZOO_DECODER_SECONDS", default.seconds, 0.1, 600.0),
            _number(
                source,
                "SPINEZOO_DECODER_SECONDS_PER_MEGAPIXEL",
                default.seconds_per_megapixel,
                0.0,
                60.0,
            ),
            int(_number(source, "SPINEZOO_DECODER_MIB", default.memory_bytes >> 20, 64, 65536))
            << 20,
            int(
                _number(
                    source,
                    "SPINEZOO_DECODER_BYTES_PER_PIXEL",
                    default.memory_per_pixel_bytes,
                    8,
                    256,
                )
            ),
            int(_number(source, "SPINEZOO_DECODER_PROCESSES", default.processes, 1, 64)),
            tuple(name.strip() for name in names if name.strip()),
        )

    def time_s(self, pixels: int) -> float:
        """Time for a film of so many pixels, in s."""
        return self.seconds + self.seconds_per_megapixel * pixels / 1e6

    def memory_for(self, pixels: int) -> int:
        """Memory for a film of so many pixels, in bytes."""
        return self.memory_bytes + self.memory_per_pixel_bytes * pixels


def _number(env: Mapping[str, str], name: str, default: float, low: float, high: float) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ConfigurationError(f"{name} is {text[:40]!r}; set a number from {low:g} to {high:g}")
    return value


def check_size(height: int, width: int, limits: FilmLimits) -> None:
    """Refuses a film by the size that its header states.

    Raises:
        TooLargeError: More pixels than allowed.
        FilmError: A side below :data:`MIN_SIDE_PX`.
    """
    if height * width > limits.max_pixels:
        raise TooLargeError(
            f"film is {height} x {width} pixels, more than the {limits.max_pixels} allowed; "
            "scale it down or raise SPINEZOO_MAX_PIXELS"
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
        raise TooLargeError(f"film file has {size} bytes; at most {limits.max_bytes} are taken")
