"""Checks whether the service can write its files and sockets, without writing any."""

import os
import pwd
from collections.abc import Callable, Sequence
from pathlib import Path

from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.db.engine.url import UrlError, sqlite_files
from imgservice.wiring.listen import addresses


class NotWritable(Exception):
    """A file cannot be written or created; the message names the obstacle."""


def check_database_files(config: Config) -> None:
    """Check that this user can write the files of an SQLite database, or create them."""
    try:
        for path in sqlite_files(config.database.url.reveal()):
            _check_file(path)
            _check_folder(path.parent)
    except (NotWritable, UrlError) as error:
        raise OptionError(("database", "url"), str(error)) from None


def check_state_file(config: Config) -> None:
    """Check that this user can write the state file."""
    if config.server.state_file is not None:
        path = Path(config.server.state_file)
        if path.is_dir():
            raise OptionError(("server", "state_file"), f"{path} is a directory")
        _check_writable(
            ("server", "state_file"), path.parent, _check_folder
        )  # the file is replaced, not written to


def check_log_file(config: Config) -> None:
    """Check that this user can write the log file: the one that starts the service."""
    if config.logging.file is not None:
        path = Path(config.logging.file)
        _check_writable(("logging", "file"), path, _check_file)
        if not path.parent.is_dir():  # which is not created
            raise OptionError(("logging", "file"), f"there is no directory {path.parent}")


def check_sockets(config: Config) -> None:
    """Check that this user can create Unix sockets: the one that starts the service."""
    for index, address in enumerate(addresses(config)):
        if address.kind == "unix":
            place = ("server", "listen", index)
            folder = Path(address.host).parent
            if not folder.is_dir():
                raise OptionError(place, f"{address.description!r}: there is no directory {folder}")
            _check_writable(place, folder, _check_folder)


def _check_writable(option: Sequence[str | int], path: Path, check: Callable[[Path], None]) -> None:
    try:
        check(path)
    except NotWritable as error:
        raise OptionError(option, str(error)) from None


def _check_file(path: Path) -> None:
    """Raise `NotWritable` unless the file can be written, or created with its directories.

    It is not opened: SQLite loses its locks when its file is closed in the same process.
    """
    try:
        if path.is_dir():
            raise NotWritable(f"{path} is a directory")
        if not path.exists():
            _check_folder(path.parent)
        elif not _allows(path, os.W_OK):
            raise NotWritable(f"{path} cannot be written by {_who()}")
    except OSError as error:
        raise NotWritable(f"{path}: {error.strerror}") from None


def _check_folder(folder: Path) -> None:
    """Raise `NotWritable` unless files can be created in the folder, or the folder itself can."""
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
