"""Database servers that the tests start for themselves, each at most once in a session."""

import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa

from imgservice.db.schema.tables import glance_metadata, own_metadata
from imgservice.db.schema.upgrade import upgrade
from tests.real.service import free_port, missing, wait_until
from tests.summary import count_start

START_TIME = 120.0
_EMPTIED = [
    *own_metadata.sorted_tables,
    *(table for table in reversed(glance_metadata.sorted_tables) if table.name.startswith("image")),
]
"""Every other table costs a round trip for each test, and none writes to it."""
Command = Sequence[str | Path]
FORGETFUL = ("-c fsync=off", "-c full_page_writes=off")
"""PostgreSQL as the tests have it: quick, and no loss when it dies with the machine."""
SLOPPY = (
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=nosync",
    "--debug-no-sync",
    "--innodb-buffer-pool-size=64M",
)
"""The same for MariaDB."""


@attrs.frozen
class Server:
    """A running server; `url` is that of a database, whose name goes where {} is."""

    url: str
    admin_url: str
    pid: int
    restart: Callable[[], None]
    start: Callable[[], None]
    stop: Callable[[], None]

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have it stopped while the block runs."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def create(self, name: str) -> str:
        """Create an empty database, and return its URL."""
        engine = sa.create_engine(self.admin_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return self.url.format(name)


def _as_user(user: str) -> list[str]:
    """Return what runs a command as the user, where we are root: servers refuse to be."""
    return ["runuser", "-u", user, "--"] if os.geteuid() == 0 else []


@contextmanager
def _home(user: str) -> Iterator[Path]:
    """Give a folder that belongs to the user."""
    folder = Path(tempfile.mkdtemp(prefix="imgservice-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, user)
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def program(name: str, *folders: Path) -> Path:
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed")
    return Path(found)


def _run(command: Command) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def postgresql_server(options: Sequence[str] = FORGETFUL) -> Iterator[Server]:
    count_start("PostgreSQL")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    initdb, pg_ctl = program("initdb", *folders), program("pg_ctl", *folders)
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    _known_user(user)
    with _home(user) as home:
        port, data = free_port(), home / "data"
        as_user = _as_user(user)
        made: Command = [initdb, "-D", data, "-U", "tests", "-A", "trust", "--no-sync"]
        _run([*as_user, *made, "-E", "UTF8", "--locale=C"])
        settings = (
            f"-c listen_addresses=127.0.0.1 -p {port} -k {home} -c max_connections=200"
            f" {' '.join(options)}"
        )

        def start() -> None:
            _run([*as_user, pg_ctl, "-D", data, "-w", "-l", home / "log", "-o", settings, "start"])

        def stop() -> None:
            _run([*as_user, pg_ctl, "-D", data, "-w", "-m", "immediate", "stop"])

        def restart() -> None:
            stop()
            start()

        start()
        try:
            pid = int((data / "postmaster.pid").read_text().split()[0])
            url = f"postgresql://tests@127.0.0.1:{port}/{{}}"
            admin = f"postgresql+psycopg://tests@127.0.0.1:{port}/postgres"
            yield Server(url, admin, pid, restart, start, stop)
        finally:
            stop()


@contextmanager
def mariadb_server(options: Sequence[str] = SLOPPY) -> Iterator[Server]:
    count_start("MariaDB")
    install, mariadbd = program("mariadb-install-db"), program("mariadbd", Path("/usr/sbin"))
    user = "mysql" if os.geteuid() == 0 else getpass.getuser()
    _known_user(user)
    with _home(user) as home:
        port, data, socket = free_port(), home / "data", home / "socket"
        _run([install, "--no-defaults", f"--user={user}", f"--datadir={data}",
              "--auth-root-authentication-method=normal", "--skip-test-db"])  # fmt: skip
        command: Command = [
            mariadbd, "--no-defaults", f"--user={user}", f"--datadir={data}", f"--socket={socket}",
            f"--port={port}", "--bind-address=127.0.0.1", "--skip-log-bin",
            f"--pid-file={home / 'pid'}", *options,
        ]  # fmt: skip
        running: list[subprocess.Popen[bytes]] = []
        admin = f"mysql+pymysql://root@127.0.0.1:{port}/mysql"

        def start() -> None:
            with (home / "log").open("ab") as log:
                running.append(subprocess.Popen(command, stdout=log, stderr=log))
            wait_until(lambda: _answers(admin), START_TIME)

        def stop() -> None:
            running[-1].kill()
            running[-1].wait()

        def restart() -> None:
            stop()
            start()

        start()
        try:
            url = f"mysql://root@127.0.0.1:{port}/{{}}?charset=utf8mb4"
            yield Server(url, admin, running[-1].pid, restart, start, stop)
        finally:
            stop()


def _known_user(user: str) -> None:
    try:
        pwd.getpwnam(user)
    except KeyError:
        missing(f"there is no user {user}")


def _answers(url: str) -> bool:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.connect():
            return True
    except sa.exc.DBAPIError:
        time.sleep(0.05)
        return False


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    with mariadb_server() as server:
        yield server


@contextmanager
def emptied(url: str, engine: Any) -> Iterator[str]:
    """Give the URL of a database with all tables, in which nothing is left afterwards."""
    yield url
    with engine.begin() as connection:
        for table in _EMPTIED:
            connection.execute(sa.delete(table))


@pytest.fixture(scope="session")
def postgresql_database(postgresql: Server) -> Iterator[tuple[str, Any]]:
    yield from _with_tables(postgresql, "postgresql+psycopg")


@pytest.fixture(scope="session")
def mariadb_database(mariadb: Server) -> Iterator[tuple[str, Any]]:
    yield from _with_tables(mariadb, "mysql+pymysql")


def _with_tables(server: Server, driver: str) -> Iterator[tuple[str, Any]]:
    url = server.create("contract")
    upgrade(url)
    # Other tests restart the server.
    engine = sa.create_engine(sa.make_url(url).set(drivername=driver), pool_pre_ping=True)
    yield url, engine
    engine.dispose()


@pytest.fixture
def postgresql_url(postgresql_database: tuple[str, Any]) -> Iterator[str]:
    with emptied(*postgresql_database) as url:
        yield url


@pytest.fixture
def mariadb_url(mariadb_database: tuple[str, Any]) -> Iterator[str]:
    with emptied(*mariadb_database) as url:
        yield url
