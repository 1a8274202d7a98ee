"""A decoding process: ``python -m spinezoo_spine.films.worker DESCRIPTOR``.

It reads one film at a time for the process at the other end of the connection whose descriptor is
given, within the memory that it is told. It ends when that process goes, after anything that is no
error of ours, and, should a decoder hang after that process has gone, by its own alarm.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.types import Film

from spinezoo_spine.films.dicom import read_dicom
from spinezoo_spine.films.encoded import encoded_size, read_encoded
from spinezoo_spine.films.header import parse_dicom
from spinezoo_spine.films.limits import PATIENCE, DecoderLimits, FilmLimits
from spinezoo_spine.films.transfer import Buffer, ClosedError, receive, send

_ALARM_AFTER_S = 10.0
"""Beyond the time that a film has: the asking process is to stop this one first."""


def _own_bytes() -> int:
    """Address space that this process takes now."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # no such file outside Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _allow(limits: DecoderLimits, pixels: int) -> None:
    """Sets the memory and the time that a film of so many pixels may take."""
    own = _own_bytes()
    if own:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (own + limits.memory_for(pixels), hard))
    longest_s = PATIENCE * limits.time_s(pixels) + _ALARM_AFTER_S
    signal.setitimer(signal.ITIMER_REAL, longest_s)


def _done(film: Film) -> dict[str, Any]:
    return {
        "state": "done",
        "dtype": film.pixels.dtype.name,
        "height": film.height,
        "width": film.width,
        "spacing": [film.row_spacing_mm, film.column_spacing_mm],
        "notes": [[note.code.value, note.text] for note in film.notes],
    }


def _answer(
    connection: socket.socket,
    asked: Mapping[str, Any],
    data: bytes,
    limits: DecoderLimits,
    pixels: Buffer,
) -> None:
    film_limits = FilmLimits(**asked["limits"])
    dataset = parse_dicom(data, film_limits) if asked["kind"] == "dicom" else None
    if dataset is None:
        height, width = encoded_size(data, film_limits)
    else:
        height, width = int(dataset.Rows), int(dataset.Columns)
    if asked["task"] == "size":
        send(connection, {"state": "size", "height": height, "width": width})
        return
    if not asked["pixels"]:
        send(connection, {"state": "sized", "pixels": height * width})
        _allow(limits, height * width)
    if dataset is None:
        film = read_encoded(data, film_limits)
    else:
        film = read_dicom(data, film_limits, dataset)
    descriptor = pixels.write(film.pixels.reshape(-1).view("u1").data)
    try:
        send(connection, _done(film), descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)
        pixels.tidy()


def _serve(connection: socket.socket, limits: DecoderLimits) -> None:
    """Answers until the other end goes; returns after what is no error of ours."""
    files, pixels = Buffer(), Buffer()
    while True:
        asked, descriptor = receive(connection)
        try:
            _allow(limits, int(asked["pixels"]))
            if descriptor is not None:
                files.close()
                files = Buffer(descriptor)
            with files.view(int(asked["bytes"])) as view:
                data = bytes(view)
            files.tidy()
            _answer(connection, asked, data, limits, pixels)
            del data
        except SpineZooError as error:
            send(
                connection,
                {"state": "failed", "error": type(error).__name__, "message": str(error)},
            )
        except MemoryError:
            send(connection, {"state": "memory"})
            return
        except (ClosedError, OSError):
            raise
        except BaseException as error:
            # A panic of a decoder written in Rust is no Exception. What state it left is unknown.
            send(connection, {"state": "broken", "name": type(error).__name__})
            return
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def main() -> int:
    """Serves one connection; returns the exit status."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, in native code too
    with contextlib.suppress(OSError):  # where memory runs out, this process is the one to go
        Path("/proc/self/oom_score_adj").write_text("800")
    connection = socket.socket(fileno=int(sys.argv[1]))
    limits = DecoderLimits.from_env()
    try:
        try:
            import imagecodecs
            import PIL.JpegImagePlugin
            import PIL.PngImagePlugin  # noqa: F401  (loaded now, not within a film's time)
            import tifffile  # noqa: F401

            imagecodecs.JPEG8, imagecodecs.PNG  # noqa: B018  (likewise)
            for name in limits.imports:
                importlib.import_module(name)
        except Exception as error:
            send(
                connection, {"state": "no start", "name": f"{type(error).__name__}: {error}"[:300]}
            )
            return 1
        send(connection, {"state": "ready"})
        _serve(connection, limits)
    except (ClosedError, OSError):
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
