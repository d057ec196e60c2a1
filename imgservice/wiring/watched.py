"""Files of the operator that are read again when they change."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from imgservice.concurrency.file_watch import Unreadable, Watched
from imgservice.config.errors import OptionError

T = TypeVar("T")


def watched_file(option: Sequence[str | int], file: str, read: Callable[[Path], T]) -> Watched[T]:
    """Watch the file that an option names; `OptionError` if it cannot be read now."""
    path = Path(file)
    try:
        return Watched(lambda: [path], lambda: read(path))
    except Unreadable as error:
        raise OptionError(option, str(error)) from None
