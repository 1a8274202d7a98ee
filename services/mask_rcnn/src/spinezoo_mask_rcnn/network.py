"""Mask R-CNN on torchvision, with a backbone and heads of any width.

References:
    He, Gkioxari, Dollar, Girshick: Mask R-CNN. ICCV 2017 (arXiv 1703.06870).
    Ren, He, Girshick, Sun: Faster R-CNN. NeurIPS 2015 (region proposals, box head).
    Lin et al.: Feature Pyramid Networks for Object Detection. CVPR 2017.

The two stages of the paper: a region proposal network looks at every anchor of the pyramid; the box
head classifies and refines each proposal, and the mask head draws one mask a class into it. The
engine is torchvision's ``MaskRCNN``, so names are those of its checkpoints (``backbone.body``,
``backbone.fpn``, ``rpn.head``, ``roi_heads``), and with the constructor's defaults and three input
channels the parameters are exactly those of ``maskrcnn_resnet50_fpn``.

Films come prepared (:mod:`spinezoo_spine.inference.preprocess`), all of one size: nothing is
resized or normalised in here. Boxes are corners (x1, y1, x2, y2) in pixels of the input. Shapes
are written as: N films, G true objects and D detections of one film, R regions of interest.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from spinezoo_torchkit.backbones import ResNetFeatures
from spinezoo_torchkit.checkpoints import evenly
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from spinezoo_mask_rcnn.arrays import BOX_POOL_CELLS, MASK_POOL_CELLS, PROBE_VALUES

NETWORK_PARTS = ("_generator", "_head", "_pool", "_predictor")
"""Ends of the names of torchvision's arguments that are modules."""

PYRAMID_LEVELS = ("0", "1", "2", "3")
"""torchvision's names of P2 to P5, at strides 4, 8, 16 and 32."""

SETTINGS = frozenset(
    name
    for name in inspect.signature(MaskRCNN).parameters
    if name.startswith(("rpn_", "box_", "bbox_")) and not name.endswith(NETWORK_PARTS)
)
"""torchvision's settings of training and detection that a card may give."""


class Detections(NamedTuple):
    """The found objects of one film, best score first.

    Attributes:
        boxes: (D, 4) corners, in pixels of the input.
        labels: (D,) int64, 1 up.
        scores: (D,), 0 to 1.
        masks: (D, height, width) probabilities on the whole input, 0 outside the box.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor


class PreparedFilms(GeneralizedRCNNTransform):
    """torchvision's first and last step, for films that are prepared already."""

    def __init__(self) -> None:
        # The sizes and moments are never used, but the base class wants them.
        super().__init__(min_size=1, max_size=1, image_mean=[0.0], image_std=[1.0])

    def normalize(self, image: Tensor) -> Tensor:
        """The film as it is."""
        return image

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Film and truth as they are."""
        return image, target


class Backbone(nn.Module):
    """ResNet and feature pyramid.

    Attributes:
        out_channels: Channels of every level; torchvision asks for it.
    """

    def __init__(
        self, body: ResNetFeatures, channels: int, *, pool_level: bool, normalise: bool
    ) -> None:
        super().__init__()
        self.out_channels = channels
        self.body = body
        self.fpn = FeaturePyramidNetwork(
            list(body.channels),
            channels,
            extra_blocks=LastLevelMaxPool() if pool_level else None,
            norm_layer=nn.BatchNorm2d if normalise else None,
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, channels, h, w) to P2 to P5 by name, and P6 as ``pool`` where asked for."""
        stages = self.body(x)
        levels: dict[str, Tensor] = self.fpn(OrderedDict(zip(PYRAMID_LEVELS, stages, strict=True)))
        return levels


# Under bfloat16 autocast, losses and boxes are still to be computed in float32.


class _RpnHead(RPNHead):
    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, boxes = super().forward(x)
        return [level.float() for level in logits], [level.float() for level in boxes]


class _BoxPredictor(FastRCNNPredictor):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, boxes = super().forward(x)
        return logits.float(), boxes.float()


class _MaskPredictor(MaskRCNNPredictor):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


class MaskRcnn(MaskRCNN):
    """Mask R-CNN. The defaults are the paper's with ResNet-50 and pyramid.

    Args:
        in_channels: Channels of the input.
        num_classes: Structures and background.
        backbone: ``resnet18``, ``resnet34``, ``resnet50`` or ``resnet101``.
        backbone_channels: Widths of the four stages.
        stem_width: Width of a deep stem; None is one 7 x 7 convolution.
        pyramid_channels: Channels of every pyramid level.
        anchor_sizes_px: Square roots of the anchors' areas of each level, finest first, as many
            for every level; four levels are P2 to P5, a fifth is P6.
        anchor_ratios: Height over width of the anchors.
        box_channels: Channels of the two fully connected layers of the box head.
        mask_channels: Channels of the convolutions of the mask head, and of its upsampling.
        normalise: Batch normalisation in the pyramid and the mask head, which training from
            nothing needs (He, Girshick, Dollar: Rethinking ImageNet Pre-training, ICCV 2019).
        settings: torchvision's own settings by its names, such as ``rpn_post_nms_top_n_test``.

    Raises:
        ValueError: The anchors do not fit the pyramid, or a setting is unknown.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_classes: int = 6,
        backbone: str = "resnet50",
        backbone_channels: Sequence[int] = (64, 128, 256, 512),
        stem_width: int | None = None,
        pyramid_channels: int = 256,
        anchor_sizes_px: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,)),
        anchor_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        box_channels: int = 1024,
        mask_channels: Sequence[int] = (256, 256, 256, 256),
        normalise: bool = False,
        settings: dict[str, Any] | None = None,
    ) -> None:
        levels = len(PYRAMID_LEVELS)
        if (
            len(anchor_sizes_px) not in (levels, levels + 1)
            or len({len(sizes) for sizes in anchor_sizes_px}) != 1
        ):
            message = (
                f"anchor sizes {anchor_sizes_px} do not fit {levels} pyramid levels; give "
                f"{levels} or {levels + 1} lists of the same length"
            )
            raise ValueError(message)
        # torchvision swallows unknown names: a misspelt one would be ignored in silence.
        unknown = sorted((settings or {}).keys() - SETTINGS)
        if unknown:
            message = (
                f"settings {', '.join(unknown)} are unknown; use {', '.join(sorted(SETTINGS))}"
            )
            raise ValueError(message)
        body = ResNetFeatures(
            backbone,
            in_channels=in_channels,
            channels=tuple(backbone_channels),
            stem_width=stem_width,
        )
        pyramid = Backbone(
            body, pyramid_channels, pool_level=len(anchor_sizes_px) > levels, normalise=normalise
        )
        anchors = AnchorGenerator(
            sizes=tuple(tuple(sizes) for sizes in anchor_sizes_px),
            aspect_ratios=(tuple(anchor_ratios),) * len(anchor_sizes_px),
        )
        super().__init__(
            pyramid,
            num_classes=None,
            rpn_anchor_generator=anchors,
            rpn_head=_RpnHead(pyramid_channels, anchors.num_anchors_per_location()[0]),
            # Regions are pooled from P2 up to areas of 224 x 224 and coarser ones above.
            box_roi_pool=MultiScaleRoIAlign(list(PYRAMID_LEVELS), BOX_POOL_CELLS, 2),
            box_head=TwoMLPHead(pyramid_channels * BOX_POOL_CELLS**2, box_channels),
            box_predictor=_BoxPredictor(box_channels, num_classes),
            mask_roi_pool=MultiScaleRoIAlign(list(PYRAMID_LEVELS), MASK_POOL_CELLS, 2),
            mask_head=MaskRCNNHeads(
                pyramid_channels,
                list(mask_channels),
                dilation=1,
                norm_layer=nn.BatchNorm2d if normalise else None,
            ),
            mask_predictor=_MaskPredictor(mask_channels[-1], mask_channels[-1], num_classes),
            **(settings or {}),
        )
        self.transform = PreparedFilms()

    def probe_forward(self, x: Tensor) -> list[Tensor]:
        """The smooth part of the network on (N, channels, h, w), for a probe.

        Detections jump with the last bit of a score, so a probe sees the heads' raw outputs on
        fixed regions instead: a grid of boxes of a quarter of the input.
        """
        height, width = int(x.shape[-2]), int(x.shape[-1])
        levels = self.backbone(x)
        objectness, offsets = self.rpn.head(list(levels.values()))
        corner = torch.tensor([[0.0, 0.0], [0.25, 0.5], [0.5, 0.25], [0.75, 0.75]])
        corner = corner * torch.tensor([width, height])
        boxes = torch.cat([corner, corner + torch.tensor([width, height]) / 4], dim=1).to(x)
        regions = [boxes] * x.shape[0]
        sizes = [(height, width)] * x.shape[0]
        heads = self.roi_heads
        classes, refined = heads.box_predictor(
            heads.box_head(heads.box_roi_pool(levels, regions, sizes))
        )
        masks = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(levels, regions, sizes)))
        return [
            evenly(part, PROBE_VALUES) for part in (*objectness, *offsets, classes, refined, masks)
        ]


def detect(
    network: MaskRcnn,
    inputs: Tensor,
    *,
    score_threshold: float,
    suppression_iou: float,
    max_detections: int,
) -> list[Detections]:
    """The objects of each film of a batch.

    Args:
        network: In evaluation mode.
        inputs: (N, channels, height, width).
        score_threshold: Keep scores above this.
        suppression_iou: IoU of boxes of one class above which the lesser one is dropped.
        max_detections: Most objects of a film.
    """
    heads = network.roi_heads
    heads.score_thresh = score_threshold
    heads.nms_thresh = suppression_iou
    heads.detections_per_img = max_detections
    return [
        Detections(found["boxes"], found["labels"], found["scores"], found["masks"][:, 0])
        for found in network(list(inputs))
    ]
