"""A film that comes as a form: bounded before it is read, kept in memory."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from spinezoo_contract.errors import (
    BadInputError,
    OptionError,
    TooLargeError,
)
from spinezoo_serving.calls import Places
from spinezoo_serving.forms import FormInMemory, in_time, pieces
from starlette.formparsers import MultiPartException
from starlette.requests import Request

FIELDS_BYTES = 65_536
"""What a form may hold beside the film."""

FULL = (
    "being sent or under way over {}, the limit (twice SPINEZOO_GATEWAY_CONCURRENCY); try again "
    "when one is done"
)
"""What a caller reads who finds no place."""

_HOW = 'send multipart/form-data with the file in `film`: curl -F "film=@film.dcm" ...'


@dataclass(frozen=True, slots=True)
class Upload:
    """A form that has come in.

    Attributes:
        film: Bytes of the file.
        fields: The other fields; one that came several times has its values joined by commas.
    """

    film: bytes
    fields: dict[str, str]


class Uploads:
    """The forms that are in memory at the same time.

    Args:
        most: How many.
        max_bytes: Most bytes of a film's file.
    """

    def __init__(self, most: int, max_bytes: int) -> None:
        self.place = Places(most, FULL.format("HTTP")).place
        self._max_bytes = max_bytes

    async def read(self, request: Request) -> Upload:
        """The form of a request.

        Raises:
            BadInputError: It is no form, or has no film or more than one.
            OptionError: Settings stand in the address, where nothing reads them.
            TooLargeError: It is over the limit; nothing more of it is read then.
            DeadlineError: It did not come in time.
            NotServingError: The caller has gone.
        """
        if request.query_params:
            named = ", ".join(map(repr, sorted(request.query_params.keys())[:5]))
            raise OptionError(
                f"the address has the parameters {named[:200]}, which are not read there; send "
                "them as fields of the form, beside the film"
            )
        said = request.headers.get("content-type", "")
        if said.partition(";")[0].strip().lower() != "multipart/form-data":
            raise BadInputError(f"the request is no form with a file; {_HOW}")
        parser = FormInMemory(
            request.headers,
            pieces(request, self._max_bytes + FIELDS_BYTES, self._too_large),
            max_files=1,
            max_fields=50,
            max_part_size=FIELDS_BYTES,
        )
        try:
            async with in_time():
                form = await parser.parse()
        except MultiPartException as error:
            raise BadInputError(f"the form cannot be read ({error.message}); {_HOW}") from None
        with contextlib.closing(parser):
            fields: dict[str, str] = {}
            film: bytes | None = None
            for name, value in form.multi_items():
                if isinstance(value, str):
                    fields[name] = f"{fields[name]},{value}" if name in fields else value
                elif name == "film":
                    film = await value.read()
                else:
                    raise BadInputError(f"a file is in a field that is not `film`; {_HOW}")
        if film is None:
            raise BadInputError(f"the form has no file `film`; {_HOW}")
        return Upload(film, fields)

    def _too_large(self, size: int) -> TooLargeError:
        return TooLargeError(
            f"the form has {size} bytes or more, the limit for a film is {self._max_bytes} "
            "(SPINEZOO_MAX_MESSAGE_BYTES); scale the film down, half the size is enough"
        )
