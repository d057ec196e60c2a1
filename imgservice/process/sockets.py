"""Where we listen: Twisted endpoint strings, with TLS around them when it is configured."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.endpoints import serverFromString, wrapServerTLS
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.ssl import Certificate, CertificateOptions, PrivateCertificate, TLSVersion


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


def tls_options(certificate: str, key: str) -> CertificateOptions:
    """Read the PEM files; TLS 1.2 and newer, and HTTP/1.1 only."""
    chain = _read(certificate, "the certificate")
    secret = _read(key, "the key")
    blocks = re.findall(
        rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", chain, re.DOTALL
    )
    if not blocks:
        raise ListenError(f"{certificate}: there is no certificate in it")
    own = _private(blocks[0], secret, certificate, key)
    # pyOpenSSL takes the objects of `cryptography` and deprecates its own; Twisted passes both.
    extra = [Certificate.loadPEM(block).original.to_cryptography() for block in blocks[1:]]
    return CertificateOptions(
        privateKey=own.privateKey.original.to_cryptography_key(),
        certificate=own.original.to_cryptography(),
        extraCertChain=extra,
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableProtocols=[b"http/1.1"],
    )


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
