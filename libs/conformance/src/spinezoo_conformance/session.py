"""The connection to the container under test, and the answers that several rules share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from spinezoo.v1 import image_pb2, model_pb2, segmenter_pb2, segmenter_pb2_grpc
from spinezoo_contract.errors import NotServingError
from spinezoo_contract.services import SEGMENTER_SERVICE
from spinezoo_contract.tls import ClientSecurity

from spinezoo_conformance import films
from spinezoo_conformance.verdict import RuleBlockedError, RuleBrokenError, expect

_CONNECT_TIMEOUT_S = 30.0

_ALIVE_TIMEOUT_S = 10.0

_HEALTH_TIMEOUT_S = 2.0

_POLL_S = 0.2

STANDARD_SIZE = (384, 250)
"""Height and width of the film that most rules use; no multiple of a network's stride."""


_PIXEL_TYPES = {
    "uint8": image_pb2.PIXEL_TYPE_UINT8,
    "uint16": image_pb2.PIXEL_TYPE_UINT16,
    "float32": image_pb2.PIXEL_TYPE_FLOAT32,
}


def open_channel(
    target: str, options: Sequence[tuple[str, int]], server_name: str | None = None
) -> grpc.Channel:
    """A channel to the container under test, with TLS where ``SPINEZOO_CLIENT_TLS`` says so.

    Args:
        target: gRPC target.
        options: Channel options.
        server_name: Name that the container's certificate must carry, where the target is an
            address; not used without encryption.

    Raises:
        ConfigurationError: A certificate's file is wrong.
    """
    return ClientSecurity.from_env().channel(target, options, server_name)


class Session:
    """A connection to the container under test, and what several rules share."""

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 120.0,
        limit_s: float | None = None,
        server_name: str | None = None,
    ) -> None:
        """Opens the channel; nothing is sent.

        Args:
            target: gRPC target, such as ``127.0.0.1:50051``.
            timeout_s: Time each call has, in s.
            limit_s: Time that all calls have together from now on, in s; None: no limit.
            server_name: See :func:`open_channel`.
        """
        self.target = target
        self.limit_s = limit_s
        self._timeout_s = timeout_s
        self._end = None if limit_s is None else time.monotonic() + limit_s
        # No limit on this side: the container's own limits are what is tested.
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.channel = open_channel(target, options, server_name)
        self.stub = segmenter_pb2_grpc.SegmenterServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        self._model: model_pb2.ModelInfo | None = None
        self._answer: segmenter_pb2.PredictResponse | None = None
        self._default_answer: segmenter_pb2.PredictResponse | None = None

    def __enter__(self) -> Session:
        """Returns the session itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the channel."""
        self.close()

    def close(self) -> None:
        """Closes the channel."""
        self.channel.close()

    @property
    def timeout_s(self) -> float:
        """Time that the next call has, in s: greater than 0, never past the limit of all."""
        if self._end is None:
            return self._timeout_s
        return max(0.001, min(self._timeout_s, self._end - time.monotonic()))

    @property
    def over(self) -> bool:
        """Whether the time limit of all calls has passed."""
        return self._end is not None and time.monotonic() >= self._end

    def connect(self, timeout_s: float | None = None) -> None:
        """Waits until the container takes connections.

        Args:
            timeout_s: How long, in s; None: 30 s.

        Raises:
            NotServingError: It did not within that time.
        """
        timeout_s = _CONNECT_TIMEOUT_S if timeout_s is None else timeout_s
        try:
            grpc.channel_ready_future(self.channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError as error:
            raise NotServingError(
                f"{self.target} took no connection within {timeout_s:g} s; start the container "
                "and check host and port"
            ) from error

    def wait_until_serving(self, timeout_s: float) -> None:
        """Waits until the container takes connections and its health says SERVING.

        A server that serves and knows no such service is no network that is loading: it is left
        to the rules.

        Args:
            timeout_s: How long, in s.

        Raises:
            NotServingError: It did not within that time; the message says what it did instead.
        """
        end = time.monotonic() + timeout_s
        self.connect(timeout_s)
        while True:
            said = self._health_of(SEGMENTER_SERVICE)
            if said == "SERVING" or (said == "NOT_FOUND" and self._health_of("") == "SERVING"):
                return
            if time.monotonic() >= end:
                raise NotServingError(
                    f"{self.target} did not serve within {timeout_s:g} s (health: {said}); "
                    "read the container's log"
                )
            time.sleep(_POLL_S)

    def _health_of(self, service: str) -> str:
        """What health says of a service now: a status, or the code of the call that failed."""
        try:
            answer = self.health.Check(
                health_pb2.HealthCheckRequest(service=service), timeout=_HEALTH_TIMEOUT_S
            )
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def predict(
        self,
        image: image_pb2.Image,
        options: segmenter_pb2.PredictOptions | None = None,
    ) -> segmenter_pb2.PredictResponse:
        """One call of Predict; raises grpc's error."""
        request = segmenter_pb2.PredictRequest(image=image, options=options)
        return self.stub.Predict(request, timeout=self.timeout_s)

    def get_model(self) -> model_pb2.ModelInfo:
        """The answer of GetModel; raises grpc's error."""
        if self._model is None:
            request = segmenter_pb2.GetModelRequest()
            self._model = self.stub.GetModel(request, timeout=self.timeout_s).model
        return self._model

    def model(self) -> model_pb2.ModelInfo:
        """What GetModel says, for rules that need it.

        Raises:
            RuleBlockedError: The call fails.
        """
        try:
            return self.get_model()
        except grpc.RpcError as error:
            raise RuleBlockedError(f"GetModel fails ({told(error)}), see C04") from error

    def standard_answer(self) -> segmenter_pb2.PredictResponse:
        """The answer to the standard film with score threshold 0; raises grpc's error."""
        if self._answer is None:
            options = segmenter_pb2.PredictOptions(score_threshold=0.0)
            self._answer = self.predict(raw_image(standard_pixels()), options)
        return self._answer

    def answer(self) -> segmenter_pb2.PredictResponse:
        """As :meth:`standard_answer`, for rules that need it.

        Raises:
            RuleBlockedError: The call fails.
        """
        try:
            return self.standard_answer()
        except grpc.RpcError as error:
            raise RuleBlockedError(f"Predict fails ({told(error)}), see C05") from error

    def default_answer(self) -> segmenter_pb2.PredictResponse:
        """The answer to the standard film with the card's own settings.

        Near score 0 an instance network answers chance, which the rounding of another encoding
        changes; so encodings are compared with these settings.

        Raises:
            RuleBlockedError: The call fails.
        """
        if self._default_answer is None:
            try:
                self._default_answer = self.predict(raw_image(standard_pixels()))
            except grpc.RpcError as error:
                raise RuleBlockedError(f"Predict fails ({told(error)}), see C05") from error
        return self._default_answer

    def alive(self) -> bool:
        """Whether anything answers at the address."""
        try:
            self.health.Check(
                health_pb2.HealthCheckRequest(), timeout=_ALIVE_TIMEOUT_S, wait_for_ready=True
            )
        except grpc.RpcError as error:
            return error.code() not in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            )
        return True

    def expect_alive(self, after: str) -> None:
        """Fails when the container no longer answers."""
        expect(self.alive(), f"stopped answering after {after}")

    def expect_serving(self, after: str) -> None:
        """Fails when the container no longer answers an ordinary film.

        Raises:
            RuleBrokenError: It does not.
        """
        self.expect_alive(after)
        try:
            response = self.predict(raw_image(standard_pixels()))
        except grpc.RpcError as error:
            raise RuleBrokenError(
                f"no longer answers a good film after {after}: {told(error)}"
            ) from error
        size = (response.height, response.width)
        expect(size == STANDARD_SIZE, f"answers size {size} to a good film after {after}")


def standard_pixels() -> NDArray[np.uint8]:
    """The film that most rules send, (height, width) of :data:`STANDARD_SIZE`."""
    return films.spine_like_pixels(*STANDARD_SIZE)


def raw_image(pixels: NDArray[Any]) -> image_pb2.Image:
    """A film as raw pixels.

    Args:
        pixels: (height, width) of ``uint8``, ``uint16`` or ``float32``, bright is dense.
    """
    little_endian = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    raw = image_pb2.RawPixels(
        height=pixels.shape[0],
        width=pixels.shape[1],
        pixel_type=_PIXEL_TYPES[pixels.dtype.name],
        data=little_endian.tobytes(),
    )
    return image_pb2.Image(raw=raw)


def told(error: grpc.RpcError) -> str:
    """A failed call as one line: its code, and the start of its message."""
    details = (error.details() or "no message").strip()
    return f"{error.code().name}: {details[:300]}"
