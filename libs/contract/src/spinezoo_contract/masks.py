"""COCO run-length masks: encode, decode, measure, validate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from spinezoo_contract.types import Box, RunLengthMask


def encode_mask(pixels: NDArray[np.bool_] | NDArray[np.uint8]) -> RunLengthMask:
    """Run-length counts of a (height, width) mask whose values are False/True or 0/1."""
    encoded = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return RunLengthMask(int(pixels.shape[0]), int(pixels.shape[1]), bytes(encoded["counts"]))


def decode_mask(mask: RunLengthMask) -> NDArray[np.bool_]:
    """The (height, width) pixels of a mask that has been validated."""
    return coco_mask.decode({"size": [mask.height, mask.width], "counts": mask.counts}).astype(bool)


def mask_box(mask: RunLengthMask) -> Box:
    """Box around the foreground."""
    x, y, width, height = coco_mask.toBbox(
        {"size": [mask.height, mask.width], "counts": mask.counts}
    )
    return Box(float(x), float(y), float(width), float(height))
