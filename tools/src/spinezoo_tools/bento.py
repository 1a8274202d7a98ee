"""A bento of each network, for those who containerize and deploy with BentoML.

Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from spinezoo_tools.engine import ContainersError, ask, run, say
from spinezoo_tools.environments import ROOT, UV, Room, serving_python_of
from spinezoo_tools.images import Part, parts, settings

DIST = ROOT / "dist"


def distributions(folder: str) -> list[Path]:
    """Folders of our own distributions that a service needs to serve, its own last.

    Asks the script that the images are made with.

    Args:
        folder: The service's, below the repository.

    Raises:
        ContainersError: The script failed.
    """
    listed = ask([sys.executable, ROOT / "deploy/images/distributions.py", folder])
    if listed is None:
        raise ContainersError(f"deploy/images/distributions.py failed on {folder}")
    return [ROOT / name for name in listed.splitlines()]


def wheel(room: Path, folder: Path) -> None:
    """Builds one of our distributions as a wheel."""
    run([UV, "build", "--quiet", "--wheel", "--out-dir", folder, room], limit_s=300.0)


def bento(only: Sequence[str], dist: Path = DIST) -> None:
    """Builds a bento of each network, for those who containerize and deploy with BentoML.

    `bentoml build` sees its own folder only, so each network is laid out under ``dist/bento`` with
    our libraries as wheels. The store is ``dist/bentoml``; each bento is exported to ``dist/`` too.

    Raises:
        ContainersError: A service is not set up, or BentoML refuses it.
    """
    for part in (each for each in parts(only) if each.card.is_file()):
        bentoml = serving_python_of(ROOT, ROOT / part.folder, {}).parent / "bentoml"
        if not bentoml.exists() or not UV.exists():
            raise ContainersError(f"{part.folder} is not set up; run `make setup`")
        folder = dist / "bento" / part.name
        shutil.rmtree(folder, ignore_errors=True)
        wheels = folder / "wheels"
        wheels.mkdir(parents=True)
        source = ROOT / part.folder
        for room in distributions(part.folder):
            wheel(room, wheels)
        (wheels / ".gitignore").unlink(missing_ok=True)
        for name in ("service.py", "card.yaml"):
            shutil.copy2(source / name, folder / name)
        shutil.copytree(source / "weights", folder / "weights")
        lock = Room(source).serving_environment.lock.read_text(encoding="utf-8")
        ours = "".join(f"./wheels/{path.name}\n" for path in sorted(wheels.glob("*.whl")))
        (folder / "requirements.txt").write_text(lock + ours, encoding="utf-8")
        (folder / "bentofile.yaml").write_text(_bentofile(part), encoding="utf-8")
        environment = {
            **os.environ,
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(dist / "bentoml"),
            # BentoML looks for uv there, and would install one with pip, which no room has.
            "PATH": f"{UV.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
        say(f"{part.name}: bentoml build")
        target = dist / f"{part.name}-{part.version}.bento"
        target.unlink(missing_ok=True)
        tag = f"{part.name}:{part.version}"
        # The version is ours: a bento of an earlier build is replaced.
        subprocess.run([bentoml, "delete", "--yes", tag], env=environment, capture_output=True)
        command = [str(bentoml), "build", "--version", part.version, "--output", "tag", "."]
        run(command, environment=environment, cwd=folder, limit_s=600.0)
        command = [str(bentoml), "export", tag, str(target)]
        run(command, environment=environment, cwd=folder, limit_s=300.0)
        say(f"{part.name}: wrote {target}")


def _bentofile(part: Part) -> str:
    port = settings().get(f"SPINEZOO_{part.name.upper()}_GRPC_PORT") or "50051"
    return f"""\
# Made by `make bento-build`.
service: "service:Service"
labels:
  project: spinezoo
  version: "{part.version}"
  card_sha256: "{hashlib.sha256(part.card.read_bytes()).hexdigest()}"
include:
  - service.py
  - card.yaml
  - weights/*
  - wheels/*.whl
python:
  requirements_txt: ./requirements.txt
  lock_packages: false
envs:
  - name: SPINEZOO_HOST
    value: "0.0.0.0"
  - name: SPINEZOO_GRPC_PORT
    value: "{port}"
  - name: BENTOML_DO_NOT_TRACK
    value: "True"
docker:
  python_version: "3.11"
"""
