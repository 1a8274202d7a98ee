"""What a training tells while it runs: TensorBoard logs with pictures of answers.

::

    log = RunLog(run_dir)
    log.epoch(3, {"loss": 0.4}, strip)
    log.close()

The package ``tensorboard`` belongs to training only and is in no serving image; where it is absent
nothing is logged, and one line says so.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.types import Structure

from spinezoo_training.prepared_set import PreparedFilm
from spinezoo_training.targets import label_map_of

LOG_FOLDER = "tensorboard"
"""Folder inside the run's folder."""

STRIP_FILMS = 4
"""Validation films whose answers are shown."""

COLOURS_RGB = {
    Structure.LUMBAR_VERTEBRA: (70, 170, 255),
    Structure.SACRAL_VERTEBRA: (90, 220, 120),
    Structure.CAGE: (255, 200, 60),
    Structure.SCREW: (255, 90, 90),
    Structure.ROD: (220, 110, 255),
}

_OVERLAY_SHARE = 0.4


def command_of(module: str, argv: Sequence[str]) -> str:
    """A training's command as typed, paths by their last part: a card must not tell of a machine.

    Args:
        module: What ``python -m`` ran.
        argv: The arguments.
    """
    shown = [Path(part).name if os.sep in part else part for part in argv]
    return " ".join([f"python -m {module}", *shown])


class RunLog:
    """Scalars and pictures of a run, by epoch."""

    def __init__(self, run_dir: Path, *, quiet: bool = False) -> None:
        """Writes nothing yet.

        Args:
            run_dir: Folder of the run. Each start adds a file; TensorBoard shows them as one run.
            quiet: Say nothing of tensorboard's absence.
        """
        self.folder = run_dir / LOG_FOLDER
        self._quiet = quiet
        self._writer: Any = None

    def _open(self) -> bool:
        """Whether there is something to write with."""
        if self._writer is not None:
            return True
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            if not self._quiet:
                sys.stderr.write("no TensorBoard logs: install tensorboard for them\n")
                self._quiet = True
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventFileWriter(str(self.folder))
        return True

    def epoch(
        self, epoch: int, scalars: Mapping[str, float], strip: NDArray[np.uint8] | None = None
    ) -> None:
        """Writes one epoch's figures and picture, whole when it returns.

        Args:
            epoch: Finished epochs.
            scalars: Figures by name.
            strip: (h, w, 3) RGB picture, see :func:`prediction_strip`.
        """
        if not self._open():
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=float(value)) for name, value in scalars.items()
        ]
        if strip is not None:
            encoded = cv2.imencode(".png", np.ascontiguousarray(strip[..., ::-1]))[1].tobytes()
            image = Summary.Image(
                height=strip.shape[0],
                width=strip.shape[1],
                colorspace=3,
                encoded_image_string=encoded,
            )
            values.append(Summary.Value(tag="film, truth, answer", image=image))
        self._writer.add_event(
            Event(wall_time=time.time(), step=epoch, summary=Summary(value=values))
        )
        self._writer.flush()

    def close(self) -> None:
        """Ends the log."""
        if self._writer is not None:
            self._writer.close()


def prediction_strip(
    films: Sequence[PreparedFilm], answers: Sequence[NDArray[np.integer[Any]]]
) -> NDArray[np.uint8]:
    """(2 h, n w, 3) RGB: films in a row, the truth on them above and the answer below.

    Args:
        films: Films of one canvas, at least one.
        answers: (h, w) numbers of structures, 0 for none, one a film.
    """
    columns = [
        np.concatenate([_painted(film.grey, label_map_of(film)), _painted(film.grey, answer)])
        for film, answer in zip(films, answers, strict=True)
    ]
    return np.concatenate(columns, axis=1)


def _painted(grey: NDArray[np.uint8], labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    picture = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for structure, colour in COLOURS_RGB.items():
        inside = labels == int(structure)
        picture[inside] += _OVERLAY_SHARE * (np.array(colour, np.float32) - picture[inside])
    return np.rint(picture).astype(np.uint8)
