"""YOLACT's own parts: layout, priors, matching, losses, Fast NMS, masks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from spinezoo_serving.cards import load_card
from spinezoo_torchkit.loading import build_network
from spinezoo_yolact.boxes import box_window, decode_boxes, encode_boxes, pairwise_iou, to_corners
from spinezoo_yolact.detection import assemble_masks, detections_of, fast_nms
from spinezoo_yolact.losses import (
    class_loss,
    on_grid,
    positive_mask_losses,
    semantic_truth,
    yolact_losses,
)
from spinezoo_yolact.matching import NEUTRAL, match_batch
from spinezoo_yolact.network import BasicBlock, Yolact, level_priors, published_input
from spinezoo_yolact.outputs import Truth, YolactOutput
from torch import Tensor

ROOM = Path(__file__).parents[1]
PUBLISHED_SIZES = [(69, 69), (35, 35), (18, 18), (9, 9), (5, 5)]


def lite() -> Yolact:
    torch.manual_seed(0)
    return build_network(load_card(ROOM / "card.yaml", "lite"), Yolact)


# --- Layout of the published checkpoints ----------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "tensors", "millions"),
    [((3, 4, 6, 3), 354, 30.6), ((3, 4, 23, 3), 660, 49.6)],
    ids=["resnet50", "resnet101"],
)
def test_size_of_the_published_checkpoints(
    blocks: tuple[int, ...], tensors: int, millions: float
) -> None:
    with torch.device("meta"):
        network = Yolact(blocks=blocks)
    assert len(network.state_dict()) == tensors
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


def test_names_of_the_published_checkpoints() -> None:
    with torch.device("meta"):
        state = Yolact(blocks=(3, 4, 23, 3)).state_dict()
    modules = {name.rsplit(".", 1)[0] for name in state if not name.startswith("backbone")}
    assert modules == {
        *(f"proto_net.{index}" for index in (0, 2, 4, 8, 10)),
        *(f"fpn.{part}.{index}" for part in ("lat_layers", "pred_layers") for index in range(3)),
        *(f"fpn.downsample_layers.{index}" for index in range(2)),
        "prediction_layers.0.upfeature.0",
        *(f"prediction_layers.0.{part}" for part in ("bbox_layer", "conf_layer", "mask_layer")),
        "semantic_seg_conv",
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes["backbone.conv1.weight"] == (64, 3, 7, 7)
    assert shapes["backbone.layers.2.22.conv3.weight"] == (1024, 256, 1, 1)
    assert shapes["backbone.layers.3.0.downsample.0.weight"] == (2048, 1024, 1, 1)
    # Deepest first.
    assert [shapes[f"fpn.lat_layers.{index}.weight"][1] for index in range(3)] == [2048, 1024, 512]
    assert shapes["proto_net.10.weight"] == (32, 256, 1, 1)
    assert shapes["prediction_layers.0.bbox_layer.weight"] == (3 * 4, 256, 3, 3)
    assert shapes["prediction_layers.0.conf_layer.weight"] == (3 * 6, 256, 3, 3)
    assert shapes["prediction_layers.0.mask_layer.weight"] == (3 * 32, 256, 3, 3)
    assert shapes["semantic_seg_conv.bias"] == (5,)


def test_stride_lies_on_the_3x3_of_a_bottleneck() -> None:
    with torch.device("meta"):
        block = Yolact().backbone.layers[1][0]
    assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (2, 2))


def test_shapes_at_the_published_input() -> None:
    # On the meta device there is no arithmetic, only shapes.
    with torch.device("meta"):
        network = Yolact().eval()
        levels = network.fpn(network.backbone(torch.zeros(1, 3, 550, 550))[1:])
        prototypes = network.proto_net(levels[0])
    assert [tuple(level.shape[-2:]) for level in levels] == PUBLISHED_SIZES
    assert tuple(prototypes.shape) == (1, 32, 138, 138)
    assert len(network.priors(PUBLISHED_SIZES, 550, 550, torch.device("cpu"))) == 19248


def test_normalised_convolutions_keep_the_published_names() -> None:
    with torch.device("meta"):
        plain, normalised = Yolact().state_dict(), Yolact(normalise=True).state_dict()
    assert set(plain) < set(normalised)
    assert all(".norm." in name for name in set(normalised) - set(plain))


def test_lite_shapes() -> None:
    network = lite().eval()
    with torch.inference_mode():
        output = network(torch.zeros(2, 2, 320, 256))
    priors = 6 * (40 * 32 + 20 * 16 + 10 * 8)
    assert output.boxes.shape == (2, priors, 4)
    assert output.class_logits.shape == (2, priors, 6)
    assert output.coefficients.shape == (2, priors, 20)
    assert output.prototypes.shape == (2, 160, 128, 20)
    assert output.semantic_logits.shape == (2, 5, 80, 64)
    assert output.priors.shape == (priors, 4)
    assert float(output.prototypes.min()) >= 0.0
    assert float(output.coefficients.abs().max()) <= 1.0


def test_scales_that_do_not_fit_the_pyramid_are_refused() -> None:
    with pytest.raises(ValueError, match="5 pyramid levels"):
        Yolact(prior_scales_px=((24,), (48,)))
    with pytest.raises(ValueError, match="same length"):
        Yolact(prior_scales_px=((24,), (48, 60), (96,), (192,), (384,)))


def test_published_input() -> None:
    grey = np.full((40, 30), 128, dtype=np.uint8)
    x = published_input(grey)
    assert x.shape == (1, 3, 550, 550)
    expected = [(128 - 123.68) / 58.40, (128 - 116.78) / 57.12, (128 - 103.94) / 57.38]
    assert x[0, :, 7, 11].tolist() == pytest.approx(expected, abs=1e-5)  # red, green, blue


# --- Priors and boxes -----------------------------------------------------------------------------


def test_priors_are_row_major_and_square_where_published() -> None:
    priors = level_priors(2, 3, (55.0,), (1.0, 0.5, 2.0), 550, 550, square=True)
    assert priors.shape == (18, 4)
    assert priors[::3, 0].tolist() == pytest.approx([1 / 6, 3 / 6, 5 / 6] * 2)
    assert priors[::3, 1].tolist() == pytest.approx([0.25] * 3 + [0.75] * 3)
    widths = [0.1, 0.1 * math.sqrt(0.5), 0.1 * math.sqrt(2.0)]
    assert priors[:3, 2].tolist() == pytest.approx(widths)
    assert priors[:3, 3].tolist() == pytest.approx(widths)


def test_priors_of_a_film_that_is_not_square() -> None:
    priors = level_priors(1, 1, (32.0,), (2.0,), 320, 256, square=False)[0]
    width_px, height_px = float(priors[2]) * 256, float(priors[3]) * 320
    assert width_px / height_px == pytest.approx(2.0)
    assert width_px * height_px == pytest.approx(32.0**2, rel=1e-5)


def test_decode_of_zeros_is_the_prior_and_encode_inverts_decode() -> None:
    generator = torch.Generator().manual_seed(1)
    priors = torch.rand(50, 4, generator=generator) * 0.5 + 0.1
    assert torch.allclose(decode_boxes(torch.zeros(50, 4), priors), to_corners(priors))
    offsets = torch.randn(50, 4, generator=generator)
    again = encode_boxes(decode_boxes(offsets, priors), priors)
    assert torch.allclose(again, offsets, atol=1e-4)


def test_decode_by_hand() -> None:
    prior = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    offsets = torch.tensor([[1.0, -1.0, math.log(2.0) / 0.2, 0.0]])
    # Centre moves by 0.1 of the prior's sides; width doubles.
    expected = [0.52 - 0.2, 0.46 - 0.2, 0.52 + 0.2, 0.46 + 0.2]
    assert decode_boxes(offsets, prior)[0].tolist() == pytest.approx(expected)


def test_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    b = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    assert pairwise_iou(a, b)[0].tolist() == pytest.approx([1 / 7, 1.0, 0.0])


# --- Matching and losses --------------------------------------------------------------------------


def truth_of(boxes: list[list[float]], classes: list[int]) -> Truth:
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Truth(corners, torch.tensor(classes, dtype=torch.int64), torch.ones(len(boxes), 8, 8))


def centres_of(boxes: list[list[float]]) -> Tensor:
    corners = torch.tensor(boxes, dtype=torch.float32)
    return torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)


def match_priors(priors: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
    """One film's (P,) objects and class targets."""
    matched, target = match_batch(priors, [truth])
    return matched[0], target[0]


def test_thresholds_of_matching() -> None:
    truth = truth_of([[0.0, 0.0, 1.0, 0.5]], [3])
    # IoU 1, 0.6, 0.45, 0.3: best, positive, neutral, background.
    widths = [1.0, 0.6, 0.45, 0.3]
    priors = centres_of([[0.0, 0.0, width, 0.5] for width in widths])
    matched, target = match_priors(priors, truth)
    assert target.tolist() == [3, 3, NEUTRAL, 0]
    assert matched.tolist() == [0, 0, 0, 0]


def test_every_object_keeps_its_best_prior() -> None:
    truth = truth_of([[0.0, 0.0, 0.5, 0.5], [0.9, 0.9, 0.91, 0.91]], [1, 4])
    priors = centres_of([[0.0, 0.0, 0.5, 0.5], [0.8, 0.8, 1.0, 1.0], [0.3, 0.6, 0.5, 0.9]])
    matched, target = match_priors(priors, truth)
    assert target.tolist() == [1, 4, 0]  # an IoU of 0.0025 is enough where it is the best
    assert matched.tolist()[:2] == [0, 1]


def test_two_objects_that_want_one_prior_both_get_one() -> None:
    # Both overlap the first prior most; the closer one has it, the other takes its next best.
    truth = truth_of([[0.0, 0.0, 0.5, 0.5], [0.05, 0.0, 0.5, 0.5]], [1, 2])
    priors = centres_of([[0.0, 0.0, 0.5, 0.5], [0.2, 0.2, 0.7, 0.7]])
    matched, target = match_priors(priors, truth)
    assert matched.tolist() == [0, 1]
    assert target.tolist() == [1, 2]


def test_every_object_keeps_a_prior_on_random_films() -> None:
    rng = np.random.default_rng(0)
    network = lite()
    priors = network.priors([(40, 32), (20, 16), (10, 8)], 320, 256, torch.device("cpu"))
    for _ in range(5):
        low = rng.uniform(0.0, 0.9, (25, 2))
        boxes = np.concatenate([low, low + rng.uniform(0.01, 0.1, (25, 2))], axis=1)
        truth = truth_of(boxes.tolist(), list(rng.integers(1, 6, 25)))
        matched, target = match_priors(priors, truth)
        assert set(matched[target > 0].tolist()) == set(range(25))
        assert torch.equal(target[target > 0], truth.classes[matched[target > 0]])


def test_a_film_without_objects_is_all_background() -> None:
    matched, target = match_priors(centres_of([[0.0, 0.0, 1.0, 1.0]]), truth_of([], []))
    assert matched.tolist() == target.tolist() == [0]


def random_truth(rng: np.random.Generator, count: int, grid: tuple[int, int] = (8, 8)) -> Truth:
    """Boxes on a grid of twelfths, so that overlaps are often equal, and any masks."""
    low = rng.integers(0, 9, (count, 2))
    corners = np.concatenate([low, low + rng.integers(1, 4, (count, 2))], axis=1) / 12
    return Truth(
        torch.from_numpy(corners.astype(np.float32)),
        torch.from_numpy(rng.integers(1, 6, count)),
        torch.from_numpy(rng.integers(0, 2, (count, *grid)).astype(np.uint8)),
    )


def reference_match(priors: Tensor, truth: Truth) -> tuple[list[int], list[int]]:
    """The definition, pair by pair; of equal overlaps the first object, then the first prior."""
    iou = pairwise_iou(truth.boxes, to_corners(priors)).tolist()
    pairs = [(index, prior) for index in range(len(iou)) for prior in range(len(priors))]
    matched, target = [0] * len(priors), [0] * len(priors)
    for prior in range(len(priors)) if iou else ():
        best = max(range(len(iou)), key=lambda index: iou[index][prior])
        matched[prior] = best
        if iou[best][prior] >= 0.4:
            target[prior] = int(truth.classes[best]) if iou[best][prior] >= 0.5 else NEUTRAL
    served, taken = set(), set()
    for index, prior in sorted(pairs, key=lambda pair: -iou[pair[0]][pair[1]]):
        if index not in served and prior not in taken:
            served.add(index)
            taken.add(prior)
            matched[prior], target[prior] = index, int(truth.classes[index])
    return matched, target


@pytest.mark.parametrize("counts", [(0, 1, 25, 3), (4, 0, 0), (0, 0), (1,), (60, 2, 0, 7)])
def test_a_batch_is_matched_as_its_films_are(counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(counts))
    priors = level_priors(6, 6, (30.0,), (1.0,), 96, 96, square=True)  # fewer than 60
    for _ in range(5):
        truths = [random_truth(rng, count) for count in counts]
        matched, target = match_batch(priors, truths)
        assert matched.shape == target.shape == (len(counts), 36)
        for index, truth in enumerate(truths):
            alone, alone_target = match_priors(priors, truth)
            assert torch.equal(matched[index], alone)
            assert torch.equal(target[index], alone_target)
            expected = reference_match(priors, truth)
            assert (alone.tolist(), alone_target.tolist()) == expected


def reference_losses(output: YolactOutput, truths: list[Truth]) -> dict[str, Tensor]:
    """The losses without thinning, positive by positive."""
    height, width = output.prototypes.shape[1:3]
    box, mask, semantic = torch.zeros(3)
    targets, positives = [], 0
    for film, truth in enumerate(truths):
        matched, target = match_priors(output.priors, truth)
        targets.append(target)
        semantic_target = torch.zeros_like(output.semantic_logits[film])
        for index, structure in enumerate(truth.classes.tolist()):
            share = F.adaptive_avg_pool2d(
                truth.masks[None, index].float(), semantic_target.shape[-2:]
            )[0]
            semantic_target[structure - 1][share > 0.5] = 1.0
        semantic = semantic + F.binary_cross_entropy_with_logits(
            output.semantic_logits[film], semantic_target, reduction="sum"
        )
        for prior in (target > 0).nonzero()[:, 0].tolist():
            positives += 1
            index = int(matched[prior])
            corners = truth.boxes[[index]]
            offsets = encode_boxes(corners, output.priors[[prior]])[0]
            box = box + F.smooth_l1_loss(output.boxes[film, prior], offsets, reduction="sum")
            loss = F.binary_cross_entropy_with_logits(
                output.prototypes[film] @ output.coefficients[film, prior],
                on_grid(truth.masks, height, width)[index],
                reduction="none",
            )
            window = box_window(corners, height, width, 1.0)[0]
            x1, y1, x2, y2 = corners[0].tolist()
            area = max((x2 - x1) * width, 1.0) * max((y2 - y1) * height, 1.0)
            mask = mask + loss[window].sum() / area
    divisor = max(positives, 1)
    return {
        "box": 1.5 * box / divisor,
        "class": class_loss(output.class_logits, torch.stack(targets)) / divisor,
        "mask": 6.125 * mask / divisor,
        "semantic": semantic / output.semantic_logits[0, 0].numel() / len(truths),
    }


@pytest.mark.parametrize(
    "grids",
    [[(24, 20)] * 4, [(48, 40)] * 4, [(24, 20), (48, 40), (48, 40), (24, 20)]],
    ids=["grid of the prototypes", "finer grid", "several grids"],
)
def test_losses_are_their_definition(grids: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(7)
    truths = [random_truth(rng, n, grid) for n, grid in zip((5, 0, 11, 1), grids, strict=True)]
    generator = torch.Generator().manual_seed(8)
    priors = level_priors(12, 10, (12.0, 20.0), (1.0, 2.0), 96, 80, square=False)
    shapes = [(len(priors), 4), (len(priors), 6), (len(priors), 3), (24, 20, 3), (5, 12, 10)]
    leaves = [torch.randn(4, *shape, generator=generator).mul(4) for shape in shapes]
    output = YolactOutput(*(leaf.requires_grad_() for leaf in leaves), priors)
    losses, expected = yolact_losses(output, truths), reference_losses(output, truths)
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        assert float(loss.detach()) == pytest.approx(float(expected[name].detach()), rel=1e-5)
        found = torch.autograd.grad(loss, leaves, retain_graph=True, materialize_grads=True)
        wanted = torch.autograd.grad(
            expected[name], leaves, retain_graph=True, materialize_grads=True
        )
        for own, reference in zip(found, wanted, strict=True):
            assert torch.allclose(own, reference, rtol=1e-4, atol=1e-6), name


def test_class_loss_takes_the_three_hardest_negatives_for_a_positive() -> None:
    logits = torch.zeros(1, 7, 2)
    logits[0, :, 1] = torch.tensor([0.0, 5.0, 4.0, 3.0, 2.0, 9.0, 1.0])
    targets = torch.tensor([[1, 0, 0, 0, 0, NEUTRAL, 0]])
    chosen = [0, 1, 2, 3]  # the positive, then 5, 4 and 3; the neutral 9 never
    expected = torch.nn.functional.cross_entropy(
        logits[0, chosen], targets[0, chosen], reduction="sum"
    )
    assert float(class_loss(logits, targets)) == pytest.approx(float(expected))


def test_mask_loss_is_a_mean_over_the_box() -> None:
    prototypes = torch.zeros(1, 10, 10, 1)  # probability one half everywhere
    coefficients = torch.zeros(1, 2, 1)
    boxes = torch.tensor([[0.2, 0.2, 0.6, 0.7], [0.1, 0.1, 0.9, 0.9]])
    masks = torch.zeros(2, 10, 10)
    losses = positive_mask_losses(prototypes, coefficients, boxes, masks, torch.tensor([[1, 0]]))
    cells = [(8 + 2) * (8 + 2), (4 + 2) * (5 + 2)]  # with one cell of padding
    expected = [math.log(2.0) * cells[0] / 64, math.log(2.0) * cells[1] / 20]
    assert losses[0].tolist() == pytest.approx(expected)


def test_semantic_truth_unites_the_objects_of_a_class() -> None:
    masks = torch.zeros(3, 8, 8)
    masks[0, :4, :4], masks[1, 4:, 4:], masks[2, :4, 4:] = 1, 1, 1
    truth = Truth(torch.zeros(3, 4), torch.tensor([2, 2, 5]), masks)
    other = Truth(torch.zeros(2, 4), torch.tensor([1, 1]), torch.ones(2, 6, 6))
    target = semantic_truth([truth, truth_of([], []), other], 5, 2, 2)
    assert target.shape == (3, 5, 2, 2)
    assert target[0, 1].tolist() == [[1, 0], [0, 1]]
    assert target[0, 4].tolist() == [[0, 1], [0, 0]]
    assert target[2, 0].tolist() == [[1, 1], [1, 1]]  # twice covered is covered
    assert float(target.sum()) == 3.0 + 4.0


def test_masks_on_a_coarser_grid() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, :4, :6] = 1
    assert on_grid(mask, 4, 4)[0].tolist() == [[1, 1, 1, 0]] * 2 + [[0, 0, 0, 0]] * 2
    assert on_grid(torch.zeros(0, 8, 8), 4, 4).shape == (0, 4, 4)


def test_losses_of_a_batch_with_an_empty_film_are_finite_and_reach_every_parameter() -> None:
    network = lite().train()
    masks = torch.zeros(1, 48, 40)
    masks[0, 8:24, 8:24] = 1
    truth = Truth(torch.tensor([[0.2, 1 / 6, 0.6, 0.5]]), torch.tensor([2]), masks)
    empty = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 48, 40))
    output = network(torch.randn(2, 2, 96, 80))
    losses = network.losses(output, [truth, empty])
    assert set(losses) == {"box", "class", "mask", "semantic"}
    total = sum(losses.values())
    assert bool(torch.isfinite(total.detach()))
    total.backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not bool(torch.isfinite(parameter.grad).all())
    ]
    assert without == []


def test_losses_of_films_without_objects() -> None:
    network = lite().train()
    empty = Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 48, 40))
    losses = network.losses(network(torch.randn(2, 2, 96, 80)), [empty, empty])
    assert float(losses["box"].detach()) == float(losses["mask"].detach()) == 0.0
    assert float(losses["class"].detach()) > 0.0


def test_thinned_positives_keep_the_size_of_the_mask_loss() -> None:
    network = lite().eval()
    masks = torch.zeros(1, 48, 40)
    masks[0, 8:40, 8:32] = 1
    truth = Truth(torch.tensor([[0.2, 1 / 6, 0.8, 5 / 6]]), torch.tensor([1]), masks)
    with torch.inference_mode():
        output = network(torch.randn(1, 2, 96, 80, generator=torch.Generator().manual_seed(2)))
        whole = float(yolact_losses(output, [truth], 1000)["mask"])
        torch.manual_seed(0)
        thinned = [float(yolact_losses(output, [truth], 1)["mask"]) for _ in range(60)]
    assert float(np.mean(thinned)) == pytest.approx(whole, rel=0.2)


# --- Fast NMS -------------------------------------------------------------------------------------


def reference_nms(
    boxes: Tensor, scores: Tensor, suppression_iou: float, score_threshold: float
) -> list[tuple[int, int, float]]:
    """The definition, box by box: dropped if any better box of the class overlaps too much."""
    kept = []
    for structure in range(scores.shape[0]):
        order = sorted(range(scores.shape[1]), key=lambda index: -float(scores[structure, index]))
        for place, index in enumerate(order):
            better = [pairwise_iou(boxes[[other]], boxes[[index]]) for other in order[:place]]
            if float(scores[structure, index]) <= score_threshold:
                continue
            if all(float(iou) <= suppression_iou for iou in better):
                kept.append((index, structure + 1, float(scores[structure, index])))
    return sorted(kept, key=lambda entry: -entry[2])


def test_fast_nms_is_its_definition() -> None:
    generator = torch.Generator().manual_seed(3)
    for suppression_iou in (0.3, 0.5, 0.7):
        low = torch.rand(60, 2, generator=generator) * 0.4
        size = torch.rand(60, 2, generator=generator) * 0.4 + 0.1
        boxes = torch.cat([low, low + size], dim=1)
        scores = torch.rand(3, 60, generator=generator)
        index, classes, kept = fast_nms(
            boxes, scores, suppression_iou=suppression_iou, score_threshold=0.2
        )
        found = list(zip(index.tolist(), classes.tolist(), kept.tolist(), strict=True))
        expected = reference_nms(boxes, scores, suppression_iou, 0.2)
        assert [entry[:2] for entry in found] == [entry[:2] for entry in expected]
        assert 3 < len(found) < 180


def row_of_boxes(lefts: list[float], width: float = 1.0) -> Tensor:
    return torch.tensor([[left, 0.0, left + width, 1.0] for left in lefts])


def test_a_dropped_box_may_still_drop_others() -> None:
    # Neighbours overlap by 0.6 (IoU), the outer two by 1/3: sequential NMS would keep the third.
    boxes = row_of_boxes([0.0, 0.25, 0.5])
    scores = torch.tensor([[0.9, 0.8, 0.7]])
    index, _, _ = fast_nms(boxes, scores, suppression_iou=0.5, score_threshold=0.05)
    assert index.tolist() == [0]


def test_classes_do_not_drop_each_other() -> None:
    boxes = row_of_boxes([0.0, 0.0])
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.8]])
    index, classes, _ = fast_nms(boxes, scores, suppression_iou=0.5, score_threshold=0.05)
    assert index.tolist() == [0, 1]
    assert classes.tolist() == [1, 2]


def test_suppression_of_one_drops_nothing() -> None:
    boxes = row_of_boxes([0.0, 0.0, 0.1])
    scores = torch.tensor([[0.9, 0.8, 0.7]])
    index, _, _ = fast_nms(boxes, scores, suppression_iou=1.0, score_threshold=0.05)
    assert index.tolist() == [0, 1, 2]


def test_scores_at_the_threshold_are_dropped_and_the_best_come_first() -> None:
    boxes = row_of_boxes([0.0, 2.0, 4.0])
    scores = torch.tensor([[0.3, 0.6, 0.9]])
    index, _, kept = fast_nms(boxes, scores, suppression_iou=0.5, score_threshold=0.3)
    assert index.tolist() == [2, 1]
    assert kept.tolist() == pytest.approx([0.9, 0.6])


def test_nothing_in_nothing_out() -> None:
    index, classes, kept = fast_nms(
        torch.zeros(0, 4), torch.zeros(5, 0), suppression_iou=0.5, score_threshold=0.05
    )
    assert len(index) == len(classes) == len(kept) == 0


# --- Masks ----------------------------------------------------------------------------------------


def test_window_keeps_one_pixel_around_the_box() -> None:
    window = box_window(torch.tensor([[0.2, 0.3, 0.5, 0.6]]), 10, 10, 1.0)[0]
    rows, columns = window.any(dim=1).nonzero()[:, 0], window.any(dim=0).nonzero()[:, 0]
    assert rows.tolist() == [2, 3, 4, 5, 6]
    assert columns.tolist() == [1, 2, 3, 4, 5]


def test_masks_are_sums_of_prototypes_cropped_to_their_boxes() -> None:
    prototypes = torch.zeros(8, 8, 2)
    prototypes[:4, :, 0], prototypes[:, :4, 1] = 1.0, 1.0
    coefficients = torch.tensor([[4.0, -4.0]])
    boxes = torch.tensor([[0.25, 0.25, 0.875, 0.875]])
    mask = assemble_masks(prototypes, coefficients, boxes)[0]
    assert float(mask[2, 6]) == pytest.approx(1 / (1 + math.exp(-4.0)))
    assert float(mask[2, 2]) == pytest.approx(0.5)
    assert float(mask[6, 2]) == pytest.approx(1 / (1 + math.exp(4.0)))
    assert float(mask[0].sum()) == float(mask[:, 0].sum()) == 0.0  # beyond the padding


def test_detect_puts_the_parts_together() -> None:
    priors = centres_of([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5]])
    logits = torch.full((1, 3, 6), -20.0)
    logits[0, 0, 3], logits[0, 1, 1], logits[0, 2, 0] = 2.0, 5.0, 20.0
    logits[0, 0, 0] = 0.0
    output = YolactOutput(
        boxes=torch.zeros(1, 3, 4),
        class_logits=logits,
        coefficients=torch.ones(1, 3, 1),
        prototypes=torch.full((1, 8, 8, 1), 3.0),
        semantic_logits=torch.zeros(1, 5, 4, 4),
        priors=priors,
    )
    (found,) = detections_of(output, score_threshold=0.1)
    assert found.labels.tolist() == [1, 3]
    assert found.scores.tolist() == pytest.approx([1.0, 1 / (1 + math.exp(-2.0))], abs=1e-4)
    assert found.boxes[1].tolist() == pytest.approx([0.0, 0.0, 0.5, 0.5])
    assert (found.masks[1] > 0.5).sum() == 25  # 4 x 4 cells and one of padding, cut by the film
    (one,) = detections_of(output, score_threshold=0.1, max_detections=1)
    assert one.labels.tolist() == [1]
    (none,) = detections_of(output, score_threshold=1.0)
    assert none.masks.shape == (0, 8, 8)


def test_basic_block_keeps_its_size() -> None:
    block = BasicBlock(8, 16, 2).eval()
    assert block(torch.zeros(1, 8, 10, 6)).shape == (1, 16, 5, 3)
