"""Several networks' outlines as one, and the named column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from spinezoo_contract.errors import InvalidOutputError, MaskError, OptionError
from spinezoo_contract.limits import LEVEL, MAX_WEIGHT
from spinezoo_contract.types.checks import check_share
from spinezoo_contract.types.measures import FilmMeasures
from spinezoo_contract.types.outlines import (
    VERTEBRAE,
    RunLengthMask,
    Segment,
    check_mask_size,
    check_sizes,
)


class FusionRule(IntEnum):
    """When a pixel is in the fused mask; see ``fusion.proto`` for ties."""

    UNION = 1
    INTERSECTION = 2
    MAJORITY = 3
    WEIGHTED_VOTE = 4


@dataclass(frozen=True, slots=True)
class FusionOptions:
    """How to fuse; a member without a weight weighs 1."""

    rule: FusionRule = FusionRule.MAJORITY
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the weights.

        Raises:
            OptionError: A weight is not greater than 0, or over 1e300.
        """
        for name, weight in self.weights.items():
            if not 0.0 < weight <= MAX_WEIGHT:
                raise OptionError(
                    f"weight of {name!r} is {weight}; send a number greater than 0, at most "
                    f"{MAX_WEIGHT:g}"
                )


class UnnamedReason(IntEnum):
    """Why a vertebra has no name; see ``labelling.proto``."""

    NO_SACRUM = 1
    SACRUM_UNSURE = 2
    SPACING = 3
    DUPLICATE = 4
    OFF_COLUMN = 5
    FRAGMENT = 6
    SEVERAL = 7
    BEYOND = 8


class FilmView(IntEnum):
    """What a film shows; see ``labelling.proto``."""

    LATERAL = 1
    UPSIDE_DOWN = 2
    TURNED = 3
    NO_LATERAL_COLUMN = 4


@dataclass(frozen=True, slots=True)
class FilmReading:
    """What the reader says of a film as a whole; probabilities, 0 to 1."""

    view: FilmView
    lateral_probability: float
    upside_down_probability: float
    turned_probability: float
    no_lateral_column_probability: float
    sacrum_not_in_view_probability: float

    def __post_init__(self) -> None:
        """Checks the probabilities.

        Raises:
            InvalidOutputError: One is not within 0 and 1.
        """
        for name in self.__dataclass_fields__:
            if name != "view":
                check_share(getattr(self, name), name, InvalidOutputError)


@dataclass(frozen=True, slots=True)
class ReaderProvenance:
    """Which reader gave the names, and from which probability on.

    Attributes:
        name: Of the reader.
        version: Of its card.
        weights_sha256: Of its weights file.
        threshold: Names are given from this probability on; where the sacrum is hardly in view the
            reader asks for more.
    """

    name: str
    version: str
    weights_sha256: str
    threshold: float


@dataclass(frozen=True, slots=True)
class NamedVertebra:
    """One vertebra of the column.

    Attributes:
        segment: Its outline, an instance; ``level`` is set where it is named, and ``structure``
            is then what a vertebra of that level is.
        confidence: Calibrated probability of the name, 0 to 1; where it is too little, see
            :class:`ReaderProvenance`, the name is withheld.
        unnamed_reason: Why it has no name, None where it has one.
        level_probabilities: Calibrated probability of each level from 0.001 on.
        no_vertebra_probability: That the outline is not one vertebra.
    """

    segment: Segment
    confidence: float
    unnamed_reason: UnnamedReason | None
    level_probabilities: Mapping[str, float] = field(default_factory=dict)
    no_vertebra_probability: float = 0.0

    def __post_init__(self) -> None:
        """Checks that there is either a name or a reason.

        Raises:
            InvalidOutputError: Both, neither, or no confidence.
        """
        if (self.segment.level is None) == (self.unnamed_reason is None):
            raise InvalidOutputError("send a level, or the reason why there is none")
        check_share(self.confidence, "confidence", InvalidOutputError)
        check_share(self.no_vertebra_probability, "no_vertebra_probability", InvalidOutputError)
        for level, probability in self.level_probabilities.items():
            if LEVEL.fullmatch(level) is None:
                raise InvalidOutputError("a possible level is not of the form L4; correct it")
            check_share(probability, f"probability of {level}", InvalidOutputError)


@dataclass(frozen=True, slots=True)
class Labelling:
    """The column of one film; see ``labelling.proto``. None stands for "cannot say"."""

    vertebrae: tuple[NamedVertebra, ...]
    sacrum_in_view: bool
    missing_levels: tuple[str, ...] = ()
    lumbar_count: int | None = None
    suspected_lumbar_count: int | None = None
    count_reason: str = ""
    film: FilmReading | None = None
    reader: ReaderProvenance | None = None

    def __post_init__(self) -> None:
        """Checks the levels.

        Raises:
            InvalidOutputError: A missing level is no level.
        """
        if any(LEVEL.fullmatch(level) is None for level in self.missing_levels):
            raise InvalidOutputError("a missing level is not of the form L4, S1 or T12; correct it")


@dataclass(frozen=True, slots=True)
class FusedImplant:
    """One screw, rod or cage that enough members have.

    Attributes:
        segment: Its outline, an instance; the score is the share of all votes for it.
        touches: Levels of the named vertebrae that it touches, from above; none: cannot say.
        member_names: Members that brought an outline of it, sorted; none where only the fused
            regions show it.
    """

    segment: Segment
    touches: tuple[str, ...] = ()
    member_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the structure and the levels.

        Raises:
            InvalidOutputError: A vertebra, or a level that is none.
        """
        if self.segment.structure in VERTEBRAE:
            raise InvalidOutputError("an implant is a cage, screw or rod; correct its structure")
        if any(LEVEL.fullmatch(level) is None for level in self.touches):
            raise InvalidOutputError("a touched level is not of the form L4, S1 or T12; correct it")


@dataclass(frozen=True, slots=True)
class FusedAnswer:
    """Several members' masks as one.

    Attributes:
        segments: One region a structure.
        merged_mask: All structures united; None where it is empty.
        rule: How it was fused.
        member_names: Whose masks took part.
        labelling: The members' vertebrae, fused and named; None in an answer of ``Fuse``.
        implants: The members' implants, fused as objects; none in an answer of ``Fuse``.
        measures: Corners, angles, heights; None unless the request asks for them.
    """

    segments: tuple[Segment, ...]
    merged_mask: RunLengthMask | None
    rule: FusionRule
    member_names: tuple[str, ...]
    labelling: Labelling | None = None
    implants: tuple[FusedImplant, ...] = ()
    measures: FilmMeasures | None = None

    def __post_init__(self) -> None:
        """Checks the merged mask.

        Raises:
            MaskError: It is empty or breaks the contract.
        """
        if self.merged_mask is not None and self.merged_mask.area == 0:
            raise MaskError("mask is empty; leave a segment without pixels out")

    def check_size(self, height: int, width: int) -> None:
        """Checks that every mask has the size of the film.

        Raises:
            MaskError: One has another size.
        """
        check_sizes(self.segments, height, width)
        if self.merged_mask is not None:
            check_mask_size(self.merged_mask, height, width)
        if self.labelling is not None:
            check_sizes((each.segment for each in self.labelling.vertebrae), height, width)
        check_sizes((each.segment for each in self.implants), height, width)
