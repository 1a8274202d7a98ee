"""Makes the example films of the page: ``.venvs/core/bin/python gateway/screens/films.py``.

Phantoms only: no film of a patient may be shipped. Same command, same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from spinezoo_phantom.make import make_film
from spinezoo_phantom.records import PhantomFilm
from spinezoo_phantom.settings import PhantomSettings
from spinezoo_phantom.write import write_dicom, write_png

FOLDER = Path(__file__).resolve().parents[1] / "src" / "spinezoo_gateway" / "page" / "phantoms"
"""Where the page finds them."""

CALM = {
    "transitional_share": 0.0,
    "tight_share": 0.0,
    "wide_share": 0.0,
    "low_contrast_share": 0.0,
    "noise_scale": 0.6,
    "clutter": 0.35,
    "display_variation": 0.4,
}
"""Films on which one sees what the page is about."""

SIZE = {"height_px": 824, "width_px": 616}
"""Under 1 MiB each."""

FILMS: dict[str, tuple[str, int, dict[str, object]]] = {
    "fusion.dcm": ("Phantom with screws and a cage", 707, {"implant_share": 1.0}),
    "plain.dcm": ("Phantom without hardware", 703, {"implant_share": 0.0}),
    "not-lateral.png": (
        "Phantom that is not lateral",
        708,
        {"implant_share": 0.0, "view": "anteroposterior"},
    ),
}
"""File, what the page calls it, seed and settings."""


def film_of(name: str, *, small: bool = False) -> PhantomFilm:
    """One of the films, or the same patient on a small film.

    Args:
        name: Its file.
        small: At under half the size, for tests.
    """
    _, seed, settings = FILMS[name]
    size = {key: value // 2 for key, value in SIZE.items()} if small else SIZE
    return make_film(seed, PhantomSettings(**{**CALM, **size, **settings}))  # type: ignore[arg-type]


def write(name: str, path: Path, film: PhantomFilm) -> None:
    """Writes a film as its name says."""
    (write_dicom if name.endswith(".dcm") else write_png)(film, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes all of them into a folder; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    folder = Path(given[0]) if given else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILMS:
        write(name, folder / name, film_of(name))
    listed = [{"file": name, "title": title} for name, (title, _, _) in FILMS.items()]
    (folder / "phantoms.json").write_text(json.dumps(listed, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
