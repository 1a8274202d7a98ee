"""One film and its truth, and what one answer of the gateway is worth against it."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.masks import mask_box
from spinezoo_contract.types import (
    VERTEBRAE,
    EnsembleAnswer,
    Labelling,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
)
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.column.naming import named_column
from spinezoo_spine.column.reader.network import ColumnReader
from spinezoo_spine.films.reader import read_film
from spinezoo_spine.implant_parts import IMPLANTS
from spinezoo_spine.instances import unite
from spinezoo_spine.metrics.film import FilmMeasurement, measure_film, merged_pixels
from spinezoo_spine.metrics.matching import match_objects

from spinezoo_evaluator.results.columns import ColumnCounts, count_column
from spinezoo_evaluator.results.records import FUSED


@dataclass(frozen=True, slots=True)
class Film:
    """A film with its truth, ready to be sent.

    Attributes:
        name: Its name.
        data: The bytes of its file, sent as they are.
        sha256: Of ``data``.
        height: Rows in pixels.
        width: Columns in pixels.
        truth: Its outlines, without levels.
        levels: The level of each of them, as far as it is one vertebra's.
    """

    name: str
    data: bytes
    sha256: str
    height: int
    width: int
    truth: tuple[Segment, ...]
    levels: tuple[str | None, ...] = ()

    def vertebrae(self) -> tuple[Segment, ...]:
        """The true vertebrae with their levels."""
        return tuple(
            replace(segment, level=level)
            for segment, level in zip(self.truth, self.levels, strict=True)
            if segment.structure in VERTEBRAE
        )


def load_film(films: FilmSet, name: str) -> Film:
    """Reads one film and draws its truth.

    Raises:
        FilmError: The film cannot be read.
        TooLargeError: It is over a limit.
        AnnotationError: It has no outlines, or one covers no pixel of it.
    """
    height, width = films.film_size(name)
    data = films.path(name).read_bytes()
    drawn = segments_from_regions(films.annotation(name).regions, height, width)
    if len(drawn) != len(films.annotation(name).regions):
        raise AnnotationError(
            f"film {name!r}: a region covers no pixel of it; check the outlines with make check"
        )
    # The evaluator's metrics need no levels; names are counted here.
    truth = tuple(replace(segment, level=None) for segment in drawn)
    levels = tuple(segment.level for segment in drawn)
    return Film(name, data, hashlib.sha256(data).hexdigest(), height, width, truth, levels)


def disagreement(outlines: Sequence[Sequence[Segment]], height: int, width: int) -> float | None:
    """1 minus the mean IoU of every two members' merged masks; None for fewer than two.

    Two empty masks agree.
    """
    if len(outlines) < 2:
        return None
    merged = [
        {
            "size": [height, width],
            "counts": unite([segment.mask for segment in segments], height, width).counts,
        }
        for segments in outlines
    ]
    areas = [int(area) for area in coco_mask.area(merged)]
    ious = []
    for a, b in itertools.combinations(range(len(merged)), 2):
        both = int(coco_mask.area(coco_mask.merge([merged[a], merged[b]], intersect=True)))
        either = areas[a] + areas[b] - both
        ious.append(both / either if either else 1.0)
    return 1.0 - math.fsum(ious) / len(ious)


def merged_segment(merged_mask: RunLengthMask | None) -> tuple[Segment, ...]:
    """The fused merged mask as segments, for measuring on the merged mask only."""
    if merged_mask is None:
        return ()
    # The structure plays no part where everything is united.
    kind = SegmentKind.REGION
    return (Segment(Structure.ROD, kind, merged_mask, 1.0, mask_box(merged_mask)),)


def measure_fused(answer: EnsembleAnswer, truth: Sequence[Segment]) -> FilmMeasurement:
    """Measures the fused ensemble: structures by its regions, the merged mask by its own.

    Implants are counted as the gateway fused them, as objects.

    The gateway fuses the merged mask from the members' united masks; it is the ensemble's word on
    "anything is here", and the study's four metrics are about nothing else.
    """
    height, width = answer.height, answer.width
    by_structure = measure_film(truth, answer.fused.segments, height, width)
    merged = merged_pixels(truth, merged_segment(answer.fused.merged_mask), height, width)
    found = [implant.segment for implant in answer.fused.implants]
    objects = dict(by_structure.objects)
    for structure in IMPLANTS if found else ():  # none: as the regions' parts
        objects[structure.name.lower()] = match_objects(
            [segment for segment in truth if segment.structure is structure],
            [segment for segment in found if segment.structure is structure],
        )
    return FilmMeasurement(merged, by_structure.pixels, by_structure.vertebrae, objects)


def measure_columns(columns: Mapping[str, Labelling | None], film: Film) -> dict[str, ColumnCounts]:
    """Vertebrae after separation, and their names, of every column that there is.

    A truth without levels is measured too: no name is asked for then.
    """
    outlines = film.vertebrae()
    sacrum = any(outline.level == "S1" for outline in outlines)
    return {
        name: count_column(outlines, column, sacrum_in_view=sacrum)
        for name, column in columns.items()
        if column is not None
    }


def columns_of(
    answer: EnsembleAnswer, pixels: NDArray[Any], reader: ColumnReader
) -> dict[str, Labelling | None]:
    """The named column of every member and of the fused ensemble; None where one failed.

    Members' own columns are named here; the fused one comes named from the gateway.

    Args:
        answer: Of the gateway.
        pixels: (height, width) of the film that it is about.
        reader: Names vertebrae.
    """
    columns: dict[str, Labelling | None] = {
        member.status.member_name: None
        if member.prediction is None
        else named_column(member.prediction.segments, pixels, reader)
        for member in answer.members
    }
    fused = answer.fused
    columns[FUSED] = fused.labelling or named_column(fused.segments, pixels, reader)
    return columns


@dataclass(frozen=True, slots=True)
class Measured:
    """One answer, measured.

    Attributes:
        members: By member that answered.
        fused: The fused ensemble.
        disagreement: See :func:`disagreement`.
        columns: Vertebrae and names by model.
        named: Vertebrae by model, taken apart and named.
    """

    members: dict[str, FilmMeasurement]
    fused: FilmMeasurement
    disagreement: float | None
    columns: dict[str, ColumnCounts]
    named: dict[str, tuple[Segment, ...]]


def measure(answer: EnsembleAnswer, film: Film, reader: ColumnReader) -> Measured:
    """Measures every member and the fused ensemble on one film.

    Raises:
        FilmError: The film cannot be read.
    """
    answered = {
        member.status.member_name: member.prediction.segments
        for member in answer.members
        if member.prediction is not None
    }
    columns = columns_of(answer, read_film(film.data).pixels, reader)
    return Measured(
        {
            name: measure_film(film.truth, segments, film.height, film.width)
            for name, segments in answered.items()
        },
        measure_fused(answer, film.truth),
        disagreement(list(answered.values()), film.height, film.width),
        measure_columns(columns, film),
        {
            name: tuple(vertebra.segment for vertebra in column.vertebrae)
            for name, column in columns.items()
            if column is not None
        },
    )
