"""Films a second of the torch networks on a GPU, by size of batch, and its answers beside a CPU's.

Each network is loaded twice from its card, on the CPU and on the GPU, in this process: no server,
no queue. Both answer the same films; then the GPU answers them in batches. Times hold everything
from pixels to outlines, and beside that the network's own part.

Run from the repository root where torch sees a GPU::

    .venvs/torch/bin/python benchmarks/gpu_batches.py [--device cuda] [--record]
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("deeplabv3", "mask_rcnn", "pspnet", "yolact")
sys.path[:0] = [str(ROOT / "libs" / "phantom" / "src")]
sys.path[:0] = [str(ROOT / "services" / name / "src") for name in NETWORKS]

import numpy as np  # noqa: E402
import record  # noqa: E402
import torch  # noqa: E402
from spinezoo_contract.masks import decode_mask  # noqa: E402
from spinezoo_contract.types import Film, Prediction, PredictOptions  # noqa: E402
from spinezoo_phantom import PhantomSettings, make_film  # noqa: E402


def merged(answer: Prediction) -> np.ndarray:
    """(height, width) True where any segment lies."""
    canvas = np.zeros((answer.height, answer.width), bool)
    for segment in answer.segments:
        canvas |= decode_mask(segment.mask)
    return canvas


def overlap(one: Prediction, other: Prediction) -> float:
    """IoU of all that two answers outline."""
    a, b = merged(one), merged(other)
    union = int((a | b).sum())
    return float((a & b).sum()) / union if union else 1.0


def measured(name: str, device: str, films: list[Film], batches: list[int]) -> dict[str, Any]:
    """One network's figures."""
    load = importlib.import_module(f"spinezoo_{name}.framework").load_with_torch
    card = ROOT / "services" / name / "card.yaml"
    there, here = load(card, device), load(card, "cpu")
    options = [PredictOptions() for _ in films]
    there.predict_many(films[:1], options[:1])
    far = there.predict_many(films, options)
    near = here.predict_many(films[:8], options[:8])
    row: dict[str, Any] = {
        "network": name,
        "precision": there.precision,
        "iou_with_cpu_least": round(min(map(overlap, far, near)), 5),
        "segments_alike": sum(
            len(a.segments) == len(b.segments) for a, b in zip(far, near, strict=False)
        ),
    }
    for size in batches:
        parts = [films[k : k + size] for k in range(0, len(films), size)]
        speeds, network_ms = [], []
        for _ in range(5):
            started = time.perf_counter()
            for part in parts:
                answers = there.predict_many(part, options[: len(part)])
                network_ms += [answer.provenance.timing.infer_ms for answer in answers]
            speeds.append(len(films) / (time.perf_counter() - started))
        row[f"films_per_s_{size}"] = round(statistics.median(speeds), 1)
        row[f"network_ms_{size}"] = round(statistics.median(network_ms), 2)
    return row


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--films", type=int, default=32)
    parser.add_argument("--batch", type=int, action="append", help="may be repeated; 1, 8, 32")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="may be repeated")
    record.add_option(parser)
    options = parser.parse_args()
    settings = PhantomSettings(height_px=1100, width_px=900)
    films = [Film(make_film(seed, settings).pixels) for seed in range(8)]
    films = [films[k % len(films)] for k in range(options.films)]
    rows = []
    for name in options.network or NETWORKS:
        rows.append(measured(name, options.device, films, options.batch or [1, 8, 32]))
        print(json.dumps(rows[-1]), flush=True)
    on_gpu = options.device.startswith("cuda")
    accelerator = torch.cuda.get_device_name(options.device) if on_gpu else options.device
    result = {"accelerator": accelerator, "torch": torch.__version__, "rows": rows}
    return record.finish("gpu_batches", result, options)


if __name__ == "__main__":
    sys.exit(main())
