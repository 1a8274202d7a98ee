"""Settings from the environment, and the form of log lines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_serving.logs import REQUEST_ID, configure_logging
from spinezoo_serving.settings import NetworkSettings, ServerSettings
from spinezoo_serving.variables import RENAMED, EnvironmentSettings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert ServerSettings.from_env({}) == ServerSettings()
    assert NetworkSettings.from_env({"SPINEZOO_PRESET": " ", "SPINEZOO_DEVICE": ""}) == (
        NetworkSettings()
    )


def test_the_constructor_reads_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINEZOO_QUEUE_LIMIT", "3")
    assert ServerSettings().queue_limit == 16
    assert ServerSettings.from_env().queue_limit == 3


def test_every_variable_is_read() -> None:
    environment = {
        "SPINEZOO_HOST": "0.0.0.0",
        "SPINEZOO_GRPC_PORT": "50051",
        "SPINEZOO_HTTP_PORT": "8051",
        "SPINEZOO_MAX_MESSAGE_BYTES": "2000000",
        "SPINEZOO_QUEUE_LIMIT": "3",
        "SPINEZOO_DRAIN_S": "1.5",
        "SPINEZOO_DEVICE": " CUDA:1",
        "SPINEZOO_THREADS": "2",
        "SPINEZOO_PRESET": "paper",
        "SPINEZOO_MAX_PIXELS": "1000",
        "SPINEZOO_IMAGE": "spinezoo/pspnet:0.1.0",
        "spinezoo_host": "small letters are another variable",
    }
    assert ServerSettings.from_env(environment) == ServerSettings(
        host="0.0.0.0",
        grpc_port=50051,
        http_port=8051,
        max_message_bytes=2_000_000,
        queue_limit=3,
        drain_s=1.5,
        max_pixels=1000,
        image="spinezoo/pspnet:0.1.0",
    )
    assert NetworkSettings.from_env(environment) == NetworkSettings(
        device="cuda:1", threads=2, preset="paper"
    )


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_refused_with_the_new_one(old: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{old} is now {RENAMED[old]}"):
        ServerSettings.from_env({old: "5"})


@pytest.mark.parametrize(
    ("settings", "variable", "message"),
    [
        (
            ServerSettings,
            "SPINEZOO_QUEUE_LIMIT",
            "SPINEZOO_QUEUE_LIMIT is 'x'; set an integer from 1 to 100000, or unset it for 16",
        ),
        (
            ServerSettings,
            "SPINEZOO_DRAIN_S",
            "SPINEZOO_DRAIN_S is 'x'; set a number from 0 to 3600.0 (s), or unset it for 20.0",
        ),
        (
            NetworkSettings,
            "SPINEZOO_DEVICE",
            "SPINEZOO_DEVICE is 'x'; set auto, cpu, cuda or cuda:<number>, or unset it for auto",
        ),
    ],
)
def test_a_message_says_what_is_allowed(
    settings: type[EnvironmentSettings], variable: str, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings.from_env({variable: "x"})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SPINEZOO_HOST", "\u00fcber.example"),
        ("SPINEZOO_HOST", "h" * 64),
        ("SPINEZOO_HOST", "h." * 127),
        ("SPINEZOO_HOST", "two words"),
        ("SPINEZOO_HOST", "10.1.2"),
        ("SPINEZOO_HOST", "10.1.2.3:50051"),
        ("SPINEZOO_HOST", "http://zoo"),
        ("SPINEZOO_HOST", "["),
        ("SPINEZOO_GRPC_PORT", "http"),
        ("SPINEZOO_GRPC_PORT", "65536"),
        ("SPINEZOO_HTTP_PORT", "-1"),
        ("SPINEZOO_MAX_MESSAGE_BYTES", "1000"),
        ("SPINEZOO_QUEUE_LIMIT", "0"),
        ("SPINEZOO_DRAIN_S", "nan"),
        ("SPINEZOO_DRAIN_S", "soon"),
        ("SPINEZOO_DEVICE", "tpu"),
        ("SPINEZOO_DEVICE", "cuda:x"),
        ("SPINEZOO_THREADS", "1.5"),
        ("SPINEZOO_MAX_PIXELS", "500000000"),
        ("SPINEZOO_IMAGE", "two words"),
        ("SPINEZOO_IMAGE", "zoo/\u00fcnet:1"),
        ("SPINEZOO_IMAGE", "x" * 256),
    ],
)
def test_a_wrong_value_names_its_variable(variable: str, value: str) -> None:
    network = any(variable.endswith(name) for name in ("DEVICE", "THREADS"))
    settings = NetworkSettings if network else ServerSettings
    with pytest.raises(ConfigurationError, match=variable) as caught:
        settings.from_env({variable: value})
    assert value in str(caught.value)


@pytest.fixture
def log_stream() -> Iterator[io.StringIO]:
    root, own = logging.getLogger(), logging.getLogger("spinezoo")
    before = root.handlers[:], root.level, own.level
    stream = io.StringIO()
    configure_logging("test", stream=stream)
    yield stream
    root.handlers[:], level, own_level = before
    root.setLevel(level)
    own.setLevel(own_level)


def test_a_line_is_json_with_the_request_id(log_stream: io.StringIO) -> None:
    token = REQUEST_ID.set("abc")
    logging.getLogger("spinezoo.x").info("call", extra={"fields": {"ms": 1.5}})
    REQUEST_ID.reset(token)
    logging.getLogger("someone.else").info("chatter")
    (line,) = map(json.loads, log_stream.getvalue().splitlines())
    assert (line["message"], line["request_id"], line["ms"]) == ("call", "abc", 1.5)
    assert (line["process"], line["level"], line["time"][-6:]) == ("test", "info", "+00:00")


def test_the_text_of_an_unexpected_error_is_not_logged(log_stream: io.StringIO) -> None:
    try:
        int("Example^Anna")
    except ValueError:
        logging.getLogger("bentoml").exception("failed")
    text = log_stream.getvalue()
    assert "Example" not in text
    line = json.loads(text)
    assert line["error"] == "ValueError"
    assert any("test_settings.py" in place for place in line["places"])
