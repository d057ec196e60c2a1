"""The two servers that are asked: how to reach them, and how to say who is asking."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import attrs
import yaml

from compare.variants import merged, our_options

TIMEOUT = 60.0
START_TIME = 120.0
ACCOUNTS = {
    "admin": "admin",
    "demo": "demo",
    "alt": "alt",
    "reader": "demo",
    "service": "service",
}
"""Users, and the project of each."""


@attrs.frozen
class Reply:
    """An answer as it came; the status is 0 when the connection broke instead."""

    status: int
    headers: Mapping[str, str]
    """With names in lower case."""
    body: bytes


@attrs.frozen
class Identity:
    user: str
    project: str
    roles: tuple[str, ...]


class Server(Protocol):
    """A server, and what to send to it so that it knows who is asking."""

    @property
    def url(self) -> str: ...

    @property
    def projects(self) -> Mapping[str, str]:
        """The id of the project of every account."""

    @property
    def database(self) -> str | None:
        """The SQLAlchemy URL of its database, if we may look there."""

    @property
    def origin(self) -> str:
        """The URL of a web server from which it can take data."""

    def credentials(self, role: str) -> Mapping[str, str]: ...


@attrs.frozen
class Peer:
    """A Glance that asks Keystone about tokens."""

    url: str
    database: str | None
    identities: Mapping[str, Identity]
    tokens: Mapping[str, str] = attrs.field(repr=False)
    origin: str

    @property
    def projects(self) -> Mapping[str, str]:
        return {role: one.project for role, one in self.identities.items()}

    def credentials(self, role: str) -> Mapping[str, str]:
        if role == "nobody":
            return {}
        if role == "delegate":
            return {"X-Auth-Token": self.tokens["demo"], "X-Service-Token": self.tokens["service"]}
        return {"X-Auth-Token": self.tokens.get(role, "not-a-token")}


@attrs.frozen
class Ours:
    """An imgservice that believes this host about who is asking."""

    url: str
    database: str | None
    identities: Mapping[str, Identity]
    origin: str

    @property
    def projects(self) -> Mapping[str, str]:
        return {role: one.project for role, one in self.identities.items()}

    def credentials(self, role: str) -> Mapping[str, str]:
        if role == "nobody":
            return {}
        if role == "delegate":
            return {**self.credentials("demo"), **self._delegated("service")}
        if role not in self.identities:
            return {"X-Identity-Status": "Invalid"}
        identity = self.identities[role]
        return {
            "X-Identity-Status": "Confirmed",
            "X-User-Id": identity.user,
            "X-Project-Id": identity.project,
            "X-Roles": ",".join(identity.roles),
        }

    def _delegated(self, role: str) -> Mapping[str, str]:
        roles = ",".join(self.identities[role].roles)
        return {"X-Service-Identity-Status": "Confirmed", "X-Service-Roles": roles}


INVENTED = {
    role: Identity(f"{number}{role}user", f"{ACCOUNTS[role]}0123456789abcdef", roles)
    for number, (role, roles) in enumerate(
        {
            "admin": ("admin", "manager", "member", "reader"),
            "demo": ("member", "reader"),
            "alt": ("member", "reader"),
            "reader": ("reader",),
            "service": ("service",),
        }.items()
    )
}
"""Accounts for when there is no Keystone to ask."""


# -- accounts at the peer -------------------------------------------------------------------------


def log_in(
    url: str, accounts: Mapping[str, Mapping[str, str]], database: str | None, origin: str
) -> Peer:
    """Get a token for every account."""
    answers = {role: _token(account) for role, account in accounts.items()}
    return Peer(
        url=url.rstrip("/"),
        database=database,
        identities={role: identity for role, (identity, _) in answers.items()},
        tokens={role: token for role, (_, token) in answers.items()},
        origin=origin,
    )


def accounts_of(clouds: Path) -> dict[str, dict[str, str]]:
    """Read the accounts from a clouds.yaml in which they have their names."""
    document = yaml.safe_load(clouds.read_text(encoding="utf-8"))
    return {role: document["clouds"][role]["auth"] for role in ACCOUNTS}


def accounts_at(auth_url: str, password: str) -> dict[str, dict[str, str]]:
    """Describe the accounts with one password for all."""
    return {
        user: {
            "auth_url": auth_url,
            "username": user,
            "password": password,
            "project_name": project,
        }
        for user, project in ACCOUNTS.items()
    }


def _token(account: Mapping[str, str]) -> tuple[Identity, str]:
    user = {
        "name": account["username"],
        "password": account["password"],
        "domain": {"id": account.get("user_domain_id", "default")},
    }
    project = {
        "name": account["project_name"],
        "domain": {"id": account.get("project_domain_id", "default")},
    }
    asked = {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": project},
        }
    }
    url = account["auth_url"].rstrip("/").removesuffix("/v3") + "/v3/auth/tokens"
    request = Request(url, json.dumps(asked).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=TIMEOUT) as response:
        told = json.load(response)["token"]
        roles = tuple(sorted(role["name"] for role in told["roles"]))
        identity = Identity(told["user"]["id"], told["project"]["id"], roles)
        return identity, response.headers["X-Subject-Token"]


# -- ours -----------------------------------------------------------------------------------------


Running = Callable[[Path, Mapping[str, Any]], AbstractContextManager[str]]
"""Runs an imgservice in a directory, with these options and some port, and gives its URL."""


@contextmanager
def twistd(directory: Path, options: Mapping[str, Any]) -> Iterator[str]:
    port = _free_port()
    config = directory / "imgservice.yaml"
    server = {"server": {"listen": [f"tcp:{port}:interface=127.0.0.1"]}}
    config.write_text(yaml.safe_dump(merged(options, server)), encoding="utf-8")
    program = str(Path(sys.executable).with_name("twistd"))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "--nodaemon", "--pidfile=", "imgservice", "--config", str(config)],
            cwd=directory,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
    try:
        _wait_for(port, process, directory / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT)


@contextmanager
def started(
    directory: Path,
    identities: Mapping[str, Identity],
    origin: str,
    variant: str | None = None,
    running: Running = twistd,
) -> Iterator[Ours]:
    """Run an imgservice with an empty database and two stores while the block runs."""
    options = merged(_config(directory), our_options(variant, directory, origin))
    with running(directory, options) as url:
        yield Ours(url, f"sqlite:///{directory}/imgservice.db", identities, origin)


def _config(directory: Path) -> dict[str, Any]:
    return {
        "auth": {"mode": "trusted_headers", "trusted_headers": {"from": ["127.0.0.1"]}},
        "database": {"url": f"sqlite:///{directory}/imgservice.db"},
        "stores": {
            name: {"type": "file", "path": str(directory / name)} for name in ("local", "second")
        },
        "default_store": "local",
        # Glance limits no rates, and thousands of requests come in a minute.
        "limits": {"rate": {"exempt_roles": ["admin", "member", "reader", "service"]}},
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIME
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"imgservice did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


# -- a request ------------------------------------------------------------------------------------


def ask(
    url: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None, chunked: bool
) -> Reply:
    """Send one request on a connection of its own."""
    host = urlsplit(url).netloc
    with closing(http.client.HTTPConnection(host, timeout=TIMEOUT)) as connection:
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # answered before all was sent
                _send(connection, method, path, headers, body, chunked)
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, fields, response.read())
        except (ConnectionError, http.client.HTTPException):
            return Reply(0, {}, b"")


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None,
    chunked: bool,
) -> None:
    """Write the request without checks: a wrong path must arrive as it is."""
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value.encode("utf-8"))
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
    elif body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    if chunked:
        connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body or b""), body or b""))
    elif body:
        connection.send(body)
