"""Which films train, validate and test: decided by names, patients and a seed, nothing else.

Films of one patient never stand on both sides. Who is whose is told by
:mod:`spinezoo_training.patients`; without that every film is a patient of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from spinezoo_contract.errors import OptionError

STUDY_TEST_FILMS = 100
"""Films the study tested on."""


def _groups(
    names: Iterable[str], seed: int, purpose: str, patients: Mapping[str, str] | None
) -> list[list[str]]:
    """Films by patient, in an order that depends on film names and the seed only.

    A patient stands where the first of its film names falls, so that neither the input's order nor
    how patients are called plays a part.
    """
    by_patient: dict[tuple[bool, str], list[str]] = {}
    for name in sorted(set(names)):
        known = patients is not None and name in patients
        key = (known, patients[name] if patients is not None and known else name)
        by_patient.setdefault(key, []).append(name)
    return sorted(
        by_patient.values(),
        key=lambda group: hashlib.sha256(
            f"{purpose}|{seed}|{group[0]}".encode("utf-8", "surrogateescape")
        ).digest(),
    )


def _take(groups: list[list[str]], count: int) -> tuple[list[str], list[str]]:
    """Whole groups from the front whose films come closest to ``count``; taken, and the rest."""
    taken: list[str] = []
    rest: list[str] = []
    for group in groups:
        missing = count - len(taken)
        # A patient with many films is passed over where it would overshoot by more than is missing.
        if missing > 0 and len(group) - missing <= missing:
            taken += group
        else:
            rest += group
    return taken, rest


def split_names(
    names: Iterable[str],
    seed: int,
    validation_share: float = 0.1,
    *,
    patients: Mapping[str, str] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Film names as (training, validation), each sorted.

    Args:
        names: Film names, in any order; repeats count once.
        seed: Another seed gives another split.
        validation_share: Share of films to validate on, 0 to below 1. From two patients on, a
            share above 0 gives at least one film to each side.
        patients: Whose each film is, by name; films that are not in it are each of a patient of
            their own.

    Raises:
        OptionError: The share is out of range, or all films are of one patient.
    """
    if not 0.0 <= validation_share < 1.0:
        raise OptionError(f"validation_share is {validation_share}; choose 0 to below 1")
    groups = _groups(names, seed, "validation", patients)
    total = sum(len(group) for group in groups)
    count = round(total * validation_share)
    if validation_share > 0.0 and total > 1:
        if len(groups) == 1:
            raise OptionError(
                f"all {total} films are of one patient, so none can be set aside to validate on; "
                "say whose they are in patients.csv, or give --validation-share 0"
            )
        count = min(max(count, 1), total - 1)
    validation, training = _take(groups, count)
    if count and not (validation and training):  # patients of many films on a small share
        smallest = min(groups, key=len)
        others = [name for group in groups if group is not smallest for name in group]
        validation, training = (smallest, others) if training else (others, smallest)
    return tuple(sorted(training)), tuple(sorted(validation))


def test_names(
    names: Iterable[str],
    seed: int,
    count: int,
    *,
    patients: Mapping[str, str] | None = None,  # noqa: PT028 - no test, but films for one
) -> tuple[str, ...]:
    """About ``count`` film names set aside for the test, sorted; see :data:`STUDY_TEST_FILMS`.

    Exactly ``count`` where every film is of a patient of its own.

    Args:
        names: Film names, in any order; repeats count once.
        seed: Another seed gives another choice.
        count: How many; all names where there are fewer.
        patients: Whose each film is; see :func:`split_names`.

    Raises:
        OptionError: The count is negative.
    """
    if count < 0:
        raise OptionError(f"count is {count}; choose 0 or more")
    return tuple(sorted(_take(_groups(names, seed, "test", patients), count)[0]))
