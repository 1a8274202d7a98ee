"""How phantom films differ from real ones, in numbers: grey levels, detail, spectrum, edges.

    .venvs/core/bin/python benchmarks/phantom_look.py [--real FOLDER ...] [--report FILE]

Every film with corner truth is scaled so that a lumbar body is 48 px deep and cut around L1 to
L5; what is measured there does not depend on the film's size. Medians and quartiles over films
are printed for the real folders and for phantoms, and written to a file, from where `make figures`
takes those of docs/phantom.md. Without a real folder only phantoms are measured. Nothing else of
the real films is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from spinezoo_phantom import PhantomSettings, make_film
from spinezoo_phantom.write import display_bytes, film_seed
from spinezoo_spine.annotations.corners import find_corner_file, read_corners
from spinezoo_spine.inference.preprocess import unit_grey

DEPTH_PX = 48
S1_PLATE = "S1 plate"
LEVELS = ("L1", "L2", "L3", "L4", "L5")
COLUMN = ("T11", "T12", *LEVELS)
Quads = Mapping[str, np.ndarray]


def real_films(folder: Path) -> Iterator[tuple[np.ndarray, Quads]]:
    """Films of a folder with their corners."""
    for film in read_corners(find_corner_file(folder)):
        pixels = cv2.imread(str(folder / film.name), cv2.IMREAD_GRAYSCALE)
        if pixels is None:
            sys.exit(f"{film.name}: the corner file names it, but it cannot be read")
        quads = dict(film.quads)
        if film.s1_endplate is not None:
            quads[S1_PLATE] = film.s1_endplate
        yield pixels, quads


def phantom_films(count: int, seed: int, height: int) -> Iterator[tuple[np.ndarray, Quads]]:
    """Phantom films with their corners."""
    settings = PhantomSettings(height_px=height, width_px=height * 3 // 4)
    for index in range(count):
        film = make_film(film_seed(seed, index), settings)
        corners = film.tags["corners_px"]
        assert isinstance(corners, dict)
        quads = {level: np.array(quad) for level, quad in corners.items()}
        quads[S1_PLATE] = quads["S1"][:2]
        yield display_bytes(film), quads


def _profile(grey: np.ndarray, start: np.ndarray, end: np.ndarray, count: int) -> np.ndarray:
    """Grey levels along a line, averaged over five parallel ones."""
    along = (end - start) / (np.linalg.norm(end - start) + 1e-9)
    across = np.array([-along[1], along[0]])
    share = np.linspace(0, 1, count)[:, None]
    lines = [start + share * (end - start) + across * aside for aside in (-4, -2, 0, 2, 4)]
    points = np.stack(lines).astype(np.float32) - 0.5
    found = cv2.remap(grey, points[..., 0], points[..., 1], cv2.INTER_LINEAR)
    return found.mean(axis=0)


def _measure_s1(film: np.ndarray, plate: np.ndarray) -> dict[str, float]:
    """Grey levels around the upper endplate of S1, (2, 2) its back and front end."""
    along = plate[1] - plate[0]
    length = float(np.linalg.norm(along)) + 1e-9
    along = along / length
    down = np.array([-along[1], along[0]])
    down = down if down[1] > 0 else -down

    def patch(start: float, end: float, top: float, bottom: float) -> np.ndarray:
        """Grey levels of a box beside the plate: shares of its length from the back, px below."""
        aside = plate[0] + np.linspace(start, end, 17)[:, None] * along * length
        points = aside[None] + np.linspace(top, bottom, 15)[:, None, None] * down
        points = points.astype(np.float32) - 0.5
        border = cv2.BORDER_REPLICATE
        return cv2.remap(film, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=border)

    inside = float(patch(0.3, 0.8, 6, 18).mean())
    rows = patch(0.2, 0.8, -8, 8).mean(axis=1)
    slope, level = np.polyfit(np.arange(15), rows, 1)
    whole = patch(-0.6, 1.3, -10, 60)
    return {
        "S1 plate line": float((rows - slope * np.arange(15) - level).max()),
        "S1 - disc": inside - float(patch(0.3, 0.8, -9, -4).mean()),
        "S1 - before it": inside - float(patch(1.15, 1.35, 6, 18).mean()),
        "S1 - behind it": inside - float(patch(-0.3, -0.1, 6, 18).mean()),
        "S1 - L5's region": inside - float(patch(0.3, 0.8, -28, -16).mean()),
        "detail of the sacrum": float((whole - cv2.GaussianBlur(whole, (0, 0), 2)).std()),
        "deviation of the sacrum": float(whole.std()),
    }


def _turn_deg(first: np.ndarray, second: np.ndarray, front: float) -> float:
    """Angle from one direction to another; positive turns the front towards the feet."""
    across = float(first[0] * second[1] - first[1] * second[0])
    return float(np.degrees(np.arctan2(front * across, float(first @ second))))


def _measure_column(quads: Quads) -> dict[str, float]:
    """How bodies lie in the column: degrees, the front towards the feet positive, and per cent."""
    column = [level for level in COLUMN if level in quads]
    middles = {level: quads[level].mean(axis=0) for level in column}
    figures = {}
    for place, level in enumerate(column):
        upper_back, upper_front, lower_front, lower_back = quads[level]
        wall = lower_back + lower_front - upper_back - upper_front
        front = float(np.sign(upper_front[0] - upper_back[0]))
        square = front * np.array([wall[1], -wall[0]])
        plates = upper_front - upper_back, lower_front - lower_back
        turns = [_turn_deg(square, plate, front) for plate in plates]
        figures[f"{level} upper plate to walls"], figures[f"{level} lower plate to walls"] = turns
        beside = column[max(0, place - 1) : place + 2]
        if len(beside) == 3:
            line = middles[beside[2]] - middles[beside[0]]
            ahead = front * np.array([line[1], -line[0]])
            figures[f"{level} plates to the line"] = (
                _turn_deg(ahead, square, front) + sum(turns) / 2
            )
        if place + 1 < len(column):
            below = quads[column[place + 1]]
            plate = below[1] - below[0]
            pair = f"{level}/{column[place + 1]}"
            figures[f"{pair} opens by"] = _turn_deg(plates[1], plate, front)
            step = float((lower_back - below[0]) @ plate / (plate @ plate))
            figures[f"{pair} step at the back, %"] = 100 * step
    return figures


def _measure_detail(film: np.ndarray, part: np.ndarray, quads: Quads) -> dict[str, float]:
    """Detail of the region `part` of a film, in its bodies, and in a strip behind them."""
    figures = {
        f"detail to {size_mm} mm": float((part - cv2.GaussianBlur(part, (0, 0), sigma)).std())
        for size_mm, sigma in ((1, 1.4), (4, 5.5), (12, 16.0))
    }
    # Behind bodies: pedicles, foramina, facets.
    zones = {name: np.zeros(film.shape, np.uint8) for name in ("in bodies", "behind")}
    for quad in quads.values():
        back = quad + (quad[[0, 0, 3, 3]] - quad[[1, 1, 2, 2]]) * 0.9
        for name, corners in (("in bodies", quad), ("behind", back)):
            cv2.fillPoly(zones[name], [np.round(corners).astype(np.int32)], 1)
    fine = film - cv2.GaussianBlur(film, (0, 0), 5.5)
    for name, zone in zones.items():
        inner = cv2.erode(zone, np.ones((5, 5), np.uint8)) if name == "in bodies" else zone
        figures[f"detail to 4 mm {name}"] = float(fine[inner > 0].std())
    return figures


def _measure_spectrum(part: np.ndarray) -> dict[str, float]:
    """Power by waves per body depth, relative to the whole."""
    window = np.hanning(part.shape[0])[:, None] * np.hanning(part.shape[1])[None]
    power = np.abs(np.fft.fft2((part - part.mean()) * window)) ** 2
    down, across = np.fft.fftfreq(part.shape[0]), np.fft.fftfreq(part.shape[1])
    wave = np.hypot(down[:, None], across[None]) * DEPTH_PX
    whole = power[wave > 0.4].sum() + 1e-12
    return {
        f"log power {first}-{last}": float(
            np.log10(power[(wave >= first) & (wave < last)].sum() / whole + 1e-9)
        )
        for first, last in ((1, 2), (2, 4), (4, 8), (8, 16), (16, 24))
    }


def _edge_profiles(
    film: np.ndarray, quads: Quads, edges: tuple[tuple[int, int], ...]
) -> np.ndarray:
    """(edges, 49) profiles from 12 px within a body, a quarter of its depth, to 12 px beyond."""
    found = []
    for quad in quads.values():
        middle = quad.mean(axis=0)
        for first, last in edges:
            edge = (quad[first] + quad[last]) / 2
            outward = edge - middle
            outward = outward / np.linalg.norm(outward)
            found.append(_profile(film, edge - outward * 12, edge + outward * 12, 49))
    return np.array(found)


def _measure_edges(film: np.ndarray, quads: Quads) -> dict[str, float]:
    """Grey levels across endplates and walls."""
    figures = {}
    plates = _edge_profiles(film, quads, ((0, 1), (3, 2)))
    walls = _edge_profiles(film, quads, ((1, 2), (0, 3)))
    for name, beyond, lines in (("plate", "disc", plates), ("wall", "beside", walls)):
        within, outside = lines[:, :12].mean(axis=1), lines[:, -12:].mean(axis=1)
        figures[f"body - {beyond}"] = float(np.median(within - outside))
        figures[f"{name} line"] = float(np.median(lines[:, 14:35].max(axis=1) - within))
    steep = np.abs(np.diff(plates, axis=1))[:, 12:36].max(axis=1)
    figures["steepest step at a plate"] = float(np.median(steep))
    return figures


def _measure_proportions(quads: Quads) -> dict[str, float]:
    """Heights of bodies and discs by the depth of a body."""
    every = np.array(list(quads.values()))
    back = np.linalg.norm(every[:, 0] - every[:, 3], axis=1)
    front = np.linalg.norm(every[:, 1] - every[:, 2], axis=1)
    figures = {"height / depth": float(np.median((back + front) / 2) / DEPTH_PX)}
    gaps = []
    for upper, lower in pairwise(level for level in LEVELS if level in quads):
        if int(lower[1]) == int(upper[1]) + 1:
            under = (quads[upper][2] + quads[upper][3]) / 2
            over = (quads[lower][0] + quads[lower][1]) / 2
            gaps.append(np.linalg.norm(over - under))
    if gaps:
        figures["disc / depth"] = float(np.median(gaps) / DEPTH_PX)
    return figures


def measure(pixels: np.ndarray, quads: Quads) -> dict[str, float] | None:
    """All figures of one film; None where fewer than three of L1 to L5 lie on it.

    Args:
        pixels: (height, width) film, bright means dense.
        quads: (4, 2) corners by level, px: upper back, upper front, lower front, lower back; of
            :data:`S1_PLATE` (2, 2), its back and front end.
    """
    height, width = pixels.shape
    inside = {
        level: quad
        for level, quad in quads.items()
        if level in LEVELS and (quad > 4).all() and (quad < [width - 4, height - 4]).all()
    }
    if len(inside) < 3:
        return None
    depths = [
        (np.linalg.norm(quad[1] - quad[0]) + np.linalg.norm(quad[2] - quad[3])) / 2
        for quad in inside.values()
    ]
    scale = DEPTH_PX / float(np.median(depths))
    size = (max(32, round(width * scale)), max(32, round(height * scale)))
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    film = unit_grey(cv2.resize(pixels, size, interpolation=shrink))
    moved = {level: quad * scale for level, quad in inside.items()}
    points = np.concatenate(list(moved.values()))
    low = np.maximum(points.min(axis=0) - DEPTH_PX, 0).astype(int)
    high = np.minimum(points.max(axis=0) + DEPTH_PX, size).astype(int)
    part = film[low[1] : high[1], low[0] : high[0]]
    figures = {
        "mean grey": float(part.mean()),
        "deviation": float(part.std()),
        "share black (<.05)": float((film < 0.05).mean()),
        "share white (>.95)": float((part > 0.95).mean()),
        **_measure_detail(film, part, moved),
        **_measure_spectrum(part),
        **_measure_edges(film, moved),
        **_measure_proportions(moved),
    }
    if S1_PLATE in quads:
        figures |= _measure_s1(film, np.asarray(quads[S1_PLATE]) * scale)
        figures["row of S1 / film height"] = float(np.mean(quads[S1_PLATE][:, 1]) / height)
    figures |= _measure_column(quads)
    figures["depth / film height"] = float(np.median(depths) / height)
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--real", type=Path, nargs="+", default=[], help="folders of films")
    parser.add_argument("--count", type=int, default=60, help="how many phantoms")
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--height", type=int, default=640, help="rows of the phantoms")
    parser.add_argument("--report", type=Path, help="file for the quartiles, as JSON")
    options = parser.parse_args(arguments)
    groups: dict[str, list[dict[str, float]]] = {}
    for folder in options.real:
        if not folder.is_dir():
            parser.error(f"{folder} is no folder; give folders of films with a corner file")
        found = [f for f in (measure(*film) for film in real_films(folder)) if f]
        groups.setdefault("real", []).extend(found)
    films = phantom_films(options.count, options.seed, options.height)
    groups["phantoms"] = [f for f in (measure(*film) for film in films) if f]
    print(
        f"{'':28s}" + "".join(f"{name + f' ({len(rows)})':>28s}" for name, rows in groups.items())
    )
    names = dict.fromkeys(name for row in next(iter(groups.values())) for name in row)
    figures = {
        group: {
            name: np.percentile(values, [25, 50, 75]).tolist()
            for name in names
            if (values := [row[name] for row in rows if name in row])
        }
        for group, rows in groups.items()
    }
    for name in names:
        cells = (
            f"{middle:10.3f} ({low:.3f} to {high:.3f})"
            for low, middle, high in (found.get(name, [np.nan] * 3) for found in figures.values())
        )
        print(f"{name:28s}" + "".join(f"{cell:>28s}" for cell in cells))
    if options.report:
        record = {
            group: {"films": len(rows), "figures": figures[group]} for group, rows in groups.items()
        }
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
