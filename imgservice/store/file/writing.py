"""Objects that are written."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from imgservice.store.file.config import FileConfig

GRANULE = 64 * 1024
"""The smallest hole: shorter runs of zeros are written."""
_ZEROS = bytes(GRANULE)


class PartialFile:
    """A file under a name that no image has, until it is published as an object."""

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
            os.fchmod(self._descriptor, mode)  # os.open would apply the umask

    def write(self, block: bytes) -> None:
        view = memoryview(block)
        runs = _data_runs(block) if self._config.thin else ((0, len(block)),)
        for begin, end in runs:
            self._write_at(self.size + begin, view[begin:end])
        self.size += len(block)

    def publish(self) -> Path:
        """Give the file the name of the object; `FileExistsError` when there is one already."""
        assert self._path is not None and self._descriptor is not None  # noqa: S101 # created
        if self._config.thin:
            os.ftruncate(self._descriptor, self.size)
        if self._config.fsync:
            os.fdatasync(self._descriptor)
        self._identity = os.fstat(self._descriptor)
        self._close()  # here network file systems report failed writes
        self._link(self._path.with_name(self.name))
        self._path.unlink()
        if self._config.fsync:
            _sync_directory(self._path.parent)
        return self._path.with_name(self.name)

    def remove(self) -> None:
        """Undo everything, including `publish`."""
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
        while part:  # once, unless the disk is nearly full
            written = os.pwrite(self._descriptor, part, offset)
            offset += written
            part = part[written:]

    def _link(self, path: Path) -> None:
        assert self._path is not None  # noqa: S101 # created
        try:
            path.hardlink_to(self._path)
        except FileExistsError:
            # An NFS client repeats a request whose answer was lost, and may find its own link.
            if not self._is_ours(path):
                raise

    def _is_ours(self, path: Path) -> bool:
        return self._identity is not None and os.path.samestat(self._identity, path.lstat())

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def partial_files(directory: Path, name: str) -> list[Path]:
    """Return what an earlier process left of an object that it did not publish."""
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(f".{name}.")]
        return [directory / found for found in names if found.endswith(".part")]
    return []


def _data_runs(block: bytes) -> Iterator[tuple[int, int]]:
    """Yield where runs of data begin and end in the block; granules of zeros lie between them."""
    begin = 0
    for offset in range(0, len(block) - GRANULE + 1, GRANULE):
        if block.startswith(_ZEROS, offset):
            if begin < offset:
                yield begin, offset
            begin = offset + GRANULE
    if begin < len(block):
        yield begin, len(block)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
