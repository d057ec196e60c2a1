"""The store of objects in Swift: what a driver does."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from secrets import token_hex

from twisted.internet.defer import CancelledError

from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.single_flight import SingleFlight
from imgservice.concurrency.threads import Threads
from imgservice.net.client import ConfiguredClient
from imgservice.net.errors import FetchFailed
from imgservice.net.limits import FetchLimits
from imgservice.net.tls import tls_policy
from imgservice.store.interface import CleanupPending, Stored, StoreError
from imgservice.store.names import checked_name
from imgservice.store.registry import Driver
from imgservice.store.swift.accounts import Account, make_account
from imgservice.store.swift.adding import Addition
from imgservice.store.swift.client import Place, SwiftClient
from imgservice.store.swift.config import SwiftConfig
from imgservice.store.swift.containers import Containers
from imgservice.store.swift.errors import Failures
from imgservice.store.swift.feed import DataFailed, Feed
from imgservice.store.swift.reading import Reading
from imgservice.store.swift.removing import Removal
from imgservice.store.swift.urls import (
    Address,
    auth_address,
    container_of,
    is_container_of,
    read_url,
    write_url,
)

ALL_RETRY_MEMORY = 64 << 20
"""Bytes that all uploads together keep so as to send them again, if that is enough for one."""


class SwiftStore:
    """A store that uses only its own containers, in the accounts that its options name."""

    def __init__(
        self, store_id: str, config: SwiftConfig, threads: Threads, reactor: Reactor
    ) -> None:
        self._name = f"Store {store_id}"
        self._config = config
        self._threads = threads
        self._reactor = reactor
        self.tell: Callable[[str], object] = lambda why: None
        self._failures = Failures(self._name, lambda why: self.tell(why))
        tls = tls_policy(config.ca_file, not config.insecure)
        limits = FetchLimits(connect=config.connect_timeout, idle=config.timeout, min_rate=0)
        self._http = ConfiguredClient(reactor, tls, limits, config.connections)
        self._accounts = config.accounts()
        self._clients = {
            name: self._make_client(make_account(reactor, tls, config, options))
            for name, options in self._accounts.items()
        }
        self._client = self._clients[config.reference]
        self.place = f"{self._accounts[config.reference].auth_url}, container {config.container}"
        self._containers = Containers(self._client, self._failures, config.create_container)
        self._removal = Removal(self._client, self._failures)
        self._adding: set[str] = set()
        self._undoing: SingleFlight[str, None] = SingleFlight()

    def _make_client(self, account: Account) -> SwiftClient:
        return SwiftClient(self._reactor, account, self._http, self._failures, self._config.timeout)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        await self._http.close()

    # -- writing ----------------------------------------------------------------------------------

    async def add(self, image_id: str, data: AsyncIterator[bytes], size: int | None) -> Stored:
        place = self._place_of(image_id)
        if image_id in self._adding:
            raise self._failures.exists()
        self._adding.add(image_id)
        addition = self._addition(place)
        feed = Feed(data)
        try:
            await self._prepare(place)
            stored = await addition.run(feed, size)
        except BaseException as error:
            feed.close()
            await self._undo(image_id, addition, error)
            if isinstance(error, DataFailed):
                raise error.error from None
            raise
        self._adding.discard(image_id)
        return Stored(write_url(self._config.reference, place.container, place.name), stored)

    def _addition(self, place: Place) -> Addition:
        return Addition(
            self._reactor,
            self._threads,
            self._client,
            self._containers,
            self._failures,
            self._config,
            place,
            self._retry_memory,
        )

    def _retry_memory(self) -> int:
        """Return what each upload may keep: less, if there are many."""
        wanted = self._config.retry_memory
        return min(wanted, max(wanted, ALL_RETRY_MEMORY) // max(1, len(self._adding)))

    async def _prepare(self, place: Place) -> None:
        await self._containers.require(place.container)
        answer, _ = await self._client.told("HEAD", place, allowed=[404])
        if answer.status != 404:
            raise self._failures.exists()

    async def _undo(self, image_id: str, addition: Addition, cause: BaseException) -> None:
        """Remove what was stored, to the end even if nobody waits for it any more."""

        async def undo() -> None:
            try:
                await addition.undo()
            finally:
                self._adding.discard(image_id)

        try:
            await self._undoing.share(image_id, undo)
        except StoreError as error:
            if isinstance(cause, CancelledError):
                return
            raise CleanupPending(str(error)) from cause

    # -- reading ----------------------------------------------------------------------------------

    async def read(
        self, url: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        client, place = self._find(url)
        if length == 0:
            await client.told("HEAD", place)
            return
        reading = Reading(
            self._reactor, client, self._failures, place, start, length, self._config.read_retries
        )
        async for block in reading.blocks():
            yield block

    async def size(self, url: str) -> int:
        client, place = self._find(url)
        answer, _ = await client.told("HEAD", place)
        if answer.length is None:
            raise self._failures.unavailable("Swift does not tell the size of an object")
        return answer.length

    # -- removing ---------------------------------------------------------------------------------

    async def delete(self, url: str) -> None:
        client, place = self._find(url)
        await Removal(client, self._failures).delete(place)

    async def discard(self, image_id: str) -> None:
        await self._removal.discard(self._place_of(image_id))

    # -- checking ---------------------------------------------------------------------------------

    async def check(self) -> None:
        """Create the container if it is missing, and try to write a small object."""
        if self._config.container_seed == 0:
            await self._containers.require(self._config.container)
        await self.probe(True)

    async def probe(self, thoroughly: bool) -> None:
        container = self._config.container
        if self._config.container_seed or not await self._containers.exists(container):
            if not (self._config.container_seed or self._config.create_container):
                raise self._containers.missing(container)
            await self._client.told("HEAD", Place())
        elif thoroughly:
            await self._try_to_write(Place(container, f".imgservice-{token_hex(8)}"))

    async def _try_to_write(self, place: Place) -> None:
        try:
            answer = await self._client.put(place, {}, b"imgservice")
        except FetchFailed as error:
            raise self._failures.unavailable(f"Swift {error.reason}") from error
        if answer.status // 100 != 2:
            raise self._failures.of(answer, f"PUT {place}")
        await self._removal.delete_quietly(place)

    # -- URLs -------------------------------------------------------------------------------------

    def holds(self, url: str) -> bool:
        return self._own(url) is not None

    def _place_of(self, image_id: str) -> Place:
        name, config = checked_name(image_id), self._config
        return Place(container_of(config.container, config.container_seed, name), name)

    def _find(self, url: str) -> tuple[SwiftClient, Place]:
        found = self._own(url)
        if found is None:
            raise self._failures.missing()
        return found

    def _own(self, url: str) -> tuple[SwiftClient, Place] | None:
        address = read_url(url)
        if address is None:
            return None
        reference = self._reference_of(address)
        if reference is None:
            return None
        if not is_container_of(address.container, self._config.container, address.name):
            return None
        return self._clients[reference], Place(address.container, address.name)

    def _reference_of(self, address: Address) -> str | None:
        """Return whose credentials open the address; those in a URL are never used."""
        if address.reference is not None:
            return address.reference if address.reference in self._accounts else None
        order = sorted(self._accounts, key=lambda name: name != self._config.reference)
        for name in order:
            account = self._accounts[name]
            if address.auth != auth_address(account.auth_url or ""):
                continue
            if address.user in (None, account.user):
                return name
        return None


DRIVER = Driver(config=SwiftConfig, create=SwiftStore, connects=True)
