"""What the Makefile hands on: paths with spaces, and a look at the input before services start."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FAKE = """\
import json, os, sys
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
"""


@pytest.fixture
def make(tmp_path: Path):
    """Runs make with its tools replaced by one that only writes down how it was called."""
    fake, log = tmp_path / "fake.py", tmp_path / "log"
    fake.write_text(FAKE)

    def run(*words: str, real_core: bool = False):
        log.write_text("")
        tools = [f"TOOL={sys.executable} {fake} tool"]
        if not real_core:
            tools.append(f"CORE={sys.executable} {fake} core")
        done = subprocess.run(
            ["make", *words, *tools],
            cwd=ROOT,
            env={**os.environ, "FAKE_LOG": str(log)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done, [json.loads(line) for line in log.read_text().splitlines()]

    return run


@pytest.mark.parametrize("name", ["a folder", "it's mine", 'say "ah"'])
@pytest.mark.parametrize(
    ("target", "module", "report"),
    [
        ("benchmark", "spinezoo_evaluator.benchmark", "reports/{}"),
        ("real-check", "spinezoo_evaluator.benchmark.real_check", "reports/real-check-{}"),
    ],
)
def test_a_folder_with_a_space_arrives_whole(make, target, module, report, name, tmp_path) -> None:
    data = str(tmp_path / name)
    done, calls = make(target, f"DATA={data}", "ARGS=--limit 3")
    assert done.returncode == 0, done.stderr
    words = ["-m", module, "--data", data, "--report", report.format(name)]
    assert calls[0][:3] == ["tool.environments", "setup", "--serving"]
    assert {"gateway", "evaluator", "services/unet"} <= set(calls[0])
    assert "pacs" not in calls[0]
    assert calls[1] == ["core", *words, "--check", "--limit", "3"]
    assert calls[2][:3] == ["tool.processes", "run", "--"]
    assert calls[2][-len(words) - 2 :] == [*words, "--limit", "3"]
    assert len(calls) == 3


@pytest.mark.parametrize("words", [("train", "NETWORK=pspnet"), ("phantoms-sheet",)])
def test_films_in_a_folder_with_a_space_are_one_word(words: tuple[str, ...]) -> None:
    data = "it's a folder"
    shown = subprocess.run(
        ["make", "--dry-run", "--old-file=setup", *words, f"DATA={data}"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    option = "--data" if "train" in words else "--beside"
    (command,) = (part for part in shown.replace("\\\n", "").splitlines() if option in part)
    split = shlex.split(command)
    assert split[split.index(option) + 1] == data


def test_the_phantom_set_is_measured_where_no_data_is_named(make) -> None:
    done, calls = make("benchmark", "RUN=two words")
    assert done.returncode == 0, done.stderr
    assert calls[-1][-4:] == ["--data", "data/phantom-test", "--report", "reports/two words"]


@pytest.mark.parametrize("target", ["benchmark", "real-check"])
def test_input_that_is_refused_is_told_before_anything_starts(make, target, tmp_path) -> None:
    empty = tmp_path / "an empty folder"
    empty.mkdir()
    for data, says in [(tmp_path / "not there", "is not a folder"), (empty, "an empty folder")]:
        done, calls = make(target, f"DATA={data}", real_core=True)
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
        assert not [call for call in calls if call[0] == "tool.processes"]


def test_outlines_are_checked_by_path(make, tmp_path) -> None:
    done, calls = make("check", "DATA=a b/films", 'ARGS=--map "a body=cage"')
    assert done.returncode == 0, done.stderr
    words = ["-m", "spinezoo_spine.annotations.lint", "a b/films", "--map", "a body=cage"]
    assert calls[-1] == ["core", *words]
    done, _ = make("check")
    assert done.returncode == 2
    assert "DATA=folder" in done.stdout
    done, _ = make("check", f"DATA={tmp_path}", real_core=True)
    assert done.returncode == 2
    assert "holds no film" in done.stderr


def test_outlines_are_converted_by_path(make) -> None:
    done, calls = make("convert", "FROM=a b/via.json", "TO=c d.json", "FORMAT=coco")
    assert done.returncode == 0, done.stderr
    words = ["--from", "a b/via.json", "--to", "c d.json", "--format", "coco"]
    assert calls[-1] == ["core", "-m", "spinezoo_spine.annotations.convert", *words]
    done, calls = make("convert", "FROM=via.json")
    assert done.returncode == 2
    assert "TO=" in done.stdout


def test_calibrating_makes_sets_asks_the_zoo_once_and_fits_on_all(make) -> None:
    done, calls = make("calibrate", "CALIBRATION_SEEDS=5 6", "CALIBRATION_FILMS=3")
    assert done.returncode == 0, done.stderr
    made = [call for call in calls if "spinezoo_phantom" in call]
    assert [call[call.index("--seed") + 1] for call in made] == ["5", "6"]
    (run,) = (call for call in calls if "run" in call)
    assert run[:5] == ["tool.processes", "run", "--", "bash", "-c"]
    assert run[5].count("--resume") == 1  # in a loop over both sets
    names, measures = calls[-2:]
    runs = ["--run", *(f"reports/phantom-calibration-{seed}" for seed in (5, 6))]
    data = ["--data", *(f"data/phantom-calibration-{seed}" for seed in (5, 6))]
    assert names == ["core", "-m", "spinezoo_evaluator.names", *runs, *data]
    assert measures == ["core", "-m", "spinezoo_evaluator.measures", "fit", *runs, *data]
    _, fresh = make("calibrate", "ARGS=--fresh")
    (run,) = (call for call in fresh if "run" in call)
    assert "--fresh" in run[5]
    assert "--resume" not in run[5]


def test_the_training_set_is_named_by_its_films(make) -> None:
    _, calls = make("train-set")
    assert calls[-1][calls[-1].index("--out") + 1] == "data/phantom-train-1000"
    _, calls = make("train-set", "TRAIN_FILMS=40")
    assert calls[-1][calls[-1].index("--out") + 1] == "data/phantom-train-40"


@pytest.mark.parametrize("minutes", ["ten", "0", "-1", ""])
def test_fuzzing_for_no_time_is_no_success(make, minutes: str) -> None:
    done, _ = make("fuzz", f"MINUTES={minutes}", "TESTS=true")
    assert done.returncode == 2
    assert "MINUTES=10" in done.stdout


def test_an_unknown_network_is_named_and_nothing_is_run() -> None:
    done = subprocess.run(
        ["make", "--old-file=setup", "export", "NETWORK=nope"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no room services/nope" in done.stderr + done.stdout
    assert "not found" not in done.stderr


@pytest.mark.parametrize("value", ["a b", "it's", "a\nb", "'\n'", '"`x`;&|', "ü#?%"])
def test_a_value_is_one_word_of_the_shell_whatever_is_in_it(value: str) -> None:
    show = "show: ; @printf %s $(call quote,$(DATA))"
    command = ["make", "-s", f"--eval={show}", "show", f"DATA={value}"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == value


def test_a_make_that_a_command_starts_gets_none_of_our_options() -> None:
    text = (ROOT / "Makefile").read_text()
    known = text.partition("OPTIONS := ")[2].partition("\nunexport")[0].replace("\\", "").split()
    taken = {*re.findall(r"^([A-Z_]+) \?=", text, re.M), *re.findall(r"\b([A-Z_]+)=[\w\"]", text)}
    taken -= {"PYTHON", "PYTHONPATH", "SPINEZOO_FUZZ_MINUTES", "SPINEZOO_PACS_FILMS"}
    assert taken == {*known}
    show = "show: ; @echo options: $(foreach each,$(OPTIONS),$($(each)))"
    nested = shlex.join(["make", "-s", f"--eval={show}", "show"]).replace("$", "$$")
    done = subprocess.run(
        ["make", f"--eval=inner: ; @{nested}", "inner", *(f"{name}=ours" for name in known)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "options:" in done.stdout
    assert "ours" not in done.stdout


def test_make_says_nothing_where_the_reader_has_gone(tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["make", "--no-print-directory", "status"],  # a make within make says where it is
        cwd=ROOT,
        env=os.environ | {"SPINEZOO_RUN_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait(60) == 0
