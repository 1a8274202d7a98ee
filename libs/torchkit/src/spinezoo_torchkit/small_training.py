"""Training of small models that travel with a package: one loop, one export, one record.

The networks of containers train by :mod:`spinezoo_training.loop`; these have neither canvas nor
card of a container. A run that is stopped goes on after its last whole epoch.
"""

# ruff: noqa: T201 - a command: its progress goes to the terminal.
from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import math
import sys
import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError, SpineZooError, WeightsError
from spinezoo_contract.words import counted
from spinezoo_serving.disk import alone_in, append_line, disk_errors_named, replace_file
from spinezoo_spine.built_in import BuiltInModel
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, IterableDataset

from spinezoo_torchkit.checkpoints import load_state, save_state

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
        start: Folder of another run whose weights a new run begins with; None: random ones.
        anew: Beginnings of names of weights that are random all the same.

    Raises:
        ConfigurationError: The folder holds a run with other settings; there is no run to begin
            with, or its weights are of another form.
    """
    optimiser = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    record = _begun(network, optimiser, settings, run_dir, about, start, anew)
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
) -> Mapping[str, Any]:
    """The record of the run in a folder, network and optimiser as it left them, or of a new one."""
    record = run_record(run_dir, settings)
    if record is not None:
        tensors, _ = load_state(run_dir / STATE_FILE)
        _restore(network, optimiser, tensors)
        return record
    learnt_from = dict(about)
    if start is not None:
        learnt_from["began_with"] = _begin_with(network, start, anew)
    return {"epoch": 0, "minutes": 0.0, "examples": 0, "about": learnt_from}


def _begin_with(network: nn.Module, start: Path, anew: Sequence[str] = ()) -> dict[str, Any]:
    """Takes the weights of another run; returns what that one learnt from."""
    if not (start / STATE_FILE).is_file():
        raise ConfigurationError(f"{start} holds no run to begin with; train one there first")
    tensors, record = load_state(start / STATE_FILE)
    prefix = "network."
    weights = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    own = network.state_dict()
    weights = {n: value for n, value in weights.items() if not n.startswith(tuple(anew))}
    weights |= {n: value for n, value in own.items() if n.startswith(tuple(anew))}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigurationError(f"{start} holds another network: {error}") from None
    return {
        **record["about"],
        **record["settings"],
        "minutes": round(record["minutes"], 1),
        "examples_seen": record["examples"],
    }


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


def export_checked(
    network: nn.Module,
    path: Path,
    some_input: Callable[[int, int], tuple[Tensor, ...]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
    *,
    counts: Sequence[int],
    tolerance: float,
) -> None:
    """Writes a network as ONNX and compares the file's answers with its own.

    Args:
        network: On the processor.
        path: The file.
        some_input: Made-up input of so many rows, by a seed.
        inputs: Names of the input.
        outputs: Names of the answers.
        axes: Names of the axes that vary, by name and axis.
        counts: Rows that are compared.
        tolerance: Largest difference of an answer.

    Raises:
        WeightsError: They differ.
    """
    network.eval()
    exported = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer
        torch.onnx.export(
            network, some_input(5, 0), exported, input_names=list(inputs),
            output_names=list(outputs), dynamic_axes={k: dict(v) for k, v in axes.items()},
            dynamo=False, opset_version=17,
        )  # fmt: skip
    model = onnx.load_from_string(exported.getvalue())
    for node in model.graph.node:  # names of layers only; nothing of the machine
        node.doc_string = ""
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in counts:
        given = some_input(count, count)
        with torch.no_grad():
            own = network(*given)
        names = {name: each.numpy() for name, each in zip(inputs, given, strict=True)}
        for name, ours, its in zip(outputs, own, session.run(None, names), strict=True):
            worst = float(np.abs(ours.numpy() - its).max())
            if not worst <= tolerance:
                raise WeightsError(
                    f"the exported network differs by {worst:g} in {name}; report it"
                )
    replace_file(path, content)


def write_record(
    folder: Path, model: BuiltInModel, dtype: str = "float32", **parts: Any
) -> dict[str, Any]:
    """Writes the record of exported weights beside them; returns it.

    Args:
        folder: Of the card.
        model: Which model.
        dtype: In what most of it computes.
        parts: Its further keys.
    """
    content = (folder / model.weights_file).read_bytes()
    record = {
        "weights": {
            "file": model.weights_file,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            "dtype": dtype,
        },
        model.input_key: model.input_id,
        **parts,
    }
    text = json.dumps(record, indent=2) + "\n"
    replace_file(folder / model.record_file, text)
    return record


def how_trained(
    settings: SmallSettings, trained: Trained, command: str, share: float = 1.0
) -> dict[str, Any]:
    """How weights came about, for the record; see :func:`mix_with` for the share."""
    return {
        "real_films_trained_on": 0,
        "data": f"phantoms:{settings.films_seed}",
        **trained.about,
        "examples_seen": trained.examples,
        **dataclasses.asdict(settings),
        "minutes": round(trained.minutes, 1),
        "torch": str(torch.__version__),
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "share_of_weights": share,
    }


def make_parser(
    prog: str, description: str, model: BuiltInModel, defaults: SmallSettings
) -> argparse.ArgumentParser:
    """The command line of a small training: where things lie, and each setting that is a number."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    data = f"phantoms:{defaults.films_seed}"
    parser.add_argument("--data", default=data, help="phantoms:SEED (default: %(default)s)")
    parser.add_argument("--run-dir", type=Path, required=True, help="where a run can go on from")
    parser.add_argument("--store", type=Path, help="where examples lie (default: the run folder)")
    parser.add_argument(
        "--card", type=Path, default=model.folder, help=f"folder of the {model.kind}'s card"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that make films")
    parser.add_argument("--start", type=Path, help="folder of a run whose weights to begin with")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the learnt weights; the rest: of --start"
    )
    parser.add_argument(
        "--only-learn", action="store_true", help="stop when the run is finished; export later"
    )
    parser.add_argument("--device", default="cpu", help="where the network learns: cpu or cuda")
    for field in dataclasses.fields(defaults):
        value = getattr(defaults, field.name)
        if field.name != "films_seed" and isinstance(value, int | float):
            name = f"--{field.name.replace('_', '-')}"
            parser.add_argument(
                name, type=type(value), default=value, help="(default: %(default)s)"
            )
    return parser


class MakeStore(Protocol):
    """Makes what is missing of a store."""

    def __call__(self, folder: Path, seed: int, patients: int, looks: int, workers: int) -> None:
        """Makes it; see :func:`spinezoo_training.shards.make_shards`."""


def make_stores(
    arguments: argparse.Namespace,
    settings: SmallSettings,
    what: str,
    held_out: Sequence[int],
    make_store: MakeStore,
    make_held_out: MakeStore | None = None,
) -> list[Path]:
    """The stores of a training and those held out, of the seeds that follow.

    A finished run needs its own store no more, one that only learns needs no other: these are not
    made.

    Args:
        arguments: Of :func:`make_parser`.
        settings: Of the training.
        what: Its examples; the stores are named so.
        held_out: Patients of each store that is held out.
        make_store: Makes the one to learn from.
        make_held_out: Makes the others; None: as the first.

    Raises:
        ConfigurationError: The run or a store is of other settings.
    """
    finished = is_finished(arguments.run_dir, settings)
    stores = arguments.store or arguments.run_dir
    folders = []
    for number, patients in enumerate((settings.patients, *held_out)):
        seed = settings.films_seed + number
        make = make_held_out if number and make_held_out else make_store
        apart = "-held-out" if number else ""
        folders.append(stores / f"{what}{apart}-{seed}")
        if not (arguments.only_learn if number else finished):
            print(f"{what} in {folders[-1].name}: {counted(patients, 'patient')}", flush=True)
            make(folders[-1], seed, patients, 2, arguments.workers)
    return folders


class Train(Protocol):
    """Trains by a command line; prints what came of it."""

    def __call__(
        self, arguments: argparse.Namespace, settings: Any, words: Sequence[str]
    ) -> Mapping[str, Any]:
        """Trains; returns what is to be printed."""


def run_command(
    parser: argparse.ArgumentParser,
    settings_class: type[SmallSettings],
    train: Train,
    argv: Sequence[str] | None,
) -> int:
    """Runs a command line of :func:`make_parser`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(words)
    # The record names the command, not where folders lie on this machine.
    words = [Path(word).name if Path(word).is_absolute() else word for word in words]
    if not 0.0 <= arguments.share <= 1.0 or (arguments.share < 1.0 and arguments.start is None):
        print("--share is 0 to 1, of weights that began with those of --start", file=sys.stderr)
        return 2
    kind, _, seed = arguments.data.partition(":")
    if kind != "phantoms" or not seed.isdecimal():
        print(f"--data is {arguments.data!r}; use phantoms:SEED", file=sys.stderr)
        return 2
    names = [each.name for each in dataclasses.fields(settings_class) if each.name != "films_seed"]
    settings = settings_class(
        films_seed=int(seed), **{name: getattr(arguments, name) for name in names}
    )
    try:
        with disk_errors_named(), alone_in(arguments.run_dir, "another training"):
            said = train(arguments, settings, words)
    except SpineZooError as error:
        print(f"the training cannot go on: {error}", file=sys.stderr)
        return 2
    print(json.dumps(said, indent=2))
    return 0
