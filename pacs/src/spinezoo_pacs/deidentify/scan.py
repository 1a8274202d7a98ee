"""The last check: no value of the original header is left in what is written."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID

from spinezoo_pacs.deidentify.rules import CODES, NUMBERS, WORDS

LEAST_CHARACTERS = 3
"""Shorter values are found by chance everywhere."""

_TEXTS = frozenset(
    ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
_MEANINGLESS = frozenset(("YES", "NO", "NONE", "UNKNOWN", "ANONYMIZED", "see code"))


def values_of(dataset: Dataset) -> Iterator[str]:
    """Every text of a header that may point to a patient, at any depth."""
    for element in dataset:
        # What the rules keep is checked there; a code that stays is no leak.
        if element.keyword in NUMBERS or element.keyword in WORDS or element.keyword in CODES:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from values_of(item)
            continue
        if (
            element.VR in ("OB", "UN")
            and isinstance(element.value, bytes)
            and element.tag != 0x7FE00010
        ):
            if 0 < len(element.value) <= 64_000:
                yield from _parts(element.value.decode("latin-1").strip("\0 "))
            continue
        if element.VR not in _TEXTS or element.value is None:
            continue
        many = element.value if element.VM > 1 else [element.value]
        for value in many:
            text = str(value).strip("\0 ")
            if element.VR == "UI" and UID(text).name != text:
                continue  # one of the standard's own
            yield from _parts(text)
            if element.VR == "PN":
                for part in text.replace("=", "^").split("^"):
                    yield from _parts(part.strip())


def _parts(text: str) -> Iterator[str]:
    if len(text) >= LEAST_CHARACTERS and text not in _MEANINGLESS:
        yield text


def left_over(original: Dataset, header: bytes) -> int:
    """How many values of an original header are found in the bytes of a new one."""
    found = 0
    for value in set(values_of(original)):
        for codec in ("utf-8", "latin-1", "utf-16-le"):
            try:
                needle = value.encode(codec)
            except UnicodeEncodeError:
                continue
            if needle in header:
                found += 1
                break
    return found
