"""The commands for the composition: start it, stop it, lay out its certificates, run its tests.

Standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinezoo_tools.checkout import read_env_file
from spinezoo_tools.engine import (
    ContainersError,
    ask,
    compose,
    docker,
    have_image,
    need_engine,
    need_room,
    run,
    say,
)
from spinezoo_tools.environments import ROOT, python_of
from spinezoo_tools.images import ARCHIVE, NODE, build, parts, settings
from spinezoo_tools.variables import PUBLISH_HOST, REQUIRE_DOCKER, TEST_GPU_IMAGES
from spinezoo_tools.zoo import Zoo

SWAPPED_IMAGES = ROOT / "deploy" / "compose" / "images.env"
"""``SPINEZOO_<NAME>_IMAGE=...`` of members that were swapped; wins over ``.env``."""

UP_LIMIT_S = 420.0
STOP_LIMIT_S = 180.0
LOG_TAIL_LINES = "25"

GPU_IMAGES_GIB = 30
"""Free space that building the images for GPUs asks for: two frameworks with CUDA, each as wheels,
unpacked and as a layer."""


def compose_environment() -> dict[str, str]:
    """Our environment, with the swapped members' images: compose 1.29 reads one file only."""
    return {**read_env_file(SWAPPED_IMAGES), **os.environ}


def containers() -> dict[str, dict[str, Any]]:
    """The composition's containers, by name, as `docker inspect` tells."""
    listed = ask([*compose(), "ps", "-q"], environment=compose_environment())
    if not listed:
        return {}
    told = ask([docker(), "inspect", *listed.split()])
    return {each["Name"].lstrip("/"): each for each in json.loads(told or "[]")}


def images_to_start() -> list[str]:
    """The composition's images; a swapped member's is another than the one that is built here."""
    swapped = compose_environment()
    return [swapped.get(f"SPINEZOO_{part.name.upper()}_IMAGE") or part.image for part in parts()]


def up() -> None:
    """Starts the composition and waits until every container is healthy.

    Raises:
        ContainersError: An image is missing, or a container does not become healthy.
    """
    need_engine()
    missing = [image for image in images_to_start() if not have_image(image)]
    if missing:
        raise ContainersError(f"not there: {', '.join(missing)}; run `make images` or pull them")
    command = [*compose(), "up", "-d", "--no-build", "--remove-orphans"]
    run(command, environment=compose_environment(), limit_s=UP_LIMIT_S)
    began = time.monotonic()
    healthy: set[str] = set()
    while True:
        now = containers()
        for name, each in now.items():
            state = each["State"]
            health = state.get("Health", {}).get("Status", "healthy")
            if state["Running"] and health == "healthy" and name not in healthy:
                healthy.add(name)
                say(f"  {name:<28} healthy after {time.monotonic() - began:5.1f} s")
        if now and healthy >= set(now):
            break
        failed = [name for name, each in now.items() if each["RestartCount"] >= 3]
        if failed or time.monotonic() - began > UP_LIMIT_S:
            waited = failed or sorted(set(now) - healthy)
            for name in waited:
                say(f"--- {name}: last lines of its log")
                subprocess.run([docker(), "logs", "--tail", LOG_TAIL_LINES, name])
            raise ContainersError(
                f"not healthy: {', '.join(waited)}; stop with `make containers-down`"
            )
        time.sleep(1.0)
    host = PUBLISH_HOST.of(settings())
    port, _ = Zoo(ROOT).ports()["gateway"]
    say(f"the gateway answers on {host}:{port}   stop: make containers-down")


def down() -> None:
    """Stops and removes the composition, with its networks."""
    need_engine()
    command = [*compose(), "down", "--remove-orphans"]
    run(command, environment=compose_environment(), limit_s=STOP_LIMIT_S)


def certs(source: Path, target: Path) -> None:
    """Lays the certificates of ``make certs`` out for compose.tls.yaml: a folder per container.

    A container's user is not the keys' owner, so they are readable by all in folders that only the
    owner of ``source`` can get to: a mount leads past that folder, a path does not.

    Raises:
        ContainersError: There is no certificate of a container.
    """
    wanted = {name: (source / f"{name}.crt", source / f"{name}.key", source / "ca.crt")
              for name in (part.name for part in parts())}  # fmt: skip
    for name, files in wanted.items():
        absent = [path for path in files if not path.is_file()]
        if absent:
            raise ContainersError(f"{name}: {absent[0]} is absent; run `make certs` first")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    source.chmod(0o700)
    target.chmod(0o700)
    for name, files in wanted.items():
        folder = target / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        for path, kept in zip(files, ("tls.crt", "tls.key", "ca.crt"), strict=True):
            # In one step, so that a container that looks again never reads half a file.
            partial = folder / f".{kept}"
            shutil.copyfile(path, partial)
            partial.chmod(0o644)
            partial.replace(folder / kept)
    say(f"certificates for compose.tls.yaml: {target}")


def test(arguments: Sequence[str], *, install: bool) -> int:
    """Builds every image and runs the containers' tests; returns their exit code.

    The tests bring a composition of their own up, under another name and port, and take it down.
    """
    need_engine(install=install)
    build([])
    build([NODE, ARCHIVE])
    return _pytest(["containers", *arguments], {})


def test_gpu(names: Sequence[str]) -> int:
    """Builds the networks' images for GPUs and runs their tests; returns their exit code.

    Args:
        names: Of networks; empty stands for all.
    """
    need_engine()
    need_room(GPU_IMAGES_GIB)
    build(names, gpu=True)
    asked = " ".join(part.name for part in parts(names, gpu=True))
    return _pytest(["-s", "containers/test_gpu_images.py"], {TEST_GPU_IMAGES.name: asked})


def _pytest(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs the containers' tests; returns their exit code."""
    python = python_of(ROOT, ROOT / "tests")
    if not python.exists():
        raise ContainersError("room tests is not set up; run `make setup`")
    command = [str(python), "-m", "pytest", "-q", *arguments]
    own = {**os.environ, REQUIRE_DOCKER.name: "1", **environment}
    return subprocess.run(command, cwd=ROOT / "tests", env=own).returncode
