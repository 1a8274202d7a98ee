"""DIMSE over TLS: both sides show a certificate, and nothing goes in the clear."""

from __future__ import annotations

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
