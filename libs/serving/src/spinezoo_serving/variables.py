"""Settings as environment variables: one model a process, one field a variable.

A process describes its settings once, in a subclass of :class:`EnvironmentSettings`::

    class GatewaySettings(EnvironmentSettings):
        quorum: int = setting(3, "members that must answer", minimum=1, maximum=1000)

``GatewaySettings()`` holds the defaults and reads nothing, ``GatewaySettings.from_env()`` reads
``SPINEZOO_QUORUM``. ``docs/settings.md`` is made from these models: ``python -m
spinezoo_serving.variables MODULE...`` prints their rows as JSON.
"""

# ruff: noqa: T201 - a command: its rows go to the terminal.
from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self, get_args

from annotated_types import Ge, Le
from pydantic import BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.output import end_with_reader
from spinezoo_contract.tls import CALLER_VARIABLES

PREFIX = "SPINEZOO_"
"""Every variable is this and the field's name in capital letters."""

RENAMED = {
    "SPINEZOO_DRAIN_SECONDS": "SPINEZOO_DRAIN_S",
    "SPINEZOO_NEWCOMER_SECONDS": "SPINEZOO_NEWCOMER_S",
}
"""Old name to new name. A process refuses the old one: it would go unheeded otherwise."""

MAX_SHOWN = 300
"""Most characters of a wrong value that a message shows."""


def _flag(value: Any) -> Any:
    return {"0": False, "1": True}.get(value, value) if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Flag = Annotated[bool, Field(strict=True), BeforeValidator(_flag)]
"""A variable that is 0 or 1."""

LowerCase = BeforeValidator(_lower)
"""For values whose capital letters do not matter."""


def setting(
    default: Any,
    meaning: str,
    *,
    minimum: float = 0,
    maximum: float | None = None,
    unit: str = "",
    allowed: str = "",
    shown_default: str = "",
) -> Any:
    """A field that stands in an environment variable.

    Args:
        default: Its value where the variable is unset or empty; a function is called for it.
        meaning: What it is, for the table.
        minimum: Least value of a number.
        maximum: Greatest value of a number; every number has one.
        unit: Of a number.
        allowed: What may be set, where type and range do not say it.
        shown_default: The default in the table, where the value does not say it.
    """
    words = {"unit": unit, "allowed": allowed, "shown_default": shown_default}
    given: dict[str, Any] = {"default_factory" if callable(default) else "default": default}
    if maximum is not None:
        given |= {"ge": minimum, "le": maximum}
    return Field(**given, description=meaning, json_schema_extra=dict(words))


class Variable(NamedTuple):
    """One row of the table of settings."""

    name: str
    default: str
    allowed: str
    meaning: str


class _Variables(EnvSettingsSource):
    """pydantic-settings' own reading of variables, from any mapping."""

    def __init__(self, settings_cls: type[EnvironmentSettings], given: Mapping[str, str]) -> None:
        self._given = given
        super().__init__(settings_cls)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): text for name, text in self._given.items()}


class EnvironmentSettings(BaseSettings):
    """Settings of a process; each field made by :func:`setting` is a variable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", arbitrary_types_allowed=True
    )

    families: ClassVar[tuple[Variable, ...]] = ()
    """Variables of which there are many alike, for the table."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The constructor takes its arguments only; :meth:`from_env` reads variables."""
        return (init_settings,)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Settings from environment variables; unset or empty takes the default.

        Args:
            environment: Where to look; None looks at the process's own.

        Raises:
            ConfigurationError: A value is wrong, or a variable has an old name; the message names
                the variable, the value and what is allowed.
        """
        env = os.environ if environment is None else environment
        refuse_renamed(env)
        given = {name: env.get(name, "").strip() for name in cls._variables()}
        values = _Variables(cls, {name: text for name, text in given.items() if text})()
        for name, field in cls.model_fields.items():
            part = field.annotation
            if isinstance(part, type) and issubclass(part, EnvironmentSettings):
                values[name] = part.from_env(env)
        try:
            return cls(**values)
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            raise ConfigurationError(cls._refusal(name, given[variable_of(name)])) from None

    @classmethod
    def _variables(cls) -> dict[str, FieldInfo]:
        """Variable to field, of those fields that are variables."""
        fields = cls.model_fields.items()
        return {variable_of(name): field for name, field in fields if field.description}

    @classmethod
    def _refusal(cls, name: str, text: str) -> str:
        field = cls.model_fields[name]
        default = "" if _default(field) == "" else f" for {_default(field)}"
        return (
            f"{variable_of(name)} is {text[:MAX_SHOWN]!r}; set {_allowed(field)}, "
            f"or unset it{default}"
        )

    @classmethod
    def rows(cls) -> list[Variable]:
        """The table's rows of these settings."""
        return [
            Variable(name, _default(field), _allowed(field), field.description or "")
            for name, field in cls._variables().items()
        ] + list(cls.families)


def variable_of(field: str) -> str:
    """The variable of a field."""
    return PREFIX + field.upper()


def refuse_renamed(environment: Mapping[str, str]) -> None:
    """Refuses variables under names that they no longer have.

    Raises:
        ConfigurationError: One is set; the message says the new name.
    """
    for old, new in RENAMED.items():
        if environment.get(old, "").strip():
            raise ConfigurationError(f"{old} is now {new}; rename it")


def _words(field: FieldInfo, key: str) -> str:
    extra = field.json_schema_extra
    return str(extra.get(key, "")) if isinstance(extra, dict) else ""


def _default(field: FieldInfo) -> str:
    """The default as it would be written into the variable; empty where there is none."""
    value = _words(field, "shown_default") or field.default
    if value is None or (field.default_factory is not None and value is field.default):
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    return str(int(value)) if isinstance(value, bool) else str(value)


def _allowed(field: FieldInfo) -> str:
    """What may be set, in words."""
    if words := _words(field, "allowed"):
        return words
    kind = field.annotation
    if kind is bool:
        return "0 or 1"
    if kind in (int, float):
        least = next((mark.ge for mark in field.metadata if isinstance(mark, Ge)), "")
        most = next((mark.le for mark in field.metadata if isinstance(mark, Le)), "")
        unit = _words(field, "unit")
        number = "an integer" if kind is int else "a number"
        return f"{number} from {least} to {most}" + (f" ({unit})" if unit else "")
    if isinstance(kind, type) and issubclass(kind, Enum):
        return one_of([str(member.value) for member in kind])
    return "the path of a file" if Path in (kind, *get_args(kind)) else "a text"


def one_of(words: Sequence[str]) -> str:
    """``off, server or mutual``."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


def settings_of(module: str) -> list[type[EnvironmentSettings]]:
    """The settings that a module defines, in its order."""
    found = vars(importlib.import_module(module)).values()
    return [
        kind
        for kind in found
        if isinstance(kind, type)
        and issubclass(kind, EnvironmentSettings)
        and kind.__module__ == module
    ]


def table(modules: Sequence[str]) -> dict[str, list[Variable]]:
    """Rows by who reads them, the caller's at the end. A row that a base has stands there only."""
    seen: set[Variable] = set()
    found: dict[str, list[Variable]] = {}
    for module in modules:
        for kind in settings_of(module):
            reader = (kind.__doc__ or kind.__name__).partition(":")[0]
            found[reader] = [row for row in kind.rows() if row not in seen]
            seen.update(found[reader])
    found["Callers"] = [Variable(*row) for row in CALLER_VARIABLES]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the rows of the modules' settings as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m spinezoo_serving.variables",
        description="Print the settings of modules such as spinezoo_serving.settings as JSON.",
    )
    parser.add_argument("modules", nargs="+", metavar="MODULE")
    print(json.dumps(table(parser.parse_args(argv).modules), indent=2))
    return 0


if __name__ == "__main__":
    end_with_reader()
    from spinezoo_serving.variables import main as run

    raise SystemExit(run())
