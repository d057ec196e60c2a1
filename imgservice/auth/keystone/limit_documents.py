"""Reads what Keystone says of limits, services and endpoints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import attrs

from imgservice.domain.quota import MEBI, SIZES, Resource
from imgservice.keystone.documents import Document
from imgservice.keystone.errors import KeystoneError

S = TypeVar("S")
T = TypeVar("T")


@attrs.frozen
class Place:
    """Where limits are registered: an endpoint by its id, or a service and one of its regions."""

    endpoint_id: str | None = None
    service: str = "image"
    """Its type, or its name."""
    region: str | None = None
    """None: the only one there is."""


@attrs.frozen
class RegisteredLimits:
    """The limits of all projects that have none of their own."""

    service_id: str
    defaults: Mapping[Resource, int]
    regions: Mapping[Resource, str | None]
    """Where each is registered: the limits of single projects count there only."""
    until: float
    """When these limits must be asked for again."""


class Misconfigured(Exception):
    """Keystone's limits and ours do not fit together; the message says why."""


def find_service(catalog: Sequence[Document], place: Place) -> tuple[str, str | None]:
    """Return the id of the service and its region."""
    found = {
        (service["id"], endpoint.get("region_id"))
        for service in catalog
        for endpoint in service["endpoints"]
        if _is_meant(place, service, endpoint)
    }
    if not found:
        raise Misconfigured(f"Keystone's catalog has no {_described(place)}")
    if len(found) > 1:
        places = ", ".join(sorted(f"{service} in {region}" for service, region in found))
        raise Misconfigured(f"Keystone's catalog has more than one {_described(place)}: {places}")
    [one] = found
    return one


def _is_meant(place: Place, service: Document, endpoint: Document) -> bool:
    if place.endpoint_id is not None:
        return bool(endpoint["id"] == place.endpoint_id)
    return place.service in (service.get("type"), service.get("name")) and (
        place.region in (None, endpoint.get("region_id"))
    )


def _described(place: Place) -> str:
    if place.endpoint_id is not None:
        return f"endpoint {place.endpoint_id}"
    where = f" in the region {place.region}" if place.region else ""
    return f"endpoint of the service {place.service}{where}"


def missing_limits(registered: RegisteredLimits, region: str | None) -> str | None:
    """Say which resources have no registered limit; None: all have one."""
    missing = sorted(frozenset(Resource) - registered.defaults.keys())
    if not missing:
        return None
    return (
        f"Keystone has no registered limit {', '.join(missing)} for the service"
        f" {registered.service_id} in the region {region}: no project may use any of it"
    )


def read_document(document: S, reader: Callable[[S], T]) -> T:
    """Return what is read from the document; `KeystoneError` unless it is Keystone's."""
    try:
        return reader(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise KeystoneError(f"Keystone's answer cannot be read ({error!r})") from None


def check_model(document: Document) -> None:
    """Raise `Misconfigured` unless limits are enforced project by project."""
    name = document["model"]["name"]
    if name != "flat":
        raise Misconfigured(f"Keystone's model of limits is {name}; only flat is supported")


def read_catalog(document: Document) -> Sequence[Document]:
    """Return the services of a catalog, each with its endpoints."""
    catalog: Sequence[Document] = document["catalog"]
    return catalog


def joined_catalog(document: Document) -> Sequence[Document]:
    """Make a catalog of the services and endpoints."""
    endpoints: Sequence[Document] = document["endpoints"]
    return [
        {**service, "endpoints": [one for one in endpoints if one["service_id"] == service["id"]]}
        for service in document["services"]
    ]


def registered_limits(
    document: Document, service_id: str, region: str | None, until: float
) -> RegisteredLimits:
    """Return the limits of our region; where it has none, those of all regions."""
    defaults: dict[Resource, int] = {}
    regions: dict[Resource, str | None] = {}
    for name, one in _by_resource(document, "registered_limits"):
        where = one.get("region_id")
        if where == region or (where is None and name not in regions):
            defaults[name], regions[name] = _amount(name, one["default_limit"]), where
    return RegisteredLimits(service_id, defaults, regions, until)


def project_limits(
    document: Document, project: str, registered: RegisteredLimits
) -> Mapping[Resource, int]:
    return {
        name: _amount(name, one["resource_limit"])
        for name, one in _by_resource(document, "limits")
        if one["project_id"] == project
        and name in registered.regions
        and one.get("region_id") == registered.regions[name]
    }


def _by_resource(document: Document, name: str) -> Iterator[tuple[Resource, Document]]:
    """Yield the limits of resources that we know; others may be registered for the service."""
    if document.get("truncated"):
        raise ValueError(f"there are more {name} than Keystone's list_limit")
    known = {resource.value for resource in Resource}
    for one in document[name]:
        if one["resource_name"] in known:
            yield Resource(one["resource_name"]), one


def _amount(resource: Resource, limit: object) -> int:
    """Return the limit in bytes or images; below 0 there is no limit."""
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise ValueError(f"{resource} is limited to {limit!r}")
    return limit * MEBI if resource in SIZES and limit > 0 else limit
