"""From messages of the contract to the plain values of :mod:`spinezoo_gateway.http.models`."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray
from spinezoo.v1 import (
    ensemble_pb2,
    fusion_pb2,
    labelling_pb2,
    measures_pb2,
    model_pb2,
    segment_pb2,
)
from spinezoo_contract.runs import decode_runs, runs_box
from spinezoo_spine.annotations.mask_outlines import rings_of_mask

from spinezoo_gateway.http.options import MaskForm

Json = dict[str, Any]


def enum_name(message: Message, field: str) -> str:
    """An enum of a message in lower case without its type's prefix, such as ``lumbar_vertebra``."""
    descriptor = message.DESCRIPTOR.fields_by_name[field].enum_type
    assert descriptor is not None, field
    prefix = descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")
    number = getattr(message, field)
    value = descriptor.values_by_number.get(number)
    return "unspecified" if value is None else value.name.removeprefix(prefix).lower()


def _number(value: float) -> float:
    """A number without the digits that say nothing."""
    return round(value, 4)


@dataclass(frozen=True, slots=True)
class MaskWriter:
    """Writes masks in one form.

    Attributes:
        form: Which.
        tolerance_px: How far a polygon may lie from the mask's border, in pixels.
    """

    form: MaskForm = MaskForm.RUNS
    tolerance_px: float = 0.0

    def __call__(self, mask: segment_pb2.RunLengthMask) -> Json | None:
        """One mask; None where none is asked for."""
        if self.form is MaskForm.NONE:
            return None
        if self.form is MaskForm.RUNS:
            return {"size": [mask.height, mask.width], "counts": mask.counts.decode("ascii")}
        patch, left, top = _patch(mask)
        if self.form is MaskForm.PNG:
            done, data = cv2.imencode(".png", patch.astype(np.uint8) * 255)
            assert done
            return {"origin": [left, top], "png": base64.b64encode(data.tobytes()).decode()}
        rings = [ring + np.array([left, top]) for ring in rings_of_mask(patch)]
        return {"rings": [self._points(ring) for ring in rings]}

    def _points(self, ring: NDArray[np.float64]) -> list[float]:
        if self.tolerance_px > 0.0:
            simple = cv2.approxPolyDP(ring.astype(np.float32), self.tolerance_px, True)
            if len(simple) >= 3:
                ring = simple[:, 0].astype(np.float64)
        points: list[float] = ring.ravel().tolist()
        return points


def _patch(mask: segment_pb2.RunLengthMask) -> tuple[NDArray[np.bool_], int, int]:
    """The pixels of a mask within its box, and the box's left column and top row."""
    (runs,) = decode_runs([(mask.height, mask.width, mask.counts)])
    left, top, width, height = runs_box(runs, mask.height)
    borders = np.clip(np.cumsum(runs) - left * mask.height, 0, width * mask.height)
    pixels = np.zeros(width * mask.height, dtype=np.bool_)
    for start, stop in zip(borders[:-1:2].tolist(), borders[1::2].tolist(), strict=True):
        pixels[start:stop] = True
    columns = pixels.reshape(width, mask.height).T
    return np.ascontiguousarray(columns[top : top + height]), left, top


def segment_json(segment: segment_pb2.Segment, write: MaskWriter) -> Json:
    """One outline."""
    box = segment.box
    found: Json = {
        "structure": enum_name(segment, "structure"),
        "kind": enum_name(segment, "kind"),
        "score": _number(segment.score),
        "box": [box.x, box.y, box.width, box.height],
    }
    if segment.HasField("level"):
        found["level"] = segment.level
    mask = write(segment.mask)
    if mask is not None:
        found["mask"] = mask
    return found


def _plain(message: Message, *without: str) -> Json:
    """The texts and numbers of a message; absent optional ones are left out."""
    found: Json = {}
    for field in message.DESCRIPTOR.fields:
        if field.name in without or field.message_type is not None:
            continue
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.enum_type is not None:
            value = enum_name(message, field.name)
        found[field.name] = _number(value) if isinstance(value, float) else value
    return found


def _named(message: Message) -> Json:
    found = _plain(message)
    return {"name": found.pop("member_name"), **found}


def member_json(member: ensemble_pb2.MemberAnswer, write: MaskWriter) -> Json:
    """One member's answer, or the name of its failure."""
    found = _named(member.status)
    if member.status.code == ensemble_pb2.MEMBER_CODE_OK:
        found["segments"] = [segment_json(segment, write) for segment in member.segments]
        found["provenance"] = _provenance(member.provenance)
    return found


def _provenance(message: model_pb2.Provenance) -> Json:
    return {**_plain(message), "timing": _plain(message.timing)}


def _vertebra(message: labelling_pb2.NamedVertebra, write: MaskWriter) -> Json:
    found: Json = {
        "segment": segment_json(message.segment, write),
        "confidence": _number(message.confidence),
    }
    if message.unnamed_reason:
        found["unnamed_reason"] = enum_name(message, "unnamed_reason")
    likely = sorted(message.level_probabilities.items(), key=lambda item: -item[1])
    found["level_probabilities"] = {level: _number(share) for level, share in likely}
    found["no_vertebra_probability"] = _number(message.no_vertebra_probability)
    return found


def _labelling(message: labelling_pb2.Labelling, write: MaskWriter) -> Json:
    found: Json = {
        "vertebrae": [_vertebra(each, write) for each in message.vertebrae],
        **_plain(message, "missing_levels"),
        "missing_levels": list(message.missing_levels),
    }
    if message.HasField("film"):
        found["film"] = _plain(message.film)
    if message.HasField("reader"):
        found["reader"] = _plain(message.reader)
    return found


def fused_json(message: fusion_pb2.FusedAnswer, write: MaskWriter) -> Json:
    """The fused answer."""
    found: Json = {
        "rule": enum_name(message, "rule"),
        "member_names": list(message.member_names),
        "segments": [segment_json(segment, write) for segment in message.segments],
    }
    if message.HasField("merged_mask"):
        mask = write(message.merged_mask)
        if mask is not None:
            found["merged_mask"] = mask
    if message.HasField("labelling"):
        found["labelling"] = _labelling(message.labelling, write)
    found["implants"] = [
        {
            "segment": segment_json(each.segment, write),
            "touches": list(each.touches),
            "member_names": list(each.member_names),
        }
        for each in message.implants
    ]
    if message.HasField("measures"):
        found["measures"] = measures_json(message.measures)
    return found


def measures_json(message: Message) -> Any:
    """Measures and all that is below them; a place is written as [x, y]."""
    if isinstance(message, measures_pb2.Point):
        return [_number(message.x), _number(message.y)]
    found = _plain(message)
    if found.get("withheld_reason") == "unspecified":
        del found["withheld_reason"]
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is None:
            if field.is_repeated:
                found[field.name] = list(value)
        elif field.is_repeated:
            found[field.name] = [measures_json(each) for each in value]
        elif message.HasField(field.name):
            found[field.name] = measures_json(value)
    return found


def summary_json(summary: ensemble_pb2.EnsembleSummary, write: MaskWriter) -> Json:
    """The end of a stream."""
    return {
        "height": summary.height,
        "width": summary.width,
        "statuses": [_named(status) for status in summary.statuses],
        "fused": fused_json(summary.fused, write),
        "timing": _plain(summary.timing),
        "notes": [_plain(note) for note in summary.notes],
    }


def answer_json(members: list[Json], summary: Json) -> Json:
    """The whole answer, of the parts of a stream."""
    rest = {name: summary[name] for name in ("fused", "timing", "notes")}
    ordered = sorted(members, key=lambda member: str(member["name"]))
    return {"height": summary["height"], "width": summary["width"], "members": ordered, **rest}


def models_json(message: ensemble_pb2.ListModelsResponse) -> Json:
    """Who is in the zoo."""
    found: Json = {"members": [_roster_member(each) for each in message.members]}
    found |= _plain(message)
    if message.HasField("reader"):
        found["reader"] = _plain(message.reader)
    if message.HasField("refiner"):
        found["refiner"] = _plain(message.refiner)
    return found


def _roster_member(message: ensemble_pb2.RosterMember) -> Json:
    found = {**_named(message), "status": _named(message.status)}
    if message.HasField("model"):
        numbers = {
            value.number: value.name.removeprefix("STRUCTURE_").lower()
            for value in segment_pb2.Structure.DESCRIPTOR.values
        }
        structures = [numbers[each] for each in message.model.structures]
        found["model"] = {**_plain(message.model, "structures"), "structures": structures}
    if message.HasField("newcomer"):
        found["newcomer"] = _plain(message.newcomer)
    return found


Event = tuple[str, Json]
"""Name and data of one event of a stream."""


def event_json(message: ensemble_pb2.SegmentStreamResponse, write: MaskWriter) -> Event:
    """One message of a stream as an event."""
    if message.HasField("member"):
        return "member", member_json(message.member, write)
    return "fused", summary_json(message.summary, write)
