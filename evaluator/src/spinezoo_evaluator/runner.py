"""Sends a set of films through the gateway and measures what comes back.

Every member and the fused ensemble are measured here, on run lengths, and by the evaluator service
over the wire; the two have to agree to the last bit. A member that fails on a film is counted as
failed on it and named; a film that fails as a whole is named, and the run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pycocotools import mask as coco_mask
from spinezoo_contract.client import AsyncEnsembleClient, AsyncEvaluationClient
from spinezoo_contract.errors import (
    FilmError,
    InvalidOutputError,
    NotServingError,
    QueueFullError,
    QuorumError,
    SpineZooError,
)
from spinezoo_contract.masks import mask_box
from spinezoo_contract.status import error_name
from spinezoo_contract.types import (
    VERTEBRAE,
    EnsembleAnswer,
    EnsembleOptions,
    EvaluationPair,
    Labelling,
    MemberAnswer,
    MemberCode,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
)
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.column.naming import named_column
from spinezoo_spine.instances import unite
from spinezoo_spine.metrics.metrics import (
    METRICS,
    STUDY_METRICS,
    FilmMeasurement,
    measure_film,
)

from spinezoo_evaluator.columns import ColumnCounts, count_column
from spinezoo_evaluator.records import Failure, FilmRecord, MemberRecord, RunFolder

FUSED = "fused ensemble"
"""Name of the fused ensemble in reports and towards the evaluator; no member may have it."""

NAMED = "fused ensemble, named"
"""Under which the fused and named vertebrae are kept beside the answers."""

_FUSED_MERGED = "fused ensemble, merged mask"
"""Name under which the evaluator measures the fused merged mask."""

MEMBERS_KEY = "x-spinezoo-members"
"""Key in a failed call's trailing metadata under which the gateway names its members."""

RETRY_BUDGET_S = 60.0
"""Waiting for a gateway that is away or has no room, in s, over a whole run."""

log = logging.getLogger("spinezoo.benchmark")


@dataclass(frozen=True, slots=True)
class Film:
    """A film with its truth, ready to be sent.

    Attributes:
        name: Its name.
        data: The bytes of its file, sent as they are.
        sha256: Of ``data``.
        height: Rows in pixels.
        width: Columns in pixels.
        truth: Its outlines, without levels.
        levels: The level of each of them, as far as it is one vertebra's.
    """

    name: str
    data: bytes
    sha256: str
    height: int
    width: int
    truth: tuple[Segment, ...]
    levels: tuple[str | None, ...] = ()

    def vertebrae(self) -> tuple[Segment, ...]:
        """The true vertebrae with their levels."""
        return tuple(
            replace(segment, level=level)
            for segment, level in zip(self.truth, self.levels, strict=True)
            if segment.structure in VERTEBRAE
        )


def load_film(films: FilmSet, name: str) -> Film:
    """Reads one film and draws its truth.

    Raises:
        FilmError: The film cannot be read.
        TooLargeError: It is over a limit.
        AnnotationError: It has no outlines.
    """
    height, width = films.film_size(name)
    data = films.path(name).read_bytes()
    drawn = segments_from_regions(films.annotation(name).regions, height, width)
    # The evaluator's metrics need no levels; names are counted here.
    truth = tuple(replace(segment, level=None) for segment in drawn)
    levels = tuple(segment.level for segment in drawn)
    return Film(name, data, hashlib.sha256(data).hexdigest(), height, width, truth, levels)


def disagreement(outlines: Sequence[Sequence[Segment]], height: int, width: int) -> float | None:
    """1 minus the mean IoU of every two members' merged masks; None for fewer than two.

    Two empty masks agree.
    """
    if len(outlines) < 2:
        return None
    merged = [
        {
            "size": [height, width],
            "counts": unite([segment.mask for segment in segments], height, width).counts,
        }
        for segments in outlines
    ]
    areas = [int(area) for area in coco_mask.area(merged)]
    ious = []
    for a, b in itertools.combinations(range(len(merged)), 2):
        both = int(coco_mask.area(coco_mask.merge([merged[a], merged[b]], intersect=True)))
        either = areas[a] + areas[b] - both
        ious.append(both / either if either else 1.0)
    return 1.0 - math.fsum(ious) / len(ious)


def merged_segment(merged_mask: RunLengthMask | None) -> tuple[Segment, ...]:
    """The fused merged mask as segments, for measuring on the merged mask only."""
    if merged_mask is None:
        return ()
    # The structure plays no part where everything is united.
    kind = SegmentKind.REGION
    return (Segment(Structure.ROD, kind, merged_mask, 1.0, mask_box(merged_mask)),)


def measure_fused(answer: EnsembleAnswer, truth: Sequence[Segment]) -> FilmMeasurement:
    """Measures the fused ensemble: structures by its regions, the merged mask by its own.

    The gateway fuses the merged mask from the members' united masks; it is the ensemble's word on
    "anything is here", and the study's four metrics are about nothing else.
    """
    height, width = answer.height, answer.width
    by_structure = measure_film(truth, answer.fused.segments, height, width)
    merged = measure_film(truth, merged_segment(answer.fused.merged_mask), height, width)
    return FilmMeasurement(
        merged.merged, by_structure.pixels, by_structure.vertebrae, by_structure.objects
    )


def measure_columns(columns: Mapping[str, Labelling | None], film: Film) -> dict[str, ColumnCounts]:
    """Vertebrae after separation, and their names, of every column that there is.

    A truth without levels is measured too: no name is asked for then.
    """
    outlines = film.vertebrae()
    sacrum = any(outline.level == "S1" for outline in outlines)
    return {
        name: count_column(outlines, column, sacrum_in_view=sacrum)
        for name, column in columns.items()
        if column is not None
    }


def columns_of(answer: EnsembleAnswer) -> dict[str, Labelling | None]:
    """The named column of every member and of the fused ensemble; None where one failed."""
    columns: dict[str, Labelling | None] = {
        member.status.member_name: None
        if member.prediction is None
        else named_column(member.prediction.segments, answer.height, answer.width)
        for member in answer.members
    }
    fused = answer.fused
    columns[FUSED] = fused.labelling or named_column(fused.segments, answer.height, answer.width)
    return columns


def _member_record(
    member: MemberAnswer, measurement: FilmMeasurement | None, column: ColumnCounts | None
) -> MemberRecord:
    status = member.status
    if member.prediction is None:
        failure = Failure(status.code.name.lower(), status.message)
        return MemberRecord(None, failure, status.latency_ms)
    provenance = member.prediction.provenance
    stages = {
        name.removesuffix("_ms"): getattr(provenance.timing, name)
        for name in provenance.timing.__slots__
    }
    named = ("model_version", "weights_sha256", "preset", "preprocessing_id", "device", "image")
    return MemberRecord(
        measurement,
        None,
        status.latency_ms,
        stages,
        {name: getattr(provenance, name) for name in named},
        column,
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    members: dict[str, FilmMeasurement]
    fused: FilmMeasurement
    disagreement: float | None
    columns: dict[str, ColumnCounts]
    named: tuple[Segment, ...]


def _measure(answer: EnsembleAnswer, film: Film) -> _Measured:
    answered = {
        member.status.member_name: member.prediction.segments
        for member in answer.members
        if member.prediction is not None
    }
    columns = columns_of(answer)
    fused = columns[FUSED]
    return _Measured(
        {
            name: measure_film(film.truth, segments, film.height, film.width)
            for name, segments in answered.items()
        },
        measure_fused(answer, film.truth),
        disagreement(list(answered.values()), film.height, film.width),
        measure_columns(columns, film),
        () if fused is None else tuple(vertebra.segment for vertebra in fused.vertebrae),
    )


class Runner:
    """One run over some films.

    Args:
        films: The films and their truth.
        folder: Where records and answers go.
        ensemble: Client of the gateway.
        evaluation: Client of the evaluator.
        options: What is asked of the gateway for every film.
        timeout_s: Time a film has, in s.
    """

    def __init__(
        self,
        films: FilmSet,
        folder: RunFolder,
        ensemble: AsyncEnsembleClient,
        evaluation: AsyncEvaluationClient,
        *,
        options: EnsembleOptions = EnsembleOptions(),
        timeout_s: float = 180.0,
    ) -> None:
        self._films = films
        self._folder = folder
        self._ensemble = ensemble
        self._evaluation = evaluation
        self._options = options
        self._timeout_s = timeout_s
        self._retry_left_s = RETRY_BUDGET_S

    async def run(
        self,
        names: Sequence[str],
        member_names: Sequence[str],
        *,
        concurrency: int = 2,
        done: Callable[[FilmRecord], None] = lambda _: None,
    ) -> None:
        """Measures films, some at the same time; each is recorded as soon as it is done.

        Args:
            names: Films to measure.
            member_names: Members that a film without any answer counts as failed for.
            concurrency: Films under way at the same time.
            done: Called with each film's record once it is on the disk.
        """
        waiting = iter(names)

        async def work() -> None:
            for name in waiting:
                try:
                    record = await self._film(name, member_names)
                except Exception as error:
                    # Nobody foresaw it; the film is named with it and the others go on.
                    log.exception("film %s failed in an unexpected way", name)
                    record = _failed(name, None, error, member_names)
                self._folder.append(record)
                done(record)

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, concurrency)):
                group.create_task(work())

    async def _film(self, name: str, member_names: Sequence[str]) -> FilmRecord:
        try:
            film = await asyncio.to_thread(load_film, self._films, name)
        except SpineZooError as error:
            return _failed(name, None, error, member_names)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            unread = FilmError(f"film {name!r} cannot be read ({reason}); check the file")
            return _failed(name, None, unread, member_names)
        try:
            started = time.perf_counter()
            answer = await self._ask(film)
            elapsed_ms = (time.perf_counter() - started) * 1000.0
            if (answer.height, answer.width) != (film.height, film.width):
                raise InvalidOutputError(
                    f"the gateway answered for {answer.height} x {answer.width} pixels, the film "
                    f"is {film.height} x {film.width}; both must read the film the same way"
                )
        except SpineZooError as error:
            return _failed(name, film, error, member_names)
        measured = await asyncio.to_thread(_measure, answer, film)
        outlines = {
            member.status.member_name: member.prediction.segments
            for member in answer.members
            if member.prediction is not None
        }
        await asyncio.to_thread(
            self._folder.write_answer,
            name,
            {**outlines, FUSED: answer.fused.segments, NAMED: measured.named},
        )
        timing = answer.timing
        return FilmRecord(
            name=name,
            sha256=film.sha256,
            height=film.height,
            width=film.width,
            failure=None,
            members={
                member.status.member_name: _member_record(
                    member,
                    measured.members.get(member.status.member_name),
                    measured.columns.get(member.status.member_name),
                )
                for member in answer.members
            },
            fused=MemberRecord(measured.fused, None, column=measured.columns[FUSED]),
            disagreement=measured.disagreement,
            gateway_ms={key.removesuffix("_ms"): getattr(timing, key) for key in timing.__slots__},
            elapsed_ms=elapsed_ms,
            evaluator=await self._ask_evaluator(film, answer, measured),
        )

    async def _ask(self, film: Film) -> EnsembleAnswer:
        """The gateway's answer; waits for a gateway that is away or full while time is left."""
        for attempt in itertools.count():
            try:
                return await self._ensemble.segment(
                    film.data, self._options, timeout_s=self._timeout_s
                )
            except QuorumError:
                raise
            except (NotServingError, QueueFullError) as error:
                pause_s = min(2.0**attempt, 8.0)
                if attempt == 4 or self._retry_left_s < pause_s:
                    raise
                self._retry_left_s -= pause_s
                log.info("%s: %s; asking again in %g s", film.name, error_name(error), pause_s)
                await asyncio.sleep(pause_s)
        raise AssertionError("the loop only ends by return or raise")

    async def _ask_evaluator(self, film: Film, answer: EnsembleAnswer, measured: _Measured) -> str:
        """Has the evaluator measure the same film; "agrees" or what is amiss."""
        expected: dict[str, dict[str, float | None]] = {
            name: measurement.values() for name, measurement in measured.members.items()
        }
        fused = measured.fused.values()
        expected[FUSED] = {name: fused[name] for name in METRICS if name not in STUDY_METRICS}
        expected[_FUSED_MERGED] = {name: fused[name] for name in STUDY_METRICS}
        predictions = {
            member.status.member_name: member.prediction.segments
            for member in answer.members
            if member.prediction is not None
        }
        predictions[FUSED] = answer.fused.segments
        predictions[_FUSED_MERGED] = merged_segment(answer.fused.merged_mask)
        pairs = [
            EvaluationPair(film.name, model, film.height, film.width, film.truth, segments)
            for model, segments in predictions.items()
        ]
        try:
            models = await self._evaluation.evaluate(pairs, timeout_s=self._timeout_s)
        except SpineZooError as error:
            log.warning("the evaluator did not measure %s: %s", film.name, error)
            return f"no answer: {error_name(error)}"
        got = {
            model.model_name: {metric.name: metric.film_mean for metric in model.metrics}
            for model in models
        }
        for model, values in expected.items():
            for metric, value in values.items():
                if got.get(model, {}).get(metric) != value:
                    log.error("the evaluator disagrees on %s, %s, %s", film.name, model, metric)
                    return f"differs: {model}, {metric}"
        return "agrees"


def _failed(
    name: str, film: Film | None, error: Exception, member_names: Sequence[str]
) -> FilmRecord:
    """A film without an answer: failed for every member, each with its own reason if known."""
    if isinstance(error, SpineZooError):
        failure = Failure(error_name(error), str(error))
    else:
        failure = Failure(type(error).__name__, "unexpected; the run's log holds the place")
    statuses = _statuses(error)
    members = {}
    for member in member_names:
        code, message, latency_ms = statuses.get(member, ("", "", None))
        if not code:
            of_member = Failure(failure.reason, "the film has no answer")
        elif code == MemberCode.OK.name:
            of_member = Failure("answer_lost", "it answered, but too few others did")
        else:
            of_member = Failure(code.lower(), message)
        members[member] = MemberRecord(None, of_member, latency_ms)
    return FilmRecord(
        name=name,
        sha256="" if film is None else film.sha256,
        height=0 if film is None else film.height,
        width=0 if film is None else film.width,
        failure=failure,
        members=members,
        fused=MemberRecord(None, failure),
    )


def _statuses(error: Exception) -> dict[str, tuple[str, str, float | None]]:
    """Code, message and latency of each member where the gateway has named them."""
    call: Any = error.__cause__
    with contextlib.suppress(AttributeError, ValueError, TypeError, KeyError):
        for key, value in call.trailing_metadata() or ():
            if key == MEMBERS_KEY:
                return {
                    str(entry["member_name"]): (
                        str(entry["code"]),
                        str(entry["message"]),
                        float(entry["latency_ms"]),
                    )
                    for entry in json.loads(value)
                }
    return {}
