"""What a member's answer must keep before anything is made of it."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from spinezoo.v1 import segmenter_pb2
from spinezoo_contract import codec
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_contract.types import Prediction


def check_answer(
    answer: bytes, height: int, width: int
) -> tuple[segmenter_pb2.PredictResponse, Prediction]:
    """Parses and checks a member's answer.

    Args:
        answer: A serialised ``PredictResponse``, from anybody.
        height: Rows of the film that was sent, in pixels.
        width: Columns of the film that was sent, in pixels.

    Returns:
        The message, to be passed on as it is, and its checked content.

    Raises:
        InvalidOutputError: The answer breaks the contract; the message says how.
    """
    try:
        response = segmenter_pb2.PredictResponse.FromString(answer)
    except DecodeError:
        raise InvalidOutputError(
            f"the answer (bytes: {len(answer)}) is no PredictResponse; is this a member?"
        ) from None
    return response, codec.from_proto(Prediction, response, height, width)


def check_asked(prediction: Prediction, options: segmenter_pb2.PredictOptions) -> None:
    """Checks that a member answers no more than it was asked for.

    Args:
        prediction: Its answer.
        options: What it was asked for.

    Raises:
        InvalidOutputError: More outlines, or probability maps that nobody asked for.
    """
    count = len(prediction.segments)
    if options.HasField("max_segments") and count > options.max_segments:
        raise InvalidOutputError(
            f"{count} outlines came, {options.max_segments} were asked for; mind max_segments"
        )
    if prediction.probability_maps and not options.include_probability_maps:
        raise InvalidOutputError(
            "probability maps came without being asked for; mind include_probability_maps"
        )
