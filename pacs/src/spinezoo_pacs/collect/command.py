"""``make collect QUERY=query.yaml OUT=folder``: films from a PACS, de-identified on arrival.

Films are in memory only until they have no patient any more. The set holds, beside the films,
``patients.csv`` (which film is of which pseudonym, for splitting by patient), ``manifest.jsonl`` (a
line each film that was looked at: kept, or left out and why; originals stand there as marks that
only the site's key can make) and ``report.json`` (what became of which attribute).
"""

# ruff: noqa: T201 - a command: its summary goes to the terminal.
from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread
from spinezoo_contract.client import EnsembleClient
from spinezoo_contract.errors import (
    BadInputError,
    ConfigurationError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.tls import client_settings
from spinezoo_contract.types import Film, FilmNoteCode, FilmView
from spinezoo_serving.disk import alone_in, append_line, disk_errors_named, replace_file
from spinezoo_spine.films.about import is_coded_lateral, is_other_part, is_region_coded
from tqdm import tqdm

from spinezoo_pacs.collect.archives import Archive, Fetched, Series, archive_of, is_uid
from spinezoo_pacs.collect.query import Query, read_query
from spinezoo_pacs.deidentify.film import AttributeReport, CleanFilm, SetAsideError, clean_film
from spinezoo_pacs.deidentify.keys import SiteKey
from spinezoo_pacs.quiet import silence_libraries

HEADER_REASONS = {
    FilmNoteCode.NOT_LATERAL: "header-not-lateral",
    FilmNoteCode.NOT_LUMBAR: "header-not-lumbar",
    FilmNoteCode.NOT_RADIOGRAPH: "header-no-radiograph",
}

LUMBAR_WORDS = ("SPINE", "LUMBAR", "LWS")
"""A series is fetched where its part of the body holds one of these and is no other part of the
spine, or where its header names none."""

NOT_WHOLE = "series-not-whole"
"""How series are counted that the archive did not send, or not whole."""

VIEWS = ("LL", "RL", "LAT", "LATERAL")


class Collection:
    """A folder that is being filled; what is in its manifest is not fetched again."""

    def __init__(self, out: Path, key: SiteKey) -> None:
        """Opens it, or makes it.

        Raises:
            ConfigurationError: It cannot be written, or its manifest is damaged.
        """
        self.out, self.key = out, key
        self.report = AttributeReport()
        try:
            out.mkdir(parents=True, exist_ok=True)
            for partial in out.glob("*.partial"):
                partial.unlink()
        except OSError as error:
            raise ConfigurationError(f"{out} cannot be written ({error.strerror})") from error
        self._manifest = out / "manifest.jsonl"
        self.lines = list(self._read())
        self.series_done = {line["series"] for line in self.lines if line["state"] == "series"}
        self.seen = {line["film_mark"]: line for line in self.lines if "film_mark" in line}

    def _read(self) -> Iterator[dict[str, Any]]:
        """Lines of the manifest; one that a kill cut off is dropped."""
        if not self._manifest.exists():
            return
        whole: list[dict[str, Any]] = []
        end = 0
        data = self._manifest.read_bytes()
        for raw in data.splitlines(keepends=True):
            if not raw.endswith(b"\n"):
                break
            try:
                line = json.loads(raw)
                known = line["state"] != "series" or line["series"]
            except (ValueError, KeyError, TypeError):
                known = False
            if not known:
                raise ConfigurationError(
                    f"{self._manifest}, line {len(whole) + 1}, is no line of a manifest; put back "
                    "the file as it was, or give another folder"
                )
            whole.append(line)
            end += len(raw)
        if end < len(data):
            with self._manifest.open("r+b") as file:
                file.truncate(end)
        yield from whole

    def add(self, **line: Any) -> None:
        """Appends a line to the manifest; it is on the disk when this returns."""
        append_line(self._manifest, json.dumps(line, sort_keys=True))
        self.lines.append(line)
        if "film_mark" in line:
            self.seen[line["film_mark"]] = line

    def keep(self, mark: str, series: str, clean: CleanFilm) -> None:
        """Writes a film, then its line."""
        name = f"{clean.patient}_{mark}.dcm"
        replace_file(self.out / name, clean.content)
        self.add(
            state="kept", film_mark=mark, series=series, film=name, patient=clean.patient,
            blanked_lines=clean.blanked_lines,
        )  # fmt: skip

    def finish(self, source: str) -> None:
        """Writes patients.csv and report.json from the manifest."""
        kept = sorted((line["film"], line["patient"]) for line in self.lines if self._kept(line))
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(("film", "patient"))
        writer.writerows(kept)
        replace_file(self.out / "patients.csv", buffer.getvalue())
        counts = Counter(
            line.get("reason", line["state"]) for line in self.lines if line["state"] != "series"
        )
        document = {
            "source": source,
            "films": dict(sorted(counts.items())),
            "patients": len({patient for _, patient in kept}),
            "attributes_this_run": self.report.as_dict(),
            "profile": "PS3.15 Basic Profile, Clean Pixel Data, Clean Descriptors, Retain "
            "Longitudinal Temporal Information with Modified Dates",
        }
        replace_file(self.out / "report.json", json.dumps(document, indent=1) + "\n")

    @staticmethod
    def _kept(line: dict[str, Any]) -> bool:
        return bool(line["state"] == "kept")


class Chooser:
    """Whether a film is a lateral lumbar one: by its header, else by what the zoo sees."""

    def __init__(self, gateway: str) -> None:
        """Opens the client where there is a gateway.

        Raises:
            ConfigurationError: TLS of the client is wrong.
        """
        self._zoo = EnsembleClient(gateway, **client_settings()) if gateway else None

    def series_reason(self, series: Series) -> str:
        """Why a series is not fetched at all; empty where it is."""
        if not is_uid(series.study_uid) or not is_uid(series.series_uid):
            return "series-without-uid"
        part = series.header.get("BodyPartExamined", "").strip().upper()
        lumbar = any(word in part for word in LUMBAR_WORDS) and not is_other_part(part)
        return "" if lumbar or not part else "series-not-lumbar"

    @staticmethod
    def header_reason(film: Film) -> str:
        """Why a film's header says that it is none of ours; empty where it does not."""
        codes = {note.code for note in film.notes}
        return next((name for code, name in HEADER_REASONS.items() if code in codes), "")

    def reason(self, film: Film, data: bytes) -> str:
        """Why a film is left out; empty where it is kept."""
        if said := self.header_reason(film):
            return said
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = dcmread(io.BytesIO(data), stop_before_pixels=True)
        view = str(header.get("ViewPosition") or "").strip().upper()
        part = str(header.get("BodyPartExamined") or "").strip().upper()
        lateral = view in VIEWS or is_coded_lateral(header)
        if lateral and (part or is_region_coded(header)):
            return ""
        if self._zoo is None:
            return "header-silent"
        answer = self._zoo.segment(Film(film.pixels, film.row_spacing_mm, film.column_spacing_mm))
        labelling = answer.fused.labelling
        seen = labelling.film if labelling is not None else None
        if seen is None or not labelling or not labelling.vertebrae:
            return "zoo-sees-no-column"
        return "" if seen.view is FilmView.LATERAL else f"zoo-sees-{seen.view.name.lower()}"


def collect(query: Query, out: Path, archive: Archive) -> Counter[str]:
    """Collects; returns what became of the films of this run, by name.

    Raises:
        SpineZooError: The archive or the gateway cannot be reached; run again to go on.
    """
    if out.resolve() in query.key.resolve().parents:
        raise ConfigurationError("key: the key lies in the set; keep it elsewhere")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(alone_in(out, "another collection"))
        except OSError as error:
            raise ConfigurationError(f"{out} cannot be written ({error.strerror})") from error
        return _collect(query, out, archive)


def _collect(query: Query, out: Path, archive: Archive) -> Counter[str]:
    key = SiteKey.open(query.key)
    collection, chooser = Collection(out, key), Chooser(query.gateway)
    counts: Counter[str] = Counter()
    kept = sum(line["state"] == "kept" for line in collection.lines)
    source = query.pacs.ae_title if query.pacs is not None else "DICOMweb"
    pause_s = 60.0 / query.films_per_minute if query.films_per_minute else 0.0
    all_series = sorted(archive.search(), key=lambda each: (each.study_uid, each.series_uid))
    for series in tqdm(all_series, unit="series", disable=None):
        mark = key.mark("series", series.series_uid)
        if mark in collection.series_done:
            continue
        if query.most_films and kept >= query.most_films:
            break
        reason = chooser.series_reason(series)
        fetched = Fetched([]) if reason else archive.fetch(series)
        if reason:
            collection.add(state="left_out", series=mark, reason=reason)
            counts[reason] += 1
        for data in fetched.films:
            what = _take(data, mark, collection, chooser, key)
            counts[what] += 1
            kept += what == "kept"
        if fetched.why_not_whole:  # the next run asks for it again
            counts[NOT_WHOLE] += 1
            tqdm.write(f"a series did not come whole: {fetched.why_not_whole}", file=sys.stderr)
        else:
            collection.add(state="series", series=mark, films=len(fetched.films))
        time.sleep(pause_s * len(fetched.films))
    collection.finish(source)
    return counts


def _take(data: bytes, series: str, collection: Collection, chooser: Chooser, key: SiteKey) -> str:
    """One film; returns what became of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = dcmread(io.BytesIO(data), specific_tags=["SOPInstanceUID"])
            uid = str(header.get("SOPInstanceUID") or "")
        except Exception:  # an archive may hold and send anything
            uid = ""
    mark = key.mark("film", uid or hashlib.sha256(data).hexdigest())
    if mark in collection.seen:
        return "known"
    try:
        if not uid:
            raise SetAsideError("no-dicom")
        report = AttributeReport()
        clean = clean_film(data, key, report)
        # Of the cleaned pixels: text that was burned in goes nowhere.
        reason = chooser.reason(clean.film, data)
    except SetAsideError as error:
        reason = (chooser.header_reason(error.film) if error.film else "") or error.reason
    except (BadInputError, TooLargeError) as error:
        reason = f"zoo-refuses-{type(error).__name__}"
    if reason:
        collection.add(state="left_out", film_mark=mark, series=series, reason=reason)
        return reason
    for name in ("kept", "changed", "removed"):
        getattr(collection.report, name).update(getattr(report, name))
    collection.keep(mark, series, clean)
    return "kept"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_pacs.collect.command",
        description="Collect lateral lumbar films from a PACS, de-identified on arrival.",
    )
    parser.add_argument("--query", type=Path, required=True, help="YAML file; see docs/pacs.md")
    parser.add_argument("--out", type=Path, required=True, help="folder of the set")
    options = parser.parse_args(arguments)
    silence_libraries()
    try:
        with disk_errors_named():
            query = read_query(options.query)
            counts = collect(query, options.out, archive_of(query))
    except SpineZooError as error:
        print(f"stopped: {error}\nrun the same command again to go on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    for name, number in sorted(counts.items()):
        print(f"{number:6d}  {name}")
    print(options.out)
    if counts[NOT_WHOLE]:
        print("run the same command again for the series that did not come whole", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
