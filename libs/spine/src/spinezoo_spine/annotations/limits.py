"""How much an annotation file may hold; what is over a limit is refused with its number."""

from __future__ import annotations

from spinezoo_contract.limits import MAX_SEGMENTS_LIMIT

MAX_FILE_BYTES = 67_108_864
"""Most bytes of an annotation file: 64 MiB. A set of 700 films with outlines takes about 10 MiB."""

MAX_FILE_VALUES = 10_000_000
"""Most values in an annotation file, counted by its commas: bounds the memory of reading it."""

MAX_FILE_CONTAINERS = 2_000_000
"""Most lists and objects in a JSON file, counted by their opening brackets."""

MAX_FILE_FILMS = 100_000
"""Most films of a file."""

MAX_FILE_REGIONS = 200_000
"""Most regions of all films of a file."""

MAX_FILM_REGIONS = 1000
"""Most regions of one film; a network answers at most as many."""

MAX_OUTLINE_POINTS = 20_000
"""Most points of one outline. A body drawn by hand has 10 to 100, one traced along pixels 4,000."""

MAX_PARTS = 500
"""Most parts of one outline in COCO."""

MAX_PARTS_PIXELS = 67_108_864
"""Most pixels that the boxes of all parts of one outline may hold together."""

MAX_FILM_COVER = 30
"""Most that the boxes of a film's regions may hold together, as a multiple of the film."""

MAX_COORDINATE_PX = 1e6
"""Largest coordinate of an outline, either sign; far beyond any film, small enough to be exact."""

MAX_MASK_PIXELS = 67_108_864
"""Most pixels of a run-length mask; more is refused before decoding."""


def limits_table() -> str:
    """The limits as a Markdown table, for the page of the data format."""
    rows = {
        "annotation file": f"{MAX_FILE_BYTES >> 20} MiB, {MAX_FILE_VALUES:,} values, "
        f"{MAX_FILE_CONTAINERS:,} lists and objects",
        "films, regions of a file": f"{MAX_FILE_FILMS:,}, {MAX_FILE_REGIONS:,}",
        "regions of a film": f"{MAX_FILM_REGIONS:,}; their boxes together {MAX_FILM_COVER} "
        "times the film",
        "points of an outline, corners of a mask's border": f"{MAX_OUTLINE_POINTS:,}",
        "parts of a COCO annotation": f"{MAX_PARTS:,}; their boxes together "
        f"{MAX_PARTS_PIXELS >> 20} Mi pixels",
        "film of a run-length mask": f"{MAX_MASK_PIXELS >> 20} Mi pixels",
        "coordinates, either sign": f"{MAX_COORDINATE_PX:,.0f} px",
        "segments of truth or prediction in one `Evaluate` message": f"{MAX_SEGMENTS_LIMIT:,}",
    }
    lines = ["| what | most |", "|---|---:|"]
    return "\n".join([*lines, *(f"| {what} | {most} |" for what, most in rows.items())])
