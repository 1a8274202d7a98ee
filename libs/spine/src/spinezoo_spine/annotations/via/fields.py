"""Names that VIA's files use: columns, attributes, shape numbers."""

from __future__ import annotations

CLASS_ATTRIBUTES = ("structure", "class", "class_name", "label", "type", "category", "name")
"""Region attributes that may hold the class, tried in this order, without regard to case."""

NOTHING_CHOSEN = frozenset(("undefined", "null", "none", "nan", "n/a"))
"""Texts that stand where nothing was chosen in a drop-down list."""

WIDTH_ATTRIBUTES = ("width", "image_width", "imagewidth")
HEIGHT_ATTRIBUTES = ("height", "image_height", "imageheight")
"""File attributes that state the film's size in pixels."""

LEVEL_ATTRIBUTES = ("level", "vertebral_level", "anatomical_level")
"""Region attributes that may hold the anatomical level."""

CSV_FIELDS = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)

CSV3_FIELDS = (
    "metadata_id",
    "file_list",
    "flags",
    "temporal_coordinates",
    "spatial_coordinates",
    "metadata",
)

SHAPES3 = {
    1: "point",
    2: "rect",
    3: "circle",
    4: "ellipse",
    5: "line",
    6: "polyline",
    7: "polygon",
    8: "extreme_rect",
    9: "extreme_circle",
}
