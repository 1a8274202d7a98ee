"""What several rules expect of an answer: size, masks, equality, refusal."""

from __future__ import annotations

import grpc
import numpy as np
from grpc import StatusCode
from numpy.typing import NDArray
from spinezoo.v1 import image_pb2, segment_pb2, segmenter_pb2
from spinezoo_contract.errors import MaskError
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import Box, RunLengthMask, check_mask_size
from spinezoo_contract.words import counted

from spinezoo_conformance.session import Session, told
from spinezoo_conformance.verdict import RuleBlockedError, RuleBrokenError, expect

_SCORE_SLACK = 1e-3

_SAME_PIXELS = 0.001
"""Share of the film's pixels in which two answers to one film may differ (GPU arithmetic)."""

_CLOSE_PIXELS = 0.01
"""The same for one film in two encodings, whose rounding differs."""

_CLOSE_IOU = 0.8


def structure_name(number: int) -> str:
    """A structure's name for messages, such as ``cage``."""
    try:
        return segment_pb2.Structure.Name(number).removeprefix("STRUCTURE_").lower()
    except ValueError:
        return f"structure {number}"


def check_size(response: segmenter_pb2.PredictResponse, height: int, width: int) -> None:
    """Fails where an answer is not of the film's size."""
    expect(
        (response.height, response.width) == (height, width),
        f"film of {height} x {width} is answered as {response.height} x {response.width}; "
        "answer at the film's size",
    )


def check_masks(response: segmenter_pb2.PredictResponse, height: int, width: int) -> str | None:
    """Fails where a mask or its box is wrong; returns what it was judged on.

    Raises:
        RuleBrokenError: One is wrong; the message says which segment.
    """
    for index, segment in enumerate(response.segments):
        where = f"segments[{index}] ({structure_name(segment.structure)})"
        mask = RunLengthMask(segment.mask.height, segment.mask.width, segment.mask.counts)
        try:
            check_mask_size(mask, height, width)
            area = mask.area
        except MaskError as error:
            raise RuleBrokenError(f"{where}: {error}") from error
        expect(area > 0, f"{where}: mask is empty; leave the segment out")
        expect(segment.HasField("box"), f"{where}: box is missing")
        sent = segment.box
        try:
            box = Box(sent.x, sent.y, sent.width, sent.height)
        except MaskError as error:
            raise RuleBrokenError(f"{where}: {error}") from error
        expect(box.is_near(mask.box), f"{where}: {box} is not around the mask, {mask.box} is")
    return judged_on(response)


def judged_on(response: segmenter_pb2.PredictResponse) -> str:
    """On how many outlines a rule was judged, for its remark."""
    count = len(response.segments)
    if count == 0:
        return "judged on no outline: none was found on the film"
    return f"judged on {counted(count, 'outline')}"


def _union(response: segmenter_pb2.PredictResponse) -> NDArray[np.bool_]:
    """All pixels of an answer, (height, width)."""
    united = np.zeros((response.height, response.width), dtype=np.bool_)
    for segment in response.segments:
        mask = RunLengthMask(segment.mask.height, segment.mask.width, segment.mask.counts)
        try:
            check_mask_size(mask, response.height, response.width)
            united |= decode_mask(mask)
        except MaskError as error:
            raise RuleBlockedError(f"a mask is invalid ({error}), see C06") from error
    return united


def check_close(
    first: segmenter_pb2.PredictResponse,
    second: segmenter_pb2.PredictResponse,
    what: str,
    share: float = _CLOSE_PIXELS,
) -> None:
    """Fails where two answers differ in more pixels than ``share`` of the film.

    With the default share, answers that overlap well count as close too.
    """
    expect(
        (first.height, first.width) == (second.height, second.width),
        f"{what} is answered at {second.height} x {second.width} and not at "
        f"{first.height} x {first.width}",
    )
    a, b = _union(first), _union(second)
    differing = float(np.mean(a ^ b)) if a.size else 0.0
    overlap, either = int(np.sum(a & b)), int(np.sum(a | b))
    iou = overlap / either if either else 1.0
    expect(
        differing <= share or (share == _CLOSE_PIXELS and iou >= _CLOSE_IOU),
        f"{what} is answered differently in {100 * differing:.2f} % of the pixels",
    )


def check_same(
    first: segmenter_pb2.PredictResponse, second: segmenter_pb2.PredictResponse, what: str
) -> None:
    """Fails where two answers differ in number, structure, score or pixels."""
    expect(
        len(first.segments) == len(second.segments),
        f"{what} gets {counted(len(first.segments), 'outline')}, then {len(second.segments)}",
    )
    pairs = zip(first.segments, second.segments, strict=True)
    for index, (one, other) in enumerate(pairs):
        expect(
            one.structure == other.structure and abs(one.score - other.score) <= _SCORE_SLACK,
            f"{what}: segments[{index}] is {structure_name(one.structure)} "
            f"with {one.score:.4f}, then "
            f"{structure_name(other.structure)} with {other.score:.4f}",
        )
    check_close(first, second, what, _SAME_PIXELS)


def check_refused(
    session: Session,
    image: image_pb2.Image,
    what: str,
    codes: tuple[StatusCode, ...],
    options: segmenter_pb2.PredictOptions | None = None,
) -> None:
    """Fails where a film is not refused with one of the codes and a message.

    Raises:
        RuleBrokenError: It is answered, or refused in another way.
    """
    wanted = " or ".join(code.name for code in codes)
    try:
        response = session.predict(image, options)
    except grpc.RpcError as error:
        expect(error.code() in codes, f"{what} is answered with {told(error)}; {wanted}")
        expect(bool((error.details() or "").strip()), f"{what} is refused without a message")
        return
    raise RuleBrokenError(
        f"{what} is answered as if it were good, with "
        f"{counted(len(response.segments), 'outline')}; {wanted}"
    )
