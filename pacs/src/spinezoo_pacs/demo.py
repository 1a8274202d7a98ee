"""``make pacs-demo``: films into an Orthanc of its own, answered by the zoo, results back in it.

Needs Debian's packages ``orthanc`` and ``orthanc-dicomweb`` and a running zoo (``make up``). All
that it starts listens on this machine only and is ended with it.
"""

# ruff: noqa: T201 - a command: the links go to the terminal.
from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from spinezoo_contract.client import DEFAULT_GATEWAY
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.words import counted

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
"""Where Debian puts Orthanc's DICOMweb."""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(url: str, body: bytes | None = None) -> Any:
    """What a web server answers, as JSON."""
    with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=120) as reply:
        return json.loads(reply.read())


def wait_for(url: str, process: subprocess.Popen[bytes], what: str) -> None:
    """Waits until a server answers.

    Raises:
        SystemExit: It ended, or did not answer in a minute.
    """
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            call(url)
        except (OSError, ValueError):
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"{what} did not start; its log is above")


def run(gateway: str, films: Path, work: Path, *, once: bool) -> int:
    """Runs the demo in a folder; returns the number of films that were answered.

    Raises:
        SystemExit: Orthanc is not installed, or something did not start or answer.
    """
    orthanc = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if orthanc is None:
        raise SystemExit("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    web, dicom, node_web, node_dicom = (free_port() for _ in range(4))
    (work / "orthanc.json").write_text(json.dumps({
        "Name": "SpineZoo demo", "DicomAet": "ORTHANC", "DicomPort": dicom, "HttpPort": web,
        "StorageDirectory": str(work / "storage"), "IndexDirectory": str(work / "storage"),
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomModalities": {"spinezoo": ["SPINEZOO", "127.0.0.1", node_dicom]},
        "UnknownSopClassAccepted": True,
        "Plugins": [str(PLUGIN)] if PLUGIN.exists() else [],
    }))  # fmt: skip
    (work / "node.yaml").write_text(yaml.safe_dump({
        "port": node_dicom, "http_port": node_web, "spool": str(work / "spool"),
        "gateway": gateway, "limits": {"disk_free_mib": 64},
        "peers": [{"ae_title": "ORTHANC", "host": "127.0.0.1", "port": dicom}],
    }))  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(subprocess.Popen([orthanc, str(work / "orthanc.json")]))
        wait_for(f"http://127.0.0.1:{web}/system", started[-1], "Orthanc")
        node = [sys.executable, "-m", "spinezoo_pacs.node.serve", str(work / "node.yaml")]
        started.append(subprocess.Popen(node))
        status = f"http://127.0.0.1:{node_web}/status.json"
        wait_for(status, started[-1], "the node")
        stored = []
        for path in sorted(films.glob("*.dcm")):
            stored.append(call(f"http://127.0.0.1:{web}/instances", path.read_bytes()))
        if not stored:
            raise SystemExit(f"{films} holds no .dcm file")
        ids = json.dumps([each["ID"] for each in stored]).encode()
        call(f"http://127.0.0.1:{web}/modalities/spinezoo/store", ids)
        deadline = time.monotonic() + 60 + 60 * len(stored)
        while (count := call(status)["films"])["done"] + count["aside"] < len(stored):
            if time.monotonic() > deadline:
                raise SystemExit(f"not answered in time: {call(status)['notable']}")
            time.sleep(0.5)
        print(f"\n{counted(count['done'], 'film')} answered, {count['aside']} set aside")
        print(f"node     http://127.0.0.1:{node_web}/")
        for study in sorted({each["ParentStudy"] for each in stored}):
            print(f"study    http://127.0.0.1:{web}/app/explorer.html#study?uuid={study}")
        if not once:
            print("Ctrl-C ends all of it", flush=True)
            started[0].wait()
        return int(count["done"])
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            process.wait(30)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_pacs.demo",
        description="Films into an Orthanc, answered by the zoo, results back in it.",
    )
    parser.add_argument("--gateway", default=DEFAULT_GATEWAY, help="gRPC target of the zoo")
    parser.add_argument("--films", type=Path, help="folder of DICOM films (default: phantoms)")
    parser.add_argument("--count", type=int, default=3, help="phantoms to make (default 3)")
    parser.add_argument("--once", action="store_true", help="end when all are answered")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="spinezoo-pacs-") as folder:
        work = Path(folder)
        films = options.films
        if films is None:
            films = work / "films"
            command = [sys.executable, "-m", "spinezoo_phantom", "--out", str(films)]
            subprocess.run([*command, "--count", str(options.count)], check=True)
        try:
            return 0 if run(options.gateway, films, work, once=options.once) else 1
        except KeyboardInterrupt:
            return 0
        except urllib.error.URLError as error:
            print(f"stopped: {error}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
