"""Start, watch and stop the zoo's processes: every network, the gateway and the evaluator.

::

    make up, make down, make status      the usual doors
    python -m spinezoo_tools.processes up [--only NAMES]
                                         start, wait until all are ready, leave them running
    python -m spinezoo_tools.processes down
                                         stop what `up` started
    python -m spinezoo_tools.processes status
                                         what is running, what is ready
    python -m spinezoo_tools.processes run [--only NAMES] -- CMD...
                                         start, run CMD, stop everything, exit with CMD's code;
                                         where it is killed, CMD and the zoo are stopped too

The networks are the folders ``services/*/`` that have a ``card.yaml``. Each process starts with
the command that its container runs. Ports and settings come from ``.env``; the environment wins.
Process ids and logs lie under ``run/`` or where ``SPINEZOO_RUN_DIR`` says: two zoos of one checkout
need two such folders, and ports of their own. Where ``SPINEZOO_TLS`` is on, each process gets its
own certificate ``<name>.crt`` and ``<name>.key`` and the authority ``ca.crt`` from the folder
``certs`` (``make certs`` makes it) or where ``SPINEZOO_TLS_DIR`` says. Standard library only,
because it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from spinezoo_tools.checkout import ToolError
from spinezoo_tools.environments import ROOT
from spinezoo_tools.output import end_with_reader
from spinezoo_tools.running import Running
from spinezoo_tools.signals import StopSignalError, raise_on_stop, signals_held
from spinezoo_tools.zoo import START_TIMEOUT_S, Zoo, ZooError, say

PROGRAM = "python -m spinezoo_tools.processes"

BUF = ".venvs/tests/bin/buf"
"""Where `make setup` puts buf, which can call any gRPC server; `make setup-serving` does not."""


IF_WE_ARE_KILLED = """
while read -r word; do [ "$word" != over ] || exit 0; group=$word; done
[ -z "$group" ] || kill -s TERM -- "-$group" 2>/dev/null
exec "$0" "$@"
"""
"""What the watcher runs: it reads the command's process group and our last word, and where its
input ends without that, it stops the command and then the zoo."""


@contextlib.contextmanager
def watched(zoo: Zoo) -> Iterator[IO[bytes]]:
    """Has the zoo stopped also where SIGKILL ends us; gives what the watcher reads."""
    down = [sys.executable, "-m", "spinezoo_tools.processes", "--root", str(zoo.root), "down"]
    watcher = subprocess.Popen(
        ["sh", "-c", IF_WE_ARE_KILLED, *down], stdin=subprocess.PIPE, start_new_session=True
    )
    assert watcher.stdin is not None
    try:
        yield watcher.stdin
    finally:
        watcher.communicate(b"over\n")


def run_command(command: Sequence[str], environment: Mapping[str, str], told: IO[bytes]) -> int:
    """Runs a command to its end and returns its exit code; our signals are passed on to it.

    The command has its own process group, so that it gets each signal once, from us. ``told`` is
    told which.
    """
    try:
        process = subprocess.Popen(command, env=dict(environment), process_group=0)
    except OSError as error:
        raise ZooError(f"cannot run {command[0]}: {error.strerror}") from None
    try:
        with contextlib.suppress(BrokenPipeError):
            told.write(f"{process.pid}\n".encode())
            told.flush()
        code = process.wait()
        return code if code >= 0 else 128 - code
    except StopSignalError as interrupt:
        with signals_held("stopping; one moment"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, interrupt.signal_number)
            try:
                process.wait(timeout=15.0)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        raise


def access_options(zoo: Zoo) -> tuple[str, str, str]:
    """What TLS and tokens add to our commands and to buf's, and buf's scheme."""
    ours = bufs = ""
    if zoo.tls != "off":
        found = {**zoo.settings, **zoo.tls_files("client", "SPINEZOO_CLIENT_TLS")}

        def file(kind: str) -> str:
            path = found.get(f"SPINEZOO_CLIENT_TLS_{kind}") or found.get(f"SPINEZOO_TLS_{kind}")
            return os.path.relpath(zoo.root / path, zoo.root) if path else "FILE"

        ours, bufs = f" --ca {file('CA')}", f" --cacert {file('CA')}"
        if zoo.tls == "mutual":
            ours += f" --cert {file('CERT')} --key {file('KEY')}"
            bufs += f" --cert {file('CERT')} --key {file('KEY')}"
    if zoo.settings.get("SPINEZOO_TOKENS"):
        ours += " --token-file FILE"
        bufs += " -H \"Authorization: Bearer $(cat FILE)\" --reflect-header '*'"
    if zoo.tls == "off":
        return ours, f" --http2-prior-knowledge{bufs}", "http"
    return ours, bufs, "https"


def how_to_call(zoo: Zoo, running: Sequence[Running]) -> str:
    """What to do with a zoo that is up."""
    by_name = {one.name: one for one in running}
    lines = ["", "The zoo is up."]
    for one in running:
        address = zoo.called(one.grpc_port)
        lines.append(f"  {one.name:<12} gRPC {address:<18} HTTP http://{zoo.called(one.http_port)}")
    if "gateway" in by_name:
        target = zoo.called(by_name["gateway"].grpc_port)
        ours, bufs, scheme = access_options(zoo)
        page_scheme = "http" if zoo.tls == "off" else "https"
        page = f"{page_scheme}://{zoo.called(by_name['gateway'].http_port)}/"
        lines += ["", f"Open the page: {page}"]
        lines += ["", "Ask the gateway:"]
        for example in sorted((zoo.root / "examples").glob("*.py")):
            script = example.relative_to(zoo.root)
            lines.append(f"  .venvs/core/bin/python {script} FILM.dcm --target {target}{ours}")
        buf = BUF if (zoo.root / BUF).exists() else "buf"
        lines.append(f"  {buf} curl --protocol grpc{bufs} -d '{{}}' \\")
        lines.append(f"    {scheme}://{target}/spinezoo.v1.EnsembleService/ListModels")
    lines += ["", f"Logs: {zoo.run_folder / 'logs'}   Stop: make down"]
    return "\n".join(lines)


def command_up(zoo: Zoo, only: Sequence[str], timeout_s: float) -> int:
    """Starts the zoo and leaves it running."""
    with zoo.lock():
        _, running = zoo.start(zoo.parts(only), timeout_s)
    print(how_to_call(zoo, running), flush=True)
    return 0


def command_down(zoo: Zoo) -> int:
    """Stops what ``up`` started."""
    with zoo.lock():
        zoo_id, running = zoo.load()
        if not zoo_id:
            say("nothing is running")
            return 0
        killed = zoo.stop(zoo_id, running)
    for name in killed:
        say(f"{name} did not stop when asked and was killed")
    say(f"stopped {', '.join(one.name for one in running)}")
    return 0


def command_status(zoo: Zoo) -> int:
    """Prints one line a process; the exit code is 0 only when all are ready."""
    _, running = zoo.load()
    if not running:
        print("nothing is running")
        return 1
    all_ready = True
    for one in running:
        alive = one.alive()
        ready = alive and zoo.ready(one)
        state = "ready" if ready else "not ready" if alive else "ended"
        all_ready &= ready
        ports = f"gRPC {one.grpc_port}, HTTP {one.http_port}"
        print(f"{one.name:<12} {state:<10} process {one.pid:<8} {ports}")
    return 0 if all_ready else 1


def command_run(zoo: Zoo, only: Sequence[str], timeout_s: float, command: Sequence[str]) -> int:
    """Starts the zoo, runs the command, stops the zoo, whatever happened."""
    if not command:
        raise ZooError(f"say what to run: {PROGRAM} run -- COMMAND...")
    with zoo.lock(), watched(zoo) as watcher:
        zoo_id, running = zoo.start(zoo.parts(only), timeout_s)
        try:
            return run_command(command, zoo.command_environment(running), watcher)
        finally:
            with signals_held("stopping; one moment"):
                for one in running:
                    if not one.alive():
                        say(f"{one.name} {one.exit_text()} while the command ran; see {one.log}")
                for name in zoo.stop(zoo_id, running):
                    say(f"{name} did not stop when asked and was killed")
                say("the zoo is stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command: list[str] = []
    if "--" in given:
        cut = given.index("--")
        given, command = given[:cut], given[cut + 1 :]
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description=(__doc__ or "").replace("::\n", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("up", "down", "status", "run"))
    parser.add_argument(
        "--only", default="", help="names to start, with commas between; default all"
    )
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=START_TIMEOUT_S,
        metavar="SECONDS",
        help="time until all must be ready (default %(default).0f)",
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout")
    options = parser.parse_args(given)
    only = [name.strip() for name in options.only.split(",") if name.strip()]
    raise_on_stop()
    try:
        zoo = Zoo(options.root.resolve())
        if options.action == "up":
            return command_up(zoo, only, options.timeout_s)
        if options.action == "down":
            return command_down(zoo)
        if options.action == "status":
            return command_status(zoo)
        return command_run(zoo, only, options.timeout_s, command)
    except ToolError as error:
        say(f"zoo: {error}")
        return 1
    except OSError as error:
        what = "a file" if error.filename is None else str(error.filename)
        say(
            f"zoo: {what} cannot be read or written ({error.strerror or type(error).__name__}); "
            "look at its rights and the room on the disk, or set SPINEZOO_RUN_DIR"
        )
        return 1
    except StopSignalError as interrupt:
        say(f"zoo: stopped by {interrupt}")
        return 128 + interrupt.signal_number


if __name__ == "__main__":
    end_with_reader()
    raise SystemExit(main())
