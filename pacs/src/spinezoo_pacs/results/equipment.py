"""Who made a result, as every result says it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from highdicom import AlgorithmIdentificationSequence
from highdicom.sr import AlgorithmIdentification
from spinezoo_contract.types import EnsembleAnswer

from spinezoo_pacs.results.codes import ARTIFICIAL_INTELLIGENCE
from spinezoo_pacs.results.identity import derived_uid, provenance_lines, zoo_version
from spinezoo_pacs.results.sources import Source

MANUFACTURER = "SpineZoo"
MODEL = "SpineZoo ensemble"

Viewer = Literal["standard", "ohif"]
"""Whom results are written for: the standard alone, or with what OHIF wants beside it."""


@dataclass(frozen=True, slots=True)
class Making:
    """What all results of one film share.

    Attributes:
        source: The film.
        answer: The gateway's answer.
        made_at: Date and time that results carry.
        viewer: Whom they are written for.
    """

    source: Source
    answer: EnsembleAnswer
    made_at: datetime
    viewer: Viewer = "standard"

    @property
    def version(self) -> str:
        """Version of the zoo that answered."""
        return zoo_version(self.answer)

    def uid(self, kind: str, what: str) -> str:
        """A UID that follows from the film, the kind of result and the zoo's version."""
        return derived_uid(what, kind, self.viewer, self.source.sop_instance_uid, self.version)

    def tracking_uid(self, label: str) -> str:
        """The same in SEG and SR, so that a program can bring them together."""
        return derived_uid("tracking", label, self.source.sop_instance_uid, self.version)

    def series(self, kind: str, number: int, description: str) -> dict[str, Any]:
        """Arguments of highdicom's constructors that say who, when and in which series."""
        return {
            "series_instance_uid": self.uid(kind, "series"),
            "series_number": number,
            "sop_instance_uid": self.uid(kind, "instance"),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL,
            "software_versions": software_version(),
            "device_serial_number": self.version,
            "series_description": description,
            "content_date": self.made_at.date(),
            "content_time": self.made_at.time(),
            "series_date": self.made_at.date(),
            "series_time": self.made_at.time(),
        }


@cache
def software_version() -> str:
    """Version of this package; asked once, so that an update under a process changes nothing."""
    return version("spinezoo-pacs")


def algorithm_of(making: Making, members: tuple[str, ...]) -> AlgorithmIdentificationSequence:
    """The networks of one outline, for a segment."""
    lines = _lines(making, members)
    return AlgorithmIdentificationSequence(
        name=MODEL,
        family=ARTIFICIAL_INTELLIGENCE,
        version=f"{software_version()} {making.version}",
        source=MANUFACTURER,
        parameters={f"part {number}": line for number, line in enumerate(lines, start=1)},
    )


def report_algorithm_of(making: Making, members: tuple[str, ...]) -> AlgorithmIdentification:
    """The same, for a report."""
    return AlgorithmIdentification(
        name=MODEL,
        version=f"{software_version()} {making.version}",
        parameters=_lines(making, members),
        family=ARTIFICIAL_INTELLIGENCE,
        manufacturer=MANUFACTURER,
    )


def _lines(making: Making, members: tuple[str, ...]) -> list[str]:
    others = {
        member.prediction.provenance.model_name: member.status.member_name
        for member in making.answer.members
        if member.prediction is not None
    }
    return [
        line
        for line in provenance_lines(making.answer)
        if line.split()[0] not in others or others[line.split()[0]] in members
    ]
