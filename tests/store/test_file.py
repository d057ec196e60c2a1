"""What only the file store does; what every store does is in `tests/contract`."""

import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, cast
from uuid import uuid4

import pytest
import pytest_twisted
from twisted.internet import reactor as installed_reactor

from imgservice.concurrency.threads import Threads
from imgservice.domain.errors import Invalid
from imgservice.store.file.config import FileConfig
from imgservice.store.file.store import FileStore
from imgservice.store.interface import (
    DataExists,
    DataNotFound,
    StoreFull,
    StoreUnavailable,
)

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]
IMAGE = "6f2e1cb4-3a54-4b0e-9a0f-0a1f5d1c2b3a"


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(cast(Any, installed_reactor), 2, "store")
    yield threads
    threads.stop()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Three small real file systems: "large" has 8 MiB of room, "small" and "other" have 3.

    They are mounted nowhere: an open descriptor keeps each, so that none outlives this process.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can mount the small file systems that this needs")
    opened: dict[str, int] = {}
    try:
        for name, mibs in {"large": 8, "small": 3, "other": 3}.items():
            opened[name] = small_file_system(tmp_path, mibs)
        yield {name: Path(f"/proc/self/fd/{opened[name]}") for name in opened}
    except subprocess.CalledProcessError as error:
        pytest.skip(f"mounting is not allowed here: {error}")
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def small_file_system(place: Path, mibs: int) -> int:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mibs}m", "imgservice-test", str(place)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        return os.open(place, os.O_RDONLY)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


async def source(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


async def read(store: FileStore, url: str) -> bytes:
    return b"".join([block async for block in store.read(url)])


def new_id() -> str:
    return str(uuid4())


def run_child(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.store.child", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.strip()


# The configuration


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"path": "/a", "paths": {"/b": 1}},
        {"path": "/a", "file_mode": "rw"},
        {"path": "/a", "file_mode": "0999"},
        {"path": "/a", "file_mode": "04755"},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"path|file_mode"):
        FileConfig(**options)


@pytest_twisted.ensureDeferred
async def test_a_relative_path_becomes_absolute(
    threads: Threads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = FileStore("test", FileConfig(path="var/../images/"), threads)
    await store.check()
    stored = await store.add(IMAGE, source([b"data"]), 4)
    assert stored.url == f"file://{tmp_path}/images/{IMAGE}"
    assert (tmp_path / "images" / IMAGE).read_bytes() == b"data"


# Where things lie


@pytest.mark.parametrize("scheme", ["file", "filesystem"])
@pytest_twisted.ensureDeferred
async def test_objects_of_glance_are_read_and_deleted(
    threads: Threads, images: Path, scheme: str
) -> None:
    (images / IMAGE).write_bytes(b"written by Glance")
    store = FileStore("test", FileConfig(path=str(images)), threads)
    url = f"{scheme}://{images}/{IMAGE}"
    assert store.holds(url)
    assert await read(store, url) == b"written by Glance"
    await store.delete(url)
    assert list(images.iterdir()) == []


@pytest_twisted.ensureDeferred
async def test_a_directory_may_have_a_name_that_urls_would_quote(
    threads: Threads, tmp_path: Path
) -> None:
    directory = tmp_path / "50% of #images?"
    store = FileStore("test", FileConfig(path=str(directory)), threads)
    await store.check()
    stored = await store.add(IMAGE, source([b"data"]), 4)
    assert stored.url == f"file://{directory}/{IMAGE}"
    assert await read(store, stored.url) == b"data"


@pytest_twisted.ensureDeferred
async def test_only_own_files_are_ever_touched(threads: Threads, images: Path) -> None:
    secret = images.parent / "secret"
    secret.write_bytes(b"secret")
    (images / IMAGE).write_bytes(b"data")
    (images / "inner").mkdir()
    (images / "inner" / IMAGE).write_bytes(b"inner")
    (images / ".hidden").write_bytes(b"hidden")
    (images / "link-out").symlink_to(secret)
    (images / "link-in").symlink_to(images / IMAGE)
    (images / "link-up").symlink_to(images.parent)
    os.mkfifo(images / "fifo")
    before = sorted(images.parent.rglob("*"))
    store = FileStore("test", FileConfig(path=str(images)), threads)
    for url in hostile_urls(images):
        await assert_refused(store, url)
    assert sorted(images.parent.rglob("*")) == before
    assert secret.read_bytes() == b"secret"
    assert await read(store, f"file://{images}/{IMAGE}") == b"data"


def hostile_urls(images: Path) -> list[str]:
    parent = images.parent
    own = f"file://{images}"
    return [
        f"file://{parent}/secret",
        f"{own}/../secret",
        f"{own}/%2e%2e/secret",
        f"{own}/./{IMAGE}",
        f"{own}//{IMAGE}",
        f"{own}/../images/{IMAGE}",
        f"{own}/inner/{IMAGE}",
        f"{own}/inner",
        f"{own}/link-out",
        f"{own}/link-in",
        f"{own}/link-up",
        f"{own}/link-up/secret",
        f"{own}/fifo",
        f"{own}/.hidden",
        f"{own}/.",
        f"{own}/..",
        f"{own}/",
        own,
        f"{own}/{IMAGE}?x=1",
        f"{own}/{IMAGE}#part",
        f"{own}/{IMAGE}/",
        f"{own}/{IMAGE}\n",
        f"{own}/{IMAGE}\0",
        f"{own}/{'a' * 5000}",
        f"file://localhost{images}/{IMAGE}",
        f"file:{images}/{IMAGE}",
        f"FILE://{images}/{IMAGE}",
        f"{images}/{IMAGE}",
        f"https://{images}/{IMAGE}",
        f"swift+config://{images}/{IMAGE}",
    ]


async def assert_refused(store: FileStore, url: str) -> None:
    for attempt in (store.size, store.delete, store.open_file, lambda url: read(store, url)):
        with pytest.raises(DataNotFound) as caught:
            await attempt(url)
        assert "images" not in caught.value.message
        assert IMAGE not in caught.value.message


@pytest.mark.parametrize("image_id", ["", ".", "..", "../x", "a/b", ".x", "x\0", "a.b", "x" * 200])
@pytest_twisted.ensureDeferred
async def test_an_id_that_is_no_plain_name_is_refused(
    threads: Threads, images: Path, image_id: str
) -> None:
    store = FileStore("test", FileConfig(path=str(images)), threads)
    with pytest.raises(ValueError, match="image id"):
        await store.add(image_id, source([b"data"]), 4)
    with pytest.raises(ValueError, match="image id"):
        await store.discard(image_id)
    assert [*images.parent.rglob("*")] == [images]


@pytest_twisted.ensureDeferred
async def test_data_that_is_not_cached_is_read_too(threads: Threads, images: Path) -> None:
    """Whatever the kernel has of the file is dropped from its memory before."""
    store = FileStore("test", FileConfig(path=str(images)), threads)
    data = os.urandom(3 * MIB + 7)
    stored = await store.add(IMAGE, source([data]), None)
    descriptor = os.open(images / IMAGE, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, MIB, MIB // 2, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(descriptor)
    assert await read(store, stored.url) == data


# Several directories


@pytest_twisted.ensureDeferred
async def test_among_equals_the_emptiest_directory_is_taken(
    threads: Threads, disks: dict[str, Path]
) -> None:
    store = FileStore("test", FileConfig(paths={str(path): 5 for path in disks.values()}), threads)
    for size in (1 * MIB, None):
        stored = await store.add(new_id(), source([bytes(MIB)]), size)
        assert stored.url.startswith(f"file://{disks['large']}/")


@pytest_twisted.ensureDeferred
async def test_the_highest_priority_with_room_is_taken(
    threads: Threads, disks: dict[str, Path]
) -> None:
    priorities = {"large": 1, "small": 10, "other": -1}
    config = FileConfig(paths={str(disks[name]): value for name, value in priorities.items()})
    store = FileStore("test", config, threads)

    async def added_to(mibs: int, size: int | None) -> str:
        stored = await store.add(new_id(), source([bytes(MIB)] * mibs), size)
        return next(
            name for name, path in disks.items() if stored.url.startswith(f"file://{path}/")
        )

    assert await added_to(2, 2 * MIB) == "small"
    assert await added_to(2, 2 * MIB) == "large"
    assert await added_to(1, None) == "small"
    assert await added_to(1, None) == "large", "small is full now"
    assert await added_to(5, 5 * MIB) == "large"
    assert await added_to(1, MIB) == "other"


@pytest_twisted.ensureDeferred
async def test_what_fits_nowhere_is_refused_before_it_is_read(
    threads: Threads, disks: dict[str, Path]
) -> None:
    store = FileStore("test", FileConfig(paths={str(path): 5 for path in disks.values()}), threads)
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += MIB
            yield bytes(MIB)

    with pytest.raises(StoreFull):
        await store.add(IMAGE, endless(), 100 * MIB)
    assert taken <= 8 * MIB
    assert [file for path in disks.values() for file in path.iterdir()] == []


@pytest_twisted.ensureDeferred
async def test_an_image_in_another_directory_exists(threads: Threads, tmp_path: Path) -> None:
    config = FileConfig(paths={str(tmp_path / "one"): 1, str(tmp_path / "two"): 2})
    store = FileStore("test", config, threads)
    await store.check()
    (tmp_path / "one" / IMAGE).write_bytes(b"first")
    with pytest.raises(DataExists):
        await store.add(IMAGE, source([b"second"]), 6)
    await store.discard(IMAGE)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest_twisted.ensureDeferred
async def test_a_directory_that_is_missing_is_passed_over(threads: Threads, tmp_path: Path) -> None:
    config = FileConfig(paths={str(tmp_path / "one"): 1, str(tmp_path / "two"): 2})
    (tmp_path / "one").mkdir()
    store = FileStore("test", config, threads)
    stored = await store.add(IMAGE, source([b"data"]), 4)
    assert stored.url == f"file://{tmp_path}/one/{IMAGE}"


# Full, forbidden, missing


@pytest.mark.parametrize("size", [None, 2 * MIB])
@pytest_twisted.ensureDeferred
async def test_a_full_disk_is_told_of_and_left_clean(
    threads: Threads, disks: dict[str, Path], size: int | None
) -> None:
    store = FileStore("test", FileConfig(path=str(disks["small"])), threads)
    with pytest.raises(StoreFull) as caught:
        await store.add(IMAGE, source([b"x" * MIB] * 9), size)
    assert str(disks["small"]) not in caught.value.message
    assert list(disks["small"].iterdir()) == []
    stored = await store.add(IMAGE, source([b"x" * MIB] * 2), size)
    assert stored.size == 2 * MIB


@pytest_twisted.ensureDeferred
async def test_check_notices_a_full_disk(threads: Threads, disks: dict[str, Path]) -> None:
    store = FileStore("test", FileConfig(path=str(disks["small"])), threads)
    await store.check()
    with suppress(OSError), (disks["small"] / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(65536))
    with pytest.raises(StoreUnavailable, match="no room"):
        await store.check()


def test_a_limit_on_the_file_size_means_full(tmp_path: Path) -> None:
    answer = run_child("small-files-only", tmp_path / "images", IMAGE, 3)
    assert answer == "StoreFull: Store child cannot hold so large an object"
    assert list((tmp_path / "images").iterdir()) == []
    assert run_child("small-files-only", tmp_path / "images", IMAGE, 2) == "added"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_forbidden_directory_means_unavailable() -> None:
    """Run as nobody; pytest's own folder is closed to others whenever pytest starts once more."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        images = Path(folder) / "images"
        images.mkdir()
        images.chmod(0o755)
        answer = run_child("nobody", images, IMAGE, 1)
        assert answer == "StoreUnavailable: Store child fails: Permission denied"
        assert list(images.iterdir()) == []
        images.chmod(0o777)
        assert run_child("nobody", images, IMAGE, 1) == "added"


@pytest_twisted.ensureDeferred
async def test_a_directory_that_went_away_means_unavailable(threads: Threads, images: Path) -> None:
    store = FileStore("test", FileConfig(path=str(images)), threads)
    url = f"file://{images}/{IMAGE}"
    images.rmdir()
    with pytest.raises(StoreUnavailable):
        await store.add(IMAGE, source([b"data"]), None)
    with pytest.raises(StoreUnavailable):
        await store.delete(url)
    with pytest.raises(StoreUnavailable):
        await store.size(url)
    with pytest.raises(StoreUnavailable):
        await read(store, url)
    assert not images.exists()


@pytest_twisted.ensureDeferred
async def test_a_directory_that_is_gone_counts_more_than_wrong_data(
    threads: Threads, images: Path
) -> None:
    store = FileStore("test", FileConfig(path=str(images)), threads)

    async def nothing() -> AsyncIterator[bytes]:
        for block in list[bytes]():
            yield block
        raise Invalid("expected 4 bytes, got 0")

    with pytest.raises(Invalid):
        await store.add(IMAGE, nothing(), 4)
    assert list(images.iterdir()) == []
    images.rmdir()
    for _ in range(10):
        with pytest.raises(StoreUnavailable):
            await store.add(IMAGE, nothing(), 4)


@pytest_twisted.ensureDeferred
async def test_check_says_why_a_directory_cannot_be_used(threads: Threads, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    store = FileStore("test", FileConfig(path=str(blocked / "images")), threads)
    with pytest.raises(StoreUnavailable, match="Not a directory") as caught:
        await store.check()
    assert str(blocked) in str(caught.value.__cause__)
    assert str(blocked) not in caught.value.message


# Permissions


def test_the_umask_decides_where_no_mode_is_given(tmp_path: Path) -> None:
    assert run_child("open-umask", tmp_path / "open", IMAGE, 0) == "added"
    assert run_child("strict-umask", tmp_path / "strict", IMAGE, 0) == "added"
    assert mode(tmp_path / "open" / IMAGE) == 0o666
    assert mode(tmp_path / "strict" / IMAGE) == 0o600
    assert mode(tmp_path / "strict") == 0o700


@pytest.mark.parametrize(
    ("file_mode", "directory_mode"),
    [("0640", 0o710), ("644", 0o711), ("0600", 0o700), ("0604", 0o701)],
)
def test_a_given_mode_holds_whatever_the_umask(
    tmp_path: Path, file_mode: str, directory_mode: int
) -> None:
    assert run_child("strict-umask", tmp_path / "images", IMAGE, 0, file_mode) == "added"
    assert mode(tmp_path / "images" / IMAGE) == int(file_mode, 8)
    assert mode(tmp_path / "images") == directory_mode


def test_the_mode_of_a_directory_that_exists_is_left_alone(images: Path) -> None:
    images.chmod(0o700)
    assert run_child("plain", images, IMAGE, 0, "0644") == "added"
    assert mode(images) == 0o700


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Holes


@pytest.mark.parametrize("block_size", [MIB, 333_333])
@pytest_twisted.ensureDeferred
async def test_zeros_become_holes(threads: Threads, images: Path, block_size: int) -> None:
    data = b"begin" + bytes(20 * MIB) + os.urandom(MIB) + bytes(20 * MIB)
    blocks = [data[at : at + block_size] for at in range(0, len(data), block_size)]
    thin = FileStore("thin", FileConfig(path=str(images), thin=True), threads)
    full = FileStore("full", FileConfig(path=str(images)), threads)
    holey = await thin.add(new_id(), source(blocks), len(data))
    solid = await full.add(new_id(), source(blocks), len(data))
    assert await read(thin, holey.url) == data
    assert await thin.size(holey.url) == holey.size == len(data)
    # Of a block that is no multiple of the smallest hole the rest is written.
    assert on_disk(holey.url) < (2 * MIB if block_size == MIB else 13 * MIB)
    assert on_disk(solid.url) >= len(data)


@pytest_twisted.ensureDeferred
async def test_an_object_of_zeros_takes_no_room(threads: Threads, disks: dict[str, Path]) -> None:
    """It is larger than the disk, and its size is known."""
    store = FileStore("test", FileConfig(path=str(disks["small"]), thin=True), threads)
    stored = await store.add(IMAGE, source([bytes(MIB)] * 50), 50 * MIB)
    assert await store.size(stored.url) == 50 * MIB
    assert on_disk(stored.url) == 0


def on_disk(url: str) -> int:
    path = Path(url.removeprefix("file://"))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # until then the file system may not have counted
    finally:
        os.close(descriptor)
    return path.stat().st_blocks * 512


# A process that dies


@pytest_twisted.ensureDeferred
async def test_discard_removes_what_a_killed_process_left(threads: Threads, images: Path) -> None:
    victim, bystander = new_id(), new_id()
    for image_id in (victim, victim, bystander):
        killed_while_adding(images, image_id)
    assert len(list(images.iterdir())) == 3
    await FileStore("test", FileConfig(path=str(images)), threads).discard(victim)
    assert [path.name.split(".")[1] for path in images.iterdir()] == [bystander]


def killed_while_adding(images: Path, image_id: str) -> None:
    before = set(images.glob(f".{image_id}.*"))
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.store.child", "plain", images, image_id, "100000"], cwd=ROOT
    )
    try:
        deadline = monotonic() + 60
        while not any(
            path.stat().st_size > 5 * MIB for path in set(images.glob(f".{image_id}.*")) - before
        ):
            assert monotonic() < deadline
            assert child.poll() is None
            sleep(0.005)
    finally:
        child.kill()
        child.wait()
    assert not (images / image_id).exists()
