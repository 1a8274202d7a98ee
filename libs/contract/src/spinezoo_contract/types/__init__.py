"""The contract's values as frozen dataclasses: what everything but the wire works with.

A value is valid once it is constructed: each type checks itself and raises a named error. What a
caller sends (films, options, outlines) raises a :class:`~spinezoo_contract.errors.BadInputError`
or :class:`~spinezoo_contract.errors.TooLargeError`, what only a server says
:class:`~spinezoo_contract.errors.InvalidOutputError`. Limits that are settings of a process, such
as its most pixels a film, are checked where films come in.

Coordinates are in pixels of the film; x runs right, y runs down, and the film's top-left corner
is (0, 0), so the centre of the first pixel is (0.5, 0.5).
"""

from spinezoo_contract.types.ensemble import (
    EnsembleAnswer,
    EnsembleOptions,
    EnsembleSummary,
    GatewayTiming,
    MemberAnswer,
    MemberCode,
    MemberStatus,
    NewcomerState,
    NewcomerStatus,
    Roster,
    RosterMember,
)
from spinezoo_contract.types.evaluation import (
    EvaluationPair,
    Metric,
    MetricDirection,
    ModelMetrics,
    check_pair_names,
)
from spinezoo_contract.types.films import PIXEL_TYPES, Film, FilmKind
from spinezoo_contract.types.fusion import (
    FilmReading,
    FilmView,
    FusedAnswer,
    FusedImplant,
    FusionOptions,
    FusionRule,
    Labelling,
    NamedVertebra,
    ReaderProvenance,
    UnnamedReason,
)
from spinezoo_contract.types.measures import (
    BodyCorner,
    BodyLandmarks,
    Facing,
    FilmMeasures,
    Landmark,
    Measure,
    MeasureKind,
    MeasureOptions,
    MeasurePlane,
    MeasureUnit,
    Osteophyte,
    Point,
    RefinerProvenance,
    RodBreak,
    WithheldReason,
)
from spinezoo_contract.types.models import (
    ModelFamily,
    ModelInfo,
    Prediction,
    PredictOptions,
    Provenance,
    Timing,
)
from spinezoo_contract.types.notes import NO_SPACING_NOTE, FilmNote, FilmNoteCode
from spinezoo_contract.types.outlines import (
    VERTEBRAE,
    Annotation,
    Box,
    ProbabilityMap,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
    check_mask_size,
    decode_together,
)

__all__ = [
    "NO_SPACING_NOTE",
    "PIXEL_TYPES",
    "VERTEBRAE",
    "Annotation",
    "BodyCorner",
    "BodyLandmarks",
    "Box",
    "EnsembleAnswer",
    "EnsembleOptions",
    "EnsembleSummary",
    "EvaluationPair",
    "Facing",
    "Film",
    "FilmKind",
    "FilmMeasures",
    "FilmNote",
    "FilmNoteCode",
    "FilmReading",
    "FilmView",
    "FusedAnswer",
    "FusedImplant",
    "FusionOptions",
    "FusionRule",
    "GatewayTiming",
    "Labelling",
    "Landmark",
    "Measure",
    "MeasureKind",
    "MeasureOptions",
    "MeasurePlane",
    "MeasureUnit",
    "MemberAnswer",
    "MemberCode",
    "MemberStatus",
    "Metric",
    "MetricDirection",
    "ModelFamily",
    "ModelInfo",
    "ModelMetrics",
    "NamedVertebra",
    "NewcomerState",
    "NewcomerStatus",
    "Osteophyte",
    "Point",
    "PredictOptions",
    "Prediction",
    "ProbabilityMap",
    "Provenance",
    "ReaderProvenance",
    "RefinerProvenance",
    "RodBreak",
    "Roster",
    "RosterMember",
    "RunLengthMask",
    "Segment",
    "SegmentKind",
    "Structure",
    "Timing",
    "UnnamedReason",
    "WithheldReason",
    "check_mask_size",
    "check_pair_names",
    "decode_together",
]
