"""UIDs and versions of results: the same film and the same zoo give the same UIDs."""

from __future__ import annotations

import hashlib

from pydicom.uid import UID
from spinezoo_contract.types import EnsembleAnswer

RESULT_VERSION = "2"
"""Version of the form of the results; raise it when the same answer is written another way."""


def derived_uid(*parts: str) -> UID:
    """A UID of what it names (PS3.5 B.2: ``2.25.`` and a 128-bit number)."""
    digest = hashlib.sha256("\x1f".join(("spinezoo", *parts)).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def provenance_lines(answer: EnsembleAnswer) -> tuple[str, ...]:
    """Networks and reader of an answer, a line each: name, version, preset and weights."""
    lines = []
    for member in answer.members:
        if member.prediction is not None:
            made = member.prediction.provenance
            lines.append(
                f"{made.model_name} {made.model_version} {made.preset} "
                f"weights {made.weights_sha256[:16]}"
            )
    labelling = answer.fused.labelling
    if labelling is not None and labelling.reader is not None:
        reader = labelling.reader
        lines.append(
            f"reader {reader.name} {reader.version} weights {reader.weights_sha256[:16]} "
            f"threshold {reader.threshold:g}"
        )
    lines.append(f"fusion {answer.fused.rule.name.lower()}")
    return tuple(lines)


def zoo_version(answer: EnsembleAnswer) -> str:
    """Ten characters that change with any network, its weights, the reader or the form."""
    text = "\n".join((RESULT_VERSION, *provenance_lines(answer)))
    return hashlib.sha256(text.encode()).hexdigest()[:10]
