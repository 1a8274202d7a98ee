"""What is measured on a film, from its outlines; see ``measures.proto``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from spinezoo_contract.errors import InvalidOutputError, OptionError
from spinezoo_contract.limits import LEVEL
from spinezoo_contract.types.checks import check_share


class MeasureKind(IntEnum):
    """What is measured; ``docs/measures.md`` defines each."""

    LORDOSIS = 1
    SEGMENTAL_ANGLE = 2
    DISC_ANGLE = 3
    LUMBOSACRAL_ANGLE = 4
    SACRAL_SLOPE = 5
    PELVIC_INCIDENCE = 6
    PELVIC_TILT = 7
    DISC_HEIGHT_ANTERIOR = 8
    DISC_HEIGHT_MIDDLE = 9
    DISC_HEIGHT_POSTERIOR = 10
    DISC_INDEX_HURXTHAL = 11
    DISC_INDEX_FARFAN = 12
    BODY_HEIGHT_ANTERIOR = 13
    BODY_HEIGHT_MIDDLE = 14
    BODY_HEIGHT_POSTERIOR = 15
    BODY_WEDGING = 16
    BODY_HEIGHT_LOSS = 17
    SLIP = 18
    SLIP_PERCENT = 19
    CAGE_POSITION = 20
    CAGE_TO_POSTERIOR_WALL = 21
    CAGE_SUBSIDENCE = 22
    SCREW_COUNT = 23
    SCREW_ANGLE = 24
    SCREW_BREACH = 25
    ROD_LEVELS = 26
    ROD_BREAKS = 27
    ROD_BREAK_GAP = 28
    DOUBLE_CONTOUR_UPPER = 29
    DOUBLE_CONTOUR_LOWER = 30


class MeasureUnit(IntEnum):
    """Unit of a measure."""

    DEGREE = 1
    MILLIMETRE = 2
    PERCENT = 3
    RATIO = 4
    COUNT = 5


class WithheldReason(IntEnum):
    """Why a measure has no value."""

    NO_VERTEBRA = 1
    DUPLICATE = 2
    CUT_BY_FILM = 3
    TOO_LITTLE_BORDER = 4
    NOT_UPRIGHT_LATERAL = 5
    FACING_UNSURE = 6
    NO_SPACING = 7
    NO_FEMORAL_HEADS = 8
    DISORDER = 9
    TOO_UNSURE = 10
    NOT_SHOWN = 11


class Facing(IntEnum):
    """Which way the patient looks on the film."""

    LEFT = 1
    RIGHT = 2


class MeasurePlane(IntEnum):
    """Where millimetres are measured; unsaid: where the film's Pixel Spacing holds."""

    DETECTOR = 1
    PATIENT = 2
    UNSAID = 3


class BodyCorner(IntEnum):
    """A corner of a vertebra."""

    SUPERIOR_POSTERIOR = 1
    SUPERIOR_ANTERIOR = 2
    INFERIOR_ANTERIOR = 3
    INFERIOR_POSTERIOR = 4


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """How to measure; giving it asks for measures.

    Attributes:
        magnification: Of the spine on the film; None measures by the film's spacing. Not used where
            that holds in the patient already.
    """

    magnification: float | None = None

    def __post_init__(self) -> None:
        """Checks the magnification.

        Raises:
            OptionError: It is not finite, or not within 1 and 3.
        """
        if self.magnification is not None and not 1.0 <= self.magnification <= 3.0:
            raise OptionError(
                f"magnification is {self.magnification}; send 1 to 3, or leave it out"
            )


@dataclass(frozen=True, slots=True)
class Point:
    """A place on the film, in pixels."""

    x: float
    y: float

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            InvalidOutputError: One is not finite.
        """
        # A film has hundreds of points: comparing is a third of asking math.isfinite.
        if not (-math.inf < self.x < math.inf and -math.inf < self.y < math.inf):
            raise InvalidOutputError("a point is not finite; leave it out")


@dataclass(frozen=True, slots=True)
class Landmark:
    """A corner, and the distance within which the true one lies on 9 of 10 films, in pixels."""

    corner: BodyCorner
    place: Point
    radius_px: float


@dataclass(frozen=True, slots=True)
class Osteophyte:
    """A bony spur at a corner; shares are of the body's depth and area; area 0: not outlined."""

    corner: BodyCorner
    length_mm: float | None
    length_share: float
    area_share: float
    tip: Point


@dataclass(frozen=True, slots=True)
class RodBreak:
    """A break of a rod, seen on the film.

    Attributes:
        implant_indices: The rod: places of the fused implants, from above.
        levels: The vertebrae between whose middles it lies; one beyond the last.
        upper_end: Lower end of the part above; None: a screw hides it.
        lower_end: Upper end of the part below; None: a screw hides it.
    """

    implant_indices: tuple[int, ...]
    levels: tuple[str, ...]
    upper_end: Point | None
    lower_end: Point | None


@dataclass(frozen=True, slots=True)
class RefinerProvenance:
    """Which refiner looked for endplates on the film."""

    name: str
    version: str
    weights_sha256: str


@dataclass(frozen=True, slots=True)
class BodyLandmarks:
    """The landmarks of one named vertebra; see ``measures.proto``."""

    level: str
    vertebra_index: int
    corners: tuple[Landmark, ...]
    contour: tuple[Point, ...]
    upper_middle: Point | None
    lower_middle: Point | None
    waviness: float
    osteophytes: tuple[Osteophyte, ...] = ()
    upper_refined: bool = False
    lower_refined: bool = False

    def __post_init__(self) -> None:
        """Checks the level.

        Raises:
            InvalidOutputError: It is none.
        """
        if LEVEL.fullmatch(self.level) is None:
            raise InvalidOutputError("a measured level is not of the form L4; correct it")


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure, or why it is withheld.

    Attributes:
        kind: What is measured.
        levels: Of which levels, from above.
        unit: Unit of value, low and high.
        value: The value; None: withheld.
        low: The 90 % interval begins here; None: withheld, or counted.
        high: It ends here.
        grade: Genant's or Meyerding's grade.
        withheld_reason: Why there is no value.
        vertebra_indices: Outlines that it rests on: places in the labelling's vertebrae.
        implant_index: The fused implant that it is about.
    """

    kind: MeasureKind
    levels: tuple[str, ...]
    unit: MeasureUnit
    value: float | None = None
    low: float | None = None
    high: float | None = None
    grade: int | None = None
    withheld_reason: WithheldReason | None = None
    vertebra_indices: tuple[int, ...] = ()
    implant_index: int | None = None

    def __post_init__(self) -> None:
        """Checks that there is either a value or a reason.

        Raises:
            InvalidOutputError: Both, neither, or a number that is not finite.
        """
        if (self.value is None) == (self.withheld_reason is None):
            raise InvalidOutputError("send a measure, or the reason why there is none")
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise InvalidOutputError("a measure is not finite; withhold it")


@dataclass(frozen=True, slots=True)
class FilmMeasures:
    """Everything measured on one film.

    Attributes:
        facing: Which way the patient looks; None: could not be told.
        facing_probability: How probable that is; 0 where nothing was measured.
        plane: Where millimetres are measured; None: the film states no distance of its pixels.
        bodies: Landmarks of every named vertebra that could be measured, from above.
        measures: Every measure, also those withheld.
        refiner: Which refiner looked for endplates on the film; None: none did.
        rod_breaks: Breaks of rods, from above.
    """

    facing: Facing | None
    facing_probability: float
    plane: MeasurePlane | None
    bodies: tuple[BodyLandmarks, ...] = ()
    measures: tuple[Measure, ...] = ()
    refiner: RefinerProvenance | None = None
    rod_breaks: tuple[RodBreak, ...] = ()

    def __post_init__(self) -> None:
        """Checks the probability.

        Raises:
            InvalidOutputError: It is not within 0 and 1.
        """
        check_share(self.facing_probability, "facing_probability", InvalidOutputError)
