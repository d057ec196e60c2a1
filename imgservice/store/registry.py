"""The types of stores, and how a store is made from its section of the configuration."""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points

import attrs

from imgservice.domain.options import option
from imgservice.store.interface import Store

GROUP = "imgservice.stores"
"""The entry point group in which other distributions offer a `Driver`."""

BUILT_IN: Mapping[str, str] = {
    "file": "imgservice.store.file.store:DRIVER",
    "memory": "imgservice.store.memory:DRIVER",
    "http": "imgservice.store.http:DRIVER",
    "swift": "imgservice.store.swift.store:DRIVER",
    "s3": "imgservice.store.s3.driver:DRIVER",
}


class UnknownStoreType(ValueError):
    """There is no driver for this type of store, or something that it needs is missing."""


@attrs.frozen(kw_only=True)
class StoreConfig:
    """The options that every store has; a driver adds its own."""

    description: str = option("", "Text that users see beside the id of the store.")
    weight: int = option(
        0, "Data that is in several stores is read from the one with the highest weight."
    )

    def details(self) -> Mapping[str, object]:
        """Return what /v2/info/stores/detail shows to administrators: no secrets."""
        return {}


@attrs.frozen
class Driver:
    """A type of store.

    `create` is called with the store's id, its options, the threads for blocking work and, if it
    `fetches`, the `Fetcher`, if it `connects`, the reactor, and if it `buffers`, the memory. It
    does no input or output: that begins with `Store.check`. A store that is `read_only` takes no
    data, and cannot be the default one.
    """

    config: type[StoreConfig]
    create: Callable[..., Store]
    fetches: bool = False
    """Whether it sends requests to servers that users name."""
    connects: bool = False
    """Whether it keeps connections to servers of its own, so that `check` needs the reactor."""
    buffers: bool = False
    """Whether it has parts of objects at hand, in the `SharedMemory` of all such stores."""
    read_only: bool = False


def driver(type_name: str) -> Driver:
    """Import and return the driver of this type; `UnknownStoreType`."""
    entry = _entry(type_name)
    try:
        found = entry.load()
    except ImportError as error:
        raise UnknownStoreType(
            f"the store type {type_name!r} cannot be used: {error.msg}"
        ) from error
    if not isinstance(found, Driver):
        raise UnknownStoreType(f"the store type {type_name!r} cannot be used: no driver in {GROUP}")
    return found


def type_names() -> list[str]:
    """Return the names of all types, built-in ones first."""
    return list(dict.fromkeys([*BUILT_IN, *sorted(entry_points(group=GROUP).names)]))


def _entry(type_name: str) -> EntryPoint:
    if type_name in BUILT_IN:
        return EntryPoint(name=type_name, value=BUILT_IN[type_name], group=GROUP)
    for entry in entry_points(group=GROUP, name=type_name):
        return entry
    raise UnknownStoreType(
        f"there is no store type {type_name!r}; known are {', '.join(type_names())}"
    )
