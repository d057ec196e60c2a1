"""Checks passwords against the bcrypt hashes of an htpasswd file.

bcrypt is slow on purpose: it runs in a few threads of its own, and a right password is remembered
for a while.
"""

import hmac
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import bcrypt

from imgservice.auth.cache import Cache
from imgservice.concurrency.file_watch import Unreadable, read_text
from imgservice.concurrency.single_flight import SingleFlight
from imgservice.concurrency.threads import Threads
from imgservice.domain.errors import TooManyRequests, Unavailable

REMEMBERED_FOR = 60.0
"""Seconds for which a right password is not hashed again."""
MOST_WAITING = 128
"""Passwords that may wait for a thread; further ones are refused."""
MOST_WAITING_OF_ONE = 32
"""... from one address, so that clients who guess passwords do not keep others out."""
LONGEST_USER = 255
LONGEST_PASSWORD = 72
"""Bytes; bcrypt, and so htpasswd, ignores what comes after them."""

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_COSTS = range(4, 16)
_OTHERS = {
    "$apr1$": "an MD5 hash",
    "$1$": "an MD5 hash",
    "{SHA}": "a SHA-1 hash",
    "$5$": "a SHA-256 crypt hash",
    "$6$": "a SHA-512 crypt hash",
    "$2": "a bcrypt hash that is damaged or of an old kind",
}


@attrs.frozen
class Htpasswd:
    """The contents of an htpasswd file."""

    hashes: Mapping[str, bytes]
    """By user."""
    unknown_user: bytes
    """A hash that no password has, as expensive as the most expensive one of a user."""


def read_htpasswd(path: Path) -> Htpasswd:
    """Read the file; `Unreadable` names a line that is not a user with a bcrypt hash."""
    hashes: dict[str, bytes] = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            try:
                _add(hashes, *text.partition(":"))
            except ValueError as error:
                raise Unreadable(f"{path}:{number}: {error}") from None
    most_expensive = max((hashed[4:6] for hashed in hashes.values()), default=b"10")
    return Htpasswd(hashes, b"$2b$%s$%s" % (most_expensive, b"." * 53))


def _add(hashes: dict[str, bytes], user: str, colon: str, hashed: str) -> None:
    if not colon or not user or not user.isprintable() or len(user) > LONGEST_USER:
        raise ValueError("expected USER:HASH")
    _check_hash(user, hashed)
    if user in hashes:
        raise ValueError(f"{user!r} is there twice")
    hashes[user] = hashed.encode("ascii")


def _check_hash(user: str, hashed: str) -> None:
    matched = _BCRYPT.fullmatch(hashed)
    if matched is None:
        kind = next((what for start, what in _OTHERS.items() if hashed.startswith(start)), None)
        raise ValueError(
            f"the hash of {user!r} is {kind or 'no bcrypt hash'};"
            " make one with: htpasswd -B FILE USER"
        )
    if int(matched[1]) not in _COSTS:
        raise ValueError(f"the bcrypt cost of {user!r} is not from {_COSTS[0]} to {_COSTS[-1]}")


class Passwords:
    """Checks passwords.

    Checking takes as long for an unknown user as for a known one. The same password sent by many
    requests at once is hashed once.
    """

    def __init__(
        self,
        htpasswd: Callable[[], Htpasswd],
        threads: Threads,
        clock: Callable[[], float] = time.monotonic,
        most_remembered: int = 10_000,
    ) -> None:
        self._htpasswd = htpasswd
        self._threads = threads
        self._key = os.urandom(32)
        self._right: Cache[bool] = Cache(most_remembered, clock)
        self._checks: SingleFlight[bytes, bool] = SingleFlight()
        self._waiting: Counter[str] = Counter()

    async def are_right(self, user: str, password: bytes, address: str) -> bool:
        """Check a password; `Unavailable` or `TooManyRequests` if too many wait already."""
        htpasswd = self._htpasswd()
        hashed = htpasswd.hashes.get(user, htpasswd.unknown_user)
        # The hash is part of the key, so that a changed file counts at once.
        proof = self._proof(user, password, hashed)
        if self._right.get(proof):
            return True
        right = await self._checked(proof, password, hashed, address)
        if not right or user not in htpasswd.hashes:
            return False
        self._right.put(proof, True, REMEMBERED_FOR)
        return True

    def _proof(self, user: str, password: bytes, hashed: bytes) -> bytes:
        text = b"\0".join((user.encode("utf-8", "surrogatepass"), hashed, password))
        return hmac.digest(self._key, text, "sha256")

    async def _checked(self, proof: bytes, password: bytes, hashed: bytes, address: str) -> bool:
        """Hash in a thread, or wait for the one that hashes the same."""
        if proof not in self._checks:
            self._make_room(address)
        return await self._checks.share(proof, lambda: self._hash(password, hashed, address))

    def _make_room(self, address: str) -> None:
        if self._waiting[address] >= MOST_WAITING_OF_ONE:
            raise TooManyRequests("Too many passwords from one address wait to be checked.", 1)
        if len(self._checks) >= MOST_WAITING:
            raise Unavailable("Too many passwords wait to be checked.")

    async def _hash(self, password: bytes, hashed: bytes, address: str) -> bool:
        self._waiting[address] += 1
        try:
            return await self._threads.run(_is_right, password, hashed)
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]


def _is_right(password: bytes, hashed: bytes) -> bool:
    return bcrypt.checkpw(password[:LONGEST_PASSWORD], hashed)
