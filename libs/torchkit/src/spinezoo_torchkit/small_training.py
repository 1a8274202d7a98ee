"""Training of small models that travel with a package.

The networks of containers train by :mod:`spinezoo_training.loop`; these have neither canvas nor
card of a container. A run that is stopped goes on after its last whole epoch. Their weights are
written by :mod:`~spinezoo_torchkit.small_export`, their commands are of
:mod:`~spinezoo_torchkit.small_command`.
"""

# ruff: noqa: T201 - a command: its progress goes to the terminal.
from __future__ import annotations

import dataclasses
import json
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_serving.disk import append_line
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, IterableDataset

from spinezoo_torchkit.checkpoints import load_state, save_state
from spinezoo_torchkit.exported import exported_weights

Batch = TypeVar("Batch")

WARM_UP = 0.1
"""Share of a training in which the learning rate rises."""

STATE_FILE = "state.safetensors"


@dataclasses.dataclass(frozen=True, slots=True)
class SmallSettings:
    """What changes the weights; each model has defaults of its own.

    Attributes:
        seed: Of weights and chances.
        films_seed: Of the films.
        patients: Of the films; two looks each.
        epochs: Times that every example is seen.
        batch_size: Examples of a batch.
        learning_rate: Highest rate of the one cycle.
        weight_decay: Of AdamW.
        width: Of the network.
        most_minutes: A training ends after so many, its rate falls in time; 0: after its epochs.
    """

    seed: int
    films_seed: int
    patients: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    width: int
    most_minutes: float = 0.0


class Epoch(IterableDataset[Batch], Generic[Batch]):
    """Batches of one epoch, in an order and with chances of its own; whole batches only."""

    def __init__(self, places: NDArray[np.int64], seed: int, epoch: int, batch_size: int) -> None:
        """Chooses the order.

        Args:
            places: Of the examples, each as often as it is to be seen.
            seed: Of the training.
            epoch: Number of the epoch.
            batch_size: Examples of a batch.
        """
        self.seed, self.epoch, self.batch_size = seed, epoch, batch_size
        order = np.random.default_rng((seed, epoch)).permutation(places)
        self.order = order[: len(order) // batch_size * batch_size]

    def __len__(self) -> int:
        return len(self.order) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number in range(first, len(self), step):
            begin = number * self.batch_size
            yield self.batch(number, self.order[begin : begin + self.batch_size])

    @abstractmethod
    def batch(self, number: int, places: NDArray[np.int64]) -> Batch:
        """One batch.

        Args:
            number: Of the batch in its epoch.
            places: (batch_size,) of its examples.
        """


def loader(epoch: Epoch[Batch], workers: int) -> DataLoader[Batch]:
    """Runs an epoch in worker processes; 0: in this one."""
    return DataLoader(
        epoch,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )


def rate_at(share: float) -> float:
    """Learning rate after a share of the training, against the highest: up, then a half cosine."""
    if share < WARM_UP:
        return 0.05 + 0.95 * share / WARM_UP
    return 0.005 + 0.995 * (0.5 + 0.5 * math.cos(math.pi * (share - WARM_UP) / (1.0 - WARM_UP)))


@dataclasses.dataclass(frozen=True, slots=True)
class Trained:
    """What a finished training leaves behind, beside its weights.

    Attributes:
        minutes: Used, those before a stop included.
        examples: Seen.
        about: What was learnt from.
    """

    minutes: float
    examples: int
    about: Mapping[str, Any]


def run_record(run_dir: Path, settings: SmallSettings) -> Mapping[str, Any] | None:
    """The record of a run that was begun; None where there is none.

    Raises:
        ConfigurationError: The folder holds a run with other settings.
    """
    state = run_dir / STATE_FILE
    if not state.is_file():
        return None
    _, record = load_state(state)
    if record["settings"] != dataclasses.asdict(settings):
        raise ConfigurationError(
            f"{run_dir} holds a run with other settings; remove it or choose another --run-dir"
        )
    return record


def is_finished(run_dir: Path, settings: SmallSettings) -> bool:
    """Whether a run has nothing more to learn: its examples are not needed again.

    Raises:
        ConfigurationError: The folder holds a run with other settings.
    """
    record = run_record(run_dir, settings)
    return record is not None and _is_finished(record, settings)


def _is_finished(record: Mapping[str, Any], settings: SmallSettings) -> bool:
    limit = settings.most_minutes or math.inf
    return bool(record["epoch"] >= settings.epochs or record["minutes"] >= limit)


def run_epochs(
    network: nn.Module,
    settings: SmallSettings,
    epoch_of: Callable[[int], Epoch[Any]],
    losses: Callable[[Any], tuple[Tensor, Mapping[str, float]]],
    run_dir: Path,
    workers: int,
    *,
    clip_norm: float,
    told_every: int,
    about: Mapping[str, Any],
    start: Path | None = None,
    anew: Sequence[str] = (),
    lacking: Sequence[str] = (),
) -> Trained:
    """Trains, or goes on with a training that was stopped.

    Args:
        network: With random weights, on its device; trained in place.
        settings: What changes the weights.
        epoch_of: The epoch of a number; not called where the run is finished.
        losses: The loss of a batch, and its parts for the log.
        run_dir: Where the state is kept.
        workers: Processes that make examples; 0: this one.
        clip_norm: Largest norm of a step's gradients.
        told_every: Batches between two lines of progress.
        about: What is learnt from, for the record.
        start: Folder of another run, or of a card, whose weights a new run begins with; None:
            random ones.
        anew: Beginnings of names of weights that are random all the same.
        lacking: Beginnings of names of weights that are random where the other run has none.

    Raises:
        ConfigurationError: The folder holds a run with other settings; there is no run to begin
            with, or its weights are of another form.
    """
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    record = _begun(network, optimiser, settings, run_dir, about, start, anew, lacking)
    begin, minutes, examples = record["epoch"], record["minutes"], record["examples"]
    if _is_finished(record, settings):
        return Trained(minutes, examples, record["about"])
    per_epoch = len(epoch_of(0))
    steps = settings.epochs * per_epoch
    limit = settings.most_minutes or math.inf
    for epoch in range(begin, settings.epochs):
        started = time.monotonic()
        torch.manual_seed(1000 * settings.seed + epoch)  # a run that goes on draws the same
        network.train()
        sums: dict[str, float] = {}
        seen = 0
        for number, batch in enumerate(loader(epoch_of(epoch), workers)):
            used = minutes + (time.monotonic() - started) / 60.0
            if used >= limit:
                break
            loss, parts = losses(batch)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
            share = max((epoch * per_epoch + number) / steps, used / limit)
            rate = settings.learning_rate * rate_at(share)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            seen = number + 1
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value
            if number % told_every == 0:
                told = ", ".join(f"{name} {each / seen:.3f}" for name, each in sums.items())
                print(f"epoch {epoch} batch {number} of {per_epoch}: {told}", flush=True)
        minutes += (time.monotonic() - started) / 60.0
        examples += seen * settings.batch_size
        save_state(
            run_dir / STATE_FILE,
            _tensors_of(network, optimiser),
            {
                "settings": dataclasses.asdict(settings),
                "epoch": epoch + 1,
                "minutes": minutes,
                "examples": examples,
                "about": dict(record["about"]),
            },
        )
        line = {"epoch": epoch, "minutes": round(minutes, 2)} | {
            name: round(value / max(seen, 1), 4) for name, value in sums.items()
        }
        append_line(run_dir / "log.jsonl", json.dumps(line))
        if minutes >= limit:
            break
    return Trained(minutes, examples, record["about"])


def _begun(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: SmallSettings,
    run_dir: Path,
    about: Mapping[str, Any],
    start: Path | None,
    anew: Sequence[str],
    lacking: Sequence[str],
) -> Mapping[str, Any]:
    """The record of the run in a folder, network and optimiser as it left them, or of a new one."""
    record = run_record(run_dir, settings)
    if record is not None:
        tensors, _ = load_state(run_dir / STATE_FILE)
        _restore(network, optimiser, tensors)
        return record
    learnt_from = dict(about)
    if start is not None:
        learnt_from["began_with"] = _begin_with(network, start, anew, lacking)
    return {"epoch": 0, "minutes": 0.0, "examples": 0, "about": learnt_from}


def _begin_with(
    network: nn.Module, start: Path, anew: Sequence[str] = (), lacking: Sequence[str] = ()
) -> dict[str, Any]:
    """Takes the weights of another run; returns what that one learnt from."""
    own = network.state_dict()
    weights, learnt_from = _weights_in(start, own)
    weights = {n: value for n, value in weights.items() if not n.startswith(tuple(anew))}
    absent = {n for n in own if n not in weights and n.startswith(tuple(lacking))}
    weights |= {n: v for n, v in own.items() if n.startswith(tuple(anew)) or n in absent}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigurationError(f"{start} holds another network: {error}") from None
    return learnt_from


def _weights_in(start: Path, own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights in the folder of a run or of a card, by name, and what they learnt from."""
    if (start / STATE_FILE).is_file():
        tensors, record = load_state(start / STATE_FILE)
        prefix = "network."
        weights = {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
        return weights, {
            **record["about"],
            **record["settings"],
            "minutes": round(record["minutes"], 1),
            "examples_seen": record["examples"],
        }
    for path in sorted(start.glob("weights/*.onnx")):
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        return exported_weights(path, own), record["training"]
    raise ConfigurationError(
        f"{start} holds no run and no card to begin with; train one there first"
    )


def mix_with(
    network: nn.Module, start: Path, share: float, inputs: Iterable[Tensor] | None = None
) -> None:
    """Takes a network back towards the weights that its run began with.

    Weights between both do as well on what the first were learnt from, and most of what the last
    were learnt for (*Wortsman 2022*, WiSE-FT).

    Args:
        network: Trained from those weights; in evaluation mode afterwards.
        start: Folder of the run that it began with.
        share: Of its own weights, 0 to 1.
        inputs: What the network is given: what layers normalise by is measured on it; None: that
            is mixed like weights.

    Raises:
        ConfigurationError: There is no such run, or its weights are of another form.
    """
    own = {name: value.clone() for name, value in network.state_dict().items()}
    _begin_with(network, start)
    mixed = {
        name: torch.lerp(value, own[name], share) if value.is_floating_point() else own[name]
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(mixed)
    if inputs is not None:
        update_bn(inputs, network)
    network.eval()


def _tensors_of(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and the optimiser's memory, by name."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{name}.{key}"] = torch.as_tensor(value)
    return tensors


def _restore(
    network: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """The opposite of :func:`_tensors_of`."""
    network.load_state_dict(
        {
            name.removeprefix("network."): value
            for name, value in tensors.items()
            if name.startswith("network.")
        }
    )
    for name, parameter in network.named_parameters():
        prefix = f"optimiser.{name}."
        kept = {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix) and "." not in key.removeprefix(prefix)
        }
        if kept:
            optimiser.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device)
                for key, value in kept.items()
            }
