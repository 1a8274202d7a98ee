"""Outlines are checked before a run, and what is skipped or left out is named."""

from __future__ import annotations

import json
import shutil


def change(data, folder, alter):
    """A copy of the films whose VIA file is altered."""
    shutil.copytree(data, folder)
    via = json.loads((folder / "via.json").read_text())
    alter(via)
    (folder / "via.json").write_text(json.dumps(via))
    return folder


def spoil(via):
    """One region off the film, one of another name; one film of another size; one without entry."""
    regions = via["film_0.png"]["regions"]
    regions[0]["shape_attributes"] = {"name": "circle", "cx": 900, "cy": 900, "r": 9}
    regions[1]["region_attributes"] = {"structure": "Wirbel"}
    via["film_1.png"]["file_attributes"] = {"width": 60, "height": 80}
    del via["film_2.png"]


def test_wrong_outlines_stop_the_run_before_it_starts(zoo, tmp_path):
    zoo.data = change(zoo.data, tmp_path / "spoiled", spoil)
    for more in ([], ["--check"]):
        assert zoo.run(*more) == 2
        assert "3 errors" in zoo.err
        for words in (
            "film_0.png', region 0: covers no pixel",
            '--map "Wirbel=structure"',
            "film 'film_1.png' is in the annotation file of 80 x 60",
            "--skip-bad-regions",
        ):
            assert words in zoo.err
    assert not zoo.folder.exists()
    assert zoo.gateway.asked == {}


def test_what_is_skipped_and_left_out_is_named_in_console_and_report(zoo, tmp_path):
    zoo.data = change(zoo.data, tmp_path / "spoiled", spoil)
    more = ["--map", "wirbel=lumbar_vertebra", "--skip-bad-regions", "--limit", "2"]
    assert zoo.run(*more) == 0
    assert set(zoo.gateway.asked) == {"film_0.png", "film_3.png"}
    told = {
        "skipped": [("film_0.png, region 0", "no-pixels: covers no pixel"),
                    ("film_1.png", "wrong-size: is in the annotation file of 80 x 60")],
        "left_out": [("film_2.png", "has no entry in via.json"), ("film_1.png", "wrong-size"),
                     ("film_4.png", "--limit")],
    }  # fmt: skip
    data = zoo.report["run"]["data"]
    for kind, entries in told.items():
        assert len(data[kind]) == len(entries)
        for (place, why), entry in zip(entries, data[kind], strict=True):
            assert entry["place"] == place
            assert why in entry["why"]
            assert entry["why"] in zoo.err
            assert f"| {place} | {entry['why']} |" in zoo.markdown
    assert "2 skipped, because an outline or entry is wrong" in zoo.markdown
    assert "3 left out, and not measured" in zoo.markdown
    assert zoo.report["run"]["options"]["outlines"]["map"] == {"wirbel": "lumbar_vertebra"}
    # Another reading of the outlines is another run.
    (zoo.folder / "report.json").unlink()
    assert zoo.run("--skip-bad-regions", "--limit", "2", "--resume") == 2
    assert "--class-attribute, --map or --skip-bad-regions is another" in zoo.err


def test_a_set_without_a_fault_says_so(zoo):
    assert zoo.run() == 0
    assert "Nothing was skipped or left out, and there is no warning." in zoo.markdown
    assert zoo.err == ""


def test_a_file_without_any_region_is_no_truth(zoo, tmp_path):
    def empty(via):
        for entry in via.values():
            entry["regions"] = []

    zoo.data = change(zoo.data, tmp_path / "empty", empty)
    assert zoo.run("--check") == 2
    assert "of 5 films to measure none has a region" in zoo.err


def test_films_of_sub_folders_and_other_spellings_are_measured(zoo, tmp_path):
    def elsewhere(via):
        via["film_0.png"]["filename"] = "FILM_0.PNG"
        via["film_1.png"]["filename"] = "C:\\set\\film_1.png"

    zoo.data = change(zoo.data, tmp_path / "spelled", elsewhere)
    assert zoo.run() == 0
    assert zoo.report["films"]["complete"] == 5
    assert zoo.report["run"]["data"]["warnings"] == []
