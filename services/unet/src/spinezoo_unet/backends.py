"""What training needs of a framework: TensorFlow here, PyTorch in ``torch_backend``.

Keras's backend decides. Layers, optimiser and variables are Keras's on both; gradients, the
compiled step, devices and random streams are the framework's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError

if TYPE_CHECKING:
    import keras

    from spinezoo_unet.batches import Batch

CROSS_ENTROPY_SHARE = 2.0
DICE_SMOOTHING = 50.0
"""Pixels: a batch without cages must not pull on the cage plane."""

Step = Callable[["Batch", float], float]
"""(batch, decay of the averages) -> loss; changes the variables."""


class Backend(Protocol):
    """One framework.

    Attributes:
        name: As Keras calls it.
        films_at_once: Films of one forward pass in validation.
    """

    name: str
    films_at_once: int

    @property
    def library(self) -> str:
        """Name and version, for the card."""

    def set_up(self, setting: str | None, threads: int) -> str:
        """Sets the CPU threads (0: all) and returns ``cpu`` or ``cuda:N``.

        Raises:
            ConfigurationError: The setting is unknown, or the GPU it names is not there.
        """

    def on(self, device: str) -> AbstractContextManager[Any]:
        """Where the networks live and everything runs."""

    def training_step(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        averages: Sequence[keras.Variable],
        averaged: Sequence[keras.Variable],
    ) -> Step:
        """The step that trains the model and moves the averages towards its variables."""

    def classes(self, model: keras.Model, films: NDArray[np.float32]) -> NDArray[np.integer[Any]]:
        """(N, h, w, 2) inputs to the (N, h, w) most probable classes."""

    def random_state(self) -> Mapping[str, NDArray[np.uint8]]:
        """Where random streams stand that no Keras variable holds."""

    def restore_random_state(self, state: Mapping[str, NDArray[np.uint8]]) -> None:
        """Goes on from there; streams of another device are left alone."""


def training_backend() -> Backend:
    """The framework behind Keras.

    Raises:
        ConfigurationError: It is not installed, or the U-Net does not train on it.
    """
    try:
        import keras
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Keras does not start: {error}; set KERAS_BACKEND to tensorflow or to torch, "
            "whichever is installed"
        ) from error

    name = keras.backend.backend()
    if name == "tensorflow":
        return TensorFlowBackend()
    if name == "torch":
        from spinezoo_unet.torch_backend import TorchBackend

        return TorchBackend()
    raise ConfigurationError(
        f"the U-Net does not train on Keras's backend {name!r}; set KERAS_BACKEND to tensorflow "
        "or to torch, whichever is installed"
    )


class TensorFlowBackend:
    """Traced steps on TensorFlow."""

    name = "tensorflow"
    films_at_once = 1

    def __init__(self, *, jit_compile: bool = False) -> None:
        """``jit_compile`` lets XLA compile the step; the benchmark compares."""
        self._jit_compile = jit_compile

    @property
    def library(self) -> str:
        """Name and version, for the card."""
        import tensorflow as tf

        return f"tensorflow {tf.__version__}"

    def set_up(self, setting: str | None, threads: int) -> str:
        """Sets the CPU threads (0: all) and returns ``cpu`` or ``cuda:N``."""
        import tensorflow as tf

        from spinezoo_unet.predictor import choose_device

        if threads:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        return choose_device(setting)

    def on(self, device: str) -> AbstractContextManager[Any]:
        """Where the networks live and everything runs."""
        import tensorflow as tf

        from spinezoo_unet.predictor import tensorflow_device

        placed: AbstractContextManager[Any] = tf.device(tensorflow_device(device))
        return placed

    def loss(self, logits: Any, labels: Any, weights: Any) -> Any:
        """Loss of (N, h, w, classes) logits, (N, h, w) ``int32`` labels, (N, h, w) weights."""
        import tensorflow as tf

        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        cross_entropy = tf.reduce_sum(weights * each) / tf.reduce_sum(weights)
        truth = tf.one_hot(labels, logits.shape[-1])[..., 1:]
        probability = tf.nn.softmax(logits)[..., 1:]
        overlap = tf.reduce_sum(truth * probability, (0, 1, 2))
        size = tf.reduce_sum(truth + probability, (0, 1, 2))
        dice = 1.0 - tf.reduce_mean((2.0 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING))
        return CROSS_ENTROPY_SHARE * cross_entropy + dice

    def training_step(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        averages: Sequence[keras.Variable],
        averaged: Sequence[keras.Variable],
    ) -> Step:
        """The step that trains the model and moves the averages towards its variables."""
        import keras
        import tensorflow as tf

        from spinezoo_unet.batches import inputs_of, weights_of

        def train_step(films: Any, labels: Any, weights: Any, decay: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = model(films, training=True)
                loss = self.loss(logits, tf.cast(labels, tf.int32), weights)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            for mean, variable in zip(averages, averaged, strict=True):
                value = keras.ops.cast(variable.value, "float32")
                mean.assign(decay * mean + (1.0 - decay) * value)
            return loss

        traced = tf.function(
            train_step, reduce_retracing=True, jit_compile=self._jit_compile or None
        )

        def step(batch: Batch, decay: float) -> float:
            films, weights = inputs_of(batch.grey), weights_of(batch.gaps)
            sent = (tf.constant(films), tf.constant(batch.labels), tf.constant(weights))
            return float(traced(*sent, tf.constant(decay, dtype=tf.float32)))

        return step

    def classes(self, model: keras.Model, films: NDArray[np.float32]) -> NDArray[np.integer[Any]]:
        """(N, h, w, 2) inputs to the (N, h, w) most probable classes."""
        import keras

        logits = keras.ops.convert_to_numpy(model(films, training=False))
        classes: NDArray[np.integer[Any]] = logits.argmax(-1)
        return classes

    def random_state(self) -> Mapping[str, NDArray[np.uint8]]:
        """Dropout's streams are Keras variables."""
        return {}

    def restore_random_state(self, state: Mapping[str, NDArray[np.uint8]]) -> None:
        """Nothing to restore."""
