"""Typed clients of the three services, blocking and asyncio: dataclasses in and out.

::

    with EnsembleClient("127.0.0.1:50050") as zoo:
        answer = zoo.segment("film.dcm")
        for segment in answer.fused.segments:
            ...

    with EnsembleClient("zoo.hospital:50050", ca_file="ca.crt", token=token) as zoo:
        ...

Every failed call raises an error of :mod:`spinezoo_contract.errors` with the server's message and
a note that holds the request id, under which the server's log tells more. An answer that breaks
the contract raises :class:`~spinezoo_contract.errors.InvalidOutputError`; nothing half-read is
returned. Needs numpy, grpcio, protobuf and pycocotools only.
"""

from __future__ import annotations

from spinezoo_contract.client.channel import DEFAULT_GATEWAY, DEFAULT_TIMEOUT_S
from spinezoo_contract.client.ensemble import AsyncEnsembleClient, EnsembleClient
from spinezoo_contract.client.evaluation import AsyncEvaluationClient, EvaluationClient
from spinezoo_contract.client.films import FilmSource, film_kind, image_message
from spinezoo_contract.client.many import DEFAULT_AT_ONCE, Outcome
from spinezoo_contract.client.segmenter import AsyncSegmenterClient, SegmenterClient
from spinezoo_contract.limits import DEFAULT_MAX_MESSAGE_BYTES

__all__ = [
    "DEFAULT_AT_ONCE",
    "DEFAULT_GATEWAY",
    "DEFAULT_MAX_MESSAGE_BYTES",
    "DEFAULT_TIMEOUT_S",
    "AsyncEnsembleClient",
    "AsyncEvaluationClient",
    "AsyncSegmenterClient",
    "EnsembleClient",
    "EvaluationClient",
    "FilmSource",
    "Outcome",
    "SegmenterClient",
    "film_kind",
    "image_message",
]
