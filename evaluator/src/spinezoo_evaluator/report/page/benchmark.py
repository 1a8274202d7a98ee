"""The page of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spinezoo_contract.words import counted, were
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.metrics.registry import METRICS, STUDY_METRICS

from spinezoo_evaluator.report import tables
from spinezoo_evaluator.report.markdown import FINDINGS, GATEWAY_STAGES
from spinezoo_evaluator.report.page import plots, strata
from spinezoo_evaluator.report.page.cards import make_gallery
from spinezoo_evaluator.report.page.content import Gallery, KeyFigure, Page, Part, Plot, Section
from spinezoo_evaluator.report.page.names import (
    NO_VALUE,
    key_figures,
    name_plots,
    percent,
    trust_parts,
)
from spinezoo_evaluator.report.tables import Table
from spinezoo_evaluator.results.columns import ColumnCounts, add_up
from spinezoo_evaluator.results.records import FUSED, FilmRecord, RunFolder

HOLDS_FILMS = (
    "This file holds pictures of the films themselves, and their file names. Treat it as you treat "
    "the films: do not commit it, mail it or publish it."
)


def _titles(report: Mapping[str, Any]) -> dict[str, str]:
    return {name: model["title"] for name, model in report["models"].items()}


def _columns(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: m["column"] for name, m in report["models"].items() if m["column"]}


def _is_phantom(report: Mapping[str, Any]) -> bool:
    return bool(report["run"]["data"].get("phantom"))


def lead(report: Mapping[str, Any]) -> tuple[str, ...]:
    """What was measured on what, in sentences."""
    films, run = report["films"], report["run"]
    networks = [model["title"] for name, model in report["models"].items() if name != FUSED]
    kind = "made by computer, with exact truth" if _is_phantom(report) else "outlined by hand"
    listed = ", ".join(networks[:-1]) + (" and " if networks[:-1] else "") + "".join(networks[-1:])
    return (
        f"{counted(films['asked'], 'lateral lumbar X-ray')} of the set {run['data']['name']}, "
        f"{kind}, {were(films['asked'])} outlined by {listed or 'no network'}; their answers were "
        f"fused by {run['options']['fusion'].replace('_', ' ')} and every vertebra was named or "
        "left without a name. Everything is measured against the truth.",
        f"{counted(films['measured'], 'film')} got an answer, {films['complete']} of them from "
        f"every network. Measured on {run['started'][:10]}.",
    )


def _key_figures(report: Mapping[str, Any]) -> tuple[KeyFigure, ...]:
    films, models = report["films"], report["models"]
    found = [
        KeyFigure(str(films["measured"]), "Films with an answer", f"of {films['asked']} asked")
    ]
    found += key_figures(_columns(report))
    means = {name: model["metrics"]["mean_iou"]["film_mean"] for name, model in models.items()}
    if means.get(FUSED) is not None:
        found.append(KeyFigure(percent(means[FUSED]), "Mean IoU", "merged mask, fused ensemble"))
    own = {n: value for n, value in means.items() if n != FUSED and value is not None}
    if own:
        best = max(own, key=lambda name: own[name])
        note = f"merged mask, {models[best]['title']}"
        found.append(KeyFigure(percent(own[best]), "Best single network", note))
    count = len(report["failures"])
    found.append(KeyFigure(str(count), "Failures", "all named below" if count else "none"))
    return tuple(found)


def _table_1(report: Mapping[str, Any]) -> Section:
    titles = {name: title for name, title in _titles(report).items() if name != FUSED}
    study = report["study_table_1_percent"]
    panels: dict[str, dict[str, tuple[float | None, float | None]]] = {}
    for metric in STUDY_METRICS:
        theirs = {name: study.get(name, {}).get(metric) for name in titles}
        panels[METRICS[metric].title] = {
            name: (
                report["models"][name]["metrics"][metric]["film_mean"],
                None if theirs[name] is None else theirs[name] / 100.0,
            )
            for name in titles
        }
    plot = plots.against_study(
        panels,
        titles,
        "Table 1 beside the study's",
        "Full: mean over these films. Empty: the study's 100 clinical films and its own weights. "
        "Each panel has its own scale.",
    )
    parts = [
        Part(
            tables.metric_table(report, STUDY_METRICS, "film_mean", study=True),
            "Mean over films, in percent",
        ),
        Part(tables.film_count_table(report), "Films"),
    ]
    if any(model["films_failed"] for model in report["models"].values()):
        names = (*STUDY_METRICS, "vertebra_recognition_rate")
        parts.append(
            Part(
                tables.metric_table(report, names, "film_mean_failed_as_0"),
                "With each failed film counted as 0",
                ("Films that failed have no value and are not in the means above.",),
            )
        )
    pooled = tables.metric_table(report, STUDY_METRICS, "pooled")
    parts.append(Part(pooled, "The same pooled: one confusion matrix over all films", folded=True))
    return Section(
        "table-1",
        "Table 1",
        (
            "All structures of a prediction against all structures of the truth, as one mask; each "
            "film's own value, then the mean over films. Higher is better; the best of a row is "
            "bold. The study's figures (Kónya et al. 2020, arXiv:2004.03364) are of other films "
            "and other weights: they stand here for orientation.",
        ),
        (plot,) if titles else (),
        tuple(parts),
    )


def _names(report: Mapping[str, Any]) -> Section:
    counted, titles = _columns(report), _titles(report)
    threshold = (report["run"].get("reader") or {}).get("threshold")
    return Section(
        "names",
        "Vertebrae and names",
        (
            "Touching vertebrae are taken apart along the column first; then the reader names each "
            "vertebra or withholds the name. A vertebra is recognised where a predicted one "
            "overlaps it by IoU of 0.5 or more, one to one. Names count for recognised vertebrae "
            "on films that show S1 and whose truth has levels.",
        ),
        name_plots(counted, titles, threshold, ""),
        (
            Part(
                tables.column_table(report),
                "Pooled over all vertebrae, in percent",
                (
                    "Off by the count: wrong on a film of four or six lumbar vertebrae, right if "
                    "these were five.",
                ),
            ),
            *trust_parts(counted, titles),
            Part(
                tables.metric_table(report, tables.RECOGNITION_METRICS, "film_mean"),
                "Before separation, mean over films, in percent",
                folded=True,
            ),
        ),
    )


def _structures(report: Mapping[str, Any]) -> Section:
    shown = {key: key.replace("_", " ") for key in tables.STRUCTURES}
    panels = {
        title: {
            shown[key]: {
                name: model["metrics"][f"{metric}_{key}"]["film_mean"]
                for name, model in report["models"].items()
            }
            for key in tables.STRUCTURES
        }
        for metric, title in (("recognition_rate", "Recognised"), ("iou", "IoU"))
    }
    ious = [f"iou_{key}" for key in tables.STRUCTURES]
    rates = [f"recognition_rate_{key}" for key in tables.STRUCTURES]
    return Section(
        "structures",
        "By structure",
        (
            "Recognised: of the true objects of a structure, those that a predicted object of the "
            "same structure overlaps by IoU of 0.5 or more. IoU: of all pixels of the structure. "
            "Means over the films on which the figure is defined.",
        ),
        (
            plots.by_structure(
                panels,
                _titles(report),
                "Recognition and IoU by structure",
                "One marker a network. Thin things score a low IoU for a pixel's shift: compare "
                "within a row.",
            ),
        ),
        (
            Part(tables.metric_table(report, rates, "film_mean"), "Recognised, in percent"),
            Part(tables.metric_table(report, ious, "film_mean"), "IoU, in percent"),
        ),
    )


def _values(gallery: Gallery, figure: str) -> dict[str, list[float]]:
    """Films' values of one figure by model."""
    found: dict[str, list[float]] = {model: [] for model in gallery.titles}
    for card in gallery.cards:
        for model, values in card.figures.items():
            value = values.get(figure)
            if value is not None and model in found:
                found[model].append(value)
    return found


def _distributions(gallery: Gallery) -> Section:
    shown = {
        "Mean IoU, merged mask": "mean_iou",
        "Vertebrae recognised": "recognised",
        "IoU of the recognised": "vertebra_segmentation_quality",
    }
    plot = plots.distributions(
        {title: _values(gallery, name) for title, name in shown.items()},
        gallery.titles,
        "Every film by network",
        "One point a film, the median as an upright line, the violin where films are many. Points "
        "far to the left are the films to look at: they stand first below.",
    )
    return Section("distributions", "Distributions", (), (plot,))


def _in_group(gallery: Gallery, stratum: str, group: str) -> Gallery:
    cards = tuple(card for card in gallery.cards if group in card.strata.get(stratum, ()))
    return Gallery(cards, "", gallery.figures, gallery.sorted_by, gallery.titles, gallery.first)


def _stratum_tables(
    gallery: Gallery, columns: Mapping[str, ColumnCounts], stratum: str
) -> tuple[Table, Table]:
    """Names of the ensemble, and the mean IoU of every model, by group of a stratum."""
    names, ious = [], []
    for group in gallery.strata[stratum]:
        part = _in_group(gallery, stratum, group)
        counts = add_up([columns[c.film] for c in part.cards if c.film in columns])
        values = counts.values()
        asked = counts.to_name
        kept = asked - counts.named_right - counts.named_wrong
        names.append(
            [
                group,
                str(len(part.cards)),
                percent(values["recognition"]),
                percent(values["named_right_share"]),
                percent(kept / asked if asked else None),
                percent(values["named_wrong_share"]),
                str(asked),
            ]
        )
        of_model = _values(part, "mean_iou")
        cells = [percent(sum(v) / len(v)) if v else NO_VALUE for v in of_model.values()]
        ious.append([group, str(len(part.cards)), *cells])
    header = [stratum, "films", "recognised", "named right", "withheld", "named wrong", "to name"]
    return (header, names), ([stratum, "films", *gallery.titles.values()], ious)


def _strata(gallery: Gallery, records: Sequence[FilmRecord]) -> Section | None:
    if not gallery.strata:
        return None
    columns = {
        record.name: record.fused.column
        for record in records
        if record.fused is not None and record.fused.column is not None
    }
    groups = {
        stratum: {
            group: _values(_in_group(gallery, stratum, group), "mean_iou") for group in of_stratum
        }
        for stratum, of_stratum in gallery.strata.items()
    }
    title = gallery.titles[gallery.first]
    plot = plots.by_strata(
        groups,
        gallery.titles,
        gallery.first,
        "mean IoU of the merged mask",
        "Mean IoU by groups of films",
        f"Points and violins: films of the {title.lower()}, upright line their median. Other "
        "markers: the medians of the networks.",
    )
    parts = []
    for stratum in gallery.strata:
        names, ious = _stratum_tables(gallery, columns, stratum)
        text = (f"Goes {strata.EXPLAINED[stratum]}.",)
        parts.append(Part(names, f"{stratum}: vertebrae and names of the fused ensemble", text))
        parts.append(Part(ious, f"{stratum}: mean IoU by network", folded=True))
    return Section("groups", "By groups of films", (), (plot,), tuple(parts))


def _time(report: Mapping[str, Any], gallery: Gallery) -> Section:
    values = {m: v for m, v in _values(gallery, "latency_ms").items() if m != FUSED and v}
    shown: tuple[Plot, ...] = ()
    if values:
        titles = {model: gallery.titles[model] for model in values}
        shown = (
            plots.distributions(
                {"Answer, as the gateway saw it": values},
                titles,
                "Time to the answer by network",
                "One point a film; the axis is logarithmic.",
                logarithmic=True,
            ),
        )
    gateway = [
        f"{title} {report['gateway_ms'][stage]['median']:.1f} ms"
        for stage, title in GATEWAY_STAGES.items()
        if stage in report["gateway_ms"]
    ]
    text = [
        f"{counted(report['run']['options']['concurrency'], 'film')} under way at the same time, "
        f"on: {report['run']['machine']}. Times hang on the machine and on what else it does."
    ]
    if gateway:
        text.append(f"The gateway's own median times: {', '.join(gateway)}.")
    return Section("time", "Time", tuple(text), shown, (Part(tables.time_table(report)),))


def _failures(report: Mapping[str, Any]) -> Section:
    parts = []
    if report["failures"]:
        failed = tables.failure_table(report)
        parts.append(Part(failed, "Without an answer", numbers=False, warning=True))
    for kind, title in FINDINGS.items():
        found = report["run"]["data"].get(kind, [])
        if found:
            heading = f"{len(found)} {title}"
            table = tables.finding_table(found)
            parts.append(Part(table, heading, numbers=False, warning=kind != "warnings"))
    check = report["evaluator"]
    differing = [*check["differs"], *check["no_answer"]]
    if differing:
        rows = [
            [name, "differs" if name in check["differs"] else "no answer"] for name in differing
        ]
        heading = "Evaluator service"
        parts.append(Part((["film", "what it said"], rows), heading, numbers=False, warning=True))
    text = (
        () if parts else ("Every film was answered, none was left out, and nothing was skipped.",)
    )
    return Section("failures", "Failures and films left out", text, (), tuple(parts))


def _methods() -> Section:
    rows = [
        [s.title, s.definition, s.only_prediction.value, s.only_truth.value, s.both_empty.value]
        for s in METRICS.values()
    ]
    header = ["figure", "definition", "only predicted", "only in the truth", "neither"]
    text = [
        "Films go to the gateway as the files they are; the truth is drawn from its outlines; all "
        "is compared at the film's own size. A network that does not answer a film has no value "
        "there and is named.",
        "The merged mask cannot see vertebrae that are drawn as one; that is why they are counted. "
        "Regions are cut into components, components under 1 in 10,000 of the film are no "
        "vertebrae, and of all one-to-one assignments the one with the most matches is taken.",
        "docs/benchmark-protocol.md and docs/labelling.md of the project say it in full.",
    ]
    part = Part(
        (header, rows),
        "All figures, and their value where truth or prediction is empty",
        numbers=False,
        folded=True,
    )
    return Section("methods", "Methods", tuple(text), (), (part,))


def _provenance(report: Mapping[str, Any]) -> Section:
    run, data, films = report["run"], report["run"]["data"], report["films"]
    check = report["evaluator"]
    asked = check["agrees"] + len(check["differs"]) + len(check["no_answer"])
    rows = [
        ["Command", f"`{run['command']}`"],
        ["Started", run["started"]],
        ["Finished", run.get("finished", NO_VALUE)],
        ["Films", f"{data['name']}: {films['asked']} asked, outlines {data['annotations']}"],
        ["Fingerprint of films and outlines", f"`{films['fingerprint_sha256']}`"],
    ]
    if data.get("phantom"):
        made = data["phantom"]
        told = (
            f"generator {made['generator']}, seed {made['seed']}, {counted(made['count'], 'film')}"
        )
        rows.append(["Phantoms", f"{told}, {made['file_format']}"])
    if run.get("reader"):
        reader = run["reader"]
        told = f"{reader['name']} {reader['version']}, weights {reader['weights_sha256'][:16]}"
        rows.append(["Reader", f"{told}, names from a confidence of {reader['threshold']} on"])
    rows += [
        [
            "Evaluator service",
            f"measured the same on {check['agrees']} of {counted(asked, 'film')} that it was "
            "asked about",
        ],
        ["Versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())],
        ["Machine", run["machine"]],
    ]
    parts = [Part((["what", "value"], rows), numbers=False)]
    parts.append(Part(tables.provenance_table(report), "Networks", numbers=False))
    changed = [m["title"] for m in report["models"].values() if len(m["provenance"]) > 1]
    text = tuple(
        f"Warning: {title} changed during the run; several provenances answered."
        for title in changed
    )
    return Section("provenance", "To repeat it", text, (), tuple(parts))


def make_page(
    report: Mapping[str, Any],
    records: Sequence[FilmRecord],
    films: FilmSet,
    folder: RunFolder,
    *,
    pictures: bool = True,
) -> Page:
    """The page of a benchmark.

    Args:
        report: From ``spinezoo_evaluator.report.data.build``.
        records: What was measured, by film.
        films: The films.
        folder: Of the report, which holds the answers.
        pictures: Whether films and outlines are drawn.
    """
    gallery = make_gallery(records, films, folder, _titles(report), pictures=pictures)
    by_group = _strata(gallery, records)
    drawn = pictures and not _is_phantom(report)
    return Page(
        title=f"Benchmark of {report['run']['data']['name']}",
        lead=lead(report),
        notices=(HOLDS_FILMS,) if drawn else (),
        key_figures=_key_figures(report),
        sections=(
            _table_1(report),
            _names(report),
            _structures(report),
            _distributions(gallery),
            *(() if by_group is None else (by_group,)),
            _time(report, gallery),
            _failures(report),
        ),
        gallery=gallery,
        closing=(_methods(), _provenance(report)),
    )
