"""Measures of a benchmark's films, from the answers that it kept, against the truth."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.types import (
    VERTEBRAE,
    EnsembleAnswer,
    FilmMeasures,
    FusedImplant,
    FusionOptions,
    Segment,
    SegmentKind,
)
from spinezoo_serving.workers import follow_parent
from spinezoo_spine.column.consensus import Vertebrae, vertebrae_of
from spinezoo_spine.films.reader import read_film_file
from spinezoo_spine.fusion.implants import fuse_implants, implants_of
from spinezoo_spine.fusion.rods import redrawn_rods
from spinezoo_spine.fusion.touching import placed_in_column
from spinezoo_spine.measures.film import measure_film
from spinezoo_spine.measures.refiner.network import built_in_refiner
from spinezoo_spine.measures.weighing import Weighing

from spinezoo_evaluator.measures.errors import Errors
from spinezoo_evaluator.measures.paired import PairedTest, paired_tests
from spinezoo_evaluator.measures.truth import TrueFilm
from spinezoo_evaluator.results.records import FUSED, RunFolder, named, of_networks

OUTLINES_ALONE = f"{FUSED}, outlines alone"
"""The ensemble without the refiner."""


MOST_WORKERS = 8
"""Processes that measure films at the same time, at most."""

LEAST_FILMS = 8
"""Fewer films are measured here: starting processes takes longer."""

Shape = dict[str, NDArray[np.float64]]
"""Coefficients of the model of shape, see :mod:`spinezoo_spine.measures.shape`."""


@dataclass(frozen=True, slots=True)
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
        return cls(truth, of_networks(kept), vertebrae, path)

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

    def implants(self) -> tuple[FusedImplant, ...]:
        """The implants, fused again."""
        height, width = self.truth.height, self.truth.width
        metal = {name: implants_of(said, height, width) for name, said in self.members.items()}
        found = fuse_implants(metal, (), FusionOptions())
        pixels = self.pixels()
        if pixels is None:
            return found
        return redrawn_rods(found, metal, pixels, self.truth.spacing_mm)

    def measured(
        self,
        model: str | None = None,
        *,
        refine: bool = True,
        shape: Shape | None = None,
        weighing: Weighing | None = None,
        intervals: Mapping[str, tuple[float, float]] | None = None,
        implants: Sequence[FusedImplant] | None = None,
    ) -> FilmMeasures:
        """Measures by all members, or by one alone, of the vertebrae with their true names.

        The refiner looks at the film where there is one and ``refine`` is set, for all members
        together only. Model of shape, weights of outlines and refiner, and intervals are those
        shipped where none are given. Implants that are given are not fused again; one member alone
        is measured without any.
        """
        labelling = self.truth.named(self.vertebrae)
        if model is not None:
            implants = ()
        metal = placed_in_column(self.implants() if implants is None else implants, labelling)
        spacing = (self.truth.spacing_mm, self.truth.spacing_mm)
        pixels = self.pixels() if refine and model is None else None
        return measure_film(
            labelling,
            self.said(model),
            metal,
            spacing,
            pixels=pixels,
            refiner=None if pixels is None else built_in_refiner(),
            model=shape,
            weighing=weighing,
            intervals=intervals,
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
        ConfigurationError: There are none, or those of a film are damaged.
    """
    folder = RunFolder(run)
    found = False
    for truth in truths:
        if not folder.keeps(truth.name):
            continue
        path = None if folder_of_films is None else folder_of_films / truth.name
        yield KeptFilm.read(truth, folder, path)
        found = True
    if not found:
        raise ConfigurationError(
            f"{run.name} keeps no answer about these films; run make benchmark on them first"
        )


@dataclass(frozen=True, slots=True)
class Compared:
    """Errors of films by who measured.

    Attributes:
        by_model: Of the fused ensemble, of it without the refiner, and of each network.
        by_trait: Of the ensemble, by kind of film.
        groups: Films by kind.
        families: Networks by what they answer: "instance networks" or "semantic networks".
    """

    by_model: dict[str, Errors] = field(default_factory=dict)
    by_trait: dict[str, Errors] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    families: dict[str, set[str]] = field(default_factory=dict)

    def tests(self) -> list[PairedTest]:
        """Ensemble against its outlines alone, and instance against semantic networks."""
        pairs = []
        if OUTLINES_ALONE in self.by_model:
            ours, theirs = self.by_model[FUSED], self.by_model[OUTLINES_ALONE]
            pairs.append((FUSED, [ours], "outlines alone", [theirs]))
        instance = self.families.get(INSTANCE, set())
        semantic = self.families.get(SEMANTIC, set()) - instance
        if instance and semantic:
            sides = ([self.by_model[name] for name in sorted(f)] for f in (instance, semantic))
            first, second = sides
            pairs.append((INSTANCE, first, SEMANTIC, second))
        return paired_tests(pairs, dict(sorted(self.groups.items())))


INSTANCE, SEMANTIC = "instance networks", "semantic networks"


def errors_of(films: Iterable[KeptFilm]) -> Compared:
    """Errors of the fused ensemble and of each network, and of the ensemble by trait of the film.

    A network alone measures the same fused vertebrae by its own borders, without the refiner; so
    does the ensemble once more, where the refiner looked.
    """
    every = Compared()
    for one in _compared_each(list(films)):
        for total, part in ((every.by_model, one.by_model), (every.by_trait, one.by_trait)):
            for name, errors in part.items():
                total.setdefault(name, Errors()).extend(errors)
        for trait, names in one.groups.items():
            every.groups.setdefault(trait, []).extend(names)
        for family, members in one.families.items():
            every.families.setdefault(family, set()).update(members)
    return every


def _compared_each(films: Sequence[KeptFilm]) -> Iterator[Compared]:
    """The errors of each film, in order; many films by as many processes as there are cores."""
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    if workers == 1 or len(films) < LEAST_FILMS:
        for film in films:
            yield _compared([film])
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_prepare_worker) as pool:
        yield from pool.map(_compared, [[film] for film in films], chunksize=4)


def _prepare_worker() -> None:
    cv2.setNumThreads(1)
    follow_parent()


def _compared(films: Sequence[KeptFilm]) -> Compared:
    found = Compared()
    by_model, by_trait = found.by_model, found.by_trait
    for film in films:
        implants = film.implants()
        fused = film.measured(implants=implants)
        by_model.setdefault(FUSED, Errors()).add(film.truth, fused)
        for trait in film.truth.traits.values():
            by_trait.setdefault(trait, Errors()).add(film.truth, fused)
            found.groups.setdefault(trait, []).append(film.truth.name)
        if fused.refiner is not None:
            alone = film.measured(refine=False, implants=implants)
            by_model.setdefault(OUTLINES_ALONE, Errors()).add(film.truth, alone)
        for name, said in film.members.items():
            by_model.setdefault(name, Errors()).add(film.truth, film.measured(name))
            kinds = {segment.kind for segment in said if segment.structure in VERTEBRAE}
            for kind, family in ((SegmentKind.INSTANCE, INSTANCE), (SegmentKind.REGION, SEMANTIC)):
                if kind in kinds:
                    found.families.setdefault(family, set()).add(name)
    return found
