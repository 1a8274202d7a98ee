"""``make certs``: certificates for development."""

from __future__ import annotations

import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from spinezoo_contract.certificates import PemFile, load_identity
from spinezoo_tools.environments import ROOT


def identity(folder: Path, name: str, *, as_client: bool = False) -> Any:
    certificate, key = (PemFile(folder / f"{name}.{kind}", kind) for kind in ("crt", "key"))
    return load_identity(certificate, key, as_client=as_client)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_one_certificate_for_every_service_and_the_front(tmp_path: Path) -> None:
    """The command as `make certs` runs it, on this repository's services."""
    command = [
        sys.executable,
        "-m",
        "spinezoo_tools.certs",
        "--out",
        str(tmp_path / "c"),
        "--namespace",
        "zoo",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "for development only" in done.stderr
    services = [card.parent.name for card in ROOT.glob("services/*/card.yaml")]
    names = {"ca", "gateway", "evaluator", "pacs", "client", *services}
    assert len(services) == 5
    made = contents(tmp_path / "c")
    assert set(made) == {f"{name}.{kind}" for name in names for kind in ("crt", "key")}
    for path in (tmp_path / "c").iterdir():
        expected = 0o600 if path.suffix == ".key" else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == expected
    assert set(identity(tmp_path / "c", "mask_rcnn").names) == {
        *("mask_rcnn", "mask_rcnn.zoo", "mask_rcnn.zoo.svc", "mask_rcnn.zoo.svc.cluster.local"),
        *("mask-rcnn", "mask-rcnn.zoo", "mask-rcnn.zoo.svc", "mask-rcnn.zoo.svc.cluster.local"),
        *("localhost", "127.0.0.1"),
        "0:0:0:0:0:0:0:1",
    }
    assert identity(tmp_path / "c", "gateway", as_client=True)

    again = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "all are good" in again.stdout
    assert contents(tmp_path / "c") == made


def test_only_what_is_missing_or_ending_is_made(tool: ModuleType, tmp_path: Path) -> None:
    names = ["a", "b"]
    assert tool.write_all(tmp_path, names, days=365) == ["ca", "a", "b"]
    first = contents(tmp_path)
    assert tool.write_all(tmp_path, names, days=365) == []
    (tmp_path / "b.key").unlink()
    assert tool.write_all(tmp_path, [*names, "c"], days=365) == ["b", "c"]
    assert contents(tmp_path)["a.crt"] == first["a.crt"]
    # Of other names than before, or a key of something else.
    assert tool.write_all(tmp_path, ["a"], more=["zoo.hospital", "10.0.0.7"]) == ["a"]
    assert {"zoo.hospital", "10.0.0.7"} <= set(identity(tmp_path, "a").names)
    (tmp_path / "c.key").write_bytes((tmp_path / "b.key").read_bytes())
    assert tool.write_all(tmp_path, [*names, "c"]) == ["c"]
    authority = tool.load(tmp_path, "ca")
    begins = datetime.now(UTC) - timedelta(days=340)
    wanted = tool.alternative_names("a", "spinezoo")
    pair = tool.make_certificate("a", wanted, *authority, begins=begins, days=365)
    tool.save(tmp_path, "a", *pair)
    assert tool.write_all(tmp_path, [*names, "c"]) == ["a"]


def test_force_keeps_the_authority_and_a_new_authority_renews_all(
    tool: ModuleType, tmp_path: Path
) -> None:
    tool.write_all(tmp_path, ["a"])
    first = contents(tmp_path)
    assert tool.write_all(tmp_path, ["a"], force=True) == ["a"]
    forced = contents(tmp_path)
    assert (forced["ca.crt"], forced["ca.key"]) == (first["ca.crt"], first["ca.key"])
    assert forced["a.crt"] != first["a.crt"]
    assert tool.write_all(tmp_path, ["a"], new_authority=True) == ["ca", "a"]
    assert contents(tmp_path)["ca.crt"] != first["ca.crt"]
    # Certificates of an authority that was replaced by hand are foreign.
    tool.save(tmp_path, "ca", *tool.make_authority())
    assert tool.write_all(tmp_path, ["a"]) == ["a"]


def test_the_authority_signs_processes_only(tool: ModuleType, tmp_path: Path) -> None:
    tool.write_all(tmp_path, ["a"])
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    leaf = x509.load_pem_x509_certificate((tmp_path / "a.crt").read_bytes())
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(days=365)


def test_a_folder_that_cannot_be_written_is_named(
    tool: ModuleType, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "file").write_text("")
    assert tool.main(["--out", str(tmp_path / "file")]) == 1
    assert "file: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool.main(["--days", "0"])
