"""A segment, a pair and messages of them, for tests of the codec."""

from __future__ import annotations

from typing import Any

import numpy as np
from spinezoo.v1 import evaluation_pb2, segment_pb2
from spinezoo_contract import codec
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import EvaluationPair, Segment, SegmentKind, Structure

HEIGHT, WIDTH = 20, 30
TURNED = codec.to_proto(encode_mask(np.ones((WIDTH, HEIGHT), bool)))


def segment(level: str | None = "L4", structure: Structure = Structure.SCREW) -> Segment:
    """An outline of a rectangle."""
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    pixels[3:9, 4:11] = True
    mask = encode_mask(pixels)
    return Segment(structure, SegmentKind.INSTANCE, mask, 0.75, mask_box(mask), level)


def changed(**changes: Any) -> segment_pb2.Segment:
    """Its message, with other fields."""
    message = codec.to_proto(segment())
    for name, value in changes.items():
        if isinstance(value, int | float | str):
            setattr(message, name, value)
        else:
            getattr(message, name).CopyFrom(value)
    return message


def pair(**changes: Any) -> evaluation_pb2.EvaluateRequest:
    """The message of a film's pair, with other fields; None takes one away."""
    value = EvaluationPair("film 7", "pspnet", HEIGHT, WIDTH, (segment(),), ())
    message = codec.to_proto(value)
    for name, change in changes.items():
        if change is None:
            message.ClearField(name)
        else:
            setattr(message, name, change)
    return message
