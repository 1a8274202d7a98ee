"""Options that the benchmark and the check on real films share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from spinezoo_contract.arguments import seconds, seconds_above_0
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


def check_report_folder(folder: Path) -> None:
    """Refuses, before anything is asked, a report's folder that cannot be written.

    Raises:
        ConfigurationError: A file is in its place, or it may not be written.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigurationError(f"{nearest} is a file; give another --report, for a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{nearest} cannot be written; give another --report")


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
    parser.add_argument(
        "--timeout-s", type=seconds_above_0, default=180.0, help="time a film has, in s"
    )
    parser.add_argument(
        "--wait-s", type=seconds, default=30.0, help="wait so long for the services, in s"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures")
