"""Members that are down, slow, killed or talk nonsense; the ensemble answers while it can."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from bench import NAMES, Bench
from fake_member import FakeMember
from spinezoo.v1 import ensemble_pb2, fusion_pb2, segment_pb2, segmenter_pb2
from spinezoo_contract.codec import film_to_proto
from spinezoo_contract.types import Film
from spinezoo_gateway import members
from spinezoo_testing.servers import until

OK = ensemble_pb2.MEMBER_CODE_OK
DEADLINE_EXCEEDED = ensemble_pb2.MEMBER_CODE_DEADLINE_EXCEEDED
UNAVAILABLE = ensemble_pb2.MEMBER_CODE_UNAVAILABLE
INVALID_OUTPUT = ensemble_pb2.MEMBER_CODE_INVALID_OUTPUT


def statuses(answer: ensemble_pb2.SegmentResponse) -> dict[str, ensemble_pb2.MemberStatus]:
    return {member.status.member_name: member.status for member in answer.members}


def test_every_member_answers_and_the_masks_are_fused(five: Bench, film: Film) -> None:
    answer = five.segment(film)
    assert (answer.height, answer.width) == (96, 64)
    assert [member.status.member_name for member in answer.members] == list(NAMES)
    for member in answer.members:
        assert member.status.code == OK, member.status
        assert member.status.message == ""
        assert member.status.latency_ms > 0
        assert len(member.segments) == 1
        assert member.provenance.model_name == member.status.member_name
    fused = answer.fused
    assert fused.rule == fusion_pb2.FUSION_RULE_MAJORITY
    assert list(fused.member_names) == list(NAMES)
    # All agree, so the fused region is each member's mask.
    assert [segment.structure for segment in fused.segments] == [
        segment_pb2.STRUCTURE_LUMBAR_VERTEBRA
    ]
    assert fused.segments[0].mask.counts == answer.members[0].segments[0].mask.counts
    assert fused.merged_mask.counts == answer.members[0].segments[0].mask.counts
    timing = answer.timing
    assert 0 < timing.fan_out_ms <= timing.total_ms
    assert timing.decode_ms + timing.fan_out_ms + timing.fuse_ms <= timing.total_ms + 0.01


def test_members_get_pixels_spacing_and_options_as_sent(five: Bench, film: Film) -> None:
    wide = Film(film.pixels.astype(np.uint16) * 257, 0.14, 0.15)
    options = segmenter_pb2.PredictOptions(score_threshold=0.25, max_segments=7)
    five.segment(wide, options=options)
    for member in five.members.values():
        seen = member.seen[-1]
        assert seen.image == film_to_proto(wide)
        assert seen.options == options


def test_members_are_asked_at_the_same_time(five: Bench, film: Film) -> None:
    five.segment(film)
    for member in five.members.values():
        member.delay_s = 1.0
    began = time.monotonic()
    five.segment(film)
    assert time.monotonic() - began < 4.5  # one after the other would be 5 s


def test_a_member_that_is_down_is_named_quickly(five: Bench, film: Film) -> None:
    five.loop.run(five.members["unet"].stop())
    began = time.monotonic()
    answer = five.segment(film)
    assert time.monotonic() - began < 30.0  # three tries, not the deadline of 60 s
    assert statuses(answer)["unet"].code == UNAVAILABLE
    assert statuses(answer)["unet"].message
    assert "unet" not in answer.fused.member_names
    assert [member.status.code for member in answer.members].count(OK) == 4


def test_a_member_that_says_not_serving_gets_no_film(five: Bench, film: Film) -> None:
    unet = five.members["unet"]
    five.segment(film)
    asked = len(unet.seen)
    five.loop.run(unet.serving(False))
    assert until(lambda: statuses(five.segment(film))["unet"].code == UNAVAILABLE)
    five.segment(film)
    five.segment(film)
    assert len(unet.seen) <= asked + 1  # health is watched, not asked for each film
    five.loop.run(unet.serving(True))
    assert until(lambda: statuses(five.segment(film))["unet"].code == OK)


def test_a_slow_member_is_left_behind_at_the_deadline(five: Bench, film: Film) -> None:
    five.segment(film)
    five.members["pspnet"].delay_s = 30.0
    began = time.monotonic()
    answer = five.segment(film, member_deadline_ms=400)
    assert 0.35 < time.monotonic() - began < 20.0
    status = statuses(answer)["pspnet"]
    assert status.code == DEADLINE_EXCEEDED
    assert status.message == "no answer within 400 ms"
    assert status.latency_ms >= 350
    assert until(lambda: five.members["pspnet"].cancelled == 1)


def test_the_clients_own_deadline_bounds_the_members(five: Bench, film: Film) -> None:
    five.segment(film)
    five.members["pspnet"].delay_s = 30.0
    # The member deadline is 60 s. What is kept back of 5 s, to fuse and to send, is the most: a
    # machine that is busy with other tests needs it.
    answer = five.segment(film, timeout_s=5.0)
    assert all(member.budgets_s[-1] < 4.6 for member in five.members.values())
    assert statuses(answer)["pspnet"].code == DEADLINE_EXCEEDED
    assert [member.status.code for member in answer.members].count(OK) == 4


def test_a_member_of_the_roster_may_have_its_own_deadline(bench: Bench, film: Film) -> None:
    quick, slow = bench.add_member("quick"), bench.add_member("slow")
    bench.roster.write_text(
        f"members:\n- {{name: quick, target: '{quick.target}', deadline_ms: 300}}\n"
        f"- {{name: slow, target: '{slow.target}'}}\n"
    )
    bench.start()
    bench.segment(film)
    assert 0 < quick.budgets_s[-1] < 0.35  # gRPC rounds what is left up a little
    assert slow.budgets_s[-1] > 5


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("wrong_size", "size 97 x 64, but the film is 96 x 64"),
        ("wrong_mask_size", "mask is 96 x 32, the film 96 x 64"),
        ("unknown_class", "structure is 17"),
        ("class_of_another_model", "cage, which its model card does not list"),
        ("invalid_runs", "segment 0"),
        ("not_runs", "segment 0: mask counts"),
        ("runs_of_pixels", "segment 0: mask counts"),
        ("empty_mask", "mask is empty"),
        ("score_2", "score of a lumbar_vertebra is 2.0"),
        ("score_nan", "score of a lumbar_vertebra is nan"),
        ("no_kind", "kind is 0"),
        ("two_regions", "two regions of one structure"),
        ("no_provenance", "provenance is missing"),
        ("empty", "size 0 x 0"),
        ("1001_outlines", "1001 outlines came; send the best 1000 at most"),
        ("maps_unasked", "probability maps came without being asked for"),
        ("long_device", "device of the provenance has 5000000 characters"),
    ],
)
def test_nonsense_is_named_and_kept_out(five: Bench, film: Film, behaviour: str, says: str) -> None:
    five.members["yolact"].behaviour = behaviour
    answer = five.segment(film)
    status = statuses(answer)["yolact"]
    assert status.code == INVALID_OUTPUT
    assert says in status.message
    assert "yolact" not in answer.fused.member_names
    assert len(answer.fused.segments) == 1
    yolact = next(m for m in answer.members if m.status.member_name == "yolact")
    assert not yolact.segments
    assert not yolact.HasField("provenance")
    five.members["yolact"].behaviour = "ok"
    assert statuses(five.segment(film))["yolact"].code == OK


async def garbage(_request: bytes, _context: Any) -> bytes:
    """Bytes that are no message at all."""
    return b"\xff\xff\xffno protobuf"


async def good_answer(request: bytes, context: Any) -> bytes:
    answer = await FakeMember().Predict(segmenter_pb2.PredictRequest.FromString(request), context)
    return answer.SerializeToString()


@contextlib.contextmanager
def a_stranger(bench: Bench, **methods: Callable[..., Any]) -> Iterator[None]:
    """A gateway with a good member and a server that answers these methods with bytes."""

    async def start() -> grpc.aio.Server:
        server = grpc.aio.server()
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(each) for name, each in methods.items()
        }
        service = grpc.method_handlers_generic_handler("spinezoo.v1.SegmenterService", handlers)
        server.add_generic_rpc_handlers((service,))
        bench.stranger_port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server

    server = bench.loop.run(start())
    good = bench.add_member("good")
    bench.write_roster({"good": good.target, "stranger": f"127.0.0.1:{bench.stranger_port}"})
    bench.start(SPINEZOO_QUORUM="1")
    yield
    bench.loop.run(server.stop(None))


def test_a_server_that_is_no_member_is_named(bench: Bench, film: Film) -> None:
    with a_stranger(bench, Predict=garbage):
        status = statuses(bench.segment(film))["stranger"]
        assert status.code == INVALID_OUTPUT
        assert "no PredictResponse" in status.message


def test_a_member_whose_description_is_none_is_named(bench: Bench, film: Film) -> None:
    """It costs the others nothing, nor the list of models."""
    with a_stranger(bench, Predict=good_answer, GetModel=garbage):
        answered = statuses(bench.segment(film))
        assert answered["good"].code == OK
        assert answered["stranger"].code == INVALID_OUTPUT
        assert "no GetModelResponse" in answered["stranger"].message
        listed = bench.stub.ListModels(ensemble_pb2.ListModelsRequest(), timeout=10).members
        assert [member.status.code for member in listed] == [OK, INVALID_OUTPUT]


def test_a_note_of_a_code_below_all_is_passed_by(five: Bench, film: Film) -> None:
    five.members["yolact"].behaviour = "note_below_all"
    answer = five.segment(film)
    assert [member.status.code for member in answer.members] == [OK] * 5


def test_more_outlines_than_asked_for_are_named(five: Bench, film: Film) -> None:
    options = segmenter_pb2.PredictOptions(max_segments=1)
    five.members["yolact"].behaviour = "two_outlines"
    status = statuses(five.segment(film, options=options))["yolact"]
    assert status.code == INVALID_OUTPUT
    assert "2 outlines came, 1 were asked for" in status.message
    assert statuses(five.segment(film))["yolact"].code == OK


def test_a_fault_of_the_gateway_over_one_answer_leaves_the_others(
    five: Bench, film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer is known that sets one off; so one is put in."""

    def vote_of(segments: Any, height: int, width: int) -> Any:
        if not segments:
            raise ZeroDivisionError
        return right(segments, height, width)

    right = members.vote_of
    monkeypatch.setattr(members, "vote_of", vote_of)
    five.members["yolact"].behaviour = "nothing_found"
    answered = statuses(five.segment(film))
    assert answered["yolact"].code == ensemble_pb2.MEMBER_CODE_INTERNAL
    assert answered["yolact"].message == members.UNEXPECTED
    assert [status.code for status in answered.values()].count(OK) == 4


def test_a_crash_inside_a_member_is_internal(five: Bench, film: Film) -> None:
    five.members["unet"].behaviour = "crash"
    answer = five.segment(film)
    assert statuses(answer)["unet"].code == ensemble_pb2.MEMBER_CODE_INTERNAL
    assert len(answer.fused.member_names) == 4


def test_a_full_queue_is_named_as_such(five: Bench, film: Film) -> None:
    five.members["unet"].behaviour = "full"
    status = statuses(five.segment(film))["unet"]
    assert status.code == ensemble_pb2.MEMBER_CODE_RESOURCE_EXHAUSTED
    assert "queue is full" in status.message


def test_nothing_found_is_an_answer_and_no_failure(five: Bench, film: Film) -> None:
    for member in five.members.values():
        member.behaviour = "nothing_found"
    answer = five.segment(film)
    assert all(member.status.code == OK for member in answer.members)
    assert not answer.fused.segments
    assert not answer.fused.HasField("merged_mask")


def test_two_down_the_quorum_holds_three_down_it_does_not(five: Bench, film: Film) -> None:
    for name in ("unet", "yolact"):
        five.loop.run(five.members[name].stop())
    answer = five.segment(film)
    assert list(answer.fused.member_names) == ["deeplabv3", "mask_rcnn", "pspnet"]
    five.members["pspnet"].behaviour = "wrong_size"
    with pytest.raises(grpc.RpcError) as caught:
        five.segment(film)
    error = caught.value
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "2 of 5 members answered, the quorum is 3" in error.details()
    for text in ("pspnet invalid_output: ", "unet unavailable: ", "yolact unavailable: "):
        assert text in error.details()
    metadata = dict(error.trailing_metadata())
    assert metadata["x-spinezoo-error"] == "QuorumError"
    entries = {entry["member_name"]: entry for entry in json.loads(metadata["x-spinezoo-members"])}
    assert sorted(entries) == list(NAMES)
    assert entries["pspnet"]["code"] == "INVALID_OUTPUT"
    assert entries["deeplabv3"]["code"] == "OK"
    # A request that is content with two gets them.
    assert len(five.segment(film, quorum=2).fused.member_names) == 2


def test_a_failure_of_many_members_fits_into_the_metadata(bench: Bench, film: Film) -> None:
    bench.write_roster({f"member_{place:03}": f"127.0.0.1:{1 + place}" for place in range(30)})
    bench.start()
    with pytest.raises(grpc.RpcError) as caught:
        bench.segment(film)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "0 of 30 members answered" in caught.value.details()
    assert "member_029" in caught.value.details()


def test_all_refusing_the_film_is_the_callers_fault(five: Bench, film: Film) -> None:
    for member in five.members.values():
        member.behaviour = "refuse"
    with pytest.raises(grpc.RpcError) as caught:
        five.segment(film)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "the film is not a spine" in caught.value.details()
    five.members["unet"].behaviour = "ok"  # one that takes it: the film was not the trouble
    with pytest.raises(grpc.RpcError) as caught:
        five.segment(film)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_all_queues_full_is_a_matter_of_load(five: Bench, film: Film) -> None:
    for member in five.members.values():
        member.behaviour = "full"
    with pytest.raises(grpc.RpcError) as caught:
        five.segment(film)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_named_members_only(five: Bench, film: Film) -> None:
    answer = five.segment(film, member_names=["unet", "pspnet"])
    assert [m.status.member_name for m in answer.members] == ["pspnet", "unet"]
    assert not five.members["yolact"].seen


def test_weights_of_roster_and_request_reach_the_vote(bench: Bench, film: Film) -> None:
    heavy, light, other = (bench.add_member(name) for name in ("heavy", "light", "other"))
    light.behaviour = other.behaviour = "nothing_found"
    bench.roster.write_text(
        f"members:\n- {{name: heavy, target: '{heavy.target}', weight: 5}}\n"
        f"- {{name: light, target: '{light.target}'}}\n"
        f"- {{name: other, target: '{other.target}'}}\n"
    )
    bench.start()
    vote = fusion_pb2.FUSION_RULE_WEIGHTED_VOTE
    weighted = bench.segment(film, fusion=fusion_pb2.FusionOptions(rule=vote))
    assert len(weighted.fused.segments) == 1
    assert weighted.fused.rule == vote
    options = fusion_pb2.FusionOptions(rule=vote, weights={"heavy": 1.0})
    assert not bench.segment(film, fusion=options).fused.segments
    assert not bench.segment(film).fused.segments  # majority counts heads
    # A member with a weight fails: its weight must not break the fusion of the others.
    light.behaviour = "crash"
    options = fusion_pb2.FusionOptions(rule=vote, weights={"light": 3.0})
    assert len(bench.segment(film, fusion=options, quorum=2).fused.segments) == 1


def test_a_member_killed_while_it_works(bench: Bench, film: Film, process: Any) -> None:
    for name in ("a", "b", "c"):
        bench.add_member(name)
    script = Path(__file__).with_name("fake_member.py")
    victim = process(script, "0", "ok", "30")
    port = int(victim.stdout.readline())
    targets = {name: member.target for name, member in bench.members.items()}
    bench.write_roster({**targets, "victim": f"127.0.0.1:{port}"})
    bench.start()
    request = ensemble_pb2.SegmentRequest(image=film_to_proto(film))
    call = bench.stub.Segment.future(request, timeout=20)
    assert until(lambda: all(member.seen for member in bench.members.values()))
    time.sleep(0.3)
    victim.send_signal(signal.SIGKILL)
    began = time.monotonic()
    answer = call.result()
    assert time.monotonic() - began < 15.0  # it would have answered after 30 s
    assert statuses(answer)["victim"].code == UNAVAILABLE
    assert list(answer.fused.member_names) == ["a", "b", "c"]
    # It comes back on the same port and is found again without a restart.
    process(script, str(port), "ok", "0")
    assert until(lambda: statuses(bench.segment(film))["victim"].code == OK, 60.0)


def test_cancellation_reaches_the_members(five: Bench, film: Film) -> None:
    for member in five.members.values():
        member.delay_s = 30.0
    request = ensemble_pb2.SegmentRequest(image=film_to_proto(film))
    call = five.stub.Segment.future(request)
    assert until(lambda: all(member.seen for member in five.members.values()))
    call.cancel()
    assert until(lambda: [m.cancelled for m in five.members.values()] == [1] * 5)


def test_cancelling_a_stream_reaches_the_members(five: Bench, film: Film) -> None:
    for member in five.members.values():
        member.delay_s = 30.0
    five.members["unet"].delay_s = 0.0
    request = ensemble_pb2.SegmentRequest(image=film_to_proto(film))
    stream = five.stub.SegmentStream(ensemble_pb2.SegmentStreamRequest(request=request))
    assert next(stream).member.status.member_name == "unet"
    stream.cancel()
    late = [member for name, member in five.members.items() if name != "unet"]
    assert until(lambda: [m.cancelled for m in late] == [1] * 4)


def test_a_stream_sends_members_as_they_finish_and_the_summary_last(
    five: Bench, film: Film
) -> None:
    order = ["yolact", "deeplabv3", "unet", "mask_rcnn"]
    five.segment(film)
    for place, name in enumerate(order):
        five.members[name].delay_s = 0.3 * place
    five.members["pspnet"].delay_s = 30.0
    request = ensemble_pb2.SegmentRequest(image=film_to_proto(film), member_deadline_ms=3000)
    began = time.monotonic()
    events, times = [], []
    for event in five.stub.SegmentStream(ensemble_pb2.SegmentStreamRequest(request=request)):
        events.append(event)
        times.append(time.monotonic() - began)
    assert [event.WhichOneof("event") for event in events] == ["member"] * 5 + ["summary"]
    assert [e.member.status.member_name for e in events[:-1]] == [*order, "pspnet"]
    assert times[0] < 2.0 < 2.9 < times[-1]  # not held back until the end
    summary = events[-1].summary
    assert [status.member_name for status in summary.statuses] == list(NAMES)
    assert [status.code for status in summary.statuses].count(OK) == 4
    assert len(summary.fused.segments) == 1
    assert (summary.height, summary.width) == (96, 64)


def test_a_stream_without_quorum_ends_with_the_error(five: Bench, film: Film) -> None:
    for name in ("unet", "yolact", "pspnet"):
        five.members[name].behaviour = "crash"
    request = ensemble_pb2.SegmentRequest(image=film_to_proto(film))
    stream = five.stub.SegmentStream(ensemble_pb2.SegmentStreamRequest(request=request))
    heard = [next(stream).member.status.member_name for _ in NAMES]
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert sorted(heard) == list(NAMES)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.RpcError) as caught:
        list(five.stub.SegmentStream(ensemble_pb2.SegmentStreamRequest()))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_film_of_24_mib_both_ways(five: Bench) -> None:
    film = Film(np.random.default_rng(1).integers(0, 65535, (4096, 3072), dtype=np.uint16))
    assert film.pixels.nbytes == 24 << 20
    five.members["unet"].behaviour = "large"
    options = segmenter_pb2.PredictOptions(include_probability_maps=True)
    answer = five.segment(film, timeout_s=120.0, options=options)
    assert all(member.status.code == OK for member in answer.members), statuses(answer)
    unet = answer.members[NAMES.index("unet")]
    assert len(unet.probability_maps[0].data) == 24_000_000
    assert five.members["pspnet"].seen[-1].image.raw.data == film.pixels.tobytes()


def test_list_models(five: Bench) -> None:
    five.loop.run(five.members["unet"].stop())
    answer = five.stub.ListModels(ensemble_pb2.ListModelsRequest(), timeout=10)
    assert [member.member_name for member in answer.members] == list(NAMES)
    assert (answer.default_quorum, answer.default_member_deadline_ms) == (3, 60_000)
    for member in answer.members:
        down = member.member_name == "unet"
        assert member.status.code == (UNAVAILABLE if down else OK)
        assert member.target == five.members[member.member_name].target
        assert down or member.model.name == member.member_name


def test_a_container_that_is_replaced_is_asked_again_what_it_is(five: Bench, film: Film) -> None:
    pspnet = five.members["pspnet"]
    five.segment(film)
    assert until(lambda: pspnet.model_calls > 0)
    calls = pspnet.model_calls
    five.segment(film)
    assert pspnet.model_calls == calls  # not for every film
    pspnet.weights = "b" * 64
    five.segment(film)
    assert pspnet.model_calls == calls + 1


def test_two_replicas_behind_one_target_share_the_films(bench: Bench, film: Film) -> None:
    one, two = FakeMember(name="a"), FakeMember(name="a")
    for member in (one, two):
        bench.loop.run(member.start())
    bench.write_roster({"a": f"ipv4:127.0.0.1:{one.port},127.0.0.1:{two.port}"})
    bench.start()
    assert until(lambda: bench.segment(film) and one.seen and two.seen)
    bench.loop.run(one.serving(False))  # the other takes over, no film is lost
    time.sleep(0.3)
    before = len(one.seen)
    for _ in range(4):
        assert bench.segment(film).members[0].status.code == OK
    assert len(one.seen) == before
    for member in (one, two):
        bench.loop.run(member.stop())


def test_one_network_under_two_names_has_one_vote(
    bench: Bench, film: Film, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = bench.add_member("a"), bench.add_member("b")
    bench.write_roster({"a": a.target, "b": b.target, "copy": a.target})
    bench.start(SPINEZOO_QUORUM="2")
    answer = bench.segment(film)
    failed = [each.status for each in answer.members if each.status.code != OK]
    assert [each.code for each in failed] == [ensemble_pb2.MEMBER_CODE_INVALID_OUTPUT]
    assert failed[0].member_name in ("a", "copy")
    assert "the same network as" in failed[0].message
    assert len(answer.fused.member_names) == 2
    assert "b" in answer.fused.member_names
    with pytest.raises(grpc.RpcError) as caught:
        bench.segment(film, member_names=["a", "copy"])
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "1 of 2 members answered" in caught.value.details()
    assert list(bench.segment(film, member_names=["b", "copy"]).fused.member_names) == ["b", "copy"]

    listed = bench.stub.ListModels(ensemble_pb2.ListModelsRequest(), timeout=10).members
    said = {each.member_name: each.status.message for each in listed}
    assert said["a"] == said["b"] == ""
    assert said["copy"].startswith("it is the same network as a ")
    assert until(lambda: any("two members have one vote" in each for each in caplog.messages))
    time.sleep(1.2)
    logged = [each for each in caplog.messages if "two members have one vote" in each]
    assert len(logged) == 1  # once, not each second
