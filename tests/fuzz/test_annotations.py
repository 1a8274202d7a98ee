"""Annotation files made by chance: nothing but our errors, no hang, little memory.

Short in every test run; ``SPINEZOO_FUZZ_MINUTES`` sets how long it goes on. Valid files of every
form are changed as values (a node replaced, removed, doubled) and as bytes (cut, flipped, in
another encoding). A fault found becomes a small input in ``libs/spine/tests``.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fuzz.rounds import guided_by_coverage
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from spinezoo_contract.errors import SpineZooError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.coco import write_coco
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.folder import read_annotations_raw
from spinezoo_spine.annotations.lint import lint_folder
from spinezoo_spine.annotations.raster import label_map, segments_from_regions
from spinezoo_spine.annotations.regions import FilmAnnotation, Region
from spinezoo_spine.annotations.via import write_via

MINUTES = float(os.environ.get("SPINEZOO_FUZZ_MINUTES", "0"))

MOST_S = 5.0
"""Longest that one input may take, in s; it is measured in the process's own time."""

MOST_MIB = 1024
"""Most memory that the process may ever hold, in MiB."""

SIZES = {"film ä.png": (48, 40), "b.png": (32, 64)}
REGIONS = (
    Region(Structure.LUMBAR_VERTEBRA, [[4.5, 5], [30, 6], [29, 20.25], [5, 19]], "L4"),
    Region(Structure.CAGE, [[4, 22], [30, 22], [30, 26], [4, 26]], "L4/L5"),
    Region(Structure.SCREW, [[10, 10], [38, 12], [38, 15], [10, 13]]),
)
FILMS = [FilmAnnotation("film ä.png", REGIONS), FilmAnnotation("b.png", REGIONS[1:2])]

ODD: list[Any] = [
    None, True, False, 0, 1, -1, 3.5, 1e308, -1e308, float("nan"), float("inf"), 10**400, 2**63,
    "", " ", "0", "1e999", "undefined", "../../x.png", "C:\\b.png", "B.PNG", "b.bmp", "\ud800",
    "\x00", "é" * 300, [], [[]], {}, {"a": []}, [1, 2], ["x"], [None], {"": None},
    [0, 0, 9, 0, 9, 9], {"size": [48, 40], "counts": [1920]}, {"size": [48, 40], "counts": "0"},
    {"size": [10**6, 10**6], "counts": "PPPP"}, {"name": "circle", "cx": 9, "cy": 9, "r": 1e5},
    {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1]}, "polyline", "extreme_circle",
    [7, 0, 0, 9, 0, 9, 9], [4, 1, 2, 3, 4], [0.0, 1e6, 1e6, -1e6, -1e6, 1e6], 999_999.5,
]  # fmt: skip


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """(suffix, text) of valid files of every form."""
    folder = tmp_path_factory.mktemp("seeds")
    found = []
    for version in (1, 2, 3):
        for suffix in (".json", ".csv"):
            write_via(folder / f"a{suffix}", FILMS, version=version)
            found.append((suffix, (folder / f"a{suffix}").read_text(encoding="utf-8")))
    for run_lengths in (False, True):
        write_coco(folder / "a.json", FILMS, SIZES, run_lengths=run_lengths)
        found.append((".json", (folder / "a.json").read_text(encoding="utf-8")))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the films."""
    place = tmp_path_factory.mktemp("films")
    for name, size in SIZES.items():
        done, data = cv2.imencode(
            ".png", np.arange(size[0] * size[1], dtype=np.uint16).reshape(size)
        )
        assert done
        (place / name).write_bytes(data.tobytes())
    return place


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) within a value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], (dict, list)):
            _places(value[key], found)
    return found


def _change(draw: Callable[..., Any], value: Any) -> None:
    """One change of a value in place."""
    places = _places(value, [])
    if not places:
        return
    container, key = places[draw(st.integers(0, len(places) - 1))]
    how = draw(st.sampled_from(["replace", "replace", "remove", "double", "swap", "rename"]))
    if how == "replace":
        container[key] = json.loads(json.dumps(draw(st.sampled_from(ODD))))
    elif how == "remove":
        del container[key]
    elif how == "double" and isinstance(container, list):
        container.extend([container[key]] * draw(st.sampled_from([1, 1, 3, 400])))
    elif how == "swap":
        other, other_key = places[draw(st.integers(0, len(places) - 1))]
        if not isinstance(container[key], (dict, list)) and not isinstance(
            other[other_key], (dict, list)
        ):
            container[key], other[other_key] = other[other_key], container[key]
    elif isinstance(container, dict):
        container[draw(st.sampled_from(["id", "regions", "size", "name", "x", ""]))] = (
            container.pop(key)
        )


@st.composite
def files(draw: Callable[..., Any], seeds: list[tuple[str, str]]) -> tuple[str, bytes]:
    """(suffix, bytes) of a file that is nearly one of the forms."""
    suffix, text = draw(st.sampled_from(seeds))
    mode = draw(st.sampled_from(["values"] * 5 + ["text", "text", "bytes"]))
    if mode == "values" and suffix == ".json":
        value = json.loads(text)
        for _ in range(draw(st.integers(1, 6))):
            _change(draw, value)
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    elif mode == "values":
        text = _changed_cells(draw, text)
    elif mode == "text":
        for _ in range(draw(st.integers(1, 3))):
            place = draw(st.integers(0, len(text)))
            length = draw(st.sampled_from([0, 1, 2, 9, 100]))
            put = draw(
                st.one_of(
                    st.text(max_size=4),
                    st.sampled_from(['"', "{", "}", "[", "]", ",", "\n", "#", "1e999", "[" * 3000]),
                )
            )
            text = text[:place] + put + text[place + length :]
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"]))
    data = bytearray(text.encode(encoding, errors="replace"))
    if mode == "bytes":
        for _ in range(draw(st.integers(1, 4))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        del data[draw(st.sampled_from([len(data), len(data), draw(st.integers(0, len(data)))])) :]
    return suffix, bytes(data)


def _changed_cells(draw: Callable[..., Any], text: str) -> str:
    """A CSV text with some cells changed, and perhaps another separator."""
    lines = text.split("\n")
    comments = [line for line in lines if line.startswith("# ")]
    rows = list(csv.reader(line for line in lines if not line.startswith("# ")))
    for _ in range(draw(st.integers(1, 4))):
        row = rows[draw(st.integers(0, len(rows) - 1))]
        place = draw(st.integers(0, max(len(row) - 1, 0)))
        if not row:
            continue
        try:
            value = [json.loads(row[place])]
        except ValueError:
            value = [row[place]]
        _change(draw, value)
        row[place] = json.dumps(value[0]) if value else ""
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=draw(st.sampled_from([",", ",", ";", "\t"]))).writerows(rows)
    return "\n".join([*comments, buffer.getvalue()])


def use(folder: Path, suffix: str, data: bytes) -> None:
    """Does with an annotation file what commands do; lets our own errors pass."""
    with tempfile.NamedTemporaryFile(suffix=suffix, dir=folder.parent) as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        try:
            for finding in lint_folder(folder, path):
                assert str(finding).isprintable()
            films = FilmSet.open(folder, path, skip_bad_regions=True)
        except SpineZooError as error:
            str(error).encode()
            return
        for name in films.names:
            regions = films.annotation(name).regions
            size = films.film_size(name)
            assert len(segments_from_regions(regions, *size)) == len(regions)
            assert label_map(regions, *size).any() == bool(regions)


def test_annotation_files_by_chance(
    folder: Path, seeds: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix, text in seeds:  # the seeds themselves are right
        use(folder, suffix, text.encode())
    count, slowest = 0, 0.0

    @settings(
        max_examples=2000 if MINUTES else 150,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(files(seeds))
    def one(made: tuple[str, bytes]) -> None:
        nonlocal count, slowest
        started = time.process_time()
        use(folder, *made)
        taken = time.process_time() - started
        count, slowest = count + 1, max(slowest, taken)
        assert taken < MOST_S, f"{taken:.1f} s"

    guided = importlib.util.find_spec("atheris") is not None
    end = time.monotonic() + 60.0 * (MINUTES / 2.0 if guided else MINUTES)
    while True:
        one()
        if time.monotonic() >= end:
            break
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    with capsys.disabled():
        print(f"\nannotations: {count} files, slowest {slowest:.2f} s, peak {peak_mib:.0f} MiB")
    assert peak_mib < MOST_MIB


def test_readers_of_raw_files_by_chance(folder: Path, seeds: list[tuple[str, str]]) -> None:
    """Bytes that are nothing at all."""

    @settings(max_examples=150, deadline=None, database=None)
    @given(st.binary(max_size=400), st.sampled_from([".json", ".csv"]))
    def one(data: bytes, suffix: str) -> None:
        with tempfile.NamedTemporaryFile(suffix=suffix, dir=folder.parent) as file:
            file.write(data)
            file.flush()
            try:
                read_annotations_raw(Path(file.name))
            except SpineZooError as error:
                str(error).encode()

    one()


def test_files_guided_by_coverage(seeds: list[tuple[str, str]], tmp_path: Path) -> None:
    """The same readers under atheris, in processes of its own."""
    for number, (suffix, text) in enumerate(seeds):
        content = bytes([int(suffix == ".csv")]) + text.encode()
        (tmp_path / f"seed-{number}").write_bytes(content)
    assert guided_by_coverage("guided_annotations.py", tmp_path, max(10, int(30.0 * MINUTES))) > 0
