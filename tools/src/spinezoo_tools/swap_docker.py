"""Every docker command of a swap, and nothing else. Standard library only."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinezoo_tools.roster_file import SwapError

GATEWAY_SERVICE = "gateway"

COMMAND_LIMIT_S = 120.0
PULL_LIMIT_S = 1800.0
HEALTHY_LIMIT_S = 300.0

STOP_GRACE_S = 40
"""Time a container has to drain; more than SPINEZOO_DRAIN_S."""

POLL_S = 1.0

MOST_RESTARTS = 2
"""A newcomer that ends this often is not going to serve."""


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
