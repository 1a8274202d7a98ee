"""Numbers before nouns in what people read."""

from __future__ import annotations

import re

_MANY = ((r"vertebra$", r"\g<0>e"), (r"([^aeiou])y$", r"\1ies"), (r"(s|x|(?<!o)ch|sh)$", r"\1es"))
"""Ends of nouns that do not just get an s, and what becomes of them."""


def counted(count: int, noun: str) -> str:
    """``1 film``, ``2 films``, ``0 vertebrae``.

    Args:
        count: How many.
        noun: Of one.
    """
    if count == 1:
        return f"1 {noun}"
    for end, many in _MANY:
        if re.search(end, noun):
            return f"{count} {re.sub(end, many, noun)}"
    return f"{count} {noun}s"


def are(count: int) -> str:
    """``is`` of one, ``are`` of several."""
    return "is" if count == 1 else "are"


def were(count: int) -> str:
    """``was`` of one, ``were`` of several."""
    return "was" if count == 1 else "were"
