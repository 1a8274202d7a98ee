"""Decoders that hang, panic, crash or allocate without end cost their film an error, no more."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from spinezoo_contract.errors import ConfigurationError, FilmError, QueueFullError
from spinezoo_spine.films import isolation
from spinezoo_spine.films.limits import DecoderLimits
from spinezoo_spine.films.reader import read_film, read_film_file
from spinezoo_testing.bad_decoders import FAULTS, SETTINGS, film_that_says, rle_film

Make = Callable[..., bytes]
GREY = (np.arange(64 * 48) % 251).astype(np.uint8).reshape(64, 48)


@pytest.fixture
def bad_decoders(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Decoding processes with a decoder of JPEG-LS that does what the stream says."""
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SPINEZOO_DECODER_S", "1")
    monkeypatch.setenv("SPINEZOO_DECODER_PROCESSES", "2")
    isolation.close()
    yield
    isolation.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_decoder_costs_its_film_an_error(bad_decoders: None, secret: str, fault: str) -> None:
    data, good = film_that_says(fault), rle_film(GREY)
    with pytest.raises(FilmError, match=r"decoder|decoded") as caught:
        read_film(data)
    assert secret not in str(caught.value)
    assert (read_film(good).pixels == GREY).all()


def test_the_reasons_are_told_apart(bad_decoders: None) -> None:
    for fault, words in (
        ("sleep", r"stopped after 1\.\d s"),
        ("panic", "broke off .PanicException."),
        ("segfault", "crashed or needed too much memory"),
    ):
        with pytest.raises(FilmError, match=words):
            read_film(film_that_says(fault))


def test_a_decoder_that_gets_no_processor_has_more_time(
    bad_decoders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPINEZOO_DECODER_S", "0.1")
    monkeypatch.setenv("SPINEZOO_DECODER_PER_MEGAPIXEL_S", "0")
    isolation.close()
    isolation.warm_up()
    worked_s = iter(np.arange(1.0, 2.0, 1e-4))
    monkeypatch.setattr(isolation, "_worked_s", lambda pid: float(next(worked_s)))
    monkeypatch.setattr(isolation, "PATIENCE", 600)
    large = np.tile(GREY, (60, 60))  # takes more than its 0.1 s
    assert (read_film(rle_film(large)).pixels == large).all()
    monkeypatch.setattr(isolation, "PATIENCE", 10)
    for fault in ("spin", "sleep"):  # works as slowly, but without end
        with pytest.raises(FilmError, match=r"stopped after \d+\.\d s"):
            read_film(film_that_says(fault))


def test_good_films_beside_bad_ones_are_read(bad_decoders: None) -> None:
    good = rle_film(GREY)
    bad = film_that_says("sleep")
    isolation.warm_up()
    with ThreadPoolExecutor(8) as threads:
        hung = [threads.submit(read_film, bad)]
        films = [threads.submit(read_film, good) for _ in range(6)]
        assert all((film.result(timeout=30).pixels == GREY).all() for film in films)
        with pytest.raises(FilmError):
            hung[0].result(timeout=30)


def test_memory_is_limited_while_it_is_taken(bad_decoders: None) -> None:
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            for process in psutil.Process().children(recursive=True):
                try:
                    peak = max(peak, process.memory_info().rss)
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for fault in ("allocate", "allocate natively"):
            with pytest.raises(FilmError):
                read_film(film_that_says(fault))
    finally:
        done.set()
        watcher.join()
    assert 0 < peak < 600 << 20


def test_no_process_stays_behind(bad_decoders: None) -> None:
    before = set(psutil.Process().children(recursive=True))
    for fault in ("sleep", "panic", "abort"):
        with pytest.raises(FilmError):
            read_film(film_that_says(fault))
    isolation.close()
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_process_that_was_killed_is_replaced(make_dicom: Make) -> None:
    good = rle_film(GREY)
    read_film(good)
    for process in psutil.Process().children(recursive=True):
        if "spinezoo_spine.films.worker" in process.cmdline():
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
    assert (read_film(good).pixels == GREY).all()


@contextlib.contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """Lets this process open so many files more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    opened = []
    try:
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(count):
            os.close(opened.pop())
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", range(4))  # for memory and what maps it, at both ends
def test_without_descriptors_no_film_is_called_damaged(count: int) -> None:
    good = rle_film(GREY)
    isolation.close()
    isolation.warm_up()
    with free_descriptors(count), pytest.raises(QueueFullError, match="open files"):
        read_film(good)
    isolation.close()
    with free_descriptors(0), pytest.raises(ConfigurationError, match="cannot be started"):
        read_film(good)
    assert (read_film(good).pixels == GREY).all()


_SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from spinezoo_spine.films.reader import read_film
data = Path(sys.argv[1]).read_bytes()
read_film(data)
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (30 << 20), -1))
try:
    read_film(data)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("kind", ["png", "tif", "dcm"])
def test_without_memory_no_film_is_called_damaged(
    make_dicom: Make, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"film.{kind}"
    pixels = np.tile(GREY.astype(np.uint16), (80, 90))
    if kind == "dcm":
        path.write_bytes(make_dicom(pixels))
    else:
        Image.fromarray(pixels).save(path)
    done = subprocess.run(
        [sys.executable, "-c", _SHORT_OF_MEMORY, str(path)], capture_output=True, text=True
    )
    assert done.stdout.startswith("QueueFullError no memory"), done.stdout + done.stderr


def test_an_interrupted_reading_gives_no_film_to_the_next(
    bad_decoders: None, make_dicom: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, other = rle_film(GREY), make_dicom(255 - GREY)
    receive = isolation.receive
    calls = 0

    def interrupted(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        return receive(*arguments)  # type: ignore[arg-type]

    isolation.warm_up()
    monkeypatch.setattr(isolation, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_film(good)
    assert (read_film(rle_film(255 - GREY)).pixels == 255 - GREY).all()
    assert (read_film(other).pixels == 255 - GREY).all()


def _read_in_child(data: bytes, answers: object) -> None:
    answers.put(bool((read_film(data).pixels == GREY).all()))  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_its_own_processes(make_dicom: Make) -> None:
    good = rle_film(GREY)
    read_film(good)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_read_in_child, args=(good, answers))
    child.start()
    assert answers.get(timeout=60)
    child.join(60)
    assert (read_film(good).pixels == GREY).all()


def test_the_film_is_named(bad_decoders: None, tmp_path: Path) -> None:
    path = tmp_path / "0007.dcm"
    path.write_bytes(film_that_says("sleep"))
    with pytest.raises(FilmError, match=r"^0007\.dcm: film's decoder was stopped"):
        read_film_file(path)


def test_a_module_that_cannot_be_imported_is_named(
    monkeypatch: pytest.MonkeyPatch, make_dicom: Make
) -> None:
    monkeypatch.setenv("SPINEZOO_DECODER_IMPORT", "no_such_module_at_all")
    isolation.close()
    try:
        with pytest.raises(ConfigurationError, match="no_such_module_at_all"):
            read_film(rle_film(GREY))
    finally:
        isolation.close()


def test_plain_dicom_needs_no_process(monkeypatch: pytest.MonkeyPatch, make_dicom: Make) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    isolation.close()
    try:
        assert (read_film(make_dicom(GREY)).pixels == GREY).all()
        with pytest.raises(ConfigurationError, match="cannot be started"):
            read_film(rle_film(GREY))
    finally:
        isolation.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPINEZOO_DECODER_S", "0"),
        ("SPINEZOO_DECODER_S", "soon"),
        ("SPINEZOO_DECODER_MIB", "1"),
        ("SPINEZOO_DECODER_PROCESSES", "0"),
        ("SPINEZOO_DECODER_BYTES_PER_PIXEL", "nan"),
        ("SPINEZOO_DECODER_IMPORT", "no_such_module"),
        ("SPINEZOO_DECODER_IMPORT", "json, no_such.module"),
        ("SPINEZOO_DECODER_IMPORT", "json.no_such"),
        ("SPINEZOO_DECODER_IMPORT", ".json"),
        ("SPINEZOO_DECODER_IMPORT", "\udcff"),
        ("SPINEZOO_DECODER_IMPORT", "a b"),
    ],
)
def test_settings_out_of_range(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        DecoderLimits.from_env({name: value})


def test_settings() -> None:
    limits = DecoderLimits.from_env(
        {
            "SPINEZOO_DECODER_S": "3",
            "SPINEZOO_DECODER_PER_MEGAPIXEL_S": "0.5",
            "SPINEZOO_DECODER_MIB": "100",
            "SPINEZOO_DECODER_BYTES_PER_PIXEL": "10",
            "SPINEZOO_DECODER_PROCESSES": "7",
            "SPINEZOO_DECODER_IMPORT": "json, xml.dom,",
        }
    )
    assert limits == DecoderLimits(
        decoder_s=3.0,
        decoder_per_megapixel_s=0.5,
        decoder_mib=100,
        decoder_bytes_per_pixel=10,
        decoder_processes=7,
        decoder_import="json, xml.dom,",
    )
    assert limits.imports == ("json", "xml.dom")
    assert limits.time_s(4_000_000) == 5.0
    assert limits.memory_for(1 << 20) == 110 << 20
    assert DecoderLimits.from_env({}) == DecoderLimits()


def test_an_orphan_ends_itself(make_dicom: Make) -> None:
    """A decoding process whose asker dies ends, as its connection does."""
    good = rle_film(GREY)
    read_film(good)
    workers = [
        process
        for process in psutil.Process().children(recursive=True)
        if "spinezoo_spine.films.worker" in process.cmdline()
    ]
    assert workers
    pool = isolation.pool()
    for worker in list(pool._all):
        worker._connection.close()
    deadline = time.monotonic() + 20
    while any(process.is_running() and process.status() != "zombie" for process in workers):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    isolation.close()
