"""The options of every command that reads outlines."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spinezoo_contract.types import Structure

from spinezoo_spine.annotations.regions import STRUCTURE_NAMES, structure_of


@dataclass(frozen=True, slots=True)
class OutlineOptions:
    """How outlines are read.

    Attributes:
        class_attribute: Attribute that holds the class; None finds it.
        classes: Further class names and what they stand for.
        skip_bad_regions: Go on without regions that have errors, and name each.
    """

    class_attribute: str | None = None
    classes: Mapping[str, Structure] = field(default_factory=dict)
    skip_bad_regions: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the record of a run."""
        return {
            "class_attribute": self.class_attribute,
            "map": {name: STRUCTURE_NAMES[self.classes[name]] for name in sorted(self.classes)},
            "skip_bad_regions": self.skip_bad_regions,
        }


def class_map_entry(text: str) -> tuple[str, Structure]:
    """``name=structure`` of a command line, for argparse.

    Raises:
        argparse.ArgumentTypeError: It has no name, or what follows is no structure.
    """
    name, equals, wanted = text.rpartition("=")
    structure = structure_of(wanted)
    if not equals or not name.strip() or structure is None:
        known = ", ".join(STRUCTURE_NAMES.values())
        raise argparse.ArgumentTypeError(
            f'{text!r}: write "name=structure" with one of {known}, such as "body=lumbar_vertebra"'
        )
    return name.strip(), structure


def add_outline_options(parser: argparse.ArgumentParser, *, skip: bool = True) -> None:
    """Adds ``--class-attribute``, ``--map`` and, where wanted, ``--skip-bad-regions``."""
    parser.add_argument(
        "--class-attribute",
        metavar="NAME",
        help="attribute of the regions that holds their class (default: found by itself)",
    )
    parser.add_argument(
        "--map",
        dest="class_map",
        metavar='"NAME=STRUCTURE"',
        type=class_map_entry,
        action="append",
        default=[],
        help="what a class name of the file stands for; may be given several times",
    )
    if skip:
        parser.add_argument(
            "--skip-bad-regions",
            action="store_true",
            help="go on without regions that have errors; each is named",
        )


def outline_options(arguments: argparse.Namespace) -> OutlineOptions:
    """The options of a command line that :func:`add_outline_options` has read."""
    return OutlineOptions(
        arguments.class_attribute,
        dict(arguments.class_map),
        bool(getattr(arguments, "skip_bad_regions", False)),
    )
