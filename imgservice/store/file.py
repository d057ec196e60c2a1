"""Objects as plain files, named by the image's id, in one directory or several."""

import errno
import mmap
import os
import re
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial as bound
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

import attrs

from imgservice.concurrency.threads import SerialQueue, Threads
from imgservice.domain.errors import ImageServiceError
from imgservice.store.interface import (
    DataExists,
    DataNotFound,
    Stored,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from imgservice.store.registry import Driver, StoreConfig

WINDOW = 4 * 1024 * 1024
ALL_WINDOWS = 64 * 1024 * 1024
SMALLEST_WINDOW = 64 * 1024
"""How many bytes of one object may wait for the disk, of all objects together, and at least."""

PIECE = 256 * 1024
"""How much is read at a time."""

PIECES_AT_ONCE = 32
"""How many pieces are read without a thread before the reactor must get its turn."""

GRANULE = 64 * 1024
"""The smallest hole: shorter runs of zeros are written."""

ZEROS = bytes(GRANULE)

LEAST_ROOM = 64 * 1024
"""Free bytes below which a directory is full."""

OBJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
"""What an object may be called; it begins with no dot, partial files do."""

SCHEMES = ("file://", "filesystem://")


@attrs.frozen(kw_only=True)
class FileConfig(StoreConfig):
    """The options of a store of type `file`."""

    path: str | None = attrs.field(
        default=None, metadata={"doc": "the directory of the objects; created when missing"}
    )
    paths: Mapping[str, int] = attrs.field(
        factory=dict,
        metadata={"doc": "instead of path: several directories, each with its priority"},
    )
    file_mode: str | None = attrs.field(
        default=None,
        metadata={"doc": 'permissions of the files, as in "0640"; null: what the umask leaves'},
    )
    thin: bool = attrs.field(
        default=False, metadata={"doc": "leave holes instead of writing blocks of zeros"}
    )
    fsync: bool = attrs.field(
        default=False,
        metadata={"doc": "an upload succeeds only once its data would survive a power failure"},
    )

    def __attrs_post_init__(self) -> None:
        if (self.path is None) == (not self.paths):
            raise ValueError("give either path or paths")
        if self.file_mode is not None and not re.fullmatch(r"0?[0-7]{3}", self.file_mode):
            raise ValueError('file_mode must be octal and in quotes, as in "0640"')

    @property
    def priorities(self) -> dict[Path, int]:
        """Every directory, made absolute, with its priority."""
        paths = {self.path: 0} if self.path is not None else self.paths
        return {Path(os.path.abspath(path)): value for path, value in paths.items()}  # noqa: PTH100 # "a/../b" must become "b", symbolic links must stay

    def details(self) -> Mapping[str, object]:
        directories = [str(path) for path in self.priorities]
        return {
            "data_dir": directories if len(directories) > 1 else directories[0],
            "chunk_size": PIECE,
            "thin_provisioning": self.thin,
        }

    @property
    def mode(self) -> int | None:
        return None if self.file_mode is None else int(self.file_mode, 8)


class FileStore:
    """Only files directly in its own directories are ever opened or removed."""

    def __init__(self, store_id: str, config: FileConfig, threads: Threads) -> None:
        self._id = store_id
        self._name = f"Store {store_id}"
        self._config = config
        self._priorities = config.priorities
        self.place = ", ".join(map(str, self._priorities))
        self.tell: Callable[[str], object] = lambda why: None
        self._threads = threads
        self._adding = 0
        # On its own pages because the kernel copies several times faster to an aligned address.
        self._buffer = memoryview(mmap.mmap(-1, PIECE))

    async def add(self, image_id: str, data: AsyncIterator[bytes], size: int | None) -> Stored:
        partial = _Partial(_checked_name(image_id), self._config)
        self._adding += 1
        try:
            return await self._add(partial, data, size)
        finally:
            self._adding -= 1

    async def _add(
        self, partial: "_Partial", data: AsyncIterator[bytes], size: int | None
    ) -> Stored:
        lane = self._threads.lane(self._window)

        def write(block: bytes) -> None:
            with self._telling(_WRITING):
                partial.write(block)

        try:
            await lane.put(lambda _: self._begin(partial, size), b"")
            async for block in data:
                await lane.put(write, block)
            path = await lane.call(lambda: self._publish(partial))
        except ImageServiceError:
            await self._end_refused(lane, partial)
            raise
        except BaseException:
            await lane.abandon(partial.remove)
            raise
        return Stored(url=f"file://{path}", size=partial.size)

    async def _end_refused(self, lane: SerialQueue, partial: "_Partial") -> None:
        """Leave nothing of data that is wrong; `StoreUnavailable` when it could not be stored.

        Clients that try again after a 503 have sent their data before, and come without it: they
        must be told of the store, and not that they sent too little.
        """
        try:
            await lane.drain()
        except StoreUnavailable:
            raise
        except StoreError:
            pass
        finally:
            await lane.abandon(partial.remove)

    def _window(self) -> int:
        return max(SMALLEST_WINDOW, min(WINDOW, ALL_WINDOWS // max(1, self._adding)))

    async def read(
        self, url: str, start: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        reading = _Reading(self._find(url))
        lane = self._threads.lane(PIECE)
        left = length
        at_once = PIECES_AT_ONCE
        try:
            await lane.call(lambda: self._open(reading))
            while wanted := PIECE if left is None else min(PIECE, left):
                piece = reading.cached(start, self._buffer[:wanted]) if at_once else None
                at_once -= 1
                if piece is None:
                    piece = await lane.call(bound(self._read, reading, start, wanted))
                    at_once = PIECES_AT_ONCE
                if not piece:
                    break
                start += len(piece)
                left = None if left is None else left - len(piece)
                yield piece
        finally:
            lane.abandon_soon(reading.close)

    async def open_file(self, url: str) -> int:
        reading = _Reading(self._find(url))
        lane = self._threads.lane(PIECE)
        try:
            await lane.call(lambda: self._open(reading))
        except BaseException:
            await lane.abandon(reading.close)
            raise
        return reading.release()

    async def delete(self, url: str) -> None:
        await self._threads.run(self._delete, self._find(url))

    async def size(self, url: str) -> int:
        return await self._threads.run(self._size, self._find(url))

    async def discard(self, image_id: str) -> None:
        await self._threads.run(self._discard, _checked_name(image_id))

    async def check(self) -> None:
        """Creates the directories that are missing, and adds and removes a small file in each."""
        await self._threads.run(self._check)

    async def probe(self, thoroughly: bool) -> None:
        await self._threads.run(self._probe, thoroughly)

    def proxy_path(self, url: str) -> str | None:
        """Where there are several directories, the proxy could not know in which one to look."""
        if len(self._priorities) > 1:
            return None
        return f"{quote(self._id, safe='')}/{self._find(url).name}"

    def holds(self, url: str) -> bool:
        return self._path(url) is not None

    def _path(self, url: str) -> Path | None:
        scheme = next(filter(url.startswith, SCHEMES), None)
        if scheme is None:
            return None
        directory, _, name = url.removeprefix(scheme).rpartition("/")
        # Compared as text, so that nothing in the URL can lead anywhere else.
        own = any(directory == str(path) for path in self._priorities)
        return Path(directory, name) if own and OBJECT_NAME.fullmatch(name) else None

    def _find(self, url: str) -> Path:
        path = self._path(url)
        if path is None:
            raise DataNotFound(f"{self._name} {_NO_OBJECT}")
        return path

    # All that follows blocks, and runs in threads.

    def _begin(self, partial: "_Partial", size: int | None) -> None:
        with self._telling(_WRITING):
            self._refuse_second(partial.name)
            partial.create(self._roomiest(size))

    def _publish(self, partial: "_Partial") -> Path:
        with self._telling(_WRITING):
            self._refuse_second(partial.name)
            return partial.publish()

    def _refuse_second(self, name: str) -> None:
        for directory in self._priorities:
            if os.path.lexists(directory / name):
                raise FileExistsError(errno.EEXIST, "exists", str(directory / name))

    def _roomiest(self, size: int | None) -> Path:
        """Return the directory of the highest priority that has room, among equals the one that
        has most of it."""
        free = _free_bytes(self._priorities)
        needed = 1 if size is None else size
        fitting = [directory for directory, room in free.items() if room >= needed]
        if not fitting and self._config.thin:  # holes may make the object smaller than its size
            fitting = [max(free, key=free.__getitem__)]
        if not fitting:
            raise StoreFull(f"{self._name} has no room for the data")
        return max(fitting, key=lambda directory: (self._priorities[directory], free[directory]))

    def _open(self, reading: "_Reading") -> None:
        with self._telling(_READING):
            reading.open()

    def _read(self, reading: "_Reading", start: int, length: int) -> bytes:
        with self._telling(_READING):
            return reading.piece(start, length)

    def _delete(self, path: Path) -> None:
        with self._telling(_READING):
            _regular(path)
            path.unlink()

    def _size(self, path: Path) -> int:
        with self._telling(_READING):
            return _regular(path).st_size

    def _discard(self, name: str) -> None:
        with self._telling(_WRITING):
            for directory in self._priorities:
                for path in (*_partial_files(directory, name), directory / name):
                    path.unlink(missing_ok=True)

    def _check(self) -> None:
        try:
            with self._telling(_WRITING):
                for directory in self._priorities:
                    _make_directory(directory, self._config.mode)
                    self._try(directory)
        except (DataExists, StoreFull) as error:
            raise StoreUnavailable(error.message) from error

    def _probe(self, thoroughly: bool) -> None:
        with self._telling(_WRITING):
            for directory in self._priorities:
                _see_that_writable(directory)
                if thoroughly:
                    self._try(directory)
            if max(_free_bytes(self._priorities).values()) < LEAST_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _try(self, directory: Path) -> None:
        partial = _Partial(f".check.{token_hex(8)}", self._config)
        try:
            partial.create(directory)
            partial.write(b"check")
            partial.publish()
        finally:
            partial.remove()

    @contextmanager
    def _telling(self, facts: Mapping[int, tuple[type[StoreError], str]]) -> Iterator[None]:
        """Turn what the operating system says into the store's errors; only the cause, which is
        for the log, knows the path."""
        try:
            yield
        except OSError as error:
            code = error.errno or errno.EIO
            kind, fact = facts.get(code, (StoreUnavailable, f"fails: {os.strerror(code)}"))
            if code in _FULL or kind is StoreUnavailable:
                self.tell(os.strerror(code))
            raise kind(f"{self._name} {fact}") from error


_NO_OBJECT = "has no such object"

_READING: Mapping[int, tuple[type[StoreError], str]] = {
    errno.ENOENT: (DataNotFound, _NO_OBJECT),
    errno.ELOOP: (DataNotFound, _NO_OBJECT),  # a symbolic link
}

_WRITING: Mapping[int, tuple[type[StoreError], str]] = {
    errno.EEXIST: (DataExists, "already has an object for this image"),
    errno.ENOSPC: (StoreFull, "has no room for the data"),
    errno.EDQUOT: (StoreFull, "has no room for the data within its quota"),
    errno.EFBIG: (StoreFull, "cannot hold so large an object"),
}


_FULL = (errno.ENOSPC, errno.EDQUOT)


class _Partial:
    """An object on its way: a file under a name that no image has, until it is published."""

    def __init__(self, name: str, config: FileConfig) -> None:
        self.name = name
        self.size = 0
        self._config = config
        self._path: Path | None = None
        self._descriptor: int | None = None
        self._identity: os.stat_result | None = None

    def create(self, directory: Path) -> None:
        self._path = directory / f".{self.name}.{token_hex(8)}.part"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = self._config.mode
        self._descriptor = os.open(self._path, flags, 0o666 if mode is None else 0o600)
        if mode is not None:
            os.fchmod(self._descriptor, mode)  # the umask has no say in it

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        runs = _data_runs(block) if self._config.thin else ((0, len(block)),)
        for begin, end in runs:
            self._write_at(self.size + begin, view[begin:end])
        self.size += len(block)

    def publish(self) -> Path:
        """Make the object of what was written, unless there is one already."""
        assert self._path is not None and self._descriptor is not None  # noqa: S101 # created
        if self._config.thin:
            os.ftruncate(self._descriptor, self.size)
        if self._config.fsync:
            os.fdatasync(self._descriptor)
        self._identity = os.fstat(self._descriptor)
        self._close()  # here network file systems tell of failed writes
        self._link(self._path.with_name(self.name))
        self._path.unlink()
        if self._config.fsync:
            _sync_directory(self._path.parent)
        return self._path.with_name(self.name)

    def remove(self) -> None:
        """Undo everything, publishing included."""
        with suppress(OSError):
            self._close()
        if self._path is None:
            return
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):
            if self._is_ours(self._path.with_name(self.name)):
                self._path.with_name(self.name).unlink()

    def _write_at(self, offset: int, part: memoryview) -> None:
        assert self._descriptor is not None  # noqa: S101 # created
        while part:  # once, unless the disk is about to be full
            written = os.pwrite(self._descriptor, part, offset)
            offset += written
            part = part[written:]

    def _link(self, path: Path) -> None:
        assert self._path is not None  # noqa: S101 # created
        try:
            path.hardlink_to(self._path)
        except FileExistsError:
            # NFS repeats a request whose answer was lost, and then trips over its own success.
            if not self._is_ours(path):
                raise

    def _is_ours(self, path: Path) -> bool:
        return self._identity is not None and os.path.samestat(self._identity, path.lstat())

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class _Reading:
    """An object opened for reading."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def open(self) -> None:
        _regular(self._path)
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def piece(self, start: int, length: int) -> bytes:
        assert self._descriptor is not None  # noqa: S101 # opened
        return os.pread(self._descriptor, length, start)

    def cached(self, start: int, buffer: memoryview) -> bytes | None:
        """Return what fits into the buffer, None when that is not in memory already."""
        assert self._descriptor is not None  # noqa: S101 # opened
        try:
            count = os.preadv(self._descriptor, [buffer], start, os.RWF_NOWAIT)
        except OSError:  # it would wait, or this file system cannot tell; `piece` finds out
            return None
        return bytes(buffer[:count])

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self.release())

    def release(self) -> int:
        """Hand the descriptor over to the caller."""
        assert self._descriptor is not None  # noqa: S101 # opened
        descriptor, self._descriptor = self._descriptor, None
        return descriptor


def _checked_name(image_id: str) -> str:
    if not OBJECT_NAME.fullmatch(image_id):
        raise ValueError(f"no object can be named by the image id {image_id!r}")
    return image_id


def _regular(path: Path) -> os.stat_result:
    """Return the status of a regular file; anything else in its place is no object."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        if not path.parent.is_dir():  # not mounted, perhaps: that says nothing of the object
            raise NotADirectoryError(errno.ENOTDIR, "missing", str(path.parent)) from None
        raise
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
    return status


def _data_runs(block: bytes) -> Iterator[tuple[int, int]]:
    """Yield where data begins and ends in the block; what lies between is granules of zeros."""
    begin = 0
    for offset in range(0, len(block) - GRANULE + 1, GRANULE):
        if block.startswith(ZEROS, offset):
            if begin < offset:
                yield begin, offset
            begin = offset + GRANULE
    if begin < len(block):
        yield begin, len(block)


def _see_that_writable(directory: Path) -> None:
    """Raise when nothing can be written there; the directory itself is left alone."""
    if not stat.S_ISDIR(directory.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(directory))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))


def _free_bytes(directories: Mapping[Path, int]) -> dict[Path, int]:
    """Return what is free in each directory that can be asked; raise when none can."""
    free = {}
    failure: OSError | None = None
    for directory in directories:
        try:
            status = os.statvfs(directory)
        except OSError as error:
            failure = error
        else:
            free[directory] = status.f_bavail * status.f_frsize
    if failure is not None and not free:
        raise failure
    return free


def _partial_files(directory: Path, name: str) -> list[Path]:
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(f".{name}.")]
        return [directory / found for found in names if found.endswith(".part")]
    return []


def _make_directory(directory: Path, file_mode: int | None) -> None:
    """Create the directory, passable for whomever the files are readable for."""
    if directory.is_dir():
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        code = errno.ENOTDIR
        raise NotADirectoryError(code, os.strerror(code), str(directory)) from None
    if file_mode is not None:
        passing = (0o010 if file_mode & 0o070 else 0) | (0o001 if file_mode & 0o007 else 0)
        directory.chmod(stat.S_IMODE(directory.stat().st_mode) | passing)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


DRIVER = Driver(config=FileConfig, create=FileStore)
