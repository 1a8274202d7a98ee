"""The fields of the forms: what may be asked beside the film, as in ``ensemble.proto``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from spinezoo.v1 import ensemble_pb2, image_pb2
from spinezoo_contract.codec import ensemble_request_to_proto
from spinezoo_contract.errors import OptionError
from spinezoo_contract.limits import MAX_SEGMENTS_LIMIT
from spinezoo_contract.types import EnsembleOptions, FusionOptions, FusionRule, PredictOptions
from spinezoo_contract.types.measures import MeasureOptions
from spinezoo_spine.films.kinds import kind_of

from spinezoo_gateway.settings import MAX_DEADLINE_MS

_F = TypeVar("_F", bound=BaseModel)

MAX_SHOWN = 80
"""Most characters of a wrong value that a message shows."""


class MaskForm(StrEnum):
    """How masks are written."""

    RUNS = "runs"
    POLYGONS = "polygons"
    PNG = "png"
    NONE = "none"


class RuleName(StrEnum):
    """The rule by which masks are fused."""

    UNION = "union"
    INTERSECTION = "intersection"
    MAJORITY = "majority"
    WEIGHTED_VOTE = "weighted_vote"


class PixelForm(StrEnum):
    """How the grey levels of a preview are written."""

    PNG = "png"
    RAW = "raw"
    NONE = "none"


def _names(value: Any) -> Any:
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return value


def _weights(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for part in value.split(","):
        name, equals, weight = part.partition("=")
        if part.strip():
            if not equals or name.strip() in found:
                raise ValueError("write each member once, as name=weight")
            found[name.strip()] = weight.strip()
    return found


class SegmentFields(BaseModel):
    """The fields of ``POST /v1/segment`` beside the film; a field left out takes the default."""

    model_config = ConfigDict(extra="forbid")

    masks: MaskForm = Field(
        MaskForm.RUNS,
        description="How masks are written: `runs` (COCO run lengths), `polygons`, `png` (base64, "
        "of the box only), `none`.",
    )
    tolerance_px: float = Field(
        0.0,
        ge=0.0,
        le=100.0,
        description="With `polygons`: how far a simplified outline may lie from the mask's border.",
    )
    members: Annotated[list[str], BeforeValidator(_names)] = Field(
        default_factory=list,
        description="Members to ask, by commas. None: all in the roster.",
    )
    score_threshold: float | None = Field(
        None, ge=0.0, le=1.0, description="Outlines with a lower score are left out."
    )
    suppression_iou: float | None = Field(
        None, ge=0.0, le=1.0, description="Of two instances that overlap more, one is left out."
    )
    max_segments: int | None = Field(
        None, ge=1, le=MAX_SEGMENTS_LIMIT, description="Most outlines of a member."
    )
    fusion_rule: RuleName = Field(RuleName.MAJORITY, description="How masks are fused.")
    weights: Annotated[dict[str, float], BeforeValidator(_weights)] = Field(
        default_factory=dict,
        description="For `weighted_vote`: `unet=2,pspnet=0.5`. A member without one weighs 1.",
    )
    measures: bool = Field(
        False, description="Whether the fused answer is measured (docs/measures.md)."
    )
    magnification: float | None = Field(
        None,
        ge=1.0,
        le=3.0,
        description="With `measures`: how much larger the spine is on the film than in the "
        "patient; lengths are then those in the patient. Not used where the film's spacing is.",
    )
    member_deadline_ms: int | None = Field(
        None, ge=1, le=MAX_DEADLINE_MS, description="Time each member has, in ms."
    )
    deadline_ms: int | None = Field(
        None, ge=1, le=MAX_DEADLINE_MS, description="Time the whole call has, in ms."
    )
    quorum: int | None = Field(None, ge=1, le=1000, description="Members that must answer.")

    def to_proto(self, film: bytes) -> ensemble_pb2.SegmentRequest:
        """The same question as gRPC asks it.

        Raises:
            OptionError: A setting is out of its range.
        """
        options = EnsembleOptions(
            options=PredictOptions(
                score_threshold=self.score_threshold,
                suppression_iou=self.suppression_iou,
                max_segments=self.max_segments,
            ),
            member_names=tuple(self.members),
            fusion=FusionOptions(FusionRule[self.fusion_rule.name], self.weights),
            member_deadline_ms=self.member_deadline_ms,
            quorum=self.quorum,
            measures=MeasureOptions(self.magnification) if self.measures else None,
        )
        dicom = kind_of(film) == "dicom"
        image = image_pb2.Image(dicom=film) if dicom else image_pb2.Image(encoded=film)
        return ensemble_request_to_proto(image, options)


class PreviewFields(BaseModel):
    """The fields of ``POST /v1/preview`` beside the film."""

    model_config = ConfigDict(extra="forbid")

    pixels: PixelForm = Field(
        PixelForm.PNG,
        description="How the grey levels are written: `png` (base64), `raw` (base64 of rows of "
        "little-endian numbers), `none`.",
    )


def checked(kind: type[_F], fields: dict[str, str]) -> _F:
    """Fields of a form; an empty one counts as left out.

    Raises:
        OptionError: A field is unknown or its value is wrong; the message names it.
    """
    try:
        return kind(**{name: value for name, value in fields.items() if value.strip()})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"])[:MAX_SHOWN]
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields)
            raise OptionError(f"the form has a field {name!r}; there are film, {known}") from None
        value = str(first["input"])[:MAX_SHOWN]
        raise OptionError(f"{name} is {value!r}: {first['msg']}; correct it or leave it out") from (
            None
        )


def form_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """The request body of a form with a film, for the OpenAPI document."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    schema["properties"] = {
        "film": {
            "type": "string",
            "format": "binary",
            "description": "A DICOM, PNG, JPEG or TIFF file.",
        },
        **{name: _flat(entry, definitions) for name, entry in schema["properties"].items()},
    }
    schema["required"] = ["film"]
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _flat(entry: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A property with its enum in place, as a text of a form."""
    reference = entry.pop("$ref", "")
    if reference:
        entry = {**definitions[reference.rpartition("/")[2]], **entry}
    if entry.get("type") in ("array", "object"):
        return {"type": "string", "description": entry["description"]}
    return entry
