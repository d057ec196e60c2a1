"""Users files: the project and the roles of each user, as the operator has written them.

They are YAML, with one entry for each user:

    alice: {project: apollo, roles: [member]}
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from imgservice.concurrency.file_watch import Unreadable, read_text
from imgservice.domain.context import Context
from imgservice.domain.roles import with_implied
from imgservice.yaml_text import Loader, compose, line_of

# Every scalar is a string to this loader: a user may be called 007, or yes.
_Loader: Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_KEYS = ("user", "project", "roles")


class UsersFileError(Exception):
    """A mistake in a users file, in that line, counted from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read_users(path: Path, name: Callable[[str], str] = str) -> Mapping[str, Context]:
    """Read a users file; `name` checks and normalizes the key of an entry, or raises `ValueError`.

    `Unreadable` names the file and the line of a mistake.
    """
    text = read_text(path)
    try:
        return dict(_users(_composed(text), name))
    except UsersFileError as mistake:
        raise Unreadable(f"{path}:{mistake.line}: {mistake}") from None


def context_of(user: str, project: str, roles: Sequence[str]) -> Context:
    """Make the context of an authenticated user; `ValueError` for a name that cannot be used."""
    for what, value in (("user", user), ("project", project), *(("role", role) for role in roles)):
        _check_name(what, value)
    return Context(user, project, with_implied(roles))


def _check_name(what: str, value: str) -> None:
    if not value.strip() or not value.isprintable() or len(value) > 255:
        raise ValueError(f"the {what} {value!r} is empty, too long or not printable")
    if what == "role" and "," in value:
        raise ValueError(f"{value!r} is not one role; write [member, reader]")


def _composed(text: str) -> yaml.Node | None:
    try:
        return compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise UsersFileError(line_of(error), f"not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UsersFileError(1, f"not valid YAML: {error}") from None


def _users(root: yaml.Node | None, name: Callable[[str], str]) -> Iterator[tuple[str, Context]]:
    seen: set[str] = set()
    for line, key, node in _pairs(root) if root is not None else ():
        try:
            yield _new_name(key, name, seen), _context(key, node)
        except ValueError as error:
            raise UsersFileError(line, str(error)) from None


def _new_name(key: str, name: Callable[[str], str], seen: set[str]) -> str:
    user = name(key)
    _check_name("name", user)
    if user in seen:
        raise ValueError(f"{key!r} is there twice")
    seen.add(user)
    return user


def _context(key: str, node: yaml.Node) -> Context:
    texts: dict[str, str] = {}
    roles: list[str] | None = None
    for line, field, value in _pairs(node):
        if field not in _KEYS:
            raise UsersFileError(line, f"unknown key {field!r} (known: {', '.join(_KEYS)})")
        if field in texts or (field == "roles" and roles is not None):
            raise UsersFileError(line, f"the key {field!r} is there twice")
        if field == "roles":
            roles = _strings(value)
        else:
            texts[field] = _string(value)
    if "project" not in texts:
        raise ValueError(f"{key!r} has no project")
    if roles is None:
        raise ValueError(f"{key!r} has no roles")
    return context_of(texts.get("user", key), texts["project"], roles)


def _pairs(node: yaml.Node | None) -> Iterator[tuple[int, str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise UsersFileError(_line(node), "expected keys and values")
    for key, value in node.value:
        yield _line(key), _string(key), value


def _string(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise UsersFileError(_line(node), "expected a string")
    return str(node.value)


def _strings(node: yaml.Node) -> list[str]:
    if not isinstance(node, yaml.SequenceNode):
        raise UsersFileError(_line(node), "expected a list")
    return [_string(one) for one in node.value]


def _line(node: yaml.Node | None) -> int:
    return node.start_mark.line + 1 if node is not None else 1
