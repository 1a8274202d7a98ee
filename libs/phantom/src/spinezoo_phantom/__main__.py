"""Command line: `python -m spinezoo_phantom --out DIR --count N --seed S`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
from spinezoo_contract.output import end_with_reader
from tqdm import tqdm

from spinezoo_phantom.make import make_film
from spinezoo_phantom.settings import FIELDS, TURNS_DEG, VIEWS, PhantomSettings
from spinezoo_phantom.sheet import draw_sheet
from spinezoo_phantom.write import film_seed, write_film_set


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_phantom",
        description="Make phantom lateral lumbar films with exact outlines.",
    )
    parser.add_argument("--out", type=Path, help="folder for films, via.json and phantom.json")
    parser.add_argument("--count", type=int, default=10, help="number of films (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the set (default 0)")
    parser.add_argument("--format", choices=("dicom", "png"), default="dicom", dest="file_format")
    parser.add_argument("--height", type=int, default=PhantomSettings().height_px, help="rows")
    parser.add_argument("--width", type=int, default=PhantomSettings().width_px, help="columns")
    parser.add_argument("--view", choices=VIEWS, default=VIEWS[0])
    parser.add_argument("--turn", type=int, choices=TURNS_DEG, default=0, help="degrees clockwise")
    parser.add_argument("--field", choices=FIELDS, default=FIELDS[0], help="what the film shows")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes (default 1); 0 takes one a processor"
    )
    parser.add_argument("--sheet", type=Path, help="also draw a contact sheet with outlines (PNG)")
    parser.add_argument(
        "--beside", type=Path, help="draw the sheet without outlines, beside the films of a folder"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.out is None and options.sheet is None:
        parser.error("nothing to do: give --out DIR, --sheet FILE.png or both")
    try:
        settings = PhantomSettings(
            height_px=options.height,
            width_px=options.width,
            view=options.view,
            turn_deg=options.turn,
            field=options.field,
        )
        if options.out is not None:
            with tqdm(total=options.count, unit="film", disable=None) as bar:
                via_path = write_film_set(
                    options.out,
                    count=options.count,
                    seed=options.seed,
                    settings=settings,
                    file_format=options.file_format,
                    workers=options.workers or os.cpu_count() or 1,
                    progress=lambda _done, _all: bar.update(),
                )
            print(via_path)
        if options.sheet is not None:
            real = sorted(options.beside.glob("*.png")) if options.beside is not None else []
            if options.beside is not None and not real:
                parser.error(f"{options.beside} holds no PNG film; give a folder that does")
            films = [
                make_film(film_seed(options.seed, index), settings)
                for index in tqdm(range(min(options.count, 48)), unit="film", disable=None)
            ]
            options.sheet.parent.mkdir(parents=True, exist_ok=True)
            sheet = draw_sheet(films, real)
            if not cv2.imwrite(str(options.sheet), sheet):
                parser.error(f"{options.sheet} could not be written; is it a .png path?")
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        where = error.filename or options.out
        print(f"{where} cannot be written ({error.strerror})", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
