"""The keys of a store: those of the configuration, or what botocore finds elsewhere."""

import time
from typing import Protocol, cast

import attrs
import botocore.session
from botocore.exceptions import BotoCoreError

from imgservice.concurrency.single_flight import SingleFlight
from imgservice.concurrency.threads import Threads
from imgservice.domain.units import Secret

RENEW_BEFORE = 15 * 60
"""Seconds before their end when temporary keys are renewed for the first time."""
RENEW_AGAIN = 60.0
"""Seconds until that is tried again if it failed, or until the end if that is sooner."""


class NoKeys(Exception):
    """There are no keys, or they could not be fetched; the text says why, without secrets."""


@attrs.frozen
class Keys:
    """What signatures are made with."""

    access_key: str = attrs.field(repr=False)
    secret_key: str = attrs.field(repr=False)
    token: str | None = attrs.field(repr=False)


class Credentials(Protocol):
    async def keys(self) -> Keys:
        """Return keys that are valid now; `NoKeys`."""

    async def region(self) -> str | None:
        """Return the region that is configured elsewhere, if any."""

    def forget(self) -> bool:
        """Let new keys be found, since the server refuses these; tell whether there may be any."""


class ConfiguredCredentials:
    """Keys of the configuration."""

    def __init__(
        self, threads: Threads, access_key: Secret, secret_key: Secret, token: Secret | None
    ) -> None:
        self._threads = threads
        secret = None if token is None else token.reveal()
        self._keys = Keys(access_key.reveal(), secret_key.reveal(), secret)

    async def keys(self) -> Keys:
        return self._keys

    async def region(self) -> str | None:
        return await self._threads.run(configured_region)

    def forget(self) -> bool:
        return False


class FoundCredentials:
    """Keys that botocore finds: in the environment, in shared files, or by asking the container
    or instance service. It blocks while it looks, so it does that in a thread.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._flight: SingleFlight[str, Keys] = SingleFlight()
        self._found: _Found | None = None
        self._keys: Keys | None = None
        self._asked = 0.0

    async def keys(self) -> Keys:
        if self._keys is None or self._is_due():
            self._keys = await self._flight.share("keys", self._fetch)
        return self._keys

    async def region(self) -> str | None:
        return await self._threads.run(configured_region)

    def forget(self) -> bool:
        self._found = self._keys = None
        return True

    def _is_due(self) -> bool:
        """Tell whether the keys end soon; those that never end cannot be asked."""
        if not hasattr(self._found, "refresh_needed"):
            return False
        is_just_asked = time.monotonic() < self._asked + RENEW_AGAIN
        seconds = RENEW_AGAIN if is_just_asked else RENEW_BEFORE
        return cast(_Temporary, self._found).refresh_needed(int(seconds))

    async def _fetch(self) -> Keys:
        self._asked = time.monotonic()
        return await self._threads.run(self._find)

    def _find(self) -> Keys:
        try:
            if self._found is None:
                session = botocore.session.Session()
                self._found = cast("_Found | None", session.get_credentials())
            if self._found is None:
                raise NoKeys("no credentials found in the environment, shared files or metadata")
            keys = self._found.get_frozen_credentials()
        except BotoCoreError as error:
            raise NoKeys(f"no credentials: {type(error).__name__}") from None
        return Keys(keys.access_key, keys.secret_key, keys.token)


def configured_region() -> str | None:
    """Return the region of the environment or of shared files; reads them."""
    try:
        found: str | None = botocore.session.Session().get_config_variable("region")
    except BotoCoreError:
        return None
    return found


class _Frozen(Protocol):
    access_key: str
    secret_key: str
    token: str | None


class _Found(Protocol):
    """Credentials of botocore."""

    def get_frozen_credentials(self) -> _Frozen:
        """Return them; fetch new ones before, if they end soon."""


class _Temporary(Protocol):
    def refresh_needed(self, refresh_in: int) -> bool: ...
