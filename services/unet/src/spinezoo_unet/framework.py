"""U-Net on Keras and TensorFlow as a predictor: what a GPU is served with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import CardError
from spinezoo_serving.cards import ModelCard, load_card, verify_weights
from spinezoo_spine.inference.class_planes import ClassPlanes
from spinezoo_spine.inference.device import device_name, thread_count
from spinezoo_spine.inference.options import ResolvedOptions
from spinezoo_spine.inference.predictors import SemanticPredictor

if TYPE_CHECKING:
    import keras


class KerasPredictor(SemanticPredictor):
    """One U-Net in Keras. ``predict`` is called from one thread at a time."""

    def __init__(self, card: ModelCard, model: keras.Model, device: str) -> None:
        import keras
        import tensorflow as tf

        super().__init__(card, device, engine="tensorflow")

        # A traced function beats model.predict by a fifth on a processor and allocates less.
        @tf.function(
            input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)],
            reduce_retracing=True,
        )
        def infer(films: tf.Tensor) -> tf.Tensor:
            with tf.device(tensorflow_device(device)):
                return keras.ops.softmax(model(films, training=False), axis=-1)

        self._infer = infer
        self._infer(tf.zeros((1, *model.input_shape[1:])))  # trace now, not in the first request

    def probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(2, h, w) network input to (classes, h, w) probabilities."""
        (found,) = self._all(inputs[np.newaxis])
        return found

    def infer_many(
        self, inputs: Sequence[NDArray[np.float32]], settings: Sequence[ResolvedOptions]
    ) -> list[ClassPlanes]:
        """The probabilities of several films in one go; see ``FilmPredictor.infer_many``."""
        return [ClassPlanes.whole(self.checked(each)) for each in self._all(np.stack(inputs))]

    def _all(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 2, h, w) network input to (n, classes, h, w) probabilities."""
        import tensorflow as tf

        films = tf.constant(np.ascontiguousarray(inputs.transpose(0, 2, 3, 1)))
        return np.ascontiguousarray(self._infer(films).numpy().transpose(0, 3, 1, 2))


def build_network(card: ModelCard) -> keras.Model:
    """The card's network with fresh weights.

    Raises:
        CardError: The card's network entry does not fit.
    """
    from spinezoo_unet.network import build_unet

    try:
        return build_unet(
            card.input.height,
            card.input.width,
            card.input.channels,
            outputs=1 + len(card.structures),
            **card.network,
        )
    except TypeError as error:
        raise CardError(f"{card.name}: presets.{card.preset}.network: {error}") from error


def choose_device(setting: str | None) -> str:
    """``"cpu"`` or ``"cuda:N"`` from the setting and what TensorFlow finds.

    Args:
        setting: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; None takes ``SPINEZOO_DEVICE``.

    Raises:
        ConfigurationError: The setting is unknown, or the GPU it names is not there.
    """
    import tensorflow as tf

    return device_name(setting, len(tf.config.list_physical_devices("GPU")), "TensorFlow")


def tensorflow_device(device: str) -> str:
    """TensorFlow's name of ``"cpu"`` or ``"cuda:N"``."""
    return "/CPU:0" if device == "cpu" else "/GPU:" + (device.partition(":")[2] or "0")


def load_keras_predictor(card_path: Path, device: str | None = None) -> KerasPredictor:
    """Loads the card's preset and proves that code and weights belong together.

    Raises:
        CardError: The card is wrong.
        WeightsError: The weights are missing, changed, or of another network.
        ConfigurationError: The device is not there.
    """
    card = load_card(card_path)
    path = verify_weights(card)
    import tensorflow as tf

    threads = thread_count()
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    from spinezoo_unet.weights import check_probe, load_weights

    chosen = choose_device(device)
    model = build_network(card)
    load_weights(model, path)
    assert card.weights is not None  # verify_weights has refused a preset without
    probe = card.weights.probe
    check_probe(model, probe.seed, probe.values, probe.tolerance)
    return KerasPredictor(card, model, chosen)
