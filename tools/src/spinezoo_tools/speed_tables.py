"""The tables of ``docs/performance.md`` from the records of ``benchmarks/results``.

A table whose record is not there says "not measured", and by which command it would be. Standard
library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spinezoo_tools.speed import BASE, BENCHMARKS, BY_HAND, PROMISES, Record, title_of

Records = Mapping[str, Record]
"""Records by the name of their benchmark."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, figures to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def command_of(name: str, found: Records) -> str:
    """The command by which a benchmark was or is to be measured, without its interpreter."""
    if name in found:
        return f"`{found[name]['command']}`"
    return next(f"`{each.command}`" for each in BENCHMARKS if each.name == name)


def promises(found: Records) -> str:
    """Every promise: its mark, what was measured, whether it is met, by which command."""
    rows = []
    for each in PROMISES:
        said, verdict = "not measured", ""
        if each.benchmark in found:
            result = found[each.benchmark]["result"]
            said, verdict = each.said(result), "met" if each.met(result) else "**not met**"
        mark = each.shown.format(each.mark)
        rows.append([each.what, mark, said, verdict, command_of(each.benchmark, found)])
    head = ["promise", "mark", "measured", "", "command"]
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def _machine(record: Record) -> str:
    """``2 cores of an AMD EPYC with VNNI and BF16, 24 GiB``."""
    machine = record["machine"]
    has = " and ".join(machine.get("instructions", ())) or "none of VNNI, BF16 and AMX"
    words = f"{machine['cores']} cores, {machine['processor']}, with {has}"
    return f"{words}, {machine['memory_gib']} GiB"


def measured_on(found: Records) -> str:
    """Which benchmark was measured when, on what, and how long it took."""
    lines = []
    by_machine: dict[str, list[str]] = {}
    for each in BENCHMARKS:
        if each.name in found:
            by_machine.setdefault(_machine(found[each.name]), []).append(each.name)
    for machine, names in by_machine.items():
        dates = sorted({found[name]["date"] for name in names})
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        took = ", ".join(f"{name} {found[name]['seconds']} s" for name in names)
        lines.append(f"- {machine}, {when}: {took}.")
    if absent := [each.name for each in BENCHMARKS if each.name not in found]:
        lines.append(f"- Not measured: {', '.join(absent)}.")
    return "\n".join(lines)


def gateway_steps(result: Any) -> str:
    """The gateway's steps by kind of film: median and 90th percentile."""
    cases = result["cases"]
    head = [f"ms of a core, {result['films']} films each", *cases]
    steps = next(iter(cases.values()))
    rows = [
        [step, *(f"{case[step][0]:.1f}, {case[step][1]:.1f}" for case in cases.values())]
        for step in steps
    ]
    return table(head, rows)


def engines(result: Any) -> str:
    """Each network in each precision against the other checkout."""
    head = [
        "", "in", "films a second", BASE, "times as many", "ms of a core a film", BASE,
        "times as fast",
    ]  # fmt: skip
    rows = [
        [
            title_of(row["network"]), row["precision"],
            f"{row['films_per_s']:.1f}", f"{row['other_films_per_s']:.1f}",
            f"{row['ratio_median']:.2f}",
            f"{row['processor_ms']:.0f}", f"{row['other_processor_ms']:.0f}",
            f"{row['processor_ratio']:.2f}",
        ]
        for row in sorted(result, key=lambda row: row["asked"])
    ]  # fmt: skip
    return table(head, rows)


def precision(result: Any) -> str:
    """How far each network's four figures move, and the names."""
    head = ["points", "pixel accuracy", "mean IoU", "mean accuracy", "frequency-weighted IoU"]
    rows = [
        [title_of(name), *(f"{move:+.3f}" for move in moves)]
        for name, moves in result["moves"].items()
    ]
    same, other = result["same_names"], result["other_names"]
    rest = result["vertebrae"] - same - other
    names = (
        f"Of {result['vertebrae']} fused vertebrae {same} have the same name or none in both, "
        f"{other} another name, {rest} a name in one only or no counterpart."
    )
    return f"{table(head, rows)}\n\n{names}"


WAYS = {
    "ensemble": "through the gateway, fused and named",
    "sequential": "five calls one after the other",
}


def peers(result: Any) -> str:
    """Each network behind each server; then five networks at once and in turn."""
    tables = []
    for one in result["networks"]:
        head = [
            f"{title_of(one['network'])} behind", "clients", "films a second", "median, ms",
            "99th percentile, ms", "ms of a core a film", "memory, MiB",
        ]  # fmt: skip
        rows = [
            [
                row["server"], str(row["clients"]), f"{row['films_per_s']:.1f}",
                f"{row['median_ms']:.0f}", f"{row['p99_ms']:.0f}", f"{row['processor_ms']:.0f}",
                str(row["memory_mib"]),
            ]
            for row in sorted(one["rows"], key=lambda row: row["clients"])
        ]  # fmt: skip
        tables.append(table(head, rows))
        if one["did_not_start"]:
            tables.append(f"Not started in time: {', '.join(one['did_not_start'])}.")
    rows = [
        [WAYS[row["way"]], str(row["clients"]), f"{row['films_per_s']:.1f}",
         f"{row['median_ms']:.0f}"]
        for row in result["five"]
    ]  # fmt: skip
    tables.append(table(["five networks", "clients", "films a second", "median, ms"], rows))
    return "\n\n".join(tables)


def training(result: Any) -> str:
    """A training step by precision and layout."""
    slowest = max(result["step_ms"].values())
    rows = [[name, str(ms), f"{slowest / ms:.2f}"] for name, ms in result["step_ms"].items()]
    what = f"{title_of(result['network'])}, a step of {result['batch']} films on one core"
    return table([what, "ms", "times as fast as the slowest"], rows)


def phantoms(result: Any) -> str:
    """Phantom films a second."""
    return table(
        ["made on one core", "films a second"],
        [[name, f"{rate:.1f}"] for name, rate in result.items()],
    )


def gpu(result: Any) -> str:
    """Networks on a GPU by size of batch."""
    first = result["rows"][0]
    speeds = [key for key in first if key.startswith("films_per_s_")]
    times = [key for key in first if key.startswith("network_ms_")]
    head = [
        f"on an {result['accelerator']}",
        *(f"films a second, batches of {key.rpartition('_')[2]}" for key in speeds),
        *(f"the network's ms a film, batches of {key.rpartition('_')[2]}" for key in times),
        "least IoU with a CPU's answer",
    ]
    rows = [
        [
            title_of(row["network"]),
            *(f"{row[key]:.1f}" for key in (*speeds, *times)),
            f"{row['iou_with_cpu_least']:.4f}",
        ]
        for row in result["rows"]
    ]
    return table(head, rows)


def training_gpu(result: Any) -> str:
    """Films a second of training on GPUs."""
    rows = [[row["what"], row["on"], str(row["films_per_s"])] for row in result]
    return table(["training", "on", "films a second"], rows)


def _of(name: str, text: Callable[[Any], str]) -> Callable[[Records], str]:
    """A block of one record, with where it is from."""

    def block(found: Records) -> str:
        if name not in found and name in BY_HAND:
            return "Not measured; its record is gone."
        if name not in found:
            return f"Not measured; measure by {command_of(name, found)}."
        record = found[name]
        by_hand = "by_hand" in record
        by = "written by hand from earlier notes" if by_hand else command_of(name, found)
        said = f"{record['date']}, {by}:"
        return f"{said}\n\n{text(record['result'])}"

    return block


SPEED_BLOCKS: Mapping[str, Callable[[Records], str]] = {
    "promises": promises,
    "gateway-steps": _of("gateway_steps", gateway_steps),
    "engines": _of("engines", engines),
    "precision": _of("precision", precision),
    "peers": _of("peers", peers),
    "training": _of("training", training),
    "training-gpu": _of("training_gpu", training_gpu),
    "gpu": _of("gpu_batches", gpu),
    "phantoms": _of("phantoms", phantoms),
    "measured-on": measured_on,
}
"""The blocks of the page by their names in its markers, in its order."""
