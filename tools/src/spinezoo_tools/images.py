"""The zoo's images: what they are made of, the image that all start from, and building them.

Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spinezoo_tools.checkout import lock_variable, read_env_file, services_of
from spinezoo_tools.engine import ContainersError, ask, docker, have_image, need_engine, run, say
from spinezoo_tools.environments import ROOT, UV, Room
from spinezoo_tools.variables import CA_BUNDLE, INDEX_URL

PUBLIC_BASE = "python:3.11-slim-bookworm"
STAND_IN = "spinezoo/base-stand-in:bookworm"
STAND_IN_PACKAGES = ("python3.11", "python3.11-venv", "python3-distutils", "ca-certificates")
"""debootstrap does not find providers: python3-distutils is what python3.11-venv asks for."""

NODE = "pacs"
"""Name, folder and environment of the DICOM node."""

ARCHIVE = "orthanc"
"""The archive for trying the node; its folder is ``deploy/pacs``."""

STAND_IN_ATTEMPTS = 2
PULL_LIMIT_S = 120.0

CA_VARIABLES = (CA_BUNDLE.name, "SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
INDEX_VARIABLES = (INDEX_URL.name, "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
PROXY_ARGUMENTS = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""Docker knows these build arguments by itself and keeps them out of the image's history."""


@dataclass(frozen=True)
class Part:
    """One image of the zoo.

    Attributes:
        name: Name of the service in compose.yaml.
        folder: Its folder below the repository, the build argument SERVICE.
        flavour: What it is built on; see the Dockerfile.
        environment: Its environment, which names the lock of its framework layer.
        image: Name and tag.
        version: Of its pyproject.toml.
        lock: The lock of its framework layer where no variable names another.
        extra: Its optional part that the image has too.
    """

    name: str
    folder: str
    flavour: str
    environment: str
    image: str
    version: str
    lock: str
    extra: str = ""

    @property
    def target(self) -> str:
        """Its target in the Dockerfile: the node's image has a folder that it may write."""
        return "node" if self.name == NODE else "image"

    @property
    def card(self) -> Path:
        """Its model card; gateway and evaluator have none."""
        return ROOT / self.folder / "card.yaml"


def settings() -> dict[str, str]:
    """``.env`` with the environment on top."""
    return {**read_env_file(ROOT / ".env"), **os.environ}


def parts(only: Sequence[str] = (), *, gpu: bool = False) -> list[Part]:
    """The images, gateway and evaluator first because they are small.

    Args:
        only: Names; empty stands for all.
        gpu: Those of the networks for GPUs instead.

    Raises:
        ToolError: A name is unknown, or a service names no framework that we know.
    """
    values = settings()
    services = sorted(services_of(ROOT), key=lambda service: service.is_network)
    found = [
        Part(
            name=service.name,
            folder=service.folder,
            flavour=service.flavour,
            environment=service.environment,
            image=values.get(f"SPINEZOO_{service.name.upper()}_IMAGE") or service.image,
            version=service.version,
            lock=f"locks/{service.environment}.lock",
        )
        for service in services
    ]
    if gpu:
        found = [
            replace(
                part,
                flavour=service.gpu_flavour,
                environment=service.gpu_environment,
                image=values.get(f"SPINEZOO_{service.name.upper()}_GPU_IMAGE") or service.gpu_image,
                lock=service.gpu_lock,
                extra="framework",
            )
            for part, service in zip(found, services, strict=True)
            if service.is_network
        ]
    if NODE in only and not gpu:
        found.append(_node(values))
    unknown = sorted(set(only) - {part.name for part in found})
    if unknown:
        known = ", ".join(part.name for part in found)
        raise ContainersError(f"unknown: {', '.join(unknown)}; known are {known}")
    return [part for part in found if not only or part.name in only]


def _node_version() -> str:
    """Of the DICOM node, and of the Orthanc for trying it."""
    return str(Room(ROOT / NODE).project["project"]["version"])


def _node(values: Mapping[str, str]) -> Part:
    """The DICOM node of compose.pacs.yaml, built where it is asked for by name."""
    version = _node_version()
    image = values.get("SPINEZOO_PACS_IMAGE") or f"spinezoo/pacs:{version}"
    return Part(NODE, NODE, "light", NODE, image, version, f"locks/{NODE}.lock")


def base_image() -> str:
    """The image that all others start from.

    ``BASE_IMAGE`` where it is set; else the public one, pulled; else, where no registry can be
    reached, a stand-in that debootstrap makes from Debian's packages.

    Raises:
        ContainersError: None of the three can be had.
    """
    given = os.environ.get("BASE_IMAGE")
    if given:
        return given
    if have_image(PUBLIC_BASE):
        return PUBLIC_BASE
    if have_image(STAND_IN):
        say(f"base: {STAND_IN} (no registry was reached when it was made; remove it to try again)")
        return STAND_IN
    say(f"base: pulling {PUBLIC_BASE}")
    if ask([docker(), "pull", "--quiet", PUBLIC_BASE], PULL_LIMIT_S) is not None:
        return PUBLIC_BASE
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise ContainersError(
            f"{PUBLIC_BASE} cannot be pulled, and a stand-in needs root and debootstrap; "
            "set BASE_IMAGE to your mirror's image of Python 3.11 on Debian"
        )
    say(f"base: no registry; making {STAND_IN} from Debian's packages")
    _make_stand_in()
    return STAND_IN


def _make_stand_in() -> None:
    """A minimal Debian 12 with Python 3.11, laid out as far as the Dockerfile needs it."""
    with tempfile.TemporaryDirectory(prefix="spinezoo-base-") as name:
        root = Path(name) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(STAND_IN_PACKAGES)}"]
        for left in reversed(range(STAND_IN_ATTEMPTS)):
            done = subprocess.run(
                [*command, "bookworm", root],  # from debootstrap's own default mirror
                stdin=subprocess.DEVNULL, capture_output=True, text=True,
            )  # fmt: skip
            if not done.returncode:
                break
            tail = "\n  ".join(done.stdout.splitlines()[-10:])
            if not left:
                raise ContainersError(f"debootstrap failed ({done.returncode}):\n  {tail}")
            say(f"debootstrap failed ({done.returncode}), trying again:\n  {tail}")
            shutil.rmtree(root, ignore_errors=True)
        for folder in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / folder, ignore_errors=True)
        for link in ("python", "python3"):
            (root / "usr/local/bin" / link).symlink_to("/usr/bin/python3.11")
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
            imported = subprocess.run([docker(), "import", "-", STAND_IN], stdin=tar.stdout)
        if tar.returncode or imported.returncode:
            raise ContainersError(f"{STAND_IN} could not be imported")


@contextlib.contextmanager
def build_secrets() -> Iterator[list[str]]:
    """Flags that hand the site's certificate bundle and package index to a build.

    They travel as BuildKit secrets, so that no layer and no history line holds them.
    """
    flags = []
    bundle = next((os.environ[name] for name in CA_VARIABLES if os.environ.get(name)), None)
    if bundle and Path(bundle).is_file():
        flags += ["--secret", f"id=ca_bundle,src={bundle}"]
    index = next((os.environ[name] for name in INDEX_VARIABLES if os.environ.get(name)), None)
    index = index or ask([sys.executable, "-m", "pip", "config", "get", "global.index-url"])
    with tempfile.TemporaryDirectory(prefix="spinezoo-secret-") as folder:
        if index:
            path = Path(folder) / "index"
            path.touch(mode=0o600)
            path.write_text(index, encoding="utf-8")
            flags += ["--secret", f"id=index_url,src={path}"]
        yield flags


def build_arguments(part: Part, base: str) -> dict[str, str]:
    """The Dockerfile's arguments for one image; those that the environment sets win.

    The framework layer is of the lock of the part's own environment, so that two services of one
    framework can need two versions of it.
    """
    given_lock = os.environ.get(lock_variable(part.flavour, part.environment))
    arguments = {
        "BASE_IMAGE": base,
        "FLAVOUR": part.flavour,
        "SERVICE": part.folder,
        "VERSION": part.version,
        "IMAGE": part.image,
        f"{part.flavour.upper()}_LOCK": given_lock or part.lock,
    }
    if part.extra:
        arguments["EXTRA"] = part.extra
    if part.card.is_file():
        arguments["CARD_SHA256"] = hashlib.sha256(part.card.read_bytes()).hexdigest()
    if os.environ.get("TORCH_INDEX"):
        arguments["TORCH_INDEX"] = os.environ["TORCH_INDEX"]
    return arguments


def build_command(part: Part, base: str, secrets: Sequence[str]) -> list[str]:
    """The command line that builds one image."""
    command = [docker(), "build", "--target", part.target, "--tag", part.image, *secrets]
    for name, value in build_arguments(part, base).items():
        command += ["--build-arg", f"{name}={value}"]
    for name in PROXY_ARGUMENTS:
        if os.environ.get(name):
            command += ["--build-arg", name]
    if not sys.stderr.isatty():
        command += ["--progress", "plain"]
    return [*command, "."]


def build(only: Sequence[str], *, gpu: bool = False) -> None:
    """Builds images one after the other; what they share is built once."""
    archive = ARCHIVE in only and not gpu
    named = [name for name in only if not (archive and name == ARCHIVE)]
    wanted = parts(named, gpu=gpu) if named or not archive else []
    need_engine()
    base = base_image()
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    with build_secrets() as secrets:
        for number, part in enumerate(wanted, start=1):
            started = time.monotonic()
            say(f"[{number}/{len(wanted)}] {part.image}: building")
            run(build_command(part, base, secrets), environment=environment)
            say(f"[{number}/{len(wanted)}] {part.image}: {time.monotonic() - started:.0f} s")
    if archive:
        say(f"{archive_image()}: building")
        run(archive_command(base), environment=environment)


def archive_image() -> str:
    """Name and tag of the Orthanc of compose.pacs.yaml."""
    values = settings()
    return values.get("SPINEZOO_ORTHANC_IMAGE") or f"spinezoo/{ARCHIVE}:{_node_version()}"


def archive_command(base: str) -> list[str]:
    """The command line that builds Orthanc, from Debian's packages.

    Args:
        base: Taken where ``DEBIAN_IMAGE`` is not set: it is a Debian too.
    """
    folder = ROOT / "deploy/pacs"
    debian = os.environ.get("DEBIAN_IMAGE") or base
    command = [docker(), "build", "--tag", archive_image(), "--build-arg", f"DEBIAN_IMAGE={debian}"]
    for name in PROXY_ARGUMENTS:
        if os.environ.get(name):
            command += ["--build-arg", name]
    return [*command, "--file", str(folder / "orthanc.Dockerfile"), str(folder)]


def torch_lock(index: str) -> None:
    """Writes ``deploy/images/torch.lock``: ``locks/torch.lock`` with torch of another index."""
    part = next(part for part in parts(gpu=True) if part.flavour == "torch")
    room = Room(ROOT / part.folder)
    ours = [flag for name in room.local_sources() for flag in ("--no-emit-package", name)]
    kept = ("torch", "torchvision", "triton", "nvidia-", "cuda-")
    pins = [
        line.split(" ")[0]
        for line in room.environment.lock.read_text(encoding="utf-8").splitlines()
        if re.match(r"[a-z]", line)
    ]
    # Same version of torch; a local label such as +cpu is allowed by ==.
    pins = [pin for pin in pins if not pin.startswith(kept[2:])]
    with tempfile.TemporaryDirectory(prefix="spinezoo-lock-") as name:
        constraints = Path(name) / "constraints.txt"
        constraints.write_text("\n".join(pins) + "\n", encoding="utf-8")
        run([
            UV, "pip", "compile", "pyproject.toml", "--quiet",
            "--generate-hashes", "--no-emit-index-url", "--no-annotate", "--python-version", "3.11",
            "--index", index, "--index-strategy", "unsafe-best-match", "-c", constraints, *ours,
            "--extra", "framework",
            "--custom-compile-command", "make torch-lock", "--no-config",
            "-o", ROOT / "deploy/images/torch.lock",
        ], cwd=room.path)  # fmt: skip
    say("wrote deploy/images/torch.lock; build with")
    say(f"  TORCH_INDEX={index} TORCH_LOCK=deploy/images/torch.lock make images")
