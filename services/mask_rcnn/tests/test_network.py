"""Mask R-CNN's own parts: layout, anchors, films left as they are, losses, detections."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from spinezoo_mask_rcnn.network import Detections, MaskRcnn, detect
from spinezoo_serving.cards import load_card
from spinezoo_torchkit.loading import build_network
from torch import Tensor
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.ops import box_iou

ROOM = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lite() -> MaskRcnn:
    torch.manual_seed(0)
    return build_network(load_card(ROOM / "card.yaml", "lite"), MaskRcnn)


def truth(*boxes: tuple[int, int, int, int]) -> dict[str, Tensor]:
    masks = torch.zeros(len(boxes), 96, 80, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "masks": masks,
    }


def test_defaults_are_torchvisions_maskrcnn_resnet50_fpn() -> None:
    torch.manual_seed(1)
    ours = MaskRcnn().eval()
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=6).eval()
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    # The same parameters also give the same pyramid, proposals' scores and boxes' scores.
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    regions = [torch.tensor([[4.0, 8.0, 40.0, 50.0]])]
    with torch.inference_mode():
        answers = []
        for network in (ours, theirs):
            levels = network.backbone(x)
            heads = network.roi_heads
            pooled = heads.mask_roi_pool(levels, regions, [(64, 64)])
            boxes = heads.box_head(heads.box_roi_pool(levels, regions, [(64, 64)]))
            answers.append(
                {
                    **levels,
                    "objectness": network.rpn.head(list(levels.values()))[0][0],
                    "classes": heads.box_predictor(boxes)[0],
                    "masks": heads.mask_predictor(heads.mask_head(pooled)),
                }
            )
    assert list(answers[0])[:5] == ["0", "1", "2", "3", "pool"]
    for name, answer in answers[0].items():
        assert torch.allclose(answer, answers[1][name], rtol=1e-4, atol=1e-4), name


def test_film_goes_in_as_it_is(lite: MaskRcnn) -> None:
    x = torch.randn(2, 2, 320, 256)
    target = truth((1, 2, 30, 40))
    images, targets = lite.transform(list(x), [target, target])
    assert torch.equal(images.tensors, x)
    assert images.image_sizes == [(320, 256), (320, 256)]
    assert torch.equal(targets[0]["boxes"], target["boxes"])
    assert torch.equal(targets[1]["masks"], target["masks"])


def test_anchors_have_the_sizes_and_ratios_of_the_card(lite: MaskRcnn) -> None:
    card = load_card(ROOM / "card.yaml", "lite").network
    ratios = card["anchor_ratios"]
    assert len(ratios) == 3
    generator = lite.rpn.anchor_generator
    assert generator.num_anchors_per_location() == [3, 3, 3, 3]
    for (size,), anchors in zip(card["anchor_sizes_px"], generator.cell_anchors, strict=True):
        sides = anchors[:, 2:] - anchors[:, :2]
        assert (sides[:, 1] / sides[:, 0]).tolist() == pytest.approx(ratios, rel=0.15)
        assert sides.prod(dim=1).sqrt().tolist() == pytest.approx([size] * 3, rel=0.07)


def test_anchors_that_do_not_fit_the_pyramid_are_refused() -> None:
    with pytest.raises(ValueError, match="pyramid levels"):
        MaskRcnn(anchor_sizes_px=((32,), (64,)))
    with pytest.raises(ValueError, match="same length"):
        MaskRcnn(anchor_sizes_px=((32,), (64,), (128, 160), (256,)))


def test_misspelt_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="rpn_nms_treshold"):
        MaskRcnn(settings={"rpn_nms_treshold": 0.7})


def test_losses_are_finite_and_reach_every_parameter(lite: MaskRcnn) -> None:
    lite.train()
    films = torch.randn(2, 2, 96, 80)
    losses = lite(list(films), [truth((10, 10, 40, 40), (20, 60, 50, 70)), truth()])
    total = sum(losses.values())
    assert bool(torch.isfinite(total.detach()))
    lite.zero_grad()
    total.backward()
    without = [
        name
        for name, parameter in lite.named_parameters()
        if parameter.grad is None or not bool(torch.isfinite(parameter.grad).all())
    ]
    assert without == []


def test_losses_are_float32_under_autocast(lite: MaskRcnn) -> None:
    lite.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = lite(list(torch.randn(1, 2, 96, 80)), [truth((10, 10, 40, 40))])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def largest_overlap(film: Detections) -> float:
    """Largest IoU of two boxes of one class."""
    iou = box_iou(film.boxes, film.boxes).fill_diagonal_(0.0)
    return float(iou[film.labels[:, None] == film.labels[None]].max())


def test_detections_cover_the_film_and_keep_the_limits(lite: MaskRcnn) -> None:
    lite.eval()
    x = torch.randn(2, 2, 96, 80, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        many = detect(lite, x, score_threshold=0.0, suppression_iou=0.9, max_detections=60)
        few = detect(lite, x, score_threshold=0.0, suppression_iou=0.02, max_detections=60)
        one = detect(lite, x, score_threshold=0.0, suppression_iou=0.5, max_detections=1)
        none = detect(lite, x, score_threshold=1.0, suppression_iou=0.5, max_detections=60)
    assert len(many) == 2
    for film in many:
        count = len(film.scores)
        assert 0 < count <= 60
        assert film.masks.shape == (count, 96, 80)
        assert film.scores.tolist() == sorted(film.scores.tolist(), reverse=True)
        assert set(film.labels.tolist()) <= {1, 2, 3, 4, 5}
        for mask, (left, top, right, bottom) in zip(film.masks, film.boxes.tolist(), strict=True):
            mask = mask.clone()
            mask[int(max(top - 2, 0)) : int(bottom + 3), int(max(left - 2, 0)) : int(right + 3)] = 0
            assert float(mask.sum()) == 0.0
    assert max(largest_overlap(film) for film in many) > 0.02
    assert max(largest_overlap(film) for film in few) <= 0.02
    assert [len(film.scores) for film in one] == [1, 1]
    assert none[0].masks.shape == (0, 96, 80)


def test_probe_sees_every_part(lite: MaskRcnn) -> None:
    x = torch.randn(1, 2, 96, 80, generator=torch.Generator().manual_seed(4))
    lite.eval()
    with torch.inference_mode():
        before = torch.cat(lite.probe_forward(x))
        # The last residual branches start at zero, so layers of the body alone change nothing yet.
        for part in (lite.backbone.body.conv1, lite.rpn.head, lite.roi_heads.mask_head):
            parameter = next(p for p in part.parameters() if p.ndim == 4)
            parameter.neg_()
            assert not torch.equal(torch.cat(lite.probe_forward(x)), before), type(part)
            parameter.neg_()
        assert torch.allclose(torch.cat(lite.probe_forward(x)), before)
