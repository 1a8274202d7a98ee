"""Training of the reader: films, examples, loss, resuming, calibration, export."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from spinezoo_contract.errors import ConfigurationError, WeightsError
from spinezoo_namer import train
from spinezoo_namer.batches import Batch, Films, batch_of
from spinezoo_namer.calibrate import Said, calibration_error, count_threshold, name_threshold
from spinezoo_namer.examples import NONE, FilmKind, example_of
from spinezoo_namer.export import INPUTS, ROUNDED_TOLERANCE, export, named_input, some_input
from spinezoo_namer.loss import reading_loss
from spinezoo_namer.network import ABSENT_MOST, RIBS_BELIEVED, BothWays, ReaderNetwork, doubted
from spinezoo_namer.outlines import outlines_of, position_of, true_bodies
from spinezoo_namer.store import make_held_out_shard, make_store, read_store
from spinezoo_spine.built_in import load_built_in_card
from spinezoo_spine.column.reader.card import READER
from spinezoo_spine.column.reader.looking import FILM_PX, RIB_SPOTS, ReaderInput
from spinezoo_spine.column.reader.network import ColumnReader
from spinezoo_spine.column.reader.readings import (
    FROM_ABOVE,
    LUMBAR_COUNTS,
    Evidence,
    read_column,
)
from spinezoo_torchkit.checkpoints import save_state
from spinezoo_torchkit.exported import exported_weights
from spinezoo_torchkit.small_training import STATE_FILE, is_finished, loader, mix_with
from spinezoo_training.shards import read_record


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    make_store(folder, seed=5, patients=8, looks=1, workers=1)
    return folder


@pytest.fixture(scope="session")
def films(store: Path):
    return read_store(store)


def test_a_store_is_made_once_and_only_as_asked(store, films):
    before = sorted(path.stat().st_mtime_ns for path in store.iterdir())
    make_store(store, seed=5, patients=8, looks=1, workers=1)
    assert sorted(path.stat().st_mtime_ns for path in store.iterdir()) == before
    with pytest.raises(ConfigurationError, match="other numbers"):
        make_store(store, seed=6, patients=8, looks=1, workers=1)
    assert read_record(store)["seed"] == 5
    assert [film.view == "lateral" for film in films].count(False) == 1  # the eighth patient
    with pytest.raises(ConfigurationError, match="no examples"):
        read_store(store / "none")


def test_true_bodies_stand_in_order_from_below(films):
    for film in films:
        if film.view != "lateral":
            continue
        bodies = true_bodies(film.bodies, film.lumbar_count, *film.grey.shape)
        positions = [body.position for body in bodies]
        assert positions == sorted(set(positions))
        ys = [body.shape.centre_xy[1] for body in bodies if body.position >= 0]
        assert ys == sorted(ys, reverse=True)
        sizes = [body.shape.size_px for body in bodies if body.position > 0]
        assert 15 < np.median(sizes) < 40


@pytest.mark.parametrize(
    ("level", "count", "position"),
    [("S2", 5, -1), ("S1", 4, 0), ("L5", 5, 1), ("L6", 6, 1), ("T12", 4, 5), ("T9", 5, 9)],
)
def test_levels_count_from_s1(level, count, position):
    assert position_of(level, count) == position


def test_outlines_are_near_their_bodies(films):
    film = films[0]
    bodies = {b.position: b for b in true_bodies(film.bodies, film.lumbar_count, *film.grey.shape)}
    seen = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        for outline in outlines_of(list(bodies.values()), *film.grey.shape, rng):
            if outline.position is None:
                continue
            true = bodies[outline.position].shape
            away = math.dist(true.centre_xy, outline.place.shape.centre_xy) / true.size_px
            assert away < 0.6
            seen += 1
    assert seen > 200


def test_examples_say_positions_that_grow_and_repeat_themselves(films):
    kinds = set()
    for seed in range(40):
        film = films[seed % len(films)]
        example = example_of(film, np.random.default_rng(seed))
        again = example_of(film, np.random.default_rng(seed))
        np.testing.assert_array_equal(example.given.views, again.given.views)
        there = example.positions[example.positions != NONE]
        assert (np.diff(there) > 0).all()
        assert np.isfinite(example.given.views).all()
        assert len(example.positions) == len(example.given.views)
        kinds.add(example.kind)
        if film.view != "lateral":
            assert example.kind is FilmKind.NO_COLUMN
            assert not example.named
    assert FilmKind.LATERAL in kinds
    assert FilmKind.NO_COLUMN in kinds


def test_the_loss_is_the_probability_of_the_reading_that_serving_computes():
    rng = np.random.default_rng(1)
    spots = 6
    evidence = Evidence(
        rng.normal(0, 2, (spots, 8)),
        rng.normal(0, 2, (spots, 9)),
        rng.normal(0, 2, (spots, spots, 4)),
        np.log([0.1, 0.7, 0.2]),
    )
    best = read_column(evidence)
    positions = [NONE if p is None else p for p in best.best]

    def padded(array: np.ndarray, spot_axes: int) -> torch.Tensor:
        widths = [(0, 2)] * spot_axes + [(0, 0)] * (array.ndim - spot_axes)
        return torch.from_numpy(np.pad(array, widths))[None]

    real = torch.tensor([[True] * spots + [False] * 2])
    loss = reading_loss(
        padded(evidence.below, 1),
        padded(evidence.above, 1),
        padded(evidence.steps, 2),
        torch.from_numpy(evidence.counts),
        real,
        torch.tensor([positions + [NONE] * 2]),
        torch.tensor([LUMBAR_COUNTS.index(best.lumbar_count)]),
    )
    assert math.exp(-float(loss)) == pytest.approx(best.best_probability)


def talking(network: ReaderNetwork) -> ReaderNetwork:
    """Layers that say nothing before they have learnt say something."""
    torch.manual_seed(0)
    for parameter in network.ribs[-1].parameters():
        torch.nn.init.normal_(parameter)
    return network.eval()


def test_films_of_a_batch_are_answered_as_each_alone(films):
    network = talking(ReaderNetwork())
    examples = [example_of(film, np.random.default_rng(3)) for film in films[:4]]
    batch = batch_of(examples)
    with torch.no_grad():
        together = network.of_batch(*batch.given)
        for row, example in enumerate(examples):
            given = example.given
            alone = network(*(torch.from_numpy(named_input(given)[name]) for name in INPUTS))
            spots = len(example.positions)
            for place in (0, 1):
                own = together[place][row, :spots]
                torch.testing.assert_close(own, alone[place], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(together[4][row], alone[4], atol=1e-4, rtol=1e-4)


def test_an_epoch_has_the_same_batches_whoever_makes_them(films):
    epoch = Films(films, seed=1, epoch=0, batch_size=2)
    here = [batch.positions for batch in loader(epoch, 0)]
    there = [batch.positions for batch in loader(epoch, 1)]
    assert len(here) == len(epoch) == 4
    for one, other in zip(here, there, strict=True):
        torch.testing.assert_close(one, other)


def test_a_run_that_stops_goes_on_to_the_same_weights(films, tmp_path):
    settings = train.Settings(epochs=2, batch_size=4, patients=8, width=4)
    torch.set_num_threads(1)
    whole, _ = train.fit(settings, films, make(tmp_path / "whole"), workers=0)
    folder = make(tmp_path / "stopped")
    stopped = 0
    loss = train.loss_of

    def stop_or(network: ReaderNetwork, batch: Batch, precision: str) -> object:
        nonlocal stopped
        stopped += 1
        if stopped > len(films) // 4:
            raise KeyboardInterrupt
        return loss(network, batch, precision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "loss_of", stop_or)
        with pytest.raises(KeyboardInterrupt):
            train.fit(settings, films, folder, workers=0)
    resumed, _ = train.fit(settings, films, folder, workers=0)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)
    assert len((folder / "log.jsonl").read_text().splitlines()) == 2
    with pytest.raises(ConfigurationError, match="other settings"):
        train.fit(train.Settings(epochs=3, width=4), films, folder, workers=0)


def test_a_run_ends_by_the_clock_and_is_finished_then(films, tmp_path, monkeypatch):
    settings = train.Settings(epochs=50, batch_size=4, patients=8, width=4, most_minutes=1e-4)
    assert not is_finished(tmp_path, settings)
    network, trained = train.fit(settings, films, tmp_path, workers=0, about={"films": len(films)})
    assert trained.examples < 50 * len(films)
    assert trained.minutes >= settings.most_minutes
    assert is_finished(tmp_path, settings)
    monkeypatch.setattr(train, "Films", None)  # its films are not asked for again
    again, same = train.fit(settings, [], tmp_path, workers=0)
    assert same == trained
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, msg=name)


def test_a_run_begins_with_the_weights_of_another(films, tmp_path):
    settings = train.Settings(epochs=1, batch_size=4, patients=8, width=4)
    first, _ = train.fit(settings, films, make(tmp_path / "first"), workers=0)
    still = train.Settings(epochs=1, batch_size=4, patients=8, width=4, learning_rate=0.0)
    start = tmp_path / "first"
    second, trained = train.fit(still, films, make(tmp_path / "second"), workers=0, start=start)
    for name, value in first.named_parameters():
        if name != "counts":  # these are fixed when a training ends
            torch.testing.assert_close(second.get_parameter(name), value, msg=name)
    assert trained.about["began_with"]["examples_seen"] == len(films) // 4 * 4
    wider = train.Settings(epochs=1, batch_size=4, patients=8, width=8)
    with pytest.raises(ConfigurationError, match="another network"):
        train.fit(wider, films, make(tmp_path / "third"), workers=0, start=start)
    with pytest.raises(ConfigurationError, match="no run and no card to begin with"):
        train.fit(settings, films, make(tmp_path / "fourth"), workers=0, start=tmp_path)


def test_where_only_views_are_learnt_names_stay_as_they_are(films, tmp_path):
    settings = train.Settings(epochs=1, batch_size=4, patients=8, width=4)
    train.fit(settings, films, make(tmp_path / "first"), workers=0)
    before, _ = train.fit(settings, films, tmp_path / "first", workers=0)
    views = train.Settings(epochs=2, batch_size=4, patients=8, width=4, parts="views")
    start = tmp_path / "first"
    after, _ = train.fit(views, films, make(tmp_path / "second"), workers=0, start=start)
    learnt = set()
    for name, value in before.state_dict().items():
        if not torch.equal(after.state_dict()[name], value):
            learnt.add(name.partition(".")[0])
    assert learnt == {"whole", "kind"}


def test_where_only_ribs_are_learnt_the_rest_stays_and_begins_with_a_card(films, tmp_path):
    """The file that travels with the package is all that such a training needs."""
    torch.manual_seed(1)
    card, network = tmp_path / "card", ReaderNetwork()
    shipped = [example_of(film, np.random.default_rng(0)).given for film in films]
    (card / "weights").mkdir(parents=True)
    export(BothWays(network).eval(), card / "weights" / "reader.onnx", shipped)
    record = {"training": {"examples_seen": 7}}
    (card / "weights" / "reader.json").write_text(json.dumps(record))
    settings = train.Settings(epochs=2, batch_size=4, patients=8, parts="ribs", turned_share=0.0)
    after, trained = train.fit(settings, films, make(tmp_path / "run"), workers=0, start=card)
    assert trained.about["began_with"] == {"examples_seen": 7}
    before = ReaderNetwork()
    before.load_state_dict(
        exported_weights(card / "weights" / "reader.onnx", before.state_dict()), strict=True
    )
    learnt = {
        name.partition(".")[0]
        for name, value in before.state_dict().items()
        if not torch.equal(after.state_dict()[name], value)
    }
    assert learnt == {"ribs", "counts"}  # the latter are presumed when a training ends
    presumed = torch.log(torch.tensor(train.COUNT_SHARES))
    torch.testing.assert_close(after.counts.detach(), presumed)
    assert torch.equal(after.kind[-1].bias, before.kind[-1].bias)  # and turned films favoured once
    given = [torch.from_numpy(named_input(shipped[0])[name]) for name in INPUTS]
    with torch.no_grad():
        own, its = network.eval()(*given), before.eval()(*given)
    for one, other in zip(own, its, strict=True):  # apart from what 8 bits move
        torch.testing.assert_close(one, other, atol=0.1, rtol=0.05)
    with pytest.raises(ConfigurationError, match="no run and no card"):
        train.fit(settings, films, make(tmp_path / "other"), workers=0, start=tmp_path)


@pytest.mark.parametrize(
    "outline",
    [
        [[10.0, 0.0], [30.0, 0.0], [30.0, 1e-4], [10.0, 0.0]],
        [[10.0, 10.0], [30.0, 30.0], [30.0, 10.0], [10.0, 30.0]],
    ],
)
def test_an_outline_that_is_left_without_a_shape_is_no_body(films, outline):
    film = next(film for film in films if film.view == "lateral")
    height, width = film.grey.shape
    cut = replace(film.bodies[-1], outline=np.array(outline))
    seen = true_bodies([*film.bodies[:-1], cut], film.lumbar_count, height, width)
    others = true_bodies(film.bodies[:-1], film.lumbar_count, height, width)
    assert [body.position for body in seen] == [body.position for body in others]


def test_what_a_film_shows_is_learnt_anew_by_layers_of_any_form(films, tmp_path):
    settings = train.Settings(epochs=1, batch_size=4, patients=8, width=4)
    other = ReaderNetwork(4)
    other.whole[0] = torch.nn.Conv2d(1, 5, 3)
    tensors = {f"network.{name}": value for name, value in other.state_dict().items()}
    record = {"settings": asdict(settings), "about": {}, "minutes": 0.0, "examples": 0}
    start = make(tmp_path / "first")
    save_state(start / STATE_FILE, tensors, record)
    views = replace(settings, parts="views")
    after, _ = train.fit(views, films, make(tmp_path / "second"), workers=0, start=start)
    torch.testing.assert_close(after.spot.state_dict(), other.spot.state_dict())
    with pytest.raises(ConfigurationError, match="another network"):
        train.fit(settings, films, make(tmp_path / "third"), workers=0, start=start)


def test_weights_that_are_learnt_anew_are_not_mixed_with_others(tmp_path, capsys):
    words = ["--run-dir", str(tmp_path / "run"), "--parts", "views", "--share", "0.5"]
    assert train.main([*words, "--start", str(tmp_path)]) != 0
    assert "leave --share out" in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("films*"))  # refused before films are made


def test_frontal_films_are_looked_at_as_often_as_asked(films):
    frontal = [film.view != "lateral" for film in films]
    for share in (0.0, 0.3, 0.5):
        order = Films(films, 1, 0, 1, frontal_share=share).order
        seen = np.mean([frontal[place] for place in order])
        assert seen >= share
        assert seen < share + 0.15
    looks = [batch.given[4] for batch in Films([films[7]] * 2, 1, 0, 1)]
    assert not torch.equal(*looks)  # each look has chances of its own


def test_further_patients_are_all_from_the_front(tmp_path):
    arguments = Namespace(store=tmp_path, run_dir=tmp_path / "run", workers=1)
    settings = train.Settings(films_seed=5, frontal_patients=3)
    films = read_store(train.make_frontal(arguments, settings))
    assert {film.view for film in films} == {"anteroposterior"}
    assert {film.name.split("-")[2] for film in films} == {"0", "1", "2"}


def test_films_from_the_front_are_shown_turned_to_learn_from_and_show_no_column(films):
    film = next(film for film in films if film.view != "lateral")
    wide = film.grey.shape[1] > film.grey.shape[0]
    seen = []
    for disguise in (True, False):
        looks = [
            example_of(film, np.random.default_rng(n), disguise=disguise, turned_share=1.0)
            for n in range(12)
        ]
        assert {look.kind for look in looks} == {FilmKind.NO_COLUMN}
        assert not any(look.named for look in looks)
        rows = [np.flatnonzero(look.given.film[0, 0].any(axis=1)).size for look in looks]
        seen.append({(count < FILM_PX) != wide for count in rows})
    assert len(seen[0]) == 2
    assert len(seen[1]) == 1


def test_the_exported_reader_says_the_same_of_a_mirrored_film(tmp_path):
    torch.manual_seed(0)
    network = talking(ReaderNetwork(width=4))
    with torch.no_grad():
        for value in network.look.parameters():
            value.mul_(2.0)  # a new network hardly looks at its views
    export(BothWays(network).eval(), tmp_path / "reader.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "reader.onnx"))
    views, facts, pairs, outlined, film, ribs = some_input(6, seed=3)
    said = []
    for given in (
        (views, facts, pairs, outlined, film, ribs),
        (views.flip(-1), facts, pairs, outlined, film.flip(-1), ribs.flip(-1)),
    ):
        named = dict(zip(INPUTS, (each.numpy() for each in given), strict=True))
        said.append(session.run(None, named))
    with torch.no_grad():
        alone = network(views, facts, pairs, outlined, film, ribs)
    for one, other in zip(*said, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    assert np.abs(said[0][0] - alone[0].numpy()).max() > 1e-3  # one look alone says otherwise


def test_films_to_calibrate_on_are_not_those_to_learn_from(store, tmp_path):
    make_store(tmp_path, seed=5, patients=8, looks=1, workers=1, make=make_held_out_shard)
    learnt = [film.lumbar_count for film in read_store(store)]
    held_out = [film.lumbar_count for film in read_store(tmp_path)]
    assert sum(count != 5 for count in held_out) < sum(count != 5 for count in learnt)


def test_half_precision_learns_nearly_the_same(films):
    torch.manual_seed(0)
    network = ReaderNetwork(width=8, dropout=0.0).eval()
    batch = batch_of([example_of(film, np.random.default_rng(3)) for film in films[:4]])
    whole, half = (train.loss_of(network, batch, each)[0] for each in ("float32", "bfloat16"))
    assert half.item() != whole.item()
    assert half.item() == pytest.approx(whole.item(), rel=0.02)
    half.backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_the_exported_file_answers_as_the_network_for_any_number_of_spots(tmp_path):
    torch.manual_seed(2)
    network = talking(ReaderNetwork(width=4))
    export(network, tmp_path / "reader.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "reader.onnx"))
    for spots in (1, 5, 6, 9, 14):
        given = some_input(spots, seed=4)
        said = session.run(None, {n: t.numpy() for n, t in zip(INPUTS, given, strict=True)})
        with torch.no_grad():
            own = network(*given)
            silent = network(*given[:-1], torch.zeros_like(given[-1]))
        for ours, its in zip(own, said, strict=True):
            np.testing.assert_allclose(ours.numpy(), its, atol=1e-4)
        heard = (own[1] != silent[1]).any(dim=1).nonzero()[:, 0].tolist()
        assert heard == list(range(spots))[RIB_SPOTS]


def test_wide_convolutions_are_of_bytes_that_no_processor_overflows(films, tmp_path, monkeypatch):
    torch.manual_seed(2)
    network = BothWays(ReaderNetwork(width=8)).eval()
    examples = [
        example_of(film, np.random.default_rng(place)).given for place, film in enumerate(films)
    ]
    plain, rounded = tmp_path / "plain.onnx", tmp_path / "rounded.onnx"
    export(network, plain)
    export(network, rounded, examples)
    kernels = [
        numpy_helper.to_array(each)
        for each in onnx.load(rounded).graph.initializer
        if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4
    ]
    assert len(kernels) == 11  # all but the first ones and those of the whole film
    assert max(int(np.abs(kernel.astype(int)).max()) for kernel in kernels) == 64
    given = named_input(examples[0])
    one, other = (onnxruntime.InferenceSession(str(p)).run(None, given) for p in (plain, rounded))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=ROUNDED_TOLERANCE)
    monkeypatch.setattr("spinezoo_namer.export.ROUNDED_TOLERANCE", 1e-9)
    with pytest.raises(WeightsError, match="8 bits move"):
        export(network, rounded, examples)


def test_both_looks_in_one_pass_are_the_mean_of_two():
    torch.manual_seed(0)
    network = talking(ReaderNetwork(width=4))
    views, facts, pairs, outlined, film, ribs = some_input(8, seed=3)
    with torch.no_grad():
        plain = network(views, facts, pairs, outlined, film, ribs)
        mirrored = network(views.flip(-1), facts, pairs, outlined, film.flip(-1), ribs.flip(-1))
        both = BothWays(network)(views, facts, pairs, outlined, film, ribs)
        of_ribs = (network.ribs(ribs) + network.ribs(ribs.flip(-1))) / 2.0
    means = [(one + other) / 2.0 for one, other in zip(plain, mirrored, strict=True)]
    means[1][RIB_SPOTS] += doubted(RIBS_BELIEVED * of_ribs) - of_ribs
    for mean, said in zip(means, both, strict=True):
        torch.testing.assert_close(mean, said)


def test_a_rib_that_is_not_seen_says_little_and_one_that_is_seen_all():
    lumbar = torch.tensor([[0.0, 5.0, 5.0, 6.0, -4.0, -6.0, -9.0, -9.0, -9.0]])
    thoracic = -lumbar
    alike = torch.zeros(1, FROM_ABOVE)
    for said, same in ((lumbar, False), (thoracic, True), (alike, True)):
        kept = doubted(said)
        torch.testing.assert_close(kept[:, :4], said[:, :4])
        against = kept[:, :4].logsumexp(1) - kept[:, 4:].logsumexp(1)
        assert float(against) <= ABSENT_MOST + 1e-5
        # What tells thoracic vertebrae apart stays.
        torch.testing.assert_close(kept[:, 4:].log_softmax(1), said[:, 4:].log_softmax(1))
        assert torch.allclose(kept, said) == same


def test_what_is_finished_is_a_card_that_serving_loads(films, tmp_path):
    torch.manual_seed(2)
    network = ReaderNetwork(width=4).eval()
    (tmp_path / "card.yaml").write_text("name: r\nversion: 0.0.1\nlicense: MIT\nnotes: none\n")
    record = train.finish(
        network, train.Settings(width=4), [films, films], tmp_path, {"real_films_trained_on": 0}
    )
    card = load_built_in_card(READER, tmp_path)
    assert card.weights_path == tmp_path / READER.weights_file
    assert ColumnReader(card).calibration.threshold == record["calibration"]["threshold"]
    assert json.dumps(card.metrics)
    reader = ColumnReader(card)
    given: ReaderInput = example_of(films[0], np.random.default_rng(0)).given
    assert reader(given).views.sum() == pytest.approx(1.0)


def test_thresholds_and_calibration_follow_the_names():
    confidence = np.array([0.99] * 95 + [0.7] * 5)
    right = np.array([True] * 95 + [False] * 5)
    names = Said(confidence, right, np.zeros(100), np.ones(100, bool))
    assert 0.7 < name_threshold(names) <= 0.72
    assert calibration_error(names) == pytest.approx(0.95 * 0.01 + 0.05 * 0.7)
    sure = Said(confidence, np.ones(100, bool), np.zeros(100), np.ones(100, bool))
    assert name_threshold(sure) == 0.5
    # Names presume five lumbar vertebrae; counts must hold for patients with four and six too.
    other = Said(confidence, right, np.zeros(100), np.zeros(100, bool))
    assert name_threshold(other) == 0.5
    assert 0.7 < count_threshold(other) <= 0.72


def test_the_command_refuses_what_it_cannot_use(tmp_path, capsys):
    assert train.main(["--data", "folder", "--run-dir", str(tmp_path)]) == 2
    assert "phantoms:SEED" in capsys.readouterr().err


def test_careless_outlines_miss_the_ends_and_cut_the_sacrum_elsewhere(films):
    film = next(each for each in films if {"S1", "S2"} <= {body.level for body in each.bodies})
    bodies = true_bodies(film.bodies, film.lumbar_count, *film.grey.shape)
    true = {body.position: body.shape for body in bodies}

    def tally(*, rough: bool) -> tuple[float, float]:
        missed, on_none = [], []
        for seed in range(400):
            rng = np.random.default_rng(seed)
            found = outlines_of(bodies, *film.grey.shape, rng, whole=True, rough=rough)
            positions = [each.position for each in found if each.position is not None]
            assert len(positions) == len(set(positions))
            missed.append(0 not in positions)
            none = [each.place.shape.centre_xy for each in found if each.position is None]
            away = [math.dist(at, true[p].centre_xy) for at in none for p in (0, -1)]
            on_none.append(min(away, default=math.inf) < 0.8 * true[0].size_px)
        return float(np.mean(missed)), float(np.mean(on_none))

    (missed, on_none), (missed_rough, on_none_rough) = tally(rough=False), tally(rough=True)
    assert missed_rough > missed + 0.1
    assert on_none_rough > on_none + 0.1


def test_weights_are_kept_of_the_run_that_a_training_began_with(films, tmp_path):
    first = train.Settings(epochs=1, batch_size=4, patients=8, width=4)
    before, _ = train.fit(first, films, make(tmp_path / "first"), workers=0)
    second = train.Settings(seed=2, epochs=1, batch_size=4, patients=8, width=4)
    after, _ = train.fit(
        second, films, make(tmp_path / "second"), workers=0, start=tmp_path / "first"
    )
    name = "look.0.0.weight"
    old, new = before.state_dict()[name].clone(), after.state_dict()[name].clone()
    assert not torch.allclose(old, new, atol=1e-5)
    mix_with(after, tmp_path / "first", 0.3)
    torch.testing.assert_close(after.state_dict()[name], 0.7 * old + 0.3 * new)
