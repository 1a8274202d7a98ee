"""Sends a set of films through the gateway and measures what comes back.

Every member and the fused ensemble are measured here, on run lengths. The evaluator service
measures one film of each run over the wire, and the two have to agree to the last bit. A member
that fails on a film is counted as failed on it and named; a film that fails as a whole is named,
and the run goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from spinezoo_contract.client import AsyncEnsembleClient, AsyncEvaluationClient
from spinezoo_contract.errors import (
    FilmError,
    InvalidOutputError,
    NotServingError,
    QueueFullError,
    QuorumError,
    SpineZooError,
)
from spinezoo_contract.status import MEMBERS_KEY, error_name
from spinezoo_contract.types import (
    EnsembleAnswer,
    EnsembleOptions,
    EvaluationPair,
    MemberAnswer,
    MemberCode,
)
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_spine.implant_parts import IMPLANTS
from spinezoo_spine.metrics.film import FilmMeasurement
from spinezoo_spine.metrics.registry import METRICS, STUDY_METRICS

from spinezoo_evaluator.benchmark.measuring import (
    Film,
    Measured,
    load_film,
    measure,
    merged_segment,
)
from spinezoo_evaluator.benchmark.zoo import Patience
from spinezoo_evaluator.results.columns import ColumnCounts
from spinezoo_evaluator.results.records import (
    FUSED,
    Failure,
    FilmRecord,
    MemberRecord,
    RunFolder,
    named,
)

_FUSED_MERGED = "fused ensemble, merged mask"
"""Name under which the evaluator measures the fused merged mask."""

_FUSED_IMPLANTS = "fused ensemble, implants"
"""Name under which the evaluator measures the fused implants, which are objects."""

RETRY_BUDGET_S = 60.0
"""Waiting for a gateway that is away or has no room, in s, over a whole run."""

log = logging.getLogger("spinezoo.benchmark")


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


async def ask_evaluator(
    evaluation: AsyncEvaluationClient,
    film: Film,
    answer: EnsembleAnswer,
    measured: Measured,
    *,
    timeout_s: float,
) -> str:
    """Has the evaluator service measure the same film; "agrees" or what is amiss.

    Its figures have to be ours to the last bit.

    Raises:
        SpineZooError: It gave no answer.
    """
    expected: dict[str, dict[str, float | None]] = {
        name: measurement.values() for name, measurement in measured.members.items()
    }
    fused = measured.fused.values()
    implants = [implant.segment for implant in answer.fused.implants]
    of_implants = tuple(f"recognition_rate_{one.name.lower()}" for one in IMPLANTS if implants)
    apart = {*STUDY_METRICS, *of_implants}
    expected[FUSED] = {name: fused[name] for name in METRICS if name not in apart}
    expected[_FUSED_MERGED] = {name: fused[name] for name in STUDY_METRICS}
    expected[_FUSED_IMPLANTS] = {name: fused[name] for name in of_implants}
    predictions = {
        member.status.member_name: member.prediction.segments
        for member in answer.members
        if member.prediction is not None
    }
    predictions[FUSED] = answer.fused.segments
    predictions[_FUSED_MERGED] = merged_segment(answer.fused.merged_mask)
    predictions[_FUSED_IMPLANTS] = tuple(implants)
    pairs = [
        EvaluationPair(film.name, model, film.height, film.width, film.truth, segments)
        for model, segments in predictions.items()
    ]
    models = await evaluation.evaluate(pairs, timeout_s=timeout_s)
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


class Runner:
    """One run over some films.

    Args:
        films: The films and their truth.
        folder: Where records and answers go.
        ensemble: Client of the gateway.
        evaluation: Client of the evaluator.
        options: What is asked of the gateway for every film.
        timeout_s: Time a film has, in s.
        checked: Whether the evaluator service has measured a film of this run already.
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
        checked: bool = False,
    ) -> None:
        self._films = films
        self._folder = folder
        self._ensemble = ensemble
        self._evaluation = evaluation
        self._options = options
        self._timeout_s = timeout_s
        self._retry_left_s = RETRY_BUDGET_S
        self._checked = checked
        self._checking = asyncio.Lock()
        self._gateway = Patience("gateway", timeout_s)
        self._evaluator = Patience("evaluator", timeout_s)

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

        Raises:
            DeadlineError: Gateway or evaluator hangs; films under way have been recorded.
        """
        waiting = iter(names)

        async def work() -> None:
            for name in waiting:
                if self._gateway.is_over or self._evaluator.is_over:
                    return
                try:
                    record = await self._film(name, member_names)
                except OSError:  # the run's own disk: every further film would be lost too
                    raise
                except Exception as error:
                    # Nobody foresaw it; the film is named with it and the others go on.
                    log.exception("film %s failed in an unexpected way", name)
                    record = _failed(name, None, error, member_names)
                self._folder.append(record)
                done(record)

        async with asyncio.TaskGroup() as group:
            for _ in range(max(1, concurrency)):
                group.create_task(work())
        self._gateway.check()
        self._evaluator.check()

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
            self._gateway.heard(None)
            if (answer.height, answer.width) != (film.height, film.width):
                raise InvalidOutputError(
                    f"the gateway answered for {answer.height} x {answer.width} pixels, the film "
                    f"is {film.height} x {film.width}; both must read the film the same way"
                )
        except SpineZooError as error:
            self._gateway.heard(error)
            return _failed(name, film, error, member_names)
        measured = await asyncio.to_thread(measure, answer, film, built_in_reader())
        outlines = {
            member.status.member_name: member.prediction.segments
            for member in answer.members
            if member.prediction is not None
        }
        await asyncio.to_thread(
            self._folder.write_answer,
            name,
            {
                **outlines,
                FUSED: answer.fused.segments,
                **{named(model): vertebrae for model, vertebrae in measured.named.items()},
            },
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
            evaluator=await self._check(film, answer, measured),
            notes=answer.notes,
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

    async def _check(self, film: Film, answer: EnsembleAnswer, measured: Measured) -> str:
        """Has the evaluator measure one film of the run: the first that it answers."""
        async with self._checking:  # another film under way waits for the answer
            if self._checked or self._evaluator.is_over:
                return ""
            try:
                said = await ask_evaluator(
                    self._evaluation, film, answer, measured, timeout_s=self._timeout_s
                )
            except SpineZooError as error:
                self._evaluator.heard(error)
                log.warning("the evaluator did not measure %s: %s", film.name, error)
                return f"no answer: {error_name(error)}"
            self._checked = True
            return said


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
