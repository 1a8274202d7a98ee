"""Blocks of pages that are written from the code.

A page holds a block between two markers, and the text around it is written by hand::

    <!-- made by make generate: outline-rules -->
    ...
    <!-- made: end -->
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from spinezoo_conformance.rules import rules_table as conformance_rules_table
from spinezoo_spine.annotations.limits import limits_table
from spinezoo_spine.annotations.regions import classes_table
from spinezoo_spine.annotations.rules import rules_table
from spinezoo_spine.films.notes import notes_table

from spinezoo_tools.checkout import ToolError
from spinezoo_tools.environments import ROOT

BLOCKS: dict[str, tuple[Path, Callable[[], str]]] = {
    "class-names": (Path("docs/data-format.md"), classes_table),
    "conformance-rules": (Path("libs/conformance/README.md"), conformance_rules_table),
    "film-notes": (Path("docs/data-format.md"), notes_table),
    "outline-limits": (Path("docs/data-format.md"), limits_table),
    "outline-rules": (Path("docs/data-format.md"), rules_table),
}
"""Page and text of each block by its name."""


def pages(root: Path) -> dict[Path, str]:
    """Every page with generated blocks, by its path in the checkout.

    Raises:
        ToolError: The markers of a block do not stand in its page once.
    """
    written: dict[Path, str] = {}
    for name, (page, text) in BLOCKS.items():
        # A checkout without docs, as tests make one, gets the page of this one.
        source = root / page if (root / page).is_file() else ROOT / page
        before = written.get(page) or source.read_text(encoding="utf-8")
        marker = f"<!-- made by make generate: {name} -->\n"
        block = re.compile(rf"(?<={re.escape(marker)}).*?(?=<!-- made: end -->)", re.DOTALL)
        if before.count(marker) != 1 or len(block.findall(before)) != 1:
            raise ToolError(
                f"{page} needs the lines {marker.strip()!r} and '<!-- made: end -->' once"
            )
        content = f"{text()}\n"
        written[page] = block.sub(lambda _, content=content: content, before)  # type: ignore[misc]
    return written
