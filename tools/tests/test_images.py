"""Which lock an image is made from: the one of its service's own environment."""

from __future__ import annotations

from dataclasses import replace

import pytest
from spinezoo_tools.environments import ROOT
from spinezoo_tools.images import PUBLIC_BASE, build_arguments, parts


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings say nothing here."""
    for name in ("TORCH_INDEX", "TORCH_LOCK", "TENSORFLOW_LOCK", "LIGHT_LOCK"):
        monkeypatch.delenv(name, raising=False)


def test_todays_images_are_built_from_the_dockerfiles_own_locks() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    for part in parts():
        argument = f"{part.target.upper()}_LOCK"
        lock = build_arguments(part, PUBLIC_BASE)[argument]
        assert f"\nARG {argument}={lock}\n" in dockerfile, part.name
        assert (ROOT / lock).is_file()


def test_a_service_with_an_environment_of_its_own_gets_that_ones_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (today,) = parts(["pspnet"])
    part = replace(today, environment="torch-2")
    assert build_arguments(part, PUBLIC_BASE)["TORCH_LOCK"] == "locks/torch-2.lock"
    assert build_arguments(today, PUBLIC_BASE)["TORCH_LOCK"] == "locks/torch.lock"
    monkeypatch.setenv("TORCH_LOCK", "deploy/images/torch.lock")
    assert build_arguments(today, PUBLIC_BASE)["TORCH_LOCK"] == "deploy/images/torch.lock"
    # A lock for the others is none for it.
    assert build_arguments(part, PUBLIC_BASE)["TORCH_LOCK"] == "locks/torch-2.lock"
    monkeypatch.setenv("TORCH_2_LOCK", "other.lock")
    assert build_arguments(part, PUBLIC_BASE)["TORCH_LOCK"] == "other.lock"
