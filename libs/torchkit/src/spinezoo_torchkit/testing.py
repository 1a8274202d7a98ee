# ruff: noqa: D102  (the names of tests say what they test)
"""The tests that every torch network inherits, and the films they run on. Needs pytest.

A network's own test file names its parts and adds what only it has::

    class TestPSPNet(NetworkTests):
        room = Path(__file__).parents[1]
        make = PSPNet
        load_predictor = staticmethod(load_predictor)
        main = staticmethod(main)
        paper_parameters = 49_069_452
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
import yaml
from spinezoo_contract.cards import load_card
from spinezoo_contract.errors import CardError, FilmError, OptionError, WeightsError
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import Film, ModelFamily, PredictOptions, SegmentKind, Structure
from spinezoo_spine.annotations import FilmAnnotation, Region
from spinezoo_spine.phantom import make_film
from spinezoo_spine.raster import rasterise
from spinezoo_spine.via import write_via
from torch import nn

from spinezoo_torchkit import checkpoints, training
from spinezoo_torchkit.loading import build_network

MAX_LITE_BYTES = 16 * 2**20
"""Most bytes of a weights file that is shipped."""


def block_film(
    rng: np.random.Generator, height: int = 96, width: int = 80
) -> tuple[np.ndarray, tuple[Region, ...]]:
    """A film that a network learns in seconds: a column of bright blocks and a brighter bar.

    Returns:
        (height, width) ``uint8`` grey and its outlines: three lumbar blocks, one sacral, one screw.
    """
    grey = rng.normal(60.0, 8.0, (height, width))
    left = int(rng.integers(width // 4, width // 2))
    side = width // 4
    step = height // 5
    regions = []
    for index in range(4):
        top = 4 + index * step
        bottom = top + step - 5
        grey[top:bottom, left : left + side] += 80.0
        structure = Structure.SACRAL_VERTEBRA if index == 3 else Structure.LUMBAR_VERTEBRA
        regions.append(Region(structure, _rectangle(left, top, left + side, bottom), None))
    top = 6 + step
    grey[top : top + 5, left - 10 : left + side - 4] = 250.0
    bar = _rectangle(left - 10, top, left + side - 4, top + 5)
    regions.append(Region(Structure.SCREW, bar, None))
    return np.clip(grey, 0, 255).astype(np.uint8), tuple(regions)


def _rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)


def write_block_films(folder: Path, count: int, seed: int = 0) -> Path:
    """A folder of ``count`` PNG films of :func:`block_film` with their VIA file."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    annotations = []
    for index in range(count):
        grey, regions = block_film(rng)
        name = f"block_{index:03d}.png"
        cv2.imwrite(str(folder / name), grey)
        annotations.append(FilmAnnotation(name, regions))
    write_via(folder / "via.json", annotations)
    return folder


def tiny_card(room: Path, folder: Path, height: int = 96, width: int = 80) -> Path:
    """A copy of a room's card without weights, its lite preset shrunk to a small input."""
    document = yaml.safe_load((room / "card.yaml").read_text(encoding="utf-8"))
    lite = document["presets"]["lite"]
    lite["input"].update(height=height, width=width)
    lite["weights"] = None
    document.pop("training", None)
    document.pop("metrics", None)
    folder.mkdir(parents=True, exist_ok=True)
    card = folder / "card.yaml"
    card.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return card


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
    lines = (run_dir / training.HISTORY_FILE).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _terminate_after_an_epoch(run_dir: Path) -> None:
    """Sends this process SIGTERM as soon as a run's first epoch is over."""
    deadline = time.monotonic() + 120.0
    while not (run_dir / training.HISTORY_FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGTERM)


class NetworkTests:
    """What holds for every torch network; a subclass named ``Test...`` gives the parts."""

    room: ClassVar[Path]
    """The service's folder."""

    make: ClassVar[Callable[..., nn.Module]]
    """The network's constructor."""

    load_predictor: ClassVar[Callable[..., Any]]
    """``load_predictor(card_path, device=...)``."""

    main: ClassVar[Callable[..., int]]
    """``main(argv)`` of ``train.py``."""

    paper_parameters: ClassVar[int]
    """Parameters of the ``paper`` preset with the card's classes and channels."""

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

    def test_card_is_valid(self) -> None:
        for preset in ("lite", "paper"):
            card = load_card(self.room / "card.yaml", preset)
            assert card.name == self.room.name
            assert card.structures == tuple(Structure)

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

    def test_answers_at_the_films_size(self, trained: Path) -> None:
        predictor = type(self).load_predictor(trained, device="cpu")
        grey, _ = block_film(np.random.default_rng(99))
        for height, width in ((96, 80), (211, 133), (40, 300)):
            pixels = cv2.resize(grey, (width, height)).astype(np.uint16) * 16
            answer = predictor.predict(Film(pixels), PredictOptions())
            assert (answer.height, answer.width) == (height, width)
            for segment in answer.segments:
                assert (segment.mask.height, segment.mask.width) == (height, width)
                assert decode_mask(segment.mask).any()
                assert 0.0 <= segment.score <= 1.0
            scores = [segment.score for segment in answer.segments]
            assert scores == sorted(scores, reverse=True)
            timing = answer.provenance.timing
            assert min(timing.prepare_ms, timing.infer_ms, timing.finish_ms) > 0.0
            assert answer.provenance.weights_sha256 == load_card(trained).weights_sha256
            assert answer.provenance.device == "cpu"

    def test_same_film_same_answer(self, trained: Path) -> None:
        predictor = type(self).load_predictor(trained, device="cpu")
        film = Film(block_film(np.random.default_rng(5))[0])
        first, second = (predictor.predict(film, PredictOptions()) for _ in range(2))
        assert first.segments == second.segments

    @pytest.mark.parametrize(
        "options",
        [
            PredictOptions(score_threshold=-0.1),
            PredictOptions(score_threshold=1.1),
            PredictOptions(score_threshold=float("nan")),
            PredictOptions(suppression_iou=2.0),
            PredictOptions(max_segments=0),
            PredictOptions(max_segments=1001),
        ],
        ids=repr,
    )
    def test_refuses_options_out_of_range(self, trained: Path, options: PredictOptions) -> None:
        predictor = type(self).load_predictor(trained, device="cpu")
        with pytest.raises(OptionError):
            predictor.predict(Film(np.zeros((64, 64), np.uint8)), options)

    def test_refuses_films_it_cannot_use(self, trained: Path) -> None:
        predictor = type(self).load_predictor(trained, device="cpu")
        with pytest.raises(FilmError, match="16 x 16"):
            predictor.predict(Film(np.zeros((8, 64), np.uint8)), PredictOptions())
        holed = np.zeros((64, 64), np.float32)
        holed[3, 3] = np.nan
        with pytest.raises(FilmError, match="NaN"):
            predictor.predict(Film(holed), PredictOptions())

    def test_blank_film_is_answered(self, trained: Path) -> None:
        predictor = type(self).load_predictor(trained, device="cpu")
        answer = predictor.predict(Film(np.full((64, 64), 7, np.uint8)), PredictOptions())
        assert (answer.height, answer.width) == (64, 64)

    def test_at_most_as_many_segments_as_asked_for(self, trained: Path) -> None:
        predictor = type(self).load_predictor(trained, device="cpu")
        film = Film(block_film(np.random.default_rng(7))[0])
        options = PredictOptions(score_threshold=0.0, max_segments=1)
        assert len(predictor.predict(film, options).segments) <= 1

    def test_kind_of_segments_is_the_familys(self, trained: Path) -> None:
        predictor = type(self).load_predictor(trained, device="cpu")
        family = load_card(trained).family
        kind = SegmentKind.REGION if family is ModelFamily.SEMANTIC else SegmentKind.INSTANCE
        film = Film(block_film(np.random.default_rng(8))[0])
        answer = predictor.predict(film, PredictOptions(include_probability_maps=True))
        assert {segment.kind for segment in answer.segments} <= {kind}
        expected = len(Structure) if family is ModelFamily.SEMANTIC else 0
        assert len(answer.probability_maps) == expected

    def test_changed_weights_file_is_refused(self, trained: Path, tmp_path: Path) -> None:
        card = self._copy(trained, tmp_path)
        path = tmp_path / "weights" / "lite.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="SHA-256"):
            type(self).load_predictor(card, device="cpu")

    def test_missing_weights_file_is_refused(self, trained: Path, tmp_path: Path) -> None:
        card = self._copy(trained, tmp_path)
        (tmp_path / "weights" / "lite.safetensors").unlink()
        with pytest.raises(WeightsError):
            type(self).load_predictor(card, device="cpu")

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

    def test_loading_compares_with_the_cards_probe(self, trained: Path, tmp_path: Path) -> None:
        card = self._copy(trained, tmp_path)
        document = yaml.safe_load(card.read_text(encoding="utf-8"))
        document["presets"]["lite"]["weights"]["probe"]["values"][7] += 1.0
        card.write_text(yaml.safe_dump(document), encoding="utf-8")
        with pytest.raises(WeightsError, match="probe"):
            type(self).load_predictor(card, device="cpu")

    def test_wrong_network_entry_is_named(self, trained: Path) -> None:
        card = load_card(trained)
        wrong = replace(card, network={**card.network, "colour": "blue"})
        with pytest.raises(CardError, match="colour"):
            build_network(wrong, type(self).make)

    def test_shipped_weights_load_and_find_something(self) -> None:
        card = load_card(self.room / "card.yaml", "lite")
        if card.weights is None:
            pytest.skip("the lite preset has no weights yet; `make train` writes them")
        assert card.weights.bytes < MAX_LITE_BYTES
        predictor = type(self).load_predictor(self.room / "card.yaml", device="cpu")
        scores = []
        for seed in (2_000_003, 2_000_004, 2_000_005):
            film = make_film(seed)
            answer = predictor.predict(Film(film.pixels), PredictOptions())
            truth = np.zeros(film.pixels.shape, dtype=bool)
            for region in film.regions:
                truth |= rasterise(region.polygon_xy, *film.pixels.shape)
            found = np.zeros_like(truth)
            for segment in answer.segments:
                found |= decode_mask(segment.mask)
            scores.append(training.merged_mean_iou(truth, found))
        assert np.mean(scores) > 0.75

    def test_weights_hold_no_more_than_the_network(self, trained: Path) -> None:
        card = load_card(trained)
        network = build_network(card, type(self).make)
        path = trained.parent / "weights" / "lite.safetensors"
        checkpoints.load_weights(network, path, card.weights_sha256)
        again = checkpoints.save_weights(network, trained.parent / "again.safetensors")
        assert again.sha256 == card.weights_sha256

    @staticmethod
    def _copy(card: Path, folder: Path) -> Path:
        shutil.copytree(card.parent / "weights", folder / "weights")
        return Path(shutil.copy(card, folder / "card.yaml"))
