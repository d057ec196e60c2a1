"""A real Glance for tests, beside which an imgservice can be started with the same of everything.

    def test_something(identity: Keystone, postgresql: Server, tmp_path: Path) -> None:
        with glance.started(tmp_path / "glance", postgresql.create("name"), identity) as there:
            here = there.beside(tmp_path / "imgservice")  # a Service, not started yet

It has two stores of type file, `local` (the default) and `second`, and tables that it has made
itself. One Glance is a process of about 200 MB that is made and started in five seconds. It finds
Keystone in Keystone's own catalog, so it needs the Keystone `identity`.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from tests import keystone as keystones
from tests.keystone import PASSWORD, Keystone
from tests.real.client import Client
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE, Service, free_port, missing
from tests.real.warm import CACHE, WarmProcess
from tests.summary import count_start

ENVIRONMENT = CACHE / "glance-venv"
START_TIME = 120.0
DRIVERS = {"postgresql": "postgresql+psycopg2", "mysql": "mysql+pymysql"}
OUR_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
CONFIGURATION = """
[DEFAULT]
log_file = {directory}/log
use_stderr = false
enabled_backends = local:file, second:file{more}
worker_self_reference_url = {url}
node_staging_uri = file://{directory}/staging/
[oslo_concurrency]
lock_path = {directory}/locks
[database]
connection = {database}
[glance_store]
default_backend = local
[local]
filesystem_store_datadir = {directory}/local
[second]
filesystem_store_datadir = {directory}/second
[os_glance_staging_store]
filesystem_store_datadir = {directory}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {directory}/tasks
[paste_deploy]
flavor = keystone
config_file = {paste}
[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
username = imgservice
password = {password}
service_token_roles_required = true
"""


def _lines(options: Mapping[str, Any]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in options.items() if name != "type")


def _driven(database: str, drivers: Mapping[str, str]) -> str:
    url = sa.make_url(database)
    return url.set(drivername=drivers[url.drivername]).render_as_string(hide_password=False)


class Glance:
    """One Glance with its own directory and port; not started when made."""

    def __init__(
        self,
        directory: Path,
        database: str,
        keystone: Keystone,
        more: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`database` is the URL of an empty one, as `Server.create` returns it.

        `more` are further stores, each with its options and its `type`.
        """
        if not (ENVIRONMENT / "installed").exists():
            missing("there is no Glance; tests/install-openstack installs it")
        self.directory = directory
        self.database = _driven(database, OUR_DRIVERS)
        """SQLAlchemy's URL of it, with a driver that the tests have."""
        self.config = directory / "glance-api.conf"
        self.client = Client("127.0.0.1", free_port())
        self.stores = [directory / "local", directory / "second"]
        self._process: WarmProcess | None = None
        for name in ("local", "second", "staging", "tasks", "locks"):
            (directory / name).mkdir(parents=True)
        values = {
            "directory": directory,
            "url": self.client.url,
            "database": _driven(database, DRIVERS),
            "paste": ENVIRONMENT / "etc/glance/glance-api-paste.ini",
            "keystone": keystone.url,
            "password": PASSWORD,
        }
        values["more"] = "".join(f", {name}:{one['type']}" for name, one in (more or {}).items())
        sections = [f"[{name}]\n{_lines(options)}" for name, options in (more or {}).items()]
        self.config.write_text(CONFIGURATION.format(**values) + "".join(sections))
        self.manage("db_sync")

    def manage(self, *arguments: str) -> None:
        """Run `glance-manage`."""
        done = run_command("glance-manage", "--config-file", self.config, *arguments)
        assert done.returncode == 0, done.stderr

    # -- the process ------------------------------------------------------------------------------

    def start(self) -> "Glance":
        """Start it, or start it again, and wait until it answers."""
        count_start("Glance")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
            "OS_GLANCE_CONFIG_DIR": str(self.directory),
            "PORT": str(self.client.port),
        }
        nothing = Path(os.devnull)
        with nothing.open() as none, (self.directory / "output").open("ab") as output:
            files = [none.fileno(), output.fileno(), output.fileno()]
            self._process = WarmProcess(["glance-api"], self.directory, environment, files)
        deadline = time.monotonic() + START_TIME
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "output").read_text()[-2000:]
            assert time.monotonic() < deadline, "Glance does not answer"
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.client.get("/versions").status == 200
        return False

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(START_TIME)

    # -- what stands beside it --------------------------------------------------------------------

    def beside(self, directory: Path) -> Service:
        """Return a service with what `imgservice convert-config` made of this Glance's files."""
        directory.mkdir()
        done = run_command(IMGSERVICE, "convert-config", self.config)
        assert done.returncode == 0, done.stderr
        options: dict[str, Any] = yaml.safe_load(done.stdout)
        assert options.pop("logging") == {"file": str(self.directory / "log")}
        return Service(directory, options)


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """A Keystone that is in its own catalog; the one of other tests has an empty catalog."""
    with keystones.started(tmp_path_factory.mktemp("identity")) as started:
        started.offer("identity", started.url)
        yield started


@contextmanager
def started(directory: Path, database: str, keystone: Keystone, **options: Any) -> Iterator[Glance]:
    """Run a Glance while the block runs; options as for `Glance`."""
    made = Glance(directory, database, keystone, **options)
    try:
        yield made.start()
    finally:
        made.stop()
