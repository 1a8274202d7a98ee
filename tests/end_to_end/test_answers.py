"""Good films, large and small, through gateway and members, over gRPC and HTTP."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from spinezoo_contract import codec
from spinezoo_contract.errors import FilmError
from spinezoo_contract.masks import decode_mask, encode_mask, mask_area, mask_box
from spinezoo_contract.types import (
    EnsembleOptions,
    EnsembleSummary,
    Film,
    FusionRule,
    MemberAnswer,
    MemberCode,
    PredictOptions,
    Segment,
    SegmentKind,
    Structure,
)
from spinezoo_serving.cards import load_card
from spinezoo_spine.films.reader import read_film_file

from end_to_end.support import (
    NETWORKS,
    PARTS,
    ROOT,
    SHARED_DATA,
    Zoo,
    clean_environment,
    large_pixels,
    room_python,
    serving,
    without_times,
)


def shared(name: str) -> Path:
    """A folder of the development data; skips where it is absent."""
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"development data {name!r} is absent")
    return folder


def test_a_phantom_film_is_answered_by_all_and_fused(zoo: Zoo, film_path: Path) -> None:
    film = read_film_file(film_path)
    with zoo.gateway() as gateway:
        answer = gateway.segment(film_path)
    assert (answer.height, answer.width) == (film.height, film.width) == (512, 384)
    assert [member.status.member_name for member in answer.members] == list(NETWORKS)
    for member in answer.members:
        name = member.status.member_name
        assert member.status.code is MemberCode.OK, f"{name}: {member.status.message}"
        assert member.status.latency_ms > 0
        assert member.prediction is not None
        card = load_card(ROOT / "services" / name / "card.yaml")
        provenance = member.prediction.provenance
        assert provenance.model_name == name
        assert provenance.model_version == card.version
        assert provenance.weights_sha256 == card.weights_sha256
        assert provenance.preprocessing_id == card.preprocessing_id
        assert provenance.preset == card.preset
        assert provenance.device
        assert provenance.timing.infer_ms > 0
        assert member.prediction.segments, f"{name} finds nothing on a phantom"
        wanted = SegmentKind.INSTANCE if card.family.name == "INSTANCE" else SegmentKind.REGION
        assert {segment.kind for segment in member.prediction.segments} == {wanted}
        for segment in member.prediction.segments:
            assert (segment.mask.height, segment.mask.width) == (512, 384)
    assert answer.fused.member_names == NETWORKS
    assert answer.fused.rule is FusionRule.MAJORITY
    assert answer.fused.merged_mask is not None
    assert 0.01 < mask_area(answer.fused.merged_mask) / (512 * 384) < 0.9
    assert answer.timing.total_ms >= answer.timing.fan_out_ms > 0


def test_the_stream_brings_every_member_and_then_the_summary(zoo: Zoo, film_path: Path) -> None:
    with zoo.gateway() as gateway:
        whole = gateway.segment(film_path)
        events = list(gateway.stream(film_path))
    *members, summary = events
    assert isinstance(summary, EnsembleSummary)
    assert all(isinstance(each, MemberAnswer) for each in members)
    assert sorted(each.status.member_name for each in members) == list(NETWORKS)
    assert summary.fused == whole.fused


def test_the_roster_names_five_models(zoo: Zoo) -> None:
    with zoo.gateway() as gateway:
        roster = gateway.list_models()
    assert [member.member_name for member in roster.members] == list(NETWORKS)
    for member in roster.members:
        assert member.status.code is MemberCode.OK, member.status.message
        assert member.model is not None
        with zoo.member(member.member_name) as client:
            assert client.get_model() == member.model


@pytest.mark.parametrize("name", NETWORKS)
def test_http_gives_the_same_prediction_as_grpc(zoo: Zoo, film_path: Path, name: str) -> None:
    with zoo.member(name) as client:
        wanted = codec.to_json(without_times(client.predict(film_path)))
    data = film_path.read_bytes()
    as_body = httpx.post(f"{zoo.http(name)}/predict", content=data, timeout=60.0)
    as_form = httpx.post(f"{zoo.http(name)}/predict", files={"film": data}, timeout=60.0)
    for answer in (as_body, as_form):
        assert answer.status_code == 200, answer.text[:500]
        got = answer.json()
        assert got["provenance"]["timing"]["infer_ms"] > 0
        got["provenance"]["timing"] = wanted["provenance"]["timing"]
        assert got == wanted
    assert wanted["segments"]


@pytest.mark.parametrize("name", PARTS)
def test_every_process_is_alive_ready_and_counts(zoo: Zoo, film_path: Path, name: str) -> None:
    for path in ("/livez", "/readyz"):
        answer = httpx.get(zoo.http(name) + path, timeout=10.0)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
    assert serving(zoo.grpc(name))
    if name in NETWORKS:
        with zoo.member(name) as client:
            client.predict(film_path)
            with pytest.raises(FilmError):
                client.predict(b"no film", kind="encoded")
    elif name == "gateway":
        with zoo.gateway() as gateway:
            gateway.segment(film_path)
    else:
        mask = encode_mask(np.eye(32, dtype=bool))
        segment = Segment(Structure.ROD, SegmentKind.REGION, mask, 1.0, mask_box(mask))
        with zoo.evaluator() as evaluator:
            assert evaluator.fuse({"one": [segment]}, 32, 32).merged_mask == mask
    text = httpx.get(f"{zoo.http(name)}/metrics", timeout=10.0, follow_redirects=True).text
    wanted = ["spinezoo_requests_total", "spinezoo_stage_seconds"]
    if name in NETWORKS:
        stages = ("decode", "queue", "prepare", "infer", "finish")
        wanted += [f'stage="{stage}"' for stage in stages]
        wanted += ["spinezoo_queue_length", 'spinezoo_failures_total{reason="FilmError"}']
    if name == "gateway":
        wanted += ["spinezoo_member_answers", 'member="yolact"']
    missing = [each for each in wanted if each not in text]
    assert not missing, "\n".join(x for x in text.splitlines() if x.startswith("spinezoo"))


@pytest.mark.parametrize("name", ["gateway", *NETWORKS])
def test_a_film_of_24_mib_goes_both_ways(zoo: Zoo, name: str) -> None:
    film = Film(large_pixels())
    assert film.pixels.nbytes == 24 << 20
    options = PredictOptions(include_probability_maps=True)
    if name == "gateway":
        with zoo.gateway() as gateway:
            answer = gateway.segment(film, EnsembleOptions(options=options))
        assert [member.status.code for member in answer.members] == [MemberCode.OK] * 5
        predictions = [member.prediction for member in answer.members]
    else:
        with zoo.member(name) as client:
            predictions = [client.predict(film, options)]
    for prediction in predictions:
        assert prediction is not None
        assert (prediction.height, prediction.width) == (4096, 3072)
        for segment in prediction.segments:
            assert decode_mask(segment.mask).shape == (4096, 3072)
        family = load_card(
            ROOT / "services" / prediction.provenance.model_name / "card.yaml"
        ).family
        if family.name == "SEMANTIC":
            assert len(prediction.probability_maps) == 5
            for grid in prediction.probability_maps:
                assert grid.values.dtype == np.uint8
                assert grid.values.size > 1000


def test_the_example_writes_overlay_and_json(zoo: Zoo, film_path: Path, tmp_path: Path) -> None:
    """In the words in which ``make up`` says how to call the zoo."""
    command = [room_python("gateway"), str(ROOT / "examples" / "segment_film.py"), str(film_path)]
    done = subprocess.run(
        [*command, "--target", zoo.grpc("gateway"), "--out", str(tmp_path)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60.0,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with Image.open(tmp_path / f"{film_path.name}.overlay.png") as picture:
        assert picture.size == (384, 512)
    written = json.loads((tmp_path / f"{film_path.name}.segments.json").read_text())
    assert len(written["members"]) == 5


# ----------------------------------------------------------------------------- development data


def test_three_forms_of_one_real_film_get_one_answer(zoo: Zoo) -> None:
    folder = shared("dicom")
    answers = {}
    with zoo.gateway() as gateway:
        for name in ("RG3_J2KR", "RG3_JPLL", "RG3_RLE"):
            answers[name] = gateway.segment(folder / name, kind="dicom")
    first = answers["RG3_J2KR"]
    assert [member.status.code for member in first.members] == [MemberCode.OK] * 5
    for answer in answers.values():
        assert answer.fused == first.fused
        for member, wanted in zip(answer.members, first.members, strict=True):
            assert member.prediction is not None
            assert wanted.prediction is not None
            assert without_times(member.prediction) == without_times(wanted.prediction)


def test_a_real_chest_film_without_preamble_is_answered(zoo: Zoo) -> None:
    path = shared("dicom") / "CR-MONO1-10-chest"
    film = read_film_file(path)
    with zoo.gateway() as gateway:
        answer = gateway.segment(path)
    assert (answer.height, answer.width) == (film.height, film.width)
    assert [member.status.code for member in answer.members] == [MemberCode.OK] * 5


def test_a_real_lateral_film_gets_an_answer_from_all_five(zoo: Zoo) -> None:
    path = shared("real_lateral_dev") / "8.png"
    with zoo.gateway() as gateway:
        answer = gateway.segment(path)
    for member in answer.members:
        assert member.status.code is MemberCode.OK, member.status
        assert member.prediction is not None
    found = [m.status.member_name for m in answer.members if m.prediction and m.prediction.segments]
    assert len(found) == 5, f"only {found} found anything"
