"""What is in the images, asked of the engine and of a container of each."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest
from spinezoo_tools import engine, images
from spinezoo_tools.composition import NETWORKS, ROOT, docker, inspect

from containers.needed import need_images

PARTS = {part.name: part for part in images.parts()}
NETWORK_LIMIT_BYTES = 900_000_000
OWN_LAYERS_LIMIT_BYTES = 32 * 2**20


@pytest.fixture(autouse=True)
def built() -> None:
    need_images()


def in_image(name: str, *command: str) -> str:
    """Runs a command in a container of an image, locked down as in the composition."""
    flags = ("--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL")
    return docker("run", *flags, "--entrypoint", command[0], PARTS[name].image, *command[1:]).stdout


@pytest.mark.parametrize("name", PARTS)
def test_it_runs_as_nobody_special(name: str) -> None:
    assert inspect(PARTS[name].image)["Config"]["User"] == "10001:10001"
    assert in_image(name, "id", "-u").strip() == "10001"


@pytest.mark.parametrize("name", PARTS)
def test_its_labels_say_version_and_card(name: str) -> None:
    part = PARTS[name]
    config = inspect(part.image)["Config"]
    assert config["Labels"]["org.opencontainers.image.version"] == part.version
    assert f"SPINEZOO_IMAGE={part.image}" in config["Env"]
    if part.card.is_file():
        digest = hashlib.sha256(part.card.read_bytes()).hexdigest()
        assert config["Labels"]["spinezoo.card.sha256"] == digest, "build it again: make images"
        told = in_image(name, "sha256sum", f"/app/{part.folder}/card.yaml")
        assert told.split()[0] == digest


@pytest.mark.parametrize("name", PARTS)
def test_its_health_check_asks_grpc(name: str) -> None:
    check = inspect(PARTS[name].image)["Config"]["Healthcheck"]["Test"]
    assert check == ["CMD", "python", "-m", "spinezoo_serving.health"]


@pytest.mark.parametrize("name", PARTS)
def test_it_holds_no_compiler_installer_or_tests(name: str) -> None:
    code = (
        "import importlib.util, json, shutil\n"
        "names = ('gcc', 'cc', 'g++', 'clang', 'make', 'ld', 'uv')\n"
        "tools = [name for name in names if shutil.which(name)]\n"
        "packages = [p for p in ('pytest', 'uv_build', 'mypy') if importlib.util.find_spec(p)]\n"
        "print(json.dumps(tools + packages))"
    )
    assert json.loads(in_image(name, "python", "-c", code)) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_are_inside_and_are_those_of_the_card(name: str) -> None:
    code = (
        "from pathlib import Path\n"
        "from spinezoo_serving.cards import load_card, verify_weights\n"
        "print(verify_weights(load_card(Path('card.yaml'))))"
    )
    assert in_image(name, "python", "-c", code).startswith("weights/")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_for_cpus_is_small(name: str) -> None:
    assert inspect(PARTS[name].image)["Size"] < NETWORK_LIMIT_BYTES


@pytest.mark.parametrize("flavour", ["engine", "light"])
def test_images_of_one_flavour_share_all_but_a_few_mb(flavour: str) -> None:
    stacks = {
        name: inspect(part.image)["RootFS"]["Layers"]
        for name, part in PARTS.items()
        if part.flavour == flavour
    }
    assert len(stacks) >= 2
    first, *others = stacks.values()
    shared = 0
    while all(len(each) > shared and each[shared] == first[shared] for each in [first, *others]):
        shared += 1
    for name, layers in stacks.items():
        # What is copied in, and the working directory, which is an empty layer.
        assert len(layers) - shared <= 2, f"{name} shares only {shared} of {len(layers)} layers"
        lines = docker(
            "history", "--no-trunc", "--human=false", "--format", "{{.Size}}", PARTS[name].image
        ).stdout.split()
        sizes = [int(line) for line in lines]  # newest first
        own = sum(sizes[: sizes.index(max(sizes))])
        assert 0 < own < OWN_LAYERS_LIMIT_BYTES, f"{name} adds {own} bytes of its own"


@pytest.mark.parametrize("name", PARTS)
def test_no_secret_is_in_its_history(name: str) -> None:
    history = docker(
        "history", "--no-trunc", "--format", "{{.CreatedBy}}", PARTS[name].image
    ).stdout
    assert "://" not in history
    assert "BEGIN CERTIFICATE" not in history
    with images.build_secrets() as flags:
        for flag in flags[1::2]:
            assert flag.split("src=")[1] not in history
    environment = inspect(PARTS[name].image)["Config"]["Env"]
    assert not [line for line in environment if "INDEX" in line or "PROXY" in line.upper()]


def test_the_build_context_holds_tracked_files_only(tmp_path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /\n")
    out = tmp_path / "context"
    command = [engine.docker(), "build", "-f", str(dockerfile), "--output", str(out), "."]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True, text=True, timeout=120.0,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sent = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert sent
    assert sent <= set(listed.split("\0"))
    assert not [path for path in sent if "/tests/" in path or path.endswith((".pem", ".key"))]


def test_too_little_room_is_said_before_a_large_build() -> None:
    engine.need_room(0)
    with pytest.raises(engine.NoRoomError, match=r"docker system prune"):
        engine.need_room(10**9)
