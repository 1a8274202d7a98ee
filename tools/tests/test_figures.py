"""The blocks of figures: well-formed on every page, and written the same a second time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from spinezoo_phantom import PhantomSettings, write_film_set
from spinezoo_tools import figures
from spinezoo_tools.figures import BLOCKS, ROOT, SPEED_PAGE, FiguresError
from spinezoo_tools.speed_tables import SPEED_BLOCKS

PAGES = [
    path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
]
COLUMN = {
    "true": 5, "recognition": 0.8, "precision": 1.0, "mean_iou": 0.875, "named_right_share": 0.75,
    "named_wrong_share": 0.25, "named_off_by_count_share": None, "named_right_of_five_share": 0.5,
    "named_right_of_others_share": 0.25,
    "names": [[0.99, True], [0.75, False], [0.6, True], [0.4, False]],
}  # fmt: skip
OBJECTS = {"screw": [3, 4, 6, "1"], "rod": [0, 2, 0, "0"], "cage": [1, 1, 1, "1"]}
ERRORS = {
    "asked": 8, "coverage": 0.5, "bias": -0.5, "mean": 1.25, "median": 1.0, "p90": 2.0,
    "icc": None, "inside": 0.875,
}  # fmt: skip
SUMMARY = {
    "measures": {"lordosis L1-S1": ERRORS, "pelvic_tilt": {"asked": 3, "coverage": 0.0}},
    "corners": {"count": 8, "median": 0.025, "p90": 0.1, "inside": 0.9375},
    "endplates_deg": {"count": 4, "median": 1.5, "p90": 4.0},
    "grades_right": {"BODY_HEIGHT_LOSS": {"share": 0.75}, "SLIP_PERCENT": {"share": 0.5}},
    "osteophytes": {"recall": 0.25, "precision": None},
    "rod_breaks": {"found": 1, "true": 7, "open_found": 1, "open": 2, "right": 1, "said": 3},
}
NOTHING = {**SUMMARY, "measures": {}, "corners": {"count": 0}, "endplates_deg": {"count": 0}}
MEASURES = {
    figures._FUSED: SUMMARY, figures._OUTLINES: SUMMARY, "unet": SUMMARY,
    "without hardware": NOTHING, "paired tests": [],
}  # fmt: skip
LOOK = {key: [-0.25, 0.5, 1.0] for _, key, _ in (*figures._SACRUM, *figures._LIE)}


def record() -> dict[str, Any]:
    """What a benchmark of one film leaves, as far as the blocks read it."""
    metrics = {key: {"film_mean": 0.5, "pooled": 0.25} for _, key in figures._TABLE_1}
    model = {"title": "U-Net", "metrics": metrics, "column": COLUMN, "tally": {"objects": OBJECTS}}
    run = {"finished": "2026-01-02T03:04:05+00:00"}
    models = {"unet": model, figures._FUSED: {**model, "title": "Fused"}}
    return {"run": run, "films": {"measured": 1}, "models": models}


def records() -> dict[str, dict[str, Any]]:
    """A record for each folder of reports."""
    real = {
        "data": {"name": "films", "film_count": 1},
        "models": {"new": {}, "unet": {}},
        "summary": {"plain": {"new": COLUMN, "unet": COLUMN}},
    }
    look = {"real": {"films": 2, "figures": LOOK}, "phantoms": {"films": 3, "figures": LOOK}}
    folders = {Path(block.record).parts[0] for block in BLOCKS}
    found = {folder: real for folder in folders if folder.startswith("real-check")}
    return {"phantom-test": record(), "phantom-look": look, **found}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A repository of empty blocks, with the records of both commands."""
    for block in BLOCKS:
        page = tmp_path / block.page
        page.parent.mkdir(exist_ok=True)
        before = page.read_text() if page.is_file() else "above\n"
        page.write_text(f"{before}<!-- figures: {block.name} -->\nstale\n<!-- end -->\nbetween\n")
    for folder, one in records().items():
        path = tmp_path / "reports" / folder / "report.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(one))
        if folder != "phantom-look":
            path.with_name("measures.json").write_text(json.dumps(MEASURES))
    blocks = [f"<!-- figures: {name} -->\nstale\n<!-- end -->\n" for name in SPEED_BLOCKS]
    (tmp_path / SPEED_PAGE).write_text("".join(blocks))
    return tmp_path


@pytest.mark.parametrize("name", PAGES)
def test_every_page_has_the_blocks_that_the_command_writes(name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    wanted = [block.name for block in BLOCKS if block.page == name]
    assert figures.block_names(page) == (list(SPEED_BLOCKS) if name == SPEED_PAGE else wanted)


def test_blocks_are_written_and_the_text_around_them_stays(house: Path) -> None:
    figures.write(house / "reports", house)
    page = (house / "README.md").read_text()
    assert page.startswith("above\n<!-- figures: benchmark -->\n1 phantom films, mean over films")
    assert "on 2026-01-02:\n\n|  | U-Net | Fused |\n|---|---:|---:|\n" in page
    assert "| mean IoU | 50.00 | 50.00 |\n" in page
    assert page.endswith("(pooled) | 80.00 | 80.00 |\n<!-- end -->\nbetween\n")
    labelling = (house / "docs/labelling.md").read_text()
    assert "| of which off by the number of lumbar vertebrae | – |" in labelling
    assert "| 0.5 | 50.0 | 25.0 |\n| 0.7 | 25.0 | 25.0 |\n| 0.8 | 25.0 | 0.0 |" in labelling
    assert "| U-Net | 80.0 | 100.0 | 87.5 | 75.0 | 25.0 |" in labelling
    assert labelling.index("| U-Net | 80.0") < labelling.index("| new | 80.0")
    assert "stale" not in page + labelling


def test_errors_of_measures_are_written_of_phantoms_and_of_real_films(house: Path) -> None:
    figures.write(house / "reports", house)
    page = (house / "docs/measures.md").read_text()
    assert page.count("| lordosis L1-S1 | 8 | 50 | -0.50 | 1.25 | 1.00 | 2.00 | – | 88 |") == 3
    assert "pelvic_tilt" not in page  # never answered
    assert page.count("| U-Net | 2.5 | 10.0 | 1.50 | 4.00 | – | 1.00 |") == 3
    assert "| without hardware | – | – | – | – | – | – |" in page
    assert "| Genant's grade right, % | 75 | 75 |" in page
    assert "| told to be one, and over 3 mm, % | – | – |" in page
    assert "| breaks of rods found | 1 of 7 | 1 of 7 |" in page
    assert "1 real films, by `make real-check DATA=.../films`:" in page


def test_implants_are_counted_by_kind(house: Path) -> None:
    figures.write(house / "reports", house)
    page = (house / "docs/implants.md").read_text()
    assert "1 phantom films with 4 screws, 2 rods, 1 cages, pooled, in percent" in page
    assert "| screws recognised | 75.0 | 75.0 |\n| screws, precision | 50.0 | 50.0 |" in page
    assert "| rods recognised | 0.0 | 0.0 |\n| rods, precision | – | – |" in page


def test_phantoms_stand_beside_real_films(house: Path) -> None:
    figures.write(house / "reports", house)
    page = (house / "docs/phantom.md").read_text()
    assert "|  | 2 real films | 3 phantoms |" in page
    assert "| S1 less the disc above | 0.500 (-0.250 to 1.000) | 0.500" in page
    assert "| disc L4/L5 opens by | 0.5 (-0.2 to 1.0) | 0.5 (-0.2 to 1.0) |" in page


def test_what_looks_at_phantoms_leaves_the_record(tmp_path: Path) -> None:
    small = PhantomSettings(height_px=480, width_px=360)
    write_film_set(tmp_path, count=2, seed=5, file_format="png", settings=small)
    look = [sys.executable, "benchmarks/phantom_look.py", "--real", tmp_path, "--count", "2"]
    path = tmp_path / "reports/report.json"
    subprocess.run(
        [*look, "--height", "480", "--report", path],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    record = figures.read_record(path)
    assert "|  | 2 real films | 2 phantoms |" in figures.look_at_sacrum(record)
    assert "| ... L5 | " in figures.look_at_column(record)


def test_a_benchmark_without_measures_is_named(house: Path) -> None:
    (house / "reports/phantom-test/measures.json").unlink()
    with pytest.raises(FiguresError, match=r"report\.json lacks 'measures'; measure again"):
        figures.write(house / "reports", house)


def test_a_second_time_changes_nothing(house: Path) -> None:
    figures.write(house / "reports", house)
    first = [(house / block.page).read_bytes() for block in BLOCKS]
    figures.write(house / "reports", house)
    assert [(house / block.page).read_bytes() for block in BLOCKS] == first


def test_a_block_without_its_record_stays(house: Path) -> None:
    (house / "reports/phantom-test/report.json").unlink()
    told = figures.write(house / "reports", house)
    assert told[0] == "README.md: benchmark stays, there is no phantom-test/report.json"
    assert "stale" in (house / "README.md").read_text()
    assert (house / "docs/labelling.md").read_text().count("stale") == 2


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- figures: a -->\n", "no <!-- end -->"),
        ("<!-- end -->\n", "out of place"),
        ("<!-- figures: a -->\n<!-- figures: b -->\n<!-- end -->\n", "out of place"),
        ("<!-- figures: a -->\n<!-- end -->\n<!-- figures: a -->\n<!-- end -->\n", "twice"),
    ],
)
def test_wrong_markers_are_named(page: str, message: str) -> None:
    with pytest.raises(FiguresError, match=message):
        figures.block_names(page)


def test_a_record_that_lacks_a_figure_is_named(house: Path) -> None:
    (house / "reports/phantom-test/report.json").write_text("{}")
    with pytest.raises(FiguresError, match=r"report\.json lacks 'models'; measure again"):
        figures.write(house / "reports", house)


@pytest.mark.parametrize("record", ["[1]", '{"models": 3}', '{"models": {"unet": 3}, "films": 1}'])
def test_a_record_of_another_kind_is_named(house: Path, record: str) -> None:
    (house / "reports/phantom-test/report.json").write_text(record)
    with pytest.raises(FiguresError, match=r"report\.json is no report .*; measure again"):
        figures.write(house / "reports", house)
