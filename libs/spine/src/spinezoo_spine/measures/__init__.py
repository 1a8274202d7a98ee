"""From outlines to corners, angles, heights and slips; see ``docs/measures.md``."""
