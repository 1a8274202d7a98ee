"""Speed of training on a processor, part by part: making films, augmenting, encoding, one step.

Run in a network's own environment::

    taskset -c 1 .venvs/torch/bin/python benchmarks/training.py --network pspnet [--record]

Variants of the step (precision, memory layout, torch.compile, XLA) take turns within one run, so
that their ratios hold on a busy machine. Times are medians.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import record

ROOT = Path(__file__).resolve().parents[1]
TORCH_NETWORKS = {
    "deeplabv3": ("DeepLabV3", "SemanticTask"),
    "mask_rcnn": ("MaskRcnn", "MaskRcnnTask"),
    "pspnet": ("PSPNet", "SemanticTask"),
    "yolact": ("Yolact", "YolactTask"),
}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that some work took, and its result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def films_of(count: int, height: int, width: int) -> list[Any]:
    """Phantoms on a canvas; says how long one takes to make, and to augment."""
    import numpy as np
    from spinezoo_training.augmentation import AugmentSettings, augment
    from spinezoo_training.phantom_films import training_films
    from spinezoo_training.targets import label_map_with_gaps, network_input

    films, making = [], []
    while len(films) < count:
        work = partial(training_films, 1, len(films), height, width, 3)
        seconds, made = timed(work)
        films += made
        making.append(seconds / len(made))
    rng = np.random.default_rng(0)
    shares = {}
    for name, work in (
        ("augment", lambda film: augment(film, rng, AugmentSettings())),
        ("label map", label_map_with_gaps),
        ("two channels", network_input),
    ):
        shares[name] = statistics.median(
            timed(lambda film=film, work=work: work(film))[0] for film in films for _ in range(12)
        )
    shares["make"] = statistics.median(making)
    for name, seconds in shares.items():
        print(f"{name:14s} {1000 * seconds:8.2f} ms a film")
    return films[:count]


def torch_variants(name: str, card: Any, films: list[Any], batch: int) -> dict[str, Callable]:
    """One training step each, by the variant's name."""
    import torch
    from spinezoo_torchkit.loading import build_network

    module = importlib.import_module(f"spinezoo_{name}.train")
    network_name, task_name = TORCH_NETWORKS[name]
    task = getattr(module, task_name)(card)
    seconds, samples = timed(lambda: [task.encode(film) for film in films[:batch]])
    print(f"{'encode':14s} {1000 * seconds / batch:8.2f} ms a film (truth)")
    data = task.collate(samples)

    def variant(dtype: torch.dtype, layout: torch.memory_format, compiled: bool) -> Callable:
        torch.manual_seed(0)
        network = build_network(card, getattr(module, network_name))
        network = network.to(memory_format=layout).train()
        average = {k: v.clone() for k, v in network.state_dict().items()}
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        called = torch.compile(network) if compiled else network

        def in_layout(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(moved(value) for value in inputs)

        network.register_forward_pre_hook(in_layout)

        def moved(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return value.to(memory_format=layout) if value.ndim == 4 else value
            if isinstance(value, dict):
                return {key: moved(item) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return type(value)(moved(item) for item in value)
            return value

        def step() -> dict[str, float]:
            parts = {}
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                parts["forward"], terms = timed(lambda: task.losses(called, data))
            loss = torch.stack([term.float() for term in terms.values()]).sum()
            optimizer.zero_grad(set_to_none=True)
            parts["backward"], _ = timed(loss.backward)

            def update() -> None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
                optimizer.step()
                with torch.no_grad():
                    for key, value in network.state_dict().items():
                        if value.is_floating_point():
                            average[key].lerp_(value, 0.01)

            parts["update"], _ = timed(update)
            return parts

        return step

    last, first = torch.channels_last, torch.contiguous_format
    variants = {
        "bfloat16, channels last": variant(torch.bfloat16, last, False),
        "bfloat16, channels first": variant(torch.bfloat16, first, False),
        "float32, channels last": variant(torch.float32, last, False),
        "float32, channels first": variant(torch.float32, first, False),
    }
    if os.environ.get("SPINEZOO_BENCHMARK_COMPILE") == "1":
        variants["bfloat16, channels last, compiled"] = variant(torch.bfloat16, last, True)
    return variants


def keras_variants(card: Any, films: list[Any], batch: int, threads: int) -> dict[str, Callable]:
    """One training step each, by the variant's name."""
    import keras
    from spinezoo_unet.engine import KerasEngine, KerasFramework
    from spinezoo_unet.predictor import build_network
    from spinezoo_unet.task import UNetTask
    from spinezoo_unet.train import DEFAULTS

    KerasFramework().set_up("cpu", threads)
    task = UNetTask(card)
    data = task.collate([task.encode(film) for film in films[:batch]])

    def variant(policy: str, compiled: bool) -> Callable:
        keras.config.set_dtype_policy(policy)
        network = build_network(card)
        keras.config.set_dtype_policy("float32")
        engine = KerasEngine(task, network, network, DEFAULTS, jit_compile=compiled)

        def step() -> dict[str, float]:
            seconds, _ = timed(
                lambda: engine.step(data, number=100, learning_rate=1e-3, average_decay=0.9)
            )
            return {"step": seconds}

        return step

    variants = {
        "mixed_bfloat16": variant("mixed_bfloat16", False),
        "float32": variant("float32", False),
    }
    if os.environ.get("SPINEZOO_BENCHMARK_COMPILE") == "1":
        variants["mixed_bfloat16, XLA"] = variant("mixed_bfloat16", True)
        variants["float32, XLA"] = variant("float32", True)
    return variants


def main() -> int:
    """Measures one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", required=True, choices=(*sorted(TORCH_NETWORKS), "unet"))
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--batch-size", type=int, default=0, help="0: as it is trained")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    record.add_option(parser)
    arguments = parser.parse_args()
    from spinezoo_serving.cards import load_card

    card = load_card(ROOT / "services" / arguments.network / "card.yaml", arguments.preset)
    usual = {"mask_rcnn": 4, "yolact": 4}.get(arguments.network, 8)
    batch = arguments.batch_size or usual
    films = films_of(batch, card.input.height, card.input.width)
    if arguments.network == "unet":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        variants = keras_variants(card, films, batch, arguments.threads)
    else:
        import torch

        torch.set_num_threads(arguments.threads)
        variants = torch_variants(arguments.network, card, films, batch)
    times: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for turn in range(arguments.rounds + 1):
        for name, step in variants.items():
            parts = step()
            if turn:  # the first one plans and compiles
                times[name].append(parts)
    result = {
        "network": arguments.network,
        "batch": batch,
        "step_ms": {
            name: round(1000 * statistics.median(sum(parts.values()) for parts in each))
            for name, each in times.items()
        },
        "parts_ms": {
            name: {part: round(1000 * statistics.median(p[part] for p in each)) for part in each[0]}
            for name, each in times.items()
        },
    }
    return record.finish("training", result, arguments)


if __name__ == "__main__":
    sys.exit(main())
