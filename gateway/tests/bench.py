"""Real members, a real gateway and a real client over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from fake_member import FakeMember
from spinezoo.v1 import ensemble_pb2, ensemble_pb2_grpc, image_pb2
from spinezoo_contract.codec import film_to_proto
from spinezoo_contract.types import Film
from spinezoo_gateway.addresses import Resolve
from spinezoo_gateway.serve import Gateway
from spinezoo_testing.servers import Loop

NAMES = ("deeplabv3", "mask_rcnn", "pspnet", "unet", "yolact")
LIMIT = 64 << 20
CHANNEL = (
    ("grpc.max_receive_message_length", LIMIT),
    ("grpc.max_send_message_length", LIMIT),
)


class Bench:
    """Members by name, the gateway that asks them, and a client."""

    def __init__(self, loop: Loop, folder: Path) -> None:
        self.loop = loop
        self.roster = folder / "roster.yaml"
        self.members: dict[str, FakeMember] = {}
        self.gateway: Gateway | None = None
        self.channel: grpc.Channel | None = None

    def add_member(self, name: str, **settings: Any) -> FakeMember:
        member = FakeMember(name=name, **settings)
        self.loop.run(member.start())
        self.members[name] = member
        return member

    def write_roster(self, targets: dict[str, str] | None = None) -> None:
        targets = targets or {name: member.target for name, member in self.members.items()}
        lines = [f"  - {{name: {name}, target: '{target}'}}" for name, target in targets.items()]
        self.roster.write_text("members:\n" + "\n".join(lines) + "\n")

    def start(self, resolve: Resolve | None = None, **environment: str) -> None:
        if not self.roster.exists():
            self.write_roster()

        async def begin() -> None:
            self.gateway = Gateway({"SPINEZOO_ROSTER": str(self.roster), **environment})
            if resolve is not None:
                self.gateway.zoo.resolve = resolve
            await self.gateway.server.start()
            await self.gateway.zoo.start()

        self.loop.run(begin())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.gateway.server.port}", CHANNEL)
        self.stub = ensemble_pb2_grpc.EnsembleServiceStub(self.channel)

    def start_http(self) -> str:
        """Starts the gateway's HTTP port; gives the address that calls begin with."""
        self.loop.run(self.gateway.http.start())
        return f"{self.gateway.http.scheme}://127.0.0.1:{self.gateway.http.port}"

    def segment(
        self, film: Film | image_pb2.Image, timeout_s: float = 20.0, **fields: Any
    ) -> ensemble_pb2.SegmentResponse:
        image = film_to_proto(film) if isinstance(film, Film) else film
        request = ensemble_pb2.SegmentRequest(image=image, **fields)
        return self.stub.Segment(request, timeout=timeout_s)

    def close(self) -> None:
        async def end() -> None:
            if self.gateway is not None:
                await self.gateway.http.stop()
                await self.gateway.server.stop(0.0)
                await self.gateway.zoo.stop()
            for member in self.members.values():
                await member.stop()

        if self.channel is not None:
            self.channel.close()
        self.loop.run(end())
