"""The options of a store of files."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import attrs

from imgservice.domain.options import option, section
from imgservice.store.registry import StoreConfig

PIECE = 256 * 1024
"""Bytes that are read at a time."""


@attrs.frozen(kw_only=True)
class FileConfig(StoreConfig):
    """The options of a store of type `file`."""

    path: str | None = option(
        None, "Directory of the image data. It is created if it does not exist."
    )
    paths: Mapping[str, int] = section(
        dict, "Several directories with their priorities, in place of path."
    )
    file_mode: str | None = option(
        None, 'Permissions of the files, as in "0640". null: what the umask leaves.'
    )
    thin: bool = option(False, "Leave holes in files instead of writing blocks of zeros.")
    fsync: bool = option(
        False, "Complete uploads only when their data would survive a power failure."
    )

    def __attrs_post_init__(self) -> None:
        if (self.path is None) == (not self.paths):
            raise ValueError("give either path or paths")
        if self.file_mode is not None and not re.fullmatch(r"0?[0-7]{3}", self.file_mode):
            raise ValueError('file_mode must be octal and in quotes, as in "0640"')

    @property
    def priorities(self) -> dict[Path, int]:
        """Return all directories, as absolute paths, with their priorities."""
        paths = {self.path: 0} if self.path is not None else self.paths
        return {Path(os.path.abspath(path)): value for path, value in paths.items()}  # noqa: PTH100 # "a/../b" becomes "b"; symbolic links are kept

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
