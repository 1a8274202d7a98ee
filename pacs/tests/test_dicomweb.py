"""What archives answer over DICOMweb when they do not answer what they should."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from odd_archive import Asked, OddArchive, Said
from planted import planted_film
from pydicom import dcmread
from pydicom.dataset import Dataset
from spinezoo_contract.errors import AccessError, BadInputError, NotServingError, SpineZooError
from spinezoo_pacs.collect.command import main as collect
from spinezoo_pacs.dicomweb import SERIES_UID, SOP_UID, STUDY_UID, DicomWeb, MultipartParts
from spinezoo_pacs.errors import NotTakenError, RefusedError
from spinezoo_pacs.node.sender_web import WebLink
from spinezoo_pacs.node.settings import Peer
from spinezoo_testing.certificates import Certificates, certificates, shared_certificates

__all__ = ["certificates", "shared_certificates"]

pytestmark = pytest.mark.filterwarnings("ignore")

HTML = Said(200, b"<!doctype html><title>Log in</title>", "text/html")


@functools.cache
def result() -> bytes:
    return planted_film(1, 1)


def uids(data: bytes) -> tuple[str, str, str]:
    read = dcmread(io.BytesIO(data))
    return str(read.StudyInstanceUID), str(read.SeriesInstanceUID), str(read.SOPInstanceUID)


def outcome(tag: str, sop_uid: str, reason: int | None = None) -> dict[str, Any]:
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [sop_uid]}}
    if reason is not None:
        item["00081197"] = {"vr": "US", "Value": [reason]}
    return {tag: {"vr": "SQ", "Value": [item]}}


def link(service: OddArchive) -> WebLink:
    return WebLink(Peer(ae_title="WEB", web_url=service.url), None, 5.0)


def archive_of(
    post: Said, *, there: bool = False, search: Said | None = None
) -> Callable[[Asked], Said]:
    """Answers a STOW-RS request so, and a search as an archive that has the object or not."""
    sop_uid = uids(result())[2]

    def answer(asked: Asked) -> Said:
        if asked.method == "POST":
            return post
        found = [{SOP_UID: {"vr": "UI", "Value": [sop_uid]}}] if there else []
        return search or Said.json([] if "offset" in asked.query else found)

    return answer


SOP = "stands for the object's own UID"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (200, "application/dicom+json"),
        (200, "application/dicom+json; charset=utf-8"),
        (202, "application/json;charset=UTF-8"),
        (409, "application/dicom+json;charset=utf-8"),
        (400, "text/plain"),
    ],
)
@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (0x0122, NotTakenError),
        (0xA700, NotServingError),
        (0x0110, RefusedError),
        (0, RefusedError),
    ],
)
def test_an_object_that_was_refused_is_not_taken_for_stored(
    code: int, kind: str, reason: int, error: type[SpineZooError]
) -> None:
    said = Said.json(outcome("00081198", uids(result())[2], reason), code, kind)
    with OddArchive(archive_of(said)) as service, pytest.raises(error):
        link(service).store(result())


@pytest.mark.parametrize("code", [200, 202])
def test_an_object_that_is_named_as_stored_is(code: int) -> None:
    said = outcome("00081199", uids(result())[2])
    for value in (said, [said]):
        with OddArchive(archive_of(Said.json(value, code))) as service:
            link(service).store(result())
            assert service.count("GET") == 0
            assert result() in service.asked[0].body


def test_a_duplicate_is_there_already() -> None:
    said = Said.json(outcome("00081198", uids(result())[2], 0x0111), 409)
    with OddArchive(archive_of(said)) as service:
        link(service).store(result())


@pytest.mark.parametrize(
    "said",
    [
        HTML,
        Said(200),
        Said(204),
        Said.json({}),
        Said.json([]),
        Said.json("stored"),
        Said.json({"00081199": {"vr": "SQ", "Value": [None, {"00081155": None}]}}),
        Said.json(outcome("00081199", "1.2.3")),
        Said(200, b"[" * 100_000),
        Said(200, b"\xff\xfe{"),
    ],
)
def test_success_without_a_word_of_the_object_is_asked_after(said: Said) -> None:
    with OddArchive(archive_of(said, there=True)) as service:
        link(service).store(result())
        assert service.count("GET") >= 1
    missing = pytest.raises(NotServingError, match="did not store")
    with OddArchive(archive_of(said)) as service, missing:
        link(service).store(result())


@pytest.mark.parametrize("code", [301, 302, 303])
def test_a_redirection_that_drops_the_object_is_named(code: int) -> None:
    def answer(asked: Asked) -> Said:
        if asked.method == "POST":
            return Said(code, headers={"Location": "/login"})
        return HTML

    with OddArchive(answer) as service, pytest.raises(NotServingError, match="another address"):
        link(service).store(result())


@pytest.mark.parametrize("code", [307, 308])
def test_a_redirection_that_keeps_the_object_is_followed(code: int) -> None:
    stored = Said.json(outcome("00081199", uids(result())[2]))

    def answer(asked: Asked) -> Said:
        moved = Said(code, headers={"Location": "/other/studies"})
        return moved if asked.path.startswith("/dicom-web") else stored

    with OddArchive(answer) as service:
        link(service).store(result())
        assert result() in service.asked[-1].body


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, RefusedError), (401, AccessError), (403, AccessError), (404, RefusedError),
        (413, RefusedError), (415, NotTakenError), (429, NotServingError),
        (500, NotServingError), (502, NotServingError), (503, NotServingError),
    ],
)  # fmt: skip
def test_every_status_has_its_error_at_once(code: int, error: type[SpineZooError]) -> None:
    with OddArchive(archive_of(Said(code, b"no", "text/plain"))) as service:
        with pytest.raises(error):
            link(service).store(result())
        # The queue waits and sends again; the client does not, and never sends an empty object.
        assert service.count("POST") == 1


def test_who_does_not_say_what_it_has_has_it_not() -> None:
    study, _, sop_uid = uids(result())
    for code in (400, 401, 403, 404, 405):
        with OddArchive(archive_of(Said(), search=Said(code))) as service:
            assert link(service).has(study, sop_uid) is False
    for said in (HTML, Said.json([1]), Said.json("x"), Said(500)):
        odd = OddArchive(archive_of(Said(), search=said))
        with odd as service, pytest.raises(NotServingError):
            link(service).has(study, sop_uid)
    with OddArchive(archive_of(Said(), search=Said(204))) as service:
        assert link(service).has(study, sop_uid) is False


def test_a_service_that_says_nothing_is_given_up() -> None:
    gone = Peer(ae_title="WEB", web_url="http://127.0.0.1:9/dicom-web")
    with pytest.raises(NotServingError, match="cannot be reached"):
        WebLink(gone, None, 1.0).store(result())
    with pytest.raises(NotServingError, match="cannot be reached"):
        WebLink(Peer(ae_title="WEB", web_url="https://[::1]:9/x"), None, 1.0).store(result())


@pytest.mark.parametrize(
    ("named", "environment", "known"),
    [
        ("ca", None, True),
        ("ca", "stranger", True),
        ("stranger", "ca", False),
        (None, "ca", True),
        (None, None, False),
    ],
)
def test_named_authorities_count_and_no_others(
    named: str | None,
    environment: str | None,
    known: bool,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if environment:
        path = certificates.path(f"{environment}.crt")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    authorities = certificates.path(f"{named}.crt") if named else None
    service = OddArchive(lambda _: Said(204))
    service.secure(certificates.path("server.crt"), certificates.path("server.key"))
    with service:
        web = DicomWeb(service.url, token_file=None, authorities=authorities, timeout_s=5.0)
        wrong = pytest.raises(NotServingError, match="SSLError")
        for ask in (lambda: web.has("1.2", "1.3"), lambda: web.series("1.2", "1.3")):
            with contextlib.nullcontext() if known else wrong:
                assert not ask()


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("with_token", [False, True])
def test_the_users_netrc_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_token: bool, moved: bool
) -> None:
    token, netrc = tmp_path / "token", tmp_path / "netrc"
    token.write_text("t" * 40 + "\n")
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))

    def answer(asked: Asked) -> Said:
        if moved and "moved" not in asked.query:
            return Said(307, headers={"Location": f"{asked.path}?moved=1"})
        return Said(204)

    with OddArchive(answer) as service:
        given = token if with_token else None
        web = DicomWeb(service.url, token_file=given, authorities=None, timeout_s=5.0)
        assert not web.has("1.2", "1.3")
        assert len(service.asked) == 1 + moved
        sent = "Bearer " + "t" * 40 if with_token else ""
        assert {each.token for each in service.asked} == {sent}


def test_a_search_ends_where_pages_bring_nothing_new() -> None:
    hits = [{STUDY_UID: {"vr": "UI", "Value": [f"1.{number}"]}} for number in range(5)]

    def deaf(_: Asked) -> Said:  # does not look at the offset
        return Said.json(hits)

    def paged(asked: Asked) -> Said:
        first = int(asked.query.get("offset", ["0"])[0])
        return Said.json(hits[first : first + 2])

    for answer, most in ((deaf, 2), (paged, 4)):
        with OddArchive(answer) as service:
            web = DicomWeb(service.url, token_file=None, authorities=None, timeout_s=5.0)
            assert list(web.search("studies", STUDY_UID, {"StudyDate": "2019"})) == hits
            assert len(service.asked) <= most
            assert all(each.query["StudyDate"] == ["2019"] for each in service.asked)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "multipart/related",
        "multipart/form-data; boundary=x",
        f"multipart/related; boundary={'x' * 500}",
        'multipart/related; type="application/dicom+json"; boundary=x',
    ],
)
def test_a_body_of_another_kind_is_named(said: str) -> None:
    with pytest.raises(BadInputError):
        MultipartParts(said, types=("application/dicom",))


# Collecting.


def parts(*contents: bytes, boundary: str = "b-1") -> Said:
    body = b"".join(
        b"\r\n--%s\r\nContent-Type: application/dicom\r\n\r\n%s" % (boundary.encode(), content)
        for content in contents
    )
    kind = f'multipart/related; type="application/dicom"; boundary="{boundary}"'
    return Said(200, body + f"\r\n--{boundary}--\r\n".encode(), kind)


class Films:
    """An archive of two good series whose answers a test may change."""

    def __init__(self) -> None:
        self.films = {uids(data)[1]: (uids(data)[0], data) for data in map(planted, (1, 3))}
        self.changed: dict[str, Said] = {}
        self.more_studies: list[Any] = []
        self.more_series: list[Any] = []

    def __call__(self, asked: Asked) -> Said:
        if "offset" in asked.query:
            return Said(204)
        series = re.fullmatch(r"/dicom-web/studies/([^/]+)/series", asked.path)
        if asked.path == "/dicom-web/studies":
            return Said.json([*self.more_studies, *(
                {STUDY_UID: {"vr": "UI", "Value": [study]}} for study, _ in self.films.values()
            )])  # fmt: skip
        if series is not None:
            found = [
                {
                    SERIES_UID: {"vr": "UI", "Value": [uid]},
                    "00080060": {"vr": "CS", "Value": ["CR"]},
                }
                for uid, (study, _) in self.films.items()
                if study == series[1]
            ]
            return Said.json([*found, *self.more_series])
        uid = asked.path.rpartition("/")[2]
        return self.changed.get(uid) or parts(self.films[uid][1])


@functools.cache
def planted(number: int) -> bytes:
    return planted_film(number, number)


def run(tmp_path: Path, service: OddArchive) -> int:
    query = tmp_path / "query.yaml"
    query.write_text(yaml.safe_dump({"web": {"url": service.url}, "key": "site.key"}))
    return collect(["--query", str(query), "--out", str(tmp_path / "set")])


def lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (tmp_path / "set" / "manifest.jsonl").read_text().splitlines()
    ]


def kept(tmp_path: Path) -> int:
    return sum(line["state"] == "kept" for line in lines(tmp_path))


@pytest.mark.parametrize(
    "odd",
    [
        b"no DICOM at all",
        b"",
        b"\0" * 128 + b"DICM",
        planted(1)[:300],
    ],
)
def test_one_odd_object_does_not_cost_the_set(tmp_path: Path, odd: bytes) -> None:
    films = Films()
    first = min(films.films)
    films.changed[first] = parts(odd, films.films[first][1])
    with OddArchive(films) as service:
        assert run(tmp_path, service) == 0
    assert kept(tmp_path) == 2
    left_out = [line for line in lines(tmp_path) if line["state"] == "left_out"]
    assert len(left_out) == 1
    assert left_out[0]["reason"]


def test_an_object_without_a_uid_is_left_out(tmp_path: Path) -> None:
    dataset = dcmread(io.BytesIO(planted(1)))
    del dataset.SOPInstanceUID
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    films = Films()
    first = min(films.films)
    films.changed[first] = parts(buffer.getvalue(), films.films[first][1])
    with OddArchive(films) as service:
        assert run(tmp_path, service) == 0
        assert run(tmp_path, service) == 0
    assert kept(tmp_path) == 2
    assert [line.get("reason") for line in lines(tmp_path)].count("no-dicom") == 1


@pytest.mark.parametrize("bare", [True, False])
def test_a_series_is_taken_however_it_is_wrapped(tmp_path: Path, bare: bool) -> None:
    films = Films()
    for uid, (_, data) in films.films.items():
        wrapped = parts(data, boundary="a" * 60)
        films.changed[uid] = Said(200, data, "application/dicom; x=1") if bare else wrapped
    with OddArchive(films) as service:
        assert run(tmp_path, service) == 0
    assert kept(tmp_path) == 2


@pytest.mark.parametrize(
    "odd",
    [
        HTML,
        Said(406),
        Said(500),
        Said(200, parts(planted(1)).body, 'multipart/related; type="application/dicom"'),
        Said(200, parts(planted(1)).body, "multipart/related; boundary=other"),
        Said(200, parts(planted(1)).body, parts().kind, cut=3000),
    ],
)
def test_a_series_that_did_not_come_whole_is_fetched_again(
    tmp_path: Path, odd: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    films = Films()
    first = min(films.films.items(), key=lambda each: (each[1][0], each[0]))[0]
    films.changed[first] = odd
    with OddArchive(films) as service:
        assert run(tmp_path, service) == 1
        assert "did not come whole: the service" in capsys.readouterr().err
        assert kept(tmp_path) == 1
        films.changed.clear()
        assert run(tmp_path, service) == 0
    assert kept(tmp_path) == 2


def test_studies_and_series_without_a_uid_are_left_out_by_name(tmp_path: Path) -> None:
    films = Films()
    films.more_studies = [
        {},
        {STUDY_UID: None},
        {STUDY_UID: {"vr": "UI"}},
        {STUDY_UID: {"vr": "UI", "Value": [None]}},
        {STUDY_UID: {"vr": "UI", "Value": ["*"]}},
        {STUDY_UID: "1.2.3"},
    ]
    films.more_series = [{"00080060": {"vr": "CS", "Value": ["CR"]}}]
    with OddArchive(films) as service:
        assert run(tmp_path, service) == 0
        assert not any("*" in each.path or "//" in each.path for each in service.asked)
    assert kept(tmp_path) == 2
    assert {line.get("reason") for line in lines(tmp_path)} >= {"series-without-uid"}


@pytest.mark.parametrize(("view", "kept_films"), [("399173006", 1), ("399348003", 0), ("", 0)])
def test_a_code_of_the_view_tells_what_a_film_shows(
    tmp_path: Path, view: str, kept_films: int
) -> None:
    films = Films()
    first, (study, _) = min(films.films.items(), key=lambda each: (each[1][0], each[0]))
    said = {"ViewPosition": None, "BodyPartExamined": None, "PatientOrientation": None}
    codes = {"AnatomicRegionSequence": [code("122496007")]}
    coded = planted_film(1, 1, **said, **codes, ViewCodeSequence=[code(view)] if view else [])
    films.films = {first: (study, coded)}
    with OddArchive(films) as service:
        assert run(tmp_path, service) == 0
    assert kept(tmp_path) == kept_films


def code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "meaning"
    return item


@pytest.mark.parametrize("status", [401, 503])
def test_an_archive_that_takes_nothing_now_ends_the_run(tmp_path: Path, status: int) -> None:
    films = Films()
    first = min(films.films.items(), key=lambda each: (each[1][0], each[0]))[0]
    films.changed[first] = Said(status)
    with OddArchive(films) as service:
        assert run(tmp_path, service) == 1
    assert not (tmp_path / "set" / "manifest.jsonl").exists()


@pytest.mark.parametrize("said", [HTML, Said.json("x"), Said.json([None]), Said.json(3), Said(400)])
def test_a_search_that_is_not_answered_is_named(
    tmp_path: Path, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    with OddArchive(lambda _: said) as service:
        assert run(tmp_path, service) == 1
    assert "the service" in capsys.readouterr().err


def in_xml(said: dict[str, Any]) -> bytes:
    """DICOM's JSON as its XML."""

    def attributes(dataset: dict[str, Any]) -> str:
        return "".join(
            f'<DicomAttribute tag="{tag}" vr="{entry["vr"]}">'
            + "".join(
                f'<Item number="{number}">{attributes(value)}</Item>'
                if isinstance(value, dict)
                else f'<Value number="{number}">{value}</Value>'
                for number, value in enumerate(entry["Value"], start=1)
            )
            + "</DicomAttribute>"
            for tag, entry in dataset.items()
        )

    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xml:space="preserve" '
        f'xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">{attributes(said)}'
        "</NativeDicomModel>"
    ).encode()


@pytest.mark.parametrize("kind", ["application/dicom+xml", "text/xml; charset=utf-8", ""])
@pytest.mark.parametrize("code", [200, 202, 409])
def test_an_answer_in_xml_is_read_though_json_was_asked_for(kind: str, code: int) -> None:
    sop_uid = uids(result())[2]
    stored = in_xml(outcome("00081199", "1.2") | outcome("00081199", sop_uid))
    with OddArchive(archive_of(Said(code, stored, kind))) as service:
        link(service).store(result())
        assert service.count("GET") == 0
    for reason, error in ((0xA700, NotServingError), (0x0122, NotTakenError), (1, RefusedError)):
        said = Said(code, in_xml(outcome("00081198", sop_uid, reason)), kind)
        with OddArchive(archive_of(said, there=True)) as service, pytest.raises(error):
            link(service).store(result())


@pytest.mark.parametrize(
    "body",
    [
        b"<NativeDicomModel/>",
        b"<html><body>Log in</body></html>",
        b"<" * 1000,
        b"<a>" * 100_000,
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        in_xml(outcome("00081199", "SOP")).replace(b"<Native", b"<!DOCTYPE a><Native", 1),
        in_xml(outcome("00081199", "1.2.3")),
    ],
)
def test_xml_that_does_not_name_the_object_is_asked_after(body: bytes) -> None:
    body = body.replace(b"SOP", uids(result())[2].encode())
    missing = pytest.raises(NotServingError, match="did not store")
    with OddArchive(archive_of(Said(200, body, "application/dicom+xml"))) as service, missing:
        link(service).store(result())


def parts_of(*bodies: bytes, kind: str = "application/dicom+xml") -> Said:
    """An answer in parts, as DICOM has a search in XML (PS3.18 8.6.1)."""
    body = b"".join(
        b"--b\r\nContent-Type: %s\r\n\r\n%s\r\n" % (kind.encode(), each) for each in bodies
    )
    return Said(200, body + b"--b--\r\n", f'Multipart/Related; type="{kind}"; boundary=b')


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_a_search_in_xml_is_read_though_json_was_asked_for(at_a_time: int) -> None:
    hits = [{STUDY_UID: {"vr": "UI", "Value": [f"1.{number}"]}} for number in range(5)]

    def paged(asked: Asked) -> Said:
        first = int(asked.query.get("offset", ["0"])[0])
        page = [in_xml(hit) for hit in hits[first : first + at_a_time]]
        if at_a_time == 1 and page:  # the only match by itself
            return Said(200, page[0], "application/dicom+xml")
        return parts_of(*page) if page else Said(204)

    with OddArchive(paged) as service:
        web = DicomWeb(service.url, token_file=None, authorities=None, timeout_s=5.0)
        assert list(web.search("studies", STUDY_UID, {})) == hits


@pytest.mark.parametrize(
    "said",
    [
        parts_of(b"<html><body>Log in</body></html>"),
        parts_of(in_xml({STUDY_UID: {"vr": "UI", "Value": ["1.2"]}}), b"<a/>"),
        parts_of(b"no XML", kind="application/dicom"),
        Said(
            200, b"--b\r\n\r\n<a/>", 'multipart/related; type="application/dicom+xml"; boundary=b'
        ),
        Said(200, b"<html><body>Log in</body></html>", "application/dicom+xml"),
    ],
)
def test_a_search_in_xml_that_is_not_dicoms_is_named(said: Said) -> None:
    with OddArchive(lambda _: said) as service:
        web = DicomWeb(service.url, token_file=None, authorities=None, timeout_s=5.0)
        with pytest.raises(NotServingError, match="something else than DICOM's JSON or XML"):
            list(web.search("studies", STUDY_UID, {}))


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = Said(200, b" " * 1_000_000)
    monkeypatch.setattr("spinezoo_pacs.dicomweb.MOST_ANSWER_BYTES", 500_000)
    with OddArchive(archive_of(endless)) as service, pytest.raises(NotServingError, match="end"):
        link(service).store(result())
    with (
        OddArchive(lambda asked: endless) as service,
        pytest.raises(NotServingError, match="does not end"),
    ):
        DicomWeb(service.url, token_file=None, authorities=None, timeout_s=5.0).has("1.2", "1.3")
    monkeypatch.setattr("spinezoo_pacs.dicomweb.MOST_ANSWER_S", 0.0)
    with (
        OddArchive(archive_of(Said.json([]))) as service,
        pytest.raises(NotServingError, match="does not end"),
    ):
        DicomWeb(service.url, token_file=None, authorities=None, timeout_s=5.0).has("1.2", "1.3")
