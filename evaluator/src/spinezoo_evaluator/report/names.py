"""How networks are called and ordered in reports, and the study's own figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spinezoo_evaluator.results.records import FUSED

STUDY_TABLE: Mapping[str, Mapping[str, float]] = {
    "unet": {
        "pixel_accuracy": 98.17,
        "mean_iou": 88.64,
        "mean_accuracy": 92.65,
        "frequency_weighted_iou": 96.48,
    },
    "mask_rcnn": {
        "pixel_accuracy": 96.58,
        "mean_iou": 86.78,
        "mean_accuracy": 90.25,
        "frequency_weighted_iou": 93.47,
    },
    "pspnet": {
        "pixel_accuracy": 97.88,
        "mean_iou": 86.50,
        "mean_accuracy": 90.91,
        "frequency_weighted_iou": 95.93,
    },
    "deeplabv3": {
        "pixel_accuracy": 98.00,
        "mean_iou": 88.14,
        "mean_accuracy": 92.25,
        "frequency_weighted_iou": 96.16,
    },
    "yolact": {
        "pixel_accuracy": 97.84,
        "mean_iou": 91.64,
        "mean_accuracy": 94.43,
        "frequency_weighted_iou": 95.84,
    },
}
"""Table 1 of the study (*Kónya et al. 2020*, arXiv:2004.03364), in percent: its own test set of 100
clinical films, its own weights."""

FUSED_TITLE = "Fused ensemble"


def titles_of(models: Mapping[str, Mapping[str, Any] | None]) -> dict[str, str]:
    """How networks are written, by what each says of itself.

    A network's ``architecture`` begins with its title, before the first bracket: "U-Net
    (Ronneberger 2015), ...". One that was never reached stands under its own name.

    Args:
        models: What the gateway's roster says of each network; see ``run.json``.
    """
    titles = {FUSED: FUSED_TITLE}
    for name, model in models.items():
        architecture = (model or {}).get("architecture", "")
        titles[name] = architecture.split(" (", 1)[0].strip() or name
    return titles


def ordered_names(names: Iterable[str]) -> list[str]:
    """The study's five in the study's order, others by name, the fused ensemble last."""
    order = {name: place for place, name in enumerate(STUDY_TABLE)}
    last = len(order)
    return sorted(set(names), key=lambda n: (n == FUSED, order.get(n, last), n))
