from __future__ import annotations

from collections.abc import Iterator

import pytest
from spinezoo_evaluator.serve import make_server
from spinezoo_serving.settings import ServerSettings
from spinezoo_testing.servers import serving


@pytest.fixture(scope="session")
def evaluator_target() -> Iterator[str]:
    with serving(lambda: make_server(ServerSettings())) as target:
        yield target
