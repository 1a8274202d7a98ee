from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)
from spinezoo_contract.errors import FilmError, SpineZooError, TooLargeError
from spinezoo_spine.films.reader import (
    FilmLimits,
    kind_of,
    read_film,
    read_film_file,
    read_film_size,
)

RAMP = (np.arange(32 * 40, dtype=np.uint16) * 3).reshape(32, 40)  # 0 to 3837: 12 bits
Make = Callable[..., bytes]


# ---------------------------------------------------------------------------------- grey levels


def test_plain_levels_are_kept(make_dicom: Make) -> None:
    film = read_film(make_dicom(RAMP, BitsStored=12))
    assert film.pixels.dtype == np.uint16
    assert (film.pixels == RAMP).all()
    assert (film.height, film.width) == (32, 40)


def test_monochrome1_is_inverted_so_that_bright_is_dense(make_dicom: Make) -> None:
    film = read_film(make_dicom(RAMP, BitsStored=12, PhotometricInterpretation="MONOCHROME1"))
    assert (film.pixels == 4095 - RAMP).all()


def test_eight_bits(make_dicom: Make) -> None:
    stored = (RAMP % 251).astype(np.uint8)
    film = read_film(make_dicom(stored))
    assert film.pixels.dtype == np.uint8
    assert (film.pixels == stored).all()


def test_signed_values_keep_their_order(make_dicom: Make) -> None:
    stored = RAMP.astype(np.int16) - 2000
    film = read_film(make_dicom(stored, BitsStored=12))
    assert (film.pixels.astype(int) == RAMP.astype(int) + 48).all()
    inverted = read_film(make_dicom(stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1"))
    assert (inverted.pixels.astype(int) == 4095 - 48 - RAMP.astype(int)).all()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (None, lambda x: np.clip((x - (1000 - 0.5)) / (2001 - 1) + 0.5, 0, 1)),
        ("LINEAR", lambda x: np.clip((x - (1000 - 0.5)) / (2001 - 1) + 0.5, 0, 1)),
        ("LINEAR_EXACT", lambda x: np.clip((x - 1000) / 2001 + 0.5, 0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 1000) / 2001))),
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_windows_follow_the_standard(
    make_dicom: Make, function: str | None, expected: Callable, photometric: str
) -> None:
    more = {} if function is None else {"VOILUTFunction": function}
    film = read_film(
        make_dicom(
            RAMP,
            BitsStored=12,
            WindowCenter="1000",
            WindowWidth="2001",
            PhotometricInterpretation=photometric,
            **more,
        )
    )
    shown = expected(RAMP.astype(float))
    shown = (shown - shown.min()) / (shown.max() - shown.min())
    if photometric == "MONOCHROME1":
        shown = 1 - shown
    assert film.pixels.dtype == np.uint16
    np.testing.assert_allclose(film.pixels / 65535, shown, atol=2e-5)


def test_rescale_comes_before_the_window(make_dicom: Make) -> None:
    rescaled = make_dicom(
        RAMP,
        BitsStored=12,
        RescaleSlope="-2",
        RescaleIntercept="8000",
        WindowCenter="4000",
        WindowWidth="1000",
    )
    shown = np.clip((8000.0 - 2 * RAMP - 3999.5) / 999 + 0.5, 0, 1)
    np.testing.assert_allclose(read_film(rescaled).pixels / 65535, shown, atol=2e-5)
    only = read_film(make_dicom(RAMP, BitsStored=12, RescaleSlope="-2", RescaleIntercept="8000"))
    np.testing.assert_allclose(only.pixels / 65535, 1 - RAMP / RAMP.max(), atol=2e-5)


def lut(values: np.ndarray, first: int, keyword: str) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [len(values), first, 16])
        item.add_new("LUTData", "OW", values.astype("<u2").tobytes())
        if keyword == "ModalityLUTSequence":
            item.ModalityLUTType = "US"
        setattr(dataset, keyword, Sequence([item]))

    return change


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
def test_look_up_tables(make_dicom: Make, keyword: str) -> None:
    table = (np.arange(4096) ** 2 // 300).clip(0, 65535)
    film = read_film(make_dicom(RAMP, BitsStored=12, change=lut(table, 0, keyword)))
    expected = table[RAMP].astype(float)
    np.testing.assert_allclose(film.pixels / 65535, expected / expected.max(), atol=2e-5)


def test_padding_becomes_the_darkest_level(make_dicom: Make) -> None:
    stored = RAMP + 100
    stored[:5] = 4000
    stored[5:8] = 4010
    padded = {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4010, "BitsStored": 12}
    plain = read_film(make_dicom(stored, **padded)).pixels
    assert (plain[:8] == plain[8:].min()).all()
    assert (plain[8:] == stored[8:]).all()
    window = read_film(
        make_dicom(
            stored,
            WindowCenter="2000",
            WindowWidth="4000",
            **padded,
            PhotometricInterpretation="MONOCHROME1",
        )
    ).pixels
    assert (window[:8] == 0).all()
    assert window[8:].max() == 65535


def test_a_film_of_one_level_is_taken(make_dicom: Make) -> None:
    assert read_film(make_dicom(np.full((32, 32), 7, np.uint16))).pixels.max() == 7


# -------------------------------------------------------------------------------------- spacing


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"ImagerPixelSpacing": ["0.15", "0.2"], "PixelSpacing": ["0.1", "0.1"]}, (0.15, 0.2)),
        ({"PixelSpacing": ["0.1", "0.11"]}, (0.1, 0.11)),
        ({"NominalScannedPixelSpacing": ["0.3", "0.3"]}, (0.3, 0.3)),
        ({"ImagerPixelSpacing": ["0", "0"], "PixelSpacing": ["0.1", "0.1"]}, (0.1, 0.1)),
        ({"PixelSpacing": ["-1", "0.1"]}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_spacing_is_that_of_the_detector(
    make_dicom: Make, attributes: dict, expected: tuple
) -> None:
    film = read_film(make_dicom(RAMP, **attributes))
    assert (film.row_spacing_mm, film.column_spacing_mm) == expected


# ------------------------------------------------------------------------------------ encodings


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_native_syntaxes(make_dicom: Make, syntax: str) -> None:
    stored = RAMP.byteswap() if syntax == ExplicitVRBigEndian else RAMP
    film = read_film(make_dicom(stored, syntax=syntax, BitsStored=12))
    assert (film.pixels == RAMP).all()


def compressed(dataset: Dataset, syntax: str, stream: bytes) -> None:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def image_bytes(pixels: np.ndarray, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **settings)
    return buffer.getvalue()


def test_rle(make_dicom: Make) -> None:
    film = read_film(
        make_dicom(RAMP, BitsStored=12, change=lambda dataset: dataset.compress(RLELossless))
    )
    assert (film.pixels == RAMP).all()


def test_jpeg_2000_and_baseline_jpeg(make_dicom: Make) -> None:
    stored = (RAMP // 16).astype(np.uint8)
    stream = image_bytes(stored, "JPEG2000", irreversible=False, no_jp2=True)
    film = read_film(make_dicom(stored, change=lambda d: compressed(d, JPEG2000Lossless, stream)))
    assert (film.pixels == stored).all()
    stream = image_bytes(stored, "JPEG", quality=95)
    film = read_film(make_dicom(stored, change=lambda d: compressed(d, JPEGBaseline8Bit, stream)))
    assert np.abs(film.pixels.astype(int) - stored).max() < 12


def test_without_preamble(make_dicom: Make) -> None:
    bare = make_dicom(RAMP, preamble=False, BitsStored=12)
    assert bare[:4] != b"\0\0\0\0"
    assert kind_of(bare) == "dicom"
    assert (read_film(bare).pixels == RAMP).all()
    assert read_film_size(bare) == (32, 40)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("PNG", np.uint8),
        ("PNG", np.uint16),
        ("TIFF", np.uint8),
        ("TIFF", np.uint16),
        ("TIFF", np.float32),
    ],
)
def test_lossless_files_keep_their_levels(kind: str, dtype: type) -> None:
    pixels = (RAMP // 16).astype(dtype) if dtype is np.uint8 else RAMP.astype(dtype)
    film = read_film(image_bytes(pixels, kind))
    assert film.pixels.dtype == dtype
    assert (film.pixels == pixels).all()
    assert film.row_spacing_mm is None
    assert read_film_size(image_bytes(pixels, kind)) == (32, 40)


def test_jpeg_files() -> None:
    pixels = (RAMP // 16).astype(np.uint8)
    film = read_film(image_bytes(pixels, "JPEG", quality=95))
    assert np.abs(film.pixels.astype(int) - pixels).max() < 12


def test_white_is_zero_tiff_is_turned_over() -> None:
    eight = (RAMP // 16).astype(np.uint8)
    data = image_bytes(eight, "TIFF", tiffinfo={262: 0})
    assert (255 - eight).tobytes() in data  # Pillow turns 8-bit levels over when it saves ...
    assert (read_film(data).pixels == eight).all()
    data = image_bytes(RAMP, "TIFF", tiffinfo={262: 0})
    assert RAMP.tobytes() in data  # ... but not 16-bit ones
    assert (read_film(data).pixels == 65535 - RAMP).all()


# ---------------------------------------------------------------------------------- what is wrong


def png_header(width: int, height: int) -> bytes:
    """A valid PNG header and next to no data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def drop(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: delattr(dataset, keyword)


COLOURED = np.zeros((32, 32, 3), np.uint8)
COLOURED[4:9, 4:9, 0] = 90

BAD: dict[str, tuple[Callable[[Make], bytes], type[SpineZooError], str]] = {
    "nothing": (lambda make: b"", FilmError, "0 bytes.*send the whole file"),
    "text": (lambda make: b"hello, this is no film" * 20, FilmError, "neither DICOM nor"),
    "zeros": (lambda make: b"\0" * 4000, FilmError, "neither DICOM nor"),
    "pdf": (lambda make: b"%PDF-1.7\n" + b"x" * 500, FilmError, "neither DICOM nor"),
    "dicom prefix only": (lambda make: b"\0" * 128 + b"DICM", FilmError, "DICOM file"),
    "dicom prefix and noise": (
        lambda make: b"\0" * 128 + b"DICM" + bytes(range(1, 250)) * 9,
        FilmError,
        "DICOM file",
    ),
    "truncated dicom": (lambda make: make(RAMP)[:-500], FilmError, "truncated"),
    "dicom cut in the header": (lambda make: make(RAMP)[:400], FilmError, "DICOM file"),
    "no pixel data": (
        lambda make: make(RAMP, change=drop("PixelData")),
        FilmError,
        "no pixel data that can be read",
    ),
    "no rows": (lambda make: make(RAMP, change=drop("Rows")), FilmError, "no Rows"),
    "multi-frame": (
        lambda make: make(np.zeros((3, 32, 32), np.uint16), NumberOfFrames=3),
        FilmError,
        "3 frames; send one film a file",
    ),
    "rgb dicom": (
        lambda make: make(
            np.random.default_rng(0).integers(0, 255, (3, 32, 32), np.uint8),
            PhotometricInterpretation="RGB",
            SamplesPerPixel=3,
        ),
        FilmError,
        "is RGB, not grey: .* convert it to one grey channel",
    ),
    "palette dicom": (
        lambda make: make(RAMP, PhotometricInterpretation="PALETTE COLOR"),
        FilmError,
        "PALETTE COLOR",
    ),
    "three samples": (lambda make: make(RAMP, SamplesPerPixel=3), FilmError, "3 channels"),
    "1 x 1": (lambda make: make(RAMP[:1, :1]), FilmError, "1 x 1.*at least 16 x 16"),
    "32 bits": (lambda make: make(RAMP.astype(np.uint32)), FilmError, "32 bits a pixel"),
    "huge dicom header": (
        lambda make: make(RAMP, Rows=20000, Columns=20000),
        TooLargeError,
        "20000 x 20000",
    ),
    "a side too long": (
        lambda make: image_bytes(np.zeros((16, 20001), np.uint8), "PNG"),
        TooLargeError,
        "20000 a side",
    ),
    "a side of dicom too long": (
        lambda make: make(RAMP, Rows=16, Columns=30000),
        TooLargeError,
        "20000 a side",
    ),
    "huge jpeg inside dicom": (
        lambda make: make(
            RAMP.astype(np.uint8),
            change=lambda d: compressed(
                d,
                JPEGBaseline8Bit,
                image_bytes(RAMP.astype(np.uint8), "JPEG").replace(
                    struct.pack(">HH", 32, 40), struct.pack(">HH", 20000, 20000), 1
                ),
            ),
        ),
        TooLargeError,
        "20000 x 20000",
    ),
    "jpeg of another size inside dicom": (
        lambda make: make(
            RAMP.astype(np.uint8),
            change=lambda d: compressed(
                d, JPEGBaseline8Bit, image_bytes(np.zeros((64, 64), np.uint8), "JPEG")
            ),
        ),
        FilmError,
        "header says 32 x 40.*64 x 64",
    ),
    "broken jpeg 2000 inside dicom": (
        lambda make: make(
            RAMP.astype(np.uint8),
            change=lambda d: compressed(
                d,
                JPEG2000Lossless,
                image_bytes(RAMP.astype(np.uint8), "JPEG2000", no_jp2=True)[:120],
            ),
        ),
        FilmError,
        "truncated",
    ),
    "deflate bomb": (
        lambda make: make(
            np.zeros((32, 32), np.uint16),
            syntax=DeflatedExplicitVRLittleEndian,
            change=lambda d: setattr(d, "PixelData", b"\0" * 20_000_000),
        ),
        TooLargeError,
        "deflated",
    ),
    "1 x 1 png": (lambda make: image_bytes(np.zeros((1, 1), np.uint8), "PNG"), FilmError, "1 x 1"),
    "rgb png": (
        lambda make: image_bytes(COLOURED, "PNG"),
        FilmError,
        "PNG is RGB, not grey: .* convert it to one grey channel",
    ),
    "rgb jpeg": (
        lambda make: image_bytes(COLOURED, "JPEG"),
        FilmError,
        "JPEG is RGB",
    ),
    "grey and alpha": (
        lambda make: image_bytes(np.zeros((32, 32, 2), np.uint8), "PNG"),
        FilmError,
        "PNG is LA",
    ),
    "one bit": (lambda make: image_bytes(np.zeros((32, 32), bool), "PNG"), FilmError, "one bit"),
    "truncated png": (
        lambda make: image_bytes(
            np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8), "PNG"
        )[:900],
        FilmError,
        "truncated",
    ),
    "truncated jpeg": (
        lambda make: image_bytes(
            np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8), "JPEG"
        )[:1500],
        FilmError,
        "truncated",
    ),
    "huge png header": (lambda make: png_header(20000, 20000), TooLargeError, "pixels allowed"),
    "large png header": (lambda make: png_header(3000, 3000), TooLargeError, "3000 x 3000"),
    "gif": (lambda make: image_bytes(np.zeros((32, 32), np.uint8), "GIF"), FilmError, "neither"),
    "two-page tiff": (
        lambda make: image_bytes(
            np.zeros((32, 32), np.uint8),
            "TIFF",
            save_all=True,
            append_images=[Image.fromarray(np.zeros((32, 32), np.uint8))],
        ),
        FilmError,
        "2 frames",
    ),
    "nan tiff": (
        lambda make: image_bytes(np.full((32, 32), np.nan, np.float32), "TIFF"),
        FilmError,
        "not finite",
    ),
    "32-bit tiff": (
        lambda make: image_bytes(np.full((32, 32), 70000, np.int32), "TIFF"),
        FilmError,
        "16 bits",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_advice(make_dicom: Make, secret: str, name: str) -> None:
    build, error, words = BAD[name]
    data = build(make_dicom)
    limits = FilmLimits(max_pixels=4_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(error, match=words) as caught:
            read_film(data, limits=limits)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert type(caught.value) is error
    assert secret not in str(caught.value)
    assert secret.split("^")[0] not in repr(caught.value.__cause__)
    assert peak_bytes < 25_000_000 + 3 * len(data)


def test_limits_on_bytes(make_dicom: Make) -> None:
    data = make_dicom(RAMP)
    with pytest.raises(TooLargeError, match="bytes"):
        read_film(data, limits=FilmLimits(max_bytes=len(data) - 1))
    assert read_film(data, limits=FilmLimits(max_bytes=len(data), max_pixels=RAMP.size))
    with pytest.raises(TooLargeError, match="allowed"):
        read_film(data, limits=FilmLimits(max_pixels=RAMP.size - 1))


def test_the_stated_kind_is_believed(make_dicom: Make) -> None:
    png = image_bytes(np.zeros((32, 32), np.uint8), "PNG")
    with pytest.raises(FilmError, match="is a PNG, JPEG or TIFF, not DICOM"):
        read_film(png, kind="dicom")
    with pytest.raises(FilmError, match="send it as dicom"):
        read_film(make_dicom(RAMP), kind="encoded")


def test_damaged_bytes_never_escape_as_another_error(make_dicom: Make, secret: str) -> None:
    rng = np.random.default_rng(7)
    sources = [
        make_dicom(RAMP, WindowCenter="1000", WindowWidth="900", PixelSpacing=["0.1", "0.1"]),
        make_dicom(RAMP, preamble=False),
        make_dicom(RAMP, change=lambda dataset: dataset.compress(RLELossless)),
        image_bytes((RAMP // 16).astype(np.uint8), "PNG"),
        image_bytes((RAMP // 16).astype(np.uint8), "JPEG"),
        image_bytes(RAMP, "TIFF"),
    ]
    messages: list[str] = []
    start = time.perf_counter()
    for source in sources:
        for _ in range(60):
            broken = bytearray(source)
            for _ in range(int(rng.integers(1, 12))):
                broken[int(rng.integers(min(len(broken), 1200)))] = int(rng.integers(256))
            data = bytes(broken[: int(rng.integers(1, len(broken) + 1))])
            try:
                film = read_film(data, limits=FilmLimits(max_pixels=1_000_000))
            except (FilmError, TooLargeError) as error:
                messages.append(str(error))
            else:
                assert min(film.height, film.width) >= 16
    assert time.perf_counter() - start < 30
    assert len(messages) > 100
    assert not any(secret in message for message in messages)


def test_files_are_named(tmp_path: Path, make_dicom: Make) -> None:
    (tmp_path / "good.dcm").write_bytes(make_dicom(RAMP))
    assert read_film_file(tmp_path / "good.dcm").height == 32
    (tmp_path / "bad.dcm").write_bytes(b"")
    with pytest.raises(FilmError, match=r"^bad\.dcm: film has 0 bytes"):
        read_film_file(tmp_path / "bad.dcm")
    with pytest.raises(FilmError, match=r"^gone\.dcm: cannot be read"):
        read_film_file(tmp_path / "gone.dcm")


# --------------------------------------------------------------------------------- real files


def test_the_three_tibia_forms_give_identical_pixels(shared_data: Path) -> None:
    films = [
        read_film_file(shared_data / "dicom" / name) for name in ("RG3_J2KR", "RG3_JPLL", "RG3_RLE")
    ]
    assert films[0].pixels.shape == (1760, 1760)
    assert np.unique(films[0].pixels).size > 500
    assert (films[0].pixels == films[1].pixels).all()
    assert (films[0].pixels == films[2].pixels).all()


def test_the_chest_film_without_preamble(shared_data: Path) -> None:
    film = read_film_file(shared_data / "dicom" / "CR-MONO1-10-chest")
    assert film.pixels.shape == (440, 440)
    spine = film.pixels[150:300, 200:240].mean()
    lung = film.pixels[150:250, 90:130].mean()
    assert spine > lung


def test_the_real_lateral_films(shared_data: Path) -> None:
    paths = sorted((shared_data / "real_lateral_dev").glob("*.png"))
    assert paths
    for path in paths:
        film = read_film_file(path)
        assert film.pixels.dtype == np.uint8
        assert film.height > film.width > 900


def test_a_server_reads_its_settings_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from spinezoo_spine.films import reader

    monkeypatch.setenv("SPINEZOO_MAX_PIXELS", str(RAMP.size - 1))
    reader._served_limits.cache_clear()
    data = image_bytes(RAMP, "png")
    try:
        for _ in range(2):
            with pytest.raises(TooLargeError):
                reader.read_served_film(data)
            monkeypatch.setenv("SPINEZOO_MAX_PIXELS", "not read again")
    finally:
        reader._served_limits.cache_clear()
