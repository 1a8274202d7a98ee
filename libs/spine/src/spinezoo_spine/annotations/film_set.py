"""A folder of films with their outlines, opened without decoding anything."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from spinezoo_contract.errors import AnnotationError, FilmError
from spinezoo_contract.types import Film, Structure
from spinezoo_contract.words import counted

from spinezoo_spine.annotations.folder import (
    PREFERRED_ANNOTATIONS,
    find_annotations,
    find_films,
    match_film,
    read_annotations_raw,
)
from spinezoo_spine.annotations.lint import CheckedFolder, check_folder
from spinezoo_spine.annotations.regions import FilmAnnotation, RawAnnotation, judge
from spinezoo_spine.annotations.rules import Finding
from spinezoo_spine.films.reader import (
    read_film_file,
    read_film_file_size,
)

__all__ = [
    "PREFERRED_ANNOTATIONS",
    "FilmSet",
    "describe_film_set",
    "find_annotations",
    "find_films",
    "match_film",
    "read_annotations_raw",
]

SHOWN_FINDINGS = 20
"""Findings that an error lists; `make check` lists all."""


@dataclass(frozen=True, slots=True, eq=False)
class FilmSet:
    """Films and their outlines.

    Attributes:
        folder: Where the films are.
        annotations_path: The annotation file, or None where outlines were not asked for.
        film_paths: Film files by name.
        annotations: Outlines by film name; a film may have none.
        findings: What was found wrong and did not stop the opening: warnings, films that cannot be
            read, and with ``skip_bad_regions`` the errors of what was skipped.
        left_out: Why films and entries are not among :attr:`names`, by name.
    """

    folder: Path
    annotations_path: Path | None
    film_paths: Mapping[str, Path]
    annotations: Mapping[str, FilmAnnotation]
    findings: tuple[Finding, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        annotations: str | os.PathLike[str] | None = None,
        *,
        class_attribute: str | None = None,
        classes: Mapping[str, Structure] | None = None,
        skip_bad_regions: bool = False,
    ) -> FilmSet:
        """Opens a folder of DICOM, PNG, JPEG or TIFF films with one VIA or COCO file.

        The outlines are checked first; see :mod:`spinezoo_spine.annotations.rules`. An error
        stops the opening, because a truth that silently is wrong or goes unused would change
        every figure. A film that cannot be read does not: it fails when it is read. Films without
        an entry in the file are left out of :attr:`names`.

        Args:
            folder: The films' folder.
            annotations: The annotation file; None looks for it in the folder.
            class_attribute: Attribute that holds the class; None finds it.
            classes: Further class names.
            skip_bad_regions: Leave out regions with errors instead of stopping, and films that are
                not there, of another size than the file says, or left without any region. Each is
                in :attr:`findings`.

        Raises:
            FilmError: The folder is none or holds no film.
            AnnotationError: No or a wrong annotation file; a film is missing; a region is wrong.
        """
        folder = Path(folder)
        checked = check_folder(
            folder, annotations, class_attribute=class_attribute, classes=classes
        )
        path = checked.annotations_path
        stopping = [f for f in checked.findings if f.is_error and f.rule != "unreadable-film"]
        if stopping and not skip_bad_regions:
            raise AnnotationError(f"{path.name}: {_listed(stopping)}")
        left_out = {
            finding.film: finding.message
            for finding in checked.findings
            if finding.rule in ("no-entry", "not-taken")
        }
        judged = {}
        for entry in _sound_entries(checked, stopping, left_out):
            judged[entry.film_name] = judge(entry, classes)
        return cls(folder, path, checked.film_paths, judged, checked.findings, left_out)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the films that have an entry in the annotation file, sorted."""
        return tuple(sorted(self.annotations))

    @property
    def unannotated(self) -> tuple[str, ...]:
        """Names of film files without an entry, sorted."""
        return tuple(sorted(set(self.film_paths) - set(self.annotations)))

    def path(self, name: str) -> Path:
        """The file of a film.

        Raises:
            FilmError: There is no such film.
        """
        try:
            return self.film_paths[name]
        except KeyError:
            raise FilmError(f"film {name!r} is not in folder {self.folder.name!r}") from None

    def film(self, name: str) -> Film:
        """Decodes one film.

        Raises:
            FilmError: It is missing or wrong; the message names it.
            TooLargeError: It is over a limit.
        """
        return read_film_file(self.path(name))

    def film_size(self, name: str) -> tuple[int, int]:
        """(height, width) of one film by its header.

        Raises:
            FilmError: It is missing or wrong; the message names it.
            TooLargeError: It is over a limit.
        """
        return read_film_file_size(self.path(name))

    def annotation(self, name: str) -> FilmAnnotation:
        """The outlines of one film.

        Raises:
            AnnotationError: The film has no entry in the annotation file.
        """
        try:
            return self.annotations[name]
        except KeyError:
            raise AnnotationError(
                f"film {name!r} has no outlines; annotate it or leave it out"
            ) from None


def _listed(findings: Sequence[Finding]) -> str:
    """Errors that stop, as one message."""
    if len(findings) == 1:
        return findings[0].sentence
    lines = [finding.sentence for finding in findings[:SHOWN_FINDINGS]]
    if len(findings) > SHOWN_FINDINGS:
        lines.append(f"and {len(findings) - SHOWN_FINDINGS} more")
    return "\n  ".join(
        [
            f"{len(findings)} errors; correct them (make check lists all), or go on without these "
            "regions by --skip-bad-regions:",
            *lines,
        ]
    )


def _sound_entries(
    checked: CheckedFolder, errors: Sequence[Finding], left_out: dict[str, str]
) -> list[RawAnnotation]:
    """The entries without what is wrong; adds to ``left_out`` films of which nothing stays."""
    films = {finding.film: finding for finding in errors if finding.region_index is None}
    regions = {(f.film, f.region_index) for f in errors if f.region_index is not None}
    sound = []
    for entry in checked.entries:
        name = entry.film_name
        if name in films:
            left_out[name] = f"{films[name].rule}: {films[name].message}"
            continue
        kept = tuple(r for r in entry.regions if (name, r.index) not in regions)
        if entry.regions and not kept:
            left_out[name] = (
                f"of its {counted(len(entry.regions), 'region')} none is without an error"
            )
            continue
        sound.append(replace(entry, regions=kept))
    return sound


def describe_film_set(folder: Path) -> dict[str, object]:
    """What a model card says of the films of a folder, so that a stranger can get the same ones.

    Returns:
        ``folder`` (its last part), ``annotations_sha256`` (digest of the annotation file) and,
        for phantom films, ``phantom`` with generator version, seed and count.

    Raises:
        AnnotationError: The folder has no annotation file.
    """
    annotations = find_annotations(folder)
    found: dict[str, object] = {
        "folder": folder.resolve().name,
        "annotations_sha256": hashlib.sha256(annotations.read_bytes()).hexdigest(),
    }
    recipe = folder / "phantom.json"
    if recipe.is_file():
        content = json.loads(recipe.read_text(encoding="utf-8"))
        found["phantom"] = {key: content.get(key) for key in ("generator", "seed", "count")}
    return found
