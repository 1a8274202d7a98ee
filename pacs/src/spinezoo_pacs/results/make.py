"""All results of one answered film."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from pydicom.dataset import Dataset
from spinezoo_contract.types import EnsembleAnswer, Film

from spinezoo_pacs.results.capture import capture
from spinezoo_pacs.results.equipment import Making, Viewer
from spinezoo_pacs.results.findings import Verdict, findings_of, verdict_of
from spinezoo_pacs.results.seg import binary_seg, labelmap_seg
from spinezoo_pacs.results.sources import Source
from spinezoo_pacs.results.sr import Measure, report

ResultKind = Literal["seg", "labelmap", "sr", "sc"]
"""What can be sent back."""

RESULT_KINDS: tuple[ResultKind, ...] = get_args(ResultKind)


@dataclass(frozen=True, slots=True)
class Results:
    """What is sent back for one film.

    Attributes:
        datasets: By kind; SEG only where the answer is trusted.
        verdict: Whether it is, and what a reader should know.
    """

    datasets: dict[ResultKind, Dataset]
    verdict: Verdict

    def files(self) -> dict[ResultKind, bytes]:
        """DICOM files, by kind."""
        return {kind: _file(dataset) for kind, dataset in self.datasets.items()}


def make_results(
    source: Source,
    answer: EnsembleAnswer,
    film: Film,
    made_at: datetime,
    *,
    kinds: Sequence[ResultKind] = RESULT_KINDS,
    viewer: Viewer = "standard",
    measures: Sequence[Measure] = (),
) -> Results:
    """Results of an answer, filed in the film's study.

    The same film, answer and date give the same results, byte for byte.

    Args:
        source: The film's header.
        answer: The gateway's answer to it.
        film: The film's pixels, for the picture.
        made_at: Date and time that the results carry.
        kinds: What to make.
        viewer: Whom for; see docs/viewers.md.
        measures: Values for the report.

    Raises:
        SourceError: The answer is of another size than the film.
        AnnotationError: An outline has too many corners for a polygon.
    """
    source.check_size(answer.height, answer.width)
    making = Making(source, answer, made_at, viewer)
    verdict, findings = verdict_of(answer), findings_of(answer)
    made: dict[ResultKind, Dataset] = {}
    with warnings.catch_warnings():
        # Of values of the film that the standard does not allow; the film came with them.
        warnings.simplefilter("ignore")
        if verdict.trusted and findings:
            if "seg" in kinds:
                made["seg"] = binary_seg(making, findings)
            if "labelmap" in kinds:
                made["labelmap"] = labelmap_seg(making, findings)
        if "sr" in kinds:
            made["sr"] = report(making, findings, verdict, measures)
        if "sc" in kinds:
            made["sc"] = capture(making, findings, verdict, film)
    for dataset in made.values():
        _date(dataset, made_at)
    return Results(made, verdict)


def _date(dataset: Dataset, made_at: datetime) -> None:
    """Replaces the present time, which highdicom puts in, by the results' own."""
    for day, time in (
        ("InstanceCreationDate", "InstanceCreationTime"),
        ("ContentDate", "ContentTime"),
        ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"),
    ):
        if day in dataset:
            setattr(dataset, day, made_at.strftime("%Y%m%d"))
            setattr(dataset, time, made_at.strftime("%H%M%S"))
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = made_at.strftime("%Y%m%d%H%M%S")


def _file(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
