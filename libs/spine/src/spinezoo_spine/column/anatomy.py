"""What columns look like: the numbers that naming rests on."""

from __future__ import annotations

USUAL_STEP = 1.2
"""Distance of neighbouring centres over the side of the square of a body's area.

Of 39 pairs of the development films' corner truth (T12 to L5) the ratio lies between 1.01 and 1.38,
with medians by pair of 1.13 to 1.28; of the phantom test set, much of it diseased, between 0.82 and
1.85, with medians of 1.13 to 1.26. Each column's own steps correct it; see
:func:`spinezoo_spine.column.reader.looking.own_step`.
"""

USUAL_BODY_HEIGHT = 0.85
"""Height of a body over the side of the square of its area."""

USUAL_LUMBAR = 5
"""Lumbar vertebrae of most people."""
