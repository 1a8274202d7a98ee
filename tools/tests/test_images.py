"""Which lock an image is made from: the one of its service's own environment."""

from __future__ import annotations

from dataclasses import replace

import pytest
from spinezoo_tools.environments import ROOT
from spinezoo_tools.images import PUBLIC_BASE, build_arguments, parts


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings say nothing here."""
    for name in ("TORCH_INDEX", "ENGINE_LOCK", "TORCH_LOCK", "TENSORFLOW_LOCK", "LIGHT_LOCK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("gpu", [False, True])
def test_todays_images_are_built_from_the_dockerfiles_own_locks(gpu: bool) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for part in parts(gpu=gpu):
        argument = f"{part.flavour.upper()}_LOCK"
        arguments = build_arguments(part, PUBLIC_BASE)
        assert f"\nARG {argument}={arguments[argument]}\n" in dockerfile, part.name
        assert (ROOT / arguments[argument]).is_file()
        assert arguments.get("EXTRA", "") == ("framework" if gpu else "")


def test_images_for_gpus_are_the_networks_and_have_tags_of_their_own() -> None:
    on_cpu, on_gpu = parts(), parts(gpu=True)
    networks = [part for part in on_cpu if part.card.is_file()]
    assert [part.name for part in on_gpu] == [part.name for part in networks]
    assert {part.flavour for part in networks} == {"engine"}
    assert {part.flavour for part in on_gpu} == {"torch", "tensorflow"}
    assert [part.image for part in on_gpu] == [f"{part.image}-gpu" for part in networks]


def test_a_service_with_an_environment_of_its_own_gets_that_ones_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (today,) = parts(["pspnet"], gpu=True)
    part = replace(today, environment="torch-2", lock="locks/torch-2.lock")
    assert build_arguments(part, PUBLIC_BASE)["TORCH_LOCK"] == "locks/torch-2.lock"
    assert build_arguments(today, PUBLIC_BASE)["TORCH_LOCK"] == "locks/torch.lock"
    monkeypatch.setenv("TORCH_LOCK", "deploy/images/torch.lock")
    assert build_arguments(today, PUBLIC_BASE)["TORCH_LOCK"] == "deploy/images/torch.lock"
    # A lock for the others is none for it.
    assert build_arguments(part, PUBLIC_BASE)["TORCH_LOCK"] == "locks/torch-2.lock"
    monkeypatch.setenv("TORCH_2_LOCK", "other.lock")
    assert build_arguments(part, PUBLIC_BASE)["TORCH_LOCK"] == "other.lock"
