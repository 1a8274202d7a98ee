"""DeepLabV3 for SpineZoo: ``network`` (the network), ``predictor`` (serving), ``train``."""
