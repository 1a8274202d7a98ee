from __future__ import annotations

from collections.abc import Iterator

import pytest
from small_zoo import Zoo, write_films
from spinezoo_evaluator.serve import make_server
from spinezoo_serving.settings import ServerSettings
from spinezoo_testing.servers import serving
from stand_in import StandInGateway, make_gateway


@pytest.fixture(scope="session")
def evaluator_target() -> Iterator[str]:
    with serving(lambda: make_server(ServerSettings())) as target:
        yield target


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("set") / "small films")


@pytest.fixture
def zoo(data, evaluator_target, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    gateway = StandInGateway(data)
    with serving(lambda: make_gateway(gateway)) as target:
        yield Zoo(gateway, target, evaluator_target, data, tmp_path / "reports" / "run", capsys)
