"""What becomes of stored values: bits, sign, padding, look-up tables, windows, inversion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from odd_dicom import codes
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from spinezoo_contract.errors import FilmError
from spinezoo_contract.types import Film, FilmNoteCode
from spinezoo_spine.films.reader import read_film

Make = Callable[..., bytes]
ROWS, COLUMNS = 48, 64
Y, X = np.mgrid[:ROWS, :COLUMNS]
RAMP = (Y * COLUMNS + X).astype(np.uint16)  # 0 to 3071 in 12 bits, each value once
SMOOTH = np.rint(1900 + 1400 * np.sin(Y / 11) * np.cos(X / 13)).astype(np.uint16)  # 12 bits
BYTES = (SMOOTH >> 4).astype(np.uint8)


def spread(values: np.ndarray) -> np.ndarray:
    values = values.astype(float)
    return (values - values.min()) / (values.max() - values.min())


def same(film: Film, expected: np.ndarray) -> None:
    np.testing.assert_allclose(spread(film.pixels), spread(expected), atol=3e-5)


# ----------------------------------------------------------------------------- look-up tables


def table(
    keyword: str, descriptor: list[int], data: object, vr: str, descriptor_vr: str = "US"
) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        item = Dataset()
        item.add_new("LUTDescriptor", descriptor_vr, descriptor)
        item.add_new("LUTData", vr, data)
        if keyword == "ModalityLUTSequence":
            item.ModalityLUTType = "US"
        setattr(dataset, keyword, Sequence([item]))

    return change


BOTH = pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
CURVE = (np.sqrt(np.arange(4096) / 4095) * 255).astype(np.uint8)
WIDE = np.rint(np.sqrt(np.arange(4096) / 4095) * 65535).astype(np.uint16)


@BOTH
@pytest.mark.parametrize("depth", [8, 16])
def test_entries_of_8_bits_one_a_word(make_dicom: Make, keyword: str, depth: int) -> None:
    words = CURVE.astype("<u2").tobytes()
    change = table(keyword, [4096, 0, depth], words, "OW")
    same(read_film(make_dicom(RAMP, BitsStored=12, change=change)), CURVE[RAMP])


@BOTH
def test_entries_of_8_bits_packed_in_words(make_dicom: Make, keyword: str) -> None:
    change = table(keyword, [4096, 0, 8], CURVE.tobytes(), "OW")
    same(read_film(make_dicom(RAMP, BitsStored=12, change=change)), CURVE[RAMP])
    packed = [int(each) for each in CURVE.view("<u2")]
    change = table(keyword, [4096, 0, 8], packed, "US")
    same(read_film(make_dicom(RAMP, BitsStored=12, change=change)), CURVE[RAMP])


@BOTH
@pytest.mark.parametrize("depth", [10, 12, 14, 16])
def test_entries_of_any_depth(make_dicom: Make, keyword: str, depth: int) -> None:
    entries = (WIDE >> (16 - depth)).astype("<u2")
    change = table(keyword, [4096, 0, depth], entries.tobytes(), "OW")
    film = read_film(make_dicom(RAMP, BitsStored=12, change=change))
    same(film, entries[RAMP])
    assert np.unique(film.pixels).size == np.unique(entries[RAMP]).size


@BOTH
def test_entries_written_as_signed(make_dicom: Make, keyword: str) -> None:
    signed = [int(each) for each in WIDE.view(np.int16)]
    change = table(keyword, [4096, 0, 16], signed, "SS")
    same(read_film(make_dicom(RAMP, BitsStored=12, change=change)), WIDE[RAMP])
    below_zero = [int(each) - 2000 for each in range(4096)]
    change = table(keyword, [4096, 0, 16], below_zero, "SS")
    same(read_film(make_dicom(RAMP, BitsStored=12, change=change)), RAMP)


@BOTH
@pytest.mark.parametrize("descriptor_vr", ["US", "SS"])
def test_a_table_from_minus_32768(make_dicom: Make, keyword: str, descriptor_vr: str) -> None:
    entries = np.rint(np.sqrt(np.arange(65536) / 65535) * 65535).astype("<u2")
    stored = (RAMP.astype(np.int32) * 21 - 32768).astype(np.int16)
    first = -32768 if descriptor_vr == "SS" else 32768
    change = table(keyword, [0, first, 16], entries.tobytes(), "OW", descriptor_vr)
    film = read_film(make_dicom(stored, change=change))
    same(film, entries[stored.astype(np.int32) + 32768])


@pytest.mark.parametrize("slope", [40, 1000])
def test_a_slope_beyond_16_bits_before_the_table(make_dicom: Make, slope: int) -> None:
    entries = np.rint(np.sqrt(np.arange(65536) / 65535) * 65535).astype("<u2")
    change = table("VOILUTSequence", [0, 0, 16], entries.tobytes(), "OW")
    stored = (RAMP // 40).astype(np.uint16) if slope == 1000 else RAMP
    data = make_dicom(
        stored, BitsStored=12, RescaleSlope=str(slope), RescaleIntercept="0", change=change
    )
    values = np.minimum(stored.astype(np.int64) * slope, 65535)
    same(read_film(data), entries[values])


def test_negative_values_before_the_table(make_dicom: Make) -> None:
    entries = np.rint(np.sqrt(np.arange(4096) / 4095) * 4095).astype("<u2")
    for first in (-1024, 64512):
        vr = "SS" if first < 0 else "US"
        change = table("VOILUTSequence", [4096, first, 12], entries.tobytes(), "OW", vr)
        data = make_dicom(
            RAMP, BitsStored=12, RescaleSlope="1", RescaleIntercept="-1024", change=change
        )
        same(read_film(data), entries[RAMP])


def test_values_beyond_the_table_take_its_ends(make_dicom: Make) -> None:
    entries = (np.arange(1500) ** 2 // 60).astype("<u2")
    change = table("VOILUTSequence", [1500, 1000, 16], entries.tobytes(), "OW")
    film = read_film(make_dicom(RAMP, BitsStored=12, change=change))
    same(film, entries[np.clip(RAMP.astype(int) - 1000, 0, 1499)])


def test_tables_in_other_encodings(make_dicom: Make) -> None:
    change = table("VOILUTSequence", [4096, 0, 16], [int(each) for each in WIDE], "US")
    data = make_dicom(RAMP, BitsStored=12, syntax=ImplicitVRLittleEndian, change=change)
    same(read_film(data), WIDE[RAMP])
    change = table("VOILUTSequence", [4096, 0, 16], WIDE.astype(">u2").tobytes(), "OW")
    stored = RAMP.byteswap()
    data = make_dicom(stored, BitsStored=12, syntax=ExplicitVRBigEndian, change=change)
    same(read_film(data), WIDE[RAMP])
    packed = np.append(CURVE[:4095], np.uint8(0)).view("<u2").astype(">u2")
    change = table("VOILUTSequence", [4095, 0, 8], packed.tobytes(), "OW")
    data = make_dicom(stored, BitsStored=12, syntax=ExplicitVRBigEndian, change=change)
    same(read_film(data), CURVE[RAMP])


@BOTH
def test_a_table_that_is_too_short_is_named(make_dicom: Make, keyword: str) -> None:
    change = table(keyword, [4096, 0, 16], WIDE[:1000].astype("<u2").tobytes(), "OW")
    with pytest.raises(FilmError, match="LUT has 1000 of the 4096 entries"):
        read_film(make_dicom(RAMP, BitsStored=12, change=change))
    change = table(keyword, [4096, 0], WIDE.astype("<u2").tobytes(), "OW")
    with pytest.raises(FilmError, match="descriptor of three numbers"):
        read_film(make_dicom(RAMP, BitsStored=12, change=change))


def test_a_table_that_hides_the_film_is_ignored(make_dicom: Make) -> None:
    change = table("VOILUTSequence", [4, 4000, 16], [0, 1, 2, 3], "US")
    film = read_film(make_dicom(RAMP, BitsStored=12, change=change))
    assert (film.pixels == RAMP).all() or np.unique(film.pixels).size == RAMP.size
    assert FilmNoteCode.LOOK_UP_TABLE_IGNORED in codes(film)


# -------------------------------------------------------------------------------------- bits


@pytest.mark.parametrize("stored", [8, 10, 12, 14])
def test_left_aligned_values(make_dicom: Make, stored: int) -> None:
    values = (SMOOTH >> (12 - stored) if stored < 12 else SMOOTH << (stored - 12)).astype(np.uint16)
    data = make_dicom(values << (16 - stored), change=lambda d: (setattr(d, "BitsStored", stored),))
    film = read_film(data)
    assert (film.pixels == values).all()
    signed = (values.astype(np.int32) - (1 << (stored - 1))).astype(np.int16)
    data = make_dicom(
        (signed.astype(np.int32) << (16 - stored)).astype(np.int16),
        change=lambda d: setattr(d, "BitsStored", stored),
    )
    assert (read_film(data).pixels == values).all()


def test_right_aligned_values_said_to_be_left_aligned(make_dicom: Make) -> None:
    data = make_dicom(SMOOTH, change=lambda d: setattr(d, "BitsStored", 12))
    with pytest.raises(FilmError, match=r"12 bits of a value end at bit 15.*begin at bit 0"):
        read_film(data)


@pytest.mark.parametrize("high", [3, 10, 16, 99])
def test_impossible_high_bits(make_dicom: Make, high: int) -> None:
    def change(dataset: Dataset) -> None:
        dataset.BitsStored, dataset.HighBit = 12, high

    with pytest.raises(FilmError, match="contradicts itself: 12 bits with the highest at"):
        read_film(make_dicom(SMOOTH, change=change))


@pytest.mark.parametrize("stored", [8, 10, 11])
def test_values_wider_than_the_header_says(make_dicom: Make, stored: int) -> None:
    with pytest.raises(FilmError, match=f"values have {stored} bits, but they have 12"):
        read_film(make_dicom(SMOOTH, BitsStored=stored))
    signed = SMOOTH.astype(np.int16) - 2048
    with pytest.raises(FilmError, match=f"values have {stored} bits"):
        read_film(make_dicom(signed, BitsStored=stored))


@pytest.mark.parametrize("declared", [False, True])
def test_overlays_in_unused_bits_are_masked(make_dicom: Make, declared: bool) -> None:
    text = (Y // 5 % 3 == 0) & (X // 7 % 2 == 0)
    cells = SMOOTH | np.where(text, 1 << 12, 0).astype(np.uint16)
    if declared:
        cells = cells | np.where(X > 30, 1 << 15, 0).astype(np.uint16)

    def change(dataset: Dataset) -> None:
        if declared:
            dataset.add_new(0x60000010, "US", ROWS)
            dataset.add_new(0x60000102, "US", 12)

    film = read_film(make_dicom(cells, BitsStored=12, change=change))
    assert (film.pixels == SMOOTH).all()
    assert FilmNoteCode.BITS_MASKED in codes(film)
    assert (FilmNoteCode.OVERLAY_NOT_SHOWN in codes(film)) == declared


def test_sign_extension_is_no_rubbish(make_dicom: Make) -> None:
    signed = SMOOTH.astype(np.int16) - 2048
    film = read_film(make_dicom(signed, BitsStored=12))
    assert (film.pixels == SMOOTH).all()
    assert FilmNoteCode.BITS_MASKED not in codes(film)
    bare = (signed.view(np.uint16) & 0x0FFF).view(np.int16)
    assert (read_film(make_dicom(bare, BitsStored=12)).pixels == SMOOTH).all()


@pytest.mark.parametrize("allocated", [1, 4, 12, 24, 32])
def test_other_depths_are_named(make_dicom: Make, allocated: int) -> None:
    def change(dataset: Dataset) -> None:
        dataset.BitsAllocated, dataset.BitsStored = allocated, allocated
        dataset.HighBit = allocated - 1

    with pytest.raises(FilmError, match=f"stores {allocated} in {allocated} bits a pixel"):
        read_film(make_dicom(SMOOTH, change=change))


# ----------------------------------------------------------------------------------- padding


@pytest.mark.parametrize(("value", "vr"), [(63536, "US"), (-2000, "SS")])
@pytest.mark.parametrize("stored_bits", [12, 16])
def test_padding_of_either_signedness(
    make_dicom: Make, value: int, vr: str, stored_bits: int
) -> None:
    stored = SMOOTH.astype(np.int16) - 1900
    stored[:6] = -2000

    def change(dataset: Dataset) -> None:
        dataset.add_new("PixelPaddingValue", vr, value)

    film = read_film(make_dicom(stored, BitsStored=stored_bits, change=change))
    plain = read_film(make_dicom(stored[6:], BitsStored=stored_bits)).pixels
    assert (film.pixels[6:] == plain).all()
    assert (film.pixels[:6] == plain.min()).all()


def test_unsigned_film_with_padding_written_as_signed(make_dicom: Make) -> None:
    stored = SMOOTH.copy()
    stored[:6] = 65535

    def change(dataset: Dataset) -> None:
        dataset.add_new("PixelPaddingValue", "SS", -1)

    film = read_film(make_dicom(stored, change=change))
    assert (film.pixels[6:] == stored[6:]).all()
    assert (film.pixels[:6] == stored[6:].min()).all()


def test_padding_outside_the_stored_bits(make_dicom: Make) -> None:
    cells = SMOOTH.copy()
    cells[:2] = 0xF830  # -2000 in 16 bits, no value of 12 bits
    film = read_film(make_dicom(cells, BitsStored=12, PixelPaddingValue=0xF830))
    assert (film.pixels[2:] == SMOOTH[2:]).all()
    assert (film.pixels[:2] == SMOOTH[2:].min()).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": "1800", "WindowWidth": "3000"}])
def test_saturated_bone_is_kept_where_padding_has_its_value(
    make_dicom: Make, photometric: str, window: dict
) -> None:
    stored = (SMOOTH // 2 + 300).astype(np.uint16)
    bright = 4095
    stored[20:30, 20:30] = bright  # an implant
    stored[35:44, -6:] = bright  # bone at the film's edge
    stored[:6], stored[:, :5] = bright, bright  # collimated
    if photometric == "MONOCHROME1":
        stored = (4095 - stored).astype(np.uint16)
    film = read_film(
        make_dicom(
            stored,
            BitsStored=12,
            PhotometricInterpretation=photometric,
            PixelPaddingValue=int(stored[0, 0]),
            **window,
        )
    )
    pixels = film.pixels
    assert (pixels[20:30, 20:30] == pixels.max()).all()
    assert (pixels[35:44, -6:] == pixels.max()).all()
    assert (pixels[:6] == pixels.min()).all()
    assert (pixels[6:, :5] == pixels.min()).all()
    assert FilmNoteCode.PADDING_DOUBTFUL in codes(film)


def test_padding_does_not_squeeze_the_contrast(make_dicom: Make) -> None:
    stored = SMOOTH.astype(np.int16)
    stored[:6] = -30000
    film = read_film(
        make_dicom(stored, RescaleSlope="2", RescaleIntercept="5", PixelPaddingValue=-30000)
    )
    assert film.pixels[6:].max() == 65535
    assert np.unique(film.pixels[6:]).size == np.unique(stored[6:]).size
    same(Film(film.pixels[6:]), stored[6:])


# ----------------------------------------------------------------------- windows and rescale

MEANINGLESS = {
    "width 0": {"WindowCenter": "2000", "WindowWidth": "0"},
    "negative width": {"WindowCenter": "2000", "WindowWidth": "-100"},
    "a fraction of one": {"WindowCenter": "2000", "WindowWidth": "0.5"},
    "no width": {"WindowCenter": "2000", "WindowWidth": ""},
    "no centre": {"WindowCenter": "", "WindowWidth": "300"},
    "unknown function": {
        "WindowCenter": "2000",
        "WindowWidth": "3000",
        "VOILUTFunction": "CUBIC",
    },
    "far below": {"WindowCenter": "-60000", "WindowWidth": "10"},
    "far above": {"WindowCenter": "60000", "WindowWidth": "10"},
    "one level wide": {"WindowCenter": "2000", "WindowWidth": "1"},
    "nearly all": {"WindowCenter": "2000", "WindowWidth": "40"},
    "nearly all, exact": {
        "WindowCenter": "2000",
        "WindowWidth": "40",
        "VOILUTFunction": "LINEAR_EXACT",
    },
    "nearly all, sigmoid": {
        "WindowCenter": "2000",
        "WindowWidth": "40",
        "VOILUTFunction": "SIGMOID",
    },
}


@pytest.mark.parametrize("name", MEANINGLESS)
def test_a_meaningless_window_is_ignored(make_dicom: Make, name: str) -> None:
    film = read_film(make_dicom(RAMP, BitsStored=12, **MEANINGLESS[name]))
    assert (film.pixels == RAMP).all()
    assert FilmNoteCode.WINDOW_IGNORED in codes(film)


def test_an_empty_window_is_no_window(make_dicom: Make) -> None:
    film = read_film(make_dicom(RAMP, BitsStored=12, WindowCenter="", WindowWidth=""))
    assert (film.pixels == RAMP).all()
    assert FilmNoteCode.WINDOW_IGNORED not in codes(film)


def test_a_window_beside_a_wide_black_border_is_kept(make_dicom: Make) -> None:
    stored = np.zeros((200, 200), np.uint16)
    stored[90:138, 90:154] = RAMP + 500
    film = read_film(make_dicom(stored, BitsStored=12, WindowCenter="2000", WindowWidth="2000"))
    assert FilmNoteCode.WINDOW_IGNORED not in codes(film)
    same(film, np.clip((stored - 1999.5) / 1999 + 0.5, 0, 1))


def test_several_windows(make_dicom: Make) -> None:
    film = read_film(
        make_dicom(RAMP, BitsStored=12, WindowCenter=["1500", "9"], WindowWidth=["2000", "9"])
    )
    same(film, np.clip((RAMP - 1499.5) / 1999 + 0.5, 0, 1))
    assert FilmNoteCode.SEVERAL_WINDOWS in codes(film)


@pytest.mark.parametrize("slope", ["0", "0.0"])
def test_a_slope_of_0_is_ignored(make_dicom: Make, slope: str) -> None:
    film = read_film(make_dicom(RAMP, BitsStored=12, RescaleSlope=slope, RescaleIntercept="7"))
    assert (film.pixels == RAMP).all()
    assert FilmNoteCode.RESCALE_IGNORED in codes(film)


def test_rescale_and_window_in_functional_groups(make_dicom: Make) -> None:
    def change(dataset: Dataset) -> None:
        shared, rescale, window, measures = Dataset(), Dataset(), Dataset(), Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = "-2", "8000"
        window.WindowCenter, window.WindowWidth = "5000", "4000"
        measures.PixelSpacing = ["0.2", "0.25"]
        shared.PixelValueTransformationSequence = Sequence([rescale])
        shared.PixelMeasuresSequence = Sequence([measures])
        frame = Dataset()
        frame.FrameVOILUTSequence = Sequence([window])
        dataset.SharedFunctionalGroupsSequence = Sequence([shared])
        dataset.PerFrameFunctionalGroupsSequence = Sequence([frame])

    film = read_film(make_dicom(RAMP, BitsStored=12, change=change))
    same(film, np.clip((8000.0 - 2 * RAMP - 4999.5) / 3999 + 0.5, 0, 1))
    assert (film.row_spacing_mm, film.column_spacing_mm) == (0.2, 0.25)


# -------------------------------------------------------------------------------- inversion


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "doubtful"),
    [
        ("MONOCHROME2", "", False, False),
        ("MONOCHROME2", "IDENTITY", False, False),
        ("MONOCHROME2", "INVERSE", True, True),
        ("MONOCHROME1", "", True, False),
        ("MONOCHROME1", "INVERSE", True, False),
        ("MONOCHROME1", "IDENTITY", True, True),
    ],
)
@pytest.mark.parametrize("window", [{}, {"WindowCenter": "1500", "WindowWidth": "4000"}])
def test_presentation_lut_shape(
    make_dicom: Make, photometric: str, shape: str, inverted: bool, doubtful: bool, window: dict
) -> None:
    film = read_film(
        make_dicom(
            RAMP,
            BitsStored=12,
            PhotometricInterpretation=photometric,
            PresentationLUTShape=shape,
            **window,
        )
    )
    same(film, -RAMP.astype(float) if inverted else RAMP)
    assert (FilmNoteCode.POLARITY_DOUBTFUL in codes(film)) == doubtful


@pytest.mark.parametrize(
    ("photometric", "sign", "doubtful"),
    [("MONOCHROME2", 1, True), ("MONOCHROME2", -1, False), ("MONOCHROME1", 1, False)],
)
def test_pixel_intensity_relationship(
    make_dicom: Make, photometric: str, sign: int, doubtful: bool
) -> None:
    film = read_film(
        make_dicom(
            RAMP,
            BitsStored=12,
            PhotometricInterpretation=photometric,
            PixelIntensityRelationship="LOG",
            PixelIntensityRelationshipSign=sign,
            PresentationIntentType="FOR PROCESSING",
        )
    )
    same(film, -RAMP.astype(float) if photometric == "MONOCHROME1" else RAMP)
    assert FilmNoteCode.FOR_PROCESSING in codes(film)
    assert (FilmNoteCode.POLARITY_DOUBTFUL in codes(film)) == doubtful


@pytest.mark.parametrize("value", [[1, -1], []])
def test_a_relationship_that_says_nothing_costs_no_film(make_dicom: Make, value: list) -> None:
    film = read_film(make_dicom(SMOOTH, PixelIntensityRelationshipSign=value))
    assert (film.pixels == SMOOTH).all()


@pytest.mark.parametrize(
    ("keyword", "code"),
    [
        ("WindowCenter", FilmNoteCode.WINDOW_IGNORED),
        ("WindowWidth", FilmNoteCode.WINDOW_IGNORED),
        ("RescaleSlope", FilmNoteCode.RESCALE_IGNORED),
        ("RescaleIntercept", FilmNoteCode.RESCALE_IGNORED),
        ("ImagerPixelSpacing", FilmNoteCode.SPACING_IGNORED),
    ],
)
@pytest.mark.parametrize("value", ["MUSTERMANN", "nan", "1,5"])
def test_numbers_that_are_none_are_ignored(
    make_dicom: Make, keyword: str, code: FilmNoteCode, value: str
) -> None:
    data = make_dicom(RAMP, BitsStored=12, **{keyword: "1234567890"})
    film = read_film(data.replace(b"1234567890", value.ljust(10).encode()))
    assert (film.pixels == RAMP).all()
    assert code in codes(film)


@pytest.mark.parametrize(
    "header",
    [
        {"WindowCenter": "60", "WindowWidth": "40"},
        {"RescaleSlope": "-1", "RescaleIntercept": "255"},
        {"PresentationLUTShape": "INVERSE"},
    ],
    ids=lambda header: next(iter(header)),
)
def test_a_film_in_colour_is_not_windowed_again(make_dicom: Make, header: dict) -> None:
    """Who saves a shown film in colour leaves the window of the original in the header."""
    film = read_film(
        make_dicom(
            np.stack([BYTES, BYTES, BYTES], axis=-1),
            Rows=ROWS,
            Columns=COLUMNS,
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            PhotometricInterpretation="RGB",
            **header,
        )
    )
    assert (film.pixels == BYTES).all()
    noted = FilmNoteCode.WINDOW_IGNORED in codes(film)
    assert noted == ("PresentationLUTShape" not in header)
