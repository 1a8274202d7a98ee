"""Outlines come through VIA, COCO and Label Studio as they were, with all that they know."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import answered, dicom_of
from spinezoo_contract.errors import AnnotationError
from spinezoo_pacs.annotate.command import PROJECT, main, outlines_of
from spinezoo_pacs.annotate.label_studio import pictures_of, read_tasks, tasks_of, write_tasks
from spinezoo_pacs.annotate.project import Outline, Picture, project, read_project
from spinezoo_spine.annotations.convert import main as convert
from spinezoo_spine.annotations.regions import PROVENANCE
from spinezoo_spine.annotations.via import read_via_raw

pytestmark = pytest.mark.filterwarnings("ignore")

SEEDS = (5, 22)


def pictures() -> list[Picture]:
    """Two films with first outlines; one was finished by a person."""
    found = []
    for place, seed in enumerate(SEEDS):
        outlines = []
        for number, outline in enumerate(outlines_of(answered(seed)[2], "2026-11-27T12:00:00")):
            attributes = dict(outline.attributes)
            points = outline.points_xy.copy()
            if place == 1:
                attributes["status"] = "corrected" if number == 0 else "approved"
                points[0] += (0.123456, -1.654321) if number == 0 else (0, 0)
            outlines.append(Outline(points, {**attributes, "note": 'Öl, "quoted"'}))
        found.append(
            Picture(f"f{seed}.dcm", f"png/f{seed}.png", 100 + seed, tuple(outlines),
                    {"film_status": "open", "dispute": "0.123"})
        )  # fmt: skip
    return found


def same(one: list[Picture], two: list[Picture]) -> None:
    assert [each.film_name for each in one] == [each.film_name for each in two]
    for left, right in zip(one, two, strict=True):
        assert (left.picture, left.size_bytes) == (right.picture, right.size_bytes)
        assert dict(left.attributes) == dict(right.attributes)
        assert left.finished == right.finished
        for a, b in zip(left.outlines, right.outlines, strict=True):
            assert a.points_xy.tolist() == b.points_xy.tolist()
            assert dict(a.attributes) == dict(b.attributes)


SIZES = {f"f{seed}.dcm": (512, 384) for seed in SEEDS}


def test_label_studio_and_via_give_back_what_they_got(tmp_path: Path) -> None:
    original = pictures()
    write_tasks(tmp_path / "tasks.json", original, SIZES)
    back = read_tasks(tmp_path / "tasks.json")
    same(original, back)
    (tmp_path / "via.json").write_text(json.dumps(project(back)))
    same(original, read_project(tmp_path / "via.json"))
    # Odd sizes, where percent are no round numbers.
    odd = {name: (1531, 1237) for name in SIZES}
    same(original, pictures_of(json.loads(json.dumps(tasks_of(original, odd)))))


@pytest.mark.parametrize("form", ["coco", "via1", "via2", "via3"])
def test_every_form_gives_back_points_and_provenance(tmp_path: Path, form: str) -> None:
    via, coco, back = (tmp_path / name for name in ("via.json", "other.json", "back.json"))
    original = pictures()
    entries = [
        Picture(each.film_name, each.film_name, each.size_bytes, each.outlines, each.attributes)
        for each in original
    ]
    via.write_text(json.dumps(project(entries)))
    for seed in SEEDS:
        (tmp_path / f"f{seed}.dcm").write_bytes(dicom_of(seed))
    assert convert(["--from", str(via), "--to", str(coco), "--format", form]) == 0
    assert convert(["--from", str(coco), "--to", str(back), "--format", "via2"]) == 0
    read = {each.film_name: each for each in read_via_raw(back)}
    for each in original:
        regions = read[each.film_name].regions
        for outline, region in zip(each.outlines, regions, strict=True):
            assert region.points_xy is not None
            assert np.abs(region.points_xy - outline.points_xy).max() == 0
            for name in ("structure", "level", *PROVENANCE):
                assert region.attributes.get(name) == outline.attributes.get(name), name


def test_what_a_person_moved_or_drew_is_corrected() -> None:
    tasks = tasks_of(pictures()[:1], SIZES)
    results = tasks[0].pop("predictions")[0]["result"]
    polygons = [each for each in results if each["type"] == "polygonlabels"]
    for each in results:
        each["origin"] = "prediction"
    polygons[0]["origin"] = "prediction-changed"
    drawn = {
        "id": "new", "type": "polygonlabels", "from_name": "structure", "to_name": "image",
        "original_width": 384, "original_height": 512, "origin": "manual",
        "value": {"points": [[1, 1], [5, 1], [5, 5]], "polygonlabels": ["lumbar_vertebra"]},
    }  # fmt: skip
    tasks[0]["annotations"] = [
        {"was_cancelled": True, "result": []},
        {"result": [*results, drawn]},
    ]
    (picture,) = pictures_of(tasks)
    states = [outline.status for outline in picture.outlines]
    assert (states[0], states[-1]) == ("corrected", "corrected")
    assert set(states[1:-1]) == {"predicted"}
    assert not picture.finished


def test_the_command_goes_there_and_back(tmp_path: Path) -> None:
    data, work = tmp_path / "set", tmp_path / "set-annotate"
    data.mkdir()
    work.mkdir()
    for seed in SEEDS:
        (data / f"f{seed}.dcm").write_bytes(dicom_of(seed))
    (work / PROJECT).write_text(json.dumps(project(pictures())))
    tasks = tmp_path / "tasks.json"
    assert main(["--data", str(data), "--to-label-studio", str(tasks)]) == 0
    (work / PROJECT).unlink()
    assert main(["--data", str(data), "--from-label-studio", str(tasks)]) == 0
    same(pictures(), read_project(work / PROJECT))


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '[{"data": {}}]', '[{"data": {"film": "a"}, "annotations": [{}]}]']
)
def test_what_is_no_export_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(AnnotationError, match="export"):
        read_tasks(path)


@pytest.mark.parametrize(
    "points", [[], [1, 2], [[1, 2], [3]], [[1, None]], [[float("inf"), 1]], {}]
)
def test_an_outline_that_is_none_is_named(points: object) -> None:
    tasks = tasks_of(pictures()[:1], SIZES)
    tasks[0]["predictions"][0]["result"][0]["value"]["points"] = points
    with pytest.raises(AnnotationError, match=r"task 0 of the export|film 'f5\.dcm': .*outline"):
        pictures_of(tasks)
    tasks = tasks_of(pictures()[:1], SIZES)
    tasks[0]["data"]["film"] = {"name": "f5.dcm"}
    with pytest.raises(AnnotationError, match="task 0 of the export"):
        pictures_of(tasks)


def test_an_export_of_some_films_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    data, work = tmp_path / "set", tmp_path / "set-annotate"
    work.mkdir()
    (work / PROJECT).write_text(json.dumps(project(pictures())))
    # Label Studio exports tasks with annotations only: here the second film, its first outline.
    tasks = tasks_of(pictures()[1:], SIZES)
    kept = [each for each in tasks[0]["annotations"][0]["result"] if each["id"] == "r0"]
    tasks[0]["annotations"][0]["result"] = kept
    export = tmp_path / "export.json"
    export.write_text(json.dumps(tasks), encoding="utf-8-sig")
    assert main(["--data", str(data), "--from-label-studio", str(export)]) == 0
    first, second = read_project(work / PROJECT)
    same(pictures()[:1], [first])
    assert len(second.outlines) == 1


def test_a_film_with_two_tasks_is_named(tmp_path: Path) -> None:
    tasks = tasks_of(pictures(), SIZES)
    with pytest.raises(AnnotationError, match=r"f5\.dcm.*two tasks"):
        pictures_of([*tasks, tasks[0]])


Change = Callable[[list[dict[str, Any]]], object]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r[0].update(image_rotation=90), "turned picture"),
        (lambda r: r[0]["value"].update(closed=False), "open line"),
        (lambda r: r[0]["value"].update(polygonlabels=["cage", "rod"]), "structure has 2 values"),
        (lambda r: r[1]["value"].update(choices=["L4", "L5"]), "has 2 values; choose one"),
        (lambda r: r.append({**r[0], "value": dict(r[0]["value"])}), "two regions have the id"),
        (lambda r: r[0]["value"]["points"].__setitem__(0, [True, 5]), "coordinate that is no"),
        (lambda r: r[0].update(original_width=192), "192 x 512 pixels .* the film has 384 x 512"),
        (lambda r: r[0].update(type="rectanglelabels"), "is a rectanglelabels; draw it as a poly"),
    ],
)
def test_what_would_give_another_outline_is_named(change: Change, words: str) -> None:
    (original, *_) = pictures()
    sizes = {"height": "512", "width": "384"}
    tasks = tasks_of([replace(original, attributes=sizes)], SIZES)
    change(tasks[0]["predictions"][0]["result"])
    with pytest.raises(AnnotationError, match=rf"film 'f5\.dcm': .*{words}"):
        pictures_of(tasks)


def test_remarks_and_empty_choices_are_no_outlines() -> None:
    (original, *_) = pictures()
    tasks = tasks_of([original], SIZES)
    results = tasks[0]["predictions"][0]["result"]
    results.append({"id": "r0", "type": "textarea", "value": {"text": ["blurred"]}})
    results.append({"type": "relation", "from_id": "r0", "to_id": "r1"})
    same([original], pictures_of(tasks))
    for result in results[:-2]:  # numbers that another program wrote
        result["original_width"] = 384.0
    tasks[0]["data"]["attributes"]["width"] = "384"
    assert len(pictures_of(tasks)[0].outlines) == len(original.outlines)
    chosen = [result for result in results if result.get("from_name") == "status"]
    chosen[0]["value"]["choices"] = []
    assert "status" not in pictures_of(tasks)[0].outlines[0].attributes
    for result in results:
        result["origin"] = "prediction"  # nobody touched it
    assert pictures_of(tasks)[0].outlines[0].status == "predicted"


def test_a_film_that_a_person_skipped_stays_as_it_was(tmp_path: Path) -> None:
    work = tmp_path / "set-annotate"
    work.mkdir()
    (work / PROJECT).write_text(json.dumps(project(pictures())))
    tasks = tasks_of(pictures(), SIZES)
    tasks[0]["predictions"] = []
    tasks[0]["annotations"] = [{"result": [], "was_cancelled": True}]
    export = tmp_path / "export.json"
    export.write_text(json.dumps(tasks))
    assert main(["--data", str(tmp_path / "set"), "--from-label-studio", str(export)]) == 0
    same(pictures(), read_project(work / PROJECT))
