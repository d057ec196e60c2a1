"""TLS as it is judged from outside: by `openssl s_client`, much as testssl.sh goes about it."""

import hashlib
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.real.accounts import write_users
from tests.real.authority import Authority, Held, context
from tests.real.client import Client, receive
from tests.real.service import Service, missing, running, wait_until

LONG = 60.0
"""Seconds that a busy machine may take to notice a changed file."""
HEALTH = b"GET /healthcheck HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
IMAGES = b"GET /v2/images HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ALICE = ((NameOID.COMMON_NAME, "alice"),)


@attrs.frozen
class Seen:
    """The output of s_client about one connection."""

    code: int
    said: str

    def field(self, pattern: str) -> str:
        found = re.search(pattern, self.said)
        return found[1].strip() if found else ""

    @property
    def cipher(self) -> str:
        return self.field(r"New, [^,]*, Cipher is (\S+)").replace("(NONE)", "")

    @property
    def subject(self) -> str:
        return self.field(r"(?m)^subject=CN = (.*)$")

    @property
    def status(self) -> str:
        return self.field(r"HTTP/1\.1 (\d+)")


@attrs.frozen
class Place:
    """A service with several certificates, and the authorities behind it."""

    service: Service
    root: Authority
    issuing: Authority
    clients: Authority
    files: Path

    def ask(self, *arguments: str | Path, said: bytes = HEALTH) -> Seen:
        command = [openssl(), "s_client", "-connect", f"127.0.0.1:{self.service.port}"]
        command += ["-ign_eof", *map(str, arguments)]
        done = subprocess.run(command, input=said, capture_output=True, timeout=120)
        return Seen(done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace"))

    def ask_all(self, *questions: Sequence[str]) -> list[Seen]:
        with ThreadPoolExecutor(4) as threads:
            return list(threads.map(lambda question: self.ask(*question), questions))

    def serial(self, name: str) -> int:
        said = self.ask("-servername", name, "-showcerts").said
        done = subprocess.run(
            [openssl(), "x509", "-noout", "-serial"],
            input=said.encode(),
            capture_output=True,
            check=True,
            timeout=120,
        )
        return int(done.stdout.decode().partition("=")[2], 16)

    def renew(self, name: str) -> tuple[Held, Path, Path]:
        """Make another certificate for the name; return it and where the two files belong."""
        return self.issuing.server(name), *files_of(self.files, name)


def openssl() -> str:
    program = shutil.which("openssl")
    if program is None:
        missing("there is no openssl command")
    return program


def files_of(directory: Path, name: str) -> tuple[Path, Path]:
    return directory / f"{name}.crt", directory / f"{name}.key"


def write(path: Path, data: bytes) -> None:
    """Replace a file as tools for certificates do."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


def key_in(held: Held) -> bytes:
    return held.file.read_bytes().removeprefix(held.pem)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("outside")
    root = Authority.make(directory, "root")
    clients = Authority.make(directory, "above").intermediate("clients")  # trusted without that
    issuing = root.intermediate("issuing")
    rsa_key = rsa.generate_private_key(65537, 2048)
    pairs = []
    for held in (
        issuing.server("one.test"),
        issuing.server("rsa.test", key=rsa_key),
        issuing.server("*.wild.test", "Also.Wild"),
        issuing.server("renewed.test"),
        issuing.server("torn.test"),
    ):
        name = held.certificate.subject.rfc4514_string().removeprefix("CN=")
        certificate, key = files_of(directory, name.replace("*.", ""))
        write(certificate, held.pem + issuing.own.pem)
        write(key, key_in(held))
        pairs.append({"certificate": str(certificate), "key": str(key)})
    tls = {**pairs[0], "more": pairs[1:], "client_ca": str(clients.file), "client_auth": "optional"}
    users = directory / "users.yaml"
    write_users(users, {"CN=alice": {"project": "apollo", "roles": ["member", "reader"]}})
    auth = {"mode": "client_certificate", "client_certificate": {"file": str(users)}}
    with running(directory, {"server": {"tls": tls}, "auth": auth}) as service:
        yield Place(service, root, issuing, clients, directory)


# -- versions, ciphers, groups ----------------------------------------------------------------


def test_versions(place: Place) -> None:
    weak = ("-cipher", "ALL:@SECLEVEL=0")
    old = place.ask_all(("-tls1", *weak), ("-tls1_1", *weak))
    assert [(one.status, "alert number 70" in one.said) for one in old] == [("", True)] * 2
    new = place.ask_all(("-tls1_2",), ("-tls1_3",))
    assert [(one.status, one.code) for one in new] == [("200", 0)] * 2


@pytest.mark.parametrize("key", ["ECDSA", "RSA"])
def test_ciphers_of_tls_1_2(place: Place, key: str) -> None:
    """Offer everything that this OpenSSL knows, then all but what was chosen, and so on."""
    name = {"ECDSA": "one.test", "RSA": "rsa.test"}[key]
    chosen = chosen_one_by_one(
        ciphers("-tls1_2"),
        lambda left: place.ask(
            "-tls1_2", "-servername", name, "-cipher", ":".join(left) + ":@SECLEVEL=0"
        ),
    )
    assert chosen == [
        f"ECDHE-{key}-AES128-GCM-SHA256",
        f"ECDHE-{key}-AES256-GCM-SHA384",
        f"ECDHE-{key}-CHACHA20-POLY1305",
    ]


def test_ciphers_of_tls_1_3(place: Place) -> None:
    offered = [*ciphers("-tls1_3"), "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"]
    chosen = chosen_one_by_one(
        offered, lambda left: place.ask("-tls1_3", "-ciphersuites", ":".join(left))
    )
    assert chosen == [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ]


def ciphers(version: str) -> list[str]:
    command = [openssl(), "ciphers", "-s", version, "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = done.stdout.strip().split(":")
    return [one for one in found if one.startswith("TLS_") == (version == "-tls1_3")]


def chosen_one_by_one(offered: Sequence[str], ask: Callable[[Sequence[str]], Seen]) -> list[str]:
    left, chosen = dict.fromkeys(offered), []
    while left:
        cipher = ask(list(left)).cipher
        if not cipher:
            break
        chosen.append(cipher)
        del left[cipher]
    return chosen


def test_chacha_for_those_who_want_it_most(place: Place) -> None:
    first = "ECDHE-ECDSA-CHACHA20-POLY1305"
    seen = place.ask("-tls1_2", "-cipher", f"{first}:ECDHE-ECDSA-AES128-GCM-SHA256")
    assert seen.cipher == first


def test_groups(place: Place) -> None:
    seen = place.ask_all(*(("-groups", one) for one in ("X25519", "P-256", "P-384")))
    assert [one.field(r"Server Temp Key: (.*)") for one in seen] == [
        "X25519, 253 bits",
        "ECDH, prime256v1, 256 bits",
        "ECDH, secp384r1, 384 bits",
    ]


# -- names and chains -------------------------------------------------------------------------


def test_names(place: Place) -> None:
    wanted = {
        "one.test": "one.test",
        "RSA.test": "rsa.test",
        "a.wild.test": "*.wild.test",
        "also.wild": "*.wild.test",
        "wild.test": "one.test",
        "b.a.wild.test": "one.test",
        "unknown.test": "one.test",
    }
    seen = place.ask_all(*(("-servername", name) for name in wanted), ("-noservername",))
    assert [one.subject for one in seen] == [*wanted.values(), "one.test"]


def test_chains_are_complete(place: Place) -> None:
    """A client that knows nothing but the root can verify."""
    trust = ("-CAfile", str(place.root.file), "-verify_return_error")
    names = ("one.test", "rsa.test", "x.wild.test")
    seen = place.ask_all(
        *((*trust, "-servername", name, "-verify_hostname", name) for name in names),
        (*trust, "-servername", "one.test", "-verify_hostname", "other.test"),
    )
    assert [one.status for one in seen] == ["200", "200", "200", ""]
    assert "hostname mismatch" in seen[-1].said.lower()


# -- what a client may negotiate --------------------------------------------------------------


def test_application_protocols(place: Place) -> None:
    both, only_ours, only_h2, none = place.ask_all(
        ("-alpn", "h2,http/1.1"), ("-alpn", "http/1.1"), ("-alpn", "h2"), ()
    )
    for seen in (both, only_ours):
        assert "ALPN protocol: http/1.1" in seen.said
    assert "alert number 120" in only_h2.said
    assert [one.status for one in (both, only_ours, only_h2, none)] == ["200", "200", "", "200"]


def test_no_renegotiation(place: Place) -> None:
    command = [openssl(), "s_client", "-connect", f"127.0.0.1:{place.service.port}", "-tls1_2"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"R\n")
        client.stdin.flush()
        said = client.stdout.read().decode()
        assert client.wait(60) != 0
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said


def test_no_compression(place: Place) -> None:
    """No OpenSSL of today offers it, so this says hello itself: deflate first, then none."""
    extensions = b"".join(
        struct.pack(">HHH", kind, len(data) + 2, len(data)) + data
        for kind, data in ((10, b"\x00\x1d\x00\x17"), (13, b"\x04\x03\x08\x04"))
    )
    hello = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x04\xc0\x2b\xc0\x2f" + b"\x02\x01\x00"
    hello += struct.pack(">H", len(extensions)) + extensions
    message = b"\x01\x00" + struct.pack(">H", len(hello)) + hello
    address = ("127.0.0.1", place.service.port)
    with socket.create_connection(address, 60) as connection, connection.makefile("rb") as answers:
        connection.sendall(b"\x16\x03\x01" + struct.pack(">H", len(message)) + message)
        kind, _, length = struct.unpack(">BHH", answers.read(5))
        answer = answers.read(length)
    assert (kind, answer[0]) == (22, 2), answer  # a handshake, the server's hello
    after_session = 4 + 2 + 32 + 1 + answer[38]
    assert answer[after_session : after_session + 3] == b"\xc0\x2b\x00"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("shows", [False, True])
def test_sessions_are_not_resumed(place: Place, tmp_path: Path, version: str, shows: bool) -> None:
    """Trying to is no error, with a client's certificate neither: the handshake is a full one."""
    mine = ("-cert", str(place.clients.client(*ALICE).file)) if shows else ()
    session, wanted = tmp_path / "session", "200" if shows else "401"
    first = place.ask(version, *mine, "-sess_out", session, said=IMAGES)
    assert first.status == wanted
    if session.exists():
        again = place.ask(version, *mine, "-sess_in", session, said=IMAGES)
        assert again.said.count("Reused, ") == 0
        assert again.status == wanted


# -- certificates of clients ------------------------------------------------------------------


def test_certificates_of_clients_that_need_none(place: Place, tmp_path: Path) -> None:
    """A certificate that proves nothing is worse than none: the handshake fails."""
    expired = place.clients.client(*ALICE, lifetime=timedelta(seconds=-5))
    foreign = Authority.make(tmp_path, "foreign").client(*ALICE)
    unknown = place.clients.client((NameOID.COMMON_NAME, "nobody"))
    alice = place.clients.client(*ALICE)
    wanted = {None: "401", alice.file: "200", unknown.file: "403"}
    wanted |= {expired.file: "", foreign.file: ""}
    for version in ("-tls1_2", "-tls1_3"):
        for file, status in wanted.items():
            shown = () if file is None else ("-cert", file)
            assert place.ask(version, *shown, said=IMAGES).status == status


def test_clients_are_told_whose_certificates_count(place: Place) -> None:
    said = place.ask().said
    assert re.search(r"Acceptable client certificate CA names\s+CN = clients\n", said)


# -- files that change ------------------------------------------------------------------------


def test_renewed_under_a_download(place: Place) -> None:
    """Present connections stay as they are; new ones get the new certificate."""
    alice = place.clients.client(*ALICE)
    tls = context(place.root.file, alice)
    tls.check_hostname = False
    client = attrs.evolve(place.service.client, tls=tls)
    data = os.urandom(24 << 20)
    image_id = client.active(data)
    with closing(connected(client, "renewed.test")) as connection:
        head = f"GET /v2/images/{image_id}/file HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.sendall(head.encode())
        held, certificate, key = place.renew("renewed.test")
        write(key, key_in(held))
        write(certificate, held.pem + place.issuing.own.pem)
        wait_until(lambda: place.serial("renewed.test") == held.certificate.serial_number, LONG)
        body = receive(connection).body
        assert hashlib.sha256(body).digest() == hashlib.sha256(data).digest()
        connection.sendall(HEALTH)
        assert receive(connection).status == 200


def connected(client: Client, name: str) -> Any:
    plain = attrs.evolve(client, tls=None).connect()
    assert client.tls is not None
    return client.tls.wrap_socket(plain, server_hostname=name)


def test_half_written_pair(place: Place) -> None:
    before = place.serial("torn.test")
    held, certificate, key = place.renew("torn.test")
    write(key, key_in(held))
    complaint = f"TLS: {key}: the key does not fit {certificate}; keeping the previous certificates"
    wait_until(lambda: complaint in place.service.log.read_text(), LONG)
    assert place.serial("torn.test") == before
    write(certificate, held.pem + place.issuing.own.pem)
    wait_until(lambda: place.serial("torn.test") == held.certificate.serial_number, LONG)
    assert place.service.log.read_text().count(complaint) == 1
