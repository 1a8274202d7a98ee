"""What is to be collected and from where, from one YAML file; ``docs/pacs.md`` explains it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from spinezoo_pacs.dicomweb import URL_PATTERN
from spinezoo_pacs.node.settings import AeTitle, Host, Port, Tls, target
from spinezoo_pacs.yaml_file import read_model

SAFE_KEYS = frozenset(
    {"StudyDate", "ModalitiesInStudy", "StudyDescription", "PatientID", "AccessionNumber",
     "StudyInstanceUID", "PatientName", "InstitutionName"}
)  # fmt: skip
"""Attributes that a query may match studies by."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Dimse(_Model):
    """An archive that speaks DIMSE.

    Attributes:
        ae_title: Its AE title.
        host: Its address.
        port: Its port.
        our_ae_title: What we call ourselves; it has to know it.
        our_port: Port on which we take what it moves (``move`` only).
        our_host: Address that is bound for it.
        retrieve: ``get``, or ``move`` for archives without C-GET.
        tls: Certificates; without, nothing is encrypted.
    """

    ae_title: AeTitle
    host: Host
    port: Port
    our_ae_title: AeTitle = "SPINEZOO"
    our_port: Port = 0
    our_host: Host = "127.0.0.1"
    retrieve: Literal["get", "move"] = "get"
    tls: Tls | None = None

    @model_validator(mode="after")
    def _can_be_moved_to(self) -> Dimse:
        if self.retrieve == "move" and not self.our_port:
            raise ValueError("retrieve: move needs our_port, the one that the archive knows")
        return self


class Web(_Model):
    """An archive that speaks DICOMweb.

    Attributes:
        url: Such as ``https://pacs.hospital/dicom-web``.
        token_file: File of a bearer token.
    """

    url: Annotated[str, Field(pattern=URL_PATTERN)]
    token_file: Path | None = None


class Query(_Model):
    """What is collected.

    Attributes:
        pacs: The archive, by DIMSE; this or ``web``.
        web: The archive, by DICOMweb.
        studies: What studies have to match, by DICOM keyword, as in C-FIND.
        modalities: Of series.
        gateway: Asked about films whose header does not say what they show; without, these are
            left out.
        films_per_minute: Most films fetched a minute; 0: no limit.
        most_films: Stops after so many; 0: all.
        key: File of the site's key, made where there is none; beside the query file, not in the
            set.
    """

    pacs: Dimse | None = None
    web: Web | None = None
    studies: dict[str, str] = Field(default_factory=dict)
    modalities: tuple[str, ...] = ("CR", "DX", "RG")
    gateway: Literal[""] | Annotated[str, AfterValidator(target)] = ""
    films_per_minute: Literal[0] | Annotated[float, Field(ge=0.01, le=1e6)] = 0
    most_films: Annotated[int, Field(ge=0)] = 0
    key: Path = Path("site.key")

    @model_validator(mode="after")
    def _fits(self) -> Query:
        if (self.pacs is None) == (self.web is None):
            raise ValueError("name pacs or web, one of them")
        if self.pacs is not None and not self.pacs.port:
            raise ValueError("pacs: port is 0; give that of the archive")
        unknown = set(self.studies) - SAFE_KEYS
        if unknown:
            raise ValueError(f"studies: {', '.join(sorted(unknown))} cannot be matched")
        return self


def read_query(path: Path) -> Query:
    """The query of a YAML file; a relative ``key`` is beside it.

    Raises:
        ConfigurationError: The file is missing or wrong.
    """
    query = read_model(path, Query)
    return query.model_copy(update={"key": path.parent / query.key})
