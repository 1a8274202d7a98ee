"""The overlay of the node is locked down like the others, and its settings are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from answers import dicom_of
from parts import ORTHANC, ZooProcess
from spinezoo_pacs.demo import main
from spinezoo_pacs.node.addresses import AddressBook
from spinezoo_pacs.node.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = yaml.safe_load((ROOT / "compose.pacs.yaml").read_text())


@pytest.mark.parametrize("name", sorted(OVERLAY["services"]))
def test_every_container_is_locked_down(name: str) -> None:
    service = OVERLAY["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert service["mem_limit"]
    assert not {"privileged", "cap_add", "user", "network_mode"} & {*service}
    for port in service["ports"]:
        assert port.startswith(("127.0.0.1:", "${SPINEZOO_PACS_PUBLISH_HOST:-127.0.0.1}:"))


def test_the_image_has_its_own_lock_and_target() -> None:
    build = OVERLAY["services"]["pacs"]["build"]
    assert (ROOT / build["args"]["LIGHT_LOCK"]).is_file()
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert build["target"] in stages


def test_the_shipped_settings_are_valid() -> None:
    settings = read_settings(ROOT / "deploy/pacs/node.yaml")
    assert settings.destinations("ORTHANC")[0].port == 4242
    volumes = OVERLAY["services"]["pacs"]["volumes"]
    assert any(volume.endswith(":/var/lib/spinezoo") for volume in volumes)
    assert str(settings.spool).startswith("/var/lib/spinezoo/")
    assert "${SPINEZOO_PACS_SETTINGS:-./deploy/pacs}:/etc/spinezoo:ro" in volumes


def test_orthanc_is_there_for_trying_only() -> None:
    assert OVERLAY["services"]["orthanc"]["profiles"] == ["trial"]
    assert "profiles" not in OVERLAY["services"]["pacs"]


def test_addresses_are_addresses_networks_or_names() -> None:
    book = AddressBook()
    assert book.holds(("10.1.2.3",), "10.1.2.3")
    assert book.holds(("10.1.0.0/16",), "10.1.200.7")
    assert book.holds(("localhost",), "127.0.0.1")
    assert book.holds(("10.1.2.3",), "::ffff:10.1.2.3")
    assert not book.holds(("10.1.0.0/16", "no-such-host.invalid"), "10.2.0.1")


@pytest.mark.skipif(ORTHANC is None, reason="Orthanc is not installed")
def test_the_demo_answers_films(
    tmp_path: Path, zoo: ZooProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    for seed in (5, 6):
        (tmp_path / f"{seed}.dcm").write_bytes(dicom_of(seed))
    assert main(["--gateway", zoo.target, "--films", str(tmp_path), "--once"]) == 0
    out = capfd.readouterr().out
    assert "2 films answered, 0 set aside" in out
    assert out.count("explorer.html#study?uuid=") == 2
