"""Writes the measured figures of the pages from the records of the last runs (``make figures``).

A page holds a block between two markers, and the text around it is written by hand::

    <!-- figures: benchmark -->
    ...
    <!-- end -->

Records are what ``make benchmark`` and ``make real-check`` leave in ``reports/``, and what
benchmarks of speed keep in ``benchmarks/results``. A block whose report is not there stays as it
is; one of speed says "not measured". Standard library only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinezoo_tools.output import end_with_reader
from spinezoo_tools.speed import records
from spinezoo_tools.speed_tables import SPEED_BLOCKS, table

ROOT = Path(__file__).resolve().parents[3]

Record = Mapping[str, Any]
"""A ``report.json``; ``measures`` holds the ``measures.json`` beside it, where there is one."""

_MARKER = re.compile(r"^<!-- (?:figures: (?P<name>[a-z-]+)|(?P<end>end)) -->$", re.MULTILINE)


class FiguresError(Exception):
    """A page's markers are wrong, or a record does not hold what a block shows."""


@dataclass(frozen=True)
class Block:
    """One block of figures.

    Attributes:
        name: Its name in the marker.
        page: The page that holds it, below the repository.
        record: Its record, below the folder of reports.
        text: Record to Markdown.
    """

    name: str
    page: str
    record: str
    text: Callable[[Record], str]


def percent(share: float | None, digits: int) -> str:
    """A share of 0 to 1 in percent; a dash where it is undefined."""
    return "–" if share is None else f"{100.0 * share:.{digits}f}"


def measured(record: Record, what: str, command: str) -> str:
    """The line above a table: what was measured, by which command and, where known, when."""
    finished = record.get("run", {}).get("finished", "")
    return f"{what}, by `{command}`" + (f" on {finished[:10]}:" if finished else ":")


def phantoms(record: Record, unit: str = "") -> str:
    """The line above the figures of a benchmark on phantoms."""
    what = f"{record['films']['measured']} phantom films{unit}"
    return measured(record, what, "make benchmark")


_FUSED = "fused ensemble"
_OUTLINES = "fused ensemble, outlines alone"


def _errors(measures: Mapping[str, Record]) -> str:
    """Errors of every measure that is answered at all."""
    rows = []
    for name, row in measures.items():
        if "bias" not in row:
            continue
        icc, inside = row["icc"], percent(row["inside"], 0)
        cells = [str(row["asked"]), percent(row["coverage"], 0)]
        cells += [f"{row[key]:.2f}" for key in ("bias", "mean", "median", "p90")]
        rows.append([name, *cells, "–" if icc is None else f"{icc:.2f}", inside])
    head = ["measure", "asked", "answered, %", "bias", "mean error", "median", "90th percentile"]
    return table([*head, "ICC", "inside, %"], rows)


def _by_whom(record: Record, titles: Mapping[str, str]) -> str:
    """Corners, endplates and lordosis by who measures, and by kind of film."""
    found = {name: one for name, one in record["measures"].items() if isinstance(one, Mapping)}
    whose = [name for name in (_FUSED, _OUTLINES) if name in found]
    members = sorted((name for name in found if name in titles), key=_place(titles))
    kinds = sorted(set(found) - {*whose, *members})
    rows = []
    for name in (*whose, *(name for name in members if name not in whose), *kinds):
        said = found[name]
        corners, plates = said["corners"], said["endplates_deg"]
        lordosis = [said["measures"].get(f"lordosis {ends}", {}) for ends in ("L1-L5", "L1-S1")]
        cells = [percent(corners.get(key), 1) for key in ("median", "p90")]
        angles = [plates.get("median"), plates.get("p90"), *(one.get("median") for one in lordosis)]
        cells += ["–" if angle is None else f"{angle:.2f}" for angle in angles]
        rows.append([titles.get(name, name) if name in members else name, *cells])
    head = ["", "corners, % of the depth", "90th percentile", "endplates, degrees"]
    return table([*head, "90th percentile", "lordosis L1-L5", "L1-S1"], rows)


def _told(record: Record) -> str:
    """Grades, osteophytes and breaks of rods, with the refiner and without."""
    columns = [record["measures"][name] for name in (_FUSED, _OUTLINES)]
    rows = [
        ["corners within the stated radius, %"],
        ["Genant's grade right, %"],
        ["Meyerding's grade right, %"],
        ["osteophytes over 3 mm found, %"],
        ["told to be one, and over 3 mm, %"],
        ["breaks of rods found"],
        ["of those that lie open"],
        ["told to be a break, and one"],
    ]
    for said in columns:
        grades, spurs, rods = said["grades_right"], said["osteophytes"], said["rod_breaks"]
        cells = [
            percent(said["corners"]["inside"], 0),
            *(percent(grades[kind]["share"], 0) for kind in ("BODY_HEIGHT_LOSS", "SLIP_PERCENT")),
            *(percent(spurs[key], 0) for key in ("recall", "precision")),
            *(f"{rods[part]} of {rods[whole]}" for part, whole in _OF),
        ]
        for row, cell in zip(rows, cells, strict=True):
            row.append(cell)
    return table(["", "with the refiner", "outlines alone"], rows)


_OF = (("found", "true"), ("open_found", "open"), ("right", "said"))


def measures(record: Record) -> str:
    """Errors of measures on phantoms: of each measure, by who measures, and what is told."""
    titles = {name: model["title"] for name, model in record["models"].items() if name != _FUSED}
    errors = _errors(record["measures"][_FUSED]["measures"])
    return "\n\n".join([phantoms(record), errors, _by_whom(record, titles), _told(record)])


def real_measures(record: Record) -> str:
    """Errors of measures on films with corner truth: of each measure, and by who measures."""
    titles = {name: title for name, title in record["titles"].items() if name != _FUSED}
    command = f"make real-check DATA=.../{record['data']['name']}"
    what = measured(record, f"{record['data']['film_count']} real films", command)
    errors = _errors(record["measures"][_FUSED]["measures"])
    return "\n\n".join([what, errors, _by_whom(record, titles)])


def implants(record: Record) -> str:
    """Screws, rods and cages as objects: found, and right of those told."""
    models = record["models"].values()
    rows = []
    for kind in ("screw", "rod", "cage"):
        tallies = [model["tally"]["objects"][kind][:3] for model in models]
        for title, place in ((f"{kind}s recognised", 1), (f"{kind}s, precision", 2)):
            shares = (one[0] / one[place] if one[place] else None for one in tallies)
            rows.append([title, *(percent(share, 1) for share in shares)])
    true = next(iter(models))["tally"]["objects"]
    count = ", ".join(f"{true[kind][1]} {kind}s" for kind in ("screw", "rod", "cage"))
    head = ["", *(model["title"] for model in models)]
    return f"{phantoms(record, f' with {count}, pooled, in percent')}\n\n{table(head, rows)}"


def names_threshold(record: Record) -> str:
    """Right and wrong names of the fused ensemble, were they given from another confidence on."""
    found = record["models"][_FUSED]["column"]["names"]
    rows = []
    for least in (0.5, 0.7, 0.8, 0.9, 0.95, 0.99):
        given = [right for confidence, right in found if confidence >= least]
        shares = (given.count(right) / len(found) for right in (True, False))
        rows.append([f"{least}", *(percent(share, 1) for share in shares)])
    what = f" with {len(found)} recognised vertebrae, fused, in percent"
    return f"{phantoms(record, what)}\n\n{table(['names from', 'right', 'wrong'], rows)}"


_SACRUM = (
    ("S1 less what lies before it", "S1 - before it", 3),
    ("S1 less what lies behind it", "S1 - behind it", 3),
    ("S1 less the disc above", "S1 - disc", 3),
    ("S1 less the body above", "S1 - L5's region", 3),
    ("line of S1's endplate", "S1 plate line", 3),
    ("its row, share of the height", "row of S1 / film height", 3),
)
_LIE = (
    ("upper endplate to the walls, T12", "T12 upper plate to walls", 1),
    ("... L1", "L1 upper plate to walls", 1),
    ("... L4", "L4 upper plate to walls", 1),
    ("... L5", "L5 upper plate to walls", 1),
    ("lower endplate to the walls, L3", "L3 lower plate to walls", 1),
    ("... L5", "L5 lower plate to walls", 1),
    ("endplates to the line through the neighbours' middles, L3", "L3 plates to the line", 1),
    ("disc T12/L1 opens by", "T12/L1 opens by", 1),
    ("disc L4/L5 opens by", "L4/L5 opens by", 1),
    ("L3 stands before L4, per cent of its depth", "L3/L4 step at the back, %", 1),
)


def _look(record: Record, what: str, rows: Sequence[tuple[str, str, int]]) -> str:
    """Medians and quartiles of real films and of phantoms, by ``benchmarks/phantom_look.py``."""
    real, made = record["real"], record["phantoms"]
    lines = []
    for title, key, digits in rows:
        cells = []
        for figures in (real["figures"], made["figures"]):
            low, middle, high = (f"{value:.{digits}f}" for value in figures[key])
            cells.append(f"{middle} ({low} to {high})")
        lines.append([title, *cells])
    text = f"{what}, median and quartiles, by `benchmarks/phantom_look.py --real ...`:"
    head = ["", f"{real['films']} real films", f"{made['films']} phantoms"]
    return f"{text}\n\n{table(head, lines)}"


def look_at_sacrum(record: Record) -> str:
    """Grey levels around S1, on phantoms beside real films."""
    return _look(record, "Grey levels from 0 to 1 around S1", _SACRUM)


def look_at_column(record: Record) -> str:
    """How bodies lie in the column, on phantoms beside real films."""
    return _look(record, "Degrees, positive where the front lies towards the feet", _LIE)


_TABLE_1 = (
    ("pixel accuracy", "pixel_accuracy"),
    ("mean IoU", "mean_iou"),
    ("mean accuracy", "mean_accuracy"),
    ("frequency-weighted IoU", "frequency_weighted_iou"),
    ("vertebra recognition rate", "vertebra_recognition_rate"),
)
_COLUMN = (
    ("recognised", "recognition"),
    ("precision", "precision"),
    ("mean IoU of the recognised", "mean_iou"),
    ("named right", "named_right_share"),
    ("named wrong", "named_wrong_share"),
    ("of which off by the number of lumbar vertebrae", "named_off_by_count_share"),
    ("named right on films of five lumbar vertebrae", "named_right_of_five_share"),
    ("named right on films of four or six", "named_right_of_others_share"),
)


def benchmark(record: Record) -> str:
    """The table of the README: the study's metrics and recognition, with and without separation."""
    models = record["models"]
    rows = [
        [title, *(percent(model["metrics"][key]["film_mean"], 2) for model in models.values())]
        for title, key in _TABLE_1
    ]
    apart = [percent(model["column"]["recognition"], 2) for model in models.values()]
    rows.append(["vertebrae recognised, touching ones taken apart (pooled)", *apart])
    what = f"{record['films']['measured']} phantom films, mean over films, in percent"
    head = ["", *(model["title"] for model in models.values())]
    return f"{measured(record, what, 'make benchmark')}\n\n{table(head, rows)}"


def names(record: Record) -> str:
    """Vertebrae after separation and their names, pooled over the films of the benchmark."""
    columns = {model["title"]: model["column"] for model in record["models"].values()}
    rows = [
        [title, *(percent(column[key], 1) for column in columns.values())] for title, key in _COLUMN
    ]
    true = next(iter(columns.values()))["true"]
    what = f"{record['films']['measured']} phantom films with {true} vertebrae, pooled, in percent"
    return f"{measured(record, what, 'make benchmark')}\n\n{table(['', *columns], rows)}"


def _place(titles: Mapping[str, str]) -> Callable[[str], tuple[int, str]]:
    """A sort key: the order of the titles, then by name."""
    order = {name: place for place, name in enumerate(titles)}
    return lambda name: (order.get(name, len(order)), name)


def real_films(record: Record) -> str:
    """Recognition and names on films with corner truth, sent as they are.

    Titles and order of the networks are those of the benchmark's record, where there is one.
    """
    found, titles = record["summary"]["plain"], record.get("titles", {})
    columns = {titles.get(name, name): found[name] for name in sorted(found, key=_place(titles))}
    keys = ("recognition", "precision", "mean_iou", "named_right_share", "named_wrong_share")
    rows = [[name, *(percent(column[key], 1) for key in keys)] for name, column in columns.items()]
    true = next(iter(columns.values()))["true"]
    what = f"{record['data']['film_count']} real films with {true} vertebrae, pooled, in percent"
    command = f"make real-check DATA=.../{record['data']['name']}"
    head = ["", "recognised", "precision", "mean IoU", "named right", "named wrong"]
    return f"{measured(record, what, command)}\n\n{table(head, rows)}"


BLOCKS = (
    Block("benchmark", "README.md", "phantom-test/report.json", benchmark),
    Block("names", "docs/labelling.md", "phantom-test/report.json", names),
    Block("names-threshold", "docs/labelling.md", "phantom-test/report.json", names_threshold),
    Block("measures", "docs/measures.md", "phantom-test/report.json", measures),
    Block("implants", "docs/implants.md", "phantom-test/report.json", implants),
    Block("real-films", "docs/labelling.md", "real-check-real_lateral_dev/report.json", real_films),
    *(
        Block(f"measures-{part}", "docs/measures.md", f"{folder}/report.json", real_measures)
        for part, folder in (
            ("dev", "real-check-real_lateral_dev"),
            ("names", "real-check-real_lateral_names"),
        )
    ),
    Block("look-sacrum", "docs/phantom.md", "phantom-look/report.json", look_at_sacrum),
    Block("look-column", "docs/phantom.md", "phantom-look/report.json", look_at_column),
)


SPEED_PAGE, RESULTS = "docs/performance.md", "benchmarks/results"
"""The page of speed, and its records."""


def block_names(page: str) -> list[str]:
    """The names of a page's blocks, in order.

    Raises:
        FiguresError: A block is not ended, ends twice, or is there twice.
    """
    found: list[str] = []
    is_open = False
    for marker in _MARKER.finditer(page):
        if is_open is bool(marker["name"]):
            raise FiguresError(f"marker {marker[0]} is out of place")
        is_open = bool(marker["name"])
        if marker["name"]:
            found.append(marker["name"])
    if is_open:
        raise FiguresError(f"block {found[-1]} has no <!-- end -->")
    if len(set(found)) != len(found):
        raise FiguresError(f"a block is there twice: {', '.join(found)}")
    return found


def replaced(page: str, name: str, text: str) -> str:
    """The page with another text in one block.

    Raises:
        FiguresError: The markers are wrong, or the page has no such block.
    """
    if name not in block_names(page):
        raise FiguresError(f"no <!-- figures: {name} --> on the page; put it back")
    before, start, rest = page.partition(f"<!-- figures: {name} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    return f"{before}{start}{text}\n{end}{after}"


def read_record(path: Path) -> dict[str, Any]:
    """A ``report.json``, with the ``measures.json`` beside it.

    Raises:
        json.JSONDecodeError: One of them is no JSON.
        OSError: One of them cannot be read.
    """
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    beside = path.with_name("measures.json")
    if beside.is_file():
        record["measures"] = json.loads(beside.read_text(encoding="utf-8"))
    return record


def write(reports: Path, root: Path = ROOT) -> list[str]:
    """Writes every block whose record is there; returns one line a block.

    Raises:
        FiguresError: A page has no place for a block, or a record lacks a figure.
        OSError: A page or record cannot be read or written.
    """
    told = []
    titles: dict[str, str] = {}
    for block in BLOCKS:
        record_path, page_path = reports / block.record, root / block.page
        if not record_path.is_file():
            told.append(f"{block.page}: {block.name} stays, there is no {block.record}")
            continue
        try:
            record = read_record(record_path)
            text = block.text({**record, "titles": titles})
            for name, one in record.get("models", {}).items():
                titles.setdefault(name, one.get("title", name))
            page = page_path.read_text(encoding="utf-8")
            page_path.write_text(replaced(page, block.name, text), encoding="utf-8")
        except (KeyError, StopIteration, json.JSONDecodeError) as error:
            raise FiguresError(f"{block.record} lacks {error}; measure again") from error
        except (TypeError, AttributeError) as error:
            raise FiguresError(f"{block.record} is no report ({error}); measure again") from error
        except FiguresError as error:
            raise FiguresError(f"{block.page}: {error}") from error
        told.append(f"{block.page}: {block.name} written from {block.record}")
    return [*told, *write_speed(root)]


def write_speed(root: Path = ROOT) -> list[str]:
    """Writes every block of the page of speed; returns one line a block.

    Raises:
        FiguresError: The page has no place for a block, or a record lacks a figure.
        OSError: The page or a record cannot be read or written.
    """
    path, told = root / SPEED_PAGE, []
    page = path.read_text(encoding="utf-8")
    for name, text in SPEED_BLOCKS.items():
        try:
            page = replaced(page, name, text(records(root / RESULTS)))
        except FiguresError as error:
            raise FiguresError(f"{SPEED_PAGE}: {error}") from error
        except (KeyError, IndexError, TypeError, ValueError, StopIteration) as error:
            raise FiguresError(
                f"{RESULTS}: a record lacks what {name} shows ({error!r}); measure again"
            ) from error
        told.append(f"{SPEED_PAGE}: {name} written from {RESULTS}")
    path.write_text(page, encoding="utf-8")
    return told


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, or 2 when a page or record is wrong."""
    parser = argparse.ArgumentParser(description="Write the figures of the pages from reports.")
    parser.add_argument(
        "--reports", type=Path, default=ROOT / "reports", help="folder of the reports"
    )
    options = parser.parse_args(argv)
    try:
        print("\n".join(write(options.reports)))
    except (FiguresError, OSError) as error:
        print(f"figures.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
