"""What one network is asked, what it answers, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from spinezoo_contract.errors import InvalidOutputError, OptionError
from spinezoo_contract.limits import MAX_NAME_LENGTH, MAX_SEGMENTS_LIMIT
from spinezoo_contract.types.checks import check_image_tag, check_share, check_times
from spinezoo_contract.types.notes import FilmNote
from spinezoo_contract.types.outlines import (
    ProbabilityMap,
    Segment,
    SegmentKind,
    Structure,
    check_sizes,
)


class ModelFamily(IntEnum):
    """Which family of networks a model is of."""

    SEMANTIC = 1
    INSTANCE = 2


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """Settings of one prediction; None takes the model card's default."""

    score_threshold: float | None = None
    suppression_iou: float | None = None
    max_segments: int | None = None
    include_probability_maps: bool = False

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            OptionError: A setting is out of its range.
        """
        if self.score_threshold is not None:
            check_share(self.score_threshold, "score_threshold", OptionError)
        if self.suppression_iou is not None:
            check_share(self.suppression_iou, "suppression_iou", OptionError)
        if self.max_segments is not None and not 1 <= self.max_segments <= MAX_SEGMENTS_LIMIT:
            raise OptionError(
                f"max_segments is {self.max_segments}; send 1 to {MAX_SEGMENTS_LIMIT}, "
                "or leave it out"
            )


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a member's time went, in ms of wall clock."""

    decode_ms: float = 0.0
    prepare_ms: float = 0.0
    queue_ms: float = 0.0
    infer_ms: float = 0.0
    finish_ms: float = 0.0

    def __post_init__(self) -> None:
        """Checks the times.

        Raises:
            InvalidOutputError: A time is negative or not finite.
        """
        check_times(
            decode_ms=self.decode_ms,
            prepare_ms=self.prepare_ms,
            queue_ms=self.queue_ms,
            infer_ms=self.infer_ms,
            finish_ms=self.finish_ms,
        )


_PROVENANCE_TEXTS = (
    "model_name",
    "model_version",
    "preset",
    "weights_sha256",
    "preprocessing_id",
    "device",
    "engine",
    "precision",
)


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
    engine: str = ""
    precision: str = ""

    def __post_init__(self) -> None:
        """Checks the names.

        Raises:
            InvalidOutputError: The name is missing, a text too long or the image no tag.
        """
        if not self.model_name:
            raise InvalidOutputError("provenance names no model")
        for field in _PROVENANCE_TEXTS:
            length = len(getattr(self, field))
            if length > MAX_NAME_LENGTH:
                raise InvalidOutputError(
                    f"{field} of the provenance has {length} characters; "
                    f"send at most {MAX_NAME_LENGTH}"
                )
        check_image_tag(self.image)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One network's answer for one film.

    Attributes:
        height: Rows of the film; every mask has as many. 0 where a message of a stream holds no
            mask that says it.
        width: Columns of the film, in the same way.
        segments: The outlines, best score first; empty means that none was found.
        probability_maps: Only when asked for.
        provenance: Who answered.
        notes: On the film, as this server read it.
    """

    height: int
    width: int
    segments: tuple[Segment, ...]
    provenance: Provenance
    probability_maps: tuple[ProbabilityMap, ...] = ()
    notes: tuple[FilmNote, ...] = ()

    def __post_init__(self) -> None:
        """Checks the outlines against the film and each other.

        Raises:
            MaskError: A mask is not of the film's size.
            InvalidOutputError: Two regions of one structure.
        """
        check_sizes(self.segments, self.height, self.width)
        regions = [s.structure for s in self.segments if s.kind is SegmentKind.REGION]
        if len(regions) != len(set(regions)):
            raise InvalidOutputError("the answer holds two regions of one structure; unite them")


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
    shrinking_id: str = ""

    def __post_init__(self) -> None:
        """Checks name, defaults and tag.

        Raises:
            InvalidOutputError: The name is missing, or a default or the image's tag is wrong.
        """
        if not self.name:
            raise InvalidOutputError("the model has no name")
        for what in ("default_score_threshold", "default_suppression_iou"):
            value = getattr(self, what)
            if value is not None:
                check_share(value, what, InvalidOutputError)
        check_image_tag(self.image)
