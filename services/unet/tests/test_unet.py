"""The U-Net: shape of the network, weights file, probe, predictor, training and resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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
from spinezoo_unet.backends import TensorFlowBackend
from spinezoo_unet.batches import Batch, encode, inputs_of, weights_of
from spinezoo_unet.network import build_unet
from spinezoo_unet.predictor import build_network, choose_device, load_predictor
from spinezoo_unet.weights import check_probe, load_weights, probe_values, save_weights

SERVICE = Path(__file__).parents[1]


class TestUNet(PredictorTests):
    room = SERVICE
    load_predictor = staticmethod(load_predictor)

    def test_answers_that_are_not_finite_are_an_error(self) -> None:
        predictor = load_predictor(SERVICE / "card.yaml", device="cpu")
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
    network: {filters: 4, normalise: true}
    weights: null
training: {}
metrics: {}
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
    original = train.Trainer.step

    def step_then_terminate(self: train.Trainer, batch: Batch, progress: train.Progress) -> float:
        loss = original(self, batch, progress)
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    with monkeypatch.context() as patched:
        patched.setattr(train.Trainer, "step", step_then_terminate)
        yield


def test_trains_stops_goes_on_and_answers(
    service: Path, film_set: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # First half: a real SIGTERM in the middle of the third epoch.
    with terminated_after(4, monkeypatch):
        assert run_training(service, film_set, "--epochs", "25") == 130
    assert not (service / "weights").exists()
    with caplog.at_level("INFO"):
        assert run_training(service, film_set, "--epochs", "25") == 0
    assert "going on after epoch 2" in caplog.text
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
    assert card.metrics["validation_mean_iou"] > 0.5


def test_stopped_in_an_epoch_it_ends_with_the_same_weights(
    service: Path, film_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = service / "card.yaml"  # the generator makes no smaller films
    card.write_text(card.read_text().replace("height: 64, width: 48", "height: 96, width: 96"))
    made = ["--data", "phantoms:3", "--epoch-films", "12", "--validation-films", "1"]
    options = [*made, "--epochs", "2"]
    assert train_on(service, "whole", *options) == 0
    expected = load_card(service / "card.yaml")
    with terminated_after(1, monkeypatch):
        assert train_on(service, "parts", *options, "--workers", "2") == 130
    assert train_on(service, "parts", *options) == 0
    found = load_card(service / "card.yaml")
    assert found.training["films_seen"] == expected.training["films_seen"] == 24
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
    save_weights(small_network(filters=8), service / "other.h5")
    options = ["--data", str(film_set), "--epochs", "1", "--start-from"]
    assert train_on(service, "run", *options, str(service / "other.h5")) == 1
    assert "has shape" in capsys.readouterr().err


def test_served_answer_is_the_training_time_answer(service: Path, film_set: Path) -> None:
    from spinezoo_spine.films.reader import read_film_file
    from spinezoo_spine.inference.preprocess import letterbox, two_channels
    from spinezoo_training.prepared_set import prepare_film_set
    from spinezoo_training.targets import network_input

    data = prepare_film_set(film_set, 64, 48, cache_dir=service / "cache")
    film = read_film_file(film_set / "film_00.png")
    canvas, _ = letterbox(film.pixels, 64, 48)
    difference = np.abs(two_channels(canvas) - network_input(data[0]))
    # Training keeps 8-bit grey; the local channel magnifies its steps where a film is flat.
    assert np.median(difference) < 0.01


def test_batches_are_bytes_and_lose_nothing_that_training_sees() -> None:
    from spinezoo_contract.types import Structure
    from spinezoo_training.prepared_set import PreparedFilm
    from spinezoo_training.targets import label_map_with_gaps, network_input

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
    batch = encode(films)
    for part in batch:
        assert (part.shape, part.dtype) == ((3, 96, 64), np.uint8)
    assert weights_of(batch.gaps).max() > 4.0  # of at most 6
    for index, film in enumerate(films):
        labels, weights = label_map_with_gaps(film)
        np.testing.assert_array_equal(batch.labels[index], labels)
        np.testing.assert_allclose(weights_of(batch.gaps)[index], weights, atol=0.0101)
        shown = inputs_of(batch.grey)[index].transpose(2, 0, 1)
        np.testing.assert_allclose(shown, network_input(film), atol=1e-6)


def test_training_on_another_framework_says_what_to_set(
    service: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert train_on(service, "run", "--data", "phantoms:3") == 1
    assert "set KERAS_BACKEND to tensorflow or to torch" in capsys.readouterr().err


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


@pytest.mark.parametrize("framework", ["tensorflow", "torch"])
def test_loss_is_the_same_number_on_every_framework(framework: str) -> None:
    pytest.importorskip(framework)
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 3.0, (2, 32, 24, 6)).astype(np.float32)
    labels = rng.choice([0, 1, 2, 4, 5], (2, 32, 24)).astype(np.int32)  # one structure is absent
    weights = rng.uniform(1.0, 6.0, (2, 32, 24)).astype(np.float32)
    if framework == "torch":
        import torch
        from spinezoo_unet.torch_backend import TorchBackend

        loss = TorchBackend().loss(*map(torch.from_numpy, (logits, labels, weights)))
    else:
        loss = TensorFlowBackend().loss(
            *map(keras.ops.convert_to_tensor, (logits, labels, weights))
        )
    assert float(loss) == pytest.approx(loss_by_hand(logits, labels, weights), abs=1e-4)


TORCH_FORWARD = """
import keras, numpy as np, sys, torch
from spinezoo_unet.network import build_unet
from spinezoo_unet.batches import inputs_of
from spinezoo_unet.torch_backend import inputs_there, train_forward

def built(binary_head, policy="float32"):
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    model = build_unet(64, 48, 2, filters=4, normalise=True, levels=4, most_filters=16,
                       binary_head=binary_head)
    keras.config.set_dtype_policy("float32")
    for layer in model.layers:
        if layer.name.startswith("drop"):
            layer.rate = 0.0
    return model

films = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 64, 48, 2)).astype("float32"))
for binary_head in (False, True):
    ours, theirs = built(binary_head), built(binary_head)
    expected, found = theirs(films, training=True), train_forward(ours, films)
    assert found.shape == expected.shape and found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=2e-4), (found - expected).abs().max()
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        # n - 1 for n: of 6 films with 8 x 6 places on the deepest level.
        assert torch.allclose(mine.value, other.value, rtol=2e-3, atol=1e-4), mine.path
    wanted, given = (
        torch.autograd.grad(logits.square().mean(), [v.value for v in model.trainable_weights])
        for logits, model in ((expected, theirs), (found, ours))
    )
    for a, b in zip(given, wanted, strict=True):
        assert (a - b).norm() < 0.05 * b.norm() + 1e-5, (a - b).norm() / b.norm()
rng = np.random.default_rng(1)
grey = rng.integers(0, 256, (3, 96, 80), dtype=np.uint8)
grey[1, 30:] = 90 + rng.integers(0, 2, (66, 80))  # nearly flat, like the air around a patient
grey[2] = np.linspace(0, 255, 80).astype(np.uint8)
difference = np.abs(inputs_there(torch.from_numpy(grey)).numpy() - inputs_of(grey))
assert difference.shape == (3, 96, 80, 2) and difference.max() < 0.002, difference.max()
half = train_forward(built(False, "mixed_bfloat16"), films)
exact = train_forward(built(False), films)
assert half.dtype == torch.float32 and 0 < (half - exact).abs().mean() < 0.1 * exact.abs().mean()
"""


def test_forward_pass_on_torch_is_that_of_keras() -> None:
    environment = os.environ | {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", TORCH_FORWARD], env=environment, check=True)


# Its own process: Keras keeps the backend that it was first imported with.
TORCH_TRAINING = """
import os, signal, sys
sys.modules["tensorflow"] = None  # as on a machine without it: importing it fails
from spinezoo_unet import train

original, last = train.Trainer.step, int(sys.argv[1])

def step(self, batch, progress):
    loss = original(self, batch, progress)
    if progress.step == last:
        os.kill(os.getpid(), signal.SIGTERM)
    return loss

train.Trainer.step = step
sys.exit(train.main(sys.argv[2:]))
"""


def train_with_torch(service: Path, film_set: Path, run: str, last_step: int = -1) -> int:
    command = [
        sys.executable, "-c", TORCH_TRAINING, str(last_step), "--data", str(film_set),
        "--cache-dir", str(service / "cache"), "--card", str(service / "card.yaml"),
        "--run-dir", str(service / run), "--batch-size", "4", "--epochs", "2",
        "--device", "cpu", "--threads", "1",
    ]  # fmt: skip
    environment = os.environ | {"KERAS_BACKEND": "torch"}
    return subprocess.run(command, env=environment, check=False).returncode


def test_torch_trains_stops_and_goes_on_to_weights_that_are_served(
    service: Path, film_set: Path
) -> None:
    card = service / "card.yaml"
    more = "normalise: true, levels: 4, most_filters: 16"
    card.write_text(card.read_text().replace("normalise: true", more))
    assert train_with_torch(service, film_set, "whole") == 0
    expected = load_card(card)
    assert train_with_torch(service, film_set, "parts", last_step=2) == 130
    assert train_with_torch(service, film_set, "parts") == 0
    found = load_card(card)
    # Dropout's stream goes on where it stood, too.
    assert found.weights_sha256 == expected.weights_sha256
    assert found.training["films_seen"] == 16
    assert "torch" in found.training["libraries"]
    assert found.training["command"].startswith("KERAS_BACKEND=torch python -m spinezoo_unet")
    model = build_network(found)
    load_weights(model, service / "weights/lite.h5")
    assert found.weights is not None
    probe = found.weights.probe
    check_probe(model, probe.seed, probe.values, probe.tolerance)
    with h5py.File(service / "parts/state.h5", "r+") as file:  # as if TensorFlow had written it
        identity = json.loads(file.attrs["identity"])
        assert identity.pop("backend") == "torch"
        file.attrs["identity"] = json.dumps(identity)
    assert train_with_torch(service, film_set, "parts") == 1
