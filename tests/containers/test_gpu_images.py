"""Images for GPUs, on a machine without one: the framework is there, and the service answers.

They are gigabytes of CUDA, so they are built and tried only where somebody asks:
``make test-gpu-images``.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator

import pytest
from spinezoo_contract.client import SegmenterClient
from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.types import Film
from spinezoo_phantom import PhantomSettings, make_film
from spinezoo_tools import engine, images
from spinezoo_tools.composition import docker, inspect, wait_for
from spinezoo_tools.variables import TEST_GPU_IMAGES

ASKED = os.environ.get(TEST_GPU_IMAGES.name, "").split()
PARTS = {part.name: part for part in images.parts(gpu=True)}
START_S = 300.0
FIND = {
    "torch": (
        "import json, torch; print(json.dumps([torch.__version__, torch.version.cuda, "
        "[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]]))"
    ),
    "tensorflow": (
        "import json, tensorflow as tf; print(json.dumps([tf.__version__, "
        "tf.sysconfig.get_build_info().get('cuda_version'), "
        "[d.name for d in tf.config.list_physical_devices('GPU')]]))"
    ),
}
"""Prints as JSON: the framework's version, that of the CUDA it was built for, GPUs that it sees."""

pytestmark = pytest.mark.skipif(
    not ASKED, reason="`make test-gpu-images` builds and tries them; it takes long"
)


@pytest.fixture(params=ASKED or ["none"])
def part(request: pytest.FixtureRequest) -> images.Part:
    found = PARTS[request.param]
    if not engine.have_image(found.image):
        pytest.fail(f"{found.image} is not built: make images ARGS='--gpu {found.name}'")
    return found


@pytest.fixture
def served(part: images.Part) -> Iterator[str]:
    """Where the image's own command serves, with its framework, on the CPU."""
    name = f"spinezootest-{uuid.uuid4().hex[:12]}"
    port = "50051"
    docker(
        *("run", "--detach", "--name", name, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        *("--env", f"SPINEZOO_ENGINE={part.flavour}", "--env", "SPINEZOO_DEVICE=cpu"),
        *("--env", f"SPINEZOO_GRPC_PORT={port}", "--publish", f"127.0.0.1::{port}", part.image),
    )
    try:
        yield docker("port", name, port).stdout.split()[0]
    finally:
        docker("rm", "--force", "--volumes", name)


def test_the_framework_is_there_and_says_what_it_finds(part: images.Part) -> None:
    flags = ("--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL")
    said = docker("run", *flags, part.image, "python", "-c", FIND[part.flavour]).stdout
    version, cuda, gpus = json.loads(said.splitlines()[-1])
    print(f"{part.image}: {part.flavour} {version}, CUDA {cuda}, GPUs {gpus}")
    assert cuda, f"{part.flavour} {version} was not built for CUDA"
    assert gpus == [] or isinstance(gpus[0], str)


def test_it_answers_with_the_framework(part: images.Part, served: str) -> None:
    film = Film(make_film(7, PhantomSettings(height_px=512, width_px=384)).pixels)

    with SegmenterClient(served) as client:

        def ask() -> object:
            try:
                return client.predict(film, timeout_s=60.0)
            except SpineZooError:
                return None

        answer = wait_for(f"{part.image} to answer", ask, START_S)
    assert answer.provenance.engine == part.flavour
    assert answer.provenance.device == "cpu"
    assert answer.segments


def test_it_is_of_this_card(part: images.Part) -> None:
    labels = inspect(part.image)["Config"]["Labels"]
    assert labels["spinezoo.card.sha256"] == images.build_arguments(part, "")["CARD_SHA256"]
