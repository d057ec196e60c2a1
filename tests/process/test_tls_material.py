"""What is read from the files of TLS, what is wrong with them, and when they are read again."""

import os
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.internet.task import Clock

from imgservice.config.sections.server import TlsOptions, TlsPair
from imgservice.process.addresses import ListenError
from imgservice.process.tls.contexts import ServerContexts
from imgservice.process.tls.files import MODERN, read_material, signature
from imgservice.process.tls.material import doubts
from imgservice.process.tls.reloader import TlsReloader
from tests.logs import log_lines
from tests.process.certificates import write_certificate
from tests.real.authority import Authority, Held

DAY = timedelta(days=1)


class Files:
    """A certificate and its key, where the options say."""

    def __init__(self, directory: Path) -> None:
        self.certificate, self.key = directory / "own.crt", directory / "own.key"
        self.authority = Authority.make(directory)

    def options(self, **more: Any) -> TlsOptions:
        return TlsOptions(certificate=str(self.certificate), key=str(self.key), **more)

    def write(self, held: Held, *above: bytes) -> Held:
        self.certificate.write_bytes(b"".join([held.pem, *above]))
        self.key.write_bytes(held.file.read_bytes().removeprefix(held.pem))
        return held

    def complaint(self, **more: Any) -> str:
        with pytest.raises(ListenError) as caught:
            read_material(self.options(**more))
        return str(caught.value)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def said() -> Iterator[list[str]]:
    with log_lines("imgservice.process.tls.reloader") as found:
        yield found


# -- the files --------------------------------------------------------------------------------


def test_material_is_for_other_processes_and_for_no_eyes(files: Files) -> None:
    files.write(files.authority.server("one.test"))
    material = read_material(files.options(client_ca=str(files.authority.file)))
    copy = pickle.loads(pickle.dumps(material))  # noqa: S301  our own
    assert copy == material
    assert ServerContexts(copy).material == material
    assert "BEGIN" not in repr(material)
    assert str(files.certificate) in repr(material)
    assert material.ciphers == MODERN


def test_chains(files: Files) -> None:
    middle = files.authority.intermediate("middle")
    low = middle.intermediate("low")
    held = low.server("one.test")
    for above in ((), (low,), (low, middle), (low, middle, files.authority)):
        files.write(held, *(one.own.pem for one in above))
        read_material(files.options())
    for above, place, name in (
        ((middle, low), 2, "middle"),
        ((low, files.authority), 3, "authority"),
        ((low, low.intermediate("unrelated")), 3, "unrelated"),
    ):
        files.write(held, *(one.own.pem for one in above))
        expected = f"{files.certificate}: certificate {place} in it (CN={name}) has issued none"
        assert files.complaint().startswith(expected)
    files.certificate.write_bytes(low.own.pem + held.pem)
    assert files.complaint() == (
        f"{files.certificate}: the certificate that {files.key} fits must be the first in it"
    )


def test_keys(files: Files) -> None:
    held = files.write(files.authority.server("one.test"))
    plain = files.key.read_bytes()
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    files.key.write_bytes(parameters + plain)  # as `openssl ecparam -genkey` writes it
    read_material(files.options())
    encrypted = held.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    for content, complaint in (
        (encrypted, "the key is encrypted; it is needed without"),
        (plain[:60] + plain[70:], "the key in it is damaged"),
        (held.pem, "there is no private key in it (as PEM)"),
        (b"", "there is no private key in it (as PEM)"),
    ):
        files.key.write_bytes(content)
        assert files.complaint() == f"{files.key}: {complaint}"
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505  that is the point
    files.write(files.authority.server("one.test", key=weak))
    assert files.complaint() == f"{files.certificate}: OpenSSL refuses it: ee key too small"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_unreadable(files: Files) -> None:
    files.write(files.authority.server("one.test"))
    files.key.chmod(0)
    assert files.complaint() == f"{files.key}: the key cannot be read: Permission denied"


def test_further_pairs_and_ciphers(files: Files, tmp_path: Path) -> None:
    files.write(files.authority.server("one.test"))
    write_certificate(tmp_path / "a.pem", tmp_path / "a.key")
    write_certificate(tmp_path / "b.pem", tmp_path / "b.key")
    wrong = TlsPair(certificate=str(tmp_path / "a.pem"), key=str(tmp_path / "b.key"))
    assert (
        files.complaint(more=(wrong,)) == f"{wrong.key}: the key does not fit {wrong.certificate}"
    )
    assert files.complaint(ciphers="NONSENSE") == "ciphers: OpenSSL knows none of 'NONSENSE'"
    missing = str(tmp_path / "missing")
    assert files.complaint(client_ca=missing) == (
        f"{missing}: the authorities of clients cannot be read: No such file or directory"
    )


def test_doubts(files: Files) -> None:
    held = files.write(files.authority.server("one.test", lifetime=DAY * 20))
    material, end = read_material(files.options()), held.certificate.not_valid_after_utc
    early = held.certificate.not_valid_before_utc - DAY
    for now, doubt in (
        (early, "is valid from"),
        (end - DAY * 15, None),
        (end - DAY * 13, "expires at"),
        (end + DAY, "expired at"),
    ):
        told = [f"{files.certificate}: the certificate {doubt}"] if doubt else []
        assert [one[: len(told[0])] for one in doubts(material, now)] == told


# -- reading them again -----------------------------------------------------------------------


class Reloading:
    """A reloader with a clock of its own, and what it hands over."""

    def __init__(self, files: Files) -> None:
        options, self.clock = files.options(), Clock()
        self.contexts = ServerContexts(read_material(options))
        self.now = datetime.now(UTC)
        self.service = TlsReloader(
            self.clock,
            lambda: read_material(options),
            lambda: signature(options),
            self.contexts,
            now=lambda: self.now,
        )

    def look(self) -> None:
        self.clock.advance(1)

    @property
    def served(self) -> bytes:
        return self.contexts.material.pairs[0].chain


@pytest.fixture
def reloading(files: Files) -> Iterator[Reloading]:
    files.write(files.authority.server("one.test", lifetime=DAY * 20))
    made = Reloading(files)
    made.service.startService()
    yield made
    made.service.stopService()
    assert made.clock.getDelayedCalls() == []


def test_files_that_rest(files: Files, reloading: Reloading, said: list[str]) -> None:
    """They are read once they have not changed between two looks."""
    before = reloading.served
    held = files.write(files.authority.server("two.test", lifetime=DAY * 20))
    reloading.look()
    assert reloading.served == before
    reloading.look()
    assert reloading.served == held.pem
    for _ in range(3):
        reloading.look()
    assert said == [f"TLS: reloaded {files.certificate} for new connections"]


def test_files_that_do_not_fit(files: Files, reloading: Reloading, said: list[str]) -> None:
    """They are logged once, and tried until they do, even if they are not changed again."""
    before, held = reloading.served, files.authority.server("two.test", lifetime=DAY * 20)
    files.certificate.write_bytes(held.pem)
    for _ in range(4):
        reloading.look()
    assert reloading.served == before
    [complaint] = said
    assert complaint.endswith(
        f"does not fit {files.certificate}; keeping the previous certificates"
    )
    files.write(held)
    reloading.look()
    reloading.look()
    assert reloading.served == held.pem


def test_files_that_vanish(files: Files, reloading: Reloading, said: list[str]) -> None:
    content = files.certificate.read_bytes()
    files.certificate.unlink()
    for _ in range(3):
        reloading.look()
    files.certificate.write_bytes(content)
    for _ in range(3):
        reloading.look()
    reason = "the certificate cannot be read: No such file or directory"
    assert said == [f"TLS: {files.certificate}: {reason}; keeping the previous certificates"]


def test_asked_to_read(files: Files, reloading: Reloading) -> None:
    held = files.write(files.authority.server("two.test"))
    reloading.service.reload()
    assert reloading.served == held.pem


def test_reminders(reloading: Reloading, said: list[str]) -> None:
    """A certificate that expires soon is logged every day."""
    for days, count in ((3, 0), (7, 1), (7.5, 1), (8.5, 2)):
        reloading.now = datetime.now(UTC) + DAY * days
        reloading.look()
        assert sum("the certificate expires at" in one for one in said) == count
