"""Where we listen: Twisted endpoint strings, with TLS around them when it is configured."""

import re
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

from OpenSSL import SSL, crypto
from twisted.internet.endpoints import serverFromString, wrapServerTLS
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    TLSVersion,
    trustRootFromCertificates,
)


class ListenError(Exception):
    """An endpoint, or the TLS for it, cannot be used; the message says which and why."""


def endpoint(
    reactor: Any, description: str, backlog: int, tls: CertificateOptions | None
) -> IStreamServerEndpoint:
    """Make the endpoint of a description such as "tcp:9292:interface=127.0.0.1"."""
    if description.startswith(("tcp:", "tcp6:", "unix:")) and "backlog=" not in description:
        description += f":backlog={backlog}"
    try:
        plain = serverFromString(reactor, description)
    except Exception as error:
        raise ListenError(
            f"{description!r} is not an endpoint: {error or type(error).__name__}"
        ) from None
    # IOpenSSLServerConnectionCreator is what CertificateOptions can be adapted to.
    return plain if tls is None else wrapServerTLS(cast(Any, tls), plain)


def is_loopback(description: str) -> bool:
    """Tell whether only this machine can connect there."""
    if description.startswith("unix:"):
        return True
    matched = re.search(r":interface=((?:\\:|[^:])*)", description)
    try:
        return matched is not None and ip_address(matched[1].replace("\\:", ":")).is_loopback
    except ValueError:
        return False


def tls_options(certificate: str, key: str, client_ca: str | None = None) -> CertificateOptions:
    """Read the PEM files; TLS 1.2 and newer, and HTTP/1.1 only.

    With `client_ca` the handshake fails for clients without a certificate of these authorities.
    """
    blocks = _blocks(certificate, "the certificate")
    secret = _read(key, "the key")
    own = _private(blocks[0], secret, certificate, key)
    # pyOpenSSL takes the objects of `cryptography` and deprecates its own; Twisted passes both.
    extra = [one.original.to_cryptography() for one in _certificates(blocks[1:], certificate)]
    return CertificateOptions(
        privateKey=own.privateKey.original.to_cryptography_key(),
        certificate=own.original.to_cryptography(),
        extraCertChain=extra,
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableProtocols=[b"http/1.1"],
        **_only_clients_of(client_ca),
    )


def _only_clients_of(client_ca: str | None) -> dict[str, Any]:
    if client_ca is None:
        return {}
    blocks = _blocks(client_ca, "the authorities of clients")
    return {"trustRoot": trustRootFromCertificates(_certificates(blocks, client_ca))}


def _certificates(blocks: Sequence[bytes], path: str) -> list[Certificate]:
    try:
        return [Certificate.loadPEM(block) for block in blocks]
    except crypto.Error:
        raise ListenError(f"{path}: a certificate in it is damaged") from None


def _blocks(path: str, what: str) -> list[bytes]:
    found = re.findall(
        rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", _read(path, what), re.DOTALL
    )
    if not found:
        raise ListenError(f"{path}: there is no certificate in it")
    return found


def _private(block: bytes, secret: bytes, certificate: str, key: str) -> PrivateCertificate:
    try:
        own: PrivateCertificate = PrivateCertificate.loadPEM(block + b"\n" + secret)
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(own.original.to_cryptography())
        context.use_privatekey(own.privateKey.original.to_cryptography_key())
        context.check_privatekey()
    except Exception:  # OpenSSL's own reasons name neither the file nor what to do
        raise ListenError(f"{key}: not an unencrypted PEM key that fits {certificate}") from None
    return own


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ListenError(f"{path}: {what} cannot be read: {error.strerror}") from None
