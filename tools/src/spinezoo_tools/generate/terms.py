"""What the gateway's page knows of outlines, written from the code that reads them."""

from __future__ import annotations

import json

from spinezoo_contract.types import NAMED_LEVELS
from spinezoo_spine.annotations.limits import (
    MAX_FILE_BYTES,
    MAX_FILM_REGIONS,
    MAX_OUTLINE_POINTS,
)
from spinezoo_spine.annotations.regions import (
    CLASS_NAMES,
    LEVEL_PATTERN,
    OUTLINED_LEVELS,
    SEPARATORS,
    STRUCTURE_NAMES,
)
from spinezoo_spine.annotations.via.fields import CLASS_ATTRIBUTES, LEVEL_ATTRIBUTES
from spinezoo_spine.annotations.via.shapes import CLOSING_DISTANCE_PX, ROUND_VERTICES

HEAD = (
    "// @ts-check: written by `make generate` from spinezoo_spine.annotations and "
    "spinezoo_contract; change those.\n"
)


def page_terms() -> str:
    """The module ``terms.js``; its patterns mean the same in Python and in JavaScript."""
    titles = {name: name.replace("_", " ").capitalize() for name in STRUCTURE_NAMES.values()}
    classes = {name: STRUCTURE_NAMES[structure] for name, structure in CLASS_NAMES.items()}
    named = "/** @type {Record<string, string>} */\n"
    parts = [
        ("Structures and what the page calls them.", named, "STRUCTURES", titles),
        ("Class names of files, in the form of `classKey`.", named, "CLASSES", classes),
        ("Attributes that may hold the class, in this order.", "", "CLASS_KEYS", CLASS_ATTRIBUTES),
        ("Attributes that may hold the level.", "", "LEVEL_KEYS", LEVEL_ATTRIBUTES),
        ("Levels that a person can give, from above.", "", "LEVELS", NAMED_LEVELS),
        ("Levels that truth may hold, from above.", "", "TRUTH", OUTLINED_LEVELS),
        ("Most outlines of a film.", "", "MOST_REGIONS", MAX_FILM_REGIONS),
        ("Most points of an outline.", "", "MOST_POINTS", MAX_OUTLINE_POINTS),
        ("Most bytes of a file with outlines.", "", "MOST_BYTES", MAX_FILE_BYTES),
        (
            "px; a line with ends this near is closed.",
            "",
            "CLOSING",
            CLOSING_DISTANCE_PX,
        ),
        ("Corners of a circle or ellipse.", "", "ROUND_VERTICES", ROUND_VERTICES),
    ]
    text = HEAD
    for meaning, kind, name, value in parts:
        indent = 1 if isinstance(value, dict) else None
        text += (
            f"\n/** {meaning} */\n{kind}export const {name} = {json.dumps(value, indent=indent)};\n"
        )
    for meaning, name, pattern in (
        ("What stands between the words of a class name.", "SEPARATORS", SEPARATORS),
        ("A level, or two neighbours.", "LEVEL", LEVEL_PATTERN),
    ):
        source = pattern.pattern.replace("/", r"\/")
        text += f"\n/** {meaning} */\nexport const {name} = /{source}/;\n"
    return text
