"""Rules C04 and C10: what the model says of itself, and what its answers say of it."""

from __future__ import annotations

import math
import re

from spinezoo.v1 import model_pb2, segment_pb2

from spinezoo_conformance.rule import Rule
from spinezoo_conformance.rules.films import LARGE_FILM_BYTES
from spinezoo_conformance.session import Session
from spinezoo_conformance.verdict import expect

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _judge_model(session: Session) -> None:
    model = session.get_model()
    for field in ("name", "version", "architecture", "preset", "license"):
        expect(bool(getattr(model, field).strip()), f"GetModel leaves {field} empty")
    expect(
        model.family in (model_pb2.MODEL_FAMILY_SEMANTIC, model_pb2.MODEL_FAMILY_INSTANCE),
        f"GetModel says family {model.family}; say SEMANTIC or INSTANCE",
    )
    structures = list(model.structures)
    known = [number for number in segment_pb2.Structure.values() if number != 0]
    expect(bool(structures), "GetModel names no structure")
    expect(
        len(set(structures)) == len(structures) and set(structures) <= set(known),
        f"GetModel names structures {structures}; name each of {known} at most once",
    )
    expect(min(model.input_height, model.input_width) > 0, "GetModel gives no input size")
    for field in ("weights_sha256", "card_sha256"):
        expect(
            _SHA256.fullmatch(getattr(model, field)) is not None,
            f"GetModel's {field} is not 64 lower-case hexadecimal digits",
        )
    expect(
        0.0 <= model.default_score_threshold <= 1.0,
        f"GetModel's default_score_threshold is {model.default_score_threshold}; 0 to 1",
    )
    if model.HasField("default_suppression_iou"):
        iou = model.default_suppression_iou
        expect(0.0 <= iou <= 1.0, f"GetModel's default_suppression_iou is {iou}; 0 to 1")
    expect(
        model.max_message_bytes > LARGE_FILM_BYTES,
        f"GetModel's max_message_bytes is {model.max_message_bytes}; films have "
        f"{LARGE_FILM_BYTES} bytes and more",
    )
    expect(model.queue_limit >= 1, "GetModel's queue_limit is 0; say how many may wait")


def _judge_provenance(session: Session) -> None:
    model = session.model()
    response = session.answer()
    expect(response.HasField("provenance"), "the answer carries no provenance")
    provenance = response.provenance
    for field, expected in (
        ("model_name", model.name),
        ("model_version", model.version),
        ("preset", model.preset),
        ("weights_sha256", model.weights_sha256),
    ):
        told = getattr(provenance, field)
        expect(told == expected, f"provenance.{field} is {told!r}, GetModel says {expected!r}")
    for field in ("preprocessing_id", "device"):
        expect(bool(getattr(provenance, field)), f"provenance.{field} is empty")
    expect(provenance.HasField("timing"), "provenance carries no timing")
    timing = provenance.timing
    for descriptor in timing.DESCRIPTOR.fields:
        value = getattr(timing, descriptor.name)
        expect(
            math.isfinite(value) and value >= 0.0,
            f"timing.{descriptor.name} is {value}; ms of 0 or more",
        )
    expect(timing.infer_ms > 0.0, "timing.infer_ms is 0; measure the network")


MODEL_RULES = (
    Rule("C04", "GetModel is complete, and its family is specified.", _judge_model),
    Rule("C10", "Provenance agrees with GetModel and carries the timing.", _judge_provenance),
)
