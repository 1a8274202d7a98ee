"""Names and numbers that several rooms have to write down alike."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest
import yaml
from spinezoo_contract import converter, types
from spinezoo_serving.variables import RENAMED
from spinezoo_tools.checkout import FRONT, networks_of, read_env_file
from spinezoo_tools.variables import names

ROOT = Path(__file__).resolve().parents[2]
ENUMS = [
    kind for kind in vars(types).values() if isinstance(kind, type) and issubclass(kind, IntEnum)
]
WIRE_ENUMS = {
    name: enum
    for module in converter._MODULES
    for name, enum in module.DESCRIPTOR.enum_types_by_name.items()
}
_REFERENCE = re.compile(r"\$\{(SPINEZOO_[A-Z0-9_]+)")


def test_every_variable_of_compositions_and_env_is_documented() -> None:
    services = {name.upper() for name in (*networks_of(ROOT), *FRONT)}
    used = set(read_env_file(ROOT / ".env"))
    for path in ROOT.glob("compose*.yaml"):
        used |= set(_REFERENCE.findall(path.read_text()))
        for service in yaml.safe_load(path.read_text())["services"].values():
            used |= set(service.get("environment", {}))
    own = {name for name in used if name.startswith("SPINEZOO_")} - set(RENAMED)
    assert len(own) > 40
    for name in own:
        forms = {name} | {name.replace(f"_{one}_", "_<NAME>_", 1) for one in services}
        assert forms & names(), name


@pytest.mark.parametrize("kind", ENUMS, ids=lambda kind: kind.__name__)
def test_enums_have_names_and_numbers_of_the_wire(kind: type[IntEnum]) -> None:
    """The types write them again: processes that decode films start without protobuf."""
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).upper() + "_"
    values = WIRE_ENUMS[kind.__name__].values
    assert {value.name: value.number for value in values if value.number} == {
        prefix + member.name: int(member) for member in kind
    }
