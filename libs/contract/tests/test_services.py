"""The services' names are part of the contract: callers in other languages write them down."""

from __future__ import annotations

from spinezoo_contract.services import ENSEMBLE_SERVICE, EVALUATION_SERVICE, SEGMENTER_SERVICE


def test_the_names_are_those_of_version_1() -> None:
    assert (SEGMENTER_SERVICE, ENSEMBLE_SERVICE, EVALUATION_SERVICE) == (
        "spinezoo.v1.SegmenterService",
        "spinezoo.v1.EnsembleService",
        "spinezoo.v1.EvaluationService",
    )
