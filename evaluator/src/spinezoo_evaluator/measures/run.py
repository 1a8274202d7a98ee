"""Measures of a benchmark's films, from the answers that it kept, against the truth."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.types import (
    EnsembleAnswer,
    FilmMeasures,
    FusedImplant,
    FusionOptions,
    Labelling,
    Segment,
)
from spinezoo_spine.column.consensus import Vertebrae, vertebrae_of
from spinezoo_spine.films.reader import read_film_file
from spinezoo_spine.fusion.implants import fuse_implants, implants_of
from spinezoo_spine.fusion.touching import with_touches
from spinezoo_spine.measures.film import measure_film
from spinezoo_spine.measures.refiner.network import built_in_refiner

from spinezoo_evaluator.measures.errors import Errors
from spinezoo_evaluator.measures.truth import TrueFilm
from spinezoo_evaluator.results.records import FUSED, RunFolder, named

OUTLINES_ALONE = f"{FUSED}, outlines alone"
"""The ensemble without the refiner."""

MOST_WORKERS = 8
"""Processes that measure films at the same time, at most."""

LEAST_FILMS = 8
"""Fewer films are measured here: starting processes takes longer."""

ErrorsByName = dict[str, Errors]


@dataclass(frozen=True)
class KeptFilm:
    """What is known of one film after the zoo answered.

    Attributes:
        truth: Its truth.
        members: Segments of every member that answered.
        vertebrae: The fused vertebrae.
        path: The film's file, for the refiner; None: outlines alone are measured.
    """

    truth: TrueFilm
    members: Mapping[str, Sequence[Segment]]
    vertebrae: tuple[Segment, ...]
    path: Path | None = None

    @classmethod
    def read(cls, truth: TrueFilm, folder: RunFolder, path: Path | None = None) -> KeptFilm:
        """As a benchmark kept it.

        Raises:
            ConfigurationError: The answers are absent or broken.
        """
        kept = folder.read_answer(truth.name)
        vertebrae = kept.get(named(FUSED), ())
        beside = {FUSED, named(FUSED), *(named(name) for name in kept)}
        members = {name: said for name, said in kept.items() if name not in beside}
        return cls(truth, members, vertebrae, path)

    @classmethod
    def answered(cls, truth: TrueFilm, answer: EnsembleAnswer, path: Path) -> KeptFilm:
        """As the gateway answered."""
        members = {
            member.status.member_name: member.prediction.segments
            for member in answer.members
            if member.prediction is not None
        }
        labelling = answer.fused.labelling
        vertebrae = () if labelling is None else labelling.vertebrae
        return cls(truth, members, tuple(each.segment for each in vertebrae), path)

    def pixels(self) -> NDArray[Any] | None:
        """(height, width) film, bright means dense; None: there is no file."""
        return None if self.path is None else _pixels(self.path)

    def said(self, model: str | None = None) -> dict[str, Vertebrae]:
        """What the members say of the column; of one member alone where it is named."""
        names = self.members if model is None else [model]
        height, width = self.truth.height, self.truth.width
        return {name: vertebrae_of(self.members[name], height, width) for name in names}

    @cached_property
    def labelling(self) -> Labelling:
        """The fused vertebrae with their true names."""
        return self.truth.named(self.vertebrae)

    @cached_property
    def implants(self) -> tuple[FusedImplant, ...]:
        """The implants, fused again, and what they touch."""
        height, width = self.truth.height, self.truth.width
        metal = {name: implants_of(said, height, width) for name, said in self.members.items()}
        return with_touches(fuse_implants(metal, (), FusionOptions()), self.labelling)

    def measured(self, model: str | None = None, *, refine: bool = True) -> FilmMeasures:
        """Measures by all members, or by one alone, of the vertebrae with their true names.

        The refiner looks at the film where there is one and ``refine`` is set, for all members
        together only.
        """
        spacing = (self.truth.spacing_mm, self.truth.spacing_mm)
        pixels = self.pixels() if refine and model is None else None
        return measure_film(
            self.labelling,
            self.said(model),
            self.implants if model is None else (),
            spacing,
            pixels=pixels,
            refiner=None if pixels is None else built_in_refiner(),
        )


@lru_cache(maxsize=1)
def _pixels(path: Path) -> NDArray[Any]:
    return read_film_file(path).pixels


def kept_films(
    truths: list[TrueFilm], run: Path, folder_of_films: Path | None = None
) -> Iterator[KeptFilm]:
    """The films of a run whose answers were kept.

    Args:
        truths: Of the films.
        run: Folder of a report.
        folder_of_films: Where their files lie, for the refiner; None: outlines alone are measured.

    Raises:
        ConfigurationError: There are none.
    """
    folder = RunFolder(run)
    found = False
    for truth in truths:
        try:
            path = None if folder_of_films is None else folder_of_films / truth.name
            kept = KeptFilm.read(truth, folder, path)
        except ConfigurationError:
            continue
        found = True
        yield kept
    if not found:
        raise ConfigurationError(
            f"{run.name} keeps no answer about these films; run make benchmark on them first"
        )


def errors_of(films: Iterable[KeptFilm]) -> tuple[ErrorsByName, ErrorsByName]:
    """Errors of the fused ensemble and of each network, and of the ensemble by trait of the film.

    A network alone measures the same fused vertebrae by its own borders, without the refiner; so
    does the ensemble once more, where the refiner looked.
    """
    by_model: ErrorsByName = {}
    by_trait: ErrorsByName = {}
    for of_film in _errors_of_each(list(films)):
        for every, own in zip((by_model, by_trait), of_film, strict=True):
            for name, errors in own.items():
                every.setdefault(name, Errors()).extend(errors)
    return by_model, by_trait


def _errors_of_each(films: Sequence[KeptFilm]) -> Iterator[tuple[ErrorsByName, ErrorsByName]]:
    """The errors of each film, in order; many films by as many processes as there are cores."""
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    if workers == 1 or len(films) < LEAST_FILMS:
        yield from map(_errors_of_film, films)
        return
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield from pool.map(_errors_of_film, films, chunksize=4)


def _errors_of_film(film: KeptFilm) -> tuple[ErrorsByName, ErrorsByName]:
    by_model: ErrorsByName = {}
    by_trait: ErrorsByName = {}
    fused = film.measured()
    by_model.setdefault(FUSED, Errors()).add(film.truth, fused)
    for trait in film.truth.traits.values():
        by_trait.setdefault(trait, Errors()).add(film.truth, fused)
    if fused.refiner is not None:
        alone = film.measured(refine=False)
        by_model.setdefault(OUTLINES_ALONE, Errors()).add(film.truth, alone)
    for name in film.members:
        by_model.setdefault(name, Errors()).add(film.truth, film.measured(name))
    return by_model, by_trait
