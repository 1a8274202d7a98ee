"""U-Net, in Keras on TensorFlow, behind SpineZoo's predict contract."""
