"""Which way the patient looks, told by the column's shape."""

from __future__ import annotations

import numpy as np
import pytest
from spinezoo_spine.measures.facing import facing_log_odds, facing_signs

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
