"""The tables of ``docs/performance.md`` from the results in ``run/peers``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- made by benchmarks/peers --write -->", "<!-- made: end -->"


def network_table(result: dict[str, Any]) -> list[str]:
    """One network behind each server."""
    lines = [
        "| " + result["network"] + " behind | clients | films a second | median, ms "
        "| 99th percentile, ms | processor time of a film, ms | memory, MiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['server']} | {row['clients']} | {row['films_per_s']:.1f} | {row['median_ms']:.0f} "
        f"| {row['p99_ms']:.0f} | {row['processor_ms']:.0f} | {row['memory_mib']} |"
        for row in sorted(result["rows"], key=lambda row: row["clients"])
    ]
    if result["did_not_start"]:
        lines += ["", f"Not started in time: {', '.join(result['did_not_start'])}."]
    return lines


def ensemble_table(result: dict[str, Any]) -> list[str]:
    """Five networks at once and in turn."""
    ways = {
        "ensemble": "through the gateway, fused and named",
        "sequential": "five calls one after the other",
    }
    lines = ["| five networks | clients | films a second | median, ms |", "|---|---:|---:|---:|"]
    lines += [
        f"| {ways[row['way']]} | {row['clients']} | {row['films_per_s']:.1f} "
        f"| {row['median_ms']:.0f} |"
        for row in result["rows"]
    ]
    return lines


def write_table(results: Path, page: Path) -> None:
    """Puts what was measured between the page's markers.

    Raises:
        SystemExit: Nothing was measured, or the page has no markers.
    """
    parts = []
    for path in sorted(results.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        parts.append(network_table(result) if "network" in result else ensemble_table(result))
    text = page.read_text(encoding="utf-8")
    if not parts or BEGIN not in text:
        raise SystemExit(f"nothing in {results}, or no {BEGIN!r} in {page}")
    # The ensemble is not one of the peers: last.
    parts.sort(key=lambda lines: lines[0].startswith("| five"))
    made = "\n\n".join("\n".join(lines) for lines in parts)
    before, after = text.split(BEGIN)[0], text.split(BEGIN)[1].split(END, 1)[1]
    page.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", encoding="utf-8")
