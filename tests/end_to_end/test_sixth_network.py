"""A sixth network, by the steps of ``services/README.md``, in a copy of this checkout.

Its files lie in ``sixth_network/``. It borrows an environment that has BentoML and safetensors; it
uses no framework itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from spinezoo_conformance.check import check
from spinezoo_conformance.ports import free_ports
from spinezoo_conformance.verdict import Outcome
from spinezoo_contract.types import EnsembleOptions, Film, MemberCode, Structure
from spinezoo_phantom import PhantomSettings, write_film_set
from spinezoo_serving.cards import load_card
from spinezoo_tools.environments import python_of
from spinezoo_tools.generate.files import differences, files

from end_to_end.support import (
    NETWORKS,
    PARTS,
    ROOT,
    SMALL,
    Zoo,
    call_probe,
    clean_environment,
    started,
    strangers,
    wait_for,
)

TEMPLATE = Path(__file__).parent / "sixth_network"
SIX = sorted([*NETWORKS, "sixth"])
FILMS = 3
MAKE_LIMIT_S = 120.0
BENCHMARK_LIMIT_S = 480.0

STAMP = """
from spinezoo_tools.environments import environments
for each in environments():
    sources = [str(path / "src") for path in each.local_packages().values()]
    (each.folder / "lib/python3.11/site-packages/0_spinezoo.pth").write_text("\\n".join(sources))
    (each.folder / ".made-from").write_text(each.fingerprint())
"""
"""Run by the copy's own tools: what `make setup` does where all packages are there already."""


def environment_of_make(**more: str) -> dict[str, str]:
    """Our environment without what another git or zoo around us has set."""
    return {
        key: value for key, value in clean_environment(**more).items() if not key.startswith("GIT_")
    }


def git(checkout: Path, *arguments: str) -> list[str]:
    """Lines that git prints in a checkout."""
    done = subprocess.run(
        ["git", *arguments], cwd=checkout, env=environment_of_make(), capture_output=True,
        text=True, timeout=60.0, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def make(checkout: Path, *arguments: str, limit_s: float = MAKE_LIMIT_S, **settings: str) -> str:
    """Runs a command of the Makefile to its end; returns what it printed."""
    log = checkout.parent / f"make-{arguments[0]}.log"
    command = ["make", f"PYTHON={sys.executable}", *arguments]
    environment = environment_of_make(**settings)
    with started(command, log, env=environment, cwd=checkout) as process:
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{arguments}: not within {limit_s:g} s\n{log.read_text()}")
    assert code == 0, f"{arguments}: {code}\n{log.read_text()}"
    return log.read_text()


def copy_checkout(target: Path) -> None:
    """This checkout as it stands, what git ignores aside, under a git of its own."""
    for name in git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard"):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    git(target, "init", "--quiet")
    git(target, "add", "--all")


def lend_environments(checkout: Path) -> None:
    """Environments for a copy, with our installed packages and its own sources before them.

    Nothing is downloaded and our environments stay as they are, so the copy's `make setup` finds
    its work done.
    """
    for ours in sorted(path.parent for path in (ROOT / ".venvs").glob("*/pyvenv.cfg")):
        theirs = checkout / ".venvs" / ours.name
        packages = "lib/python3.11/site-packages"
        (theirs / packages).mkdir(parents=True)
        (theirs / "bin").mkdir()
        (theirs / "bin/python").symlink_to(ours / "bin/python")
        shutil.copy(ours / "pyvenv.cfg", theirs)
        text = f"import site; site.addsitedir({str(ours / packages)!r})\n"
        (theirs / packages / "1_lent.pth").write_text(text)
    (checkout / ".tools/bin").mkdir(parents=True)
    (checkout / ".tools/bin/uv").symlink_to(ROOT / ".tools/bin/uv")
    done = subprocess.run(
        [sys.executable, "-c", STAMP],
        env=environment_of_make(PYTHONPATH=str(checkout / "tools/src")),
        capture_output=True, text=True, timeout=60.0,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with ``services/sixth``, generated files, and the network trained on phantoms."""
    base = tmp_path_factory.mktemp("sixth")
    copy = base / "checkout"
    copy_checkout(copy)
    shutil.copytree(TEMPLATE, copy / "services/sixth", ignore=shutil.ignore_patterns("__pycache__"))
    lend_environments(copy)
    make(copy, "generate")
    films = base / "films"
    settings = PhantomSettings(height_px=256, width_px=192)
    write_film_set(films, count=4, seed=2, settings=settings, file_format="png")
    make(copy, "train", "NETWORK=sixth", f"DATA={films}")
    return copy


@pytest.fixture(scope="module")
def service(checkout: Path) -> Path:
    """``services/sixth`` of the copy."""
    return checkout / "services/sixth"


@pytest.fixture(scope="module")
def report(checkout: Path) -> dict[str, Any]:
    """What ``make benchmark`` of the copy reports on three films."""
    films = checkout.parent / "test-films"
    write_film_set(films, count=FILMS, seed=11, settings=SMALL)
    numbers = iter(free_ports(2 * (len(PARTS) + 1)))
    ports = {
        f"SPINEZOO_{name.upper()}_{kind}_PORT": str(next(numbers))
        for name in (*PARTS, "sixth")
        for kind in ("GRPC", "HTTP")
    }
    make(checkout, "benchmark", f"DATA={films}", "RUN=six", limit_s=BENCHMARK_LIMIT_S, **ports)
    left = [
        each.info["cmdline"]
        for each in psutil.process_iter(["cmdline"])
        if any(str(checkout) in part for part in each.info["cmdline"] or ())
    ]
    assert not left
    report: dict[str, Any] = json.loads((checkout / "reports/six/report.json").read_text())
    return report


@pytest.fixture(scope="module")
def address(service: Path) -> Iterator[tuple[str, str]]:
    """gRPC target and HTTP address of the sixth network, served by plain ``bentoml serve``."""
    grpc_port, http_port = free_ports(2)
    probe = call_probe(service / "probe")
    probe["PYTHONPATH"] += os.pathsep + str(service / "src")
    environment = clean_environment(
        SPINEZOO_GRPC_PORT=str(grpc_port),
        SPINEZOO_HTTP_PORT=str(http_port),
        SPINEZOO_HOST="127.0.0.1",
        SPINEZOO_DRAIN_S="5",
        BENTOML_HOME=str(service / "bentoml"),
        **probe,
    )
    command = [
        str(python_of(service.parents[1], service)),
        "-m",
        "bentoml",
        "serve",
        "service:Service",
        "--working-dir",
        str(service),
        "--host",
        "127.0.0.1",
        "--port",
        str(http_port),
    ]
    log = service / "serve.log"
    http = f"http://127.0.0.1:{http_port}"
    with started(command, log, env=environment, cwd=service) as server:

        def ready() -> bool:
            assert server.poll() is None, log.read_text()
            try:
                return httpx.get(f"{http}/readyz", timeout=5.0).status_code == 200
            except httpx.TransportError:
                return False

        wait_for("the sixth network", ready, 180.0)
        yield f"127.0.0.1:{grpc_port}", http


def test_the_readme_lists_what_the_network_consists_of() -> None:
    readme = (ROOT / "services" / "README.md").read_text()
    for path in TEMPLATE.rglob("*"):
        if path.is_file() and path.suffix in (".py", ".yaml", ".toml"):
            assert path.name in readme, path.name
    assert "make conform TARGET=" in readme


def test_a_folder_and_make_generate_are_all_that_changes(checkout: Path) -> None:
    changed = {
        *git(checkout, "diff", "--name-only"),
        *git(checkout, "ls-files", "--others", "--exclude-standard"),
    }
    beside = {path for path in changed if not path.startswith("services/sixth/")}
    assert beside < {path.as_posix() for path in files(checkout)}
    assert {"compose.yaml", ".env", "gateway/roster.yaml"} < beside
    assert differences(checkout) == []
    assert {"services/sixth/weights/lite.json", "services/sixth/weights/lite.safetensors"} < changed


def test_make_benchmark_has_six_columns(report: dict[str, Any], checkout: Path) -> None:
    assert report["run"]["options"]["members"] == SIX
    assert sorted(report["models"]) == sorted([*SIX, "fused ensemble"])
    for name in SIX:
        model = report["models"][name]
        assert (model["films_measured"], model["films_failed"]) == (FILMS, 0), name
    assert report["failures"] == []
    folder = checkout / "reports/six"
    rows = [line.split("|") for line in (folder / "report.md").read_text().splitlines()]
    title = report["models"]["sixth"]["title"]
    # Tables with a column a network; in others the ensemble is a row.
    headed = [row for row in rows if "Fused ensemble" in [cell.strip() for cell in row[2:]]]
    assert headed
    for row in headed:
        # Networks and the ensemble, the rows' own names, and what is left and right of the table.
        assert len(row) == len(SIX) + 4, row
        assert title in [cell.strip() for cell in row]
    lines = [json.loads(line) for line in (folder / "films.jsonl").read_text().splitlines()]
    assert len(lines) == FILMS
    for line in lines:
        assert sorted(line["members"]) == SIX, line["film"]
        assert (
            sum(map(sum, line["members"]["sixth"]["measurement"]["merged"]))
            == SMALL.height_px * SMALL.width_px
        )
    text = (checkout / "run/logs/gateway.log").read_text()
    log = [json.loads(line) for line in text.splitlines()]
    assert [line["members"] for line in log if line["message"] == "roster"] == [SIX]


def test_it_conforms(address: tuple[str, str]) -> None:
    results = check(address[0])
    broken = [f"{result.rule_id}: {result.message}" for result in results if result.failed]
    assert not broken
    passed = [result for result in results if result.outcome is Outcome.PASS]
    assert len(passed) >= 21


def test_it_answers_through_the_running_gateway(
    zoo: Zoo, address: tuple[str, str], service: Path, film_path: Path
) -> None:
    five = {name: zoo.grpc(name) for name in NETWORKS}
    with zoo.gateway() as gateway:

        def joined() -> bool:
            states = {each.member_name: each.status for each in gateway.list_models().members}
            # A newcomer is listed while it is being checked, and serves when it has been taken in.
            return "sixth" in states and states["sixth"].code is MemberCode.OK

        assert not joined()
        zoo.write_roster({**five, "sixth": address[0]})
        try:
            wait_for("the sixth in the roster", joined, 90.0)
            answer = gateway.segment(film_path)
            assert [m.status.member_name for m in answer.members] == sorted([*NETWORKS, "sixth"])
            assert {m.status.code for m in answer.members} == {MemberCode.OK}
            assert "sixth" in answer.fused.member_names
            (sixth,) = (m for m in answer.members if m.status.member_name == "sixth")
            assert sixth.prediction is not None
            card = load_card(service / "card.yaml")
            assert sixth.prediction.provenance.weights_sha256 == card.weights_sha256
            found = {segment.structure for segment in sixth.prediction.segments}
            assert Structure.LUMBAR_VERTEBRA in found
            assert_a_large_answer_passes(zoo)
        finally:
            zoo.write_roster(five)
        wait_for("the sixth to leave", lambda: not joined(), 30.0)
        assert len(gateway.segment(film_path).members) == 5


def assert_a_large_answer_passes(zoo: Zoo) -> None:
    """Noise is the worst of masks: its run lengths make an answer above gRPC's own 4 MiB."""
    noise = np.random.default_rng(0).integers(0, 65536, (4096, 3072)).astype(np.uint16)
    with zoo.gateway() as gateway:
        answer = gateway.segment(Film(noise), EnsembleOptions(member_names=("sixth",), quorum=1))
    (member,) = answer.members
    assert member.prediction is not None
    size = sum(len(segment.mask.counts) for segment in member.prediction.segments)
    assert size > 4 << 20, size


def test_plain_bentoml_serve_calls_nobody(address: tuple[str, str], service: Path) -> None:
    assert httpx.get(f"{address[1]}/livez", timeout=10.0).status_code == 200
    calls = (service / "probe" / "calls.txt").read_text()
    assert calls.count(" started ") >= 2, "a supervisor and a worker were to be watched"
    assert not strangers(calls)
