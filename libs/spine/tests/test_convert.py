"""``python -m spinezoo_spine.annotations.convert``: every form into every other and back."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations import convert
from spinezoo_spine.annotations.film_set import FilmSet, read_annotations_raw
from spinezoo_spine.annotations.regions import FilmAnnotation, Region, judge
from spinezoo_spine.annotations.via import write_via

FORMS = [("via1", ".json"), ("via1", ".csv"), ("via2", ".json"), ("via2", ".csv"),
         ("via3", ".json"), ("via3", ".csv"), ("coco", ".json")]  # fmt: skip


def read(path: Path) -> dict[str, FilmAnnotation]:
    return {a.film_name: a for a in map(judge, read_annotations_raw(path))}


def run(source: Path, target: Path, *more: str) -> int:
    return convert.main(["--from", str(source), "--to", str(target), *more])


@pytest.mark.parametrize(("form", "suffix"), FORMS)
def test_there_and_back_gives_the_same_numbers(film_folder: Path, form: str, suffix: str) -> None:
    source = film_folder / "via.json"
    there, back = film_folder / f"there{suffix}", film_folder / "back.json"
    assert run(source, there, "--format", form) == 0
    assert run(there, back) == 0
    expected, found = read(source), read(back)
    assert list(found) == list(expected)
    for name, annotation in expected.items():
        for before, after in zip(annotation.regions, found[name].regions, strict=True):
            assert (after.structure, after.level) == (before.structure, before.level)
            assert np.array_equal(after.polygon_xy, before.polygon_xy)
    assert len(FilmSet.open(film_folder, there).names) == len(expected)


def test_what_exists_is_not_overwritten(film_folder: Path, capsys) -> None:
    source, target = film_folder / "via.json", film_folder / "mine.json"
    target.write_text("dear")
    assert run(source, target) == 2
    assert "mine.json exists" in capsys.readouterr().err
    assert target.read_text() == "dear"
    before = source.read_bytes()
    assert run(source, source, "--format", "coco") == 2
    assert source.read_bytes() == before


def test_coco_takes_the_films_sizes_from_a_folder(film_folder: Path, tmp_path, capsys) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    source = apart / "via.json"
    (film_folder / "via.json").rename(source)
    assert run(source, apart / "coco.json", "--format", "coco") == 2
    assert "say with --films" in capsys.readouterr().err
    assert not (apart / "coco.json").exists()
    words = ("--format", "coco", "--films", str(film_folder))
    assert run(source, apart / "coco.json", *words) == 0
    assert read(apart / "coco.json").keys() == read(source).keys()


def test_what_cannot_be_written_or_read_is_said(film_folder: Path, tmp_path, capsys) -> None:
    source = film_folder / "via.json"
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    strange = tmp_path / "strange.json"
    strange.write_text(source.read_text().replace("lumbar_vertebra", "kneecap"))
    for read_from, target, says in [
        (source, tmp_path / "absent" / "x.json", "no folder 'absent'"),
        (source, tmp_path / "x.txt", "end the name in"),
        (tmp_path / "absent.json", tmp_path / "x.json", "absent.json: cannot be read"),
        (broken, tmp_path / "x.json", "broken.json: is not valid JSON"),
        (strange, tmp_path / "x.json", "kneecap"),
    ]:
        assert run(read_from, target) == 2
        assert says in capsys.readouterr().err
        assert not target.exists()
    assert run(source, tmp_path / "x.csv", "--format", "coco") == 2
    assert "in .json" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["via2", "coco"])
def test_a_full_disk_leaves_no_part_of_a_file(
    film_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    target = tmp_path / "out" / "x.json"
    target.parent.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        assert run(film_folder / "via.json", target, "--format", form) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "x.json cannot be read or written (File too large)" in capsys.readouterr().err
    assert list(target.parent.iterdir()) == []


def test_films_whose_name_and_size_read_alike_stay_two(tmp_path: Path) -> None:
    (tmp_path / "IM1").write_bytes(b"x" * 1500)
    (tmp_path / "IM11").write_bytes(b"x" * 500)
    region = Region(Structure.CAGE, [[1, 1], [9, 1], [9, 9]])
    annotations = [FilmAnnotation(name, (region,)) for name in ("IM1", "IM11")]
    for version in (1, 2):
        for suffix in (".json", ".csv"):
            write_via(tmp_path / f"a{suffix}", annotations, version)
            assert list(read(tmp_path / f"a{suffix}")) == ["IM1", "IM11"]


@pytest.mark.parametrize("form", ["via1", "via2", "via3"])
@pytest.mark.parametrize("name", ["\ud800.png", "x" * 300 + ".png", "a\0b.png"])
def test_names_that_no_file_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, name: str
) -> None:
    region = {
        "shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 9, "height": 9},
        "region_attributes": {"structure": "cage"},
    }
    source, target = tmp_path / "from.json", tmp_path / "to.csv"
    source.write_text(json.dumps({"a": {"filename": name, "regions": [region]}}))
    assert run(source, tmp_path / "to.json", "--format", form) == 0
    assert list(read(tmp_path / "to.json")) == [name]
    code = run(source, target, "--format", form)
    if name.startswith("\ud800") and form != "via3":
        assert code == 2
        assert "is no Unicode text" in capsys.readouterr().err
        assert {path.name for path in tmp_path.iterdir()} == {"from.json", "to.json"}
    else:
        assert (code, list(read(target))) == (0, [name])
