"""Replaces one member of a running zoo by another, while clients go on asking.

::

    swap.py pspnet --image registry/spinezoo-pspnet:2.0     containers (compose.yaml)
    swap.py pspnet --at 10.0.0.7:50053                      any server that keeps the contract

With an image: the newcomer starts beside the old container; the gateway checks it and takes it in;
the compose service is made again from the new image and takes over; the newcomer's own container
goes. The image is written to ``deploy/compose/images.env`` so that it stays. A newcomer that is
refused is removed and the old member stays: exit code 1, with the rule that it broke. With an
address: the roster is edited, and put back when the newcomer is refused.

Every step has a time limit. When one fails, or on Ctrl-C, the steps before it are undone. What
happens inside is in ``docs/swap.md``. Standard library only; it asks the gateway through
``python -m spinezoo_gateway.watch``, in the gateway's container or environment.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from spinezoo_tools.environments import python_of

ROSTER = {"image": "deploy/compose/roster/roster.yaml", "at": "gateway/roster.yaml"}
"""Roster file of the containers' gateway, and of the processes'."""

IMAGES_ENV = "deploy/compose/images.env"
"""``SPINEZOO_<NAME>_IMAGE=...`` of members that were swapped; wins over ``.env``."""

GATEWAY_SERVICE = "gateway"

COMMAND_LIMIT_S = 120.0
PULL_LIMIT_S = 1800.0
HEALTHY_LIMIT_S = 300.0
TAKEN_LIMIT_S = 240.0
"""The gateway's own limit for a check (SPINEZOO_NEWCOMER_SECONDS) is 120 s."""

STOP_GRACE_S = 40
"""Time a container has to drain; more than SPINEZOO_DRAIN_SECONDS."""

POLL_S = 1.0

MOST_RESTARTS = 2
"""A newcomer that ends this often is not going to serve."""


class SwapError(Exception):
    """Something the user has to know, worded for the user."""


class RefusedError(SwapError):
    """The gateway refuses the newcomer; the message is the rule that it broke."""


class StopSignalError(Exception):
    """A signal asked us to stop."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def run(
    command: Sequence[str],
    limit_s: float,
    environment: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    codes: Sequence[int] = (0,),
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end.

    Raises:
        SwapError: It cannot be started, takes too long or ends with another code than ``codes``.
    """
    shown = " ".join(command)
    try:
        # A group of its own: Ctrl-C is for this program, which undoes what it has begun.
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=limit_s,
            env=None if environment is None else dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
    except OSError as error:
        raise SwapError(f"cannot run {command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise SwapError(f"no end after {limit_s:g} s: {shown}") from None
    if done.returncode not in codes:
        tail = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-10:])
        raise SwapError(f"failed ({done.returncode}): {shown}\n  {tail}")
    return done


# ---------------------------------------------------------------------------------- the roster


def target_of(text: str, name: str) -> str:
    """The target of a member in a roster's text.

    Raises:
        SwapError: The member is not there exactly once.
    """
    return _place(text, name)[0]


def with_target(text: str, name: str, target: str) -> str:
    """The roster's text with another target for one member; all else stays, comments too.

    Raises:
        SwapError: The member is not there exactly once.
    """
    _, start, end = _place(text, name)
    return f"{text[:start]}{target}{text[end:]}"


def _place(text: str, name: str) -> tuple[str, int, int]:
    """Target of a member, and where in the text it stands.

    Not a YAML reader: it finds the entry, and the gateway, which is one, judges the result.
    """
    # Comments are blanked, not cut out: places must stay those of the text.
    plain = re.sub(r"(?:^|(?<=\s))#[^\n]*", lambda found: " " * len(found[0]), text, flags=re.M)
    entries = list(re.finditer(r"^[ \t]*-[^\n]*\n?(?:(?![ \t]*-)[^\n]*\n?)*", plain, re.M))
    key = r"(?:^|[\s{{,-]){}[ \t]*:[ \t]*(?P<quote>['\"]?)(?P<value>[^\s'\",}}]+)(?P=quote)"
    found = []
    for entry in entries:
        named = re.search(key.format("name"), entry[0])
        if named is None or named["value"] != name:
            continue
        target = re.search(key.format("target"), entry[0])
        if target is not None:
            start, end = target.span("value")
            found.append((target["value"], entry.start() + start, entry.start() + end))
    if len(found) != 1:
        what = "no member" if not found else f"{len(found)} members"
        raise SwapError(
            f"the roster has {what} {name!r} with a target on lines of its own; correct it"
        )
    return found[0]


class RosterFile:
    """The file that the gateway follows."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet."""
        self.path = path

    def read(self) -> str:
        """Its text.

        Raises:
            SwapError: It cannot be read.
        """
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise SwapError(f"cannot read the roster {self.path}: {error.strerror}") from None

    def target(self, name: str) -> str:
        """Where a member is now."""
        return target_of(self.read(), name)

    def point(self, name: str, target: str) -> None:
        """Gives a member another target, in one step: the gateway never sees half a file."""
        write_at_once(self.path, with_target(self.read(), name, target))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps every other swap away from this roster; the kernel lets go when we end.

        Raises:
            SwapError: Another swap is under way, or there is no such folder.
        """
        try:
            # The folder, because the file is replaced by another with each edit.
            handle = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise SwapError(f"cannot read {self.path.parent}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SwapError("another swap is under way here; try again when it is done") from None
        else:
            yield
        finally:
            os.close(handle)


def write_at_once(path: Path, text: str) -> None:
    """Replaces a file in one step, keeping its permissions.

    Raises:
        SwapError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SwapError(f"cannot write {path}: {error.strerror}") from None


# ---------------------------------------------------------------------------------- the gateway


class Gateway:
    """The running gateway, asked through its own program."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Takes the command that runs ``spinezoo_gateway.watch`` where the gateway is."""
        self._command = tuple(command)
        self._environment = environment

    def wait_for(self, name: str, target: str, limit_s: float = TAKEN_LIMIT_S) -> None:
        """Waits until films go to a target.

        Raises:
            RefusedError: The gateway refuses what is there.
            SwapError: It says nothing of it within the time.
        """
        options = ("--member", name, "--wait-for", target, "--limit", f"{limit_s:g}")
        done = run(
            (*self._command, *options),
            limit_s + COMMAND_LIMIT_S,
            self._environment,
            codes=(0, 1, 2),
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            raise (RefusedError if done.returncode == 1 else SwapError)(lines[-1])


# ---------------------------------------------------------------------------------- containers


class Docker:
    """Every docker command of this program, and nothing else."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        """Finds out how docker and compose are called here.

        Raises:
            SwapError: There is no compose.
        """
        self._root = root
        self.environment = dict(environment)
        self._docker = self.environment.get("SPINEZOO_DOCKER") or "docker"
        for compose in ((self._docker, "compose"), ("docker-compose",)):
            with contextlib.suppress(SwapError):
                run((*compose, "version"), 30.0)
                self._compose = (*compose, "--project-directory", str(root))
                return
        raise SwapError("neither `docker compose` nor `docker-compose` runs here; install one")

    def compose(self, *arguments: str, limit_s: float = COMMAND_LIMIT_S) -> str:
        """One compose command in the repository; returns what it wrote."""
        # Overlays are named by COMPOSE_FILE, as for every other compose command.
        alone = "COMPOSE_FILE" not in self.environment
        files = ("-f", str(self._root / "compose.yaml")) if alone else ()
        command = (*self._compose, *files, *arguments)
        # In the repository, which is where the names in COMPOSE_FILE count from.
        return run(command, limit_s, self.environment, cwd=self._root).stdout.strip()

    def docker(
        self, *arguments: str, limit_s: float = COMMAND_LIMIT_S
    ) -> subprocess.CompletedProcess[str]:
        """One docker command."""
        return run((self._docker, *arguments), limit_s, self.environment)

    def inspect(self, what: str) -> dict[str, Any]:
        """What the engine knows of a container or an image."""
        return dict(json.loads(self.docker("inspect", what).stdout)[0])

    def gateway(self) -> str:
        """Id of the gateway's container.

        Raises:
            SwapError: It is not running.
        """
        container = self.compose("ps", "-q", GATEWAY_SERVICE).splitlines()
        if not container:
            raise SwapError("the gateway's container is not running; start the zoo first")
        return container[0]

    def gateway_command(self, container: str) -> tuple[str, ...]:
        """How the program that asks the gateway runs in its container."""
        # By name only: what a command line holds, everybody on the machine can read.
        token = ("-e", "SPINEZOO_TOKEN") if self.environment.get("SPINEZOO_TOKEN") else ()
        return (
            *(self._docker, "exec", *token, container),
            *("python", "-m", "spinezoo_gateway.watch"),
        )

    def have_image(self, image: str) -> None:
        """Makes sure that an image is on this machine; it is pulled where it is not."""
        with contextlib.suppress(SwapError):
            self.docker("image", "inspect", image)
            return
        say(f"pulling {image}")
        self.docker("pull", image, limit_s=PULL_LIMIT_S)

    def run_beside(self, service: str, container: str) -> None:
        """Starts one more container of a service, on its networks, without its name."""
        # No stop limit of compose's own: it is stopped by stop_gently.
        self.compose("run", "-d", "--no-deps", "--name", container, service)

    def containers(self, service: str, beside: str = "") -> list[str]:
        """Ids of a service's containers, without the one that was started ``beside`` them."""
        ids = self.compose("ps", "-q", service).split()
        # Compose 1.29 lists that one too, while `docker compose` does not.
        names = {each: self.inspect(each)["Name"].lstrip("/") for each in ids} if beside else {}
        return [each for each in ids if not beside or names[each] != beside]

    def running_image(self, container: str) -> str:
        """The image that a container runs; its id where the name means another one by now."""
        told = self.inspect(container)
        name, image_id = str(told["Config"]["Image"]), str(told["Image"])
        with contextlib.suppress(SwapError):
            if self.inspect(name)["Id"] == image_id:
                return name
        return image_id

    def recreate(self, service: str, count: int) -> None:
        """Makes a service's containers again, as many as there were."""
        self.compose(
            "up", "-d", "--no-deps", "--no-build", "--force-recreate",
            "--scale", f"{service}={count}", service, limit_s=COMMAND_LIMIT_S + HEALTHY_LIMIT_S,
        )  # fmt: skip

    def await_healthy(self, container: str, limit_s: float = HEALTHY_LIMIT_S) -> None:
        """Waits until a container is healthy.

        Raises:
            SwapError: It ended or is not healthy in time; the message holds its last lines.
        """
        end = time.monotonic() + limit_s
        while True:
            told = self.inspect(container)
            state = told["State"]
            # A container without a health check has only run or not run.
            health = (state.get("Health") or {}).get("Status", "healthy")
            if state["Status"] == "running" and health == "healthy":
                return
            # Compose has an ended container started again: it would go on so until the limit.
            ended = state["Status"] in ("exited", "dead") or told["RestartCount"] >= MOST_RESTARTS
            if ended or time.monotonic() >= end:
                logs = self.docker("logs", "--tail", "20", container)
                lines = "\n  ".join((logs.stdout + logs.stderr).strip().splitlines()[-20:])
                raise SwapError(
                    f"{container} is {state['Status']}, {health}, started again "
                    f"{told['RestartCount']} times; it has {limit_s:g} s to be healthy. "
                    f"Last lines of its log:\n  {lines}"
                )
            time.sleep(POLL_S)

    def stop_gently(self, container: str) -> None:
        """Lets a container finish its films, and removes it; does nothing where there is none."""
        if not self.docker("ps", "-aq", "--filter", f"name=^/{container}$").stdout.strip():
            return
        self.docker("stop", "-t", str(STOP_GRACE_S), container, limit_s=STOP_GRACE_S + 60.0)
        self.docker("rm", "--force", container)


def with_token(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the token in it that ``SPINEZOO_TOKEN_FILE`` names.

    The gateway's container, where the token is needed, does not see that file.

    Raises:
        SwapError: The file cannot be read.
    """
    path = environment.get("SPINEZOO_TOKEN_FILE")
    if not path or environment.get("SPINEZOO_TOKEN"):
        return dict(environment)
    try:
        return {**environment, "SPINEZOO_TOKEN": Path(path).read_text(encoding="utf-8").strip()}
    except OSError as error:
        raise SwapError(f"SPINEZOO_TOKEN_FILE: cannot read {path}: {error.strerror}") from None


def read_variables(path: Path) -> dict[str, str]:
    """Lines ``NAME=value`` of a file; none where there is no file."""
    if not path.exists():
        return {}
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}


def write_variables(path: Path, values: Mapping[str, str]) -> None:
    """Writes such a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "# Images of members that were swapped (make swap). Delete a line to go back.\n"
    write_at_once(path, head + "".join(f"{key}={values[key]}\n" for key in sorted(values)))


# ---------------------------------------------------------------------------------- undoing


class Undo:
    """Steps that are taken back, last first, unless all went well."""

    def __init__(self) -> None:
        """Nothing to undo yet."""
        self._steps: list[tuple[str, object]] = []

    def add(self, what: str, step: object) -> None:
        """Adds a step; ``step`` is called without arguments."""
        self._steps.append((what, step))

    def clear(self) -> None:
        """All went well."""
        self._steps.clear()

    def run(self) -> list[str]:
        """Undoes everything, whatever fails on the way; returns what could not be undone."""
        left = []
        with signals_held():
            while self._steps:
                what, step = self._steps.pop()
                say(f"undoing: {what}")
                try:
                    step()  # type: ignore[operator]
                except SwapError as error:
                    left.append(f"{what}: {error}")
        return left


def _raise_stop(signal_number: int, _frame: FrameType | None) -> None:
    raise StopSignalError(signal_number)


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """While undoing, a second Ctrl-C must not leave half of it."""

    def wait_please(_number: int, _frame: FrameType | None) -> None:
        say("undoing; one moment")

    before = {number: signal.signal(number, wait_please) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------------------------- the two ways


def swap_address(roster: RosterFile, gateway: Gateway, name: str, target: str, undo: Undo) -> None:
    """Sends a member's films to another address, once the gateway has checked what is there."""
    old = roster.target(name)
    if old == target:
        raise SwapError(f"{name} is at {target} already")

    def put_back() -> None:
        roster.point(name, old)
        gateway.wait_for(name, old)

    undo.add(f"{name} back to {old}", put_back)
    say(f"{name}: {old} -> {target}; the gateway checks the newcomer")
    roster.point(name, target)
    gateway.wait_for(name, target)
    say(f"{name}: films go to {target}; {old} may be stopped")


def swap_image(
    roster: RosterFile, docker: Docker, images: Path, name: str, image: str, undo: Undo
) -> None:
    """Replaces a member's containers by those of another image."""
    variable = f"SPINEZOO_{name.upper()}_IMAGE"
    old_target = roster.target(name)
    port = old_target.rpartition(":")[2]
    asked = docker.gateway()
    gateway = Gateway(docker.gateway_command(asked), docker.environment)
    # Two compositions of one machine may swap at the same time.
    project = docker.inspect(asked)["Config"]["Labels"]["com.docker.compose.project"]
    newcomer = f"{project}-{name}-newcomer".replace("_", "-")
    old_containers = docker.containers(name, beside=newcomer)
    old_count = len(old_containers)
    if not old_count:
        raise SwapError(f"{name} is not running; start the zoo first")
    newcomer_target = f"dns:///{newcomer}:{port}"
    if old_target == newcomer_target:
        raise SwapError(
            f"{name} is at {newcomer}, which a swap has left there that was killed; set its target "
            f"in {roster.path} to dns:///{name}:{port}, and run `docker rm -f {newcomer}`"
        )
    old_image = docker.running_image(old_containers[0])
    old_variables = read_variables(images) if images.exists() else None
    environment = {**docker.environment, **(old_variables or {})}
    old_environment = {**environment, variable: old_image}
    docker.have_image(image)

    # 1. The newcomer beside the old one.
    say(f"{name}: starting {image} as {newcomer}")
    docker.stop_gently(newcomer)  # of a swap that was killed
    undo.add(f"removing {newcomer}", lambda: docker.stop_gently(newcomer))
    docker.environment = {**environment, variable: image}
    docker.run_beside(name, newcomer)
    docker.await_healthy(newcomer)

    # 2. The gateway checks it and takes it in, or refuses it.
    def put_back() -> None:
        roster.point(name, old_target)
        gateway.wait_for(name, old_target)

    undo.add(f"{name} back to {old_target}", put_back)
    say(f"{name}: the gateway checks the newcomer")
    roster.point(name, newcomer_target)
    gateway.wait_for(name, newcomer_target)
    say(f"{name}: films go to the newcomer")

    # 3. The service itself from the new image; it has no films now.
    def old_service() -> None:
        docker.environment = old_environment
        docker.recreate(name, old_count)
        for container in docker.containers(name, beside=newcomer):
            docker.await_healthy(container)

    def old_images() -> None:
        if old_variables is None:
            images.unlink(missing_ok=True)
        else:
            write_variables(images, old_variables)

    undo.add(f"{name} from its old image", old_service)
    undo.add(f"{images.name} as it was", old_images)
    write_variables(images, {**(old_variables or {}), variable: image})
    say(f"{name}: making the service again from {image}")
    docker.recreate(name, old_count)
    for container in docker.containers(name, beside=newcomer):
        docker.await_healthy(container)

    # 4. Back to the service's own name, and the interim container goes.
    def stay_on_newcomer() -> None:
        roster.point(name, newcomer_target)
        gateway.wait_for(name, newcomer_target)

    undo.add(f"{name} to {newcomer}", stay_on_newcomer)
    roster.point(name, old_target)
    gateway.wait_for(name, old_target)
    undo.clear()
    docker.stop_gently(newcomer)
    say(f"{name}: films go to {old_target}, which is {image} now")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0 when swapped, 1 when refused, 2 when something else failed."""
    parser = argparse.ArgumentParser(
        prog="swap.py",
        description=(__doc__ or "").replace("::\n", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("network", help="name of the member in the roster")
    newcomer = parser.add_mutually_exclusive_group(required=True)
    newcomer.add_argument("--image", help="image of the newcomer")
    newcomer.add_argument("--at", metavar="TARGET", help="gRPC target of the newcomer")
    parser.add_argument("--roster", type=Path, help="roster file that the gateway follows")
    parser.add_argument("--gateway", help="host:port of the gateway, with --at")
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).resolve().parents[3], help="the checkout"
    )
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    way = "image" if options.image else "at"
    roster = RosterFile(options.roster or root / ROSTER[way])
    undo = Undo()
    held = contextlib.ExitStack()
    for number in STOP_SIGNALS:
        signal.signal(number, _raise_stop)
    try:
        held.enter_context(roster.held())
        if options.image:
            docker = Docker(root, with_token(os.environ))
            images = root / IMAGES_ENV
            swap_image(roster, docker, images, options.network, options.image, undo)
        else:
            python = python_of(root, root / "gateway")
            settings = {**read_variables(root / ".env"), **os.environ}
            port = settings.get("SPINEZOO_GATEWAY_GRPC_PORT", "50050")
            where = options.gateway or f"127.0.0.1:{port}"
            command = (str(python), "-m", "spinezoo_gateway.watch", "--gateway", where)
            gateway = Gateway(command, settings)
            swap_address(roster, gateway, options.network, options.at, undo)
    except (SwapError, StopSignalError) as error:
        left = undo.run()
        if isinstance(error, RefusedError):
            say(f"swap.py: {options.network}: the newcomer is refused, the old one stays: {error}")
        else:
            say(f"swap.py: {error if isinstance(error, SwapError) else f'stopped by {error}'}")
        for one in left:
            say(f"swap.py: could not be undone, do it by hand: {one}")
        if isinstance(error, StopSignalError):
            return 128 + error.signal_number
        return 1 if isinstance(error, RefusedError) and not left else 2
    finally:
        held.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
