"""The store of objects in a bucket: what a driver does, by signed requests."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from imgservice.concurrency.deferreds import after
from imgservice.concurrency.memory import SharedMemory
from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.threads import Threads
from imgservice.net.client import ConfiguredClient
from imgservice.net.errors import FetchFailed
from imgservice.net.limits import FetchLimits
from imgservice.net.tls import tls_policy
from imgservice.store.interface import (
    CleanupPending,
    DataNotFound,
    Stored,
    StoreUnavailable,
)
from imgservice.store.names import NO_OBJECT, checked_name
from imgservice.store.s3.config import S3Config
from imgservice.store.s3.credentials import (
    ConfiguredCredentials,
    Credentials,
    FoundCredentials,
    NoKeys,
)
from imgservice.store.s3.documents import bucket_location
from imgservice.store.s3.errors import Answered, ErrorTranslation
from imgservice.store.s3.objects import Objects
from imgservice.store.s3.payloads import Payload
from imgservice.store.s3.reading import Reading
from imgservice.store.s3.requests import DEFAULT_REGION, Bucket, RequestOptions
from imgservice.store.s3.source import Source
from imgservice.store.s3.upload import Plan, Upload, tail_key

KEPT_FOR = 3.0
"""Seconds for which connections are kept: servers close them soon."""
CHECK_KEY = ".check"
"""Of the object by which writing is tried: always the same, so that at most one is ever left."""
LANDING = 10.0
"""Most seconds for which answers to requests of a failed upload are waited for."""


class S3Store:
    """Opens and removes only objects of its own bucket that have the ids of images as names."""

    def __init__(
        self,
        store_id: str,
        config: S3Config,
        threads: Threads,
        reactor: Reactor,
        memory: SharedMemory,
    ) -> None:
        self._name = f"Store {store_id}"
        self._config = config
        self._address = config.address
        self.place = self._address.place
        self.tell: Callable[[str], object] = lambda why: None
        self._reactor = reactor
        self._memory = memory
        self._errors = ErrorTranslation(self._name, lambda why: self.tell(why))
        self._http = _make_client(config, reactor)
        self._bucket = Bucket(
            reactor,
            threads,
            self._address,
            _make_credentials(config, threads),
            self._http,
            RequestOptions(config.region, config.timeout, _supported(config.checksums.request)),
        )
        self._objects = Objects(self._name, self._bucket)
        self._plan = _make_plan(config)
        self._has_bucket = not config.create_bucket

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._http.close()

    # -- writing ----------------------------------------------------------------------------------

    async def add(self, image_id: str, data: AsyncIterator[bytes], size: int | None) -> Stored:
        key, source = checked_name(image_id), Source(data)
        with self._errors.translating():
            await self._create_bucket()
        upload = Upload(key, source, size, self._objects, self._plan, self._memory, self._reactor)
        try:
            taken = await upload.run()
        except BaseException as error:
            await self._clean_up(upload, error)
            if error is source.error or isinstance(error, CancelledError):
                raise
            with self._errors.translating():
                raise
        upload.close()
        return Stored(url=self._address.object_url(key, self._url_credentials), size=taken)

    async def _clean_up(self, upload: Upload, cause: BaseException) -> None:
        """Undo the upload, to the end even if the waiting for it is cancelled."""
        failures: list[Failure] = []
        undoing = Deferred.fromCoroutine(upload.undo())
        undoing.addErrback(failures.append)
        await after(undoing)
        if failures and not isinstance(cause, CancelledError):
            why = self._errors.told(failures[0].value)
            raise CleanupPending(why) from cause

    @property
    def _url_credentials(self) -> str:
        config = self._config
        if not config.legacy_uri or config.access_key is None or config.secret_key is None:
            return ""
        return f"{config.access_key.reveal()}:{config.secret_key.reveal()}"

    # -- reading ----------------------------------------------------------------------------------

    async def read(
        self, url: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        key = self._find(url)
        if length == 0:
            await self.size(url)
            return
        end = None if length is None else start + length
        verifies = _supported(self._config.checksums.response)
        reading = Reading(self._bucket, key, start, end, verifies)
        with self._errors.translating():
            async for block in reading.blocks(self._reactor):
                yield block

    async def size(self, url: str) -> int:
        with self._errors.translating():
            headers = await self._objects.head(self._find(url))
            if headers is None:
                raise DataNotFound(f"{self._name} {NO_OBJECT}")
            if not headers.get("content-length", "").isdigit():
                raise FetchFailed("gives no usable answer", "no length")
        return int(headers["content-length"])

    # -- removing ---------------------------------------------------------------------------------

    async def delete(self, url: str) -> None:
        await self.size(url)  # the server does not say whether there was an object
        with self._errors.translating():
            await self._objects.remove(self._find(url))

    async def discard(self, image_id: str) -> None:
        key = checked_name(image_id)
        with self._errors.translating():
            for one in (key, tail_key(key)):
                await self._objects.abort_all(one)
                await self._objects.remove(one)

    # -- checking ---------------------------------------------------------------------------------

    async def check(self) -> None:
        """Create the bucket if that is wanted, and write and remove a small object."""
        with self._checking():
            if await self._is_bucket_missing() and not self._config.create_bucket:
                raise Answered(404, "NoSuchBucket")
            await self._create_bucket()
            await self._try_writing()

    async def probe(self, thoroughly: bool) -> None:
        with self._checking():
            if await self._is_bucket_missing():
                if not self._config.create_bucket:  # else the next upload does that
                    raise Answered(404, "NoSuchBucket")
            elif thoroughly:
                await self._try_writing()

    @contextmanager
    def _checking(self) -> Iterator[None]:
        """Raise what operators need to know: a check has no other readers."""
        try:
            yield
        except Answered as error:
            reason = error.reason
            if error.status == 404 and error.code in ("", "NoSuchBucket"):
                reason = f"there is no bucket {self._address.bucket}"
            raise StoreUnavailable(f"{self._name}: {reason}") from None
        except FetchFailed as error:
            raise StoreUnavailable(f"{self._name}: the server {error.reason}") from None
        except NoKeys as error:
            raise StoreUnavailable(f"{self._name}: {error}") from None

    async def _try_writing(self) -> None:
        try:
            await self._bucket.ask("PUT", CHECK_KEY, payload=Payload([b"check"]))
        finally:
            await self._objects.remove(CHECK_KEY)

    async def _is_bucket_missing(self) -> bool:
        try:
            await self._bucket.ask("HEAD")
        except Answered as error:
            if error.status != 404:
                raise
            return True
        return False

    async def _create_bucket(self) -> None:
        """Create the bucket when it is missing, and that is wanted."""
        if self._has_bucket:
            return
        if await self._is_bucket_missing():
            region = await self._bucket.region()
            place = Payload([bucket_location(region)]) if region != DEFAULT_REGION else None
            try:
                await self._bucket.ask("PUT", payload=place)
            except Answered as refused:
                if refused.code != "BucketAlreadyOwnedByYou":  # by another node, just now
                    raise
        self._has_bucket = True

    # -- URLs -------------------------------------------------------------------------------------

    def holds(self, url: str) -> bool:
        return self._address.key(url) is not None

    def _find(self, url: str) -> str:
        key = self._address.key(url)
        if key is None:
            raise DataNotFound(f"{self._name} {NO_OBJECT}")
        return key


def _supported(choice: str) -> bool:
    return choice == "when_supported"


def _make_client(config: S3Config, reactor: Reactor) -> ConfiguredClient:
    limits = FetchLimits(connect=config.connect_timeout, idle=config.timeout)
    return ConfiguredClient(
        reactor, tls_policy(config.ca_file), limits, config.connections, KEPT_FOR
    )


def _make_credentials(config: S3Config, threads: Threads) -> Credentials:
    if config.access_key is None or config.secret_key is None:
        return FoundCredentials(threads)
    return ConfiguredCredentials(
        threads, config.access_key, config.secret_key, config.session_token
    )


def _make_plan(config: S3Config) -> Plan:
    return Plan(
        config.multipart_from,
        config.part_size,
        config.connections,
        _supported(config.checksums.request),
        min(LANDING, config.timeout),
    )
