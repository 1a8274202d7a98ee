from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from spinezoo_testing.predictors import write_block_films
from spinezoo_training.prepared_set import PreparedSet, open_film_set, prepare_films


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    folder: Path = write_block_films(tmp_path_factory.mktemp("films"), 9)
    return prepare_films(open_film_set(folder), 48, 40, progress=False)
