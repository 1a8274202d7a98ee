"""The page of speed: what is promised, from records that are there, absent, good and bad."""

from __future__ import annotations

import argparse
import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from spinezoo_tools import figures, speed
from spinezoo_tools.figures import ROOT, SPEED_PAGE, FiguresError
from spinezoo_tools.speed_tables import SPEED_BLOCKS, promises

MACHINE = {"processor": "Some CPU", "cores": 2, "memory_gib": 24, "instructions": ["VNNI", "BF16"]}


def record(result: Any, **more: Any) -> dict[str, Any]:
    """What a benchmark keeps."""
    return {
        "date": "2026-01-02", "command": "benchmarks/one.py --films 3", "machine": MACHINE,
        "seconds": 7, "result": result, **more,
    }  # fmt: skip


def metrics(ratio: float, difference: float) -> dict[str, Any]:
    row = {"classes": 2, "ratio": ratio, "largest_difference": difference}
    return record([row, row | {"classes": 6, "ratio": 500.0, "largest_difference": 0.0}])


def rows(text: str) -> list[list[str]]:
    """The cells of a Markdown table, without its head."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]


def test_a_promise_is_met_or_not_by_its_worst_figure() -> None:
    command = "`benchmarks/one.py --films 3`"
    first, second = rows(promises({"metrics": metrics(30.0, 2e-12)}))[:2]
    assert first[1:] == ["at least 30", "30 (2 classes), 500 (6 classes)", "met", command]
    assert second[1:] == ["at most 1e-12", "2.0e-12", "**not met**", command]
    first, second = rows(promises({"metrics": metrics(29.9, 1e-12)}))[:2]
    assert (first[3], second[3]) == ("**not met**", "met")


def test_what_was_not_measured_says_so_with_its_command() -> None:
    for cells, promise in zip(rows(promises({})), speed.PROMISES, strict=True):
        assert cells[2:4] == ["not measured", ""]
        assert cells[4].startswith(f"`benchmarks/{promise.benchmark}")
    assert SPEED_BLOCKS["gateway-steps"]({}) == (
        "Not measured; measure by `benchmarks/gateway_steps.py --films 10`."
    )
    assert SPEED_BLOCKS["measured-on"]({}).startswith("- Not measured: metrics, gateway,")


def test_a_table_says_when_and_by_what_it_was_measured() -> None:
    step = {"answers checked": [2.0, 3.25]}
    result = {"films": 10, "cases": {"metal": step, "none": step}}
    text = SPEED_BLOCKS["gateway-steps"]({"gateway_steps": record(result)})
    assert text.startswith("2026-01-02, `benchmarks/one.py --films 3`:\n\n")
    assert text.endswith("| answers checked | 2.0, 3.2 | 2.0, 3.2 |")
    by_hand = record([{"what": "a", "on": "b", "films_per_s": 3}], by_hand="why")
    assert "written by hand" in SPEED_BLOCKS["training-gpu"]({"training_gpu": by_hand})


def test_records_of_two_machines_are_told_apart() -> None:
    other = record([]) | {"machine": MACHINE | {"instructions": []}, "date": "2026-01-03"}
    text = SPEED_BLOCKS["measured-on"]({"metrics": record([]), "gateway": other})
    assert "- 2 cores, Some CPU, with VNNI and BF16, 24 GiB, 2026-01-02: metrics 7 s.\n" in text
    assert "with none of VNNI, BF16 and AMX, 24 GiB, 2026-01-03: gateway 7 s.\n" in text


def test_every_promise_has_a_benchmark_that_make_speed_runs() -> None:
    for name in {each.benchmark for each in speed.PROMISES}:
        (benchmark,) = (each for each in speed.BENCHMARKS if each.name == name)
        assert (ROOT / benchmark.command.split()[0]).exists()


def test_peers_get_all_that_reading_a_film_needs() -> None:
    project = tomllib.loads((ROOT / "libs/spine/pyproject.toml").read_text())["project"]
    needed = {each for each in project["dependencies"] if not each.startswith("spinezoo")}
    asked = (ROOT / "benchmarks/peers/requirements/network.txt").read_text().splitlines()
    assert not needed - set(asked)


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ends a benchmark of these results with ``--record``; gives its exit code and its record."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("record")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")

    def end(name: str, result: Any, *words: str) -> tuple[int, dict[str, Any] | None]:
        program = str(ROOT / "benchmarks" / f"{name}.py")
        monkeypatch.setattr("sys.argv", [program, *words, "--record"])
        parser = argparse.ArgumentParser()
        parser.add_argument("--other", type=Path)
        module.add_option(parser)
        code = module.finish(name, result, parser.parse_args())
        path = tmp_path / "results" / f"{name}.json"
        return code, json.loads(path.read_text()) if path.is_file() else None

    return end


def test_a_benchmark_keeps_what_it_measured_and_ends_with_its_verdict(keep: Any) -> None:
    result = metrics(30.0, 0.0)["result"]
    code, kept = keep("metrics", result)
    assert code == 0
    assert kept is not None
    assert (kept["result"], kept["command"]) == (result, "benchmarks/metrics.py")
    assert kept.keys() == record(result).keys()
    assert kept["machine"].keys() == MACHINE.keys()
    assert keep("metrics", metrics(29.0, 0.0)["result"])[0] == 1


def test_beside_another_checkout_than_promised_nothing_is_kept(
    keep: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert keep("reading", {"JPEG": 1.0}, "--other", str(tmp_path)) == (2, None)
    monkeypatch.setattr("record._is_base", lambda checkout: True)
    code, kept = keep("reading", {"JPEG": 1.0}, "--other", str(tmp_path))
    assert code == 0
    assert kept is not None
    assert kept["command"] == "benchmarks/reading.py --other CHECKOUT"


def test_the_page_shows_the_records() -> None:
    """No figure of a block is written by hand, and no record names a host or a folder."""
    page = (ROOT / SPEED_PAGE).read_text(encoding="utf-8")
    found = speed.records(ROOT / figures.RESULTS)
    for name, text in SPEED_BLOCKS.items():
        assert figures.replaced(page, name, text(found)) == page, f"{name}: run `make figures`"
    assert found.keys() <= {each.name for each in speed.BENCHMARKS} | speed.BY_HAND
    for each in found.values():
        assert "/" not in json.dumps(each["machine"])


def test_a_record_that_lacks_a_figure_is_named(tmp_path: Path) -> None:
    (tmp_path / figures.RESULTS).mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    page = "".join(f"<!-- figures: {name} -->\nold\n<!-- end -->\n" for name in SPEED_BLOCKS)
    (tmp_path / SPEED_PAGE).write_text(page)
    (tmp_path / figures.RESULTS / "metrics.json").write_text(json.dumps(record([{}])))
    with pytest.raises(FiguresError, match="lacks what promises shows"):
        figures.write_speed(tmp_path)
    assert (tmp_path / SPEED_PAGE).read_text() == page
