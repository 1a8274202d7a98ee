from __future__ import annotations

from pathlib import Path

import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_gateway.roster import Member, load_roster
from spinezoo_gateway.settings import GatewaySettings

REPOSITORY = Path(__file__).resolve().parents[2]


def roster(tmp_path: Path, text: str, **environment: str) -> tuple[Member, ...]:
    path = tmp_path / "roster.yaml"
    path.write_text(text)
    return load_roster(path, environment).members


def test_members_are_sorted_and_defaults_filled(tmp_path: Path) -> None:
    text = """
members:
  - name: unet
    target: 127.0.0.1:50054
  - {name: pspnet, target: "dns:///pspnet:50053", weight: 2.5, deadline_ms: 800}
"""
    assert roster(tmp_path, text) == (
        Member("pspnet", "dns:///pspnet:50053", 2.5, 800),
        Member("unet", "127.0.0.1:50054"),
    )


@pytest.mark.parametrize(
    "target",
    ["localhost:1", "[::1]:50051", "dns:///a.b.c:65535", "ipv4:10.0.0.1:5,10.0.0.2:5", "unix:/a/b"],
)
def test_targets_that_grpc_knows(tmp_path: Path, target: str) -> None:
    assert roster(tmp_path, f"members: [{{name: a, target: '{target}'}}]")[0].target == target


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ":1: empty"),
        ("members: {a: b}", ":1: write `members:`"),
        ("networks: []", ":1: unknown key 'networks'"),
        ("members: []", "names no member"),
        ("members:\n", "names no member"),
        ("members:\n  - name: a\n    target: [", ":3: not YAML"),
        ("[" * 20_000, ": not YAML"),
        ("members:\n  - name: a", ":2: a member needs a target"),
        ("members:\n  - target: a:1", ":2: a member needs a name"),
        ("members:\n  - name: A\n    target: a:1", ":2: name 'A'"),
        ("members:\n  - name: a\n    target: a", ":3: target 'a' is not host:port"),
        ("members:\n  - name: a\n    target: a:0", ":3: target 'a:0' is not host:port"),
        ("members:\n  - name: a\n    target: a:70000", ":3: target"),
        ("members:\n  - name: a\n    target: http://a:1", ":3: target"),
        ("members:\n  - name: a\n    target: 'dns:///'", ":3: target"),
        ("members:\n  - name: a\n    target: a:1\n    weight: 0", ":4: weight must be"),
        ("members:\n  - name: a\n    target: a:1\n    weight: .nan", ":4: weight must be"),
        ("members:\n  - name: a\n    target: a:1\n    deadline_ms: soon", ":4: deadline_ms must"),
        (
            "members:\n  - {name: a, target: 'a:1', deadline_ms: 3600001}",
            ":2: deadline_ms is 3600001; write at most 3600000",
        ),
        ("members:\n  - name: a\n    target: a:1\n    colour: red", ":4: unknown key 'colour'"),
        ("members:\n  - name: a\n    name: b\n    target: a:1", ":3: key 'name' stands twice"),
        (
            "members:\n  - {name: a, target: 'a:1'}\n  - {name: a, target: 'a:2'}",
            ":3: member 'a' stands twice, first at line 2",
        ),
    ],
)
def test_a_wrong_roster_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        roster(tmp_path, text)
    assert says in str(caught.value)
    assert "roster.yaml" in str(caught.value)


def test_the_environment_adds_moves_and_removes(tmp_path: Path) -> None:
    text = "members: [{name: a, target: 'a:1', weight: 3}, {name: b, target: 'b:1'}]"
    members = roster(
        tmp_path,
        text,
        SPINEZOO_ROSTER_A="c:2",
        SPINEZOO_ROSTER_B="",
        SPINEZOO_ROSTER_MASK_RCNN="d:3",
        SPINEZOO_MEMBER_DEADLINE_MS="60000",
        SPINEZOO_ROSTER="a file",
    )
    assert members == (Member("a", "c:2", 3.0), Member("mask_rcnn", "d:3"))


def test_a_network_may_have_the_name_of_a_setting(tmp_path: Path) -> None:
    members = roster(
        tmp_path,
        "members: [{name: a, target: 'a:1'}]",
        SPINEZOO_ROSTER_DEADLINE_MS="b:2",
        SPINEZOO_MEMBER_DEADLINE_MS="60000",
    )
    assert [member.name for member in members] == ["a", "deadline_ms"]


def test_a_wrong_override_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SPINEZOO_ROSTER_A: target 'nowhere'"):
        roster(tmp_path, "members: [{name: a, target: 'a:1'}]", SPINEZOO_ROSTER_A="nowhere")


def test_two_variables_of_one_member_are_refused(tmp_path: Path) -> None:
    both = {"SPINEZOO_ROSTER_A": "a:1", "SPINEZOO_ROSTER_a": "a:2"}
    with pytest.raises(ConfigurationError, match="SPINEZOO_ROSTER_A and SPINEZOO_ROSTER_a"):
        roster(tmp_path, "members:", **both)


def test_an_absent_file_says_which_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SPINEZOO_ROSTER"):
        load_roster(tmp_path / "absent.yaml", {})


def test_the_shipped_roster_has_every_network_of_the_repository_and_its_port() -> None:
    members = load_roster(REPOSITORY / "gateway" / "roster.yaml", {}).members
    networks = sorted(card.parent.name for card in REPOSITORY.glob("services/*/card.yaml"))
    assert set(networks) <= {member.name for member in members}
    ports = dict(
        line.split("=", 1)
        for line in (REPOSITORY / ".env").read_text().splitlines()
        if "_GRPC_PORT=" in line
    )
    for member in members:
        assert member.target.endswith(":" + ports[f"SPINEZOO_{member.name.upper()}_GRPC_PORT"])


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    settings = GatewaySettings.from_env(
        {"SPINEZOO_ROSTER": str(tmp_path / "r.yaml"), "SPINEZOO_QUORUM": "2"}
    )
    assert (settings.roster, settings.quorum) == (tmp_path / "r.yaml", 2)
    assert settings.member_deadline_ms == 60_000
    assert (settings.check_newcomers, settings.newcomer_s) == (True, 120.0)
    off = GatewaySettings.from_env({"SPINEZOO_CHECK_NEWCOMERS": "0", "SPINEZOO_NEWCOMER_S": "7.5"})
    assert (off.check_newcomers, off.newcomer_s) == (False, 7.5)
    with pytest.raises(ConfigurationError, match="SPINEZOO_CHECK_NEWCOMERS"):
        GatewaySettings.from_env({"SPINEZOO_CHECK_NEWCOMERS": "perhaps"})
    with pytest.raises(ConfigurationError, match="SPINEZOO_QUORUM"):
        GatewaySettings.from_env({"SPINEZOO_QUORUM": "0"})
