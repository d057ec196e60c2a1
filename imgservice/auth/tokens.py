"""Static tokens: a file of one JSON object a line, with the SHA-256 of each token.

A token has 256 random bits, so it cannot be guessed, and a slow hash would protect nothing.
"""

import fcntl
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import attrs
import orjson

from imgservice.auth.users_file import context_of
from imgservice.concurrency.file_watch import Unreadable, read_text
from imgservice.domain.context import Context

PREFIX = "imgsvc-"
"""Begins every token, so that a leaked one is recognized."""
HEAD = "# Tokens of imgservice, as hashes; `imgservice token` adds, lists and revokes them.\n"
_DIGITS = frozenset("0123456789abcdef")


@attrs.frozen
class Token:
    """An entry of the file."""

    id: str
    sha256: str
    user: str
    project: str
    roles: tuple[str, ...]
    created: str
    expires: str | None = None
    """As in 2031-01-31T12:00:00+00:00; None: never."""
    description: str = ""

    def expires_at(self) -> float:
        """Return when it expires, in seconds since 1970."""
        if self.expires is None:
            return float("inf")
        moment = datetime.fromisoformat(self.expires)
        if moment.tzinfo is None:
            raise ValueError(f"{self.expires!r} has no time zone; append Z for UTC")
        return moment.timestamp()

    def has_expired(self, now: float | None = None) -> bool:
        return (time.time() if now is None else now) >= self.expires_at()

    def context(self) -> Context:
        return context_of(self.user, self.project, self.roles)


class Tokens:
    """Finds the users of tokens."""

    def __init__(
        self,
        known: Callable[[], Mapping[bytes, tuple[Context, float]]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._known = known
        self._clock = clock

    def owner(self, token: bytes) -> Context | None:
        """Return the context of a token that is known and has not expired.

        The lookup is by digest, whose bytes callers cannot choose: its timing reveals nothing about
        the tokens that exist.
        """
        context, expires = self._known().get(hashlib.sha256(token).digest(), (None, 0.0))
        return context if self._clock() < expires else None


def read_owners(path: Path) -> Mapping[bytes, tuple[Context, float]]:
    """Return context and expiry of every token by its digest; `Unreadable` names a bad line."""
    return {
        bytes.fromhex(token.sha256): (token.context(), token.expires_at())
        for token in read_tokens(path)
    }


def read_tokens(path: Path) -> Sequence[Token]:
    """Return all tokens in the order of the file."""
    return [token for _, token in _tokens(path, read_text(path))]


def _tokens(path: Path, text: str) -> Iterator[tuple[int, Token]]:
    seen: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            try:
                token = _new(_token(_facts(line)), seen)
            except ValueError as error:
                raise Unreadable(f"{path}:{number}: {error}") from None
            yield number, token


def _new(token: Token, seen: set[str]) -> Token:
    if {token.id, token.sha256} & seen:
        raise ValueError(f"the token {token.id!r} is there twice")
    seen |= {token.id, token.sha256}
    return token


def _facts(line: str) -> dict[str, object]:
    try:
        facts = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ValueError("not valid JSON") from None
    if not isinstance(facts, dict):
        raise ValueError("expected a JSON object")
    return facts


def _token(facts: dict[str, object]) -> Token:
    known = {field.name: field.default for field in attrs.fields(Token)}
    for name in facts:
        if name not in known:
            raise ValueError(f"unknown key {name!r} (known: {', '.join(known)})")
    for name, default in known.items():
        if name not in facts and default is attrs.NOTHING:
            raise ValueError(f"there is no {name}")
    roles = _strings(facts.pop("roles"))
    texts = {name: value for name, value in facts.items() if (name, value) != ("expires", None)}
    token = Token(roles=roles, **dict(zip(texts, _strings([*texts.values()]), strict=True)))
    if len(token.sha256) != 64 or not set(token.sha256) <= _DIGITS:
        raise ValueError("sha256 is not 64 lower-case hexadecimal digits")
    return _checked(token)


def _strings(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    raise ValueError("expected strings, and a list of strings for the roles")


def _checked(token: Token) -> Token:
    if not token.description.isprintable():
        raise ValueError("the description is not printable")
    token.context(), token.expires_at()  # each raises ValueError for what cannot be
    return token


# -- changing the file ----------------------------------------------------------------------------


def create(
    path: Path,
    user: str,
    project: str,
    roles: Sequence[str],
    lifetime: float | None = None,
    description: str = "",
) -> tuple[Token, str]:
    """Add a token to the file, which is created if needed; return the entry and the token."""
    text = PREFIX + secrets.token_urlsafe(32)
    now = datetime.now(UTC).timestamp()
    token = Token(
        id=secrets.token_hex(4),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        user=user,
        project=project,
        roles=tuple(roles),
        created=_moment(now),
        expires=None if lifetime is None else _moment(now + lifetime),
        description=description,
    )
    _checked(token)
    with _changing(path, is_new=not path.exists()) as lines:
        lines += [HEAD] if not lines else []
        lines.append(orjson.dumps(attrs.asdict(token)).decode() + "\n")
    return token, text


def revoke(path: Path, token_id: str) -> bool:
    """Remove a token from the file; return whether it was there."""
    with _changing(path) as lines:
        numbers = {
            number for number, token in _tokens(path, "".join(lines)) if token.id == token_id
        }
        lines[:] = [line for number, line in enumerate(lines, 1) if number not in numbers]
    return bool(numbers)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat()


@contextmanager
def _changing(path: Path, is_new: bool = False) -> Iterator[list[str]]:
    """Yield the lines of the file, then write them back atomically, under a lock."""
    target = path.resolve()
    try:
        with _locked(target.parent):
            text = "" if is_new and not target.exists() else read_text(target)
            list(_tokens(path, text))  # a broken file is left alone
            lines = [f"{line}\n" for line in text.removesuffix("\n").split("\n") if text]
            yield lines
            _replace(target, "".join(lines))
    except OSError as error:
        raise Unreadable(f"{path}: cannot be written: {error.strerror}") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(target: Path, text: str) -> None:
    """Replace the file; owner and mode stay, and a new file is for its owner alone."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if target.exists():
                before = target.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, before.st_mode & 0o777)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise
