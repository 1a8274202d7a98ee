"""What a benchmark keeps of each film: one JSON line a film, and the answer beside it.

``films.jsonl`` in the report's folder is the run's memory. A line is appended, flushed and synced
when a film is done, so a run that is stopped at any moment goes on where it was; of a film with
several lines the last one counts. A line that was cut off by the stop is dropped, and its film
measured again.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spinezoo_contract import codec
from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_contract.types import (
    Box,
    FilmNote,
    FilmNoteCode,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
    decode_together,
)
from spinezoo_serving.disk import append_line, replace_file
from spinezoo_spine.metrics.film import FilmMeasurement

from spinezoo_evaluator.results.columns import ColumnCounts

FILMS_FILE = "films.jsonl"
ANSWERS_FOLDER = "answers"

_REPORT = (
    *("index.html", "report.md", "report.csv", "films.csv", "sheet.png", "names.png"),
    *("overlay_best.png", "overlay_worst.png", "overlay_disputed.png"),
    *("measures.md", "measures.csv", "measures.json", "bland_altman.png"),
)
"""What a report consists of, beside ``report.json``; a test compares it with what is written."""

FUSED = "fused ensemble"
"""Name of the fused ensemble in reports and towards the evaluator; no member may have it."""


def named(model: str) -> str:
    """Under which a model's vertebrae, taken apart and named, are kept beside the answers."""
    return f"{model}, named"


def of_networks(kept: Mapping[str, tuple[Segment, ...]]) -> dict[str, tuple[Segment, ...]]:
    """What single networks answered, of all that is kept of a film."""
    beside = {FUSED, named(FUSED), *(named(name) for name in kept)}
    return {name: segments for name, segments in kept.items() if name not in beside}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something has no measurement: an error's class or a member's code, and its message."""

    reason: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return {"reason": self.reason, "message": self.message}

    @classmethod
    def from_json(cls, data: Mapping[str, str] | None) -> Failure | None:
        """The opposite of :meth:`to_json`; None stays None."""
        return None if data is None else cls(data["reason"], data["message"])


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """One member on one film: a measurement, or a failure.

    Attributes:
        measurement: What was counted, or None.
        failure: Why there is no measurement, or None.
        latency_ms: As the gateway saw it.
        stages_ms: decode, prepare, queue, infer, finish in ms; empty where it did not answer.
        provenance: model_version, weights_sha256, preset, preprocessing_id, device, image; may be
            empty.
        column: Vertebrae after separation, and their names; None where nothing was measured.
    """

    measurement: FilmMeasurement | None
    failure: Failure | None
    latency_ms: float | None = None
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    column: ColumnCounts | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "measurement": None if self.measurement is None else self.measurement.to_json(),
            "failure": None if self.failure is None else self.failure.to_json(),
            "latency_ms": self.latency_ms,
            "stages_ms": dict(self.stages_ms),
            "provenance": dict(self.provenance),
            "column": None if self.column is None else self.column.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MemberRecord:
        """The opposite of :meth:`to_json`."""
        measurement = data["measurement"]
        return cls(
            None if measurement is None else FilmMeasurement.from_json(measurement),
            Failure.from_json(data["failure"]),
            data["latency_ms"],
            data["stages_ms"],
            # A record of a time before images had tags is one from outside a container.
            {**data["provenance"], "image": data["provenance"].get("image", "")}
            if data["provenance"]
            else {},
            None if data.get("column") is None else ColumnCounts.from_json(data["column"]),
        )


@dataclass(frozen=True, slots=True)
class FilmRecord:
    """One film of a run.

    Attributes:
        name: The film's name.
        sha256: Of the film's file, or "" where it could not be read.
        height: Rows in pixels, or 0 where unknown.
        width: Columns in pixels, or 0 where unknown.
        failure: Why the film as a whole has no answer, or None.
        members: Every member that was asked, by name.
        fused: The fused ensemble.
        disagreement: 1 minus the mean IoU of the merged masks of every two members; None where
            fewer than two answered.
        gateway_ms: decode, fan_out, fuse, total in ms of the gateway's clock.
        elapsed_ms: From sending the film to its answer, on the runner's clock.
        evaluator: "agrees", or why the evaluator's word is missing.
        notes: What the gateway noted of the film.
    """

    name: str
    sha256: str
    height: int
    width: int
    failure: Failure | None
    members: Mapping[str, MemberRecord]
    fused: MemberRecord | None
    disagreement: float | None = None
    gateway_ms: Mapping[str, float] = field(default_factory=dict)
    elapsed_ms: float | None = None
    evaluator: str = ""
    notes: tuple[FilmNote, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every member that was asked has been measured."""
        return self.failure is None and all(m.failure is None for m in self.members.values())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "film": self.name,
            "sha256": self.sha256,
            "height": self.height,
            "width": self.width,
            "failure": None if self.failure is None else self.failure.to_json(),
            "members": {name: member.to_json() for name, member in self.members.items()},
            "fused": None if self.fused is None else self.fused.to_json(),
            "disagreement": self.disagreement,
            "gateway_ms": dict(self.gateway_ms),
            "elapsed_ms": self.elapsed_ms,
            "evaluator": self.evaluator,
            "notes": codec.to_json(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FilmRecord:
        """The opposite of :meth:`to_json`."""
        fused = data["fused"]
        return cls(
            name=data["film"],
            sha256=data["sha256"],
            height=data["height"],
            width=data["width"],
            failure=Failure.from_json(data["failure"]),
            members={name: MemberRecord.from_json(m) for name, m in data["members"].items()},
            fused=None if fused is None else MemberRecord.from_json(fused),
            disagreement=data["disagreement"],
            gateway_ms=data["gateway_ms"],
            elapsed_ms=data["elapsed_ms"],
            evaluator=data["evaluator"],
            # Records of a time before notes have none.
            notes=tuple(
                FilmNote(FilmNoteCode[note["code"].upper()], note["text"])
                for note in data.get("notes", ())
            ),
        )


class RunFolder:
    """The folder of one run's report.

    Args:
        path: The folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.films_path = path / FILMS_FILE
        self.run_path = path / "run.json"
        self.report_path = path / "report.json"

    def write_json(self, path: Path, value: Any) -> None:
        """Writes beside the target and renames: nobody sees half a file."""
        replace_file(path, json.dumps(value, indent=2) + "\n")

    def read_run(self) -> dict[str, Any] | None:
        """What the run was started with, or None where there is none.

        Raises:
            ConfigurationError: The file is broken.
        """
        if not self.run_path.is_file():
            return None
        try:
            run = json.loads(self.run_path.read_text())
        except ValueError:
            run = None
        if not isinstance(run, dict):
            raise ConfigurationError(
                f"{self.run_path.name} of the report is broken; start the run again with --fresh"
            )
        return run

    def read_report(self) -> dict[str, Any]:
        """The report of a finished run.

        Raises:
            ConfigurationError: There is none, or it is broken.
        """
        try:
            report = json.loads(self.report_path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{self.path.name} holds no {self.report_path.name} of a finished run "
                f"({type(error).__name__}); name the folder of a report, or run it again"
            ) from error
        if not isinstance(report, dict) or not {"run", "summary"} & report.keys():
            raise ConfigurationError(f"{self.report_path.name} is no report; run it again")
        return report

    def read_films(self) -> dict[str, FilmRecord]:
        """Films that are done, by name; a line that was cut off is removed from the file.

        Raises:
            ConfigurationError: A whole line is no film's record.
        """
        if not self.films_path.is_file():
            return {}
        content = self.films_path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self.films_path.open("r+b") as file:
                file.truncate(len(whole))
        films = {}
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = FilmRecord.from_json(json.loads(line))
            except (SpineZooError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConfigurationError(
                    f"{FILMS_FILE}, line {number}, is no film's record ({type(error).__name__}); "
                    "remove the line to measure its film again, or start over with --fresh"
                ) from error
            films[record.name] = record
        return films

    def append(self, record: FilmRecord) -> None:
        """Adds a film; on return it is on the disk."""
        append_line(self.films_path, json.dumps(record.to_json(), separators=(",", ":")))

    def _answer_path(self, film: str) -> Path:
        # Two names that look the same after cleaning still get two files.
        digest = hashlib.sha256(film.encode()).hexdigest()[:8]
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", film)[:80]
        return self.path / ANSWERS_FOLDER / f"{stem}-{digest}.json.gz"

    def write_answer(self, film: str, outlines: Mapping[str, tuple[Segment, ...]]) -> None:
        """Keeps the outlines of every member, for pictures."""
        path = self._answer_path(film)
        plain = {
            name: [codec.to_json(segment) for segment in segments]
            for name, segments in outlines.items()
        }
        # No time stamp in the file: the same answer gives the same bytes.
        replace_file(path, gzip.compress(json.dumps(plain).encode(), 4, mtime=0))

    def keeps(self, film: str) -> bool:
        """Whether there are outlines of a film; where it has no answer there are none."""
        return self._answer_path(film).is_file()

    def read_answer(self, film: str) -> dict[str, tuple[Segment, ...]]:
        """The outlines that were kept of a film.

        Raises:
            ConfigurationError: They are absent or broken.
        """
        path = self._answer_path(film)
        try:
            plain = json.loads(gzip.decompress(path.read_bytes()))
            every = [segment for segments in plain.values() for segment in segments]
            masks = [_mask_from_json(segment["mask"]) for segment in every]
            # In one go: a segment checks its mask when it is made.
            decode_together(masks)
            made = map(_segment_from_json, every, masks)
            return {
                name: tuple(itertools.islice(made, len(segments)))
                for name, segments in plain.items()
            }
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"the answers kept of film {film!r} cannot be read ({type(error).__name__}); "
                "start the run again with --fresh"
            ) from error

    def clear(self) -> None:
        """Removes what a run has left, and nothing else: no old page stands beside new answers."""
        for name in (self.films_path.name, self.run_path.name, self.report_path.name, *_REPORT):
            (self.path / name).unlink(missing_ok=True)
        for path in self.path.glob(f"{ANSWERS_FOLDER}/*.json.gz"):
            path.unlink()


def _mask_from_json(data: Mapping[str, Any]) -> RunLengthMask:
    height, width = data["size"]
    return RunLengthMask(height, width, data["counts"].encode("ascii"))


def _segment_from_json(data: Mapping[str, Any], mask: RunLengthMask) -> Segment:
    return Segment(
        Structure[data["structure"].upper()],
        SegmentKind[data["kind"].upper()],
        mask,
        data["score"],
        Box(*data["box"]),
        data["level"],
    )
