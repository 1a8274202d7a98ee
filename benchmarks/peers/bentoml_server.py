"""The network behind plain BentoML over HTTP: a worker a core (its page "Parallelize requests").

A film comes as a file of a form, as its page "Define input and output types" has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bentoml
from work import WORKERS, Work


@bentoml.service(name="peer", workers=WORKERS, traffic={"timeout": 60})
class Peer:
    """One network."""

    def __init__(self) -> None:
        """Loads it, in each worker."""
        self.work = Work()

    @bentoml.api(route="/predict")
    def predict(self, film: Path) -> dict[str, Any]:
        """The answer."""
        return self.work.answer(film.read_bytes())
