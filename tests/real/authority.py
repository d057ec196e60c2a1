"""An authority that signs certificates of clients."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

Part = tuple[ObjectIdentifier, str]


def names(*parts: Part) -> x509.Name:
    """Make a name of what is told as RFC 4514 does: the certificate has the last part first."""
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in reversed(parts)])


@attrs.frozen
class Held:
    """A certificate with its key, in one PEM file."""

    file: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@attrs.frozen
class Authority:
    directory: Path
    own: Held

    @classmethod
    def make(cls, directory: Path, name: str = "authority") -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = names((NameOID.COMMON_NAME, name))
        signed = _builder(subject, subject, key, timedelta(days=1)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        return cls(
            directory, _held(directory / f"{name}.pem", signed.sign(key, hashes.SHA256()), key)
        )

    @property
    def file(self) -> Path:
        return self.own.file

    def client(
        self,
        *parts: Part,
        lifetime: timedelta = timedelta(days=1),
        usage: Sequence[ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
    ) -> Held:
        """Sign a certificate for the subject."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(names(*parts), self.own.certificate.subject, key, lifetime)
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usage)), critical=False)
        signed = builder.sign(self.own.key, hashes.SHA256())
        return _held(self.directory / f"client-{signed.serial_number}.pem", signed, key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + lifetime
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=30))
        .not_valid_after(end)
    )


def _held(file: Path, signed: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Held:
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return Held(file, signed, key)


def context(server: Path, shown: Held | None = None) -> ssl.SSLContext:
    """Return what a client that trusts the server, and shows this certificate, connects with."""
    made = ssl.create_default_context(cafile=server)
    if shown is not None:
        made.load_cert_chain(shown.file)
    return made
