"""Training of the refiner: bodies, examples, loss, resuming, export, card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_refiner import train
from spinezoo_refiner.examples import (
    LEAN_DEG,
    LEAST_SPUR,
    OUTLINE_TURN_DEG,
    SIZE_PX,
    TICKS,
    Bodies,
    Placing,
    doubled,
    example_of,
    placing_of,
    rough_outline,
    wedge_rad,
)
from spinezoo_refiner.export import export, some_input
from spinezoo_refiner.loss import refiner_loss
from spinezoo_refiner.network import RefinerNetwork
from spinezoo_refiner.store import (
    STORED_HALF,
    STORED_PX,
    Crops,
    make_store,
    read_store,
)
from spinezoo_refiner.warp import MOST_STRAIN, Warp, some_warp
from spinezoo_spine.built_in import load_built_in_card
from spinezoo_spine.measures.refiner.answers import NUMBERS, landmarks_of
from spinezoo_spine.measures.refiner.card import REFINER
from spinezoo_spine.measures.refiner.looking import CROP_HALF, CROP_PX
from spinezoo_spine.measures.refiner.network import LandmarkRefiner
from spinezoo_torchkit.small_training import loader, mix_with
from spinezoo_training.shards import read_record


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bodies")
    make_store(folder, seed=5, patients=3, looks=1, workers=1)
    return folder


@pytest.fixture(scope="session")
def crops(store: Path) -> Crops:
    return read_store(store)


def test_a_store_is_made_once_and_only_as_asked(store: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in store.iterdir())
    make_store(store, seed=5, patients=3, looks=1, workers=1)
    assert sorted(path.stat().st_mtime_ns for path in store.iterdir()) == before
    with pytest.raises(ConfigurationError, match="other numbers"):
        make_store(store, seed=6, patients=3, looks=1, workers=1)
    assert read_record(store)["seed"] == 5
    with pytest.raises(ConfigurationError, match="no examples"):
        read_store(store / "none")


def test_bodies_look_to_the_right_and_lie_within_their_outlines(crops: Crops) -> None:
    assert crops.sacral.any()
    back, front = crops.corners[:, 0], crops.corners[:, 1]
    assert (front[:, 0] > back[:, 0] + 0.5).all()
    # The middle of a body is bone; its corners are near the outline.
    middle = crops.outline[:, STORED_PX // 2, STORED_PX // 2]
    assert middle.mean() > 0.97
    places = (crops.corners[~crops.sacral] / STORED_HALF + 1.0) * STORED_PX / 2.0
    boxes = np.array([[m.nonzero()[1].min(), m.nonzero()[1].max()] for m in crops.outline])
    boxes = boxes[~crops.sacral]
    assert np.abs(places[:, [0, 3], 0].mean(1) - boxes[:, 0]).mean() < 4.0
    assert np.abs(places[:, [1, 2], 0].mean(1) - boxes[:, 1]).mean() < 6.0


def test_an_example_moves_truth_and_outline_together(crops: Crops) -> None:
    for place in range(0, len(crops.grey), 5):
        for seed in range(3):
            given, numbers, *_ = example_of(crops, place, np.random.default_rng(seed))
            again, same, *_ = example_of(crops, place, np.random.default_rng(seed))
            np.testing.assert_array_equal(given, again)
            np.testing.assert_array_equal(numbers, same)
            assert given.shape == (2, CROP_PX, CROP_PX)
            assert np.isfinite(given).all()
            if crops.sacral[place]:
                continue
            corners, _ = landmarks_of(numbers)
            rows, columns = np.nonzero(given[1] > 0)
            at = np.array([columns.mean(), rows.mean()])
            at = ((at + 0.5) / CROP_PX * 2.0 - 1.0) * CROP_HALF
            assert np.abs(corners.mean(axis=0) - at).max() < 0.25


CORNERS = np.array([[-0.55, -0.5], [0.6, -0.42], [0.52, 0.45], [-0.5, 0.5]])
PLATES = CORNERS[[[0, 1], [3, 2]]]
"""(2, 2, 2) back and front end of both endplates of a drawn body."""


def _edge(placing: Placing, which: int, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows at which an endplate of the drawn body is seen in the finished crop, by column."""
    ticks = (np.arange(STORED_PX) + 0.5) / STORED_PX * 2.0 * STORED_HALF - STORED_HALF
    (x0, y0), (x1, y1) = PLATES[which]
    line = y0 + (ticks[None] - x0) * (y1 - y0) / (x1 - x0)
    # A ramp of some pixels is sampled without error, a step is not.
    drawn = np.clip(0.5 + (ticks[:, None] - line) * SIZE_PX / 8.0, 0.0, 1.0).astype(np.float32)
    seen = placing.sampled(drawn)[:, columns]
    after = (seen > 0.5).argmax(axis=0)
    every = np.arange(len(columns))
    low, high = seen[after - 1, every], seen[after, every]
    return after - 1 + (0.5 - low) / (high - low)


def _in_pixels(places: NDArray[np.float64]) -> NDArray[np.float64]:
    return (places / CROP_HALF + 1.0) * CROP_PX / 2.0 - 0.5


def test_a_warp_carries_the_truth_exactly_where_it_carries_the_film() -> None:
    worst, turned = 0.0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        turn = np.radians(rng.normal(0.0, 4.0))
        linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        linear = linear @ np.array([[0.95, 0.0], [-0.05, 1.0]])
        straight = Placing(linear, rng.normal(0.0, 0.03, 2))
        corners = straight.truth(CORNERS)
        middles = straight.truth(PLATES.mean(axis=1))
        warp = some_warp(corners, middles, rng, sacral=False, half=CROP_HALF)
        placing = Placing(linear, straight.shift, warp)
        for which, (back, front) in enumerate(PLATES):
            along = np.linspace(0.0, 1.0, 400)[:, None]
            true = _in_pixels(placing.truth(back + along * (front - back)))
            columns = np.arange(int(true[:, 0].min()) + 2, int(true[:, 0].max()) - 1)
            steep = np.abs(np.gradient(true[:, 1], true[:, 0])).max()
            off = _edge(placing, which, columns) - np.interp(columns, true[:, 0], true[:, 1])
            worst = max(worst, np.abs(off).max() / (1.0 + steep))
            before = _in_pixels(straight.truth(np.stack([back, front])))
            turned.append(np.degrees(np.arctan2(*(true[-1] - true[0])[::-1])
                                     - np.arctan2(*(before[1] - before[0])[::-1])))  # fmt: skip
    assert worst < 0.03  # pixels
    assert 1.5 < np.std(turned) < 8.0  # endplates are turned against what phantoms show


def test_a_warp_brings_landmarks_where_they_are_sent_and_never_folds() -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        warp = some_warp(CORNERS, PLATES.mean(axis=1), rng, sacral=seed % 2 > 0, half=CROP_HALF)
        assert warp.strain(TICKS) < MOST_STRAIN + 0.1  # on a finer grid than it was made with
        points = rng.uniform(-0.9, 0.9, (50, 2))
        np.testing.assert_allclose(warp.origins(warp.carried(points)), points, atol=1e-7)
    sent = rng.normal(0.0, 0.03, (4, 2))
    warp = Warp.between(CORNERS, sent, np.full(4, 0.2))
    np.testing.assert_allclose(warp.carried(CORNERS), CORNERS + sent, atol=1e-7)
    grid = warp.origins_of_grid(TICKS)
    for row, column in ((3, 90), (48, 20), (77, 77)):
        alone = warp.origins(np.array([[TICKS[column], TICKS[row]]]))
        np.testing.assert_allclose(grid[:, row, column], alone[0], atol=1e-9)


def test_a_body_that_is_not_made_worse_keeps_its_shape(crops: Crops) -> None:
    for place in range(len(crops.grey)):
        placed = placing_of(crops, place, np.random.default_rng(place), warped=False)
        assert placed.film.warp is None
        assert placed.outline is placed.film


def test_outlines_do_not_tell_how_endplates_lie(crops: Crops) -> None:
    """Upper endplates against walls, and against their outline, of L5 and of a plain body."""
    wedges = np.degrees([wedge_rad(crops, place) for place in range(len(crops.grey))])
    wedges[crops.sacral] = np.nan
    leans, apart = {}, {}
    for name, place in (("L5", np.nanargmax(wedges)), ("plain", np.nanargmin(np.abs(wedges)))):
        corners = crops.corners[place].astype(np.float64)
        placed = [placing_of(crops, int(place), np.random.default_rng(s)) for s in range(400)]
        shown = [_slopes(each.film, corners) for each in placed]
        drawn = [_slopes(each.outline, corners) for each in placed]
        leans[name] = np.mean([plate - wall for plate, wall in shown])
        leans[name] -= np.subtract(*_slopes(Placing(np.eye(2), np.zeros(2)), corners))
        apart[name] = [one[0] - other[0] for one, other in zip(shown, drawn, strict=True)]
    assert leans["plain"] == pytest.approx(LEAN_DEG[0], abs=0.8)
    assert leans["L5"] > leans["plain"] + 0.15 * wedges.max(initial=0.0, where=wedges > 0.0)
    assert np.mean(apart["L5"]) > 1.0  # outlines stay behind
    assert np.std(apart["plain"]) > OUTLINE_TURN_DEG[0]


def _slopes(placing: Placing, corners: NDArray[np.float64]) -> tuple[float, float]:
    """Degrees of the upper endplate, and of the square to both walls."""
    seen = Placing(placing.linear, placing.shift).truth(corners)
    plate = seen[1] - seen[0]
    wall = seen[2] + seen[3] - seen[0] - seen[1]
    angles = np.degrees([np.arctan2(plate[1], plate[0]), np.arctan2(-wall[0], wall[1])])
    return float(angles[0]), float(angles[1])


def test_double_edges_lie_to_both_sides_of_the_true_one() -> None:
    step = np.zeros((CROP_PX, CROP_PX), np.float32)
    step[40:] = 1.0
    for seed in range(20):
        seen = doubled(step, np.random.default_rng(seed))
        assert (CROP_PX - seen[:, 48].sum()) == pytest.approx(40.0, abs=0.1)


def test_a_rough_outline_is_still_that_body(crops: Crops) -> None:
    shares = []
    for place, outline in enumerate(crops.outline):
        rough = rough_outline(outline, np.random.default_rng(place)) > 0.5
        true = outline > 0
        shares.append((rough & true).sum() / (rough | true).sum())
    assert 0.8 < np.mean(shares) < 0.98


def test_the_loss_falls_with_the_error_and_knows_its_spread(crops: Crops) -> None:
    batch = next(iter(Bodies(crops, 1, 0, 8)))
    spurs = torch.zeros(8, 8)

    def loss(off: float, spread: float) -> float:
        numbers = batch.numbers + off
        return float(refiner_loss(numbers, torch.full((8, NUMBERS), spread), spurs, batch)[0])

    assert loss(0.0, 0.02) < loss(0.02, 0.02) < loss(0.05, 0.02)
    assert loss(0.0, 0.005) < loss(0.0, 0.05)
    with_lower, _ = refiner_loss(batch.numbers, torch.full((8, NUMBERS), 0.02), spurs, batch)
    batch.numbers[batch.counts[:, 1] == 0, 5:] += 9.0  # of S1 nobody asks for the lower endplate
    without, _ = refiner_loss(batch.numbers.clone(), torch.full((8, NUMBERS), 0.02), spurs, batch)
    assert float(with_lower) == pytest.approx(float(without))


def test_osteophytes_that_are_not_asked_for_cost_nothing(crops: Crops) -> None:
    batch = next(iter(Bodies(crops, 1, 0, 8)))
    numbers, spreads = batch.numbers, torch.full((8, NUMBERS), 0.02)
    batch.spurs[:] = torch.tensor([0.0, 0.1, LEAST_SPUR * 1.5, 0.1])  # the third is a short one
    batch.spur_counts[:] = torch.tensor([1.0, 1.0, 1.0, 0.0])
    plain = torch.cat([torch.zeros(8, 4), batch.spurs], dim=1)

    def loss(corner: int, odds: float) -> float:
        said = plain.clone()
        said[:, corner] = odds
        return float(refiner_loss(numbers, spreads, said, batch)[0])

    assert loss(0, -2.0) < loss(0, 0.0)
    assert loss(1, 2.0) < loss(1, 0.0)
    assert loss(2, 2.0) == loss(2, -2.0)
    assert loss(3, 2.0) == loss(3, -2.0)


def test_no_osteophyte_is_asked_for_of_s1_and_where_a_warp_makes_a_lip(crops: Crops) -> None:
    lips = 0
    for place in range(len(crops.grey)):
        for seed in range(4):
            *_, asked = example_of(crops, place, np.random.default_rng(seed))
            warp = placing_of(crops, place, np.random.default_rng(seed)).film.warp
            drawn = () if warp is None else warp.lips
            lips += len(drawn)
            wanted = np.array([corner not in drawn for corner in range(4)])
            np.testing.assert_array_equal(asked, wanted & ~crops.sacral[place])
    assert lips > 0


def test_batches_are_the_same_in_worker_processes(crops: Crops) -> None:
    alone = list(Bodies(crops, 1, 2, 4))
    beside = list(loader(Bodies(crops, 1, 2, 4), 1))
    assert len(alone) == len(beside) > 2
    for one, other in zip(alone, beside, strict=True):
        assert torch.equal(one.crops, other.crops)


def test_a_run_that_stops_goes_on_to_the_same_weights(crops: Crops, tmp_path: Path) -> None:
    settings = train.Settings(epochs=2, batch_size=8, patients=3, width=6)
    torch.set_num_threads(1)
    (tmp_path / "whole").mkdir()
    whole, _ = train.fit(settings, crops, tmp_path / "whole", workers=0)
    folder = tmp_path / "stopped"
    folder.mkdir()
    loss, calls = train.refiner_loss, 0
    per_epoch = len(Bodies(crops, 1, 0, 8))

    def stop_or(*given: object) -> object:
        nonlocal calls
        calls += 1
        if calls > per_epoch:
            raise KeyboardInterrupt
        return loss(*given)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "refiner_loss", stop_or)
        with pytest.raises(KeyboardInterrupt):
            train.fit(settings, crops, folder, workers=0)
    resumed, _ = train.fit(settings, crops, folder, workers=0)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)
    assert len((folder / "log.jsonl").read_text().splitlines()) == 2
    with pytest.raises(ConfigurationError, match="other settings"):
        train.fit(train.Settings(epochs=3, width=6), crops, folder, workers=0)


def test_weights_between_a_run_and_the_one_it_began_with(crops: Crops, tmp_path: Path) -> None:
    settings = train.Settings(epochs=1, batch_size=8, patients=3, width=6)
    torch.set_num_threads(1)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, start in ((first, None), (second, first)):
        folder.mkdir()
        network, _ = train.fit(settings, crops, folder, workers=0, start=start)
        if start is None:
            before = {name: each.clone() for name, each in network.state_dict().items()}
    after = {name: each.clone() for name, each in network.state_dict().items()}
    given = [batch.crops for batch in Bodies(crops, 1, 0, 8)]
    mix_with(network, first, 0.25, given)
    for name, _ in network.named_parameters():
        torch.testing.assert_close(
            network.state_dict()[name], 0.75 * before[name] + 0.25 * after[name]
        )
    stem = network.stem[:1](torch.cat(given))  # each batch counts the same
    torch.testing.assert_close(
        network.stem[1].running_mean, stem.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-3
    )
    assert not network.training


@pytest.mark.parametrize("words", [["--share", "0.5"], ["--share", "-1", "--start", "."]])
def test_a_share_of_weights_needs_those_to_begin_with(words: list[str], tmp_path: Path) -> None:
    assert train.main(["--run-dir", str(tmp_path), *words]) == 2
    assert not list(tmp_path.iterdir())


def test_the_card_of_a_training_is_loaded_and_answers(crops: Crops, tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = RefinerNetwork(width=6).eval()
    (tmp_path / "card.yaml").write_text((REFINER.folder / "card.yaml").read_text())
    record = train.finish(network, crops, tmp_path, {"real_films_trained_on": 0})
    assert record["metrics"]["bodies"] == len(crops.grey)
    refiner = LandmarkRefiner(load_built_in_card(REFINER, tmp_path))
    (given,) = some_input(7, seed=3)
    said = refiner(given.numpy())
    with torch.no_grad():
        numbers, spreads, _ = network(given)
    # The card's file computes in 8 bits, which random noise is coarse for.
    np.testing.assert_allclose(said.numbers, numbers.numpy(), atol=0.02)
    np.testing.assert_allclose(said.spreads, spreads.numpy(), rtol=0.1)
    assert said.spur_odds.shape == said.spur_lengths.shape == (7, 4)


def test_the_plain_file_answers_as_the_network(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = RefinerNetwork(width=6).eval()
    export(network, tmp_path / "refiner.onnx")
    (given,) = some_input(7, seed=3)
    said = onnxruntime.InferenceSession(str(tmp_path / "refiner.onnx")).run(
        None, {"crops": given.numpy()}
    )
    with torch.no_grad():
        own = network(given)
    for ours, its in zip(own, said, strict=True):
        np.testing.assert_allclose(ours.numpy(), its, atol=1e-4)


def test_an_exported_file_of_other_weights_is_another(tmp_path: Path) -> None:
    for seed in (1, 2):
        torch.manual_seed(seed)
        export(RefinerNetwork(width=6).eval(), tmp_path / str(seed) / REFINER.weights_file)
    one, other = (tmp_path / str(seed) / REFINER.weights_file for seed in (1, 2))
    assert one.read_bytes() != other.read_bytes()


@pytest.mark.parametrize("data", ["phantoms", "phantoms:x", "folder"])
def test_other_data_than_phantoms_is_refused(data: str, tmp_path: Path) -> None:
    assert train.main(["--data", data, "--run-dir", str(tmp_path)]) == 2
