"""Our own credentials, and the token that Keystone issues for them."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from imgservice.concurrency.file_watch import Watched
from imgservice.concurrency.single_flight import SingleFlight
from imgservice.domain.units import Secret
from imgservice.keystone.client import KeystoneClient
from imgservice.keystone.documents import Document, read_expiry
from imgservice.keystone.errors import CredentialsRefused, KeystoneError, KeystoneUnreachable

RENEW_BEFORE = 120.0
"""Seconds before it expires in which a token is renewed while it is still in use."""
LAST_MOMENT = 2.0
"""Seconds before it expires in which a token is not used any more."""
REFUSED = "our credentials are refused"
TROUBLE = "keystone credentials"
PAUSE = 10.0
"""Seconds after which refused credentials are tried again: more often may lock the account."""


class OwnToken(Protocol):
    """The token with which we ask Keystone about the tokens of others."""

    async def get(self) -> str:
        """Return one that is valid, as far as we know; `KeystoneError` if there is none."""

    def reject(self, token: str) -> None:
        """Note that Keystone has rejected this one."""


@attrs.frozen
class Credentials:
    """The parts of a request for a token."""

    identity: Document = attrs.field(repr=False)
    scope: Document | None

    @property
    def document(self) -> Document:
        return {"identity": self.identity, **({"scope": self.scope} if self.scope else {})}


def password(user: str, secret: Secret, domain: Mapping[str, str], scope: Document) -> Credentials:
    account = {"name": user, "domain": domain, "password": secret.reveal()}
    return Credentials({"methods": ["password"], "password": {"user": account}}, scope)


def application_credential(id_: str, secret: Secret) -> Credentials:
    credential = {"id": id_, "secret": secret.reveal()}
    return Credentials(
        {"methods": ["application_credential"], "application_credential": credential}, None
    )


class TokenFile:
    """A token in a file, which something else renews; it is read again when it changes."""

    def __init__(self, file: Watched[str]) -> None:
        self._file = file
        self._rejected: str | None = None

    async def get(self) -> str:
        token = self._file()
        if token == self._rejected:
            raise CredentialsRefused("the token in auth.keystone.token_file is not valid any more")
        return token

    def reject(self, token: str) -> None:
        self._rejected = token


class IssuedToken:
    """Has Keystone issue a token, and the next one before it expires."""

    def __init__(
        self,
        client: KeystoneClient,
        credentials: Credentials,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        margin: float = LAST_MOMENT,
        with_catalog: bool = False,
    ) -> None:
        """Do not use a token for the last `margin` seconds, if it is valid for so long at all.

        `with_catalog`, Keystone adds to `document` where all services are.
        """
        self.document: Document = {}
        """What Keystone said of the last token."""
        self._margin = margin
        self._path = "/auth/tokens" if with_catalog else "/auth/tokens?nocatalog"
        self._client = client
        self._credentials = credentials
        self._timeout = timeout
        self._clock = clock
        self._wall_clock = wall_clock
        self._token: str | None = None
        self._last_moment = 0.0
        self._renew = 0.0
        self._not_before = 0.0
        self._lookups: SingleFlight[None, str] = SingleFlight()

    async def get(self) -> str:
        now = self._clock()
        if self._token is not None and now < self._last_moment:
            if now >= self._renew and now >= self._not_before:
                self._renew = now + PAUSE  # unless this succeeds
                self._issue().addErrback(self._renewal_failed)
            return self._token
        if now < self._not_before:
            raise CredentialsRefused(f"{REFUSED}, a moment ago")
        return await self._issue()

    def reject(self, token: str) -> None:
        if token == self._token:
            self._token = None

    def _issue(self) -> Deferred[str]:
        return self._lookups.share(None, self._ask)

    async def _ask(self) -> str:
        document = {"auth": self._credentials.document}
        reply = await self._client.ask("POST", self._path, {}, self._timeout, document)
        now = self._clock()
        if reply.status != 201:
            self._not_before = now + PAUSE
            raise CredentialsRefused(f"{REFUSED} with status {reply.status}")
        if not reply.token:
            raise KeystoneError("Keystone issues no token for us")
        left = read_expiry(reply.document) - self._wall_clock()
        self._last_moment = now + max(left / 2, left - self._margin)
        self._renew = now + max(left / 2, left - RENEW_BEFORE)
        self.document = reply.document
        self._token = reply.token
        self._client.troubles.clear(TROUBLE)
        return reply.token

    def _renewal_failed(self, failure: Failure) -> None:
        """Report it: the token in use is still valid, and the next request tries again."""
        failure.trap(KeystoneError)
        if not failure.check(KeystoneUnreachable):  # which the client has reported
            why = getattr(failure.value, "reason", "")
            self._client.troubles.report(TROUBLE, "Renewal of our Keystone token", why, False)
