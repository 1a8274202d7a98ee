"""Forms with a film, read into memory, whole or not at all."""

from __future__ import annotations

from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser


class FormInMemory(MultiPartParser):
    """Starlette's parser; no part of a film is ever written to a disk.

    Starlette leaves out a last part that was cut off, without a word: a setting that was sent would
    not count. Here that is an error.
    """

    spool_max_size = 1 << 40
    _ended = False

    def on_end(self) -> None:
        """The boundary that ends the form has come."""
        self._ended = True

    async def parse(self) -> FormData:
        """The form.

        Raises:
            MultiPartException: It is none, over a limit, or cut off.
        """
        form = await super().parse()
        if not self._ended:
            self.close()
            raise MultiPartException("it ends before its last part does; send it again")
        return form

    def close(self) -> None:
        """Lets all parts go, also one whose end never came."""
        for file in self._files_to_close_on_error:
            file.close()
