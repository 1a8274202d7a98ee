"""U-Net weights as a plain HDF5 file: one half-precision array a variable, no pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import keras
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import WeightsError
from spinezoo_serving.disk import replacing


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    return {variable.path: variable for variable in model.weights if "seed" not in variable.path}


def save_weights(model: keras.Model, path: Path) -> tuple[str, int]:
    """Writes all weights of a model in half precision, replacing the file in one step.

    Returns:
        Lower-case hexadecimal SHA-256 and size in bytes of the file.

    Raises:
        WeightsError: A weight does not fit half precision.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, h5py.File(partial, "w") as file:
        for name, variable in _variables(model).items():
            values = keras.ops.convert_to_numpy(variable).astype(np.float16)
            if not np.isfinite(values).all():
                raise WeightsError(
                    f"{name} does not fit half precision; train with a lower learning rate"
                )
            # Flat names and no time stamps: the same weights give the same bytes.
            file.create_dataset(name.replace("/", "."), data=values, track_times=False)
    content = path.read_bytes()
    return hashlib.sha256(content).hexdigest(), len(content)


def load_weights(model: keras.Model, path: Path) -> None:
    """Fills a model with the weights of a file that :func:`save_weights` wrote.

    Raises:
        WeightsError: A variable is missing, superfluous, or of another shape.
    """
    variables = _variables(model)
    found: dict[str, NDArray[np.float16]] = {}

    def collect(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            found[name.replace(".", "/")] = node[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(collect)
    except OSError as error:
        raise WeightsError(f"{path.name} is not an HDF5 file: {error}") from error
    missing = sorted(variables.keys() - found.keys())
    extra = sorted(found.keys() - variables.keys())
    if missing or extra:
        raise WeightsError(
            f"{path.name} holds another network: missing {missing[:3]}, unknown {extra[:3]}; "
            "check that the preset's network arguments in card.yaml are those it was trained with"
        )
    for name, variable in variables.items():
        if tuple(variable.shape) != found[name].shape:
            raise WeightsError(
                f"{path.name}: {name} has shape {found[name].shape}, "
                f"the network needs {tuple(variable.shape)}"
            )
        variable.assign(found[name].astype(np.float32))


def probe_values(model: keras.Model, seed: int, count: int = 16) -> NDArray[np.float64]:
    """Some logits for a seeded input: equal names and shapes do not prove the same network.

    Args:
        model: From (1, h, w, c) to (1, h, w, classes).
        seed: Of the input.
        count: How many logits, spread evenly over the output.
    """
    _, height, width, channels = model.input_shape
    film = np.random.default_rng(seed).standard_normal((1, height, width, channels))
    logits = keras.ops.convert_to_numpy(model(film.astype(np.float32), training=False)).ravel()
    return logits[np.linspace(0, logits.size - 1, count).astype(int)].astype(np.float64)


def check_probe(model: keras.Model, seed: int, expected: Sequence[float], tolerance: float) -> None:
    """Compares the network's answer for the seeded input with the card's.

    Raises:
        WeightsError: They differ by more than the tolerance.
    """
    values = probe_values(model, seed, len(expected))
    error = float(np.abs(values - np.asarray(expected)).max())
    if not error <= tolerance:
        raise WeightsError(
            f"the network answers its probe with a difference of {error:.3g}, more than "
            f"{tolerance}; the code is not that of the weights: use the version of SpineZoo that "
            "the card names, or train again"
        )
