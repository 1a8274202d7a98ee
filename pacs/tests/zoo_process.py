"""A zoo in one process: three networks that know the truth of given phantoms, and the gateway.

``python zoo_process.py --port P --seeds 3 5 22`` says "ready" when it serves, until it is ended.
The servers, the fan-out, the fusion and the reader of names are the real ones; only the networks'
weights are replaced by the phantoms' truth, found by the look of the film.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from answers import NAMES, SMALL, phantom, truth_segments
from numpy.typing import NDArray
from spinezoo_contract.types import Film, Prediction, PredictOptions, Segment, Timing
from spinezoo_gateway.serve import Gateway
from spinezoo_serving.cards import CardProbe, CardWeights, ModelCard, update_card
from spinezoo_serving.segmenter import NetworkRunner, segmenter_server
from spinezoo_serving.settings import ServerSettings
from spinezoo_spine.films.reader import read_film

CARD = """
name: {name}
version: 1.0.0
architecture: the truth of phantoms
family: instance
reference: "https://example.org/truth"
license: Apache-2.0
preset: lite
preprocessing_id: none-v1
structures: [lumbar_vertebra, sacral_vertebra, cage, screw, rod]
defaults: {{score_threshold: 0.0, suppression_iou: 0.5, max_segments: 100}}
presets:
  lite:
    input: {{height: 64, width: 64, channels: 1}}
    network: {{}}
"""


def look(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """What tells films apart, whatever their compression."""
    small = cv2.resize(pixels.astype(np.float32), (12, 16), interpolation=cv2.INTER_AREA)
    return (small - small.mean()) / max(float(small.std()), 1e-6)


class Truth:
    """A network that answers the truth of the phantom that looks most like the film."""

    device = "cpu"
    precision = "float32"

    def __init__(self, card: ModelCard, known: list[tuple[NDArray[np.float32], tuple]]) -> None:
        self.card, self.known = card, known

    def predict(self, film: Film, options: PredictOptions) -> Prediction:
        own = look(film.pixels)
        near = [float((seen * own).mean()) for seen, _ in self.known]
        place = int(np.argmax(near))
        segments: tuple[Segment, ...] = ()
        if near[place] > 0.9:
            found = self.known[place][1]
            if (found[0].mask.height, found[0].mask.width) == (film.height, film.width):
                segments = found
        provenance = self.card.provenance(self.device, Timing(infer_ms=1.0))
        return Prediction(film.height, film.width, segments, provenance)


def card_of(name: str, folder: Path) -> ModelCard:
    path = folder / f"{name}.yaml"
    path.write_text(CARD.format(name=name))
    weights = CardWeights(
        "weights/lite.safetensors", "ab" * 32, 1, "float16", CardProbe(0, (0.0,), 0.01)
    )
    return update_card(path, "lite", weights=weights)


async def serve(port: int, seeds: list[int], folder: Path) -> None:
    films = [phantom(seed, SMALL) for seed in seeds]
    known = [(look(film.pixels), truth_segments(film)) for film in films]
    lines, servers = [], []
    for name in NAMES:
        card_folder = folder / name
        card_folder.mkdir()
        runner = NetworkRunner(ServerSettings(), Truth(card_of(name, card_folder), known))
        server = segmenter_server(runner, read_film=read_film)
        await server.start()
        servers.append(server)  # asyncio keeps none of them alive
        lines.append(f"  - {{name: {name}, target: '127.0.0.1:{server.port}'}}")
    roster = folder / "roster.yaml"
    roster.write_text("members:\n" + "\n".join(lines) + "\n")
    gateway = Gateway({"SPINEZOO_ROSTER": str(roster), "SPINEZOO_GRPC_PORT": str(port)})
    await gateway.server.start()
    await gateway.zoo.start()
    sys.stdout.write(f"ready {gateway.server.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(serve(options.port, options.seeds, Path(folder)))


if __name__ == "__main__":
    main()
