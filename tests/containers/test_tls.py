"""The composition with compose.tls.yaml: nobody is heard without a certificate."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from spinezoo_contract.client import EnsembleClient
from spinezoo_contract.errors import AccessError, SpineZooError
from spinezoo_contract.types import EnsembleOptions, MemberCode
from spinezoo_tools import compose, engine
from spinezoo_tools.composition import (
    NETWORKS,
    ROOT,
    Composition,
    Load,
    composition_file,
)
from spinezoo_tools.environments import python_of

from containers.needed import need_images
from containers.newcomers import MEMBER, OLD, Newcomers
from containers.test_swap import swap


def test_every_container_has_a_certificate_of_its_own_and_members_ask_for_one() -> None:
    services = composition_file("compose.tls.yaml")["services"]
    assert sorted(services) == sorted([*NETWORKS, "gateway", "evaluator"])
    for name, service in services.items():
        folder = f"${{SPINEZOO_COMPOSE_TLS_DIR:-./certs/compose}}/{name}:/etc/spinezoo/tls:ro"
        assert service["volumes"] == [folder]
        if name != "gateway":
            assert service["environment"]["SPINEZOO_TLS"] == "mutual"
    assert services["gateway"]["environment"]["SPINEZOO_CLIENT_TLS"] == "mutual"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `make certs`, with what containers see below ``compose``."""
    python = python_of(ROOT, ROOT / "tools")
    if not python.exists():
        pytest.skip("the environment of tools is not set up; run `make setup`")
    folder = tmp_path_factory.mktemp("tls") / "certs"
    command = [str(python), "-m", "spinezoo_tools.certs", "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=120.0)
    compose.certs(folder, folder / "compose")
    return folder


def test_a_container_sees_its_own_key_only(certificates: Path) -> None:
    seen = sorted(path.name for path in (certificates / "compose" / MEMBER).iterdir())
    assert seen == ["ca.crt", "tls.crt", "tls.key"]
    # On the machine itself the way to the keys is closed to other users.
    assert certificates.stat().st_mode & 0o077 == 0
    with pytest.raises(engine.ContainersError, match="make certs"):
        compose.certs(certificates / "nothing", certificates / "compose")


@pytest.fixture(scope="module")
def closed(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """Gateway and one network under TLS; the gateway asks for a token too."""
    need_images()
    tokens = certificates / "compose" / "gateway" / "tokens.txt"
    command = [sys.executable, "-m", "spinezoo_serving.tokens", "new", "tests"]
    made = subprocess.run(
        [*command, "--file", str(tokens)], check=True, capture_output=True, text=True, timeout=60.0
    )
    tokens.chmod(0o644)  # the container's user is not its owner
    composition = Composition.prepare(
        tmp_path_factory.mktemp("site"),
        "spinezootls",
        COMPOSE_FILE="compose.yaml:compose.tls.yaml",
        SPINEZOO_COMPOSE_TLS_DIR=str(certificates / "compose"),
        SPINEZOO_QUORUM="1",
        SPINEZOO_COMPOSE_TOKENS="/etc/spinezoo/tls/tokens.txt",
        SPINEZOO_TOKEN=made.stdout.strip(),
    )
    composition.client = {
        "ca_file": str(certificates / "ca.crt"),
        "token": composition.environment["SPINEZOO_TOKEN"],
    }
    try:
        composition.compose("up", "-d", "--no-build", MEMBER, "gateway")
        composition.wait_healthy(MEMBER, "gateway")
        yield composition
    finally:
        composition.down()


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    """A browser; it does not know the certificates' authority, which the test before checks."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = program
    options.accept_insecure_certs = True
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    made = webdriver.Chrome(options=options, service=Service(driver))
    yield made
    made.quit()


def test_a_film_passes_under_tls(closed: Composition, certificates: Path, film_path: Path) -> None:
    with closed.gateway() as gateway:
        answer = gateway.segment(film_path, EnsembleOptions(member_names=(MEMBER,)))
    (member,) = answer.members
    assert member.status.code is MemberCode.OK, member.status.message
    with EnsembleClient(closed.target) as gateway, pytest.raises(SpineZooError):
        gateway.list_models()
    ca_file = str(certificates / "ca.crt")
    with EnsembleClient(closed.target, ca_file=ca_file) as gateway, pytest.raises(AccessError):
        gateway.list_models()


def test_the_page_under_tls_shows_the_login_alone_without_a_token(
    closed: Composition, certificates: Path, film_path: Path
) -> None:
    trust = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    with httpx.Client(base_url=f"https://{closed.page}", verify=trust, timeout=120.0) as page:
        assert page.get("/").status_code == 200
        assert page.get("/v1/access").status_code == 401
        assert page.get("/page/free/app.js").status_code == 404
        page.headers["Authorization"] = f"Bearer {closed.environment['SPINEZOO_TOKEN']}"
        access = page.get("/v1/access").json()
        assert page.get(f"{access['page']}app.js").status_code == 200
        form = {"members": MEMBER, "quorum": "1"}
        film = {"film": film_path.read_bytes()}
        answer = page.post("/v1/segment", files=film, data=form)
        assert answer.status_code == 200, answer.text
        assert [member["code"] for member in answer.json()["members"]] == ["ok"]


def test_a_person_logs_in_and_sees_a_film_answered(
    closed: Composition, chromium: webdriver.Chrome, film_path: Path
) -> None:
    def number(css: str) -> int:
        return len(chromium.find_elements(By.CSS_SELECTOR, css))

    chromium.get(f"https://{closed.page}/")
    wait = WebDriverWait(chromium, 120.0)
    wait.until(lambda _: number("#login[open]"))
    assert chromium.find_element(By.ID, "app").text == ""
    chromium.find_element(By.ID, "token").send_keys(closed.environment["SPINEZOO_TOKEN"])
    chromium.find_element(By.ID, "login-go").click()
    wait.until(lambda _: number("#app[data-ready]"))
    chromium.find_element(By.ID, "film-file").send_keys(str(film_path))
    # One of the five networks runs: it answers, the others are named as missing.
    wait.until(lambda _: number(f".network.ok[data-network='{MEMBER}']"))
    assert number(".network") == len(NETWORKS)
    assert number(".network.ok") == 1
    wait.until(lambda _: number(".pane .shape") > 5)


def test_a_member_is_swapped_under_tls(
    closed: Composition, newcomers: Newcomers, film_path: Path
) -> None:
    with Load(closed, film_path, MEMBER, members=False) as load:
        load.wait_for(5)
        done = swap(closed, newcomers.bad)
        assert "the newcomer is refused, the old one stays: rule C09" in done.stderr, done.stderr
        assert load.images().keys() == {OLD.image}
        done = swap(closed, newcomers.good)
        assert done.returncode == 0, done.stderr
        after = len(load.answers)
        load.wait_for(10)
    assert not load.failures, load.failures[:5]
    assert load.images(after).keys() == {newcomers.good}


CALL = """
from spinezoo_contract.client import SegmenterClient
tls = "/etc/spinezoo/tls/"
with SegmenterClient("{member}:50053", **{flags}) as client:
    print(client.get_model().name)
"""


def test_a_member_refuses_a_call_without_a_certificate(closed: Composition) -> None:
    own = "dict(certificate_file=tls + 'tls.crt', key_file=tls + 'tls.key', ca_file=tls + 'ca.crt')"
    with_it = closed.python("gateway", CALL.format(member=MEMBER, flags=own))
    assert with_it.stdout.strip() == MEMBER, with_it.stderr
    for flags in ("dict(ca_file=tls + 'ca.crt')", "{}"):
        without = closed.python("gateway", CALL.format(member=MEMBER, flags=flags))
        assert without.returncode != 0
        assert MEMBER not in without.stdout
        assert "Unavailable" in without.stderr or "NotServing" in without.stderr, without.stderr
