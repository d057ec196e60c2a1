"""A certificate for this machine's loopback address, signed by itself."""

import datetime
import ipaddress
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.address import LOOPBACK

VALID = datetime.timedelta(days=1)


@attrs.frozen
class Certificate:
    """Two PEM files."""

    file: Path
    key: Path


def certificate_in(folder: Path) -> Certificate:
    """Return the certificate in `folder`, made at the first call; it is valid for a day."""
    certificate = Certificate(folder / "certificate.pem", folder / "key.pem")
    if not certificate.file.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        certificate.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        pem = _signed(key).public_bytes(serialization.Encoding.PEM)
        certificate.file.write_bytes(pem)
    return certificate


def _signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "imgservice benchmark")])
    address = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALID)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
