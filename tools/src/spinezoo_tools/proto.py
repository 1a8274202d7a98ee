"""Lints the contract and generates its Python: what ``make proto`` runs.

    python -m spinezoo_tools.proto                    lint, compare with HEAD, generate
    python -m spinezoo_tools.proto --check            write nothing; fail if the tree is stale
    python -m spinezoo_tools.proto --against v0.1.0   compare with another commit instead of HEAD

The code is generated into a temporary folder first and takes its place only when everything
before went well, so a failure leaves the tree as it was. ``protos/`` is the only source;
``libs/contract/src/spinezoo/v1`` is its only copy in Python. Standard library only; buf and protoc
are those of the environment of the tests, where ``tests/pyproject.toml`` pins the compiler exactly:
another version writes other files.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from spinezoo_tools.output import end_with_reader

ROOT = Path(__file__).resolve().parents[3]
PROTOS = ROOT / "protos"
GENERATED = ROOT / "libs" / "contract" / "src" / "spinezoo" / "v1"
DIGESTS = "sources.sha256"
"""Beside the generated code: digest of each source, so that a test without any tool sees a
changed source whose code was not generated anew."""


class ProtoError(Exception):
    """A step failed; the message says which and what to do."""


def main(argv: list[str] | None = None) -> int:
    """Runs the steps; returns the exit status."""
    parser = argparse.ArgumentParser(description="Lint the contract and generate its Python.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    parser.add_argument("--against", default="HEAD", help="commit to compare with (default HEAD)")
    parser.add_argument(
        "--breaking-ok",
        action="store_true",
        help="go on after a breaking change; say why in docs/decisions.md",
    )
    parser.add_argument(
        "--tools", type=Path, default=ROOT / ".venvs" / "tests", help="environment of the tools"
    )
    options = parser.parse_args(argv)
    try:
        tools = find_tools(options.tools)
        lint(tools)
        find_breaking(tools, options.against, breaking_ok=options.breaking_ok)
        with tempfile.TemporaryDirectory() as folder:
            fresh = generate(tools, Path(folder))
            stale = differences(fresh, GENERATED)
            if options.check and stale:
                raise ProtoError(
                    f"generated code is stale: {', '.join(stale)}; run `make proto` and commit"
                )
            if not options.check:
                install(fresh, GENERATED)
    except ProtoError as error:
        print(f"proto: {error}", file=sys.stderr)
        return 1
    where = GENERATED.relative_to(ROOT)
    print(f"proto: {where} {'is up to date' if not stale else 'written: ' + ', '.join(stale)}")
    return 0


def find_tools(environment: Path) -> Path:
    """The environment's ``bin`` folder; raises where buf or protoc is missing."""
    folder = environment / "bin"
    if not (folder / "buf").is_file() or not (folder / "python").exists():
        raise ProtoError(f"{folder} has no buf; run `make setup` first")
    return folder


def lint(tools: Path) -> None:
    """The STANDARD and COMMENTS rules of buf and its format, without exception."""
    _run([tools / "buf", "lint", PROTOS], "buf lint finds faults; mend the .proto files")
    _run(
        [tools / "buf", "format", "--diff", "--exit-code", PROTOS],
        "the .proto files are not formatted; run `buf format -w protos`",
    )


def find_breaking(tools: Path, against: str, *, breaking_ok: bool) -> None:
    """Compares with a commit: a field's number, type or name that clients hold must stay."""
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{against}:protos/buf.yaml"],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    if known.returncode:
        if against != "HEAD":
            raise ProtoError(f"{against} is no commit with protos/; name one that is")
        print("proto: no commit to compare with; skipping the comparison")
        return
    with tempfile.TemporaryDirectory() as folder:
        # buf itself would look at the last 50 commits only.
        then = Path(folder) / "protos.tar"
        _run(
            ["git", "archive", f"--output={then}", against, "protos"],
            f"the protos of {against} cannot be read from git",
        )
        command: list[str | Path] = [
            tools / "buf", "breaking", PROTOS, "--against", f"{then}#format=tar,subdir=protos",
        ]  # fmt: skip
        try:
            _run(command, f"the contract breaks clients of {against}; add fields instead")
        except ProtoError:
            if not breaking_ok:
                raise


def generate(tools: Path, folder: Path) -> Path:
    """Messages, type stubs and services in ``folder``; returns the folder that holds them."""
    sources = sorted(PROTOS.glob("spinezoo/v1/*.proto"))
    _run(
        [
            tools / "python",
            "-m",
            "grpc_tools.protoc",
            f"-I{PROTOS}",
            f"--python_out={folder}",
            f"--pyi_out={folder}",
            f"--grpc_python_out={folder}",
            *sources,
        ],
        "protoc failed",
    )
    fresh = folder / "spinezoo" / "v1"
    lines = [f"{_sha256(source)}  {source.relative_to(PROTOS).as_posix()}" for source in sources]
    (fresh / DIGESTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return fresh


def differences(fresh: Path, present: Path) -> list[str]:
    """Names of generated files that differ, are missing, or are left over."""
    names = {path.name for path in fresh.iterdir()} | {path.name for path in _generated(present)}
    return sorted(name for name in names if _content(fresh / name) != _content(present / name))


def install(fresh: Path, present: Path) -> None:
    """Puts the fresh files in the place of the present ones."""
    present.mkdir(parents=True, exist_ok=True)
    for path in _generated(present):
        if not (fresh / path.name).exists():
            path.unlink()
    for path in sorted(fresh.iterdir()):
        if _content(path) != _content(present / path.name):
            shutil.copyfile(path, present / path.name)


def _generated(folder: Path) -> list[Path]:
    return [*folder.glob("*_pb2*.py*"), *folder.glob(DIGESTS)] if folder.is_dir() else []


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(command: list[str | Path], failure: str) -> None:
    result = subprocess.run([str(part) for part in command], cwd=ROOT, check=False)
    if result.returncode:
        raise ProtoError(failure)


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
