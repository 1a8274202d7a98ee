from __future__ import annotations

import asyncio
import csv
import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from outlines import block
from PIL import Image
from small_zoo import FILMS, write_films
from spinezoo.v1 import evaluation_pb2_grpc
from spinezoo_contract.client import AsyncEnsembleClient, AsyncEvaluationClient
from spinezoo_contract.errors import NotServingError
from spinezoo_contract.services import EVALUATION_SERVICE
from spinezoo_contract.types import VERTEBRAE, EnsembleOptions, FusedImplant, MemberCode, Structure
from spinezoo_evaluator.benchmark import command as benchmark
from spinezoo_evaluator.benchmark.measuring import disagreement, load_film, measure
from spinezoo_evaluator.benchmark.runner import ask_evaluator
from spinezoo_evaluator.report.data import failures, spread
from spinezoo_evaluator.report.names import STUDY_TABLE
from spinezoo_evaluator.report.pictures import choose_films, film_score
from spinezoo_evaluator.results.records import FUSED, RunFolder, named
from spinezoo_evaluator.service.servicer import EvaluationServicer
from spinezoo_serving.disk import alone_in
from spinezoo_serving.server import GrpcServer
from spinezoo_serving.settings import ServerSettings
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.column.reader.network import built_in_reader
from spinezoo_spine.metrics.film import measure_film
from spinezoo_spine.metrics.registry import METRICS
from spinezoo_spine.metrics.tally import Tally
from spinezoo_testing.servers import serving
from stand_in import MEMBERS, StandInGateway


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_whole_run(zoo):
    assert zoo.run(pictures=True) == 0
    report = zoo.report
    names = [f"film_{i}.png" for i in range(FILMS)]
    assert zoo.gateway.asked == dict.fromkeys(names, 1)
    assert report["films"]["measured"] == report["films"]["complete"] == FILMS
    assert report["evaluator"] == {"agrees": 1, "differs": [], "no_answer": []}
    assert list(report["models"]) == ["unet", "mask_rcnn", "pspnet", "deeplabv3", "yolact", FUSED]

    # Kept for pictures: what is named, beside the answers.
    kept = RunFolder(zoo.folder).read_answer(names[0])
    assert sorted(kept) == sorted([*report["models"], *map(named, report["models"])])
    for model in report["models"]:
        assert kept[named(model)]
        assert {segment.structure for segment in kept[named(model)]} <= set(VERTEBRAE)

    # The figures are those of the library on the same answers.
    films = FilmSet.open(zoo.data)
    tally = Tally()
    for name in films.names:
        film = load_film(films, name)
        segments = zoo.gateway._segments(film, "mask_rcnn")
        tally.add(measure_film(film.truth, segments, film.height, film.width))
    for name, value in tally.metrics().items():
        entry = report["models"]["mask_rcnn"]["metrics"][name]
        assert (entry["film_mean"], entry["pooled"]) == (value.film_mean, value.pooled)
        assert entry["film_count"] == value.film_count
    assert 0.5 < report["models"][FUSED]["metrics"]["mean_iou"]["film_mean"] <= 1.0

    # Printed: the table beside the study's figures, and where the report is.
    mean_iou = report["models"]["unet"]["metrics"]["mean_iou"]["film_mean"]
    assert f"{100 * mean_iou:.2f}" in zoo.out
    assert "88.64" in zoo.out
    assert "report: reports/run/report.md" in zoo.out
    for text in ("mean over films", "pooled", "Films failed", "88.64", "U-Net", "Fused ensemble"):
        assert text in zoo.markdown
    assert "No film failed." in zoo.markdown

    # Everything to repeat it, and no path of this machine.
    run = report["run"]
    assert run["data"]["film_count"] == FILMS
    assert run["models"]["unet"]["card_sha256"] == "c" * 64
    assert run["options"]["fusion"] == "majority"
    assert "numpy" in run["versions"]
    assert run["command"].startswith("python -m spinezoo_evaluator.benchmark --data")
    for path in zoo.folder.glob("*.*"):
        if path.suffix in (".md", ".json", ".csv", ".jsonl"):
            assert str(zoo.folder.parent.parent) not in path.read_text()

    rows = read_csv(zoo.folder / "report.csv")
    assert len(rows) == 6 * len(METRICS)
    row = next(r for r in rows if r["model"] == "unet" and r["metric"] == "mean_iou")
    assert float(row["film_mean"]) == mean_iou
    assert float(row["study_percent"]) == 88.64
    rows = read_csv(zoo.folder / "films.csv")
    assert len(rows) == 6 * FILMS
    own = [float(r["mean_iou"]) for r in rows if r["model"] == "unet"]
    assert math.isclose(math.fsum(own) / FILMS, mean_iou)

    for name in ("sheet.png", "overlay_best.png", "overlay_worst.png", "overlay_disputed.png"):
        with Image.open(zoo.folder / name) as sheet:
            assert min(sheet.size) > 400
        assert name in zoo.markdown

    # Times: of each stage the median, as the stand-in says them.
    assert report["models"]["unet"]["time_ms"]["infer"]["median"] == 63.0
    assert report["gateway_ms"]["fan_out"]["median"] == 120.0


def test_a_member_that_fails_is_counted_and_named(zoo):
    def plan(film, member):
        ill = member == "yolact" and film in ("film_1.png", "film_3.png")
        return MemberCode.DEADLINE_EXCEEDED if ill else MemberCode.OK

    zoo.gateway.plan = plan
    assert zoo.run() == 0
    report = zoo.report
    yolact = report["models"]["yolact"]
    assert (yolact["films_measured"], yolact["films_failed"]) == (FILMS - 2, 2)
    assert yolact["failed"] == ["film_1.png", "film_3.png"]
    assert report["models"]["unet"]["films_failed"] == 0
    assert report["films"]["measured"] == FILMS
    assert report["films"]["complete"] == FILMS - 2
    value = yolact["metrics"]["mean_iou"]
    expected = value["film_mean"] * (FILMS - 2) / FILMS
    assert math.isclose(value["film_mean_failed_as_0"], expected)
    assert report["failures"] == [
        {
            "film": film,
            "model": "yolact",
            "reason": "deadline_exceeded",
            "message": "yolact is ill",
        }
        for film in yolact["failed"]
    ]
    assert "counted as 0" in zoo.markdown
    assert (
        "| YOLACT | deadline_exceeded | 2 | film_1.png, film_3.png | yolact is ill |"
        in zoo.markdown
    )
    assert report["models"][FUSED]["films_measured"] == FILMS


def test_a_film_below_the_quorum_fails_by_name_and_the_run_goes_on(zoo):
    def plan(film, member):
        ill = film == "film_2.png" and member in ("unet", "pspnet", "yolact")
        return MemberCode.UNAVAILABLE if ill else MemberCode.OK

    zoo.gateway.plan = plan
    assert zoo.run() == 0
    report = zoo.report
    assert report["films"]["failed"] == ["film_2.png"]
    assert report["films"]["measured"] == FILMS - 1
    for model in report["models"].values():
        assert model["failed"] == ["film_2.png"]
        assert model["films_measured"] == FILMS - 1
    reasons = {(f["model"], f["reason"]) for f in report["failures"]}
    assert reasons == {
        ("all", "QuorumError"),
        ("unet", "unavailable"),
        ("pspnet", "unavailable"),
        ("yolact", "unavailable"),
    }
    record = RunFolder(zoo.folder).read_films()["film_2.png"]
    assert record.members["mask_rcnn"].failure.reason == "answer_lost"
    assert "films without an answer: 1 of 5" in zoo.out


def test_a_run_in_which_every_film_fails_still_ends_with_a_report(zoo):
    zoo.gateway.plan = lambda film, member: MemberCode.UNAVAILABLE
    assert zoo.run() == 1
    report = zoo.report
    assert report["films"]["measured"] == 0
    assert len(report["films"]["failed"]) == FILMS
    assert report["models"]["unet"]["films_failed"] == FILMS
    assert report["models"]["unet"]["metrics"]["mean_iou"]["film_mean"] is None
    assert "no film was measured" in zoo.out
    assert (zoo.folder / "report.md").is_file()


def test_a_film_that_cannot_be_read_fails_by_name(zoo, tmp_path):
    zoo.data = write_films(tmp_path / "broken")
    path = zoo.data / "film_1.png"
    path.write_bytes(path.read_bytes()[:40])
    (zoo.data / "film_3.png").write_bytes(b"")
    zoo.gateway._films.update(StandInGateway(zoo.data)._films)
    assert zoo.run() == 0
    report = zoo.report
    assert report["films"]["failed"] == ["film_1.png", "film_3.png"]
    assert {f["film"]: f["reason"] for f in report["failures"]} == dict.fromkeys(
        report["films"]["failed"], "FilmError"
    )
    assert sum(zoo.gateway.asked.values()) == FILMS - 2


def start(zoo, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "spinezoo_evaluator.benchmark", *zoo.arguments(*more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_films(zoo, count):
    path = zoo.folder / "films.jsonl"
    end = time.monotonic() + 40
    while time.monotonic() < end:
        if path.is_file() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the run did not get so far")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_without_measuring_a_film_twice(zoo, how):
    zoo.gateway.seconds_a_film = 0.4
    process = start(zoo, "--concurrency", "1")
    try:
        wait_for_films(zoo, 2)
        process.send_signal(how)
        output = process.communicate(timeout=20)[0]
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == (130 if how is signal.SIGINT else -how)
    if how is signal.SIGINT:
        assert "the same command goes on from there" in output
    assert not (zoo.folder / "report.json").exists()
    done = set(RunFolder(zoo.folder).read_films())
    assert 2 <= len(done) < FILMS

    zoo.gateway.seconds_a_film = 0.0
    assert zoo.run("--concurrency", "1") == 0
    assert all(zoo.gateway.asked[name] == 1 for name in done)
    lines = (zoo.folder / "films.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["film"] for line in lines) == [
        f"film_{i}.png" for i in range(FILMS)
    ]
    report = zoo.report
    assert report["films"]["complete"] == FILMS
    assert len(report["run"]["resumed"]) == 1

    # The same figures as a run in one go.
    zoo.folder = zoo.folder.with_name("in one go")
    assert zoo.run() == 0
    for name, model in zoo.report["models"].items():
        assert model["metrics"] == report["models"][name]["metrics"]


def test_ctrl_c_stops_the_writing_of_the_report_too(zoo):
    process = start(zoo, "--fresh")
    try:
        wait_for_films(zoo, FILMS)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=20)[0]
    finally:
        process.kill()
        process.wait(10)
    assert process.returncode == 130
    assert "the same command, without --fresh, goes on from there" in output
    assert not (zoo.folder / "report.json").exists()


def test_no_page_of_an_old_run_stands_beside_new_answers(zoo):
    assert zoo.run(pictures=True) == 0
    kept = {"notes.txt", "answers", "films.jsonl", "run.json", "report.json"}
    (zoo.folder / "notes.txt").write_text("mine")
    before = {path.name for path in zoo.folder.iterdir()}
    assert before - kept > {"index.html", "report.md"}
    RunFolder(zoo.folder).clear()
    assert {path.name for path in zoo.folder.iterdir()} == {"notes.txt", "answers"}
    assert list((zoo.folder / "answers").iterdir()) == []


def test_a_line_cut_off_by_the_stop_is_measured_again(zoo):
    assert zoo.run() == 0
    before = zoo.report
    path = zoo.folder / "films.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    cut = json.loads(content.splitlines()[-1])["film"]
    (zoo.folder / "report.json").unlink()
    assert zoo.run() == 0
    assert zoo.gateway.asked[cut] == 2
    assert sum(zoo.gateway.asked.values()) == FILMS + 1
    assert zoo.report["films"] == before["films"]


def test_a_broken_line_is_named_and_not_skipped(zoo):
    assert zoo.run() == 0
    path = zoo.folder / "films.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], '{"film": 3}', *lines[1:]]) + "\n")
    assert zoo.run("--resume") == 2
    assert "line 2" in zoo.err


def test_a_finished_run_starts_anew_and_resume_measures_what_is_missing(zoo):
    assert zoo.run("--limit", "2") == 0
    assert zoo.report["films"]["asked"] == 2
    assert zoo.run("--resume") == 0
    assert zoo.report["films"]["asked"] == FILMS
    assert max(zoo.gateway.asked.values()) == 1
    assert zoo.run() == 0
    assert min(zoo.gateway.asked.values()) == 2


def test_failed_films_are_measured_again_on_request(zoo):
    zoo.gateway.plan = lambda film, member: (
        MemberCode.INTERNAL if (film, member) == ("film_0.png", "unet") else MemberCode.OK
    )
    assert zoo.run() == 0
    zoo.gateway.plan = lambda film, member: MemberCode.OK
    assert zoo.run("--resume") == 0
    assert zoo.report["films"]["complete"] == FILMS - 1
    assert zoo.run("--resume", "--retry-failed") == 0
    assert zoo.report["films"]["complete"] == FILMS
    assert zoo.gateway.asked["film_0.png"] == 2
    assert zoo.gateway.asked["film_1.png"] == 1


def test_a_run_with_other_weights_is_not_continued(zoo):
    assert zoo.run("--limit", "2") == 0
    zoo.gateway.weights = "b" * 64
    assert zoo.run("--resume") == 2
    assert "other weights" in zoo.err
    assert zoo.run("--resume", "--fusion", "union") == 2
    assert zoo.run("--fresh", "--limit", "1") == 0
    provenance = zoo.report["models"]["unet"]["provenance"]
    assert [entry["weights_sha256"] for entry in provenance] == ["b" * 64]


def test_some_networks_only(zoo):
    assert zoo.run("--networks", "yolact", "unet", "--quorum", "2", "--limit", "2") == 0
    assert list(zoo.report["models"]) == ["unet", "yolact", FUSED]
    assert zoo.run("--networks", "yolcat") == 2
    assert "yolcat" in zoo.err
    assert "mask_rcnn" in zoo.err


class SkewedEvaluator(EvaluationServicer):
    async def Evaluate(self, request_iterator, context):  # noqa: N802
        answer = await super().Evaluate(request_iterator, context)
        if answer.models[-1].film_count:
            for metric in answer.models[-1].metrics:
                if metric.name == "mean_iou":
                    metric.film_mean += 1e-12
        return answer


class AwayEvaluator(EvaluationServicer):
    async def Evaluate(self, request_iterator, context):  # noqa: N802
        raise NotServingError("out for lunch")


class HangingEvaluator(EvaluationServicer):
    async def Evaluate(self, request_iterator, context):  # noqa: N802
        await asyncio.sleep(60)


def evaluator_of(servicer):
    def make():
        server = GrpcServer(ServerSettings())
        register = evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server
        server.add(register, servicer(ServerSettings()), EVALUATION_SERVICE)
        return server

    return serving(make)


class CountingEvaluator(EvaluationServicer):
    films: ClassVar[list[str]] = []

    async def Evaluate(self, request_iterator, context):  # noqa: N802
        requests = [request async for request in request_iterator]
        self.films.append(requests[0].film_id)

        async def again():
            for request in requests:
                yield request

        return await super().Evaluate(again(), context)


def test_the_evaluator_measures_one_film_of_a_run(zoo):
    CountingEvaluator.films.clear()
    with evaluator_of(CountingEvaluator) as zoo.evaluator:
        assert zoo.run("--limit", "2") == 0
        assert zoo.run("--resume") == 0
        assert len(CountingEvaluator.films) == 1
        assert zoo.run("--fresh") == 0
    assert len(CountingEvaluator.films) == 2
    assert zoo.report["evaluator"] == {"agrees": 1, "differs": [], "no_answer": []}


def test_the_evaluator_agrees_to_the_last_bit_on_every_film_of_a_set(zoo):
    films = FilmSet.open(zoo.data)

    async def ask_all():
        async with (
            AsyncEnsembleClient(zoo.target) as ensemble,
            AsyncEvaluationClient(zoo.evaluator) as evaluation,
        ):
            said = {}
            for name in films.names:
                film = load_film(films, name)
                answer = await ensemble.segment(film.data, EnsembleOptions(), timeout_s=30.0)
                measured = measure(answer, film, built_in_reader())
                said[name] = await ask_evaluator(evaluation, film, answer, measured, timeout_s=30.0)
                # Implants are objects of their own, which regions need not hold.
                screw = replace(film.truth[0], structure=Structure.SCREW)
                levels = (*film.levels, None)
                film = replace(film, truth=(*film.truth, screw), levels=levels)
                metal = (FusedImplant(replace(screw, score=0.9), member_names=("one",)),)
                other = replace(answer, fused=replace(answer.fused, implants=metal))
                measured = measure(other, film, built_in_reader())
                assert measured.fused.values()["recognition_rate_screw"] > 0.0
                assert await ask_evaluator(evaluation, film, other, measured, timeout_s=30.0) == (
                    "agrees"
                )
            return said

    assert asyncio.run(ask_all()) == dict.fromkeys(films.names, "agrees")
    assert len(films.names) == FILMS


def test_an_evaluator_that_differs_in_the_twelfth_digit_fails_the_run(zoo):
    with evaluator_of(SkewedEvaluator) as zoo.evaluator:
        assert zoo.run("--limit", "2") == 1
    (name,) = zoo.report["evaluator"]["differs"]
    assert name in ("film_0.png", "film_1.png")
    assert "DIFFERS" in zoo.out
    assert "differs on" in zoo.markdown


def test_an_evaluator_that_goes_away_is_said(zoo):
    with evaluator_of(AwayEvaluator) as zoo.evaluator:
        assert zoo.run("--limit", "2") == 0
    assert zoo.report["evaluator"]["no_answer"] == ["film_0.png", "film_1.png"]
    assert "gave no answer on 2 films" in zoo.out


def test_a_service_that_hangs_ends_the_run_and_costs_no_film(zoo):
    """As one that is stopped in its tracks: calls are taken and never answered."""
    with evaluator_of(HangingEvaluator) as evaluator:
        going, zoo.evaluator = zoo.evaluator, evaluator
        assert zoo.run("--timeout-s", "2", "--concurrency", "1") == 2
    assert "the evaluator answered none of 2 calls in a row within 2 s" in zoo.err
    assert "--resume --retry-failed" in zoo.err
    assert [each.complete for each in RunFolder(zoo.folder).read_films().values()] == [True, True]
    zoo.evaluator = going
    zoo.gateway.seconds_a_film = 60.0
    assert zoo.run("--timeout-s", "0.5", "--concurrency", "1") == 2
    assert "the gateway answered none of 2 calls in a row within 0.5 s" in zoo.err
    assert len(RunFolder(zoo.folder).read_films()) == 4
    zoo.gateway.seconds_a_film = 0.0
    assert zoo.run("--resume", "--retry-failed") == 0
    assert zoo.report["films"]["complete"] == FILMS
    assert zoo.report["evaluator"]["agrees"] == 1


def test_what_cannot_start_says_why(zoo, tmp_path, capsys):
    good = zoo.arguments()
    cases = [
        (["--data", str(tmp_path / "absent")], "absent"),
        (["--gateway", "127.0.0.1:1", "--wait-s", "0"], "the gateway at 127.0.0.1:1"),
        (["--evaluator", "127.0.0.1:1", "--wait-s", "0"], "the evaluator at 127.0.0.1:1"),
    ]
    for more, message in cases:
        assert benchmark.main([*good, *more]) == 2
        assert message in capsys.readouterr().err
    assert not zoo.folder.exists()


def test_a_check_refuses_without_any_service_what_a_run_would_refuse(zoo, tmp_path, capsys):
    nowhere = ["--gateway", "127.0.0.1:1", "--evaluator", "127.0.0.1:1", "--check"]
    assert benchmark.main([*zoo.arguments(), *nowhere]) == 0
    assert not zoo.folder.exists()
    bare = tmp_path / "bare"
    bare.mkdir()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(bare / "film.png")
    (tmp_path / "empty").mkdir()
    for data, says in [("absent", "not a folder"), ("empty", "no film"), ("bare", "no VIA")]:
        assert benchmark.main([*zoo.arguments(), *nowhere, "--data", str(tmp_path / data)]) == 2
        assert says in capsys.readouterr().err
    (bare / "via.json").write_text("{}")
    assert benchmark.main([*zoo.arguments(), *nowhere, "--data", str(bare)]) == 2
    assert "is not a VIA file" in capsys.readouterr().err
    zoo.folder.mkdir(parents=True)
    (zoo.folder / "run.json").write_text("{")
    assert benchmark.main([*zoo.arguments(), *nowhere]) == 2
    assert "--fresh" in capsys.readouterr().err
    wrong = [["--limit", "0"], ["--timeout-s", "0"], ["--timeout-s", "nan"], ["--wait-s", "-1"]]
    for more in wrong:
        with pytest.raises(SystemExit):
            benchmark.main([*zoo.arguments(), *nowhere, *more])
    (tmp_path / "file").write_text("")
    for report in ("file", "file/below"):
        more = ["--report", str(tmp_path / report)]
        assert benchmark.main([*zoo.arguments(), *nowhere, *more]) == 2
        assert "file is a file" in capsys.readouterr().err


def test_one_run_at_a_time_has_a_report_s_folder(zoo, capsys):
    with alone_in(zoo.folder, "another run"):
        assert benchmark.main(zoo.arguments()) == 2
        assert "another run is at work" in capsys.readouterr().err
        assert list(zoo.folder.iterdir()) == []
    assert zoo.run("--limit", "1") == 0


def test_a_full_disk_stops_a_run_and_costs_no_film(zoo, capsys):
    (zoo.folder / "answers").parent.mkdir(parents=True)
    (zoo.folder / "answers").write_text("no folder")
    assert benchmark.main(zoo.arguments()) == 2
    assert "answers cannot be read or written" in capsys.readouterr().err
    (zoo.folder / "answers").unlink()
    assert zoo.run() == 0
    assert zoo.report["failures"] == []


def test_the_study_s_table_is_the_study_s():
    assert set(STUDY_TABLE) == set(MEMBERS)
    columns = {
        "pixel_accuracy": (98.17, 96.58, 97.88, 98.00, 97.84),
        "mean_iou": (88.64, 86.78, 86.50, 88.14, 91.64),
        "mean_accuracy": (92.65, 90.25, 90.91, 92.25, 94.43),
        "frequency_weighted_iou": (96.48, 93.47, 95.93, 96.16, 95.84),
    }
    order = ("unet", "mask_rcnn", "pspnet", "deeplabv3", "yolact")
    for metric, values in columns.items():
        assert tuple(STUDY_TABLE[name][metric] for name in order) == values


def test_choice_of_films(zoo):
    def plan(film, member):
        ill = film == "film_4.png" and member == "unet"
        return MemberCode.INTERNAL if ill else MemberCode.OK

    zoo.gateway.plan = plan
    assert zoo.run() == 0
    records = RunFolder(zoo.folder).read_films()
    chosen = choose_films(list(records.values()))
    assert list(chosen) == ["best", "worst", "disputed"]
    assert len({record.name for record in chosen.values()}) == 3
    # A film with fewer answers is no fair comparison.
    assert "film_4.png" not in {record.name for record in chosen.values()}
    scores = [film_score(r) for r in records.values() if r.complete]
    assert film_score(chosen["best"]) == max(scores)
    assert film_score(chosen["worst"]) == min(scores)
    assert failures(list(records.values()))[0]["film"] == "film_4.png"
    assert choose_films([]) == {}


def test_spread():
    assert spread([3.0]) == (3.0, 3.0)
    assert spread([float(i) for i in range(1, 101)]) == (50.5, 95.0)


def test_disagreement_is_of_every_two_members_and_two_that_see_nothing_agree():
    left, right = block(0, 0, 4, 4), block(0, 2, 4, 4)  # a third in common
    assert disagreement([[left, left], [right], []], 64, 48) == pytest.approx(8 / 9)
    assert disagreement([[], []], 64, 48) == 0.0
    assert disagreement([[left]], 64, 48) is None
