"""Enforces the unified limits of Keystone: registered ones, and those of single projects."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlencode

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue

from imgservice.auth.cache import Cache
from imgservice.auth.keystone.fair_queue import FairQueue
from imgservice.auth.keystone.limit_documents import (
    Misconfigured,
    Place,
    RegisteredLimits,
    check_model,
    find_service,
    joined_catalog,
    missing_limits,
    project_limits,
    read_catalog,
    read_document,
    registered_limits,
)
from imgservice.auth.keystone.own_token_client import OwnTokenClient
from imgservice.concurrency.reactor import Clock, twisted_clock
from imgservice.concurrency.single_flight import SingleFlight
from imgservice.domain.errors import Unavailable
from imgservice.domain.quota import Quota, Resource
from imgservice.keystone.client import KeystoneClient
from imgservice.keystone.credentials import OwnToken
from imgservice.keystone.documents import Document
from imgservice.keystone.errors import KeystoneError, KeystoneUnreachable

T = TypeVar("T")
MOST_PROJECTS = 10_000
"""Most projects whose limits are remembered."""
MOST_WAITING = 5000
SERVICE_TIME = 60.0
"""Seconds for which our entry in the catalog is remembered."""

TROUBLE = "limits"


@attrs.frozen(kw_only=True)
class LimitRules:
    """Times are in seconds."""

    timeout: float = 20.0
    cache_time: float = 5.0
    connections: int = 8


class KeystoneLimits:
    """The `LimitSource` that asks Keystone, and remembers its answers for a while."""

    def __init__(
        self,
        reactor: Clock,
        client: KeystoneClient,
        own: OwnToken,
        place: Place,
        rules: LimitRules,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._client = OwnTokenClient(reactor, client, own)
        self._troubles = client.troubles
        self._place = place
        self._rules = rules
        self._clock = clock
        self._service: Cache[tuple[str, str | None]] = Cache(1, clock)
        self._registered: Cache[RegisteredLimits] = Cache(1, clock)
        self._limits: Cache[Mapping[Resource, int]] = Cache(MOST_PROJECTS, clock)
        self._lookups: SingleFlight[bytes, Mapping[Resource, int]] = SingleFlight()
        self._registering: SingleFlight[None, RegisteredLimits] = SingleFlight()
        self._queue = FairQueue(reactor, rules.connections, MOST_WAITING)

    async def of(self, project: str) -> Quota:
        """Return the project's limits; a resource without a registered limit has the limit 0."""
        key = project.encode()
        limits = self._limits.get(key)
        if limits is None:
            limits = await self._found(key, project)
        return Quota(project, {name: most for name, most in limits.items() if most >= 0})

    async def check(self) -> None:
        """Report what stands in the way of enforcing limits; ask for none of a project."""
        with suppress(Unavailable):
            await self._guarded(self._registering.share(None, self._find_registered))

    async def _found(self, key: bytes, project: str) -> Mapping[Resource, int]:
        return await self._guarded(self._lookups.share(key, lambda: self._find(key, project)))

    async def _guarded(self, answer: Deferred[T]) -> T:
        """Wait for the answer; report why there is none, and raise `Unavailable`."""
        try:
            return await answer.addTimeout(self._rules.timeout, twisted_clock(self._reactor))
        except Misconfigured as error:
            self._report(str(error))
        except KeystoneUnreachable:
            pass  # which the client has reported
        except KeystoneError as error:
            self._report(error.reason)
        except Overdue:
            self._report("Keystone does not answer in time")
        raise Unavailable("The limits of the project cannot be found out at present.")

    async def _find(self, key: bytes, project: str) -> Mapping[Resource, int]:
        async with self._queue.turn(project, self._rules.timeout / 2):
            limits, until = await self._ask_for(project)
        self._limits.put(key, limits, until - self._clock())
        return limits

    async def _ask_for(self, project: str) -> tuple[Mapping[Resource, int], float]:
        """Return the project's limits, and when they must be asked for again."""
        registered = self._registered.get(b"")
        if registered is None:
            registered = await self._registering.share(None, self._find_registered)
        query = {"service_id": registered.service_id, "project_id": project}
        document = await self._get("/limits", query)
        own = read_document(document, lambda found: project_limits(found, project, registered))
        return {**dict.fromkeys(Resource, 0), **registered.defaults, **own}, registered.until

    async def _find_registered(self) -> RegisteredLimits:
        service_id, region = self._service.get(b"") or await self._find_service()
        until = self._clock() + self._rules.cache_time
        document = await self._get("/registered_limits", {"service_id": service_id})
        registered = read_document(
            document, lambda found: registered_limits(found, service_id, region, until)
        )
        self._report(missing_limits(registered, region))
        self._registered.put(b"", registered, until - self._clock())
        return registered

    async def _find_service(self) -> tuple[str, str | None]:
        read_document(await self._get("/limits/model"), check_model)
        found = read_document(
            await self._catalog(), lambda catalog: find_service(catalog, self._place)
        )
        self._service.put(b"", found, SERVICE_TIME)
        return found

    async def _catalog(self) -> Sequence[Document]:
        """Return all services with their endpoints.

        A token of a project has a catalog. One of the whole system has none, but may list services
        and endpoints.
        """
        document = await self._ask("/auth/catalog")
        if document is not None:
            return read_document(document, read_catalog)
        services = await self._get("/services")
        endpoints = await self._get("/endpoints")
        return read_document({**services, **endpoints}, joined_catalog)

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> Document:
        document = await self._ask(path, query)
        if document is None:
            raise KeystoneError(
                f"we may not see {path}; our user needs the role service or admin, and in an older"
                " Keystone reader of the whole system"
            )
        return document

    async def _ask(self, path: str, query: Mapping[str, str] | None = None) -> Document | None:
        """Return the document; None when we may not see it."""
        asked = f"{path}?{urlencode(query)}" if query else path
        reply = await self._client.get(asked, self._rules.timeout / 2)
        status = 401 if reply is None else reply.status
        if reply is not None and status == 200:
            return reply.document
        if status == 403:
            return None
        raise KeystoneError(f"Keystone answers {path} with the status {status}")

    def _report(self, text: str | None) -> None:
        """Report what is wrong; None: all is well."""
        if text is None:
            self._troubles.clear(TROUBLE)
        else:
            self._troubles.report(TROUBLE, "limits.keystone", text, False)
