"""Which configured store takes a new image, and which one holds a location."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from imgservice.domain.errors import Invalid
from imgservice.domain.image import Location
from imgservice.domain.location_urls import read_place
from imgservice.store.interface import Store, StoreUnavailable, TakesLocations


class UnknownStore(Invalid):
    """A store was asked for by an id that is not configured here."""

    def __init__(self, store_id: str) -> None:
        super().__init__(f"Store '{store_id}' is not configured on this server")
        self.store_id = store_id


@runtime_checkable
class KnowsItsUrls(Protocol):
    """The ability of a store to tell its own URLs from others.

    Locations recorded before stores had ids are found by it.
    """

    def holds(self, url: str) -> bool:
        """Tell, without looking for the object, whether the URL could be one of this store's."""


class Stores:
    """The configured stores in their order, one of them the default."""

    def __init__(
        self, stores: Mapping[str, Store], default: str, weights: Mapping[str, int] | None = None
    ) -> None:
        """`weights` names the stores whose weight is not 0."""
        if default not in stores:
            raise UnknownStore(default)
        self._stores = dict(stores)
        self._weights = dict(weights or {})
        self.default = default

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._stores)

    def chosen(self, store_id: str | None) -> tuple[str, Store]:
        """Return the store of that id, or the default one for None, with its id."""
        wanted = self.default if store_id is None else store_id
        if wanted not in self._stores:
            raise UnknownStore(wanted)
        return wanted, self._stores[wanted]

    def requested(self, store_id: str | None) -> tuple[str, Store]:
        """Return the store for the data of a client that names this one, or none, with its id."""
        return self.chosen(store_id)

    def check_preferred(self, store_ids: Sequence[str]) -> None:
        """Raise `Invalid` unless clients may ask for data from these stores."""
        for store_id in store_ids:
            self.chosen(store_id)

    def metadata(self, store_id: str) -> Mapping[str, object]:
        """Return what a location records of its store."""
        return {"store": store_id}

    def holding(self, location: Location) -> Store:
        """Return the store of the location; `StoreUnavailable` when this server has it not."""
        if location.is_encrypted:
            raise StoreUnavailable("The location of the data is encrypted, and not readable here")
        store_id = self.id_of(location)
        if store_id is None or store_id not in self._stores:
            raise StoreUnavailable("The store that holds the data is not configured on this server")
        return self._stores[store_id]

    def taking(self, url: str) -> tuple[str, Store] | None:
        """Return the first store that serves what others put at this URL, with its id."""
        for store_id, store in self._stores.items():
            if isinstance(store, TakesLocations) and store.takes(url):
                return store_id, store
        return None

    def order(self, locations: Iterable[Location], preferred: Sequence[str] = ()) -> list[Location]:
        """Return the locations, those in preferred stores first, then by weight, else as they came.

        Between preferred stores their order decides.
        """
        ranks = {store_id: rank for rank, store_id in reversed([*enumerate(preferred)])}

        def precedence(place: Location) -> tuple[int, int]:
            store_id = self.id_of(place) or ""
            return ranks.get(store_id, len(preferred)), -self._weights.get(store_id, 0)

        return sorted(locations, key=precedence)

    def id_of(self, location: Location) -> str | None:
        """Return the id of the store that has the location, whether it is configured here or not.

        What was recorded before stores had ids is known by its URL; None when it is not.
        """
        return location.store or self._named_in(location.url)

    def shown_id(self, location: Location) -> str | None:
        """Return the id of the store as clients see it; None when they see none."""
        return self.id_of(location)

    def _named_in(self, url: str) -> str | None:
        for store_id, store in self._stores.items():
            if isinstance(store, KnowsItsUrls) and store.holds(url):
                return store_id
        place = read_place(url)
        return place.store if place is not None else None


class SingleStore(Stores):
    """Stores that clients do not see, as in a Glance without `enabled_backends`.

    Locations record none, and are found by their URLs. Ids that were recorded by a service with
    several stores stay where they are.
    """

    def requested(self, store_id: str | None) -> tuple[str, Store]:
        return self.chosen(None)

    def check_preferred(self, store_ids: Sequence[str]) -> None:
        if store_ids:
            raise Invalid("No stores can be preferred: this service does not offer a choice.")

    def metadata(self, store_id: str) -> Mapping[str, object]:
        return {}

    def id_of(self, location: Location) -> str | None:
        return self._named_in(location.url) or location.store

    def shown_id(self, location: Location) -> str | None:
        return None
