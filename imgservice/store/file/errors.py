"""Errors of the operating system as errors of the store."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from imgservice.store.interface import (
    DataExists,
    DataNotFound,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from imgservice.store.names import NO_OBJECT

_Meanings = Mapping[int, tuple[type[StoreError], str]]
_READING: _Meanings = {
    errno.ENOENT: (DataNotFound, NO_OBJECT),
    errno.ELOOP: (DataNotFound, NO_OBJECT),  # a symbolic link
}
_WRITING: _Meanings = {
    errno.EEXIST: (DataExists, "already has an object for this image"),
    errno.ENOSPC: (StoreFull, "has no room for the data"),
    errno.EDQUOT: (StoreFull, "has no room for the data within its quota"),
    errno.EFBIG: (StoreFull, "cannot hold so large an object"),
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ErrorTranslation:
    """Raises the store's errors in place of `OSError`, and reports those that an operator must fix.

    Only the cause of an error, which is for the log, contains the path.
    """

    def __init__(self, name: str, report: Callable[[str], object]) -> None:
        self._name = name
        self._report = report

    def reading(self) -> AbstractContextManager[None]:
        """Translate what happens while an existing object is used."""
        return self._translating(_READING)

    def writing(self) -> AbstractContextManager[None]:
        """Translate what happens while something is written."""
        return self._translating(_WRITING)

    @contextmanager
    def _translating(self, meanings: _Meanings) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            code = error.errno or errno.EIO
            kind, fact = meanings.get(code, (StoreUnavailable, f"fails: {os.strerror(code)}"))
            if code in _FULL or kind is StoreUnavailable:
                self._report(os.strerror(code))
            raise kind(f"{self._name} {fact}") from error
