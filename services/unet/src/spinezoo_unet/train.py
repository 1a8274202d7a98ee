"""Trains the U-Net from a folder of films with outlines: ``make train NETWORK=unet DATA=folder``.

Loss: cross-entropy plus soft Dice over the structures. AdamW with warm-up and cosine decay, an
exponential average of the weights, bfloat16 arithmetic where the machine has it. The run folder
holds everything needed to go on after a stop.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras
    from spinezoo_spine.dataset import PreparedSet

log = logging.getLogger(__name__)

EMA_DECAY = 0.995
WARM_UP_STEPS = 60
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-3
GRADIENT_NORM = 1.0
FINAL_RATE_SHARE = 0.02
PROBE_SEED = 0
PROBE_TOLERANCE = 0.05
"""Logits differ by up to about 0.01 between processors; another network differs by whole units."""


@dataclass
class Progress:
    """Where a run stands; written next to the weights after every epoch.

    Attributes:
        epoch: Finished epochs.
        step: Finished steps.
        films_seen: Films the network was trained on, with repetition.
        minutes: Minutes of training so far, over all parts of the run.
        best_mean_iou: Best validation value so far.
    """

    epoch: int = 0
    step: int = 0
    films_seen: int = 0
    minutes: float = 0.0
    best_mean_iou: float = 0.0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="spinezoo_unet.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of films with outlines")
    parser.add_argument("--card", type=Path, default=Path(__file__).parents[2] / "card.yaml")
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--run-dir", type=Path, required=True, help="state of the run; resumes")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument(
        "--minutes", type=float, default=None, help="time budget; ends the run instead of epochs"
    )
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0: all")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--cache-dir", type=Path, default=None)
    return parser.parse_args(argv)


def batches(
    data: PreparedSet, indices: Sequence[int], batch_size: int, seed: int, epoch: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Augmented (N, h, w, 2) inputs and (N, h, w) label maps of one epoch, made two batches ahead.

    Every film of an epoch has its own random stream from (seed, epoch, film), so that a resumed
    run sees what an uninterrupted one would have seen.
    """
    from spinezoo_spine.dataset import augment, label_map_of, network_input

    order = np.random.default_rng((seed, epoch)).permutation(np.asarray(indices))

    def make(chosen: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        films, labels = [], []
        for index in chosen:
            film = augment(data[int(index)], np.random.default_rng((seed, epoch, int(index))))
            films.append(network_input(film).transpose(1, 2, 0))
            labels.append(label_map_of(film))
        return np.stack(films), np.stack(labels).astype(np.int32)

    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if len(parts) > 1 and len(parts[-1]) < batch_size:
        parts.pop()  # a short batch would be traced anew
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, part) for part in parts[:2]]
        for index in range(len(parts)):
            if index + 2 < len(parts):
                waiting.append(pool.submit(make, parts[index + 2]))
            yield waiting.pop(0).result()


class Trainer:
    """The network, its optimiser, its averaged weights, and one training step."""

    def __init__(self, model: keras.Model, total_steps: int | None, minutes: float | None) -> None:
        import keras
        import tensorflow as tf

        self.model = model
        self.total_steps = total_steps
        self.minutes = minutes
        self.optimizer = keras.optimizers.AdamW(
            LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            global_clipnorm=GRADIENT_NORM,
            name="adamw",  # its variables are kept by name from one part of a run to the next
        )
        self.optimizer.build(model.trainable_variables)
        self.average = [
            tf.Variable(keras.ops.cast(variable, "float32"), trainable=False)
            for variable in self._averaged()
        ]
        self._step = tf.function(self._train_step, reduce_retracing=True)

    def _averaged(self) -> list[keras.Variable]:
        return [variable for variable in self.model.weights if "seed" not in variable.path]

    def _train_step(self, films: Any, labels: Any, decay: Any) -> Any:
        import keras
        import tensorflow as tf

        classes = self.model.output_shape[-1]
        with tf.GradientTape() as tape:
            logits = self.model(films, training=True)
            cross_entropy = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
            truth = tf.one_hot(labels, classes)[..., 1:]
            probability = tf.nn.softmax(logits)[..., 1:]
            overlap = tf.reduce_sum(truth * probability, (0, 1, 2))
            size = tf.reduce_sum(truth + probability, (0, 1, 2))
            # 50 pixels of smoothing: a batch without cages must not pull on the cage plane.
            dice = 1.0 - tf.reduce_mean((2.0 * overlap + 50.0) / (size + 50.0))
            loss = 2.0 * cross_entropy + dice
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))
        for mean, variable in zip(self.average, self._averaged(), strict=True):
            value = keras.ops.cast(variable.value, "float32")
            mean.assign(decay * mean + (1.0 - decay) * value)
        return loss

    def step(
        self, films: NDArray[np.float32], labels: NDArray[np.int32], progress: Progress
    ) -> float:
        """One step; returns its loss."""
        import tensorflow as tf

        if self.minutes is not None:
            done = progress.minutes / self.minutes
        else:
            done = progress.step / max(1, self.total_steps or 1)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        warm = min(1.0, (progress.step + 1) / WARM_UP_STEPS)
        share = FINAL_RATE_SHARE + (1.0 - FINAL_RATE_SHARE) * cosine
        self.optimizer.learning_rate.assign(LEARNING_RATE * warm * share)
        decay = min(EMA_DECAY, (1.0 + progress.step) / (10.0 + progress.step))
        loss = self._step(
            tf.constant(films), tf.constant(labels), tf.constant(decay, dtype=tf.float32)
        )
        return float(loss)

    def averaged_model(self, target: keras.Model) -> keras.Model:
        """The averaged weights, put into a second model of the same kind."""
        by_path = {v.path: m for v, m in zip(self._averaged(), self.average, strict=True)}
        for variable in target.weights:
            if variable.path in by_path:
                variable.assign(by_path[variable.path].numpy())
        return target

    def arrays(self) -> dict[str, Any]:
        """Everything a resumed run needs, by name."""
        state = {f"model/{variable.path}": variable for variable in self._averaged()}
        state |= {
            f"average/{variable.path}": mean
            for variable, mean in zip(self._averaged(), self.average, strict=True)
        }
        state |= {f"optimizer/{v.path}": v for v in self.optimizer.variables}
        return state


def save_state(folder: Path, trainer: Trainer, progress: Progress) -> None:
    """Writes the run's state in one step (plain HDF5, no pickle)."""
    import h5py
    import keras

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "state.h5.partial"
    with h5py.File(partial, "w") as file:
        file.attrs["progress"] = json.dumps(asdict(progress))
        for name, variable in trainer.arrays().items():
            file.create_dataset(name, data=keras.ops.convert_to_numpy(variable))
    os.replace(partial, folder / "state.h5")


def load_state(folder: Path, trainer: Trainer) -> Progress:
    """Restores a run; a run folder without state starts from nothing."""
    import h5py

    path = folder / "state.h5"
    if not path.exists():
        return Progress()
    with h5py.File(path, "r") as file:
        for name, variable in trainer.arrays().items():
            variable.assign(file[name][()])
        return Progress(**json.loads(file.attrs["progress"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, writes the weights and updates the card; returns the exit status."""
    arguments = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf
    from spinezoo_contract.cards import describe_weights, load_card, update_card
    from spinezoo_spine.dataset import label_map_of, network_input, prepare_film_set
    from spinezoo_spine.filmset import describe_film_set
    from spinezoo_spine.metrics import merged_mean_iou
    from spinezoo_spine.splits import split_names
    from tqdm import tqdm

    from spinezoo_unet.predictor import build_network, choose_device
    from spinezoo_unet.weights import load_weights, probe_values, save_weights

    if arguments.threads:
        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    device = choose_device(arguments.device)
    keras.utils.set_random_seed(arguments.seed)
    card = load_card(arguments.card, arguments.preset)
    data = prepare_film_set(
        arguments.data, card.input_height, card.input_width, cache_dir=arguments.cache_dir
    )
    train_names, validation_names = split_names(data.names, arguments.seed, 0.1)
    position = {name: index for index, name in enumerate(data.names)}
    train_indices = [position[name] for name in train_names]
    validation_indices = [position[name] for name in validation_names]

    exact = build_network(card)  # float32: validation is what serving will answer
    if arguments.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = build_network(card)
    keras.config.set_dtype_policy("float32")
    steps_per_epoch = max(1, len(train_indices) // arguments.batch_size)
    trainer = Trainer(model, arguments.epochs * steps_per_epoch, arguments.minutes)
    progress = load_state(arguments.run_dir, trainer)
    if progress.epoch:
        log.info("going on after epoch %d", progress.epoch)

    stop = False

    def ask_to_stop(number: int, frame: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)

    def validate() -> float:
        averaged = trainer.averaged_model(exact)
        values = []
        for index in validation_indices:
            film = data[index]
            answer = averaged(network_input(film).transpose(1, 2, 0)[np.newaxis], training=False)
            classes = keras.ops.convert_to_numpy(answer)[0].argmax(-1)
            values.append(merged_mean_iou(label_map_of(film) > 0, classes > 0))
        return float(np.mean(values)) if values else float("nan")

    def finished() -> bool:
        if arguments.minutes is not None:
            return progress.minutes >= arguments.minutes
        return progress.epoch >= arguments.epochs

    mean_iou = float("nan")
    while not finished() and not stop:
        started = time.monotonic()
        at_start = progress.minutes
        losses: list[float] = []
        bar = tqdm(
            batches(data, train_indices, arguments.batch_size, arguments.seed, progress.epoch),
            total=steps_per_epoch,
            desc=f"unet epoch {progress.epoch + 1}",
            unit="step",
            mininterval=5.0,
        )
        with tf.device("/CPU:0" if device == "cpu" else "/GPU:0"):
            for films, labels in bar:
                losses.append(trainer.step(films, labels, progress))
                progress.step += 1
                progress.films_seen += len(films)
                progress.minutes = at_start + (time.monotonic() - started) / 60
                bar.set_postfix(loss=f"{np.mean(losses[-50:]):.3f}", refresh=False)
                if stop or (arguments.minutes is not None and finished()):
                    break
        bar.close()
        if stop:
            # An epoch that was cut short is done again: state on disk is that of its start.
            break
        mean_iou = validate()
        progress.epoch += 1
        progress.minutes = at_start + (time.monotonic() - started) / 60
        progress.best_mean_iou = max(progress.best_mean_iou, mean_iou)
        save_state(arguments.run_dir, trainer, progress)
        log.info(
            "unet epoch %d: loss %.4f, validation mean IoU %.4f (averaged weights), %.1f min",
            progress.epoch,
            float(np.mean(losses)),
            mean_iou,
            progress.minutes,
        )
    if stop:
        log.info("stopped after epoch %d; the same command goes on from there", progress.epoch)
        return 130

    # Half precision is what is shipped, so half precision is what is probed and measured.
    weights = arguments.card.parent / "weights" / f"{arguments.preset}.h5"
    save_weights(trainer.averaged_model(exact), weights)
    load_weights(exact, weights)
    mean_iou = validate()
    update_card(
        arguments.card,
        arguments.preset,
        weights=describe_weights(
            arguments.card,
            weights,
            dtype="float16",
            probe_seed=PROBE_SEED,
            probe_values=probe_values(exact, PROBE_SEED).round(4).tolist(),
            probe_tolerance=PROBE_TOLERANCE,
        ),
        training={
            "data": describe_film_set(arguments.data),
            "split_seed": arguments.seed,
            "train_films": len(train_indices),
            "validation_films": len(validation_indices),
            "epochs": progress.epoch,
            "films_seen": progress.films_seen,
            "minutes": round(progress.minutes, 1),
            "batch_size": arguments.batch_size,
            "precision": arguments.precision,
            "device": device,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "libraries": f"keras {keras.__version__}, tensorflow {tf.__version__}",
        },
        metrics={"validation_mean_iou": round(mean_iou, 4)},
    )
    log.info(
        "unet %s: %d epochs, %d films seen, %.1f min, validation mean IoU %.4f, weights %s",
        arguments.preset,
        progress.epoch,
        progress.films_seen,
        progress.minutes,
        mean_iou,
        weights.name,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
