"""First outlines are on the border, say where they come from, and only corrected ones count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from answers import answered, dicom_of
from parts import ZooProcess
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.masks import decode_mask
from spinezoo_pacs.annotate.command import PROJECT, annotate, dispute, finish, main, outlines_of
from spinezoo_pacs.annotate.project import Outline, Picture, project, read_project
from spinezoo_pacs.results.findings import findings_of
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.raster import rasterise
from spinezoo_spine.annotations.via import read_via_raw

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
    document = project([picture])
    document["_via_img_metadata"]["png/a.png12"]["regions"][0]["shape_attributes"] = {
        "name": "circle", "cx": 1, "cy": 1, "r": 2,
    }  # fmt: skip
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match="circle"):
        read_project(path)


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
    assert "no VIA 2 project" in capsys.readouterr().err
