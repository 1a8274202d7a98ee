"""The gateway's service: one film to every member at once, and one answer of them all."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from spinezoo.v1 import ensemble_pb2, ensemble_pb2_grpc, image_pb2
from spinezoo_contract import codec
from spinezoo_contract.errors import (
    BadInputError,
    NotServingError,
    OptionError,
    QueueFullError,
    QuorumError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.status import MEMBERS_KEY, REQUEST_ID_KEY
from spinezoo_contract.types import (
    EnsembleOptions,
    Film,
    FusedAnswer,
    FusedImplant,
    FusionOptions,
    GatewayTiming,
    MeasureOptions,
    MemberCode,
    MemberStatus,
    Segment,
)
from spinezoo_contract.words import are, counted
from spinezoo_serving.logs import REQUEST_ID
from spinezoo_spine.column import consensus, naming
from spinezoo_spine.column.reader.network import ColumnReader
from spinezoo_spine.films.notes import spacing_plane
from spinezoo_spine.fusion import rods, touching
from spinezoo_spine.fusion import votes as fusion
from spinezoo_spine.measures.film import measure_film, refiner_provenance
from spinezoo_spine.measures.refiner.network import LandmarkRefiner

from spinezoo_gateway.members import MemberClient, MemberResult, Vote
from spinezoo_gateway.sent import ReadFilm, SentFilm, sent_film
from spinezoo_gateway.settings import MAX_DEADLINE_MS, GatewaySettings
from spinezoo_gateway.twins import Votes
from spinezoo_gateway.zoo import Zoo

_DETAIL_CHARACTERS = 1500
"""Characters of member messages in a failure: gRPC limits a call's metadata to 8 KiB."""

_RESERVE_S = (0.02, 0.5)
"""Of a client's own deadline, kept back for fusing and sending: a tenth within these limits."""

HEAD_START_S = 0.003
"""How long the film of the slowest member goes out alone, in s."""

HEAD_START_BYTES = 262_144
"""Smaller films go out to all at once: they are gone before it matters."""

SPARE_MS = 20.0
"""How much faster than the slowest a member usually is, in ms, that waits for the head start."""

_IMPLANTS = ThreadPoolExecutor(4, thread_name_prefix="implants")
"""Fuses implants beside the naming of vertebrae."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request that has been checked, up to the film.

    Attributes:
        options: What is asked.
        clients: The members to ask, sorted by name.
        quorum: Members that must answer.
        fusion: How to fuse, with every member's weight.
    """

    options: EnsembleOptions
    clients: tuple[MemberClient, ...]
    quorum: int
    fusion: FusionOptions

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the members asked, also those that leave the roster while the film is read."""
        with contextlib.ExitStack() as stack:
            for client in self.clients:
                stack.enter_context(client.held())
            yield


@dataclass(slots=True)
class Clock:
    """Collects the gateway's own times; all in s of the performance counter."""

    began: float
    decoded: float = 0.0
    asked: float = 0.0
    answered: float = 0.0

    def timing(self) -> GatewayTiming:
        """The split, with fusing ending now."""
        now = time.perf_counter()
        return GatewayTiming(
            decode_ms=(self.decoded - self.began) * 1000.0,
            fan_out_ms=(self.answered - self.asked) * 1000.0,
            fuse_ms=(now - self.answered) * 1000.0,
            total_ms=(now - self.began) * 1000.0,
        )


class EnsembleServicer(ensemble_pb2_grpc.EnsembleServiceServicer):
    """``spinezoo.v1.EnsembleService`` over the members of a :class:`Zoo`."""

    def __init__(
        self,
        zoo: Zoo,
        settings: GatewaySettings,
        *,
        reader: ColumnReader,
        refiner: LandmarkRefiner,
        read_film: ReadFilm,
        max_pixels: int,
        observe: Callable[[MemberResult], None] = lambda _: None,
    ) -> None:
        """Holds no state of its own but the number of films under way.

        Args:
            zoo: The members.
            settings: Defaults and limits.
            reader: Names vertebrae.
            refiner: Looks for endplates on the film, where measures are asked for.
            read_film: Decoder of DICOM and encoded films; called in a thread.
            max_pixels: Most pixels of a film.
            observe: Told of every member's result, for metrics.
        """
        self._zoo = zoo
        self._settings = settings
        self._reader = reader
        self._refiner = refiner
        self._read_film = read_film
        self._max_pixels = max_pixels
        self._observe = observe
        self._under_way = 0

    # ------------------------------------------------------------------ the three methods

    async def Segment(  # noqa: N802
        self,
        request: ensemble_pb2.SegmentRequest,
        context: Any,
    ) -> ensemble_pb2.SegmentResponse:
        """One film to every member at once; see ``ensemble.proto``."""
        with self._place():
            clock = Clock(time.perf_counter())
            question = self._question(request)
            results: list[MemberResult] = []
            with question.held():
                sent = await self._film(request, question, clock)
                answers = self._ask_all(question, sent, clock, context)
                async with contextlib.aclosing(answers):
                    async for result in answers:
                        results.append(result)
            fused = await self._fuse(question, results, sent.film)
            results.sort(key=lambda result: result.name)
            response = ensemble_pb2.SegmentResponse(
                height=sent.film.height,
                width=sent.film.width,
                notes=sent.notes,
                members=[result.message for result in results],
                fused=codec.to_proto(fused),
            )
            response.timing.CopyFrom(codec.to_proto(clock.timing()))
            return response

    async def SegmentStream(  # noqa: N802
        self,
        request: ensemble_pb2.SegmentStreamRequest,
        context: Any,
    ) -> AsyncIterator[ensemble_pb2.SegmentStreamResponse]:
        """Each member as it finishes, the summary last."""
        with self._place():
            clock = Clock(time.perf_counter())
            if not request.HasField("request"):
                raise OptionError("the stream's request is empty; set its field `request`")
            question = self._question(request.request)
            results: list[MemberResult] = []
            with question.held():
                sent = await self._film(request.request, question, clock)
                answers = self._ask_all(question, sent, clock, context)
                async with contextlib.aclosing(answers):
                    async for result in answers:
                        results.append(result)
                        yield ensemble_pb2.SegmentStreamResponse(member=result.message)
            fused = await self._fuse(question, results, sent.film)
            results.sort(key=lambda result: result.name)
            summary = ensemble_pb2.EnsembleSummary(
                height=sent.film.height,
                width=sent.film.width,
                notes=sent.notes,
                statuses=[result.message.status for result in results],
                fused=codec.to_proto(fused),
                timing=codec.to_proto(clock.timing()),
            )
            yield ensemble_pb2.SegmentStreamResponse(summary=summary)

    async def ListModels(  # noqa: N802
        self,
        request: ensemble_pb2.ListModelsRequest,
        context: Any,
    ) -> ensemble_pb2.ListModelsResponse:
        """Who is in the zoo, and whether it is serving now."""
        return ensemble_pb2.ListModelsResponse(
            members=[codec.to_proto(member) for member in await self._zoo.statuses()],
            default_quorum=self._settings.quorum,
            default_member_deadline_ms=self._settings.member_deadline_ms,
            reader=codec.to_proto(naming.reader_provenance(self._reader)),
            refiner=codec.to_proto(refiner_provenance(self._refiner)),
        )

    # ------------------------------------------------------------------ the steps

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """A place among the films under way.

        Raises:
            QueueFullError: All are taken.
        """
        if self._under_way >= self._settings.gateway_concurrency:
            raise QueueFullError(
                f"{counted(self._under_way, 'film')} {are(self._under_way)} under way, the limit "
                "(SPINEZOO_GATEWAY_CONCURRENCY); try again when one is done"
            )
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def _question(self, request: ensemble_pb2.SegmentRequest) -> Question:
        """Checks everything but the film.

        Raises:
            OptionError: A setting is out of its range or a member unknown.
            NotServingError: The roster is empty.
        """
        options = codec.from_proto(EnsembleOptions, request)
        clients = self._zoo.select(options.member_names)
        if not clients:
            raise NotServingError("the roster is empty; add a member to it")
        asked = len(clients)
        quorum = min(self._settings.quorum, asked) if options.quorum is None else options.quorum
        if quorum > asked:
            raise OptionError(
                f"quorum is {quorum}, but only {counted(asked, 'member')} {are(asked)} asked; "
                f"send 1 to {asked}"
            )
        if (options.member_deadline_ms or 0) > MAX_DEADLINE_MS:
            raise OptionError(
                f"member_deadline_ms is {options.member_deadline_ms}; "
                f"send at most {MAX_DEADLINE_MS}"
            )
        asked_fusion = options.fusion or FusionOptions()
        names = {client.member.name for client in clients}
        foreign = sorted(set(asked_fusion.weights) - names)
        if foreign:
            raise OptionError(
                f"weights name {', '.join(map(repr, foreign))}, which are not asked; "
                f"asked are {', '.join(sorted(names))}"
            )
        weights = {client.member.name: client.member.weight for client in clients}
        return Question(
            options,
            clients,
            quorum,
            FusionOptions(asked_fusion.rule, {**weights, **asked_fusion.weights}),
        )

    async def _film(
        self, request: ensemble_pb2.SegmentRequest, question: Question, clock: Clock
    ) -> SentFilm:
        """The film, decoded once, and shrunk once for each canvas that members have.

        Raises:
            FilmError: The film cannot be read.
            TooLargeError: It is over a size limit.
        """
        raw = request.image.raw
        canvases = {client.canvas for client in question.clients}
        quick = (
            request.image.WhichOneof("form") == "raw"
            and raw.pixel_type != image_pb2.PIXEL_TYPE_FLOAT32
            and canvases == {None}
        )
        prepare = functools.partial(
            sent_film, request, self._read_film, max_pixels=self._max_pixels, canvases=canvases
        )
        # Whole-number pixels need no look at each of them: no reason to leave the event loop.
        film = prepare() if quick else await asyncio.to_thread(prepare)
        clock.decoded = time.perf_counter()
        return film

    async def _ask_all(
        self,
        question: Question,
        sent: SentFilm,
        clock: Clock,
        context: Any,
    ) -> AsyncGenerator[MemberResult, None]:
        """Asks every member at once and yields each result as it comes.

        A member that is set aside is not waited for, unless the quorum cannot be met without it.
        Where it answers no later than the others, as a trial, its answer counts.

        Of members that are the same network the first to answer votes.

        When the consumer stops, or the client cancels, the calls under way are cancelled too;
        trials go on.
        """
        metadata = ((REQUEST_ID_KEY, REQUEST_ID.get()),) if REQUEST_ID.get() else ()
        remaining_s = context.time_remaining()
        clock.asked = time.perf_counter()
        # The slowest first: the answer waits for it, and sending a film takes both ends some ms of
        # processor time, which the others' films would share. They have the time to spare.
        waited = [each for each in question.clients if not each.patience.set_aside]
        if len(waited) < question.quorum:
            waited = list(question.clients)
        ordered = sorted(waited, key=lambda each: -each.patience.usual_ms)
        slowest_ms = ordered[0].patience.usual_ms

        votes = Votes()

        async def ask(client: MemberClient) -> MemberResult:
            deadline_s = self._deadline_s(question, client, remaining_s)
            if (
                len(sent.question(client.canvas)) >= HEAD_START_BYTES
                and 0.0 < client.patience.usual_ms < slowest_ms - SPARE_MS
                and deadline_s > 10.0 * HEAD_START_S
            ):
                await asyncio.sleep(HEAD_START_S)
                deadline_s -= HEAD_START_S
            return await client.ask(sent, deadline_s=deadline_s, metadata=metadata)

        tasks = [asyncio.create_task(ask(client)) for client in ordered]
        trials = {
            client: client.trial(sent, metadata=metadata)
            for client in question.clients
            if client not in waited
        }
        try:
            for task in asyncio.as_completed(tasks):
                result = votes.once(await task)
                self._observe(result)
                clock.answered = time.perf_counter()
                yield result
            for client, trial in trials.items():
                tried = trial is not None and trial.done() and not trial.cancelled()
                result = trial.result() if trial is not None and tried else client.without()
                result = votes.once(result)
                self._observe(result)
                yield result
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _deadline_s(
        self, question: Question, client: MemberClient, remaining_s: float | None
    ) -> float:
        """Time of one member, in s: the request's, else its own, else the default.

        Never past the client's own deadline.
        """
        deadline_ms = (
            question.options.member_deadline_ms
            or client.member.deadline_ms
            or self._settings.member_deadline_ms
        )
        deadline_s = deadline_ms / 1000.0
        if remaining_s is not None:
            least, most = _RESERVE_S
            reserve_s = min(most, max(least, remaining_s / 10.0))
            deadline_s = min(deadline_s, remaining_s - reserve_s)
        return max(0.001, deadline_s)

    async def _fuse(
        self, question: Question, results: Sequence[MemberResult], film: Film
    ) -> FusedAnswer:
        """Fuses what was answered, and names it; in a thread, for that takes some milliseconds.

        Raises:
            BadInputError: Every member refused the film.
            QueueFullError: Too few answered, and the others have no place in their queues.
            QuorumError: Too few answered.
        """
        votes = {result.name: result.vote for result in results if result.vote is not None}
        if len(votes) < question.quorum:
            raise quorum_failure(
                [codec.from_proto(MemberStatus, result.message.status) for result in results],
                question.quorum,
            )
        weights = {name: question.fusion.weights[name] for name in votes}
        options = FusionOptions(question.fusion.rule, weights)
        asked = question.options.measures
        return await asyncio.to_thread(
            fuse_and_name, votes, options, film, self._reader, asked, self._refiner
        )


def fuse_and_name(
    votes: Mapping[str, Vote],
    options: FusionOptions,
    film: Film,
    reader: ColumnReader,
    asked: MeasureOptions | None = None,
    refiner: LandmarkRefiner | None = None,
) -> FusedAnswer:
    """The fused answer with its vertebrae as objects, named, and its implants as objects.

    Where measures are asked for, it is measured too; without a refiner by outlines alone.

    Raises:
        OptionError: As :func:`spinezoo_spine.fusion.votes.count`.
        InvalidOutputError: The reader or the refiner answered nonsense.
    """
    fused = fusion.count({name: vote.ballot for name, vote in votes.items()}, options)
    # Column and implants need nothing of each other: an idle processor takes the implants.
    objects = _IMPLANTS.submit(_fused_implants, votes, fused.segments, options, film)
    said = {name: vote.vertebrae for name, vote in votes.items()}
    vertebrae = consensus.fuse_vertebrae(said, fused.segments, options)
    alone = [said[name].segments for name in sorted(said)]
    labelling = naming.named_vertebrae(vertebrae, film.pixels, reader, alone)
    found = objects.result()
    placed = touching.placed_in_column(found, labelling)
    measured = None
    if asked is not None:
        spacing_mm = (film.row_spacing_mm, film.column_spacing_mm)
        measured = measure_film(
            labelling, said, placed, spacing_mm, asked,
            plane=spacing_plane(film), pixels=film.pixels, refiner=refiner,
        )  # fmt: skip
    return replace(fused, labelling=labelling, implants=placed, measures=measured)


def _fused_implants(
    votes: Mapping[str, Vote], fused: Sequence[Segment], options: FusionOptions, film: Film
) -> tuple[FusedImplant, ...]:
    """The members' implants as objects, once the last one's have been taken apart."""
    metal = {name: vote.implants.result() for name, vote in votes.items()}
    return rods.fuse_implants_on_film(metal, fused, options, film)


def quorum_failure(statuses: Sequence[MemberStatus], quorum: int) -> SpineZooError:
    """The error for too few answers: it names every member that failed, and how.

    Args:
        statuses: How each member fared.
        quorum: Members that had to answer.
    """
    ordered = sorted(statuses, key=lambda status: status.member_name)
    failed = [status for status in ordered if status.code != MemberCode.OK]
    room = max(40, min(300, _DETAIL_CHARACTERS // max(1, len(failed))))
    codes = {status.code for status in failed}
    if codes == {MemberCode.INVALID_ARGUMENT} and len(failed) == len(ordered):
        error: SpineZooError = BadInputError(
            f"every member refused the film; {failed[0].member_name}: {failed[0].message[:room]}"
        )
    else:
        listed = "; ".join(
            f"{status.member_name} {status.code.name.lower()}: {status.message[:room]}"
            for status in failed
        )
        text = (
            f"{len(ordered) - len(failed)} of {counted(len(ordered), 'member')} answered, the "
            f"quorum is {quorum}. Failed: {listed}"
        )
        error = QuorumError(text)
        if codes == {MemberCode.RESOURCE_EXHAUSTED}:
            # The code stands for a full queue and for a film over a limit, which names the limit.
            too_large = all("SPINEZOO_MAX_" in status.message for status in failed)
            error = TooLargeError(text) if too_large else QueueFullError(text)
    entries = [
        {
            "member_name": status.member_name,
            "code": status.code.name,
            "latency_ms": round(status.latency_ms, 1),
            "message": status.message[:room],
        }
        for status in ordered
    ]
    # spinezoo_contract.status sends this along with the error.
    error.trailing_metadata = ((MEMBERS_KEY, json.dumps(entries)),)
    return error
