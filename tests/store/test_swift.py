"""What only the store in Swift does; what every store does is in `tests/contract`."""

import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_twisted

from imgservice.concurrency.threads import Threads
from imgservice.domain.units import Secret, Size
from imgservice.store.interface import (
    DataExists,
    DataNotFound,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from imgservice.store.swift.client import Place as Location
from imgservice.store.swift.removing import Removal
from tests import swift as swifts
from tests.store.swift_stores import IMAGE, KIB, MIB, SMALL, Place, reactor, read, source
from tests.swift import Swift

DATA = random.Random(1).randbytes(3 * MIB + 5)


@pytest_twisted.async_yield_fixture
async def place(swift: Swift) -> AsyncIterator[Place]:
    threads = Threads(reactor, 2, "store")
    made = Place(swift, swift.container(), threads)
    yield made
    await made.close()
    threads.stop()


def head(place: Place, name: str) -> Any:
    return place.swift.call("HEAD", f"/{place.container}/{name}").headers


# -- large objects --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, len(DATA)])
@pytest_twisted.ensureDeferred
async def test_segments_and_manifest_are_those_of_glance(place: Place, size: int | None) -> None:
    store = place.store(**SMALL)
    stored = await store.add(IMAGE, source([DATA]), size)
    assert stored.url == f"swift+config://ref1/{place.container}/{IMAGE}"
    segments = [f"{IMAGE}-{number:05}" for number in (1, 2, 3, 4)]
    assert place.objects() == [IMAGE, *segments]
    assert head(place, IMAGE)["x-object-manifest"] == f"{place.container}/{IMAGE}-"
    assert [int(head(place, name)["content-length"]) for name in segments] == [MIB, MIB, MIB, 5]
    assert place.swift.call("GET", f"/{place.container}/{IMAGE}").body == DATA
    assert await store.size(stored.url) == len(DATA)
    await store.delete(stored.url)
    assert place.objects() == []


@pytest_twisted.ensureDeferred
async def test_a_static_large_object_has_a_manifest_that_names_its_segments(place: Place) -> None:
    store = place.store(**SMALL, large_objects="slo")
    stored = await store.add(IMAGE, source([DATA]), None)
    assert len(place.objects()) == 5
    manifest = place.swift.call("GET", f"/{place.container}/{IMAGE}?multipart-manifest=get").json()
    assert [one["name"] for one in manifest] == [
        f"/{place.container}/{IMAGE}-{number:05}" for number in (1, 2, 3, 4)
    ]
    assert [one["hash"] for one in manifest] == [
        hashlib.md5(DATA[start : start + MIB]).hexdigest() for start in range(0, len(DATA), MIB)
    ]
    assert await store.size(stored.url) == len(DATA)
    assert await read(store, stored.url, MIB - 3, MIB + 6) == DATA[MIB - 3 : 2 * MIB + 3]
    # A store with the other kind of large objects, such as Glance, removes it all the same.
    await place.store().delete(stored.url)
    assert place.objects() == []


@pytest_twisted.ensureDeferred
async def test_what_is_smaller_is_one_object(place: Place) -> None:
    stored = await place.store(**SMALL).add(IMAGE, source([DATA[:MIB]]), MIB - 1)
    assert place.objects() == [IMAGE]
    assert await read(place.store(), stored.url) == DATA[:MIB]


@pytest.mark.parametrize("kind", ["dlo", "slo"])
@pytest_twisted.ensureDeferred
async def test_segments_of_a_dead_process_are_not_in_the_way(place: Place, kind: Any) -> None:
    """It had come further than this upload does, and its segments have the same names."""
    for number in (1, 2, 9):
        place.put(f"{IMAGE}-{number:05}", b"old")
    store = place.store(**SMALL, large_objects=kind)
    stored = await store.add(IMAGE, source([DATA]), None)
    assert await read(store, stored.url) == DATA
    await store.discard(IMAGE)
    assert place.objects() == []


@pytest_twisted.ensureDeferred
async def test_discard_touches_only_segments_of_the_image(place: Place) -> None:
    others = [f"{IMAGE}-1", f"{IMAGE}-00001-x", f"{IMAGE}x", "other-00001"]
    for name in (*others, f"{IMAGE}-00001", IMAGE):
        place.put(name, b"data")
    await place.store().discard(IMAGE)
    assert place.objects() == sorted(others)


@pytest_twisted.ensureDeferred
async def test_many_segments_are_removed_page_by_page(place: Place) -> None:
    store = place.store(segment_from=Size(1), segment_size=Size(1))
    stored = await store.add(IMAGE, source([b"seven!!"]), None)
    assert len(place.objects()) == 8
    assert await read(store, stored.url) == b"seven!!"
    small_pages = Removal(store._client, store._failures, page=2)
    await small_pages.delete(Location(place.container, IMAGE))
    assert place.objects() == []


@pytest.mark.parametrize("prefix", ["o", "other", f"{IMAGE}/1/", f"{IMAGE}-x"])
@pytest_twisted.ensureDeferred
async def test_a_manifest_of_others_never_removes_what_is_not_the_images(
    place: Place, prefix: str
) -> None:
    names = ["other-00001", "other", f"{IMAGE}/1/1", f"{IMAGE}-x1"]
    for name in names:
        place.put(name, b"data")
    place.put(IMAGE, b"", X_Object_Manifest=f"{place.container}/{prefix}")
    await place.store().delete(f"swift+config://ref1/{place.container}/{IMAGE}")
    gone = {name for name in names if prefix.startswith(IMAGE) and name.startswith(prefix)}
    assert place.objects() == sorted({*names} - gone)


# -- what may not be there, or not be done --------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_an_object_of_others_is_left_unchanged(place: Place) -> None:
    place.put(IMAGE, b"theirs")
    for size in (5, None):
        with pytest.raises(DataExists):
            await place.store(**SMALL).add(IMAGE, source([b"first"]), size)
    assert place.objects() == [IMAGE]
    assert place.swift.call("GET", f"/{place.container}/{IMAGE}").body == b"theirs"


@pytest_twisted.ensureDeferred
async def test_an_object_that_comes_meanwhile_is_left_unchanged(place: Place) -> None:
    async def slow() -> AsyncIterator[bytes]:
        place.put(IMAGE, b"theirs")
        yield b"ours"

    with pytest.raises(DataExists):
        await place.store(segment_from=Size(1)).add(IMAGE, slow(), None)
    assert place.objects() == [IMAGE]
    assert place.swift.call("GET", f"/{place.container}/{IMAGE}").body == b"theirs"


@pytest_twisted.ensureDeferred
async def test_containers_are_created_only_if_that_is_allowed(place: Place) -> None:
    container = f"{place.container}-new"
    store = place.store(container=container)
    for attempt in (store.check(), store.probe(False), store.add(IMAGE, source([b"x"]), 1)):
        with pytest.raises(StoreUnavailable):
            await attempt
    assert f"the container {container} does not exist" in place.told[0]
    store = place.store(container=container, create_container=True)
    await store.probe(True)
    assert place.swift.request("HEAD", f"/{container}").status == 404
    await store.check()
    assert place.swift.objects(container) == []
    await store.add(IMAGE, source([b"x"]), 1)


@pytest_twisted.ensureDeferred
async def test_images_may_be_in_several_containers(place: Place) -> None:
    store = place.store(container_seed=3, create_container=True, **SMALL)
    await store.check()
    stored = await store.add(IMAGE, source([DATA]), None)
    container = f"{place.container}_71c"
    assert stored.url == f"swift+config://ref1/{container}/{IMAGE}"
    assert len(place.swift.objects(container)) == 5
    # What was written with another seed is found, too.
    assert await read(place.store(), stored.url, 1, 1) == DATA[1:2]
    await store.discard(IMAGE)
    assert place.swift.objects(container) == []


@pytest.mark.parametrize(
    ("url", "is_own"),
    [
        ("swift+config://ref1/{container}/{id}", True),
        ("swift+http://images%3Aservice:old-key@{auth}/{container}/{id}", True),
        ("swift+http://images:service:old-key@{auth}/{container}/{id}", True),
        ("swift+http://{auth}/{container}/{id}", True),
        ("swift+config://ref2/{container}/{id}", False),
        ("swift+config://ref1/other/{id}", False),
        ("swift+http://other%3Aservice:made-up-key@{auth}/{container}/{id}", False),
        ("swift+http://images%3Aservice:made-up-key@elsewhere/{container}/{id}", False),
        ("swift+config://ref1/{container}/{id}-00001/x", False),
        ("file:///{container}/{id}", False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_only_own_containers_and_accounts_are_opened(
    place: Place, url: str, is_own: bool
) -> None:
    place.put(IMAGE, b"data")
    auth = place.swift.auth_url.removeprefix("http://")
    url = url.format(container=place.container, id=IMAGE, auth=auth)
    store = place.store()
    assert store.holds(url) == is_own
    if is_own:
        assert await read(store, url) == b"data"
        return
    with pytest.raises(DataNotFound) as caught:
        await read(store, url)
    assert "key" not in caught.value.message


@pytest_twisted.ensureDeferred
async def test_further_accounts_are_read_by_their_references(place: Place) -> None:
    old = place.store()
    stored = await old.add(IMAGE, source([b"data"]), 4)
    references = {"ref1": old._accounts["ref1"]}
    store = place.store(references=references, reference="now", user=swifts.OTHER_USER)
    assert await read(store, stored.url) == b"data"
    await store.delete(stored.url)
    assert place.objects() == []


@pytest_twisted.ensureDeferred
async def test_an_image_that_is_too_large_leaves_nothing(tmp_path: Path) -> None:
    threads = Threads(reactor, 2, "store")
    with swifts.started(tmp_path, constraints={"max_file_size": MIB}) as swift:
        place = Place(swift, swift.container(), threads)
        for options in ({}, {"segment_from": Size(1), "segment_size": Size(2 * MIB)}):
            with pytest.raises(StoreFull):
                await place.store(**options).add(IMAGE, source([DATA]), len(DATA))
            assert place.objects() == []
        await place.close()
    threads.stop()


# -- credentials ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"key": Secret("wrong-key")}, {"user": "nobody:known"}])
@pytest_twisted.ensureDeferred
async def test_wrong_credentials_are_told_to_operators_and_shown_to_nobody(
    place: Place, options: Any
) -> None:
    store = place.store(**options)
    url = f"swift+config://ref1/{place.container}/{IMAGE}"
    shown: list[str] = []
    for attempt in (store.check(), store.add(IMAGE, source([b"x"]), 1), read(store, url)):
        with pytest.raises(StoreUnavailable) as caught:
            await attempt
        shown += [str(caught.value), repr(caught.value.__cause__), *place.told]
    assert {"our credentials are refused with status 401"} == {*place.told}
    assert not any("wrong-key" in text or "nobody" in text for text in shown)
    assert "wrong-key" not in f"{store.place} {store._config!r}"


@pytest_twisted.ensureDeferred
async def test_another_account_without_rights_is_told_of(place: Place) -> None:
    """The user may not use this account, which `endpoint` names."""
    store = place.store(user=swifts.OTHER_USER, endpoint=place.swift.storage_url)
    with pytest.raises(StoreError):
        await store.check()
    assert place.told == [f"Swift answers HEAD /{place.container} with status 403"]


@pytest_twisted.ensureDeferred
async def test_a_token_is_renewed_before_it_expires(tmp_path: Path) -> None:
    threads = Threads(reactor, 2, "store")
    with swifts.started(tmp_path, tempauth={"token_life": 4}) as swift:
        place = Place(swift, swift.container(), threads)
        store = place.store()
        url = (await store.add(IMAGE, source([b"data"]), 4)).url
        account = store._client._account
        first = await account.access()
        assert await account.access() == first
        deadline = reactor.seconds() + 30
        while await account.access() == first and reactor.seconds() < deadline:
            await store.size(url)
        assert await account.access() != first
        rejected = [line for line in swift.requests() if line.startswith("401 HEAD")]
        assert len(rejected) <= 1  # by our own requests here
        await place.close()
    threads.stop()


def test_what_administrators_see_has_no_secrets(place: Place) -> None:
    config = place.store()._config
    assert config.details() == {
        "container": place.container,
        "large_object_size": 5_242_880_000,
        "large_object_chunk_size": 204_800_000,
    }
    assert swifts.KEY not in orjson.dumps(config.details()).decode()
    assert KIB == 1024
