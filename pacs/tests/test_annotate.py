"""First outlines are on the border, say where they come from, and only corrected ones count."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from answers import answered, dicom_of
from parts import ZooProcess
from spinezoo_contract.client import EnsembleClient
from spinezoo_contract.errors import AnnotationError, ConfigurationError, NotServingError
from spinezoo_contract.masks import decode_mask
from spinezoo_pacs.annotate import command
from spinezoo_pacs.annotate.command import (
    PROJECT,
    annotate,
    dispute,
    finish,
    main,
    outlines_of,
    picture_name,
    take_in,
)
from spinezoo_pacs.annotate.project import Outline, Picture, project, read_project
from spinezoo_pacs.results.findings import findings_of
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.raster import rasterise
from spinezoo_spine.annotations.via import read_via_raw
from spinezoo_spine.films.reader import read_film_file

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    for seed in (5, 6, 11):
        (folder / f"film_{seed}.dcm").write_bytes(dicom_of(seed))
    return folder


def test_first_outlines_have_few_points_on_the_border() -> None:
    answer = answered(5)[2]
    for finding, outline in zip(findings_of(answer), outlines_of(answer, "now"), strict=True):
        mask = decode_mask(finding.mask)
        drawn = rasterise(outline.points_xy, *mask.shape)
        iou = (mask & drawn).sum() / (mask | drawn).sum()
        assert iou > 0.85, finding.label
        assert 6 <= len(outline.points_xy) <= 60, finding.label
        assert outline.attributes["status"] == "predicted"
        assert outline.attributes["source"] == "fused: deeplabv3, mask_rcnn, pspnet"


def test_what_a_person_corrected_counts_and_nothing_else(
    films: Path, zoo: ZooProcess, tmp_path: Path
) -> None:
    work = tmp_path / "set-annotate"
    path = annotate(films, work, zoo.target)
    assert path == work / PROJECT
    pictures = read_project(path)
    assert len(pictures) == 3
    scores = [float(each.attributes["dispute"]) for each in pictures]
    assert scores == sorted(scores, reverse=True)
    assert all((work / each.picture).stat().st_size == each.size_bytes for each in pictures)
    # Nobody has looked: nothing is written.
    assert finish(films, work) == (0, 3)
    assert not (films / "via.json").exists()
    # A person moves a point, approves the rest of one film, and leaves the others.
    document = json.loads(path.read_text())
    key = document["_via_image_id_list"][0]
    regions = document["_via_img_metadata"][key]["regions"]
    regions[0]["shape_attributes"]["all_points_x"][0] += 1.5
    regions[0]["region_attributes"]["status"] = "corrected"
    for region in regions[1:]:
        region["region_attributes"]["status"] = "approved"
    path.write_text(json.dumps(document))
    assert finish(films, work) == (1, 2)
    written = read_via_raw(films / "via.json")
    assert [each.film_name for each in written] == [pictures[0].film_name]
    before = pictures[0].outlines
    for place, region in enumerate(written[0].regions):
        assert region.points_xy is not None
        moved = np.zeros_like(before[place].points_xy)
        if place == 0:
            moved[0, 0] = 1.5
        assert (region.points_xy == before[place].points_xy + moved).all()
        assert region.attributes["source_version"] == before[place].attributes["source_version"]
        assert region.attributes["status"] == ("approved" if place else "corrected")
    assert len(FilmSet.open(films).names) == 1
    # Asking again keeps what the person did.
    annotate(films, work, zoo.target)
    again = {each.film_name: each for each in read_project(path)}
    assert again[pictures[0].film_name].finished


@pytest.mark.parametrize(
    "name", ["a#b.dcm", "a?b.dcm", "100%25.dcm", "a\nb.dcm", "a'\"b.dcm", "x" * 240, "\udcff.dcm"]
)
def test_a_picture_has_a_name_that_is_an_address(name: str) -> None:
    found = picture_name(name)
    assert re.fullmatch(r"[\w. -]{1,100}", found)
    assert found != picture_name(name + "x")


def test_a_plain_name_stays() -> None:
    for name in ("film_0001.dcm", "Röntgen 12 (b).png"):
        assert picture_name(name) == name


def test_a_film_without_any_structure_counts_when_a_person_says_so() -> None:
    empty = Picture("a.dcm", "png/a.png", 1, (), {})
    assert not empty.finished
    assert Picture("a.dcm", "png/a.png", 1, (), {"film_status": "finished"}).finished
    points = np.array([[1.0, 1.0], [5.0, 1.0], [5.0, 5.0]])
    left = Outline(points, {"status": "predicted"})
    assert not Picture("a.dcm", "a", 1, (left,), {"film_status": "finished"}).finished
    drawn = Outline(points, {"structure": "cage"})
    assert Picture("a.dcm", "a", 1, (drawn,), {}).finished


def test_a_project_comes_back_as_it_was(tmp_path: Path) -> None:
    points = np.array([[1.125, 2.0], [5.0, 2.0], [5.5, 6.25], [1.0, 7.0]])
    picture = Picture("a.dcm", "png/a.png", 12, (Outline(points, {"x": "y"}),), {"dispute": "1"})
    path = tmp_path / "p.json"
    path.write_text(json.dumps(project([picture])))
    (read,) = read_project(path)
    assert (read.outlines[0].points_xy == points).all()
    assert read.outlines[0].attributes == {"x": "y"}
    assert (read.film_name, read.picture, read.size_bytes) == ("a.dcm", "png/a.png", 12)


SHAPES = [
    ({"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}, 4),
    ({"name": "circle", "cx": 9, "cy": 9, "r": 2}, 72),
    ({"name": "polyline", "all_points_x": [1, 9, 9, 1], "all_points_y": [1, 1, 9, 1]}, 3),
]
NO_SHAPES = [
    ({"name": "polyline", "all_points_x": [1, 9, 9, 1], "all_points_y": [1, 1, 9, 9]}, "not close"),
    ({"name": "polygon", "all_points_x": [1, 9], "all_points_y": [1, 1]}, "2 points"),
    ({"name": "polygon", "all_points_x": [True, 9, 9], "all_points_y": [1, 1, 9]}, "no number"),
    ({"name": "polygon", "all_points_x": [1, 9e9, 9], "all_points_y": [1, 1, 9]}, "beyond"),
    ({"name": "point", "cx": 1, "cy": 1}, "point"),
    ({}, "None"),
]


def shaped(folder: Path, shape: dict[str, object], **more: object) -> Path:
    """A project of one film with one region."""
    drawn = Outline(np.array([[1.0, 1.0], [5.0, 1.0], [5.0, 5.0]]), {"structure": "cage", **more})
    document = project([Picture("a.dcm", "a.png", 1, (drawn,), {})])
    if shape:
        entry = document["_via_img_metadata"]["a.png1"]
        entry["regions"][0]["shape_attributes"] = shape
    path = folder / PROJECT
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(("shape", "points"), SHAPES)
def test_shapes_of_via_become_polygons(
    tmp_path: Path, shape: dict[str, object], points: int
) -> None:
    (read,) = read_project(shaped(tmp_path, shape))
    assert len(read.outlines[0].points_xy) == points


@pytest.mark.parametrize(("shape", "words"), NO_SHAPES)
def test_a_shape_that_encloses_nothing_is_named(
    tmp_path: Path, shape: dict[str, object], words: str
) -> None:
    path = shaped(tmp_path, shape or {"name": None})
    with pytest.raises(AnnotationError, match=rf"film 'a\.dcm', region 0: .*{words}"):
        read_project(path)


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ("Predicted", 0),
        (" predicted ", 0),
        ({"predicted": True, "approved": False}, 0),
        (["predicted"], 0),
        ("Approved", 1),
        ({"approved": True}, 1),
        (None, 1),
        ("undefined", 1),
    ],
)
def test_a_status_counts_however_it_is_spelt(tmp_path: Path, status: object, done: int) -> None:
    (read,) = read_project(shaped(tmp_path, {}, status=status))
    assert read.finished == bool(done)


@pytest.mark.parametrize("status", ["seen", 0, {"predicted": True, "approved": True}])
def test_a_status_that_is_none_is_named_and_nothing_is_written(
    tmp_path: Path, films: Path, status: object
) -> None:
    shaped(tmp_path, {}, status=status)
    with pytest.raises(AnnotationError, match=r"film 'a\.dcm', region 0: its status is .*choose"):
        finish(films, tmp_path)
    assert not (films / "via.json").exists()


def test_a_film_that_stands_twice_is_named(tmp_path: Path) -> None:
    path = shaped(tmp_path, {})
    document = json.loads(path.read_text())
    entry = {"filename": "a.dcm", "size": 7, "regions": [], "file_attributes": {}}
    document["_via_img_metadata"]["a.dcm7"] = entry
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=r"film 'a\.dcm' stands there twice.*'a\.png'"):
        read_project(path)


def test_a_film_that_was_exchanged_for_another_size_is_told(
    films: Path, zoo: ZooProcess, tmp_path: Path
) -> None:
    work = tmp_path / "set-annotate"
    path = annotate(films, work, zoo.target)
    path.write_text(path.read_text().replace('"predicted"', '"approved"'))
    done, left = finish(films, work)
    assert (done, left) == (3, 0)
    assert len(FilmSet.open(films).names) == 3
    film = films / "film_5.dcm"
    pixels = read_film_file(film).pixels
    film.unlink()
    small = cv2.resize(pixels, None, fx=0.5, fy=0.5)
    assert cv2.imwrite(str(films / "film_5.png"), small)
    (films / "film_5.png").rename(film)
    assert finish(films, work) == (3, 0)
    with pytest.raises(AnnotationError, match=r"film_5\.dcm.*the film has 256 x 192"):
        FilmSet.open(films)


def test_networks_that_disagree_are_a_dispute() -> None:
    from dataclasses import replace

    answer = answered(5)[2]
    member = answer.members[0]
    assert member.prediction is not None
    poor = replace(member, prediction=replace(member.prediction, segments=()))
    assert dispute(replace(answer, members=(poor, *answer.members[1:]))) > dispute(answer)


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "set").mkdir()
    assert main(["--data", str(tmp_path / "set")]) == 1
    assert "holds no film" in capsys.readouterr().err
    assert main(["--data", str(tmp_path / "set"), "--finish"]) == 1
    assert "there is no" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"), [(NotServingError("gone"), 1), (KeyboardInterrupt, 130)]
)
def test_what_was_answered_before_a_failure_is_kept(
    films: Path,
    zoo: ZooProcess,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
) -> None:
    work = finished(films)  # a project that has film_5, and one that is not in the folder now
    document = json.loads((work / PROJECT).read_text())
    gone = project([Picture("gone.dcm", "png/gone.dcm.png", 9, ())])["_via_img_metadata"]
    document["_via_img_metadata"] |= gone
    (work / PROJECT).write_text(json.dumps(document))
    own = EnsembleClient.segment
    asked: list[object] = []

    def once(self: EnsembleClient, film: object, *more: object, **options: object) -> object:
        asked.append(film)
        if len(asked) > 1:
            raise error
        return own(self, film, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(EnsembleClient, "segment", once)
    arguments = ["--data", str(films), "--work", str(work), "--gateway", zoo.target]
    assert main(arguments) == code
    names = {each.film_name for each in read_project(work / PROJECT)}
    assert len(names) == 3
    assert names > {"film_5.dcm", "gone.dcm"}
    monkeypatch.undo()
    assert main(arguments) == 0
    assert len(read_project(work / PROJECT)) == 4


def test_a_picture_that_cannot_be_written_is_no_fault_of_its_film(
    films: Path, zoo: ZooProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    work = films.with_name("work")
    (work / "png" / "film_5.dcm.png" / "in the way").mkdir(parents=True)
    arguments = ["--data", str(films), "--work", str(work), "--gateway", zoo.target]
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert "film_5.dcm.png cannot be read or written" in told
    assert "left out" not in told


def test_a_film_that_cannot_be_named_is_said_to_be_left_out(
    films: Path, zoo: ZooProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    os.rename(films / "film_5.dcm", os.fsencode(films) + b"/R\xf6ntgen")
    assert main(["--data", str(films), "--gateway", zoo.target]) == 0
    told = "left out: R\\udcf6ntgen: has a name that is no Unicode text; rename it\n"
    assert told in capsys.readouterr().err
    assert len(read_project(films.with_name("set-annotate") / PROJECT)) == 2


def test_a_kill_costs_no_answer_that_is_older_than_a_moment(
    films: Path, zoo: ZooProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = films.with_name("work")
    monkeypatch.setattr(command, "KEPT_EVERY_S", 0.0)
    on_disk = []
    own = EnsembleClient.segment

    def looked(self: EnsembleClient, film: Any, *more: Any, **options: Any) -> Any:
        on_disk.append(len(read_project(work / PROJECT)) if (work / PROJECT).exists() else 0)
        return own(self, film, *more, **options)

    monkeypatch.setattr(EnsembleClient, "segment", looked)
    assert main(["--data", str(films), "--work", str(work), "--gateway", zoo.target]) == 0
    assert on_disk == [0, 1, 2]


def finished(folder: Path) -> Path:
    """A project in which the film of a set is finished; returns the project's folder."""
    work = folder.with_name(folder.name + "-annotate")
    work.mkdir()
    points = np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 40.0]])
    drawn = Outline(points, {"structure": "cage", "status": "approved"})
    picture = Picture("film_5.dcm", "png/film_5.dcm.png", 12, (drawn,), {})
    (work / PROJECT).write_text(json.dumps(project([picture])))
    return work


def test_outlines_that_were_drawn_elsewhere_are_not_overwritten(
    films: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(films)
    own = films / "via.json"
    theirs = json.dumps({"film_6.dcm1": {"filename": "film_6.dcm", "size": 1, "regions": []}})
    own.write_text(theirs)
    assert main(["--data", str(films), "--finish"]) == 1
    assert "would be overwritten" in capsys.readouterr().err
    assert own.read_text() == theirs
    own.unlink()
    for _ in range(2):  # what was written here may be written again
        assert main(["--data", str(films), "--finish"]) == 0
    assert "film_5.dcm" in own.read_text()


def test_films_that_the_projects_list_lacks_are_kept(tmp_path: Path) -> None:
    document = project([Picture("a.dcm", "a.png", 1, ()), Picture("b.dcm", "b.png", 1, ())])
    document["_via_image_id_list"] = ["b.png1", "b.png1", "gone.png3"]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    assert [each.film_name for each in read_project(path)] == ["b.dcm", "a.dcm"]


@pytest.mark.parametrize(
    "change",
    [
        {"filename": 3, "size": None},
        {"size": "large"},
        {"size": float("inf")},
        {"regions": [{"shape_attributes": {"name": "polygon", "all_points_x": [1, 2, float("nan")],
                                           "all_points_y": [1, 2, 1]}}]},
        {"regions": 3},
        {"regions": [3]},
        {"regions": [{"shape_attributes": {"name": "polygon"}}]},
        {"regions": [{"shape_attributes": {"name": "polygon", "all_points_x": [1],
                                           "all_points_y": [1, 2]}}]},
        {"regions": [{"shape_attributes": {"name": "polygon", "all_points_x": ["x"],
                                           "all_points_y": [1]}}]},
        {"file_attributes": [1]},
    ],
)  # fmt: skip
def test_a_damaged_project_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    document = project([Picture("a.dcm", "a.png", 1, ())])
    document["_via_img_metadata"]["a.png1"] |= change
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=r"p\.json"):
        read_project(path)


def test_a_place_that_cannot_be_written_is_named(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(films)
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    for arguments in (
        ["--to-label-studio", str(tmp_path / "none" / "tasks.json")],
        ["--to-label-studio", str(full)],
    ):
        assert main(["--data", str(films), *arguments]) == 1
        assert "cannot be read or written" in capsys.readouterr().err


def test_what_a_person_saves_while_the_zoo_is_asked_stays(
    films: Path, zoo: ZooProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "set-annotate"
    later = (films / "film_11.dcm").rename(tmp_path / "film_11.dcm")
    path = annotate(films, work, zoo.target)
    later.rename(films / "film_11.dcm")
    ask = command._asked

    def saved_meanwhile(*asked: Any) -> Picture:
        pictures = read_project(path)
        points = np.array([[1.0, 1.0], [5.0, 1.0], [5.0, 5.0]])
        mine = Outline(points, {"structure": "cage", "status": "corrected"})
        changed = replace(pictures[0], outlines=(mine,))
        path.write_text(json.dumps(project([changed, *pictures[1:]])))
        # A second command would write over the first one's answers.
        with pytest.raises(ConfigurationError, match="at work"):
            annotate(films, work, zoo.target)
        with pytest.raises(ConfigurationError, match="at work"):
            take_in(films, work)
        return ask(*asked)

    monkeypatch.setattr(command, "_asked", saved_meanwhile)
    annotate(films, work, zoo.target)
    found = read_project(path)
    assert {each.film_name for each in found} == {"film_5.dcm", "film_6.dcm", "film_11.dcm"}
    assert [len(each.outlines) for each in found if each.finished] == [1]
