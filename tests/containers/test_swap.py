"""`make swap` and `--scale` on running containers, while clients go on asking."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from spinezoo_contract.types import MemberStatus
from spinezoo_tools.composition import ROOT, Composition, Load, docker, inspect, wait_for

from containers.newcomers import MEMBER, OLD, Newcomers

SWAP_LIMIT_S = 400.0


def swap(composition: Composition, image: str) -> subprocess.CompletedProcess[str]:
    """What a person types."""
    return composition.make("swap", f"NETWORK={MEMBER}", f"IMAGE={image}", limit_s=SWAP_LIMIT_S)


def everything(composition: Composition) -> dict[str, str]:
    """Containers of the composition by name, the one of a swap among them, and their images."""
    label = f"label=com.docker.compose.project={composition.project}"
    listed = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", label).stdout.split()
    told = json.loads(docker("inspect", *listed).stdout)
    return {each["Id"]: f"{each['Name']} {each['Config']['Image']}" for each in told}


def status(composition: Composition) -> tuple[str, MemberStatus]:
    """Where films for the member go, and what the gateway says of it."""
    with composition.gateway() as gateway:
        found = [each for each in gateway.list_models().members if each.member_name == MEMBER]
    return found[0].target, found[0].status


def roster(composition: Composition) -> str:
    return (composition.root / "deploy/compose/roster/roster.yaml").read_text()


def images_env(composition: Composition) -> Path:
    return composition.root / "deploy/compose/images.env"


@pytest.fixture
def put_back(composition: Composition) -> Iterator[None]:
    """Leaves the composition as it was, whatever a test has made of it."""
    yield
    images_env(composition).unlink(missing_ok=True)
    (composition.root / "deploy/compose/roster/roster.yaml").write_text(
        (ROOT / "deploy/compose/roster/roster.yaml").read_text()
    )
    composition.up()
    wait_for("the old roster", lambda: not status(composition)[1].message, 120.0)


@pytest.mark.usefixtures("put_back")
def test_a_member_is_swapped_under_load(
    composition: Composition, newcomers: Newcomers, film_path: Path
) -> None:
    old_container = composition.containers(MEMBER)
    before, old_roster = everything(composition), roster(composition)
    with Load(composition, film_path, MEMBER) as load:
        load.wait_for(10)
        done = swap(composition, newcomers.good)
        assert done.returncode == 0, done.stderr
        after = len(load.answers)
        load.wait_for(20)
    assert not load.failures, load.failures[:5]

    # The very next answers come from the newcomer, and say so.
    assert load.images(after) == {newcomers.good: len(load.answers) - after}
    assert load.images().keys() == {OLD.image, newcomers.good}
    versions = {version: digest for _, version, digest in load.answers}
    assert versions["0.2.0"] == newcomers.weights_sha256 != versions[OLD.version]
    # Every answer before the change is the old one's and every later one the newcomer's, but for
    # films that were under way together.
    first_new = next(i for i, answer in enumerate(load.answers) if answer[0] == newcomers.good)
    late = [answer for answer in load.answers[first_new:] if answer[0] == OLD.image]
    assert len(late) <= 3

    (container,) = composition.containers(MEMBER)
    assert inspect(container)["Config"]["Image"] == newcomers.good
    now = everything(composition)
    assert not set(old_container) & set(now)
    assert len(now) == len(before), now
    assert set(before) - set(now) == set(old_container)
    assert roster(composition) == old_roster
    assert f"SPINEZOO_PSPNET_IMAGE={newcomers.good}" in images_env(composition).read_text()

    # The next start keeps the swapped member.
    composition.up()
    assert composition.containers(MEMBER) == [container]


@pytest.mark.parametrize("which", ["it breaks the contract", "it is no network"])
@pytest.mark.usefixtures("put_back")
def test_a_bad_newcomer_is_refused_by_the_rule(
    composition: Composition, newcomers: Newcomers, film_path: Path, which: str
) -> None:
    image, rule = {
        "it breaks the contract": (newcomers.bad, "rule C09 (A semantic network"),
        # Somebody's slip: the image of another service of the zoo, which comes up healthy.
        "it is no network": (OLD.image.replace(MEMBER, "evaluator"), "rule C01 (Health Check"),
    }[which]
    unchanged(composition, film_path, image, code=1, told=("refused, the old one stays", rule))


@pytest.mark.usefixtures("put_back")
def test_a_newcomer_that_does_not_come_up_is_taken_away(
    composition: Composition, newcomers: Newcomers, film_path: Path
) -> None:
    told = ("times; it has 300 s to be healthy", "weights are missing")
    unchanged(composition, film_path, newcomers.dead, code=2, told=told)


def unchanged(
    composition: Composition, film: Path, image: str, *, code: int, told: tuple[str, ...]
) -> None:
    """A swap that must fail, under load: nothing is lost and all is as it was."""
    before, old_roster = everything(composition), roster(composition)
    with Load(composition, film, MEMBER) as load:
        load.wait_for(5)
        done = swap(composition, image)
        # make says 2 for every failure; the program's own code stands in its message.
        assert done.returncode != 0, done.stderr
        assert f"Error {code}" in done.stderr, done.stderr
        for words in told:
            assert words in done.stderr
        assert "could not be undone" not in done.stderr
        load.wait_for(5)
    assert not load.failures, load.failures[:5]
    assert load.images().keys() == {OLD.image}
    assert everything(composition) == before
    assert roster(composition) == old_roster
    assert not images_env(composition).exists()


# ------------------------------------------------------------------------------------- scaling


def scale(composition: Composition, count: int) -> None:
    composition.compose(
        "up", "-d", "--no-deps", "--no-build", "--no-recreate",
        "--scale", f"{MEMBER}={count}", MEMBER,
    )  # fmt: skip


@pytest.mark.usefixtures("put_back")
def test_replicas_are_used_at_once_and_leave_without_loss(
    composition: Composition, film_path: Path
) -> None:
    (first,) = composition.containers(MEMBER)
    with Load(composition, film_path, MEMBER) as load:
        load.wait_for(5)
        scale(composition, 3)
        replicas = composition.containers(MEMBER)
        assert len(replicas) == 3
        assert first in replicas
        composition.wait_healthy(MEMBER)
        wait_for("films for every replica", all_answer(composition, replicas), 60.0)
        assert not load.failures, load.failures[:5]
        scale(composition, 1)
        assert composition.containers(MEMBER) == [first]
        load.wait_for(10)
    assert not load.failures, load.failures[:5]


def all_answer(composition: Composition, replicas: list[str]) -> Callable[[], bool]:
    """Whether each replica has answered five films since now."""

    def answered() -> list[int]:
        return [composition.films_answered(each, MEMBER) for each in replicas]

    before = answered()
    return lambda: all(now >= was + 5 for now, was in zip(answered(), before, strict=True))
