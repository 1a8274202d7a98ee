"""The training loop of every network, without a framework.

A run is a folder. It holds the engine's state (network, averaged network, optimiser, place in the
schedule) and ``history.jsonl`` (one line an epoch). Stopped by Ctrl-C, SIGTERM or a power cut
and started again with the same command it goes on where the state was written, and ends after the
same number of epochs: orders of films, augmentation and dropout come from the seed, the epoch and
the step, or from streams that the state holds.

The weights that are written are the exponential moving average at the end of the run; no epoch is
picked by its validation figure, so that figure stays honest. Early stopping (off by default) ends a
run whose figure no longer rises; it does not go back to a better epoch.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.words import counted
from spinezoo_serving.disk import append_line
from tqdm import tqdm

from spinezoo_training.engine import BatchMaker, Engine
from spinezoo_training.film_sources import FilmSource, FolderFilms
from spinezoo_training.prepared_set import PreparedFilm, PreparedSet
from spinezoo_training.run_log import RunLog
from spinezoo_training.validation import answer_strip, validate

HISTORY_FILE = "history.jsonl"


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a run stands.

    Attributes:
        finished: False where it was asked to stop before its end.
        epochs: Whole epochs trained, over all starts of the run.
        films_seen: Films trained on, repeats counted.
        different_films: Films trained on, each counted once.
        minutes: Wall-clock time, over all starts.
        loss: Mean loss of the last epoch, NaN where there was none.
        validation: Figures of the averaged network on the validation films.
        stopped_early: Whether it ended because the validation figure no longer rose.
        batch_size: Films a step: at most those of an epoch.
    """

    finished: bool
    epochs: int
    films_seen: int
    different_films: int
    minutes: float
    loss: float
    validation: dict[str, float]
    stopped_early: bool
    batch_size: int


def fit(
    engine: Engine,
    training_films: PreparedSet | FilmSource,
    validation_films: Sequence[PreparedFilm] | PreparedSet,
    run_dir: Path | str,
    *,
    identity: dict[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
    quiet: bool = False,
) -> FitResult:
    """Trains the engine's network, or goes on with a run that was stopped.

    Args:
        engine: The network with random weights, or those to begin with, and how to train it.
        training_films: Prepared films, at least two, or where batches come from.
        validation_films: May be empty.
        run_dir: Folder of the run.
        identity: What must be equal for a run to go on, beside seed and batch size (for instance
            the network's arguments); plain JSON values.
        stop: Asked after every step; True writes the state and returns.
        quiet: No progress bar and no lines.

    Raises:
        ConfigurationError: Too few films, nothing to validate on though patience is set, the
            folder holds a run of another identity, or the loss is no longer finite.
        WeightsError: The folder's state cannot be read.
    """
    source = (
        FolderFilms(training_films) if isinstance(training_films, PreparedSet) else training_films
    )
    run = _Run(engine, source, Path(run_dir), identity or {})
    if engine.settings.patience is not None and len(validation_films) == 0:
        raise ConfigurationError("patience needs films to validate on; give some, or leave it out")
    run.restore()
    if not quiet and run.step:
        sys.stderr.write(
            f"going on after {counted(run.epoch, 'epoch')} and {counted(run.films_seen, 'film')}\n"
        )
        sys.stderr.flush()
    validation: dict[str, float] = dict(run.validation)
    losses: list[float] = []
    batches = run.batches()
    log = RunLog(Path(run_dir), quiet=quiet)
    bar = tqdm(
        total=source.epoch_films,
        initial=run.step_in_epoch * run.batch_size,
        unit="film",
        disable=quiet,
        file=sys.stderr,
        mininterval=1.0 if sys.stderr.isatty() else 20.0,
        dynamic_ncols=True,
    )
    try:
        while not run.done():
            if stop():
                run.save(validation)
                return run.result(False, losses, validation)
            terms = run.train_step(next(batches))
            losses.append(sum(terms.values()))
            bar.update(run.batch_size)
            bar.set_postfix_str(
                f"epoch {run.epoch + 1} " + " ".join(f"{k} {v:.3f}" for k, v in terms.items())
            )
            if run.step_in_epoch == run.steps_per_epoch or run.done():
                validation = validate(engine, validation_films, run.batch_size)
                run.end_epoch(validation)
                line = run.log_epoch(losses, validation)
                figures = run.figures(losses, terms, validation)
                log.epoch(run.epoch, figures, answer_strip(engine, validation_films))
                if not quiet:
                    tqdm.write(line, file=sys.stderr)
                    sys.stderr.flush()
                if not run.done():
                    losses = []
                    bar.reset()
        if not validation:
            validation = validate(engine, validation_films, run.batch_size)
    finally:
        bar.close()
        batches.close()  # a generator: ends its workers
        log.close()
    return run.result(True, losses, validation)


class _Run:
    """State of a run and the operations on it."""

    def __init__(
        self, engine: Engine, films: FilmSource, run_dir: Path, identity: dict[str, Any]
    ) -> None:
        self.engine, self.settings, self.films = engine, engine.settings, films
        self.run_dir = run_dir
        self.batch_size = max(2, min(self.settings.batch_size, films.epoch_films))
        films.check(self.batch_size, self.settings.workers)
        self.steps_per_epoch = films.steps(self.batch_size)
        self.identity: dict[str, Any] = {
            **identity,
            "seed": self.settings.seed,
            "batch_size": self.batch_size,
            **films.identity,
        }
        self.epoch = self.step_in_epoch = self.step = self.films_seen = 0
        self.seconds_before = 0.0
        self.validation: dict[str, float] = {}
        self.best, self.epochs_since_best = -math.inf, 0
        self.started = time.monotonic()

    # -- schedule

    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def progress(self) -> float:
        """Share of the schedule that lies behind, 0 to 1."""
        if self.settings.epochs is not None:
            return min(1.0, self.step / (self.settings.epochs * self.steps_per_epoch))
        assert self.settings.minutes is not None
        return min(1.0, self.seconds() / (60.0 * self.settings.minutes))

    def done(self) -> bool:
        return self.progress() >= 1.0 or self.stopped_early()

    def stopped_early(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.epochs_since_best >= patience

    def end_epoch(self, validation: dict[str, float]) -> None:
        """Counts the epoch where it is whole, and writes the state."""
        if self.step_in_epoch == self.steps_per_epoch:
            self.epoch, self.step_in_epoch = self.epoch + 1, 0
            self.judge(validation)
        self.save(validation)

    def judge(self, validation: dict[str, float]) -> None:
        """Counts the epochs since the validation figure was best."""
        score = validation.get("merged_mean_iou", -math.inf)
        if score > self.best:
            self.best, self.epochs_since_best = score, 0
        else:
            self.epochs_since_best += 1

    def learning_rate(self) -> float:
        return self.settings.rate_at(self.progress(), self.step)

    # -- steps

    def batches(self) -> Generator[Any, None, None]:
        """Batches from the present place on, without end."""
        make = BatchMaker(self.films, self.engine.task, self.settings, self.batch_size)
        return self.engine.batches(make, self.epoch, self.step_in_epoch, self.steps_per_epoch)

    def train_step(self, batch: Any) -> dict[str, float]:
        """One step of the optimiser; answers the loss terms."""
        terms = self.engine.step(
            batch,
            number=self.step,
            learning_rate=self.learning_rate(),
            average_decay=self.settings.decay_at(self.step),
        )
        if not math.isfinite(sum(terms.values())):
            raise ConfigurationError(
                f"the loss is {sum(terms.values())} at step {self.step}; training has diverged: "
                "start a new run with a lower --learning-rate or --precision float32"
            )
        self.step += 1
        self.step_in_epoch += 1
        self.films_seen += self.batch_size
        return terms

    # -- state

    def save(self, validation: dict[str, float]) -> None:
        self.validation = validation
        record = {
            "identity": self.identity,
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "step": self.step,
            "films_seen": self.films_seen,
            "seconds": self.seconds(),
            "validation": validation,
            "best": None if math.isinf(self.best) else self.best,
            "epochs_since_best": self.epochs_since_best,
        }
        self.engine.save_state(self.run_dir / self.engine.state_file, record)

    def restore(self) -> None:
        path = self.run_dir / self.engine.state_file
        if not path.exists():
            return
        record = self.engine.load_state(path, self._accept)
        self.epoch, self.step_in_epoch = record["epoch"], record["step_in_epoch"]
        self.step, self.films_seen = record["step"], record["films_seen"]
        self.validation = record["validation"]
        if record.get("best") is not None:
            self.best, self.epochs_since_best = record["best"], record["epochs_since_best"]
        self.seconds_before = record["seconds"]
        self.started = time.monotonic()

    def _accept(self, record: dict[str, Any]) -> None:
        before = record["identity"]
        path = self.run_dir / self.engine.state_file
        for key in sorted(self.identity.keys() | before.keys()):
            if self.identity.get(key) != before.get(key):
                raise ConfigurationError(
                    f"{path} is of a run with another {key} ({before.get(key)!r}, now "
                    f"{self.identity.get(key)!r}); choose another --run-dir or remove that file"
                )

    def log_epoch(self, losses: Sequence[float], validation: dict[str, float]) -> str:
        """Appends to the history; answers the line to show."""
        entry = {
            "epoch": self.epoch,
            "step": self.step,
            "films_seen": self.films_seen,
            "minutes": round(self.seconds() / 60.0, 3),
            "learning_rate": float(f"{self.learning_rate():.4g}"),
            "loss": round(float(np.mean(losses)), 5),
            **{name: round(value, 5) for name, value in validation.items()},
        }
        append_line(self.run_dir / HISTORY_FILE, json.dumps(entry))
        return " ".join(f"{key} {value}" for key, value in entry.items())

    def figures(
        self, losses: Sequence[float], terms: dict[str, float], validation: dict[str, float]
    ) -> dict[str, float]:
        """What the run log shows of an epoch; `terms` are those of its last step."""
        return {
            "loss": float(np.mean(losses)),
            **{f"loss/{name}": value for name, value in terms.items()},
            "learning_rate": self.learning_rate(),
            "films_seen": self.films_seen,
            **{f"validation/{name}": value for name, value in validation.items()},
        }

    def result(
        self, finished: bool, losses: Sequence[float], validation: dict[str, float]
    ) -> FitResult:
        return FitResult(
            finished=finished,
            epochs=self.epoch,
            films_seen=self.films_seen,
            different_films=self.films.different_films(
                self.settings.seed, self.batch_size, self.step
            ),
            minutes=self.seconds() / 60.0,
            loss=float(np.mean(losses)) if losses else math.nan,
            validation=validation,
            stopped_early=finished and self.progress() < 1.0,
            batch_size=self.batch_size,
        )
