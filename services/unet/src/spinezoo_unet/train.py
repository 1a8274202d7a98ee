"""Trains the U-Net from films with outlines: ``make train NETWORK=unet DATA=folder``.

Loss: cross-entropy, weighted at gaps between vertebrae, plus soft Dice over the structures. AdamW
with warm-up and cosine decay, an exponential average of the weights, bfloat16 arithmetic where the
machine has it. The run folder holds everything needed to go on after a stop.

Keras's backend trains, TensorFlow or PyTorch (``KERAS_BACKEND=torch``); the weights are the same
kind of file, and TensorFlow serves them.
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
from spinezoo_training.augmentation import AugmentSettings
from spinezoo_training.batches_ahead import batches_ahead
from spinezoo_training.data_options import add_data_arguments, open_data
from spinezoo_training.film_sources import FilmSource, augmented_batch
from spinezoo_training.initial_weights import add_start_argument, find_start, start_record
from spinezoo_training.prepared_set import PreparedFilm
from spinezoo_training.run_log import STRIP_FILMS, RunLog, command_of, prediction_strip
from spinezoo_training.stopping import stop_on_signal
from spinezoo_training.targets import label_map_of, network_input

from spinezoo_unet.batches import Batch, encode

if TYPE_CHECKING:
    import keras

    from spinezoo_unet.backends import Backend

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
    """The batch at a place of a run, as :func:`~spinezoo_unet.batches.encode` gives it.

    Pure in epoch and step; sent to worker processes.
    """

    source: FilmSource
    seed: int
    batch_size: int
    augmentation: AugmentSettings | None

    def __call__(self, epoch: int, step: int) -> Batch:
        """The batch of step ``step`` of epoch ``epoch``, both from 0."""
        films = augmented_batch(
            self.source,
            seed=self.seed,
            batch_size=self.batch_size,
            epoch=epoch,
            step=step,
            settings=self.augmentation,
        )
        return encode(films)


class Trainer:
    """The network, its optimiser, its averaged weights, and one training step."""

    def __init__(
        self,
        model: keras.Model,
        backend: Backend,
        total_steps: int,
        minutes: float | None,
        learning_rate: float = LEARNING_RATE,
    ) -> None:
        import keras

        self.model = model
        self.backend = backend
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
            keras.Variable(
                keras.ops.convert_to_numpy(variable), dtype="float32", trainable=False, name="mean"
            )
            for variable in self._averaged()
        ]
        self._step = backend.training_step(model, self.optimizer, self.average, self._averaged())

    def _averaged(self) -> list[keras.Variable]:
        return [variable for variable in self.model.weights if "seed" not in variable.path]

    def step(self, batch: Batch, progress: Progress) -> float:
        """One step; returns its loss."""
        if self.minutes is not None:
            done = progress.minutes / self.minutes
        else:
            done = progress.step / max(1, self.total_steps)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        warm = min(1.0, (progress.step + 1) / WARM_UP_STEPS)
        share = FINAL_RATE_SHARE + (1.0 - FINAL_RATE_SHARE) * cosine
        self.optimizer.learning_rate.assign(self.learning_rate * warm * share)
        decay = min(EMA_DECAY, (1.0 + progress.step) / (10.0 + progress.step))
        return self._step(batch, decay)

    def averaged_model(self, target: keras.Model) -> keras.Model:
        """The averaged weights, put into a second model of the same kind."""
        import keras

        by_path = {v.path: m for v, m in zip(self._averaged(), self.average, strict=True)}
        for variable in target.weights:
            if variable.path in by_path:
                variable.assign(keras.ops.convert_to_numpy(by_path[variable.path]))
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
        for name, numbers in trainer.backend.random_state().items():
            file.create_dataset(f"random/{name}", data=numbers)
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
        random = {name: numbers[()] for name, numbers in file.get("random", {}).items()}
        trainer.backend.restore_random_state(random)
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
    from spinezoo_unet.backends import training_backend

    backend = training_backend()
    device = backend.set_up(arguments.device, arguments.threads)
    if backend.name != "tensorflow":
        command = f"KERAS_BACKEND={backend.name} {command}"
    with backend.on(device):
        return _train_on(backend, device, arguments, command, stop)


def _train_on(
    backend: Backend,
    device: str,
    arguments: argparse.Namespace,
    command: str,
    stop: Callable[[], bool],
) -> int:
    import keras
    from spinezoo_serving.cards import describe_weights, load_card, update_card
    from spinezoo_spine.annotations.film_set import describe_film_set
    from spinezoo_spine.metrics.metrics import merged_mean_iou
    from spinezoo_training.film_sources import FolderFilms
    from tqdm import tqdm

    from spinezoo_unet.predictor import build_network
    from spinezoo_unet.weights import load_weights, probe_values, save_weights

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
        **({} if backend.name == "tensorflow" else {"backend": backend.name}),
        **data.source.identity,
    }
    number_of_class = np.array([0, *(int(structure) for structure in card.structures)])
    trainer = Trainer(
        model,
        backend,
        arguments.epochs * steps_per_epoch,
        arguments.minutes,
        arguments.learning_rate,
    )
    progress = load_state(arguments.run_dir, trainer, identity)
    if progress.step:
        log.info("going on after epoch %d, film %d", progress.epoch, progress.films_seen)

    def labels_of(films: Sequence[PreparedFilm]) -> NDArray[np.intp]:
        inputs = np.stack([network_input(film).transpose(1, 2, 0) for film in films])
        return number_of_class[backend.classes(exact, inputs)]

    def validate() -> float:
        values = []
        count, at_once = len(data.validation), backend.films_at_once
        for first in range(0, count, at_once):
            films = [data.validation[i] for i in range(first, min(first + at_once, count))]
            for film, labels in zip(films, labels_of(films), strict=True):
                values.append(merged_mean_iou(label_map_of(film) > 0, labels > 0))
        return float(np.mean(values)) if values else float("nan")

    def strip() -> NDArray[np.uint8] | None:
        shown = [data.validation[i] for i in range(min(STRIP_FILMS, len(data.validation)))]
        return prediction_strip(shown, list(labels_of(shown))) if shown else None

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
    with closing(stream), closing(bar), closing(run_log):
        while not finished() and not stop():
            batch = next(stream)
            losses.append(trainer.step(batch, progress))
            progress.step += 1
            progress.step_in_epoch += 1
            progress.films_seen += len(batch.grey)
            progress.minutes = minutes_before + (time.monotonic() - begun) / 60
            bar.update(len(batch.grey))
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
            "libraries": f"keras {keras.__version__}, {backend.library}",
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
