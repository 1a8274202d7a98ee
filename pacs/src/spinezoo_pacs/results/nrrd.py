"""A SEG from the archive as a segmentation of 3D Slicer (``.seg.nrrd``).

::

    python -m spinezoo_pacs.results.nrrd SEG.dcm OUT.seg.nrrd [--film FILM.dcm]

Slicer's importer refuses segmentations of radiographs, which have no position in the patient; its
own format does without. Segments that overlap lie in layers of their own, so no pixel is lost. The
film gives the spacing that it is measured by; without one a pixel is 1 mm wide.
"""

# ruff: noqa: T201 - a command: its errors go to the terminal.
from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import nrrd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pynetdicom.sop_class import LabelMapSegmentationStorage, SegmentationStorage
from spinezoo_contract.errors import FilmError, SpineZooError
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.words import counted
from spinezoo_spine.films.about import spacing_mm
from spinezoo_spine.films.notes import NoteBook


def masks_of(seg: Dataset) -> list[tuple[Dataset, NDArray[np.bool_]]]:
    """Segments of a SEG and their (height, width) masks.

    Raises:
        FilmError: It is no segmentation that the node writes.
    """
    segments = [item for item in seg.get("SegmentSequence", []) if item.SegmentNumber > 0]
    pixels = seg.pixel_array
    if seg.SOPClassUID == LabelMapSegmentationStorage and pixels.ndim == 2:
        return [(item, pixels == item.SegmentNumber) for item in segments]
    frames = pixels[None] if pixels.ndim == 2 else pixels
    if seg.SOPClassUID != SegmentationStorage or len(frames) != len(segments):
        raise FilmError("no SEG with one frame a segment; give one that the node wrote")
    return [(item, frame.astype(bool)) for item, frame in zip(segments, frames, strict=True)]


def layers_of(masks: Sequence[NDArray[np.bool_]]) -> tuple[list[int], NDArray[np.uint8]]:
    """Packs masks into as few layers as their overlaps allow.

    Returns:
        The layer of each mask, and (layers, height, width) of mask numbers from 1.
    """
    places: list[int] = []
    layers: list[NDArray[np.uint8]] = []
    for number, mask in enumerate(masks, start=1):
        free = (at for at, layer in enumerate(layers) if not layer[mask].any())
        place = next(free, len(layers))
        if place == len(layers):
            layers.append(np.zeros(mask.shape, np.uint8))
        layers[place][mask] = number
        places.append(place)
    return places, np.stack(layers)


def write_nrrd(seg: Dataset, path: Path, film: Dataset | None = None) -> int:
    """Writes a SEG as ``.seg.nrrd``; returns its number of segments.

    Raises:
        FilmError: The SEG is none of the node's, has none or over 255 segments, or is not the
            film's.
    """
    found = masks_of(seg)
    if not 1 <= len(found) <= 255:
        raise FilmError(f"the SEG has {counted(len(found), 'segment')}; 1 to 255 can be written")
    row_mm = column_mm = None
    if film is not None:
        if (film.Rows, film.Columns) != (seg.Rows, seg.Columns):
            raise FilmError("film and SEG are of different size; give the film that was answered")
        row_mm, column_mm = spacing_mm(film, NoteBook())
    places, layers = layers_of([mask for _, mask in found])
    header: dict[str, object] = {
        "encoding": "gzip",
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": [
            [np.nan, np.nan, np.nan], [column_mm or 1, 0, 0], [0, row_mm or 1, 0], [0, 0, 1],
        ],
        "space origin": [0, 0, 0],
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
    }  # fmt: skip
    for place, (item, mask) in enumerate(found):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        extent = [0, -1, 0, -1, 0, -1]
        if rows.size:
            extent = [columns[0], columns[-1], rows[0], rows[-1], 0, 0]
        name = f"Segment{place}_"
        header[f"{name}ID"] = f"Segment_{item.SegmentNumber}"
        header[f"{name}Name"] = str(item.SegmentLabel)
        header[f"{name}LabelValue"] = str(place + 1)
        header[f"{name}Layer"] = str(places[place])
        header[f"{name}Extent"] = " ".join(str(int(value)) for value in extent)
    # NRRD counts the fastest axis first: layer, column, row, slice.
    data = np.transpose(layers, (0, 2, 1))[..., None]
    nrrd.write(str(path), np.asfortranarray(data), header)
    return len(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_pacs.results.nrrd",
        description="Write a SEG from the archive as a segmentation of 3D Slicer.",
    )
    parser.add_argument("seg", type=Path, help="DICOM SEG or label map of the node")
    parser.add_argument("out", type=Path, help="file to write, NAME.seg.nrrd")
    parser.add_argument("--film", type=Path, help="the film, for its spacing")
    options = parser.parse_args(arguments)
    if not options.out.name.endswith(".seg.nrrd"):
        print("stopped: Slicer wants a name that ends in .seg.nrrd", file=sys.stderr)
        return 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seg = pydicom.dcmread(options.seg)
            film = None
            if options.film is not None:
                film = pydicom.dcmread(options.film, stop_before_pixels=True)
            write_nrrd(seg, options.out, film)
            if film is not None and None in spacing_mm(film, NoteBook()):
                print("the film states no spacing: a pixel is written as 1 mm", file=sys.stderr)
    except (SpineZooError, OSError, pydicom.errors.InvalidDicomError, AttributeError) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
