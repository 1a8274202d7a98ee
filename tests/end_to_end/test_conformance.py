"""Every network of the zoo keeps every rule of the contract, as ``make conform`` judges it."""

from __future__ import annotations

import json
import subprocess

import pytest

from end_to_end.support import NETWORKS, Zoo, clean_environment, room_python


@pytest.mark.parametrize("name", NETWORKS)
def test_it_conforms(zoo: Zoo, name: str) -> None:
    done = subprocess.run(
        [
            room_python("libs/contract"),
            "-m",
            "spinezoo_conformance",
            zoo.grpc(name),
            "--json",
        ],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300.0,
    )
    assert done.returncode in (0, 1), done.stderr
    judged = json.loads(done.stdout)
    broken = [rule for rule in judged["rules"] if rule["outcome"] == "fail"]
    assert not broken, json.dumps(broken, indent=1)
    assert judged["conforms"]
    assert done.returncode == 0
    skipped = [rule["rule_id"] for rule in judged["rules"] if rule["outcome"] == "skip"]
    assert not skipped
    assert len(judged["rules"]) >= 23
