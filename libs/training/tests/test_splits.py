from __future__ import annotations

import random

import pytest
from spinezoo_contract.errors import OptionError
from spinezoo_training import splits

NAMES = [f"film_{number:04d}.dcm" for number in range(730)]


def test_ninety_ten_without_overlap_or_loss() -> None:
    train, validation = splits.split_names(NAMES, seed=1)
    assert len(validation) == 73
    assert sorted([*train, *validation]) == NAMES


def test_order_and_repeats_do_not_matter_but_the_seed_does() -> None:
    shuffled = NAMES * 2
    random.Random(3).shuffle(shuffled)
    assert splits.split_names(shuffled, seed=1) == splits.split_names(NAMES, seed=1)
    assert splits.split_names(NAMES, seed=2) != splits.split_names(NAMES, seed=1)


def test_the_split_is_the_same_on_every_machine() -> None:
    assert splits.split_names("abcdefghij", seed=7, validation_share=0.3)[1] == ("a", "d", "i")


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(2, 0.1, 1), (3, 0.99, 2), (1, 0.1, 0), (0, 0.1, 0), (9, 0, 0)]
)
def test_small_sets(count: int, share: float, expected: int) -> None:
    train, validation = splits.split_names(NAMES[:count], seed=1, validation_share=share)
    assert (len(train), len(validation)) == (count - expected, expected)


def test_test_films() -> None:
    chosen = splits.test_names(NAMES, seed=1, count=splits.STUDY_TEST_FILMS)
    assert len(chosen) == 100
    assert chosen == splits.test_names(NAMES[::-1], seed=1, count=100)
    assert set(chosen) <= set(NAMES)
    assert splits.test_names(NAMES[:5], seed=1, count=100) == tuple(NAMES[:5])


def test_out_of_range() -> None:
    with pytest.raises(OptionError, match="validation_share"):
        splits.split_names(NAMES, seed=1, validation_share=1.0)
    with pytest.raises(OptionError, match="count"):
        splits.test_names(NAMES, seed=1, count=-1)
