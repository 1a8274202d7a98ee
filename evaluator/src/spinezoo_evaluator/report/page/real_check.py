"""The page of the check on films with corner truth; the same template as a benchmark's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.words import counted, were
from spinezoo_spine.annotations.corners import CornerFilm
from spinezoo_spine.annotations.text import shown
from spinezoo_spine.films.reader import read_film_file

from spinezoo_evaluator.report.drawing import grey_picture
from spinezoo_evaluator.report.names import ordered_names, titles_of
from spinezoo_evaluator.report.page import plots
from spinezoo_evaluator.report.page.benchmark import HOLDS_FILMS
from spinezoo_evaluator.report.page.cards import NAME_CHARACTERS, NAME_FIGURES, short
from spinezoo_evaluator.report.page.content import (
    Card,
    Drawing,
    Figure,
    Gallery,
    KeyFigure,
    Page,
    Part,
    Section,
    Value,
)
from spinezoo_evaluator.report.page.films import Scale, draw, small_picture
from spinezoo_evaluator.report.page.names import (
    NO_VALUE,
    key_figures,
    name_caption,
    name_figures,
    name_plots,
    percent,
    trust_parts,
    withheld,
)
from spinezoo_evaluator.report.real_check import (
    film_table,
    loss_table,
    summary_table,
    worst_films,
)
from spinezoo_evaluator.report.tables import Table
from spinezoo_evaluator.results.columns import ColumnCounts
from spinezoo_evaluator.results.records import FUSED, RunFolder, named

FIGURES = (
    *NAME_FIGURES,
    Figure("mean_iou", "Mean IoU of the recognised"),
    Figure("precision", "Precision"),
)
"""By which films of the check can be sorted."""

PLAIN = "plain"
SACRUM = "Sacrum"


def _drawing(name: str, truth: CornerFilm, folder: RunFolder, data: Path) -> Drawing:
    """The film with its corners and every named column.

    Raises:
        SpineZooError: The film or its answers cannot be read.
    """
    film = read_film_file(data / name)
    scale = Scale.of(film.height, film.width)
    kept = folder.read_answer(name)
    end = named("")
    answers = {each.removesuffix(end): said for each, said in kept.items() if each.endswith(end)}
    small = small_picture(grey_picture(film), scale)
    return draw(small, scale, truth.segments(), answers, list(answers), complete_truth=False)


def _figures(counts: Mapping[str, Any]) -> dict[str, Value]:
    if counts["failed"]:
        return {}
    values = name_figures(ColumnCounts.from_json(counts))
    return {**values, "mean_iou": counts["mean_iou"], "precision": counts["precision"]}


def _caption(entry: Mapping[str, Any]) -> str:
    if entry["failed"]:
        return f"no answer, {str(entry['failure'] or 'not asked').replace('_', ' ')}"
    said = f"; says {entry['said']}" if entry["said"] else ""
    return name_caption(entry) + said


def _table(models: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> Table:
    rows = []
    for model in ordered_names(models):
        counts = models[model]
        cells = [titles.get(model, model)]
        if counts["failed"]:
            cells += ["no answer", *[NO_VALUE] * 5]
        else:
            cells += [
                f"{counts['recognised']}/{counts['true']}",
                str(counts["predicted"] - counts["right"]),
                percent(counts["mean_iou"]),
                str(counts["named_right"]),
                str(counts["named_wrong"]),
                str(withheld(counts)),
            ]
        rows.append(cells)
    return ["", "recognised", "false", "mean IoU", "right", "wrong", "withheld"], rows


def _cards(
    report: Mapping[str, Any],
    first: str,
    titles: Mapping[str, str],
    truths: Mapping[str, CornerFilm],
    folder: RunFolder,
    data: Path | None,
) -> list[Card]:
    cards = {}
    for film in report["films"]:
        if film["variant"] != first:
            continue
        drawing, notice = None, ""
        if data is not None and first == PLAIN:
            try:
                drawing = _drawing(film["film"], truths[film["film"]], folder, data)
            except SpineZooError as error:
                notice = f"No picture: {short(str(error))}"
        models = film["models"]
        ill = [
            f"{titles.get(name, name)}: {str(models[name]['failure']).replace('_', ' ')}"
            for name in ordered_names(models)
            if models[name]["failure"]
        ]
        cards[film["film"]] = Card(
            film=film["film"],
            name=shown(film["film"], NAME_CHARACTERS),
            drawing=drawing,
            notice=notice,
            failure=short("; ".join(ill)),
            captions={name: _caption(entry) for name, entry in models.items()},
            figures={name: _figures(entry) for name, entry in models.items()},
            strata={SACRUM: ("in view" if film["sacrum_in_view"] else "not in view",)},
            table=_table(models, titles),
        )
    order = worst_films(report) if first == PLAIN else list(cards)
    return [cards[name] for name in order]


def _variant_section(
    report: Mapping[str, Any], name: str, titles: Mapping[str, str], number: int
) -> Section:
    counts = report["summary"][name]
    threshold = report["reader"].get("threshold")
    return Section(
        f"names-{number}",
        f"Films {name}",
        (),
        name_plots(counts, titles, threshold, f"Films {name}: "),
        (
            Part(summary_table(report, name, titles), "Pooled over films, in percent"),
            *trust_parts(counts, titles),
            Part(
                film_table(report, name, titles),
                f"Film by film, {name}",
                numbers=False,
                folded=True,
            ),
        ),
    )


def _distributions(gallery: Gallery) -> Section:
    shown_figures = {"Vertebrae recognised": "recognised", "IoU of the recognised": "mean_iou"}
    panels = {
        title: {
            model: [
                value
                for card in gallery.cards
                if (value := card.figures.get(model, {}).get(name)) is not None
            ]
            for model in gallery.titles
        }
        for title, name in shown_figures.items()
    }
    plot = plots.distributions(
        panels, gallery.titles, "Every film by network", "One point a film, the median upright."
    )
    return Section("distributions", "Distributions", (), (plot,))


def _failures(report: Mapping[str, Any], titles: Mapping[str, str]) -> Section:
    rows = [
        [shown(film["film"]), film["variant"], titles.get(model, model), str(entry["failure"])]
        for film in report["films"]
        for model, entry in film["models"].items()
        if entry["failure"]
    ]
    if not rows:
        return Section("failures", "Failures", ("Every network answered every film.",))
    table = (["film", "sent", "network", "why"], rows)
    part = Part(table, "Without an answer", numbers=False, warning=True)
    return Section("failures", "Failures", (), (), (part,))


def _closing(report: Mapping[str, Any], titles: Mapping[str, str]) -> tuple[Section, ...]:
    reader = report["reader"]
    rows = [
        [
            titles.get(name, name),
            said["version"],
            said["preset"],
            f"`{said['weights_sha256'][:16]}`",
        ]
        for name, said in report["models"].items()
        if said
    ]
    rows.append(
        [
            f"Reader {reader['name']}, names from a confidence of {reader['threshold']} on",
            reader["version"],
            NO_VALUE,
            f"`{reader['weights_sha256'][:16]}`",
        ]
    )
    return (
        Section(
            "methods",
            "Methods",
            (
                "The truth of each film are the four corners of every vertebra and S1's endplate. "
                "Measured are L1 to L5; a careful outline reaches an IoU of 0.81 to 0.94 against "
                "its own four corners. A vertebra is recognised where a predicted one overlaps it "
                "by IoU of 0.5 or more, one to one; names count for these where the sacrum is in "
                "view. Films are sent as they are, mirrored, and at other sizes: a good answer "
                "hangs on neither.",
                "docs/labelling.md of the project says it in full.",
            ),
        ),
        Section(
            "provenance",
            "To repeat it",
            (f"Corners: {report['data']['corners']} of {report['data']['name']}.",),
            (),
            (Part((["what", "version", "preset", "weights sha256"], rows), numbers=False),),
        ),
    )


def make_page(
    report: Mapping[str, Any],
    truths: Sequence[CornerFilm],
    folder: RunFolder,
    data: Path | None,
) -> Page:
    """The page of a check.

    Args:
        report: From ``spinezoo_evaluator.report.real_check.build``.
        truths: Corners of its films.
        folder: Of the report, which holds the answers.
        data: The films' folder, or None to draw none.
    """
    titles = titles_of({name: said or {} for name, said in report["models"].items()})
    variants = list(report["summary"])
    first, counts = variants[0], report["summary"][variants[0]]
    models = {name: titles.get(name, name) for name in ordered_names(counts)}
    cards = _cards(report, first, titles, {t.name: t for t in truths}, folder, data)
    gallery = Gallery(
        tuple(cards),
        "Films with wrong names stand first, then those with withheld ones.",
        FIGURES,
        "named_wrong",
        models,
        FUSED if FUSED in models else next(iter(models)),
        {SACRUM: ("in view", "not in view")},
        complete_truth=False,
    )
    films = report["data"]
    networks = ", ".join(title for name, title in models.items() if name != FUSED)
    parts: tuple[Section, ...] = ()
    if len(variants) > 1 and PLAIN in variants:
        lost = Part(loss_table(report, titles), "", ("In percentage points against films plain.",))
        parts = (Section("variants", "Mirrored and scaled films", (), (), (lost,)),)
    return Page(
        title=f"Real films: {films['name']}",
        lead=(
            f"{counted(films['film_count'], 'film')} with corner truth, the sacrum in view on "
            f"{films['with_sacrum']}, {were(films['film_count'])} outlined by {networks}; the "
            "answers were fused, and every vertebra was named or left without a name. L1 to L5 "
            "are measured.",
        ),
        notices=(HOLDS_FILMS,) if data is not None else (),
        key_figures=(
            KeyFigure(str(films["film_count"]), "Films", f"sent {', '.join(variants)}"),
            *key_figures(counts),
        ),
        sections=(
            *(_variant_section(report, name, titles, n) for n, name in enumerate(variants)),
            *parts,
            _distributions(gallery),
            _failures(report, titles),
        ),
        gallery=gallery,
        closing=_closing(report, titles),
    )
