"""From outlines to measures: corners, endplates, angles, heights, slips; see ``docs/measures.md``."""
