"""Starts zoos of this checkout beside a developer's own, and makes films, good and bad.

A zoo of the tests has ports and a run folder of its own. Every wait here has a limit.
"""

from __future__ import annotations

import ast
import contextlib
import io
import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import psutil
import pydicom
import tifffile
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian
from spinezoo_conformance import films as synthetic
from spinezoo_conformance.ports import free_ports
from spinezoo_contract.client import EnsembleClient, EvaluationClient, SegmenterClient
from spinezoo_contract.types import Film, Prediction, Timing
from spinezoo_phantom import PhantomSettings, make_film, write_dicom
from spinezoo_tools.environments import python_of

_T = TypeVar("_T")

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = tuple(sorted(card.parent.name for card in ROOT.glob("services/*/card.yaml")))
PARTS = (*NETWORKS, "gateway", "evaluator")
SHARED_DATA = ROOT.parent / "shared" / "data"

START_LIMIT_S = 420.0
STOP_LIMIT_S = 120.0

SMALL = PhantomSettings(height_px=512, width_px=384)
"""Films that cost little and still show every structure."""

PATIENT = ("Marchbanks^Eudoxia", "PID7781246", "19290807", "StAgathaClinic")
"""Name, id, birth date and institution in the tests' DICOM files; nobody may ever repeat them."""

_PROBE = '''"""Put before everything else by PYTHONPATH: writes down whom this process calls."""
import os, sys

os.environ.pop("BENTOML_DO_NOT_TRACK", None)
_file = os.open(os.environ["SPINEZOO_TEST_CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
os.write(_file, f"{os.getpid()} started {sys.argv[:1]}\\\\n".encode())
_at = {
    "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1,
    "socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0,
}

def _hook(event, arguments):
    if event in _at:
        os.write(_file, f"{os.getpid()} {event} {arguments[_at[event]]!r}\\\\n".encode())

sys.addaudithook(_hook)
'''.replace("\\\\n", "\\n")


# ---------------------------------------------------------------------------------------- waiting


def wait_for(what: str, look: Callable[[], _T | None], limit_s: float) -> _T:
    """Asks again and again until there is an answer that is true; fails when time is over."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {limit_s:g} s")


def room_python(room: str) -> str:
    """The interpreter of a room's environment."""
    return str(python_of(ROOT, ROOT / room))


def clean_environment(**more: str) -> dict[str, str]:
    """Our environment without a developer's settings of the zoo."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SPINEZOO_", "BENTOML_", "PYTEST_")) and key != "PYTHONPATH"
    }
    return {**kept, **more}


# -------------------------------------------------------------------------------------- processes


class Watch:
    """Remembers processes, so that it can be told later which of them still run."""

    def __init__(self) -> None:
        self._seen: dict[int, psutil.Process] = {}
        self._groups: set[int] = set()

    def add(self, pid: int, *, leads_group: bool = False) -> None:
        """A process and all that it has started so far."""
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if leads_group:
                self._groups.add(pid)
            for each in (process, *process.children(recursive=True)):
                self._seen.setdefault(each.pid, each)

    def left(self) -> list[str]:
        """Those that still run, and members of the groups that they led."""
        found = {pid: each for pid, each in self._seen.items() if _runs(each)}
        for each in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getpgid(each.pid) in self._groups and _runs(each):
                    found[each.pid] = each
        return [f"{pid}: {_name(each)}" for pid, each in sorted(found.items())]


def _runs(process: psutil.Process) -> bool:
    # is_running() compares start times: a number that was given away again does not count.
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())[:200]
    return "?"


@dataclass
class Zoo:
    """One zoo of this checkout: its settings, addresses and processes.

    Attributes:
        folder: Where process ids, logs and the roster lie.
        ports: gRPC and HTTP port of each part.
        environment: What the zoo is started with.
    """

    folder: Path
    ports: dict[str, tuple[int, int]]
    environment: dict[str, str]
    watch: Watch = field(default_factory=Watch)

    @classmethod
    def prepare(cls, folder: Path, **settings: str) -> Zoo:
        """Chooses ports and writes a roster; starts nothing.

        Args:
            folder: For run folder and roster.
            settings: Environment variables on top.
        """
        folder.mkdir(parents=True, exist_ok=True)
        numbers = iter(free_ports(2 * len(PARTS)))
        ports = {name: (next(numbers), next(numbers)) for name in PARTS}
        environment = clean_environment(
            SPINEZOO_RUN_DIR=str(folder / "run"),
            SPINEZOO_ROSTER=str(folder / "roster.yaml"),
            **settings,
        )
        for name, (grpc_port, http_port) in ports.items():
            environment[f"SPINEZOO_{name.upper()}_GRPC_PORT"] = str(grpc_port)
            environment[f"SPINEZOO_{name.upper()}_HTTP_PORT"] = str(http_port)
        zoo = cls(folder, ports, environment)
        zoo.write_roster({name: zoo.grpc(name) for name in NETWORKS})
        return zoo

    @property
    def roster(self) -> Path:
        """The gateway's roster file."""
        return self.folder / "roster.yaml"

    def write_roster(self, members: Mapping[str, str]) -> None:
        """Puts these members into the roster file, in one step."""
        lines = [f"  - {{name: {name}, target: '{target}'}}" for name, target in members.items()]
        partial = self.folder / "roster.partial"
        partial.write_text("\n".join(["members:", *lines, ""]))
        partial.replace(self.roster)

    def grpc(self, name: str) -> str:
        """gRPC target of a part."""
        return f"127.0.0.1:{self.ports[name][0]}"

    def http(self, name: str) -> str:
        """HTTP address of a part."""
        return f"http://127.0.0.1:{self.ports[name][1]}"

    def command(self, *arguments: str) -> list[str]:
        """A command line of the tool that starts the zoo."""
        command = [sys.executable, "-m", "spinezoo_tools.processes"]
        return [*command, "--root", str(ROOT), *arguments]

    def up(self) -> None:
        """Starts all and waits until all are ready."""
        self._run("up", limit_s=START_LIMIT_S)
        self.remember()

    def down(self) -> None:
        """Stops all; fails where a process is left."""
        self.remember()
        self._run("down", limit_s=STOP_LIMIT_S)
        assert self.watch.left() == []

    def _run(self, *arguments: str, limit_s: float) -> None:
        done = subprocess.run(
            self.command("--timeout-s", str(limit_s - 20.0), *arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"

    def pids(self) -> dict[str, int]:
        """Process ids by part; empty when nothing was started yet."""
        try:
            state = json.loads((self.folder / "run" / "zoo.json").read_text())
        except (OSError, ValueError):
            return {}
        return {each["name"]: each["pid"] for each in state["processes"]}

    def remember(self) -> dict[str, int]:
        """Notes all processes for :attr:`watch` and returns their ids."""
        pids = self.pids()
        for pid in pids.values():
            self.watch.add(pid, leads_group=True)
        return pids

    def logs(self) -> dict[str, str]:
        """What each part has logged."""
        return {
            path.stem: path.read_text(errors="replace")
            for path in sorted((self.folder / "run" / "logs").glob("*.log"))
        }

    def gateway(self) -> EnsembleClient:
        """A client of the gateway."""
        return EnsembleClient(self.grpc("gateway"))

    def evaluator(self) -> EvaluationClient:
        """A client of the evaluator."""
        return EvaluationClient(self.grpc("evaluator"))

    def member(self, name: str) -> SegmenterClient:
        """A client of a network."""
        return SegmenterClient(self.grpc(name))


def serving(target: str) -> bool:
    """Whether health says SERVING."""
    with grpc.insecure_channel(target) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=10.0
        )
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def call_probe(folder: Path) -> dict[str, str]:
    """Settings under which a Python process notes every address it calls.

    They also take BENTOML_DO_NOT_TRACK out of its environment, whoever put it there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_PROBE)
    return {"PYTHONPATH": str(folder), "SPINEZOO_TEST_CALLS": str(folder / "calls.txt")}


@contextlib.contextmanager
def started(command: Sequence[str], log: Path, **options: object) -> Iterator[subprocess.Popen]:
    """A process in a group of its own; at the end it and all that it started are gone."""
    watch = Watch()
    with log.open("wb") as handle:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )
    try:
        yield process
    finally:
        watch.add(process.pid, leads_group=True)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(40.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10.0)
        with contextlib.suppress(AssertionError):
            wait_for("end of all processes", lambda: not watch.left(), 10.0)
        left = watch.left()
        for line in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.partition(":")[0]), 9)
        assert not left, f"left behind: {left}"


_CALL = re.compile(r"(?P<pid>\d+) (?P<event>\S+) (?P<what>.*)")


def is_here(host: object) -> bool:
    """Whether an address is this machine's own loopback, or a name this machine's own.

    `bentoml serve` looks up the machine's own name (circus does); that tells nobody anything.
    """
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if host is None or host in ("localhost", "", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_loopback or address.is_unspecified


def strangers(calls: str) -> list[str]:
    """Lines of the probe's file that name anybody outside."""
    found = []
    for line in calls.splitlines():
        match = _CALL.fullmatch(line)
        assert match is not None, line
        if match["event"] == "started":
            continue
        what = ast.literal_eval(match["what"])
        # A local socket's address is a path; an internet address a tuple with the host first.
        local = match["event"] == "socket.connect" and isinstance(what, str | bytes)
        host = what[0] if isinstance(what, tuple) else what
        if not (local or is_here(host)):
            found.append(line)
    return found


# ------------------------------------------------------------------------------------------ films


def without_times(prediction: Prediction) -> Prediction:
    """A prediction to compare: the clock differs from call to call, nothing else may."""
    return replace(prediction, provenance=replace(prediction.provenance, timing=Timing()))


def phantom_file(path: Path, seed: int, settings: PhantomSettings = SMALL) -> Path:
    """A phantom film as DICOM; returns the path."""
    write_dicom(make_film(seed, settings), path)
    return path


def patient_dicom(data: bytes) -> pydicom.FileDataset:
    """A DICOM file's data set with our patient's values in it."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    name, number, birth, place = PATIENT
    dataset.PatientName = name
    dataset.PatientID = number
    dataset.PatientBirthDate = birth
    dataset.InstitutionName = place
    dataset.PatientComments = f"{name} {number}"
    return dataset


def dicom_bytes(dataset: pydicom.FileDataset) -> bytes:
    """A data set as the bytes of a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def large_pixels() -> np.ndarray:
    """(4096, 3072) uint16, 24 MiB: a spine-like film with noise."""
    grey = synthetic.spine_like_pixels(4096, 3072).astype(np.uint16)
    return grey * np.uint16(16)


def bad_files(good_dicom: bytes) -> dict[str, tuple[bytes, bool]]:
    """Films that cannot be taken, as files: bytes, and whether it is their size that is wrong.

    The DICOM files among them hold :data:`PATIENT`.
    """
    dataset = patient_dicom(good_dicom)
    whole = dicom_bytes(dataset)

    def changed(**values: object) -> bytes:
        other = pydicom.dcmread(io.BytesIO(whole))
        for keyword, value in values.items():
            if value is None:
                delattr(other, keyword)
            else:
                setattr(other, keyword, value)
        other.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        return dicom_bytes(other)

    rows, columns = int(dataset.Rows), int(dataset.Columns)
    colours = np.zeros((64, 48, 3), np.uint8)
    colours[20:40, 10:30, 0] = 200
    not_a_number = np.full((64, 48), np.nan, np.float32)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, not_a_number)
    jpeg = io.BytesIO()
    Image.fromarray(colours).save(jpeg, "JPEG")
    return {
        "not an image": (b"%PDF-1.7 this is a report, not a film " * 40, False),
        "text": (b"hello", False),
        "truncated DICOM": (whole[: len(whole) // 2], False),
        "DICOM cut in its header": (whole[:400], False),
        "DICOM without pixels": (changed(PixelData=None), False),
        "multi-frame DICOM": (
            changed(NumberOfFrames="2", PixelData=dataset.PixelData * 2),
            False,
        ),
        "RGB DICOM": (
            changed(
                SamplesPerPixel=3,
                PlanarConfiguration=0,
                PhotometricInterpretation="RGB",
                BitsAllocated=8,
                BitsStored=8,
                HighBit=7,
                PixelData=(b"\x20\x40\x60" * (rows * columns)).ljust(3 * rows * columns + 1, b"\0"),
            ),
            False,
        ),
        "RGB PNG": (synthetic.png_bytes(colours), False),
        "RGB JPEG": (jpeg.getvalue(), False),
        "1 x 1 DICOM": (changed(Rows=1, Columns=1, PixelData=b"\x01\x00"), False),
        "1 x 1 PNG": (synthetic.png_bytes(np.zeros((1, 1), np.uint8)), False),
        "20,000 x 20,000 DICOM header": (changed(Rows=20_000, Columns=20_000), True),
        "20,000 x 20,000 PNG header": (
            synthetic.png_bytes(np.zeros((16, 16), np.uint8), size=(20_000, 20_000)),
            True,
        ),
        "truncated PNG": (synthetic.png_bytes(np.zeros((64, 48), np.uint8))[:60], False),
        "TIFF with NaN": (tiff.getvalue(), False),
        "0 bytes": (b"", False),
    }


def raw_films() -> dict[str, Film]:
    """Good small films as pixels, one of each type."""
    grey = synthetic.spine_like_pixels(256, 192)
    return {
        "uint8": Film(grey),
        "uint16": Film(grey.astype(np.uint16) * np.uint16(257)),
        "float32": Film(grey.astype(np.float32) / np.float32(255)),
    }
