"""The rules that outlines are checked by: code, weight, meaning and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from spinezoo_spine.annotations.limits import MAX_FILM_COVER, MAX_FILM_REGIONS
from spinezoo_spine.annotations.text import shown


class Weight(Enum):
    """What a finding does to the commands that read outlines."""

    ERROR = "error"
    """Benchmark and training stop; ``--skip-bad-regions`` leaves the region or film out."""

    WARNING = "warning"
    """Is said, and nothing changes."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        code: Its name, as findings show it.
        weight: Error or warning.
        meaning: What is wrong.
        advice: What to do then.
    """

    code: str
    weight: Weight
    meaning: str
    advice: str


_ALL = (
    # of films
    Rule(
        "no-film",
        Weight.ERROR,
        "the file names a film that is not there, or one of several that could be meant",
        "add the film, correct the name, or remove the entry",
    ),
    Rule(
        "unreadable-film",
        Weight.ERROR,
        "the film cannot be read; training stops, the benchmark counts it as failed for all",
        "save the film again; the message says what is wrong with it",
    ),
    Rule(
        "wrong-size",
        Weight.ERROR,
        "the file states another size for the film than the film has, or its outlines run from 0 "
        "to 1, so they lie at wrong places",
        "export outlines and film at the same size, in pixels",
    ),
    Rule(
        "too-many-regions",
        Weight.ERROR,
        f"a film has more than {MAX_FILM_REGIONS} regions, or their boxes are together more than "
        f"{MAX_FILM_COVER} times the film",
        "remove what is no single structure",
    ),
    # of regions
    Rule(
        "no-outline",
        Weight.ERROR,
        "the region is a point, an open line, a circle of radius 0, or its outline is damaged",
        "draw it again as a polygon, or remove it",
    ),
    Rule(
        "unknown-class",
        Weight.ERROR,
        "the class is missing, not chosen, or stands for none of the structures",
        "choose a class; `--class-attribute` says which attribute holds it, `--map` what a name is",
    ),
    Rule(
        "degenerate",
        Weight.ERROR,
        "the outline has fewer than three distinct points, encloses less than one square pixel, or "
        "runs around twice, so that by the even-odd rule nothing lies inside",
        "draw it again, or remove it",
    ),
    Rule(
        "no-pixels",
        Weight.ERROR,
        "the outline covers no pixel of the film, because it lies off it or is too thin",
        "move it onto the film, or remove it",
    ),
    Rule(
        "mostly-outside",
        Weight.ERROR,
        "more than half of what the outline encloses lies off the film",
        "check that it was drawn on this film and at its size",
    ),
    Rule(
        "duplicate",
        Weight.ERROR,
        "a region is outlined twice (vertebrae from an IoU of 0.8, hardware from 0.95) and would "
        "count as two",
        "remove one of the two",
    ),
    Rule(
        "same-level",
        Weight.ERROR,
        "two vertebrae of one film have the same level",
        "correct one of the levels",
    ),
    Rule(
        "level-conflict",
        Weight.ERROR,
        "class and level of a region name different levels, such as class L4 with level L3",
        "correct one of the two",
    ),
    # warnings of films
    Rule(
        "no-entry",
        Weight.WARNING,
        "the film has no entry in the file and is left out",
        "outline it, or ignore this",
    ),
    Rule(
        "no-region",
        Weight.WARNING,
        "the film has an entry without regions: it counts as showing none of the structures",
        "outline it, or leave it if nothing is to be seen",
    ),
    Rule(
        "not-taken",
        Weight.WARNING,
        "a picture of a kind that is not taken, or with a name that is no text, lies in the folder",
        "save it as PNG, JPEG, TIFF or DICOM; rename it",
    ),
    Rule(
        "same-film",
        Weight.WARNING,
        "the film's file is that of another entry's film, as a copy or a link, and counts twice",
        "remove one of the two, so that training and validation do not share it",
    ),
    Rule(
        "name-differs",
        Weight.WARNING,
        "the entry's film is there with another ending only",
        "check that it is the film the outlines were drawn on",
    ),
    Rule(
        "other-file",
        Weight.WARNING,
        "the film's file has another number of bytes than when it was outlined",
        "check that it is the same film at the same size",
    ),
    Rule(
        "maybe-scaled",
        Weight.WARNING,
        "all outlines of the film lie in its upper left quarter",
        "check that they were drawn at the film's size",
    ),
    Rule(
        "level-order",
        Weight.WARNING,
        "a vertebra lies above one that, by level or class, is nearer the head",
        "correct the levels; check that the head is at the top and that y runs down",
    ),
    Rule(
        "region-count",
        Weight.WARNING,
        "a CSV file has more or fewer rows of the film than it says",
        "check that the file is whole",
    ),
    # warnings of regions
    Rule(
        "self-crossing",
        Weight.WARNING,
        "the outline crosses itself; what is inside goes by the even-odd rule",
        "move the points that are named",
    ),
    Rule(
        "outside-film",
        Weight.WARNING,
        "a point lies more than one pixel off the film; what lies off it is cut off",
        "move it, or check that the outlines were drawn at this size",
    ),
    Rule(
        "class-conflict",
        Weight.WARNING,
        "two attributes of a VIA region name different structures; the one that holds most known "
        "names in the file counts",
        "correct one of the two; `--class-attribute` says which attribute counts",
    ),
    Rule(
        "unknown-level",
        Weight.WARNING,
        "the level is none that is understood; the region has no level then",
        "write T12, L1 to L6, S1, S2, or two neighbours such as L4/L5",
    ),
    Rule(
        "odd-level",
        Weight.WARNING,
        "a lumbar vertebra has a sacral level, or the other way round",
        "correct class or level",
    ),
    Rule(
        "stray-part",
        Weight.WARNING,
        "a part of a COCO region has fewer than three points and is left out",
        "remove it",
    ),
    Rule(
        "part-within",
        Weight.WARNING,
        "a part of a COCO region lies within another one; parts add up, so it is no hole",
        "draw holes as run lengths",
    ),
    Rule(
        "box-differs",
        Weight.WARNING,
        "the outline of a COCO region lies elsewhere than its box (`bbox`)",
        "check that both are of this film at this size",
    ),
    Rule(
        "crowd",
        Weight.WARNING,
        "a COCO region is marked as a crowd; it counts as one object",
        "outline single structures",
    ),
    Rule(
        "same-id",
        Weight.WARNING,
        "two COCO annotations have the same id; both are taken",
        "check that none of them is a leftover",
    ),
)

RULES = {rule.code: rule for rule in _ALL}
"""Every rule by its code, errors first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        film: Name of the film.
        region_index: Position of the region within the film, from 0; None for the whole film.
        rule: Code of the rule.
        message: What is wrong and what to do; goes on behind film and region.
        label: What the file calls the region, such as ``annotation 17`` or ``line 5``.
    """

    film: str
    region_index: int | None
    rule: str
    message: str
    label: str = ""

    @property
    def is_error(self) -> bool:
        """Whether it stops what reads the outlines."""
        return RULES[self.rule].weight is Weight.ERROR

    @property
    def place(self) -> str:
        """Film and region, unquoted."""
        label = f" ({self.label})" if self.label else ""
        region = "" if self.region_index is None else f", region {self.region_index}{label}"
        return shown(self.film, 200) + region

    @property
    def sentence(self) -> str:
        """The finding as a sentence."""
        label = f" ({self.label})" if self.label else ""
        region = "" if self.region_index is None else f", region {self.region_index}{label}:"
        return f"film {shown(self.film, 200)!r}{region} {self.message}"

    def __str__(self) -> str:
        """One line for a terminal."""
        return f"{self.place}: {self.rule}: {self.message}"


def rules_table() -> str:
    """The rules as a Markdown table, for the page of the data format."""
    lines = ["| rule | | what is wrong | what to do |", "|---|---|---|---|"]
    lines += [
        f"| `{rule.code}` | {rule.weight.value} | {rule.meaning} | {rule.advice} |"
        for rule in RULES.values()
    ]
    return "\n".join(lines)
