"""PyTorch as the one training loop takes it (:mod:`spinezoo_training.loop`)."""

from __future__ import annotations

import copy
import itertools
import platform
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from spinezoo_contract.words import counted
from spinezoo_serving.cards import ModelCard
from spinezoo_training.engine import (
    Answers,
    BatchMaker,
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
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from spinezoo_torchkit.checkpoints import (
    begin_with,
    fill_module,
    load_state,
    load_weights,
    make_probe,
    save_state,
    save_weights,
)
from spinezoo_torchkit.device import autocast, choose_device, precision_of, set_threads
from spinezoo_torchkit.export import MakeParts, semantic_parts, write_graphs
from spinezoo_torchkit.loading import build_network

CUDA_WORKERS = 4
"""Processes that prepare films beside a GPU. On a CPU the cores are better spent on the network."""


class TorchEngine(Engine):
    """A torch network under training.

    Its task's ``losses`` is called under autocast with the network in training mode, ``answers`` in
    inference mode under autocast with the averaged network in evaluation mode; inputs are
    (n, 2, h, w). Batches are tensors, nested in tuples, lists and dicts at will.

    Attributes:
        network: The network that is trained.
        average: Its averaged weights.
    """

    state_file = "state.safetensors"

    def __init__(
        self, task: Task, network: nn.Module, settings: TrainSettings, device: torch.device
    ) -> None:
        super().__init__(task, settings)
        self.device, self.precision = device, precision_of(settings.precision)
        self.network = network.to(device, memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        own, averaged = self.network.state_dict(), self.average.state_dict()
        moving = [name for name, value in own.items() if value.is_floating_point()]
        self._own = [own[name] for name in moving]
        self._averaged = [averaged[name] for name in moving]
        self._counted = [(averaged[n], own[n]) for n in own.keys() - set(moving)]
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = task.fixed_shapes
        # Matrices and kernels decay, vectors do not.
        decayed = [p for p in network.parameters() if p.ndim >= 2]
        others = [p for p in network.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def step(
        self, batch: Any, *, number: int, learning_rate: float, average_decay: float
    ) -> dict[str, float]:
        """One step; random numbers of dropout and sampling come from its number."""
        torch.manual_seed(self.settings.seed * 1_000_003 + number)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.network.train()
        with autocast(self.device, self.precision):
            terms = self.task.losses(self.network, _to_device(batch, self.device))
        each = torch.stack([term.float() for term in terms.values()])
        loss = each.sum()
        # The one time that a step waits for an accelerator: backward and update run on while the
        # next step is prepared.
        values: list[float] = each.detach().tolist()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._own, 1.0 - average_decay)
            for averaged, own in self._counted:
                averaged.copy_(own)
        return dict(zip(terms, values, strict=True))

    def answers(self, films: Sequence[PreparedFilm]) -> Answers:
        """What the averaged network answers to films of one canvas."""
        inputs = torch.from_numpy(np.stack([network_input(film) for film in films]))
        inputs = inputs.to(self.device, memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(self.device, self.precision):
            found = self.task.answers(self.average, inputs)
        return Answers(found.label_maps.cpu().numpy(), found.objects)

    def save_state(self, path: Path, record: dict[str, Any]) -> None:
        """Networks and optimiser as one safetensors file, the record in its header."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in entry.items()}
        save_state(path, tensors, record)

    @torch.no_grad()
    def load_state(self, path: Path, accept: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Takes up what :meth:`save_state` wrote."""
        tensors, record = load_state(path)
        accept(record)
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
        return record

    def batches(
        self, make: BatchMaker, epoch: int, step: int, steps: int
    ) -> Generator[Any, None, None]:
        """Torch's own loader: its workers hand tensors over in shared memory, pinned for a GPU."""
        cv2.setNumThreads(1)
        loader = DataLoader(
            _Batches(make),
            batch_size=None,
            sampler=_Places(epoch, step, steps),
            num_workers=self.settings.workers,
            worker_init_fn=_prepare_worker,
            pin_memory=self.device.type == "cuda",
        )
        yield from loader


class TorchFramework(Framework):
    """PyTorch with one network's constructor."""

    weights_suffix = ".safetensors"

    def __init__(
        self, make: Callable[..., nn.Module], make_parts: MakeParts = semantic_parts
    ) -> None:
        """Takes a network's parts.

        Args:
            make: The constructor, see :func:`~spinezoo_torchkit.loading.build_network`.
            make_parts: The graphs that it is exported as.
        """
        self.make, self.make_parts = make, make_parts

    def set_up(self, device: str | None, threads: int | None) -> Machine:
        """Chooses the device and sets the threads."""
        chosen = choose_device(device)
        used = set_threads(threads)
        if chosen.type == "cuda":
            return Machine(str(chosen), torch.cuda.get_device_name(chosen))
        return Machine(str(chosen), f"{platform.machine()} CPU, {counted(used, 'thread')}")

    @property
    def versions(self) -> dict[str, str]:
        """Torch's version."""
        return {"torch": str(torch.__version__)}

    def default_workers(self, machine: Machine) -> int:
        """Some beside a GPU, none on a CPU."""
        return CUDA_WORKERS if machine.device.startswith("cuda") else 0

    def engine(
        self,
        card: ModelCard,
        task: Task,
        settings: TrainSettings,
        machine: Machine,
        start: Start | None,
    ) -> TorchEngine:
        """The card's network, random or with the start's weights."""
        torch.manual_seed(settings.seed)
        network = build_network(card, self.make)
        if start is not None:
            self.begin(network, start)
        return TorchEngine(task, network, settings, torch.device(machine.device))

    def begin(self, network: nn.Module, start: Start) -> None:
        """Fills a network with the weights that a training starts from.

        Raises:
            WeightsError: They are of another network.
        """
        begin_with(network, start.path, start.sha256)

    def write_weights(self, card: ModelCard, engine: Engine, path: Path) -> WrittenWeights:
        """Writes the averaged weights in half precision, with a probe of the file as it is read."""
        assert isinstance(engine, TorchEngine)
        served, written = write_weights(card, engine.average, self.make, path)
        engine.average.load_state_dict(served.state_dict())
        return written

    def write_graphs(self, card: ModelCard) -> dict[str, Path]:
        """Exports the card's weights."""
        return write_graphs(card, build_network(card, self.make), self.make_parts)


def write_weights(
    card: ModelCard, network: nn.Module, make: Callable[..., nn.Module], path: Path
) -> tuple[nn.Module, WrittenWeights]:
    """Writes a network's weights file and reads it again, as a server will.

    Returns:
        The network of the file, half precision included, and what the card must know of it.

    Raises:
        WeightsError: The weights are not finite.
    """
    record = save_weights(network, path)
    served = build_network(card, make)
    load_weights(served, record.path, record.sha256)
    shape = (1, card.input.channels, card.input.height, card.input.width)
    probe = make_probe(served, shape, seed=0)
    return served, WrittenWeights(record.dtype, probe.seed, probe.values, probe.tolerance)


class _Batches(Dataset[Any]):
    """Batches by (epoch, step), as torch's loader wants them."""

    def __init__(self, make: BatchMaker) -> None:
        self.make = make

    def __getitem__(self, place: tuple[int, int]) -> Any:
        return self.make(*place)


class _Places(Sampler[tuple[int, int]]):
    """(epoch, step) without end, from a place in the run on.

    The loader deals them to its workers in turn, as a film source expects.
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
