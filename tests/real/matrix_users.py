"""The callers of the matrix: accounts in Keystone, created for it and removed afterwards."""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import attrs

from tests.real.client import Client, Reply

PROJECTS = ("ops", "ours", "theirs", "pending", "accepted", "rejected", "services")
CALLERS: Mapping[str, tuple[str, str]] = {
    "admin": ("admin", "ops"),
    "member": ("member", "ours"),
    "reader": ("reader", "ours"),
    "without a role": ("plain", "ours"),
    "service's user": ("member", "ours"),
    "other member": ("member", "theirs"),
    "other reader": ("reader", "theirs"),
    "pending": ("member", "pending"),
    "accepted": ("member", "accepted"),
    "accepted reader": ("reader", "accepted"),
    "rejected": ("member", "rejected"),
    "service": ("service", "services"),
    "system admin": ("admin", "system"),
    "system reader": ("reader", "system"),
    "domain admin": ("admin", "domain"),
    "unscoped": ("member", ""),
}
"""The role, and the project or another scope. A role's user has it in every scope."""
STRANGERS = ("nobody", "garbage", "nobody, open", "garbage, open")
"""Without a token, or with one that is none; "open" where `anonymous_read` is on."""
EVERYBODY = (*CALLERS, *STRANGERS)
ROLES = ("admin", "member", "reader", "service")
"""Every Keystone has them."""
DEFAULT = {"id": "default"}


@attrs.frozen
class EnrolledUsers:
    projects: Mapping[str, str]
    """Their ids."""
    headers: Mapping[str, Mapping[str, str]] = attrs.field(repr=False)
    """The headers of each caller."""
    secrets: tuple[str, ...] = attrs.field(repr=False)
    """Passwords and tokens."""


@attrs.frozen
class Identity:
    """A Keystone, to which an administrator speaks."""

    url: str
    """Up to /v3."""
    token: str = attrs.field(repr=False)

    def call(self, method: str, path: str, document: Any = None) -> Any:
        reply = _ask(self.url, method, path, document, self.token)
        assert reply.status < 300, (method, path, reply)
        return reply.json() if reply.body else None


def log_in(url: str, account: Mapping[str, str]) -> Identity:
    """Speak to it with the account of a clouds.yaml: `username`, `password`, `project_name`."""
    project = {"project": {"name": account["project_name"], "domain": DEFAULT}}
    return Identity(url, _token(url, account["username"], account["password"], project))


@contextmanager
def enrolled(keystone: Identity) -> Iterator[EnrolledUsers]:
    """Make projects, users and a role of our own; remove them when the block ends."""
    run, password = f"matrix-{secrets.token_hex(3)}", secrets.token_urlsafe(24)
    with ExitStack() as made:

        def make(kind: str, name: str, **fields: Any) -> str:
            document = {kind: {"name": f"{run}-{name}", **fields}}
            found: str = keystone.call("POST", f"/{kind}s", document)[kind]["id"]
            made.callback(keystone.call, "DELETE", f"/{kind}s/{found}")
            return found

        projects = {name: make("project", name, domain_id="default") for name in PROJECTS}
        known = {one["name"]: one["id"] for one in keystone.call("GET", "/roles")["roles"]}
        roles = {name: known[name] for name in ROLES} | {"plain": make("role", "plain")}
        for name, role in roles.items():
            user = make("user", name, domain_id="default", password=password)
            for scope in (*(f"/projects/{one}" for one in projects.values()), "/domains/default"):
                keystone.call("PUT", f"{scope}/users/{user}/roles/{role}")
            keystone.call("PUT", f"/system/users/{user}/roles/{role}")
        tokens = {
            name: _token(keystone.url, f"{run}-{role}", password, _scope(scope, projects))
            for name, (role, scope) in CALLERS.items()
        }
        headers = {name: {"X-Auth-Token": token} for name, token in tokens.items()}
        headers["service's user"]["X-Service-Token"] = tokens["service"]
        for name in STRANGERS:
            headers[name] = {"X-Auth-Token": f"not a token of {run}"} if "garbage" in name else {}
        yield EnrolledUsers(projects, headers, (password, *tokens.values()))


def _scope(name: str, projects: Mapping[str, str]) -> Any:
    special = {"system": {"system": {"all": True}}, "domain": {"domain": DEFAULT}, "": "unscoped"}
    return special[name] if name in special else {"project": {"id": projects[name]}}


def _token(url: str, name: str, password: str, scope: Any) -> str:
    user = {"name": name, "domain": DEFAULT, "password": password}
    identity = {"methods": ["password"], "password": {"user": user}}
    document = {"auth": {"identity": identity, "scope": scope}}
    reply = _ask(url, "POST", "/auth/tokens?nocatalog", document, "")
    assert reply.status == 201, reply
    return reply.headers["x-subject-token"]


def _ask(url: str, method: str, path: str, document: Any, token: str) -> Reply:
    address = urlsplit(url)
    fields = {"X-Auth-Token": token} if token else {}
    body = None
    if document is not None:
        body, fields["Content-Type"] = json.dumps(document).encode(), "application/json"
    client = Client(address.hostname or "", address.port or 80)
    return client.request(method, f"{address.path}{path}", body, fields)
