"""Coverage-guided fuzzing of what reads film bytes in Python itself: headers, streams, kinds.

``guided_films.py CORPUS SECONDS``, with atheris. The corpus begins with valid films. Anything but
our own errors, 5 s for one film, or 1 GiB ends it. A fault found becomes a small input in
``libs/spine/tests``.
"""

from __future__ import annotations

import contextlib

import atheris
from guided import run

with atheris.instrument_imports(include=["spinezoo_spine.films", "spinezoo_contract"]):
    from spinezoo_contract.errors import SpineZooError
    from spinezoo_spine.films.dicom import is_compressed, read_dicom
    from spinezoo_spine.films.encoded import encoded_size
    from spinezoo_spine.films.header import parse_dicom
    from spinezoo_spine.films.kinds import foreign_kind, kind_of
    from spinezoo_spine.films.limits import FilmLimits
    from spinezoo_spine.films.streams import (
        check_jpeg2000,
        ended_stream,
        names_its_colours,
        repaired,
        stream_head,
    )
    from spinezoo_spine.films.tiff import is_simple_tiff

LIMITS = FilmLimits(max_pixels=1_000_000, max_bytes=1_000_000)


def one(data: bytes) -> None:
    """Everything that looks at these bytes without a decoder."""
    foreign_kind(data)
    is_simple_tiff(data)
    stream_head(data)
    repaired(data)
    ended_stream(data)
    names_its_colours(data)
    for read in (lambda: check_jpeg2000(data), lambda: encoded_size(data, LIMITS)):
        with contextlib.suppress(SpineZooError):
            read()
    if kind_of(data) == "dicom":
        with contextlib.suppress(SpineZooError):
            header = parse_dicom(data, LIMITS)
            if not is_compressed(header):
                read_dicom(data, LIMITS, header)


if __name__ == "__main__":
    run(one)
