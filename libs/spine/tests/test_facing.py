"""Which way the patient looks, told by the column's shape."""

from __future__ import annotations

import numpy as np
import pytest
from spinezoo_contract.types import Structure
from spinezoo_spine.measures.facing import facing_log_odds, facing_signs
from spinezoo_testing.columns import instance

SLOPES = [-13.0, -10.0, -4.0, -8.0, -3.0, -6.0, -1.0, 1.0, -2.0, 7.0, 9.0, 17.0, 11.0]
"""Of a lordotic column that looks to the film's right, from above to below."""

CENTRES = np.array([[100.0, 50.0 * row] for row in range(6)])


def odds(slopes: list[float]) -> float:
    return facing_log_odds(facing_signs(slopes, CENTRES, (), 40.0, (1.0, 1.0)))


@pytest.mark.parametrize("place", range(len(SLOPES)))
@pytest.mark.parametrize("half_turn", [-180.0, 180.0])
def test_an_endplate_found_the_wrong_way_round_does_not_turn_the_patient(
    place: int, half_turn: float
) -> None:
    reversed_one = list(SLOPES)
    reversed_one[place] += half_turn
    assert odds(reversed_one) == pytest.approx(odds(SLOPES))
    assert odds(SLOPES) > 3.0


def test_a_mirrored_column_looks_the_other_way() -> None:
    assert odds([-slope for slope in SLOPES]) == pytest.approx(-odds(SLOPES))


def test_the_lowest_step_leads_back_from_the_front() -> None:
    # Of three bodies the upper step goes 3 to the right by 5, the lower one 5 to the left by 13.
    centres = np.array([[50.0, 0.0], [53.0, 4.0], [48.0, 16.0]])
    _, lean, _ = facing_signs([], centres, (), 40.0, (1.0, 1.0))
    assert lean == pytest.approx(3 / 5 + 5 / 13)
    _, lean, _ = facing_signs([], centres * [-1.0, 1.0], (), 40.0, (1.0, 1.0))
    assert lean == pytest.approx(-3 / 5 - 5 / 13)


@pytest.mark.parametrize("structure", [Structure.SCREW, Structure.ROD, Structure.CAGE])
def test_screws_and_rods_lie_behind(structure: Structure) -> None:
    # Rows 40 to 60 and columns 10 to 30, half as far apart as rows: 10 from the left, 50 down.
    pixels = np.zeros((300, 300), np.bool_)
    pixels[40:60, 10:30] = True
    metal = [instance(pixels, structure)]
    # There the column stands at 25, half way between its middles.
    centres = np.array([[20.0, 0.0], [30.0, 100.0]])
    signs = facing_signs([], centres, metal, 30.0, (1.0, 0.5))
    assert signs.tolist() == pytest.approx([0.0, 0.0, 0.0 if structure is Structure.CAGE else 0.5])
    assert facing_log_odds(signs) >= 0.0
    far = facing_signs([], centres, metal, 1.0, (1.0, 0.5))
    assert abs(far[2]) <= 1.5
