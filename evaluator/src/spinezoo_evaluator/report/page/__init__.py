"""The report as one HTML file: what it says (`content`), its plots, its films, and the page."""
