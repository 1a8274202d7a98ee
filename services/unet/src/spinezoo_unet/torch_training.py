"""Training of the U-Net on PyTorch, for accelerators of machines without TensorFlow.

``python -m spinezoo_unet.torch_training`` takes the options of ``spinezoo_unet.train`` and writes
the same weights file. It needs the torch environment and h5py, and neither Keras nor TensorFlow:
the network stands here once more in torch's layers, and the card's probe proves that both compute
the same. Serving does not reach this module.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from spinezoo_contract.errors import WeightsError
from spinezoo_contract.output import end_with_reader
from spinezoo_serving.cards import ModelCard
from spinezoo_serving.disk import replacing
from spinezoo_torchkit.engine import TorchEngine, TorchFramework
from spinezoo_torchkit.inputs import two_channels
from spinezoo_training.command import train_main
from spinezoo_training.engine import Engine, Task, WrittenWeights
from spinezoo_training.initial_weights import Start
from spinezoo_training.targets import CLASS_WEIGHTS
from torch import nn
from torch.nn import functional

from spinezoo_unet.batches import GAP_STEPS
from spinezoo_unet.engine import PROBE_SEED, PROBE_TOLERANCE
from spinezoo_unet.graph import write_graphs
from spinezoo_unet.task import CROSS_ENTROPY_SHARE, DICE_SMOOTHING, UNetTask
from spinezoo_unet.train import CARD, DEFAULTS

_DROPOUT = 0.5
_KERAS_NAMES = {
    "weight": "kernel",
    "bias": "bias",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_NORM_NAMES = _KERAS_NAMES | {"weight": "gamma", "bias": "beta"}


class TorchUNet(nn.Module):
    """What :func:`spinezoo_unet.network.build_unet` builds, in torch; layers have its names.

    Args:
        in_channels: Channels of the input.
        num_classes: Classes, background included.
        filters: See :func:`spinezoo_unet.network.build_unet`, as the rest.
        normalise: Likewise.
        levels: Likewise.
        most_filters: Likewise.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        filters: int = 64,
        normalise: bool = False,
        levels: int = 5,
        most_filters: int | None = None,
    ) -> None:
        super().__init__()
        self.levels, self.normalise = levels, normalise
        widths = [min(filters * 2**level, most_filters or 2**30) for level in range(levels)]
        self.layers = nn.ModuleDict()
        before = in_channels
        for level, width in enumerate(widths):
            self._add_double(f"down{level}", before, width)
            before = width
        for level in reversed(range(levels - 1)):
            self.layers[f"up{level}_conv"] = _convolution(widths[level + 1], widths[level], 2, True)
            self._add_double(f"up{level}", 2 * widths[level], widths[level])
        self.layers["logits"] = nn.Conv2d(widths[0], num_classes, 1)
        nn.init.xavier_uniform_(self.layers["logits"].weight)
        nn.init.zeros_(self.layers["logits"].bias)

    def _add_double(self, name: str, before: int, width: int) -> None:
        for index, inputs in ((1, before), (2, width)):
            self.layers[f"{name}_conv{index}"] = _convolution(inputs, width, 3, not self.normalise)
            if self.normalise:
                self.layers[f"{name}_bn{index}"] = nn.BatchNorm2d(width, eps=1e-5, momentum=0.1)

    def _double(self, x: torch.Tensor, name: str) -> torch.Tensor:
        for index in (1, 2):
            x = self.layers[f"{name}_conv{index}"](x)
            if self.normalise:
                x = self.layers[f"{name}_bn{index}"](x)
            x = functional.relu(x, inplace=True)
        return x

    def forward(self, films: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, h, w) inputs to (n, num_classes, h, w) logits."""
        x, skips = films, []
        for level in range(self.levels):
            x = self._double(x, f"down{level}")
            if level >= self.levels - 2:
                x = functional.dropout(x, _DROPOUT, self.training)
            if level < self.levels - 1:
                skips.append(x)
                x = functional.max_pool2d(x, 2)
        for level in reversed(range(self.levels - 1)):
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            # Keras fills "same" of an even kernel up below and on the right.
            x = self.layers[f"up{level}_conv"](functional.pad(x, (0, 1, 0, 1)))
            x = torch.cat([skips[level], functional.relu(x, inplace=True)], dim=1)
            x = self._double(x, f"up{level}")
        with torch.autocast(x.device.type, enabled=False):
            logits: torch.Tensor = self.layers["logits"](x.float())
        return logits


def _convolution(inputs: int, outputs: int, side: int, bias: bool) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, side, padding=int(side == 3), bias=bias)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _keras_arrays(network: TorchUNet) -> dict[str, torch.Tensor]:
    """The tensors of a network by the names of Keras's file; kernels still in torch's order."""
    arrays = {}
    for name, layer in network.layers.items():
        names = _NORM_NAMES if isinstance(layer, nn.BatchNorm2d) else _KERAS_NAMES
        for key, tensor in layer.state_dict().items():
            if key in names:
                arrays[f"{name}.{names[key]}"] = tensor
    return arrays


def load_keras_weights(network: TorchUNet, path: Path) -> None:
    """Fills the network with a file of :func:`spinezoo_unet.weights.save_weights`.

    Raises:
        WeightsError: The file cannot be read, or is of another network.
    """
    arrays = _keras_arrays(network)
    try:
        with h5py.File(path, "r") as file:
            found = {name: np.asarray(file[name][()], np.float32) for name in file}
    except (OSError, KeyError) as error:
        raise WeightsError(f"{path.name} is not an HDF5 file of weights: {error}") from error
    if found.keys() != arrays.keys():
        other = sorted(found.keys() ^ arrays.keys())[:3]
        raise WeightsError(f"{path.name} holds another network: {other} stand on one side only")
    with torch.no_grad():
        for name, tensor in arrays.items():
            values = found[name]
            if values.ndim == 4:
                values = values.transpose(3, 2, 0, 1)  # h, w, in, out -> out, in, h, w
            if values.shape != tuple(tensor.shape):
                raise WeightsError(
                    f"{path.name}: {name} has shape {found[name].shape}, the network another"
                )
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def save_keras_weights(network: TorchUNet, path: Path) -> str:
    """Writes what :func:`spinezoo_unet.weights.load_weights` reads; returns the file's SHA-256.

    Raises:
        WeightsError: A value does not fit half precision.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, h5py.File(partial, "w") as file:
        for name, tensor in _keras_arrays(network).items():
            values = tensor.detach().float().cpu().numpy()
            if values.ndim == 4:
                values = values.transpose(2, 3, 1, 0)
            values = np.ascontiguousarray(values, dtype=np.float16)
            if not np.isfinite(values).all():
                raise WeightsError(
                    f"{name} does not fit half precision; train with a lower learning rate"
                )
            file.create_dataset(name, data=values, track_times=False)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def probe_values(network: TorchUNet, card: ModelCard, count: int = 16) -> NDArray[np.float64]:
    """The logits that :func:`spinezoo_unet.weights.probe_values` picks, of this network."""
    shape = (1, card.input.height, card.input.width, card.input.channels)
    film = np.random.default_rng(PROBE_SEED).standard_normal(shape).astype(np.float32)
    device = next(network.parameters()).device
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(film.transpose(0, 3, 1, 2)).to(device))
    flat = logits.permute(0, 2, 3, 1).float().cpu().numpy().ravel()
    return flat[np.linspace(0, flat.size - 1, count).astype(int)].astype(np.float64)


class TorchUNetTask(Task):
    """:class:`spinezoo_unet.task.UNetTask` with its loss in torch."""

    def __init__(self, card: ModelCard) -> None:
        """Takes the order of classes from a card."""
        self._keras = UNetTask(card)
        self._numbers = torch.from_numpy(self._keras.number_of_class)
        self._by_class = torch.ones(256)
        self._by_class[list(CLASS_WEIGHTS)] = torch.tensor(list(CLASS_WEIGHTS.values()))

    def encode(self, film: Any) -> Any:
        """One film as bytes, each array (h, w)."""
        return self._keras.encode(film)

    def collate(self, samples: list[Any]) -> tuple[torch.Tensor, ...]:
        """Grey levels, labels and steps of gap weights, each (n, h, w) ``uint8``."""
        return tuple(torch.from_numpy(array) for array in self._keras.collate(samples))

    def losses(self, network: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        """The loss of :func:`spinezoo_unet.task.segmentation_loss`."""
        grey, labels, gaps = batch
        logits = network(two_channels(grey)).float()
        weights = (1.0 + gaps.float() / GAP_STEPS) * self._by_class.to(gaps.device)[labels.long()]
        each = functional.cross_entropy(logits, labels.long(), reduction="none")
        cross_entropy = (weights * each).sum() / weights.sum()
        numbers = torch.arange(1, logits.shape[1], device=logits.device)
        truth = (labels[:, None] == numbers[:, None, None]).to(logits.dtype)
        probability = logits.softmax(1)[:, 1:]
        overlap = (truth * probability).sum((0, 2, 3))
        size = (truth + probability).sum((0, 2, 3))
        dice = 1.0 - ((2.0 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING)).mean()
        return {"segmentation": CROSS_ENTROPY_SHARE * cross_entropy + dice}

    def label_maps(self, network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Structure numbers (n, h, w) of the likeliest class."""
        return self._numbers.to(inputs.device)[network(inputs).argmax(dim=1)]


class TorchUNetFramework(TorchFramework):
    """PyTorch, with Keras's file for the weights."""

    weights_suffix = ".h5"

    def __init__(self) -> None:
        super().__init__(TorchUNet)

    def begin(self, network: nn.Module, start: Start) -> None:
        """Fills the network from Keras's file."""
        assert isinstance(network, TorchUNet)
        load_keras_weights(network, start.path)

    def write_weights(self, card: ModelCard, engine: Engine, path: Path) -> WrittenWeights:
        """Writes the averaged weights in half precision, and reads and probes them so."""
        assert isinstance(engine, TorchEngine)
        average = engine.average
        assert isinstance(average, TorchUNet)
        save_keras_weights(average, path)
        load_keras_weights(average, path)
        # TensorFlow-float-32 would change the probe by more than a processor does.
        torch.backends.cudnn.allow_tf32 = False
        values = probe_values(average, card).round(4).tolist()
        return WrittenWeights("float16", PROBE_SEED, values, PROBE_TOLERANCE)

    def write_graphs(self, card: ModelCard) -> dict[str, Path]:
        """Exports the card's weights as the other training does."""
        return write_graphs(card)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains from the command line; see ``--help``."""
    return train_main(
        argv,
        name="unet",
        card_path=CARD,
        framework=TorchUNetFramework(),
        make_task=TorchUNetTask,
        defaults=DEFAULTS,
        module="spinezoo_unet.torch_training",
    )


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
