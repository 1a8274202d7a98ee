"""Archives: series are searched and fetched by C-FIND with C-GET or C-MOVE, or by DICOMweb."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
from spinezoo_contract.errors import ConfigurationError, NotServingError

from spinezoo_pacs.collect.query import Dimse, Query, Web
from spinezoo_pacs.dicomweb import SERIES_UID, STUDY_UID, DicomWeb, value_of
from spinezoo_pacs.errors import RefusedError
from spinezoo_pacs.node.intake import FILM_CLASSES

TIMEOUT_S = 60.0
"""Longest silence of an archive, in s."""

SERIES_KEYS = (
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "NumberOfSeriesRelatedInstances",
)


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an archive; its header says what it may show."""

    study_uid: str
    series_uid: str
    header: Mapping[str, str] = field(default_factory=dict)


def is_uid(text: str) -> bool:
    """Whether a text can be asked for as a UID: no pattern, not empty; archives hold odd ones."""
    return re.fullmatch(r"[0-9.]{1,64}", text) is not None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of a series.

    Attributes:
        films: DICOM files.
        why_not_whole: Why there may be more; empty where the archive has sent all.
    """

    films: list[bytes]
    why_not_whole: str = ""


class Archive(Protocol):
    """Where films come from."""

    def search(self) -> Iterator[Series]:
        """Series of the studies that match."""

    def fetch(self, series: Series) -> Fetched:
        """The films of a series, as DICOM files in memory."""


def archive_of(query: Query) -> Archive:
    """The archive of a query."""
    if query.pacs is not None:
        return DimseArchive(query.pacs, query.studies, query.modalities)
    assert query.web is not None
    return WebArchive(query.web, query.studies, query.modalities)


class DimseArchive:
    """An archive by C-FIND and C-GET or C-MOVE."""

    def __init__(
        self, settings: Dimse, studies: Mapping[str, str], modalities: Sequence[str]
    ) -> None:
        """Keeps the settings; every call opens an association."""
        self._settings, self._studies, self._modalities = settings, studies, modalities

    def search(self) -> Iterator[Series]:
        """Series of the studies that match.

        Raises:
            NotServingError: The archive cannot be reached or refuses.
        """
        model = StudyRootQueryRetrieveInformationModelFind
        with self._association([(model, None)]) as link:
            query = Dataset()
            query.QueryRetrieveLevel = "STUDY"
            query.StudyInstanceUID = ""
            if not all(value.isascii() for value in self._studies.values()):
                query.SpecificCharacterSet = "ISO_IR 192"  # else they would be sent as "?"
            for name, value in self._studies.items():
                setattr(query, name, value)
            found = _found(link, query, model)
            for study in sorted({str(each.get("StudyInstanceUID") or "") for each in found}):
                if not is_uid(study):  # a search of its series would be one of all
                    yield Series(study, "")
                    continue
                query = Dataset()
                query.QueryRetrieveLevel = "SERIES"
                query.StudyInstanceUID = study
                query.SeriesInstanceUID = ""
                for name in SERIES_KEYS:
                    setattr(query, name, None if name.startswith("Number") else "")
                for each in _found(link, query, model):
                    if str(each.get("Modality") or "") in self._modalities:
                        header = {name: str(each.get(name) or "") for name in SERIES_KEYS}
                        yield Series(study, str(each.get("SeriesInstanceUID") or ""), header)

    def fetch(self, series: Series) -> Fetched:
        """The films of a series.

        Raises:
            NotServingError: The archive went away.
        """
        query = Dataset()
        query.QueryRetrieveLevel = "SERIES"
        query.StudyInstanceUID, query.SeriesInstanceUID = series.study_uid, series.series_uid
        films: list[bytes] = []

        def keep(event: evt.Event) -> int:
            films.append(event.encoded_dataset())
            return 0x0000

        if self._settings.retrieve == "get":
            why_not = self._get(query, keep)
        else:
            why_not = self._move(query, keep)
        said = series.header.get("NumberOfSeriesRelatedInstances", "")
        if not films and not why_not and said.isdecimal() and int(said):
            why_not = f"the archive says that it has {int(said)} and sent none"
        return Fetched(films, why_not)

    def _get(self, query: Dataset, keep: Any) -> str:
        model = StudyRootQueryRetrieveInformationModelGet
        contexts: list[tuple[str, Any]] = [(model, None)]
        contexts += [(each, ALL_TRANSFER_SYNTAXES) for each in FILM_CLASSES]
        roles = [build_role(each, scp_role=True) for each in FILM_CLASSES]
        handlers = [(evt.EVT_C_STORE, keep)]
        with self._association(contexts, ext_neg=roles, evt_handlers=handlers) as link:
            return _why_not_all(link.send_c_get(query, model))

    def _move(self, query: Dataset, keep: Any) -> str:
        settings = self._settings
        ours = AE(settings.our_ae_title)
        ours.require_called_aet = True
        ours.require_calling_aet = [settings.ae_title]
        for each in FILM_CLASSES:
            ours.add_supported_context(each, ALL_TRANSFER_SYNTAXES)
        try:
            server = ours.start_server(
                (settings.our_host, settings.our_port),
                block=False,
                evt_handlers=[(evt.EVT_C_STORE, keep)],
                ssl_context=settings.tls.server_context() if settings.tls else None,
            )
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {settings.our_host}:{settings.our_port} ({error.strerror}); "
                "stop what uses the port, or set our_port and our_host"
            ) from None
        try:
            model = StudyRootQueryRetrieveInformationModelMove
            with self._association([(model, None)]) as link:
                return _why_not_all(link.send_c_move(query, settings.our_ae_title, model))
        finally:
            server.shutdown()

    @contextmanager
    def _association(self, contexts: list[tuple[str, Any]], **more: Any) -> Iterator[Association]:
        settings = self._settings
        ae = AE(settings.our_ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = TIMEOUT_S
        ae.connection_timeout = TIMEOUT_S
        for abstract, syntaxes in contexts:
            ae.add_requested_context(abstract, *([syntaxes] if syntaxes else []))
        if settings.tls is not None:
            more["tls_args"] = (settings.tls.client_context(), settings.host)
        try:
            link = ae.associate(settings.host, settings.port, ae_title=settings.ae_title, **more)
        except (OSError, RuntimeError) as error:
            raise NotServingError(f"{settings.ae_title}: {type(error).__name__}") from None
        if not link.is_established:
            raise NotServingError(
                f"{settings.ae_title} at {settings.host}:{settings.port} takes no association; "
                f"is it running, and does it know {settings.our_ae_title}?"
            )
        try:
            yield link
        finally:
            if link.is_established:
                link.release()


def _found(link: Association, query: Dataset, model: str) -> list[Dataset]:
    found = []
    for status, match in link.send_c_find(query, model):
        code = status.get("Status") if status else None
        if code is None or (code not in (0x0000, 0xFF00, 0xFF01)):
            shown = "no answer" if code is None else f"status {code:04X}"
            raise NotServingError(f"the archive refused a search ({shown}); may we query it?")
        if match is not None:
            found.append(match)
    return found


def _why_not_all(replies: Any) -> str:
    """Why an archive has not sent all of a series; empty where it has.

    Raises:
        NotServingError: It went away.
    """
    last = None
    for status, _ in replies:
        last = status.get("Status") if status else None
    if last is None:
        raise NotServingError("the archive went away while it sent a series")
    if last == 0x0000:
        return ""
    return "the archive sent only a part" if last == 0xB000 else f"the archive says {last:04X}"


class WebArchive:
    """An archive by QIDO-RS and WADO-RS."""

    def __init__(
        self, settings: Web, studies: Mapping[str, str], modalities: Sequence[str]
    ) -> None:
        """Makes the client.

        Raises:
            ConfigurationError: The token cannot be read.
        """
        self._web = DicomWeb(
            settings.url,
            token_file=settings.token_file,
            authorities=None,
            timeout_s=TIMEOUT_S,
        )
        self._studies, self._modalities = studies, modalities

    def search(self) -> Iterator[Series]:
        """Series of the studies that match.

        Raises:
            SpineZooError: The archive cannot be reached or refuses.
        """
        found = self._web.search("studies", STUDY_UID, self._studies)
        for study in sorted({value_of(one, STUDY_UID) for one in found}):
            if not is_uid(study):  # a search of its series would be one of all
                yield Series(study, "")
                continue
            fields = ("BodyPartExamined", "SeriesDescription")
            for one in self._web.search(f"studies/{study}/series", SERIES_UID, {}, fields):
                if value_of(one, "00080060") in self._modalities:
                    header = {
                        "Modality": value_of(one, "00080060"),
                        "BodyPartExamined": value_of(one, "00180015"),
                    }
                    yield Series(study, value_of(one, SERIES_UID), header)

    def fetch(self, series: Series) -> Fetched:
        """The films of a series.

        Raises:
            SpineZooError: The archive went away, or does not take our token.
        """
        try:
            return Fetched(self._web.series(series.study_uid, series.series_uid))
        except RefusedError as error:
            return Fetched([], str(error))
