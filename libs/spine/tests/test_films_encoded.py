"""PNG, JPEG and TIFF: orientation, channels, depth, photometry, pages, what ends early."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
import tifffile
from odd_dicom import codes
from PIL import Image, PngImagePlugin
from spinezoo_contract.errors import FilmError, TooLargeError
from spinezoo_contract.types import FilmNoteCode
from spinezoo_spine.films.reader import FilmLimits, read_film, read_film_size
from spinezoo_spine.films.strips import decode_lzw

Y, X = np.mgrid[:96, :64]
GREY = np.rint(120 + 60 * np.sin(Y / 17) + 50 * np.cos(X / 13)).astype(np.uint8)
GREY[8:20, 6:30] = 250  # a mark, so that no two turns are alike
DEEP = GREY.astype(np.uint16) * 200 + 7


def saved(pixels: np.ndarray | Image.Image, kind: str, **settings: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def tiff(pixels: np.ndarray, **settings: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **settings)
    return buffer.getvalue()


def packed(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Rows of values of a few bits each, the highest bit first, as bytes."""
    places = np.arange(bits)[::-1]
    return np.packbits((pixels[..., None] >> places & 1).reshape(len(pixels), -1), axis=1)


# --------------------------------------------------------------------------------- orientation

TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a.T[::-1, ::-1],
    8: lambda a: a.T[::-1],
}
"""By TIFF 6.0: where row 0 and column 0 of the file are shown."""


def with_orientation(kind: str, pixels: np.ndarray, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "PNG, behind the pixels":
        data = saved(pixels, "PNG")
        content = exif.tobytes().removeprefix(b"Exif\x00\x00")
        body = b"eXIf" + content
        chunk = struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
        return data[:-12] + chunk + data[-12:]
    if kind == "TIFF":
        return tiff(pixels, extratags=[(274, "H", 1, orientation, True)])
    if kind == "compressed TIFF":
        tags = [(274, "H", 1, orientation, True)]
        return tiff(pixels, compression="lzw", predictor=True, extratags=tags)
    settings = {"quality": 100} if kind == "JPEG" else {}
    return saved(pixels, kind, exif=exif.tobytes(), **settings)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "kind", ["PNG", "PNG, behind the pixels", "JPEG", "TIFF", "compressed TIFF"]
)
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    data = with_orientation(kind, GREY, orientation)
    film = read_film(data)
    shown = TURNED[orientation](GREY)
    assert film.pixels.shape == shown.shape == read_film_size(data)
    difference = np.abs(film.pixels.astype(int) - shown)
    assert difference.max() <= (3 if kind == "JPEG" else 0)
    assert (FilmNoteCode.ORIENTATION_APPLIED in codes(film)) == (orientation != 1)


def test_orientation_of_other_depths_and_channels() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for pixels in (DEEP, np.dstack([GREY] * 3)):
        film = read_film(saved(pixels, "PNG", exif=exif.tobytes()))
        first = pixels if pixels.ndim == 2 else pixels[..., 0]
        assert (film.pixels == TURNED[6](first)).all()


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_none_is_ignored(orientation: int) -> None:
    film = read_film(with_orientation("PNG", GREY, orientation))
    assert (film.pixels == GREY).all()
    assert FilmNoteCode.ORIENTATION_APPLIED not in codes(film)


# ----------------------------------------------------------------------------------- channels

OPAQUE = np.full_like(GREY, 255)


def indexed(colours: list[tuple[int, int, int]], places: np.ndarray) -> Image.Image:
    image = Image.fromarray(places)
    image = Image.frombytes("P", image.size, places.tobytes())
    image.putpalette([part for colour in colours for part in colour])
    return image


GREYS = [(level, level, level) for level in range(256)]
MERGED = {
    "RGB PNG": lambda: saved(np.dstack([GREY] * 3), "PNG"),
    "RGBA PNG": lambda: saved(np.dstack([GREY, GREY, GREY, OPAQUE]), "PNG"),
    "grey and alpha PNG": lambda: saved(np.dstack([GREY, OPAQUE]), "PNG"),
    "palette PNG": lambda: saved(indexed(GREYS, GREY), "PNG"),
    "turned palette PNG": lambda: saved(indexed(GREYS[::-1], 255 - GREY), "PNG"),
    "interlaced RGB PNG": lambda: saved(np.dstack([GREY] * 3), "PNG", interlace=1),
    "RGB TIFF": lambda: tiff(np.dstack([GREY] * 3), photometric="rgb"),
    "planar RGB TIFF": lambda: tiff(
        np.stack([GREY] * 3), photometric="rgb", planarconfig="separate"
    ),
    "RGBA TIFF": lambda: tiff(
        np.dstack([GREY, GREY, GREY, OPAQUE]), photometric="rgb", extrasamples=["unassalpha"]
    ),
    "grey and alpha TIFF": lambda: tiff(
        np.dstack([GREY, OPAQUE]),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    ),
    "palette TIFF": lambda: tiff(
        GREY, photometric="palette", colormap=np.stack([np.arange(256, dtype=np.uint16) * 257] * 3)
    ),
    "off by 2": lambda: saved(np.dstack([GREY, GREY, GREY - 2]), "PNG"),
}


@pytest.mark.parametrize("name", MERGED)
def test_grey_films_in_colour_are_taken(name: str) -> None:
    film = read_film(MERGED[name]())
    assert film.pixels.dtype == np.uint8
    assert (film.pixels == GREY).all()
    assert FilmNoteCode.CHANNELS_MERGED in codes(film)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bits_are_kept_in_colour(channels: int) -> None:
    planes = [DEEP] * (1 if channels == 2 else 3)
    if channels != 3:
        planes.append(np.full_like(DEEP, 65535))
    film = read_film(imagecodecs.png_encode(np.dstack(planes)))
    assert (film.pixels == DEEP).all()
    if channels == 3:
        assert (read_film(tiff(np.dstack(planes), photometric="rgb")).pixels == DEEP).all()


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_grey_jpeg_in_colour(subsampling: int, progressive: bool) -> None:
    image = Image.fromarray(np.dstack([GREY] * 3))
    data = saved(image, "JPEG", quality=90, subsampling=subsampling, progressive=progressive)
    film = read_film(data)
    assert np.abs(film.pixels.astype(int) - GREY).max() < 30
    assert {FilmNoteCode.CHANNELS_MERGED, FilmNoteCode.LOSSY_COMPRESSION} <= codes(film)


def test_grey_cmyk_jpeg() -> None:
    black = Image.fromarray(255 - GREY)
    none = Image.new("L", black.size)
    data = saved(Image.merge("CMYK", [none, none, none, black]), "JPEG", quality=95)
    assert np.abs(read_film(data).pixels.astype(int) - GREY).max() < 30


def coloured(levels: int) -> np.ndarray:
    channels = np.dstack([GREY // 2] * 3)
    channels[30:33, 30:33, 0] += np.uint8(levels)
    return channels


COLOURED = {
    "RGB PNG": lambda: saved(coloured(40), "PNG"),
    "3 levels": lambda: saved(coloured(3), "PNG"),
    "palette PNG": lambda: saved(
        indexed([(0, 0, 0), (90, 0, 0)], (GREY > 128) * np.uint8(1)), "PNG"
    ),
    "RGB TIFF": lambda: tiff(coloured(40), photometric="rgb"),
    "CMYK JPEG": lambda: saved(Image.fromarray(coloured(90)).convert("CMYK"), "JPEG"),
    "RGB JPEG": lambda: saved(coloured(90), "JPEG"),
    "16-bit RGB": lambda: imagecodecs.png_encode(np.dstack([DEEP, DEEP, DEEP // 2])),
}


@pytest.mark.parametrize("name", COLOURED)
def test_coloured_films_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(FilmError, match=r"not grey: \d+ pixels are coloured, by up to \d+%"):
        read_film(COLOURED[name]())


def test_transparent_films_are_refused() -> None:
    clear = OPAQUE.copy()
    clear[:9, :9] = 0
    for data in (
        saved(np.dstack([GREY, clear]), "PNG"),
        saved(np.dstack([GREY, GREY, GREY, clear]), "PNG"),
        saved(GREY, "PNG", transparency=250),
        tiff(np.dstack([GREY, GREY, GREY, clear]), photometric="rgb", extrasamples=["unassalpha"]),
    ):
        with pytest.raises(FilmError, match="pixels that are not opaque"):
            read_film(data)


# ---------------------------------------------------------------------------------- TIFF levels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int16", "int8", "float16", "float32", "float64"]
)
def test_tiff_of_any_type(order: str, big: bool, dtype: str) -> None:
    pixels = (DEEP // 2).astype(dtype) if dtype.startswith("float") else (GREY // 2).astype(dtype)
    film = read_film(tiff(pixels, byteorder=order, bigtiff=big))
    assert (film.pixels == pixels.astype(np.float32)).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_white_is_zero(dtype: str, order: str) -> None:
    pixels = GREY.astype(dtype) if dtype != "int16" else GREY.astype(np.int16) - 100
    film = read_film(tiff(pixels, photometric="miniswhite", byteorder=order))
    turned = film.pixels.astype(float)
    assert (turned - turned.min() == pixels.max().astype(float) - pixels.astype(float)).all()


def test_signed_tiff_keeps_its_order() -> None:
    pixels = DEEP.astype(np.int32) - 26000
    film = read_film(tiff(pixels.astype(np.int16)))
    assert film.pixels.dtype == np.uint16
    assert (film.pixels.astype(int) - 32768 == pixels).all()
    assert (read_film(tiff(GREY.astype(np.int16))).pixels == GREY).all()
    assert (read_film(tiff(DEEP.astype(np.int32))).pixels == DEEP).all()
    assert (read_film(tiff(DEEP.astype(np.uint32))).pixels == DEEP).all()


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_bits(bits: int) -> None:
    pixels = (DEEP >> (16 - bits)).astype(np.uint16)
    data = bytearray(tiff(packed(pixels, bits)))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        places = {code: tags[code].valueoffset for code in (256, 258)}
    struct.pack_into("<H", data, places[258], bits)
    struct.pack_into("<I", data, places[256], 64)
    assert (read_film(bytes(data)).pixels == pixels).all()


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("layout", [{"rowsperstrip": 7}, {"tile": (32, 48)}, {"rowsperstrip": 96}])
def test_compressed_tiff(compression: str, layout: dict) -> None:
    for predictor in (None, True):
        data = tiff(DEEP, compression=compression, predictor=predictor, **layout)
        assert (read_film(data).pixels == DEEP).all()
        with pytest.raises(FilmError, match="TIFF is truncated"):
            read_film(data[: len(data) // 2])


@pytest.mark.parametrize("rows", [7, 64, 500, 799])
@pytest.mark.parametrize("dtype", ["<u1", "<u2", ">u2", ">i2", "<f4", ">u4"])
@pytest.mark.parametrize("predictor", [False, True])
def test_strips_decoded_in_two_threads(rows: int, dtype: str, predictor: bool) -> None:
    levels = np.add.outer(np.arange(800) ** 2 // 640, np.arange(700) // 3) % 251
    pixels = levels.astype(dtype)
    data = tiff(
        pixels,
        compression="lzw",
        predictor=predictor,
        rowsperstrip=rows,
        byteorder=dtype[0],
        extratags=[(274, "H", 1, 3, False)],
    )
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert (decode_lzw(file.pages[0], data) == pixels).all()
    assert (read_film(data).pixels == pixels[::-1, ::-1]).all()


def test_a_strip_that_decodes_to_too_little() -> None:
    data = bytearray(tiff(GREY, compression="zlib", rowsperstrip=32))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        offset, size = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
    short = zlib.compress(bytes(5 * 64))
    data[offset : offset + size] = short + bytes(size - len(short))
    with pytest.raises(FilmError, match="TIFF is truncated or damaged"):
        read_film(bytes(data))


REFUSED_TIFF = {
    "one bit": (lambda: tiff(GREY > 128), "one bit a pixel"),
    "beyond 16 bits": (lambda: tiff(GREY.astype(np.uint32) * 70000), "levels from .* to 17500000"),
    "far below 0": (lambda: tiff(GREY.astype(np.int32) - 70000), "levels from -"),
    "NaN": (lambda: tiff(np.where(GREY > 200, np.nan, GREY).astype(np.float32)), "not finite"),
    "too large for 32 bits": (lambda: tiff(GREY * 1e300), "levels beyond"),
    "complex": (lambda: tiff(GREY.astype(np.complex64)), "TIFF"),
    "CIELAB": (lambda: tiff(np.dstack([GREY] * 3), photometric="cielab"), "CIELAB, not grey"),
    "two pages": (lambda: tiff(np.stack([GREY, GREY]), photometric="minisblack"), "2 frames"),
    "ImageJ stack": (lambda: tiff(np.stack([GREY] * 3), imagej=True), "3 frames"),
    "seven pages": (lambda: tiff(np.stack([GREY] * 7), photometric="minisblack"), "7 frames"),
    "a volume": (
        lambda: tiff(
            np.stack([GREY] * 4), volumetric=True, tile=(16, 16, 16), photometric="minisblack"
        ),
        "planes|frames",
    ),
}


@pytest.mark.parametrize("name", REFUSED_TIFF)
def test_refused_tiff(name: str) -> None:
    build, words = REFUSED_TIFF[name]
    with pytest.raises(FilmError, match=words):
        read_film(build())


def test_thumbnails_are_no_pages() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(DEEP, subifds=1, compression="zlib")
        writer.write(DEEP[::2, ::2], subfiletype=1)
        writer.write(DEEP[::4, ::4], subfiletype=1)
    film = read_film(buffer.getvalue())
    assert (film.pixels == DEEP).all()
    assert FilmNoteCode.PAGES_IGNORED in codes(film)


# ----------------------------------------------------------------------------- PNG, JPEG, frames


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_of_grey_png(bits: int) -> None:
    places = (GREY >> (8 - bits)).astype(np.uint8)

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    lines = b"".join(b"\0" + row.tobytes() for row in packed(places, bits))
    header = struct.pack(">IIBBBBB", 64, 96, bits, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines))
    film = read_film(data + chunk(b"IEND", b""))
    assert (film.pixels == places.astype(int) * 255 // ((1 << bits) - 1)).all()


def test_interlaced_and_deep_png_keep_their_levels() -> None:
    assert (read_film(saved(DEEP, "PNG")).pixels == DEEP).all()
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 10)
    assert (read_film(saved(GREY, "PNG", pnginfo=info, gamma=0.45)).pixels == GREY).all()


def test_animated_png_says_how_many_frames() -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY), Image.fromarray(GREY // 2)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(FilmError, match="PNG has 3 frames"):
        read_film(data)
    with pytest.raises(FilmError, match="PNG has 3 frames"):
        read_film_size(data)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restart", [0, 2])
def test_jpeg_that_ends_early(mode: str, progressive: bool, restart: int) -> None:
    image = Image.fromarray(GREY).convert(mode)
    data = saved(image, "JPEG", quality=92, progressive=progressive, restart_marker_rows=restart)
    whole = read_film(data)
    bare = read_film(data[:-2])
    assert (bare.pixels == whole.pixels).all()
    assert FilmNoteCode.END_MARKER_MISSING in codes(bare)
    scan = data.index(b"\xff\xda")
    for share in (0.2, 0.5, 0.8, 0.95):
        cut = data[: scan + int((len(data) - scan) * share)]
        for end in (b"", b"\xff\xd9"):
            with pytest.raises(FilmError, match=r"truncated|damaged"):
                read_film(cut + end)


def test_a_grey_corner_does_not_make_a_jpeg_incomplete() -> None:
    pixels = GREY.copy()
    pixels[64:, 32:] = 128
    data = saved(pixels, "JPEG", quality=90)
    assert np.abs(read_film(data).pixels.astype(int) - pixels).max() < 40


def test_bytes_behind_a_jpeg_are_ignored() -> None:
    data = saved(GREY, "JPEG", quality=92)
    assert (read_film(data + b"trailer" * 50).pixels == read_film(data).pixels).all()


def test_a_jpeg_that_states_its_height_behind_the_pixels() -> None:
    stream = bytearray(saved(GREY, "JPEG"))
    place = stream.index(b"\xff\xc0") + 5
    stream[place : place + 2] = b"\0\0"
    with pytest.raises(FilmError, match="no size in its header"):
        read_film(bytes(stream))


def test_jpegs_that_no_viewer_shows() -> None:
    for stream in (
        imagecodecs.jpeg8_encode(DEEP >> 4, bitspersample=12),
        imagecodecs.jpeg8_encode(GREY, lossless=True),
        imagecodecs.jpegls_encode(GREY),
    ):
        with pytest.raises(FilmError, match="save it as PNG or TIFF"):
            read_film(stream)


def test_decoded_pixels_that_fit_no_message_are_refused_up_front() -> None:
    limits = FilmLimits(max_raw_bytes=96 * 64 * 2 - 1)
    for data in (tiff(DEEP), saved(DEEP, "PNG"), tiff(GREY.astype(np.float32))):
        with pytest.raises(TooLargeError, match="SPINEZOO_MAX_MESSAGE_BYTES"):
            read_film(data, limits=limits)
    assert read_film(saved(GREY, "PNG"), limits=limits)


NO_FILMS = {
    "PDF": (b"%PDF-1.7\n1 0 obj", "a PDF document"),
    "zip": (b"PK\x03\x04" + bytes(300), "a zip archive"),
    "HTML": (b"<!DOCTYPE html><html><body>Log in</body></html>", "a web page"),
    "HTML with a mark": (b"\xef\xbb\xbf\r\n<html lang='de'>", "a web page"),
    "GIF": (b"GIF89a" + bytes(300), "a GIF image"),
    "MetaImage": (b"ObjectType = Image\nNDims = 2\n" + bytes(300), "a MetaImage"),
    "BMP": (b"BM" + bytes(300), "a BMP image"),
    "JPEG 2000": (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(300), "a JPEG 2000 image"),
    "WebP": (b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(300), "a WebP image"),
    "HEIC": (b"\x00\x00\x00\x18ftypheic" + bytes(300), "a HEIC or AVIF image"),
    "gzip": (b"\x1f\x8b\x08" + bytes(300), "a gzip archive"),
    "XML": (b"<?xml version='1.0'?><a/>", "an XML file"),
    "JSON": (b'{"a": 1}', "a JSON file"),
    "text": (b"Dear colleague,\n", "a text file"),
    "zeros": (bytes(5000), "zeros only"),
    "Office": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Office document"),
}


@pytest.mark.parametrize("name", NO_FILMS)
@pytest.mark.parametrize("kind", ["dicom", "encoded", None])
def test_a_file_that_is_no_film_is_named(name: str, kind: str | None) -> None:
    data, words = NO_FILMS[name]
    with pytest.raises(FilmError, match=words):
        read_film(data, kind=kind)
