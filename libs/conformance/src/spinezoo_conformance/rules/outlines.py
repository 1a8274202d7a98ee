"""Rules C05 to C09, C11, C19, C20 and C25: the outlines and maps of one good film."""

from __future__ import annotations

import math

from spinezoo.v1 import model_pb2, segment_pb2, segmenter_pb2
from spinezoo_contract import codec
from spinezoo_contract.errors import InvalidOutputError
from spinezoo_contract.types import ModelInfo, Prediction
from spinezoo_contract.words import counted

from spinezoo_conformance.answers import (
    check_masks,
    check_same,
    check_size,
    judged_on,
    structure_name,
)
from spinezoo_conformance.rule import Rule
from spinezoo_conformance.session import STANDARD_SIZE, Session, raw_image, standard_pixels
from spinezoo_conformance.verdict import RuleBrokenError, expect


def _judge_size(session: Session) -> str:
    response = session.standard_answer()
    check_size(response, *STANDARD_SIZE)
    return judged_on(response)


def _judge_masks(session: Session) -> str | None:
    return check_masks(session.answer(), *STANDARD_SIZE)


def _judge_scores(session: Session) -> str:
    response = session.answer()
    scores = [segment.score for segment in response.segments]
    for index, score in enumerate(scores):
        expect(0.0 <= score <= 1.0, f"segments[{index}].score is {score}; 0 to 1")
    for index in range(1, len(scores)):
        expect(
            scores[index] <= scores[index - 1],
            f"segments[{index}] scores {scores[index]:.4f} after {scores[index - 1]:.4f}; "
            "send the best first",
        )
    return judged_on(response)


def _judge_structures(session: Session) -> str:
    allowed = set(session.model().structures)
    response = session.answer()
    for index, segment in enumerate(response.segments):
        expect(
            segment.structure in allowed,
            f"segments[{index}] is {structure_name(segment.structure)}, "
            "which GetModel does not name",
        )
    return judged_on(response)


def _judge_kinds(session: Session) -> str:
    semantic = session.model().family == model_pb2.MODEL_FAMILY_SEMANTIC
    wanted = segment_pb2.SEGMENT_KIND_REGION if semantic else segment_pb2.SEGMENT_KIND_INSTANCE
    response = session.answer()
    seen: set[int] = set()
    for index, segment in enumerate(response.segments):
        expect(
            segment.kind == wanted,
            f"segments[{index}] is of kind {segment.kind}; the model's family answers "
            f"{segment_pb2.SegmentKind.Name(wanted)}",
        )
        if semantic:
            expect(
                segment.structure not in seen,
                f"segments[{index}] is a second region of {structure_name(segment.structure)}",
            )
        seen.add(segment.structure)
    return judged_on(response)


def _judge_deterministic(session: Session) -> str:
    first = session.answer()
    options = segmenter_pb2.PredictOptions(score_threshold=0.0)
    second = session.predict(raw_image(standard_pixels()), options)
    check_same(first, second, "the same film")
    return judged_on(first)


def _judge_probability_maps(session: Session) -> str:
    model = session.model()
    expect(not session.answer().probability_maps, "probability maps come without being asked for")
    options = segmenter_pb2.PredictOptions(include_probability_maps=True)
    response = session.predict(raw_image(standard_pixels()), options)
    structures = [grid.structure for grid in response.probability_maps]
    expect(
        len(set(structures)) == len(structures) and set(structures) <= set(model.structures),
        f"probability maps of {[structure_name(number) for number in structures]}; "
        "at most one for each structure that GetModel names",
    )
    for grid in response.probability_maps:
        where = f"probability map of {structure_name(grid.structure)}"
        expect(min(grid.height, grid.width) > 0, f"{where} has no size")
        expect(
            len(grid.data) == grid.height * grid.width,
            f"{where} has {counted(len(grid.data), 'byte')} for {grid.height} x {grid.width}",
        )
        expect(grid.HasField("film_box"), f"{where} does not say which part it covers")
        box = grid.film_box
        finite = all(map(math.isfinite, (box.x, box.y, box.width, box.height)))
        expect(
            finite and box.width > 0 and box.height > 0,
            f"{where} covers {box.width} x {box.height} pixels of the film",
        )
    count = len(response.probability_maps)
    return counted(count, "map") if count else "the network answers no maps"


def _judge_two_at_once(session: Session) -> str:
    first = session.answer()
    options = segmenter_pb2.PredictOptions(score_threshold=0.0)
    request = segmenter_pb2.PredictRequest(image=raw_image(standard_pixels()), options=options)
    calls = [session.stub.Predict.future(request, timeout=session.timeout_s) for _ in range(2)]
    for call in calls:
        check_same(first, call.result(), "one of two films sent at once")
    return judged_on(first)


def _judge_reading(session: Session) -> str:
    # What no rule above looks at: numbers of outlines, levels, notes, lengths of texts.
    response = session.answer()
    try:
        codec.from_proto(ModelInfo, session.model())
        codec.from_proto(Prediction, response, *STANDARD_SIZE)
    except InvalidOutputError as error:
        raise RuleBrokenError(str(error)) from error
    return judged_on(response)


OUTLINE_RULES = (
    Rule("C05", "A film is answered at its own size.", _judge_size),
    Rule(
        "C06",
        "Masks are valid run lengths of the film's size, not empty, with their boxes around them.",
        _judge_masks,
    ),
    Rule("C07", "Scores are 0 to 1, the best first.", _judge_scores),
    Rule("C08", "Only structures that GetModel names are answered.", _judge_structures),
    Rule(
        "C09",
        "A semantic network answers at most one region a structure, an instance network instances.",
        _judge_kinds,
    ),
    Rule("C11", "The same film gets the same answer.", _judge_deterministic),
    Rule("C19", "Probability maps come when asked for, well-formed.", _judge_probability_maps),
    Rule("C20", "Two requests at once are both answered.", _judge_two_at_once),
    Rule("C25", "A client of the contract takes its answers.", _judge_reading),
)
