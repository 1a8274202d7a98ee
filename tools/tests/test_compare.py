"""``make compare``: two reports, figure by figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from spinezoo_tools.compare import main


def report(folder: Path, iou: float, latency_ms: float, films: int = 2) -> Path:
    folder.mkdir()
    figures = {
        "started": str(latency_ms),
        "models": {"unet": {"mean_iou": iou}},
        "counts": [1, films],
    }
    (folder / "report.json").write_text(json.dumps(figures))
    lines = [
        json.dumps({"film": f"film_{number}", "iou": iou, "latency_ms": latency_ms})
        for number in range(films)
    ]
    (folder / "films.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_times_are_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = report(tmp_path / "a", 0.5, 1.0)
    second = report(tmp_path / "b", 0.5, 2.0)
    assert main([str(first), str(second)]) == 0
    assert capsys.readouterr().out == "differences: 0, files: 2, times aside\n"


def test_the_last_bit_is_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = report(tmp_path / "a", 0.1 + 0.2, 1.0)
    second = report(tmp_path / "b", 0.3, 1.0, films=1)
    assert main([str(first), str(second)]) == 1
    out = capsys.readouterr().out
    assert "report.json: /models/unet/mean_iou: 0.30000000000000004, then 0.3" in out
    assert "report.json: /counts[1]: 2, then 1" in out
    assert "films.jsonl: /film_0/iou: 0.30000000000000004, then 0.3" in out
    assert "films.jsonl: /film_1: only in the first" in out


def test_what_is_no_report_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = report(tmp_path / "a", 0.5, 1.0)
    assert main([str(first), str(tmp_path)]) == 2
    assert f"{tmp_path} holds no report.json" in capsys.readouterr().err
    (first / "films.jsonl").write_text("{")
    assert main([str(first), str(first)]) == 2
    assert "films.jsonl is no report's file" in capsys.readouterr().err


def test_films_and_networks_are_compared_whatever_their_names_end_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, iou in (("a", 0.5), ("b", 0.4)):
        folder = report(tmp_path / name, 0.5, 1.0)
        figures = {"models": {"fast_ms": {"iou": iou}}, "seconds": iou, "wait_s": iou}
        (folder / "report.json").write_text(json.dumps(figures))
        line = {"film": "patient_s", "members": {"memory": {"iou": iou}}, "decode_ms": iou}
        (folder / "films.jsonl").write_text(json.dumps(line) + "\n")
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "films.jsonl: /patient_s/members/memory/iou: 0.5, then 0.4",
        "report.json: /models/fast_ms/iou: 0.5, then 0.4",
        "differences: 2, files: 2, times aside",
    ]
