"""Whether this checkout answers as another one does, byte by byte.

Both zoos are started by their own ``make up`` beside each other and are asked the same phantom
films through their gateways, each as raw pixels of 8 and of 16 bits and as DICOM. What members say
and what is fused, named and measured has to be the same; times and versions may differ::

    .venvs/core/bin/python benchmarks/same_answers.py --other ../before [--films 60]

Ends with 1 when any answer differs; prints which. With ``SPINEZOO_PRECISION=float32`` the networks
compute in float32.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ensemble import CALL_S, ROOT, zoo_of
from spinezoo.v1 import ensemble_pb2, image_pb2, measures_pb2
from spinezoo_conformance.films import dicom_bytes
from spinezoo_contract.codec import film_to_proto
from spinezoo_contract.types import Film
from spinezoo_phantom import PhantomSettings, make_film

SIZES = ((1100, 900), (2048, 1024), (1024, 768))
"""Rows and columns of the films, by turns."""


def questions(count: int, first_seed: int) -> Iterator[tuple[str, ensemble_pb2.SegmentRequest]]:
    """Films in all forms; four of five have metal, and of every size some are asked measures."""
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        size = PhantomSettings(height_px=height, width_px=width, implant_share=number % 5 > 0)
        film = make_film(first_seed + number, size)
        grey = film.pixels
        for form, image in (
            ("raw, 8 bit", film_to_proto(Film((grey >> 4).astype(np.uint8)))),
            ("raw, 16 bit", film_to_proto(Film(grey, film.row_spacing_mm, film.column_spacing_mm))),
            ("DICOM", image_pb2.Image(dicom=dicom_bytes(grey))),
        ):
            measures = measures_pb2.MeasureOptions() if number % 2 else None
            name = f"film {first_seed + number} of {height} x {width}, {form}"
            yield name, ensemble_pb2.SegmentRequest(image=image, measures=measures)


def stripped(answer: ensemble_pb2.SegmentResponse) -> ensemble_pb2.SegmentResponse:
    """An answer without its times."""
    answer.ClearField("timing")
    for member in answer.members:
        member.status.ClearField("latency_ms")
        member.provenance.ClearField("timing")
    return answer


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--other", type=Path, required=True, help="the checkout to compare with")
    parser.add_argument("--films", type=int, default=60)
    parser.add_argument("--seed", type=int, default=6000, help="of the first film")
    options = parser.parse_args()
    # A time limit's end leaves no zoo behind: the `with` blocks stop them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    asked = differing = metal = 0
    with zoo_of(options.other.resolve()) as other, zoo_of(ROOT) as this:
        for name, question in questions(options.films, options.seed):
            one, two = (
                stripped(side.stub.Segment(question, timeout=CALL_S)) for side in (other, this)
            )
            asked += 1
            metal += len(two.fused.implants)
            failed = [member.status for member in two.members if member.status.message]
            same = one.SerializeToString(deterministic=True) == two.SerializeToString(
                deterministic=True
            )
            if not same or failed:
                differing += 1
                fields = [
                    field.name
                    for field in one.DESCRIPTOR.fields
                    if getattr(one, field.name) != getattr(two, field.name)
                ]
                print(f"{name}: {', '.join(fields)} differ; failed: {failed}", flush=True)
    print(f"{asked} answers with {metal} implants, {differing} differ")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
