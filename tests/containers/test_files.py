"""Dockerfile, composition files, locks and services agree; needs no Docker Engine."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from spinezoo_tools import containers, engine, images
from spinezoo_tools.checkout import FRONT, read_env_file
from spinezoo_tools.composition import NETWORKS, ROOT, composition_file
from spinezoo_tools.environments import UV_VERSION, Room
from spinezoo_tools.variables import default_of, processes

SERVICES = composition_file("compose.yaml")["services"]
ENV = images.settings()


def without_entry(root: Path, composition: dict) -> list[str]:
    """Networks of a checkout that its composition does not start."""
    folders = {card.parent.name for card in root.glob("services/*/card.yaml")}
    return sorted(folders - set(composition["services"]))


def test_every_service_folder_has_a_compose_entry(tmp_path: Path) -> None:
    assert without_entry(ROOT, composition_file("compose.yaml")) == []
    assert sorted(SERVICES) == sorted([*NETWORKS, *FRONT])
    # The check itself can fail.
    (tmp_path / "services" / "sixth").mkdir(parents=True)
    (tmp_path / "services" / "sixth" / "card.yaml").touch()
    assert without_entry(tmp_path, composition_file("compose.yaml")) == ["sixth"]


def test_every_network_has_a_gpu_share() -> None:
    shares = composition_file("compose.gpu.yaml")["services"]
    assert sorted(shares) == list(NETWORKS)
    for name, share in shares.items():
        (device,) = share["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert device["capabilities"] == ["gpu"]
        assert device["device_ids"] == [f"${{SPINEZOO_{name.upper()}_GPU:-0}}"]


@pytest.mark.parametrize("part", images.parts(), ids=lambda part: part.name)
def test_compose_builds_what_the_tool_builds(part) -> None:
    service = SERVICES[part.name]
    assert service["build"]["target"] == part.target
    assert service["build"]["args"]["FLAVOUR"] == part.flavour
    assert service["build"]["args"]["SERVICE"] == part.folder
    default = f"spinezoo/{part.name}:{part.version}"
    variable = f"${{SPINEZOO_{part.name.upper()}_IMAGE:-{default}}}"
    assert service["image"] == variable
    assert service["build"]["args"]["IMAGE"] == variable
    assert service["build"]["args"]["VERSION"] == f"${{SPINEZOO_VERSION:-{part.version}}}"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_container_is_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert service["mem_limit"]
    assert not {"container_name", "privileged", "cap_add", "user", "pid", "network_mode"} & {
        *service
    }
    assert float(service["stop_grace_period"].rstrip("s")) > float(default_of("SPINEZOO_DRAIN_S"))


def test_only_the_gateway_is_published_and_members_have_no_way_out() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["gateway"]
    inside = [port.rpartition(":")[2] for port in SERVICES["gateway"]["ports"]]
    environment = SERVICES["gateway"]["environment"]
    assert inside == [str(environment[f"SPINEZOO_{kind}_PORT"]) for kind in ("GRPC", "HTTP")]
    assert composition_file("compose.yaml")["networks"]["members"] == {"internal": True}
    for name, service in SERVICES.items():
        wanted = ["front", "members"] if name == "gateway" else ["members"]
        assert service["networks"] == wanted, name


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_ports_in_containers_are_those_of_env(name: str) -> None:
    for kind in ("GRPC", "HTTP"):
        number = SERVICES[name]["environment"][f"SPINEZOO_{kind}_PORT"]
        shipped = read_env_file(ROOT / ".env")
        assert str(number) == shipped[f"SPINEZOO_{name.upper()}_{kind}_PORT"]


def test_the_compositions_roster_names_every_network_by_its_service() -> None:
    roster = yaml.safe_load((ROOT / "deploy/compose/roster/roster.yaml").read_text())
    targets = {member["name"]: member["target"] for member in roster["members"]}
    wanted = {
        name: f"dns:///{name}:{SERVICES[name]['environment']['SPINEZOO_GRPC_PORT']}"
        for name in NETWORKS
    }
    assert targets == wanted
    # A swap's newcomer has another name than its service, and shows the service's certificate.
    names = {member["name"]: member["server_name"] for member in roster["members"]}
    assert names == {name: name.replace("_", "-") for name in NETWORKS}


def test_the_gateways_settings_can_be_set_in_containers() -> None:
    known = {row.name for row in processes()["Gateway"] if "<" not in row.name}
    assert len(known) >= 6
    environment = SERVICES["gateway"]["environment"]
    assert known <= set(environment)
    for name in known - {"SPINEZOO_ROSTER"}:  # a place in the container
        assert environment[name] == f"${{{name}:-}}"


@pytest.mark.parametrize(
    ("flavour", "argument"),
    [
        ("engine", "ENGINE_LOCK"),
        ("torch", "TORCH_LOCK"),
        ("tensorflow", "TENSORFLOW_LOCK"),
        ("light", "LIGHT_LOCK"),
    ],
)
def test_an_image_holds_the_packages_that_its_service_was_tested_with(
    flavour: str, argument: str
) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    match = re.search(rf"^ARG {argument}=(\S+)$", dockerfile, re.MULTILINE)
    assert match is not None
    on_gpu = flavour in ("torch", "tensorflow")
    locks = set()
    for part in images.parts(gpu=on_gpu):
        if part.flavour == flavour:
            room = Room(ROOT / part.folder)
            own = room.environment.gpu_lock if on_gpu else room.serving_environment.lock
            given = images.build_arguments(part, images.PUBLIC_BASE)[argument]
            assert ROOT / given == own
            locks.add(own)
    # Who builds without `make images` and names no lock gets the one of today's services.
    assert ROOT / match[1] in locks


def test_the_dockerfile_needs_no_foreign_front_end_and_no_fixed_base() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert not any(re.match(r"#\s*(syntax|escape)\s*=", line) for line in lines)
    sources = {line.split()[1] for line in lines if line.startswith("FROM ")}
    stages = {line.split()[3] for line in lines if line.startswith("FROM ")}
    assert sources - stages == {"${BASE_IMAGE}", "${FLAVOUR}-framework", "scratch"}
    assert {
        f"{part.flavour}-framework" for gpu in (0, 1) for part in images.parts(gpu=bool(gpu))
    } < stages


def test_the_builds_own_tools_are_locked_and_uv_is_the_one_of_the_rooms() -> None:
    lock = (ROOT / "deploy/images/tools.lock").read_text()
    assert f"\nuv=={UV_VERSION} \\\n" in lock
    assert "://" not in lock
    for line in lock.splitlines():
        assert line.startswith("#") or line.endswith("\\") or "--hash=sha256:" in line


def test_no_setting_looks_like_a_member_to_the_gateway() -> None:
    # The gateway reads SPINEZOO_ROSTER_<NAME> as a member of that name.
    used = set(ENV).union(*(service["environment"] for service in SERVICES.values()))
    assert not [name for name in used if name.startswith("SPINEZOO_ROSTER_")]


def test_without_an_engine_the_tool_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(engine.NoEngineError, match="--install"):
        engine.need_engine()
    assert containers.main(["engine"]) == containers.NO_ENGINE == 3


def test_an_engine_of_somebody_else_is_not_stopped(tmp_path: Path, monkeypatch) -> None:
    pid = tmp_path / "dockerd.pid"
    monkeypatch.setattr(engine, "ENGINE_PID", pid)
    engine.stop_engine()
    # Numbers are given away again: what has this one now is no engine.
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pid.write_text(str(stranger.pid))
        engine.stop_engine()
        assert stranger.poll() is None
        stranger.kill()
    assert not pid.exists()


def test_debians_packages_are_asked_for_again_while_they_are_locked(
    tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "apt-get").write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/calls\n'
        f"test $(wc -l < {tmp_path}/calls) -ge 3 || exit 100\n"
    )
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(engine, "APT_PAUSE_S", 0.1)
    engine._apt(["update"], time.monotonic() + 30.0)
    assert (tmp_path / "calls").read_text().count("update") == 3
    (tmp_path / "calls").unlink()
    with pytest.raises(engine.NoEngineError, match="packages cannot be had"):
        engine._apt(["update"], time.monotonic() + 0.15)
