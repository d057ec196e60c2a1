"""Checks whether files can be written, without writing any."""

import os
import pwd
from pathlib import Path


class NotWritable(Exception):
    """A file cannot be written or created; the message names the obstacle."""


def check_file(path: Path) -> None:
    """Raise `NotWritable` unless the file can be written, or created with its directories.

    It is not opened: SQLite loses its locks when its file is closed in the same process.
    """
    try:
        if path.is_dir():
            raise NotWritable(f"{path} is a directory")
        if not path.exists():
            check_folder(path.parent)
        elif not _allows(path, os.W_OK):
            raise NotWritable(f"{path} cannot be written by {_who()}")
    except OSError as error:
        raise NotWritable(f"{path}: {error.strerror}") from None


def check_folder(folder: Path) -> None:
    """Raise `NotWritable` unless files can be created in the folder, which may be created, too."""
    present = folder
    try:
        while not present.exists() and present != present.parent:
            present = present.parent
    except OSError as error:
        raise NotWritable(f"{present}: {error.strerror}") from None
    if not present.is_dir():
        raise NotWritable(f"{present} is not a directory")
    if not _allows(present, os.W_OK | os.X_OK):
        raise NotWritable(f"the directory {present} cannot be written by {_who()}")


def _allows(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def _who() -> str:
    number = os.geteuid()
    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"
