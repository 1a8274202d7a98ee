"""Structured report TID 1500: each named vertebra's polygon, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    CoordinatesForMeasurement,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurement,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from spinezoo_pacs.results.codes import (
    COMMENT,
    LUMBAR_SPINE,
    NOT_INTERPRETABLE,
    QUALITY_FINDING,
    RADIOGRAPHIC_IMAGING,
    category_of,
    site_of,
    type_of,
)
from spinezoo_pacs.results.equipment import MANUFACTURER, MODEL, Making, report_algorithm_of
from spinezoo_pacs.results.findings import Finding, Verdict
from spinezoo_pacs.results.identity import derived_uid
from spinezoo_pacs.results.outline import polygon_of
from spinezoo_pacs.results.values import Value

OHIF_TRACKER = "Cornerstone3DTools@^0.1.0:PlanarFreehandROI"
"""Tracking identifier by which OHIF takes a region for an outline that can be edited."""


Group: TypeAlias = (
    PlanarROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations
)


def report(
    making: Making,
    findings: Sequence[Finding],
    verdict: Verdict,
    measures: Sequence[Value] = (),
) -> Dataset:
    """The report of one film.

    A trusted answer has a group with a polygon for each named vertebra, and one with the
    cautions. Another has one group that says why there are none. It is never empty.
    """
    groups: list[Group] = []
    named = [each for each in findings if each.named] if verdict.trusted else []
    for finding in named:
        own = [measure for measure in measures if measure.label == finding.label]
        groups.append(_outline_group(making, finding, own))
    members = making.answer.fused.member_names
    algorithm = report_algorithm_of(making, members)
    if not verdict.trusted:
        groups.append(
            _said_group(making, "Not answered", verdict.refusals, algorithm, refused=True)
        )
    elif not named:
        why = ("Vertebrae are outlined, but none has a name that is likely enough.",)
        groups.append(
            _said_group(making, "No names", why + verdict.cautions, algorithm, refused=False)
        )
    elif verdict.cautions:
        groups.append(_said_group(making, "Cautions", verdict.cautions, algorithm, refused=False))
    groups += _measured(making, named, measures, algorithm) if verdict.trusted else []
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derived_uid("device", making.version),
            name=MODEL,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL,
            serial_number=making.version,
        ),
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=RADIOGRAPHIC_IMAGING,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    return ComprehensiveSR(
        evidence=[making.source.dataset],
        content=content[0],
        is_complete=True,
        is_final=False,
        is_verified=False,
        **making.series("sr", 9003, "SpineZoo report"),
    )


def _measurements(making: Making, measures: Sequence[Value]) -> list[Measurement]:
    dataset = making.source.dataset
    uids = (dataset.SOPClassUID, dataset.SOPInstanceUID)
    return [
        Measurement(
            name=measure.name,
            value=measure.value,
            unit=measure.unit,
            referenced_images=[SourceImageForMeasurement(*uids)],
        )
        for measure in measures
    ]


def _measured(
    making: Making,
    named: Sequence[Finding],
    measures: Sequence[Value],
    algorithm: AlgorithmIdentification,
) -> list[Group]:
    """The group of the measures that belong to no single outline; none where there are none."""
    outlined = {finding.label for finding in named}
    own = [measure for measure in measures if measure.label not in outlined]
    if not own:
        return []
    notes = [measure.note for measure in measures if measure.note]
    return [_said_group(making, "Measures", notes, algorithm, refused=False, measures=own)]


def _outline_group(
    making: Making, finding: Finding, measures: Sequence[Value]
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    points = polygon_of(finding.mask)
    closed = np.concatenate([points, points[:1]])
    dataset = making.source.dataset
    image = SourceImageForRegion(dataset.SOPClassUID, dataset.SOPInstanceUID)
    for_ohif = making.viewer == "ohif"
    measured = _measurements(making, measures)
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=making.tracking_uid(finding.label),
            identifier=OHIF_TRACKER if for_ohif else finding.label,
        ),
        referenced_region=ImageRegion(GraphicTypeValues.POLYLINE, closed, image),
        finding_type=type_of(finding.structure, finding.level),
        finding_category=category_of(finding.structure),
        finding_sites=[FindingSite(site_of(finding.level, finding.structure))],
        algorithm_id=report_algorithm_of(making, finding.member_names),
        measurements=measured,
    )
    said = f"{finding.label}, probability of the name {finding.score:.3f}"
    group[0].ContentSequence.append(_comment(said))
    if for_ohif:
        group[0].ContentSequence.append(_ohif_area(making, finding, closed))
    return group


def _ohif_area(making: Making, finding: Finding, closed: NDArray[np.float64]) -> Dataset:
    """The area with the coordinates inside, from which OHIF makes an outline to edit."""
    dataset = making.source.dataset
    row_mm, column_mm = making.source.spacing_mm
    if row_mm is not None and column_mm is not None:
        value = finding.mask.area * row_mm * column_mm
        unit = CodedConcept("mm2", "UCUM", "square millimeter")
    else:
        value, unit = float(finding.mask.area), CodedConcept("{pixels}", "UCUM", "pixels")
    measured = Measurement(
        name=CodedConcept("42798000", "SCT", "Area"),
        value=value,
        unit=unit,
        referenced_coordinates=[
            CoordinatesForMeasurement(
                GraphicTypeValues.POLYLINE,
                closed,
                SourceImageForRegion(dataset.SOPClassUID, dataset.SOPInstanceUID),
            )
        ],
    )
    item: Dataset = measured[0]
    return item


def _said_group(
    making: Making,
    title: str,
    sentences: Sequence[str],
    algorithm: AlgorithmIdentification,
    *,
    refused: bool,
    measures: Sequence[Value] = (),
) -> Group:
    """What is said of the whole film; OHIF stops at a group without a region, so it gets one."""
    dataset = making.source.dataset
    shared: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(uid=making.tracking_uid(title), identifier=title),
        "algorithm_id": algorithm,
        "finding_sites": [FindingSite(LUMBAR_SPINE)],
        "measurements": _measurements(making, measures) or None,
        "qualitative_evaluations": (
            [QualitativeEvaluation(QUALITY_FINDING, NOT_INTERPRETABLE)] if refused else None
        ),
    }
    uids = (dataset.SOPClassUID, dataset.SOPInstanceUID)
    group: Group
    if making.viewer == "ohif":
        height, width = float(dataset.Rows), float(dataset.Columns)
        border = [
            [0, 0], [width / 2, 0], [width, 0], [width, height], [width / 2, height], [0, height],
            [0, 0],
        ]  # fmt: skip
        region = ImageRegion(
            GraphicTypeValues.POLYLINE, np.array(border), SourceImageForRegion(*uids)
        )
        group = PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **shared)
    else:
        group = MeasurementsAndQualitativeEvaluations(
            source_images=[SourceImageForMeasurementGroup(*uids)], **shared
        )
    for sentence in sentences:
        group[0].ContentSequence.append(_comment(sentence))
    return group


def _comment(text: str) -> TextContentItem:
    return TextContentItem(
        name=COMMENT, value=text, relationship_type=RelationshipTypeValues.CONTAINS
    )
