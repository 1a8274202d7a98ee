"""The zoo on a checkout of fake services: real processes, real ports, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from spinezoo_conformance.ports import free_ports
from spinezoo_serving.settings import ServerSettings
from spinezoo_tools.checkout import networks_of, read_env_file
from spinezoo_tools.environments import MADE_FROM, ROOT
from spinezoo_tools.processes import how_to_call
from spinezoo_tools.running import Part, Running
from spinezoo_tools.zoo import STARTED, Zoo, ZooError, turns_of

ZOO = (sys.executable, "-m", "spinezoo_tools.processes")
FAKE = Path(__file__).resolve().parent / "fake_server.py"
PARTS = ("aa", "bb", "gateway", "evaluator")
PYTHON = getattr(sys, "_base_executable", sys.executable)


def processes_of(root: Path) -> list[int]:
    """Every living process that works in this test's folder (a worker inherits it)."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and root in Path(os.readlink(entry / "cwd")).parents:
                found.append(int(entry.name))
    return found


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A checkout with two networks, a gateway and an evaluator, and free ports in .env."""
    reads = '[ "$2" = spinezoo_serving.variables ]'
    script = f'#!/bin/sh\n{reads} && exec {sys.executable} "$@"\nexec {PYTHON} {FAKE} "$@"\n'
    ports = free_ports(2 * len(PARTS))
    lines = ["# ports", "", "SPINEZOO_DRAIN_S=0"]
    for index, name in enumerate(PARTS):
        network = name not in ("gateway", "evaluator")
        folder = tmp_path / "services" / name if network else tmp_path / name
        folder.mkdir(parents=True)
        room = f'[tool.spinezoo]\nenvironment = "of-{name}"\n'
        (folder / "pyproject.toml").write_text(room)
        programs = tmp_path / ".venvs" / f"of-{name}" / "bin"
        programs.mkdir(parents=True)
        program = programs / "python"
        program.write_text(script)
        program.chmod(0o755)
        if network:
            (folder / "card.yaml").write_text("name: fake\n")
        lines.append(f"SPINEZOO_{name.upper()}_GRPC_PORT={ports[2 * index]}")
        lines.append(f"SPINEZOO_{name.upper()}_HTTP_PORT={ports[2 * index + 1]}")
    (tmp_path / "services" / "not_a_network").mkdir()
    (tmp_path / ".env").write_text("\n".join(lines) + "\n")
    yield tmp_path
    subprocess.run([*ZOO, "--root", tmp_path, "down"], timeout=60, check=False)
    left = processes_of(tmp_path)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"left behind: {left}"


def zoo(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ZOO, "--root", str(checkout), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def seen(checkout: Path, folder: str) -> dict:
    return json.loads((checkout / folder / "seen.json").read_text())


def state(checkout: Path) -> dict[str, int]:
    processes = json.loads((checkout / "run" / "zoo.json").read_text())["processes"]
    return {each["name"]: each["pid"] for each in processes}


def test_up_status_down(checkout: Path) -> None:
    up = zoo(checkout, "up")
    assert up.returncode == 0, up.stderr
    assert "(4/4)" in up.stderr
    assert "Ask the gateway" in up.stdout
    pages = [line for line in up.stdout.splitlines() if line.startswith("Open the page: ")]
    ports = read_env_file(checkout / ".env")
    assert pages == [f"Open the page: http://127.0.0.1:{ports['SPINEZOO_GATEWAY_HTTP_PORT']}/"]
    assert sorted(state(checkout)) == sorted(PARTS)
    assert len(processes_of(checkout)) == 8  # each has a worker of its own
    status = zoo(checkout, "status")
    assert status.returncode == 0
    assert status.stdout.count(" ready ") == 4

    again = zoo(checkout, "up")
    assert again.returncode == 1
    assert "running already" in again.stderr
    assert len(processes_of(checkout)) == 8

    down = zoo(checkout, "down")
    assert down.returncode == 0
    assert processes_of(checkout) == []
    assert zoo(checkout, "status").returncode == 1
    assert "nothing is running" in zoo(checkout, "down").stderr


def test_members_get_the_containers_command_and_settings(checkout: Path) -> None:
    assert zoo(checkout, "run", "--", "true", SPINEZOO_QUEUE_LIMIT="7").returncode == 0
    member = seen(checkout, "services/aa")
    environment = member["environment"]
    assert member["arguments"] == ["-m", "spinezoo_serving.bento"]
    assert environment["BENTOML_DO_NOT_TRACK"] == "True"
    assert environment["SPINEZOO_QUEUE_LIMIT"] == "7"
    assert int(environment["SPINEZOO_THREADS"]) >= 1
    gateway = seen(checkout, "gateway")
    assert gateway["arguments"] == ["-m", "spinezoo_gateway.serve"]
    assert "SPINEZOO_ROSTER_AA" not in gateway["environment"]  # as shipped: the roster file knows


def test_networks_beside_each_other_leave_processors_to_each_other(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / ".venvs" / "engine").symlink_to(checkout / ".venvs" / "of-aa")
    for name in ("aa", "bb"):
        with (checkout / "services" / name / "pyproject.toml").open("a") as room:
            room.write('serving = "engine"\n')

    def threads(*only: str, **settings: str) -> list[str]:
        parts = Zoo(checkout, environment={"SPINEZOO_DEVICE": "cpu", **settings}).parts(only)
        return [part.environment["SPINEZOO_THREADS"] for part in parts]

    for processors, share in ((1, "1"), (2, "1"), (8, "4")):
        monkeypatch.setattr(os, "cpu_count", lambda number=processors: number)
        assert threads("aa", "bb") == [share, share]
        assert threads("aa") == ["0"]
        assert threads("aa", "bb", SPINEZOO_THREADS="3") == ["3", "3"]


def test_each_process_gets_its_own_certificate(checkout: Path) -> None:
    folder = checkout / "certs"
    folder.mkdir()
    for name in ("ca", *PARTS, "client"):
        for kind in ("crt", "key"):
            (folder / f"{name}.{kind}").write_text("x")
    shown = "echo $SPINEZOO_CLIENT_TLS_CERT $SPINEZOO_CLIENT_TLS_CA"
    done = zoo(checkout, "run", "--", "sh", "-c", shown, SPINEZOO_TLS="mutual")
    assert done.stdout.split() == [str(folder / "client.crt"), str(folder / "ca.crt")]
    for part, place in (("aa", "services/aa"), ("gateway", "gateway")):
        environment = seen(checkout, place)["environment"]
        assert environment["SPINEZOO_TLS"] == "mutual"
        assert environment["SPINEZOO_TLS_CERT"] == str(folder / f"{part}.crt")
        assert environment["SPINEZOO_TLS_KEY"] == str(folder / f"{part}.key")
        assert environment["SPINEZOO_TLS_CA"] == str(folder / "ca.crt")
    up = zoo(checkout, "up", SPINEZOO_TLS="server", SPINEZOO_TOKENS="tokens.txt")
    assert "buf curl --protocol grpc --cacert certs/ca.crt -H" in up.stdout
    assert zoo(checkout, "down").returncode == 0

    (folder / "bb.key").unlink()
    missing = zoo(checkout, "run", "--", "true", SPINEZOO_TLS="server")
    assert missing.returncode == 1
    assert "bb.key is absent; run `make certs`" in missing.stderr
    # Who names the files has it that way: one certificate for all.
    named = {"SPINEZOO_TLS_CERT": "/x.crt", "SPINEZOO_TLS_KEY": "/x.key"}
    assert zoo(checkout, "run", "--", "true", SPINEZOO_TLS="server", **named).returncode == 0
    environment = seen(checkout, "services/bb")["environment"]
    assert environment["SPINEZOO_TLS_CERT"] == "/x.crt"
    assert "SPINEZOO_TLS_CA" not in environment
    assert zoo(checkout, "run", "--", "true").returncode == 0
    assert "SPINEZOO_TLS_CERT" not in seen(checkout, "services/bb")["environment"]


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_run_returns_the_commands_code_and_leaves_nothing(
    checkout: Path, command: str, code: int
) -> None:
    done = zoo(checkout, "run", "--", "sh", "-c", f"echo $SPINEZOO_GATEWAY_TARGET; {command}")
    assert done.returncode == code
    assert done.stdout.startswith("127.0.0.1:")  # our own lines do not mix with the command's
    assert processes_of(checkout) == []


def test_run_with_an_absent_command(checkout: Path) -> None:
    done = zoo(checkout, "run", "--", "/absent/program")
    assert done.returncode == 1
    assert "cannot run /absent/program" in done.stderr
    assert processes_of(checkout) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_stops_command_and_zoo(checkout: Path, number: signal.Signals) -> None:
    program = "import os,time; open('command.pid','w').write(str(os.getpid())); time.sleep(600)"
    with subprocess.Popen(
        [*ZOO, "--root", checkout, "run", "--", sys.executable, "-c", program],
        cwd=checkout,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        mark = checkout / "command.pid"
        end = time.monotonic() + 30
        while not (mark.exists() and mark.read_text()) and time.monotonic() < end:
            time.sleep(0.05)
        command = int(mark.read_text())
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    if number is signal.SIGKILL:  # what watches over it does it, and is read to its end
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number
        assert f"stopped by {number.name}" in errors
    assert not Running("command", command, 0, 0, 0, 0.0, "").alive()
    assert processes_of(checkout) == []


def test_a_signal_while_starting_leaves_nothing(checkout: Path) -> None:
    (checkout / "services/aa/behaviour").write_text("never")
    with subprocess.Popen(
        [*ZOO, "--root", checkout, "up"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "(3/4)" in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert processes_of(checkout) == []


def test_a_crash_at_start_is_named_with_its_log(checkout: Path) -> None:
    (checkout / "services/bb/behaviour").write_text("crash")
    up = zoo(checkout, "up")
    assert up.returncode == 1
    assert "bb ended with exit code 3 before it was ready" in up.stderr
    assert "weights are missing; run make train" in up.stderr
    assert processes_of(checkout) == []


def test_a_part_that_never_gets_ready_is_named(checkout: Path) -> None:
    (checkout / "services/aa/behaviour").write_text("never")
    up = zoo(checkout, "--timeout-s", "1.5", "up")
    assert up.returncode == 1
    assert "not ready after 2 s: aa\n" in up.stderr
    assert "last lines of" in up.stderr
    assert processes_of(checkout) == []


def test_a_taken_port_is_named_before_anything_starts(checkout: Path) -> None:
    port = next(
        int(line.partition("=")[2])
        for line in (checkout / ".env").read_text().splitlines()
        if line.startswith("SPINEZOO_BB_GRPC_PORT")
    )
    with socket.create_server(("127.0.0.1", port)):
        up = zoo(checkout, "up")
    assert up.returncode == 1
    assert f"bb's gRPC port {port}" in up.stderr
    assert not (checkout / "services/aa/seen.json").exists()


def test_killed_part_is_reported_and_the_command_goes_on(checkout: Path) -> None:
    kill = (
        "import json,os,time; p={e['name']:e['pid'] for e in json.load(open('run/zoo.json'))"
        "['processes']}; os.kill(p['aa'],9); time.sleep(.3)"
    )
    done = subprocess.run(
        [*ZOO, "--root", checkout, "run", "--", sys.executable, "-c", kill],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "aa was ended by SIGKILL while the command ran" in done.stderr
    assert processes_of(checkout) == []  # its worker, orphaned, is found by its marker


@pytest.mark.parametrize("behaviour", ["stubborn", "orphan"])
def test_what_does_not_stop_is_killed(checkout: Path, behaviour: str) -> None:
    (checkout / "services/aa/behaviour").write_text(behaviour)
    quick = (
        "import sys; from spinezoo_tools import processes, zoo; zoo.KILL_GRACE_S = 0.5; "
        "sys.exit(processes.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", quick, "--root", checkout, "run", "--", "true"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert ("aa did not stop" in done.stderr) == (behaviour == "stubborn")
    assert processes_of(checkout) == []


def test_only_starts_a_subset_and_tells_the_gateway(checkout: Path) -> None:
    port = str(free_ports(1)[0])
    done = zoo(checkout, "run", "--only", "aa,gateway", "--", "true", SPINEZOO_AA_GRPC_PORT=port)
    assert done.returncode == 0, done.stderr
    environment = seen(checkout, "gateway")["environment"]
    assert environment["SPINEZOO_ROSTER_AA"] == f"127.0.0.1:{port}"  # not where .env says
    assert environment["SPINEZOO_ROSTER_BB"] == ""  # not started: taken out
    assert not (checkout / "services/bb/seen.json").exists()
    unknown = zoo(checkout, "up", "--only", "cc")
    assert unknown.returncode == 1
    assert "unknown: cc; known are aa, bb, evaluator, gateway" in unknown.stderr


@pytest.mark.parametrize(
    ("host", "called"), [("127.0.0.2", "127.0.0.2"), ("::1", "[::1]"), ("[::]", "[::1]")]
)
def test_the_gateway_is_told_where_members_listen(checkout: Path, host: str, called: str) -> None:
    of_host = Zoo(checkout, environment={"SPINEZOO_HOST": host})
    (gateway,) = (part for part in of_host.parts() if part.name == "gateway")
    port = of_host.ports()["aa"][0]
    assert gateway.environment["SPINEZOO_ROSTER_AA"] == f"{called}:{port}"
    assert gateway.environment["SPINEZOO_HOST"] == host.strip("[]")
    running = [Running("gateway", 1, 1, 50050, 8050, 0.0, "log")]
    assert of_host.command_environment(running)["SPINEZOO_GATEWAY_TARGET"] == f"{called}:50050"
    assert f"http://{called}:8050/" in how_to_call(of_host, running)


def test_a_part_keeps_the_one_port_that_it_is_given(checkout: Path) -> None:
    shipped = Zoo(checkout, environment={}).ports()
    given = {"SPINEZOO_AA_GRPC_PORT": "31234", "SPINEZOO_AA_HTTP_PORT": ""}
    ports = Zoo(checkout, environment=given).ports()
    assert ports["aa"][0] == 31234
    assert ports["aa"][1] not in {port for name in ports if name != "aa" for port in ports[name]}
    assert {name: ports[name] for name in ports if name != "aa"} == {
        name: shipped[name] for name in shipped if name != "aa"
    }


@pytest.mark.parametrize("port", ["nan", "inf", "1.5", "-1", "65536", "x"])
def test_a_wrong_port_is_named(checkout: Path, port: str) -> None:
    with pytest.raises(ZooError, match=r"SPINEZOO_AA_GRPC_PORT must be"):
        Zoo(checkout, environment={"SPINEZOO_AA_GRPC_PORT": port}).ports()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SPINEZOO_THREADS", "2.7", "SPINEZOO_THREADS must be an integer"),
        ("SPINEZOO_TLS", "maybe", "set off, server or mutual"),
        ("SPINEZOO_HOST", "no.such.invalid", "SPINEZOO_HOST is 'no.such.invalid'"),
        ("SPINEZOO_HOST", "\u00fc" * 80, "SPINEZOO_HOST is"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_starts(
    checkout: Path, name: str, value: str, says: str
) -> None:
    answer = zoo(checkout, "up", **{name: value})
    assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
    assert says in answer.stderr


@pytest.mark.parametrize("action", ["up", "down", "status"])
@pytest.mark.parametrize("spoilt", ["folder", "state"])
def test_a_run_folder_that_cannot_be_used_is_named(
    checkout: Path, action: str, spoilt: str
) -> None:
    if spoilt == "folder":
        (checkout / "run").write_text("a file")
    else:
        (checkout / "run" / "zoo.json").mkdir(parents=True)
    answer = zoo(checkout, action)
    assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
    assert "SPINEZOO_RUN_DIR" in answer.stderr


@pytest.mark.parametrize("pid", [-1, 0, "7", None])
@pytest.mark.parametrize("action", ["down", "status"])
def test_a_state_that_names_no_process_is_refused(checkout: Path, action: str, pid: object) -> None:
    """A signal to process -1 would go to every process of the user."""
    ports = {"grpc_port": 1, "http_port": 2}
    entry = {"name": "aa", "start_ticks": 0, **ports, "drain_s": 0.0, "log": "x"}
    (checkout / "run").mkdir()
    path = checkout / "run" / "zoo.json"
    path.write_text(json.dumps({"id": "x", "processes": [{**entry, "pid": pid}]}))
    answer = zoo(checkout, action)
    assert answer.returncode == 1
    assert "is no number of a process" in answer.stderr
    path.unlink()


@pytest.mark.parametrize(("told", "kept"), [("3", 3.0), ("", ServerSettings().drain_s)])
def test_a_stop_waits_as_long_as_the_start_was_told(checkout: Path, told: str, kept: float) -> None:
    """`make down` need not be told again what `make up` was told, and knows no default itself."""
    assert zoo(checkout, "up", SPINEZOO_DRAIN_S=told).returncode == 0
    processes = json.loads((checkout / "run" / "zoo.json").read_text())["processes"]
    assert {each["drain_s"] for each in processes} == {kept}
    _, running = Zoo(checkout, environment={}).load()
    assert {one.drain_s for one in running} == {kept}


def test_a_room_that_is_not_set_up(checkout: Path) -> None:
    (checkout / ".venvs/of-gateway/bin/python").unlink()
    up = zoo(checkout, "up")
    assert up.returncode == 1
    assert "gateway is not set up" in up.stderr
    assert "make setup" in up.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", ".env:12: write KEY=VALUE"),
        ("SPINEZOO_AA_GRPC_PORT=x", "must be a port, 1 to 65535, is 'x'"),
        ("SPINEZOO_THREADS=inf", "must be a number"),
    ],
)
def test_a_wrong_env_file_is_named(checkout: Path, line: str, says: str) -> None:
    with (checkout / ".env").open("a") as handle:
        handle.write(line + "\n")
    up = zoo(checkout, "up")
    assert up.returncode == 1
    assert says in up.stderr


def test_the_shipped_env_file_names_every_port_once() -> None:
    values = read_env_file(ROOT / ".env")
    ports = [value for key, value in values.items() if key.endswith("_PORT")]
    assert len(ports) == len(set(ports)) == 14
    for name in networks_of(ROOT):
        assert f"SPINEZOO_{name.upper()}_GRPC_PORT" in values


def test_one_process_of_a_new_environment_goes_ahead(tmp_path: Path) -> None:
    def part(name: str, environment: str) -> Part:
        python = tmp_path / environment / "bin/python"
        return Part(name, tmp_path, (str(python),), 1, 2, {})

    parts = [part("one", "engine"), part("two", "engine"), part("gateway", "core")]
    for environment in ("engine", "core"):
        (tmp_path / environment).mkdir()
        (tmp_path / environment / MADE_FROM).write_text("digest")

    def names() -> list[list[str]]:
        return [[each.name for each in turn] for turn in turns_of(parts)]

    assert names() == [["one", "gateway"], ["two"]]
    (tmp_path / "engine" / STARTED).touch()
    assert names() == [["one", "two", "gateway"]]
    (tmp_path / "engine" / STARTED).unlink()
    (tmp_path / "engine" / MADE_FROM).unlink()  # an environment that somebody else made
    assert names() == [["one", "two", "gateway"]]
