"""How much an annotation file may hold; what is over a limit is refused with its number."""

from __future__ import annotations

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
