"""Reads the two files of a card, strictly: ``card.yaml`` and a record of training in JSON.

Both readers refuse what their libraries would let pass in silence: keys that stand twice, aliases,
numbers that are not finite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from spinezoo_contract.errors import CardError

MAX_CARD_BYTES = 1 << 20
"""Most bytes of a card or a record: 1 MiB. A larger file is neither."""


class _StrictLoader(yaml.SafeLoader):
    """Safe loader that refuses what PyYAML would let pass in silence: repeated keys and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            message = "aliases are not allowed in a card; write the value out"
            raise yaml.composer.ComposerError(None, None, message, event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is not text; put it in quotes", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice; remove one", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_bytes(path: Path, what: str) -> bytes:
    """The bytes of a file that is not larger than a card may be.

    Args:
        path: The file.
        what: What it is, ``card`` or ``record``, for the message.

    Raises:
        CardError: The file cannot be read or is too large.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_CARD_BYTES + 1)
    except OSError as error:
        raise CardError(
            f"{what} {path} cannot be read ({error.strerror}); check the path"
        ) from error
    if len(content) > MAX_CARD_BYTES:
        raise CardError(
            f"{what} {path} is larger than {MAX_CARD_BYTES} bytes; this is not a {what}"
        )
    return content


def parse_card(path: Path, content: bytes) -> Any:
    """The document of a ``card.yaml``.

    Raises:
        CardError: The content is not YAML, or has a key twice, an alias or a key that is no text.
    """
    try:
        return yaml.load(content.decode("utf-8"), Loader=_StrictLoader)
    except UnicodeDecodeError as error:
        raise CardError(f"card {path} is not UTF-8 text; save it as UTF-8") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CardError(f"card {path} is not the YAML of a card: {error}") from error


def parse_record(path: Path, content: bytes) -> Any:
    """The document of a record of training.

    Raises:
        CardError: The content is not JSON, or has a key twice or a number that is not finite.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"key {key!r} stands twice; remove one")
            found[key] = value
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not finite; leave the entry out instead")

    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except UnicodeDecodeError as error:
        raise CardError(f"record {path} is not UTF-8 text; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise CardError(f"record {path} is not the JSON of a record: {error}") from error


def plain(value: Any, key: str) -> Any:
    """The value as dict, list, str, int, float, bool or None; numpy numbers become Python's.

    Raises:
        CardError: Something else, or a number that is not finite.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{key}[{index}]") for index, item in enumerate(value)]
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CardError(f"{key}: {value} is not finite; leave the entry out instead")
        return value
    if hasattr(value, "isoformat"):  # YAML reads 2026-11-23 as a date.
        return value.isoformat()
    raise CardError(
        f"{key}: a {type(value).__name__} cannot stand in a card; use text, numbers, lists and "
        "mappings"
    )
