"""The training loop of the torch networks.

A run is a folder. It holds ``state.safetensors`` (network, averaged network, optimiser, place in
the schedule) and ``history.jsonl`` (one line an epoch). Stopped by Ctrl-C, SIGTERM or a power cut
and started again with the same command it goes on where the state was written, and ends after the
same number of epochs: orders of films, augmentation and dropout come from the seed, the epoch and
the step, not from a generator that runs along.

The weights that are written are the exponential moving average at the end of the run; no epoch is
picked by its validation figure, so that figure stays honest. Early stopping (off by default) ends a
run whose figure no longer rises; it does not go back to a better epoch.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import VERTEBRAE, Segment, SegmentKind, Structure
from spinezoo_spine.metrics import metrics
from spinezoo_training.augmentation import AugmentSettings
from spinezoo_training.film_sources import FilmSource, FolderFilms, augmented_batch
from spinezoo_training.prepared_set import PreparedFilm, PreparedSet
from spinezoo_training.run_log import STRIP_FILMS, RunLog, prediction_strip
from spinezoo_training.targets import instances_of, label_map_of, network_input
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from spinezoo_torchkit.checkpoints import fill_module, load_state, save_state
from spinezoo_torchkit.device import autocast, precision_of

STATE_FILE = "state.safetensors"
HISTORY_FILE = "history.jsonl"

WARMUP_SHARE = 0.03
"""Share of the schedule over which the learning rate rises from 0."""

FINAL_RATE_SHARE = 0.01
"""The learning rate at the end, as a share of the highest."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundObjects:
    """What an instance network found on one film.

    Attributes:
        masks: (n, h, w) bool, on the canvas.
        numbers: (n,) structures' numbers.
    """

    masks: NDArray[np.bool_]
    numbers: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a network answers to a batch, for the validation figures.

    Attributes:
        label_maps: (n, h, w) structures' numbers, 0 for none.
        objects: The objects of each film; None where the network does not tell objects apart.
    """

    label_maps: torch.Tensor
    objects: list[FoundObjects] | None = None


class Task(ABC):
    """What one network adds to the loop: its form of truth, its losses, its answer as labels.

    Everything is a pure function of its arguments; ``encode`` runs in worker processes.

    Attributes:
        fixed_shapes: Whether every step computes with tensors of the same shapes, so that cuDNN's
            search for the fastest algorithm pays.
    """

    fixed_shapes: bool = True

    @abstractmethod
    def encode(self, film: PreparedFilm) -> Any:
        """One film as the network wants it in training; numpy arrays or tensors."""

    @abstractmethod
    def collate(self, samples: list[Any]) -> Any:
        """Samples as one batch of tensors, nested in tuples, lists and dicts at will."""

    @abstractmethod
    def losses(self, network: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        """Weighted loss terms of a batch, each a scalar; their sum is minimised.

        Called under autocast with the network in training mode.
        """

    @abstractmethod
    def label_maps(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """(n, h, w) integers of (n, 2, h, w) inputs: the number of the structure, 0 for none.

        Called in inference mode under autocast, with the network in evaluation mode; an instance
        network paints its instances. Used for the validation figures only.
        """

    def answers(self, network: nn.Module, inputs: torch.Tensor) -> Answers:
        """Label maps and, from an instance network, the objects; called as ``label_maps`` is."""
        return Answers(self.label_maps(network, inputs))


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train.

    Attributes:
        epochs: Passes over the training films. Give this or ``minutes``.
        minutes: Wall-clock time, validation included, over all starts of the run.
        batch_size: Films a step.
        learning_rate: Highest rate of AdamW.
        weight_decay: Decay of matrices and kernels; vectors have none.
        average_decay: Decay of the moving average of the weights, per step.
        clip_norm: Largest norm of the gradient.
        precision: ``float32`` or ``bfloat16`` (autocast).
        seed: Of weights, split, order, augmentation and dropout.
        workers: Processes that prepare films beside the training process.
        patience: Epochs without a better validation figure after which the run ends; None: never.
        augmentation: Settings of the augmentation; None trains on the films as they are.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch_size: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    average_decay: float = 0.995
    clip_norm: float = 5.0
    precision: str = "bfloat16"
    seed: int = 0
    workers: int = 0
    patience: int | None = None
    augmentation: AugmentSettings | None = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.minutes is None):
            raise ConfigurationError("give either epochs or minutes, to say how long to train")
        if self.epochs is not None and self.epochs < 1:
            raise ConfigurationError(f"epochs is {self.epochs}; train for at least 1")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigurationError(f"minutes is {self.minutes}; train for more than 0")
        if self.batch_size < 1:
            raise ConfigurationError(f"batch_size is {self.batch_size}; use at least 1")
        if self.patience is not None and self.patience < 1:
            raise ConfigurationError(f"patience is {self.patience}; wait for at least 1 epoch")
        precision_of(self.precision)


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
    """

    finished: bool
    epochs: int
    films_seen: int
    different_films: int
    minutes: float
    loss: float
    validation: dict[str, float]
    stopped_early: bool = False


def fit(
    task: Task,
    network: nn.Module,
    training_films: PreparedSet | FilmSource,
    validation_films: Sequence[PreparedFilm] | PreparedSet,
    settings: TrainSettings,
    run_dir: Path | str,
    device: torch.device,
    *,
    identity: dict[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
    quiet: bool = False,
) -> FitResult:
    """Trains a network, or goes on with a run that was stopped.

    Args:
        task: What the network adds.
        network: With random weights, or those to begin with; holds the averaged weights at the
            end.
        training_films: Prepared films, at least two, or where batches come from.
        validation_films: May be empty.
        settings: How to train.
        run_dir: Folder of the run.
        device: Where to train.
        identity: What must be equal for a run to go on, beside seed and batch size (for instance
            the network's arguments); plain JSON values.
        stop: Asked after every step; True writes the state and returns.
        quiet: No progress bar and no lines.

    Raises:
        ConfigurationError: Too few films, nothing to validate on though patience is set, or the
            folder holds a run of another identity.
        WeightsError: The folder's state cannot be read.
    """
    source = (
        FolderFilms(training_films) if isinstance(training_films, PreparedSet) else (training_films)
    )
    run = _Run(task, network, source, settings, Path(run_dir), device, identity or {})
    if settings.patience is not None and len(validation_films) == 0:
        raise ConfigurationError("patience needs films to validate on; give some, or leave it out")
    run.restore()
    if not quiet and run.step:
        _say(f"going on after {run.epoch} epochs and {run.films_seen} films")
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
                whole = run.step_in_epoch == run.steps_per_epoch
                validation = validate(
                    task, run.average, validation_films, device, settings.precision, run.batch_size
                )
                if whole:
                    run.epoch, run.step_in_epoch = run.epoch + 1, 0
                    run.judge(validation)
                run.save(validation)
                line = run.log_epoch(losses, validation)
                log.epoch(
                    run.epoch,
                    {
                        "loss": float(np.mean(losses)),
                        **{f"loss/{name}": value for name, value in terms.items()},
                        "learning_rate": run.learning_rate(),
                        "films_seen": run.films_seen,
                        **{f"validation/{name}": value for name, value in validation.items()},
                    },
                    _strip(task, run.average, validation_films, device, settings.precision),
                )
                if not quiet:
                    tqdm.write(line, file=sys.stderr)
                    sys.stderr.flush()
                if not run.done():
                    losses = []
                    bar.reset()
        if not validation:
            validation = validate(
                task, run.average, validation_films, device, settings.precision, run.batch_size
            )
    finally:
        bar.close()
        batches.close()  # a generator: ends its workers
        log.close()
    network.load_state_dict(run.average.state_dict())
    return run.result(True, losses, validation)


def validate(
    task: Task,
    network: nn.Module,
    films: Sequence[PreparedFilm] | PreparedSet,
    device: torch.device,
    precision: str = "float32",
    batch_size: int = 8,
) -> dict[str, float]:
    """Figures of a network on prepared films, on the canvas, without augmentation.

    Returns:
        ``merged_mean_iou``: the study's mean IoU of the merged mask, averaged over films;
        ``iou_<n>``: IoU of structure number n, pooled over films, where truth or answer has it;
        of instance networks also ``vertebra_recognition_rate`` and ``vertebra_precision``,
        matched one to one at IoU 0.5 and pooled over films; empty where there are no films.
    """
    if len(films) == 0:
        return {}
    training = network.training
    network.eval()
    merged: list[float] = []
    overlap = np.zeros(256, dtype=np.int64)
    union = np.zeros(256, dtype=np.int64)
    matches: list[metrics.Matches] = []
    try:
        for start in range(0, len(films), batch_size):
            group = [films[i] for i in range(start, min(start + batch_size, len(films)))]
            inputs = torch.from_numpy(np.stack([network_input(film) for film in group]))
            inputs = inputs.to(device, memory_format=torch.channels_last)
            with torch.inference_mode(), autocast(device, precision_of(precision)):
                found = task.answers(network, inputs)
            answers = found.label_maps.cpu().numpy()
            if found.objects is not None:
                matches += [
                    vertebra_matches(film, objects)
                    for film, objects in zip(group, found.objects, strict=True)
                ]
            for film, answer in zip(group, answers, strict=True):
                truth = label_map_of(film)
                merged.append(metrics.merged_mean_iou(truth > 0, answer > 0))
                for number in np.union1d(truth, answer):
                    a, b = truth == number, answer == number
                    overlap[number] += np.count_nonzero(a & b)
                    union[number] += np.count_nonzero(a | b)
    finally:
        network.train(training)
    figures = {"merged_mean_iou": float(np.mean(merged))}
    for number in np.flatnonzero(union[1:]) + 1:
        figures[f"iou_{number}"] = float(overlap[number] / union[number])
    hits = sum(len(film.matched_ious) for film in matches)
    true_count = sum(film.true_count for film in matches)
    predicted_count = sum(film.predicted_count for film in matches)
    if true_count:
        figures["vertebra_recognition_rate"] = hits / true_count
    if predicted_count:
        figures["vertebra_precision"] = hits / predicted_count
    return figures


def _strip(
    task: Task,
    network: nn.Module,
    films: Sequence[PreparedFilm] | PreparedSet,
    device: torch.device,
    precision: str,
) -> NDArray[np.uint8] | None:
    """The averaged network's answers to the first validation films, as a picture."""
    shown = [films[i] for i in range(min(STRIP_FILMS, len(films)))]
    if not shown:
        return None
    inputs = torch.from_numpy(np.stack([network_input(film) for film in shown]))
    inputs = inputs.to(device, memory_format=torch.channels_last)
    with torch.inference_mode(), autocast(device, precision_of(precision)):
        labels = task.label_maps(network, inputs)
    return prediction_strip(shown, list(labels.cpu().numpy()))


def vertebra_matches(film: PreparedFilm, found: FoundObjects) -> metrics.Matches:
    """A film's true vertebrae matched with the found ones, lumbar and sacral together."""
    true_masks, _, numbers = instances_of(film)
    kinds = [int(structure) for structure in VERTEBRAE]
    return metrics.match_objects(
        _segments(true_masks[np.isin(numbers, kinds)]),
        _segments(found.masks[np.isin(found.numbers, kinds)]),
    )


def _segments(masks: NDArray[np.uint8] | NDArray[np.bool_]) -> list[Segment]:
    """Masks (n, h, w) as objects to match; empty ones are left out."""
    encoded = [encode_mask(mask) for mask in masks if mask.any()]
    return [
        Segment(Structure.LUMBAR_VERTEBRA, SegmentKind.INSTANCE, mask, 1.0, mask_box(mask))
        for mask in encoded
    ]


class _Run:
    """State of a run and the operations on it."""

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        films: FilmSource,
        settings: TrainSettings,
        run_dir: Path,
        device: torch.device,
        identity: dict[str, Any],
    ) -> None:
        self.task, self.settings, self.films = task, settings, films
        self.run_dir, self.device = run_dir, device
        self.batch_size = max(2, min(settings.batch_size, films.epoch_films))
        films.check(self.batch_size, settings.workers)
        self.steps_per_epoch = films.steps(self.batch_size)
        self.network = network.to(device, memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        own, averaged = self.network.state_dict(), self.average.state_dict()
        moving = [name for name, value in own.items() if value.is_floating_point()]
        self._own = [own[name] for name in moving]
        self._averaged = [averaged[name] for name in moving]
        self._counted = [(averaged[n], own[n]) for n in own.keys() - set(moving)]
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = task.fixed_shapes
        decayed = [p for p in network.parameters() if p.ndim >= 2]
        others = [p for p in network.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.identity: dict[str, Any] = {
            **identity,
            "seed": settings.seed,
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

    def judge(self, validation: dict[str, float]) -> None:
        """Counts the epochs since the validation figure was best."""
        score = validation.get("merged_mean_iou", -math.inf)
        if score > self.best:
            self.best, self.epochs_since_best = score, 0
        else:
            self.epochs_since_best += 1

    def learning_rate(self) -> float:
        progress = self.progress()
        # The first steps rise even where a step is a large share of the schedule.
        rise = min(1.0, max(progress / WARMUP_SHARE, (self.step + 1) / 1000.0))
        fall = max(0.0, (progress - WARMUP_SHARE) / (1.0 - WARMUP_SHARE))
        share = FINAL_RATE_SHARE + (1.0 - FINAL_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * fall))
        return self.settings.learning_rate * rise * share

    # -- steps

    def batches(self) -> Generator[Any, None, None]:
        """Batches from the present place on, without end."""
        cv2.setNumThreads(1)
        loader = DataLoader(
            _Batches(self.films, self.task, self.settings, self.batch_size),
            batch_size=None,
            sampler=_Places(self.epoch, self.step_in_epoch, self.steps_per_epoch),
            num_workers=self.settings.workers,
            worker_init_fn=_prepare_worker,
            pin_memory=self.device.type == "cuda",
        )
        yield from loader

    def train_step(self, batch: Any) -> dict[str, float]:
        """One step of the optimiser; answers the loss terms."""
        settings = self.settings
        torch.manual_seed(settings.seed * 1_000_003 + self.step)  # dropout, sampling
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.network.train()
        with autocast(self.device, precision_of(settings.precision)):
            terms = self.task.losses(self.network, _to_device(batch, self.device))
        each = torch.stack([term.float() for term in terms.values()])
        loss = each.sum()
        # The one time that a step waits for an accelerator: backward and update run on while the
        # next step is prepared.
        values: list[float] = each.detach().tolist()
        if not math.isfinite(sum(values)):
            raise ConfigurationError(
                f"the loss is {sum(values)} at step {self.step}; training has diverged: start a "
                "new run with a lower --learning-rate or --precision float32"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        self.optimizer.step()
        self._average()
        self.step += 1
        self.step_in_epoch += 1
        self.films_seen += self.batch_size
        return dict(zip(terms, values, strict=True))

    @torch.no_grad()
    def _average(self) -> None:
        # A short memory at first, so that the random start is forgotten.
        decay = min(self.settings.average_decay, (1.0 + self.step) / (10.0 + self.step))
        torch._foreach_lerp_(self._averaged, self._own, 1.0 - decay)
        for averaged, own in self._counted:
            averaged.copy_(own)

    # -- state

    def save(self, validation: dict[str, float]) -> None:
        self.validation = validation
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in entry.items()}
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
        save_state(self.run_dir / STATE_FILE, tensors, record)

    @torch.no_grad()
    def restore(self) -> None:
        path = self.run_dir / STATE_FILE
        if not path.exists():
            return
        tensors, record = load_state(path)
        for key in sorted(self.identity.keys() | record["identity"].keys()):
            if self.identity.get(key) != record["identity"].get(key):
                raise ConfigurationError(
                    f"{path} is of a run with another {key} ({record['identity'].get(key)!r}, now "
                    f"{self.identity.get(key)!r}); choose another --run-dir or remove that file"
                )
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, key = name.split(".", 1)
            parts[part][key] = tensor
        fill_module(self.network, parts["network"], str(path))
        fill_module(self.average, parts["average"], str(path))
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, key = name.split(".", 1)
            if tensor.ndim > 0:
                # The fused optimiser walks memory, so the layout has to be the parameter's.
                tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(
            {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        self.epoch, self.step_in_epoch = record["epoch"], record["step_in_epoch"]
        self.step, self.films_seen = record["step"], record["films_seen"]
        self.validation = record["validation"]
        if record.get("best") is not None:
            self.best, self.epochs_since_best = record["best"], record["epochs_since_best"]
        self.seconds_before = record["seconds"]
        self.started = time.monotonic()

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
        with (self.run_dir / HISTORY_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        return " ".join(f"{key} {value}" for key, value in entry.items())

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
        )


class _Batches(Dataset[Any]):
    """Batches of augmented films in the form of the task, by (epoch, step)."""

    def __init__(
        self, films: FilmSource, task: Task, settings: TrainSettings, batch_size: int
    ) -> None:
        self.films, self.task, self.settings = films, task, settings
        self.batch_size = batch_size

    def __getitem__(self, place: tuple[int, int]) -> Any:
        epoch, step = place
        films = augmented_batch(
            self.films,
            seed=self.settings.seed,
            batch_size=self.batch_size,
            epoch=epoch,
            step=step,
            settings=self.settings.augmentation,
        )
        return self.task.collate([self.task.encode(film) for film in films])


class _Places(Sampler[tuple[int, int]]):
    """(epoch, step) without end, from a place in the run on.

    The loader deals them to its workers in turn, as :class:`FilmSource` expects.
    """

    def __init__(self, epoch: int, step: int, steps: int) -> None:
        self.number, self.steps = epoch * steps + step, steps

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for number in itertools.count(self.number):
            yield divmod(number, self.steps)  # type: ignore[misc]


def _prepare_worker(_: int) -> None:
    cv2.setNumThreads(1)
    # The training process decides when to stop; a worker that dies first would break its step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _to_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        if value.ndim == 4:
            return value.to(device, non_blocking=True, memory_format=torch.channels_last)
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: _to_device(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_device(item, device) for item in value)
    return value


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
