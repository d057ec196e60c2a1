"""The stores, each with the options of its driver."""

import attrs

from imgservice.store.registry import StoreConfig


@attrs.frozen
class StoreEntry:
    """A configured store: its type, and the options that its driver declares."""

    type: str
    options: StoreConfig
