"""How coverage-guided fuzzing is run, with atheris: for a time, and within limits of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable

import atheris


def run(one: Callable[[bytes], None], *options: str) -> None:
    """Takes ``CORPUS SECONDS`` from the command line; exits with libFuzzer's status.

    Args:
        one: Looks at one input. Anything that it raises, 5 s, or 1 GiB ends the run.
        options: More options of libFuzzer.
    """
    corpus, seconds = sys.argv[1:]
    atheris.Setup(
        [
            sys.argv[0],
            corpus,
            f"-max_total_time={seconds}",
            "-timeout=5",
            "-rss_limit_mb=1024",
            f"-artifact_prefix={corpus}/",
            "-print_final_stats=1",
            *options,
        ],
        one,
    )
    atheris.Fuzz()
