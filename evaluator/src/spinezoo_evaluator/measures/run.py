"""Measures of a benchmark's films, from the answers that it kept, against the truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spinezoo_contract.errors import ConfigurationError
from spinezoo_contract.types import (
    EnsembleAnswer,
    FilmMeasures,
    FusedImplant,
    FusionOptions,
    Segment,
)
from spinezoo_spine.column.consensus import Vertebrae, vertebrae_of
from spinezoo_spine.fusion.implants import fuse_implants, implants_of
from spinezoo_spine.fusion.touching import with_touches
from spinezoo_spine.measures.film import measure_film

from spinezoo_evaluator.measures.errors import Errors
from spinezoo_evaluator.measures.truth import TrueFilm
from spinezoo_evaluator.results.records import FUSED, RunFolder, named


@dataclass(frozen=True, slots=True)
class KeptFilm:
    """What is known of one film after the zoo answered.

    Attributes:
        truth: Its truth.
        members: Segments of every member that answered.
        vertebrae: The fused vertebrae.
    """

    truth: TrueFilm
    members: Mapping[str, Sequence[Segment]]
    vertebrae: tuple[Segment, ...]

    @classmethod
    def read(cls, truth: TrueFilm, folder: RunFolder) -> KeptFilm:
        """As a benchmark kept it.

        Raises:
            ConfigurationError: The answers are absent or broken.
        """
        kept = folder.read_answer(truth.name)
        vertebrae = kept.get(named(FUSED), ())
        beside = {FUSED, named(FUSED), *(named(name) for name in kept)}
        members = {name: said for name, said in kept.items() if name not in beside}
        return cls(truth, members, vertebrae)

    @classmethod
    def answered(cls, truth: TrueFilm, answer: EnsembleAnswer) -> KeptFilm:
        """As the gateway answered."""
        members = {
            member.status.member_name: member.prediction.segments
            for member in answer.members
            if member.prediction is not None
        }
        labelling = answer.fused.labelling
        vertebrae = () if labelling is None else labelling.vertebrae
        return cls(truth, members, tuple(each.segment for each in vertebrae))

    def said(self, model: str | None = None) -> dict[str, Vertebrae]:
        """What the members say of the column; of one member alone where it is named."""
        names = self.members if model is None else [model]
        height, width = self.truth.height, self.truth.width
        return {name: vertebrae_of(self.members[name], height, width) for name in names}

    def implants(self) -> tuple[FusedImplant, ...]:
        """The implants, fused again."""
        height, width = self.truth.height, self.truth.width
        metal = {name: implants_of(said, height, width) for name, said in self.members.items()}
        return tuple(fuse_implants(metal, (), FusionOptions()))

    def measured(self, model: str | None = None) -> FilmMeasures:
        """Measures by all members, or by one alone, of the vertebrae with their true names."""
        labelling = self.truth.named(self.vertebrae)
        implants = with_touches(self.implants() if model is None else (), labelling)
        spacing = (self.truth.spacing_mm, self.truth.spacing_mm)
        return measure_film(labelling, self.said(model), implants, spacing)


def kept_films(truths: list[TrueFilm], run: Path) -> Iterator[KeptFilm]:
    """The films of a run whose answers were kept.

    Raises:
        ConfigurationError: There are none.
    """
    folder = RunFolder(run)
    found = False
    for truth in truths:
        try:
            kept = KeptFilm.read(truth, folder)
        except ConfigurationError:
            continue
        found = True
        yield kept
    if not found:
        raise ConfigurationError(
            f"{run.name} keeps no answer about these films; run make benchmark on them first"
        )


def errors_of(films: Iterable[KeptFilm]) -> tuple[dict[str, Errors], dict[str, Errors]]:
    """Errors of the fused ensemble and of each network, and of the ensemble by trait of the film.

    A network alone measures the same fused vertebrae by its own borders.
    """
    by_model: dict[str, Errors] = {}
    by_trait: dict[str, Errors] = {}
    for film in films:
        fused = film.measured()
        by_model.setdefault(FUSED, Errors()).add(film.truth, fused)
        for trait in film.truth.traits.values():
            by_trait.setdefault(trait, Errors()).add(film.truth, fused)
        for name in film.members:
            by_model.setdefault(name, Errors()).add(film.truth, film.measured(name))
    return by_model, by_trait
