"""What a newcomer waits for: ``make benchmark`` in a fresh clone of the commit that is checked out.

Packages come from the package manager's cache where it has them, so run it twice where it has not.
Gives the time on the clock and of the processor, and the size of all packages that were installed,
unpacked and each once: an upper limit of what a fresh machine downloads::

    .venvs/core/bin/python benchmarks/fresh.py [--record]

Ends with 1 when a mark is missed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record
from ensemble import ROOT, own_environment


def installed_bytes(folder: Path) -> int:
    """Size of all files but bytecode, those with several links once."""
    sizes = {}
    for path in folder.rglob("*"):
        if path.suffix != ".pyc" and path.is_file() and not path.is_symlink():
            status = path.stat()
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def processor_s() -> float:
    """Processor time of all that this process has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    record.add_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name, "clone")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = own_environment(clone, str(Path(name, "run")))
        began, used_s = time.monotonic(), processor_s()
        subprocess.run(["make", "benchmark"], cwd=clone, env=environment, check=True)
        result = {
            "seconds": round(time.monotonic() - began, 1),
            "processor_s": round(processor_s() - used_s, 1),
            "packages_gb": round(installed_bytes(clone / ".venvs") / 1e9, 2),
        }
    return record.finish("fresh", result, options)


if __name__ == "__main__":
    sys.exit(main())
