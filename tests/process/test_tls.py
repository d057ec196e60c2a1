"""TLS as clients meet it."""

import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import attrs
import pytest

from tests.process.certificates import write_certificate
from tests.real.client import Client, receive
from tests.real.service import Service, missing, running, wait_until
from tests.real.streams import upload_head


@attrs.frozen
class Secure:
    service: Service
    client: Client
    certificate: Path


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    write_certificate(certificate, key)
    options = {"server": {"tls": {"certificate": str(certificate), "key": str(key)}}}
    with running(directory, options) as service:
        context = ssl.create_default_context(cafile=certificate)
        yield Secure(service, attrs.evolve(service.client, tls=context), certificate)


def test_links_say_https(secure: Secure) -> None:
    [link] = secure.client.get("/").json()["versions"][0]["links"]
    assert link["href"] == f"https://127.0.0.1:{secure.service.port}/v2/"


def test_data_both_ways(secure: Secure) -> None:
    data = os.urandom(5_000_001)
    for body in (data, iter([data[:100], data[100:]])):
        image_id = secure.client.create()
        assert secure.client.upload(image_id, body).status == 204
        assert secure.client.show(image_id)["checksum"] == hashlib.md5(data).hexdigest()
        assert secure.client.download(image_id).body == data
        assert secure.client.download(image_id, Range="bytes=-7").body == data[-7:]


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda one: one.name
)
def test_versions(secure: Secure, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=secure.certificate)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with closing(attrs.evolve(secure.client, tls=context).connect()) as connection:
        assert isinstance(connection, ssl.SSLSocket)
        assert connection.version() == version.name.replace("_", ".")
        assert connection.selected_alpn_protocol() == "http/1.1"
        connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert receive(connection).body == b"OK"


def test_openssl_refuses_old_versions_with_us(secure: Secure) -> None:
    program = shutil.which("openssl")
    if program is None:
        missing("there is no openssl command")
    place = ["-connect", f"127.0.0.1:{secure.service.port}", "-cipher", "ALL:@SECLEVEL=0"]
    for version, code in (("-tls1_1", 1), ("-tls1_2", 0)):
        done = subprocess.run(
            [program, "s_client", version, *place],
            input=b"",
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == code, done.stderr


def test_refused_upload_is_answered(secure: Secure) -> None:
    image_id = secure.client.create(disk_format="qcow2")
    with secure.client.connect() as connection:
        connection.sendall(upload_head(image_id, f"Content-Length: {1 << 30}"))
        with suppress(OSError):
            for _ in range(40):
                connection.sendall(b"words" * 10_000)
        assert receive(connection).status == 415
    assert secure.client.show(image_id)["status"] == "queued"


def test_client_that_vanishes(secure: Secure) -> None:
    image_id = secure.client.create()
    with secure.client.connect() as connection:
        connection.sendall(upload_head(image_id, "Content-Length: 1000000") + bytes(500_000))
    wait_until(lambda: secure.client.show(image_id)["status"] == "queued")
    wait_until(lambda: not any(image_id in name for name in secure.service.files()))


def test_plain_text_is_turned_away(secure: Secure) -> None:
    with socket.create_connection(("127.0.0.1", secure.service.port), 60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with suppress(ConnectionResetError):
            assert not connection.recv(4096).startswith(b"HTTP/")


def test_openstack_command(secure: Secure) -> None:
    environment = {
        **os.environ,
        "OS_AUTH_TYPE": "none",
        "OS_ENDPOINT": secure.client.url,
        "OS_CACERT": str(secure.certificate),
    }
    command = [str(Path(sys.executable).with_name("openstack")), "image", "list"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
