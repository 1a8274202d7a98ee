"""What keeps values of films out of logs and terminals."""

from __future__ import annotations

import logging
import warnings


def silence_libraries() -> None:
    """Keeps libraries from writing values of films into logs and onto the terminal."""
    warnings.simplefilter("ignore")
    for name in ("pynetdicom", "pydicom", "highdicom", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
