"""An authority that signs certificates of clients, of servers, and of other authorities."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

Part = tuple[ObjectIdentifier, str]
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def names(*parts: Part) -> x509.Name:
    """Make a name of what is told as RFC 4514 does: the certificate has the last part first."""
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in reversed(parts)])


@attrs.frozen
class Held:
    """A certificate with its key, in one PEM file."""

    file: Path
    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


@attrs.frozen
class Authority:
    directory: Path
    own: Held

    @classmethod
    def make(cls, directory: Path, name: str = "authority") -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        subject = names((NameOID.COMMON_NAME, name))
        builder = _may_sign(_builder(subject, subject, key, timedelta(days=1)))
        return cls(directory, _held(directory / f"{name}.pem", _signed(builder, key), key))

    def intermediate(self, name: str) -> "Authority":
        """Make an authority that this one vouches for."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = names((NameOID.COMMON_NAME, name))
        builder = _may_sign(_builder(subject, self.own.certificate.subject, key, timedelta(days=1)))
        held = _held(self.directory / f"{name}.pem", _signed(builder, self.own.key), key)
        return Authority(self.directory, held)

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
        return self._issue("client", builder, key)

    def server(
        self, *hosts: str, key: Key | None = None, lifetime: timedelta = timedelta(days=1)
    ) -> Held:
        """Sign a certificate for the names, which may be wildcards."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = names((NameOID.COMMON_NAME, hosts[0]))
        builder = _builder(subject, self.own.certificate.subject, key, lifetime)
        alternatives = x509.SubjectAlternativeName([x509.DNSName(one) for one in hosts])
        return self._issue("server", builder.add_extension(alternatives, critical=False), key)

    def _issue(self, kind: str, builder: x509.CertificateBuilder, key: Key) -> Held:
        signed = _signed(builder, self.own.key)
        return _held(self.directory / f"{kind}-{signed.serial_number}.pem", signed, key)


def _may_sign(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)


def _signed(builder: x509.CertificateBuilder, key: Key) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, lifetime: timedelta
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


def _held(file: Path, signed: x509.Certificate, key: Key) -> Held:
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
