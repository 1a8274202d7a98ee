"""DIMSE over TLS: both sides show a certificate, and nothing goes in the clear."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from answers import dicom_of
from parts import NodeProcess, OrthancProcess, ZooProcess
from pynetdicom import AE
from pynetdicom.sop_class import ComputedRadiographyImageStorage
from spinezoo_testing.certificates import Certificates, certificates, shared_certificates
from test_node import dataset_of, store

__all__ = ["certificates", "shared_certificates"]

pytestmark = pytest.mark.filterwarnings("ignore")


def secure_store(node: NodeProcess, content: bytes, context: ssl.SSLContext) -> int | None:
    dataset = dataset_of(content)
    ae = AE("STORESCU")
    ae.add_requested_context(ComputedRadiographyImageStorage, dataset.file_meta.TransferSyntaxUID)
    try:
        one = ae.associate(
            "127.0.0.1", node.port, ae_title="SPINEZOO", tls_args=(context, "localhost")
        )
    except (OSError, RuntimeError):
        return None
    if not one.is_established:
        return None
    status = one.send_c_store(dataset)
    one.release()
    return int(status.Status) if status else None


def client(certificates: Certificates, name: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.path("ca.crt"))
    if name:
        context.load_cert_chain(certificates.path(f"{name}.crt"), certificates.path(f"{name}.key"))
    return context


def test_films_come_in_over_mutual_tls_only(
    tmp_path: Path, start: Any, zoo: ZooProcess, certificates: Certificates
) -> None:
    archive = OrthancProcess(
        tmp_path / "orthanc",
        {},
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(certificates.path("server.crt")),
        DicomTlsPrivateKey=str(certificates.path("server.key")),
        DicomTlsTrustedCertificates=str(certificates.path("ca.crt")),
        DicomTlsRemoteCertificateRequired=True,
    )
    start(archive)
    node = NodeProcess(
        tmp_path / "node",
        zoo.target,
        [
            {"ae_title": "STORESCU", "host": "127.0.0.1", "answers_to": ["ORTHANC"]},
            {
                "ae_title": "ORTHANC", "host": "127.0.0.1", "port": archive.port, "tls": True,
                "server_name": "localhost",
            },
        ],
        tls={
            "certificate": str(certificates.path("server.crt")),
            "key": str(certificates.path("server.key")),
            "authorities": str(certificates.path("ca.crt")),
        },
    )  # fmt: skip
    start(node)
    content = dicom_of(3)
    # Silent, in the clear, without a certificate, with a stranger's: refused; others are served.
    silent = socket.create_connection(("127.0.0.1", node.port))
    assert store(node, content) == [None]
    assert secure_store(node, content, client(certificates, None)) is None
    assert secure_store(node, content, client(certificates, "alien")) is None
    assert secure_store(node, content, client(certificates, "client")) == 0
    silent.close()
    node.settled(1)
    assert len(archive.find(StudyInstanceUID=dataset_of(content).StudyInstanceUID)) == 4
    assert node.status()["events"]["tls-refused"] >= 3


def tls_of(certificates: Certificates, name: str) -> dict[str, str]:
    return {
        "certificate": str(certificates.path(f"{name}.crt")),
        "key": str(certificates.path(f"{name}.key")),
        "authorities": str(certificates.path("ca.crt")),
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"certificate": "old.crt", "key": "old.key"}, "tls.certificate.*expired"),
        ({"certificate": "early.crt", "key": "early.key"}, "tls.certificate.*not yet valid"),
        ({"key": "client.key"}, "tls.key.*is not the key of"),
        ({"key": "none.key"}, "tls.key.*cannot be read"),
        ({"authorities": "server.key"}, "tls.authorities.*holds a private key"),
    ],
)
def test_a_certificate_that_is_no_good_ends_the_start(
    tmp_path: Path, start: Any, certificates: Certificates, change: dict[str, str], says: str
) -> None:
    files = {entry: str(certificates.path(name)) for entry, name in change.items()}
    peer = {"ae_title": "STORESCU", "host": "127.0.0.1", "port": 1, "tls": True}
    node = NodeProcess(
        tmp_path / "node", "127.0.0.1:1", [peer], tls=tls_of(certificates, "server") | files
    )
    start(node, wait=False)
    assert node.process is not None
    assert node.process.wait(100) == 1
    assert re.search(says, node.log.read_text())


def test_a_renewed_certificate_needs_no_restart(
    tmp_path: Path, start: Any, certificates: Certificates
) -> None:
    peer = {"ae_title": "STORESCU", "host": "127.0.0.1", "port": 1}
    node = NodeProcess(tmp_path / "node", "127.0.0.1:1", [peer], tls=tls_of(certificates, "server"))
    start(node)

    def shown() -> bytes | None:
        context = client(certificates, "client")
        with (
            socket.create_connection(("127.0.0.1", node.port), 10) as line,
            context.wrap_socket(line, server_hostname="localhost") as secure,
        ):
            return secure.getpeercert(binary_form=True)

    first = shown()
    assert first == shown()
    # A file that is wrong changes nothing.
    good = certificates.path("server.crt").read_bytes()
    certificates.path("server.crt").write_text("half")
    assert shown() == first
    certificates.path("server.crt").write_bytes(good)
    certificates.add("server")
    assert shown() not in (None, first)
    assert "certificates not renewed" in node.log.read_text()
