"""Draws sacrum, coccyx, pelvis and hips.

Shapes after anatomical plates and real films, by eye. The sacrum's posterior parts hang on its
bodies, the hip bones on the axis of the hips, whose place follows from incidence and tilt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from spinezoo_phantom.anatomy import Spine
from spinezoo_phantom.painter import Painter, smooth_course

_CANAL_MM = (17.0, 14.0, 10.5, 7.0, 4.5, 3.0)  # depth behind the bodies, S1's top to S5's foot
_CREST_MM = (7.0, 13.0, 12.0, 9.0, 4.0, 1.0)  # how far the median crest stands behind the canal


class _SacralLines:
    """Landmarks along the sacrum: at each of six borders of its bodies, from above.

    Attributes:
        back: (6, 3) on the back walls.
        front: (6, 3) on the front walls.
        behind: (6, 3) unit vectors to the back.
        side: (3,) unit vector towards the tube.
    """

    def __init__(self, spine: Spine) -> None:
        corners = np.array([body.rims_mm() for body in spine.sacrum])
        self.back = np.vstack([corners[:, 0], corners[-1:, 3]])
        self.front = np.vstack([corners[:, 1], corners[-1:, 2]])
        away = self.back - self.front
        self.behind = away / np.linalg.norm(away, axis=1, keepdims=True)
        self.side = spine.sacrum[0].frame[:, 2]

    def at(
        self,
        border: np.ndarray | Sequence[float],
        behind_mm: np.ndarray | Sequence[float],
        side_mm: np.ndarray | Sequence[float] | float,
        *,
        of_front: bool = False,
    ) -> np.ndarray:
        """(N, 3) points at fractions of the borders, behind (or, negative, before) a wall."""
        places = np.asarray(border, dtype=float)
        rows = np.arange(6)
        line = self.front if of_front else self.back

        def along(values: np.ndarray) -> np.ndarray:
            inside = [np.interp(places, rows, values[:, axis]) for axis in range(3)]
            beyond = np.clip(places, None, 0)[:, None] * (values[1] - values[0])
            return np.stack(inside, axis=1) + beyond

        away = np.asarray(behind_mm, dtype=float)[:, None] * along(self.behind)
        side = np.broadcast_to(np.asarray(side_mm, dtype=float), len(places))
        return along(line) + away + side[:, None] * self.side


def draw_sacrum(painter: Painter, spine: Spine, rng: np.random.Generator) -> None:
    """Adds what hangs on the sacral bodies: wings, canal, crests, facets, foramina, coccyx."""
    lines, size = _SacralLines(spine), spine.size
    canal = np.array(_CANAL_MM) * size * rng.uniform(0.75, 1.2)
    crest = np.array(_CREST_MM) * size * rng.uniform(0.5, 1.35)
    borders = np.arange(6.0)
    faint = rng.uniform(0.5, 1.4)  # how much of it shows
    soft = rng.uniform(0.08, 0.35)  # wings hold little bone
    lumbarised = spine.transition.kind == "lumbarised"
    high = 0.12 + (0.75 if lumbarised else 0.0) + rng.normal(0, 0.06)
    for side, wing in zip((-1, 1), spine.transition.wings, strict=True):
        # The wing runs on from S1's side to the front and down to S3.
        top = high - (0.2 * wing if lumbarised else 0.0)
        rear = canal[:4] * rng.uniform(0.3, 0.8) + rng.normal(0, 1.5, 4)
        ala = np.vstack(
            [
                lines.at([top - 0.2, 1, 2, 3.2], rear, side * 26 * size),
                lines.at([3.4, 2.4], [-2, -1], side * 24 * size, of_front=True),
                lines.at(
                    [1.6, 0.9, top + 0.25],
                    [-3, rng.uniform(-8, 1), rng.uniform(2, 9)],
                    side * np.array([32, 42, 44]) * size,
                    of_front=True,
                ),
                lines.at([top], [-12 * size], side * 34 * size),
            ]
        )
        ala[:, :2] += rng.normal(0, 1.2, (len(ala), 2))
        painter.plate(ala, 2.8 * size, 9.0, 0.2 * faint, soft)
        # Its upper edge runs from the promontory outward and backward: seen along its length.
        if rng.random() < 0.8:
            edge = np.vstack(
                [
                    lines.at([top + 0.05], [3], side * 18 * size, of_front=True),
                    lines.at([top + 0.3, 1.0], [7, 10], side * np.array([34, 46]), of_front=True),
                    lines.at([1.5], [6], side * 52 * size, of_front=True),
                ]
            )
            course = smooth_course(edge)
            painter.tube(course, np.full(len(course), rng.uniform(2, 5)), 3.0 * faint, 0.3, 0.6)
        # Articular crest and lateral crest: uneven strands behind the canal that converge.
        for aside_mm, share, thick in ((15.0, 0.75, 1.0), (24.0, 0.35, 0.7)):
            if rng.random() < 0.2:
                continue
            steps = np.linspace(0.25, 4.7, 10)
            rear = np.interp(steps, borders, canal) * share + rng.normal(0, 1.3, 10)
            out = side * aside_mm * size * np.linspace(1, 0.55, 10)
            course = smooth_course(lines.at(steps, rear, out), 2)
            height = rng.uniform(1.6, 4.0) * thick * size
            wall = rng.uniform(0.3, 0.7)
            painter.tube(course, np.full(len(course), height), 5.0 * faint, wall, 0.8)
        # The facet for the last lumbar vertebra stands up behind S1.
        facet = np.array([(-0.42, 6), (-0.5, 11), (-0.2, 18), (0.35, 19), (0.5, 9), (0.1, 3)])
        facet[:, 1] *= size
        shaped = lines.at(
            facet[:, 0], facet[:, 1] + rng.normal(0, 0.8, 6), side * rng.uniform(14, 20)
        )
        painter.plate(shaped, 1.0 * size, 3.0, rng.uniform(0.4, 1.0) * faint, 1.0)
        for border in (1, 2):  # foramina: bone between them shows as faint strands
            if rng.random() < 0.45:
                strand = np.vstack(
                    [
                        lines.at([border + 0.1], [2], side * 14.0, of_front=True),
                        lines.at([border - 0.05], [canal[border] * 0.5], side * 22.0),
                    ]
                )
                course = np.linspace(strand[0], strand[1], 6)
                painter.tube(course, np.full(6, rng.uniform(1.5, 3.5)), 4.0 * faint, 0.4, 0.7)
    _draw_crest(painter, lines, canal, crest, faint, rng)
    _draw_coccyx(painter, spine, rng)


def _draw_crest(
    painter: Painter,
    lines: _SacralLines,
    canal: np.ndarray,
    crest: np.ndarray,
    faint: float,
    rng: np.random.Generator,
) -> None:
    """Adds laminae and the median crest, whose tubercles are fused spinous processes."""
    borders = np.arange(6.0)
    start = rng.uniform(0.2, 0.6)
    end = rng.uniform(3.6, 4.7)  # below lies the hiatus
    steps = np.linspace(start, end, 9)
    roof = np.interp(steps, borders, canal)
    lamina_mm = rng.uniform(3, 6)
    for side in (-1, 1):
        roofs = np.vstack(
            [
                lines.at(steps, roof * 0.95, side * 7.0),
                lines.at(steps[::-1], roof[::-1] + lamina_mm * np.linspace(0.5, 1, 9), side * 7.0),
            ]
        )
        roofs[:, :2] += rng.normal(0, 0.6, (len(roofs), 2))
        painter.plate(roofs, 0.9, 1.5, rng.uniform(0.5, 1.2) * faint, 0.6, 1)
    outer_steps = np.linspace(start + 0.1, end, 13)
    height = np.interp(outer_steps, borders, crest)
    # Tubercles stand in the middle of each segment, saddles between.
    bumps = 0.72 + rng.uniform(0.1, 0.5) * np.cos(2 * np.pi * (outer_steps - 0.55))
    height = height * np.clip(bumps * rng.uniform(0.75, 1.2, 13), 0.1, None)
    outer = np.interp(outer_steps, borders, canal) + height + lamina_mm * 0.5
    outline = np.vstack(
        [lines.at(steps, roof + 1, 0.0), lines.at(outer_steps[::-1], outer[::-1], 0.0)]
    )
    painter.plate(outline, rng.uniform(0.3, 0.8), 2.0, rng.uniform(0.3, 0.9) * faint, 0.6)


def _draw_coccyx(painter: Painter, spine: Spine, rng: np.random.Generator) -> None:
    """Adds three to four small segments that bend forward."""
    last, size = spine.sacrum[-1], spine.size
    here = last.point(0, -last.height_mm / 2)
    angle = last.sagittal_rad + rng.normal(-0.1, 0.25)
    for length in (12.0, 9.0, 8.0, 6.0)[: int(rng.integers(3, 5))]:
        angle -= rng.uniform(-0.05, 0.5)
        down = np.array([-np.sin(angle), np.cos(angle), 0.0]) * length * size
        beside = np.array([np.cos(angle), np.sin(angle), 0.0]) * (2.0 + length * 0.18) * size
        ring = np.array(
            [here - beside, here + beside, here + down + beside * 0.7, here + down - beside * 0.7]
        )
        painter.plate(ring, 1.1, 2.5, rng.uniform(0.4, 0.9), 0.9, 1)
        here = here + down * rng.uniform(1.0, 1.2)


# Hip bone beside the axis of the hips: front (mm), up (mm), to the side (mm), a pelvis at rest.
# The crest's height is added in proportion to the third number.
_CREST = (
    (-80.0, 84.0, 42.0, 0.1), (-72.0, 104.0, 48.0, 0.4), (-48.0, 108.0, 72.0, 0.85),
    (-18.0, 108.0, 108.0, 1.0), (14.0, 104.0, 124.0, 0.8), (38.0, 94.0, 124.0, 0.4),
    (50.0, 82.0, 116.0, 0.0),
)  # fmt: skip
_FRONT_EDGE = ((42.0, 60.0, 108.0), (38.0, 40.0, 98.0), (30.0, 28.0, 92.0))
_BELOW = ((6.0, 30.0, 88.0), (-26.0, 22.0, 82.0))
_NOTCH = (
    (-24.0, -14.0, 62.0), (-25.0, 8.0, 66.0), (-27.0, 30.0, 62.0), (-36.0, 48.0, 56.0),
    (-50.0, 53.0, 48.0), (-64.0, 50.0, 42.0), (-72.0, 58.0, 40.0), (-78.0, 70.0, 40.0),
)  # fmt: skip
_ARCUATE = (
    (-42.0, 80.0, 52.0), (-30.0, 66.0, 60.0), (-8.0, 46.0, 66.0), (16.0, 24.0, 64.0),
    (40.0, 4.0, 42.0), (52.0, -8.0, 14.0),
)  # fmt: skip


def draw_pelvis(painter: Painter, spine: Spine, rng: np.random.Generator) -> None:
    """Adds both hip bones with crests, notches and lines, and both thigh bones."""
    pelvis, size = spine.pelvis, spine.size
    turn = pelvis.version_rad
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = np.array([np.tan(pelvis.axial_rad), np.tan(pelvis.coronal_rad)])
    # The outlines below belong to a pelvis whose S1 stands 108 mm above its hips.
    crest_mm = pelvis.crest_mm
    blade_cm, cortex_mm = rng.uniform(0.4, 1.2), rng.uniform(0.15, 0.7)
    crest_wall, crest_height = rng.uniform(0.1, 0.3), rng.uniform(4, 9)
    notch_mm, line_height = rng.uniform(3, 11), rng.uniform(2.5, 6.0)
    strength = rng.uniform(0.3, 0.9)
    roomy = rng.uniform(0.85, 1.2)
    form = {
        name: np.array(table) + rng.normal(0, 2.0, (len(table), len(table[0])))
        for name, table in (
            ("crest", _CREST), ("edge", _FRONT_EDGE), ("below", _BELOW), ("notch", _NOTCH),
            ("arcuate", _ARCUATE),
        )
    }  # fmt: skip
    form["crest"][:, 1] += np.array([row[3] for row in _CREST]) * crest_mm
    form["notch"][:, :2] = (form["notch"][:, :2] - (-40, 30)) * roomy + (-40, 30)
    for side in (-1, 1):
        moved = rng.normal(0, 1.5, 2)
        heads = pelvis.heads_mm()[(side + 1) // 2]

        def world(points: np.ndarray, side: int = side, moved: np.ndarray = moved) -> np.ndarray:
            local = points[:, :3] + rng.normal(0, 0.5, (len(points), 3))
            flat = (local[:, :2] * size + moved) @ rotate.T
            z = side * local[:, 2] * pelvis.half_span_mm / 88.0
            flat = np.stack([flat[:, 0], -flat[:, 1]], axis=1) + pelvis.hip_mm
            return np.column_stack([flat + z[:, None] * shift, z])

        crest, edge = world(form["crest"]), world(form["edge"])
        below, notch = world(form["below"]), world(form["notch"])
        blade = np.vstack([crest, edge, below, notch[2:]])
        painter.plate(blade, blade_cm * size, 3.0, cortex_mm, 0.7, 3)
        # Thick where weight passes: from the sacroiliac joint to the socket.
        pillar = world(
            np.array([(-58, 92, 46), (-38, 96, 58), (8, 44, 80), (26, 20, 88), (-22, 16, 80),
                      (-30, 44, 62), (-56, 62, 46)], dtype=float)
        )  # fmt: skip
        painter.plate(pillar, rng.uniform(0.8, 1.6) * size, 9.0, 0.2, 0.3)
        course = smooth_course(crest)
        swell = 1 + 0.35 * np.sin(np.linspace(0, 2.5 * np.pi, len(course)) + rng.uniform(0, 6))
        painter.tube(course, crest_height * size * swell, 7.0 * strength, crest_wall, 0.6)
        course = smooth_course(np.vstack([crest[-1:], edge]))
        painter.tube(course, np.full(len(course), 5.0 * size), 5.0 * strength, 0.2, 0.5)
        # The notch's border is thickest at its top.
        course = smooth_course(notch)
        swell = 0.35 + np.sin(np.linspace(0.1, np.pi, len(course))) * rng.uniform(0.5, 1)
        painter.tube(course, line_height * size * swell, notch_mm * strength, 0.4, 0.7)
        if rng.random() < 0.9:
            course = smooth_course(world(form["arcuate"]))
            painter.tube(
                course, np.full(len(course), line_height), rng.uniform(3, 9) * strength, 0.35, 0.7
            )
        _draw_hip(painter, world, heads, size, rng)


def _draw_hip(
    painter: Painter,
    world: Callable[[np.ndarray], np.ndarray],
    head_mm: np.ndarray,
    size: float,
    rng: np.random.Generator,
) -> None:
    """Adds socket, pubis, ischium, femoral head, neck and shaft of one side."""
    around = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    ring = np.column_stack([np.cos(around), np.sin(around), np.zeros(30)])
    radius = rng.uniform(22, 26) * size
    painter.plate(head_mm + ring * radius, 4.4 * size, radius, rng.uniform(0.2, 0.6), 0.2, 1)
    painter.plate(head_mm + ring * (radius + 5), 1.6 * size, radius, 0.6, 0.15, 1)
    # The roof of the socket is dense: an arc above the head.
    roof = np.linspace(np.pi * 1.1, np.pi * 1.95, 12)
    arc = np.column_stack([np.cos(roof), np.sin(roof), np.zeros(12)]) * (radius + 3.5)
    painter.tube(head_mm + arc, np.full(12, rng.uniform(2, 4)), 5.0, 0.4, 0.5)
    bars = (
        ([(14, -4, 62), (36, -2, 40), (54, -14, 12)], 14.0, 6.0),  # upper branch of the pubis
        ([(54, -16, 10), (38, -44, 24), (4, -66, 50)], 11.0, 5.0),  # lower branch
        ([(-14, -4, 74), (-26, -36, 66), (-14, -68, 60)], 24.0, 12.0),  # ischium
        ([(-4, -22, 122), (-2, -60, 124), (4, -150, 124)], 27.0, 22.0),  # femur
    )
    for points, high, deep in bars:
        course = smooth_course(world(np.array(points, dtype=float)))
        painter.tube(course, np.full(len(course), high * size), deep, rng.uniform(0.08, 0.2), 0.3)
