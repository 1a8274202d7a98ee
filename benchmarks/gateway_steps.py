"""Processor time of the gateway's own steps, on what the real networks answer on phantom films.

A zoo of its own is started as by ``make up`` and asked; then this process does with the answers
what the gateway does, step by step in one thread, on films of two sizes with and without metal::

    .venvs/core/bin/python benchmarks/gateway_steps.py [--films 12] [--record]

Gives median and 90th percentile in ms of a core, by film. Those of members are sums of all five.
In the gateway members' steps are done while others still work, and implants beside column and
names.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import cv2
import record
from ensemble import CALL_S, ROOT, zoo_of
from numpy.typing import NDArray
from spinezoo.v1 import ensemble_pb2, segmenter_pb2
from spinezoo_contract import codec
from spinezoo_contract.types import Film, FusionOptions
from spinezoo_gateway.answers import check_answer
from spinezoo_phantom import PhantomSettings, make_film
from spinezoo_spine.column import consensus, naming
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_spine.fusion import implants, rods, touching
from spinezoo_spine.fusion import votes as fusion
from spinezoo_spine.inference.preprocess import shrunk

SIZES = ((1100, 900), (2048, 1024))
CANVAS = (320, 256)


class Steps:
    """Adds up the processor time of each step of a film."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = defaultdict(float)

    def __call__(self, name: str, work: Callable[..., Any], *given: Any) -> Any:
        """What the work returns; its time is noted under the name."""
        began = time.thread_time()
        answer = work(*given)
        self.ms[name] += (time.thread_time() - began) * 1000.0
        return answer


def fuse(pixels: NDArray[Any], answers: dict[str, bytes]) -> dict[str, float]:
    """Does what the gateway does with the answers; ms of a core by step."""
    step, film, options = Steps(), Film(pixels), FusionOptions()
    height, width = pixels.shape
    step("film shrunk to the canvas", shrunk, pixels, *CANVAS)
    ballots, said, metal = {}, {}, {}
    for name, answer in answers.items():
        _, prediction = step("answers checked", check_answer, answer, height, width)
        size = prediction.segments, height, width
        ballots[name] = step("outlines made ready", fusion.ballot, *size)
        said[name] = step("outlines made ready", consensus.vertebrae_of, *size)
        metal[name] = step("members' metal taken apart", implants.implants_of, *size)
    began = time.thread_time()
    fused = step("pixel votes", fusion.count, ballots, options)
    found = step("implants as objects", implants.fuse_implants, metal, fused.segments, options)
    drawn = step("rods redrawn by the film", rods.redrawn_rods, found, metal, pixels, None, options)
    column = step("the column fused", consensus.fuse_vertebrae, said, fused.segments, options)
    reader = built_in_reader()
    looked_at = column, film.pixels, reader, [each.segments for each in said.values()]
    named = step("reader, views, names", naming.named_vertebrae, *looked_at)
    placed = step("touches", touching.placed_in_column, drawn, named)
    step("implants as messages", lambda: [codec.to_proto(each) for each in placed])
    step.ms["all after the last answer"] = (time.thread_time() - began) * 1000.0
    return dict(step.ms)


def answers_of(response: ensemble_pb2.SegmentResponse) -> dict[str, bytes]:
    """Each member's answer as it came."""
    return {
        member.status.member_name: segmenter_pb2.PredictResponse(
            height=response.height,
            width=response.width,
            segments=member.segments,
            provenance=member.provenance,
        ).SerializeToString()
        for member in response.members
    }


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--films", type=int, default=12, help="of each size, with metal or without")
    parser.add_argument("--seed", type=int, default=5000, help="of the first film")
    record.add_option(parser)
    options = parser.parse_args()
    cases: dict[str, list[tuple[NDArray[Any], dict[str, bytes]]]] = {}
    with zoo_of(ROOT) as zoo:
        for height, width in SIZES:
            for share, what in ((1.0, "metal"), (0.0, "none")):
                case = cases.setdefault(f"{height} x {width}, {what}", [])
                for number in range(options.films):
                    size = PhantomSettings(height_px=height, width_px=width, implant_share=share)
                    pixels = make_film(options.seed + number, size).pixels
                    image = codec.film_to_proto(Film(pixels))
                    request = ensemble_pb2.SegmentRequest(image=image)
                    case.append((pixels, answers_of(zoo.stub.Segment(request, timeout=CALL_S))))
    cv2.setNumThreads(1)
    result: dict[str, Any] = {"films": options.films, "cases": {}}
    for kind, films in cases.items():
        fuse(*films[0])  # warms up
        measured = [fuse(*film) for film in films]
        result["cases"][kind] = {
            step: record.middle_and_high([film[step] for film in measured]) for step in measured[0]
        }
    return record.finish("gateway_steps", result, options)


if __name__ == "__main__":
    sys.exit(main())
