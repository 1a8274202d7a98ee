"""``make train``, stopped on the way and started again, on a copy of a network's folder."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from spinezoo_phantom import PhantomSettings, write_film_set
from spinezoo_serving.cards import load_card, record_path, verify_weights

from end_to_end.support import ROOT, clean_environment, phantom_file, room_python, started, wait_for

CANVAS = "{height: 512, width: 384, channels: 2}"
SMALL_CANVAS = "{height: 256, width: 192, channels: 2}"
EPOCHS = 4
FILMS = 16


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of small phantoms with their outlines."""
    folder = tmp_path_factory.mktemp("films")
    settings = PhantomSettings(height_px=256, width_px=192)
    write_film_set(folder, count=FILMS, seed=11, settings=settings, file_format="png")
    return folder


def train_command(films: Path, card: Path, run: Path) -> list[str]:
    """``make train`` without its set-up; the last of two equal options counts."""
    options = (
        f"--card {card} --run-dir {run} --epochs {EPOCHS} --batch-size 4 --threads 1 --workers 0"
    )
    return [
        "make",
        "--no-print-directory",
        "--old-file=setup",
        "-C",
        str(ROOT),
        "train",
        "NETWORK=pspnet",
        f"DATA={films}",
        f"ARGS={options}",
    ]


def epochs_of(run: Path) -> list[dict]:
    """The epochs that a run has written down."""
    history = run / "history.jsonl"
    if not history.is_file():
        return []
    return [json.loads(line) for line in history.read_text().splitlines()]


def test_a_stopped_training_goes_on_and_ends_with_a_working_card(
    films: Path, tmp_path: Path
) -> None:
    source = ROOT / "services" / "pspnet" / "card.yaml"
    before = source.read_bytes()
    card_path = tmp_path / "pspnet" / "card.yaml"
    card_path.parent.mkdir()
    # On a quarter of the canvas: what is checked here is the same on any.
    text = source.read_text()
    assert text.count(CANVAS) == 1
    card_path.write_text(text.replace(CANVAS, SMALL_CANVAS))
    card_bytes = card_path.read_bytes()
    run = tmp_path / "run"
    command = train_command(films, card_path, run)
    environment = clean_environment()

    log = tmp_path / "first.log"
    with started(command, log, env=environment) as make:
        wait_for("first epoch", lambda: epochs_of(run) or make.poll() is not None, 180.0)
        assert make.poll() is None, log.read_text()
        trainers = [
            child
            for child in psutil.Process(make.pid).children(recursive=True)
            if "spinezoo_pspnet.train" in child.cmdline()
        ]
        trainers[0].send_signal(signal.SIGTERM)
        make.wait(120.0)
    done = len(epochs_of(run))
    assert 1 <= done < EPOCHS, log.read_text()
    assert "the same command goes on" in log.read_text()
    assert card_path.read_bytes() == card_bytes, "a stopped training must leave the card alone"
    assert not record_path(card_path, "lite").exists()

    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300.0)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [line["epoch"] for line in epochs_of(run)] == list(range(1, EPOCHS + 1))

    new = load_card(card_path, "lite")
    assert new.training["epochs"] == EPOCHS
    assert new.weights_sha256 != load_card(source, "lite").weights_sha256
    assert verify_weights(new).is_file()
    assert card_path.read_bytes() == card_bytes, "training writes the record, not the card"
    film = phantom_file(tmp_path / "film.dcm", seed=4)
    program = (
        "import sys; from pathlib import Path\n"
        "from spinezoo_pspnet.predictor import load_predictor\n"
        "from spinezoo_spine.films.reader import read_film_file\n"
        "from spinezoo_contract.types import PredictOptions\n"
        "predictor = load_predictor(Path(sys.argv[1]), device='cpu')\n"
        "answer = predictor.predict(read_film_file(Path(sys.argv[2])), PredictOptions())\n"
        "print(answer.height, answer.width, answer.provenance.weights_sha256)\n"
    )
    asked = subprocess.run(
        [room_python("services/pspnet"), "-c", program, str(card_path), str(film)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120.0,
    )
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.split() == ["512", "384", new.weights_sha256]
    assert source.read_bytes() == before
