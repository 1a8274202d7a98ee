"""The node between real senders, a real gateway and a real Orthanc."""

from __future__ import annotations

import io
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from answers import changed, dicom_of
from conftest import peers
from parts import SEEDS, NodeProcess, OrthancProcess, ZooProcess, until
from pydicom import dcmread
from pydicom.uid import RLELossless
from pynetdicom import AE, build_context
from pynetdicom.sop_class import ComputedRadiographyImageStorage, Verification
from spinezoo_pacs.node.spool import key_of
from spinezoo_pacs.results.identity import derived_uid

pytestmark = pytest.mark.filterwarnings("ignore")


def film(seed: int, **values: object) -> bytes:
    """A phantom in a study of its own unless said otherwise."""
    return changed(dicom_of(seed), **values)


def dataset_of(content: bytes) -> Any:
    return dcmread(io.BytesIO(content))


def store(node: NodeProcess, *contents: bytes, title: str = "STORESCU") -> list[int | None]:
    """C-STORE by pynetdicom; the status of each, None where there was no answer."""
    ae = AE(title)
    ae.dimse_timeout = ae.network_timeout = 60
    for content in contents:
        dataset = dataset_of(content)
        context = build_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        if context not in ae.requested_contexts:
            ae.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", node.port, ae_title="SPINEZOO")
    if not association.is_established:
        return [None] * len(contents)
    statuses = []
    for content in contents:
        status = association.send_c_store(dataset_of(content))
        statuses.append(status.get("Status") if status else None)
    association.release()
    return statuses


def test_a_film_that_is_sent_twice_is_answered_once(
    node: NodeProcess, orthanc: OrthancProcess
) -> None:
    content = film(3)
    assert store(node, content, content) == [0, 0]
    node.settled(1)
    dataset = dataset_of(content)
    dataset.compress(RLELossless, generate_instance_uid=False)
    again = io.BytesIO()
    dataset.save_as(again)
    assert store(node, again.getvalue()) == [0]
    time.sleep(1.0)
    assert node.films()["done"] == 1
    assert node.status()["events"]["sent-seg"] == 1
    assert len(orthanc.find(StudyInstanceUID=dataset.StudyInstanceUID)) == 4


def test_one_uid_for_films_of_two_studies_is_refused(node: NodeProcess) -> None:
    content = film(3)
    other = film(3, StudyInstanceUID=derived_uid("study", "another"))
    assert store(node, content, other) == [0, 0xA900]
    node.settled(1)
    assert node.status()["events"]["other-study"] == 1


ODD = {
    "multi-frame": ({"NumberOfFrames": 2}, "refused-FilmError"),
    "no pixels": ({"PixelData": None}, "refused-FilmError"),
    "colour": ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "refused-FilmError"),
    "rows that lie": ({"Rows": 5000}, "refused-FilmError"),
    "no series": ({"SeriesInstanceUID": None}, "bad-uid"),
    "no bits": ({"BitsAllocated": None}, "refused-FilmError"),
}
"""Films that arrive whole and cannot be answered, and the name under which they are set aside."""


def test_odd_films_are_set_aside_by_name_and_the_node_goes_on(node: NodeProcess) -> None:
    made = {
        name: film(
            5, **{"SOPInstanceUID": derived_uid("odd", name),
                  "StudyInstanceUID": derived_uid("odd study", name), **values}
        )
        for name, (values, _) in ODD.items()
    }  # fmt: skip
    assert store(node, *made.values(), film(6)) == [0] * (len(made) + 1)
    node.settled(1)
    until(lambda: node.films()["aside"] == len(made), 200)
    reasons = {each["film"]: each["reason"] for each in node.status()["notable"]}
    for name, (_, reason) in ODD.items():
        assert reasons[key_of(derived_uid("odd", name))] == reason, name
    # Corrected and sent again, one of them is answered.
    names = {"SOPInstanceUID": derived_uid("odd", "no pixels")}
    corrected = film(5, StudyInstanceUID=derived_uid("odd study", "no pixels"), **names)
    assert store(node, corrected, corrected) == [0, 0]
    node.settled(2)
    assert node.films() == {"waiting": 0, "answered": 0, "done": 2, "aside": len(made) - 1}


def test_a_film_that_is_no_lateral_one_gets_a_report_and_no_outlines(
    node: NodeProcess, orthanc: OrthancProcess
) -> None:
    content = film(3, ViewPosition="AP", PatientOrientation=["L", "F"])
    assert store(node, content) == [0]
    node.settled(1)
    found = [
        dataset_of(orthanc.file(one))
        for one in orthanc.find(StudyInstanceUID=dataset_of(content).StudyInstanceUID)
    ]
    assert sorted(one.Modality for one in found) == ["OT", "SR"]
    (report,) = [one for one in found if one.Modality == "SR"]
    assert "110531" in str(report)
    assert node.status()["events"]["answered-without-outlines"] == 1


def test_a_film_without_outlines_is_not_done_where_only_outlines_are_sent(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess
) -> None:
    made = NodeProcess(tmp_path / "node", zoo.target, peers(orthanc), results=["seg", "labelmap"])
    start(made)
    assert store(made, film(3, ViewPosition="AP", PatientOrientation=["L", "F"])) == [0]
    until(lambda: made.films()["aside"] == 1)
    assert [each["reason"] for each in made.status()["notable"]] == ["no-outlines"]


def test_strangers_are_refused_by_name_and_the_node_goes_on(node: NodeProcess) -> None:
    assert store(node, film(3), title="NOBODY") == [None]
    ae = AE("STORESCU")
    ae.add_requested_context(Verification)
    wrong = ae.associate("127.0.0.1", node.port, ae_title="OTHER")
    assert wrong.is_rejected
    assert store(node, film(3)) == [0]
    node.settled(1)
    assert node.status()["events"]["association-refused"] == 2


def test_addresses_that_no_peer_has_are_turned_away(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess
) -> None:
    known = peers(orthanc)
    known[0]["addresses"] = ["127.0.0.9"]
    made = NodeProcess(tmp_path / "node", zoo.target, known)
    start(made)
    # 127.0.0.1 belongs to ORTHANC; the title STORESCU does not belong to it.
    assert store(made, film(3)) == [0x0124]
    ae = AE("STORESCU")
    ae.add_requested_context(Verification)
    ae.acse_timeout = 5
    stranger = ae.associate(
        "127.0.0.1", made.port, ae_title="SPINEZOO", bind_address=("127.0.0.7", 0)
    )
    assert not stranger.is_established
    events = made.status()["events"]
    assert events["not-authorized"] == 1
    assert events["address-refused"] == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"PatientID": "x" * 65536}, "value-too-long"),
        ({"Rows": None}, "no-image"),
        ({"PixelData": b"\0" * 100}, "refused-FilmError"),
    ],
)
def test_poison_is_set_aside_by_name(
    node: NodeProcess, values: dict[str, object], reason: str
) -> None:
    assert store(node, film(3, **values), film(5)) == [0, 0]
    node.settled(1)
    until(lambda: node.films()["aside"] == 1)
    (one,) = [each for each in node.status()["notable"] if each["state"] == "aside"]
    assert one["reason"] == reason


def test_half_a_film_and_many_callers_leave_the_node_standing(node: NodeProcess) -> None:
    # A caller that opens an association, sends half a PDU and goes.
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", node.port)) as caller:
            caller.sendall(b"\x01\x00\x00\x00\xff\xff" + b"x" * 30)
    ae = AE("STORESCU")
    ae.add_requested_context(ComputedRadiographyImageStorage, "1.2.840.10008.1.2.1")
    ae.acse_timeout = 30
    half = ae.associate("127.0.0.1", node.port, ae_title="SPINEZOO")
    assert half.is_established
    half.dul.socket.socket.sendall(b"\x04\x00\x00\x01\x00\x00" + b"y" * 500)
    half.dul.socket.socket.close()
    results: list[str] = []

    def call() -> None:
        caller = AE("STORESCU")
        caller.add_requested_context(Verification)
        caller.acse_timeout = 60
        one = caller.associate("127.0.0.1", node.port, ae_title="SPINEZOO")
        if one.is_established:
            time.sleep(0.5)
            one.send_c_echo()
            one.release()
            results.append("served")
        else:
            results.append("refused" if one.is_rejected else "lost")

    threads = [threading.Thread(target=call) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(results) == 200
    assert results.count("served") >= 32
    assert "lost" not in results
    assert store(node, film(5)) == [0]
    node.settled(1)


def test_a_name_that_looks_like_a_path_is_only_a_name(
    node: NodeProcess, orthanc: OrthancProcess, tmp_path: Path
) -> None:
    content = film(3, PatientName="../../x", PatientID="../../y")
    assert store(node, content) == [0]
    node.settled(1)
    (one, *_) = orthanc.find(StudyInstanceUID=dataset_of(content).StudyInstanceUID)
    assert str(dataset_of(orthanc.file(one)).PatientName) == "../../x"
    assert not list(tmp_path.rglob("x"))


def test_no_log_line_holds_patient_data(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess
) -> None:
    canaries = {
        "PatientName": "Canaryname^Bird", "PatientID": "CANARYID77", "PatientBirthDate": "19510203",
        "AccessionNumber": "CANARYACC", "ReferringPhysicianName": "Canarydoctor^Who",
        "StudyDescription": "Canarystudy", "StudyDate": "19991231x", "PatientSex": "CANARYSEX",
    }  # fmt: skip
    made = NodeProcess(tmp_path / "node", zoo.target, peers(orthanc))
    start(made)
    films = [
        film(3, **canaries),
        film(5, **canaries, SeriesInstanceUID="1.2.canaryuid"),
        film(6, **canaries, PixelData=b"\0" * 10),
        film(11, **{**canaries, "PatientID": "CANARYID77" * 9000}),
        film(14, **canaries, SOPInstanceUID="1.2.03.canary"),
    ]
    store(made, *films)
    store(made, films[0], title="CANARYTITLE")
    made.settled(1)
    until(lambda: made.films()["aside"] >= 3)
    page = str(made.status())
    assert made.end() == 0
    text = made.log.read_text() + page
    names = [path.name for path in (tmp_path / "node").rglob("*")]
    for word in ("canary", "19510203", "19991231"):
        assert word not in text.lower(), word
        assert word not in " ".join(names).lower()
    assert "film set aside" in text


def test_no_room_is_said_and_waited_for(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess
) -> None:
    limits = {"films_waiting": 2, "disk_free_mib": 1}
    made = NodeProcess(tmp_path / "node", "127.0.0.1:1", peers(orthanc), limits=limits)
    start(made)
    contents = [film(seed) for seed in SEEDS[:3]]
    assert store(made, *contents) == [0, 0, 0xA700]
    assert made.end() == 0
    made.settings["gateway"] = zoo.target
    made.start()
    made.settled(2)
    assert store(made, contents[2]) == [0]
    made.settled(3)


def test_told_to_end_it_ends_what_is_under_way_and_waits_for_no_silent_caller(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess
) -> None:
    made = NodeProcess(tmp_path / "node", zoo.target, peers(orthanc))
    start(made)
    silent = AE("STORESCU")
    silent.add_requested_context(Verification)
    held = silent.associate("127.0.0.1", made.port, ae_title="SPINEZOO")
    assert held.is_established
    assert store(made, film(3)) == [0]
    assert made.end() == 0
    until(lambda: held.is_aborted)
    log = made.log.read_text()
    assert "Traceback" not in log
    assert log.count("film answered") == 1
    assert len(orthanc.get("/instances")) == 4


def test_a_full_disk_is_said(tmp_path: Path, start: Any, orthanc: OrthancProcess) -> None:
    limits = {"disk_free_mib": 1 << 40}
    made = NodeProcess(tmp_path / "node", "127.0.0.1:1", peers(orthanc), limits=limits)
    start(made)
    assert store(made, film(3)) == [0xA700]
    assert made.films()["waiting"] == 0
    assert made.status()["events"]["no-room"] == 1


def test_settings_that_are_wrong_are_named(tmp_path: Path, start: Any) -> None:
    known = [{"ae_title": "A", "host": "127.0.0.1", "port": 1}]
    for change, word in (
        ({"peers": []}, "no peer may send"),
        ({"peers": [{"ae_title": "A", "host": "x"}]}, "has no port"),
        ({"colour": "blue"}, "colour"),
        ({"results": ["nrrd"]}, "results"),
    ):
        made = NodeProcess(tmp_path / "node", "127.0.0.1:1", known)
        made.settings |= change
        made.log.unlink(missing_ok=True)
        made.start(wait=False)
        assert made.process is not None
        assert made.process.wait(300) == 1
        assert word in made.log.read_text()


def test_the_order_within_a_study_is_kept(node: NodeProcess, orthanc: OrthancProcess) -> None:
    study = derived_uid("study", "order")
    contents = [film(seed, StudyInstanceUID=study) for seed in SEEDS[:5]]
    assert store(node, *contents) == [0] * 5
    node.settled(5)
    changes = orthanc.get("/changes?limit=1000")["Changes"]
    order = []
    for change in changes:
        if change["ChangeType"] == "NewInstance":
            one = dataset_of(orthanc.file(change["ID"]))
            if one.Modality == "SR":
                evidence = one.CurrentRequestedProcedureEvidenceSequence[0]
                series = evidence.ReferencedSeriesSequence[0]
                order.append(series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    assert order == [dataset_of(content).SOPInstanceUID for content in contents]


def test_measures_of_the_gateway_stand_in_the_report_with_ucum_units(
    tmp_path: Path, start: Any, zoo: ZooProcess, orthanc: OrthancProcess
) -> None:
    made = NodeProcess(tmp_path / "node", zoo.target, peers(orthanc), measures=True, results=["sr"])
    start(made)
    content = film(5)
    assert store(made, content) == [0]
    made.settled(1)
    (one,) = orthanc.find(StudyInstanceUID=dataset_of(content).StudyInstanceUID)
    report = dataset_of(orthanc.file(one))
    names: dict[str, str] = {}

    def walk(item: Any) -> None:
        for child in item.get("ContentSequence", []):
            if child.ValueType == "NUM":
                unit = child.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
                assert unit.CodingSchemeDesignator == "UCUM"
                names[child.ConceptNameCodeSequence[0].CodeMeaning] = unit.CodeValue
            walk(child)

    walk(report)
    assert len(names) >= 10
    assert "deg" in names.values()
    assert any(name.startswith("Body height") for name in names)
