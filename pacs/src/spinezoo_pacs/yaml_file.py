"""YAML files that people write: settings of the node, queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from spinezoo_contract.errors import ConfigurationError

_M = TypeVar("_M", bound=BaseModel)


class _OnceLoader(yaml.SafeLoader):
    """YAML itself takes the last of several equal keys without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} stands twice; keep one", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_model(path: Path, kind: type[_M], *, unreadable: str = "") -> _M:
    """A YAML file as a model.

    Args:
        path: The file.
        kind: The model.
        unreadable: What to do where the file cannot be read, for the message.

    Raises:
        ConfigurationError: The file is missing or wrong; the message names line or entry.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_OnceLoader)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}){unreadable}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{path}{line}: {error.problem}; see docs/pacs.md") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, bytes
        raise ConfigurationError(f"{path} is no YAML file; see docs/pacs.md") from error
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigurationError(f"{path}: {place}: {first['msg']}; see docs/pacs.md") from None
