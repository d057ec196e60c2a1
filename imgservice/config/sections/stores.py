"""The stores, each with the options of its driver."""

import attrs

from imgservice.store import registry


@attrs.frozen
class StoreEntry:
    """One of the stores: its type, and the options that its driver defines."""

    type: str
    options: registry.StoreConfig
