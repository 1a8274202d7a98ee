"""VIA (VGG Image Annotator) files, versions 1, 2 and 3, JSON and CSV, in and out.

What is read
    VIA 1 and 2: exported annotations or a whole project; regions as a list or as an object with
    numbered keys; polygon, rect, ellipse (with ``theta``, radians), circle, and polyline where its
    last point meets its first. VIA 3: projects and CSV; rectangle, circle, ellipse, polygon,
    closed polyline, and the extreme rectangle and extreme circle.
    Points and open lines enclose nothing: :func:`read_via` refuses them, :func:`read_via_raw`
    keeps them with the reason.

Round shapes become polygons of :data:`ROUND_VERTICES` points whose area equals the shape's, so
none of it is lost. VIA's coordinates are taken as they are: (0, 0) is the film's top-left corner.
"""

from __future__ import annotations

from spinezoo_spine.annotations.via.fields import CLASS_ATTRIBUTES, LEVEL_ATTRIBUTES
from spinezoo_spine.annotations.via.reader import films_of_json, read_via, read_via_raw
from spinezoo_spine.annotations.via.shapes import CLOSING_DISTANCE_PX, ROUND_VERTICES
from spinezoo_spine.annotations.via.writer import write_via

__all__ = [
    "CLASS_ATTRIBUTES",
    "CLOSING_DISTANCE_PX",
    "LEVEL_ATTRIBUTES",
    "ROUND_VERTICES",
    "films_of_json",
    "read_via",
    "read_via_raw",
    "write_via",
]
