"""Options that the benchmark and the check on real films share."""

from __future__ import annotations

import argparse
from pathlib import Path

from spinezoo_contract.errors import ConfigurationError

from spinezoo_evaluator.settings import BenchmarkSettings


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return value


def settings_for(parser: argparse.ArgumentParser) -> BenchmarkSettings:
    """The environment's settings; ends the command where one is wrong."""
    try:
        return BenchmarkSettings.from_env()
    except ConfigurationError as error:
        parser.error(str(error))


def add_common_options(parser: argparse.ArgumentParser, *, data: str) -> None:
    """Adds what both commands take.

    Args:
        parser: The command's parser.
        data: What ``--data`` is, for the help.
    """
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--report", type=Path, required=True, help="folder of the report")
    parser.add_argument(
        "--check",
        action="store_true",
        help="say whether data and options are right, and stop; needs no running zoo",
    )
    parser.add_argument(
        "--gateway",
        default=settings_for(parser).gateway_target,
        help="gRPC address of the gateway (default: %(default)s)",
    )
    parser.add_argument("--limit", type=positive, help="measure only the first N films")
    parser.add_argument("--networks", nargs="+", default=[], help="networks to ask (default: all)")
    parser.add_argument("--member-deadline-ms", type=positive, help="default: the gateway's")
    parser.add_argument("--timeout-s", type=float, default=180.0, help="time a film has, in s")
    parser.add_argument(
        "--wait-s", type=float, default=30.0, help="wait so long for the services, in s"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures")
