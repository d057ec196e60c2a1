"""The choice between the configured stores: for new data, and for the data at a location."""

from collections.abc import Iterable, Mapping, Sequence

from imgservice.domain.errors import Conflict, Invalid, NotConfigured, NotFound
from imgservice.domain.image import Location
from imgservice.domain.location_urls import parse_location
from imgservice.store.interface import KnowsItsUrls, Store, StoreUnavailable, TakesLocations


class UnknownStore(Invalid):
    """No store with this id is configured here."""

    def __init__(self, store_id: str) -> None:
        super().__init__(f"Store '{store_id}' is not configured on this server")


class StoreNotConfigured(StoreUnavailable, NotConfigured):
    """The store of a location cannot be told, or is not configured here."""


class Stores:
    """The configured stores in their order, one of them the default."""

    def __init__(
        self, stores: Mapping[str, Store], default: str, weights: Mapping[str, int] | None = None
    ) -> None:
        """`weights` has the stores whose weight is not 0."""
        if default not in stores:
            raise UnknownStore(default)
        self._stores = dict(stores)
        self._weights = dict(weights or {})
        self.default = default

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._stores)

    def chosen(self, store_id: str | None) -> tuple[str, Store]:
        """Return the store with this id, or for None the default store, and its id."""
        wanted = self.default if store_id is None else store_id
        if wanted not in self._stores:
            raise UnknownStore(wanted)
        return wanted, self._stores[wanted]

    def requested(self, store_id: str | None) -> tuple[str, Store]:
        """Return the store for data of a client that names this store or none, and its id."""
        return self.chosen(store_id)

    def check_preferred(self, store_ids: Sequence[str]) -> None:
        """Raise `Invalid` unless clients may ask for data from these stores."""
        for store_id in store_ids:
            self.chosen(store_id)

    def check_losing(self, store_id: str) -> None:
        """Raise `Conflict` unless clients may remove copies of data from this store."""
        if store_id not in self._stores:
            raise Conflict(f"The selected store {store_id} is not available on this node.")

    def metadata(self, store_id: str) -> Mapping[str, object]:
        """Return what is recorded about the store in the metadata of a location."""
        return {"store": store_id}

    def holding(self, location: Location) -> tuple[str, Store]:
        """Return the store of the location, and its id; `StoreNotConfigured` if this node does not
        have it."""
        if location.is_encrypted:
            raise StoreNotConfigured("The location of the data is encrypted, and not readable here")
        store_id = self.id_of(location)
        if store_id is None or store_id not in self._stores:
            raise StoreNotConfigured(
                "The store that holds the data is not configured on this server"
            )
        return store_id, self._stores[store_id]

    def taking(self, url: str) -> tuple[str, Store] | None:
        """Return the first store that serves objects of others at this URL, and its id."""
        for store_id, store in self._stores.items():
            if isinstance(store, TakesLocations) and store.takes(url):
                return store_id, store
        return None

    def order(self, locations: Iterable[Location], preferred: Sequence[str] = ()) -> list[Location]:
        """Return the locations in the order in which to read them.

        Those in preferred stores come first, in the order of `preferred`, then the others by the
        weight of their stores. Otherwise the order is not changed.
        """
        ranks = {store_id: rank for rank, store_id in reversed([*enumerate(preferred)])}

        def precedence(place: Location) -> tuple[int, int]:
            store_id = self.id_of(place) or ""
            return ranks.get(store_id, len(preferred)), -self._weights.get(store_id, 0)

        return sorted(locations, key=precedence)

    def id_of(self, location: Location) -> str | None:
        """Return the id of the store of the location, even if it is not configured here.

        A location that was recorded before stores had ids is recognised by its URL; None if it is
        not.
        """
        return location.store or self._named_in(location.url)

    def shown_id(self, location: Location) -> str | None:
        """Return the id of the store as clients see it; None if they see none."""
        return self.id_of(location)

    def _named_in(self, url: str) -> str | None:
        for store_id, store in self._stores.items():
            if isinstance(store, KnowsItsUrls) and store.holds(url):
                return store_id
        place = parse_location(url)
        return place.store if place is not None else None


class SingleStore(Stores):
    """Stores that clients do not see, as in a Glance without `enabled_backends`.

    The stores of locations are not recorded, but recognised by their URLs. Ids that were recorded
    before, by a service with several stores, are left unchanged.
    """

    def requested(self, store_id: str | None) -> tuple[str, Store]:
        return self.chosen(None)

    def check_preferred(self, store_ids: Sequence[str]) -> None:
        if store_ids:
            raise Invalid("No stores can be preferred: this service does not offer a choice.")

    def check_losing(self, store_id: str) -> None:
        raise NotFound("The resource could not be found.")

    def metadata(self, store_id: str) -> Mapping[str, object]:
        return {}

    def id_of(self, location: Location) -> str | None:
        return self._named_in(location.url) or location.store

    def shown_id(self, location: Location) -> str | None:
        return None
