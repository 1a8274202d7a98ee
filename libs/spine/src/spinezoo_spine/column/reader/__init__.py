"""Names from pixels: what the reader is shown, its network, and all readings of a column."""
