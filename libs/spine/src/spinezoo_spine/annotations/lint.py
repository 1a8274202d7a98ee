"""Checks outlines: ``make check DATA=folder``, or ``python -m spinezoo_spine.annotations.lint``.

Every finding names film, region and rule (:data:`~spinezoo_spine.annotations.rules.RULES`).
Errors stop what reads the outlines, warnings do not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from spinezoo_contract.errors import AnnotationError, FilmError, SpineZooError, TooLargeError
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.types import Structure
from spinezoo_contract.words import counted
from spinezoo_serving.disk import disk_errors_named

from spinezoo_spine.annotations.film_names import FilmNames
from spinezoo_spine.annotations.folder import (
    PREFERRED_ANNOTATIONS,
    find_annotations,
    find_films,
    find_films_below,
    find_pictures,
    read_annotations_raw,
    why_not_taken,
)
from spinezoo_spine.annotations.options import add_outline_options, outline_options
from spinezoo_spine.annotations.outline_findings import lint_annotations
from spinezoo_spine.annotations.regions import RawAnnotation
from spinezoo_spine.annotations.rules import RULES, Finding
from spinezoo_spine.annotations.text import shown
from spinezoo_spine.films.reader import read_film_file_size

READERS = 4
"""Threads that read the headers of films."""


@dataclass(frozen=True, slots=True, eq=False)
class CheckedFolder:
    """A folder of films with its annotation file, checked.

    Attributes:
        annotations_path: The annotation file.
        film_paths: Film files by name; those of sub-folders only as far as entries mean them.
        entries: The file's films under the names of their film files; without a film, their own.
        sizes: (height, width) of each film that can be read, by name.
        findings: Everything that is wrong or worth knowing.
    """

    annotations_path: Path
    film_paths: Mapping[str, Path]
    entries: tuple[RawAnnotation, ...]
    sizes: Mapping[str, tuple[int, int]]
    findings: tuple[Finding, ...]


def _sizes(
    films: Mapping[str, Path],
) -> tuple[dict[str, tuple[int, int]], list[Finding]]:
    """(height, width) of films by name, and a finding for each that cannot be read."""

    def read(name: str) -> tuple[int, int] | Finding:
        try:
            return read_film_file_size(films[name])
        except (FilmError, TooLargeError) as error:
            return Finding(name, None, "unreadable-film", f"cannot be read: {error}")

    sizes, unreadable = {}, []
    with ThreadPoolExecutor(READERS) as pool:
        for name, found in zip(films, pool.map(read, films), strict=True):
            if isinstance(found, Finding):
                unreadable.append(found)
            else:
                sizes[name] = found
    return sizes, unreadable


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def check_folder(
    folder: str | os.PathLike[str],
    annotations: str | os.PathLike[str] | None = None,
    *,
    class_attribute: str | None = None,
    classes: Mapping[str, Structure] | None = None,
) -> CheckedFolder:
    """Reads a folder's annotation file, matches its entries to films and checks everything.

    Args:
        folder: The films' folder.
        annotations: The annotation file; None looks for it in the folder.
        class_attribute: Attribute that holds the class; None finds it.
        classes: Further class names.

    Raises:
        FilmError: The folder is none or holds no film.
        AnnotationError: The annotation file is missing, cannot be read at all, or two of its
            entries mean one film.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FilmError(f"{folder} is not a folder; give the folder that holds the films")
    films = find_films(folder)
    path = None if annotations is None else Path(annotations)
    below: Mapping[str, Path] = {}
    if not films:
        below = find_films_below(folder)
    if not films and not below:
        raise FilmError(
            f"folder {folder.name!r} holds no film; put DICOM, PNG, JPEG or TIFF files there"
        )
    path = path or find_annotations(folder)
    raw = read_annotations_raw(path, class_attribute=class_attribute, classes=classes)
    pictures = find_pictures(folder)
    names = FilmNames(films, pictures, folder.name)
    if any(_may_lie_below(entry.film_name, names) for entry in raw):
        below = below or find_films_below(folder)
        names = FilmNames([*films, *below], pictures, folder.name)
    entries, meant, missing = _matched(raw, names, path.name)
    # Of sub-folders only what is meant counts, and its neighbours.
    used = {name.rpartition("/")[0] for name in meant if "/" in name}
    films |= {name: file for name, file in below.items() if name.rpartition("/")[0] in used}
    sizes, unreadable = _sizes(films)
    lost = {finding.film for finding in unreadable}
    findings = []
    for finding in lint_annotations(
        entries,
        sizes,
        classes=classes,
        file_bytes={name: _bytes_of(file) for name, file in films.items()},
    ):
        if finding.rule == "no-film":
            if finding.film in lost:
                continue
            finding = replace(finding, message=missing[finding.film])
        findings.append(finding)
    findings += _lint_same({name: films[name] for name in meant})
    findings += _lint_left_over(films, meant, pictures, path.name)
    order = {name: place for place, name in enumerate(films)}
    unreadable.sort(key=lambda finding: order[finding.film])
    return CheckedFolder(path, films, tuple(entries), sizes, (*unreadable, *findings))


_PIECE_BYTES = 65_536
"""Bytes from the middle of films that are compared before whole files are."""


def _lint_same(films: Mapping[str, Path]) -> Iterator[Finding]:
    """Films that are one file under several names, as copies or links."""
    alike: dict[object, list[str]] = {}
    for name, path in films.items():
        alike.setdefault(_bytes_of(path), []).append(name)
    for key_of in (_piece, _digest):
        groups = [names for size, names in alike.items() if size and len(names) > 1]
        alike = {}
        for place, names in enumerate(groups):
            for name in names:
                key = key_of(films[name])
                if key is not None:
                    alike.setdefault((place, key), []).append(name)
    for first, *others in alike.values():
        for name in others:
            yield Finding(
                name,
                None,
                "same-film",
                f"is the same file as film {shown(first)!r} and counts as another one; remove one",
            )


def _piece(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _PIECE_BYTES) // 2)
            return file.read(_PIECE_BYTES)
    except OSError:
        return None


def _digest(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None


def _may_lie_below(name: str, names: FilmNames) -> bool:
    """Whether a name of the annotation file may mean a film in a sub-folder."""
    if "/" in name or "\\" in name:
        return True
    match = names.match(name)
    return match.film is None or bool(match.doubt)


def _matched(
    raw: Iterable[RawAnnotation], names: FilmNames, file_name: str
) -> tuple[list[RawAnnotation], dict[str, str], dict[str, str]]:
    """Entries under the names of the films that they mean.

    Args:
        raw: As read.
        names: The folder's films.
        file_name: Of the annotation file.

    Returns:
        The entries; by film that is meant, the name its entry gives; by the name of each entry
        without a film, which keeps it, why there is none.

    Raises:
        AnnotationError: Two entries mean one film.
    """
    entries: list[RawAnnotation] = []
    meant: dict[str, str] = {}
    missing: dict[str, str] = {}
    for entry in raw:
        match = names.match(entry.film_name)
        if match.film is None:
            missing[entry.film_name] = match.why_not
            entries.append(entry)
            continue
        if match.film in meant:
            raise AnnotationError(
                f"{file_name}: {shown(meant[match.film])!r} and {shown(entry.film_name)!r} both "
                f"mean film {shown(match.film)!r}: it has two entries; keep one, or name the films "
                "with their folders"
            )
        meant[match.film] = entry.film_name
        doubts = (("name-differs", match.doubt),) if match.doubt else ()
        entries.append(replace(entry, film_name=match.film, doubts=(*entry.doubts, *doubts)))
    return entries, meant, missing


def _lint_left_over(
    films: Iterable[str], meant: Collection[str], pictures: Iterable[str], file_name: str
) -> Iterator[Finding]:
    """Films without an entry, and pictures that are not taken."""
    advice = f"has no entry in {file_name}; outline it, or it is left out"
    for name in films:
        if name not in meant:
            yield Finding(name, None, "no-entry", advice)
    for name in pictures:
        yield Finding(name, None, "not-taken", why_not_taken(name))


def lint_folder(
    folder: str | os.PathLike[str],
    annotations: str | os.PathLike[str] | None = None,
    *,
    class_attribute: str | None = None,
    classes: Mapping[str, Structure] | None = None,
) -> list[Finding]:
    """Everything that is wrong in a folder; see :func:`check_folder` for arguments and errors."""
    checked = check_folder(folder, annotations, class_attribute=class_attribute, classes=classes)
    return list(checked.findings)


def _what_was_read(checked: CheckedFolder) -> str:
    """The file, what it holds, and which other files of outlines beside it were not looked at."""
    path, outlines = checked.annotations_path, sum(len(entry.regions) for entry in checked.entries)
    beside = (path.with_name(name) for name in PREFERRED_ANNOTATIONS if name != path.name)
    others = ", ".join(other.name for other in beside if other.is_file())
    unread = f" ({others} not read)" if others else ""
    return f"{path.name}{unread}, films {len(checked.entries)}, outlines {outlines}"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns 0 without errors, 1 with some, 2 if nothing can be read."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_spine.annotations.lint",
        description="Checks the outlines of a folder of films with a VIA or COCO file.",
    )
    parser.add_argument("folder", help="folder that holds the films")
    parser.add_argument("--annotations", help="VIA or COCO file; found in the folder by itself")
    add_outline_options(parser, skip=False)
    arguments = parser.parse_args(argv)
    options = outline_options(arguments)
    try:
        with disk_errors_named():
            checked = check_folder(
                arguments.folder,
                arguments.annotations,
                class_attribute=options.class_attribute,
                classes=options.classes,
            )
    except SpineZooError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    findings = checked.findings
    errors = sum(finding.is_error for finding in findings)
    for finding in findings:
        sys.stdout.write(f"{RULES[finding.rule].weight.value}: {finding}\n")
    warnings = len(findings) - errors
    told = (
        f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
        if findings
        else "nothing is wrong"
    )
    sys.stdout.write(f"{_what_was_read(checked)}: {told}\n")
    return 1 if errors else 0


if __name__ == "__main__":
    end_with_reader()
    raise SystemExit(main())
