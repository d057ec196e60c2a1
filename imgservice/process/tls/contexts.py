"""The OpenSSL contexts with which connections are served."""

from collections.abc import Sequence
from typing import cast

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from imgservice.process.addresses import ListenError
from imgservice.process.tls.material import Pair, TlsMaterial, certificates, private_key

SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""Of TLS 1.3. As in those of TLS 1.2, AES-128 is first: it is the cheapest, and safe."""
PRIORITIZE_CHACHA = 1 << 21
"""SSL_OP_PRIORITIZE_CHACHA: for clients that prefer it, as their processors have no AES."""
PARTIAL_WRITE = 1 << 0
"""SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets: OpenSSL would take one record at a time."""
HTTP = b"http/1.1"

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


@implementer(IOpenSSLServerConnectionCreator)
class ServerContexts:
    """Makes the TLS side of each connection, with the certificate for the name it asks for.

    Sessions are not resumed, neither by tickets nor from memory: the keys of tickets could not be
    shared between processes, would undo forward secrecy while they live, and a client's certificate
    would count for as long as its ticket.
    """

    def __init__(self, material: TlsMaterial) -> None:
        self._present = Contexts(material)

    @property
    def material(self) -> TlsMaterial:
        return self._present.material

    def replace(self, material: TlsMaterial) -> None:
        """Use this for new connections; present ones keep what they have."""
        self._present = Contexts(material)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._present.first)


class Contexts:
    """The contexts of one material; lives as long as a connection that was made with it."""

    def __init__(self, material: TlsMaterial) -> None:
        self.material = material
        self._by_name: dict[str, SSL.Context] = {}
        made = [self._add(pair) for pair in material.pairs]
        self.first = made[0]
        self.first.set_tlsext_servername_callback(self._choose)

    def _add(self, pair: Pair) -> SSL.Context:
        own, *extra = certificates(pair.chain, pair.file)
        context = _context(self.material)
        try:
            context.use_certificate(own)
            context.use_privatekey(private_key(pair.key, pair.file))  # type: ignore[arg-type]
            for one in extra:
                context.add_extra_chain_cert(one)
        except (SSL.Error, TypeError) as error:
            raise ListenError(f"{pair.file}: OpenSSL refuses it: {_reason(error)}") from None
        # OpenSSL calls back into contexts, and a connection knows only its last one.
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
    for one in certificates(authorities, "client_ca"):
        store.add_cert(crypto.X509.from_cryptography(one))
        context.add_client_ca(one)
    needed = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if is_required else 0
    context.set_verify(SSL.VERIFY_PEER | needed)


def _select_protocol(_: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """Choose HTTP/1.1; a client that does not offer it gets an alert (RFC 7301)."""
    if HTTP not in offered:
        raise SSL.Error([("SSL routines", "", "no application protocol")])
    return HTTP


def _reason(error: Exception) -> str:
    """Return OpenSSL's own message."""
    queue = error.args[0] if error.args else ""
    return str(queue[-1][-1]) if isinstance(queue, list) and queue else str(queue)
