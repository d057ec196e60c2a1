"""Clients that prove who they are with a certificate: `server.tls.client_ca`."""

import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.process.certificates import write_certificate
from tests.real.accounts import refusal, until_status, write_users
from tests.real.authority import Authority, Held, context
from tests.real.client import Client, receive
from tests.real.openstack import printed
from tests.real.service import Service, running, wait_until

IMAGES = "/v2/images"
ORGANIZATION = (NameOID.ORGANIZATION_NAME, "Example, Inc.")
USERS: dict[str, Any] = {
    "CN=alice,O=Example\\, Inc.": {
        "user": "alice",
        "project": "apollo",
        "roles": ["member"],
    },
    "CN=rita,O=Example\\, Inc.": {"user": "rita", "project": "apollo", "roles": ["reader"]},
    "CN=root": {"user": "root", "project": "ops", "roles": ["admin"]},
}


@attrs.frozen
class Place:
    """Where the files of a service with TLS lie."""

    directory: Path
    authority: Authority

    @classmethod
    def make(cls, directory: Path) -> "Place":
        write_certificate(directory / "cert.pem", directory / "key.pem")
        place = cls(directory, Authority.make(directory))
        write_users(place.users, USERS)
        return place

    @property
    def users(self) -> Path:
        return self.directory / "users.yaml"

    @property
    def certificate(self) -> Path:
        return self.directory / "cert.pem"

    def tls(self, client_ca: Path | None = None) -> dict[str, str]:
        return {
            "certificate": str(self.certificate),
            "key": str(self.directory / "key.pem"),
            "client_ca": str(client_ca or self.authority.file),
        }

    def options(self) -> dict[str, Any]:
        auth = {"mode": "client_certificate", "client_certificate": {"file": str(self.users)}}
        return {"server": {"tls": self.tls()}, "auth": auth, "logging": {"level": "debug"}}

    def person(self, name: str) -> Held:
        return self.authority.client((NameOID.COMMON_NAME, name), ORGANIZATION)


@attrs.frozen
class Mutual:
    service: Service
    place: Place

    def showing(self, held: Held | None) -> Client:
        tls = context(self.place.certificate, held)
        return attrs.evolve(self.service.client, tls=tls)


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mutual]:
    place = Place.make(tmp_path_factory.mktemp("mutual"))
    with running(place.directory, place.options()) as service:
        yield Mutual(service, place)


def is_refused(client: Client) -> bool:
    """Tell whether the handshake fails; in TLS 1.3 the client learns of it with its first read."""
    try:
        client.get("/healthcheck")
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def test_subjects_have_their_projects_and_roles(mutual: Mutual) -> None:
    alice, rita = (mutual.showing(mutual.place.person(name)) for name in ("alice", "rita"))
    root = mutual.showing(mutual.place.authority.client((NameOID.COMMON_NAME, "root")))
    image_id = alice.active(b"data", visibility="private")
    assert alice.show(image_id)["owner"] == "apollo"
    assert rita.get(f"{IMAGES}/{image_id}").status == 200
    assert rita.delete(f"{IMAGES}/{image_id}").status == 403
    assert root.delete(f"{IMAGES}/{image_id}").status == 204


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_certificate(mutual: Mutual, version: ssl.TLSVersion) -> None:
    for held, refused in ((None, True), (mutual.place.person("alice"), False)):
        tls = context(mutual.place.certificate, held)
        tls.minimum_version = tls.maximum_version = version
        assert is_refused(attrs.evolve(mutual.service.client, tls=tls)) is refused


def test_certificates_that_prove_nothing(mutual: Mutual, tmp_path: Path) -> None:
    alice = ((NameOID.COMMON_NAME, "alice"), ORGANIZATION)
    place = mutual.place
    expired = place.authority.client(*alice, lifetime=timedelta(seconds=-5))
    early = place.authority.client(*alice, lifetime=timedelta(days=60))
    for_servers = place.authority.client(*alice, usage=[ExtendedKeyUsageOID.SERVER_AUTH])
    foreign = Authority.make(tmp_path, "other").client(*alice)
    namesake = Authority.make(tmp_path, "authority").client(*alice)
    for held in (expired, early, for_servers, foreign, namesake):
        assert is_refused(mutual.showing(held))


@pytest.mark.parametrize(
    "parts",
    [
        [(NameOID.COMMON_NAME, "alice")],
        [(NameOID.COMMON_NAME, "Alice"), ORGANIZATION],
        [ORGANIZATION, (NameOID.COMMON_NAME, "alice")],
        [(NameOID.COMMON_NAME, "alice"), ORGANIZATION, ORGANIZATION],
        [(NameOID.COMMON_NAME, "alice,O=Example\\, Inc.")],
        [(NameOID.COMMON_NAME, "x"), (NameOID.COMMON_NAME, "root")],
        [(NameOID.ORGANIZATION_NAME, "root")],
        [(NameOID.COMMON_NAME, "root\0.example")],
        [(NameOID.COMMON_NAME, " root")],
    ],
    ids=str,
)
def test_other_subjects(mutual: Mutual, parts: Any) -> None:
    reply = mutual.showing(mutual.place.authority.client(*parts)).get(IMAGES)
    assert reply.status == 403
    assert b"stands for nobody here" in reply.body


def test_other_proofs_do_not_count(mutual: Mutual) -> None:
    rita = mutual.showing(mutual.place.person("rita"))
    told = {"X-Identity-Status": "Confirmed", "X-Roles": "admin", "X-Auth-Token": "x"}
    assert rita.request("POST", IMAGES, b"{}", told).status == 403


def test_a_connection_ends_with_its_certificate(mutual: Mutual) -> None:
    alice = ((NameOID.COMMON_NAME, "alice"), ORGANIZATION)
    brief = mutual.place.authority.client(*alice, lifetime=timedelta(seconds=4))
    request = f"GET {IMAGES} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    with closing(mutual.showing(brief).connect()) as connection:
        connection.sendall(request)
        assert receive(connection).status == 200

        def asked() -> int:
            connection.sendall(request)
            return receive(connection).status

        wait_until(lambda: asked() == 401)


def test_the_file_is_read_again(mutual: Mutual) -> None:
    """What is written there counts for the next request, also on an open connection."""
    zoe = mutual.showing(mutual.place.person("zoë"))
    assert zoe.get(IMAGES).status == 403
    own = {"CN = zoë, O = Example\\, Inc.": {"project": "gemini", "roles": ["reader"]}}
    write_users(mutual.place.users, {**USERS, **own})
    until_status(zoe, 200)
    with closing(zoe.connect()) as connection:
        write_users(mutual.place.users, USERS)
        until_status(zoe, 403)
        connection.sendall(f"GET {IMAGES} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert receive(connection).status == 403


def test_another_mode_behind_the_lock(tmp_path: Path) -> None:
    place = Place.make(tmp_path)
    with running(tmp_path, {"server": {"tls": place.tls()}}) as service:
        mutual = Mutual(service, place)
        assert is_refused(mutual.showing(None))
        unknown = place.authority.client((NameOID.COMMON_NAME, "whoever"))
        assert mutual.showing(unknown).get(IMAGES).status == 200


def test_openstack_command(mutual: Mutual) -> None:
    alice = mutual.place.person("alice")
    environment = {
        "OS_AUTH_TYPE": "none",
        "OS_ENDPOINT": mutual.showing(None).url,
        "OS_CACERT": str(mutual.place.certificate),
        "OS_CERT": str(alice.file),
        "OS_KEY": str(alice.file),
    }
    said = printed(environment, "image", "create", "mine", "-f", "json")
    assert json.loads(said)["owner"] == "apollo"


def test_what_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    place = Place.make(tmp_path)
    options = place.options()
    without = {**options, "server": {}}
    assert "auth.mode: client_certificate needs server.tls.client_ca" in refusal(tmp_path, without)
    empty, damaged = tmp_path / "empty.pem", tmp_path / "damaged.pem"
    empty.write_text("nothing")
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for file, message in (
        (empty, "there is no certificate in it"),
        (damaged, "a certificate in it is damaged"),
        (tmp_path / "none.pem", "the authorities of clients cannot be read"),
    ):
        said = refusal(tmp_path, {**options, "server": {"tls": place.tls(file)}})
        assert f"server.tls: {file}: {message}" in said
    place.users.write_text("alice: {project: p, roles: []}")
    said = refusal(tmp_path, options)
    assert f"auth.client_certificate.file: {place.users}:1: 'alice' is not a subject" in said


def test_openssl_prints_what_the_file_needs(mutual: Mutual) -> None:
    held = mutual.place.person("alice")
    command = [
        "openssl",
        "x509",
        "-noout",
        "-subject",
        "-nameopt",
        "RFC2253",
        "-in",
        str(held.file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip().removeprefix("subject=") in USERS
