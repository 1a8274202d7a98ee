"""The whole zoo under mutual TLS, with access tokens: answers, refusals, renewed certificates."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from spinezoo_contract.client import EnsembleClient, SegmenterClient
from spinezoo_contract.errors import AccessError, NotServingError
from spinezoo_contract.types import MemberCode

from end_to_end.support import (
    NETWORKS,
    Zoo,
    clean_environment,
    phantom_file,
    room_python,
    wait_for,
)

REFUSAL_LIMIT_S = 10.0


class Guarded:
    """A zoo under mutual TLS, its certificates and a token."""

    def __init__(self, folder: Path) -> None:
        self.certificates = folder / "certs"
        self.make_certificates()
        tokens = folder / "tokens.txt"
        made = self._run("-m", "spinezoo_serving.tokens", "new", "tests", "--file", str(tokens))
        self.token = made.stdout.strip()
        self.film = phantom_file(folder / "film.dcm", seed=3)
        self.zoo = Zoo.prepare(
            folder,
            SPINEZOO_TLS="mutual",
            SPINEZOO_TLS_DIR=str(self.certificates),
            SPINEZOO_TOKENS=str(tokens),
            GRPC_VERBOSITY="ERROR",
        )
        # One member goes by a name, which its certificate has to hold.
        roster = self.zoo.roster.read_text()
        target = self.zoo.grpc("pspnet")
        assert target in roster
        self.zoo.roster.write_text(
            roster.replace(target, target.replace("127.0.0.1", "dns:///localhost"))
        )

    @staticmethod
    def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [room_python("libs/contract"), *arguments],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60.0,
            check=True,
        )

    def make_certificates(self, *arguments: str) -> None:
        """Makes them, or makes them anew."""
        self._run("-m", "spinezoo_tools.certs", "--out", str(self.certificates), *arguments)

    def files(self, name: str = "client") -> dict[str, Path]:
        """The arguments of a client that shows a certificate."""
        return {
            "ca_file": self.certificates / "ca.crt",
            "certificate_file": self.certificates / f"{name}.crt",
            "key_file": self.certificates / f"{name}.key",
        }

    def assert_all_answer(self) -> None:
        """Asks for an ensemble as a client that is let in."""
        with EnsembleClient(self.zoo.grpc("gateway"), token=self.token, **self.files()) as client:
            answer = client.segment(self.film)
        assert {member.status.member_name: member.status.code for member in answer.members} == {
            name: MemberCode.OK for name in NETWORKS
        }


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path_factory.mktemp("tls"))
    guarded.zoo.up()
    try:
        yield guarded
    finally:
        guarded.zoo.down()


def test_a_client_with_certificate_and_token_is_answered_by_all(guarded: Guarded) -> None:
    guarded.assert_all_answer()


@pytest.mark.parametrize("name", ["pspnet", "unet"])
def test_plaintext_to_a_member_is_refused(guarded: Guarded, name: str) -> None:
    with SegmenterClient(guarded.zoo.grpc(name)) as client, pytest.raises(NotServingError):
        client.get_model(timeout_s=REFUSAL_LIMIT_S)


def test_plaintext_to_the_gateway_is_refused(guarded: Guarded) -> None:
    with EnsembleClient(guarded.zoo.grpc("gateway")) as client, pytest.raises(NotServingError):
        client.list_models(timeout_s=REFUSAL_LIMIT_S)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_refuses_who_shows_no_certificate(guarded: Guarded, name: str) -> None:
    target = guarded.zoo.grpc(name)
    trusting = {"ca_file": guarded.certificates / "ca.crt"}
    with SegmenterClient(target, **trusting) as client, pytest.raises(NotServingError):
        client.get_model(timeout_s=REFUSAL_LIMIT_S)
    with SegmenterClient(target, **guarded.files()) as client:
        assert client.get_model(timeout_s=REFUSAL_LIMIT_S).name == name


@pytest.mark.parametrize("token", [None, "x" * 43], ids=["none", "foreign"])
def test_the_gateway_refuses_who_has_no_token(guarded: Guarded, token: str | None) -> None:
    target = guarded.zoo.grpc("gateway")
    with (
        EnsembleClient(target, token=token, **guarded.files()) as client,
        pytest.raises(AccessError),
    ):
        client.segment(guarded.film)


def test_renewed_certificates_are_taken_up_without_a_restart(guarded: Guarded) -> None:
    before = guarded.zoo.pids()
    guarded.make_certificates("--force")
    wait_for(
        "gateway dials with its new certificate",
        lambda: "certificates renewed" in guarded.zoo.logs()["gateway"],
        30.0,
    )
    guarded.assert_all_answer()
    wait_for(
        "a member has shown its new certificate",
        lambda: "certificates renewed" in guarded.zoo.logs()["pspnet"],
        30.0,
    )
    assert guarded.zoo.pids() == before


def test_logs_hold_no_token_and_no_key(guarded: Guarded) -> None:
    secrets = [guarded.token]
    for path in guarded.certificates.glob("*.key"):
        secrets += [line for line in path.read_text().splitlines() if "-" not in line]
    for name, text in guarded.zoo.logs().items():
        assert text, name
        assert not [secret for secret in secrets if secret in text], name
