"""A film as members are asked about it: whole, or shrunk to the canvas of those that take it so."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from google.protobuf.unknown_fields import UnknownFieldSet
from spinezoo.v1 import ensemble_pb2, image_pb2, segmenter_pb2
from spinezoo_contract import codec
from spinezoo_contract.types import Film
from spinezoo_spine.films.plausible import check_order
from spinezoo_spine.inference.preprocess import shrunk

ReadFilm = Callable[..., Film]

Canvas = tuple[int, int]
"""Rows and columns of a network's input."""


class SentFilm:
    """A request's film, decoded, and the questions about it; each is serialised once.

    Attributes:
        film: The film, decoded.
        options: What members are asked for.
        notes: Messages of the notes on the film.
    """

    def __init__(self, request: ensemble_pb2.SegmentRequest, film: Film) -> None:
        """Serialises nothing yet.

        Args:
            request: Film and settings.
            film: Its film, decoded.
        """
        self.film = film
        self.options = request.options
        self.notes: tuple[image_pb2.FilmNote, ...] = tuple(map(codec.to_proto, film.notes))
        self._request = request
        self._questions: dict[Canvas | None, bytes] = {}

    @property
    def whole(self) -> bytes:
        """The serialised ``PredictRequest`` about the whole film."""
        if None not in self._questions:
            self._questions[None] = self._about_whole()
        return self._questions[None]

    def question(self, canvas: Canvas | None) -> bytes:
        """The serialised ``PredictRequest`` for networks of a canvas; of None, the whole film.

        A film that would not become smaller is sent whole.
        """
        if canvas is not None and canvas not in self._questions:
            self._questions[canvas] = self._about_shrunk(canvas)
        return self.whole if canvas is None else self._questions[canvas]

    def is_shrunk(self, canvas: Canvas | None) -> bool:
        """Whether the question for a canvas is about less than the whole film."""
        return canvas is not None and self.question(canvas) is not self._questions.get(None)

    def _about_whole(self) -> bytes:
        request = self._request
        is_raw = request.image.WhichOneof("form") == "raw"
        others = any(field.number > 2 for field, _ in request.ListFields())
        if is_raw and not others and not len(UnknownFieldSet(request)):
            # Film and settings have the same numbers in both messages (a test holds that), so that
            # nothing needs to be copied from one to the other. A newer client's field of any other
            # number would mean something else to a member.
            return request.SerializeToString()
        question = segmenter_pb2.PredictRequest(options=request.options)
        if is_raw:
            question.image.CopyFrom(request.image)
        else:
            codec.film_to_proto(self.film, question.image)
        return question.SerializeToString()

    def _about_shrunk(self, canvas: Canvas) -> bytes:
        pixels = shrunk(self.film.pixels, *canvas)
        if pixels is None:
            return self.whole
        question = segmenter_pb2.PredictRequest(
            options=self._request.options,
            whole_height=self.film.height,
            whole_width=self.film.width,
        )
        codec.film_to_proto(replace(self.film, pixels=pixels), question.image)
        return question.SerializeToString()


def sent_film(
    request: ensemble_pb2.SegmentRequest,
    read_film: ReadFilm,
    *,
    max_pixels: int,
    canvases: Collection[Canvas | None] = (None,),
) -> SentFilm:
    """A request's film, decoded, with the questions that will be asked about it.

    Args:
        request: The request.
        read_film: Decoder of DICOM and encoded films.
        max_pixels: Most pixels of a film.
        canvases: Of the members that are going to be asked; None: the whole film.

    Raises:
        FilmError: The film cannot be read, or its raw pixels are in another order than it says.
        TooLargeError: It is over a size limit.
    """
    film = codec.film_from_proto(request.image, read_film, max_pixels)
    if request.image.WhichOneof("form") == "raw":
        check_order(film.pixels)
    sent = SentFilm(request, film)
    for canvas in canvases:
        sent.question(canvas)
    return sent
