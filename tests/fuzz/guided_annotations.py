"""Annotation files guided by coverage: ``guided_annotations.py CORPUS SECONDS``, with atheris.

The first byte chooses the ending of the file, the rest is its content. The corpus begins with
valid files of every form. Anything but our own errors, 5 s for one file, or 1 GiB ends it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import atheris
from guided import run

with atheris.instrument_imports(include=["spinezoo_spine.annotations"]):
    from spinezoo_spine.annotations.folder import read_annotations_raw
    from spinezoo_spine.annotations.outline_findings import lint_annotations

from spinezoo_contract.errors import SpineZooError

SUFFIXES = (".json", ".csv")
SIZES = {"film ä.png": (48, 40), "b.png": (32, 64)}


def one(data: bytes) -> None:
    """Reads and checks one file."""
    if not data:
        return
    with tempfile.NamedTemporaryFile(suffix=SUFFIXES[data[0] % 2]) as file:
        file.write(data[1:])
        file.flush()
        try:
            for finding in lint_annotations(read_annotations_raw(Path(file.name)), SIZES):
                assert str(finding).isprintable()
        except SpineZooError as error:
            str(error).encode()


if __name__ == "__main__":
    run(one, "-max_len=8192")
