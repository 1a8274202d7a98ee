"""A stored body as the refiner is given it: moved, warped, exposed otherwise, roughly outlined.

How often each happens is set wide on purpose; nothing here was fitted to real films.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_spine.measures.refiner.answers import numbers_of
from spinezoo_spine.measures.refiner.looking import CROP_HALF, CROP_PX, normalised
from spinezoo_torchkit.small_training import Epoch

from spinezoo_refiner.store import STORED_HALF, STORED_PX, Crops
from spinezoo_refiner.warp import CHANCE, Warp, some_warp

LONG_SPUR = 0.075
"""An osteophyte from this length on is a long one, in sizes of the body: about 3 mm."""

LEAST_SPUR = 0.03
"""Below this length there is none: about 1 mm."""

LEAN_DEG = (2.5, 4.0)
"""Mean and standard deviation of how far endplates are turned forward against the walls, by a
shear of the crop. Phantoms' bodies are wedged evenly above and below, patients' are not: in
the given real crops the upper endplate of L5 lies square to its walls, phantoms' 5 degrees
off, and from T12 down endplates are turned forward by 2 to 5 degrees more. What walls tell of
endplates must not be learnt from phantoms."""

OUTLINE_TURN_DEG = (2.0, 4.0)
"""Standard deviation of how far an outline is turned against its body, above the sacrum and of S1.
Networks draw the bodies that they know: of one whose endplates lean otherwise the outline follows
in part. A refiner that is shown outlines that always lean as the film does reads the outline."""

BREADTH = (0.87, 1.06)
"""Factors on the depth of bodies: phantoms' upper lumbar vertebrae are a tenth taller for it than
those of the given real crops."""

SIZE_PX = STORED_PX / (2.0 * STORED_HALF)
"""Size of a body in a stored crop."""

TICKS = ((np.arange(CROP_PX) + 0.5) / CROP_PX * 2.0 - 1.0) * CROP_HALF
"""Where the pixels of a crop lie, in sizes of the body."""


@dataclass(frozen=True, slots=True, eq=False)
class Placing:
    """How a finished crop lies in a stored one.

    Attributes:
        linear: (2, 2) from places in the crop to those in the stored crop, in sizes of the body.
        shift: (2,) of the middle, in sizes of the body.
        warp: What moves landmarks before that; None: nothing does.
    """

    linear: NDArray[np.float64]
    shift: NDArray[np.float64]
    warp: Warp | None = None

    def truth(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) where points of the stored crop lie in the finished one."""
        straight = (points - self.shift) @ np.linalg.inv(self.linear).T
        return straight if self.warp is None else self.warp.carried(straight)

    def sampled(self, stored: NDArray[Any], follows: float = 1.0) -> NDArray[np.float32]:
        """(CROP_PX, CROP_PX) of a stored crop, read once.

        Args:
            stored: (STORED_PX, STORED_PX).
            follows: Share of the warp that it follows.
        """
        step = 2.0 * CROP_HALF / CROP_PX
        matrix = SIZE_PX * step * self.linear
        corner = self.linear @ np.full(2, 0.5 * step - CROP_HALF)
        origin = SIZE_PX * (corner + self.shift) + STORED_PX / 2 - 0.5
        if self.warp is None:
            return np.asarray(
                cv2.warpAffine(
                    stored, np.column_stack([matrix, origin]), (CROP_PX, CROP_PX),
                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE,
                ), np.float32,
            )  # fmt: skip
        still = np.stack(np.meshgrid(TICKS, TICKS))
        from_crop = still + follows * (self.warp.origins_of_grid(TICKS) - still)
        read = np.tensordot(self.linear, from_crop, 1) + self.shift[:, None, None]
        x, y = (read * SIZE_PX + (STORED_PX / 2 - 0.5)).astype(np.float32)
        border = cv2.BORDER_REPLICATE
        return np.asarray(cv2.remap(stored, x, y, cv2.INTER_LINEAR, borderMode=border), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Crops and what is true of them.

    Attributes:
        crops: (N, 2, CROP_PX, CROP_PX) film and mask.
        numbers: (N, NUMBERS) true endplates.
        counts: (N, 2) 1 where the upper, the lower endplate is asked for.
        spurs: (N, 4) true lengths of osteophytes in sizes of the body.
        spur_counts: (N, 4) 1 where an osteophyte is asked for.
    """

    crops: torch.Tensor
    numbers: torch.Tensor
    counts: torch.Tensor
    spurs: torch.Tensor
    spur_counts: torch.Tensor

    def to(self, device: str) -> Batch:
        """The same batch on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _field(rng: np.random.Generator, side: int, most: int) -> NDArray[np.float32]:
    """(side, side) smooth random field, about -1 to 1."""
    cells = int(rng.integers(2, most))
    coarse = rng.uniform(-1.0, 1.0, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))


def rough_outline(outline: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """A true outline as fused networks draw it: round at corners, wavy, a little large or small."""
    blurred = cv2.GaussianBlur(outline.astype(np.float32), (0, 0), rng.uniform(0.8, 6.5))
    wavy = rng.uniform(0.0, 0.3) * _field(rng, outline.shape[0], 12)
    tilted = rng.uniform(0.0, 0.25) * _field(rng, outline.shape[0], 4)
    rough = (blurred + wavy + tilted > 0.5 + rng.uniform(-0.15, 0.15)).astype(np.float32)
    if rng.random() < 0.04:  # a part is missing
        side = outline.shape[0]
        at = rng.uniform(0.3, 0.7, 2) * side
        turn = rng.uniform(0.0, 2.0 * math.pi)
        rows, columns = np.mgrid[:side, :side]
        past = (columns - at[0]) * math.cos(turn) + (rows - at[1]) * math.sin(turn) > 0.1 * side
        rough[past] = 0.0
    return rough


def exposed(crop: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Another exposure of a crop, grey levels of about 0 to 1."""
    side = crop.shape[0]
    low, high = float(crop.min()), float(crop.max())
    grey: Any = (crop - low) / max(high - low, 1e-3)  # OpenCV's types are wider than its values
    if rng.random() < 0.5:
        grey = grey ** np.float32(_between(rng, 0.6, 1.6))
    if rng.random() < 0.25:
        grey = _curve(grey, rng)
    if rng.random() < 0.12:
        grey = doubled(grey, rng)
    if rng.random() < 0.18:  # scatter takes fine contrast
        smooth = cv2.GaussianBlur(grey, (0, 0), rng.uniform(6.0, 20.0))
        grey = smooth + np.float32(_between(rng, 0.2, 0.8)) * (grey - smooth)
    if rng.random() < 0.5:  # soft tissue, gas, the edge of a shadow
        grey = grey + np.float32(rng.uniform(0.0, 0.4)) * _field(rng, side, 5)
    if rng.random() < 0.15:
        grey = grey * (1.0 + np.float32(rng.uniform(0.0, 0.4)) * _field(rng, side, 8))
    if rng.random() < 0.15:  # one end of the body is fainter than the other
        smooth = cv2.GaussianBlur(grey, (0, 0), rng.uniform(3.0, 10.0))
        gain = np.exp(np.float32(rng.uniform(0.2, 1.0)) * _field(rng, side, 5))
        grey = smooth + gain * (grey - smooth)
    if rng.random() < 0.2:
        _draw_lines(grey, rng)
    kind = rng.random()
    if kind < 0.3:
        grey = cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.3, 1.8))
    elif kind < 0.65:  # makers sharpen edges and leave halos
        smooth = cv2.GaussianBlur(grey, (0, 0), _between(rng, 0.8, 9.0))
        grey = grey + np.float32(rng.uniform(0.2, 2.5)) * (grey - smooth)
    if rng.random() < 0.5:
        noise = rng.standard_normal((side, side), dtype=np.float32)
        if rng.random() < 0.4:
            sigma = rng.uniform(0.5, 1.5)
            noise = cv2.GaussianBlur(noise, (0, 0), sigma) * np.float32(3.5 * sigma)
        grey = grey + np.float32(_between(rng, 0.004, 0.08)) * noise
    if rng.random() < 0.1:
        bytes_of = np.clip(grey * 255.0, 0, 255).astype(np.uint8)
        tiles = int(rng.integers(1, 5))
        equal = cv2.createCLAHE(_between(rng, 1.0, 4.0), (tiles, tiles)).apply(bytes_of)
        grey = equal.astype(np.float32) / np.float32(255.0)
    return np.asarray(grey, dtype=np.float32)


def _draw_lines(grey: NDArray[np.float32], rng: np.random.Generator) -> None:
    """One to three straight bright or dark lines or bars over the crop, in place."""
    side = grey.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        middle = rng.uniform(0.0, side, 2)
        turn = rng.uniform(0.0, math.pi)
        along = np.array([math.cos(turn), math.sin(turn)]) * side * _between(rng, 0.2, 2.0)
        ends = np.rint(np.stack([middle - along, middle + along]) * 16.0).astype(int)
        value = float(grey.mean() + rng.choice((-1.0, 1.0, 1.0)) * _between(rng, 0.1, 1.0))
        width = int(rng.integers(1, 3)) if rng.random() < 0.7 else int(rng.integers(3, 9))
        first, last = (tuple(int(v) for v in end) for end in ends)
        cv2.line(grey, first, last, value, width, cv2.LINE_AA, shift=4)


def _curve(grey: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Grey levels by another curve that rises everywhere, of five straight pieces."""
    rises = rng.uniform(0.25, 1.75, 5)
    knots = np.concatenate([[0.0], np.cumsum(rises)]) / rises.sum()
    return np.interp(grey, np.linspace(0.0, 1.0, 6), knots).astype(np.float32)


def doubled(grey: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A crop with double edges, as of a body tilted to the side; the truth stays between them."""
    apart = np.array([rng.normal(0.0, 0.4), rng.normal(0.0, 1.0)]) * rng.uniform(0.5, 1.5)
    halves = [
        cv2.warpAffine(
            grey, np.array([[1.0, 0.0, x], [0.0, 1.0, y]]), grey.shape[::-1],
            flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
        )
        for x, y in (apart, -apart)
    ]  # fmt: skip
    return np.asarray((halves[0] + halves[1]) / 2.0, np.float32)


def _landmarks_of(crops: Crops, place: int) -> NDArray[np.float64]:
    """(6, 2) corners, and middles of the endplates, in the stored crop."""
    return np.concatenate([crops.corners[place], crops.middles[place]]).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """How a body is shown.

    Attributes:
        film: Where its film lies, and its truth.
        outline: Where its outline lies.
        follows: Share of the film's warp that the outline follows.
        scale: How much smaller it is shown.
    """

    film: Placing
    outline: Placing
    follows: float
    scale: float


def wedge_rad(crops: Crops, place: int) -> float:
    """How far a body's lower endplate is turned against its upper one, front down positive."""
    corners = crops.corners[place]
    (x, y), (low_x, low_y) = corners[1] - corners[0], corners[2] - corners[3]
    return math.atan2(low_y, low_x) - math.atan2(y, x)


def placing_of(
    crops: Crops, place: int, rng: np.random.Generator, *, warped: bool = True
) -> Placed:
    """How a body's crop is to lie by chance.

    Args:
        crops: Stored bodies.
        place: Which.
        rng: Where chance comes from.
        warped: Whether landmarks are moved too, and outlines turned against them.
    """
    sacral = bool(crops.sacral[place])
    wide = 4.0 if rng.random() < 0.8 else 9.0
    turn = math.radians(float(np.clip(rng.normal(0.0, wide), -16.0, 16.0)))
    scale = _between(rng, 0.88, 1.14) if rng.random() < 0.85 else _between(rng, 0.75, 1.3)
    spread = 0.07 if sacral or rng.random() < 0.2 else 0.035
    shift = np.clip(rng.normal(0.0, spread, 2), -0.2, 0.2)
    lean = math.radians(rng.normal(0.0 if sacral else LEAN_DEG[0], LEAN_DEG[1]))
    if not sacral:  # the wedge lies below by any share: half of it does in phantoms
        lean += rng.uniform(0.0, 0.5) * wedge_rad(crops, place)
    breadth = _between(rng, *BREADTH)
    straight = Placing(_linear(scale, turn, breadth, lean), shift)
    if not warped:
        return Placed(straight, straight, 1.0, scale)
    follows = float(rng.uniform(0.0, 1.0))
    drawn = turn + math.radians(rng.normal(0.0, OUTLINE_TURN_DEG[int(sacral)]))
    warp = None
    if rng.random() < CHANCE:
        landmarks = straight.truth(_landmarks_of(crops, place))
        warp = some_warp(landmarks[:4], landmarks[4:], rng, sacral=sacral, half=CROP_HALF)
    outline = Placing(_linear(scale, drawn, breadth, follows * lean), shift, warp)
    return Placed(Placing(straight.linear, shift, warp), outline, follows, scale)


def _linear(scale: float, turn: float, breadth: float, lean: float) -> NDArray[np.float64]:
    """(2, 2) from places in the crop to places in the stored crop, both in sizes of the body."""
    turned = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return scale * turned @ np.array([[breadth, 0.0], [-math.tan(lean), 1.0]])


def example_of(
    crops: Crops, place: int, rng: np.random.Generator, *, worse: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32], NDArray[np.bool_]]:
    """An example: input, true endplates, true osteophytes, where these are asked for.

    The first is (2, CROP_PX, CROP_PX), then (NUMBERS,), (4,) and (4,). Of S1, and of corners that a
    warp draws out to a lip, which looks like an osteophyte, none is asked for.

    Args:
        crops: Stored bodies.
        place: Which.
        rng: Where chance comes from.
        worse: Whether shape and exposure are changed; position and outline always are.
    """
    placed = placing_of(crops, place, rng, warped=worse)
    grey = placed.film.sampled(crops.grey[place])
    # Networks round off what is unusual: their outlines follow in part.
    rough = rough_outline(crops.outline[place], rng)
    mask = placed.outline.sampled(rough, placed.follows) - np.float32(0.5)
    landmarks = placed.film.truth(_landmarks_of(crops, place))
    if worse and rng.random() < 0.85:
        grey = exposed(grey, rng)
    given = np.stack([normalised(grey), mask.astype(np.float32)])
    asked = np.full(4, not crops.sacral[place])
    if placed.film.warp is not None:
        asked[list(placed.film.warp.lips)] = False
    return (
        given,
        numbers_of(landmarks[:4], landmarks[4:]),
        crops.spurs[place] / np.float32(placed.scale),
        asked,
    )


class Bodies(Epoch[Batch]):
    """Batches of one epoch: each body once, S1 twice."""

    def __init__(
        self, crops: Crops, seed: int, epoch: int, batch_size: int, *, worse: bool = True
    ) -> None:
        """Chooses the order; see :func:`example_of` for ``worse``."""
        self.crops, self.worse = crops, worse
        chosen = np.arange(len(crops.grey))
        if worse:  # S1 is the hardest
            chosen = np.concatenate([chosen, np.flatnonzero(crops.sacral)])
        super().__init__(chosen, seed, epoch, batch_size)

    def batch(self, number: int, places: NDArray[np.int64]) -> Batch:
        """The examples of these bodies."""
        examples = [
            example_of(
                self.crops,
                int(place),
                np.random.default_rng((self.seed, self.epoch, number, row)),
                worse=self.worse,
            )
            for row, place in enumerate(places)
        ]
        given, numbers, spurs, asked = (np.stack(each) for each in zip(*examples, strict=True))
        sacral = torch.from_numpy(self.crops.sacral[places])
        counts = torch.stack([torch.ones_like(sacral), ~sacral], dim=1)
        return Batch(
            torch.from_numpy(given),
            torch.from_numpy(numbers).float(),
            counts.float(),
            torch.from_numpy(spurs),
            torch.from_numpy(asked).float(),
        )
