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
"""A ``report.json``."""

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
    Block("real-films", "docs/labelling.md", "real-check-real_lateral_dev/report.json", real_films),
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
            record = json.loads(record_path.read_text(encoding="utf-8"))
            text = block.text({**record, "titles": titles})
            for name, one in record["models"].items():
                titles.setdefault(name, one.get("title", name))
            page = page_path.read_text(encoding="utf-8")
            page_path.write_text(replaced(page, block.name, text), encoding="utf-8")
        except (KeyError, StopIteration, json.JSONDecodeError) as error:
            raise FiguresError(f"{block.record} lacks {error}; measure again") from error
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
