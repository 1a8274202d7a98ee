"""Which film an entry of an annotation file means."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from spinezoo_spine.annotations.text import shown

_ENDINGS = ("bmp", "dcm", "dicom", "gif", "ima", "jpeg", "jpg", "png", "tif", "tiff", "webp")
_ENDING = re.compile(rf"\.(?:{'|'.join(_ENDINGS)})$")
_QUERY = re.compile(rf"(\.(?:{'|'.join(_ENDINGS)}))[?#].*$")
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_SIZE_BEHIND = re.compile(rf"(\.(?:{'|'.join(_ENDINGS)}))-?\d+$")

PICTURE_SUFFIXES = (".bmp", ".gif", ".webp", ".jp2", ".heic", ".pdf")
"""Endings of files that people take for films and that are not taken."""


@dataclass(frozen=True, slots=True)
class Match:
    """What was found for an entry.

    Attributes:
        film: Name of the film, or None where there is none or more than one.
        why_not: What a message says where there is none; goes on behind the entry's name.
        doubt: What a warning says where the names differ by more than their spelling; else empty.
    """

    film: str | None
    why_not: str = ""
    doubt: str = ""


def spelling(name: str) -> str:
    """A name without what people do not see.

    That is: case, Unicode form, back-slashes, %20, kinds of blanks and of dashes, letters without
    width, what an address has behind the ending.
    """
    plain = unicodedata.normalize("NFKC", unquote(name)).casefold().replace("\\", "/")
    plain = unicodedata.normalize("NFKC", plain).translate(_DASHES)
    seen = "".join(char for char in plain if unicodedata.category(char) != "Cf")
    return _QUERY.sub(r"\1", " ".join(seen.split()))


@lru_cache(maxsize=65_536)
def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a path or address in their :func:`spelling`, without drive and dots."""
    return tuple(part for part in spelling(name).split("/") if part not in ("", "."))


def _stem(last: str) -> str:
    return _ENDING.sub("", last)


class FilmNames:
    """The films of a folder, to be found by the names that annotation files give.

    Args:
        films: Film files by name; names of films in sub-folders hold their folder.
        others: Names of further files of the folder, which are no films.
        folder: The folder's name, for messages.
    """

    def __init__(
        self,
        films: Mapping[str, Path] | Iterable[str],
        others: Iterable[str] = (),
        folder: str = "",
    ) -> None:
        self._films = dict.fromkeys(films)
        self._folder = folder
        self._others = {spelling(name): name for name in others}
        self._by_last: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for name in self._films:
            last = parts_of(name)[-1] if parts_of(name) else spelling(name)
            self._by_last.setdefault(last, []).append(name)
            self._by_stem.setdefault(_stem(last), []).append(name)

    def match(self, entry: str) -> Match:
        """The film that an entry means, where exactly one can be meant.

        In this order: the very name; the same path in another spelling (case, Unicode form,
        back-slashes, a size behind the name); the last part of a path, as annotators' folders
        differ; the name with another ending, which is doubted.
        """
        if entry in self._films:
            return Match(entry)
        parts = parts_of(entry)
        if not parts:
            return Match(None, "is no file name; correct the entry")
        for last in dict.fromkeys((parts[-1], _SIZE_BEHIND.sub(r"\1", parts[-1]))):
            found = self._best((*parts[:-1], last), self._by_last.get(last, ()))
            if len(found) > 1:  # alike but for case or Unicode form: the very spelling decides
                raw = entry.replace("\\", "/").rsplit("/", 1)[-1]
                found = [name for name in found if name.rsplit("/", 1)[-1] == raw] or found
            if len(found) == 1:
                return Match(found[0])
            if found:
                return self._several(found)
        found = self._best(parts, self._by_stem.get(_stem(parts[-1]), ()), stems=True)
        if len(found) == 1:
            doubt = f"is taken to be film {shown(found[0])!r}; the name ends differently"
            return Match(found[0], doubt=doubt)
        if found:
            return self._several(found)
        return Match(None, self._nothing(parts))

    def _best(
        self, parts: tuple[str, ...], candidates: Iterable[str], *, stems: bool = False
    ) -> list[str]:
        """The candidates whose path agrees with most of the entry's, as far as both have one.

        A film in a sub-folder is not meant by an entry that names another folder.
        """
        reach: dict[str, int] = {}
        for name in candidates:
            own = parts_of(name)
            if stems:
                own, wanted = (*own[:-1], _stem(own[-1])), (*parts[:-1], _stem(parts[-1]))
            else:
                wanted = parts
            if wanted[-len(own) :] == own or own[-len(wanted) :] == wanted:
                reach[name] = min(len(own), len(wanted)) + (len(own) == len(wanted))
        longest = max(reach.values(), default=0)
        return [name for name, length in reach.items() if length == longest]

    def _several(self, found: list[str]) -> Match:
        names = " or ".join(repr(shown(name)) for name in sorted(found))
        return Match(
            None, f"may be {names} of folder {self._folder!r}; name its film as the file is called"
        )

    def _nothing(self, parts: tuple[str, ...]) -> str:
        other = self._others.get(parts[-1])
        if other is not None:
            return (
                f"is in folder {self._folder!r} as {shown(other)!r}, which is no film of a kind "
                "that is taken (DICOM, PNG, JPEG, TIFF); save it as one of these"
            )
        told = f"is not in folder {self._folder!r}"
        near = [*self._by_last.get(parts[-1], ()), *self._by_stem.get(_stem(parts[-1]), ())]
        if near:
            names = ", ".join(repr(shown(name)) for name in dict.fromkeys(near))
            return f"{told}; there is {names}: name both alike"
        return f"{told}; add the film or remove its entry"
