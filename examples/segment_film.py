r"""Sends one film to a running zoo and writes what it answers: an overlay and a JSON file.

    .venvs/core/bin/python examples/segment_film.py film.dcm --target 127.0.0.1:50050

writes ``film.dcm.overlay.png`` and ``film.dcm.segments.json`` beside you (``--out`` names another
folder) and prints the column that was named. In the picture a vertebra has its level and the
confidence of that name; one without a name is grey and has a question mark.
Needs ``spinezoo-contract`` and pillow, and pydicom where a DICOM film is to be drawn; the film
itself is decoded by the gateway. ``make up`` starts a zoo on this machine.

A zoo with TLS and tokens (``docs/security.md``) is asked with

    .venvs/core/bin/python examples/segment_film.py film.dcm --target zoo.hospital:50050 \
        --ca ca.crt --token-file my.token

Where an option is not given, the ``SPINEZOO_CLIENT_TLS...`` and ``SPINEZOO_TOKEN...`` settings of
the environment count.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.client import DEFAULT_GATEWAY, EnsembleClient, film_kind
from spinezoo_contract.codec import to_json
from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.tls import ClientSecurity, client_settings, token_from_file
from spinezoo_contract.types import (
    EnsembleAnswer,
    Labelling,
    MemberCode,
    NamedVertebra,
    Segment,
    Structure,
)
from spinezoo_contract.words import counted

if TYPE_CHECKING:
    from PIL.Image import Image

COLOURS: dict[Structure, tuple[int, int, int]] = {
    Structure.LUMBAR_VERTEBRA: (86, 180, 233),
    Structure.SACRAL_VERTEBRA: (0, 158, 115),
    Structure.CAGE: (240, 228, 66),
    Structure.SCREW: (213, 94, 0),
    Structure.ROD: (204, 121, 167),
}
"""Red, green, blue of each structure; told apart by colour-blind eyes too (Okabe and Ito)."""

UNNAMED = (190, 190, 190)
"""Colour of a vertebra whose name is withheld."""

VERTEBRAE = (Structure.LUMBAR_VERTEBRA, Structure.SACRAL_VERTEBRA)

FILL = 0.3
"""Share of the colour inside an outline."""


def main(argv: list[str] | None = None) -> int:
    """Runs the example; returns 0 when the zoo answered."""
    parser = argparse.ArgumentParser(description="Segment one film with a running zoo.")
    parser.add_argument("film", type=Path, help="DICOM, PNG, JPEG or TIFF")
    parser.add_argument("--target", default=DEFAULT_GATEWAY, help="gRPC address of the gateway")
    parser.add_argument("--member", default="", help="draw this member instead of the fused masks")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the two files")
    access = parser.add_argument_group("a zoo with TLS and tokens")
    access.add_argument("--ca", help="PEM file with the authority of the gateway's certificate")
    access.add_argument("--cert", help="PEM file of your own certificate, where it asks for one")
    access.add_argument("--key", help="PEM file of its key")
    access.add_argument("--server-name", help="name in the gateway's certificate, if another")
    access.add_argument("--token-file", help="file that holds your token and nothing else")
    options = parser.parse_args(argv)
    try:
        with EnsembleClient(options.target, **access_of(options)) as zoo:
            answer = zoo.segment(options.film)
    except SpineZooError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    for member in answer.members:
        status = member.status
        found = len(member.prediction.segments) if member.prediction else 0
        told = f"{counted(found, 'outline')}" if status.code is MemberCode.OK else status.message
        print(f"{status.member_name:12} {status.code.name.lower():18} {told}")
    labelling = None if options.member else answer.fused.labelling
    if labelling is not None:
        print_column(labelling)
    for note in answer.notes:
        print(f"note: {note.text}")
    try:
        segments = segments_of(answer, options.member)
    except KeyError as error:
        print(f"{error.args[0]}", file=sys.stderr)
        return 1

    try:
        _write(answer, segments, labelling, options.film, options.out)
    except OSError as error:
        print(not_written(error), file=sys.stderr)
        return 1
    return 0


def _write(
    answer: EnsembleAnswer,
    segments: Sequence[Segment],
    labelling: Labelling | None,
    film: Path,
    out: Path,
) -> None:
    """Writes the JSON file and the overlay."""
    out.mkdir(parents=True, exist_ok=True)
    # The film's whole name: film.png and film.jpg are two films.
    json_path = out / f"{film.name}.segments.json"
    write_whole(json_path, json.dumps(to_json(answer), indent=2))
    print(f"wrote {json_path}")
    grey = read_grey(film, answer.height, answer.width)
    if grey is not None:
        overlay_path = out / f"{film.name}.overlay.png"
        save_overlay(overlay_path, grey, segments, labelling)
        print(f"wrote {overlay_path}")


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file in one step: a full disk or a stop leaves no half of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk names no file
        raise


def write_picture(path: Path, image: Image) -> None:
    """Writes a picture as PNG, whole or not at all."""
    content = io.BytesIO()
    image.save(content, "png")
    write_whole(path, content.getvalue())


def not_written(error: OSError) -> str:
    """What to say where a file or folder cannot be written."""
    where = error.filename or "what comes of the film"
    return f"{where} cannot be written ({error.strerror}); name another folder by --out"


def access_of(options: argparse.Namespace) -> dict[str, Any]:
    """TLS and token as arguments of the client; a token never stands in the command line."""
    access = client_settings()
    if options.ca or options.cert or options.key:
        access["security"] = ClientSecurity.from_files(options.ca, options.cert, options.key)
    if options.token_file:
        access["token"] = token_from_file(options.token_file, "--token-file")
    return {**access, "server_name": options.server_name}


def segments_of(answer: EnsembleAnswer, member_name: str) -> Sequence[Segment]:
    """The fused outlines, or those of one member."""
    if not member_name:
        return answer.fused.segments
    for member in answer.members:
        if member.status.member_name == member_name:
            if member.prediction is None:
                raise KeyError(f"{member_name} gave no answer: {member.status.message}")
            return member.prediction.segments
    names = ", ".join(member.status.member_name for member in answer.members)
    raise KeyError(f"no member {member_name}; there are {names}")


def read_grey(path: Path, height: int, width: int) -> NDArray[np.uint8] | None:
    """The film as (height, width) grey for the picture; None, and why, where it cannot be drawn."""
    try:
        pixels = _dicom_pixels(path) if film_kind(path.read_bytes()) == "dicom" else _pixels(path)
    except ImportError as error:
        missing = _PACKAGES.get(error.name or "", "the missing package")
        print(f"no overlay: {error.name} is missing; pip install {missing}")
        return None
    except Exception as error:  # the zoo reads more kinds of films than pillow and pydicom here
        print(f"no overlay: the film cannot be drawn here ({type(error).__name__})")
        return None
    if pixels.shape != (height, width):
        print(f"no overlay: the film reads as {pixels.shape}, the answer is {height} x {width}")
        return None
    low, high = np.percentile(pixels, [0.5, 99.5])
    scaled = (pixels.astype(np.float32) - low) / max(float(high - low), 1e-6)
    return (np.clip(scaled, 0.0, 1.0) * 255.0).astype(np.uint8)


_PACKAGES = {"PIL": "pillow", "pydicom": "pydicom"}


def _pixels(path: Path) -> NDArray[Any]:
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        # The zoo applies the file's orientation too; its outlines are in that frame.
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in ("RGB", "RGBA", "LA", "P", "PA", "CMYK"):
            upright = upright.convert("L")
        return np.asarray(upright)


def _dicom_pixels(path: Path) -> NDArray[Any]:
    import pydicom

    data = pydicom.dcmread(path, force=True)
    pixels = data.pixel_array.astype(np.float32)
    if pixels.ndim == 3:
        pixels = pixels[..., 1]  # a grey film saved in colour
    # MONOCHROME1 stores bone dark; the answer is the same, the picture would be a negative.
    return -pixels if data.PhotometricInterpretation == "MONOCHROME1" else pixels


def print_column(labelling: Labelling) -> None:
    """The named column, a line for each vertebra, and what is missing from it."""
    for vertebra in labelling.vertebrae:
        print(f"  {name_of(vertebra)}")
    if labelling.lumbar_count is None and labelling.count_reason:
        print(f"  number of lumbar vertebrae: {labelling.count_reason}")
    if labelling.missing_levels:
        print(f"  not found: {', '.join(labelling.missing_levels)}")


def name_of(vertebra: NamedVertebra) -> str:
    """A vertebra's name with its confidence, or why it has none."""
    if vertebra.unnamed_reason is not None:
        return f"no name ({vertebra.unnamed_reason.name.lower()})"
    return f"{vertebra.segment.level} {percent(vertebra.confidence)}"


def percent(probability: float) -> str:
    """A probability; none is certain."""
    return ">99%" if probability > 0.995 else f"{probability:.0%}"


def save_overlay(
    path: Path,
    grey: NDArray[np.uint8],
    segments: Sequence[Segment],
    labelling: Labelling | None = None,
) -> None:
    """The film with each outline in its structure's colour, as PNG.

    Args:
        path: Where to write.
        grey: (H, W) film.
        segments: What to draw.
        labelling: Vertebrae to draw, each with its name, in place of the regions of their classes.
    """
    from PIL import Image

    picture = np.repeat(grey[:, :, None], 3, axis=2).astype(np.float32)
    thickness_px = max(1, round(max(grey.shape) / 700))
    vertebrae = () if labelling is None else labelling.vertebrae
    for vertebra in vertebrae:
        named = vertebra.unnamed_reason is None
        colour = COLOURS[vertebra.segment.structure] if named else UNNAMED
        _draw(picture, vertebra.segment, colour, thickness_px)
    # Small structures last, so that a screw is not hidden by its vertebra.
    for segment in sorted(segments, key=lambda segment: segment.structure):
        if labelling is None or segment.structure not in VERTEBRAE:
            _draw(picture, segment, COLOURS[segment.structure], thickness_px)
    image = Image.fromarray(picture.astype(np.uint8))
    _write_names(image, vertebrae)
    write_picture(path, image)


def _draw(
    picture: NDArray[np.float32], segment: Segment, colour: tuple[int, int, int], thickness_px: int
) -> None:
    """Paints one outline with its fill."""
    mask = decode_mask(segment.mask)
    picture[mask] += FILL * (np.array(colour, np.float32) - picture[mask])
    inside = mask.copy()
    for _ in range(thickness_px):
        inside = _eroded(inside)
    picture[mask & ~inside] = colour


def _write_names(image: Image, vertebrae: Sequence[NamedVertebra]) -> None:
    """Writes each vertebra's level and confidence upon it, as large as fits."""
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(image)
    for vertebra in vertebrae:
        box = vertebra.segment.box
        named = vertebra.unnamed_reason is None
        text = f"{vertebra.segment.level}\n{percent(vertebra.confidence)}" if named else "?"
        size_px = max(8.0, min(box.height, box.width) / 3.5)
        pen.multiline_text(
            (box.x + box.width / 2, box.y + box.height / 2),
            text,
            fill=(255, 255, 255),
            font=ImageFont.load_default(size_px),
            anchor="mm",
            align="center",
            stroke_width=max(1, round(size_px / 10)),
            stroke_fill=(0, 0, 0),
        )


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without the pixels that touch its background or the film's edge."""
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
