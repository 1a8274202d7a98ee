"""Names that VIA's files use: columns, attributes, shape numbers."""

from __future__ import annotations

CLASS_ATTRIBUTES = ("structure", "class", "class_name", "label", "type", "category", "name")
"""Region attributes that may hold the class, tried in this order, without regard to case."""

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
