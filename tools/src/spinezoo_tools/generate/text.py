"""The two ways in which files are written: YAML from data, and text from templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import yaml

Manifest = dict[str, Any]

BY = "Written by `make generate` from services/*/ and .env; change"
HEADER = f"# {BY} those, or tools/src/spinezoo_tools/generate.\n"

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)


def render(template: str, **values: object) -> str:
    """One file from a template, with the header that says so."""
    header = f"# {BY} those, or generate/templates/{template} of spinezoo_tools.\n"
    return header + _TEMPLATES.get_template(template).render(**values)


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: lists indented, no references."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def dump(*documents: Manifest) -> str:
    """One YAML file with the header."""
    text = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return HEADER + text
