"""Stores of examples: what is damaged in them has a name and a way on."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_training.shards import RECORD_FILE, read_record, read_shards, write_shard

NAMES = ("grey", "films")


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "000040.npz"
    write_shard(path, grey=np.arange(3000, dtype=np.uint8), films=np.arange(500.0))
    return path


def test_a_damaged_shard_is_named_and_never_read_as_another(shard: Path) -> None:
    whole, chance = shard.read_bytes(), random.Random(1)
    (good,) = read_shards(shard.parent, NAMES)
    said = []
    for number in range(2000):
        damaged = bytearray(whole)
        place = chance.randrange(len(whole))
        if number % 2:
            damaged[place] ^= 1 << chance.randrange(8)
        else:
            del damaged[place:]
        shard.write_bytes(damaged)
        try:
            (read,) = read_shards(shard.parent, NAMES)
        except ConfigurationError as error:
            said.append(str(error))
        else:  # in what a reader does not look at, such as the time of a file
            assert all(np.array_equal(read[name], good[name]) for name in NAMES)
    assert len(said) > 1900
    assert len({*said}) == 1
    assert said[0].startswith(f"{shard} is damaged")
    assert "remove it and start again" in said[0]


def test_a_shard_of_another_version_is_named(shard: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"000040\.npz is damaged or of another version"):
        list(read_shards(shard.parent, ("grey", "corners")))


@pytest.mark.parametrize("content", [b"", b'{"seed": 1', b"[]", b"\xff"])
def test_a_damaged_record_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RECORD_FILE).write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"store\.json is damaged; remove the folder"):
        read_record(tmp_path)
