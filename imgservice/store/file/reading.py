"""Objects that are read."""

import errno
import os
import stat
from pathlib import Path


class OpenObject:
    """An object that is opened for reading, later and in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def open(self) -> None:
        status_of(self._path)
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def piece(self, start: int, length: int) -> bytes:
        """Read a piece, waiting for the disk if need be."""
        assert self._descriptor is not None  # noqa: S101 # opened
        return os.pread(self._descriptor, length, start)

    def cached(self, start: int, buffer: memoryview) -> bytes | None:
        """Return what fits into the buffer, None when the kernel does not have it in memory."""
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
        """Hand the descriptor over to the caller, who closes it."""
        assert self._descriptor is not None  # noqa: S101 # opened
        descriptor, self._descriptor = self._descriptor, None
        return descriptor


def status_of(path: Path) -> os.stat_result:
    """Return the status of an object, which is a regular file; nothing else is one."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        if not path.parent.is_dir():  # perhaps not mounted: that says nothing about the object
            raise NotADirectoryError(errno.ENOTDIR, "missing", str(path.parent)) from None
        raise
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
    return status
