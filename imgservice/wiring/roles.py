"""Finds the roles that callers can have by the configuration."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from imgservice.auth.certificates import read_subjects
from imgservice.auth.tokens import read_owners
from imgservice.auth.users_file import read_users
from imgservice.concurrency.file_watch import Unreadable
from imgservice.config.sections import Config
from imgservice.domain.context import Context
from imgservice.domain.roles import STANDARD, KnownRoles, with_implied


def known_roles(config: Config) -> KnownRoles:
    """Return the roles of the known users; a file that cannot be read has none."""
    auth = config.auth
    finders: Mapping[str, Callable[[], Iterable[str]]] = {
        "none": lambda: with_implied(auth.none.roles),
        "basic": lambda: (
            with_implied(auth.basic.roles)
            if auth.basic.users is None
            else _roles(auth.basic.users, lambda path: read_users(path).values())
        ),
        "tokens": lambda: _roles(
            auth.tokens.file, lambda path: (context for context, _ in read_owners(path).values())
        ),
        "client_certificate": lambda: _roles(
            auth.client_certificate.file, lambda path: read_subjects(path).values()
        ),
    }
    find = finders.get(auth.mode)
    if find is None:  # users are known elsewhere
        return KnownRoles(STANDARD.union(_lower(auth.keystone.service_token_roles)))
    return KnownRoles(STANDARD.union(find()), are_all=True)


def _roles(file: str | None, read: Callable[[Path], Iterable[Context]]) -> Iterator[str]:
    try:
        for context in read(Path(file)) if file is not None else ():
            yield from context.roles
    except Unreadable:
        return  # reported where the file is needed


def _lower(names: Iterable[str]) -> Iterator[str]:
    return (name.lower() for name in names)
