"""The directories of a store: whether they can be written to, and how much room they have."""

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

LEAST_ROOM = 64 * 1024
"""Free bytes below which a directory is full."""


def make_directory(directory: Path, file_mode: int | None) -> None:
    """Create a missing directory, which everybody who may read the files can enter."""
    if directory.is_dir():
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise _error(errno.ENOTDIR, directory) from None
    if file_mode is not None:
        passing = (0o010 if file_mode & 0o070 else 0) | (0o001 if file_mode & 0o007 else 0)
        directory.chmod(stat.S_IMODE(directory.stat().st_mode) | passing)


def check_writable(directory: Path) -> None:
    """Raise `OSError` when nothing can be written to the directory; change nothing in it."""
    if not stat.S_ISDIR(directory.stat().st_mode):
        raise _error(errno.ENOTDIR, directory)
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise _error(errno.EROFS, directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _error(errno.EACCES, directory)


def check_room(directories: Iterable[Path]) -> None:
    """Raise `OSError` when all directories are full."""
    if max(free_bytes(directories).values()) < LEAST_ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def free_bytes(directories: Iterable[Path]) -> dict[Path, int]:
    """Return the free bytes of each directory that can be asked; raise `OSError` when none can."""
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


def _error(code: int, directory: Path) -> OSError:
    return OSError(code, os.strerror(code), str(directory))  # of the subclass for this code
