"""YOLACT for SpineZoo: ``network`` (the network), ``predictor`` (serving), ``train`` (training)."""
