"""A stranger's tool against the running gateway: reflection and one answer."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from spinezoo_conformance import films as synthetic

from end_to_end.support import NETWORKS, Zoo

BUF = Path(sys.executable).parent / "buf"


def curl(target: str, *arguments: str, method: str = "") -> str:
    """Standard output of ``buf curl``, which knows nothing but the address."""
    done = subprocess.run(
        [
            str(BUF),
            "curl",
            "--protocol",
            "grpc",
            "--http2-prior-knowledge",
            *arguments,
            f"http://{target}/{method}".removesuffix("/"),
        ],
        capture_output=True,
        text=True,
        timeout=60.0,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_services_are_listed_by_reflection(zoo: Zoo) -> None:
    assert "spinezoo.v1.EnsembleService" in curl(zoo.grpc("gateway"), "--list-services")
    methods = curl(zoo.grpc("gateway"), "--list-methods").split()
    for name in ("Segment", "SegmentStream", "ListModels"):
        assert f"spinezoo.v1.EnsembleService/{name}" in methods
    assert "grpc.health.v1.Health/Check" in methods
    for name in NETWORKS:
        assert "spinezoo.v1.SegmenterService" in curl(zoo.grpc(name), "--list-services")
    assert "spinezoo.v1.EvaluationService" in curl(zoo.grpc("evaluator"), "--list-services")


def test_a_film_is_answered(zoo: Zoo, tmp_path: Path) -> None:
    pixels = synthetic.spine_like_pixels(256, 192)
    raw = {
        "pixelType": "PIXEL_TYPE_UINT8",
        "height": 256,
        "width": 192,
        "data": base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode(),
    }
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"image": {"raw": raw}}))
    answer = json.loads(
        curl(
            zoo.grpc("gateway"),
            "--data",
            f"@{request}",
            method="spinezoo.v1.EnsembleService/Segment",
        )
    )
    assert (answer["height"], answer["width"]) == (256, 192)
    assert [member["status"]["memberName"] for member in answer["members"]] == list(NETWORKS)
    assert {member["status"]["code"] for member in answer["members"]} == {"MEMBER_CODE_OK"}
    assert answer["fused"]["memberNames"] == list(NETWORKS)
