"""What a report's page holds, as plain values; both reports are made of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spinezoo_evaluator.report.tables import Table

Value = float | None
"""A figure of a film; None where nothing defines it."""


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A figure for the top of the page.

    Attributes:
        value: As text, with its unit.
        title: What it is.
        note: Of how many, or under which condition.
    """

    value: str
    title: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing.

    Attributes:
        svg: An SVG element.
        title: What it shows, in a few words; also its name for screen readers.
        caption: How to read it.
    """

    svg: str
    title: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A table of a section with what stands above it.

    Attributes:
        table: Header and rows.
        title: Its heading; may be empty.
        text: Paragraphs above it.
        numbers: Whether all columns but the first stand to the right.
        folded: Whether it is shown only when asked for.
        warning: Whether it tells of something that went wrong.
    """

    table: Table
    title: str = ""
    text: tuple[str, ...] = ()
    numbers: bool = True
    folded: bool = False
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A chapter of the page.

    Attributes:
        name: For links; letters and dashes.
        title: Its heading.
        text: Paragraphs.
        plots: Drawings, below the paragraphs.
        parts: Tables, below the drawings.
    """

    name: str
    title: str
    text: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure by which films are sorted and filtered.

    Attributes:
        name: Its key.
        title: As shown.
        percent: Whether 1 is shown as 100 %; otherwise it is a number in the title's unit.
        higher_is_better: The worst films are those with the lowest value.
    """

    name: str
    title: str
    percent: bool = True
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Outline:
    """One outline over a film.

    Attributes:
        path: SVG path data in the drawing's units.
        kind: Its class in the style sheet: a colour, and dashes where it matches no true one.
        label: Written at its middle; may be empty.
        label_kind: ``right``, ``wrong``, ``withheld`` or ``""``.
        x: Middle of its box.
        y: Middle of its box.
    """

    path: str
    kind: str
    label: str = ""
    label_kind: str = ""
    x: int = 0
    y: int = 0


@dataclass(frozen=True, slots=True)
class Drawing:
    """A film's picture with everything that is drawn over it.

    Attributes:
        picture: A ``data:`` address of a JPEG.
        width: In drawing units.
        height: In drawing units.
        layers: Outlines by model; a model without an answer is absent.
        truth: The true outlines.
    """

    picture: str
    width: int
    height: int
    layers: Mapping[str, tuple[Outline, ...]]
    truth: tuple[Outline, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """One film of the gallery.

    Attributes:
        name: The film's name, as it may be shown.
        drawing: Its picture and outlines, or None.
        notice: Why there is no picture, or what else is to say; may be empty.
        failure: Why the film, or a network on it, has no answer; may be empty.
        captions: One line by model.
        figures: By model, then by figure.
        strata: Its groups by stratum's name; a film may be in several groups of one.
        table: The main figures by model.
    """

    name: str
    drawing: Drawing | None
    notice: str
    failure: str
    captions: Mapping[str, str]
    figures: Mapping[str, Mapping[str, Value]]
    strata: Mapping[str, tuple[str, ...]]
    table: Table


@dataclass(frozen=True, slots=True)
class Gallery:
    """Every film of the run.

    Attributes:
        cards: Films in the order that the page opens with.
        order: What that order is, in words.
        figures: By which films can be sorted and filtered.
        sorted_by: Key of the figure that the order mainly follows.
        titles: Models by name, as shown, in the order of the switches.
        first: The model whose outlines are shown first.
        strata: Groups by stratum.
        complete_truth: Whether the truth holds every vertebra in view.
    """

    cards: tuple[Card, ...]
    order: str
    figures: tuple[Figure, ...]
    sorted_by: str
    titles: Mapping[str, str]
    first: str
    strata: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    complete_truth: bool = True


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Attributes:
        title: Its heading.
        lead: What was measured on what, in sentences.
        notices: What must be known before anything else, such as that it holds patients' films.
        key_figures: The answer in short.
        sections: Chapters before the gallery.
        gallery: Every film.
        closing: Chapters behind the gallery: methods, provenance.
    """

    title: str
    lead: tuple[str, ...]
    notices: tuple[str, ...]
    key_figures: tuple[KeyFigure, ...]
    sections: tuple[Section, ...]
    gallery: Gallery
    closing: tuple[Section, ...]
