"""Films in colour whose channels are equal: how viewers export grey films."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import FilmNoteCode
from spinezoo_contract.words import are, counted

from spinezoo_spine.films.limits import MAX_CHANNEL_DIFFERENCE, TO_ONE_GREY
from spinezoo_spine.films.notes import NoteBook


def grey_of(
    channels: NDArray[np.generic], full: float, kind: str, book: NoteBook
) -> NDArray[np.generic]:
    """The one grey channel of equal red, green and blue.

    Args:
        channels: (rows, columns, 3).
        full: The greatest level that a channel can have. Where cells of more than 8 bits use less
            of it, the greatest level used counts: a dark coloured film is coloured all the same.
        kind: For messages: "PNG is RGB".
        book: Takes the note.

    Raises:
        FilmError: They differ by more than :data:`MAX_CHANNEL_DIFFERENCE` of the full range.
    """
    if channels.dtype != np.uint8:
        used = max(abs(float(channels.min())), abs(float(channels.max())))
        full = min(full, max(used, 255.0)) if channels.dtype.kind in "iu" else used or 1.0
    allowed = full * MAX_CHANNEL_DIFFERENCE
    greatest = 0.0
    coloured = 0
    for first in range(0, channels.shape[0], 256):  # in strips: no copy of a whole film
        red, green, blue = np.moveaxis(channels[first : first + 256], 2, 0)
        if np.array_equal(red, green) and np.array_equal(green, blue):
            continue
        low = np.minimum(np.minimum(red, green), blue).astype(np.float32)
        spread = np.maximum(np.maximum(red, green), blue).astype(np.float32) - low
        greatest = max(greatest, float(spread.max()))
        coloured += int(np.count_nonzero(spread > allowed))
    if not greatest <= allowed:
        raise FilmError(
            f"{kind}, not grey: {counted(coloured, 'pixel')} {are(coloured)} coloured, by up to "
            f"{greatest / full:.0%} of the range; {TO_ONE_GREY}"
        )
    book.add(
        FilmNoteCode.CHANNELS_MERGED,
        "The film is grey but saved in colour; its equal channels were merged.",
    )
    return np.ascontiguousarray(channels[..., 1])


def rgb_of_ybr(channels: NDArray[np.generic], bits: int) -> NDArray[np.generic]:
    """Full-range YBR (YCbCr) as RGB (PS3.3 C.7.6.3.1.2).

    Args:
        channels: (rows, columns, 3), unsigned.
        bits: Of a channel.
    """
    rgb = np.empty_like(channels)
    top, middle = (1 << bits) - 1, 1 << (bits - 1)
    for first in range(0, channels.shape[0], 256):
        y, blue, red = np.moveaxis(channels[first : first + 256].astype(np.float32), 2, 0)
        blue -= middle
        red -= middle
        shown = (y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue)
        rgb[first : first + 256] = np.clip(np.rint(np.stack(shown, axis=-1)), 0, top)
    return rgb


def check_opaque(alpha: NDArray[np.generic], full: float, kind: str) -> None:
    """Refuses a film with transparent pixels.

    Raises:
        FilmError: There are some.
    """
    clear = int(np.count_nonzero(alpha != full))
    if clear:
        raise FilmError(
            f"{kind} with {counted(clear, 'pixel')} that {are(clear)} not opaque; save it without "
            "transparency"
        )
