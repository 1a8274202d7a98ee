"""Names right, wrong and withheld: the same chapter in both reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spinezoo_contract.words import counted

from spinezoo_evaluator.report.names import ordered_names
from spinezoo_evaluator.report.page.content import KeyFigure, Part, Plot
from spinezoo_evaluator.report.page.plots import LEAST_NAMES, name_shares, trust
from spinezoo_evaluator.report.reliability import calibration_table, curve_table
from spinezoo_evaluator.results.columns import ColumnCounts
from spinezoo_evaluator.results.records import FUSED

Counts = Mapping[str, Any]
"""A :class:`~spinezoo_evaluator.results.columns.ColumnCounts` as plain values."""

NO_VALUE = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """A share for a reader."""
    return NO_VALUE if value is None else f"{100.0 * value:.{digits}f} %"


def withheld(counts: Counts) -> int:
    """Vertebrae that a name was asked for and that got none."""
    return int(counts["to_name"] - counts["named_right"] - counts["named_wrong"])


def name_figures(counts: ColumnCounts | None) -> dict[str, float | None]:
    """Recognition and names of one film as figures to sort by."""
    if counts is None:
        return {}
    asked = counts.to_name
    return {
        "recognised": counts.recognised / counts.true if counts.true else None,
        "named_right": counts.named_right / asked if asked else None,
        "named_wrong": counts.named_wrong / asked if asked else None,
        "named_withheld": withheld(counts.to_json()) / asked if asked else None,
    }


def name_caption(counts: Counts | None) -> str:
    """Recognition and names of one film in a line."""
    if counts is None:
        return ""
    false = counts["predicted"] - counts["right"]
    text = f"{counts['recognised']} of {counted(counts['true'], 'vertebra')}, {false} false"
    if not counts["to_name"]:
        return text + "; no name asked for"
    return (
        f"{text}; names {counts['named_right']} right, {counts['named_wrong']} wrong, "
        f"{withheld(counts)} withheld"
    )


def key_figures(models: Mapping[str, Counts]) -> list[KeyFigure]:
    """The ensemble's vertebrae and names in short; empty where it has not been measured."""
    counts = models.get(FUSED)
    if counts is None:
        return []
    found = [
        KeyFigure(
            percent(counts["recognition"]),
            "Vertebrae recognised",
            f"{counts['recognised']} of {counts['true']}, fused ensemble",
        )
    ]
    asked = counts["to_name"]
    for number, title in (
        (counts["named_right"], "Named right"),
        (withheld(counts), "Name withheld"),
        (counts["named_wrong"], "Named wrong"),
    ):
        share = number / asked if asked else None
        found.append(KeyFigure(percent(share), title, f"{number} of {asked}, fused ensemble"))
    return found


def name_plots(
    models: Mapping[str, Counts], titles: Mapping[str, str], threshold: float | None, prefix: str
) -> tuple[Plot, ...]:
    """Bars, and the curves of coverage and confidence; none where no name was asked for.

    Args:
        models: Counts by model.
        titles: How models are written.
        threshold: Names are given from this confidence on.
        prefix: Begins the titles; may be empty.
    """
    named = [model for model in ordered_names(models) if models[model]["to_name"]]
    if not named:
        return ()
    shares = {}
    for model in named:
        counts = models[model]
        numbers = (counts["named_right"], withheld(counts), counts["named_wrong"])
        right, none, wrong = (number / counts["to_name"] for number in numbers)
        shares[titles.get(model, model)] = (right, none, wrong)
    order = {model: titles.get(model, model) for model in named}
    where = "" if threshold is None else f" The marker is where names are given now ({threshold})."
    return (
        name_shares(
            shares,
            f"{prefix}Names right, withheld and wrong",
            "Of the recognised vertebrae whose name the truth knows. No name is better than a "
            "wrong one: the right end of each bar is to be short. Figures: right / withheld / "
            "wrong.",
        ),
        trust(
            {model: models[model]["names"] for model in named},
            order,
            threshold,
            f"{prefix}How far names can be trusted",
            "Left: had names been given from another confidence on, so many would have got one, "
            f"and so many a wrong one; low and far to the right is good.{where} Right: on the "
            "diagonal, a confidence of 90 % is right nine times in ten; below it, names are "
            f"less sure than they say. Points of fewer than {LEAST_NAMES} names are left out.",
        ),
    )


def trust_parts(models: Mapping[str, Counts], titles: Mapping[str, str]) -> tuple[Part, ...]:
    """The figures behind the curves."""
    counted = {model: counts for model, counts in models.items() if counts["to_name"]}
    if not counted:
        return ()
    return (
        Part(
            curve_table(counted, titles),
            "Right and wrong names, were they given from another confidence on",
            folded=True,
        ),
        Part(
            calibration_table(counted, titles),
            "Confidence against the share of right names, given and withheld ones",
            folded=True,
        ),
    )
