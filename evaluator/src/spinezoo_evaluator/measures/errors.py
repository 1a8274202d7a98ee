"""Errors of measures, and what they add up to: bias, spread, agreement, coverage, honesty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from spinezoo_contract.types import BodyCorner, FilmMeasures, MeasureKind

from spinezoo_evaluator.measures.truth import TrueBreak, TrueFilm

LONG_OSTEOPHYTE_MM = 3.0
"""Osteophytes longer than this at the detector are to be found."""


NEAR_BREAK_MM = 6.0
"""A break is the true one where its ends lie within this of the true ones, at the detector."""

OPEN_SHARE = 0.5
"""A break of whose gap other implants cover less than this is open."""

BEYOND = frozenset({"T9", "T10", "T11"})
"""Levels that the study did not outline: nothing is asked of them."""


@dataclass(slots=True)
class RodBreaks:
    """Breaks of rods, counted.

    Attributes:
        true: True ones on the films.
        found: Of these found.
        open: True ones whose gap is open, see :data:`OPEN_SHARE`.
        open_found: Of these found.
        said: Told ones.
        right: Of these where there is a true one.
        levels_right: Of these between the true levels.
    """

    true: int = 0
    found: int = 0
    open: int = 0
    open_found: int = 0
    said: int = 0
    right: int = 0
    levels_right: int = 0

    def extend(self, more: RodBreaks) -> None:
        """Adds those of other films."""
        for name, count in asdict(more).items():
            setattr(self, name, getattr(self, name) + count)


@dataclass(slots=True)
class Errors:
    """Errors of all films by kind of measure.

    Attributes:
        rows: By title: film, measured, true, half width; measured and half are None where withheld.
        grades: By kind: true and said.
        corners: Distance of a corner from the true one, by the depth of the body, and whether it
            lies within the stated radius.
        endplates: Error of an endplate's direction in degrees.
        films: By film, the same of corners and endplates by "corners" or "endplates" and landmark.
        spurs: Osteophytes: true and long; of these found; said; said where there is a true one.
        rods: Breaks of rods.
    """

    rows: dict[str, list[tuple[str, float | None, float, float | None]]] = field(
        default_factory=dict
    )
    grades: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    corners: list[tuple[float, bool]] = field(default_factory=list)
    endplates: list[float] = field(default_factory=list)
    films: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    spurs: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    rods: RodBreaks = field(default_factory=RodBreaks)

    def add(self, film: TrueFilm, measured: FilmMeasures) -> None:
        """Compares one film with its truth; only what is in view is asked for."""
        said = {(m.kind, m.levels): m for m in measured.measures}
        for (kind, levels), (value, grade) in film.measures.items():
            if not film.in_view(levels) or BEYOND.intersection(levels):
                continue
            found = said.get((kind, levels))
            if value is not None:
                half = None
                if found is not None and found.value is not None and found.high is not None:
                    half = found.high - found.value  # below, an interval may be cut at 0
                row = (film.name, found.value if found is not None else None, value, half)
                self.rows.setdefault(title_of(kind, levels), []).append(row)
            if grade is not None and found is not None and found.grade is not None:
                self.grades.setdefault(kind.name, []).append((grade, found.grade))
        self._add_landmarks(film, measured)
        if film.rod_breaks is not None and film.spacing_mm is not None:
            self._add_breaks(film, film.rod_breaks, film.spacing_mm, measured)

    def extend(self, more: Errors) -> None:
        """Adds the errors of other films."""
        for title, rows in more.rows.items():
            self.rows.setdefault(title, []).extend(rows)
        for kind, pairs in more.grades.items():
            self.grades.setdefault(kind, []).extend(pairs)
        self.corners += more.corners
        self.endplates += more.endplates
        self.spurs = [one + other for one, other in zip(self.spurs, more.spurs, strict=True)]
        self.films.update(more.films)
        self.rods.extend(more.rods)

    def of_film(self, quantity: str) -> dict[str, dict[str, float]]:
        """Errors of "corners" or "endplates" by film and landmark."""
        return {film: said[quantity] for film, said in self.films.items() if quantity in said}

    def _add_landmarks(self, film: TrueFilm, measured: FilmMeasures) -> None:
        films = self.films.setdefault(film.name, {"corners": {}, "endplates": {}})
        for body in measured.bodies:
            quad = film.quads.get(body.level)
            if quad is None or not film.in_view((body.level,)):
                continue
            depth = float(np.hypot(*(quad[1] - quad[0])))
            places: dict[BodyCorner, Any] = {}
            for landmark in body.corners:
                true = quad[landmark.corner - 1]
                at = np.array([landmark.place.x, landmark.place.y])
                places[landmark.corner] = at
                off = float(np.hypot(*(at - true)))
                self.corners.append((off / depth, off <= landmark.radius_px))
                films["corners"][f"{body.level} {landmark.corner.name}"] = off / depth
            ends = list(BodyCorner)
            for first, last in ((0, 1), (3, 2)):
                one, other = places.get(ends[first]), places.get(ends[last])
                if one is not None and other is not None and np.isfinite(quad[first]).all():
                    angle = _direction(other - one) - _direction(quad[last] - quad[first])
                    off_deg = float((angle + 180.0) % 360.0 - 180.0)
                    self.endplates.append(off_deg)
                    films["endplates"][f"{body.level} {ends[first].name}"] = abs(off_deg)
            if film.osteophytes is not None and len(places) == 4:
                self._add_spurs(film, body.level, {o.corner.name for o in body.osteophytes})

    def _add_spurs(self, film: TrueFilm, level: str, said: set[str]) -> None:
        true = {
            corner: length
            for (at, corner), length in (film.osteophytes or {}).items()
            if at == level
        }
        long = {corner for corner, length in true.items() if length > LONG_OSTEOPHYTE_MM}
        self.spurs[0] += len(long)
        self.spurs[1] += len(long & said)
        self.spurs[2] += len(said)
        self.spurs[3] += len(said & set(true))

    def _add_breaks(
        self,
        film: TrueFilm,
        true: Sequence[TrueBreak],
        spacing_mm: float,
        measured: FilmMeasures,
    ) -> None:
        gaps = [m for m in measured.measures if m.kind is MeasureKind.ROD_BREAK_GAP]
        found: set[int] = set()
        for said, gap in zip(measured.rod_breaks, gaps, strict=True):
            ends = [
                (number, (end.x, end.y))
                for number, end in enumerate((said.upper_end, said.lower_end))
                if end is not None
            ]
            self.rods.said += 1
            for place, each in enumerate(true):
                away = [np.hypot(*(each.ends[number] - end)) for number, end in ends]
                if max(away) * spacing_mm <= NEAR_BREAK_MM:
                    found.add(place)
                    self.rods.right += 1
                    self.rods.levels_right += said.levels == each.levels
                    half = None if gap.high is None or gap.value is None else gap.high - gap.value
                    row = (film.name, gap.value, each.gap_mm, half)
                    self.rows.setdefault(MeasureKind.ROD_BREAK_GAP.name.lower(), []).append(row)
                    break
        opened = {place for place, each in enumerate(true) if each.covered_share < OPEN_SHARE}
        self.rods.true += len(true)
        self.rods.found += len(found)
        self.rods.open += len(opened)
        self.rods.open_found += len(opened & found)

    def summary(self) -> dict[str, Any]:
        """Every figure, as plain values."""
        corners = np.array([share for share, _ in self.corners])
        endplates = np.abs(self.endplates)
        true, found, said, right = self.spurs
        return {
            "measures": {title: summary_of(rows) for title, rows in sorted(self.rows.items())},
            "grades_right": {
                kind: {"share": float(np.mean([a == b for a, b in pairs])), "count": len(pairs)}
                for kind, pairs in self.grades.items()
            },
            "corners": _spread(corners) | {"inside": _mean(inside for _, inside in self.corners)},
            "endplates_deg": _spread(endplates),
            "osteophytes": {
                "true": true,
                "recall": found / true if true else None,
                "said": said,
                "precision": right / said if said else None,
            },
            "rod_breaks": asdict(self.rods),
        }


def title_of(kind: MeasureKind, levels: Sequence[str]) -> str:
    """Under which measures are pooled: lordoses apart, all segments and bodies together."""
    name = kind.name.lower()
    return f"{name} {levels[0]}-{levels[1]}" if kind is MeasureKind.LORDOSIS else name


def summary_of(rows: Sequence[tuple[str, float | None, float, float | None]]) -> dict[str, Any]:
    """Of one measure: count, coverage, bias, limits of agreement, median, p90, ICC, honesty.

    The limits of agreement are bias plus and minus 1.96 standard deviations (*Bland & Altman
    1986*); the ICC is of absolute agreement between measure and truth, two-way, single (*McGraw &
    Wong 1996*, ICC(A,1)). ``inside`` is the share whose truth lies in the stated 90 % interval.
    """
    pairs = np.array([(m, t) for _, m, t, _ in rows if m is not None]).reshape(-1, 2)
    halves = [(abs(m - t), h) for _, m, t, h in rows if m is not None and h is not None]
    error = pairs[:, 0] - pairs[:, 1]
    if not len(error):
        return {"asked": len(rows), "coverage": 0.0}
    spread = float(error.std(ddof=1)) if len(error) > 1 else 0.0
    bias = float(error.mean())
    return {
        "asked": len(rows),
        "coverage": len(error) / len(rows),
        "bias": bias,
        "limits": [bias - 1.96 * spread, bias + 1.96 * spread],
        "mean": float(np.abs(error).mean()),
        "median": float(np.median(np.abs(error))),
        "p90": float(np.percentile(np.abs(error), 90)),
        "relative_median": float(np.median(np.abs(error) / np.maximum(np.abs(pairs[:, 1]), 1e-6))),
        "icc": icc(pairs),
        "inside": _mean(off <= half for off, half in halves),
    }


def icc(pairs: Any) -> float | None:
    """Intraclass correlation of absolute agreement of (N, 2) pairs; None for fewer than three."""
    count = len(pairs)
    if count < 3:
        return None
    grand = pairs.mean()
    rows = 2 * ((pairs.mean(axis=1) - grand) ** 2).sum() / (count - 1)
    columns = count * ((pairs.mean(axis=0) - grand) ** 2).sum()
    total = ((pairs - grand) ** 2).sum()
    rest = (total - rows * (count - 1) - columns) / (count - 1)
    below = rows + rest + 2.0 * (columns - rest) / count
    return float((rows - rest) / below) if below > 0 else None


def _direction(vector: Any) -> float:
    return float(np.degrees(np.arctan2(vector[1], vector[0])))


def _spread(values: Any) -> dict[str, Any]:
    if not len(values):
        return {"count": 0}
    return {
        "count": len(values),
        "median": float(np.median(values)),
        "p90": float(np.percentile(values, 90)),
    }


def _mean(values: Iterable[bool]) -> float | None:
    listed = list(values)
    return float(np.mean(listed)) if listed else None
