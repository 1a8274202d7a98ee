"""Training of the U-Net on PyTorch, for machines with PyTorch and no TensorFlow.

The only module of this package that imports torch; serving does not reach it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_spine.inference.device import device_name
from spinezoo_spine.inference.preprocess import LOCAL_FLOOR, LOCAL_WINDOW_PX
from torch.nn import functional

from spinezoo_unet.backends import CROSS_ENTROPY_SHARE, DICE_SMOOTHING
from spinezoo_unet.batches import GAP_STEPS, inputs_of

if TYPE_CHECKING:
    from spinezoo_unet.backends import Step
    from spinezoo_unet.batches import Batch


def train_forward(model: keras.Model, films: torch.Tensor) -> torch.Tensor:
    """What ``model(films, training=True)`` computes, in torch's own operations.

    Keras makes batch normalisation on this backend of a dozen element-wise ones in float32 and
    converts layouts around every convolution; together that is most of a step. Here both are one
    call each. Dropout draws other numbers; the moving variance takes n - 1 for n, as torch does.

    Args:
        model: A network of :func:`spinezoo_unet.network.build_unet`, under ``float32`` or
            ``mixed_bfloat16``.
        films: (N, h, w, channels) ``float32``.

    Returns:
        (N, h, w, classes) ``float32`` logits.
    """
    layers = {layer.name: layer for layer in model.layers}
    half = model.get_layer("down0_conv1").compute_dtype == "bfloat16"

    def convolved(x: torch.Tensor, name: str) -> torch.Tensor:
        layer = layers[name]
        kernel = layer.kernel.value.permute(3, 2, 0, 1)  # h, w, in, out -> out, in, h, w
        bias = layer.bias.value if layer.use_bias else None
        if kernel.shape[-1] == 2:  # "same" of an even kernel is filled up below and on the right
            x = functional.pad(x, (0, 1, 0, 1))
        return functional.conv2d(x, kernel, bias, padding=int(kernel.shape[-1] == 3))

    def twice(x: torch.Tensor, name: str) -> torch.Tensor:
        for index in (1, 2):
            x = convolved(x, f"{name}_conv{index}")
            layer = layers.get(f"{name}_bn{index}")
            if layer is not None:
                x = functional.batch_norm(
                    x,
                    layer.moving_mean.value,
                    layer.moving_variance.value,
                    layer.gamma.value,
                    layer.beta.value,
                    training=True,
                    momentum=1.0 - layer.momentum,
                    eps=layer.epsilon,
                )
            x = functional.relu(x, inplace=True)
        return x

    x = films.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    skips = []
    level = 0
    with torch.autocast(films.device.type, torch.bfloat16, enabled=half):
        while f"down{level}_conv1" in layers:
            x = twice(x, f"down{level}")
            if f"drop{level}" in layers:
                x = functional.dropout(x, layers[f"drop{level}"].rate)
            if f"pool{level}" in layers:
                skips.append(x)
                x = functional.max_pool2d(x, 2)
            level += 1
        for level in reversed(range(len(skips))):
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = functional.relu(convolved(x, f"up{level}_conv"), inplace=True)
            x = twice(torch.cat([skips[level], x], dim=1), f"up{level}")
        if "binary_conv" in layers:
            x = functional.relu(convolved(x, "binary_conv"), inplace=True)
    return convolved(x.float(), "logits").permute(0, 2, 3, 1)


def inputs_there(grey: torch.Tensor) -> torch.Tensor:
    """:func:`spinezoo_unet.batches.inputs_of` where the grey levels are.

    Equal to it but for rounding, which reaches 0.002 where a film is nearly flat. The torch kit has
    such a function too, but the Keras room does not depend on it.

    Args:
        grey: (N, h, w) ``uint8``.

    Returns:
        (N, h, w, 2) ``float32``.
    """
    unit = grey.float() / 255.0
    deviation, average = torch.std_mean(unit, dim=(1, 2), correction=0, keepdim=True)
    rows, columns = (_window_means(side, grey.device) for side in unit.shape[1:])
    mean = rows @ unit @ columns.T
    variance = rows @ (unit * unit) @ columns.T - mean * mean
    overall = (unit - average) / (deviation + 1e-3)
    local = (unit - mean) / (variance.clamp_min(0.0).sqrt() + LOCAL_FLOOR)
    return torch.stack([overall, local], dim=-1).clamp(-3.0, 3.0)


@cache
def _window_means(side: int, device: torch.device) -> torch.Tensor:
    """(side, side): times a column, the means of its windows, mirrored at the ends."""
    reach = LOCAL_WINDOW_PX // 2
    places = np.pad(np.arange(side), reach, mode="reflect")
    means = np.zeros((side, side), dtype=np.float32)
    for offset in range(LOCAL_WINDOW_PX):
        np.add.at(means, (np.arange(side), places[offset : offset + side]), 1.0 / LOCAL_WINDOW_PX)
    return torch.from_numpy(means).to(device)


class TorchBackend:
    """Eager steps on PyTorch."""

    name = "torch"
    films_at_once = 16

    def __init__(self) -> None:
        self._device = torch.device("cpu")

    @property
    def library(self) -> str:
        """Name and version, for the card."""
        return f"torch {torch.__version__}"

    def set_up(self, setting: str | None, threads: int) -> str:
        """Sets the CPU threads (0: all) and returns ``cpu`` or ``cuda:N``."""
        if threads:
            torch.set_num_threads(threads)
        device = device_name(setting, torch.cuda.device_count(), "PyTorch")
        self._device = torch.device(device)
        if self._device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            # The float32 network's probe is compared with what a processor answers.
            torch.backends.cudnn.allow_tf32 = False
        return device

    def on(self, device: str) -> AbstractContextManager[Any]:
        """Where the networks live and everything runs; Keras would take a GPU where one is."""
        scope: AbstractContextManager[Any] = keras.device(device)
        return scope

    def loss(self, logits: Any, labels: Any, weights: Any) -> Any:
        """Loss of (N, h, w, classes) logits, (N, h, w) integer labels, (N, h, w) weights."""
        classes = logits.shape[-1]
        each = functional.cross_entropy(
            logits.reshape(-1, classes), labels.reshape(-1).long(), reduction="none"
        )
        cross_entropy = (weights.reshape(-1) * each).sum() / weights.sum()
        # Not one_hot: it answers in 8 bytes a class and pixel.
        taught = torch.arange(1, classes, device=logits.device)
        truth = (labels.unsqueeze(-1) == taught).to(logits.dtype)
        probability = logits.softmax(-1)[..., 1:]
        overlap = (truth * probability).sum((0, 1, 2))
        size = (truth + probability).sum((0, 1, 2))
        dice = 1.0 - ((2.0 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING)).mean()
        return CROSS_ENTROPY_SHARE * cross_entropy + dice

    def training_step(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        averages: Sequence[keras.Variable],
        averaged: Sequence[keras.Variable],
    ) -> Step:
        """The step that trains the model and moves the averages towards its variables."""

        def step(batch: Batch, decay: float) -> float:
            labels, weights = self._sent(batch.labels), 1.0 + self._sent(batch.gaps) / GAP_STEPS
            loss = self.loss(train_forward(model, self._inputs(batch.grey)), labels, weights)
            variables = model.trainable_variables
            gradients = torch.autograd.grad(loss, [variable.value for variable in variables])
            with torch.no_grad():
                # Keras transposes kernels for torch, and their gradients come back so; torch
                # updates many tensors in one call only where their layouts are alike.
                optimizer.apply([gradient.contiguous() for gradient in gradients], variables)
                torch._foreach_lerp_(
                    [mean.value for mean in averages],
                    [variable.value for variable in averaged],
                    1.0 - decay,
                )
            return float(loss.detach())

        return step

    def classes(self, model: keras.Model, films: NDArray[np.float32]) -> NDArray[np.integer[Any]]:
        """(N, h, w, 2) inputs to the (N, h, w) most probable classes."""
        with torch.no_grad():
            logits = model(self._sent(films), training=False)
            classes: NDArray[np.integer[Any]] = logits.argmax(-1).cpu().numpy()
        return classes

    def random_state(self) -> Mapping[str, NDArray[np.uint8]]:
        """Dropout draws from PyTorch's own stream of the device."""
        if self._device.type == "cuda":
            return {"cuda": torch.cuda.get_rng_state(self._device).numpy()}
        return {"cpu": torch.get_rng_state().numpy()}

    def restore_random_state(self, state: Mapping[str, NDArray[np.uint8]]) -> None:
        """Goes on from there; streams of another device are left alone."""
        if self._device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(torch.from_numpy(state["cuda"]), self._device)
        if self._device.type == "cpu" and "cpu" in state:
            torch.set_rng_state(torch.from_numpy(state["cpu"]))

    def _inputs(self, grey: NDArray[np.uint8]) -> torch.Tensor:
        """Inputs (N, h, w, 2) of (N, h, w) grey levels."""
        if self._device.type == "cpu":
            return torch.from_numpy(inputs_of(grey))
        return inputs_there(self._sent(grey))

    def _sent(self, values: NDArray[Any]) -> torch.Tensor:
        """The array on the device; to a GPU without waiting for it."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self._device.type == "cuda":
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor
