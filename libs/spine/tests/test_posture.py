"""What neighbours tell about endplates, and how outlines and refiner are weighed."""

from __future__ import annotations

import numpy as np
import pytest
from spinezoo_contract.types import WithheldReason
from spinezoo_spine.measures.column import Column
from spinezoo_spine.measures.posture import WIDENED, Posture, pooled
from spinezoo_spine.measures.refiner.network import Refined
from spinezoo_spine.measures.weighing import Blend, Weighing, blended, shipped_weighing

LEVELS = ["L3", "L4", "L5", "S1"]
USUAL = Posture(
    {"L3": (0.0, 3.0), "L4": (4.0, 2.0), "L5": (8.0, 4.0)},
    {"L3": (8.0, 4.0), "L4": (9.0, 4.0), "L5": (13.0, 5.0)},
)
STEPS_DEG = [-10.0, 0.0, 8.0, 4.0, 9.0, 8.0, 13.0]
"""Turns from one endplate to the next of a usual spine."""


def usual_directions() -> np.ndarray:
    """(4, 2) directions of a usual spine; S1 has no lower endplate."""
    turned = np.append(np.cumsum(STEPS_DEG), np.nan)
    return np.deg2rad(turned).reshape(4, 2)


def spreads(degrees: float) -> np.ndarray:
    return np.full((4, 2), np.deg2rad(degrees))


class TestPooled:
    def test_a_usual_spine_stays(self) -> None:
        directions, _ = pooled(usual_directions(), spreads(3.0), LEVELS, USUAL)
        np.testing.assert_allclose(directions, usual_directions(), atol=1e-6)

    def test_a_turned_film_gives_the_same_angles(self) -> None:
        bent = usual_directions() + np.deg2rad([[0, 3], [-4, 2], [5, -1], [9, 0]])
        one, _ = pooled(bent, spreads(3.0), LEVELS, USUAL)
        other, _ = pooled(bent + 0.4, spreads(3.0), LEVELS, USUAL)
        np.testing.assert_allclose(other - one, np.where(np.isnan(one), np.nan, 0.4), atol=1e-5)

    def test_what_is_seen_well_is_hardly_moved_and_what_is_not_is(self) -> None:
        bent = usual_directions()
        bent[3, 0] += np.deg2rad(20.0)
        sure, _ = pooled(bent, spreads(0.8), LEVELS, USUAL)
        assert np.degrees(abs(sure[3, 0] - bent[3, 0])) < 0.3
        doubtful = spreads(0.8)
        doubtful[3, 0] = np.deg2rad(20.0)
        moved, root = pooled(bent, doubtful, LEVELS, USUAL)
        # Between the film, 20 degrees, and the usual disc, twice 5 degrees: a fifth remains.
        left = np.degrees(moved[3, 0] - usual_directions()[3, 0])
        assert left == pytest.approx(20.0 * 0.2, abs=0.5)
        spread = np.degrees(np.sqrt((root @ root.T)[6, 6]))
        assert spread == pytest.approx((1 / 20.0**2 + 1 / (WIDENED * 5.0) ** 2) ** -0.5, abs=0.3)

    def test_endplates_out_of_view_and_unknown_levels_are_left(self) -> None:
        bent = usual_directions()
        bent[1, 1] = np.nan
        directions, root = pooled(bent, spreads(2.0), ["L3", "L4", "L6", "S1"], USUAL)
        assert np.isnan(directions[1, 1])
        assert not root[3].any()
        assert directions[2, 0] == pytest.approx(bent[2, 0])
        same, _ = pooled(bent, spreads(2.0), LEVELS, Posture({}, {}))
        np.testing.assert_allclose(same, bent, atol=1e-9)

    def test_a_missing_vertebra_ties_nothing(self) -> None:
        bent = usual_directions()[[0, 2, 3]]
        bent[1] += 0.5
        directions, _ = pooled(bent, spreads(2.0)[:3], ["L3", "L5", "S1"], USUAL)
        np.testing.assert_allclose(directions[0], bent[0], atol=1e-6)


def column_of(alone: dict[str, np.ndarray]) -> Column:
    """L5 and S1 whose disc opens by 13 degrees."""
    upper = np.array([[0, 0], [36, 0], [36, 28], [0, 28.0]])
    turn = np.deg2rad(13.0)
    lower = np.array([[0, 36], [36 * np.cos(turn), 36 + 36 * np.sin(turn)], [0, 0], [0, 0]])
    return Column(
        corners={"L5": upper[None], "S1": lower[None]}, order=["L5", "S1"], alone=dict(alone)
    )


def test_neighbours_do_not_hide_endplates_that_contradict_each_other() -> None:
    agreed = column_of({})
    agreed.doubt()
    assert not agreed.doubted
    steep = agreed.corners["S1"][0].copy()
    steep[1] = (20.0, 66.0)  # opens by 56 degrees where the film alone is asked
    column = column_of({"L5": agreed.corners["L5"][0], "S1": steep})
    column.doubt()
    assert column.doubted == {("L5", "S1")}
    assert column.missing["S1"] is WithheldReason.TOO_UNSURE


def plain(share: float) -> Weighing:
    """Everything of a mean and its spread alike for all numbers."""
    one = Blend(np.full(10, 0.05), np.full(10, share), np.tile([0.0, 1.0, 0.0], (10, 1)))
    return Weighing(one, one, Posture({}, {}))


def told(numbers: float, spread: float) -> Refined:
    return Refined(
        np.full((1, 10), numbers), np.full((1, 10), spread), np.zeros((1, 4)), np.zeros((1, 4))
    )


class TestBlended:
    OUTLINES = np.zeros((3, 1, 10))
    HEARD = np.array([[True, False]])

    def test_shares_and_what_is_not_heard(self) -> None:
        args = (np.array([0]), self.HEARD, np.array([False]))
        mean, spread = blended(self.OUTLINES, told(0.1, 0.02), *args, plain(0.8))
        np.testing.assert_allclose(mean[0, :5], 0.08)
        np.testing.assert_allclose(mean[0, 5:], 0.0)
        np.testing.assert_allclose(spread[0, 5:], np.hypot(0.05, 0.1))

    def test_the_spread_grows_with_the_refiners_and_with_contradiction(self) -> None:
        args = (np.array([0]), self.HEARD, np.array([False]))
        spreads_of = [
            float(blended(self.OUTLINES, told(*said), *args, plain(0.8))[1][0, 0])
            for said in ((0.0, 0.02), (0.0, 0.06), (0.1, 0.02))
        ]
        assert spreads_of[0] == pytest.approx(0.02)
        assert spreads_of[1] == pytest.approx(0.06)
        assert spreads_of[2] > 0.1

    def test_the_shipped_weights_are_ones(self) -> None:
        shipped = shipped_weighing()
        for blend in (shipped.body, shipped.sacrum):
            assert blend.spread.shape == (10, 3)
            assert ((blend.share >= 0) & (blend.share <= 1)).all()
        assert {"L1", "L2", "L3", "L4", "L5"} <= shipped.posture.discs.keys()
        assert shipped.posture.discs["L5"][0] > 0 > shipped.posture.bodies["L1"][0]
