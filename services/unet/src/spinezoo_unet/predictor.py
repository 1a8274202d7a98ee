"""U-Net as SpineZoo's server shell serves it."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.cards import ModelCard, load_card, verify_weights
from spinezoo_contract.errors import CardError, ConfigurationError, InvalidOutputError
from spinezoo_contract.types import Film, Prediction, PredictOptions, Provenance, Timing
from spinezoo_spine.finish import probability_maps, regions_from_probabilities
from spinezoo_spine.options import ResolvedOptions, resolve_options
from spinezoo_spine.prepare import (
    PREPROCESSING_ID,
    letterbox,
    two_channels,
)

if TYPE_CHECKING:
    import keras


class UNetPredictor:
    """One loaded U-Net. ``predict`` is called from one thread at a time."""

    def __init__(self, card: ModelCard, model: keras.Model, device: str) -> None:
        import keras
        import tensorflow as tf

        if card.preprocessing_id != PREPROCESSING_ID:
            raise CardError(
                f"{card.name}: preprocessing_id {card.preprocessing_id!r} is not known here; "
                f"this version prepares films by {PREPROCESSING_ID!r}"
            )
        self.card = card
        self.device = device
        tf_device = "/CPU:0" if device == "cpu" else "/GPU:" + (device.partition(":")[2] or "0")

        # A traced function beats model.predict by a fifth on a processor and allocates less.
        @tf.function(
            input_signature=[tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)],
            reduce_retracing=True,
        )
        def infer(film: tf.Tensor) -> tf.Tensor:
            with tf.device(tf_device):
                return keras.ops.softmax(model(film, training=False), axis=-1)

        self._infer = infer
        self._infer(tf.zeros((1, *model.input_shape[1:])))  # trace now, not in the first request

    def probabilities(self, network_input: NDArray[np.float32]) -> NDArray[np.float32]:
        """(2, h, w) network input to (classes, h, w) probabilities."""
        import tensorflow as tf

        film = tf.constant(np.ascontiguousarray(network_input.transpose(1, 2, 0))[np.newaxis])
        return np.ascontiguousarray(self._infer(film).numpy()[0].transpose(2, 0, 1))

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        """Regions of one film at the film's own size; see ``Predictor.predict``."""
        settings: ResolvedOptions = resolve_options(options, self.card)
        started = perf_counter()
        canvas, fit = letterbox(film.pixels, self.card.input_height, self.card.input_width)
        network_input = two_channels(canvas)
        prepared = perf_counter()
        probabilities = self.probabilities(network_input)
        if not np.isfinite(probabilities).all():
            raise InvalidOutputError(
                f"{self.card.name} answered probabilities that are not finite; check the weights"
            )
        inferred = perf_counter()
        segments = regions_from_probabilities(
            probabilities,
            self.card.structures,
            fit,
            score_threshold=settings.score_threshold,
            max_segments=settings.max_segments,
        )
        maps = (
            probability_maps(probabilities, self.card.structures, fit)
            if options.include_probability_maps
            else ()
        )
        finished = perf_counter()
        return Prediction(
            height=film.height,
            width=film.width,
            segments=segments,
            probability_maps=maps,
            provenance=Provenance(
                model_name=self.card.name,
                model_version=self.card.version,
                preset=self.card.preset,
                weights_sha256=self.card.weights_sha256,
                preprocessing_id=self.card.preprocessing_id,
                device=self.device,
                timing=Timing(
                    prepare_ms=(prepared - started) * 1e3,
                    infer_ms=(inferred - prepared) * 1e3,
                    finish_ms=(finished - inferred) * 1e3,
                ),
            ),
        )


def build_network(card: ModelCard) -> keras.Model:
    """The card's network with fresh weights."""
    from spinezoo_unet.network import build_unet

    try:
        return build_unet(
            card.input_height,
            card.input_width,
            card.input_channels,
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

    wanted = (setting or os.environ.get("SPINEZOO_DEVICE") or "auto").strip().lower()
    gpus = tf.config.list_physical_devices("GPU")
    if wanted == "auto":
        return "cuda:0" if gpus else "cpu"
    if wanted == "cpu":
        return "cpu"
    name, _, number = wanted.partition(":")
    if name != "cuda" or not (number or "0").isdigit():
        raise ConfigurationError(
            f"SPINEZOO_DEVICE is {wanted!r}; use auto, cpu, cuda or cuda:<number>"
        )
    index = int(number or "0")
    if index >= len(gpus):
        raise ConfigurationError(
            f"SPINEZOO_DEVICE is {wanted!r} but TensorFlow finds {len(gpus)} GPU(s); "
            "use SPINEZOO_DEVICE=cpu, or install the CUDA libraries for TensorFlow"
        )
    return f"cuda:{index}"


def load_predictor(card_path: Path, *, device: str | None = None) -> UNetPredictor:
    """Loads the card's preset and proves that code and weights belong together.

    Raises:
        CardError: The card is wrong.
        WeightsError: The weights are missing, changed, or of another network.
        ConfigurationError: The device is not there.
    """
    card = load_card(card_path)
    path = verify_weights(card)
    import tensorflow as tf

    threads = int(os.environ.get("SPINEZOO_THREADS") or 0)
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
    return UNetPredictor(card, model, chosen)
