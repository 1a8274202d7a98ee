"""The contract's values as frozen dataclasses: what everything but the wire works with.

Coordinates are in pixels of the film; x runs right, y runs down, and the film's top-left corner
is (0, 0), so the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

IMAGE_TAG = re.compile(r"[!-~]{0,255}")
"""A container image's tag: up to 255 printable ASCII characters, no space; empty: no container."""


class Structure(IntEnum):
    """What an outline is an outline of. The numbers are those of the wire and of label maps."""

    LUMBAR_VERTEBRA = 1
    """Body of a vertebra from T12 to the last lumbar one, as the study annotated."""
    SACRAL_VERTEBRA = 2
    """Body of S1 or S2."""
    CAGE = 3
    """Interbody cage."""
    SCREW = 4
    """Screw, shaft and head together."""
    ROD = 5
    """Rod, plate and any other instrumentation."""


VERTEBRAE = frozenset({Structure.LUMBAR_VERTEBRA, Structure.SACRAL_VERTEBRA})
"""The structures that the vertebra recognition rate counts."""


class SegmentKind(IntEnum):
    """Whether a segment is one object or everything of its class."""

    INSTANCE = 1
    REGION = 2


class ModelFamily(IntEnum):
    """Which family of networks a model is of."""

    SEMANTIC = 1
    INSTANCE = 2


class FusionRule(IntEnum):
    """When a pixel is in the fused mask; see ``fusion.proto`` for ties."""

    UNION = 1
    INTERSECTION = 2
    MAJORITY = 3
    WEIGHTED_VOTE = 4


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
class Film:
    """One radiograph, decoded.

    Attributes:
        pixels: (height, width), ``uint8``, ``uint16`` or ``float32`` (finite), bright is dense.
        row_spacing_mm: Distance of two row centres at the detector plane, or None where unknown.
        column_spacing_mm: The same between columns.
    """

    pixels: NDArray[np.generic]
    row_spacing_mm: float | None = None
    column_spacing_mm: float | None = None

    @property
    def height(self) -> int:
        """Rows, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns, in pixels."""
        return int(self.pixels.shape[1])


@dataclass(frozen=True, slots=True)
class Box:
    """Axis-parallel box, in pixels of the film."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class RunLengthMask:
    """A binary mask as COCO compressed run-length counts (column-major, background first).

    See :mod:`spinezoo_contract.masks` for encoding, decoding and validation.
    """

    height: int
    width: int
    counts: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """One outline at the film's size.

    Attributes:
        structure: What it is.
        kind: One object, or all of the class.
        mask: Its pixels, never empty.
        score: Confidence, 0 to 1; 1 for truth.
        box: Box around the mask's foreground.
        level: Anatomical level such as ``"L4"``, or None where unknown.
    """

    structure: Structure
    kind: SegmentKind
    mask: RunLengthMask
    score: float
    box: Box
    level: str | None = None


@dataclass(frozen=True, slots=True)
class ProbabilityMap:
    """Probability of one structure on the network's own grid.

    Attributes:
        structure: Of which structure.
        values: (grid height, grid width) ``uint8``; probability = value / 255.
        film_box: The rectangle of the film that the grid covers; it may exceed the film.
    """

    structure: Structure
    values: NDArray[np.uint8]
    film_box: Box


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """Settings of one prediction; None takes the model card's default."""

    score_threshold: float | None = None
    suppression_iou: float | None = None
    max_segments: int | None = None
    include_probability_maps: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a member's time went, in ms of wall clock."""

    decode_ms: float = 0.0
    prepare_ms: float = 0.0
    queue_ms: float = 0.0
    infer_ms: float = 0.0
    finish_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Provenance:
    """Enough to know which network gave an answer; see ``model.proto``.

    ``image`` is the tag of the container's image, filled in by the server, not by the network;
    empty outside a container.
    """

    model_name: str
    model_version: str
    preset: str
    weights_sha256: str
    preprocessing_id: str
    device: str
    timing: Timing = Timing()
    image: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One network's answer for one film.

    Attributes:
        height: Rows of the film; every mask has as many.
        width: Columns of the film.
        segments: The outlines, best score first; empty means that none was found.
        probability_maps: Only when asked for.
        provenance: Who answered.
    """

    height: int
    width: int
    segments: tuple[Segment, ...]
    provenance: Provenance
    probability_maps: tuple[ProbabilityMap, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a container says of itself; see ``model.proto``."""

    name: str
    version: str
    architecture: str
    family: ModelFamily
    preset: str
    structures: tuple[Structure, ...]
    input_height: int
    input_width: int
    weights_sha256: str
    card_sha256: str
    license: str
    default_score_threshold: float
    default_suppression_iou: float | None
    max_message_bytes: int
    queue_limit: int
    image: str = ""


@dataclass(frozen=True, slots=True)
class FusionOptions:
    """How to fuse; a member without a weight weighs 1."""

    rule: FusionRule = FusionRule.MAJORITY
    weights: Mapping[str, float] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class NamedVertebra:
    """One vertebra of the column.

    Attributes:
        segment: Its outline, an instance; ``level`` is set where it is named.
        confidence: That the name is right, 0 to 1; below 0.5 it is withheld.
        reason: Why it has no name, None where it has one.
    """

    segment: Segment
    confidence: float
    reason: UnnamedReason | None


@dataclass(frozen=True, slots=True)
class Labelling:
    """The column of one film; see ``labelling.proto``. None stands for "cannot say"."""

    vertebrae: tuple[NamedVertebra, ...]
    sacrum_in_view: bool
    missing_levels: tuple[str, ...] = ()
    lumbar_count: int | None = None
    suspected_lumbar_count: int | None = None
    count_reason: str = ""


@dataclass(frozen=True, slots=True)
class FusedAnswer:
    """Several members' masks as one.

    Attributes:
        segments: One region a structure.
        merged_mask: All structures united; None where it is empty.
        rule: How it was fused.
        member_names: Whose masks took part.
        labelling: The members' vertebrae, fused and named; None in an answer of ``Fuse``.
    """

    segments: tuple[Segment, ...]
    merged_mask: RunLengthMask | None
    rule: FusionRule
    member_names: tuple[str, ...]
    labelling: Labelling | None = None


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """How one member fared on one film."""

    member_name: str
    code: MemberCode
    latency_ms: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class MemberAnswer:
    """One member's answer, or the name of its failure (then ``prediction`` is None)."""

    status: MemberStatus
    prediction: Prediction | None


@dataclass(frozen=True, slots=True)
class GatewayTiming:
    """Where the gateway's own time went, in ms of wall clock."""

    decode_ms: float
    fan_out_ms: float
    fuse_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class EnsembleAnswer:
    """The gateway's answer: every asked member, sorted by name, and the fused masks."""

    height: int
    width: int
    members: tuple[MemberAnswer, ...]
    fused: FusedAnswer
    timing: GatewayTiming


@dataclass(frozen=True, slots=True)
class EnsembleSummary:
    """The last message of a stream: how every member fared, and the fused masks."""

    height: int
    width: int
    statuses: tuple[MemberStatus, ...]
    fused: FusedAnswer
    timing: GatewayTiming


@dataclass(frozen=True, slots=True)
class EnsembleOptions:
    """What a request asks of the gateway beside the film; None takes the gateway's default.

    Attributes:
        options: Settings passed to every member.
        member_names: Members to ask; empty asks all in the roster.
        fusion: How to fuse.
        member_deadline_ms: Time each member has.
        quorum: Members that must answer for the call to succeed.
    """

    options: PredictOptions = PredictOptions()
    member_names: tuple[str, ...] = ()
    fusion: FusionOptions | None = None
    member_deadline_ms: int | None = None
    quorum: int | None = None


@dataclass(frozen=True, slots=True)
class RosterMember:
    """A member of the roster; ``model`` is None while it has not been reached yet."""

    member_name: str
    target: str
    status: MemberStatus
    model: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is in the zoo, sorted by name, and the gateway's defaults."""

    members: tuple[RosterMember, ...]
    default_quorum: int
    default_member_deadline_ms: int


Annotation = tuple[Segment, ...] | NDArray[np.uint8]
"""Outlines of one film: segments, or a (height, width) label map of structure numbers."""


@dataclass(frozen=True, slots=True)
class EvaluationPair:
    """One film's truth and one model's prediction of it.

    Attributes:
        film_id: Name of the film, unique together with the model; must not identify a patient.
        model_name: Name of the model that predicted.
        height: Rows of the film, in pixels.
        width: Columns of the film, in pixels.
        truth: The hand-drawn outlines.
        prediction: The model's outlines.
    """

    film_id: str
    model_name: str
    height: int
    width: int
    truth: Annotation
    prediction: Annotation


class MetricDirection(IntEnum):
    """Which way a metric improves."""

    HIGHER_IS_BETTER = 1
    LOWER_IS_BETTER = 2


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one model.

    Attributes:
        name: Such as ``"mean_iou"``.
        film_mean: Mean over films of the film's own value, or None where no film defines it.
        pooled: Value from the summed counts of all films, or None where not defined.
        film_count: Films that define it.
        direction: Which way is better.
        minimum: Least possible value.
        maximum: Greatest possible value.
    """

    name: str
    film_mean: float | None
    pooled: float | None
    film_count: int
    direction: MetricDirection
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """All metrics of one model over a stream of films."""

    model_name: str
    film_count: int
    metrics: tuple[Metric, ...]
