"""Films without their patients: header, pixels, and a check that nothing is left."""
