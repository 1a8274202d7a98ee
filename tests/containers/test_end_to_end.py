"""The tests of the processes' zoo that fit the composition: gateway through the published port.

Those of networks use their containers' addresses, which only the machine of the containers sees.
"""

from __future__ import annotations

import json

import pytest
from end_to_end.test_answers import (
    test_a_film_of_24_mib_goes_both_ways,
    test_a_phantom_film_is_answered_by_all_and_fused,
    test_the_roster_names_five_models,
    test_the_stream_brings_every_member_and_then_the_summary,
)
from end_to_end.test_bad_input import (
    ask,
    bad_films,
    test_bad_films_are_refused_and_good_ones_still_answered,
    test_good_films_among_bad_ones_all_get_their_answer,
)
from spinezoo_tools.composition import GRPC_PORTS, NETWORKS, Composition, docker

__all__ = [
    "ask",
    "bad_films",
    "test_a_film_of_24_mib_goes_both_ways",
    "test_a_phantom_film_is_answered_by_all_and_fused",
    "test_bad_films_are_refused_and_good_ones_still_answered",
    "test_good_films_among_bad_ones_all_get_their_answer",
    "test_the_roster_names_five_models",
    "test_the_stream_brings_every_member_and_then_the_summary",
]


@pytest.fixture
def zoo(composition: Composition) -> Composition:
    """What those tests call a zoo."""
    return composition


@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_conforms_inside_the_network(composition: Composition, name: str) -> None:
    """As the gateway asks a newcomer: quick, and by the name of the service.

    Every rule is judged in the network's own tests; here they are asked of the image.
    """
    command = ("python", "-m", "spinezoo_conformance", f"{name}:{GRPC_PORTS[name]}")
    gateway = composition.containers("gateway")[0]
    done = docker("exec", gateway, *command, "--quick", "--json", check=False)
    assert done.returncode in (0, 1), done.stderr
    judged = json.loads(done.stdout)
    broken = [rule for rule in judged["rules"] if rule["outcome"] == "fail"]
    assert not broken, json.dumps(broken, indent=1)
    assert judged["conforms"]
    assert sum(rule["outcome"] == "pass" for rule in judged["rules"]) >= 17
