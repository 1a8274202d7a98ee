"""Images and containers of the zoo: the engine, the base image, builds, the composition, bentos.

::

    python -m spinezoo_tools.containers engine [--install]
                        says whether a Docker Engine answers; --install makes one
    ... engine --stop   stops the engine that this checkout started, and no other
    ... base            finds or makes the image that all others start from
    ... build [--gpu] [NAMES]
                        builds images, all by default; those of the networks for GPUs
    ... up | down       the composition; up waits until all is healthy
    ... certs           certificates of `make certs`, laid out for compose.tls.yaml
    ... test [--install]
                        engine, build, tests/containers with its own composition
    ... test-gpu [NAMES]
                        builds and tries the images for GPUs, with or without one
    ... bento [NAMES]   `bentoml build` of each network, into dist/
    ... torch-lock --index URL
                        a lock with another torch index, for small CPU images

The images are those of ``services/*/`` with a ``card.yaml``, the gateway and the evaluator. Names,
ports and limits come from ``.env``; the environment wins. ``docs/containers.md`` tells which
variables a site behind a proxy or with a mirror sets. Standard library only. Ends with 0 when all
went well, 3 when there is no Docker Engine and none could be made, 4 when its disk has too little
room, 1 when something else failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spinezoo_tools.bento import bento
from spinezoo_tools.checkout import ToolError
from spinezoo_tools.compose import certs, down, test, test_gpu, up
from spinezoo_tools.engine import NoEngineError, NoRoomError, need_engine, say, stop_engine
from spinezoo_tools.environments import ROOT
from spinezoo_tools.images import base_image, build, torch_lock
from spinezoo_tools.output import end_with_reader

NO_ENGINE = 3
"""Exit code where there is no engine: continuous integration tells it from a failure."""

NO_ROOM = 4
"""Exit code where the engine's disk has too little room: likewise."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_tools.containers",
        description=(__doc__ or "").replace("::\n", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in (
        *("engine", "base", "build", "up", "down", "certs", "test", "test-gpu", "bento"),
        "torch-lock",
    ):
        command = commands.add_parser(name)
        if name in ("engine", "test"):
            command.add_argument("--install", action="store_true", help="install Debian's engine")
        if name == "engine":
            command.add_argument("--stop", action="store_true", help="stop what --install started")
        if name in ("build", "bento", "test-gpu"):
            command.add_argument("names", nargs="*")
        if name == "build":
            command.add_argument("--gpu", action="store_true", help="the networks' for GPUs")
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
            build(options.names, gpu=options.gpu)
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
        elif options.command == "test-gpu":
            return test_gpu(options.names)
        else:
            return test([each for each in rest if each != "--"], install=options.install)
    except ToolError as error:
        say(f"containers: {error}")
        if isinstance(error, NoRoomError):
            return NO_ROOM
        return NO_ENGINE if isinstance(error, NoEngineError) else 1
    return 0


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
