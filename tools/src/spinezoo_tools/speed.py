"""What was promised of speed and memory: marks, benchmarks, and the records that they leave.

A benchmark keeps its result in ``benchmarks/results/NAME.json`` (``--record``), a file each with
date and machine. :data:`BENCHMARKS` is what ``make speed`` runs, :data:`PROMISES` what is judged at
a benchmark's end and shown on ``docs/performance.md``. Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]

BASE = "46be441"
"""The commit that some promises are made against."""

Result = Any
"""What a benchmark measured: objects, lists and numbers, as JSON holds them."""

Record = Mapping[str, Any]
"""``date``, ``command``, ``machine``, ``seconds`` that the benchmark took, ``result``."""


@dataclass(frozen=True)
class Benchmark:
    """One program of ``benchmarks/``.

    Attributes:
        name: Of its record.
        command: What follows the interpreter; ``CHECKOUT`` stands for the other checkout.
        room: In whose environment it runs.
    """

    name: str
    command: str
    room: str = "evaluator"

    @property
    def needs_checkout(self) -> bool:
        """Whether it measures beside another checkout."""
        return "CHECKOUT" in self.command


BENCHMARKS = (
    Benchmark("metrics", "benchmarks/metrics.py --pairs 40 --repeats 1"),
    Benchmark("gateway", "benchmarks/gateway.py --films 20"),
    Benchmark("gateway_steps", "benchmarks/gateway_steps.py --films 10"),
    Benchmark("http_cost", "benchmarks/http_cost.py"),
    Benchmark("page_speed", "benchmarks/page_speed.py"),
    Benchmark("service", "benchmarks/service.py --rounds 4 --films 12"),
    Benchmark("steady", "benchmarks/steady.py"),
    Benchmark("precision", "benchmarks/precision.py"),
    Benchmark("fresh", "benchmarks/fresh.py"),
    Benchmark("phantoms", "benchmarks/phantoms.py --processor-s 5"),
    Benchmark("training", "benchmarks/training.py --network pspnet", "services/pspnet"),
    Benchmark("ensemble", "benchmarks/ensemble.py --other CHECKOUT --films 8"),
    Benchmark("reading", "benchmarks/reading.py --other CHECKOUT --rounds 5"),
    Benchmark("engines", "benchmarks/engines.py --other CHECKOUT"),
    Benchmark("peers", "benchmarks/peers --repeats 2"),
)
"""In the order in which they run."""

BY_HAND = frozenset({"gpu_batches", "training_gpu"})
"""Records of machines that are not at hand; each says so itself (``by_hand``)."""


@dataclass(frozen=True)
class Promise:
    """One mark.

    Attributes:
        what: What is promised.
        benchmark: The record that tells.
        mark: The limit.
        shown: The limit in words, ``{}`` for its number.
        value: What is held against it; of several the worst.
        said: What was measured, for people.
        is_least: The value is to be at least the mark, else at most.
    """

    what: str
    benchmark: str
    mark: float
    shown: str
    value: Callable[[Result], float]
    said: Callable[[Result], str]
    is_least: bool = False

    def met(self, result: Result) -> bool:
        """Whether a result keeps it."""
        value = self.value(result)
        return value >= self.mark if self.is_least else value <= self.mark


def spread(values: Sequence[float], digits: int = 0) -> str:
    """``31 to 35``, or one figure where both ends read the same."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _added(result: Result, film: str, members: str = "staggered") -> list[float]:
    """What the gateway added, in ms, to films whose form begins so."""
    return [
        row["added_ms"]
        for row in result
        if row["members"] == members and row["film"].startswith(film)
    ]


def _said_added(film: str) -> Callable[[Result], str]:
    return lambda result: (
        f"{spread(_added(result, film))} ms; {spread(_added(result, film, 'all at once'))} "
        "where all members answer in the same moment"
    )


def _each(result: Result, key: str, digits: int, **only: str) -> str:
    """A figure of every network: ``PSPNet 3.8, U-Net 4.6``."""
    return ", ".join(
        f"{title_of(row['network'])} {row[key]:.{digits}f}"
        for row in sorted(result, key=lambda row: -float(row[key]))
        if all(row[name] == value for name, value in only.items())
    )


def _least(result: Result, asked: str) -> float:
    return min(float(row["ratio_median"]) for row in result if row["asked"] == asked)


def _said_reading(result: Result) -> str:
    slow = {kind: ratio for kind, ratio in result.items() if ratio > READING}
    more = "".join(f"; {kind} {ratio:.2f}" for kind, ratio in slow.items())
    return f"{spread(list(result.values()), 2)} of {len(result)} kinds of files{more}"


def _moves(result: Result) -> dict[str, float]:
    """The greatest move of any of a network's four figures, in points."""
    return {
        name: max((abs(move) for move in moves), default=0.0)
        for name, moves in result["moves"].items()
    }


def title_of(name: str) -> str:
    """How people call a network: what its card's architecture begins with."""
    card = ROOT / "services" / name / "card.yaml"
    found = card.is_file() and re.search(r'^architecture: "(.+?) \(', card.read_text(), re.M)
    return found[1] if found else name


READING = 1.1

PROMISES = (
    Promise(
        "the study's four metrics, times as fast as a loop over classes", "metrics",
        30.0, "at least {:g}",
        lambda rows: min(row["ratio"] for row in rows),
        lambda rows: ", ".join(f"{row['ratio']:.0f} ({row['classes']} classes)" for row in rows),
        is_least=True,
    ),
    Promise(
        "their greatest difference from that loop", "metrics",
        1e-12, "at most {:g}",
        lambda rows: max(row["largest_difference"] for row in rows),
        lambda rows: f"{max(row['largest_difference'] for row in rows):.1e}",
    ),
    Promise(
        "the gateway adds to its slowest member (raw film of 2048 x 1024, median)", "gateway",
        10.0, "at most {:g} ms",
        lambda rows: max(_added(rows, "raw")),
        _said_added("raw"),
    ),
    Promise(
        "the same with DICOM", "gateway",
        14.0, "at most {:g} ms",
        lambda rows: max(_added(rows, "DICOM")),
        _said_added("DICOM"),
    ),
    Promise(
        f"an ensemble's latency for one client, as a share of {BASE}'s", "ensemble",
        0.3, "at most {:g}",
        lambda one: float(one["latency_ratio"]),
        lambda one: f"{one['latency_ratio']:.3f} ({one['other_latency_ms']:.0f} to "
        f"{one['latency_ms']:.0f} ms)",
    ),
    Promise(
        f"films a second of an ensemble, times those of {BASE}", "ensemble",
        3.5, "at least {:g}",
        lambda one: float(one["films_ratio"]),
        lambda one: f"{one['films_ratio']:.2f} ({one['other_films_per_s']:.1f} to "
        f"{one['films_per_s']:.1f}; {one['other_processor_ms']} to {one['processor_ms']} ms of a "
        "core a film)",
        is_least=True,
    ),
    Promise(
        f"films a second of each service, times those of {BASE}", "engines",
        3.5, "at least {:g}",
        lambda rows: _least(rows, "auto"),
        lambda rows: _each(rows, "ratio_median", 1, asked="auto"),
        is_least=True,
    ),
    Promise(
        "the same in float32", "engines",
        1.3, "at least {:g}",
        lambda rows: _least(rows, "float32"),
        lambda rows: _each(rows, "ratio_median", 2, asked="float32"),
        is_least=True,
    ),
    Promise(
        "films a second of each service over gRPC, as a share of its predictor's in a bare loop",
        "service",
        0.9, "at least {:g}",
        lambda rows: min(float(row["ratio_median"]) for row in rows),
        lambda rows: _each(rows, "ratio_median", 2),
        is_least=True,
    ),
    Promise(
        f"time of reading a film, as a share of {BASE}'s", "reading",
        READING, "at most {:g}",
        lambda kinds: max(kinds.values()),
        _said_reading,
    ),
    Promise(
        "a film over HTTP takes longer than over gRPC by", "http_cost",
        10.0, "at most {:g} ms",
        lambda one: float(one["http_minus_grpc_ms"]),
        lambda one: f"{one['http_minus_grpc_ms']:+.0f} ms ({one['http']['median_ms']:.0f} and "
        f"{one['grpc']['median_ms']:.0f})",
    ),
    Promise(
        "the page draws a film of 2048 x 1024 after its bytes are there within", "page_speed",
        300.0, "{:g} ms",
        lambda one: max(one["first_drawing_ms"].values()),
        lambda one: ", ".join(f"{ms:.0f} ms ({k})" for k, ms in one["first_drawing_ms"].items()),
    ),
    Promise(
        "frames a second while windowing, panning and windowing all small multiples", "page_speed",
        60.0, "at least {:g}",
        lambda one: round(min(one["frames_per_s"].values())),
        lambda one: spread(list(one["frames_per_s"].values())),
        is_least=True,
    ),
    Promise(
        "`make up` until all seven processes are ready", "steady",
        12.0, "at most {:g} s",
        lambda one: float(one["ready_s"]),
        lambda one: f"{one['ready_s']:.1f} s",
    ),
    Promise(
        "memory of all processes, 1,000 films of up to 2400 x 1800", "steady",
        2.2, "at most {:g} GiB",
        lambda one: max(one["mib"]) / 1024,
        lambda one: f"{max(one['mib']) / 1024:.2f} GiB ({one['films']:,} films)",
    ),
    Promise(
        "its growth from the second fifth of these films to the last", "steady",
        3.0, "at most {:g} %",
        lambda one: 100 * one["growth"],
        lambda one: f"{100 * one['growth']:.1f} %",
    ),
    Promise(
        "`make benchmark` (100 films) in a fresh clone, packages cached", "fresh",
        90.0, "at most {:g} s",
        lambda one: float(one["seconds"]),
        lambda one: f"{one['seconds']:.0f} s ({one['processor_s']:.0f} s of processor time)",
    ),
    Promise(
        "packages that it downloads, unpacked", "fresh",
        1.5, "at most {:g} GB",
        lambda one: float(one["packages_gb"]),
        lambda one: f"{one['packages_gb']:.1f} GB",
    ),
    Promise(
        "int8 moves each of the four figures of Table 1 from float32's by (points)", "precision",
        0.05, "at most {:g}",
        lambda one: max(_moves(one).values()),
        lambda one: ", ".join(f"{title_of(n)} {move:.3f}" for n, move in _moves(one).items()),
    ),
    Promise(
        "fused vertebrae that are named in int8 as in float32", "precision",
        99.9, "at least {:g} %",
        lambda one: 100 * one["same_names"] / one["vertebrae"],
        lambda one: f"{100 * one['same_names'] / one['vertebrae']:.1f} % of {one['vertebrae']}",
        is_least=True,
    ),
)  # fmt: skip


def records(folder: Path) -> dict[str, Record]:
    """Every record of a folder by name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def judged(name: str, result: Result) -> list[tuple[Promise, bool]]:
    """The promises that a benchmark tells of, and whether its result keeps each."""
    return [(each, each.met(result)) for each in PROMISES if each.benchmark == name]
