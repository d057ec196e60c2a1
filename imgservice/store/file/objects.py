"""The objects of a store in its directories. Everything here blocks, and runs in threads."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

from imgservice.store.file.config import FileConfig
from imgservice.store.file.directories import (
    check_room,
    check_writable,
    free_bytes,
    make_directory,
)
from imgservice.store.file.errors import ErrorTranslation
from imgservice.store.file.reading import OpenObject, status_of
from imgservice.store.file.writing import PartialFile, partial_files
from imgservice.store.interface import DataExists, StoreFull, StoreUnavailable


class Objects:
    """Reads, writes and removes files; raises the errors of a store."""

    def __init__(
        self, store_name: str, config: FileConfig, report: Callable[[str], object]
    ) -> None:
        self._store_name = store_name
        self._config = config
        self._priorities = config.priorities
        self._errors = ErrorTranslation(store_name, report)

    # -- writing ----------------------------------------------------------------------------------

    def begin(self, partial: PartialFile, size: int | None) -> None:
        with self._errors.writing():
            self._refuse_second(partial.name)
            partial.create(self._roomiest(size))

    def write(self, partial: PartialFile, block: bytes) -> None:
        with self._errors.writing():
            partial.write(block)

    def publish(self, partial: PartialFile) -> Path:
        with self._errors.writing():
            self._refuse_second(partial.name)
            return partial.publish()

    def _refuse_second(self, name: str) -> None:
        for directory in self._priorities:
            if os.path.lexists(directory / name):
                raise FileExistsError(errno.EEXIST, "exists", str(directory / name))

    def _roomiest(self, size: int | None) -> Path:
        """Return the directory of highest priority that has room, the emptiest of several."""
        free = free_bytes(self._priorities)
        needed = 1 if size is None else size
        fitting = [directory for directory, room in free.items() if room >= needed]
        if not fitting and self._config.thin:  # holes may make the object smaller than its size
            fitting = [max(free, key=free.__getitem__)]
        if not fitting:
            raise StoreFull(f"{self._store_name} has no room for the data")
        return max(fitting, key=lambda directory: (self._priorities[directory], free[directory]))

    # -- reading ----------------------------------------------------------------------------------

    def open(self, opened: OpenObject) -> None:
        with self._errors.reading():
            opened.open()

    def read(self, opened: OpenObject, start: int, length: int) -> bytes:
        with self._errors.reading():
            return opened.piece(start, length)

    def size(self, path: Path) -> int:
        with self._errors.reading():
            return status_of(path).st_size

    # -- removing ---------------------------------------------------------------------------------

    def delete(self, path: Path) -> None:
        with self._errors.reading():
            status_of(path)
            path.unlink()

    def discard(self, name: str) -> None:
        with self._errors.writing():
            for directory in self._priorities:
                for path in (*partial_files(directory, name), directory / name):
                    path.unlink(missing_ok=True)

    # -- checking ---------------------------------------------------------------------------------

    def check(self) -> None:
        try:
            with self._errors.writing():
                for directory in self._priorities:
                    make_directory(directory, self._config.mode)
                    self._try_writing(directory)
        except (DataExists, StoreFull) as error:
            raise StoreUnavailable(error.message) from error

    def probe(self, thoroughly: bool) -> None:
        with self._errors.writing():
            for directory in self._priorities:
                check_writable(directory)
                if thoroughly:
                    self._try_writing(directory)
            check_room(self._priorities)

    def _try_writing(self, directory: Path) -> None:
        partial = PartialFile(f".check.{token_hex(8)}", self._config)
        try:
            partial.create(directory)
            partial.write(b"check")
            partial.publish()
        finally:
            partial.remove()
