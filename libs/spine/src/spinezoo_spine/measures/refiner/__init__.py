"""The refiner: a small network that looks for corners and endplates on the film itself."""
