"""What an answer found, in one order and with one label each; and whether it is to be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from spinezoo_contract.types import (
    EnsembleAnswer,
    FilmNoteCode,
    FilmView,
    Labelling,
    NamedVertebra,
    RunLengthMask,
    Structure,
)
from spinezoo_contract.words import counted

from spinezoo_pacs.results.codes import STRUCTURE_WORDS

REFUSED_NOTES = frozenset(
    {FilmNoteCode.NOT_LATERAL, FilmNoteCode.NOT_LUMBAR, FilmNoteCode.NOT_RADIOGRAPH}
)
"""Notes on the header that say the networks do not know such a film."""

VIEW_WORDS = {
    FilmView.UPSIDE_DOWN: "The film seems to lie upside down; store it with the head above.",
    FilmView.TURNED: "The film seems to be turned by 90 degrees; store it with the head above.",
    FilmView.NO_LATERAL_COLUMN: "No lateral lumbar column was recognised on the film.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One vertebra or implant of an answer.

    Attributes:
        number: From 1, the segment's number.
        label: Such as ``L4 vertebra`` or ``screw 2 (L4)``; at most 64 characters.
        structure: What it is.
        level: Its level; for an implant that of the one vertebra it touches; else None.
        named: Whether it is a vertebra with a name.
        mask: Its pixels.
        score: Confidence, 0 to 1.
        member_names: Networks that took part.
    """

    number: int
    label: str
    structure: Structure
    level: str | None
    named: bool
    mask: RunLengthMask
    score: float
    member_names: tuple[str, ...]


def findings_of(answer: EnsembleAnswer) -> tuple[Finding, ...]:
    """Vertebrae from above, then implants from above."""
    fused = answer.fused
    found: list[Finding] = []
    vertebrae = fused.labelling.vertebrae if fused.labelling is not None else ()
    for each in sorted(vertebrae, key=_place):
        segment = each.segment
        word = STRUCTURE_WORDS[segment.structure]
        number = len(found) + 1
        label = f"{segment.level} vertebra" if segment.level else f"unnamed {word} {number}"
        found.append(
            Finding(
                number, label, segment.structure, segment.level, segment.level is not None,
                segment.mask, each.confidence, fused.member_names,
            )
        )  # fmt: skip
    counts: dict[Structure, int] = {}
    for implant in fused.implants:
        segment = implant.segment
        counts[segment.structure] = place = counts.get(segment.structure, 0) + 1
        touched = "/".join(implant.touches)
        label = f"{STRUCTURE_WORDS[segment.structure]} {place}"
        if touched:
            label = f"{label} ({touched})"[:64]
        level = implant.touches[0] if len(implant.touches) == 1 else None
        members = implant.member_names or fused.member_names
        found.append(
            Finding(
                len(found) + 1, label, segment.structure, level, False, segment.mask,
                segment.score, members,
            )
        )  # fmt: skip
    return tuple(found)


def _place(vertebra: NamedVertebra) -> tuple[float, float]:
    box = vertebra.segment.box
    return box.y + box.height / 2.0, box.x


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether outlines are to be shown as results.

    Attributes:
        refusals: Why no outline is given, in sentences; none: they are.
        cautions: What a reader of the outlines should know, in sentences.
    """

    refusals: tuple[str, ...]
    cautions: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Whether outlines are given."""
        return not self.refusals


def verdict_of(answer: EnsembleAnswer) -> Verdict:
    """Judges an answer by the film's header, the reader's view, and what was found."""
    refusals = [note.text for note in answer.notes if note.code in REFUSED_NOTES]
    cautions = [note.text for note in answer.notes if note.code not in REFUSED_NOTES]
    labelling = answer.fused.labelling
    film = labelling.film if labelling is not None else None
    if film is not None and film.view in VIEW_WORDS:
        refusals.append(VIEW_WORDS[film.view])
    if not refusals and not (labelling is not None and labelling.vertebrae):
        refusals.append("No vertebra was found on the film.")
    if not refusals and labelling is not None:
        cautions += _column_cautions(labelling)
    failed = [each.status.member_name for each in answer.members if each.prediction is None]
    if failed:
        cautions.append(f"Networks that did not answer: {', '.join(failed)}.")
    return Verdict(tuple(dict.fromkeys(refusals)), tuple(dict.fromkeys(cautions)))


def _column_cautions(labelling: Labelling) -> list[str]:
    said = []
    unnamed = sum(each.segment.level is None for each in labelling.vertebrae)
    if unnamed:
        said.append(
            f"{counted(unnamed, 'outlined vertebra')} {'has' if unnamed == 1 else 'have'} no "
            "name, because none is likely enough."
        )
    if not labelling.sacrum_in_view:
        said.append("The sacrum is not in view; names may rest on the ribs.")
    if labelling.missing_levels:
        said.append(f"Levels without an outline: {', '.join(labelling.missing_levels)}.")
    if labelling.lumbar_count is None and any(v.segment.level for v in labelling.vertebrae):
        said.append("How many lumbar vertebrae there are was not read; names presume it.")
    if labelling.suspected_lumbar_count is not None:
        said.append(f"{labelling.suspected_lumbar_count} lumbar vertebrae are likely.")
    return said
