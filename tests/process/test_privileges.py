"""Started by root, run as the user nobody: keys, low ports and secrets that only root may have."""

import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.process.certificates import write_certificate
from tests.process.observed import ObservedService
from tests.real.client import Client
from tests.real.service import TWISTD, wait_until

ROOT = Path(__file__).parents[2]
START = 120.0


def interpreter() -> str:
    """Return a Python of this version that the user nobody may run, with all that is installed."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    known = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
    for one in known:
        if Path(one).exists() and _works_for_nobody(one):
            return one
    pytest.skip(f"the user nobody can run none of {', '.join(known)} with {ROOT}")


def environment() -> dict[str, str]:
    packages = [path for path in sys.path if path.endswith("site-packages")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *packages])}


@cache
def _works_for_nobody(python: str) -> bool:
    command = [python, "-c", "import imgservice.worker"]
    try:
        subprocess.run(
            command, user="nobody", env=environment(), cwd="/", capture_output=True, check=True
        )
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


_reserved: list[socket.socket] = []


def low_port() -> int:
    """Return a free port that only root may have: 443 if it is free.

    A name that only one process can have keeps it from tests that run at the same time.
    """
    port: int
    for port in (443, *range(1023, 900, -1)):
        name = socket.socket(socket.AF_UNIX)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                name.bind(f"\0imgservice-tests-port-{port}")
            except OSError:
                name.close()
                continue
        _reserved.append(name)
        return port
    pytest.skip("all low ports are taken")


@attrs.define
class Owned:
    """A folder whose configuration and key belong to root, and the data to the user nobody."""

    service: ObservedService
    certificate: Path
    key: Path
    options: dict[str, Any]

    def renew(self) -> ssl.SSLContext:
        """Write another certificate, as root; return what trusts it."""
        write_certificate(self.certificate, self.key)
        self.key.chmod(0o600)
        return ssl.create_default_context(cafile=self.certificate)

    def configure(self, server: Mapping[str, Any]) -> None:
        self.options["server"].update(server)
        self.service.reconfigure(self.options)


@pytest.fixture(params=[0, 2], ids=["alone", "workers"])
def owned(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Owned]:
    python = interpreter()
    folder = Path(tempfile.mkdtemp(prefix="imgservice-"))
    folder.chmod(0o755)
    for name in ("var", "images"):
        (folder / name).mkdir()
        shutil.chown(folder / name, "nobody")
    certificate, key, port = folder / "cert.pem", folder / "key.pem", low_port()
    (folder / "secret").write_text(f"sqlite:///{folder}/var/imgservice.db\n")
    (folder / "secret").chmod(0o600)
    options = {
        "server": {
            "workers": request.param,
            "listen": [f"tcp:{port}:interface=127.0.0.1"],
            "tls": {"certificate": str(certificate), "key": str(key)},
        },
        "database": {"url": {"file": str(folder / "secret")}},
        "logging": {"file": str(folder / "log")},
    }
    service = ObservedService(folder, options)
    service.port = port
    service.prefix = (python,)
    found = Owned(service, certificate, key, options)
    found.renew()
    try:
        yield found
    finally:
        service.end()
        shutil.rmtree(folder)


def start(owned: Owned) -> None:
    service = owned.service
    become: list[str | Path] = ["--uid", "nobody"]
    command = [*service.prefix, *service.command, *become, "--config", service.config]
    if not owned.options["server"]["workers"]:
        command = [*service.prefix, TWISTD, "--nodaemon", "--pidfile=", *become]
        command += ["imgservice", "--config", service.config]
    with service.output.open("ab") as output, service.said.open("ab") as said:
        process = subprocess.Popen(
            command, cwd=service.directory, env=environment(), stdout=output, stderr=said
        )
    service._process = process
    wait_until(lambda: service.pids() or process.poll() is not None, START)
    service.until(owned.options["server"]["workers"] or 1)


def uids(pid: int) -> set[int]:
    """Return the real, effective, saved and file system user."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("Uid:")]
    return set(map(int, line.split()[1:]))


def secure(owned: Owned, context: ssl.SSLContext, port: int | None = None) -> Client:
    return Client("127.0.0.1", port or owned.service.port, tls=context)


def _answers(client: Client) -> bool:
    try:
        return client.get("/healthcheck").status == 200
    except OSError:
        return False


def test_nobody_serves_with_what_is_root_s(owned: Owned) -> None:
    context = ssl.create_default_context(cafile=owned.certificate)
    start(owned)
    service, client = owned.service, secure(owned, context)
    nobody = pwd.getpwnam("nobody").pw_uid
    image_id = client.active(b"data")
    assert client.download(image_id).body == b"data"
    assert {*map(frozenset, map(uids, [service.pid, *service.pids()]))} == {frozenset([nobody])}
    for pid in [service.pid, *service.pids()]:
        for name in ("cmdline", "environ"):
            assert b"PRIVATE KEY" not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert (service.directory / "var" / "imgservice.db").stat().st_uid == nobody

    # A new certificate is used without a signal, though the user nobody may not read its key.
    renewed = owned.renew()
    wait_until(lambda: _answers(secure(owned, renewed)), START)
    wait_until(
        lambda: not any(_answers(client) for _ in range(10)), START
    )  # no other worker either

    # So are new secrets and another low port, with a reload.
    other = low_port()
    low = [*owned.options["server"]["listen"], f"tcp:{other}:interface=127.0.0.1"]
    owned.configure({"listen": low})
    service.until(owned.options["server"]["workers"] or 1, 2)
    wait_until(lambda: _answers(secure(owned, renewed, other)), START)

    if owned.options["server"]["workers"]:
        before = service.pids()
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(set(service.pids()) - set(before)) == 1, START)
        assert {*map(frozenset, map(uids, service.pids()))} == {frozenset([nobody])}
        for _ in range(20):
            assert _answers(secure(owned, renewed))
    assert "Traceback" not in service.log.read_text()
    keepers = [pid for pid in service.descendants() if uids(pid) == {0}]
    assert len(keepers) == 1
    service.signal(signal.SIGTERM)
    assert service.wait() == -signal.SIGTERM
    wait_until(lambda: not Path(f"/proc/{keepers[0]}").exists())


@pytest.mark.parametrize("owned", [2], indirect=True)
def test_root_is_only_lent_to_a_configuration_that_is_root_s(owned: Owned) -> None:
    start(owned)
    service = owned.service
    shutil.chown(service.config, "nobody")
    owned.configure({"max_headers": 100})
    complaint = "must belong to root and be writable by nobody else"
    wait_until(lambda: complaint in str(service.state()["trouble"]), START)
    shutil.chown(service.config, "root")
    service.config.chmod(0o666)
    service.signal(signal.SIGHUP)
    time.sleep(1)
    assert service.state()["generation"] == 1
    service.config.chmod(0o644)
    service.signal(signal.SIGHUP)
    service.until(owned.options["server"]["workers"] or 1, 2)


@pytest.mark.parametrize("owned", [0], indirect=True)
def test_a_key_that_does_not_fit_is_told_and_changes_nothing(owned: Owned) -> None:
    context = ssl.create_default_context(cafile=owned.certificate)
    start(owned)
    old = owned.certificate.read_bytes()
    owned.renew()
    owned.certificate.write_bytes(old)
    log = owned.service.log
    wait_until(lambda: f"{owned.key}: the key does not fit" in log.read_text(), START)
    assert _answers(secure(owned, context))
