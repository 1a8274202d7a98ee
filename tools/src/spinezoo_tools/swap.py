"""Replaces one member of a running zoo by another, while clients go on asking.

::

    make swap NETWORK=pspnet IMAGE=registry/spinezoo-pspnet:2.0 containers (compose.yaml)
    make swap NETWORK=pspnet AT=10.0.0.7:50053                  any server that keeps the contract

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
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from spinezoo_tools.checkout import ToolError, read_env_file
from spinezoo_tools.environments import ROOT, python_of
from spinezoo_tools.output import end_with_reader
from spinezoo_tools.roster_file import RosterFile, SwapError, write_at_once
from spinezoo_tools.signals import StopSignalError, raise_on_stop, signals_held
from spinezoo_tools.swap_docker import COMMAND_LIMIT_S, Docker, run, say
from spinezoo_tools.zoo import Zoo

ROSTER = {"image": "deploy/compose/roster/roster.yaml", "at": "gateway/roster.yaml"}
"""Roster file of the containers' gateway, and of the processes'."""

IMAGES_ENV = "deploy/compose/images.env"
"""``SPINEZOO_<NAME>_IMAGE=...`` of members that were swapped; wins over ``.env``."""

TAKEN_LIMIT_S = 240.0
"""The gateway's own limit for a check (SPINEZOO_NEWCOMER_S) is 120 s."""


class RefusedError(SwapError):
    """The gateway refuses the newcomer; the message is the rule that it broke."""


class Gateway:
    """The running gateway, asked through its own program."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Takes the command that runs ``spinezoo_gateway.watch`` where the gateway is."""
        self._command = tuple(command)
        self._environment = environment

    def must_answer(self, name: str) -> None:
        """Asks for a member, before anything is changed.

        Raises:
            SwapError: The gateway does not answer, or knows no such member.
        """
        done = run(
            (*self._command, "--member", name), COMMAND_LIMIT_S, self._environment, codes=(0, 2)
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            raise SwapError(
                f"the gateway cannot be asked, and nothing was changed: {lines[-1]} (make up "
                "starts the zoo; --gateway says where it is)"
            )

    def wait_for(self, name: str, target: str, limit_s: float = TAKEN_LIMIT_S) -> None:
        """Waits until films go to a target.

        Raises:
            RefusedError: The gateway refuses what is there.
            SwapError: It says nothing of it within the time.
        """
        options = ("--member", name, "--wait-for", target, "--limit-s", f"{limit_s:g}")
        done = run(
            (*self._command, *options),
            limit_s + COMMAND_LIMIT_S,
            self._environment,
            codes=(0, 1, 2),
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            raise (RefusedError if done.returncode == 1 else SwapError)(lines[-1])


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


def write_variables(path: Path, values: Mapping[str, str]) -> None:
    """Writes such a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "# Images of members that were swapped (make swap). Delete a line to go back.\n"
    write_at_once(path, head + "".join(f"{key}={values[key]}\n" for key in sorted(values)))


class Undo:
    """Steps that are taken back, last first, unless all went well."""

    def __init__(self) -> None:
        """Nothing to undo yet."""
        self._steps: list[tuple[str, Callable[[], None]]] = []

    def add(self, what: str, step: Callable[[], None]) -> None:
        """Adds a step; ``step`` is called without arguments."""
        self._steps.append((what, step))

    def clear(self) -> None:
        """All went well."""
        self._steps.clear()

    def run(self) -> list[str]:
        """Undoes everything, whatever fails on the way; returns what could not be undone."""
        left = []
        with signals_held("undoing; one moment"):
            while self._steps:
                what, step = self._steps.pop()
                say(f"undoing: {what}")
                try:
                    step()
                except ToolError as error:
                    left.append(f"{what}: {error}")
        return left


def _send(roster: RosterFile, gateway: Gateway, name: str, target: str) -> None:
    """Points a member at a target and waits until films go there."""
    roster.point(name, target)
    gateway.wait_for(name, target)


def swap_address(roster: RosterFile, gateway: Gateway, name: str, target: str, undo: Undo) -> None:
    """Sends a member's films to another address, once the gateway has checked what is there.

    Raises:
        SwapError: They go there already, or the gateway does not answer.
        RefusedError: The gateway refuses what is there.
    """
    old = roster.target(name)
    if old == target:
        raise SwapError(f"{name} is at {target} already")
    gateway.must_answer(name)
    undo.add(f"{name} back to {old}", partial(_send, roster, gateway, name, old))
    say(f"{name}: {old} -> {target}; the gateway checks the newcomer")
    _send(roster, gateway, name, target)
    say(f"{name}: films go to {target}; {old} may be stopped")


def swap_image(
    roster: RosterFile, docker: Docker, images: Path, name: str, image: str, undo: Undo
) -> None:
    """Replaces a member's containers by those of another image.

    Raises:
        SwapError: The member does not run, or a step fails.
        RefusedError: The gateway refuses the newcomer.
    """
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
    old_variables = read_env_file(images) if images.exists() else None
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
    undo.add(f"{name} back to {old_target}", partial(_send, roster, gateway, name, old_target))
    say(f"{name}: the gateway checks the newcomer")
    _send(roster, gateway, name, newcomer_target)
    say(f"{name}: films go to the newcomer")

    # 3. The service itself from the new image; it has no films now.
    def make_again() -> None:
        docker.recreate(name, old_count)
        for container in docker.containers(name, beside=newcomer):
            docker.await_healthy(container)

    def old_service() -> None:
        docker.environment = old_environment
        make_again()

    def old_images() -> None:
        if old_variables is None:
            images.unlink(missing_ok=True)
        else:
            write_variables(images, old_variables)

    undo.add(f"{name} from its old image", old_service)
    undo.add(f"{images.name} as it was", old_images)
    write_variables(images, {**(old_variables or {}), variable: image})
    say(f"{name}: making the service again from {image}")
    make_again()

    # 4. Back to the service's own name, and the interim container goes.
    undo.add(f"{name} to {newcomer}", partial(_send, roster, gateway, name, newcomer_target))
    _send(roster, gateway, name, old_target)
    undo.clear()
    docker.stop_gently(newcomer)
    say(f"{name}: films go to {old_target}, which is {image} now")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0 when swapped, 1 when refused, 2 when something else failed."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_tools.swap",
        description=(__doc__ or "").replace("::\n", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("network", help="name of the member in the roster")
    newcomer = parser.add_mutually_exclusive_group(required=True)
    newcomer.add_argument("--image", help="image of the newcomer")
    newcomer.add_argument("--at", metavar="TARGET", help="gRPC target of the newcomer")
    parser.add_argument("--roster", type=Path, help="roster file that the gateway follows")
    parser.add_argument("--gateway", help="host:port of the gateway, with --at")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    options = parser.parse_args(arguments)
    root = options.root.resolve()
    way = "image" if options.image else "at"
    roster = RosterFile(options.roster or root / ROSTER[way])
    undo = Undo()
    held = contextlib.ExitStack()
    raise_on_stop()
    try:
        held.enter_context(roster.held())
        if options.image:
            docker = Docker(root, with_token(os.environ))
            images = root / IMAGES_ENV
            swap_image(roster, docker, images, options.network, options.image, undo)
        else:
            python = python_of(root, root / "gateway")
            zoo = Zoo(root)
            where = options.gateway or zoo.called(zoo.ports()["gateway"][0])
            command = (str(python), "-m", "spinezoo_gateway.watch", "--gateway", where)
            gateway = Gateway(command, zoo.settings)
            swap_address(roster, gateway, options.network, options.at, undo)
    except (ToolError, StopSignalError) as error:
        left = undo.run()
        if isinstance(error, RefusedError):
            say(f"swap: {options.network}: the newcomer is refused, the old one stays: {error}")
        else:
            say(f"swap: {f'stopped by {error}' if isinstance(error, StopSignalError) else error}")
        for one in left:
            say(f"swap: could not be undone, do it by hand: {one}")
        if isinstance(error, StopSignalError):
            return 128 + error.signal_number
        return 1 if isinstance(error, RefusedError) and not left else 2
    finally:
        held.close()
    return 0


if __name__ == "__main__":
    end_with_reader()
    raise SystemExit(main())
