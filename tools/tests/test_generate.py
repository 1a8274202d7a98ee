"""The generated files are what the folders of ``services/`` make, and a sixth network is in all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from spinezoo_tools.checkout import ToolError, networks_of, read_env_file
from spinezoo_tools.environments import ROOT
from spinezoo_tools.generate.files import TEMPLATES, differences, files, write
from spinezoo_tools.generate.pages import BLOCKS

LISTS = (
    *TEMPLATES,
    ".env",
    "deploy/kubernetes/base/kustomization.yaml",
    "deploy/kubernetes/base/gateway.yaml",
    "deploy/kubernetes/base/roster.yaml",
    "deploy/kubernetes/components/tls/names.yaml",
    "deploy/kubernetes/components/cert-manager/certificates.yaml",
    "deploy/observe/prometheus.yml",
)
"""Every file that names each network; the others fit all of them."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the files are made from, without any of them but ``.env``."""
    for name in networks_of(ROOT):
        (tmp_path / "services" / name).mkdir(parents=True)
        for file in ("card.yaml", "pyproject.toml"):
            shutil.copy(ROOT / "services" / name / file, tmp_path / "services" / name)
    for name in ("gateway", "evaluator"):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / name / "pyproject.toml", tmp_path / name)
    shutil.copy(ROOT / ".env", tmp_path)
    return tmp_path


def test_what_is_committed_is_what_the_folders_make(checkout: Path) -> None:
    assert differences(ROOT) == [], "run `make generate`"
    write(checkout)
    for path in files(ROOT):
        assert (checkout / path).read_bytes() == (ROOT / path).read_bytes(), path


def test_every_generated_file_says_who_writes_it() -> None:
    in_part = {Path(".env"), *(page for page, _ in BLOCKS.values())}
    for path, text in files(ROOT).items():
        assert "make generate" in (text if path in in_part else text.splitlines()[0]), path


@pytest.mark.parametrize("path", LISTS)
def test_these_files_name_every_network(path: str) -> None:
    text = files(ROOT)[Path(path)]
    for name in networks_of(ROOT):
        assert any(form in text for form in (name, name.upper(), name.replace("_", "-"))), name


def test_a_sixth_folder_appears_in_all_of_them(checkout: Path) -> None:
    write(checkout)
    before = files(checkout)
    shutil.copytree(checkout / "services/pspnet", checkout / "services/zz_sixth")
    write(checkout)
    assert differences(checkout) == []
    after = files(checkout)
    for path in LISTS:
        added = after[Path(path)].count("\n") > before[Path(path)].count("\n")
        text = after[Path(path)]
        assert added, path
        assert any(form in text for form in ("zz_sixth", "ZZ_SIXTH", "zz-sixth")), path
    new = {str(path) for path in set(after) - set(before)}
    assert new == {"deploy/kubernetes/base/zz_sixth/kustomization.yaml"}
    values = read_env_file(checkout / ".env")
    assert values["SPINEZOO_ZZ_SIXTH_GRPC_PORT"] == "50056"
    assert values["SPINEZOO_ZZ_SIXTH_HTTP_PORT"] == "8056"
    service = yaml.safe_load((checkout / "compose.yaml").read_text())["services"]["zz_sixth"]
    assert service["environment"]["SPINEZOO_GRPC_PORT"] == 50056
    assert service["image"] == "${SPINEZOO_ZZ_SIXTH_IMAGE:-spinezoo/zz_sixth:0.1.0}"
    assert service["build"]["args"]["ENGINE_LOCK"] == "${ENGINE_LOCK:-locks/engine.lock}"
    service = yaml.safe_load((checkout / "compose.gpu.yaml").read_text())["services"]["zz_sixth"]
    assert service["build"]["args"]["TORCH_LOCK"] == "${TORCH_LOCK:-locks/torch.lock}"
    for folder in ("gateway", "deploy/compose/roster"):
        roster = yaml.safe_load((checkout / folder / "roster.yaml").read_text())["members"]
        assert [member["name"] for member in roster] == networks_of(checkout)
    assert "spinezoo_zz_sixth" in (checkout / ".importlinter").read_text()


def test_ports_that_are_set_stay_and_a_network_that_left_goes(checkout: Path) -> None:
    env = checkout / ".env"
    env.write_text(env.read_text().replace("YOLACT_GRPC_PORT=50055", "YOLACT_GRPC_PORT=51111"))
    write(checkout)
    shutil.rmtree(checkout / "services/unet")
    write(checkout)
    assert differences(checkout) == []
    values = read_env_file(env)
    assert values["SPINEZOO_YOLACT_GRPC_PORT"] == "51111"
    assert not [key for key in values if "UNET" in key]
    assert not (checkout / "deploy/kubernetes/base/unet").exists()
    # Clients ask the gateway where it is shipped to listen.
    env.write_text(env.read_text().replace("GATEWAY_GRPC_PORT=50050", "GATEWAY_GRPC_PORT=51000"))
    module = files(checkout)[Path("libs/contract/src/spinezoo_contract/ports.py")]
    assert "\nGATEWAY_GRPC = 51000\n" in module
    # Who comes next gets the port that is free.
    shutil.copytree(checkout / "services/pspnet", checkout / "services/another")
    write(checkout)
    assert read_env_file(env)["SPINEZOO_ANOTHER_GRPC_PORT"] == "50054"


def test_a_framework_that_stays_old_names_its_own_lock(checkout: Path) -> None:
    room = checkout / "services/pspnet/pyproject.toml"
    text = room.read_text().replace('environment = "torch"', 'environment = "torch-old"')
    room.write_text(text)

    def build(file: str) -> dict[str, Any]:
        return yaml.safe_load(files(checkout)[Path(file)])["services"]["pspnet"]["build"]

    lock = "${TORCH_OLD_LOCK:-locks/torch-old.lock}"
    assert build("compose.gpu.yaml")["args"]["TORCH_LOCK"] == lock
    assert build("compose.yaml")["args"]["FLAVOUR"] == "engine"
    # One that cannot be exported is served with its framework on the CPU too.
    room.write_text(text.replace('serving = "engine"\n', ""))
    assert build("compose.yaml")["args"]["FLAVOUR"] == "torch"
    assert build("compose.yaml")["args"]["TORCH_LOCK"] == lock


def test_env_without_its_markers_is_named(checkout: Path) -> None:
    env = checkout / ".env"
    env.write_text(env.read_text().replace("# end: ports", "# ports end"))
    with pytest.raises(ToolError, match="end: ports"):
        files(checkout)


def test_every_block_of_a_page_is_written_and_needs_its_markers(checkout: Path) -> None:
    page = Path("docs/data-format.md")
    text = (ROOT / page).read_text()
    marker = "<!-- made by make generate: {} -->\n".format
    stale = text
    for name in ("class-names", "film-notes"):
        stale = stale.replace(marker(name), f"{marker(name)}stale\n")
    (checkout / "docs").mkdir()
    (checkout / page).write_text(stale)
    assert files(checkout)[page] == text
    for wrong in (text.replace(marker("film-notes"), ""), text + marker("film-notes")):
        (checkout / page).write_text(wrong)
        with pytest.raises(ToolError, match=r"data-format\.md needs the lines .*film-notes"):
            files(checkout)


def test_the_command_writes_and_then_finds_nothing(checkout: Path) -> None:
    command = [sys.executable, "-m", "spinezoo_tools.generate", "--root", str(checkout)]
    stale = subprocess.run([*command, "--check"], capture_output=True, text=True, timeout=60)
    assert stale.returncode == 1
    assert "compose.yaml: absent" in stale.stderr
    assert "run `make generate`" in stale.stderr
    for more in ([], ["--check"]):
        assert subprocess.run([*command, *more], timeout=60).returncode == 0
