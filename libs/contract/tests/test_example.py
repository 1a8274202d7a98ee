# ruff: noqa: N802 - the methods are named by the contract
"""The example client against a server: what it writes, and what it says when it cannot."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from spinezoo.v1 import ensemble_pb2_grpc
from spinezoo_conformance import films as synthetic
from spinezoo_contract import codec
from spinezoo_contract.masks import decode_mask, encode_mask, mask_box
from spinezoo_contract.types import (
    BodyCorner,
    BodyLandmarks,
    EnsembleAnswer,
    Facing,
    FilmMeasures,
    FusedAnswer,
    FusionRule,
    GatewayTiming,
    Labelling,
    Landmark,
    Measure,
    MeasureKind,
    MeasureUnit,
    MemberAnswer,
    MemberCode,
    MemberStatus,
    NamedVertebra,
    Point,
    Prediction,
    Provenance,
    RunLengthMask,
    Segment,
    SegmentKind,
    Structure,
    UnnamedReason,
    WithheldReason,
)

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "segment_film.py"
PIXELS = synthetic.spine_like_pixels(96, 64)


def _answer() -> EnsembleAnswer:
    pixels = np.zeros(PIXELS.shape, dtype=bool)
    pixels[20:40, 10:30] = True
    mask = encode_mask(pixels)
    segment = Segment(Structure.CAGE, SegmentKind.REGION, mask, 0.5, mask_box(mask))
    provenance = Provenance("unet", "0.1.0", "lite", "a" * 64, "x", "cpu")
    return EnsembleAnswer(
        96,
        64,
        (
            MemberAnswer(
                MemberStatus("unet", MemberCode.OK, 5.0),
                Prediction(96, 64, (segment,), provenance),
            ),
            MemberAnswer(MemberStatus("yolact", MemberCode.UNAVAILABLE, 1.0, "not there"), None),
        ),
        FusedAnswer((segment,), mask, FusionRule.MAJORITY, ("unet",)),
        GatewayTiming(1.0, 1.0, 1.0, 3.0),
    )


class Gateway(ensemble_pb2_grpc.EnsembleServiceServicer):
    def Segment(self, request: Any, context: Any) -> Any:
        return codec.to_proto(_answer())


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    ensemble_pb2_grpc.add_EnsembleServiceServicer_to_server(Gateway(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait(5)


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_writes_json_and_overlay(target: str, tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(synthetic.png_bytes(PIXELS))
    result = _run(film, "--target", target, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "unet         ok                 1 outline" in result.stdout
    assert "yolact       unavailable        not there" in result.stdout
    document = json.loads((tmp_path / "out" / "film.png.segments.json").read_text(encoding="utf-8"))
    mask = document["fused"]["segments"][0]["mask"]
    pixels = decode_mask(RunLengthMask(*mask["size"], mask["counts"].encode()))
    assert pixels.sum() == 400

    with Image.open(tmp_path / "out" / "film.png.overlay.png") as picture:
        drawn = np.asarray(picture).astype(int)
    assert drawn.shape == (96, 64, 3)
    coloured = np.ptp(drawn, axis=2) > 0
    assert (coloured == pixels).all()
    assert tuple(drawn[20, 15]) == (240, 228, 66)


def test_films_of_like_names_do_not_overwrite_each_other(target: str, tmp_path: Path) -> None:
    names = ("1.2.840.5", "1.2.840.6", "1.2.840.7.dcm", "film.jpg", "film.png")
    for name in names:
        film = tmp_path / name
        film.write_bytes(synthetic.png_bytes(PIXELS))
        assert _run(film, "--target", target, "--out", tmp_path / "out").returncode == 0
    written = sorted(path.name for path in (tmp_path / "out").glob("*.json"))
    assert written == [f"{name}.segments.json" for name in names]


@pytest.mark.parametrize("name", ["film.dcm", "film.tif"])
def test_a_film_that_cannot_be_drawn_is_answered_all_the_same(
    target: str, tmp_path: Path, name: str
) -> None:
    film = tmp_path / name
    # No decoder here reads it; the gateway of this test looks at no pixel.
    film.write_bytes(b"\0" * 128 + b"DICM" if name.endswith("dcm") else b"II*\0" + b"\0" * 60)
    result = _run(film, "--target", target, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "no overlay: " in result.stdout
    assert (tmp_path / "out" / f"{name}.segments.json").is_file()


def test_a_folder_that_cannot_be_written_is_named(target: str, tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(synthetic.png_bytes(PIXELS))
    result = _run(film, "--target", target, "--out", film)
    assert result.returncode == 1
    assert "--out" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_full_disk_is_named_and_leaves_the_old_answer(target: str, tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(synthetic.png_bytes(PIXELS))
    old = tmp_path / "out" / "film.png.segments.json"
    old.parent.mkdir()
    old.write_text("old")

    def run_with_room(most: int) -> str:
        limited = (
            f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({most},) * 2)"
            "; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        arguments = [EXAMPLE, film, "--target", target, "--out", old.parent]
        command = [sys.executable, "-c", limited, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 1
        return result.stderr

    assert f"{old} cannot be written (File too large)" in run_with_room(100)
    assert list(old.parent.iterdir()) == [old]
    assert old.read_text() == "old"
    assert _run(film, "--target", target, "--out", tmp_path / "whole").returncode == 0
    answer, picture = sorted((tmp_path / "whole").iterdir(), key=lambda each: each.stat().st_size)
    assert answer.name == old.name
    told = run_with_room(answer.stat().st_size)
    assert f"{picture.name} cannot be written (File too large)" in told
    assert list(old.parent.iterdir()) == [old]


def test_two_films_of_one_name_are_not_compared_into_one_file(tmp_path: Path) -> None:
    measure = EXAMPLE.with_name("measure_film.py")
    films = [tmp_path / year / "film.dcm" for year in ("2019", "2021")]
    result = subprocess.run(
        [sys.executable, measure, films[0], "--compare", films[1], "--target", "127.0.0.1:1"],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 1
    assert "one name" in result.stderr


def test_draws_and_prints_the_named_column(tmp_path: Path) -> None:
    def vertebra(top: int, level: str | None, sure: float = 0.97) -> NamedVertebra:
        pixels = np.zeros((240, 160), dtype=bool)
        pixels[top : top + 60, 50:110] = True
        mask = encode_mask(pixels)
        kind = SegmentKind.INSTANCE
        body = Segment(Structure.LUMBAR_VERTEBRA, kind, mask, 0.9, mask_box(mask), level)
        return NamedVertebra(body, sure, None if level else UnnamedReason.SPACING)

    class Named(ensemble_pb2_grpc.EnsembleServiceServicer):
        def Segment(self, request: Any, context: Any) -> Any:
            bodies = (vertebra(20, None), vertebra(120, "L5"), vertebra(180, "S1", 1.0))
            column = Labelling(bodies, True, ("L4",))
            region = column.vertebrae[0].segment
            whole = encode_mask(np.ones((240, 160), dtype=bool))
            region = Segment(region.structure, SegmentKind.REGION, whole, 0.5, mask_box(whole))
            fused = FusedAnswer((region,), whole, FusionRule.MAJORITY, ("unet",), column)
            timing = GatewayTiming(1.0, 1.0, 1.0, 3.0)
            return codec.to_proto(EnsembleAnswer(240, 160, (), fused, timing))

    server = grpc.server(futures.ThreadPoolExecutor(1))
    ensemble_pb2_grpc.add_EnsembleServiceServicer_to_server(Named(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    film = tmp_path / "film.png"
    film.write_bytes(synthetic.png_bytes(synthetic.spine_like_pixels(240, 160)))
    try:
        result = _run(film, "--target", f"127.0.0.1:{port}", "--out", tmp_path)
    finally:
        server.stop(0).wait(5)
    assert result.returncode == 0, result.stderr
    assert "L5 97%" in result.stdout
    assert "S1 >99%" in result.stdout
    assert "no name (spacing)" in result.stdout
    assert "not found: L4" in result.stdout
    with Image.open(tmp_path / "film.png.overlay.png") as picture:
        drawn = np.asarray(picture)
    assert tuple(drawn[20, 80]) == (190, 190, 190)  # the border of the one without a name
    assert tuple(drawn[120, 80]) == (86, 180, 233)
    assert np.ptp(drawn[5], axis=-1).max() == 0  # the region of the class is not drawn
    for top in (20, 120):  # names stand upon their vertebrae
        assert (drawn[top + 15 : top + 45, 60:100] == 255).all(axis=-1).any()


def test_asks_with_tls_and_token(certificates: Any, tmp_path: Path) -> None:
    class Asked(ensemble_pb2_grpc.EnsembleServiceServicer):
        def Segment(self, request: Any, context: Any) -> Any:
            asked.append(dict(context.invocation_metadata()).get("authorization"))
            return codec.to_proto(_answer())

    asked: list[str | None] = []
    pems = [certificates.path(name).read_bytes() for name in ("server.key", "server.crt", "ca.crt")]
    server = grpc.server(futures.ThreadPoolExecutor(1))
    ensemble_pb2_grpc.add_EnsembleServiceServicer_to_server(Asked(), server)
    credentials = grpc.ssl_server_credentials([(pems[0], pems[1])], pems[2], True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    film, token = tmp_path / "film.png", tmp_path / "token"
    film.write_bytes(synthetic.png_bytes(PIXELS))
    token.write_text("spinezoo_abc\n")
    common = (film, "--target", f"127.0.0.1:{port}", "--out", tmp_path)
    files = [
        argument
        for option, name in (("--ca", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key"))
        for argument in (option, certificates.path(name))
    ]
    try:
        result = _run(*common, *files, "--token-file", token)
        assert result.returncode == 0, result.stderr
        assert _run(*common, *files, "--server-name", "pspnet").returncode == 0
        assert "another name" in _run(*common, *files, "--server-name", "unet").stderr
        assert "with TLS" in _run(*common).stderr
        assert "ConfigurationError" in _run(*common, *files[2:]).stderr
    finally:
        server.stop(0).wait(5)
    assert asked == ["Bearer spinezoo_abc", None]


def test_the_environment_of_the_readme_draws_dicom_films(target: str, tmp_path: Path) -> None:
    environment = Path(sys.prefix).name
    command = f".venvs/{environment}/bin/python examples/segment_film.py film.dcm --out answer"
    assert command in (EXAMPLE.parents[1] / "README.md").read_text(encoding="utf-8")
    film = tmp_path / "film.dcm"
    film.write_bytes(synthetic.dicom_bytes(PIXELS))
    result = _run(film, "--target", target, "--member", "unet", "--out", tmp_path / "answer")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "answer" / "film.dcm.segments.json").is_file()
    assert (tmp_path / "answer" / "film.dcm.overlay.png").is_file()


def test_dicom_without_pydicom_still_writes_json(target: str, tmp_path: Path) -> None:
    film = tmp_path / "film.dcm"
    film.write_bytes(synthetic.dicom_bytes(PIXELS))
    without = "import runpy, sys; sys.modules['pydicom'] = None; sys.argv.pop(0); "
    run = f"{without}runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", run, str(EXAMPLE), str(film), "--target", target]
    result = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "no overlay: pydicom is missing; pip install pydicom" in result.stdout
    assert (tmp_path / "film.dcm.segments.json").is_file()


def test_says_what_is_wrong(target: str, tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(synthetic.png_bytes(PIXELS))
    result = _run(tmp_path / "gone.png", "--target", target)
    assert result.returncode == 1
    assert "FilmError" in result.stderr
    result = _run(film, "--target", target, "--member", "yolact", "--out", tmp_path)
    assert result.returncode == 1
    assert "yolact gave no answer: not there" in result.stderr
    result = _run(film, "--target", "127.0.0.1:1", "--out", tmp_path)
    assert result.returncode == 1
    assert "is the server running at this address" in result.stderr


def test_only_discs_that_were_measured_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    measure_film = importlib.import_module("measure_film")

    def body(level: str, top: float) -> BodyLandmarks:
        places = ((20.0, top), (60.0, top), (60.0, top + 30.0), (20.0, top + 30.0))
        corners = [
            Landmark(corner, Point(*place), 1.0)
            for corner, place in zip(BodyCorner, places, strict=True)
        ]
        return BodyLandmarks(level, 0, tuple(corners), (), None, None, 0.0)

    def lines(value: float | None, *levels: str) -> int:
        reason = None if value is not None else WithheldReason.TOO_UNSURE
        disc = Measure(
            MeasureKind.DISC_ANGLE, levels, MeasureUnit.DEGREE, value, withheld_reason=reason
        )
        bodies = (body("L2", 20.0), body("L4", 100.0))
        measures = FilmMeasures(Facing.RIGHT, 1.0, None, bodies, (disc,))
        picture = measure_film.measures_picture(np.zeros((160, 96), np.uint8), measures)
        return int((np.asarray(picture) == measure_film.LENGTH).all(axis=-1).sum())

    assert lines(4.0, "L2", "L4") > 0
    assert lines(None, "L2", "L4") == 0  # withheld
    assert lines(4.0, "L2", "L3") == 0  # another disc: what lies between was not found
