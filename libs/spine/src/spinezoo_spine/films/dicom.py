"""DICOM files into films."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from spinezoo_contract.errors import FilmError, SpineZooError
from spinezoo_contract.types import Film

from spinezoo_spine.films.about import note_about, spacing_mm
from spinezoo_spine.films.codecs import compressed_cells
from spinezoo_spine.films.colour import grey_of, rgb_of_ybr
from spinezoo_spine.films.display import display_levels, merged_levels
from spinezoo_spine.films.header import COLOURED, PALETTE, Bits, bits_of, parse_dicom, word_of
from spinezoo_spine.films.limits import FilmLimits, check_raw_size
from spinezoo_spine.films.notes import NoteBook
from spinezoo_spine.films.stored import codes_of, native_cells
from spinezoo_spine.films.tables import look_up_table

_NOT_TAKEN = (
    *((f"1.2.840.10008.1.2.4.{number}", "an MPEG video") for number in range(100, 109)),
    ("1.2.840.10008.1.2.4.11", "JPEG XL"),
    ("1.2.840.10008.1.2.1.98", "pixels that are wrapped but not compressed"),
    ("1.2.840.10008.1.2.8.1", "frames compressed by deflation"),
    ("1.2.840.10008.1.2.7", "a video stream (SMPTE)"),
)
"""How transfer syntaxes that are not taken begin, and what is said of them."""


def is_compressed(dataset: Dataset) -> bool:
    """Whether native code of a decoder has to be run on the pixel data.

    Raises:
        FilmError: The transfer syntax is not one of DICOM's, or not taken.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    name = next((name for start, name in _NOT_TAKEN if syntax.startswith(start)), "")
    if name:
        raise FilmError(
            f"DICOM file holds {name}, which is not taken; export the film as Explicit VR Little "
            "Endian"
        )
    try:
        return bool(syntax.is_compressed)
    except ValueError:
        raise FilmError(
            "DICOM transfer syntax is not known; export the film as Explicit VR Little Endian"
        ) from None


def read_dicom(data: bytes, limits: FilmLimits, dataset: Dataset | None = None) -> Film:
    """Decodes a DICOM file.

    Args:
        data: The file.
        limits: What is refused by size.
        dataset: Its header, where it has been read already.

    Raises:
        FilmError: Not DICOM, damaged, or not one grey film.
        TooLargeError: Over a limit.
    """
    book = NoteBook()
    if dataset is None:
        dataset = parse_dicom(data, limits)
    coloured = word_of(dataset, "PhotometricInterpretation") in COLOURED
    samples = 3 if coloured else 1
    bits = bits_of(dataset)
    try:
        if is_compressed(dataset):
            cells = compressed_cells(dataset, bits, samples, limits, book)
        else:
            cells = native_cells(dataset, bits, samples)
    except (SpineZooError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything on damaged streams
        raise FilmError(
            f"DICOM pixel data cannot be decoded ({type(error).__name__}): it is truncated, "
            "damaged or of an unknown transfer syntax; export it as Explicit VR Little Endian"
        ) from None
    try:
        if coloured:
            pixels = merged_levels(dataset, _grey_cells(dataset, cells, bits, book), bits, book)
        elif word_of(dataset, "PhotometricInterpretation") == PALETTE:
            pixels = _palette_levels(dataset, cells, bits, book)
        else:
            pixels = display_levels(dataset, cells, bits, book)
        check_raw_size(pixels.shape[0], pixels.shape[1], pixels.dtype.itemsize, limits)
        note_about(dataset, book)
        row_spacing_mm, column_spacing_mm = spacing_mm(dataset, book)
    except (SpineZooError, MemoryError):
        raise
    except Exception as error:
        raise FilmError(
            f"DICOM display transform (rescale, window or LUT) is wrong ({type(error).__name__}); "
            "export the film again"
        ) from None
    return Film(np.ascontiguousarray(pixels), row_spacing_mm, column_spacing_mm, book.notes())


def _grey_cells(
    dataset: Dataset, cells: NDArray[np.unsignedinteger], bits: Bits, book: NoteBook
) -> NDArray[np.unsignedinteger]:
    photometric = word_of(dataset, "PhotometricInterpretation")
    if not is_compressed(dataset) and photometric.startswith("YBR_FULL"):
        cells = rgb_of_ybr(cells, bits.stored).view(cells.dtype)
    grey = grey_of(cells, float((1 << bits.stored) - 1), f"DICOM file is {photometric}", book)
    return grey.view(cells.dtype)  # in the order of its bytes


def _palette_levels(
    dataset: Dataset, cells: NDArray[np.unsignedinteger], bits: Bits, book: NoteBook
) -> NDArray[np.generic]:
    """Places in a palette as grey levels, where all entries that are used are grey."""
    places = codes_of(cells, bits, dataset, book)
    if bits.signed:
        raise FilmError("DICOM palette film has signed pixels; export it as one grey channel")
    try:
        colours = _colours_of(places, bits, dataset)
    except Exception as error:
        raise FilmError(
            f"DICOM file is PALETTE COLOR and its palette cannot be read ({type(error).__name__}); "
            "export the film as one grey channel"
        ) from None
    full = 255.0 if colours.dtype.itemsize == 1 else 65535.0
    return grey_of(colours[..., :3], full, "DICOM file is PALETTE COLOR", book)


def _colours_of(
    places: NDArray[np.unsignedinteger], bits: Bits, dataset: Dataset
) -> NDArray[np.unsignedinteger]:
    """Red, green and blue of places in a palette (PS3.3 C.7.9.1)."""
    if "RedPaletteColorLookupTableData" not in dataset:
        return np.asarray(apply_color_lut(places, dataset))  # segmented
    values = np.arange(1 << bits.stored, dtype=np.float64)
    counts = np.bincount(places.ravel(), minlength=len(values))
    columns = []
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        table = look_up_table(dataset, "palette", f"{name}Descriptor", f"{name}Data")
        columns.append(table.apply(values, table.starting_at(values, counts, signed=False)))
    colours = np.stack(columns, axis=-1)
    return colours.astype(np.uint8 if colours.max() <= 255 else np.uint16)[places]
