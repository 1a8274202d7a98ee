"""What tests of the suite share."""

from __future__ import annotations

import pytest
from spinezoo_testing.plain_server import Thresholder, thresholder


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Thresholder:
    """A network that conforms."""
    return thresholder(tmp_path_factory.mktemp("card"))
