"""Writes outlines in another form: ``python -m spinezoo_spine.annotations.convert``.

::

    python -m spinezoo_spine.annotations.convert --from via.json --to coco.json --format coco

Reads VIA 1, 2 or 3 (JSON, CSV) or COCO and writes one of them; VIA as CSV where the target ends in
``.csv``. Every outline is judged first: an unknown class or an outline without an area is refused,
never dropped. What exists is not overwritten. Ends with 0, or with 2 and says why.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spinezoo_contract.errors import AnnotationError, SpineZooError
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.words import counted
from spinezoo_serving.disk import disk_errors_named

from spinezoo_spine.annotations.coco import write_coco
from spinezoo_spine.annotations.film_names import FilmNames
from spinezoo_spine.annotations.folder import find_films, find_films_below, read_annotations_raw
from spinezoo_spine.annotations.options import (
    OutlineOptions,
    add_outline_options,
    outline_options,
)
from spinezoo_spine.annotations.regions import FilmAnnotation, judge
from spinezoo_spine.annotations.text import shown
from spinezoo_spine.annotations.via import write_via
from spinezoo_spine.films.reader import read_film_file_size

VIA_VERSIONS = {"via1": 1, "via2": 2, "via3": 3}
FORMATS = (*VIA_VERSIONS, "coco")


def film_sizes(annotations: Sequence[FilmAnnotation], folder: Path) -> dict[str, tuple[int, int]]:
    """(height, width) in pixels of every annotated film, by the headers of the films in a folder.

    Raises:
        AnnotationError: A film is not there.
        FilmError: A film cannot be read.
    """
    films = {**find_films_below(folder), **find_films(folder)} if folder.is_dir() else {}
    names = FilmNames(films, folder=folder.name)
    sizes = {}
    for annotation in annotations:
        match = names.match(annotation.film_name)
        if match.film is None:
            raise AnnotationError(
                f"film {shown(annotation.film_name)!r} {match.why_not}; COCO needs its size: say "
                "with --films where the films are"
            )
        sizes[annotation.film_name] = read_film_file_size(films[match.film])
    return sizes


def convert(
    source: Path,
    target: Path,
    form: str,
    films: Path | None = None,
    options: OutlineOptions | None = None,
) -> int:
    """Reads outlines and writes them in another form.

    Args:
        source: VIA or COCO file.
        target: File to write; its folder has to exist.
        form: One of :data:`FORMATS`.
        films: Folder of the films, whose sizes COCO needs; None: the folder of ``source``.
        options: Where the class stands and what further names mean.

    Returns:
        Number of films written.

    Raises:
        AnnotationError: The source cannot be read, an outline is wrong, or the target exists or
            cannot be written.
        FilmError: A film's size cannot be read.
    """
    if target.exists():
        raise AnnotationError(f"{target.name} exists; remove it, or give another name")
    if not target.parent.is_dir():
        raise AnnotationError(f"there is no folder {target.parent.name!r}; make it first")
    if form == "coco" and target.suffix.lower() != ".json":
        raise AnnotationError(f"{target.name}: end the name of a COCO file in .json")
    options = options or OutlineOptions()
    try:
        raw = read_annotations_raw(
            source, class_attribute=options.class_attribute, classes=options.classes
        )
        annotations = [judge(entry, options.classes) for entry in raw]
    except AnnotationError as error:
        text = str(error)
        named = text if text.startswith(source.name) else f"{source.name}: {text}"
        raise AnnotationError(named) from error
    if form == "coco":
        write_coco(target, annotations, film_sizes(annotations, films or source.parent))
    else:
        write_via(target, annotations, VIA_VERSIONS[form])
    return len(annotations)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_spine.annotations.convert",
        description="Writes outlines (VIA 1, 2, 3 or COCO) in another form.",
    )
    parser.add_argument("--from", dest="source", type=Path, required=True, help="VIA or COCO file")
    parser.add_argument("--to", dest="target", type=Path, required=True, help="file to write")
    parser.add_argument("--format", choices=FORMATS, default="via2", help="default: %(default)s")
    parser.add_argument(
        "--films", type=Path, help="folder of the films, for COCO (default: that of the source)"
    )
    add_outline_options(parser, skip=False)
    arguments = parser.parse_args(argv)
    try:
        with disk_errors_named():
            count = convert(
                arguments.source,
                arguments.target,
                arguments.format,
                arguments.films,
                outline_options(arguments),
            )
    except SpineZooError as error:
        sys.stderr.write(f"not converted: {error}\n")
        return 2
    sys.stdout.write(f"{arguments.target}: {counted(count, 'film')}, {arguments.format}\n")
    return 0


if __name__ == "__main__":
    end_with_reader()
    raise SystemExit(main())
