"""Mistakes of an operator: the service says in one line what is wrong, and does not start."""

import os
import socket
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from imgservice import __version__
from imgservice.tap import Options, makeService
from tests.process.certificates import write_certificate
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE, TWISTD, Service, free_port, running, wait_until

GOOD = """\
server: {{listen: ["tcp:{port}:interface=127.0.0.1"]}}
database: {{url: "sqlite:///imgservice.db"}}
stores: {{local: {{type: file, path: images}}}}
"""
"""Three lines: what a test adds begins at the fourth."""


class Attempt:
    """A start of the service in a directory, with this configuration."""

    def __init__(
        self, directory: Path, text: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.port = free_port()
        (directory / "c.yaml").write_text(text.replace("PORT", str(self.port)))
        self._environment = {**os.environ, **(environment or {})}

    def says(self, *arguments: str) -> str:
        """Start, see that it failed as it should, and return the one line of the message."""
        command = (TWISTD, "--nodaemon", "--pidfile=", "imgservice", "-c", "c.yaml")
        done = self.run(*command, *arguments)
        assert done.returncode == 1, done
        assert "Traceback" not in done.stdout + done.stderr
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", self.port)) != 0
        return self.line(done.stderr)

    def line(self, said: str) -> str:
        [line] = said.splitlines()
        assert line.startswith("imgservice: ")
        return line.removeprefix("imgservice: ")

    def checked(self) -> tuple[int, str, str]:
        done = self.run(IMGSERVICE, "check", "-c", "c.yaml")
        return done.returncode, done.stdout, done.stderr

    def run(self, *command: str | Path) -> CompletedProcess[str]:
        return run_command(*command, cwd=self.directory, env=self._environment)


def good(more: str = "") -> str:
    return GOOD.format(port="PORT") + more


Told = Callable[[str], str]


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Told:
    """Let what twistd calls make the service of a configuration, in this process, which saves the
    time that an interpreter needs; return the one line in which it refuses."""
    monkeypatch.chdir(tmp_path)

    def told(text: str) -> str:
        attempt, options = Attempt(tmp_path, text), Options()
        options.parseOptions(["-c", "c.yaml"])
        with pytest.raises(SystemExit) as ended:
            makeService(options)
        assert ended.value.code == 1
        return attempt.line(capfd.readouterr().err)

    return told


def test_data_must_be_found_where_locations_name_no_store(told: Told, tmp_path: Path) -> None:
    text = good("default_store: m\nsingle_store: true")
    text = text.replace("{local: {type: file, path: images}}", "{m: {type: memory}}")
    message = "single_store: not possible with 'm': the type memory does not know its URLs"
    assert told(text) == f"c.yaml:5: {message}"
    code, _, complaint = Attempt(tmp_path, text).checked()
    assert (code, complaint) == (1, f"imgservice: c.yaml:5: {message}\n")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("servr: {}", "c.yaml:4: servr: unknown key; did you mean server?"),
        ("api:\n  page_maximum: 5", "c.yaml:5: api.page_maximum: unknown key; did you mean"),
        ("api:\n  page_max: lots", "c.yaml:5: api.page_max: expected a whole number, got 'lots'"),
        ("api: {page_default: -1}", "c.yaml:4: api.page_default: must be at least 1"),
        ("transfer: {threads: 0}", "c.yaml:4: transfer.threads: must be at least 1"),
        ("transfer: {window: much}", "c.yaml:4: transfer.window: expected a size such as 10GiB"),
        ("limits: {image_size: -1}", "c.yaml:4: limits.image_size: expected a size"),
        ("hash: {algorithm: crc32}", "c.yaml:4: hash.algorithm: expected one of sha512"),
        ("formats: {disk: qcow2}", "c.yaml:4: formats.disk: expected a list"),
        ("auth: {mode: keystone9}", "c.yaml:4: auth.mode: expected one of none"),
        ("auth: [none]", "c.yaml:4: auth: expected a mapping"),
        ("server: {}", "c.yaml:4: not valid YAML: the key 'server' is given twice"),
        ("api: {page_max: 1", "c.yaml:4: not valid YAML: "),
        ("api: \tx: y", "c.yaml:4: not valid YAML: "),
        ("pipeline: [version, turbo]", "c.yaml:4: pipeline[1]: unknown step 'turbo'"),
        (
            "pipeline:\n- version\n- context\n- auth_token",
            "c.yaml:6: pipeline[1]: 'context' needs 'auth_token' before it",
        ),
        (
            "pipeline: [auth_token, context]",
            "c.yaml:4: pipeline[0]: the step 'version' cannot be left out",
        ),
        (
            "default_store: other",
            "c.yaml:4: default_store: there is no store 'other' (stores: local)",
        ),
        (
            "auth: {mode: trusted_headers, trusted_headers: {from: [everybody]}}",
            "c.yaml:4: auth.trusted_headers.from[0]: expected an IP address or a network",
        ),
        ("api: {max_version: three}", "c.yaml:4: api.max_version: expected a version such as"),
        ("logging: {file: missing/log}", "c.yaml:4: logging.file: missing/log: No such file"),
        (
            "healthcheck: {disable_by_file: 7}",
            "c.yaml:4: healthcheck.disable_by_file: expected a string",
        ),
    ],
)
def test_wrong_options(told: Told, more: str, message: str) -> None:
    assert told(good(more)).startswith(message)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("servr: {}", "c.yaml:4: servr: unknown key; did you mean server?"),
        ("logging: {file: missing/log}", "c.yaml:4: logging.file: missing/log: No such file"),
    ],
)
def test_twistd_ends_with_the_same_line(tmp_path: Path, more: str, message: str) -> None:
    assert Attempt(tmp_path, good(more)).says().startswith(message)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, good("api: {page_max: x}\nhash: {algorithm: y}\nfoo: z"))
    code, _, complaint = attempt.checked()
    assert code == 1
    assert [line.split(": ")[2] for line in complaint.splitlines()] == [
        "api.page_max",
        "hash.algorithm",
        "foo",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stores: {}", "c.yaml:1: stores: expected a mapping of store names"),
        ("stores: {local: {path: x}}", "c.yaml:1: stores.local: a store needs a type"),
        ("stores: {local: {type: tape}}", "c.yaml:1: stores.local: there is no store type 'tape'"),
        ("stores: {local: {type: file}}", "c.yaml:1: stores.local: give either path or paths"),
        ("stores: {os_glance_x: {type: memory}}", "c.yaml:1: stores"),
        ("- a list", "c.yaml:1: the file: expected a mapping"),
        ("database: {url: {file: secret}}", "c.yaml:1: database.url: secret: cannot be read"),
        ("database: {url: {env: NOT_SET}}", "c.yaml:1: database.url: the environment variable"),
    ],
)
def test_wrong_places(told: Told, text: str, message: str) -> None:
    assert told(text).startswith(message)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "c.yaml:1: database.url: The database URL"),
        ("sqlite:///c.yaml/x.db", "c.yaml:1: database.url: c.yaml is not a directory"),
        ("mysql://u:p@h/db?ssl_ca=missing", "c.yaml:1: database.url: ssl_ca of the database URL"),
        ("mysql://u:p@h/db?colour=red", "c.yaml:1: database.url: The database URL has the option"),
    ],
)
def test_databases_that_cannot_be_there(tmp_path: Path, url: str, message: str) -> None:
    listen = "server: {listen: ['tcp:PORT:interface=127.0.0.1']}"
    text = f"{{database: {{url: '{url}'}}, {listen}}}"
    assert Attempt(tmp_path, text).says().startswith(message)


def test_missing_configuration(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "")
    (tmp_path / "c.yaml").unlink()
    assert attempt.says() == "c.yaml: cannot be read: No such file or directory"


def test_configuration_that_is_not_text(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "")
    (tmp_path / "c.yaml").write_bytes(b"api: \xff\xfe")
    assert attempt.says() == "c.yaml: cannot be read: not UTF-8 text"


def test_unknown_argument(tmp_path: Path) -> None:
    done = run_command(TWISTD, "--nodaemon", "imgservice", "--port", "80", cwd=tmp_path)
    assert done.returncode == 1
    assert "option --port not recognized" in done.stdout + done.stderr


@pytest.mark.parametrize("endpoint", ["tcp:PORT", "tcp:PORT:interface=0.0.0.0", "tcp6:PORT"])
def test_no_authentication_only_on_loopback(told: Told, endpoint: str) -> None:
    said = told(good().replace("tcp:PORT:interface=127.0.0.1", endpoint))
    assert said.startswith("c.yaml:1: server.listen[0]: ")
    assert "can be reached from other machines" in said


def test_endpoint_that_is_none(told: Told) -> None:
    said = told(good().replace("tcp:PORT", "carrier-pigeon:PORT"))
    assert "is not an endpoint: unknown kind 'carrier-pigeon'" in said


def test_address_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        said = Attempt(tmp_path, good().replace("tcp:PORT:interface=127.0.0.1", place)).says()
    why = f"cannot listen on {place}: Address already in use"
    assert said == f"c.yaml:1: server.listen[0]: {why}"


def test_tls_files(tmp_path: Path, told: Told) -> None:
    write_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    write_certificate(tmp_path / "other.pem", tmp_path / "other-key.pem")
    (tmp_path / "empty").touch()
    for certificate, key, complaint in (
        ("cert.pem", "other-key.pem", "other-key.pem: the key does not fit"),
        ("missing", "key.pem", "missing: the certificate cannot be read: No such file"),
        ("cert.pem", "missing", "missing: the key cannot be read: No such file"),
        ("empty", "key.pem", "empty: there is no certificate in it"),
        ("cert.pem", "empty", "empty: there is no private key in it"),
        ("cert.pem", ".", ".: the key cannot be read: Is a directory"),
    ):
        tls = f"tls: {{certificate: {certificate}, key: {key}}}, listen"
        said = told(good().replace("listen", tls, 1))
        assert said.startswith(f"c.yaml:1: server.tls: {complaint}")


@pytest.mark.parametrize("path", ["file", "file/images"])
def test_store_that_cannot_be_written(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    said = Attempt(tmp_path, good().replace("path: images", f"path: {path}")).says()
    assert said.startswith("c.yaml:3: stores.local: ")
    assert "Not a directory: '" in said


def test_the_directory_of_the_database_is_made(tmp_path: Path) -> None:
    options = {"database": {"url": f"sqlite:///{tmp_path}/new/folder/images.db"}}
    service = Service(tmp_path, options)
    try:
        service.start()
        assert service.client.get("/v2/images").status == 200
    finally:
        service.end()


def test_databases_of_others(tmp_path: Path) -> None:
    path = tmp_path / "imgservice.db"
    path.write_bytes(b"no database at all " * 100)
    assert "is not a database" in Attempt(tmp_path, good()).says()
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE images (id VARCHAR(36))")
        assert "it is not Glance's" in Attempt(tmp_path, good()).says()
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        connection.execute("INSERT INTO alembic_version VALUES ('rocky_contract02')")
        connection.commit()
        before = connection.execute("SELECT sql FROM sqlite_master").fetchall()
        said = Attempt(tmp_path, good()).says()
        assert said.startswith("c.yaml:2: database.url: ")
        assert "rocky_contract02" in said
        assert connection.execute("SELECT sql FROM sqlite_master").fetchall() == before


# -- imgservice check -----------------------------------------------------------------------------


def test_check_prints_what_holds_and_hides_secrets(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://glance:pa55word@db.example/glance\n")
    attempt = Attempt(tmp_path, "database: {url: {file: url}, threads: 3}")
    code, options, complaint = attempt.checked()
    assert code == 1  # no such database can be used yet, or reached from here
    assert complaint.startswith("imgservice: c.yaml:1: database.url: ")
    assert "url: postgresql://glance:***@db.example/glance" in options
    assert "threads: 3" in options
    assert "pa55word" not in options + complaint


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("servr: {}", "c.yaml:4: servr: unknown key"),
        ("pipeline: [version]", "c.yaml:4: pipeline[0]: the step 'context' cannot be left out"),
        ("default_store: other", "c.yaml:4: default_store: there is no store"),
    ],
)
def test_check_finds_the_same(tmp_path: Path, more: str, message: str) -> None:
    code, _, complaint = Attempt(tmp_path, good(more)).checked()
    assert code == 1
    assert complaint.startswith(f"imgservice: {message}")


def test_check_is_content_with_a_good_file(tmp_path: Path) -> None:
    code, options, said = Attempt(tmp_path, good("limits: {image_size: 2GiB}")).checked()
    assert (code, said) == (
        0,
        "imgservice: the configuration, the database and all stores are usable\n",
    )
    assert "image_size: 2147483648" in options


def test_check_leaves_a_running_service_alone(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        assert run_command(IMGSERVICE, "check", "-c", service.config).returncode == 0
        assert service.client.get("/v2/images").status == 200


def test_start_says_how_to_try_it(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        # It listens a moment before it says so.
        wait_until(lambda: service.said.read_text().count("\n") == 2)
        line, hint = service.said.read_text().splitlines()
        assert line == (
            f"imgservice {__version__} listens on tcp:{service.port}:interface=127.0.0.1;"
            f" database sqlite:///{service.database}; stores local (file, default); auth none;"
            " one process"
        )
        assert f"OS_AUTH_TYPE=none OS_ENDPOINT={service.client.url}" in hint


def test_sample_configuration_starts(tmp_path: Path) -> None:
    sample = run_command(IMGSERVICE, "sample").stdout
    service = Service(tmp_path)
    (tmp_path / "var").mkdir()
    service.config.write_text(sample.replace("tcp:9292:", f"tcp:{service.port}:"))
    try:
        service.start()
        assert service.client.get("/v2/images").status == 200
    finally:
        service.end()
