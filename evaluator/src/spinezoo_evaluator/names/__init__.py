"""Names of vertebrae: how far they are believed."""
