"""The repository keeps the shape that its documents promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from spinezoo_tools.environments import Environment, environments, packages_of, rooms

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent for path in (ROOT / "services").glob("*/card.yaml"))
SOURCES = sorted(room.path / "src" for room in rooms() if room.is_package)
TOOLS = Path(sys.executable).parent


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def run(*command: str, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-6000:]}{done.stderr[-3000:]}"


def test_the_five_networks_are_there() -> None:
    assert [path.name for path in SERVICES] == [
        "deeplabv3", "mask_rcnn", "pspnet", "unet", "yolact",
    ]  # fmt: skip


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_every_service_has_the_same_files(service: Path) -> None:
    package = service / "src" / f"spinezoo_{service.name}"
    files = ["card.yaml", "pyproject.toml"]
    files += ["service.py", "README.md", "tests"]
    modules = ["__init__.py", "framework.py", "network.py", "predictor.py", "train.py"]
    wanted = [service / name for name in files] + [package / name for name in modules]
    missing = [str(path.relative_to(ROOT)) for path in wanted if not path.exists()]
    assert not missing


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_every_card_is_valid_and_its_weights_are_the_ones_it_names(service: Path) -> None:
    from spinezoo_serving.cards import load_card, verify_graphs, verify_weights

    card = load_card(service / "card.yaml")
    assert card.name == service.name
    weights = verify_weights(card)
    assert weights.stat().st_size < 16 * 2**20
    assert weights.suffix in {".safetensors", ".h5"}
    # Whoever puts other weights here exports them too: `make export`.
    graphs = {*verify_graphs(card).values(), *verify_graphs(card, int8=True).values()}
    assert graphs == set(weights.parent.glob("lite.*.onnx"))


def test_roster_names_exactly_the_services() -> None:
    roster = yaml.safe_load((ROOT / "gateway" / "roster.yaml").read_text())
    assert sorted(member["name"] for member in roster["members"]) == [p.name for p in SERVICES]


@pytest.mark.parametrize("environment", environments(), ids=lambda each: each.name)
def test_every_environment_has_locks_with_hashes_and_without_addresses(
    environment: Environment,
) -> None:
    serves = [room for room in (*environment.rooms, *environment.served_rooms) if room.serves]
    assert environment.dev_lock.is_file() == bool(environment.rooms)
    assert environment.lock.is_file() == bool(serves)
    for path in {*environment.locks, *([environment.gpu_lock] if serves else [])}:
        text = path.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert not re.search(r"^-", text, flags=re.MULTILINE)
    if environment.lock.is_file() and environment.dev_lock.is_file():
        assert not set(packages_of(environment.lock)) & set(packages_of(environment.dev_lock))


def test_no_lock_is_left_over() -> None:
    used = {path for environment in environments() for path in environment.locks}
    used |= {each.gpu_lock for each in environments() if each.gpu_lock.is_file()}
    assert set((ROOT / "locks").iterdir()) == used


FRAMEWORKS = {"torch", "torchvision", "tensorflow", "keras", "timm", "openvino-telemetry"}


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_a_network_on_the_cpu_carries_no_framework(service: Path) -> None:
    listed = subprocess.run(
        [sys.executable, "deploy/images/distributions.py", service.relative_to(ROOT)],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout.split()  # fmt: skip
    assert not {"libs/phantom", "libs/training", "libs/testing", "libs/torchkit"} & set(listed)
    (room,) = rooms([service.name])
    assert not FRAMEWORKS & set(packages_of(room.serving_environment.lock))


@pytest.mark.parametrize("front", ["gateway", "evaluator"])
def test_gateway_and_evaluator_carry_no_framework_and_no_phantoms(front: str) -> None:
    listed = subprocess.run(
        [sys.executable, "deploy/images/distributions.py", front],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout.split()  # fmt: skip
    assert {"libs/contract", "libs/serving", "libs/spine", front} <= set(listed)
    assert not {"libs/phantom", "libs/training", "libs/testing", "libs/torchkit"} & set(listed)
    assert not FRAMEWORKS & set(packages_of(ROOT / "locks/core.lock"))


def test_no_file_of_ours_is_long() -> None:
    """A file over 600 lines holds more than one subject. Generated code does not count."""
    generated = ROOT / "libs/contract/src/spinezoo/v1"
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in tracked()
        if path.suffix == ".py" and generated not in path.parents
        for lines in [len(path.read_text(encoding="utf-8").splitlines())]
        if lines > 600
    }
    assert not long


def test_no_tracked_file_is_large_or_a_pickle() -> None:
    for path in tracked():
        assert path.stat().st_size < 16 * 2**20, path
        assert path.suffix not in {".pt", ".pth", ".pkl", ".ckpt", ".npy"}, path


def test_no_tracked_file_names_this_machine() -> None:
    needle = str(ROOT)
    for path in tracked():
        if path.suffix in {".png", ".safetensors", ".h5", ".dcm", ".onnx"}:
            continue
        assert needle not in path.read_text(encoding="utf-8", errors="replace"), path


def test_imports_go_down_only() -> None:
    run(str(TOOLS / "lint-imports"), "--no-cache", PYTHONPATH=os.pathsep.join(map(str, SOURCES)))


def test_ruff_finds_nothing() -> None:
    run(str(TOOLS / "ruff"), "check", ".")
    run(str(TOOLS / "ruff"), "format", "--check", ".")


SERVERS = {
    "spinezoo_serving/bento.py", "spinezoo_serving/health.py", "spinezoo_spine/films/worker.py",
    "spinezoo_gateway/serve.py", "spinezoo_evaluator/serve.py", "spinezoo_pacs/node/serve.py",
}  # fmt: skip
"""What runs as a program and is no command that a person reads."""


def test_every_command_ends_with_its_reader() -> None:
    commands = {}
    for source in (*SOURCES, ROOT / "examples"):
        for path in sorted(source.rglob("*.py")):
            text = path.read_text()
            if path.name == "__main__.py" or '\nif __name__ == "__main__":\n' in text:
                commands[path.relative_to(source).as_posix()] = text
    assert commands.keys() >= SERVERS
    assert len(commands) > 30
    for name, text in commands.items():
        begins = re.search(r"^ *end_with_reader\(\)\n", text, re.M) is not None
        assert begins == (name not in SERVERS), name


def test_onnx_runtime_is_imported_where_it_was_told_to_call_nobody() -> None:
    """Which its importers' packages do before, in what is run when they are imported."""
    importers = {
        path.relative_to(source).parts[0]
        for source in SOURCES
        for path in source.rglob("*.py")
        if re.search(r"^ *(import|from) onnxruntime\b", path.read_text(), re.M)
    }
    assert importers == {"spinezoo_spine", "spinezoo_torchkit"}
    for name, told in (("spine", "ORT_DISABLE_TELEMETRY"), ("torchkit", "import spinezoo_spine")):
        begin = ROOT / f"libs/{name}/src/spinezoo_{name}/__init__.py"
        assert told in begin.read_text()


def test_mypy_finds_nothing() -> None:
    packages = [str(path) for source in SOURCES for path in source.glob("spinezoo_*")]
    run(
        str(TOOLS / "mypy"), "--no-incremental", *packages,
        MYPYPATH=os.pathsep.join(map(str, SOURCES)),
    )  # fmt: skip


def test_protos_are_clean_and_their_python_is_up_to_date() -> None:
    # A shallow clone has no parent commit to compare with; the comparison is with HEAD itself.
    run(sys.executable, "-m", "spinezoo_tools.proto", "--check", "--breaking-ok")
