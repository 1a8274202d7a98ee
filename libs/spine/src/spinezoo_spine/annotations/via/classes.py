"""Class and level of a region from its attributes, and why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from spinezoo_contract.types import VERTEBRAE, Structure

from spinezoo_spine.annotations.regions import (
    RawRegion,
    class_key,
    known_classes_text,
    level_of,
    structure_of,
)
from spinezoo_spine.annotations.text import shown
from spinezoo_spine.annotations.via.fields import (
    CLASS_ATTRIBUTES,
    LEVEL_ATTRIBUTES,
    NOTHING_CHOSEN,
)

_GENERAL = frozenset(("vertebra", "vertebrae", "vertebral body", "instrumentation"))
"""Names of a group of structures, which may stand beside the class that says which one it is."""

_PARTS = frozenset(("lumbar", "sacral"))
"""Parts of the spine: beside an implant they say where it lies."""


def choice_of(value: object) -> tuple[str | None, str]:
    """What an attribute says: its text, or None and why it says nothing.

    Text, a number, a drop-down, radio buttons and check boxes of which one is ticked.
    """
    if isinstance(value, Mapping):
        ticked = [str(key) for key, on in value.items() if on is True or on in ("true", "1", 1)]
        if len(ticked) == 1:
            return ticked[0], ""
        names = ", ".join(shown(key) for key in (ticked or value))
        if not ticked:
            return None, f"no box is ticked (of {names}); tick one" if value else "no box is ticked"
        return None, f"{len(ticked)} boxes are ticked ({names}); tick one"
    if isinstance(value, (list, tuple)):
        return choice_of(value[0]) if len(value) == 1 else (None, f"{len(value)} values; give one")
    if isinstance(value, bool) or value is None:
        return None, "nothing is chosen"
    text = str(value).strip()
    if not text:
        return None, "it is empty"
    if text.casefold() in NOTHING_CHOSEN:
        return None, f"it is {text!r}: nothing was chosen in the list"
    return text, ""


def _all_of(value: object) -> str:
    """What an attribute says, also where several things are chosen; empty where nothing is."""
    if isinstance(value, Mapping):
        value = [key for key in value if choice_of({key: value[key]})[0] is not None]
    several = value if isinstance(value, (list, tuple)) else [value]
    return ", ".join(text for one in several if (text := choice_of(one)[0]) is not None)


def level_in(*attributes: Mapping[str, object]) -> tuple[str | None, str]:
    """The level that attributes say, and their text of it.

    Args:
        attributes: By name, without regard to case.

    Returns:
        None where nothing is said, nothing is understood, or two levels are; the text holds all
        of it then, so that it can be named.
    """
    texts = [
        text
        for name in LEVEL_ATTRIBUTES
        for own in attributes
        for key, value in own.items()
        if str(key).strip().casefold() == name and (text := _all_of(value))
    ]
    levels = {level for text in texts if (level := level_of(text)) is not None}
    if len(levels) == 1:
        return levels.pop(), texts[0]
    return None, ", ".join(dict.fromkeys(texts))


def _attribute(region: RawRegion, name: str) -> tuple[str, object] | None:
    """An attribute by its name without regard to case; the first that says something."""
    found = None
    for key, value in region.attributes.items():
        if str(key).strip().casefold() == name.strip().casefold():
            if choice_of(value)[0] is not None:
                return str(key), value
            found = found or (str(key), value)
    return found


def has_attribute(region: RawRegion, name: str) -> bool:
    """Whether a region has an attribute, whatever it says."""
    return _attribute(region, name) is not None


def text_of(region: RawRegion, name: str) -> str | None:
    """What a region's attribute says, or None."""
    found = _attribute(region, name)
    return None if found is None else choice_of(found[1])[0]


def class_attribute_of(
    regions: Sequence[RawRegion], classes: Mapping[str, Structure] | None
) -> str | None:
    """The attribute that holds the class: the one with most known names, else the first present.

    Of two alike, one that holds structures comes before one that holds levels: a screw may have its
    vertebra's level beside its class.
    """
    best, best_known, fallback = None, (0, 0), None
    for name in CLASS_ATTRIBUTES:
        found = [region for region in regions if _attribute(region, name) is not None]
        texts = [text for region in found if (text := text_of(region, name)) is not None]
        names = [text for text in texts if structure_of(text, classes) is not None]
        known = (len(names), sum(level_of(text) is None for text in names))
        if known > best_known:
            best, best_known = name, known
        if found and fallback is None:
            fallback = name
    return best or fallback


def _no_class(
    region: RawRegion, attribute: str | None, classes: Mapping[str, Structure] | None
) -> str:
    """Why a region has no class: what was found, what is understood and what to do."""
    wanted = f"one of {known_classes_text(classes)}"
    found = None if attribute is None else _attribute(region, attribute)
    if found is not None:
        return f"has no class: of its attribute {shown(found[0])!r}, {choice_of(found[1])[1]}; " + (
            f"choose {wanted}"
        )
    told = ", ".join(
        f"{shown(key, 40)!r}"
        + ("" if (text := choice_of(value)[0]) is None else f" ({shown(text, 40)})")
        for key, value in list(region.attributes.items())[:8]
    )
    if not told:
        return f"has no class and no attributes; give it the attribute 'structure' with {wanted}"
    understood = attribute or ", ".join(CLASS_ATTRIBUTES)
    return (
        f"has no class: its attributes are {told}, the class is looked for in {understood}; rename "
        "the attribute, or say which it is by --class-attribute"
    )


def _other_class(
    region: RawRegion, attribute: str | None, classes: Mapping[str, Structure] | None
) -> Iterator[tuple[str, str]]:
    """Which other attributes name another structure than the class does, as doubts."""
    taken = text_of(region, attribute) if attribute is not None else None
    structure = structure_of(taken or "", classes)
    if structure is None:
        return
    general = _GENERAL if structure in VERTEBRAE else _GENERAL | _PARTS
    for name in CLASS_ATTRIBUTES:
        text = text_of(region, name) if name != attribute else None
        if text is None or level_of(text) is not None or class_key(text) in general:
            continue
        if structure_of(text, classes) not in (None, structure):
            yield (
                "class-conflict",
                f"is {shown(taken, 40)!r} by its attribute {attribute!r}, which counts, and "
                f"{shown(text, 40)!r} by {name!r}; correct one, or say which counts by "
                "--class-attribute",
            )


def with_class(
    region: RawRegion,
    attribute: str | None,
    classes: Mapping[str, Structure] | None,
    *,
    named: bool = False,
) -> RawRegion:
    """A region with what its attributes say of class and level.

    Args:
        region: As read, without class.
        attribute: The attribute that holds the class, None where no region has one.
        classes: Further class names.
        named: Whether the caller said which attribute it is: others then contradict nothing.
    """
    class_name = None if attribute is None else text_of(region, attribute)
    level, level_text = level_in(region.attributes)
    if not level_text:  # it may be the name, beside the class as the type
        beside = (text_of(region, name) for name in CLASS_ATTRIBUTES if name != attribute)
        level, level_text = level_in(
            *({LEVEL_ATTRIBUTES[0]: text} for text in beside if level_of(text) is not None)
        )
    return dataclasses.replace(
        region,
        class_name=class_name,
        class_problem="" if class_name is not None else _no_class(region, attribute, classes),
        level=level,
        level_text=level_text,
        doubts=region.doubts
        if named
        else (*region.doubts, *_other_class(region, attribute, classes)),
    )
