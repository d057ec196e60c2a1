"""A real Keystone for tests: `keystone` is the session's, `Keystone` makes further ones.

    def test_something(keystone: Keystone, tmp_path: Path) -> None:
        with running(tmp_path, {"auth": keystone.auth()}) as service:
            client = keystone.client(service, "demo", "demo")       # sends demo's token
            client = keystone.client(service, "admin", system=True) # of the whole system

Accounts (USER/PROJECT, role; every password is `PASSWORD`): admin/admin (admin), demo/demo and
alt/alt (member), reader/demo (reader), imgservice/service (service, admin), service-only/service
(service), admin of the whole system (admin). `keystone.users`, `.projects` and `.roles` map names
to ids. Names of domains are `Default`, the id is `default`.

One Keystone is a process of about 140 MB that starts in three seconds. All of them begin as copies
of the same database and keys: so a token of one is valid in the others.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from tests.real.client import Client, Reply
from tests.real.service import Service, free_port, missing, wait_until
from tests.real.warm import CACHE, WarmProcess
from tests.summary import count_start

BIN = CACHE / "keystone-venv" / "bin"
INSTALLED = CACHE / "keystone-venv" / "installed"
PASSWORD = "made-up-password"
START_TIME = 120.0
DEFAULT = {"id": "default"}
ACCOUNTS = (
    ("admin", "admin", "admin"),
    ("demo", "demo", "member"),
    ("alt", "alt", "member"),
    ("reader", "demo", "reader"),
    ("imgservice", "service", "service"),
    ("imgservice", "service", "admin"),
    ("service-only", "service", "service"),
)


class Keystone:
    """One Keystone with its own directory and port; not started when made."""

    def __init__(self, directory: Path, **token_options: Any) -> None:
        """`token_options` go into the section [token], such as expiration=5."""
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v3"
        self._token_options = token_options
        self._process: WarmProcess | None = None
        template = _template()
        shutil.copytree(template, directory, dirs_exist_ok=True)
        known = json.loads((directory / "known.json").read_text())
        self.users: Mapping[str, str] = known["users"]
        self.projects: Mapping[str, str] = known["projects"]
        self.roles: Mapping[str, str] = known["roles"]
        self._issued: dict[Any, str] = {}

    # -- the process ------------------------------------------------------------------------------

    def start(self) -> "Keystone":
        """Start it, or start it again, and wait until it answers."""
        count_start("Keystone")
        _configure(self.directory, self._token_options)
        self._issued.clear()
        self._process = _serve(self.directory, self.port)
        self._wait()
        return self

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIME
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "Keystone does not answer"
            time.sleep(0.05)
        # Keystone reads its policies at the first question, and refuses those that come meanwhile.
        wait_until(self._knows_its_policies)

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.request("GET", "").status == 200
        return False

    def _knows_its_policies(self) -> bool:
        token = self.token("admin", "admin")
        path = "/auth/tokens?nocatalog"
        return self.request("GET", path, token=token, X_Subject_Token=token).status == 200

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP makes it silent, SIGCONT lets it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once; nobody listens at its port then, until it is started again."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    # -- its API ----------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, document: Any = None, token: str = "", **headers: str
    ) -> Reply:
        """Ask it something; `path` is what comes after /v3."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            fields["X-Auth-Token"] = token
        body = None
        if document is not None:
            body, fields["Content-Type"] = json.dumps(document).encode(), "application/json"
        return Client("127.0.0.1", self.port).request(method, f"/v3{path}", body, fields)

    def call(
        self, method: str, path: str, document: Any = None, token: str = "", **headers: str
    ) -> Any:
        """Ask it something as its administrator unless `token` is there; return the document."""
        reply = self.request(method, path, document, token or self.admin(), **headers)
        assert reply.status < 300, reply
        return reply.json() if reply.body else None

    def admin(self) -> str:
        """Return a token of the administrator that may be used often."""
        if "admin" not in self._issued:
            self._issued["admin"] = self.token("admin", "admin")
        return self._issued["admin"]

    def token(
        self,
        user: str = "demo",
        project: str | None = None,
        *,
        system: bool = False,
        domain: str | None = None,
    ) -> str:
        """Issue a new token: of the project, or else of the system, the domain, or nothing."""
        scope: Any = "unscoped"
        if project:
            scope = {"project": {"name": project, "domain": DEFAULT}}
        elif system:
            scope = {"system": {"all": True}}
        elif domain:
            scope = {"domain": {"id": domain}}
        account = {"name": user, "domain": DEFAULT, "password": PASSWORD}
        return self._issue({"methods": ["password"], "password": {"user": account}}, scope)

    def token_of(self, credential: "Credential") -> str:
        """Issue a token for an application credential."""
        return self._issue(
            {
                "methods": ["application_credential"],
                "application_credential": {"id": credential.id, "secret": credential.secret},
            }
        )

    def _issue(self, identity: Any, scope: Any = None) -> str:
        document = {"identity": identity, **({"scope": scope} if scope else {})}
        reply = self.request("POST", "/auth/tokens?nocatalog", {"auth": document})
        assert reply.status == 201, reply
        return reply.headers["x-subject-token"]

    def revoke(self, token: str) -> None:
        self.call("DELETE", "/auth/tokens", X_Subject_Token=token)

    def application_credential(
        self, user: str = "demo", project: str = "demo", **more: Any
    ) -> "Credential":
        """Make one; `more` may be access_rules, expires_at (2026-01-31T00:00:00), roles."""
        path = f"/users/{self.users[user]}/application_credentials"
        wanted = {"name": f"credential {time.time_ns()}", **more}
        document = {"application_credential": wanted}
        made = self.call("POST", path, document, self.token(user, project))
        return Credential(
            made["application_credential"]["id"], made["application_credential"]["secret"]
        )

    def offer(self, kind: str, url: str) -> None:
        """Put a service of that kind into the catalog."""
        made = self.call("POST", "/services", {"service": {"type": kind, "name": kind}})
        for interface in ("public", "internal", "admin"):
            endpoint = {"service_id": made["service"]["id"], "interface": interface, "url": url}
            self.call("POST", "/endpoints", {"endpoint": endpoint})

    # -- what others need to speak to it ----------------------------------------------------------

    def auth(self, **options: Any) -> dict[str, Any]:
        """Return the section `auth` for a service that asks this Keystone."""
        account = {"username": "imgservice", "password": PASSWORD, "project": "service"}
        return {"mode": "keystone", "keystone": {"url": self.url, **account, **options}}

    def client(
        self,
        service: Service,
        user: str = "demo",
        project: str | None = None,
        *,
        system: bool = False,
    ) -> Client:
        """Return a client of the service that sends a token of its own."""
        token = self.token(user, project or (None if system else user), system=system)
        return attrs.evolve(service.client, headers={"X-Auth-Token": token})

    def clouds(self, file: Path, image_url: str) -> Path:
        """Write a clouds.yaml: admin, demo, alt, reader, system, application."""
        credential = self.application_credential()
        accounts = [account for account in ACCOUNTS if account[1] != "service"]
        clouds = {
            user: {"username": user, "password": PASSWORD, "project_name": project, **DOMAINS}
            for user, project, _ in accounts
        }
        clouds["system"] = {
            "username": "admin",
            "password": PASSWORD,
            "system_scope": "all",
            "user_domain_name": "Default",
        }
        clouds["application"] = {
            "application_credential_id": credential.id,
            "application_credential_secret": credential.secret,
        }
        document = {
            name: {
                "auth": {"auth_url": self.url, **auth},
                "image_endpoint_override": image_url,
                "identity_api_version": 3,
                **({"auth_type": "v3applicationcredential"} if name == "application" else {}),
            }
            for name, auth in clouds.items()
        }
        file.write_text(yaml.safe_dump({"clouds": document}))
        return file


DOMAINS = {"user_domain_name": "Default", "project_domain_name": "Default"}


@attrs.frozen
class Credential:
    """An application credential."""

    id: str
    secret: str


@contextmanager
def started(directory: Path, **token_options: Any) -> Iterator[Keystone]:
    """Run a Keystone of one's own while the block runs."""
    made = Keystone(directory, **token_options)
    try:
        yield made.start()
    finally:
        made.kill()


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """The Keystone that tests share; who stops it or changes accounts takes `started` instead."""
    with started(tmp_path_factory.mktemp("keystone")) as shared:
        yield shared


# -- how one is made ------------------------------------------------------------------------------


def is_installed() -> bool:
    return INSTALLED.exists()


def _template() -> Path:
    """Return a folder with a database, keys and accounts; makes it if need be, which takes 15 s."""
    if not is_installed():
        missing("there is no Keystone; tests/install-openstack installs it")
    made_of = INSTALLED.read_bytes() + repr((ACCOUNTS, PASSWORD, _sections(Path()))).encode()
    version = hashlib.sha256(made_of).hexdigest()[:12]
    folder = CACHE / f"keystone-template-{version}"
    with (CACHE / "keystone-template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in CACHE.glob("keystone-template-*"):
                shutil.rmtree(old)
            _make_template(folder)
    return folder


def _make_template(folder: Path) -> None:
    work = CACHE / "keystone-template-unfinished"
    work.mkdir()
    _configure(work, {})
    _manage(work, "db_sync")
    owner = ["--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid())]
    _manage(work, "fernet_setup", *owner)
    _manage(work, "credential_setup", *owner)
    _manage(work, "bootstrap", "--bootstrap-password", PASSWORD)
    port = free_port()
    process = _serve(work, port)
    try:
        _seed(work, port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    work.rename(folder)


def _configure(folder: Path, token_options: Mapping[str, Any]) -> None:
    sections = {**_sections(folder), "token": {"provider": "fernet", **token_options}}
    text = "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items())
        for name, options in sections.items()
    )
    (folder / "keystone.conf").write_text(text)


def _sections(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    return {
        "DEFAULT": {"use_stderr": False, "log_file": folder / "log"},
        "database": {"connection": f"sqlite:///{folder / 'keystone.db'}"},
        "fernet_tokens": {"key_repository": folder / "fernet-keys"},
        "credential": {"key_repository": folder / "credential-keys"},
        "unified_limit": {"enforcement_model": "flat"},
        "identity": {"password_hash_rounds": 4},
        # Without it one validation costs half a second of CPU.
        "cache": {"enabled": "true", "backend": "dogpile.cache.memory"},
    }


def _manage(folder: Path, *arguments: str) -> None:
    command = [str(BIN / "keystone-manage"), "--config-file", f"{folder}/keystone.conf"]
    command += arguments
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def _serve(folder: Path, port: int) -> WarmProcess:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
        "OS_KEYSTONE_CONFIG_DIR": str(folder),
        "OS_KEYSTONE_CONFIG_FILES": "keystone.conf",
        "PORT": str(port),
    }
    with Path(os.devnull).open() as nothing, (folder / "output").open("ab") as output:
        files = [nothing.fileno(), output.fileno(), output.fileno()]
        return WarmProcess(["keystone"], folder, environment, files)


def _seed(folder: Path, port: int, process: WarmProcess) -> None:
    """Make the accounts, and write down their ids."""
    seeding = object.__new__(Keystone)
    seeding.directory, seeding.port = folder, port
    seeding._process, seeding._issued = process, {}
    seeding._wait()
    roles = _ids(seeding, "/roles", "roles")
    projects = _ids(seeding, "/projects", "projects")
    for name in sorted({project for _, project, _ in ACCOUNTS} - projects.keys()):
        document = {"project": {"name": name, "domain_id": "default"}}
        projects[name] = seeding.call("POST", "/projects", document)["project"]["id"]
    users = _ids(seeding, "/users", "users")
    for name in sorted({user for user, _, _ in ACCOUNTS} - users.keys()):
        user = {"name": name, "domain_id": "default", "password": PASSWORD}
        users[name] = seeding.call("POST", "/users", {"user": user})["user"]["id"]
    for user_name, project, role in ACCOUNTS:
        path = f"/projects/{projects[project]}/users/{users[user_name]}/roles/{roles[role]}"
        seeding.call("PUT", path)
    known = {"users": users, "projects": projects, "roles": roles}
    (folder / "known.json").write_text(json.dumps(known))


def _ids(keystone: Keystone, path: str, plural: str) -> dict[str, str]:
    found: Sequence[Any] = keystone.call("GET", path)[plural]
    return {one["name"]: one["id"] for one in found}
