"""Identifies the caller by the certificate of the TLS handshake."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from weakref import WeakKeyDictionary

from OpenSSL.crypto import X509

from imgservice.auth.certificates import Subject, subject_of
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, NotAuthenticated
from imgservice.http.request import RequestChannel, StreamingRequest
from imgservice.http.response import Response


class ClientCertificate:
    """The mode `client_certificate`.

    The handshake has verified the certificate. A connection may outlive it, but requests on it are
    refused after it has expired.
    """

    def __init__(
        self,
        users: Callable[[], Mapping[str, Context]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._users = users
        self._now = now
        self._subjects: WeakKeyDictionary[RequestChannel, Subject] = WeakKeyDictionary()

    async def __call__(self, request: StreamingRequest) -> Response | None:
        subject = self._subject(request.channel)
        if subject is None:
            return None
        if self._now() > subject.not_after:
            raise NotAuthenticated("The client's certificate has expired.")
        context = self._users().get(subject.name)
        if context is None:
            raise Forbidden(f"The certificate of {subject.name} stands for nobody here.")
        request.context = context
        request.identified = True
        return None

    def _subject(self, channel: RequestChannel) -> Subject | None:
        if channel not in self._subjects:
            shown = _certificate(channel.transport)
            if shown is None:
                return None
            self._subjects[channel] = subject_of(shown.to_cryptography())
        return self._subjects[channel]


def _certificate(transport: object) -> X509 | None:
    """Return the client's certificate; None without one, or without TLS."""
    get: Callable[[], X509 | None] | None = getattr(transport, "getPeerCertificate", None)
    return get() if get is not None else None
