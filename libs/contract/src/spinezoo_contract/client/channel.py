"""What every client shares: its channel, its time limit, and errors by name."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from spinezoo_contract import ports
from spinezoo_contract.errors import (
    ConfigurationError,
    InvalidOutputError,
    NotServingError,
    OptionError,
)
from spinezoo_contract.limits import DEFAULT_MAX_MESSAGE_BYTES
from spinezoo_contract.status import REQUEST_ID_KEY, from_rpc_error
from spinezoo_contract.tls import (
    ClientSecurity,
    TlsMode,
    check_token,
    is_loopback,
    name_options,
    target_host,
)

DEFAULT_GATEWAY = f"127.0.0.1:{ports.GATEWAY_GRPC}"
"""gRPC target of the gateway as ``make up`` and the composition start it."""

DEFAULT_TIMEOUT_S = 120.0
"""Time a call has, in s: a member's 60 s and as much again for the way and the fusion."""


NO_MESSAGE = "the answer is no message of this contract; is this the address of another service?"
"""Of a server that answers bytes which cannot be parsed."""

_T = TypeVar("_T")


class Client:
    """What the blocking and the asyncio clients share: settings of channel and call."""

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        credentials: grpc.ChannelCredentials | None = None,
        security: ClientSecurity | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        certificate_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        token: str | None = None,
        plain_token: bool = False,
    ) -> None:
        """Opens a channel; the first call connects.

        Without ``ca_file``, ``security`` and ``credentials`` nothing is encrypted; give one of
        the three.

        Args:
            target: gRPC target, such as ``127.0.0.1:50050``.
            timeout_s: Time that a call has unless it says otherwise, in s; None: no limit.
            max_message_bytes: Largest message sent and received.
            credentials: TLS credentials that were made elsewhere.
            security: TLS settings, such as ``ClientSecurity.from_env()``.
            ca_file: PEM file with the authority of the server's certificate.
            certificate_file: PEM file of this client's certificate, where the server asks for one.
            key_file: PEM file of its key.
            server_name: Name in the server's certificate where the target has another.
            token: Bearer token that goes with every call.
            plain_token: Whether the token may cross a network without TLS of this client, as
                where a proxy on the way encrypts.

        Raises:
            ConfigurationError: A file is wrong, two ways of TLS are given, or the token would
                cross a network in the clear.
        """
        files = (ca_file, certificate_file, key_file)
        if sum((credentials is not None, security is not None, any(files))) > 1:
            raise ConfigurationError("TLS is given twice; give credentials, security or ca_file")
        if security is None:
            security = ClientSecurity.from_files(*files)
        encrypted = credentials is not None or security.tls is not TlsMode.OFF
        if token is not None:
            check_token(token)
            if not (encrypted or plain_token or is_loopback(target_host(target))):
                raise ConfigurationError(
                    f"the token would go to {target} in the clear; give ca_file, or plain_token "
                    "where a proxy on the way encrypts"
                )
        self.target = target
        self.timeout_s = timeout_s
        self._token = token
        options = [
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
        ]
        self._channel = self._open(target, options, credentials, security, server_name)

    def _open(
        self,
        target: str,
        options: list[tuple[str, Any]],
        credentials: grpc.ChannelCredentials | None,
        security: ClientSecurity,
        server_name: str | None,
    ) -> Any:
        raise NotImplementedError

    def _call(self, timeout_s: float | None, request_id: str | None) -> Call:
        return Call(self.timeout_s if timeout_s is None else timeout_s, request_id, self._token)


_MOST_TIMEOUT_S = 1e8
"""Three years: longer counts as no limit."""


class Call:
    """Arguments of one call and the meaning of its failure."""

    def __init__(self, timeout_s: float | None, request_id: str | None, token: str | None) -> None:
        if timeout_s is not None and math.isnan(timeout_s):
            raise OptionError("timeout_s is nan; give seconds, or None for no limit")
        if timeout_s is not None and timeout_s > _MOST_TIMEOUT_S:
            timeout_s = None  # gRPC would take it for a time that is over
        self.request_id = request_id or uuid.uuid4().hex
        metadata = [(REQUEST_ID_KEY, self.request_id)]
        if token is not None:
            metadata.append(("authorization", f"Bearer {token}"))
        self.arguments: dict[str, Any] = {"timeout": timeout_s, "metadata": tuple(metadata)}

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turns grpc's error into ours, with a note of the request id."""
        try:
            yield
        except grpc.RpcError as error:
            named = from_rpc_error(error)
            named.add_note(f"request id {self.request_id}")
            raise named from error
        except InvalidOutputError as error:
            error.add_note(f"request id {self.request_id}")
            raise


class BlockingClient(Client):
    """A blocking client: close it, or use it in a ``with`` statement. Safe in many threads."""

    def _open(
        self,
        target: str,
        options: list[tuple[str, Any]],
        credentials: grpc.ChannelCredentials | None,
        security: ClientSecurity,
        server_name: str | None,
    ) -> grpc.Channel:
        if credentials is None:
            return security.channel(target, options, server_name)
        return grpc.secure_channel(target, credentials, options=name_options(options, server_name))

    def wait_until_connected(self, timeout_s: float = 30.0) -> None:
        """Waits until the server takes connections.

        Raises:
            NotServingError: It did not within ``timeout_s``.
        """
        try:
            grpc.channel_ready_future(self._channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError as error:
            raise NotServingError(
                f"{self.target} took no connection within {timeout_s:g} s; is the server running?"
            ) from error

    def close(self) -> None:
        """Closes the channel; calls in flight are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        """Returns the client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the channel."""
        self.close()


class AsyncClient(Client):
    """An asyncio client: make it inside a running loop, use it in an ``async with`` statement."""

    def _open(
        self,
        target: str,
        options: list[tuple[str, Any]],
        credentials: grpc.ChannelCredentials | None,
        security: ClientSecurity,
        server_name: str | None,
    ) -> grpc.aio.Channel:
        if credentials is None:
            return security.aio_channel(target, options, server_name)
        return grpc.aio.secure_channel(
            target, credentials, options=name_options(options, server_name)
        )

    @staticmethod
    async def _answer(call: Awaitable[_T | None]) -> _T:
        """The message that a call is answered with.

        grpc's asyncio side hands out None where bytes are no such message; its blocking side fails.

        Raises:
            InvalidOutputError: The answer is no message of this kind.
        """
        message = await call
        if message is None:
            raise InvalidOutputError(NO_MESSAGE)
        return message

    async def close(self) -> None:
        """Closes the channel; calls in flight are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        """Returns the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the channel."""
        await self.close()
