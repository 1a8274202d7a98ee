"""The network behind MLServer: a custom runtime, parallel workers as many as cores.

Both as its pages "Custom inference runtimes" and "Parallel inference" have it. A film comes over
gRPC, which its performance page recommends for binary inputs.
"""

from __future__ import annotations

import json

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from work import Work


class Peer(MLModel):
    """One network."""

    async def load(self) -> bool:
        """Loads it, in each worker."""
        self.work = Work()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The answer to the one film of a request."""
        film = payload.inputs[0].data[0]
        answer = json.dumps(self.work.answer(film))
        return InferenceResponse(
            model_name=self.name, outputs=[StringCodec.encode_output("answer", [answer])]
        )
