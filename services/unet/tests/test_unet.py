"""The U-Net: shape of the network, weights file, probe, predictor, training and resume."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image, ImageDraw

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
from spinezoo_contract.errors import (
    ConfigurationError,
    InvalidOutputError,
    WeightsError,
)
from spinezoo_contract.types import Film, PredictOptions, SegmentKind
from spinezoo_serving.cards import load_card
from spinezoo_testing.predictors import PredictorTests
from spinezoo_unet import train
from spinezoo_unet.batches import Batch, collate, encode, inputs_of, weights_of
from spinezoo_unet.engine import KerasEngine
from spinezoo_unet.framework import choose_device, load_keras_predictor
from spinezoo_unet.network import build_unet
from spinezoo_unet.predictor import load_predictor
from spinezoo_unet.task import segmentation_loss
from spinezoo_unet.weights import check_probe, load_weights, probe_values, save_weights

SERVICE = Path(__file__).parents[1]


class TestUNet(PredictorTests):
    room = SERVICE
    load_predictor = staticmethod(load_predictor)
    framework = "tensorflow"

    def test_answers_that_are_not_finite_are_an_error(self) -> None:
        predictor = load_keras_predictor(SERVICE / "card.yaml", device="cpu")
        predictor._infer = lambda film: keras.ops.full((1, 64, 48, 6), float("nan"))
        with pytest.raises(InvalidOutputError, match="not finite"):
            predictor.predict(Film(np.zeros((64, 64), np.uint8)), PredictOptions())


def test_paper_form_has_the_published_number_of_parameters() -> None:
    model = build_unet(256, 256, 1, filters=64, outputs=1, binary_head=True)
    assert model.count_params() == 31_031_685


def test_input_side_that_cannot_be_halved_names_the_next_one_that_can() -> None:
    with pytest.raises(ValueError, match="height 500 is not a multiple of 16; pad to 512"):
        build_unet(500, 256, 1)


def test_levels_and_the_most_filters_shape_the_network() -> None:
    model = build_unet(64, 32, 2, filters=4, normalise=True, levels=6, most_filters=16)
    widths = [model.get_layer(f"down{level}_conv2").filters for level in range(6)]
    assert widths == [4, 8, 16, 16, 16, 16]
    assert [model.get_layer(f"up{level}_conv1").filters for level in range(5)] == widths[:5]
    assert model.get_layer("down5_conv1").output.shape == (None, 2, 1, 16)
    assert [layer.name for layer in model.layers if "drop" in layer.name] == ["drop4", "drop5"]
    assert model.output_shape == (None, 64, 32, 6)


def test_impossible_levels_and_filters_say_why() -> None:
    with pytest.raises(ValueError, match="width 48 is not a multiple of 32; pad to 64"):
        build_unet(64, 48, 2, filters=4, levels=6)
    with pytest.raises(ValueError, match="levels 1 is below 2"):
        build_unet(64, 64, 2, filters=4, levels=1)
    with pytest.raises(ValueError, match="most_filters 8 is below filters 16"):
        build_unet(64, 64, 2, filters=16, most_filters=8)


def small_network(seed: int = 0, filters: int = 4) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return build_unet(32, 32, 2, filters=filters, normalise=True)


def test_weights_come_back_in_half_precision(tmp_path: Path) -> None:
    first, second = small_network(0), small_network(1)
    save_weights(first, tmp_path / "w.h5")
    load_weights(second, tmp_path / "w.h5")
    # Half precision keeps 11 bits; batch statistics and kernels here are about 1.
    assert np.abs(probe_values(first, 3) - probe_values(second, 3)).max() < 0.02
    assert np.abs(probe_values(first, 3) - probe_values(small_network(1), 3)).max() > 0.1


def test_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    model = small_network()
    assert save_weights(model, tmp_path / "a.h5") == save_weights(model, tmp_path / "b.h5")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_weights(small_network(filters=4), tmp_path / "w.h5")
    with pytest.raises(WeightsError, match="shape"):
        load_weights(small_network(filters=8), tmp_path / "w.h5")
    with pytest.raises(WeightsError, match="missing"):
        load_weights(build_unet(32, 32, 2, filters=4, binary_head=True), tmp_path / "w.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(WeightsError, match="not an HDF5 file"):
        load_weights(small_network(), tmp_path / "text.h5")


def test_probe_tells_networks_of_equal_names_and_shapes_apart() -> None:
    model = small_network()
    expected = probe_values(model, 0).tolist()
    check_probe(model, 0, expected, 1e-3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 1.0  # no name and no shape tells
    with pytest.raises(WeightsError, match="probe"):
        check_probe(model, 0, expected, 1e-3)


def test_unknown_or_absent_device_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == "cpu"
    with pytest.raises(ConfigurationError, match="auto, cpu, cuda"):
        choose_device("tpu")
    with pytest.raises(ConfigurationError, match="SPINEZOO_DEVICE=cpu"):
        choose_device("cuda:7")


@pytest.fixture(scope="module")
def film_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films with two bright squares each, outlined in VIA."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    metadata = {}
    for index in range(12):
        image = Image.fromarray(rng.integers(20, 60, (128, 96), dtype=np.uint8))
        draw = ImageDraw.Draw(image)
        regions = []
        for top, name in ((20, "lumbar_vertebra"), (70, "sacral_vertebra")):
            left = int(rng.integers(10, 50))
            draw.rectangle((left, top, left + 29, top + 29), fill=200)
            shape = {
                "name": "polygon",
                "all_points_x": [left, left + 30, left + 30, left],
                "all_points_y": [top, top, top + 30, top + 30],
            }
            regions.append({"shape_attributes": shape, "region_attributes": {"structure": name}})
        name = f"film_{index:02d}.png"
        image.save(folder / name)
        size = (folder / name).stat().st_size
        metadata[f"{name}{size}"] = {
            "filename": name, "size": size, "regions": regions, "file_attributes": {},
        }  # fmt: skip
    (folder / "via.json").write_text(json.dumps(metadata))
    return folder


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """A copy of the card with a small network, so that training takes seconds."""
    card = (SERVICE / "card.yaml").read_text()
    lines = card.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("presets:"))
    head = "\n".join(line for line in lines[:start] if not line.startswith("preset:"))
    (tmp_path / "card.yaml").write_text(
        head
        + """
preset: lite
presets:
  lite:
    input: {height: 64, width: 48, channels: 2}
    network: {filters: 4, normalise: true, levels: 3}
"""
    )
    return tmp_path


def train_on(service: Path, run: str, *more: str) -> int:
    return train.main(
        ["--card", str(service / "card.yaml"), "--run-dir", str(service / run),
         "--batch-size", "4", "--precision", "float32", "--device", "cpu", *more]
    )  # fmt: skip


def run_training(service: Path, film_set: Path, *more: str) -> int:
    folder = ["--data", str(film_set), "--cache-dir", str(service / "cache")]
    return train_on(service, "run", *folder, *more)


@contextmanager
def terminated_after(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real SIGTERM to this process when that step, counted from 0, is done."""
    original = KerasEngine.step

    def step_then_terminate(
        self: KerasEngine, batch: Batch, *, number: int, **more: float
    ) -> dict[str, float]:
        terms = original(self, batch, number=number, **more)
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return terms

    with monkeypatch.context() as patched:
        patched.setattr(KerasEngine, "step", step_then_terminate)
        yield


def test_trains_stops_goes_on_and_answers(
    service: Path,
    film_set: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--epochs", "25", "--learning-rate", "0.01"]
    # First half: a real SIGTERM in the middle of the third epoch.
    with terminated_after(4, monkeypatch):
        assert run_training(service, film_set, *options) == 130
    assert not (service / "weights").exists()
    capsys.readouterr()
    assert run_training(service, film_set, *options) == 0
    assert "going on after 2 epochs and 20 films" in capsys.readouterr().err
    card = load_card(service / "card.yaml")
    assert card.training["epochs"] == 25
    assert card.training["films_seen"] == 25 * 8
    assert card.training["command"].startswith("python -m spinezoo_unet.train --card card.yaml")
    assert str(service) not in card.training["command"]
    predictor = load_predictor(service / "card.yaml", device="cpu")
    pixels = np.asarray(Image.open(film_set / "film_00.png"))
    answer = predictor.predict(Film(np.kron(pixels, np.ones((3, 3), np.uint8))), PredictOptions())
    assert (answer.height, answer.width) == (384, 288)
    assert all(segment.kind is SegmentKind.REGION for segment in answer.segments)
    # Background alone would score about 0.42.
    assert card.metrics["values"]["merged_mean_iou"] > 0.5


def test_stopped_in_an_epoch_it_ends_with_the_same_weights(
    service: Path, film_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = service / "card.yaml"  # the generator makes no smaller films
    card.write_text(card.read_text().replace("height: 64, width: 48", "height: 96, width: 96"))
    made = ["--data", "phantoms:3", "--epoch-films", "8", "--validation-films", "1"]
    options = [*made, "--epochs", "2"]
    assert train_on(service, "whole", *options) == 0
    expected = load_card(service / "card.yaml")
    with terminated_after(0, monkeypatch):
        assert train_on(service, "parts", *options, "--workers", "2") == 130
    assert train_on(service, "parts", *options) == 0
    found = load_card(service / "card.yaml")
    assert found.training["films_seen"] == expected.training["films_seen"] == 16
    assert found.weights_sha256 == expected.weights_sha256
    assert found.training["phantoms"]["seed"] == 3


def test_training_starts_from_weights_and_tells_of_it(service: Path, film_set: Path) -> None:
    assert run_training(service, film_set, "--epochs", "1") == 0
    before = load_card(service / "card.yaml")
    options = ["--data", str(film_set), "--epochs", "1", "--start-from", "card"]
    assert train_on(service, "second", *options, "--learning-rate", "1e-12") == 0
    after = load_card(service / "card.yaml")
    assert after.training["started_from"]["sha256"] == before.weights_sha256
    assert after.training["films_seen_total"] == 2 * before.training["films_seen"]
    kernels = [
        {name: file[name][()] for name in file if "kernel" in name}
        for file in (h5py.File(p) for p in (after.path.parent / "weights/lite.h5",
                                            service / "second/start-from.h5"))
    ]  # fmt: skip
    for name, values in kernels[0].items():
        np.testing.assert_array_equal(values, kernels[1][name])


def test_weights_of_another_network_are_no_start(
    service: Path, film_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = build_unet(32, 32, 2, filters=8, normalise=True, levels=3)
    save_weights(other, service / "other.h5")
    options = ["--data", str(film_set), "--epochs", "1", "--start-from"]
    assert train_on(service, "run", *options, str(service / "other.h5")) == 1
    assert "has shape" in capsys.readouterr().err


def test_served_answer_is_the_training_time_answer(service: Path, film_set: Path) -> None:
    from spinezoo_spine.films.reader import read_film_file
    from spinezoo_spine.inference.preprocess import letterbox, two_channels
    from spinezoo_training.prepared_set import open_film_set, prepare_films
    from spinezoo_training.targets import network_input

    data = prepare_films(open_film_set(film_set), 64, 48, cache_dir=service / "cache")
    film = read_film_file(film_set / "film_00.png")
    canvas, _ = letterbox(film.pixels, 64, 48)
    difference = np.abs(two_channels(canvas) - network_input(data[0]))
    # Training keeps 8-bit grey; the local channel magnifies its steps where a film is flat.
    assert np.median(difference) < 0.01


def test_batches_are_bytes_and_lose_nothing_that_training_sees() -> None:
    from spinezoo_contract.types import Structure
    from spinezoo_training.prepared_set import PreparedFilm
    from spinezoo_training.targets import CLASS_WEIGHTS, label_map_with_gaps, network_input

    rng = np.random.default_rng(0)
    body = np.array([[20.0, 10.0], [44.0, 10.0], [44.0, 30.0], [20.0, 30.0]])
    films = [
        PreparedFilm(
            "film",
            rng.integers(0, 256, (96, 64), dtype=np.uint8),
            tuple(
                (Structure.LUMBAR_VERTEBRA, body + np.array([0.0, number * (20.0 + gap)]))
                for number in range(3)
            ),
        )
        for gap in (0.0, 1.0, 3.0)
    ]
    batch = collate([encode(film) for film in films])
    for part in batch:
        assert (part.shape, part.dtype) == ((3, 96, 64), np.uint8)
    assert weights_of(batch.gaps, batch.labels).max() > 4.0  # of at most 6
    for index, film in enumerate(films):
        labels, weights = label_map_with_gaps(film)
        np.testing.assert_array_equal(batch.labels[index], labels)
        seen = weights_of(batch.gaps, batch.labels)[index]
        np.testing.assert_allclose(seen, weights, atol=0.0101)
        metal = weights_of(batch.gaps, np.full_like(batch.labels, Structure.ROD))[index]
        np.testing.assert_allclose(metal, CLASS_WEIGHTS[int(Structure.ROD)] * seen)
        shown = inputs_of(batch.grey)[index].transpose(2, 0, 1)
        np.testing.assert_allclose(shown, network_input(film), atol=1e-6)


def test_training_on_another_framework_says_what_to_set(
    service: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert train_on(service, "run", "--data", "phantoms:3") == 1
    assert "set KERAS_BACKEND to tensorflow" in capsys.readouterr().err


def loss_by_hand(logits: Any, labels: Any, weights: Any) -> float:
    """Twice the weighted cross-entropy plus soft Dice over the structures, in float64."""
    probability = np.exp(logits.astype(np.float64))
    probability /= probability.sum(-1, keepdims=True)
    truth = np.eye(logits.shape[-1])[labels]
    each = -np.log((truth * probability).sum(-1))
    overlap = (truth * probability).sum((0, 1, 2))[1:]
    size = (truth + probability).sum((0, 1, 2))[1:]
    dice = 1.0 - np.mean((2.0 * overlap + 50.0) / (size + 50.0))
    return float(2.0 * (weights * each).sum() / weights.sum() + dice)


def test_loss_is_the_number_computed_by_hand() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 3.0, (2, 32, 24, 6)).astype(np.float32)
    labels = rng.choice([0, 1, 2, 4, 5], (2, 32, 24)).astype(np.int32)  # one structure is absent
    weights = rng.uniform(1.0, 6.0, (2, 32, 24)).astype(np.float32)
    loss = segmentation_loss(*map(keras.ops.convert_to_tensor, (logits, labels, weights)))
    assert float(loss) == pytest.approx(loss_by_hand(logits, labels, weights), abs=1e-4)


def test_a_state_that_cannot_be_read_says_so(
    service: Path, film_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (service / "run").mkdir()
    with h5py.File(service / "run" / "state.h5", "w") as file:
        file.attrs["progress"] = "{}"
    assert run_training(service, film_set, "--epochs", "1") == 1
    assert "is not a training state" in capsys.readouterr().err


def test_another_run_in_the_folder_is_refused(
    service: Path, film_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_training(service, film_set, "--epochs", "1") == 0
    assert run_training(service, film_set, "--epochs", "2", "--seed", "1") == 1
    assert "is of a run with another" in capsys.readouterr().err
