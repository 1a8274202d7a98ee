"""The one table between SpineZoo's errors and gRPC status codes, in both directions.

A server sends the code, the message and, in the trailing metadata, the name of the error class,
so that a client raises the same class again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import grpc

from spinezoo_contract import errors
from spinezoo_contract.errors import SpineZooError

ERROR_KEY = "x-spinezoo-error"
"""Key in the trailing metadata: name of the error class, such as ``FilmError``."""

REQUEST_ID_KEY = "x-request-id"
"""Key in a call's metadata and in the trailing metadata of its answer."""

MEMBERS_KEY = "x-spinezoo-members"
"""Key in the trailing metadata of a call that failed for its quorum: JSON, one entry a member."""

UNEXPECTED_MESSAGE = (
    "the server failed in an unexpected way; its log holds the place under the request id"
)
"""What a caller reads of an unexpected error: no value, no path, no text of the error."""

CODES: dict[type[SpineZooError], grpc.StatusCode] = {
    errors.SpineZooError: grpc.StatusCode.INTERNAL,
    errors.BadInputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.FilmError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.AnnotationError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.OptionError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.MaskError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.TooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QueueFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.NotServingError: grpc.StatusCode.UNAVAILABLE,
    errors.QuorumError: grpc.StatusCode.UNAVAILABLE,
    errors.AccessError: grpc.StatusCode.UNAUTHENTICATED,
    errors.ClosedFaceError: grpc.StatusCode.PERMISSION_DENIED,
    errors.InvalidOutputError: grpc.StatusCode.INTERNAL,
    errors.ConfigurationError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CardError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.WeightsError: grpc.StatusCode.FAILED_PRECONDITION,
}
"""Every error of the tree and its code."""

HTTP_CODES: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.FAILED_PRECONDITION: 500,
}
"""Every code of :data:`CODES` as HTTP; :func:`to_http` knows the exception."""

_CLASSES = {cls.__name__: cls for cls in CODES}

_BY_CODE: dict[grpc.StatusCode, type[SpineZooError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.BadInputError,
    grpc.StatusCode.OUT_OF_RANGE: errors.BadInputError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.QueueFullError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineError,
    grpc.StatusCode.UNAVAILABLE: errors.NotServingError,
    # How gRPC itself ends a call that meets a port which is just closing: nobody has answered it.
    grpc.StatusCode.CANCELLED: errors.NotServingError,
    grpc.StatusCode.UNAUTHENTICATED: errors.AccessError,
    grpc.StatusCode.PERMISSION_DENIED: errors.AccessError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.ConfigurationError,
    grpc.StatusCode.UNIMPLEMENTED: errors.ConfigurationError,
}
"""The class for a code that comes without a class name, from a server that is not ours."""

_MAX_MESSAGE_LENGTH = 3000
"""Characters of a message that are sent: gRPC counts it against an 8 KiB header limit."""


class _RpcError(Protocol):
    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> Any: ...


def to_status(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """Code and message for a caller.

    An error that is not ours becomes INTERNAL with :data:`UNEXPECTED_MESSAGE`: its own text may
    hold anything.
    """
    for cls in type(error).__mro__:
        if cls in CODES:
            return CODES[cls], str(error)[:_MAX_MESSAGE_LENGTH]
    return grpc.StatusCode.INTERNAL, UNEXPECTED_MESSAGE


def error_name(error: BaseException) -> str:
    """Name of the nearest class of the tree, for metadata, HTTP answers and metrics."""
    for cls in type(error).__mro__:
        if cls in CODES:
            return str(cls.__name__)
    return SpineZooError.__name__


def to_http(error: BaseException) -> tuple[int, str, str]:
    """HTTP code, error name and message for a caller."""
    code, message = to_status(error)
    if isinstance(error, errors.TooLargeError):
        return 413, error_name(error), message
    return HTTP_CODES[code], error_name(error), message


def error_metadata(error: BaseException) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata of a failed call.

    An error may carry more in an attribute ``trailing_metadata`` (pairs of key and value).
    """
    extra: Iterable[tuple[str, str | bytes]] = getattr(error, "trailing_metadata", ())
    return ((ERROR_KEY, error_name(error)), *extra)


def _unreachable(message: str) -> str:
    """What to do about a server that cannot be reached, from grpc's text."""
    if "Hostname Verification" in message:
        return "the server's certificate is of another name; call it by one that it holds"
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return "the server's certificate is not accepted; check the authority's file and the date"
    if "handshake failed" in message:
        return "does the server speak TLS at this address?"
    if "Socket closed" in message:
        return "is the server running there, with TLS and a client certificate as it asks for?"
    return "is the server running at this address?"


def from_rpc_error(error: _RpcError | grpc.RpcError) -> SpineZooError:
    """The error that a failed call means, of the class that the server raised.

    Args:
        error: What grpc raised, from the blocking or the asyncio interface.
    """
    call: Any = error
    code = call.code()
    message = call.details() or f"the call failed with {code.name} and no message"
    name = None
    for key, value in call.trailing_metadata() or ():
        if key == ERROR_KEY:
            name = value
    named = _CLASSES.get(name) if isinstance(name, str) else None
    if named is not None and CODES[named] == code:
        return named(message)
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:
        return errors.TooLargeError(
            f"{message}; raise SPINEZOO_MAX_MESSAGE_BYTES on both sides or send a smaller film"
        )
    if code == grpc.StatusCode.UNIMPLEMENTED:
        message = f"{message}; is this the address of another service?"
    elif code == grpc.StatusCode.UNAVAILABLE:
        message = f"{message}; {_unreachable(message)}"
    elif code == grpc.StatusCode.DEADLINE_EXCEEDED and name is None:
        message = f"no answer came in the call's time ({message}); give it more time (timeout_s)"
    elif code == grpc.StatusCode.CANCELLED:
        message = f"the call was cut off ({message}); the server may be stopping, ask again"
    cls = _BY_CODE.get(code, SpineZooError)
    return cls(message if cls is not SpineZooError else f"{code.name}: {message}")
