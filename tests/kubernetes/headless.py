"""The gateway's members among pods behind a headless Service; run by ``test_balancing.py``.

Runs in network and mount namespaces of its own (``unshare``), where it may answer DNS on port 53
and ``/etc/resolv.conf`` is a pod's. The pods are real member servers on 127.0.0.2 and following.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

RESOLV_CONF = """\
nameserver 127.0.0.1
search spinezoo.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
"""

FULL_NAME = "pspnet.spinezoo.svc.cluster.local"
PORT = 50053
LIMIT_S = 90.0


class Dns:
    """Answers on port 53 from a table of names, as a cluster or Docker does for its services."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, caller = self._socket.recvfrom(4096)
            at, labels = 12, []
            while question[at]:
                labels.append(question[at + 1 : at + 1 + question[at]].decode())
                at += 1 + question[at]
            (kind,) = struct.unpack("!H", question[at + 1 : at + 3])
            known = self.addresses.get(".".join(labels).lower())
            # Type A; other types of a known name have an empty answer.
            found = list(known) if known is not None and kind == 1 else []
            answers = [
                struct.pack("!HHHIH4s", 0xC00C, 1, 1, 5, 4, socket.inet_aton(address))
                for address in found
            ]
            flags = 0x8580 | (3 if known is None else 0)
            head = struct.pack("!HHHHH", flags, 1, len(answers), 0, 0)
            self._socket.sendto(
                question[:2] + head + question[12 : at + 5] + b"".join(answers), caller
            )


def own_network(resolv_conf: str) -> None:
    """Makes the new namespaces fit to use."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", resolv_conf, "/etc/resolv.conf"], check=True)


async def main(folder: Path) -> dict[str, object]:
    """Two pods; a third is added; then one of the first two is taken away as an update does it."""
    from observe import member as one_line_network
    from spinezoo_contract.errors import SpineZooError
    from spinezoo_gateway.settings import GatewaySettings
    from spinezoo_gateway.zoo import Zoo
    from spinezoo_serving.metrics import ServerMetrics
    from spinezoo_serving.segmenter import NetworkRunner, segmenter_server
    from spinezoo_serving.server import GrpcServer
    from spinezoo_serving.settings import ServerSettings

    ready: list[str] = []
    Dns().addresses[FULL_NAME] = ready
    pods: dict[str, tuple[GrpcServer, ServerMetrics]] = {}
    failures: list[str] = []

    async def start(host: str) -> None:
        metrics = ServerMetrics()
        runner = NetworkRunner(ServerSettings(host=host, grpc_port=PORT), metrics=metrics)
        await runner.load(one_line_network.load)
        server = segmenter_server(runner)
        await server.start()
        pods[host] = server, metrics
        ready.append(host)

    def calls(host: str) -> int:
        labels = {"method": "GetModel", "code": "OK"}
        registry = pods[host][1].registry
        return int(registry.get_sample_value("spinezoo_requests_total", labels) or 0)

    await start("127.0.0.2")
    await start("127.0.0.3")
    roster = folder / "roster.yaml"
    roster.write_text(f"members:\n  - {{name: pspnet, target: 'dns:///pspnet:{PORT}'}}\n")
    zoo = Zoo(GatewaySettings(roster=roster), {}, 1 << 26)
    await zoo.start()
    (client,) = zoo.clients

    async def call_until(enough: Callable[[], bool]) -> dict[str, int]:
        end = asyncio.get_running_loop().time() + LIMIT_S
        while not enough():
            assert asyncio.get_running_loop().time() < end, {host: calls(host) for host in pods}
            try:
                await client.fetch_model(10.0)
            except SpineZooError as error:
                failures.append(str(error))
            await asyncio.sleep(0.01)
        return {host: calls(host) for host in pods}

    balanced = await call_until(lambda: min(calls("127.0.0.2"), calls("127.0.0.3")) >= 20)
    await start("127.0.0.4")
    added = await call_until(lambda: calls("127.0.0.4") >= 20)
    # As an update does it: the old pod leaves DNS and drains.
    ready.remove("127.0.0.3")
    ending = asyncio.create_task(pods["127.0.0.3"][0].stop())
    most = calls("127.0.0.4") + 20
    replaced = await call_until(lambda: calls("127.0.0.4") >= most and ending.done())
    await zoo.stop()
    for host in ("127.0.0.2", "127.0.0.4"):
        await pods[host][0].stop()
    return {"balanced": balanced, "added": added, "replaced": replaced, "failures": failures}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("resolv_conf", type=Path)
    given = parser.parse_args()
    own_network(str(given.resolv_conf))
    found = asyncio.run(main(given.resolv_conf.parent))
    print(json.dumps(found), flush=True)
    os._exit(0)  # the network's thread and the DNS thread wait for nobody
