"""Inputs made where the network is are those that serving makes."""

from __future__ import annotations

import numpy as np
import torch
from spinezoo_testing.predictors import prepared_block_film
from spinezoo_torchkit.inputs import two_channels, two_channels_there
from spinezoo_training.targets import network_input


def test_inputs_are_those_of_serving() -> None:
    films = [prepared_block_film(seed)[0] for seed in range(3)]
    grey = torch.from_numpy(np.stack([film.grey for film in films]))
    served = np.stack([network_input(film) for film in films])
    np.testing.assert_array_equal(two_channels(grey).numpy(), served)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        there = two_channels_there(grey)
    assert there.dtype == torch.float32
    assert there.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(there.numpy(), served, atol=3e-3)


def test_a_film_of_one_grey_gives_zeros() -> None:
    grey = torch.full((1, 64, 48), 90, dtype=torch.uint8)
    np.testing.assert_allclose(two_channels_there(grey).numpy(), 0.0, atol=2e-2)
