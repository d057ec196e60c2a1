"""TLS: what is read from the operator's files, what connections are made of it, and when anew.

`read_material` reads and checks the files. What comes of it is plain bytes, so that one process can
read for others; `ServerContexts` serves connections with it, and `TlsReloader` sees changes.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, cast

import attrs
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.application.service import Service
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from imgservice.concurrency.reactor import Clock, looping_call
from imgservice.config.sections.server import TlsOptions, TlsPair
from imgservice.process.addresses import ListenError

MODERN = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
"""What TLS 1.2 is spoken with unless the operator says otherwise: forward secrecy, AEAD, no CBC."""
SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""Of TLS 1.3. In both AES-128 is first: the cheapest, and nobody can break it either."""
PRIORITIZE_CHACHA = 1 << 21
"""SSL_OP_PRIORITIZE_CHACHA: for clients that want it most, so have no AES in their processor."""
PARTIAL_WRITE = 1 << 0
"""SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets: OpenSSL would take one record at a time."""
HTTP = b"http/1.1"
EXPIRES_SOON = timedelta(days=14)
INTERVAL = 1.0
"""Seconds between two looks at the files."""
REMIND = timedelta(days=1)
"""After which it is told again that a certificate expires."""

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]++-----END CERTIFICATE-----")
_KEY = re.compile(
    rb"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----(?>(?:[^-]|-(?!----))+)-----END \1-----"
)

_log = Logger()


# -- what is in the files ---------------------------------------------------------------------


@attrs.frozen
class Pair:
    """A certificate with its intermediates, and its key, as PEM."""

    file: str
    """Where the certificate came from, for messages."""
    chain: bytes = attrs.field(repr=False)
    key: bytes = attrs.field(repr=False)


@attrs.frozen
class TlsMaterial:
    """Everything that connections need of TLS, checked. It can be pickled."""

    pairs: Sequence[Pair]
    client_ca: bytes | None = attrs.field(repr=False)
    is_client_required: bool
    min_version: str
    ciphers: str
    signature: object = attrs.field(eq=False, repr=False)
    """How the files looked before they were read."""


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
        _certificates(authorities or b"", options.client_ca)
    _Generation(material)  # OpenSSL has its own idea of what can be used
    return material


def signature(options: TlsOptions) -> object:
    """Return what differs when one of the files was changed; costs no reading."""
    paths = [path for one in _pairs(options) for path in (one.certificate, one.key)]
    return tuple(_state(path) for path in (*paths, *filter(None, [options.client_ca])))


def doubts(material: TlsMaterial, now: datetime) -> Iterator[str]:
    """Tell what is not wrong enough to do without TLS: certificates that are not valid for long."""
    for pair in material.pairs:
        own = _certificates(pair.chain, pair.file)[0]
        if own.not_valid_after_utc <= now:
            yield f"{pair.file}: the certificate expired at {own.not_valid_after_utc:%F %T} UTC"
        elif own.not_valid_before_utc > now:
            yield f"{pair.file}: the certificate is valid from {own.not_valid_before_utc:%F %T} UTC"
        elif own.not_valid_after_utc <= now + EXPIRES_SOON:
            yield f"{pair.file}: the certificate expires at {own.not_valid_after_utc:%F %T} UTC"


def _pairs(options: TlsOptions) -> Sequence[TlsPair]:
    return (TlsPair(certificate=options.certificate, key=options.key), *options.more)


def _state(path: str) -> object:
    try:
        found = Path(path).stat()
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ListenError(f"{path}: {what} cannot be read: {error.strerror}") from None


def _pair(files: TlsPair) -> Pair:
    pem = _read(files.certificate, "the certificate")
    secret = _read(files.key, "the key")
    chain = _certificates(pem, files.certificate)
    _check_fit(_private_key(secret, files.key), chain, files)
    _check_order(chain, files.certificate)
    return Pair(files.certificate, pem, secret)


def _certificates(pem: bytes, path: str) -> list[x509.Certificate]:
    blocks = _CERTIFICATE.findall(pem)
    if not blocks:
        raise ListenError(f"{path}: there is no certificate in it")
    try:
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError:
        raise ListenError(f"{path}: a certificate in it is damaged") from None


def _private_key(pem: bytes, path: str) -> PrivateKeyTypes:
    found = _KEY.search(pem)
    if found is None:
        raise ListenError(f"{path}: there is no private key in it (as PEM)")
    try:
        return load_pem_private_key(found[0], None)
    except TypeError:
        raise ListenError(f"{path}: the key is encrypted; it is needed without") from None
    except Exception:  # its reasons are of no help, and it has several classes for them
        raise ListenError(f"{path}: the key in it is damaged") from None


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
    """See that each certificate has signed one before it; cross-signed ones may fork the chain."""
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


# -- what connections are made of -------------------------------------------------------------


@implementer(IOpenSSLServerConnectionCreator)
class ServerContexts:
    """Makes the TLS side of each connection, with the certificate for the name it asks for.

    Sessions are not resumed, neither by tickets nor from memory: the keys of tickets could not be
    shared between processes, would undo forward secrecy while they live, and a client's certificate
    would count for as long as its ticket.
    """

    def __init__(self, material: TlsMaterial) -> None:
        self._generation = _Generation(material)

    @property
    def material(self) -> TlsMaterial:
        return self._generation.material

    def replace(self, material: TlsMaterial) -> None:
        """Serve connections that come from now on with this; others keep what they have."""
        self._generation = _Generation(material)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._generation.first)


class _Generation:
    """The contexts of one material; lives as long as a connection that was made with it."""

    def __init__(self, material: TlsMaterial) -> None:
        self.material = material
        self._by_name: dict[str, SSL.Context] = {}
        made = [self._add(pair) for pair in material.pairs]
        self.first = made[0]
        self.first.set_tlsext_servername_callback(self._choose)

    def _add(self, pair: Pair) -> SSL.Context:
        own, *extra = _certificates(pair.chain, pair.file)
        context = _context(self.material)
        try:
            context.use_certificate(own)
            context.use_privatekey(_private_key(pair.key, pair.file))  # type: ignore[arg-type]
            for one in extra:
                context.add_extra_chain_cert(one)
        except (SSL.Error, TypeError) as error:
            raise ListenError(f"{pair.file}: OpenSSL refuses it: {_reason(error)}") from None
        # OpenSSL calls back into contexts, and a connection knows only the one it has in the end.
        context.set_app_data(self)
        for name in _names(own):
            self._by_name.setdefault(name, context)
        return context

    def _choose(self, connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        _, _, parent = name.partition(".")
        context = self._by_name.get(name) or self._by_name.get(f"*.{parent}")
        if context is not None and context is not self.first:
            connection.set_context(context)


def _names(certificate: x509.Certificate) -> Sequence[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name.lower() for name in found.value.get_values_for_type(x509.DNSName)]


def _context(material: TlsMaterial) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(_VERSIONS[material.min_version])
    context.set_options(
        SSL.OP_CIPHER_SERVER_PREFERENCE
        | PRIORITIZE_CHACHA
        | SSL.OP_NO_COMPRESSION
        | SSL.OP_NO_RENEGOTIATION
        | SSL.OP_NO_TICKET
    )
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"imgservice")  # OpenSSL wants one where clients have certificates
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(PARTIAL_WRITE)
    context.set_tls13_ciphersuites(SUITES)
    try:
        context.set_cipher_list(material.ciphers.encode())
    except SSL.Error:
        raise ListenError(f"ciphers: OpenSSL knows none of {material.ciphers!r}") from None
    context.set_alpn_select_callback(_select_protocol)
    if material.client_ca is not None:
        _ask_clients(context, material.client_ca, material.is_client_required)
    return context


def _ask_clients(context: SSL.Context, authorities: bytes, is_required: bool) -> None:
    store = cast(crypto.X509Store, context.get_cert_store())
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # an intermediate may be trusted alone
    for one in _certificates(authorities, "client_ca"):
        store.add_cert(crypto.X509.from_cryptography(one))
        context.add_client_ca(one)
    needed = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if is_required else 0
    context.set_verify(SSL.VERIFY_PEER | needed)


def _select_protocol(_: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """RFC 7301: a client that offers only what we do not speak is told so, by an alert."""
    if HTTP not in offered:
        raise SSL.Error([("SSL routines", "", "no application protocol")])
    return HTTP


def _reason(error: Exception) -> str:
    """Return OpenSSL's own words for what is wrong."""
    queue = error.args[0] if error.args else ""
    return str(queue[-1][-1]) if isinstance(queue, list) and queue else str(queue)


# -- when the files change --------------------------------------------------------------------


class Replaceable(Protocol):
    """Who serves connections, here or in other processes."""

    @property
    def material(self) -> TlsMaterial: ...

    def replace(self, material: TlsMaterial) -> None: ...


class TlsReloader(Service):
    """Looks at the files now and then, and takes up what has changed in them.

    It waits until they have not changed between two looks: key and certificate are not written in
    one moment. Files that cannot be used are told of once, and tried again with every look; what
    was read before holds on.
    """

    def __init__(
        self,
        clock: Clock,
        read: Callable[[], TlsMaterial],
        signature: Callable[[], object],
        contexts: Replaceable,
        interval: float = INTERVAL,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._read = read
        self._signature = signature
        self._contexts = contexts
        self._now = now
        self._last_look: object = contexts.material.signature
        self._complaint = ""
        self._reminded: datetime | None = None
        self._interval = interval
        self._looks = looping_call(clock, self._look)

    def startService(self) -> None:
        super().startService()
        self._looks.start(self._interval)

    def stopService(self) -> None:
        super().stopService()
        self._looks.stop()

    def reload(self) -> None:
        """Read the files now, whether or not they look changed."""
        try:
            material = self._read()
        except ListenError as error:
            self._complain(str(error))
            return
        self._complaint = ""
        if material != self._contexts.material:
            files = ", ".join(pair.file for pair in material.pairs)
            _log.info("TLS: new connections are served with {files}, read anew", files=files)
            self._reminded = None
        self._contexts.replace(material)

    def _look(self) -> None:
        found = self._signature()
        is_quiet, self._last_look = found == self._last_look, found
        if is_quiet and found != self._contexts.material.signature:
            self.reload()
        now = self._now()
        if self._reminded is None or now >= self._reminded + REMIND:
            self._reminded = now
            for doubt in doubts(self._contexts.material, now):
                _log.warn("TLS: {doubt}", doubt=doubt)

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            _log.error("TLS: {complaint}; what was read before holds on", complaint=complaint)
