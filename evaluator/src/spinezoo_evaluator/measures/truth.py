"""What is true of a film's measures, from a phantom's truth or from corner truth."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import (
    Labelling,
    MeasureKind,
    NamedVertebra,
    Segment,
    Structure,
    UnnamedReason,
)
from spinezoo_spine.annotations.corners import CornerFilm, read_corner_folder
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.annotations.regions import Region
from spinezoo_spine.measures import formulas
from spinezoo_spine.metrics.matching import matched_pairs

Key = tuple[MeasureKind, tuple[str, ...]]
Quads = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class TrueBreak:
    """A rod's break.

    Attributes:
        levels: The vertebrae that it lies between.
        ends: (2, 2) lower end of the part above and upper end of the part below, in pixels.
        gap_mm: From one to the other along the rod, at the detector.
        covered_share: Share of the gap that other implants cover.
    """

    levels: tuple[str, ...]
    ends: NDArray[np.float64]
    gap_mm: float
    covered_share: float


@dataclass(frozen=True, slots=True)
class TrueFilm:
    """The truth of one film.

    Attributes:
        name: The film's file.
        height: Rows in pixels.
        width: Columns in pixels.
        spacing_mm: Distance of pixels; None: not known.
        quads: (4, 2) corners by level in pixels: back upper, front upper, front lower, back
            lower. Of S1 the last two are NaN.
        middles: (2, 2) middles of the endplates by level; empty where not known.
        measures: Value and grade; None where not known.
        osteophytes: Length in mm by level and corner; None: not known.
        traits: What films are grouped by, such as "hardware".
        rod_breaks: Breaks of rods whose middle lies on the film; None: not known.
    """

    name: str
    height: int
    width: int
    spacing_mm: float | None
    quads: Quads
    measures: Mapping[Key, tuple[float | None, int | None]]
    middles: Quads = field(default_factory=dict)
    osteophytes: Mapping[tuple[str, str], float] | None = None
    traits: Mapping[str, str] = field(default_factory=dict)
    rod_breaks: tuple[TrueBreak, ...] | None = None

    @property
    def faces_left(self) -> bool:
        """Whether the patient looks to the film's left."""
        turns = [quad[1, 0] - quad[0, 0] for quad in self.quads.values()]
        return bool(np.median(turns) < 0)

    def in_view(self, levels: tuple[str, ...]) -> bool:
        """Whether all corners of these levels lie on the film."""
        for level in levels:
            quad = self.quads.get(level)
            if quad is None:
                return False
            seen = quad[np.isfinite(quad).all(axis=1)]
            if (seen < 0).any() or (seen > [self.width, self.height]).any():
                return False
        return True

    def named(self, vertebrae: tuple[Segment, ...]) -> Labelling:
        """Outlines with the true names, matched one to one."""
        shown = {level: quad for level, quad in self.quads.items() if self.in_view((level,))}
        regions = [
            Region(Structure.LUMBAR_VERTEBRA, quad, level)
            for level, quad in shown.items()
            if level != "S1"
        ]
        outlines = segments_from_regions(regions, self.height, self.width)
        bare = [replace(segment, level=None) for segment in vertebrae]
        names: dict[int, str] = {}
        for true, said, _ in matched_pairs(outlines, bare):
            level = outlines[true].level
            if level is not None:
                names[said] = level
        if "S1" in shown:
            index = _sacrum(bare, shown["S1"][:2].mean(axis=0), set(names))
            if index is not None:
                names[index] = "S1"
        return Labelling(
            tuple(
                NamedVertebra(
                    replace(segment, level=names.get(index)),
                    1.0 if index in names else 0.0,
                    None if index in names else UnnamedReason.SACRUM_UNSURE,
                )
                for index, segment in enumerate(bare)
            ),
            "S1" in shown,
        )


def _sacrum(vertebrae: list[Segment], middle: NDArray[np.float64], taken: set[int]) -> int | None:
    """The sacral outline whose upper border lies at the true endplate."""
    best, nearest = None, 0.6
    for index, segment in enumerate(vertebrae):
        if index in taken:
            continue
        box = segment.box
        aside = box.x - 8 < middle[0] < box.x + box.width + 8
        share = (middle[1] - box.y) / max(box.height, 1.0)
        if aside and -0.3 < share < nearest:
            best, nearest = index, share
    return best


def read_truth(folder: Path) -> list[TrueFilm]:
    """The truth of a folder: of a phantom set, or a corner file.

    Raises:
        AnnotationError: There is neither, it is damaged, or the set is older than measures.
    """
    if (folder / "truth.json").is_file() and (folder / "phantom.json").is_file():
        try:
            return _phantoms(folder)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise AnnotationError(
                f"truth.json and phantom.json of folder {folder.name!r} are no truth of phantoms "
                f"({type(error).__name__}); make the set again, or move them away"
            ) from error
    return [of_corner_film(film) for film in read_corner_folder(folder)[0]]


def _phantoms(folder: Path) -> list[TrueFilm]:
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    about = json.loads((folder / "phantom.json").read_text(encoding="utf-8"))
    settings = about["settings"]
    films = []
    for film in about["films"]:
        said = truth[film["filename"]]
        if "measures" not in said:
            raise AnnotationError("the set is older than measures; make it again: make test-set")
        films.append(_phantom(film, said, settings["height_px"], settings["width_px"]))
    return films


def _phantom(film: Any, said: Any, height: int, width: int) -> TrueFilm:
    quads = {level: np.array(v["corners_px"]) for level, v in said["vertebrae"].items()}
    middles = {
        level: np.array([v["upper_endplate_px"][4], v["lower_endplate_px"][4]])
        for level, v in said["vertebrae"].items()
    }
    quads.pop("S2", None)
    quads["S1"] = np.vstack([quads["S1"][:2], np.full((2, 2), np.nan)])
    measures = {
        (MeasureKind[m["kind"]], tuple(m["levels"])): (m["value"], m.get("grade"))
        for m in said["measures"]
    }
    heads = np.array(said["femoral_heads_px"], np.float64)
    if len(heads) == 2:
        measures |= _pelvic(quads["S1"], heads, left=film["tags"]["facing"] == "left")
    spurs = {(o["level"], o["corner"]): float(o["length_mm"]) for o in said["osteophytes"]}
    worn = max((d["narrowing_grade"] for d in said["discs"].values()), default=0)
    traits = {
        "hardware": "with hardware" if film["tags"]["has_hardware"] else "without hardware",
        "degeneration": f"worst disc of grade {worn}",
    }
    spacing = float(film["row_spacing_mm"])
    breaks = _breaks(said["rod_breaks"], height, width) if "rod_breaks" in said else None
    return TrueFilm(
        film["filename"], height, width, spacing, quads, measures, middles, spurs, traits, breaks
    )


def _breaks(said: Any, height: int, width: int) -> tuple[TrueBreak, ...]:
    """Those whose middle lies on the film."""
    found = []
    for each in said:
        ends = np.array([each["upper_end_px"], each["lower_end_px"]])
        x, y = ends.mean(axis=0)
        if 0 <= x <= width and 0 <= y <= height:
            levels = tuple(each["levels"])
            found.append(TrueBreak(levels, ends, each["gap_mm"], each["covered_share"]))
    return tuple(found)


def _pelvic(
    sacrum: NDArray[np.float64], heads: NDArray[np.float64], *, left: bool
) -> dict[Key, tuple[float | None, int | None]]:
    """Pelvic incidence and tilt on the film, of S1's corners and both femoral heads."""
    turn = np.array([-1.0 if left else 1.0, 1.0])
    angles = formulas.pelvic_angles_deg(sacrum * turn, heads.mean(axis=0) * turn)
    kinds = (MeasureKind.PELVIC_INCIDENCE, MeasureKind.PELVIC_TILT)
    return {(k, ("S1",)): (float(angle), None) for k, angle in zip(kinds, angles, strict=True)}


def of_corner_film(film: CornerFilm) -> TrueFilm:
    """The truth of a film with corner truth; its pixels have no distance."""
    quads = {level: np.asarray(quad, dtype=np.float64) for level, quad in film.quads.items()}
    if film.s1_endplate is not None:
        quads["S1"] = np.vstack([film.s1_endplate, np.full((2, 2), np.nan)])
    return TrueFilm(film.name, film.height, film.width, None, quads, _of_corners(quads))


def _of_corners(quads: Quads) -> dict[Key, tuple[float | None, int | None]]:
    """The measures that corners tell; films have no spacing: no lengths."""
    turned = {level: quad.copy() for level, quad in quads.items()}
    if quads and np.median([quad[1, 0] - quad[0, 0] for quad in quads.values()]) < 0:
        for quad in turned.values():
            quad[:, 0] *= -1
    upper, lower = formulas.upper_plate, formulas.lower_plate
    found: dict[Key, tuple[float | None, int | None]] = {}
    for first, last in (("L1", "S1"), ("L1", "L5"), ("L4", "S1")):
        if first in turned and last in turned:
            end = (upper if last == "S1" else lower)(turned[last])
            value = formulas.between_deg(upper(turned[first]), end)
            found[MeasureKind.LORDOSIS, (first, last)] = (float(value), None)
    if "S1" in turned:
        slope = formulas.slope_deg(upper(turned["S1"]))
        found[MeasureKind.SACRAL_SLOPE, ("S1",)] = (float(slope), None)
    order = sorted(turned, key=lambda level: ("TLS".index(level[0]), int(level[1:])))
    for level in order:
        if level != "S1":
            wedge = formulas.between_deg(lower(turned[level]), upper(turned[level]))
            found[MeasureKind.BODY_WEDGING, (level,)] = (float(wedge), None)
    for above, below in itertools.pairwise(order):
        if not _neighbours(above, below):
            continue
        one, other = turned[above], turned[below]
        end = (upper if below == "S1" else lower)(other)
        pair = (above, below)
        found[MeasureKind.SEGMENTAL_ANGLE, pair] = (
            float(formulas.between_deg(upper(one), end)),
            None,
        )
        angle = float(formulas.between_deg(lower(one), upper(other)))
        found[MeasureKind.DISC_ANGLE, pair] = (angle, None)
        if below == "S1":
            found[MeasureKind.LUMBOSACRAL_ANGLE, pair] = (angle, None)
        heights = formulas.disc_heights(one, other, np.zeros((2, 2)))
        farfan = float((heights[0] + heights[2]) / formulas.disc_depth(one, other))
        found[MeasureKind.DISC_INDEX_FARFAN, pair] = (farfan, None)
        percent = 100.0 * float(formulas.slip(one, other) / formulas.length(upper(other)))
        found[MeasureKind.SLIP_PERCENT, pair] = (percent, None)
    return found


def _neighbours(above: str, below: str) -> bool:
    if above[0] == below[0]:
        return int(below[1:]) == int(above[1:]) + 1
    return (above, below) in (("T12", "L1"), ("L5", "S1"), ("L4", "S1"), ("L6", "S1"))
