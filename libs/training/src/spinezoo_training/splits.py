"""Which films train, validate and test: decided by names and a seed, nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from spinezoo_contract.errors import OptionError

STUDY_TEST_FILMS = 100
"""Films the study tested on."""


def _order(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Names in an order that depends on each name and the seed only, not on the input's order."""
    unique = set(names)
    return sorted(
        unique, key=lambda name: hashlib.sha256(f"{purpose}|{seed}|{name}".encode()).digest()
    )


def split_names(
    names: Iterable[str], seed: int, validation_share: float = 0.1
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Film names as (training, validation), each sorted.

    Args:
        names: Film names, in any order; repeats count once.
        seed: Another seed gives another split.
        validation_share: Share of films to validate on, 0 to below 1. From two films on, a share
            above 0 gives at least one film to each side.

    Raises:
        OptionError: The share is out of range.
    """
    if not 0.0 <= validation_share < 1.0:
        raise OptionError(f"validation_share is {validation_share}; choose 0 to below 1")
    ordered = _order(names, seed, "validation")
    count = round(len(ordered) * validation_share)
    if validation_share > 0.0 and len(ordered) > 1:
        count = min(max(count, 1), len(ordered) - 1)
    return tuple(sorted(ordered[count:])), tuple(sorted(ordered[:count]))


def test_names(names: Iterable[str], seed: int, count: int) -> tuple[str, ...]:
    """``count`` film names set aside for the test, sorted; see :data:`STUDY_TEST_FILMS`.

    Args:
        names: Film names, in any order; repeats count once.
        seed: Another seed gives another choice.
        count: How many; all names where there are fewer.

    Raises:
        OptionError: The count is negative.
    """
    if count < 0:
        raise OptionError(f"count is {count}; choose 0 or more")
    return tuple(sorted(_order(names, seed, "test")[:count]))
