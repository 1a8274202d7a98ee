"""Mask R-CNN for SpineZoo: ``network`` (network), ``predictor`` (serving), ``train`` (training)."""
