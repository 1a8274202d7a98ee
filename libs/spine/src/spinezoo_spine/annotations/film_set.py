"""A folder of films with their outlines, opened without decoding anything."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spinezoo_contract.errors import AnnotationError, FilmError
from spinezoo_contract.types import Film, Structure

from spinezoo_spine.annotations.coco import is_coco, read_coco_raw
from spinezoo_spine.annotations.regions import FilmAnnotation, RawAnnotation, judge, read_json
from spinezoo_spine.annotations.via import films_of_json, read_via_raw
from spinezoo_spine.films.reader import (
    DEFAULT_LIMITS,
    FILM_SUFFIXES,
    FilmLimits,
    kind_of,
    read_film_file,
    read_film_file_size,
)

PREFERRED_ANNOTATIONS = ("via.json", "via.csv", "coco.json")
"""Annotation files that win where a folder holds several, in this order."""


def find_films(folder: Path) -> dict[str, Path]:
    """Film files of a folder by name, sorted; sub-folders and hidden files are left out.

    A file without one of the usual endings counts when its first bytes are those of a film, as
    DICOM files often have no ending.
    """
    films = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        suffix = path.suffix.lower()
        if suffix in FILM_SUFFIXES:
            films[path.name] = path
        elif suffix in ("", ".ima") or suffix[1:].isdigit() or len(suffix) > 6:
            with path.open("rb") as file:
                if kind_of(file.read(4096)) == "dicom":
                    films[path.name] = path
    return films


def _is_annotation_file(path: Path) -> bool:
    """Whether a JSON or CSV file looks like VIA or COCO."""
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = file.read(4096)
        return "region_shape_attributes" in head or "metadata_id" in head
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    try:
        return is_coco(value) or films_of_json(value) is not None
    except AnnotationError:
        return True  # meant as VIA, and wrong: reading it will say how


def find_annotations(folder: Path) -> Path:
    """The annotation file of a folder.

    Raises:
        AnnotationError: There is none, or several and none has a preferred name.
    """
    for name in PREFERRED_ANNOTATIONS:
        if (folder / name).is_file():
            return folder / name
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".json", ".csv")
        and not path.name.startswith(".")
        and path.is_file()
        and _is_annotation_file(path)
    ]
    if not found:
        raise AnnotationError(
            f"folder {folder.name!r} has no VIA or COCO file; put the outlines there as via.json"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise AnnotationError(
            f"folder {folder.name!r} has several annotation files ({names}); "
            "name the one to use, or call it via.json"
        )
    return found[0]


def read_annotations_raw(
    path: Path,
    *,
    class_attribute: str | None = None,
    classes: Mapping[str, Structure] | None = None,
) -> tuple[RawAnnotation, ...]:
    """A VIA or COCO file, unjudged.

    Raises:
        AnnotationError: It is neither, or damaged.
    """
    if path.suffix.lower() == ".json":
        value = read_json(path)
        if is_coco(value):
            return read_coco_raw(path)
    return read_via_raw(path, class_attribute=class_attribute, classes=classes)


@dataclass(frozen=True, slots=True, eq=False)
class FilmSet:
    """Films and their outlines.

    Attributes:
        folder: Where the films are.
        annotations_path: The annotation file, or None where outlines were not asked for.
        film_paths: Film files by name.
        annotations: Outlines by film name; a film may have none.
        limits: What is refused by size.
    """

    folder: Path
    annotations_path: Path | None
    film_paths: Mapping[str, Path]
    annotations: Mapping[str, FilmAnnotation]
    limits: FilmLimits = DEFAULT_LIMITS

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        annotations: str | os.PathLike[str] | None = None,
        *,
        class_attribute: str | None = None,
        classes: Mapping[str, Structure] | None = None,
        limits: FilmLimits = DEFAULT_LIMITS,
    ) -> FilmSet:
        """Opens a folder of DICOM, PNG, JPEG or TIFF films with one VIA or COCO file.

        Films without an entry in the file are left out of :attr:`names`; an entry without a film
        is an error, because a truth that silently goes unused would change every figure.

        Args:
            folder: The films' folder.
            annotations: The annotation file; None looks for it in the folder.
            class_attribute: VIA region attribute that holds the class; None finds it.
            classes: Further class names.
            limits: What is refused by size.

        Raises:
            FilmError: The folder is none or holds no film.
            AnnotationError: No or a wrong annotation file; a film is missing; a region is wrong.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FilmError(f"{folder} is not a folder; give the folder that holds the films")
        films = find_films(folder)
        if not films:
            raise FilmError(
                f"folder {folder.name!r} holds no film; put DICOM, PNG, JPEG or TIFF files there"
            )
        path = Path(annotations) if annotations is not None else find_annotations(folder)
        raw = read_annotations_raw(path, class_attribute=class_attribute, classes=classes)
        judged: dict[str, FilmAnnotation] = {}
        for entry in raw:
            name = match_film(entry.film_name, films)
            if name is None:
                raise AnnotationError(
                    f"{path.name}: film {entry.film_name!r} is not in folder {folder.name!r}; "
                    "add the film or remove its entry"
                )
            if name in judged:
                raise AnnotationError(f"{path.name}: film {name!r} has two entries; keep one")
            try:
                judged[name] = judge(RawAnnotation(name, entry.regions), classes)
            except AnnotationError as error:
                raise AnnotationError(f"{path.name}: {error}") from error
        return cls(folder, path, films, judged, limits)

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
        return read_film_file(self.path(name), limits=self.limits)

    def film_size(self, name: str) -> tuple[int, int]:
        """(height, width) of one film by its header.

        Raises:
            FilmError: It is missing or wrong; the message names it.
            TooLargeError: It is over a limit.
        """
        return read_film_file_size(self.path(name), limits=self.limits)

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


def match_film(film_name: str, films: Mapping[str, Path]) -> str | None:
    """The film that an annotation names: its very name, else the name's last path part."""
    if film_name in films:
        return film_name
    last = film_name.replace("\\", "/").rsplit("/", 1)[-1]
    return last if last in films else None


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
