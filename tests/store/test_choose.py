"""Which store a new image goes to, and where a location lies."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet import reactor as installed_reactor

from imgservice.concurrency.threads import Threads
from imgservice.domain.errors import Invalid
from imgservice.domain.image import Location
from imgservice.store.choose import SingleStore, Stores, UnknownStore
from imgservice.store.file.config import FileConfig
from imgservice.store.file.store import FileStore
from imgservice.store.interface import Store, StoreUnavailable
from imgservice.store.memory import MemoryConfig, MemoryStore


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    threads = Threads(cast(Any, installed_reactor), 1, "store")
    configured: dict[str, Store] = {
        "slow": FileStore("slow", FileConfig(path=str(tmp_path / "slow")), threads),
        "fast": FileStore("fast", FileConfig(path=str(tmp_path / "fast")), threads),
        "memory": MemoryStore("memory", MemoryConfig(), threads),
    }
    yield Stores(configured, "fast", {"fast": 100, "slow": -5})
    threads.stop()


def test_the_ids_keep_their_order(stores: Stores) -> None:
    assert stores.ids == ("slow", "fast", "memory")
    assert stores.default == "fast"


def test_a_store_is_chosen_by_its_id_or_by_default(stores: Stores) -> None:
    store_id, chosen = stores.chosen("slow")
    assert (store_id, chosen) == stores.holding(Location("x", {"store": "slow"}))
    assert store_id == "slow"
    assert stores.chosen(None) == stores.chosen("fast")


def test_an_unknown_store_is_a_mistake_of_the_client(stores: Stores) -> None:
    with pytest.raises(UnknownStore, match="golden") as caught:
        stores.chosen("golden")
    assert isinstance(caught.value, Invalid)
    with pytest.raises(UnknownStore):
        stores.chosen("")


def test_the_default_must_be_configured() -> None:
    with pytest.raises(UnknownStore, match="golden"):
        Stores({}, "golden")


@pytest.mark.parametrize("key", ["store", "backend"])
def test_metadata_says_which_store_holds_a_location(stores: Stores, key: str) -> None:
    assert stores.holding(Location("any", {key: "memory"})) == stores.chosen("memory")


@pytest.mark.parametrize("scheme", ["file", "filesystem"])
def test_a_location_without_metadata_is_found_by_its_url(
    stores: Stores, tmp_path: Path, scheme: str
) -> None:
    location = Location(f"{scheme}://{tmp_path}/fast/image", {})
    assert stores.holding(location) == stores.chosen("fast")


@pytest.mark.parametrize(
    "location",
    [
        Location("file:///etc/passwd"),
        Location("s3://bucket/image"),
        Location("any", {"store": "elsewhere"}),
        Location("any", {"store": ""}),
    ],
)
def test_a_store_that_is_not_here_is_unavailable(stores: Stores, location: Location) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        stores.holding(location)
    assert location.url not in caught.value.message


def test_locations_are_ordered_by_weight(stores: Stores, tmp_path: Path) -> None:
    memory = Location("1", {"store": "memory"})
    elsewhere = Location("2", {"store": "elsewhere"})
    slow = Location("3", {"store": "slow"})
    legacy = Location(f"file://{tmp_path}/fast/image")
    fast = Location("5", {"store": "fast"})
    rows = [slow, memory, elsewhere, legacy, fast]
    assert stores.order(rows) == [legacy, fast, memory, elsewhere, slow]
    assert stores.order(rows, ["slow", "fast"]) == [slow, legacy, fast, memory, elsewhere]
    assert stores.order(rows, ["slow", "memory", "slow"])[:3] == [slow, memory, legacy]


# -- one store ------------------------------------------------------------------------------------


@pytest.fixture
def single(tmp_path: Path) -> Iterator[SingleStore]:
    threads = Threads(cast(Any, installed_reactor), 1, "store")
    configured: dict[str, Store] = {
        "file": FileStore("file", FileConfig(path=str(tmp_path / "now")), threads),
        "old": FileStore("old", FileConfig(path=str(tmp_path / "then")), threads),
    }
    yield SingleStore(configured, "file")
    threads.stop()


def test_where_there_is_one_store_clients_do_not_choose(single: SingleStore) -> None:
    for named in (None, "", "old", "golden"):
        assert single.requested(named) == single.chosen("file")
    single.check_preferred([])
    with pytest.raises(Invalid):
        single.check_preferred(["file"])
    assert single.metadata("file") == {}


@pytest.mark.parametrize("recorded", [{}, {"store": "gone"}, {"backend": "file"}])
def test_where_there_is_one_store_urls_tell_where_data_lies(
    single: SingleStore, tmp_path: Path, recorded: dict[str, str]
) -> None:
    image = "01234567-89ab-cdef-0123-456789abcdef"
    for store_id, folder in (("file", "now"), ("old", "then")):
        location = Location(f"file://{tmp_path}/{folder}/{image}", recorded)
        assert single.holding(location) == single.chosen(store_id)
        assert single.shown_id(location) is None
    with pytest.raises(StoreUnavailable):
        single.holding(Location("rbd://a/b/c/snap", {"store": "gone"}))
