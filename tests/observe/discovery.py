"""Prometheus with the shipped configuration among replicas that only DNS knows.

Run by ``test_prometheus.py`` in namespaces of its own: ``python -m observe.discovery RESOLV_CONF
PROMETHEUS FOLDER NAME=ADDRESS,ADDRESS:PORT...``. The replicas are real HTTP servers. Prints one
JSON list: the label ``part`` and the address of every target that answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from kubernetes.headless import Dns, own_network

LIMIT_S = 120.0


class Metrics(BaseHTTPRequestHandler):
    """One gauge under ``/metrics``."""

    def do_GET(self) -> None:
        """Answers."""
        self.send_response(200 if self.path == "/metrics" else 404)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(b"spinezoo_queue_length 0\n")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def main(resolv_conf: str, prometheus: str, folder: str, services: list[str]) -> list[list[str]]:
    """Starts everything and waits until every replica was scraped."""
    own_network(resolv_conf)
    dns = Dns()
    wanted = 0
    for service in services:
        name, _, rest = service.partition("=")
        addresses, _, port = rest.partition(":")
        dns.addresses[name] = addresses.split(",")
        for address in dns.addresses[name]:
            server = ThreadingHTTPServer((address, int(port)), Metrics)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            wanted += 1
    process = subprocess.Popen(
        [
            prometheus, f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data", "--web.listen-address=127.0.0.1:9090",
        ],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    found: list[list[str]] = []
    try:
        end = time.monotonic() + LIMIT_S
        while len(found) < wanted and time.monotonic() < end:
            time.sleep(1.0)
            try:
                answer = httpx.get(
                    "http://127.0.0.1:9090/api/v1/query",
                    params={"query": 'up{job="spinezoo"} == 1'},
                ).json()
            except httpx.TransportError:
                continue
            series = [each["metric"] for each in answer["data"]["result"]]
            found = sorted([each["part"], each["instance"]] for each in series)
    finally:
        process.terminate()
        process.wait(30)
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:4], sys.argv[4:])), flush=True)
