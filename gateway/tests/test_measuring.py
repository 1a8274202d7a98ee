"""The fused answer is measured where the request asks for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from spinezoo_contract import codec
from spinezoo_contract.errors import OptionError
from spinezoo_contract.types import (
    EnsembleOptions,
    Film,
    FilmNote,
    FilmNoteCode,
    FusedAnswer,
    FusionOptions,
    MeasureKind,
    MeasureOptions,
    MeasurePlane,
)
from spinezoo_gateway.members import vote_of
from spinezoo_gateway.service import fuse_and_name
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_testing.columns import phantom_column


def answered(asked: MeasureOptions | None) -> FusedAnswer:
    """What the gateway says of a phantom that three members outline alike."""
    made, pixels = phantom_column(0)
    said = [replace(segment, level=None) for segment in made.segments]
    votes = {name: vote_of(said, made.height, made.width) for name in ("a", "b", "c")}
    film = Film(pixels, 0.5, 0.5)
    return fuse_and_name(votes, FusionOptions(), film, built_in_reader(), asked)


def test_nothing_is_measured_unasked() -> None:
    assert answered(None).measures is None


def test_measures_cross_the_wire_as_they_are() -> None:
    fused = answered(MeasureOptions(magnification=1.2))
    measures = fused.measures
    assert measures is not None
    assert measures.plane is MeasurePlane.PATIENT
    kinds = {measure.kind for measure in measures.measures}
    assert {MeasureKind.LORDOSIS, MeasureKind.SACRAL_SLOPE} <= kinds
    back = codec.from_proto(FusedAnswer, codec.to_proto(fused))
    assert back.measures == measures


def test_where_millimetres_hold_is_said_only_where_the_film_says_it() -> None:
    """Pixel Spacing may be that of the detector, or calibrated in the patient (PS3.3 10.7.1)."""
    made, pixels = phantom_column(0)
    votes = {name: vote_of(list(made.segments), *pixels.shape) for name in ("a", "b", "c")}
    wanted = {
        FilmNoteCode.SPACING_IMAGER: MeasurePlane.DETECTOR,
        FilmNoteCode.SPACING_NOMINAL_SCANNED: MeasurePlane.DETECTOR,
        FilmNoteCode.SPACING_PIXEL: MeasurePlane.UNSAID,
        FilmNoteCode.SPACING_CALIBRATED: MeasurePlane.PATIENT,
    }
    for code, plane in wanted.items():
        film = Film(pixels, 0.5, 0.5, (FilmNote(code, "said by the header"),))
        heights = []
        for asked, said in ((None, plane), (1.2, MeasurePlane.PATIENT)):
            fused = fuse_and_name(
                votes, FusionOptions(), film, built_in_reader(), MeasureOptions(asked)
            )
            back = codec.from_proto(FusedAnswer, codec.to_proto(fused)).measures
            assert back is not None
            assert back.plane is said
            kind = MeasureKind.BODY_HEIGHT_POSTERIOR
            heights.append(sum(each.value or 0.0 for each in back.measures if each.kind is kind))
        assert heights[0] > 0.0
        divided_by = 1.0 if plane is MeasurePlane.PATIENT else 1.2
        assert heights[0] / heights[1] == pytest.approx(divided_by)


def test_every_measured_level_is_a_named_one() -> None:
    fused = answered(MeasureOptions())
    assert fused.labelling is not None
    assert fused.measures is not None
    named = {v.segment.level for v in fused.labelling.vertebrae} - {None}
    assert {body.level for body in fused.measures.bodies} <= named
    for measure in fused.measures.measures:
        if measure.value is not None:
            assert set(measure.levels) <= named


def test_a_request_says_how_to_measure() -> None:
    asked = EnsembleOptions(measures=MeasureOptions(1.15))
    film = Film(phantom_column(0)[1])
    message = codec.ensemble_request_to_proto(film, asked)
    assert codec.from_proto(EnsembleOptions, message) == asked


@pytest.mark.parametrize("magnification", [0.5, -1.0, float("nan"), 7.0])
def test_a_magnification_that_cannot_be(magnification: float) -> None:
    with pytest.raises(OptionError, match="magnification"):
        MeasureOptions(magnification)
