"""The tests that the predictor of every network inherits, and the films they run on.

Needs pytest and PyYAML.

A network's own test file names its parts and adds what only it has::

    class TestUNet(PredictorTests):
        room = Path(__file__).parents[1]
        load_predictor = staticmethod(load_predictor)
        framework = "tensorflow"

Torch networks inherit more, see ``spinezoo_torchkit.testing``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from spinezoo_contract.errors import CardError, ConfigurationError, FilmError, WeightsError
from spinezoo_contract.masks import decode_mask
from spinezoo_contract.types import (
    Film,
    ModelFamily,
    Prediction,
    PredictOptions,
    SegmentKind,
    Structure,
)
from spinezoo_phantom import make_film
from spinezoo_serving.cards import load_card, record_path
from spinezoo_serving.predictor import Predictor
from spinezoo_spine.annotations.raster import rasterise
from spinezoo_spine.annotations.regions import FilmAnnotation, Region
from spinezoo_spine.annotations.via import write_via
from spinezoo_spine.inference.preprocess import shrunk
from spinezoo_spine.metrics.study import merged_mean_iou
from spinezoo_training.prepared_set import PreparedFilm

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


def prepared_block_film(
    seed: int | list[int] = 0,
) -> tuple[PreparedFilm, tuple[Region, ...]]:
    """A film of :func:`block_film` as a network is trained on it, and its outlines."""
    grey, regions = block_film(np.random.default_rng(seed))
    return PreparedFilm("block", grey, tuple((r.structure, r.polygon_xy) for r in regions)), regions


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
    folder.mkdir(parents=True, exist_ok=True)
    card = folder / "card.yaml"
    card.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return card


def label_map(answer: Prediction) -> NDArray[np.uint8]:
    """(height, width) numbers of the structures, small ones over large ones, 0 for none."""
    labels = np.zeros((answer.height, answer.width), dtype=np.uint8)
    masks = [(segment, decode_mask(segment.mask)) for segment in answer.segments]
    for segment, mask in sorted(masks, key=lambda each: -int(each[1].sum())):
        labels[mask] = int(segment.structure)
    return labels


class PredictorTests:
    """What holds for the predictor of every network; a subclass named ``Test...`` gives the parts.

    The network is the shipped one, unless a subclass has a fixture ``trained`` of its own.
    """

    room: ClassVar[Path]
    """The service's folder."""

    load_predictor: ClassVar[Callable[..., Any]]
    """``load_predictor(card_path, device=...)``."""

    framework: ClassVar[str]
    """Name of the engine that is the network's framework."""

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls) -> Path:
        """The card of a network that has weights."""
        return cls.room / "card.yaml"

    @pytest.fixture(scope="class")
    @classmethod
    def predictor(cls, trained: Path) -> Predictor:
        """That network, loaded once."""
        loaded: Predictor = cls.load_predictor(trained, device="cpu")
        return loaded

    def test_card_is_valid(self) -> None:
        for preset in ("lite", "paper"):
            card = load_card(self.room / "card.yaml", preset)
            assert card.name == self.room.name
            assert card.structures == tuple(Structure)

    def test_answers_at_the_films_size(self, predictor: Predictor) -> None:
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
            assert answer.provenance.weights_sha256 == predictor.card.weights_sha256
            assert answer.provenance.device == "cpu"

    def test_same_film_same_answer(self, predictor: Predictor) -> None:
        film = Film(block_film(np.random.default_rng(5))[0])
        first, second = (predictor.predict(film, PredictOptions()) for _ in range(2))
        assert first.segments == second.segments

    def test_shrunk_film_is_answered_as_the_whole_one(self, predictor: Predictor) -> None:
        canvas = predictor.card.input
        rng = np.random.default_rng(3)
        pixels = rng.integers(0, 4096, (4 * canvas.height + 7, 3 * canvas.width), dtype=np.uint16)
        pixels[canvas.height :, : canvas.width] //= 2
        small = shrunk(pixels, canvas.height, canvas.width)
        assert small is not None
        whole = predictor.predict(Film(pixels), PredictOptions(score_threshold=0.0))
        seen = Film(small, shrunk_from=(pixels.shape[0], pixels.shape[1]))
        found = predictor.predict(seen, PredictOptions(score_threshold=0.0))
        assert (found.height, found.width) == pixels.shape
        assert found.segments == whole.segments
        with pytest.raises(FilmError, match="send the whole film"):
            predictor.predict(replace(seen, shrunk_from=pixels.shape[::-1]), PredictOptions())

    def test_blank_film_is_answered(self, predictor: Predictor) -> None:
        answer = predictor.predict(Film(np.full((64, 64), 7, np.uint8)), PredictOptions())
        assert (answer.height, answer.width) == (64, 64)

    def test_at_most_as_many_segments_as_asked_for(self, predictor: Predictor) -> None:
        film = Film(block_film(np.random.default_rng(7))[0])
        options = PredictOptions(score_threshold=0.0, max_segments=1)
        assert len(predictor.predict(film, options).segments) <= 1

    def test_kind_of_segments_is_the_familys(self, predictor: Predictor) -> None:
        family = predictor.card.family
        kind = SegmentKind.REGION if family is ModelFamily.SEMANTIC else SegmentKind.INSTANCE
        film = Film(block_film(np.random.default_rng(8))[0])
        answer = predictor.predict(film, PredictOptions(include_probability_maps=True))
        assert {segment.kind for segment in answer.segments} <= {kind}
        expected = list(Structure) if family is ModelFamily.SEMANTIC else []
        assert [each.structure for each in answer.probability_maps] == expected

    def test_changed_weights_file_is_refused(self, trained: Path, tmp_path: Path) -> None:
        card, weights = self._copy(trained, tmp_path)
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        with pytest.raises(WeightsError, match="SHA-256"):
            type(self).load_predictor(card, device="cpu")

    def test_missing_weights_file_is_refused(self, trained: Path, tmp_path: Path) -> None:
        card, weights = self._copy(trained, tmp_path)
        weights.unlink()
        with pytest.raises(WeightsError):
            type(self).load_predictor(card, device="cpu")

    def test_loading_compares_with_the_cards_probe(self, trained: Path, tmp_path: Path) -> None:
        card, _ = self._copy(trained, tmp_path)
        record = record_path(card, "lite")
        document = json.loads(record.read_text(encoding="utf-8"))
        document["weights"]["probe"]["values"][7] += 1.0
        record.write_text(json.dumps(document), encoding="utf-8")
        with pytest.raises(WeightsError, match="probe"):
            type(self).load_predictor(card, device="cpu")

    def test_answers_name_engine_and_precision(
        self, trained: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPINEZOO_PRECISION", "float32")
        for engine in ("openvino", "onnxruntime"):
            monkeypatch.setenv("SPINEZOO_ENGINE", engine)
            loaded = type(self).load_predictor(trained, device="cpu")
            answer = loaded.predict(Film(np.full((64, 64), 7, np.uint8)), PredictOptions())
            assert (answer.provenance.engine, answer.provenance.precision) == (engine, "float32")

    def test_engines_answer_as_the_framework_does(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = {}
        films = [Film(make_film(seed).pixels) for seed in (2_000_006, 2_000_007)]
        monkeypatch.setenv("SPINEZOO_PRECISION", "float32")
        for engine in (self.framework, "openvino", "onnxruntime"):
            monkeypatch.setenv("SPINEZOO_ENGINE", engine)
            loaded = type(self).load_predictor(self.room / "card.yaml", device="cpu")
            answers[engine] = [loaded.predict(film, PredictOptions()) for film in films]
        for place in range(len(films)):
            wanted = label_map(answers[self.framework][place])
            for engine in ("openvino", "onnxruntime"):
                same = label_map(answers[engine][place]) == wanted
                assert same.mean() >= 0.9999, engine
                assert len(answers[engine][place].segments) == len(
                    answers[self.framework][place].segments
                )

    def test_films_together_are_answered_as_each_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SPINEZOO_ENGINE", self.framework)
        loaded = type(self).load_predictor(self.room / "card.yaml", device="cpu")
        films = [Film(make_film(seed).pixels) for seed in (2_000_006, 2_000_009)]
        films.append(Film(films[0].pixels[:700].copy()))
        options = [PredictOptions(), PredictOptions(max_segments=2), PredictOptions()]
        together = loaded.predict_many(films, options)
        for film, own, found in zip(films, options, together, strict=True):
            alone = loaded.predict(film, own)
            assert (found.height, found.width) == film.pixels.shape
            assert len(found.segments) == len(alone.segments) > 0
            assert (label_map(found) == label_map(alone)).mean() >= 0.9999

    @pytest.mark.parametrize(
        ("precision", "least", "below"),
        # Equal maps would not have been rounded to 8 bits.
        [("bfloat16", 0.999, 1.1), ("int8", 0.997, 1.0)],
    )
    def test_coarse_precisions_move_few_pixels_and_are_named(
        self, monkeypatch: pytest.MonkeyPatch, precision: str, least: float, below: float
    ) -> None:
        film = Film(make_film(2_000_008).pixels)
        maps = []
        for each in ("float32", precision):
            monkeypatch.setenv("SPINEZOO_PRECISION", each)
            try:
                loaded = type(self).load_predictor(self.room / "card.yaml", device="cpu")
            except ConfigurationError:
                pytest.skip(f"this processor has no instructions for {precision}")
            answer = loaded.predict(film, PredictOptions())
            assert answer.provenance.precision == each
            maps.append(label_map(answer))
        assert least <= (maps[0] == maps[1]).mean() < below

    def test_int8_that_was_never_exported_is_named(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        card, _ = self._copy(trained, tmp_path)
        record = record_path(card, "lite")
        document = json.loads(record.read_text(encoding="utf-8"))
        document["graphs"].pop("int8", None)
        record.write_text(json.dumps(document), encoding="utf-8")
        monkeypatch.setenv("SPINEZOO_PRECISION", "int8")
        with pytest.raises(WeightsError, match="ARGS=--int8"):
            type(self).load_predictor(card, device="cpu")

    def test_graphs_of_other_weights_are_refused(self, trained: Path, tmp_path: Path) -> None:
        card, _ = self._copy(trained, tmp_path)
        record = record_path(card, "lite")
        document = json.loads(record.read_text(encoding="utf-8"))
        document["graphs"]["weights_sha256"] = "0" * 64
        record.write_text(json.dumps(document), encoding="utf-8")
        with pytest.raises(WeightsError, match="make export"):
            type(self).load_predictor(card, device="cpu")
        del document["graphs"]
        record.write_text(json.dumps(document), encoding="utf-8")
        with pytest.raises(WeightsError, match="never exported"):
            type(self).load_predictor(card, device="cpu")

    def test_changed_graph_is_refused(self, trained: Path, tmp_path: Path) -> None:
        card, weights = self._copy(trained, tmp_path)
        for graph in weights.parent.glob("*.onnx"):
            graph.write_bytes(graph.read_bytes() + b" ")
        with pytest.raises(WeightsError, match="not the exported one"):
            type(self).load_predictor(card, device="cpu")

    def test_wrong_network_entry_is_named(
        self, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        card, _ = self._copy(trained, tmp_path)
        document = yaml.safe_load(card.read_text(encoding="utf-8"))
        document["presets"]["lite"]["network"]["colour"] = "blue"
        card.write_text(yaml.safe_dump(document), encoding="utf-8")
        monkeypatch.setenv("SPINEZOO_ENGINE", self.framework)
        with pytest.raises(CardError, match="colour"):
            type(self).load_predictor(card, device="cpu")

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
            scores.append(merged_mean_iou(truth, found))
        assert np.mean(scores) > 0.75

    @staticmethod
    def _copy(card: Path, folder: Path) -> tuple[Path, Path]:
        """Card and weights file of a network, copied to where they may be spoilt."""
        loaded = load_card(card)
        weights = loaded.weights
        assert weights is not None
        (folder / weights.file).parent.mkdir()
        graphs = loaded.graphs
        for graph in (*graphs.parts.values(), *graphs.int8.values()) if graphs else ():
            shutil.copy(card.parent / graph.file, folder / graph.file)
        shutil.copy(
            record_path(card, loaded.preset), record_path(folder / "card.yaml", loaded.preset)
        )
        return (
            Path(shutil.copy(card, folder / "card.yaml")),
            Path(shutil.copy(card.parent / weights.file, folder / weights.file)),
        )
