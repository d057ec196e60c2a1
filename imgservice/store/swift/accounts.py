"""Accounts in Swift: where they are, and the tokens for them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs

from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.single_flight import SingleFlight
from imgservice.keystone import credentials
from imgservice.keystone.client import KeystoneClient
from imgservice.keystone.credentials import Credentials, IssuedToken
from imgservice.keystone.documents import Document, careful, text, token_of
from imgservice.keystone.errors import CredentialsRefused, KeystoneError
from imgservice.keystone.urls import v3_url
from imgservice.net.client import ConfiguredClient
from imgservice.net.limits import FetchLimits
from imgservice.net.tls import TlsPolicy
from imgservice.store.swift.config import AccountOptions, SwiftConfig
from imgservice.store.swift.errors import NoAccess
from imgservice.troubles import Troubles

_MOST_BYTES = 64 << 10
_UNKNOWN_LIFE = 3600.0
"""Seconds for which a token is used whose end the service does not tell."""


@attrs.frozen
class Access:
    """Where an account is, and a token for it."""

    storage_url: str
    token: str = attrs.field(repr=False)


class Account(Protocol):
    """Gives access to an account; it asks nothing before it must."""

    async def access(self) -> Access:
        """Return access that is valid, as far as we know; `NoAccess` if there is none."""

    def reject(self, access: Access) -> None:
        """Note that Swift has rejected this token."""

    async def close(self) -> None:
        """Close the connections that are kept."""


def make_account(
    reactor: Reactor, tls: TlsPolicy, config: SwiftConfig, options: AccountOptions
) -> Account:
    make = V1Account if options.auth == "v1" else KeystoneAccount
    return make(reactor, tls, config, options)


class KeystoneAccount:
    """One whose tokens are Keystone's."""

    def __init__(
        self, reactor: Reactor, tls: TlsPolicy, config: SwiftConfig, options: AccountOptions
    ) -> None:
        # What fails here is a trouble of the store, and no other.
        silent = Troubles(reactor, lambda _: None)
        url = v3_url(options.auth_url or "")
        self._config = config
        self._client = KeystoneClient(reactor, [url], tls, 1, config.timeout, silent)
        self._tokens = IssuedToken(
            self._client,
            _credentials(options),
            config.timeout,
            margin=config.token_margin,
            with_catalog=config.endpoint is None,
        )

    async def access(self) -> Access:
        try:
            token = await self._tokens.get()
            return Access(self._config.endpoint or self._endpoint(), token)
        except CredentialsRefused as error:
            raise NoAccess(f"Keystone: {error.reason}") from error
        except KeystoneError as error:
            raise NoAccess(f"Keystone gives no token: {error.reason}") from error

    def _endpoint(self) -> str:
        found = careful(lambda: endpoints(self._tokens.document, self._config))
        if not found:
            where = f" in region {self._config.region}" if self._config.region else ""
            raise NoAccess(
                f"Keystone's catalog has no {self._config.interface} endpoint of type"
                f" {self._config.service_type}{where}"
            )
        return found[0]

    def reject(self, access: Access) -> None:
        self._tokens.reject(access.token)

    async def close(self) -> None:
        await self._client.close()


def endpoints(document: Document, config: SwiftConfig) -> Sequence[str]:
    """Return the URLs in the catalog that fit."""
    return [
        text(endpoint["url"]).rstrip("/")
        for service in token_of(document).get("catalog") or ()
        if service["type"] == config.service_type
        for endpoint in service["endpoints"]
        if endpoint["interface"] == config.interface
        and config.region in (None, endpoint.get("region_id"), endpoint.get("region"))
    ]


def _credentials(options: AccountOptions) -> Credentials:
    credential = options.application_credential
    if credential.id is not None and credential.secret is not None:
        return credentials.application_credential(credential.id, credential.secret)
    assert options.user is not None and options.key is not None  # noqa: S101 # checked before
    project, _, user = options.user.partition(":")
    user_domain = _domain(options.user_domain, options.user_domain_id)
    project_domain = _domain(options.project_domain, options.project_domain_id)
    scope = {"project": {"name": project, "domain": project_domain}}
    return credentials.password(user, options.key, user_domain, scope)


def _domain(name: str | None, id_: str | None) -> Mapping[str, str]:
    return {"name": name} if name and not id_ else {"id": id_ or "default"}


class V1Account:
    """One whose tokens come from a service that takes a user and a key in two headers."""

    def __init__(
        self,
        reactor: Reactor,
        tls: TlsPolicy,
        config: SwiftConfig,
        options: AccountOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert options.user is not None and options.key is not None  # noqa: S101 # checked before
        self._url = options.auth_url or ""
        self._headers = {"x-auth-user": options.user, "x-auth-key": options.key.reveal()}
        self._config = config
        self._clock = clock
        limits = FetchLimits(connect=config.connect_timeout, idle=config.timeout, min_rate=0)
        self._client = ConfiguredClient(reactor, tls, limits, 1)
        self._access: Access | None = None
        self._last_moment = 0.0
        self._asking: SingleFlight[None, Access] = SingleFlight()

    async def access(self) -> Access:
        if self._access is not None and self._clock() < self._last_moment:
            return self._access
        return await self._asking.share(None, self._ask)

    async def _ask(self) -> Access:
        answer = await self._client.send("GET", self._url, self._headers)
        await answer.read(_MOST_BYTES)
        headers = answer.headers
        storage_url, token = headers.get("x-storage-url"), headers.get("x-auth-token")
        if answer.status in (401, 403):
            raise NoAccess(f"our credentials are refused with status {answer.status}")
        if answer.status // 100 != 2 or not storage_url or not token:
            raise NoAccess(f"no token: the authentication answers with status {answer.status}")
        self._last_moment = self._clock() + self._life(headers)
        self._access = Access(self._config.endpoint or storage_url.rstrip("/"), token)
        return self._access

    def _life(self, headers: Mapping[str, str]) -> float:
        told = headers.get("x-auth-token-expires", "")
        life = float(told) if told.isascii() and told.isdigit() else _UNKNOWN_LIFE
        return max(life / 2, life - self._config.token_margin)

    def reject(self, access: Access) -> None:
        if access == self._access:
            self._access = None

    async def close(self) -> None:
        await self._client.close()
