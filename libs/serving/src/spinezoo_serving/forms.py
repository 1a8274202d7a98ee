"""Forms with a film, read into memory, whole or not at all, within limits of size and time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from spinezoo_contract.errors import DeadlineError, NotServingError, TooLargeError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from spinezoo_serving.calls import UPLOAD_S

SILENCE_S = 15.0
"""Time without a byte after which a caller is held to have stopped sending, in s."""


@contextlib.asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """For reading a request by :func:`pieces`.

    Raises:
        DeadlineError: It did not come in time.
        NotServingError: The caller has gone.
    """
    try:
        async with asyncio.timeout(UPLOAD_S):
            yield
    except TimeoutError:
        raise DeadlineError(
            f"the film did not come within {UPLOAD_S:.0f} s, or nothing came for "
            f"{SILENCE_S:.0f} s; send it over a faster line"
        ) from None
    except ClientDisconnect:
        raise NotServingError("the caller has gone while it sent the film") from None


async def pieces(
    request: Request, most: int, too_large: Callable[[int], TooLargeError]
) -> AsyncGenerator[bytes, None]:
    """A request's body, piece by piece.

    Args:
        request: The request.
        most: Most bytes of it.
        too_large: Makes the error for a body of so many bytes or more.

    Raises:
        TooLargeError: It is over the limit, or says that it is; no more of it is read then.
        TimeoutError: The caller fell silent.
    """
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdecimal() and int(length) > most:
        raise too_large(int(length))
    taken = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        taken += len(piece)
        if taken > most:
            raise too_large(taken)
        yield piece


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
