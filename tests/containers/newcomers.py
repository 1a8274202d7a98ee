"""Images that are made from the member that runs, to be swapped in: good ones and bad ones."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spinezoo_tools import engine, images
from spinezoo_tools.composition import ROOT, docker

MEMBER = "pspnet"
REPOSITORY = "spinezootest/pspnet"
OLD = next(part for part in images.parts() if part.name == MEMBER)

NONSENSE = '''

class Nonsense:
    """A semantic network that calls its regions instances."""

    def __init__(self, network):
        self._network = network
        self.card, self.device = network.card, network.device

    def predict(self, film, options):
        from dataclasses import replace

        from spinezoo_contract.types import SegmentKind

        answer = self._network.predict(film, options)
        called = tuple(replace(s, kind=SegmentKind.INSTANCE) for s in answer.segments)
        return replace(answer, segments=called)


def nonsense(card_path, *, device=None):
    return Nonsense(load(card_path, device=device))


Service = serve_network("pspnet", Path(__file__).with_name("card.yaml"), nonsense, read)
'''


def renamed_weights(content: bytes) -> bytes:
    """The same weights in a file of another digest: the header names them in another order.

    Every tensor stays at its place, because the engines' graphs point there.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    named = dict(reversed(json.loads(content[8:end]).items()))
    header = json.dumps(named, separators=(",", ":")).encode().ljust(end - 8)
    assert len(header) == end - 8
    return content[:8] + header + content[end:]


@dataclass(frozen=True)
class Newcomers:
    """Images made from the one that runs.

    Attributes:
        good: The same network as another version, with weights of another digest.
        weights_sha256: Their digest.
        bad: One that breaks the contract.
        dead: One that ends as soon as it is started.
    """

    good: str
    weights_sha256: str
    bad: str
    dead: str


@contextlib.contextmanager
def built(folder: Path) -> Iterator[Newcomers]:
    """The images; they are removed again."""
    made: list[str] = []

    def make(tag: str, files: dict[str, bytes], *lines: str) -> str:
        context = folder / tag
        context.mkdir()
        for name, content in files.items():
            (context / name).write_bytes(content)
            (context / name).chmod(0o644)
        image = f"{REPOSITORY}:{tag}"
        copies = [f"COPY {name} {place}" for name, place in places.items() if name in files]
        text = "\n".join([f"FROM {OLD.image}", *copies, f"ENV SPINEZOO_IMAGE={image}", *lines])
        (context / "Dockerfile").write_text(text + "\n")
        subprocess.run(
            [engine.docker(), "build", "--quiet", "--tag", image, str(context)],
            env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=True, capture_output=True,
            timeout=300.0,
        )  # fmt: skip
        made.append(image)
        return image

    source = ROOT / OLD.folder
    card = (source / "card.yaml").read_text()
    weights = next((source / "weights").glob("*.safetensors"))
    places = {
        "card.yaml": "card.yaml",
        "lite.json": "weights/lite.json",
        weights.name: f"weights/{weights.name}",
        "service.py": "service.py",
    }
    content = renamed_weights(weights.read_bytes())
    digest = hashlib.sha256(content).hexdigest()
    record = json.loads(weights.with_suffix(".json").read_text())
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == record["weights"]["sha256"]
    record["weights"].update(sha256=digest)
    record["graphs"].update(weights_sha256=digest)
    files = {
        "card.yaml": card.replace("version: 0.1.0", "version: 0.2.0", 1).encode(),
        "lite.json": json.dumps(record).encode(),
        weights.name: content,
    }
    service = (source / "service.py").read_text()
    service = service[: service.index("Service = ")] + NONSENSE.lstrip()
    try:
        yield Newcomers(
            make("next", files),
            digest,
            make("bad", {"service.py": service.encode()}),
            make("dead", {}, 'CMD ["python", "-c", "raise SystemExit(\'weights are missing\')"]'),
        )
    finally:
        for image in made:
            docker("rmi", "--force", image, check=False)
