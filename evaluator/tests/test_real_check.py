from __future__ import annotations

import asyncio
import csv
import itertools
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from outlines import as_regions
from PIL import Image
from spinezoo.v1 import ensemble_pb2_grpc
from spinezoo_contract import codec
from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.types import (
    EnsembleAnswer,
    Film,
    GatewayTiming,
    Labelling,
    MemberAnswer,
    MemberCode,
    MemberStatus,
    NamedVertebra,
    Prediction,
    Provenance,
    Roster,
    RosterMember,
    SegmentKind,
    Structure,
    UnnamedReason,
)
from spinezoo_evaluator.benchmark import page as rerender
from spinezoo_evaluator.benchmark import real_check
from spinezoo_evaluator.benchmark.real_check import measure_column, say_column, variant
from spinezoo_evaluator.measures.run import kept_films
from spinezoo_evaluator.measures.truth import read_truth
from spinezoo_evaluator.report.reliability import bins_of, calibration_error, given_from
from spinezoo_evaluator.results.columns import ColumnCounts, count_column
from spinezoo_spine.annotations.corners import CornerFilm, find_corner_file, read_corners
from spinezoo_spine.annotations.raster import segments_from_regions
from spinezoo_spine.annotations.regions import Region
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_spine.fusion.votes import fuse
from spinezoo_testing.servers import serving
from stand_in import make_gateway, model_info

HEIGHT, WIDTH = 420, 240
LEVELS = ("S1", "L5", "L4", "L3", "L2", "L1", "T12")
TITLE = "corners_coco.json"


def corners(centre_x, centre_y, *, broad=48, tall=34):
    x, y = broad / 2, tall / 2
    return [
        (centre_x - x, centre_y - y),
        (centre_x + x, centre_y - y),
        (centre_x + x, centre_y + y),
        (centre_x - x, centre_y + y),
    ]


QUADS = {level: corners(120 + 6 * place, 380 - 48 * place) for place, level in enumerate(LEVELS)}


def truth_of(name="a.png", *, sacrum=True):
    quads = {level: np.array(QUADS[level], float) for level in LEVELS[1:]}
    endplate = np.array(QUADS["S1"][:2], float) if sacrum else None
    return CornerFilm(name, HEIGHT, WIDTH, quads, endplate)


def perfect(height=HEIGHT, width=WIDTH, *, mirror=False, factor=1.0, without=()):
    """Every body as a network would draw it, S1 as sacral."""
    regions = []
    for level in LEVELS:
        if level in without:
            continue
        points = np.array(QUADS[level], float) * factor
        if mirror:
            points[:, 0] = width - points[:, 0]
        kind = Structure.SACRAL_VERTEBRA if level == "S1" else Structure.LUMBAR_VERTEBRA
        regions.append(Region(kind, points))
    return segments_from_regions(regions, height, width)


def named(without=(), **where):
    """A column in which every body has its true name."""
    levels = [level for level in LEVELS if level not in without]
    outlines = perfect(without=without, **where)
    return Labelling(
        tuple(
            NamedVertebra(replace(outline, level=level), 0.9, None, {level: 0.9})
            for level, outline in zip(levels, outlines, strict=True)
        ),
        True,
        missing_levels=tuple(without),
    )


def write_set(folder, names=("a.png", "b.png")):
    folder.mkdir()
    films = []
    for number, name in enumerate(names):
        grey = np.full((HEIGHT, WIDTH), 60, np.uint8)
        for points in QUADS.values():
            cv2.fillPoly(grey, [np.array(points, np.int32)], 170)
        grey[:4, :4] = 10 * (number + 1)  # one corner is darker: which way the film looks
        Image.fromarray(grey).save(folder / name)
        films.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        if number == 0:
            films[-1]["s1_endplate"] = QUADS["S1"][:2]
    annotations = [
        {
            "image_id": film["id"],
            "category_id": place,
            "segmentation": [np.ravel(QUADS[level]).tolist()],
        }
        for film in films
        for place, level in enumerate(LEVELS)
        if level != "S1"
    ]
    categories = [{"id": place, "name": level} for place, level in enumerate(LEVELS)]
    value = {"images": films, "annotations": annotations, "categories": categories}
    (folder / TITLE).write_text(json.dumps(value))
    return folder


class Answering(ensemble_pb2_grpc.EnsembleServiceServicer):
    """Three members: one draws instances, one regions, one fails on film b."""

    def __init__(self):
        self.sizes = []

    async def Segment(self, request, context):  # noqa: N802
        film = codec.film_from_proto(request.image, None, 10**8)
        self.sizes.append((film.height, film.width))
        factor = film.height / HEIGHT
        mirror = film.pixels[1, 1] > 40
        other = film.pixels[1, -2 if mirror else 1] > 14
        drawn = perfect(film.height, film.width, mirror=mirror, factor=factor)
        members = {"mask_rcnn": drawn, "unet": as_regions(drawn)}
        answers = []
        for name, segments in members.items():
            provenance = Provenance(name, "1", "lite", "a" * 64, "letterbox-2ch-v1", "cpu")
            prediction = Prediction(film.height, film.width, tuple(segments), provenance)
            status = MemberStatus(name, MemberCode.OK, 5.0)
            answers.append(MemberAnswer(status, prediction))
        if other:
            ill = MemberStatus("yolact", MemberCode.UNAVAILABLE, 5.0, "away")
            answers.append(MemberAnswer(ill, None))
        fused = fuse(members, film.height, film.width)
        timing = GatewayTiming(1.0, 2.0, 3.0, 6.0)
        answer = EnsembleAnswer(film.height, film.width, tuple(answers), fused, timing)
        return codec.to_proto(answer)

    async def ListModels(self, request, context):  # noqa: N802
        members = tuple(
            RosterMember(name, "127.0.0.1:1", MemberStatus(name, MemberCode.OK, 1.0), model)
            for name, model in ((n, model_info(n)) for n in ("mask_rcnn", "unet", "yolact"))
        )
        return codec.to_proto(Roster(members, 1, 1000))


@pytest.fixture
def checked(tmp_path, capsys):
    folder = write_set(tmp_path / "films")
    gateway = Answering()
    with serving(lambda: make_gateway(gateway)) as target:
        code = real_check.main(
            ["--data", str(folder), "--report", str(tmp_path / "out"), "--gateway", target]
        )
    return code, tmp_path / "out", capsys.readouterr().out, gateway


def test_the_check_measures_every_network_in_every_variant_and_draws_each_film(checked):
    code, folder, printed, gateway = checked
    report = json.loads((folder / "report.json").read_text())
    assert list(report["summary"]) == list(real_check.VARIANTS)
    for of_variant in report["summary"].values():
        for model in ("mask_rcnn", "unet", "fused ensemble"):
            counts = of_variant[model]
            assert (counts["true"], counts["recognised"], counts["right"]) == (10, 10, 12)
            # Film b has no sacrum in its truth: its five count for no name.
            assert counts["to_name"] == len(counts["names"]) == 5
            assert counts["mean_iou"] > 0.9
    assert code == 1  # a network failed on a film
    assert report["summary"]["plain"]["yolact"]["failed"] == 1
    assert (294, 168) in gateway.sizes
    assert (546, 312) in gateway.sizes
    for name in ("film_a.png", "film_b.png"):
        with Image.open(folder / name) as picture:
            assert picture.size[0] > 300
    markdown = (folder / "report.md").read_text()
    assert built_in_reader().card.weights_sha256[:16] in markdown
    assert report["reader"]["weights_sha256"] == built_in_reader().card.weights_sha256
    with Image.open(folder / "names.png") as picture:
        assert picture.size[0] > 800
    first = (folder / "index.html").read_bytes()
    page = first.decode()
    assert "This file holds pictures of the films" in page
    assert page.count('<article class="card"') == page.count("data:image/jpeg") == 2
    assert "unavailable" in page
    # What the truth does not judge, S1 and S2, is not shown as false.
    assert 'class="unjudged"' in page
    assert 'path class="unmatched"' not in page
    assert rerender.main([str(folder), "--data", str(folder.parent / "films")]) == 0
    picture = folder / "answer.png"
    words = [str(folder), "--data", str(folder.parent / "films"), "--picture", str(picture)]
    assert rerender.main(words) == 2
    assert not picture.exists()
    assert (folder / "index.html").read_bytes() == first
    rows = list(csv.DictReader((folder / "report.csv").read_text().splitlines()))
    assert {row["film"] for row in rows} == {"all", "a.png", "b.png"}
    assert "a.png" in printed
    assert "Mask R-CNN" in printed
    assert rerender.main([str(folder)]) == 2
    truths = read_truth(folder.parent / "films")
    kept = next(iter(kept_films(truths, folder)))  # measures can be checked again
    assert len(kept.vertebrae) == len(LEVELS)
    assert {"mask_rcnn", "unet"} <= kept.members.keys()


def test_a_wrong_name_a_missing_one_and_a_false_vertebra_are_counted():
    truth = truth_of()
    column = named()
    assert measure_column(truth, column).values()["named_right_share"] == 1.0
    shifted = {"L5": "L4", "L4": None}

    def renamed(vertebra):
        level = vertebra.segment.level
        if level not in shifted:
            return vertebra
        reason = UnnamedReason.SPACING if shifted[level] is None else None
        return NamedVertebra(replace(vertebra.segment, level=shifted[level]), 1.0, reason)

    # The uppermost true body begins at 75: the middle of one lies below that, of the other above.
    extra = segments_from_regions(
        [Region(Structure.LUMBAR_VERTEBRA, np.array(corners(30, y))) for y in (88, 40)],
        HEIGHT,
        WIDTH,
    )
    off = [NamedVertebra(each, 0.0, UnnamedReason.OFF_COLUMN) for each in extra]
    wrong = Labelling((*(renamed(v) for v in column.vertebrae), *off), True)
    counts = measure_column(truth, wrong)
    assert (counts.named_right, counts.named_wrong, counts.to_name) == (3, 1, 5)
    assert (counts.right, counts.predicted) == (6, 7)  # of what lies beyond nothing is said
    assert measure_column(truth_of(sacrum=False), wrong).to_name == 0


@pytest.mark.parametrize(
    ("levels", "off"),
    [
        (("T12", "L1", "L2", "L3", "L4", "L5", "S1"), 0),
        (("T11", "T12", "L1", "L2", "L3", "L4", "S1"), 6),  # four lumbar vertebrae
        (("L1", "L2", "L3", "L4", "L5", "L6", "S1"), 6),
    ],
)
def test_names_one_off_by_the_number_of_lumbar_vertebrae_are_told_from_others(levels, off):
    column = named()
    said = [vertebra.segment.level for vertebra in column.vertebrae]
    assert sorted(said) == ["L1", "L2", "L3", "L4", "L5", "S1", "T12"]
    renamed = dict(zip(("T12", "L1", "L2", "L3", "L4", "L5", "S1"), levels, strict=True))
    truth = [
        replace(vertebra.segment, level=renamed[vertebra.segment.level])
        for vertebra in column.vertebrae
    ]
    counts = count_column(truth, column, sacrum_in_view=True)
    assert counts.to_name == 7
    assert (counts.named_wrong, counts.named_off_by_count) == (off, off)
    five = (0, 0) if off else (7, 7)
    assert (counts.to_name_of_five, counts.named_right_of_five) == five
    others = counts.values()["named_right_of_others_share"]
    assert others == (pytest.approx(1 / 7) if off else None)
    # A vertebra named as another one of the same film is not excused.
    if off:
        wrong = replace(
            column,
            vertebrae=tuple(
                replace(vertebra, segment=replace(vertebra.segment, level="L5"))
                if vertebra.segment.level == "L2"
                else vertebra
                for vertebra in column.vertebrae
            ),
        )
        counts = count_column(truth, wrong, sacrum_in_view=True)
        assert counts.named_wrong - counts.named_off_by_count == 1


def test_a_missed_vertebra_is_said_and_lowers_recognition():
    column = named(without=("L3",))
    counts = measure_column(truth_of(), column)
    assert (counts.recognised, counts.true, counts.named_right) == (4, 5, 4)
    assert "missed L3" in say_column(column)


def test_variants_move_film_and_truth_alike():
    film = Film(np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH))
    for name in real_check.VARIANTS:
        sent, truth = variant(film, truth_of(), name)
        assert (sent.height, sent.width) == (truth.height, truth.width)
        mirror, factor = name == "mirrored", truth.height / HEIGHT
        column = named(height=truth.height, width=truth.width, mirror=mirror, factor=factor)
        assert measure_column(truth, column).values()["mean_iou"] > 0.9
    with pytest.raises(ValueError):
        variant(film, truth_of(), "upside down")


def test_counts_add_up_and_shares_of_nothing_are_none():
    one = ColumnCounts(true=5, recognised=4, iou_sum=3.0, films=1)
    assert (one + one).values()["mean_iou"] == 0.75
    assert ColumnCounts.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert set(ColumnCounts().values().values()) == {None}


def test_corner_files_that_are_none_are_refused(tmp_path):
    folder = write_set(tmp_path / "films")
    good = json.loads((folder / TITLE).read_text())
    assert [film.name for film in read_corners(find_corner_file(folder))] == ["a.png", "b.png"]
    (folder / TITLE).rename(folder / "other.json")
    assert find_corner_file(folder).name == "other.json"
    with pytest.raises(AnnotationError, match="0 JSON files"):
        find_corner_file(tmp_path)

    def refuse(value, match):
        path = tmp_path / "bad.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        with pytest.raises(AnnotationError, match=match):
            read_corners(path)

    refuse("{", "not valid JSON")
    refuse([], "no COCO file")
    refuse({**good, "categories": [{"id": 1, "name": "cat"}]}, "no level")
    refuse({**good, "annotations": good["annotations"] * 2}, "twice")
    refuse({"images": good["images"], "annotations": good["annotations"]}, "missing")

    def outlined(points):
        first, *others = good["annotations"]
        drawn = {**first, "segmentation": [np.ravel(points).tolist()]}
        return {**good, "annotations": [drawn, *others]}

    true = read_corners(find_corner_file(folder))
    corners = QUADS[LEVELS[good["annotations"][0]["category_id"]]]
    for points, match in (
        (corners[:3], "has 3 points; give its four corners"),
        ([*corners, corners[1]], "has 5 points"),
    ):
        refuse(outlined(points), match)
    closed = tmp_path / "closed.json"
    closed.write_text(json.dumps(outlined([*corners, corners[0]])))
    assert read_corners(closed)[0].quads["L5"].shape == (4, 2)
    for order in itertools.permutations(range(4)):
        (tmp_path / "order.json").write_text(json.dumps(outlined([corners[n] for n in order])))
        for read, wanted in zip(read_corners(tmp_path / "order.json"), true, strict=True):
            for level, quad in wanted.quads.items():
                np.testing.assert_array_equal(read.quads[level], quad)
    endplate = [{**good["images"][0], "s1_endplate": [1, 2, 3]}]
    refuse({**good, "images": endplate, "annotations": []}, "two points")


def test_a_film_that_is_not_there_or_of_another_size_ends_the_check(tmp_path, capsys):
    folder = write_set(tmp_path / "films")
    (folder / "b.png").unlink()
    arguments = ["--data", str(folder), "--report", str(tmp_path / "out")]
    for more in ([], ["--check"]):
        assert real_check.main([*arguments, *more]) == 2
        assert "b.png" in capsys.readouterr().err
    Image.fromarray(np.zeros((HEIGHT, WIDTH - 1), np.uint8)).save(folder / "b.png")
    for more in ([], ["--check"]):
        assert real_check.main([*arguments, *more]) == 2
        said = capsys.readouterr().err
        assert f"b.png is {HEIGHT} x {WIDTH - 1} pixels" in said
        assert "correct the corner file" in said
    assert real_check.main([*arguments, "--check", "--limit", "1"]) == 0
    assert real_check.main(["--data", str(tmp_path / "none"), "--report", "x", "--check"]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_film_counts_once_and_by_the_name_of_its_file(tmp_path, capsys):
    folder = write_set(tmp_path / "films")
    value = json.loads((folder / TITLE).read_text())
    value["images"][1]["file_name"] = "films/B.PNG"
    (folder / TITLE).write_text(json.dumps(value))
    words = ["--data", str(folder), "--report", str(tmp_path / "out"), "--check"]
    assert real_check.main(words) == 0
    assert [film.name for film in read_truth(folder)] == ["a.png", "b.png"]
    value["images"][1]["file_name"] = "./a.png"
    (folder / TITLE).write_text(json.dumps(value))
    assert real_check.main(words) == 2
    assert "two of its images mean film 'a.png'" in capsys.readouterr().err


def test_some_films_and_networks_only(tmp_path, capsys):
    folder = write_set(tmp_path / "films")
    gateway = Answering()
    with serving(lambda: make_gateway(gateway)) as target:
        words = ["--data", str(folder), "--report", str(tmp_path / "out"), "--gateway", target]
        words += ["--variants", "plain", "--no-pictures"]
        assert real_check.main([*words, "--networks", "yolcat"]) == 2
        assert "mask_rcnn" in capsys.readouterr().err
        assert real_check.main([*words, "--limit", "1", "--networks", "unet", "mask_rcnn"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [film["film"] for film in report["films"]] == ["a.png"]
    assert list(report["models"]) == ["mask_rcnn", "unet"]
    assert gateway.sizes == [(HEIGHT, WIDTH)]


def test_a_check_that_is_stopped_leaves_no_old_report(checked, monkeypatch, capsys):
    _, folder, _, gateway = checked

    async def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(real_check, "check_film", stopped)
    with serving(lambda: make_gateway(gateway)) as target:
        words = ["--data", str(folder.parent / "films"), "--report", str(folder)]
        assert real_check.main([*words, "--gateway", target]) == 130
    assert "begins anew" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} <= {"answers", "film_a.png", "film_b.png"}


def test_a_gateway_that_hangs_ends_the_check(tmp_path, capsys):
    class Hanging(Answering):
        async def Segment(self, request, context):  # noqa: N802
            self.sizes.append(())
            await asyncio.sleep(60)

    gateway, folder = Hanging(), write_set(tmp_path / "films")
    with serving(lambda: make_gateway(gateway)) as target:
        words = ["--data", str(folder), "--report", str(tmp_path / "out"), "--gateway", target]
        assert real_check.main([*words, "--timeout-s", "0.5"]) == 2
    assert "the gateway answered none of 2 calls in a row within 0.5 s" in capsys.readouterr().err
    assert len(gateway.sizes) == 2


def test_segments_of_corner_truth_are_instances_with_levels():
    found = truth_of().segments()
    assert [segment.level for segment in found] == list(LEVELS[1:])
    assert {segment.kind for segment in found} == {SegmentKind.INSTANCE}


def test_curve_and_calibration_follow_the_names():
    names = [(0.95, True)] * 8 + [(0.92, False)] + [(0.55, False)]
    assert given_from(names, 0.5) == (0.8, 0.2)
    assert given_from(names, 0.9) == (0.8, 0.1)
    assert given_from(names, 0.94) == (0.8, 0.0)
    assert given_from([], 0.5) == (0.0, 0.0)
    bins = bins_of(names)
    assert [count for _, _, count in bins] == [1, 9]
    assert calibration_error(names) == pytest.approx(
        0.1 * 0.55 + 0.9 * abs(8 / 9 - (8 * 0.95 + 0.92) / 9)
    )
    assert calibration_error([]) is None


def test_the_likeliest_name_counts_whether_it_is_given_or_withheld():
    column = named()
    first = column.vertebrae[1]
    withheld = NamedVertebra(
        replace(first.segment, level=None),
        0.4,
        UnnamedReason.SACRUM_UNSURE,
        {"L5": 0.4, "L4": 0.35},
    )
    rest = column.vertebrae[2:]
    counts = measure_column(truth_of(), Labelling((column.vertebrae[0], withheld, *rest), True))
    assert sorted(counts.names) == [(0.4, True), *[(0.9, True)] * 4]
    assert (counts.named_right, counts.named_wrong) == (4, 0)


def test_every_film_has_a_picture_of_its_own():
    names = ["1.2.840.5", "1.2.840.6", "a.png", "b.dcm", "b.png", "one/c.png", "two/c.png"]
    files = real_check.names_of_pictures(names)
    assert len(set(files.values())) == len(names)
    assert files["a.png"] == "film_a.png"
    assert not any("/" in file for file in files.values())
