# ruff: noqa: D102  (the names of tests say what they test)
"""The tests that every torch network inherits, besides those of its predictor. Needs pytest.

A network's own test file names its parts and adds what only it has::

    class TestPSPNet(SemanticNetworkTests):
        room = Path(__file__).parents[1]
        make = PSPNet
        load_predictor = staticmethod(load_predictor)
        main = staticmethod(main)
        paper_parameters = 49_069_452
        tiny = {"backbone": "resnet18", "stage_channels": (8, 8, 16, 16), "stem_width": 4}
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import safetensors.torch
import torch
from spinezoo_contract.errors import WeightsError
from spinezoo_contract.types import Film, PredictOptions
from spinezoo_serving.cards import load_card
from spinezoo_serving.predictor import Predictor
from spinezoo_testing.predictors import (
    MAX_LITE_BYTES,
    PredictorTests,
    block_film,
    tiny_card,
    write_block_films,
)
from spinezoo_training.loop import HISTORY_FILE
from torch import nn

from spinezoo_torchkit import checkpoints
from spinezoo_torchkit.loading import build_network


def dilate_one_convolution(network: nn.Module) -> str:
    """Changes the dilation of a 3 x 3 convolution: other answers, same names and shapes.

    Returns:
        Its name.
    """
    for name, module in network.named_modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (3, 3)
            and module.stride == (1, 1)
            and "layer" in name
        ):
            rate = module.dilation[0] + 1
            module.dilation, module.padding = (rate, rate), (rate, rate)
            return name
    raise AssertionError("the network has no 3 x 3 convolution in a stage")


def history(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's history."""
    lines = (run_dir / HISTORY_FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _terminate_after_an_epoch(run_dir: Path) -> None:
    """Sends this process SIGTERM as soon as a run's first epoch is over."""
    deadline = time.monotonic() + 120.0
    while not (run_dir / HISTORY_FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGTERM)


class NetworkTests(PredictorTests):
    """What holds for every torch network; a subclass named ``Test...`` gives the parts."""

    make: ClassVar[Callable[..., nn.Module]]
    """The network's constructor."""

    main: ClassVar[Callable[..., int]]
    """``main(argv)`` of ``train.py``."""

    paper_parameters: ClassVar[int]
    """Parameters of the ``paper`` preset with the card's classes and channels."""

    framework = "torch"

    tiny_size: ClassVar[tuple[int, int]] = (96, 80)
    """Height and width of the input in the tests that train."""

    films: ClassVar[int] = 10
    """Films to train on."""

    epochs: ClassVar[int] = 4
    """Epochs to train for; the loss has to fall within them."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _one_thread(cls) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Films to train on."""
        return write_block_films(tmp_path_factory.mktemp("films"), cls.films)

    @classmethod
    def arguments(cls, folder: Path, card: Path, run_dir: Path, epochs: int) -> list[str]:
        """A short training's command line."""
        return [
            *("--data", str(folder)),
            *("--card", str(card)),
            *("--run-dir", str(run_dir)),
            *("--epochs", str(epochs)),
            *("--batch-size", "3"),
            *("--device", "cpu"),
            *("--threads", "1"),
            *("--workers", "0"),
            *("--precision", "float32"),
            "--no-augmentation",
            "--quiet",
        ]

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The card of a network that was trained for a moment."""
        home = tmp_path_factory.mktemp("trained")
        card = tiny_card(cls.room, home, *cls.tiny_size)
        assert cls.main(cls.arguments(folder, card, home / "run", cls.epochs)) == 0
        return card

    def test_paper_preset_has_the_size_of_the_original(self) -> None:
        card = load_card(self.room / "card.yaml", "paper")
        network = build_network(card, type(self).make)
        assert sum(p.numel() for p in network.parameters()) == self.paper_parameters

    def test_training_lowers_the_loss(self, trained: Path) -> None:
        lines = history(trained.parent / "run")
        assert [line["epoch"] for line in lines] == list(range(1, self.epochs + 1))
        assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]

    def test_training_writes_weights_and_card(self, trained: Path) -> None:
        card = load_card(trained)
        assert card.weights is not None
        assert card.weights.bytes <= MAX_LITE_BYTES
        assert card.training["epochs"] == self.epochs
        assert str(trained.parent) not in trained.read_text(encoding="utf-8")
        assert "merged_mean_iou" in card.metrics["values"]

    def test_stopped_training_goes_on_to_the_same_epochs(
        self, folder: Path, tmp_path: Path
    ) -> None:
        card = tiny_card(self.room, tmp_path, *self.tiny_size)
        arguments = self.arguments(folder, card, tmp_path / "run", 3)
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # for a signal that comes too late
        killer = threading.Thread(target=_terminate_after_an_epoch, args=(tmp_path / "run",))
        killer.start()
        try:
            status = type(self).main(arguments)
        finally:
            killer.join()
            signal.signal(signal.SIGTERM, before)
        assert status == 130
        assert len(history(tmp_path / "run")) < 3
        assert load_card(card).weights is None
        assert type(self).main(arguments) == 0
        assert [line["epoch"] for line in history(tmp_path / "run")] == [1, 2, 3]
        assert load_card(card).training["epochs"] == 3
        type(self).load_predictor(card, device="cpu")

    def test_training_starts_from_weights_and_tells_of_it(
        self, trained: Path, folder: Path, tmp_path: Path
    ) -> None:
        card, _ = self._copy(trained, tmp_path)
        before = load_card(card)
        arguments = self.arguments(folder, card, tmp_path / "run", 1)
        assert type(self).main([*arguments, "--start-from", "card"]) == 0
        after = load_card(card)
        seen = int(after.training["films_seen"])
        assert after.training["started_from"]["sha256"] == before.weights_sha256
        assert after.training["films_seen_total"] == before.training["films_seen"] + seen
        assert after.weights_sha256 != before.weights_sha256
        fresh = history(trained.parent / "run")[0]["loss"]
        assert history(tmp_path / "run")[0]["loss"] < fresh
        # The same command again: the card's weights are new, the run is the same.
        assert type(self).main([*arguments, "--start-from", "card"]) == 0
        assert load_card(card).weights_sha256 == after.weights_sha256

    def test_weights_of_another_network_are_no_start(
        self,
        trained: Path,
        folder: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        card, weights = self._copy(trained, tmp_path)
        tensors = safetensors.torch.load_file(weights)
        name = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
        tensors[name] = tensors[name][:1].clone()
        other = tmp_path / "other.safetensors"
        safetensors.torch.save_file(tensors, other)
        arguments = self.arguments(folder, card, tmp_path / "run", 1)
        assert type(self).main([*arguments, "--start-from", str(other)]) == 1
        message = capsys.readouterr().err
        assert "of another network" in message
        assert name in message

    def test_training_on_phantoms_made_on_the_spot(self, tmp_path: Path) -> None:
        card = tiny_card(self.room, tmp_path, 96, 96)  # the generator makes no smaller films
        arguments = self.arguments(Path("phantoms:5"), card, tmp_path / "run", 1)
        made = ["--epoch-films", "6", "--validation-films", "2", "--looks", "2"]
        assert type(self).main([*arguments, *made]) == 0
        record = load_card(card).training
        assert (record["data"], record["films_seen"]) == ("phantoms:5", 6)
        assert record["phantoms"]["seed"] == 5
        assert load_card(card).metrics["films"] == 2
        assert not list(tmp_path.glob("**/*.png"))

    def test_probe_catches_a_changed_dilation(self, trained: Path) -> None:
        card = load_card(trained)
        network = build_network(card, type(self).make)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after a real training: no branch is off
                nn.init.uniform_(module.weight, 0.5, 1.5)
        shape = (1, card.input.channels, card.input.height, card.input.width)
        probe = checkpoints.make_probe(network, shape)
        checkpoints.check_probe(network, shape, probe)
        dilate_one_convolution(network)
        with pytest.raises(WeightsError, match="dilation"):
            checkpoints.check_probe(network, shape, probe)

    def test_export_gives_the_same_graphs_again(self, trained: Path, tmp_path: Path) -> None:
        card, weights = self._copy(trained, tmp_path)
        before = load_card(card).graphs
        for graph in weights.parent.glob("*.onnx"):
            graph.unlink()
        assert type(self).main(["--export", "--card", str(card)]) == 0
        assert load_card(card).graphs == before

    def test_weights_hold_no_more_than_the_network(self, trained: Path) -> None:
        card = load_card(trained)
        network = build_network(card, type(self).make)
        path = trained.parent / "weights" / "lite.safetensors"
        checkpoints.load_weights(network, path, card.weights_sha256)
        again = checkpoints.save_weights(network, trained.parent / "again.safetensors")
        assert again.sha256 == card.weights_sha256


class SemanticNetworkTests(NetworkTests):
    """What holds besides for a semantic network with an auxiliary head."""

    tiny: ClassVar[dict[str, Any]]
    """Arguments of a small network."""

    def test_training_answers_two_maps_and_evaluation_one(self) -> None:
        network = type(self).make(**self.tiny)
        x = torch.randn(2, 2, 40, 56)
        logits, auxiliary = network.train()(x)
        assert logits.shape == auxiliary.shape == (2, 6, 40, 56)
        assert network.eval()(x).shape == (2, 6, 40, 56)

    def test_sub_cells_begin_with_weights_without_them(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        coarse, fine = type(self).make(**self.tiny), type(self).make(**self.tiny, sub_cells=4)
        record = checkpoints.save_weights(coarse, tmp_path / "coarse.safetensors")
        checkpoints.begin_with(fine, record.path, record.sha256)
        checkpoints.begin_with(coarse, record.path, record.sha256)
        x = torch.randn(1, 2, 64, 96)
        with torch.no_grad():
            before, after = coarse.eval()(x), fine.eval()(x)
            assert after.shape == before.shape
            # In the middle of a cell, where interpolation has nothing to add to its own logit.
            middles = [logits[..., 3::8, 3::8][..., 1:-1, 1:-1] for logits in (before, after)]
            assert torch.allclose(*middles, atol=0.2 * float(before.std()))
            # One sub-cell's bias moves its own quarter of each cell, not the whole cell.
            fine.classifier[-1].bias[5] += 9.0  # class 0, row 1, column 1 of 4 x 4
            moved = (fine(x) - after)[0, 0, :8, :8]
        assert int(moved.argmax()) in (2 * 8 + 2, 2 * 8 + 3, 3 * 8 + 2, 3 * 8 + 3)
        assert float(moved[6:, 6:].abs().max()) < 1e-4


class InstanceNetworkTests(NetworkTests):
    """What holds besides for an instance network."""

    def test_suppression_is_a_request_option(self, predictor: Predictor) -> None:
        film = Film(block_film(np.random.default_rng(5))[0])
        counts = [
            len(
                predictor.predict(
                    film,
                    PredictOptions(score_threshold=0.01, suppression_iou=iou, max_segments=900),
                ).segments
            )
            for iou in (0.1, 0.5, 1.0)
        ]
        assert counts == sorted(counts)
        assert counts[0] < counts[2]

    def test_score_threshold_is_a_request_option(self, predictor: Predictor) -> None:
        film = Film(block_film(np.random.default_rng(5))[0])
        for threshold in (0.02, 0.1, 0.4):
            answer = predictor.predict(film, PredictOptions(score_threshold=threshold))
            assert all(segment.score >= threshold for segment in answer.segments)
