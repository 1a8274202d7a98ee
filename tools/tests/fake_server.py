"""Stands in for a network, the gateway and the evaluator: the two ports, /readyz and a worker.

The worker leaves its parent's process group. Behaviour is set by the file
``behaviour`` in the working folder: words out of ``crash``, ``never``, ``stubborn``, ``orphan``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    ready = True

    def do_GET(self) -> None:
        self.send_response(200 if self.ready and self.path == "/readyz" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    if sys.argv[1:] == ["worker"]:
        if "orphan" in os.environ.get("FAKE_BEHAVIOUR", ""):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
        return
    behaviour = Path("behaviour").read_text() if Path("behaviour").exists() else ""
    seen = {key: value for key, value in os.environ.items() if "SPINEZOO" in key or "BENTO" in key}
    Path("seen.json").write_text(json.dumps({"arguments": sys.argv[1:], "environment": seen}))
    if "crash" in behaviour:
        print("weights are missing; run make train")
        raise SystemExit(3)
    worker = subprocess.Popen(
        [sys.executable, __file__, "worker"],
        start_new_session=True,
        env={**os.environ, "FAKE_BEHAVIOUR": behaviour},
    )

    def stop(*_: object) -> None:
        if "orphan" not in behaviour:
            worker.terminate()
            worker.wait()
        os._exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in behaviour else stop)
    grpc = socket.create_server(("127.0.0.1", int(os.environ["SPINEZOO_GRPC_PORT"])))
    Handler.ready = "never" not in behaviour
    server = HTTPServer(("127.0.0.1", int(os.environ["SPINEZOO_HTTP_PORT"])), Handler)
    print("serving", grpc.getsockname(), flush=True)
    server.serve_forever()


main()
