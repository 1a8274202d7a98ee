"""Numbers before nouns."""

from __future__ import annotations

import pytest
from spinezoo_contract.words import are, counted, were


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "film", "0 films"),
        (1, "film", "1 film"),
        (2, "film", "2 films"),
        (1, "vertebra", "1 vertebra"),
        (3, "outlined vertebra", "3 outlined vertebrae"),
        (2, "entry", "2 entries"),
        (2, "X-ray", "2 X-rays"),
        (2, "box", "2 boxes"),
        (2, "batch", "2 batches"),
        (2, "epoch", "2 epochs"),
    ],
)
def test_a_noun_fits_its_number(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text


def test_a_verb_fits_its_number() -> None:
    assert [are(count) for count in (0, 1, 2)] == ["are", "is", "are"]
    assert [were(count) for count in (0, 1, 2)] == ["were", "was", "were"]
