"""What the torch networks of SpineZoo share.

- :mod:`~spinezoo_torchkit.device`: device and threads from one setting.
- :mod:`~spinezoo_torchkit.backbones`: ResNets, narrow and wide, dilated or not.
- :mod:`~spinezoo_torchkit.checkpoints`: weights files, probes, training state; never pickle.
- :mod:`~spinezoo_torchkit.loading`: from a model card to a network that was checked.
- :mod:`~spinezoo_torchkit.semantic`, :mod:`~spinezoo_torchkit.instance`: predictors of the two
  families.
- :mod:`~spinezoo_torchkit.losses`, :mod:`~spinezoo_torchkit.engine`: training; the loop itself is
  :mod:`spinezoo_training.loop`.
- :mod:`~spinezoo_torchkit.small_training`, :mod:`~spinezoo_torchkit.small_export`,
  :mod:`~spinezoo_torchkit.small_command`: training of reader and refiner.
- :mod:`~spinezoo_torchkit.testing`: the tests that every torch network inherits.
"""

import spinezoo_spine  # noqa: F401 - before ONNX Runtime, which it keeps from calling home
