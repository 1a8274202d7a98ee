"""The blocks of figures: well-formed on every page, and written the same a second time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spinezoo_tools import figures
from spinezoo_tools.figures import BLOCKS, ROOT, SPEED_PAGE, FiguresError
from spinezoo_tools.speed_tables import SPEED_BLOCKS

PAGES = [
    path.relative_to(ROOT).as_posix() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
]
COLUMN = {
    "true": 5, "recognition": 0.8, "precision": 1.0, "mean_iou": 0.875, "named_right_share": 0.75,
    "named_wrong_share": 0.25, "named_off_by_count_share": None, "named_right_of_five_share": 0.5,
}  # fmt: skip


def record() -> dict[str, Any]:
    """What a benchmark of one film leaves, as far as the blocks read it."""
    metrics = {key: {"film_mean": 0.5, "pooled": 0.25} for _, key in figures._TABLE_1}
    model = {"title": "U-Net", "metrics": metrics, "column": COLUMN}
    run = {"finished": "2026-01-02T03:04:05+00:00"}
    return {"run": run, "films": {"measured": 1}, "models": {"unet": model}}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A repository of empty blocks, with the records of both commands."""
    for block in BLOCKS:
        page = tmp_path / block.page
        page.parent.mkdir(exist_ok=True)
        before = page.read_text() if page.is_file() else "above\n"
        page.write_text(f"{before}<!-- figures: {block.name} -->\nold\n<!-- end -->\nbetween\n")
        path = tmp_path / "reports" / block.record
        path.parent.mkdir(parents=True, exist_ok=True)
        real = {
            "data": {"name": "films", "film_count": 1},
            "models": {"new": {}, "unet": {}},
            "summary": {"plain": {"new": COLUMN, "unet": COLUMN}},
        }
        path.write_text(json.dumps(real if block.name == "real-films" else record()))
    blocks = [f"<!-- figures: {name} -->\nold\n<!-- end -->\n" for name in SPEED_BLOCKS]
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
    assert "by `make benchmark` on 2026-01-02:\n\n|  | U-Net |\n|---|---:|\n" in page
    assert "| mean IoU | 50.00 |\n" in page
    assert page.endswith("(pooled) | 80.00 |\n<!-- end -->\nbetween\n")
    labelling = (house / "docs/labelling.md").read_text()
    assert "| of which off by the number of lumbar vertebrae | – |" in labelling
    assert "| U-Net | 80.0 | 100.0 | 87.5 | 75.0 | 25.0 |" in labelling
    assert labelling.index("| U-Net | 80.0") < labelling.index("| new | 80.0")
    assert "old" not in page + labelling


def test_a_second_time_changes_nothing(house: Path) -> None:
    figures.write(house / "reports", house)
    first = [(house / block.page).read_bytes() for block in BLOCKS]
    figures.write(house / "reports", house)
    assert [(house / block.page).read_bytes() for block in BLOCKS] == first


def test_a_block_without_its_record_stays(house: Path) -> None:
    (house / "reports/phantom-test/report.json").unlink()
    told = figures.write(house / "reports", house)
    assert told[0] == "README.md: benchmark stays, there is no phantom-test/report.json"
    assert "old" in (house / "README.md").read_text()
    assert (house / "docs/labelling.md").read_text().count("old") == 1


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
