"""The network behind LitServe: a ``LitAPI``, a worker a core (its page "Speed up model servers").

A film comes as a file of a form, as its page "Request, response format" has it.
"""

from typing import Any

import litserve
from fastapi import Request
from work import PORT, WORKERS, Work


class Peer(litserve.LitAPI):
    """One network."""

    def setup(self, device: str) -> None:
        """Loads it, in each worker."""
        self.work = Work()

    def decode_request(self, request: Request) -> bytes:
        """The bytes of the film's file."""
        data: bytes = request["film"].file.read()
        return data

    def predict(self, x: bytes) -> dict[str, Any]:
        """The answer."""
        return self.work.answer(x)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """As JSON."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Peer(), accelerator="cpu", devices=1, workers_per_device=WORKERS, timeout=60
    )
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False)
