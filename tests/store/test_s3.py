"""What only a store of type s3 does, against the S3 API of a real Swift, and moto's."""

import random
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import attrs
import boto3
import pytest
import pytest_twisted
from botocore.config import Config
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread as in_thread

from imgservice.concurrency.memory import SharedMemory
from imgservice.concurrency.threads import Threads
from imgservice.domain.units import Duration, Secret, Size
from imgservice.store.interface import (
    CleanupPending,
    DataNotFound,
    StoreUnavailable,
)
from imgservice.store.s3.config import Checksums, S3Config
from imgservice.store.s3.errors import Answered
from imgservice.store.s3.reading import Reading
from imgservice.store.s3.store import S3Store
from imgservice.store.s3.upload import Plan
from tests import moto, swift
from tests.process.certificates import write_certificate

MIB = 1 << 20
PART = swift.SMALLEST_PART
reactor = cast(Any, installed_reactor)


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(reactor, 3, "store")
    yield made
    made.stop()


@attrs.define
class Bench:
    """A store in a bucket of its own, and what it told."""

    store: S3Store
    server: Any
    bucket: str
    told: list[str] = attrs.field(factory=list)

    @property
    def left(self) -> list[str]:
        found: list[str] = self.server.objects(self.bucket)
        return found

    async def read(self, url: str, start: int = 0, length: int | None = None) -> bytes:
        return b"".join([block async for block in self.store.read(url, start, length)])


Make = Callable[..., Bench]


@pytest_twisted.async_yield_fixture
async def make(threads: Threads) -> AsyncIterator[Make]:
    """Make stores, and close them in the end."""
    made: list[S3Store] = []

    def make_one(
        server: Any, bucket: str | None = None, memory: int = 128 * MIB, **more: Any
    ) -> Bench:
        name = bucket or (
            server.container() if isinstance(server, swift.Swift) else server.bucket()
        )
        options = {
            "host": server.url,
            "bucket": name,
            "access_key": Secret(swift.USER),
            "secret_key": Secret(swift.KEY),
            "multipart_from": Size(0),
            "part_size": Size(PART),
            **more,
        }
        store = S3Store("away", S3Config(**options), threads, reactor, SharedMemory(memory))
        made.append(store)
        bench = Bench(store, server, name)
        store.tell = bench.told.append
        return bench

    yield make_one
    for one in made:
        await one.close()


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[swift.Swift]:
    """The Swift that the tests of this file stop and start."""
    with swift.started(tmp_path_factory.mktemp("fragile")) as started:
        yield started


def some_bytes(count: int) -> bytes:
    return random.Random(count).randbytes(count)


async def blocks(data: bytes, block: int = 300_001) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(data), block):
        yield data[start : start + block]


def new_id() -> str:
    return str(uuid4())


# -- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 2 * PART, 2 * PART + 1])
@pytest_twisted.ensureDeferred
async def test_parts_of_known_and_unknown_length(make: Make, size: int | None) -> None:
    """Glance, and every other client, finds one object with the id as its name."""
    bench, data = make(swift.shared()), some_bytes(size or 2 * PART + MIB)
    image_id = new_id()
    stored = await bench.store.add(image_id, blocks(data, 700_001), size)
    assert (stored.size, len(bench.left)) == (len(data), 1 + (3 if size != 2 * PART else 2))
    client = client_of(bench)
    found = await in_thread(lambda: client.get_object(Bucket=bench.bucket, Key=image_id))
    assert await in_thread(found["Body"].read) == data
    await bench.store.delete(stored.url)
    assert bench.left == []


@pytest_twisted.ensureDeferred
async def test_without_memory_parts_are_sent_while_they_come(make: Make) -> None:
    bench = make(swift.shared(), memory=PART)
    data = some_bytes(2 * PART + 17)
    stored = await bench.store.add(new_id(), blocks(data, 700_001), len(data))
    assert await bench.read(stored.url) == data
    whole = make(swift.shared(), memory=PART, multipart_from=Size(100 * MIB))
    stored = await whole.store.add(new_id(), blocks(data, 700_001), len(data))
    assert len(whole.left) == 1
    assert await whole.read(stored.url, PART - 1, 5) == data[PART - 1 :][:5]


@pytest.mark.parametrize("told", [2 * PART + 16, 2 * PART + 18])
@pytest.mark.parametrize("multipart_from", [0, 100 * MIB])
@pytest_twisted.ensureDeferred
async def test_data_of_another_size_than_announced_is_refused_if_it_cannot_be_kept(
    make: Make, told: int, multipart_from: int
) -> None:
    bench = make(swift.shared(), memory=PART, multipart_from=Size(multipart_from))
    with pytest.raises(StoreUnavailable, match="announced size"):
        await bench.store.add(new_id(), blocks(some_bytes(2 * PART + 17)), told)
    assert bench.left == []


@pytest.mark.parametrize("server", [swift.shared, moto.shared], ids=["swift", "moto"])
@pytest_twisted.ensureDeferred
async def test_very_long_data_of_unknown_length_is_put_together_by_the_server(
    make: Make, server: Callable[[], Any]
) -> None:
    """As it is done after 4,800 parts, so that 10,000 are enough for 5 TiB."""
    bench = make(server())
    plan = attrs.evolve(bench.store._plan, direct_parts=1, composed=PART)
    bench.store._plan = plan
    data = some_bytes(3 * PART + 5)
    stored = await bench.store.add(new_id(), blocks(data), None)
    assert await bench.read(stored.url) == data
    await bench.store.delete(stored.url)
    assert bench.left == []


def test_parts_grow_with_the_size() -> None:
    plan = Plan(0, 10 * MIB, 10, False, 1.0)
    assert [plan.part(size) for size in (None, MIB, 10**5 * MIB)] == [10 * MIB] * 3
    for size in (10**5 * MIB + 1, 5 << 40):
        assert plan.part(size) * 10_000 >= size > (plan.part(size) - 1) * 10_000
    rest = (10_000 - plan.direct_parts) * plan.composed
    assert plan.direct_parts * 10 * MIB + rest >= 5 << 40


@pytest_twisted.ensureDeferred
async def test_uploads_share_the_memory_for_parts(make: Make) -> None:
    """Of six uploads of unknown length, two have their parts in memory at a time."""
    bench = make(swift.shared(), memory=2 * PART)
    data = some_bytes(PART + 1)
    waiting = [0]

    async def counted() -> AsyncGenerator[bytes, None]:
        waiting[0] += 1
        most.append(waiting[0])
        async for block in blocks(data):
            yield block
        waiting[0] -= 1

    most: list[int] = []
    ids = [new_id() for _ in range(6)]
    adding = [Deferred.fromCoroutine(bench.store.add(one, counted(), None)) for one in ids]
    stored = [await one for one in adding]
    assert max(most) == 2
    assert [one.size for one in stored] == [len(data)] * 6


@pytest_twisted.ensureDeferred
async def test_a_bucket_is_created_only_if_that_is_wanted(make: Make) -> None:
    server = moto.shared()
    bench = make(server, "not-there")
    with pytest.raises(StoreUnavailable, match="no bucket not-there"):
        await bench.store.check()
    with pytest.raises(StoreUnavailable):
        await bench.store.add(new_id(), blocks(b"data"), 4)
    wanted = make(server, "not-there", create_bucket=True)
    stored = await wanted.store.add(new_id(), blocks(b"data"), 4)
    await wanted.store.check()
    assert await wanted.read(stored.url) == b"data"
    assert len(wanted.left) == 1


@pytest.mark.parametrize("request_checksum", ["when_required", "when_supported"])
@pytest_twisted.ensureDeferred
async def test_over_tls(make: Make, tmp_path: Path, request_checksum: Any) -> None:
    files = (tmp_path / "cert.pem", tmp_path / "key.pem")
    write_certificate(*files)
    with moto.started(files) as server:
        careful = Checksums(request=request_checksum, response="when_supported")
        trusting = {"ca_file": str(files[0]), "checksums": careful}
        data = some_bytes(2 * PART + 1)
        for memory, multipart_from in ((128 * MIB, 0), (MIB, 0), (MIB, 100 * MIB)):
            bench = make(server, None, memory, multipart_from=Size(multipart_from), **trusting)
            stored = await bench.store.add(new_id(), blocks(data), len(data))
            assert stored.url.startswith("s3+https://127.0.0.1:")
            assert await bench.read(stored.url) == data
        doubting = make(server)
        with pytest.raises(StoreUnavailable, match="no TLS connection that can be trusted"):
            await doubting.store.probe(False)


@pytest_twisted.ensureDeferred
async def test_discard_removes_what_a_process_left_that_died(make: Make) -> None:
    bench, image_id = make(swift.shared()), new_id()
    client = client_of(bench)

    def leave(key: str) -> None:
        place = {"Bucket": bench.bucket, "Key": key}
        upload = client.create_multipart_upload(**place)["UploadId"]
        client.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"part")

    for key in (image_id, image_id, f"{image_id}.tail", f"{image_id}0"):
        await in_thread(leave, key)
    await in_thread(lambda: client.put_object(Bucket=bench.bucket, Key=image_id, Body=b"whole"))
    await bench.store.discard(image_id)
    assert {name.split("/")[1] for name in bench.left} == {f"{image_id}0"}
    await bench.store.discard(f"{image_id}0")
    assert bench.left == []


# -- faults ---------------------------------------------------------------------------------------

HASTY = {"timeout": Duration(1.5), "connect_timeout": Duration(5)}


@pytest.mark.parametrize("more", [{}, {"memory": MIB}], ids=["kept", "streamed"])
@pytest_twisted.ensureDeferred
async def test_a_server_that_dies_in_mid_upload(
    make: Make, fragile: swift.Swift, more: Any
) -> None:
    bench, image_id, data = make(fragile, **HASTY, **more), new_id(), some_bytes(4 * PART)

    async def interrupted() -> AsyncGenerator[bytes, None]:
        async for block in blocks(data[: 3 * PART]):
            yield block
        fragile.kill()
        async for block in blocks(data[3 * PART :]):
            yield block

    with pytest.raises(CleanupPending) as caught:
        await bench.store.add(image_id, interrupted(), len(data))
    assert_no_secret(caught.value, bench)
    await in_thread(fragile.start)
    await bench.store.discard(image_id)
    assert bench.left == []
    stored = await bench.store.add(image_id, blocks(data), len(data))
    assert await bench.store.size(stored.url) == len(data)


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_away_for_a_moment_in_mid_upload(
    make: Make, fragile: swift.Swift
) -> None:
    """Parts are sent again, since they are still there."""
    bench, data = make(fragile, timeout=Duration(30)), some_bytes(4 * PART)

    async def interrupted() -> AsyncGenerator[bytes, None]:
        async for block in blocks(data[: 3 * PART]):
            yield block
        fragile.kill()
        starting = in_thread(fragile.start)
        async for block in blocks(data[3 * PART :]):
            yield block
        await starting

    stored = await bench.store.add(new_id(), interrupted(), len(data))
    assert await bench.read(stored.url) == data


@pytest_twisted.ensureDeferred
async def test_a_server_that_hangs_in_mid_upload(make: Make, fragile: swift.Swift) -> None:
    bench, image_id, data = make(fragile, **HASTY), new_id(), some_bytes(3 * PART)

    async def interrupted() -> AsyncGenerator[bytes, None]:
        async for block in blocks(data[: 2 * PART]):
            yield block
        fragile.signal(signal.SIGSTOP)
        async for block in blocks(data[2 * PART :]):
            yield block

    with pytest.raises(StoreUnavailable):
        await bench.store.add(image_id, interrupted(), len(data))
    fragile.signal(signal.SIGCONT)
    await bench.store.discard(image_id)
    assert bench.left == []
    assert "takes too long" in bench.told[0]


@pytest.mark.parametrize("pause", [True, False], ids=["hangs", "dies"])
@pytest_twisted.ensureDeferred
async def test_a_download_goes_on_after_the_server_failed(
    make: Make, fragile: swift.Swift, pause: bool
) -> None:
    bench, data = make(fragile, **HASTY), some_bytes(12 * MIB)
    stored = await bench.store.add(new_id(), blocks(data), len(data))
    reading = bench.store.read(stored.url, 3)
    got = [await anext(reading)]
    if pause:
        with fragile.paused():
            await deferLater(reactor, 2.0)
    else:
        fragile.kill()
        await in_thread(fragile.start)
    got += [block async for block in reading]
    assert b"".join(got) == data[3:]


@pytest_twisted.ensureDeferred
async def test_a_download_ends_if_the_server_stays_away(make: Make, fragile: swift.Swift) -> None:
    bench, data = make(fragile, **HASTY), some_bytes(12 * MIB)
    stored = await bench.store.add(new_id(), blocks(data), len(data))
    reading = bench.store.read(stored.url)
    await anext(reading)
    fragile.kill()
    with pytest.raises(StoreUnavailable) as caught:
        async for _ in reading:
            pass
    assert_no_secret(caught.value, bench)
    with pytest.raises(StoreUnavailable):
        await bench.store.probe(False)
    await in_thread(fragile.start)
    await bench.store.probe(True)


@pytest_twisted.ensureDeferred
async def test_another_object_in_place_of_the_one_that_is_read_is_noticed(make: Make) -> None:
    with moto.started() as server:
        bench, image_id = make(server, multipart_from=Size(100 * MIB)), new_id()
        stored = await bench.store.add(image_id, blocks(some_bytes(MIB)), MIB)
        reading = Reading(bench.store._bucket, image_id, 0, None, False)
        reading._etag = '"another"'
        with pytest.raises(Answered, match="412"):
            await anext(reading.blocks(reactor))
        assert len(await bench.read(stored.url)) == MIB


# -- credentials ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access_key", "secret_key", "words"),
    [("images:service", "wrong-secret", "403"), ("nobody:known", "wrong-secret", "403")],
)
@pytest_twisted.ensureDeferred
async def test_wrong_keys(make: Make, access_key: str, secret_key: str, words: str) -> None:
    keys = {"access_key": Secret(access_key), "secret_key": Secret(secret_key)}
    bench = make(swift.shared(), **keys)
    works: list[Callable[[], Awaitable[Any]]] = [
        lambda: bench.store.add(new_id(), blocks(b"data"), 4),
        lambda: bench.store.add(new_id(), blocks(some_bytes(PART + 1)), None),
        lambda: bench.read(f"s3://127.0.0.1:{bench.server.port}/{bench.bucket}/{new_id()}"),
        bench.store.check,
        lambda: bench.store.probe(False),
        lambda: bench.store.discard(new_id()),
    ]
    for work in works:
        with pytest.raises(StoreUnavailable) as caught:
            await work()
        assert_no_secret(caught.value, bench, access_key, secret_key)
    assert words in bench.told[0]
    with pytest.raises(StoreUnavailable, match=words):
        await bench.store.check()
    assert bench.left == []


def assert_no_secret(error: BaseException, bench: Bench, *secrets: str) -> None:
    """No key is in the error, in what caused it, or in what operators are told."""
    texts = [*bench.told, repr(bench.store._config), repr(bench.store._plan)]
    seen: BaseException | None = error
    while seen is not None:
        texts += [str(seen), repr(seen)]
        seen = seen.__cause__ or seen.__context__
    for secret in (*secrets, swift.KEY, swift.USER):
        assert not [text for text in texts if secret in text]


# -- URLs -----------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_urls_of_all_releases_lead_to_the_object(make: Make) -> None:
    bench, image_id = make(swift.shared()), new_id()
    stored = await bench.store.add(image_id, blocks(b"data"), 4)
    place = f"127.0.0.1:{bench.server.port}/{bench.bucket}/{image_id}"
    assert stored.url == f"s3://{place}"
    for url in (
        f"s3+http://{place}",
        f"s3+https://{place}",
        f"s3://AKIA:sec/r@t/key=@{place}",
        f"s3://{place}?x#y",
    ):
        assert bench.store.holds(url)
        assert await bench.read(url) == b"data"
    legacy = make(swift.shared(), bench.bucket, legacy_uri=True)
    stored = await legacy.store.add(new_id(), blocks(b"more"), 4)
    assert stored.url.startswith(f"s3://{swift.USER}:{swift.KEY}@127.0.0.1:")
    assert await bench.read(stored.url) == b"more"


@pytest.mark.parametrize(
    "url",
    [
        "s3://other.example/{bucket}/{id}",
        "s3://127.0.0.1/{bucket}/{id}",
        "s3://{host}/other-bucket/{id}",
        "s3://{host}/path/{bucket}/{id}",
        "s3://{host}/{bucket}/../other/{id}",
        "s3://{host}/{bucket}/{id}%2F..",
        "s3://{host}/{bucket}2/{id}",
        "s3://{host}/{bucket}/",
        "s3://{bucket}/{id}",
        "S3://{host}/{bucket}/{id}",
        "s3://s3://{host}/{bucket}/{id}",
        "s3://{host}@other.example/{bucket}/{id}",
        "http://{host}/{bucket}/{id}",
    ],
)
@pytest_twisted.ensureDeferred
async def test_no_other_urls_are_opened(make: Make, url: str) -> None:
    bench, image_id = make(swift.shared()), new_id()
    stored = await bench.store.add(image_id, blocks(b"data"), 4)
    host = f"127.0.0.1:{bench.server.port}"
    other = url.format(host=host, bucket=bench.bucket, id=image_id)
    assert not bench.store.holds(other)
    with pytest.raises(DataNotFound):
        await bench.read(other)
    with pytest.raises(DataNotFound):
        await bench.store.delete(other)
    assert await bench.read(stored.url) == b"data"


def client_of(bench: Bench) -> Any:
    """Return another client of S3, for the same bucket."""
    return boto3.client(
        "s3",
        endpoint_url=bench.server.url,
        region_name=swift.REGION,
        aws_access_key_id=swift.USER,
        aws_secret_access_key=swift.KEY,
        config=Config(request_checksum_calculation="when_required"),
    )
