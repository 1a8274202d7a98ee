from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spinezoo_contract.errors import ConfigurationError
from spinezoo_testing.predictors import prepared_block_film
from spinezoo_torchkit.engine import TorchEngine
from spinezoo_torchkit.testing import history
from spinezoo_training import loop
from spinezoo_training.engine import Task
from spinezoo_training.loop import FitResult, fit
from spinezoo_training.phantom_sources import PhantomFilms
from spinezoo_training.prepared_set import PreparedFilm, PreparedSet
from spinezoo_training.settings import TrainSettings
from spinezoo_training.stopping import stop_on_signal
from spinezoo_training.targets import label_map_of, network_input
from spinezoo_training.validation import validate
from torch import nn

CPU = torch.device("cpu")


class Blocks(Task):
    """Foreground or not, a pixel, by a network of two convolutions with dropout."""

    def encode(self, film: PreparedFilm) -> tuple[torch.Tensor, torch.Tensor]:
        truth = (label_map_of(film) > 0).astype(np.float32)
        return torch.from_numpy(network_input(film)), torch.from_numpy(truth)

    def collate(self, samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, truth = zip(*samples, strict=True)
        return torch.stack(inputs), torch.stack(truth)

    def losses(self, network: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        inputs, truth = batch
        logits = network(inputs)[:, 0].float()
        return {"mask": nn.functional.binary_cross_entropy_with_logits(logits, truth)}

    def label_maps(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        return (network(inputs)[:, 0] > 0).long()


class Diverging(Blocks):
    def losses(self, network: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        return {"mask": super().losses(network, batch)["mask"] * math.nan}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 8, 5, padding=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Conv2d(8, 1, 3, padding=1),
    )


def settings(**changes: Any) -> TrainSettings:
    values = {"epochs": 3, "batch_size": 3, "precision": "float32", "learning_rate": 1e-2}
    return TrainSettings(**{**values, **changes})


def engine(task: Task | None = None, **changes: Any) -> TorchEngine:
    return TorchEngine(task or Blocks(), network(), settings(**changes), CPU)


def run(
    films: PreparedSet,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    **changes: Any,
) -> tuple[FitResult, nn.Module]:
    trained = engine(**changes)
    result = fit(trained, films, films.subset(films.names[:2]), folder, stop=stop, quiet=True)
    return result, trained.average


class After:
    """A wish to stop after a number of steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_training_learns(films: PreparedSet, tmp_path: Path) -> None:
    before = validate(engine(), films)
    result, _ = run(films, tmp_path, epochs=12, augmentation=None, average_decay=0.9)
    assert result.finished
    assert result.epochs == 12
    assert result.films_seen == 12 * 9
    assert result.validation["merged_mean_iou"] > before["merged_mean_iou"] + 0.1
    lines = history(tmp_path)
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("workers", [0, 1])
def test_stopped_anywhere_it_ends_with_the_same_weights(
    films: PreparedSet, tmp_path: Path, steps: int, workers: int
) -> None:
    if workers and steps != 5:
        pytest.skip("one stop with a worker process is enough")
    whole, expected = run(films, tmp_path / "whole")
    first, _ = run(films, tmp_path / "parts", stop=After(steps), workers=workers)
    assert not first.finished
    assert first.films_seen == 3 * steps
    second, found = run(films, tmp_path / "parts", workers=workers)
    assert (second.epochs, second.films_seen) == (whole.epochs, whole.films_seen) == (3, 27)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def blocks(seed: int, index: int, height: int, width: int, looks: int) -> list[PreparedFilm]:
    return [prepared_block_film([seed, index, look])[0] for look in range(looks)]


@pytest.mark.parametrize(("steps", "workers"), [(2, 0), (7, 0), (7, 2)])
def test_films_made_on_the_spot_are_the_same_after_a_stop(
    tmp_path: Path, steps: int, workers: int
) -> None:
    def go(folder: str, stop: Callable[[], bool], **changes: Any) -> tuple[FitResult, nn.Module]:
        source = PhantomFilms(1, 96, 80, epoch_films=14, looks=2, make=blocks)
        trained = engine(epochs=2, **changes)
        result = fit(trained, source, source.held_out(2), tmp_path / folder, stop=stop, quiet=True)
        return result, trained.average

    whole, expected = go("whole", lambda: False)
    first, _ = go("parts", After(steps), workers=workers)
    assert not first.finished
    second, found = go("parts", lambda: False)
    assert second.films_seen == whole.films_seen == 2 * 12
    assert second.different_films == whole.different_films > 12
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    with pytest.raises(ConfigurationError, match="phantoms"):
        fit(
            engine(epochs=2),
            PhantomFilms(2, 96, 80, epoch_films=14, looks=2, make=blocks),
            [],
            tmp_path / "whole",
            quiet=True,
        )


def test_finished_run_is_not_trained_again_but_can_be_prolonged(
    films: PreparedSet, tmp_path: Path
) -> None:
    _, expected = run(films, tmp_path)
    again, found = run(films, tmp_path)
    assert again.films_seen == 27
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    assert run(films, tmp_path, epochs=4)[0].epochs == 4


def test_another_run_in_the_folder_is_refused(films: PreparedSet, tmp_path: Path) -> None:
    run(films, tmp_path, epochs=1)
    with pytest.raises(ConfigurationError, match="seed"):
        run(films, tmp_path, seed=5)
    with pytest.raises(ConfigurationError, match="films"):
        run(films.subset(films.names[1:]), tmp_path)


def test_minutes_end_the_run_over_all_starts(
    films: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0  # every look at the clock takes a second
        return now[0]

    monkeypatch.setattr(loop.time, "monotonic", clock)
    stopped, _ = run(films, tmp_path, epochs=None, minutes=2.0, stop=After(4))
    assert 0.0 < stopped.minutes < 2.0
    ended, _ = run(films, tmp_path, epochs=None, minutes=2.0)
    assert ended.finished
    assert ended.films_seen > stopped.films_seen
    assert 2.0 <= ended.minutes < 2.5


def test_learning_rate_rises_and_falls() -> None:
    chosen = settings(epochs=1000)
    rates = [chosen.rate_at(step / 3000, step) for step in range(0, 3000, 10)]
    peak = rates.index(max(rates))
    assert rates[0] < 0.1 * max(rates)
    assert 0.02 < peak / len(rates) < 0.05
    assert max(rates) == pytest.approx(1e-2, rel=0.02)
    assert all(a >= b for a, b in zip(rates[peak:], rates[peak + 1 :], strict=False))
    assert rates[-1] < 0.02 * max(rates)


def test_divergence_is_an_error(films: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="diverged"):
        fit(engine(Diverging()), films, films, tmp_path, quiet=True)


@pytest.mark.parametrize("stop_after", [None, 4])
def test_early_stop_ends_a_run_that_no_longer_gets_better(
    films: PreparedSet, tmp_path: Path, stop_after: int | None
) -> None:
    changes = {"epochs": 40, "patience": 2, "learning_rate": 1e-30, "average_decay": 0.0}
    if stop_after is not None:
        assert not run(films, tmp_path, stop=After(stop_after), **changes)[0].finished
    result, _ = run(films, tmp_path, **changes)
    assert result.finished
    assert result.stopped_early
    figures = [line["merged_mean_iou"] for line in history(tmp_path)]
    assert len(figures) == result.epochs < 40
    best = figures.index(max(figures))
    assert len(figures) == best + 3, "the best epoch and two of patience"
    again, _ = run(films, tmp_path, **changes)
    assert (again.epochs, again.stopped_early) == (result.epochs, True)


def test_patience_needs_films_to_validate_on(films: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="patience"):
        fit(engine(patience=1), films, [], tmp_path, quiet=True)


def test_a_run_leaves_tensorboard_logs_with_pictures(films: PreparedSet, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result, _ = run(films, tmp_path, epochs=2)
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    figures = read.Scalars("validation/merged_mean_iou")
    assert [event.step for event in figures] == [1, 2]
    assert figures[-1].value == pytest.approx(result.validation["merged_mean_iou"])
    assert len(read.Images("film, truth, answer")) == 2


def test_one_film_is_too_few(films: PreparedSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least 2"):
        run(films.subset(films.names[:1]), tmp_path)


def test_without_validation_films(films: PreparedSet, tmp_path: Path) -> None:
    result = fit(engine(epochs=1), films, films.subset([]), tmp_path, quiet=True)
    assert result.validation == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": None},
        {"minutes": 1.0},
        {"epochs": 0},
        {"epochs": None, "minutes": 0.0},
        {"epochs": None, "minutes": float("inf")},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"batch_size": 0},
        {"precision": "half"},
        {"patience": 0},
    ],
    ids=str,
)
def test_wrong_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        settings(**changes)


def test_first_signal_is_a_wish_the_second_acts() -> None:
    # A shell that starts this in the background has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with stop_on_signal() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_validation_counts_each_film_alike(films: PreparedSet) -> None:
    class Perfect(Blocks):
        def label_maps(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
            truths = {f.name: label_map_of(f) for f in films}
            keys = {network_input(f).tobytes(): f.name for f in films}
            maps = [truths[keys[i.contiguous().numpy().tobytes()]] for i in inputs]
            return torch.from_numpy(np.stack(maps))

    figures = validate(engine(Perfect()), films, batch_size=4)
    assert figures == {"merged_mean_iou": 1.0, "iou_1": 1.0, "iou_2": 1.0, "iou_4": 1.0}
