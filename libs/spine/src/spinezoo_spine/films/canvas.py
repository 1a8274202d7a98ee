"""Where decoders put a film's pixels: a decoding process puts them where its asker sees them."""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray


class SharedCanvas:
    """Memory for one film, which is sent to another process by its descriptor."""

    def __init__(self) -> None:
        """Takes none yet."""
        self._pixels: NDArray[Any] | None = None
        self._descriptor = -1

    def empty(self, shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
        """An array to decode into; one a film."""
        self.drop()
        size = shape[0] * shape[1] * np.dtype(dtype).itemsize
        self._descriptor = os.memfd_create("spinezoo-film", os.MFD_CLOEXEC)
        os.ftruncate(self._descriptor, size)
        memory = mmap.mmap(self._descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._pixels = np.frombuffer(memory, dtype=dtype).reshape(shape)
        return self._pixels

    def taken(self, pixels: NDArray[Any]) -> int | None:
        """The descriptor, for the caller to close, if these are the pixels decoded into it."""
        if self._pixels is None or pixels is not self._pixels:
            return None
        descriptor, self._descriptor = self._descriptor, -1
        self.drop()
        return descriptor

    def drop(self) -> None:
        """Lets go of what was taken for a film that came to nothing."""
        self._pixels = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


shared: SharedCanvas | None = None
"""Set in a decoding process, where the system can share memory."""


def empty(shape: tuple[int, int], dtype: Any) -> NDArray[Any]:
    """An array for a film's pixels, not filled."""
    return np.empty(shape, dtype=dtype) if shared is None else shared.empty(shape, dtype)
