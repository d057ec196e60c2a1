"""Certificates and keys as plain bytes, so that one process can read them for others."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from imgservice.pem import certificate_blocks
from imgservice.process.addresses import ListenError

EXPIRES_SOON = timedelta(days=14)

_KEY = re.compile(
    rb"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----(?>(?:[^-]|-(?!----))+)-----END \1-----"
)


@attrs.frozen
class Pair:
    """A certificate with its intermediates, and its key, as PEM."""

    file: str
    """Where the certificate came from, for messages."""
    chain: bytes = attrs.field(repr=False)
    key: bytes = attrs.field(repr=False)


@attrs.frozen
class TlsMaterial:
    """All that TLS connections need, checked. It can be pickled."""

    pairs: Sequence[Pair]
    client_ca: bytes | None = attrs.field(repr=False)
    is_client_required: bool
    min_version: str
    ciphers: str
    signature: object = attrs.field(eq=False, repr=False)
    """The `signature` of the files before they were read."""


def doubts(material: TlsMaterial, now: datetime) -> Iterator[str]:
    """Return warnings: certificates that are not valid now, or not for long."""
    for pair in material.pairs:
        own = certificates(pair.chain, pair.file)[0]
        if own.not_valid_after_utc <= now:
            yield f"{pair.file}: the certificate expired at {own.not_valid_after_utc:%F %T} UTC"
        elif own.not_valid_before_utc > now:
            yield f"{pair.file}: the certificate is valid from {own.not_valid_before_utc:%F %T} UTC"
        elif own.not_valid_after_utc <= now + EXPIRES_SOON:
            yield f"{pair.file}: the certificate expires at {own.not_valid_after_utc:%F %T} UTC"


def certificates(pem: bytes, path: str) -> list[x509.Certificate]:
    blocks = certificate_blocks(pem)
    if not blocks:
        raise ListenError(f"{path}: there is no certificate in it")
    try:
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError:
        raise ListenError(f"{path}: a certificate in it is damaged") from None


def private_key(pem: bytes, path: str) -> PrivateKeyTypes:
    found = _KEY.search(pem)
    if found is None:
        raise ListenError(f"{path}: there is no private key in it (as PEM)")
    try:
        return load_pem_private_key(found[0], None)
    except TypeError:
        raise ListenError(f"{path}: the key is encrypted; it is needed without") from None
    except Exception:  # of several classes, with messages that do not help
        raise ListenError(f"{path}: the key in it is damaged") from None
