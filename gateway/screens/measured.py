"""The picture of a measured phantom for the documents: ``make screens``.

Runs ``examples/measure_film.py`` on a phantom beside a zoo and writes ``docs/images/measures.png``,
smaller and with few colours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from spinezoo_contract.client import DEFAULT_GATEWAY

ROOT = Path(__file__).resolve().parents[2]

ROWS = 1000
"""Height of the picture, in px."""

GREYS = 128
"""Levels of the film. The other half of the colours are those of lines and their blends: among
all pixels an adaptive palette would choose greys alone."""


def few_colours(picture: Image.Image) -> Image.Image:
    """The picture with a palette of greys and of the colours that it has beside them."""
    pixels = np.asarray(picture)
    coloured = np.ptp(pixels.astype(int), axis=2) > 16
    some = Image.fromarray(pixels[coloured][None]).quantize(256 - GREYS, Image.Quantize.MEDIANCUT)
    greys = np.repeat(np.linspace(0, 255, GREYS).round().astype(int), 3)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(some.getpalette() or []), *greys.tolist()])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def main() -> int:
    """Writes the picture; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path, help="a phantom")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "measures.png")
    options = parser.parse_args()
    port = os.environ.get("SPINEZOO_GATEWAY_GRPC_PORT")
    target = f"127.0.0.1:{port}" if port else DEFAULT_GATEWAY
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "examples" / "measure_film.py"), str(options.film)]
        asked = subprocess.run([*command, "--target", target, "--out", folder])
        if asked.returncode:
            return asked.returncode
        with Image.open(Path(folder) / f"{options.film.name}.measures.png") as large:
            size = (round(large.width * ROWS / large.height), ROWS)
            few_colours(large.resize(size, Image.Resampling.LANCZOS)).save(
                options.out, optimize=True
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
