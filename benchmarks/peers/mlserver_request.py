"""Prints MLServer's gRPC request of a film, in its environment: ``film.dcm > request.bin``."""

from __future__ import annotations

import sys
from pathlib import Path

from mlserver.grpc import dataplane_pb2 as messages

if __name__ == "__main__":
    part = messages.ModelInferRequest.InferInputTensor(name="film", datatype="BYTES", shape=[1])
    part.contents.bytes_contents.append(Path(sys.argv[1]).read_bytes())
    request = messages.ModelInferRequest(model_name="peer", inputs=[part])
    sys.stdout.buffer.write(request.SerializeToString())
