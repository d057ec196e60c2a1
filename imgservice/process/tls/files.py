"""Read the files of TLS, and check them."""

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from imgservice.concurrency.file_watch import file_state
from imgservice.config.sections.server import TlsOptions, TlsPair
from imgservice.process.addresses import ListenError
from imgservice.process.tls.contexts import Contexts
from imgservice.process.tls.material import Pair, TlsMaterial, certificates, private_key

MODERN = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
"""Ciphers of TLS 1.2 unless the operator chooses others: forward secrecy, AEAD, no CBC."""


def read_material(options: TlsOptions) -> TlsMaterial:
    """Read and check all files; `ListenError` has one line that names the file at fault."""
    looked = signature(options)
    authorities = options.client_ca and _read(options.client_ca, "the authorities of clients")
    material = TlsMaterial(
        pairs=tuple(_pair(one) for one in _pairs(options)),
        client_ca=authorities or None,
        is_client_required=options.client_auth == "required",
        min_version=options.min_version,
        ciphers=options.ciphers or MODERN,
        signature=looked,
    )
    if options.client_ca is not None:
        certificates(authorities or b"", options.client_ca)
    Contexts(material)  # OpenSSL may refuse what is correct
    return material


def signature(options: TlsOptions) -> object:
    """Return what differs after a change of one of the files, without reading them."""
    paths = [path for one in _pairs(options) for path in (one.certificate, one.key)]
    return tuple(file_state(path) for path in (*paths, *filter(None, [options.client_ca])))


def _pairs(options: TlsOptions) -> Sequence[TlsPair]:
    return (TlsPair(certificate=options.certificate, key=options.key), *options.more)


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ListenError(f"{path}: {what} cannot be read: {error.strerror}") from None


def _pair(files: TlsPair) -> Pair:
    pem = _read(files.certificate, "the certificate")
    secret = _read(files.key, "the key")
    chain = certificates(pem, files.certificate)
    _check_fit(private_key(secret, files.key), chain, files)
    _check_order(chain, files.certificate)
    return Pair(files.certificate, pem, secret)


def _check_fit(key: PrivateKeyTypes, chain: Sequence[x509.Certificate], files: TlsPair) -> None:
    public = key.public_key()
    fitting = [index for index, one in enumerate(chain) if one.public_key() == public]
    if not fitting:
        raise ListenError(f"{files.key}: the key does not fit {files.certificate}")
    if fitting[0] != 0:
        raise ListenError(
            f"{files.certificate}: the certificate that {files.key} fits must be the first in it"
        )


def _check_order(chain: Sequence[x509.Certificate], path: str) -> None:
    """Check that each one has signed an earlier one; a cross-signed one may fork the chain."""
    for index, one in enumerate(chain):
        if index and not any(_has_issued(one, earlier) for earlier in chain[:index]):
            name = one.subject.rfc4514_string()
            raise ListenError(
                f"{path}: certificate {index + 1} in it ({name}) has issued none of those before"
                " it; the server's comes first, then who issued it, and so on"
            )


def _has_issued(authority: x509.Certificate, issued: x509.Certificate) -> bool:
    try:
        issued.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
