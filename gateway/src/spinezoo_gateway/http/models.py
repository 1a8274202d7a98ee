"""The answers of the HTTP API as pydantic models: the contract's types, for the OpenAPI document.

Names and meanings are those of ``protos/spinezoo/v1``; enums are written in lower case, boxes as
[x, y, width, height] and masks as COCO writes them or in the form that was asked for.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Level = Annotated[str, Field(pattern=r"^[TLS][0-9]{1,2}$")]
StructureName = Literal["lumbar_vertebra", "sacral_vertebra", "cage", "screw", "rod"]
CodeName = Literal[
    "ok",
    "deadline_exceeded",
    "unavailable",
    "invalid_output",
    "resource_exhausted",
    "invalid_argument",
    "internal",
]


class Model(BaseModel):
    """One object of an answer."""

    model_config = ConfigDict(extra="forbid")


class RunsMask(Model):
    """COCO compressed run lengths, column by column, background first."""

    size: tuple[int, int] = Field(description="Rows and columns of the film.")
    counts: str


class PolygonMask(Model):
    """Borders of a mask's parts and holes; by the even-odd rule they enclose exactly its pixels."""

    rings: list[list[float]] = Field(
        description="Each x1, y1, x2, y2, ... in pixels of the film; its top-left corner is 0, 0."
    )


class PngMask(Model):
    """A PNG of the mask within its box: 255 is foreground."""

    origin: tuple[int, int] = Field(description="Column and row of the film of its first pixel.")
    png: str = Field(description="base64.")


Mask = RunsMask | PolygonMask | PngMask


class SegmentModel(Model):
    """One outline."""

    structure: StructureName
    kind: Literal["instance", "region"]
    score: Share
    box: tuple[float, float, float, float]
    level: Level | None = None
    mask: Mask | None = Field(None, description="Left out with `masks=none`.")


class TimingModel(Model):
    """Where a member's time went, in ms."""

    decode_ms: float
    prepare_ms: float
    queue_ms: float
    infer_ms: float
    finish_ms: float


class ProvenanceModel(Model):
    """Which network gave an answer."""

    model_name: str
    model_version: str
    preset: str
    weights_sha256: str
    preprocessing_id: str
    device: str
    image: str
    engine: str
    precision: str
    timing: TimingModel


class MemberModel(Model):
    """One member's answer, or the name of its failure."""

    name: str
    code: CodeName
    latency_ms: float
    message: str = Field(description="What went wrong and what to do; empty when ok.")
    segments: list[SegmentModel] | None = Field(None, description="Only where the code is ok.")
    provenance: ProvenanceModel | None = None


class NoteModel(Model):
    """What a reader of an answer should know of how the film was read."""

    code: str = Field(description="A code of docs/data-format.md.")
    text: str


class VertebraModel(Model):
    """One vertebra of the fused column, named or not."""

    segment: SegmentModel
    confidence: Share
    unnamed_reason: str | None = Field(None, description="Why it has no name.")
    level_probabilities: dict[Level, Share]
    no_vertebra_probability: Share


class ReadingModel(Model):
    """What the reader says of the film as a whole."""

    view: Literal["lateral", "upside_down", "turned", "no_lateral_column", "unspecified"]
    lateral_probability: Share
    upside_down_probability: Share
    turned_probability: Share
    no_lateral_column_probability: Share
    sacrum_not_in_view_probability: Share


class ReaderModel(Model):
    """Which reader gave the names, and from which probability on."""

    name: str
    version: str
    weights_sha256: str
    threshold: Share


class LabellingModel(Model):
    """The column of the film."""

    vertebrae: list[VertebraModel]
    sacrum_in_view: bool
    missing_levels: list[Level]
    lumbar_count: int | None = None
    suspected_lumbar_count: int | None = None
    count_reason: str
    film: ReadingModel | None = None
    reader: ReaderModel | None = None


class ImplantModel(Model):
    """One screw, rod or cage that enough members have."""

    segment: SegmentModel
    touches: list[Level]
    member_names: list[str]


Place = Annotated[tuple[float, float], Field(description="Pixels to the right and down.")]
CornerName = Literal[
    "superior_posterior", "superior_anterior", "inferior_anterior", "inferior_posterior"
]


class LandmarkModel(Model):
    """One corner, and how far it may be off."""

    corner: CornerName
    place: Place
    radius_px: float


class OsteophyteModel(Model):
    """A bony spur at a corner."""

    corner: CornerName
    length_mm: float | None = None
    length_share: float
    area_share: float
    tip: Place


class BodyModel(Model):
    """The landmarks of one named vertebra."""

    level: Level
    vertebra_index: int
    corners: list[LandmarkModel]
    contour: list[Place]
    upper_middle: Place | None = None
    lower_middle: Place | None = None
    waviness: float
    osteophytes: list[OsteophyteModel]
    upper_refined: bool
    lower_refined: bool


class MeasureModel(Model):
    """One measure, or why it is withheld; docs/measures.md defines each kind."""

    kind: str
    levels: list[Level]
    unit: Literal["degree", "millimetre", "percent", "ratio", "count"]
    value: float | None = None
    low: float | None = None
    high: float | None = None
    grade: int | None = None
    withheld_reason: str | None = None
    vertebra_indices: list[int]
    implant_index: int | None = None


class RodBreakModel(Model):
    """A break of a rod, seen on the film."""

    implant_indices: list[int]
    levels: list[Level]
    upper_end: Place | None = None
    lower_end: Place | None = None


class RefinerModel(Model):
    """Which refiner looked for endplates on the film."""

    name: str
    version: str
    weights_sha256: str


class MeasuresModel(Model):
    """Everything measured on the film, where it was asked for."""

    facing: Literal["left", "right", "unspecified"]
    facing_probability: Share
    plane: Literal["detector", "patient", "unsaid", "unspecified"]
    bodies: list[BodyModel]
    measures: list[MeasureModel]
    refiner: RefinerModel | None = None
    rod_breaks: list[RodBreakModel]


class FusedModel(Model):
    """Several members' outlines as one."""

    rule: Literal["union", "intersection", "majority", "weighted_vote"]
    member_names: list[str]
    segments: list[SegmentModel] = Field(description="One region a structure.")
    merged_mask: Mask | None = None
    labelling: LabellingModel | None = None
    implants: list[ImplantModel]
    measures: MeasuresModel | None = None


class GatewayTimingModel(Model):
    """Where the gateway's own time went, in ms."""

    decode_ms: float
    fan_out_ms: float
    fuse_ms: float
    total_ms: float


class SegmentAnswer(Model):
    """The ensemble's answer: JSON of ``POST /v1/segment``."""

    height: int
    width: int
    members: list[MemberModel]
    fused: FusedModel
    timing: GatewayTimingModel
    notes: list[NoteModel]


class StatusModel(Model):
    """How one member fared."""

    name: str
    code: CodeName
    latency_ms: float
    message: str


class SummaryEvent(Model):
    """The last event of a stream, ``fused``."""

    height: int
    width: int
    statuses: list[StatusModel]
    fused: FusedModel
    timing: GatewayTimingModel
    notes: list[NoteModel]


class InfoModel(Model):
    """What a member says of itself, from its model card."""

    name: str
    version: str
    architecture: str
    family: Literal["semantic", "instance", "unspecified"]
    preset: str
    structures: list[StructureName]
    input_height: int
    input_width: int
    weights_sha256: str
    card_sha256: str
    license: str
    default_score_threshold: float
    default_suppression_iou: float | None = None
    max_message_bytes: int
    queue_limit: int
    image: str
    shrinking_id: str


class NewcomerModel(Model):
    """What the roster names for a member and the gateway has not taken in."""

    target: str
    state: Literal["checking", "refused", "unspecified"]
    reason: str


class RosterMemberModel(Model):
    """A member of the roster."""

    name: str
    target: str
    status: StatusModel
    model: InfoModel | None = None
    newcomer: NewcomerModel | None = None


class ModelsAnswer(Model):
    """Who is in the zoo."""

    members: list[RosterMemberModel]
    default_quorum: int
    default_member_deadline_ms: int
    reader: ReaderModel | None = None
    refiner: RefinerModel | None = None


class LevelsModel(Model):
    """The grey levels of a film; bright is dense."""

    type: Literal["uint8", "uint16"]
    minimum: int
    maximum: int
    low: int = Field(description="1st percentile: where a window may begin.")
    high: int = Field(description="99th percentile: where it may end.")
    scale: float = Field(description="A level times this, plus `offset`, is the film's own value.")
    offset: float


class PreviewAnswer(Model):
    """The film as the networks get it."""

    height: int
    width: int
    row_spacing_mm: float | None = None
    column_spacing_mm: float | None = None
    spacing_plane: Literal["detector", "patient", "unsaid", "scanner"] | None = Field(
        None,
        description="Where a mm is meant: `detector` (Imager Pixel Spacing: lengths in the patient "
        "are shorter), `patient` (Pixel Spacing that was calibrated), `unsaid` (Pixel Spacing), "
        "`scanner` (nominal, at the detector). Absent without spacing.",
    )
    levels: LevelsModel
    notes: list[NoteModel]
    png: str | None = Field(None, description="base64 of a PNG of 8 or 16 bits.")
    raw: str | None = Field(None, description="base64 of rows of little-endian numbers.")


class PhantomModel(Model):
    """A film that is shipped with the page."""

    file: str
    title: str


class AccessAnswer(Model):
    """That the caller is let in, and where the page lies for it."""

    page: str = Field(description="Path below which the page's files are, for ten minutes.")
    caller: str = Field(description="Name of the token's holder; empty where nobody is asked.")
    max_bytes: int = Field(description="Most bytes of a film's file.")
    max_pixels: int = Field(description="Most pixels of a film.")
    phantoms: list[PhantomModel]
