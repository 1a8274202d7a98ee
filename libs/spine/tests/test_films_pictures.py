"""PNG and TIFF of less usual forms: transparency, palettes, colours, missing tags, lost rows."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from odd_dicom import codes
from PIL import Image
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import FilmNoteCode
from spinezoo_spine.films.grey import unit_grey
from spinezoo_spine.films.reader import read_film, read_film_size

ROWS, COLUMNS = 48, 64
Y, X = np.mgrid[:ROWS, :COLUMNS]
DEEP = np.rint(1900 + 1400 * np.sin(Y / 11) * np.cos(X / 13)).astype(np.uint16)
GREY = (DEEP >> 4).astype(np.uint8)
COLOURED = np.dstack([GREY, np.roll(GREY, 9, 1), np.roll(GREY, 20, 0)])


# ------------------------------------------------------------------------------------------- PNG

GREYS = b"".join(bytes([level] * 3) for level in range(256))


def png(
    rows: np.ndarray, bits: int, kind: int, *chunks: tuple[bytes, bytes], lost: int = 0
) -> bytes:
    """A PNG, chunk by chunk; ``lost`` rows are missing in an otherwise whole stream."""
    lines = [b"\0" + row.tobytes() for row in rows[: len(rows) - lost]]
    size = struct.pack(">IIBBBBB", COLUMNS, ROWS, bits, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(lines))
    written = [(b"IHDR", size), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in written
    )


WIDE = DEEP.astype(">u2")
UNUSED = struct.pack(">H", 7)
TRANSPARENT = struct.pack(">H", int(DEEP[3, 3]))
FOURS = (GREY >> 4)[:, ::2] << 4 | (GREY >> 4)[:, 1::2]


def test_a_transparent_level_of_16_bits() -> None:
    film = read_film(png(WIDE, 16, 0, (b"tRNS", UNUSED)))
    assert (film.pixels == DEEP).all()
    three = np.dstack([DEEP] * 3).astype(">u2")
    film = read_film(png(three, 16, 2, (b"tRNS", UNUSED * 3)))
    assert (film.pixels == DEEP).all()
    with pytest.raises(FilmError, match="not opaque"):
        read_film(png(WIDE, 16, 0, (b"tRNS", TRANSPARENT)))


@pytest.mark.parametrize("lost", [0, 1, 24, 47])
@pytest.mark.parametrize(
    ("rows", "bits", "kind", "chunks", "expected"),
    [
        (GREY, 8, 0, [], GREY),
        (GREY, 8, 0, [(b"tRNS", b"\0\xff")], GREY),
        (GREY, 8, 3, [(b"PLTE", GREYS)], GREY),
        (GREY, 8, 3, [(b"PLTE", GREYS), (b"tRNS", b"\xff" * 256)], GREY),
        (FOURS, 4, 0, [], (GREY >> 4) * 17),
        (FOURS, 4, 3, [(b"PLTE", GREYS[:48])], GREY >> 4),
        (WIDE, 16, 0, [], DEEP),
    ],
)
def test_a_whole_png_that_lacks_rows(
    rows: np.ndarray, bits: int, kind: int, chunks: list, expected: np.ndarray, lost: int
) -> None:
    data = png(rows, bits, kind, *chunks, lost=lost)
    if not lost:
        assert (read_film(data).pixels == expected).all()
        return
    with pytest.raises(FilmError, match="truncated or damaged"):
        read_film(data)


def test_a_palette_without_entries_that_are_used() -> None:
    assert (read_film(png(GREY, 8, 3, (b"PLTE", GREYS[: 3 * 207]))).pixels == GREY).all()
    with pytest.raises(FilmError, match="palette has 100 entries, fewer than used"):
        read_film(png(GREY, 8, 3, (b"PLTE", GREYS[:300])))


def test_two_levels_are_no_film() -> None:
    bits = np.packbits(GREY > 120, axis=1)
    for kind, chunks in ((0, []), (3, [(b"PLTE", b"\0\0\0\xff\xff\xff")])):
        with pytest.raises(FilmError, match="one bit a pixel"):
            read_film(png(bits, 1, kind, *chunks))


def test_an_orientation_written_as_a_byte() -> None:
    exif = struct.pack("<2sHIHHHIBxxxI", b"II", 42, 8, 1, 0x0112, 1, 1, 6, 0)
    film = read_film(png(GREY, 8, 0, (b"eXIf", exif)))
    assert (film.pixels == np.rot90(GREY, -1)).all()
    film = read_film(tiff({262: 1, 274: (1, 6)}, GREY))
    assert (film.pixels == np.rot90(GREY, -1)).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_dark_colours_in_wide_channels_are_colours(kind: str) -> None:
    dark = COLOURED.astype(np.uint16)
    for pixels in (dark, dark * 16):
        data = imagecodecs.png_encode(pixels) if kind == "PNG" else written(pixels, "rgb")
        with pytest.raises(FilmError, match=r"coloured, by up to \d\d% of the range"):
            read_film(data)


# ------------------------------------------------------------------------------------------ TIFF


def written(pixels: np.ndarray, photometric: str, **more: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric=photometric, **more)
    return buffer.getvalue()


def tiff(tags: dict[int, int | tuple[int, int]], pixels: np.ndarray, bits: int = 0) -> bytes:
    """A TIFF of one strip, tag by tag; a value is a LONG, or (data type, value)."""
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    size = bits or 8 * pixels.itemsize
    all_tags: dict[int, object] = {
        256: COLUMNS,
        257: ROWS,
        258: size,
        259: 1,
        273: 4096,
        277: samples,
        278: ROWS,
        279: pixels.nbytes,
        **tags,
    }
    if samples > 1:
        all_tags[258] = (3, 1024)  # where the bits of the channels stand
    entries = b""
    for tag, value in sorted(all_tags.items()):
        kind, number = value if isinstance(value, tuple) else (4, value)
        kind = 3 if tag == 530 else kind
        count = samples if tag == 258 and samples > 1 else 2 if tag == 530 else 1
        layout = "<HHIH2x" if kind == 3 and count == 1 else "<HHII"
        entries += struct.pack(layout, tag, kind, count, number)
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(all_tags)) + entries + b"\0" * 4
    head = head.ljust(1024, b"\0") + struct.pack(f"<{samples}H", *[size] * samples)
    return head.ljust(4096, b"\0") + pixels.tobytes()


FEW = np.where(DEEP > 1900, 350, 150) + np.random.default_rng(0).integers(-9, 10, DEEP.shape)
"""Of two parts, each with one high byte: both as one level are as smooth with bits turned."""


@pytest.mark.parametrize("pixels", [GREY, DEEP, FEW.astype(np.uint16)], ids=["8", "12", "9 bits"])
def test_an_order_of_bits_is_followed_and_a_wrong_one_named(pixels: np.ndarray) -> None:
    said = {262: 1, 266: (3, 2)}
    turned = np.asarray(imagecodecs.bitorder_decode(pixels.copy()))
    assert (read_film(tiff(said, turned)).pixels == pixels).all()
    assert (read_film(tiff({262: 1}, pixels)).pixels == pixels).all()
    with pytest.raises(FilmError, match=r"FillOrder 2.*LZW or as PNG"):
        read_film(tiff(said, pixels))


def test_without_photometric_interpretation_black_is_zero_and_doubted() -> None:
    film = read_film(tiff({}, GREY))
    assert (film.pixels == GREY).all()
    assert FilmNoteCode.POLARITY_DOUBTFUL in codes(film)
    assert FilmNoteCode.POLARITY_DOUBTFUL not in codes(read_film(tiff({262: 1}, GREY)))


def test_grey_inks() -> None:
    inks = np.dstack([np.zeros_like(COLOURED), 255 - GREY])
    film = read_film(written(inks, "separated"))
    assert (film.pixels == GREY).all()
    assert FilmNoteCode.CHANNELS_MERGED in codes(film)
    mixed = np.dstack([np.dstack([255 - GREY] * 3), np.zeros_like(GREY)])
    assert (read_film(written(mixed, "separated")).pixels == GREY).all()
    inks[..., 0] = GREY
    with pytest.raises(FilmError, match=r"TIFF is CMYK, not grey: .* coloured"):
        read_film(written(inks, "separated"))
    with pytest.raises(FilmError, match="CMYK in a form that is not taken"):
        read_film(written(inks, "separated", compression="jpeg"))


def test_grey_in_ycbcr_without_jpeg() -> None:
    middle = np.full_like(GREY, 128)
    pixels = np.dstack([GREY, middle, middle])
    film = read_film(tiff({262: 6, 530: 1 | 1 << 16}, pixels))
    assert (film.pixels == GREY).all()
    with pytest.raises(FilmError, match="YCbCr with shared colours"):
        read_film(tiff({262: 6}, pixels))


def test_an_empty_channel_that_is_no_alpha() -> None:
    film = read_film(written(np.dstack([GREY, GREY * 0]), "minisblack", planarconfig="contig",
                             extrasamples=["unspecified"]))  # fmt: skip
    assert (film.pixels == GREY).all()
    with pytest.raises(FilmError, match="not opaque"):
        read_film(written(np.dstack([GREY, GREY * 0]), "minisblack", planarconfig="contig",
                          extrasamples=["unassalpha"]))  # fmt: skip


@pytest.mark.parametrize("factor", [1.0, 1e-6, 1e6])
def test_colours_with_decimals(factor: float) -> None:
    grey = np.dstack([DEEP] * 3).astype(np.float32) * np.float32(factor)
    assert np.allclose(read_film(written(grey, "rgb")).pixels, DEEP * factor, rtol=1e-5)
    grey[..., 2] /= 2
    with pytest.raises(FilmError, match="coloured, by up to 50% of the range"):
        read_film(written(grey, "rgb"))


@pytest.mark.parametrize("coloured", [True, False])
def test_palettes_of_8_bits_written_as_16(coloured: bool) -> None:
    levels = np.arange(256)
    table = np.stack([levels * (1 + 16 * place * coloured) % 256 for place in range(3)])
    data = written(GREY, "palette", colormap=table.astype(np.uint16))
    if coloured:
        with pytest.raises(FilmError, match="pixels are coloured"):
            read_film(data)
    else:
        assert (read_film(data).pixels == GREY).all()


def test_smaller_copies_of_nothing_are_pages() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for _ in range(2):
            file.write(GREY, subfiletype=1, photometric="minisblack")
    for read in (read_film, read_film_size):
        with pytest.raises(FilmError, match="2 frames"):
            read(buffer.getvalue())


@pytest.mark.parametrize(
    ("compression", "words"),
    [
        (22610, "JPEGXR"),  # its decoder fills in what is cut off
        (32809, "THUNDERSCAN"),
        (34676, "SGILOG"),
    ],
)
def test_compressions_that_are_not_taken_are_named(compression: int, words: str) -> None:
    with pytest.raises(FilmError, match=f"compressed as {words}"):
        read_film(tiff({262: 1, 259: compression}, GREY))


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "jpegxl", "lzw", "zlib", "png"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": ROWS}, {"tile": (ROWS, COLUMNS)}])
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_strip_or_tile_that_ends_early(
    compression: str, layout: dict, share: float, end: bytes
) -> None:
    noisy = GREY + np.random.default_rng(2).integers(0, 20, GREY.shape).astype(np.uint8)
    data = bytearray(written(noisy, "minisblack", compression=compression, **layout))
    assert np.abs(read_film(bytes(data)).pixels.astype(int) - noisy).max() <= 20
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        offset, size = page.dataoffsets[0], page.databytecounts[0]
        count = page.tags.get(279) or page.tags.get(325)
    cut = bytes(data[offset : offset + int(size * share)]) + end
    data[offset : offset + len(cut)] = cut
    struct.pack_into("<H" if int(count.dtype) == 3 else "<I", data, count.valueoffset, len(cut))
    with pytest.raises(FilmError, match="truncated"):
        read_film(bytes(data))


@pytest.mark.parametrize("bits", [24, 20])
def test_whole_numbers_of_odd_width(bits: int) -> None:
    pixels = np.zeros((ROWS, COLUMNS * bits // 8), dtype=np.uint8)
    with pytest.raises(FilmError, match=f"{bits} bits a pixel in a form that is not taken"):
        read_film(tiff({262: 1, 258: bits}, pixels))


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_bytes_in_the_other_order_are_named(kind: str) -> None:
    grey = np.rint(20000 + 15000 * np.sin(Y / 21) * np.cos(X / 23) + X % 7 * 37).astype(np.uint16)
    encode = tiff_of if kind == "tiff" else imagecodecs.png_encode
    assert (read_film(encode(grey)).pixels == grey).all()
    with pytest.raises(FilmError, match="two bytes of each level"):
        read_film(encode(grey.byteswap()))
    noise = np.random.default_rng(2).integers(0, 65536, grey.shape).astype(np.uint16)
    assert (read_film(encode(noise)).pixels == noise).all()


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("lowest", [-2048, -600])
def test_signed_levels_written_as_unsigned_are_named(kind: str, lowest: int) -> None:
    encode = tiff_of if kind == "tiff" else imagecodecs.png_encode
    signed = (DEEP.astype(np.int32) + lowest).astype(np.int16)
    assert (read_film(tiff_of(signed)).pixels.astype(np.int32) - 32768 == signed).all()
    with pytest.raises(FilmError, match=r"run over one end .* levels from 0 up"):
        read_film(encode(signed.view(np.uint16)))


def test_much_black_beside_white_is_no_wrong_sign() -> None:
    noise = np.random.default_rng(3).integers(0, 40, DEEP.shape).astype(np.uint16)
    marked = np.clip((DEEP - 1900.0) * 200 + 32768, 0, 65535).astype(np.uint16)
    marked[:, :30] = noise[:, :30]
    marked[10:40:4, 5:25:3] = 65535 - noise[10:40:4, 5:25:3]
    assert (read_film(tiff_of(marked)).pixels == marked).all()


def tiff_of(pixels: np.ndarray, **settings: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="minisblack", metadata=None, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("levels", "factor"), [(DEEP + 1e9, 1.0), (DEEP.astype(np.float64), 1e-60)]
)
def test_decimals_of_64_bits_that_32_cannot_hold(levels: np.ndarray, factor: float) -> None:
    with pytest.raises(FilmError, match="lie too close together"):
        read_film(tiff_of(levels * factor))
    assert read_film(tiff_of(DEEP / 3.0)).pixels.dtype == np.float32


@pytest.mark.parametrize(
    ("compression", "settings", "lossy"),
    [
        ("jpeg", {"level": 95}, True),
        ("jpeg", {"lossless": True}, False),
        ("jpeg2000", {"level": 40, "reversible": False}, True),
        ("jpeg2000", {"level": 0, "reversible": True}, False),
    ],
)
def test_loss_within_tiff_is_noted(compression: str, settings: dict, lossy: bool) -> None:
    film = read_film(tiff_of(GREY, compression=compression, compressionargs=settings))
    assert (FilmNoteCode.LOSSY_COMPRESSION in codes(film)) == lossy
    assert lossy or (film.pixels == GREY).all()


@pytest.mark.parametrize("factor", [1e-42, 1e-36, 1.0, 1e34])
def test_levels_of_any_size_become_the_same_grey(factor: float) -> None:
    grey = unit_grey((DEEP * np.float64(factor)).astype(np.float32))
    assert np.abs(grey - unit_grey(DEEP)).max() < 1e-3


# ------------------------------------------------------------------------------- shape of pixels


def shaped(kind: str, across: int, down: int) -> bytes:
    """A film whose file states its resolution across and down."""
    buffer = io.BytesIO()
    if kind == "TIFF":
        tifffile.imwrite(buffer, GREY, photometric="minisblack", resolution=(across, down))
        return buffer.getvalue()
    if kind == "PNG":
        return png(GREY, 8, 0, (b"pHYs", struct.pack(">IIB", across, down, 0)))
    Image.fromarray(GREY).save(buffer, "JPEG", dpi=(across, down))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize(
    ("across", "down", "noted"),
    [(200, 100, "2"), (100, 150, "1.5"), (300, 300, ""), (299, 300, ""), (0, 0, ""), (0, 72, "")],
)
def test_pixels_that_are_not_square(kind: str, across: int, down: int, noted: str) -> None:
    if kind == "TIFF" and not across:
        across = down = 1
    film = read_film(shaped(kind, across, down))
    texts = [note.text for note in film.notes if note.code is FilmNoteCode.SPACING_IGNORED]
    assert len(texts) == bool(noted)
    assert all(f"a pixel is {noted} times as long as wide" in text for text in texts)
