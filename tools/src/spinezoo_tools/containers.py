"""Images and containers of the zoo: the engine, the base image, builds, the composition, bentos.

::

    containers.py engine [--install]    says whether a Docker Engine answers; --install makes one
    containers.py engine --stop         stops the engine that this checkout started, and no other
    containers.py base                  finds or makes the image that all others start from
    containers.py build [NAMES]         builds images, all by default
    containers.py up | down             the composition; up waits until all is healthy
    containers.py certs                 certificates of `make certs`, laid out for compose.tls.yaml
    containers.py test [--install]      engine, build, tests/containers with its own composition
    containers.py bento [NAMES]         `bentoml build` of each network, into dist/
    containers.py torch-lock --index URL   a lock with another torch index, for small CPU images

The images are those of ``services/*/`` with a ``card.yaml``, the gateway and the evaluator. Names,
ports and limits come from ``.env``; the environment wins. ``docs/containers.md`` tells which
variables a site behind a proxy or with a mirror sets. Standard library only. Ends with 0 when all
went well, 3 when there is no Docker Engine and none could be made, 1 when something else failed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spinezoo_tools.environments import ROOT, Room, python_of

DIST = ROOT / "dist"
SWAPPED_IMAGES = ROOT / "deploy" / "compose" / "images.env"
"""``SPINEZOO_<NAME>_IMAGE=...`` of members that were swapped; wins over ``.env``."""

ENGINE_PID = ROOT / "run" / "dockerd.pid"
"""Process id of the engine that this checkout has started."""

FRONT = ("gateway", "evaluator")
TARGETS = {"torch": "torch", "tensorflow": "tensorflow"}
"""Dockerfile target by the framework that a service's pyproject.toml names."""

PUBLIC_BASE = "python:3.11-slim-bookworm"
STAND_IN = "spinezoo/base-stand-in:bookworm"
STAND_IN_PACKAGES = ("python3.11", "python3.11-venv", "python3-distutils", "ca-certificates")
"""debootstrap does not find providers: python3-distutils is what python3.11-venv asks for."""
ENGINE_PACKAGES = ("docker.io", "docker-compose", "debootstrap", "iptables", "ca-certificates")

ENGINE_START_S = 60.0
ENGINE_STOP_S = 60.0
STAND_IN_ATTEMPTS = 2
APT_LIMIT_S = 900.0
APT_PAUSE_S = 15.0
NO_ENGINE = 3
"""Exit code where there is no engine: continuous integration tells it from a failure."""
PULL_LIMIT_S = 120.0
UP_LIMIT_S = 420.0
STOP_LIMIT_S = 180.0
LOG_TAIL_LINES = "25"

CA_VARIABLES = ("SPINEZOO_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
INDEX_VARIABLES = ("SPINEZOO_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
BUILD_ARGUMENTS = ("TORCH_INDEX", "TORCH_LOCK", "TENSORFLOW_LOCK", "LIGHT_LOCK")
PROXY_ARGUMENTS = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""Docker knows these build arguments by itself and keeps them out of the image's history."""


class ContainersError(Exception):
    """Something the user has to know, worded for the user."""


class NoEngineError(ContainersError):
    """No Docker Engine answers, and none could be made."""


@dataclass(frozen=True)
class Part:
    """One image of the zoo.

    Attributes:
        name: Name of the service in compose.yaml.
        folder: Its folder below the repository, the build argument SERVICE.
        target: Its target in the Dockerfile.
        image: Name and tag.
        version: Of its pyproject.toml.
    """

    name: str
    folder: str
    target: str
    image: str
    version: str

    @property
    def card(self) -> Path:
        """Its model card; gateway and evaluator have none."""
        return ROOT / self.folder / "card.yaml"


def say(text: str) -> None:
    """One line of progress, at once."""
    print(text, file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path],
    *,
    limit_s: float | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> None:
    """Runs a command whose output the user sees.

    Raises:
        ContainersError: It failed or took longer than ``limit_s``.
    """
    shown = " ".join(map(str, command[:4]))
    try:
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd, env=environment, timeout=limit_s
        )
    except OSError as error:
        raise ContainersError(f"cannot run {command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise ContainersError(f"no end after {limit_s:g} s: {shown}") from None
    if done.returncode:
        raise ContainersError(f"failed ({done.returncode}): {shown} ...")


def ask(
    command: Sequence[str | Path],
    limit_s: float = 60.0,
    environment: Mapping[str, str] | None = None,
) -> str | None:
    """What a command prints; None where it cannot be run, fails or takes too long."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_s,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def settings() -> dict[str, str]:
    """``.env`` with the environment on top."""
    return {**read_variables(ROOT / ".env"), **os.environ}


def read_variables(path: Path) -> dict[str, str]:
    """The ``KEY=VALUE`` lines of a file; none where it is absent."""
    values = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        key, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith("#"):
            values[key.strip()] = value.strip()
    return values


def compose_environment() -> dict[str, str]:
    """Our environment, with the swapped members' images: compose 1.29 reads one file only."""
    return {**read_variables(SWAPPED_IMAGES), **os.environ}


def parts(only: Sequence[str] = ()) -> list[Part]:
    """The images, gateway and evaluator first because they are small.

    Raises:
        ContainersError: A name is unknown, or a service names no framework that we know.
    """
    values = settings()
    services = sorted(card.parent for card in ROOT.glob("services/*/card.yaml"))
    found = []
    for folder in [*(ROOT / name for name in FRONT), *services]:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        named = {re.split(r"[^a-z0-9_-]", text.lower())[0] for text in project["dependencies"]}
        targets = {target for framework, target in TARGETS.items() if framework in named}
        if folder.name in FRONT:
            targets = {"light"}
        if len(targets) != 1:
            raise ContainersError(
                f"{folder.name}: its pyproject.toml must name one of {', '.join(TARGETS)}; "
                "give a new framework a target in the Dockerfile and a line in TARGETS"
            )
        default = f"spinezoo/{folder.name}:{project['version']}"
        image = values.get(f"SPINEZOO_{folder.name.upper()}_IMAGE") or default
        found.append(
            Part(
                folder.name,
                folder.relative_to(ROOT).as_posix(),
                targets.pop(),
                image,
                project["version"],
            )
        )
    unknown = sorted(set(only) - {part.name for part in found})
    if unknown:
        known = ", ".join(part.name for part in found)
        raise ContainersError(f"unknown: {', '.join(unknown)}; known are {known}")
    return [part for part in found if not only or part.name in only]


# ------------------------------------------------------------------------------------- the engine


def docker() -> str:
    """The docker client; one that can build with BuildKit is preferred.

    Raises:
        ContainersError: There is none.
    """
    named = [os.environ.get("SPINEZOO_DOCKER"), shutil.which("docker"), "/usr/bin/docker"]
    there = [path for path in named if path and os.access(path, os.X_OK)]
    for path in there:
        # From 23 on the client builds with BuildKit through its plug-in only.
        version = ask([path, "--version"]) or ""
        major = re.search(r"version (\d+)\.", version)
        if (major and int(major[1]) < 23) or ask([path, "buildx", "version"]) is not None:
            return path
    if there:
        return there[0]
    raise ContainersError("there is no docker client; install Docker, or give --install on Debian")


def engine_version() -> str | None:
    """Version of the engine that answers; None where none does."""
    try:
        return ask([docker(), "version", "--format", "{{.Server.Version}}"])
    except ContainersError:
        return None


def need_engine(*, install: bool = False) -> None:
    """Makes sure that an engine answers.

    Args:
        install: Whether to install what is missing (Debian, as root) and to start an engine.

    Raises:
        NoEngineError: None does, and we were not told to install one or could not.
    """
    version = engine_version()
    if install:
        _install_missing(engine=version is None)
        if version is None:
            _start_engine()
            version = engine_version()
    if version is None:
        raise NoEngineError(
            "no Docker Engine answers. Start yours, set DOCKER_HOST to where it is, or let this "
            "program install and start Debian's: python3 -m spinezoo_tools.containers engine --install"
        )
    say(f"Docker Engine {version}")


def _install_missing(*, engine: bool) -> None:
    """Installs Debian's packages of which something is missing here."""
    try:
        compose()
        missing = shutil.which("debootstrap") is None
    except ContainersError:
        missing = True
    if not missing and not (engine and shutil.which("dockerd") is None):
        return
    # Beside an engine of another origin, Debian's own is left out.
    packages = [name for name in ENGINE_PACKAGES if engine or name != "docker.io"]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        if not engine:
            return
        raise NoEngineError("--install needs root on Debian; install Docker Engine yourself")
    say(f"installing {', '.join(packages)}")
    end = time.monotonic() + APT_LIMIT_S
    _apt(["update", "-qq"], end)
    _apt(["install", "-y", "-qq", "--no-install-recommends", *packages], end)


def _apt(arguments: Sequence[str], end: float) -> None:
    """One apt-get command, again and again until the end: somebody else may hold its locks."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=120", *arguments]
    while True:
        try:
            limit_s = max(1.0, end - time.monotonic())
            run(command, environment=environment, limit_s=limit_s)
            return
        except ContainersError as error:
            if time.monotonic() + APT_PAUSE_S >= end:
                raise NoEngineError(f"Debian's packages cannot be had: {error}") from None
            say(f"{error}; trying again in {APT_PAUSE_S:g} s")
            time.sleep(APT_PAUSE_S)


def _start_engine() -> None:
    """Starts Debian's engine; its log is ``run/dockerd.log``.

    Raises:
        NoEngineError: It does not come up.
    """
    log = ROOT / "run" / "dockerd.log"
    log.parent.mkdir(exist_ok=True)
    say(f"starting dockerd; log: {log.relative_to(ROOT)}")
    with log.open("wb") as handle:
        daemon = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=handle, stderr=handle,
            start_new_session=True,
        )  # fmt: skip
    ENGINE_PID.write_text(str(daemon.pid), encoding="utf-8")
    end = time.monotonic() + ENGINE_START_S
    while time.monotonic() < end and daemon.poll() is None:
        if engine_version() is not None:
            return
        time.sleep(0.5)
    tail = log.read_text(errors="replace").splitlines()[-10:]
    stop_engine()
    raise NoEngineError("dockerd does not start:\n  " + "\n  ".join(tail))


def stop_engine() -> None:
    """Stops the engine that this checkout has started, with its containers; no other.

    Raises:
        ContainersError: It does not end.
    """
    try:
        pid = int(ENGINE_PID.read_text(encoding="utf-8"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except (OSError, ValueError):
        pid, command = 0, b""
    if Path(os.fsdecode(command)).name == "dockerd":
        say("stopping dockerd")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + ENGINE_STOP_S
        while Path(f"/proc/{pid}/exe").exists():
            if time.monotonic() >= end:
                raise ContainersError(f"dockerd ({pid}) does not end; read run/dockerd.log")
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.2)
    ENGINE_PID.unlink(missing_ok=True)


def have_image(image: str) -> bool:
    """Whether the engine has an image."""
    return ask([docker(), "image", "inspect", "--format", "{{.Id}}", image]) is not None


# -------------------------------------------------------------------------------------- the base


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


# ------------------------------------------------------------------------------------------ build


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


def build_command(part: Part, base: str, secrets: Sequence[str]) -> list[str]:
    """The command line that builds one image."""
    arguments = {
        "BASE_IMAGE": base,
        "SERVICE": part.folder,
        "VERSION": part.version,
        "IMAGE": part.image,
    }
    if part.card.is_file():
        arguments["CARD_SHA256"] = hashlib.sha256(part.card.read_bytes()).hexdigest()
    for name in BUILD_ARGUMENTS:
        if os.environ.get(name):
            arguments[name] = os.environ[name]
    command = [docker(), "build", "--target", part.target, "--tag", part.image, *secrets]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for name in PROXY_ARGUMENTS:
        if os.environ.get(name):
            command += ["--build-arg", name]
    if not sys.stderr.isatty():
        command += ["--progress", "plain"]
    return [*command, "."]


def build(only: Sequence[str]) -> None:
    """Builds images one after the other; what they share is built once."""
    wanted = parts(only)
    need_engine()
    base = base_image()
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    with build_secrets() as secrets:
        for number, part in enumerate(wanted, start=1):
            started = time.monotonic()
            say(f"[{number}/{len(wanted)}] {part.image}: building")
            run(build_command(part, base, secrets), environment=environment)
            say(f"[{number}/{len(wanted)}] {part.image}: {time.monotonic() - started:.0f} s")


def torch_lock(index: str) -> None:
    """Writes ``deploy/images/torch.lock``: the torch services' lock with torch of another index."""
    folder = ROOT / "services" / next(p.name for p in parts() if p.target == "torch")
    ours = [
        part
        for name in Room(folder).environment.local_packages()
        for part in ("--no-emit-package", name)
    ]
    kept = ("torch", "torchvision", "triton", "nvidia-", "cuda-")
    pins = [line.split(" ")[0] for line in Room(folder).environment.lock.read_text().splitlines()
            if re.match(r"[a-z]", line)]  # fmt: skip
    # Same version of torch; a local label such as +cpu is allowed by ==.
    pins = [pin for pin in pins if not pin.startswith(kept[2:])]
    with tempfile.TemporaryDirectory(prefix="spinezoo-lock-") as name:
        constraints = Path(name) / "constraints.txt"
        constraints.write_text("\n".join(pins) + "\n", encoding="utf-8")
        run([
            ROOT / ".tools/bin/uv", "pip", "compile", "pyproject.toml", "--quiet",
            "--generate-hashes", "--no-emit-index-url", "--no-annotate", "--python-version", "3.11",
            "--index", index, "--index-strategy", "unsafe-best-match", "-c", constraints, *ours,
            "--custom-compile-command", "make torch-lock", "--no-config",
            "-o", ROOT / "deploy/images/torch.lock",
        ], cwd=folder)  # fmt: skip
    say("wrote deploy/images/torch.lock; build with")
    say(f"  TORCH_INDEX={index} TORCH_LOCK=deploy/images/torch.lock make images")


# ---------------------------------------------------------------------------------- the composition


def compose() -> list[str]:
    """How compose is called here.

    Raises:
        ContainersError: There is none.
    """
    if ask([docker(), "compose", "version"]) is not None:
        return [docker(), "compose"]
    if ask(["docker-compose", "version"]) is not None:
        return ["docker-compose"]
    raise ContainersError("neither `docker compose` nor `docker-compose` runs here; install one")


def containers() -> dict[str, dict]:
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
    values = settings()
    host = values.get("SPINEZOO_PUBLISH_HOST") or "127.0.0.1"
    port = values.get("SPINEZOO_GATEWAY_GRPC_PORT") or "50050"
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
    python = python_of(ROOT, ROOT / "tests")
    if not python.exists():
        raise ContainersError("room tests is not set up; run `make setup`")
    command = [str(python), "-m", "pytest", "-q", "containers", *arguments]
    environment = {**os.environ, "SPINEZOO_REQUIRE_DOCKER": "1"}
    return subprocess.run(command, cwd=ROOT / "tests", env=environment).returncode


# ------------------------------------------------------------------------------------------ bentos


def wheel(uv: Path, room: Path, folder: Path) -> None:
    """Builds one of our distributions as a wheel."""
    run([uv, "build", "--quiet", "--wheel", "--out-dir", folder, room], limit_s=300.0)


def bento(only: Sequence[str], dist: Path = DIST) -> None:
    """Builds a bento of each network, for those who containerize and deploy with BentoML.

    `bentoml build` sees its own folder only, so each network is laid out under ``dist/bento`` with
    our libraries as wheels. The store is ``dist/bentoml``; each bento is exported to ``dist/`` too.

    Raises:
        ContainersError: A service is not set up, or BentoML refuses it.
    """
    uv = ROOT / ".tools" / "bin" / "uv"
    for part in (each for each in parts(only) if each.card.is_file()):
        bentoml = python_of(ROOT, ROOT / part.folder).parent / "bentoml"
        if not bentoml.exists() or not uv.exists():
            raise ContainersError(f"{part.folder} is not set up; run `make setup`")
        folder = dist / "bento" / part.name
        shutil.rmtree(folder, ignore_errors=True)
        wheels = folder / "wheels"
        wheels.mkdir(parents=True)
        source = ROOT / part.folder
        rooms = ask([sys.executable, ROOT / "deploy/images/distributions.py", part.folder]) or ""
        for room in rooms.split():
            wheel(uv, ROOT / room, wheels)
        (wheels / ".gitignore").unlink(missing_ok=True)
        for name in ("service.py", "card.yaml"):
            shutil.copy2(source / name, folder / name)
        shutil.copytree(source / "weights", folder / "weights")
        lock = Room(source).environment.lock.read_text(encoding="utf-8")
        ours = "".join(f"./wheels/{path.name}\n" for path in sorted(wheels.glob("*.whl")))
        (folder / "requirements.txt").write_text(lock + ours, encoding="utf-8")
        (folder / "bentofile.yaml").write_text(_bentofile(part), encoding="utf-8")
        environment = {
            **os.environ,
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(dist / "bentoml"),
            # BentoML looks for uv there, and would install one with pip, which no room has.
            "PATH": f"{uv.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
        say(f"{part.name}: bentoml build")
        target = dist / f"{part.name}-{part.version}.bento"
        target.unlink(missing_ok=True)
        tag = f"{part.name}:{part.version}"
        # The version is ours: a bento of an earlier build is replaced.
        subprocess.run([bentoml, "delete", "--yes", tag], env=environment, capture_output=True)
        command = [str(bentoml), "build", "--version", part.version, "--output", "tag", "."]
        run(command, environment=environment, cwd=folder, limit_s=600.0)
        command = [str(bentoml), "export", tag, str(target)]
        run(command, environment=environment, cwd=folder, limit_s=300.0)
        say(f"{part.name}: wrote {target}")


def _bentofile(part: Part) -> str:
    port = settings().get(f"SPINEZOO_{part.name.upper()}_GRPC_PORT") or "50051"
    return f"""\
# Made by `make bento-build`.
service: "service:Service"
labels:
  project: spinezoo
  version: "{part.version}"
  card_sha256: "{hashlib.sha256(part.card.read_bytes()).hexdigest()}"
include:
  - service.py
  - card.yaml
  - weights/*
  - wheels/*.whl
python:
  requirements_txt: ./requirements.txt
  lock_packages: false
envs:
  - name: SPINEZOO_HOST
    value: "0.0.0.0"
  - name: SPINEZOO_GRPC_PORT
    value: "{port}"
  - name: BENTOML_DO_NOT_TRACK
    value: "True"
docker:
  python_version: "3.11"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="containers.py",
        description=(__doc__ or "").replace("::\n", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("engine", "base", "build", "up", "down", "certs", "test", "bento", "torch-lock"):
        command = commands.add_parser(name)
        if name in ("engine", "test"):
            command.add_argument("--install", action="store_true", help="install Debian's engine")
        if name == "engine":
            command.add_argument("--stop", action="store_true", help="stop what --install started")
        if name in ("build", "bento"):
            command.add_argument("names", nargs="*")
        if name == "certs":
            command.add_argument("--source", type=Path, default=ROOT / "certs")
            command.add_argument("--target", type=Path, default=ROOT / "certs" / "compose")
        if name == "torch-lock":
            command.add_argument("--index", required=True, help="address of the torch index")
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "test":
        parser.error(f"unknown arguments {rest}")
    try:
        if options.command == "engine" and options.stop:
            stop_engine()
        elif options.command == "engine":
            need_engine(install=options.install)
        elif options.command == "base":
            need_engine()
            print(base_image())
        elif options.command == "build":
            build(options.names)
        elif options.command == "up":
            up()
        elif options.command == "down":
            down()
        elif options.command == "certs":
            certs(options.source.resolve(), options.target.resolve())
        elif options.command == "bento":
            bento(options.names)
        elif options.command == "torch-lock":
            torch_lock(options.index)
        else:
            return test([each for each in rest if each != "--"], install=options.install)
    except ContainersError as error:
        say(f"containers.py: {error}")
        return NO_ENGINE if isinstance(error, NoEngineError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
