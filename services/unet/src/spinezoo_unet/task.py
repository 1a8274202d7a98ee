"""What the U-Net adds to the one training loop: its batches, its loss, its answer as labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_serving.cards import ModelCard
from spinezoo_training.engine import Task
from spinezoo_training.prepared_set import PreparedFilm

from spinezoo_unet.batches import Batch, collate, encode, inputs_of, weights_of

CROSS_ENTROPY_SHARE = 2.0
DICE_SMOOTHING = 50.0
"""Pixels: a batch without cages must not pull on the cage plane."""


class UNetTask(Task):
    """Cross-entropy, weighted by class and at gaps, plus soft Dice over the structures."""

    def __init__(self, card: ModelCard) -> None:
        """Takes the order of classes from a card."""
        self.number_of_class: NDArray[np.int64] = np.array([0, *(int(s) for s in card.structures)])

    def encode(self, film: PreparedFilm) -> Batch:
        """One film as bytes, each array (h, w)."""
        return encode(film)

    def collate(self, samples: list[Any]) -> Batch:
        """Films as bytes, each array (N, h, w)."""
        return collate(samples)

    def arrays(self, batch: Batch) -> tuple[NDArray[Any], ...]:
        """What is sent to the device: inputs (N, h, w, 2), labels and weights (N, h, w)."""
        return inputs_of(batch.grey), batch.labels, weights_of(batch.gaps, batch.labels)

    def losses(self, network: Any, batch: Any) -> dict[str, Any]:
        """The one loss of tensors as :meth:`arrays` gives them; traced by TensorFlow."""
        import tensorflow as tf

        films, labels, weights = batch
        logits = network(films, training=True)
        return {"segmentation": segmentation_loss(logits, tf.cast(labels, tf.int32), weights)}

    def label_maps(self, network: Any, inputs: Any) -> NDArray[np.integer[Any]]:
        """Structure numbers (N, h, w) of the likeliest class, from inputs (N, h, w, 2)."""
        import keras

        logits = keras.ops.convert_to_numpy(network(inputs, training=False))
        label_maps: NDArray[np.integer[Any]] = self.number_of_class[logits.argmax(-1)]
        return label_maps


def segmentation_loss(logits: Any, labels: Any, weights: Any) -> Any:
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
