"""What the one training loop asks of a network (:class:`Task`) and of a framework.

A network brings a task: its form of truth, its losses, its answer as labels. A framework brings an
:class:`Engine`, which holds one network under training, and a :class:`Framework`, which makes
engines and writes final weights. Neither knows of epochs, resuming, validation or records.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from spinezoo_serving.cards import ModelCard

from spinezoo_training.batches_ahead import batches_ahead
from spinezoo_training.film_sources import FilmSource, augmented_batch
from spinezoo_training.initial_weights import Start
from spinezoo_training.prepared_set import PreparedFilm
from spinezoo_training.settings import TrainSettings


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
        label_maps: (n, h, w) structures' numbers, 0 for none: an array of the framework from a
            task, of numpy from an engine.
        objects: The objects of each film; None where the network does not tell objects apart.
    """

    label_maps: Any
    objects: list[FoundObjects] | None = None


class Task(ABC):
    """What one network adds to the loop. Networks, batches and losses are the framework's.

    Everything is a pure function of its arguments; ``encode`` and ``collate`` run in worker
    processes.

    Attributes:
        fixed_shapes: Whether every step computes with tensors of the same shapes, so that a search
            for the fastest algorithm pays.
    """

    fixed_shapes: bool = True

    @abstractmethod
    def encode(self, film: PreparedFilm) -> Any:
        """One film as the network wants it in training."""

    @abstractmethod
    def collate(self, samples: list[Any]) -> Any:
        """Samples as one batch."""

    @abstractmethod
    def losses(self, network: Any, batch: Any) -> dict[str, Any]:
        """Weighted loss terms of a batch, each a scalar; their sum is minimised."""

    @abstractmethod
    def label_maps(self, network: Any, inputs: Any) -> Any:
        """(n, h, w) integers of a batch of inputs: the number of the structure, 0 for none.

        The network is in its evaluation mode; an instance network paints its instances. Used for
        the validation figures only.
        """

    def answers(self, network: Any, inputs: Any) -> Answers:
        """Label maps and, from an instance network, the objects; called as ``label_maps`` is."""
        return Answers(self.label_maps(network, inputs))


@dataclass(frozen=True)
class BatchMaker:
    """The batch at a place of a run; pure in epoch and step, and sent to worker processes."""

    films: FilmSource
    task: Task
    settings: TrainSettings
    batch_size: int

    def __call__(self, epoch: int, step: int) -> Any:
        """The batch of step ``step`` of epoch ``epoch``, both from 0, in the form of the task."""
        films = augmented_batch(
            self.films,
            seed=self.settings.seed,
            batch_size=self.batch_size,
            epoch=epoch,
            step=step,
            settings=self.settings.augmentation,
        )
        return self.task.collate([self.task.encode(film) for film in films])


class Engine(ABC):
    """One network under training: its weights, its optimiser and the average of its weights.

    Attributes:
        state_file: Name of the file that holds a run's state.
    """

    state_file: ClassVar[str]

    def __init__(self, task: Task, settings: TrainSettings) -> None:
        self.task, self.settings = task, settings

    @abstractmethod
    def step(
        self, batch: Any, *, number: int, learning_rate: float, average_decay: float
    ) -> dict[str, float]:
        """One step of the optimiser and of the average.

        Args:
            batch: Of the task.
            number: Steps before this one in the run; random numbers may depend on it.
            learning_rate: Of this step.
            average_decay: What the averaged weights keep of themselves, 0 to 1.

        Returns:
            The loss terms before the step. Not finite ones end the run.
        """

    @abstractmethod
    def answers(self, films: Sequence[PreparedFilm]) -> Answers:
        """What the averaged network answers to films of one canvas, without augmentation."""

    @abstractmethod
    def save_state(self, path: Path, record: dict[str, Any]) -> None:
        """Writes everything that a resumed run needs, and a record of JSON values, in one step."""

    @abstractmethod
    def load_state(self, path: Path, accept: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Takes up what :meth:`save_state` wrote.

        Args:
            path: The file.
            accept: Gets the record first; what it raises leaves the engine as it was.

        Raises:
            WeightsError: The file cannot be read, or is of another network.
        """

    def batches(
        self, make: BatchMaker, epoch: int, step: int, steps: int
    ) -> Generator[Any, None, None]:
        """Batches without end from a place on; a framework with a loader of its own takes that."""
        return batches_ahead(make, epoch, step, steps, self.settings.workers)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training runs on.

    Attributes:
        device: ``cpu`` or ``cuda:N``.
        description: For the record of the training.
    """

    device: str
    description: str


@dataclass(frozen=True, slots=True)
class WrittenWeights:
    """What is known of a weights file that was just written.

    Attributes:
        dtype: How the numbers are stored.
        probe_seed: Seed of the probe's input.
        probe_values: What the network of that file answers to it.
        probe_tolerance: Largest difference that passes.
    """

    dtype: str
    probe_seed: int
    probe_values: Sequence[float]
    probe_tolerance: float


class Framework(ABC):
    """A deep-learning framework as the command line of a training needs it.

    Attributes:
        weights_suffix: Of its weights files.
    """

    weights_suffix: ClassVar[str]

    @abstractmethod
    def set_up(self, device: str | None, threads: int | None) -> Machine:
        """Chooses the device and sets the CPU threads; None takes the environment's settings.

        Raises:
            ConfigurationError: A setting is wrong, or asks for a GPU that is not there.
        """

    @property
    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Its packages and their versions, for the record of the training."""

    def default_workers(self, machine: Machine) -> int:
        """Processes that prepare films where the command line names none."""
        return 0

    def on(self, machine: Machine) -> AbstractContextManager[Any]:
        """Where networks live and everything runs, where that is a scope."""
        return nullcontext()

    @abstractmethod
    def engine(
        self,
        card: ModelCard,
        task: Task,
        settings: TrainSettings,
        machine: Machine,
        start: Start | None,
    ) -> Engine:
        """A network of the card with random weights of the settings' seed, or those of ``start``.

        Raises:
            CardError: The card's network entry does not fit.
            WeightsError: The start's weights are of another network.
        """

    @abstractmethod
    def write_weights(self, card: ModelCard, engine: Engine, path: Path) -> WrittenWeights:
        """Writes the averaged weights; the engine's averaged network is that of the file then.

        Raises:
            WeightsError: The weights are not finite.
        """

    @abstractmethod
    def write_graphs(self, card: ModelCard) -> dict[str, Path]:
        """Exports the card's weights for engines that need no framework.

        Returns:
            The files by the name of the part, beside the weights (:mod:`spinezoo_training.graphs`).

        Raises:
            WeightsError: The weights are not the card's.
        """
