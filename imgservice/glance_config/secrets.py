"""Passwords and keys, which may go to files of their own."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from imgservice.glance_config.ini import Assignment

_NAMES = re.compile(
    r"password|passwd|secret|hmac_keys|encryption_key|(_store_key|_access_key|_token)$"
)
_IN_URL = re.compile(r"://[^/\s@]*:[^/\s@]*@")


class SecretsError(Exception):
    """A secret could not be put into its file."""


class Secrets:
    """Knows what is a secret; with a directory, puts each into a file there."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = None if directory is None else directory.absolute()
        self._files: dict[Path, str] = {}
        self.places: list[Assignment] = []

    def is_one(self, one: Assignment) -> bool:
        return bool(one.text and (_NAMES.search(one.key[1]) or _IN_URL.search(one.text)))

    def take(self, one: Assignment, text: str) -> str | Mapping[str, str]:
        """Return the value for our file: the secret, or the name of its file."""
        self.places.append(one)
        if self._directory is None:
            return text
        path = self._directory / self._name(one)
        self._files[path] = text
        return {"file": str(path)}

    def _name(self, one: Assignment) -> str:
        """Return a name that no other secret has."""
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join(one.key)).lstrip(".")[:200]
        names, number = {path.name for path in self._files}, 1
        while name in names:
            number += 1
            name = f"{name.removesuffix(f'-{number - 1}')}-{number}"
        return name

    def save(self) -> None:
        """Write the files; `SecretsError` if one exists with other content, which is kept."""
        try:
            for path, text in self._files.items():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._save(path, text)
        except OSError as error:
            raise SecretsError(f"{error.filename}: cannot be written: {error.strerror}") from None

    def _save(self, path: Path, text: str) -> None:
        wanted = f"{text}\n".encode()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            if path.is_symlink() or path.read_bytes() != wanted:
                raise SecretsError(
                    f"{path}: is there already, with other content; move it away, or choose"
                    " another directory"
                ) from None
            path.chmod(0o600)
        else:
            with os.fdopen(descriptor, "wb") as file:
                file.write(wanted)
