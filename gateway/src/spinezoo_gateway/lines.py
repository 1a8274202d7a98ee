"""A channel to a member's addresses, and what was learnt through it."""

from __future__ import annotations

import asyncio
import contextlib
import json

import grpc
import grpc.aio
from spinezoo.v1 import segmenter_pb2
from spinezoo_contract.services import SEGMENTER_SERVICE
from spinezoo_contract.tls import ClientSecurity
from spinezoo_contract.types import ModelInfo

_PREDICT = f"/{SEGMENTER_SERVICE}/Predict"
_GET_MODEL = f"/{SEGMENTER_SERVICE}/GetModel"

MODELS_KEPT = 16
"""Models remembered for each channel: replicas may differ for a while."""


def service_config() -> str:
    """The gRPC service config of a member's channel.

    - ``round_robin`` over every address of the target, each health-checked: a member that is
      loading or draining gets no film, and a replica of it does.
    - A member that cannot be reached is tried three times within about 0.2 s, then it is named;
      it never waits for a connection until its deadline.
    """
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": SEGMENTER_SERVICE},
            "methodConfig": [
                {
                    "name": [{"service": SEGMENTER_SERVICE}],
                    "waitForReady": False,
                    "retryPolicy": {
                        "maxAttempts": 3,
                        "initialBackoff": "0.05s",
                        "maxBackoff": "0.5s",
                        "backoffMultiplier": 2,
                        "retryableStatusCodes": ["UNAVAILABLE"],
                    },
                }
            ],
        }
    )


def channel_options(max_message_bytes: int) -> list[tuple[str, str | int]]:
    """Options of a member's channel."""
    return [
        ("grpc.service_config", service_config()),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # A film larger than this buffer (256 KiB by default) would never be tried again.
        ("grpc.per_rpc_retry_buffer_size", max_message_bytes),
        # A member that comes back is found within about a second.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A machine that vanishes without a word is noticed while a film is under way.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.enable_http_proxy", 0),
    ]


class Line:
    """One channel to a member's addresses, and what was learnt through it."""

    def __init__(
        self,
        target: str,
        max_message_bytes: int,
        security: ClientSecurity,
        server_name: str | None,
    ) -> None:
        self.models: dict[str, ModelInfo] = {}
        self._channel = security.aio_channel(
            target, channel_options(max_message_bytes), server_name
        )
        # The same request bytes go to every member, so nothing is serialised here; the answer is
        # parsed by us, so that bytes that are no answer are named as the member's fault (grpc's
        # asyncio side hands out None for them).
        self.predict = self._channel.unary_unary(
            _PREDICT, request_serializer=bytes, response_deserializer=bytes
        )
        self.get_model = self._channel.unary_unary(
            _GET_MODEL,
            request_serializer=segmenter_pb2.GetModelRequest.SerializeToString,
            response_deserializer=bytes,
        )

    async def ready(self, timeout_s: float) -> bool:
        """Connects, and waits until a healthy address is found or the time, in s, is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                state = self._channel.get_state(try_to_connect=True)
                while state is not grpc.ChannelConnectivity.READY:
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
                return True
        return False

    def learn(self, weights_sha256: str, model: ModelInfo) -> None:
        """Remembers which model has given answers of these weights."""
        if len(self.models) >= MODELS_KEPT:
            self.models.clear()
        self.models[weights_sha256] = model

    async def close(self, grace_s: float | None) -> None:
        """Closes after the calls under way, or after the grace, in s."""
        await self._channel.close(grace_s)
