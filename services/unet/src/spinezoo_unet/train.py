"""Trains the U-Net from films with outlines: ``make train NETWORK=unet DATA=folder``.

Loss: cross-entropy, weighted at gaps between vertebrae, plus soft Dice over the structures. AdamW
with warm-up and cosine decay, an exponential average of the weights, bfloat16 arithmetic where the
machine has it. The run folder holds everything needed to go on after a stop.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError, SpineZooError
from spinezoo_spine.dataset import (
    AugmentSettings,
    PreparedFilm,
    label_map_of,
    label_map_with_gaps,
    network_input,
)
from spinezoo_spine.film_source import (
    FilmSource,
    add_data_arguments,
    augmented_batch,
    batches_ahead,
    open_data,
)
from spinezoo_spine.run_log import STRIP_FILMS, RunLog, command_of, prediction_strip
from spinezoo_spine.start_from import add_start_argument, find_start, start_record
from spinezoo_spine.stopping import stop_on_signal

if TYPE_CHECKING:
    import keras

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
    """Where a run stands; written after every epoch and when the run is stopped.

    Attributes:
        epoch: Finished epochs.
        step: Finished steps.
        step_in_epoch: Finished steps of the epoch under way.
        films_seen: Films the network was trained on, with repetition.
        minutes: Minutes of training so far, over all parts of the run.
        best_mean_iou: Best validation value so far.
        epochs_since_best: Epochs since then.
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    films_seen: int = 0
    minutes: float = 0.0
    best_mean_iou: float = 0.0
    epochs_since_best: int = 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="spinezoo_unet.train", description=__doc__)
    add_data_arguments(parser)
    add_start_argument(parser)
    parser.add_argument("--card", type=Path, default=Path(__file__).parents[2] / "card.yaml")
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--run-dir", type=Path, required=True, help="state of the run; resumes")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument(
        "--minutes", type=float, default=None, help="time budget; ends the run instead of epochs"
    )
    parser.add_argument(
        "--patience", type=int, help="stop after so many epochs without a better validation figure"
    )
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--learning-rate", type=float, default=LEARNING_RATE, help="highest (default %(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that prepare films (default 0)"
    )
    parser.add_argument(
        "--no-augmentation", action="store_true", help="train on the films as they are"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0: all")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    return parser.parse_args(argv)


@dataclass(frozen=True)
class BatchMaker:
    """Inputs, label maps and weights of the pixels of the batch at a place of a run.

    (N, h, w, 2) ``float32``, (N, h, w) ``int32`` and (N, h, w) ``float32``.

    Pure in epoch and step; sent to worker processes.
    """

    source: FilmSource
    seed: int
    batch_size: int
    augmentation: AugmentSettings | None

    def __call__(
        self, epoch: int, step: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
        """The batch of step ``step`` of epoch ``epoch``, both from 0."""
        films = augmented_batch(
            self.source,
            seed=self.seed,
            batch_size=self.batch_size,
            epoch=epoch,
            step=step,
            settings=self.augmentation,
        )
        inputs = np.stack([network_input(film).transpose(1, 2, 0) for film in films])
        taught = [label_map_with_gaps(film) for film in films]
        labels = np.stack([labels for labels, _ in taught]).astype(np.int32)
        return inputs, labels, np.stack([weights for _, weights in taught])


class Trainer:
    """The network, its optimiser, its averaged weights, and one training step."""

    def __init__(
        self,
        model: keras.Model,
        total_steps: int,
        minutes: float | None,
        learning_rate: float = LEARNING_RATE,
    ) -> None:
        import keras
        import tensorflow as tf

        self.model = model
        self.total_steps = total_steps
        self.minutes = minutes
        self.learning_rate = learning_rate
        self.optimizer = keras.optimizers.AdamW(
            learning_rate,
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

    def _train_step(self, films: Any, labels: Any, weights: Any, decay: Any) -> Any:
        import keras
        import tensorflow as tf

        classes = self.model.output_shape[-1]
        with tf.GradientTape() as tape:
            logits = self.model(films, training=True)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            cross_entropy = tf.reduce_sum(weights * each) / tf.reduce_sum(weights)
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
        self,
        films: NDArray[np.float32],
        labels: NDArray[np.int32],
        weights: NDArray[np.float32],
        progress: Progress,
    ) -> float:
        """One step; returns its loss."""
        import tensorflow as tf

        if self.minutes is not None:
            done = progress.minutes / self.minutes
        else:
            done = progress.step / max(1, self.total_steps)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        warm = min(1.0, (progress.step + 1) / WARM_UP_STEPS)
        share = FINAL_RATE_SHARE + (1.0 - FINAL_RATE_SHARE) * cosine
        self.optimizer.learning_rate.assign(self.learning_rate * warm * share)
        decay = min(EMA_DECAY, (1.0 + progress.step) / (10.0 + progress.step))
        loss = self._step(
            tf.constant(films),
            tf.constant(labels),
            tf.constant(weights),
            tf.constant(decay, dtype=tf.float32),
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
        # Where dropout's random streams stand; Keras counts their names through a whole process.
        streams = [variable for variable in self.model.variables if "seed" in variable.path]
        state |= {f"dropout/{index}": variable for index, variable in enumerate(streams)}
        return state


def save_state(
    folder: Path, trainer: Trainer, progress: Progress, identity: dict[str, Any]
) -> None:
    """Writes the run's state in one step (plain HDF5, no pickle)."""
    import h5py
    import keras

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "state.h5.partial"
    with h5py.File(partial, "w") as file:
        file.attrs["progress"] = json.dumps(asdict(progress))
        file.attrs["identity"] = json.dumps(identity)
        for name, variable in trainer.arrays().items():
            file.create_dataset(name, data=keras.ops.convert_to_numpy(variable))
    os.replace(partial, folder / "state.h5")


def load_state(folder: Path, trainer: Trainer, identity: dict[str, Any]) -> Progress:
    """Restores a run; a run folder without state starts from nothing.

    Raises:
        ConfigurationError: The folder holds another run.
    """
    import h5py

    path = folder / "state.h5"
    if not path.exists():
        return Progress()
    with h5py.File(path, "r") as file:
        before = json.loads(file.attrs.get("identity", "{}"))
        for key in sorted(identity.keys() | before.keys()):
            if identity.get(key) != before.get(key):
                raise ConfigurationError(
                    f"{path} is of a run with another {key} ({before.get(key)!r}, now "
                    f"{identity.get(key)!r}); choose another --run-dir or remove that file"
                )
        for name, variable in trainer.arrays().items():
            variable.assign(file[name][()])
        return Progress(**json.loads(file.attrs["progress"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Trains, writes the weights and updates the card.

    Returns:
        0 when trained, 130 when stopped on the way, 1 with a message on a named error.
    """
    arguments = parse_arguments(argv)
    command = command_of("unet", sys.argv[1:] if argv is None else argv)
    try:
        with stop_on_signal() as stop:
            return _train(arguments, command, stop)
    except SpineZooError as error:
        sys.stderr.write(f"unet: {error}\n")
        return 1


def _train(arguments: argparse.Namespace, command: str, stop: Callable[[], bool]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf
    from spinezoo_contract.cards import describe_weights, load_card, update_card
    from spinezoo_spine.film_source import FolderFilms
    from spinezoo_spine.filmset import describe_film_set
    from spinezoo_spine.metrics import merged_mean_iou
    from tqdm import tqdm

    from spinezoo_unet.predictor import build_network, choose_device
    from spinezoo_unet.weights import load_weights, probe_values, save_weights

    if arguments.threads:
        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
        tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    device = choose_device(arguments.device)
    keras.utils.set_random_seed(arguments.seed)
    card = load_card(arguments.card, arguments.preset)
    start = find_start(arguments.start_from, card, arguments.run_dir, ".h5")
    exact = build_network(card)  # float32: validation is what serving will answer
    if start is not None:
        load_weights(exact, start.path)
    if arguments.precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = build_network(card)
    keras.config.set_dtype_policy("float32")
    if start is not None:
        load_weights(model, start.path)

    data = open_data(arguments, card.input_height, card.input_width, arguments.seed, progress=True)
    batch_size = max(2, min(arguments.batch_size, data.source.epoch_films))
    data.source.check(batch_size, arguments.workers)
    steps_per_epoch = data.source.steps(batch_size)
    make = BatchMaker(
        data.source,
        arguments.seed,
        batch_size,
        None if arguments.no_augmentation else AugmentSettings(),
    )
    identity: dict[str, Any] = {
        "network": json.loads(json.dumps(dict(card.network))),
        "input": [card.input_channels, card.input_height, card.input_width],
        "augmentation": make.augmentation is not None,
        "seed": arguments.seed,
        "batch_size": batch_size,
        **({} if start is None else {"start_from": start.sha256}),
        **data.source.identity,
    }
    number_of_class = np.array([0, *(int(structure) for structure in card.structures)])
    trainer = Trainer(
        model, arguments.epochs * steps_per_epoch, arguments.minutes, arguments.learning_rate
    )
    progress = load_state(arguments.run_dir, trainer, identity)
    if progress.step:
        log.info("going on after epoch %d, film %d", progress.epoch, progress.films_seen)

    def labels_of(film: PreparedFilm) -> NDArray[np.intp]:
        answer = exact(network_input(film).transpose(1, 2, 0)[np.newaxis], training=False)
        classes: NDArray[np.intp] = keras.ops.convert_to_numpy(answer)[0].argmax(-1)
        return number_of_class[classes]

    def validate() -> float:
        values = []
        for film in data.validation:
            values.append(merged_mean_iou(label_map_of(film) > 0, labels_of(film) > 0))
        return float(np.mean(values)) if values else float("nan")

    def strip() -> NDArray[np.uint8] | None:
        shown = [data.validation[i] for i in range(min(STRIP_FILMS, len(data.validation)))]
        return prediction_strip(shown, [labels_of(film) for film in shown]) if shown else None

    def stopped_early() -> bool:
        return arguments.patience is not None and progress.epochs_since_best >= arguments.patience

    def finished() -> bool:
        if stopped_early():
            return True
        if arguments.minutes is not None:
            return progress.minutes >= arguments.minutes
        return progress.epoch >= arguments.epochs

    mean_iou = float("nan")
    losses: list[float] = []
    begun = time.monotonic()
    minutes_before = progress.minutes
    stream = batches_ahead(
        make, progress.epoch, progress.step_in_epoch, steps_per_epoch, arguments.workers
    )
    bar = tqdm(
        total=steps_per_epoch * batch_size,
        initial=progress.step_in_epoch * batch_size,
        unit="film",
        mininterval=1.0 if sys.stderr.isatty() else 20.0,
    )
    run_log = RunLog(arguments.run_dir)
    with (
        closing(stream),
        closing(bar),
        closing(run_log),
        tf.device("/CPU:0" if device == "cpu" else "/GPU:0"),
    ):
        while not finished() and not stop():
            films, labels, weights = next(stream)
            losses.append(trainer.step(films, labels, weights, progress))
            progress.step += 1
            progress.step_in_epoch += 1
            progress.films_seen += len(films)
            progress.minutes = minutes_before + (time.monotonic() - begun) / 60
            bar.update(len(films))
            bar.set_postfix_str(
                f"epoch {progress.epoch + 1} loss {np.mean(losses[-50:]):.3f}", refresh=False
            )
            whole = progress.step_in_epoch == steps_per_epoch
            if not whole and (stop() or arguments.minutes is None or not finished()):
                continue
            trainer.averaged_model(exact)
            mean_iou = validate()
            if whole:
                progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
                better = mean_iou > progress.best_mean_iou
                progress.epochs_since_best = 0 if better else progress.epochs_since_best + 1
            progress.minutes = minutes_before + (time.monotonic() - begun) / 60
            progress.best_mean_iou = max(progress.best_mean_iou, mean_iou)
            save_state(arguments.run_dir, trainer, progress, identity)
            log.info(
                "unet epoch %d: loss %.4f, validation mean IoU %.4f (averaged weights), %.1f min",
                progress.epoch,
                float(np.mean(losses)),
                mean_iou,
                progress.minutes,
            )
            run_log.epoch(
                progress.epoch,
                {
                    "loss": float(np.mean(losses)),
                    "learning_rate": float(trainer.optimizer.learning_rate),
                    "films_seen": progress.films_seen,
                    "validation/merged_mean_iou": mean_iou,
                },
                strip(),
            )
            losses = []
            bar.reset()
    if stop() and not finished():
        save_state(arguments.run_dir, trainer, progress, identity)
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
            "data": describe_film_set(Path(arguments.data))
            if isinstance(data.source, FolderFilms)
            else data.name,
            **data.record,
            "seed": arguments.seed,
            "train_films": data.source.different_films(arguments.seed, batch_size, progress.step),
            "validation_films": len(data.validation),
            "epochs": progress.epoch,
            "films_seen": progress.films_seen,
            **start_record(start, progress.films_seen),
            **({"stopped_early": True} if stopped_early() else {}),
            "minutes": round(progress.minutes, 1),
            "batch_size": batch_size,
            "learning_rate": arguments.learning_rate,
            "precision": arguments.precision,
            "device": device,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "libraries": f"keras {keras.__version__}, tensorflow {tf.__version__}",
            "date": datetime.now(UTC).date().isoformat(),
            "command": command,
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
