"""One card a film of a benchmark: picture, outlines, figures, groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.types import VERTEBRAE, Segment
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.annotations.text import shown
from spinezoo_spine.metrics.registry import METRICS

from spinezoo_evaluator.report.drawing import grey_picture
from spinezoo_evaluator.report.names import ordered_names
from spinezoo_evaluator.report.page import strata
from spinezoo_evaluator.report.page.content import Card, Drawing, Figure, Gallery, Value
from spinezoo_evaluator.report.page.films import Scale, draw, small_picture
from spinezoo_evaluator.report.page.names import (
    NO_VALUE,
    name_caption,
    name_figures,
    percent,
    withheld,
)
from spinezoo_evaluator.report.tables import Table
from spinezoo_evaluator.results.records import FUSED, FilmRecord, MemberRecord, RunFolder, named

NAME_FIGURES = (
    Figure("named_wrong", "Names wrong", higher_is_better=False),
    Figure("named_withheld", "Names withheld", higher_is_better=False),
    Figure("named_right", "Names right"),
    Figure("recognised", "Vertebrae recognised after separation"),
)

FIGURES = (
    Figure("mean_iou", "Mean IoU, merged mask"),
    *NAME_FIGURES,
    *(Figure(name, spec.title) for name, spec in METRICS.items() if name != "mean_iou"),
    Figure("latency_ms", "Time to the answer, in ms", percent=False, higher_is_better=False),
    Figure("disagreement", "Disagreement of the networks", higher_is_better=False),
    Figure("contrast", "Contrast of the bone"),
)
"""By which films of a benchmark can be sorted."""

_MESSAGE_CHARACTERS = 240


def short(message: str) -> str:
    """A failure's message as a card shows it."""
    plain = " ".join(message.split())
    most = _MESSAGE_CHARACTERS
    return plain if len(plain) <= most else plain[: most - 3] + "..."


@dataclass(frozen=True, slots=True)
class Look:
    """What reading a film and its truth has shown.

    Attributes:
        drawing: The picture with outlines, or None.
        notice: Why there is none, or what is missing; may be empty.
        contrast: See ``strata.contrast_of``.
        truth: True outlines with levels; empty where they cannot be read.
    """

    drawing: Drawing | None = None
    notice: str = ""
    contrast: float | None = None
    truth: tuple[Segment, ...] = ()


def _answers(
    record: FilmRecord, folder: RunFolder
) -> tuple[dict[str, Sequence[Segment]], list[str]]:
    """Segments by model, and the models whose vertebrae the run has kept taken apart and named.

    Raises:
        ConfigurationError: What was kept is absent or broken.
    """
    answers: dict[str, Sequence[Segment]] = {}
    with_names: list[str] = []
    if record.failure is not None:
        return answers, with_names
    kept = folder.read_answer(record.name)
    for name in members_of(record):
        own = kept.get(name)
        vertebrae = kept.get(named(name))
        if own is not None and vertebrae is not None:
            implants = (segment for segment in own if segment.structure not in VERTEBRAE)
            own = (*vertebrae, *implants)
            with_names.append(name)
        if own is not None:
            answers[name] = own
    return answers, with_names


def look_at(record: FilmRecord, films: FilmSet, folder: RunFolder, *, pictures: bool) -> Look:
    """Reads one film, its truth and its answers; what cannot be read is said instead."""
    try:
        height, width = films.film_size(record.name)
        regions = films.annotation(record.name).regions
        truth = segments_from_regions(regions, height, width)
    except SpineZooError as error:
        return Look(notice=f"No picture: {short(str(error))}")
    if not pictures:
        return Look(truth=truth)
    scale = Scale.of(height, width)
    try:
        small = small_picture(grey_picture(films.film(record.name)), scale)
    except SpineZooError as error:
        return Look(notice=f"No picture: {short(str(error))}", truth=truth)
    notice = ""
    answers: Mapping[str, Sequence[Segment]] = {}
    with_names: Sequence[str] = ()
    try:
        answers, with_names = _answers(record, folder)
    except SpineZooError as error:
        notice = f"No outlines: {short(str(error))}"
    drawing = draw(small, scale, truth, answers, with_names)
    return Look(drawing, notice, strata.contrast_of(small, truth), truth)


def members_of(record: FilmRecord) -> dict[str, MemberRecord]:
    """Every member and the ensemble of a film, in the order of tables."""
    found = {name: record.members[name] for name in ordered_names(record.members)}
    if record.fused is not None:
        found[FUSED] = record.fused
    return found


def figures_of(member: MemberRecord, record: FilmRecord, look: Look) -> dict[str, Value]:
    """All figures of one model on one film."""
    values: dict[str, Value] = {}
    if member.measurement is not None:
        values.update(member.measurement.values())
    values.update(name_figures(member.column))
    values["latency_ms"] = member.latency_ms
    values["disagreement"] = record.disagreement
    values["contrast"] = look.contrast
    return values


def _caption(member: MemberRecord) -> str:
    if member.measurement is None:
        failure = member.failure
        return "no answer" if failure is None else f"failed, {failure.reason.replace('_', ' ')}"
    counts = None if member.column is None else member.column.to_json()
    vertebrae = name_caption(counts)
    text = f"mean IoU {percent(member.measurement.values()['mean_iou'])}"
    return f"{text}; {vertebrae}" if vertebrae else text


def _table(record: FilmRecord, titles: Mapping[str, str]) -> Table:
    rows = []
    for name, member in members_of(record).items():
        values = {} if member.measurement is None else member.measurement.values()
        counts: Any = None if member.column is None else member.column.to_json()
        cells = [titles.get(name, name), percent(values.get("mean_iou"))]
        if counts is None:
            reason = "" if member.failure is None else member.failure.reason.replace("_", " ")
            cells += [reason or NO_VALUE, *[NO_VALUE] * 4]
        else:
            cells += [
                f"{counts['recognised']}/{counts['true']}",
                str(counts["predicted"] - counts["right"]),
                str(counts["named_right"]),
                str(counts["named_wrong"]),
                str(withheld(counts)),
            ]
        cells.append(NO_VALUE if member.latency_ms is None else f"{member.latency_ms:.0f}")
        rows.append(cells)
    header = ["", "mean IoU", "recognised", "false", "right", "wrong", "withheld", "ms"]
    return header, rows


def _failure(record: FilmRecord, titles: Mapping[str, str]) -> str:
    if record.failure is not None:
        reason = record.failure.reason.replace("_", " ")
        return f"No answer ({reason}): {short(record.failure.message)}"
    ill = [
        f"{titles.get(name, name)}: {member.failure.reason.replace('_', ' ')}"
        for name, member in members_of(record).items()
        if member.failure is not None
    ]
    return "; ".join(ill)


def make_card(
    record: FilmRecord,
    look: Look,
    titles: Mapping[str, str],
    diseases: tuple[str, ...] | None,
) -> Card:
    """A film's card; its contrast group comes later, when all films are known.

    Args:
        record: What was measured.
        look: What was read.
        titles: How models are written.
        diseases: Its disease groups, or None where nothing is known.
    """
    groups: dict[str, tuple[str, ...]] = {}
    if look.truth:
        groups[strata.HARDWARE] = (strata.hardware_of(look.truth),)
        groups[strata.LUMBAR] = (strata.lumbar_of(look.truth),)
    if diseases is not None:
        groups[strata.DISEASE] = diseases
    members = members_of(record)
    return Card(
        name=shown(record.name),
        drawing=look.drawing,
        notice=look.notice,
        failure=_failure(record, titles),
        captions={name: _caption(member) for name, member in members.items()},
        figures={name: figures_of(member, record, look) for name, member in members.items()},
        strata=groups,
        table=_table(record, titles),
    )


def _badness(card: Card) -> tuple[float, str]:
    """Films without a value of the ensemble first, then the lowest ones."""
    value = card.figures.get(FUSED, {}).get("mean_iou")
    return (-1.0 if value is None else value), card.name


def make_gallery(
    records: Sequence[FilmRecord],
    films: FilmSet,
    folder: RunFolder,
    titles: Mapping[str, str],
    *,
    pictures: bool = True,
) -> Gallery:
    """Every film of a benchmark, worst first.

    Args:
        records: What was measured.
        films: The films.
        folder: Of the report, which holds the answers.
        titles: Models by name, in the order of tables.
        pictures: Whether films and outlines are drawn.
    """
    tags = strata.phantom_tags(films.folder)
    cards, contrasts = [], {}
    for record in sorted(records, key=lambda record: record.name):
        look = look_at(record, films, folder, pictures=pictures)
        known = tags.get(record.name)
        diseases = None if known is None else strata.diseases_of(known)
        cards.append(make_card(record, look, titles, diseases))
        contrasts[cards[-1].name] = look.contrast
    third_of = strata.thirds(contrasts)
    cards = [
        replace(card, strata={**card.strata, strata.CONTRAST: (third_of[card.name],)})
        if card.name in third_of
        else card
        for card in cards
    ]
    used = {
        stratum: tuple(
            group for group in groups if any(group in c.strata.get(stratum, ()) for c in cards)
        )
        for stratum, groups in strata.STRATA.items()
    }
    return Gallery(
        tuple(sorted(cards, key=_badness)),
        "Films without an answer stand first, then the lowest mean IoU of the fused ensemble.",
        FIGURES,
        "mean_iou",
        titles,
        FUSED if FUSED in titles else next(iter(titles), ""),
        {stratum: groups for stratum, groups in used.items() if groups},
    )
