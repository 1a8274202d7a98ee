"""Certificates for development: an authority of this checkout, and one for every process.

::

    make certs                          make what is missing or about to expire
    make certs ARGS=--force             make every certificate anew (same authority)
    make certs ARGS=--new-authority     make everything anew; every process must restart

Writes to ``certs/`` (never committed): ``ca.crt`` and ``ca.key``, and ``<name>.crt`` and
``<name>.key`` for every folder under ``services/``, for ``gateway``, ``evaluator``, ``pacs`` and
``client``. Each is good as server and as client; its names are the process's, ``localhost``,
127.0.0.1, ::1 and the forms of a Kubernetes service. Keys are readable by their owner only.

For development: the authority's key lies on the same disk without a password. A hospital takes
certificates from its own authority; ``docs/security.md`` says what they need.

Needs ``cryptography``; imported when it is used. ``docs/decisions.md`` says why not ``trustme``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from spinezoo_serving.disk import replace_file

from spinezoo_tools.checkout import FRONT, networks_of
from spinezoo_tools.environments import ROOT
from spinezoo_tools.output import end_with_reader

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

NOT_NETWORKS = (*FRONT, "pacs", "client")
"""Names with a certificate that are no network."""

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEW_DAYS = 30
"""A certificate that expires sooner is made anew."""

CLOCK_SLACK = timedelta(minutes=5)
"""How far the clock of a machine that checks may be behind."""

WARNING = "certs: for development only; the authority's key lies beside the certificates"


class CertsError(Exception):
    """A step failed; the message says which and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Make certificates for development.")
    parser.add_argument("--out", type=Path, default=ROOT / "certs", help="folder (default certs)")
    parser.add_argument("--namespace", default="spinezoo", help="Kubernetes namespace in the names")
    parser.add_argument(
        "--san", action="append", default=[], help="one more name or address in every certificate"
    )
    parser.add_argument("--days", type=int, default=CERTIFICATE_DAYS, help="lifetime in days")
    parser.add_argument("--force", action="store_true", help="make every certificate anew")
    parser.add_argument("--new-authority", action="store_true", help="and the authority as well")
    options = parser.parse_args(argv)
    if not 1 <= options.days <= AUTHORITY_DAYS:
        parser.error(f"--days is {options.days}; give 1 to {AUTHORITY_DAYS}")
    print(WARNING, file=sys.stderr)
    try:
        made = write_all(
            options.out,
            names_of(ROOT),
            namespace=options.namespace,
            more=options.san,
            days=options.days,
            force=options.force,
            new_authority=options.new_authority,
        )
    except CertsError as error:
        print(f"certs: {error}", file=sys.stderr)
        return 1
    print(f"certs: {options.out}: {'made ' + ', '.join(made) if made else 'all are good'}")
    return 0


def names_of(root: Path) -> list[str]:
    """Everyone who gets a certificate: the folders of ``services/``, and the front."""
    return [*networks_of(root), *NOT_NETWORKS]


def alternative_names(name: str, namespace: str, more: Sequence[str] = ()) -> list[str]:
    """Names and addresses that the certificate of a process holds for.

    Underscores are no part of a host name, so that ``mask_rcnn`` is ``mask-rcnn`` as well.
    """
    names = []
    for form in dict.fromkeys((name, name.replace("_", "-"))):
        names += [form, f"{form}.{namespace}", f"{form}.{namespace}.svc"]
        names.append(f"{form}.{namespace}.svc.cluster.local")
    return list(dict.fromkeys([*names, "localhost", "127.0.0.1", "::1", *more]))


def write_all(
    folder: Path,
    names: Sequence[str],
    *,
    namespace: str = "spinezoo",
    more: Sequence[str] = (),
    days: int = CERTIFICATE_DAYS,
    force: bool = False,
    new_authority: bool = False,
) -> list[str]:
    """Makes what is missing, about to expire, foreign or of other names.

    Returns:
        Names of what was made.

    Raises:
        CertsError: ``cryptography`` is absent, or a file cannot be read or written.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise CertsError(
            "the package cryptography is absent; run `make certs`, which has it"
        ) from None
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        authority = None if new_authority else load(folder, "ca")
        if authority is None or _days_left(authority[0]) < 2 * RENEW_DAYS:
            authority = make_authority()
            save(folder, "ca", *authority)
            made.append("ca")
        for name in names:
            wanted = alternative_names(name, namespace, more)
            present = None if force or "ca" in made else load(folder, name)
            if present is None or not _still_good(present[0], authority[0], wanted, days):
                save(folder, name, *make_certificate(name, wanted, *authority, days=days))
                made.append(name)
    except OSError as error:
        raise CertsError(f"{error.filename}: {error.strerror}; is the folder yours?") from error
    return made


def make_authority(
    title: str = "SpineZoo development authority",
    *,
    begins: datetime | None = None,
    days: float = AUTHORITY_DAYS,
) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """An authority that may sign certificates of processes, and no further authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(title)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(subject, subject, key, begins, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _signed(builder, key), key


def make_certificate(
    name: str,
    names: Sequence[str],
    authority: x509.Certificate,
    authority_key: EllipticCurvePrivateKey,
    *,
    begins: datetime | None = None,
    days: float = CERTIFICATE_DAYS,
) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """A certificate of one process, good as server and as client.

    Args:
        name: Its common name.
        names: Host names and addresses that it holds for.
        authority: Who signs.
        authority_key: The signer's key.
        begins: From when on; None: now, less some minutes.
        days: Lifetime in days.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = []
    for each in names:
        try:
            alternatives.append(x509.IPAddress(ip_address(each)))
        except ValueError:
            alternatives.append(x509.DNSName(each))
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(_name(name), authority.subject, key, begins, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
    )
    return _signed(builder, authority_key), key


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: EllipticCurvePrivateKey,
    begins: datetime | None,
    days: float,
) -> x509.CertificateBuilder:
    from cryptography import x509

    first = begins or datetime.now(UTC) - CLOCK_SLACK
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(first + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())


def load(folder: Path, name: str) -> tuple[x509.Certificate, EllipticCurvePrivateKey] | None:
    """Certificate and key of a name; None where one is absent, broken or not of the other."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        key = load_pem_private_key((folder / f"{name}.key").read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    return (certificate, key) if certificate.public_key() == key.public_key() else None


def _days_left(certificate: x509.Certificate) -> float:
    return (certificate.not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1)


def _still_good(
    certificate: x509.Certificate, authority: x509.Certificate, names: Sequence[str], days: int
) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    held = set(found.get_values_for_type(x509.DNSName))
    held |= {str(address) for address in found.get_values_for_type(x509.IPAddress)}
    # Someone who asked for short lives must not get one anew at every call.
    return set(names) <= held and _days_left(certificate) > min(RENEW_DAYS, days / 3)


def save(
    folder: Path, name: str, certificate: x509.Certificate, key: EllipticCurvePrivateKey
) -> None:
    """Writes both files, each at once; who reads between the two finds that they do not match."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_file(folder / f"{name}.key", secret, mode=0o600)
    replace_file(folder / f"{name}.crt", certificate.public_bytes(Encoding.PEM), mode=0o644)


if __name__ == "__main__":
    end_with_reader()
    sys.exit(main())
