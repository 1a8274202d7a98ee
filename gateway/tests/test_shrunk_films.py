"""Films that are shrunk once, for members that take them so; all others get whole films."""

from __future__ import annotations

import numpy as np
import pytest
from bench import Bench
from spinezoo.v1 import ensemble_pb2, segmenter_pb2
from spinezoo_contract.codec import film_from_proto, film_to_proto
from spinezoo_contract.types import SHRINKING_ID, Film
from spinezoo_spine.inference.preprocess import shrunk
from spinezoo_testing.servers import until

OK = ensemble_pb2.MEMBER_CODE_OK
CANVAS = (64, 64)


@pytest.fixture
def large() -> Film:
    """A film that is larger than the members' canvas, (300, 200) ``uint16``."""
    generator = np.random.default_rng(7)
    return Film(generator.integers(0, 4095, (300, 200), dtype=np.uint16), 0.14, 0.15)


def start(bench: Bench, *shrinking_ids: str) -> None:
    """One member for each id; the gateway knows what they take before the first film."""
    for number, shrinking_id in enumerate(shrinking_ids):
        bench.add_member(f"member{number}", shrinking_id=shrinking_id)
    bench.start()
    until(lambda: all(client.model for client in bench.gateway.zoo.clients))


def test_members_that_take_them_get_films_shrunk_to_their_canvas(bench: Bench, large: Film) -> None:
    start(bench, SHRINKING_ID, "")
    options = segmenter_pb2.PredictOptions(max_segments=7)
    answer = bench.segment(large, options=options)
    assert [member.status.code for member in answer.members] == [OK, OK]
    assert answer.fused.merged_mask.height == 300
    (seen,), (whole,) = (member.seen for member in bench.members.values())
    assert (seen.whole_height, seen.whole_width) == (300, 200)
    assert seen.options == whole.options == options
    small = film_from_proto(seen.image)
    assert (small.pixels == shrunk(large.pixels, *CANVAS)).all()
    assert (small.row_spacing_mm, small.column_spacing_mm) == (0.14, 0.15)
    assert not whole.HasField("whole_height")
    assert whole.image == film_to_proto(large)


@pytest.mark.parametrize("shrinking_id", ["", "area-letterbox-2"])
def test_another_way_of_shrinking_is_not_ours(bench: Bench, large: Film, shrinking_id: str) -> None:
    start(bench, shrinking_id)
    bench.segment(large)
    assert bench.members["member0"].seen[0].image == film_to_proto(large)


@pytest.mark.parametrize("size", [(60, 50), (64, 64), (2000, 30)])
def test_films_that_cannot_become_smaller_are_sent_whole(
    bench: Bench, size: tuple[int, int]
) -> None:
    start(bench, SHRINKING_ID)
    film = Film(np.zeros(size, dtype=np.uint8) + np.arange(size[1], dtype=np.uint8))
    bench.segment(film)
    (seen,) = bench.members["member0"].seen
    assert seen.image == film_to_proto(film)
    assert not seen.HasField("whole_height")


def test_a_member_that_takes_it_for_a_whole_film_is_asked_again(bench: Bench, large: Film) -> None:
    start(bench, SHRINKING_ID)
    member = bench.members["member0"]
    member.understands = False
    for _ in range(2):
        (answered,) = bench.segment(large).members
        assert answered.status.code == OK, answered.status
        assert answered.segments[0].mask.height == 300
    # The first film twice; from then on whole ones only.
    assert [seen.HasField("whole_height") for seen in member.seen] == [True, False, False]
    # It becomes another one, which takes them after all.
    member.understands, member.weights = True, "b" * 64
    bench.segment(large)
    bench.segment(large)
    assert [seen.HasField("whole_height") for seen in member.seen[3:]] == [False, True]


def test_a_film_that_fails_whole_too_says_nothing_of_shrinking(bench: Bench, large: Film) -> None:
    start(bench, SHRINKING_ID, SHRINKING_ID)
    member = bench.members["member0"]
    member.behaviour = "refuse"
    refused = bench.segment(large, quorum=1).members[0]
    assert refused.status.code == ensemble_pb2.MEMBER_CODE_INVALID_ARGUMENT
    member.behaviour = "ok"
    bench.segment(large)
    assert [seen.HasField("whole_height") for seen in member.seen] == [True, False, True]


def test_a_member_that_fails_otherwise_is_asked_once(bench: Bench, large: Film) -> None:
    start(bench, SHRINKING_ID, SHRINKING_ID)
    member = bench.members["member0"]
    member.behaviour = "full"
    bench.segment(large, quorum=1)
    assert len(member.seen) == 1
