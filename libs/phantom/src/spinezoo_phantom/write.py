"""Writes films as DICOM or PNG, and whole sets with a VIA project and a record of the phantom."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian
from spinezoo_contract.types import NAMED_LEVELS
from spinezoo_serving.disk import replace_file
from spinezoo_serving.workers import follow_parent

from spinezoo_phantom.make import make_film
from spinezoo_phantom.records import PhantomFilm
from spinezoo_phantom.settings import DEFAULT_SETTINGS, GENERATOR, PhantomSettings

_FIXED_DATE = "20000101"  # phantoms have no date; a fixed one keeps files byte-identical
_FIXED_TIME = "120000"
_SUFFIX = {"dicom": ".dcm", "png": ".png"}
_RECORDS = ".records"
TRUTH = 4
"""Of what the truth of a film holds; a set with an older one is made again."""


def _uid(*parts: object) -> UID:
    """Derives a valid UID (PS3.5 B.2: 2.25 and a 128-bit integer) from what it names."""
    text = "|".join(str(part) for part in parts)
    digest = hashlib.sha256(f"spinezoo phantom {GENERATOR}|{text}".encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def display_bytes(film: PhantomFilm) -> np.ndarray:
    """Returns the (H, W) uint8 picture seen through the film's display window."""
    centre, width = float(str(film.tags["window_centre"])), float(str(film.tags["window_width"]))
    low = centre - width / 2
    shown = (film.pixels.astype(np.float32) - np.float32(low)) * np.float32(255 / width)
    return np.rint(np.clip(shown, 0, 255)).astype(np.uint8)


def _png_content(film: PhantomFilm) -> bytes:
    done, content = cv2.imencode(".png", display_bytes(film), [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not done:
        message = f"film {film.seed} could not be encoded as PNG"
        raise OSError(message)
    return content.tobytes()


def _orientation(film: PhantomFilm) -> tuple[str, list[str]]:
    """View position, and where rows and columns run (PS3.3 C.7.6.1.1.1), turns included."""
    left = film.tags["facing"] == "left"
    if film.tags["view"] == "anteroposterior":
        view, row = "AP", "R" if left else "L"
    else:
        view, row = ("LL", "P") if left else ("RL", "A")
    opposite = {"A": "P", "P": "A", "L": "R", "R": "L", "F": "H"}
    turned = {
        0: [row, "F"],
        90: ["H", row],
        180: [opposite[row], "H"],
        270: ["F", opposite[row]],
    }
    return view, turned[film.settings.turn_deg]


def _dicom_content(film: PhantomFilm, *, monochrome1: bool) -> bytes:
    settings = film.settings
    identity = (film.seed, json.dumps(settings.as_dict(), sort_keys=True), monochrome1)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = _uid("instance", *identity)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("implementation")
    meta.ImplementationVersionName = f"SPINEZOO_PH_{GENERATOR}"
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = _uid("study", *identity)
    dataset.SeriesInstanceUID = _uid("series", *identity)
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = _FIXED_DATE
    dataset.ContentDate = _FIXED_DATE
    dataset.StudyTime = dataset.ContentTime = _FIXED_TIME
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.Modality = "CR"
    dataset.Manufacturer = "SpineZoo phantom"
    dataset.PatientName = "Phantom^SpineZoo"
    dataset.PatientID = f"PHANTOM-{film.seed}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = ""
    dataset.BodyPartExamined = "LSPINE"
    dataset.ViewPosition, dataset.PatientOrientation = _orientation(film)
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = "Computed phantom, no patient"
    dataset.BurnedInAnnotation = "NO"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if monochrome1 else "MONOCHROME2"
    dataset.Rows, dataset.Columns = film.pixels.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = settings.bits_stored
    dataset.HighBit = settings.bits_stored - 1
    dataset.PixelRepresentation = 0
    spacing = [f"{film.row_spacing_mm:.5f}", f"{film.column_spacing_mm:.5f}"]
    # Both at the detector: with equal values PS3.3 10.7.1.3 means "not calibrated".
    dataset.PixelSpacing = spacing
    dataset.ImagerPixelSpacing = spacing
    dataset.EstimatedRadiographicMagnificationFactor = f"{film.magnification:.5f}"
    top = 2**settings.bits_stored - 1
    centre = float(str(film.tags["window_centre"]))
    dataset.WindowCenter = f"{(top - centre) if monochrome1 else centre:.1f}"
    dataset.WindowWidth = f"{float(str(film.tags['window_width'])):.1f}"
    dataset.RescaleIntercept = "0"
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "US"
    pixels = (top - film.pixels) if monochrome1 else film.pixels
    dataset.PixelData = pixels.astype("<u2").tobytes()
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_dicom(film: PhantomFilm, path: str | Path, *, monochrome1: bool = False) -> None:
    """Writes a Computed Radiography file; the same film gives the same bytes.

    Args:
        film: The film.
        path: Target file; its folder is made if missing.
        monochrome1: Store inverted grey levels, dense parts low.
    """
    replace_file(Path(path), _dicom_content(film, monochrome1=monochrome1))


def write_png(film: PhantomFilm, path: str | Path) -> None:
    """Writes an 8-bit PNG as seen through the film's display window."""
    replace_file(Path(path), _png_content(film))


def film_seed(set_seed: int, index: int) -> int:
    """Returns the seed of film `index` in a set."""
    return int(np.random.SeedSequence((set_seed, index)).generate_state(1, np.uint64)[0] >> 1)


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _identity(seed: int, settings: PhantomSettings, file_format: str) -> dict[str, Any]:
    return {
        "generator": str(GENERATOR),
        "truth": TRUTH,
        "seed": seed,
        "settings": settings.as_dict(),
        "file_format": file_format,
    }


def _write_one(
    folder: Path, index: int, set_seed: int, settings: PhantomSettings, file_format: str
) -> dict[str, Any]:
    """Writes film `index` unless a valid one is there; returns its record."""
    name = f"film_{index:04d}{_SUFFIX[file_format]}"
    seed = film_seed(set_seed, index)
    identity = _identity(seed, settings, file_format)
    film_path, record_path = folder / name, folder / _RECORDS / f"{name}.json"
    if film_path.is_file() and record_path.is_file():
        try:
            record = json.loads(record_path.read_text())
        except ValueError:
            record = {}
        if (
            record.get("identity") == identity
            and record.get("sha256") == hashlib.sha256(film_path.read_bytes()).hexdigest()
        ):
            return record
    film = make_film(seed, settings)
    content = (
        _png_content(film)
        if file_format == "png"
        else _dicom_content(film, monochrome1=bool(film.tags.get("monochrome1", False)))
    )
    record = {
        "identity": identity,
        "filename": name,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "row_spacing_mm": film.row_spacing_mm,
        "column_spacing_mm": film.column_spacing_mm,
        "magnification": film.magnification,
        "tags": dict(film.tags),
        "regions": [
            {
                "structure": region.structure,
                "level": region.level,
                "x": region.polygon_xy[:, 0].tolist(),
                "y": region.polygon_xy[:, 1].tolist(),
            }
            for region in film.regions
        ],
    }
    if film.truth:
        record["truth"] = dict(film.truth)
    replace_file(film_path, content)
    replace_file(record_path, _json_bytes(record))
    return record


def _write_one_of(task: tuple[Path, int, int, PhantomSettings, str]) -> dict[str, Any]:
    cv2.setNumThreads(1)  # one core per worker; the bytes do not depend on it
    return _write_one(*task)


def _via_entry(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "filename": record["filename"],
        "size": record["size"],
        "regions": [
            {
                "shape_attributes": {
                    "name": "polygon",
                    "all_points_x": region["x"],
                    "all_points_y": region["y"],
                },
                "region_attributes": {"structure": region["structure"], "level": region["level"]},
            }
            for region in record["regions"]
        ],
        "file_attributes": {
            "facing": record["tags"]["facing"],
            "hardware": record["tags"]["hardware"],
        },
    }


_CORNER_LEVELS = NAMED_LEVELS[NAMED_LEVELS.index("T10") : NAMED_LEVELS.index("S1")]


def _corner_file(records: list[dict[str, Any]], settings: PhantomSettings) -> dict[str, Any]:
    """The corner truth of `spinezoo_spine.annotations.corners`."""
    numbers = {level: number for number, level in enumerate(_CORNER_LEVELS, start=1)}
    height, width = settings.height_px, settings.width_px
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []

    def shown(points: list[list[float]]) -> bool:
        return all(0 <= x <= width and 0 <= y <= height for x, y in points)

    for image_id, record in enumerate(records, start=1):
        image: dict[str, Any] = {
            "id": image_id,
            "file_name": record["filename"],
            "height": height,
            "width": width,
        }
        if shown(record["truth"]["s1_endplate_px"]):
            image["s1_endplate"] = record["truth"]["s1_endplate_px"]
        images.append(image)
        # In the order of the levels: a record read again has its keys in another one.
        for level in _CORNER_LEVELS:
            vertebra = record["truth"]["vertebrae"].get(level)
            if vertebra is None or not shown(vertebra["corners_px"]):
                continue
            corners = vertebra["corners_px"]
            xs, ys = [x for x, _ in corners], [y for _, y in corners]
            left, top = min(xs), min(ys)
            around = zip(corners, corners[1:] + corners[:1], strict=True)
            area = abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in around)) / 2
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": numbers[level],
                    "segmentation": [[value for corner in corners for value in corner]],
                    "area": round(area, 2),
                    "bbox": [left, top, round(max(xs) - left, 2), round(max(ys) - top, 2)],
                    "iscrowd": 0,
                }
            )
    return {
        "info": {"description": "Phantom films: straight-sided outlines of T10 to L6, by corners"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": level} for level, number in numbers.items()],
    }


def write_film_set(
    folder: str | Path,
    *,
    count: int,
    seed: int,
    settings: PhantomSettings = DEFAULT_SETTINGS,
    file_format: str = "dicom",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes films, their VIA outlines and the phantom's records.

    The records: `phantom.json`, `truth.json` (film to `PhantomFilm.truth`) and `corners_coco.json`
    (four corners a vertebra, as `spinezoo_spine.annotations.corners` reads them).

    Films that are there, whole and of the same seed and settings are kept, so an interrupted run
    can be started again; the result is byte-identical to an uninterrupted run.

    Args:
        folder: Target; made if missing.
        count: Number of films.
        seed: Seed of the set; film i has the seed `film_seed(seed, i)`.
        settings: Knobs of the films.
        file_format: "dicom" or "png".
        workers: Processes; 1 works in this one. With more, a calling script needs the usual
            `if __name__ == "__main__":` guard, because workers are spawned.
        progress: Called with (films done, films in all) after each film.

    Returns:
        Path of `via.json`: {"film_0000.dcm<size>": {filename, size, regions, file_attributes}}.
        Points are pixel-edge coordinates as in `PhantomRegion`.

    Raises:
        ValueError: `file_format` is unknown or a number is out of range.
    """
    if file_format not in _SUFFIX:
        message = f"file_format is {file_format!r}; choose one of {sorted(_SUFFIX)}"
        raise ValueError(message)
    if count < 0 or workers < 1 or seed < 0:
        message = f"count {count}, seed {seed} and workers {workers}: need count and seed 0 or more"
        raise ValueError(message + ", workers 1 or more")
    target = Path(folder)
    (target / _RECORDS).mkdir(parents=True, exist_ok=True)
    tasks = [(target, index, seed, settings, file_format) for index in range(count)]
    records: list[dict[str, Any]] = []

    def collect(results: Any) -> None:
        for record in results:  # map keeps the order, whoever finishes first
            records.append(record)
            if progress is not None:
                progress(len(records), count)

    if workers == 1:
        collect(_write_one(*task) for task in tasks)
    else:
        # Not "fork": a child forked while OpenCV's threads run can wait for them for ever.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, initializer=follow_parent) as pool:
            collect(pool.map(_write_one_of, tasks, chunksize=1))
    via = {f"{record['filename']}{record['size']}": _via_entry(record) for record in records}
    phantom = {
        "generator": str(GENERATOR),
        "seed": seed,
        "count": count,
        "file_format": file_format,
        "settings": settings.as_dict(),
        "films": [
            {
                "filename": record["filename"],
                "seed": record["identity"]["seed"],
                "sha256": record["sha256"],
                "row_spacing_mm": record["row_spacing_mm"],
                "column_spacing_mm": record["column_spacing_mm"],
                "magnification": record["magnification"],
                "tags": record["tags"],
            }
            for record in records
        ],
    }
    replace_file(target / "phantom.json", _json_bytes(phantom))
    truth = {record["filename"]: record["truth"] for record in records}
    replace_file(target / "truth.json", _json_bytes(truth))
    corners = _corner_file(records, settings)
    replace_file(target / "corners_coco.json", _json_bytes(corners))
    replace_file(target / "via.json", _json_bytes(via))
    return target / "via.json"
