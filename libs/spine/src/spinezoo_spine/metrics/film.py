"""Counting one film, on run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pycocotools import mask as coco_mask
from spinezoo_contract.errors import AnnotationError, BadInputError, MaskError
from spinezoo_contract.types import VERTEBRAE, Segment, Structure

from spinezoo_spine.instances import to_instances, unite
from spinezoo_spine.metrics.counts import (
    STRUCTURE_KEYS,
    Counts,
    MatchCounts,
    Matrix,
    PixelCounts,
    merged_from_json,
    pixels_from_json,
    pixels_to_json,
)
from spinezoo_spine.metrics.matching import Matches, match_objects
from spinezoo_spine.metrics.registry import metric_values


@dataclass(frozen=True, slots=True)
class FilmMeasurement:
    """All that is counted on one film for one model.

    Attributes:
        merged: Pixel counts ``((background right, only prediction), (only truth, both))`` of the
            merged mask.
        pixels: Pixel counts by structure name.
        vertebrae: Vertebrae matched, lumbar and sacral together.
        objects: Objects matched by structure name, within the structure.
    """

    merged: Matrix
    pixels: Mapping[str, PixelCounts]
    vertebrae: Matches
    objects: Mapping[str, Matches]

    def counts(self) -> Counts:
        """What metrics are computed from."""
        return Counts(
            self.merged,
            self.pixels,
            MatchCounts.of(self.vertebrae),
            {key: MatchCounts.of(matches) for key, matches in self.objects.items()},
        )

    def values(self) -> dict[str, float | None]:
        """Every metric on this film; None where undefined."""
        return metric_values(self.counts())

    def to_json(self) -> dict[str, Any]:
        """Plain values; floats are exact in JSON as Python writes them."""
        return {
            "merged": [list(row) for row in self.merged],
            "pixels": pixels_to_json(self.pixels),
            "vertebrae": self.vertebrae.to_json(),
            "objects": {key: matches.to_json() for key, matches in self.objects.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FilmMeasurement:
        """The opposite of :meth:`to_json`.

        Raises:
            BadInputError: Not such a value.
        """
        try:
            return cls(
                merged=merged_from_json(data["merged"]),
                pixels=pixels_from_json(data["pixels"]),
                vertebrae=Matches.from_json(data["vertebrae"]),
                objects={key: Matches.from_json(data["objects"][key]) for key in STRUCTURE_KEYS},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                f"not a film's measurement ({type(error).__name__}: {error}); measure it again"
            ) from error


def measure_film(
    truth: Sequence[Segment], prediction: Sequence[Segment], height: int, width: int
) -> FilmMeasurement:
    """Counts one film, on run lengths.

    Args:
        truth: Segments of the truth; regions are cut into components to count objects.
        prediction: Segments of one model.
        height: Rows of the film.
        width: Columns of the film.

    Raises:
        MaskError: A mask is not of the film's size.
        AnnotationError: A structure is not one of the known ones.
    """
    for name, segments in (("truth", truth), ("prediction", prediction)):
        for segment in segments:
            if (segment.mask.height, segment.mask.width) != (height, width):
                raise MaskError(
                    f"a mask of the {name} is {segment.mask.height} x {segment.mask.width} pixels, "
                    f"the film {height} x {width}; bring it back to the film's size before "
                    "measuring"
                )
            if not isinstance(segment.structure, Structure):
                raise AnnotationError(
                    f"the {name} holds the structure {segment.structure!r}; use one of "
                    + ", ".join(STRUCTURE_KEYS)
                )
    true_objects, predicted_objects = to_instances(truth), to_instances(prediction)
    return FilmMeasurement(
        merged=merged_pixels(truth, prediction, height, width),
        pixels={
            structure.name.lower(): _overlap(
                [segment for segment in truth if segment.structure == structure],
                [segment for segment in prediction if segment.structure == structure],
                height,
                width,
            )
            for structure in Structure
        },
        vertebrae=match_objects(
            [segment for segment in true_objects if segment.structure in VERTEBRAE],
            [segment for segment in predicted_objects if segment.structure in VERTEBRAE],
        ),
        objects={
            structure.name.lower(): match_objects(
                [segment for segment in true_objects if segment.structure == structure],
                [segment for segment in predicted_objects if segment.structure == structure],
            )
            for structure in Structure
        },
    )


def merged_pixels(
    truth: Sequence[Segment], prediction: Sequence[Segment], height: int, width: int
) -> Matrix:
    """Pixels of the merged mask alone, of masks of the film's size."""
    merged = _overlap(truth, prediction, height, width)
    only_truth = merged.truth - merged.both
    only_prediction = merged.prediction - merged.both
    neither = height * width - merged.both - only_truth - only_prediction
    return (neither, only_prediction), (only_truth, merged.both)


def _overlap(
    truth: Sequence[Segment], prediction: Sequence[Segment], height: int, width: int
) -> PixelCounts:
    """Pixel counts of two united sets of segments."""
    pair = []
    for segments in (truth, prediction):
        united = unite([segment.mask for segment in segments], height, width)
        pair.append({"size": [height, width], "counts": united.counts})
    true_area, predicted_area = (int(area) for area in coco_mask.area(pair))
    both = int(coco_mask.area(coco_mask.merge(pair, intersect=True))) if truth and prediction else 0
    return PixelCounts(both, true_area, predicted_area)
