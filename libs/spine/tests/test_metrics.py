from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment
from spinezoo_contract.errors import AnnotationError, BadInputError, MaskError
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import MetricDirection, Segment, SegmentKind, Structure
from spinezoo_spine.metrics.film import FilmMeasurement, measure_film
from spinezoo_spine.metrics.matching import match_objects
from spinezoo_spine.metrics.registry import METRICS, STUDY_METRICS, MetricSpec, WhenEmpty
from spinezoo_spine.metrics.study import confusion_matrix, study_metrics
from spinezoo_spine.metrics.tally import Tally

LUMBAR, SACRAL, SCREW = Structure.LUMBAR_VERTEBRA, Structure.SACRAL_VERTEBRA, Structure.SCREW


def segment(pixels, structure=LUMBAR, kind=SegmentKind.INSTANCE):
    mask = encode_mask(np.asarray(pixels).astype(bool))
    return Segment(structure, kind, mask, 0.5, mask_box(mask))


def block(top, left, rows, columns, structure=LUMBAR, kind=SegmentKind.INSTANCE, size=(40, 30)):
    pixels = np.zeros(size, dtype=bool)
    pixels[top : top + rows, left : left + columns] = True
    return segment(pixels, structure, kind)


def study(truth, prediction, classes=2):
    m = study_metrics(confusion_matrix(np.asarray(truth), np.asarray(prediction), classes))
    return (m.pixel_accuracy, m.mean_accuracy, m.mean_iou, m.frequency_weighted_iou)


def label_map(share, value=1):
    """10 x 10, ``share`` of it ``value``."""
    flat = np.zeros(100, dtype=np.uint8)
    flat[: round(share * 100)] = value
    return flat.reshape(10, 10)


def by_loop(truth, prediction, class_count):
    """The definitions of the study's four, class by class, on pixels."""
    in_truth = [c for c in range(class_count) if (truth == c).any()]
    in_either = [c for c in range(class_count) if (truth == c).any() or (prediction == c).any()]
    both = {c: int(((truth == c) & (prediction == c)).sum()) for c in in_either}
    true = {c: int((truth == c).sum()) for c in in_either}
    predicted = {c: int((prediction == c).sum()) for c in in_either}
    iou = {c: both[c] / (true[c] + predicted[c] - both[c]) for c in in_either}
    return (
        sum(both[c] for c in in_truth) / sum(true[c] for c in in_truth),
        sum(both[c] / true[c] for c in in_truth) / len(in_truth),
        sum(iou.values()) / len(in_truth),
        sum(true[c] * iou[c] for c in in_either) / truth.size,
    )


# --- The study's four: each written consequence by name ---


def test_truth_all_background_with_9_percent_false_foreground():
    assert study(label_map(0), label_map(0.09)) == pytest.approx((0.91,) * 4, abs=1e-15)


def test_truth_with_36_percent_foreground_all_missed():
    values = study(label_map(0.36), label_map(0))
    assert values == pytest.approx((0.64, 0.5, 0.32, 0.4096), abs=1e-15)


def test_all_of_class_1_painted_as_class_2():
    values = study(label_map(0.36), label_map(0.36, 2), classes=3)
    assert values == pytest.approx((0.64, 0.5, 0.5, 0.64), abs=1e-15)


@pytest.mark.parametrize("share", [0.0, 0.36, 1.0])
def test_identical_masks_are_perfect(share):
    assert study(label_map(share), label_map(share)) == (1.0, 1.0, 1.0, 1.0)


def test_a_false_class_only_costs_the_pixels_it_takes():
    truth, prediction = label_map(0.36), label_map(0.36)
    prediction[-1, :5] = 2  # a class that the truth does not have, on background
    background_iou = (64 - 5) / 64
    assert study(truth, prediction, classes=3)[2] == (background_iou + 1.0) / 2


def test_swapping_truth_and_prediction_changes_the_result():
    truth, prediction = label_map(0.36), label_map(0)
    assert study(truth, prediction) != study(prediction, truth)
    assert study(prediction, truth) == pytest.approx((0.64,) * 4, abs=1e-15)


def test_frequency_weighted_iou_weights_by_frequency_not_by_class():
    truth, prediction = label_map(0.10), label_map(0.05)
    _, _, mean_iou, weighted = study(truth, prediction)
    assert weighted == pytest.approx(0.9 * (90 / 95) + 0.1 * 0.5)
    assert abs(weighted - mean_iou) > 0.1


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 20), st.integers(1, 20), st.integers(1, 20))
def test_equals_the_loop_over_classes(seed, classes, height, width):
    rng = np.random.default_rng(seed)
    used = rng.integers(1, classes + 1)
    truth = rng.integers(0, used, (height, width)).astype(rng.choice([np.uint8, np.int64]))
    prediction = np.where(rng.random((height, width)) < 0.6, truth, rng.integers(0, classes))
    expected = by_loop(truth, prediction, classes)
    assert study(truth, prediction, classes) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([np.bool_, np.uint8, np.int8, np.uint16, np.int64]),
    st.sampled_from([np.bool_, np.uint8, np.int32]),
)
def test_binary_counts_equal_bincount_for_every_type(seed, truth_type, prediction_type):
    rng = np.random.default_rng(seed)
    truth = (rng.random((7, 9)) < 0.5).astype(truth_type)
    prediction = (rng.random((7, 9)) < 0.5).astype(prediction_type)[:, ::1]
    expected = np.bincount((truth.astype(int) * 2 + prediction).ravel(), minlength=4).reshape(2, 2)
    np.testing.assert_array_equal(confusion_matrix(truth, prediction), expected)
    view = np.repeat(truth, 2, axis=1)[:, ::2]  # not contiguous
    np.testing.assert_array_equal(confusion_matrix(view, prediction), expected)


@pytest.mark.parametrize("size", [(256, 256), (255, 259), (1, 70001)])
def test_large_label_maps_count_every_pixel(size):
    rng = np.random.default_rng(3)
    truth, prediction = rng.integers(0, 6, (2, *size)).astype(np.uint8)
    expected = np.zeros((6, 6), dtype=np.int64)
    np.add.at(expected, (truth, prediction), 1)
    np.testing.assert_array_equal(confusion_matrix(truth, prediction, 6), expected)


def test_many_classes_do_not_overflow():
    truth = np.arange(300, dtype=np.int64).reshape(15, 20)
    matrix = confusion_matrix(truth, truth, 300)
    assert matrix.shape == (300, 300)
    assert np.array_equal(matrix, np.eye(300, dtype=np.int64))


@pytest.mark.parametrize("which", ["truth", "prediction"])
def test_a_mask_encoded_0_255_is_refused(which):
    masks = {"truth": label_map(0.3), "prediction": label_map(0.3)}
    masks[which] = masks[which] * np.uint8(255)
    with pytest.raises(MaskError, match=f"{which} holds the value 255.*divide it by 255"):
        confusion_matrix(masks["truth"], masks["prediction"])


def test_masks_of_different_sizes_are_refused():
    with pytest.raises(MaskError, match=r"10 x 10.*10 x 9"):
        confusion_matrix(label_map(0.3), label_map(0.3)[:, 1:])


@pytest.mark.parametrize(
    ("mask", "classes", "message"),
    [
        (np.full((2, 2), 6), 6, "holds the value 6"),
        (np.full((2, 2), -1), 6, "holds the value -1"),
        (np.full((2, 2), 0.5), 2, "type float64"),
        (np.zeros((0, 3), dtype=np.uint8), 2, "shape"),
        (np.zeros((2, 2, 2), dtype=np.uint8), 2, "shape"),
        (np.zeros((2, 2), dtype=np.uint8), 1, "class_count is 1"),
    ],
)
def test_what_is_no_label_map_is_refused(mask, classes, message):
    with pytest.raises(MaskError, match=message):
        confusion_matrix(mask, mask, classes)


@pytest.mark.parametrize("matrix", [[[0, 0], [0, 0]], [[1, 2]]])
def test_metrics_of_no_pixels_are_refused(matrix):
    with pytest.raises(MaskError):
        study_metrics(matrix)


# --- Recognition: named geometries ---

TRUTH = tuple(block(2 + 9 * i, 5, 8, 12) for i in range(4))


def vertebrae(truth, prediction):
    values = measure_film(truth, prediction, 40, 30).values()
    return (
        values["vertebra_recognition_rate"],
        values["vertebra_precision"],
        values["vertebra_f1"],
        values["vertebra_segmentation_quality"],
        values["vertebra_panoptic_quality"],
    )


def test_identical_vertebrae_are_all_recognised():
    assert vertebrae(TRUTH, TRUTH[::-1]) == (1.0, 1.0, 1.0, 1.0, 1.0)


def test_a_missed_vertebra():
    assert vertebrae(TRUTH, TRUTH[1:]) == (0.75, 1.0, 6 / 7, 1.0, 6 / 7)


def test_an_extra_vertebra():
    extra = block(2, 20, 8, 8)
    assert vertebrae(TRUTH, (*TRUTH, extra)) == (1.0, 0.8, 8 / 9, 1.0, 8 / 9)


def test_fused_vertebrae_are_not_recognised_though_the_merged_mask_is_perfect():
    pixels = np.zeros((40, 30), dtype=bool)
    pixels[2:38, 5:17] = True
    touching = [block(2 + 9 * i, 5, 9, 12) for i in range(4)]
    film = measure_film(touching, [segment(pixels, kind=SegmentKind.REGION)], 40, 30)
    values = film.values()
    assert values["mean_iou"] == 1.0
    assert values["vertebra_recognition_rate"] == 0.0
    assert film.vertebrae.predicted_count == 1


def test_a_region_counts_by_its_components():
    pixels = np.zeros((40, 30), dtype=bool)
    for i in range(4):
        pixels[2 + 9 * i : 10 + 9 * i, 5:17] = True
    assert vertebrae(TRUTH, [segment(pixels, kind=SegmentKind.REGION)])[0] == 1.0


def test_iou_of_exactly_one_half_matches_and_just_below_does_not():
    true = block(0, 0, 10, 10)
    half = block(0, 0, 10, 5)  # 50 of 100
    assert vertebrae([true], [half])[:2] == (1.0, 1.0)
    pixels = np.zeros((40, 30), dtype=bool)
    pixels[0:10, 0:5] = True
    pixels[0, 0] = False  # 49 of 100
    assert vertebrae([true], [segment(pixels)])[:2] == (0.0, 0.0)


def test_two_predictions_of_one_vertebra_match_once():
    assert vertebrae(TRUTH[:1], (TRUTH[0], TRUTH[0]))[:2] == (1.0, 0.5)


def test_most_matches_come_before_the_best_overlap():
    # a fits both true ones, and true 1 better; b fits true 1 only. Greedy by IoU would match one.
    true_1, true_2 = block(0, 0, 10, 12), block(3, 0, 10, 12)
    a, b = block(1, 0, 10, 12), block(0, 0, 6, 12)
    ious = {
        (name, number): match_objects([t], [p]).matched_ious
        for (name, p), (number, t) in itertools.product(
            (("a", a), ("b", b)), ((1, true_1), (2, true_2))
        )
    }
    assert ious["a", 1] > ious["a", 2] > ()
    assert ious["b", 2] == ()
    matches = match_objects([true_1, true_2], [a, b])
    assert matches.matched_ious == tuple(sorted(ious["a", 2] + ious["b", 1]))


def test_lumbar_called_sacral_is_a_recognised_vertebra_but_no_recognised_lumbar():
    wrong = [block(2 + 9 * i, 5, 8, 12, SACRAL) for i in range(4)]
    values = measure_film(TRUTH, wrong, 40, 30).values()
    assert values["vertebra_recognition_rate"] == 1.0
    assert values["recognition_rate_lumbar_vertebra"] == 0.0
    assert values["recognition_rate_sacral_vertebra"] is None
    assert values["iou_lumbar_vertebra"] == values["iou_sacral_vertebra"] == 0.0
    assert values["iou_cage"] is None


def test_a_screw_over_a_vertebra_takes_nothing_from_it():
    screw = block(4, 0, 2, 20, SCREW)
    values = measure_film([*TRUTH, screw], [*TRUTH, screw], 40, 30).values()
    assert values["iou_lumbar_vertebra"] == values["iou_screw"] == 1.0
    assert values["recognition_rate_screw"] == 1.0


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 5), st.integers(0, 5))
def test_matching_is_the_best_of_all_assignments(seed, true_count, predicted_count):
    rng = np.random.default_rng(seed)

    def objects(count):
        return [
            block(*rng.integers(0, 4, 2), *rng.integers(5, 9, 2), size=(12, 12))
            for _ in range(count)
        ]

    truth, prediction = objects(true_count), objects(predicted_count)
    short, long = sorted((truth, prediction), key=len)
    best = (0, 0.0)
    for chosen in itertools.permutations(long, len(short)):
        pairs = zip(short, chosen, strict=True)
        ious = [i for a, b in pairs for i in match_objects([a], [b]).matched_ious]
        best = max(best, (len(ious), math.fsum(ious)))
    matches = match_objects(truth, prediction)
    assert len(matches.matched_ious) == best[0]
    assert math.fsum(matches.matched_ious) == pytest.approx(best[1], abs=1e-9)
    assert (matches.true_count, matches.predicted_count) == (true_count, predicted_count)


# --- One film ---


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_run_lengths_count_what_pixels_count(seed):
    rng = np.random.default_rng(seed)
    masks = [
        [(Structure(int(rng.integers(1, 6))), rng.random((9, 7)) < 0.4) for _ in range(n)]
        for n in rng.integers(0, 5, 2)
    ]
    sides = [[segment(m, s) for s, m in side if m.any()] for side in masks]
    film = measure_film(*sides, 9, 7)
    united = [np.any([m for _, m in side] or [np.zeros((9, 7), bool)], axis=0) for side in masks]
    assert np.array_equal(film.merged, confusion_matrix(*united))
    for structure in Structure:
        t, p = (
            np.any([m for s, m in side if s is structure] or [np.zeros((9, 7), bool)], axis=0)
            for side in masks
        )
        counts = film.pixels[structure.name.lower()]
        assert (counts.both, counts.truth, counts.prediction) == (
            int((t & p).sum()),
            int(t.sum()),
            int(p.sum()),
        )


@pytest.mark.parametrize("side", [0, 1])
def test_a_mask_of_another_size_is_refused(side):
    sides = [[TRUTH[0]], [TRUTH[0]]]
    sides[side] = [block(0, 0, 5, 5, size=(39, 30))]
    with pytest.raises(MaskError, match=("truth", "prediction")[side] + " is 39 x 30"):
        measure_film(*sides, 40, 30)


def test_an_unknown_structure_is_refused():
    strange = Segment(9, SegmentKind.INSTANCE, TRUTH[0].mask, 1.0, TRUTH[0].box)
    with pytest.raises(AnnotationError, match="prediction holds the structure 9"):
        measure_film(TRUTH, [strange], 40, 30)


# --- What each metric is ---

SOME = [block(2, 5, 8, 12, structure) for structure in Structure]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("case", "truth", "prediction"),
    [("only_prediction", [], SOME), ("only_truth", SOME, []), ("both_empty", [], [])],
)
def test_empty_sets_follow_the_written_policy(name, case, truth, prediction):
    policy = getattr(METRICS[name], case)
    value = measure_film(truth, prediction, 40, 30).values()[name]
    if policy is WhenEmpty.FORMULA:
        assert value is not None
        assert 0.0 < value < 1.0
    else:
        assert value == {"0": 0.0, "1": 1.0, "undefined": None}[policy.value]


def test_every_metric_has_a_spec_in_one_order():
    values = measure_film(TRUTH, TRUTH, 40, 30).values()
    assert list(values) == list(METRICS) == list(Tally().metrics())
    assert set(STUDY_METRICS) <= set(METRICS)
    for name, spec in METRICS.items():
        assert spec.name == name
        assert (spec.minimum, spec.maximum, spec.unit) == (0.0, 1.0, "share")
        assert spec.direction is MetricDirection.HIGHER_IS_BETTER
        assert spec.title
        assert spec.definition.endswith(".")


# --- Tallies ---


@st.composite
def measurements(draw):
    seed = draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    films = []
    for _ in range(draw(st.integers(0, 8))):
        height, width = rng.integers(8, 30, 2)
        sides = []
        for _ in range(2):
            side = []
            for _ in range(rng.integers(0, 4)):
                pixels = np.zeros((height, width), dtype=bool)
                top, left = rng.integers(0, 6, 2)
                pixels[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = True
                side.append(segment(pixels, Structure(int(rng.integers(1, 4)))))
            sides.append(side)
        films.append(measure_film(*sides, int(height), int(width)))
    return films


@settings(max_examples=60, deadline=None)
@given(measurements(), st.randoms())
def test_films_add_up_the_same_in_any_order_and_grouping(films, random):
    whole = Tally.of(films)
    shuffled = random.sample(films, len(films))
    cut = random.randint(0, len(films))
    parts = [Tally.of(shuffled[:cut]), Tally.of(shuffled[cut:])]
    travelled = [Tally.from_json(json.loads(json.dumps(part.to_json()))) for part in parts]
    assert parts[0] + parts[1] == whole
    assert travelled[1] + travelled[0] == whole
    assert (travelled[1] + travelled[0]).metrics() == whole.metrics()
    assert sum(parts, Tally()).to_json() == whole.to_json()


@settings(max_examples=40, deadline=None)
@given(measurements())
def test_film_measurements_travel_as_json(films):
    for film in films:
        assert FilmMeasurement.from_json(json.loads(json.dumps(film.to_json()))) == film


@settings(max_examples=40, deadline=None)
@given(measurements())
def test_film_means_and_pooled_values(films):
    metrics = Tally.of(films).metrics()
    for name, value in metrics.items():
        own = [v for film in films if (v := film.values()[name]) is not None]
        assert value.film_count == len(own)
        if own:
            assert value.film_mean == pytest.approx(math.fsum(own) / len(own), abs=1e-15)
        else:
            assert value.film_mean is None
    if films:
        merged = np.sum([film.merged for film in films], axis=0)
        assert metrics["mean_iou"].pooled == study_metrics(merged).mean_iou
        true = sum(film.vertebrae.true_count for film in films)
        matched = sum(len(film.vertebrae.matched_ious) for film in films)
        rate = metrics["vertebra_recognition_rate"].pooled
        assert rate == (matched / true if true else None)


def test_film_mean_and_pooled_differ_and_are_both_offered():
    big = measure_film(
        [block(0, 0, 90, 90, size=(100, 100))], [block(0, 0, 90, 90, size=(100, 100))], 100, 100
    )
    small = measure_film([block(0, 0, 8, 8, size=(10, 10))], [], 10, 10)
    value = Tally.of([big, small]).metrics()["pixel_accuracy"]
    assert value.film_mean == (1.0 + 0.36) / 2
    assert value.pooled == (10000 + 36) / 10100


def test_failed_films_can_be_counted_as_0():
    tally = Tally.of([measure_film(TRUTH, TRUTH, 40, 30)] * 3)
    assert tally.film_mean("mean_iou") == 1.0
    assert tally.film_mean("mean_iou", failed_films=1) == 0.75
    assert Tally().film_mean("mean_iou") is None


def test_a_tally_stays_small():
    film = measure_film(TRUTH, [block(2, 5, 7, 12)], 40, 30)
    few, many = Tally.of([film] * 3), Tally.of([film] * 3000)
    assert len(json.dumps(many.to_json())) < len(json.dumps(few.to_json())) + 400


@pytest.mark.parametrize("data", [{}, {"film_count": 1}, {"merged": [[1]]}])
def test_what_is_no_tally_is_refused(data):
    with pytest.raises(BadInputError, match="measure"):
        Tally.from_json(data)
    with pytest.raises(BadInputError, match="measure"):
        FilmMeasurement.from_json(data)


def test_a_further_metric_is_one_record(monkeypatch):
    record = MetricSpec(
        "vertebra_miss_rate",
        "Vertebra miss rate",
        "Share of true vertebrae that no predicted one matches.",
        WhenEmpty.UNDEFINED,
        WhenEmpty.ONE,
        WhenEmpty.UNDEFINED,
        lambda counts: 1.0 - counts.vertebrae.matched / counts.vertebrae.true,
        direction=MetricDirection.LOWER_IS_BETTER,
    )
    monkeypatch.setitem(METRICS, record.name, record)
    truth = [block(0, 0, 10, 10), block(20, 0, 10, 10)]
    film = measure_film(truth, truth[:1], 40, 30)
    assert film.values()[record.name] == 0.5
    tally = Tally.of([film, measure_film(truth, truth, 40, 30)])
    value = Tally.from_json(json.loads(json.dumps(tally.to_json()))).metrics()[record.name]
    assert (value.film_mean, value.pooled, value.film_count) == (0.25, 0.25, 2)
    assert value.spec.direction is MetricDirection.LOWER_IS_BETTER


@pytest.mark.parametrize("seed", range(6))
def test_matching_in_groups_is_matching_of_all(seed):
    """The dense assignment over all pairs is the reference."""
    rng = np.random.default_rng(seed)

    def objects(count):
        return [
            block(int(y), int(x), int(h), int(w))
            for y, x, h, w in zip(
                rng.integers(0, 25, count),
                rng.integers(0, 18, count),
                rng.integers(3, 15, count),
                rng.integers(3, 12, count),
                strict=True,
            )
        ]

    truth, prediction = objects(40), objects(55)
    forms = [
        [{"size": [40, 30], "counts": s.mask.counts} for s in side] for side in (prediction, truth)
    ]
    overlaps = coco_mask.iou(*forms, [0] * len(truth))
    worth = np.where(overlaps >= 0.5, 100.0 + overlaps, 0.0)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    expected = overlaps[rows, columns][overlaps[rows, columns] >= 0.5]
    found = match_objects(truth, prediction).matched_ious
    assert len(found) == len(expected) > 5
    assert sum(found) == pytest.approx(expected.sum(), abs=1e-9)


def test_objects_far_apart_are_not_compared(monkeypatch):
    """Thousands of objects cost what their neighbours cost, not the square of their number."""
    compared = 0
    iou = coco_mask.iou

    def counted(first, second, crowd):
        nonlocal compared
        compared += len(first) * len(second)
        return iou(first, second, crowd)

    monkeypatch.setattr(coco_mask, "iou", counted)
    objects = [
        block(y, x, 3, 3, size=(400, 400)) for y in range(0, 400, 8) for x in range(0, 400, 8)
    ]
    matches = match_objects(objects, objects)
    assert matches.matched_ious == (1.0,) * 2500
    assert compared == 2500
