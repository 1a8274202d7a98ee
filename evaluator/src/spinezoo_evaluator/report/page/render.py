"""A page as HTML: one file that asks for nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from spinezoo_contract.words import counted

from spinezoo_evaluator.report.page.content import Gallery, Page

PAGE_FILE = "index.html"

_DIGITS = 5
"""Of a figure in the data that sorting goes by."""


def marked(text: str) -> Markup:
    """A cell's text; ``**`` makes it strong, a back tick code."""
    if len(text) > 4 and text.startswith("**") and text.endswith("**"):
        return Markup("<strong>{}</strong>").format(text[2:-2])
    if len(text) > 2 and text.startswith("`") and text.endswith("`"):
        return Markup("<code>{}</code>").format(text[1:-1])
    return escape(text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("spinezoo_evaluator.report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["counted"] = counted
    environment.filters["marked"] = marked
    return environment


def _file(name: str) -> str:
    folder = resources.files("spinezoo_evaluator.report") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def gallery_data(gallery: Gallery) -> str:
    """What sorting and filtering go by, as JSON that may stand inside a script element."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, _DIGITS)

    value: dict[str, Any] = {
        "figures": {
            figure.name: {
                "place": place,
                "percent": figure.percent,
                "higherIsBetter": figure.higher_is_better,
            }
            for place, figure in enumerate(gallery.figures)
        },
        "films": [
            {
                "name": card.name,
                "failed": bool(card.failure),
                "strata": {stratum: list(groups) for stratum, groups in card.strata.items()},
                "values": {
                    model: [rounded(figures.get(figure.name)) for figure in gallery.figures]
                    for model, figures in card.figures.items()
                },
            }
            for card in gallery.cards
        ],
    }
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def to_html(page: Page) -> str:
    """The page. The same content gives the same text.

    Its own policy lets the browser load nothing and run no other script than this page's.
    """
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    template = _environment().get_template("page.html.j2")
    text = template.render(
        page=page,
        style=_file("page.css"),
        script=script,
        script_sha256=digest,
        data=gallery_data(page.gallery),
    )
    return text.strip() + "\n"
