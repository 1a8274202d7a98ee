"""Whose each film is, so that films of one patient stay on one side of a split.

In this order: a pattern that the command line gives for file names, ``patients.csv`` beside the
films, Patient ID of DICOM films. What tells patients apart is used in memory only, as a digest with
a salt that is made anew each time: it is in no file, no message and no log.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError
from spinezoo_contract.errors import AnnotationError, ConfigurationError
from spinezoo_contract.words import counted
from spinezoo_spine.annotations.film_names import FilmNames
from spinezoo_spine.annotations.text import csv_rows, read_text, separator_of, shown
from spinezoo_spine.films.kinds import kind_of

PATIENTS_FILE = "patients.csv"
"""File beside the films: a column ``film`` and a column ``patient``."""

FILM_COLUMNS = ("film", "filename", "file_name", "name")
PATIENT_COLUMNS = ("patient", "patient_id", "patientid", "subject")


@dataclass(frozen=True, slots=True)
class Patients:
    """Whose films are, as far as it is known.

    Attributes:
        by_film: A digest for each film whose patient is known.
        source: Where that is from, in words; empty where nothing is known.
        film_count: Films that were asked for.
    """

    by_film: Mapping[str, str]
    source: str
    film_count: int

    @property
    def patient_count(self) -> int:
        """Different patients, films without one counted each."""
        return len(set(self.by_film.values())) + self.film_count - len(self.by_film)

    @property
    def sentence(self) -> str:
        """How films are split, for the console."""
        if not self.source:
            return (
                "films are split by film: nothing says whose they are, so films of one patient may "
                f"stand on both sides; give {PATIENTS_FILE} or --patient-pattern"
            )
        unknown = self.film_count - len(self.by_film)
        told = (
            f"films are split by patient: {counted(self.patient_count, 'patient')} by {self.source}"
        )
        if unknown:
            told += (
                f"; of {counted(unknown, 'film')} nothing says whose they are, each counts as a "
                "patient"
            )
        return told

    def to_json(self) -> dict[str, Any]:
        """What a card's record says of it; nothing that tells patients."""
        return {
            "by": f"patient ({self.source})" if self.source else "film",
            "patients": self.patient_count,
            "films_without_patient": self.film_count - len(self.by_film),
        }


def patients_of(
    film_paths: Mapping[str, Path],
    names: Sequence[str],
    folder: Path,
    *,
    pattern: str | None = None,
) -> Patients:
    """Whose films are.

    Args:
        film_paths: Film files by name.
        names: Films to tell.
        folder: Folder that may hold ``patients.csv``.
        pattern: Regular expression whose first group (or whole match) in a film's name is its
            patient, such as ``^(P[0-9]+)_``.

    Raises:
        ConfigurationError: The pattern is wrong or does not match every name, or all films are
            DICOM of one Patient ID.
        AnnotationError: ``patients.csv`` is wrong, or does not name every film.
    """
    salt = secrets.token_bytes(16)
    if pattern is not None:
        told, source = _by_pattern(names, pattern), f"the file names (pattern {pattern})"
    elif (folder / PATIENTS_FILE).is_file():
        told, source = _by_file(folder / PATIENTS_FILE, names, film_paths), PATIENTS_FILE
    else:
        told, source = _by_dicom(film_paths, names), "the Patient ID of DICOM films"
    digests = {
        name: hashlib.blake2b(_spelling(patient).encode("utf-8", "replace"), key=salt).hexdigest()
        for name, patient in told.items()
    }
    return Patients(digests, source if digests else "", len(names))


def _spelling(patient: str) -> str:
    """A patient without case, Unicode form and kinds of blanks.

    Two patients taken for one stand on one side, which does no harm; one taken for two does.
    """
    plain = unicodedata.normalize("NFKC", patient).casefold()
    return "\n".join(" ".join(line.split()) for line in plain.split("\n"))


def _by_pattern(names: Sequence[str], pattern: str) -> dict[str, str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(
            f"--patient-pattern {pattern!r} is no regular expression ({error}); write one such as "
            "'^([^_]+)_'"
        ) from error
    told = {}
    for name in names:
        match = compiled.search(name)
        found = None if match is None else (match.group(1) if compiled.groups else match.group())
        if not found:
            raise ConfigurationError(
                f"--patient-pattern {pattern!r} finds nothing in film {shown(name)!r}; it has to "
                "find the patient in every name"
            )
        told[name] = found
    return told


def _by_file(path: Path, names: Sequence[str], others: Iterable[str]) -> dict[str, str]:
    text = read_text(path).lstrip("\r\n")
    first_line = 1
    if text[:4].lower() == "sep=":  # a hint for programs for tables
        text, first_line = text.partition("\n")[2], 2
    head = text.partition("\n")[0]
    # A line may mean a film of the folder that is not outlined.
    films = FilmNames(dict.fromkeys([*names, *others]), folder=path.parent.name)
    wanted_films = set(names)
    told: dict[str, str] = {}
    try:
        rows = list(csv_rows(text, separator_of(head), first_line))
        header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
        columns = []
        for wanted in (FILM_COLUMNS, PATIENT_COLUMNS):
            found = [place for place, cell in enumerate(header) if cell in wanted]
            if len(found) != 1:
                raise AnnotationError(
                    f"has {len(found)} columns {wanted[0]!r}; its first line has to be film,patient"
                )
            columns.append(found[0])
        for line, row in rows[1:]:
            if len(row) <= max(columns):
                raise AnnotationError(
                    f"line {line}: has {counted(len(row), 'cell')}; give film and patient"
                )
            name, patient = (row[column].strip() for column in columns)
            film = films.match(name).film
            if film not in wanted_films:
                continue  # a film that is not of this set
            if not patient:
                raise AnnotationError(f"line {line}: film {shown(name)!r} has no patient; give one")
            if _spelling(told.setdefault(film, patient)) != _spelling(patient):
                raise AnnotationError(
                    f"line {line}: film {shown(name)!r} has two patients; keep one line a film"
                )
    except AnnotationError as error:
        raise AnnotationError(f"{path.name}: {error}") from error
    missing = [name for name in names if name not in told]
    if missing:
        raise AnnotationError(
            f"{path.name}: names no patient of {counted(len(missing), 'film')}, such as "
            f"{shown(missing[0])!r}; add a line for each"
        )
    return told


def _by_dicom(film_paths: Mapping[str, Path], names: Sequence[str]) -> dict[str, str]:
    """Patient ID and its issuer of the films that have one.

    Raises:
        ConfigurationError: All of several films have the same, as after de-identification.
    """
    told = {}
    for name in names:
        try:
            # A warning of pydicom would show what is odd about a patient's number.
            with warnings.catch_warnings(action="ignore"), film_paths[name].open("rb") as file:
                if kind_of(file.read(4096)) != "dicom":
                    continue
                file.seek(0)
                dataset = pydicom.dcmread(
                    file,
                    stop_before_pixels=True,
                    force=True,
                    specific_tags=["PatientID", "IssuerOfPatientID"],
                )
                patient = str(dataset.get("PatientID") or "").strip()
                issuer = str(dataset.get("IssuerOfPatientID") or "").strip()
        except (
            OSError,
            InvalidDicomError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            EOFError,
            NotImplementedError,
        ):
            continue  # reading the film will say what is wrong with it
        if patient:
            told[name] = f"{issuer}\n{patient}"
    if len(set(told.values())) == 1 and len(told) == len(names) > 1:
        raise ConfigurationError(
            f"all {len(told)} DICOM films have the same Patient ID, as after de-identification; "
            f"say whose they are in {PATIENTS_FILE}, or by --patient-pattern ('(.+)' makes each "
            "film a patient)"
        )
    return told
