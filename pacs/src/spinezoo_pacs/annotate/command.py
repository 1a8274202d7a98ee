"""``make annotate DATA=folder``: first outlines by the zoo, for people to correct in VIA.

Writes ``folder-annotate/``: a VIA 2 project, most disputed films first, and a PNG of each film for
VIA to show. A person corrects outlines and sets their status; then ``make annotate DATA=folder
ARGS=--finish`` writes ``folder/via.json`` with the films of which every outline was corrected or
approved. That file is what ``make check``, ``make train`` and ``make benchmark`` take; what nobody
has looked at never gets there.
"""

# ruff: noqa: T201 - a command: its summary goes to the terminal.
from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from spinezoo_contract.client import DEFAULT_GATEWAY, EnsembleClient
from spinezoo_contract.errors import (
    AnnotationError,
    BadInputError,
    SpineZooError,
    TooLargeError,
)
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.tls import client_settings
from spinezoo_contract.types import VERTEBRAE, EnsembleAnswer, Film
from spinezoo_contract.words import counted
from spinezoo_serving.disk import alone_in, disk_errors_named, replace_file
from spinezoo_spine.annotations.folder import find_films, find_pictures, why_not_taken
from spinezoo_spine.annotations.text import shown
from spinezoo_spine.films.reader import read_film_file, read_film_file_size
from tqdm import tqdm

from spinezoo_pacs.annotate.label_studio import read_tasks, write_tasks
from spinezoo_pacs.annotate.project import (
    PREDICTED,
    STATUSES,
    Outline,
    Picture,
    is_ours,
    project,
    read_project,
    structure_name,
)
from spinezoo_pacs.quiet import silence_libraries
from spinezoo_pacs.results.findings import Finding, findings_of, verdict_of
from spinezoo_pacs.results.identity import zoo_version
from spinezoo_pacs.results.outline import polygon_of

PROJECT = "via_project.json"

KEPT_EVERY_S = 10.0
"""How often what was answered is written, in s: a kill costs no more."""

_ANOTHER = "another `make annotate`"


def tolerance_px(finding: Finding) -> float:
    """How far a first outline may leave the mask's border: 1.5 % of the outline's size, in px."""
    return max(1.1, 0.015 * float(np.sqrt(finding.mask.area)))


def picture_name(film_name: str) -> str:
    """Name of a film's picture, without its suffix.

    VIA takes it for an address, in which ``#``, ``?`` and ``%`` stand for something else.
    """
    plain = re.sub(r"[^\w. ()+,@=-]", "_", film_name)[:60]
    if plain == film_name:
        return plain
    return (
        f"{plain}-{hashlib.sha256(film_name.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
    )


def dispute(answer: EnsembleAnswer) -> float:
    """How much networks and reader disagree on a film, 0 to 2; the greatest first.

    One minus the mean IoU of the networks' vertebral pixels, pair by pair, and one minus the mean
    probability of the names.
    """
    masks = []
    for member in answer.members:
        if member.prediction is None:
            continue
        pixels = np.zeros((answer.height, answer.width), dtype=bool)
        for segment in member.prediction.segments:
            if segment.structure in VERTEBRAE:
                pixels |= decode_mask(segment.mask)
        masks.append(pixels)
    ious = [
        float((one & two).sum()) / max(1, int((one | two).sum()))
        for one, two in combinations(masks, 2)
    ]
    apart = 1.0 - float(np.mean(ious)) if ious else 1.0
    labelling = answer.fused.labelling
    names = [each.confidence for each in labelling.vertebrae] if labelling is not None else []
    unsure = 1.0 - float(np.mean(names)) if names else 1.0
    return apart + unsure


def outlines_of(answer: EnsembleAnswer, made_at: str) -> tuple[Outline, ...]:
    """The answer's vertebrae and implants as outlines with few points."""
    version = zoo_version(answer)
    found = []
    for finding in findings_of(answer):
        attributes: dict[str, str] = {
            "structure": structure_name(finding.structure),
            "status": PREDICTED,
            "source": "fused: " + ", ".join(finding.member_names),
            "source_version": version,
            "made_at": made_at,
            "confidence": f"{finding.score:.3f}",
        }
        if finding.level is not None and finding.structure in VERTEBRAE:
            attributes["level"] = finding.level
        found.append(Outline(polygon_of(finding.mask, tolerance_px(finding)), attributes))
    return tuple(found)


def annotate(data: Path, work: Path, gateway: str) -> Path:
    """Asks the zoo about every film of a folder and writes the project.

    What a person has already worked on is not overwritten: films of an existing project stay as
    they are, also those that are not in the folder now, and those that a person saves meanwhile;
    new ones are added. What was answered before a failure is in the project, and what was answered
    :data:`KEPT_EVERY_S` before a kill, so that the same command goes on.

    Raises:
        SpineZooError: The gateway cannot be reached, another command works there, or there is no
            film.
    """
    films = find_films(data)
    if not films:
        raise AnnotationError(f"{data} holds no film; give the folder of a set")
    with alone_in(work, _ANOTHER):
        refused = [f"{shown(name)}: {why_not_taken(name)}" for name in find_pictures(data)]
        return _annotate(films, refused, work, gateway)


def _annotate(films: Mapping[str, Path], refused: list[str], work: Path, gateway: str) -> Path:
    (work / "png").mkdir(parents=True, exist_ok=True)
    path = work / PROJECT
    before = _by_name(path)
    answered: dict[str, Picture] = {}

    def keep() -> None:
        # A person may have saved the project since it was read.
        pictures = answered | (_by_name(path) if path.exists() else before)
        if pictures:
            _write(path, project(sorted(pictures.values(), key=_disputed, reverse=True)))

    kept = time.monotonic()
    try:
        with EnsembleClient(gateway, **client_settings()) as zoo:
            for name, film_path in tqdm(films.items(), unit="film", disable=None):
                if name in before:
                    continue
                if time.monotonic() - kept > KEPT_EVERY_S:
                    keep()
                    kept = time.monotonic()
                try:
                    answered[name] = _asked(zoo, name, film_path, work / "png")
                except (BadInputError, TooLargeError) as error:
                    refused.append(f"{name}: {error}")
    finally:  # what was answered is kept, also where the gateway goes or a person stops
        keep()
    for line in refused:
        print(f"left out: {line}", file=sys.stderr)
    return path


def _by_name(path: Path) -> dict[str, Picture]:
    """Pictures of a project by film; none where there is no project yet."""
    return {each.film_name: each for each in read_project(path)} if path.exists() else {}


def _asked(zoo: EnsembleClient, name: str, film_path: Path, folder: Path) -> Picture:
    """First outlines of one film, and its picture.

    Raises:
        BadInputError: The film cannot be read, or no polygon made of an outline.
        TooLargeError: It is over a limit.
        SpineZooError: The gateway does not answer.
    """
    film = read_film_file(film_path)
    answer = zoo.segment(film_path)
    outlines = outlines_of(answer, datetime.now(UTC).isoformat(timespec="seconds"))
    picture = folder / f"{picture_name(name)}.png"
    _write_png(picture, film)
    verdict = verdict_of(answer)
    attributes = {
        "film_status": "open",
        "dispute": f"{dispute(answer):.3f}",
        # Outlines of another size than the film's are an error of `make check`.
        "height": str(film.height),
        "width": str(film.width),
    }
    if not verdict.trusted:
        attributes["doubt"] = " ".join(verdict.refusals)
    size_bytes = picture.stat().st_size
    return Picture(name, f"png/{picture.name}", size_bytes, outlines, attributes)


def _disputed(picture: Picture) -> float:
    """How much networks disagree; 0 where a person has written something else there."""
    try:
        return float(picture.attributes.get("dispute") or 0)
    except (TypeError, ValueError):
        return 0.0


def finish(data: Path, work: Path) -> tuple[int, int]:
    """Writes ``via.json`` with the films that a person has finished.

    Returns:
        Films that are finished, and films that are not.

    Raises:
        AnnotationError: There is no project, it is damaged, a status is none, or the set has a
            ``via.json`` that was not written here.
    """
    pictures = read_project(work / PROJECT)
    films = find_films(data)
    for each in pictures:
        for number, outline in enumerate(each.outlines):
            if outline.status not in STATUSES:
                raise AnnotationError(
                    f"film {shown(each.film_name)!r}, region {number}: its status is "
                    f"{shown(outline.status)!r}; choose {', '.join(STATUSES)}"
                )
    done = [each for each in pictures if each.finished]
    for each in done:
        if each.film_name not in films:
            raise AnnotationError(f"film {each.film_name!r} of the project is not in {data}")
    entries = [
        Picture(
            each.film_name,
            each.film_name,
            films[each.film_name].stat().st_size,
            tuple(_with_status(outline) for outline in each.outlines),
            each.attributes,
        )
        for each in done
    ]
    target = data / "via.json"
    if entries and target.exists() and not is_ours(target):
        raise AnnotationError(
            f"{target} was not written by `make annotate`, and would be overwritten; move it away"
        )
    if entries:
        _write(target, project(entries))
    return len(done), len(pictures) - len(done)


def take_in(source: Path, work: Path) -> tuple[int, int]:
    """Takes an export of Label Studio into the project; films that are not in it stay.

    Label Studio leaves out tasks that nobody has worked on, and those that a filter hides.

    Returns:
        Films that were taken, and films of the project that stay as they were.

    Raises:
        AnnotationError: Export or project cannot be read.
        ConfigurationError: Another command works there.
    """
    with alone_in(work, _ANOTHER):
        return _take_in(source, work / PROJECT)


def _take_in(source: Path, path: Path) -> tuple[int, int]:
    taken = {each.film_name: each for each in read_tasks(source)}
    before = read_project(path) if path.exists() else []
    known = {each.film_name for each in before}
    pictures = [taken.get(each.film_name, each) for each in before]
    pictures += [each for name, each in taken.items() if name not in known]
    _write(path, project(pictures))
    return len(taken), len(known - taken.keys())


def export(data: Path, work: Path, target: Path) -> None:
    """Writes the project as tasks of Label Studio.

    Raises:
        AnnotationError: There is no project, or a film of it is gone.
    """
    pictures, films = read_project(work / PROJECT), find_films(data)
    for each in pictures:
        if each.film_name not in films:
            raise AnnotationError(f"film {each.film_name!r} of the project is not in {data}")
    sizes = {each.film_name: read_film_file_size(films[each.film_name]) for each in pictures}
    write_tasks(target, pictures, sizes)


def _with_status(outline: Outline) -> Outline:
    return Outline(outline.points_xy, {**outline.attributes, "status": outline.status})


def _write_png(path: Path, film: Film) -> None:
    values = film.pixels.astype(np.float32)
    low, high = (float(each) for each in np.percentile(values[::4, ::4], (0.2, 99.8)))
    high = high if high > low else low + 1.0
    shown = np.clip((values - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)
    done, content = cv2.imencode(".png", shown)
    if not done:
        raise AnnotationError(f"{path.name} cannot be made a picture; leave the film out")
    replace_file(path, content.tobytes())


def _write(path: Path, document: object) -> None:
    replace_file(path, json.dumps(document, indent=1) + "\n")


def _run(options: argparse.Namespace, data: Path, work: Path) -> int:
    """Does what the options ask for; returns the exit status."""
    if options.finish:
        done, left = finish(data, work)
        print(f"{counted(done, 'film')} finished, {left} not yet")
        print(data / "via.json" if done else "nothing written")
        return 0 if done else 1
    if options.to_label_studio is not None:
        export(data, work, options.to_label_studio)
        print(options.to_label_studio)
        return 0
    if options.from_label_studio is not None:
        taken, left = take_in(options.from_label_studio, work)
        print(f"{counted(taken, 'film')} taken, {left} left unchanged")
        print(work / PROJECT)
        return 0
    print(annotate(data, work, options.gateway))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_pacs.annotate.command",
        description="First outlines by the zoo, for people to correct in VIA.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of films")
    parser.add_argument("--work", type=Path, help="folder of the project (default DATA-annotate)")
    parser.add_argument("--gateway", default=DEFAULT_GATEWAY, help="gRPC target of the zoo")
    parser.add_argument(
        "--finish", action="store_true", help="write via.json from what people corrected"
    )
    parser.add_argument(
        "--to-label-studio", type=Path, metavar="FILE", help="write the project as tasks"
    )
    parser.add_argument(
        "--from-label-studio", type=Path, metavar="FILE", help="take its JSON into the project"
    )
    options = parser.parse_args(arguments)
    data = options.data.resolve()
    work = options.work or data.with_name(data.name + "-annotate")
    silence_libraries()
    try:
        with disk_errors_named():
            return _run(options, data, work)
    except SpineZooError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was answered is kept, the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
