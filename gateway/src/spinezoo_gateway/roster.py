"""Who is in the zoo: a YAML file plus the environment, checked line by line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from spinezoo_contract.errors import ConfigurationError

from spinezoo_gateway.settings import MAX_DEADLINE_MS

OVERRIDE_PREFIX = "SPINEZOO_ROSTER_"
"""``SPINEZOO_ROSTER_<NAME>=host:port`` adds or moves a member; an empty value removes it."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})")
_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:")
_SERVER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_KEYS = frozenset({"name", "target", "weight", "deadline_ms", "server_name"})


@dataclass(frozen=True, slots=True)
class Member:
    """One network of the zoo, as the gateway reaches it.

    Attributes:
        name: Unique; lower-case letters, digits and ``_``.
        target: A gRPC target such as ``127.0.0.1:50053``.
        weight: Its weight in a weighted vote, greater than 0.
        deadline_ms: Its time when a request gives none; None takes the gateway's default.
        server_name: Name that its certificate must hold; None takes the target's host. Not used
            without TLS.
    """

    name: str
    target: str
    weight: float = 1.0
    deadline_ms: int | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Roster:
    """The members, sorted by name."""

    members: tuple[Member, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members, sorted."""
        return tuple(member.name for member in self.members)


def _target_problem(target: str) -> str | None:
    """What is wrong with a gRPC target, or None."""
    if target.startswith(_SCHEMES):
        scheme, _, rest = target.partition(":")
        if not rest.strip("/"):
            return f"target {target!r} names no address after {scheme}:"
        if scheme in ("unix", "unix-abstract"):
            return None
        addresses = rest.rpartition("/")[2].split(",")
    else:
        addresses = [target]
    for address in addresses:
        match = _HOST_PORT.fullmatch(address)
        if match is None or not 1 <= int(match["port"]) <= 65535:
            return f"target {target!r} is not host:port with a port of 1 to 65535"
    return None


class _File:
    """Reads one roster file; errors name file and line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrong(self, node: yaml.Node, problem: str) -> ConfigurationError:
        """The error for a place in the file."""
        return ConfigurationError(f"{self.path}:{node.start_mark.line + 1}: {problem}")

    def read(self, text: str) -> dict[str, Member]:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigurationError(
                f"{self.path}:{line}: not YAML ({error.problem}); correct the line"
            ) from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigurationError(f"{self.path}: not YAML ({error})") from None
        if root is None:
            raise ConfigurationError(f"{self.path}:1: empty; write `members:` and a list")
        entries: yaml.Node | None = None
        for key, value in self.items(root, "the roster"):
            if key.value != "members":
                raise self.wrong(key, f"unknown key {key.value!r}; the only one is 'members'")
            entries = value
        if isinstance(entries, yaml.ScalarNode) and entries.tag.endswith(":null"):
            return {}  # `members:` alone: all come from the environment
        if not isinstance(entries, yaml.SequenceNode):
            raise self.wrong(entries or root, "write `members:` and a list of name and target")
        members: dict[str, Member] = {}
        lines: dict[str, int] = {}
        for entry in entries.value:
            member = self.member(entry)
            if member.name in members:
                raise self.wrong(
                    entry,
                    f"member {member.name!r} stands twice, first at line {lines[member.name]}; "
                    "keep one",
                )
            members[member.name] = member
            lines[member.name] = entry.start_mark.line + 1
        return members

    def items(self, node: yaml.Node, what: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        """Keys and values of a mapping without double keys."""
        if not isinstance(node, yaml.MappingNode):
            raise self.wrong(node, f"{what} must be `key: value` lines")
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.wrong(key, f"a key of {what} must be a word")
            if key.value in seen:
                raise self.wrong(key, f"key {key.value!r} stands twice; keep one")
            seen.add(key.value)
        return list(node.value)

    def member(self, node: yaml.Node) -> Member:
        values: dict[str, yaml.ScalarNode] = {}
        for key, value in self.items(node, "a member"):
            if key.value not in _KEYS:
                known = ", ".join(sorted(_KEYS))
                raise self.wrong(key, f"unknown key {key.value!r}; known are {known}")
            if not isinstance(value, yaml.ScalarNode):
                raise self.wrong(value, f"{key.value} must be a single value; correct the line")
            values[key.value] = value
        for needed in ("name", "target"):
            if needed not in values:
                raise self.wrong(node, f"a member needs a {needed}")
        name, target = values["name"].value, values["target"].value
        if not _NAME.fullmatch(name):
            raise self.wrong(
                values["name"],
                f"name {name!r} must be lower-case letters, digits and _, a letter first",
            )
        if problem := _target_problem(target):
            raise self.wrong(values["target"], problem)
        weight, deadline_ms = 1.0, None
        if "weight" in values:
            weight = self.number(values["weight"], "weight")
        if "deadline_ms" in values:
            number = self.number(values["deadline_ms"], "deadline_ms")
            deadline_ms = max(1, round(number))
            if deadline_ms > MAX_DEADLINE_MS:
                raise self.wrong(
                    values["deadline_ms"],
                    f"deadline_ms is {deadline_ms}; write at most {MAX_DEADLINE_MS}",
                )
        server_name = None
        if "server_name" in values:
            server_name = values["server_name"].value
            if not _SERVER_NAME.fullmatch(server_name):
                raise self.wrong(
                    values["server_name"],
                    f"server_name {server_name!r} is no name; write that of the certificate",
                )
        return Member(name, target, weight, deadline_ms, server_name)

    def number(self, node: yaml.ScalarNode, what: str) -> float:
        """A finite number greater than 0."""
        try:
            value = float(node.value)
        except ValueError:
            value = 0.0
        if not 0.0 < value < 1e9:
            raise self.wrong(node, f"{what} must be a number greater than 0, is {node.value!r}")
        return value


def load_roster(path: Path, environment: Mapping[str, str]) -> Roster:
    """The roster of a file with the environment's overrides on top.

    Args:
        path: The roster file.
        environment: Variables; those that begin with :data:`OVERRIDE_PREFIX` count.

    Raises:
        ConfigurationError: The file or a variable is wrong; the message names line or variable.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"roster {path} cannot be read ({error.strerror}); set SPINEZOO_ROSTER to its path"
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"roster {path} is not UTF-8 text; save it as UTF-8") from None
    members = _File(path).read(text)
    given: dict[str, str] = {}
    for key in sorted(environment):
        if not key.startswith(OVERRIDE_PREFIX):
            continue
        name, target = key[len(OVERRIDE_PREFIX) :].lower(), environment[key].strip()
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{key}: {name!r} is no name for a member; take letters, digits and _"
            )
        if name in given:
            raise ConfigurationError(f"{given[name]} and {key} are of one member; keep one")
        given[name] = key
        if not target:
            members.pop(name, None)
            continue
        if problem := _target_problem(target):
            raise ConfigurationError(f"{key}: {problem}")
        old = members.get(name)
        members[name] = Member(name, target) if old is None else replace(old, target=target)
    if not members:
        # Also what an editor leaves for a moment while it saves: the old roster must survive it.
        raise ConfigurationError(
            f"{path}:1: names no member; add one or set {OVERRIDE_PREFIX}<NAME>"
        )
    return Roster(tuple(members[name] for name in sorted(members)))
