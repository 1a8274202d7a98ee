"""What lies in a folder of films: the films, and the file with their outlines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spinezoo_contract.errors import AnnotationError, FilmError
from spinezoo_contract.types import Structure

from spinezoo_spine.annotations.coco import is_meant_as_coco, read_coco_raw
from spinezoo_spine.annotations.film_names import PICTURE_SUFFIXES, FilmNames
from spinezoo_spine.annotations.regions import RawAnnotation
from spinezoo_spine.annotations.text import (
    TABLE_SUFFIXES,
    decode_text,
    foreign_form,
    is_table,
    read_json,
    read_text,
    shown,
)
from spinezoo_spine.annotations.via import films_of_json, read_via_raw
from spinezoo_spine.films.reader import FILM_SUFFIXES, kind_of

PREFERRED_ANNOTATIONS = ("via.json", "via.csv", "coco.json")
"""Annotation files that win where a folder holds several, in this order."""

MAX_DEPTH = 4
"""Folders below the films' folder that are looked into."""

MAX_FILES_BELOW = 100_000
"""Files and folders that are looked at there."""


def has_text_name(name: str) -> bool:
    """Whether a file's name is text: one in another encoding can stand in no message or report."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def why_not_taken(name: str) -> str:
    """What to say of one of :func:`find_pictures`; goes on behind its name."""
    if has_text_name(name):
        return "is of a kind that is not taken; save it as PNG or DICOM"
    return "has a name that is no Unicode text; rename it"


def _is_film(path: Path) -> bool:
    """Whether a file is a film by its ending, or by its first bytes where endings say nothing."""
    suffix = path.suffix.lower().rstrip()  # nobody sees a blank behind a name
    if suffix in FILM_SUFFIXES:
        return True
    if suffix in ("", ".ima") or suffix[1:].isdigit() or len(suffix) > 6:
        try:
            with path.open("rb") as file:
                return kind_of(file.read(4096)) == "dicom"
        except OSError:
            return False
    return False


def find_films(folder: Path) -> dict[str, Path]:
    """Film files of a folder by name, sorted; sub-folders and hidden files are left out.

    A file without one of the usual endings counts when its first bytes are those of a film, as
    DICOM files often have no ending.
    """
    return {
        path.name: path
        for path in _listed(folder)
        if not path.name.startswith(".")
        and path.is_file()
        and has_text_name(path.name)
        and _is_film(path)
    }


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, sorted.

    Raises:
        FilmError: It cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise FilmError(
            f"folder {shown(folder.name)!r} cannot be read ({error.strerror}); check its rights"
        ) from error


def find_films_below(folder: Path) -> dict[str, Path]:
    """Film files of a folder's sub-folders by their path below it, such as ``set1/01.png``.

    Raises:
        FilmError: A sub-folder cannot be read, or there are too many files.
    """
    films = {}
    seen = 0
    been = {folder.resolve()}  # links may lead back, or to one place twice

    def look(place: Path, depth: int) -> None:
        nonlocal seen
        found = _listed(place)
        seen += len(found)
        if seen > MAX_FILES_BELOW:
            raise FilmError(
                f"below folder {shown(folder.name)!r} lie more than {MAX_FILES_BELOW} files; give "
                "the folder that holds the films alone"
            )
        for path in found:
            if path.name.startswith("."):
                continue
            if path.is_dir():
                if depth < MAX_DEPTH and (real := path.resolve()) not in been:
                    been.add(real)
                    look(path, depth + 1)
            elif depth and has_text_name(path.name) and _is_film(path):
                films[path.relative_to(folder).as_posix()] = path

    look(folder, 0)
    return films


def find_pictures(folder: Path) -> tuple[str, ...]:
    """Names of files that people take for films and that are of no kind that is taken."""
    return tuple(
        path.name
        for path in _listed(folder)
        if path.is_file()
        and (
            path.suffix.lower() in PICTURE_SUFFIXES
            or (not has_text_name(path.name) and _is_film(path))
        )
    )


def match_film(film_name: str, films: Mapping[str, Path]) -> str | None:
    """The film that an annotation names, or None; see :class:`FilmNames`."""
    return FilmNames(films).match(film_name).film


def _is_annotation_file(path: Path) -> bool:
    """Whether a JSON or CSV file looks like VIA or COCO.

    Raises:
        AnnotationError: It is meant as JSON and cannot be read.
    """
    if path.suffix.lower() in TABLE_SUFFIXES:
        with path.open("rb") as file:
            data = file.read(8192)
        try:
            head = decode_text(data[: len(data) // 4 * 4])
        except AnnotationError:
            head = data.decode("latin-1")
        return "region_shape_attributes" in head or "metadata_id" in head
    if is_table(path, read_text(path)):
        return True
    value = read_json(path)
    try:
        return is_meant_as_coco(value) or films_of_json(value) is not None
    except AnnotationError:
        return True  # meant as VIA, and wrong: reading it will say how


def _foreign_form(path: Path) -> str:
    """Which file of another program one is: ``a.json is a LabelMe file``; else empty."""
    if path.suffix.lower() == ".xml":
        return f"{shown(path.name)} is an XML file, as CVAT and Pascal VOC have them"
    if path.suffix.lower() != ".json" or not path.is_file():
        return ""
    form = foreign_form(read_json(path)).removesuffix(", ")
    return form and f"{shown(path.name)} is {form}"


def find_annotations(folder: Path) -> Path:
    """The annotation file of a folder.

    Raises:
        AnnotationError: There is none, or several and none has a preferred name.
    """
    for name in PREFERRED_ANNOTATIONS:
        if (folder / name).is_file():
            return folder / name
    found, broken, seen = [], [], []
    for path in _listed(folder):
        suffix = path.suffix.lower()
        if suffix not in (".json", ".xml", *TABLE_SUFFIXES) or path.name.startswith("."):
            continue
        seen.append(path.name)
        try:
            if path.is_file() and suffix != ".xml" and _is_annotation_file(path):
                found.append(path)
        except AnnotationError as error:
            broken.append(error)
    if not found:
        if broken:  # the outlines are meant to be in it
            raise broken[0]
        others = f" ({shown(', '.join(seen))} is none)" if seen else ""
        foreign = next((said for name in seen[:20] if (said := _foreign_form(folder / name))), "")
        if foreign:
            others = f" ({foreign}: export it from that program as COCO)"
        raise AnnotationError(
            f"folder {folder.name!r} has no VIA or COCO file{others}; put the outlines there as "
            "via.json or coco.json"
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

    Args:
        path: The file.
        class_attribute: Attribute that holds the class; None finds it.
        classes: Further class names, for finding the attribute.

    Raises:
        AnnotationError: It is neither, or damaged.
    """
    if path.suffix.lower() == ".json" and not is_table(path, read_text(path)):
        value = read_json(path)
        if is_meant_as_coco(value):
            return read_coco_raw(
                path, value=value, class_attribute=class_attribute, classes=classes
            )
        return read_via_raw(path, value=value, class_attribute=class_attribute, classes=classes)
    return read_via_raw(path, class_attribute=class_attribute, classes=classes)
