"""What the gateway is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from spinezoo_contract.errors import InvalidOutputError, OptionError
from spinezoo_contract.limits import check_film_size
from spinezoo_contract.types.checks import check_times
from spinezoo_contract.types.fusion import FusedAnswer, FusionOptions, ReaderProvenance
from spinezoo_contract.types.measures import MeasureOptions, RefinerProvenance
from spinezoo_contract.types.models import ModelInfo, Prediction, PredictOptions
from spinezoo_contract.types.notes import FilmNote
from spinezoo_contract.types.outlines import check_sizes


class MemberCode(IntEnum):
    """How a member of the ensemble fared."""

    OK = 1
    DEADLINE_EXCEEDED = 2
    UNAVAILABLE = 3
    INVALID_OUTPUT = 4
    RESOURCE_EXHAUSTED = 5
    INVALID_ARGUMENT = 6
    INTERNAL = 7


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """How one member fared on one film."""

    member_name: str
    code: MemberCode
    latency_ms: float
    message: str = ""

    def __post_init__(self) -> None:
        """Checks name and latency.

        Raises:
            InvalidOutputError: The name is missing or the latency wrong.
        """
        if not self.member_name:
            raise InvalidOutputError("a member status names no member")
        check_times(latency_ms=self.latency_ms)


@dataclass(frozen=True, slots=True)
class MemberAnswer:
    """One member's answer, or the name of its failure (then ``prediction`` is None)."""

    status: MemberStatus
    prediction: Prediction | None

    def __post_init__(self) -> None:
        """Checks that there is an answer exactly where the status says so.

        Raises:
            InvalidOutputError: There is not.
        """
        name, failed = self.status.member_name, self.status.code != MemberCode.OK
        if failed and self.prediction is not None:
            raise InvalidOutputError(f"member {name!r} failed, yet carries outlines")
        if not failed and self.prediction is None:
            raise InvalidOutputError(f"member {name!r} answered without provenance")


@dataclass(frozen=True, slots=True)
class GatewayTiming:
    """Where the gateway's own time went, in ms of wall clock."""

    decode_ms: float
    fan_out_ms: float
    fuse_ms: float
    total_ms: float

    def __post_init__(self) -> None:
        """Checks the times.

        Raises:
            InvalidOutputError: A time is negative or not finite.
        """
        check_times(
            decode_ms=self.decode_ms,
            fan_out_ms=self.fan_out_ms,
            fuse_ms=self.fuse_ms,
            total_ms=self.total_ms,
        )


def _check_one_film(answer: EnsembleAnswer | EnsembleSummary) -> None:
    """Checks that an answer's size is a film's, and its fused masks are of that size."""
    check_film_size(answer.height, answer.width, None)
    answer.fused.check_size(answer.height, answer.width)


@dataclass(frozen=True, slots=True)
class EnsembleAnswer:
    """The gateway's answer: every asked member by name, the fused masks, notes on the film."""

    height: int
    width: int
    members: tuple[MemberAnswer, ...]
    fused: FusedAnswer
    timing: GatewayTiming
    notes: tuple[FilmNote, ...] = ()

    def __post_init__(self) -> None:
        """Checks that all of it is of one film.

        Raises:
            FilmError: The film's size is below the least.
            TooLargeError: The film's size is over a limit.
            MaskError: A mask has another size.
        """
        _check_one_film(self)
        for member in self.members:
            if member.prediction is not None:
                check_sizes(member.prediction.segments, self.height, self.width)


@dataclass(frozen=True, slots=True)
class EnsembleSummary:
    """The last message of a stream: how every member fared, and the fused masks."""

    height: int
    width: int
    statuses: tuple[MemberStatus, ...]
    fused: FusedAnswer
    timing: GatewayTiming
    notes: tuple[FilmNote, ...] = ()

    def __post_init__(self) -> None:
        """Checks that all of it is of one film.

        Raises:
            FilmError: The film's size is below the least.
            TooLargeError: The film's size is over a limit.
            MaskError: A mask has another size.
        """
        _check_one_film(self)


@dataclass(frozen=True, slots=True)
class EnsembleOptions:
    """What a request asks of the gateway beside the film; None takes the gateway's default.

    Attributes:
        options: Settings passed to every member.
        member_names: Members to ask; empty asks all in the roster.
        fusion: How to fuse.
        member_deadline_ms: Time each member has.
        quorum: Members that must answer for the call to succeed.
        measures: How to measure; None measures nothing.
    """

    options: PredictOptions = field(default_factory=PredictOptions)
    member_names: tuple[str, ...] = ()
    fusion: FusionOptions | None = None
    member_deadline_ms: int | None = None
    quorum: int | None = None
    measures: MeasureOptions | None = None

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            OptionError: A setting is out of its range.
        """
        if self.quorum == 0:
            raise OptionError("quorum is 0; send 1 or more, or leave it out")
        if self.member_deadline_ms == 0:
            raise OptionError("member_deadline_ms is 0; send 1 or more, or leave it out")
        if len(set(self.member_names)) != len(self.member_names):
            raise OptionError("a member is named twice; name each member once")


class NewcomerState(IntEnum):
    """How far the gateway is with a newcomer."""

    CHECKING = 1
    REFUSED = 2


@dataclass(frozen=True, slots=True)
class NewcomerStatus:
    """What the roster names for a member and the gateway has not taken in.

    Attributes:
        target: Where the gateway reaches it.
        state: Whether it is still being checked.
        reason: For a person: why it is refused; empty while it is being checked.
    """

    target: str
    state: NewcomerState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RosterMember:
    """A member of the roster, as ``ListModels`` shows it.

    Attributes:
        member_name: Its name.
        target: The target that films go to; a newcomer's own where there is no other.
        status: Whether it is serving. Its message tells a person of the newcomer too.
        model: What it says of itself; None while it has not been reached yet.
        newcomer: What is to replace it or to join under its name; None when the roster names what
            serves.
    """

    member_name: str
    target: str
    status: MemberStatus
    model: ModelInfo | None = None
    newcomer: NewcomerStatus | None = None


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is in the zoo, by name, the gateway's defaults, and which reader and refiner serve."""

    members: tuple[RosterMember, ...]
    default_quorum: int
    default_member_deadline_ms: int
    reader: ReaderProvenance | None = None
    refiner: RefinerProvenance | None = None
