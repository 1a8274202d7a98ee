"""Which films a benchmark draws, and their picture sheets."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinezoo_contract.types import VERTEBRAE, Segment
from spinezoo_contract.words import counted
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.column.naming import named_column
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_spine.metrics.film import FilmMeasurement

from spinezoo_evaluator.report.drawing import Row, Tile, sheet
from spinezoo_evaluator.report.names import ordered_names
from spinezoo_evaluator.results.records import FUSED, FilmRecord, RunFolder, named


def film_score(record: FilmRecord) -> float:
    """Mean over the networks of the film's mean IoU on the merged mask."""
    values = [
        member.measurement.values()["mean_iou"] or 0.0
        for member in record.members.values()
        if member.measurement is not None
    ]
    return statistics.fmean(values)


def choose_films(records: Sequence[FilmRecord]) -> dict[str, FilmRecord]:
    """The best, the worst and the most disputed film, as far as there are so many.

    Of the films with the most answers: best and worst by the mean IoU averaged over the networks,
    most disputed by the disagreement between the networks' merged masks. No film is chosen twice.
    """
    answered = [
        (sum(m.measurement is not None for m in record.members.values()), record)
        for record in sorted(records, key=lambda record: record.name)
        if record.failure is None
    ]
    most = max((count for count, _ in answered), default=0)
    if most == 0:
        return {}
    left = [record for count, record in answered if count == most]
    chosen: dict[str, FilmRecord] = {}
    for which, key in (
        ("best", film_score),
        ("worst", lambda record: -film_score(record)),
        ("disputed", lambda record: record.disagreement or 0.0),
    ):
        if left:
            chosen[which] = max(left, key=key)
            left = [record for record in left if record is not chosen[which]]
    return chosen


_HEADINGS = {"best": "Best film", "worst": "Worst film", "disputed": "Most disputed film"}


def _caption(measurement: FilmMeasurement | None) -> str:
    if measurement is None:
        return "failed"
    values = measurement.values()
    vertebrae = measurement.vertebrae
    found = len(vertebrae.matched_ious)
    false = vertebrae.predicted_count - found
    text = (
        f"mean IoU {values['mean_iou']:.3f}\n{found} of {counted(vertebrae.true_count, 'vertebra')}"
    )
    return f"{text}, {false} false" if false else text


def picture_row(
    which: str,
    record: FilmRecord,
    films: FilmSet,
    folder: RunFolder,
    titles: Mapping[str, str],
) -> Row:
    """The tiles of one film: truth, every network, the fused ensemble.

    Raises:
        SpineZooError: The film, its truth or its answers cannot be read.
    """
    film = films.film(record.name)
    truth = segments_from_regions(
        films.annotation(record.name).regions, record.height, record.width
    )
    answers = folder.read_answer(record.name)
    names = ordered_names([*record.members, FUSED])
    measurements = {
        name: None if member is None else member.measurement
        for name, member in ((n, record.fused if n == FUSED else record.members[n]) for n in names)
    }
    counts = next((m for m in measurements.values() if m is not None), None)
    true_count = 0 if counts is None else counts.vertebrae.true_count
    tiles = [Tile("Truth", f"as annotated\n{counted(true_count, 'vertebra')}", truth)]
    for name in names:
        failure = None if name == FUSED else record.members[name].failure
        caption = failure.reason.replace("_", " ") if failure else _caption(measurements[name])
        tiles.append(Tile(titles.get(name, name), caption, answers.get(name)))
    heading = (
        f"{_HEADINGS[which]}: {record.name}    mean IoU averaged over the networks "
        f"{film_score(record):.3f}"
    )
    if record.disagreement is not None:
        heading += f", disagreement {record.disagreement:.3f}"
    return Row(heading, film, truth, tuple(tiles))


def write_pictures(
    records: Sequence[FilmRecord],
    films: FilmSet,
    folder: RunFolder,
    titles: Mapping[str, str],
) -> list[tuple[str, str]]:
    """Writes the picture sheet and one overlay a film; returns (file name, what it shows)."""
    rows = {
        which: picture_row(which, record, films, folder, titles)
        for which, record in choose_films(records).items()
    }
    if not rows:
        return []
    written = []
    name = "sheet.png"
    sheet(list(rows.values())).save(folder.path / name)
    written.append((name, "Truth and every network on the best, worst and most disputed film"))
    for which, row in rows.items():
        name = f"overlay_{which}.png"
        sheet([row], tile_height=760, columns=4).save(folder.path / name)
        written.append((name, f"{_HEADINGS[which]}, larger"))
    return written


def named_row(
    record: FilmRecord, films: FilmSet, folder: RunFolder, titles: Mapping[str, str]
) -> Row:
    """The film, its truth and every answer with vertebrae taken apart and named.

    Raises:
        SpineZooError: The film, its truth or its answers cannot be read.
    """
    row = picture_row("best", record, films, folder, titles)
    answers = folder.read_answer(record.name)
    tiles = [Tile("Film", "as it comes", plain=True)]
    truth = row.tiles[0]
    tiles.append(Tile(truth.title, truth.caption, truth.segments, named=True))
    names = ordered_names([*record.members, FUSED])
    for name, tile in zip(names, row.tiles[1:], strict=True):
        member = record.fused if name == FUSED else record.members[name]
        if tile.segments is None or member is None or member.column is None:
            tiles.append(tile)
            continue
        counts = member.column
        caption = (
            f"{counts.recognised} of {counted(counts.true, 'vertebra')}, "
            f"{counts.predicted - counts.right} false\n"
            f"{counts.named_right} named right, {counts.named_wrong} wrong"
        )
        vertebrae: Sequence[Segment] = answers.get(named(FUSED), ())
        if name != FUSED:
            column = named_column(tile.segments, row.film.pixels, built_in_reader())
            vertebrae = [vertebra.segment for vertebra in column.vertebrae]
        implants = (s for s in tile.segments if s.structure not in VERTEBRAE)
        tiles.append(Tile(tile.title, caption, (*vertebrae, *implants), named=True))
    return Row("", row.film, row.truth, tuple(tiles))


def write_answer_picture(
    records: Sequence[FilmRecord],
    films: FilmSet,
    folder: RunFolder,
    titles: Mapping[str, str],
    path: Path,
) -> str | None:
    """Writes one picture of an answer, for a README: the film, its truth, every network, names.

    Takes the film whose score is nearest to the median of the best half: typical of what works. As
    far as there are such films, one with implants on which the ensemble names vertebrae, and none
    wrong. Returns the film's name, or None where no film was measured.
    """
    measured = [record for record in records if record.failure is None and record.fused is not None]
    measured = [r for r in measured if any(m.measurement for m in r.members.values())]
    if not measured:
        return None

    def has_screws(record: FilmRecord) -> bool:
        measurement = record.fused.measurement if record.fused else None
        return measurement is not None and measurement.objects["screw"].true_count > 0

    def is_named(record: FilmRecord) -> bool:
        column = record.fused.column if record.fused else None
        return column is not None and column.named_right > 0 and column.named_wrong == 0

    chosen = measured
    for wanted in (lambda record: record.complete, has_screws, is_named):
        chosen = [record for record in chosen if wanted(record)] or chosen
    ranked = sorted(chosen, key=lambda record: (-film_score(record), record.name))
    record = ranked[len(ranked) // 4]
    row = named_row(record, films, folder, titles)
    picture = sheet([row], tile_height=520, columns=-(-len(row.tiles) // 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return record.name
