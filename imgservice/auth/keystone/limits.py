"""The limits that Keystone keeps: those registered for all projects, and those of single ones."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlencode

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue

from imgservice.auth.cache import Cache
from imgservice.auth.keystone.client import KeystoneClient
from imgservice.auth.keystone.credentials import OwnToken
from imgservice.auth.keystone.errors import KeystoneError, KeystoneUnreachable
from imgservice.auth.keystone.fair_queue import FairQueue
from imgservice.concurrency.single_flight import SingleFlight
from imgservice.domain.errors import Unavailable
from imgservice.domain.quota import MEBI, SIZES, Quota, Resource

T = TypeVar("T")
Document = Mapping[str, Any]
MOST_PROJECTS = 10_000
"""Projects whose limits are remembered."""
MOST_WAITING = 5000
SERVICE_TIME = 60.0
"""Seconds for which our service in the catalog is remembered, which hardly ever changes."""

TROUBLE = "limits"


@attrs.frozen
class Place:
    """Where limits are registered: an endpoint by its id, or a service and one of its regions."""

    endpoint_id: str | None = None
    service: str = "image"
    """Its type, or its name."""
    region: str | None = None
    """None: the only one there is."""


@attrs.frozen(kw_only=True)
class LimitRules:
    """How long we wait and remember, in seconds, and how much at once."""

    timeout: float = 20.0
    cache_time: float = 5.0
    connections: int = 8


@attrs.frozen
class _Registered:
    """What holds for all projects."""

    service_id: str
    defaults: Mapping[Resource, int]
    regions: Mapping[Resource, str | None]
    """Where each is registered, and so where limits of single projects count."""
    until: float
    """When it is to be asked for again, with what was made of it."""


class _Misconfigured(Exception):
    """Keystone answers, but it cannot be what was meant."""


class KeystoneLimits:
    """The `LimitSource` that asks Keystone, and remembers its answers for a while."""

    def __init__(
        self,
        reactor: Any,
        client: KeystoneClient,
        own: OwnToken,
        place: Place,
        rules: LimitRules,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._client = client
        self._own = own
        self._place = place
        self._rules = rules
        self._clock = clock
        self._service: Cache[tuple[str, str | None]] = Cache(1, clock)
        self._registered: Cache[_Registered] = Cache(1, clock)
        self._limits: Cache[Mapping[Resource, int]] = Cache(MOST_PROJECTS, clock)
        self._asking: SingleFlight[bytes, Mapping[Resource, int]] = SingleFlight()
        self._registering: SingleFlight[None, _Registered] = SingleFlight()
        self._queue = FairQueue(reactor, rules.connections, MOST_WAITING)

    async def of(self, project: str) -> Quota:
        """Return the project's limits; of what is registered nowhere it may have nothing."""
        key = project.encode()
        limits = self._limits.get(key)
        if limits is None:
            limits = await self._found(key, project)
        return Quota(project, {name: most for name, most in limits.items() if most >= 0})

    async def check(self) -> None:
        """Say in the log what stands in the way of limits; asks for none of a project."""
        with suppress(Unavailable):
            await self._guarded(self._registering.share(None, self._find_registered))

    async def _found(self, key: bytes, project: str) -> Mapping[Resource, int]:
        return await self._guarded(self._asking.share(key, lambda: self._find(key, project)))

    async def _guarded(self, asking: Deferred[T]) -> T:
        """Wait for the answer; `Unavailable`, with the reason in the log, when there is none."""
        try:
            return await asking.addTimeout(self._rules.timeout, self._reactor)
        except _Misconfigured as error:
            self._tell(str(error))
        except KeystoneUnreachable:
            pass  # which the client has reported
        except KeystoneError as error:
            self._tell(error.reason)
        except Overdue:
            self._tell("Keystone takes too long")
        raise Unavailable("The limits of the project cannot be found out at present.")

    async def _find(self, key: bytes, project: str) -> Mapping[Resource, int]:
        await self._queue.enter(project, self._rules.timeout / 2)
        try:
            limits, until = await self._ask_for(project)
        finally:
            self._queue.leave()
        self._limits.put(key, limits, until - self._clock())
        return limits

    async def _ask_for(self, project: str) -> tuple[Mapping[Resource, int], float]:
        """Return the project's limits, and until when all that they are made of holds."""
        registered = self._registered.get(b"")
        if registered is None:
            registered = await self._registering.share(None, self._find_registered)
        query = {"service_id": registered.service_id, "project_id": project}
        document = await self._get("/limits", query)
        own = _read(document, lambda found: _own_limits(found, project, registered))
        return {**dict.fromkeys(Resource, 0), **registered.defaults, **own}, registered.until

    async def _find_registered(self) -> _Registered:
        service_id, region = self._service.get(b"") or await self._find_service()
        until = self._clock() + self._rules.cache_time
        document = await self._get("/registered_limits", {"service_id": service_id})
        registered = _read(document, lambda found: _registered(found, service_id, region, until))
        self._tell(_told_missing(registered, region))
        self._registered.put(b"", registered, until - self._clock())
        return registered

    async def _find_service(self) -> tuple[str, str | None]:
        _read(await self._get("/limits/model"), _check_model)
        found = _read(await self._catalog(), lambda catalog: find_service(catalog, self._place))
        self._service.put(b"", found, SERVICE_TIME)
        return found

    async def _catalog(self) -> Sequence[Document]:
        """Return all services with their endpoints.

        A token of a project has a catalog, which everybody may see; one of the whole system has
        none, but may list what makes one.
        """
        document = await self._ask("/auth/catalog")
        if document is not None:
            return _read(document, _catalog)
        services = await self._get("/services")
        endpoints = await self._get("/endpoints")
        return _read({**services, **endpoints}, _made_catalog)

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
        if query:
            path = f"{path}?{urlencode(query)}"
        timeout = self._rules.timeout / 2
        for _ in range(2):
            token = await self._own.get(timeout)
            reply = await self._client.ask("GET", path, {"X-Auth-Token": token}, timeout)
            if reply.status == 200:
                return reply.document
            if reply.status == 403:
                return None
            if reply.status != 401:
                break
            self._own.reject(token)
        raise KeystoneError(f"answers {reply.status} when asked for {path.partition('?')[0]}")

    def _tell(self, text: str | None) -> None:
        """Report what is wrong; None: nothing is."""
        if text is None:
            self._client.troubles.clear(TROUBLE)
        else:
            self._client.troubles.report(TROUBLE, "limits.keystone", text, False)


def find_service(catalog: Sequence[Document], place: Place) -> tuple[str, str | None]:
    """Return the id of the service and its region."""
    found = {
        (service["id"], endpoint.get("region_id"))
        for service in catalog
        for endpoint in service["endpoints"]
        if _is_meant(place, service, endpoint)
    }
    if not found:
        raise _Misconfigured(f"Keystone's catalog has no {_told(place)}")
    if len(found) > 1:
        places = ", ".join(sorted(f"{service} in {region}" for service, region in found))
        raise _Misconfigured(f"Keystone's catalog has more than one {_told(place)}: {places}")
    [one] = found
    return one


def _is_meant(place: Place, service: Document, endpoint: Document) -> bool:
    if place.endpoint_id is not None:
        return bool(endpoint["id"] == place.endpoint_id)
    return place.service in (service.get("type"), service.get("name")) and (
        place.region in (None, endpoint.get("region_id"))
    )


def _told(place: Place) -> str:
    if place.endpoint_id is not None:
        return f"endpoint {place.endpoint_id}"
    where = f" in the region {place.region}" if place.region else ""
    return f"endpoint of the service {place.service}{where}"


def _told_missing(registered: _Registered, region: str | None) -> str | None:
    missing = sorted(frozenset(Resource) - registered.defaults.keys())
    if not missing:
        return None
    return (
        f"Keystone has no registered limit {', '.join(missing)} for the service"
        f" {registered.service_id} in the region {region}: no project may have anything of it"
    )


# -- Keystone's documents -------------------------------------------------------------------------


def _read(document: Any, reader: Callable[[Any], T]) -> T:
    """Return what is read from the document; `KeystoneError` when it is not what it should be."""
    try:
        return reader(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KeystoneError(f"gives an answer that is not Keystone's ({error!r})") from None


def _check_model(document: Document) -> None:
    name = document["model"]["name"]
    if name != "flat":
        raise _Misconfigured(f"Keystone's model of limits is {name}; only flat is known here")


def _catalog(document: Document) -> Sequence[Document]:
    catalog: Sequence[Document] = document["catalog"]
    return catalog


def _made_catalog(document: Document) -> Sequence[Document]:
    endpoints: Sequence[Document] = document["endpoints"]
    return [
        {**service, "endpoints": [one for one in endpoints if one["service_id"] == service["id"]]}
        for service in document["services"]
    ]


def _registered(
    document: Document, service_id: str, region: str | None, until: float
) -> _Registered:
    """Take the limits of our region, and those of all regions where it has none."""
    defaults: dict[Resource, int] = {}
    regions: dict[Resource, str | None] = {}
    for name, one in _by_resource(document, "registered_limits"):
        where = one.get("region_id")
        if where == region or (where is None and name not in regions):
            defaults[name], regions[name] = _amount(name, one["default_limit"]), where
    return _Registered(service_id, defaults, regions, until)


def _own_limits(
    document: Document, project: str, registered: _Registered
) -> Mapping[Resource, int]:
    return {
        name: _amount(name, one["resource_limit"])
        for name, one in _by_resource(document, "limits")
        if one["project_id"] == project
        and name in registered.regions
        and one.get("region_id") == registered.regions[name]
    }


def _by_resource(document: Document, name: str) -> Iterator[tuple[Resource, Document]]:
    """Yield the limits on what we have; others may be registered for the same service."""
    if document.get("truncated"):
        raise ValueError(f"there are more {name} than Keystone's list_limit")
    known = {resource.value for resource in Resource}
    for one in document[name]:
        if one["resource_name"] in known:
            yield Resource(one["resource_name"]), one


def _amount(resource: Resource, limit: object) -> int:
    """Return the limit in our unit; what is below 0 is no limit."""
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise ValueError(f"{resource} is limited to {limit!r}")
    return limit * MEBI if resource in SIZES and limit > 0 else limit
