"""TLS to other servers: whose certificates are trusted."""

from pathlib import Path
from typing import Protocol, cast

from OpenSSL import SSL
from OpenSSL.crypto import Error as CryptoError
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from imgservice.net.names import is_address
from imgservice.pem import certificate_blocks


class TlsPolicy(Protocol):
    """Twisted's `IPolicyForHTTPS`, for type checkers."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator: ...


def tls_policy(ca_file: str | None = None, verify: bool = True) -> TlsPolicy:
    """Return a policy that trusts the authorities in the file, by default those of the system.

    `ValueError` if the file cannot be read or has no certificates. Without `verify`, any
    certificate is accepted.
    """
    if not verify:
        return UnverifiedTls()
    policy: TlsPolicy = BrowserLikePolicyForHTTPS(authorities(ca_file))
    return policy


def authorities(ca_file: str | None) -> IOpenSSLTrustRoot:
    """Read the certificates of authorities from a PEM file; None: use those of the system.

    `ValueError` if the file cannot be read or has no certificates.
    """
    trusted: IOpenSSLTrustRoot
    if ca_file is None:
        trusted = platformTrust()
        return trusted
    try:
        text = Path(ca_file).read_bytes()
    except OSError as error:
        raise ValueError(f"{ca_file}: cannot be read: {error.strerror}") from None
    blocks = certificate_blocks(text)
    try:
        trusted = trustRootFromCertificates([Certificate.loadPEM(one) for one in blocks or [b""]])
    except (CryptoError, ValueError):
        raise ValueError(f"{ca_file}: holds no certificates in PEM format") from None
    return trusted


@implementer(IPolicyForHTTPS)
class UnverifiedTls:
    """Accepts any certificate."""

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return cast(IOpenSSLClientConnectionCreator, _Unverified(hostname))


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    def __init__(self, hostname: bytes) -> None:
        self._hostname = hostname
        self._context = CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if not is_address(self._hostname.decode("ascii")):
            connection.set_tlsext_host_name(self._hostname)
        return connection
