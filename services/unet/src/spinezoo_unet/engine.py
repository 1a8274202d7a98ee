"""Keras on TensorFlow as the one training loop takes it (:mod:`spinezoo_training.loop`).

Both frameworks are imported where they are used: ``--help`` and the processes that prepare films
need neither.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from spinezoo_contract.errors import ConfigurationError, WeightsError
from spinezoo_contract.words import counted
from spinezoo_serving.cards import ModelCard
from spinezoo_serving.disk import replacing
from spinezoo_spine.inference.device import thread_count
from spinezoo_training.engine import (
    Answers,
    Engine,
    Framework,
    Machine,
    Task,
    WrittenWeights,
)
from spinezoo_training.initial_weights import Start
from spinezoo_training.prepared_set import PreparedFilm
from spinezoo_training.settings import TrainSettings
from spinezoo_training.targets import network_input

from spinezoo_unet.batches import Batch
from spinezoo_unet.task import UNetTask

if TYPE_CHECKING:
    import keras

PROBE_SEED = 0
PROBE_TOLERANCE = 0.05
"""Logits differ by up to about 0.01 between processors; another network differs by whole units."""


class KerasEngine(Engine):
    """A Keras network under training, one traced TensorFlow step at a time.

    Attributes:
        model: The network that is trained.
        averaged: The network in ``float32`` that takes the averaged weights when it is asked:
            validation is what serving will answer.
    """

    state_file = "state.h5"
    task: UNetTask

    def __init__(
        self,
        task: UNetTask,
        model: keras.Model,
        averaged: keras.Model,
        settings: TrainSettings,
        *,
        jit_compile: bool = False,
    ) -> None:
        """``jit_compile`` lets XLA compile the step; the benchmark compares."""
        import keras

        super().__init__(task, settings)
        self.model, self.averaged = model, averaged
        self.optimizer = keras.optimizers.AdamW(
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            global_clipnorm=settings.clip_norm,
            name="adamw",  # its variables are kept by name from one part of a run to the next
        )
        self.optimizer.build(model.trainable_variables)
        self._own = [variable for variable in model.weights if "seed" not in variable.path]
        self._means = [
            keras.Variable(
                keras.ops.convert_to_numpy(variable), dtype="float32", trainable=False, name="mean"
            )
            for variable in self._own
        ]
        self._shown = False  # whether ``averaged`` holds the means
        self._traced = self._trace(jit_compile)

    def _trace(self, jit_compile: bool) -> Callable[..., Any]:
        """The step that trains the model and moves the averages towards its variables."""
        import keras
        import tensorflow as tf

        def train_step(batch: tuple[Any, ...], decay: Any) -> Any:
            with tf.GradientTape() as tape:
                terms = self.task.losses(self.model, batch)
                loss = sum(terms.values())
            gradients = tape.gradient(loss, self.model.trainable_variables)
            self.optimizer.apply_gradients(
                zip(gradients, self.model.trainable_variables, strict=True)
            )
            for mean, variable in zip(self._means, self._own, strict=True):
                value = keras.ops.cast(variable.value, "float32")
                mean.assign(decay * mean + (1.0 - decay) * value)
            return terms

        traced: Callable[..., Any] = tf.function(
            train_step, reduce_retracing=True, jit_compile=jit_compile or None
        )
        return traced

    def step(
        self, batch: Batch, *, number: int, learning_rate: float, average_decay: float
    ) -> dict[str, float]:
        """One step; dropout's random streams run along and are part of the state."""
        import tensorflow as tf

        self.optimizer.learning_rate.assign(learning_rate)
        sent = tuple(tf.constant(array) for array in self.task.arrays(batch))
        terms = self._traced(sent, tf.constant(average_decay, dtype=tf.float32))
        self._shown = False
        return {name: float(value) for name, value in terms.items()}

    def show_average(self) -> keras.Model:
        """The ``float32`` network with the averaged weights."""
        import keras

        if not self._shown:
            means = {v.path: mean for v, mean in zip(self._own, self._means, strict=True)}
            for variable in self.averaged.weights:
                if variable.path in means:
                    variable.assign(keras.ops.convert_to_numpy(means[variable.path]))
            self._shown = True
        return self.averaged

    def answers(self, films: Sequence[PreparedFilm]) -> Answers:
        """What the averaged network answers, film by film as in serving."""
        network = self.show_average()
        inputs = [network_input(film).transpose(1, 2, 0)[np.newaxis] for film in films]
        return Answers(np.concatenate([self.task.label_maps(network, each) for each in inputs]))

    def _arrays(self) -> dict[str, Any]:
        """Everything a resumed run needs, by name."""
        state = {f"model/{variable.path}": variable for variable in self._own}
        state |= {
            f"average/{variable.path}": mean
            for variable, mean in zip(self._own, self._means, strict=True)
        }
        state |= {f"optimizer/{v.path}": v for v in self.optimizer.variables}
        # Where dropout's random streams stand; Keras counts their names through a whole process.
        streams = [variable for variable in self.model.variables if "seed" in variable.path]
        state |= {f"dropout/{index}": variable for index, variable in enumerate(streams)}
        return state

    def save_state(self, path: Path, record: dict[str, Any]) -> None:
        """Plain HDF5, no pickle; the record is an attribute of the file."""
        import h5py
        import keras

        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, h5py.File(partial, "w") as file:
            file.attrs["record"] = json.dumps(record)
            for name, variable in self._arrays().items():
                file.create_dataset(name, data=keras.ops.convert_to_numpy(variable))

    def load_state(self, path: Path, accept: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Takes up what :meth:`save_state` wrote.

        Raises:
            WeightsError: The file is not a training state.
        """
        import h5py

        try:
            with h5py.File(path, "r") as file:
                record: dict[str, Any] = json.loads(file.attrs["record"])
                accept(record)
                for name, variable in self._arrays().items():
                    variable.assign(file[name][()])
        except (OSError, KeyError, ValueError) as error:
            raise WeightsError(
                f"{path} is not a training state ({error}); remove it to train from the beginning"
            ) from error
        self._shown = False
        return record


class KerasFramework(Framework):
    """Keras on TensorFlow."""

    weights_suffix = ".h5"

    def set_up(self, device: str | None, threads: int | None) -> Machine:
        """Chooses the device and sets the threads."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            import keras
            import tensorflow as tf
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"Keras does not start: {error}; set KERAS_BACKEND to tensorflow"
            ) from error

        from spinezoo_unet.framework import choose_device

        if keras.backend.backend() != "tensorflow":
            raise ConfigurationError(
                f"the U-Net does not train on Keras's backend {keras.backend.backend()!r}; set "
                "KERAS_BACKEND to tensorflow"
            )
        used = thread_count(threads)
        if used:
            tf.config.threading.set_intra_op_parallelism_threads(used)
            tf.config.threading.set_inter_op_parallelism_threads(used)
        chosen = choose_device(device)
        if chosen != "cpu":
            found = tf.config.list_physical_devices("GPU")[int(chosen.partition(":")[2] or "0")]
            details = tf.config.experimental.get_device_details(found)
            return Machine(chosen, str(details.get("device_name", "GPU")))
        return Machine(
            chosen, f"{platform.machine()} CPU, {counted(used or os.cpu_count() or 1, 'thread')}"
        )

    @property
    def versions(self) -> dict[str, str]:
        """The versions of Keras and TensorFlow."""
        import keras
        import tensorflow as tf

        return {"keras": str(keras.__version__), "tensorflow": str(tf.__version__)}

    def on(self, machine: Machine) -> AbstractContextManager[Any]:
        """Where networks live and everything runs."""
        import tensorflow as tf

        from spinezoo_unet.framework import tensorflow_device

        placed: AbstractContextManager[Any] = tf.device(tensorflow_device(machine.device))
        return placed

    def engine(
        self,
        card: ModelCard,
        task: Task,
        settings: TrainSettings,
        machine: Machine,
        start: Start | None,
    ) -> KerasEngine:
        """The card's network twice: in the settings' precision to train, in float32 to measure."""
        import keras

        from spinezoo_unet.framework import build_network
        from spinezoo_unet.weights import load_weights

        assert isinstance(task, UNetTask)
        keras.utils.set_random_seed(settings.seed)
        averaged = build_network(card)
        if start is not None:
            load_weights(averaged, start.path)
        if settings.precision == "bfloat16":
            keras.config.set_dtype_policy("mixed_bfloat16")
        model = build_network(card)
        keras.config.set_dtype_policy("float32")
        if start is not None:
            load_weights(model, start.path)
        return KerasEngine(task, model, averaged, settings)

    def write_weights(self, card: ModelCard, engine: Engine, path: Path) -> WrittenWeights:
        """Writes the averaged weights in half precision, and reads and probes them so."""
        from spinezoo_unet.weights import load_weights, probe_values, save_weights

        assert isinstance(engine, KerasEngine)
        network = engine.show_average()
        save_weights(network, path)
        load_weights(network, path)
        values = probe_values(network, PROBE_SEED).round(4).tolist()
        return WrittenWeights("float16", PROBE_SEED, values, PROBE_TOLERANCE)

    def write_graphs(self, card: ModelCard) -> dict[str, Path]:
        """Exports the card's weights; needs neither Keras nor TensorFlow."""
        from spinezoo_unet.graph import write_graphs

        return write_graphs(card)
