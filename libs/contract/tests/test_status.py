"""The table of errors and codes is complete, and leaks nothing."""

from __future__ import annotations

import inspect

import grpc
import pytest
from spinezoo_contract import errors, status
from spinezoo_contract.errors import SpineZooError

EVERY_ERROR = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, SpineZooError)
]


class FakeRpcError(grpc.RpcError):
    """What a call raises, with everything that the functions under test ask of it."""

    def __init__(self, code: grpc.StatusCode, details: str | None, trailer: tuple = ()) -> None:
        self._parts = code, details, trailer

    def code(self) -> grpc.StatusCode:
        return self._parts[0]

    def details(self) -> str | None:
        return self._parts[1]

    def trailing_metadata(self) -> tuple:
        return self._parts[2]


def test_every_error_stands_in_the_table_itself() -> None:
    assert set(EVERY_ERROR) == set(status.CODES)
    assert len(EVERY_ERROR) == 17


@pytest.mark.parametrize("cls", EVERY_ERROR)
def test_the_code_is_the_one_that_the_tree_shows(cls: type[SpineZooError]) -> None:
    """The tree in the module's own text names the code beside the class or one above it."""
    tree = errors.__doc__ or ""
    for ancestor in cls.__mro__:
        line = next((row for row in tree.splitlines() if f" {ancestor.__name__} " in row), "")
        named = line.split()[-1] if line else ""
        if named in grpc.StatusCode.__members__:
            assert status.CODES[cls] is grpc.StatusCode[named]
            return
    assert status.CODES[cls] is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("cls", EVERY_ERROR)
def test_the_client_raises_what_the_server_raised(cls: type[SpineZooError]) -> None:
    error = cls("what is wrong; what to do")
    code, message = status.to_status(error)
    back = status.from_rpc_error(FakeRpcError(code, message, status.error_metadata(error)))
    assert type(back) is cls
    assert str(back) == "what is wrong; what to do"
    http, name, text = status.to_http(error)
    assert 400 <= http < 600
    assert (name, text) == (cls.__name__, message)


def test_http_codes() -> None:
    def code(cls: type[SpineZooError]) -> int:
        return status.to_http(cls("x"))[0]

    assert code(errors.FilmError) == 400
    assert code(errors.TooLargeError) == 413
    assert code(errors.QueueFullError) == code(errors.NotServingError) == 503
    assert code(errors.DeadlineError) == 504
    assert (code(errors.AccessError), code(errors.ClosedFaceError)) == (401, 403)
    assert code(errors.InvalidOutputError) == code(errors.WeightsError) == 500


def test_an_unknown_error_tells_nothing() -> None:
    error = ValueError("PatientName is Example^Anna")
    for text in (status.to_status(error)[1], status.to_http(error)[2]):
        assert text == status.UNEXPECTED_MESSAGE
    assert status.to_status(error)[0] is grpc.StatusCode.INTERNAL
    assert status.error_name(error) == "SpineZooError"
    assert "Example" not in repr(status.error_metadata(error))


def test_a_subclass_of_ours_takes_the_nearest_code() -> None:
    class OwnError(errors.FilmError):
        pass

    assert status.to_status(OwnError("x"))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert status.error_name(OwnError("x")) == "FilmError"


def test_an_error_can_carry_metadata() -> None:
    error = errors.QuorumError("2 of 5")
    error.trailing_metadata = (("x-spinezoo-members", "a,b"),)  # type: ignore[attr-defined]
    assert dict(status.error_metadata(error))["x-spinezoo-members"] == "a,b"


def test_a_very_long_message_fits_the_header_limit() -> None:
    assert len(status.to_status(errors.FilmError("x" * 100_000))[1]) <= 3000


@pytest.mark.parametrize(
    ("code", "details", "cls", "says"),
    [
        ("INVALID_ARGUMENT", "no", errors.BadInputError, "no"),
        ("RESOURCE_EXHAUSTED", "busy", errors.QueueFullError, "busy"),
        (
            "RESOURCE_EXHAUSTED",
            "Received message larger than max (9 vs. 4)",
            errors.TooLargeError,
            "SPINEZOO_MAX_MESSAGE_BYTES",
        ),
        ("DEADLINE_EXCEEDED", "late", errors.DeadlineError, "late"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.DeadlineError, "timeout_s"),
        ("UNAVAILABLE", "refused", errors.NotServingError, "is the server running"),
        ("CANCELLED", "CANCELLED", errors.NotServingError, "ask again"),
        ("UNIMPLEMENTED", "unknown", errors.ConfigurationError, "another service"),
        ("DATA_LOSS", "gone", SpineZooError, "DATA_LOSS: gone"),
        ("INTERNAL", None, SpineZooError, "no message"),
    ],
)
def test_codes_of_strangers(
    code: str, details: str | None, cls: type[SpineZooError], says: str
) -> None:
    back = status.from_rpc_error(FakeRpcError(grpc.StatusCode[code], details))
    assert type(back) is cls
    assert says in str(back)


def test_a_name_that_does_not_fit_the_code_is_ignored() -> None:
    trailer = ((status.ERROR_KEY, "FilmError"),)
    back = status.from_rpc_error(FakeRpcError(grpc.StatusCode.UNAVAILABLE, "x", trailer))
    assert type(back) is errors.NotServingError
