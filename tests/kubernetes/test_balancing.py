"""The gateway's client finds and balances over the pods behind a headless Service's short name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from spinezoo_tools.environments import python_of

HERE = Path(__file__).resolve().parent
PYTHON = python_of(HERE.parents[1], HERE.parents[1] / "gateway")


def unshare() -> list[str]:
    """The command that gives a child a network and mounts of its own."""
    for more in ([], ["--map-root-user"]):
        command = ["unshare", "--mount", "--net", *more]
        probe = "ip link set lo up && mount --bind /etc/hostname /etc/resolv.conf"
        if (
            all(map(shutil.which, ("unshare", "ip", "mount")))
            and not subprocess.run(
                [*command, "sh", "-c", probe], capture_output=True, timeout=60
            ).returncode
        ):
            return command
    pytest.skip("namespaces of its own are not allowed here (unshare), or `ip` is absent")


def test_the_gateway_uses_every_pod_that_comes_and_leaves_one_that_goes(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip("the gateway is not set up: run `make setup`")
    # The module is imported before there is a pod's resolv.conf to bind, so by its file.
    from kubernetes.headless import RESOLV_CONF

    (tmp_path / "resolv.conf").write_text(RESOLV_CONF)
    environment = {key: value for key, value in os.environ.items() if "SPINEZOO" not in key}
    done = subprocess.run(
        [*unshare(), PYTHON, "-m", "kubernetes.headless", tmp_path / "resolv.conf"],
        cwd=HERE.parent, capture_output=True, text=True, timeout=400, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    first, second = found["balanced"].values()
    # Round robin: both have the same number but for calls under way while one connects.
    assert abs(first - second) <= max(first, second) // 2
    assert found["failures"] == []
    # A pod that is added gets its share while the others go on.
    assert found["added"]["127.0.0.4"] >= 20
    assert found["replaced"]["127.0.0.4"] >= 40
    # The one that is taken away ends what it has begun.
    assert found["replaced"]["127.0.0.3"] - found["added"]["127.0.0.3"] <= 10
