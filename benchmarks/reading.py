"""Time of reading films, side by side with another checkout of SpineZoo.

Both checkouts read the same films in turns, each in a process of its own that goes on, so that a
busy machine slows both alike. Films are made here, 2500 x 2048 pixels with noise, of every usual
kind::

    .venvs/core/bin/python benchmarks/reading.py --other ../other-checkout [--rounds 15] [--record]

Prints the median of each and their ratio, and judges the smaller of that and the ratio of the
fastest. Ends with 1 where a mark is missed.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def serve(folder: Path) -> None:
    """Reads the films that standard input names, and answers with the time of each in s.

    The time is NaN where a film cannot be read.
    """
    try:
        from spinezoo_spine.films.reader import read_film
    except ImportError:  # as it was called before
        from spinezoo_spine.films import read_film
    films = {path.name: path.read_bytes() for path in folder.iterdir()}
    unreadable = set()
    for name, data in films.items():
        try:
            read_film(data)
        except Exception:
            unreadable.add(name)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() in unreadable:
            print("nan", flush=True)
            continue
        begin = time.perf_counter()
        film = read_film(films[line.strip()])
        film.pixels[::7, ::7].sum()
        print(time.perf_counter() - begin, flush=True)


def make_films(folder: Path) -> None:
    """Writes one film of each kind."""
    import imagecodecs
    import numpy as np
    import tifffile
    from PIL import Image
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import (
        UID,
        ComputedRadiographyImageStorage,
        ExplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
        JPEGLosslessSV1,
        JPEGLSLossless,
        RLELossless,
    )

    y, x = np.mgrid[:2500, :2048]
    smooth = 1800 + 900 * np.sin(y / 210) * np.cos(x / 170)
    noise = np.random.default_rng(0).normal(0, 12, smooth.shape)
    deep = (smooth + 600 * np.exp(-(((x - 1000) / 300.0) ** 2)) + noise).astype(np.uint16)
    grey = (deep >> 4).astype(np.uint8)

    def dicom(stream: bytes = b"", syntax: str = ExplicitVRLittleEndian, **more: object) -> bytes:
        pixels = grey if syntax == JPEGBaseline8Bit else deep
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        meta.MediaStorageSOPInstanceUID = UID("1.2.3")
        meta.TransferSyntaxUID = UID(syntax if stream else ExplicitVRLittleEndian)
        film = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
        film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, UID("1.2.3")
        film.Modality, film.SamplesPerPixel, film.PixelRepresentation = "CR", 1, 0
        film.PhotometricInterpretation = "MONOCHROME2"
        film.Rows, film.Columns = pixels.shape
        film.BitsAllocated = 8 * pixels.itemsize
        film.BitsStored = 8 if pixels is grey else 12
        film.HighBit = film.BitsStored - 1
        for keyword, value in more.items():
            setattr(film, keyword, value)
        film.PixelData = encapsulate([stream]) if stream else pixels.tobytes()
        film["PixelData"].VR = "OB" if stream else "OW"
        film["PixelData"].is_undefined_length = bool(stream)
        if syntax == RLELossless:
            film.compress(RLELossless)
        buffer = io.BytesIO()
        film.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    def picture(pixels: np.ndarray, kind: str, **more: object) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **more)
        return buffer.getvalue()

    def tiff(pixels: np.ndarray, **more: object) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, **more)
        return buffer.getvalue()

    lossless = imagecodecs.jpeg8_encode(deep, lossless=True, bitspersample=12, predictor=1)
    jpeg2000 = imagecodecs.jpeg2k_encode(
        deep, codecformat="j2k", reversible=True, level=0, bitspersample=12
    )
    films = {
        "DICOM, native": dicom(),
        "DICOM, native with window": dicom(WindowCenter="2000", WindowWidth="3000"),
        "DICOM, native MONOCHROME1": dicom(PhotometricInterpretation="MONOCHROME1"),
        "DICOM, RLE": dicom(syntax=RLELossless),
        "DICOM, JPEG baseline": dicom(imagecodecs.jpeg8_encode(grey, level=90), JPEGBaseline8Bit),
        "DICOM, JPEG lossless": dicom(lossless, JPEGLosslessSV1),
        "DICOM, JPEG-LS": dicom(imagecodecs.jpegls_encode(deep), JPEGLSLossless),
        "DICOM, JPEG 2000": dicom(jpeg2000, JPEG2000Lossless),
        "PNG, 8 bits": picture(grey, "PNG"),
        "PNG, 16 bits": picture(deep, "PNG"),
        "JPEG": picture(grey, "JPEG", quality=92),
        "TIFF, 8 bits": picture(grey, "TIFF"),
        "TIFF, 16 bits": picture(deep, "TIFF"),
        "TIFF, LZW of 8 bits": picture(grey, "TIFF", compression="tiff_lzw"),
        "TIFF, LZW of 16 bits": picture(deep, "TIFF", compression="tiff_lzw"),
        "TIFF, LZW with predictor": tiff(grey, compression="lzw", predictor=True, rowsperstrip=32),
        "TIFF, deflate of 8 bits": picture(grey, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF, deflate of 16 bits": picture(deep, "TIFF", compression="tiff_adobe_deflate"),
    }
    for name, data in films.items():
        (folder / name).write_bytes(data)


def start(checkout: Path, folder: Path) -> subprocess.Popen[str]:
    """The process that reads with a checkout."""
    homes = (checkout / ".venvs" / "core", checkout / "libs" / "spine" / ".venv")
    python = next((home for home in homes if home.is_dir()), homes[0]) / "bin" / "python"
    process = subprocess.Popen(
        [str(python), str(Path(__file__).resolve()), "--serve", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"{checkout}: cannot read the films; run `make setup` there")
    return process


def ask(process: subprocess.Popen[str], name: str) -> float:
    """Time of reading one film, in s."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{name}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, help="the other checkout, set up")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument(
        "--record", action="store_true", help="keep the result in benchmarks/results"
    )
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve)
        return 0
    # Not above: the process that reads has the other checkout's packages.
    import record

    if options.other is None:
        parser.error("say which checkout to compare with: --other FOLDER")
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_films(folder)
        processes = [start(checkout, folder) for checkout in (options.other.resolve(), ROOT)]
        try:
            for film in sorted(path.name for path in folder.iterdir()):
                times: list[list[float]] = [[], []]
                for turn in range(options.rounds):
                    for place in (0, 1) if turn % 2 else (1, 0):
                        times[place].append(ask(processes[place], film))
                if any(math.isnan(each) for both in times for each in both):
                    print(f"{film:26s} cannot be read by both")
                    continue
                before, now = (1e3 * statistics.median(each) for each in times)
                least = min(times[1]) / min(times[0])
                ratios[film] = round(min(now / before, least), 3)
                print(
                    f"{film:26s} before {before:7.1f} ms, now {now:7.1f} ms: ratio "
                    f"{now / before:.2f} (of the fastest {least:.2f})",
                    flush=True,
                )
        finally:
            for process in processes:
                process.kill()
    return record.finish("reading", ratios, options)


if __name__ == "__main__":
    sys.exit(main())
