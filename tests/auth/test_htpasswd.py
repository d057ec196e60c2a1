"""The htpasswd file, and how passwords are checked without letting anybody in or the others out."""

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Event
from time import process_time
from typing import Any, cast

import attrs
import bcrypt
import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from imgservice.auth import htpasswd
from imgservice.auth.htpasswd import Htpasswd, Passwords, read_htpasswd
from imgservice.concurrency.file_watch import Unreadable
from imgservice.concurrency.threads import Threads
from imgservice.domain.errors import TooManyRequests, Unavailable
from tests.examples import SHARING, examples

reactor = cast(Any, installed_reactor)
HASH = "$2b$04$qTPMb9Pkn27QjZ8zEnPXMeqtWCiE9CjLSzDykNgFgJT4MzKMBGdlO"


def hashed(password: str, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost))


# -- the file -------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "htpasswd"


@pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
def test_kinds_of_bcrypt(file: Path, kind: str) -> None:
    text = hashed("secret").replace(b"$2b$", f"${kind}$".encode())
    file.write_bytes(b"# people\n\nann:" + text + b"\r\n  \nZo\xc3\xab:" + text)
    assert read_htpasswd(file).hashes == {"ann": text, "Zoë": text}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ann", ":1: expected USER:HASH"),
        ("\n\n:" + HASH, ":3: expected USER:HASH"),
        ("a\x01b:" + HASH, ":1: expected USER:HASH"),
        ("a" * 256 + ":" + HASH, ":1: expected USER:HASH"),
        ("ann:", ":1: the hash of 'ann' is no bcrypt hash"),
        ("ann:sesame", ":1: the hash of 'ann' is no bcrypt hash"),
        ("ann:$apr1$s$h", ":1: the hash of 'ann' is an MD5 hash"),
        ("ann:{SHA}h", ":1: the hash of 'ann' is a SHA-1 hash"),
        ("ann:$6$s$h", ":1: the hash of 'ann' is a SHA-512 crypt hash"),
        ("ann:rqXexS6ZhobKA", ":1: the hash of 'ann' is no bcrypt hash"),
        (
            "ann:" + HASH.replace("2b", "2x"),
            ":1: the hash of 'ann' is a bcrypt hash that",
        ),
        ("ann:" + HASH[:-1], ":1: the hash of 'ann' is a bcrypt hash that is damaged"),
        ("ann:" + HASH + ":x", ":1: the hash of 'ann' is a bcrypt hash that is damaged"),
        ("ann:" + HASH.replace("$04$", "$31$"), ":1: the bcrypt cost of 'ann' is not from 4 to 15"),
        ("ann:" + HASH.replace("$04$", "$03$"), ":1: the bcrypt cost of 'ann' is not from 4 to 15"),
        (f"ann:{HASH}\nann:{HASH}", ":2: 'ann' is there twice"),
    ],
)
def test_mistakes_are_told_with_their_line(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(Unreadable) as caught:
        read_htpasswd(file)
    said = str(caught.value)
    assert said.startswith(f"{file}{message}")
    assert "sesame" not in said and HASH[8:-2] not in said


@settings(
    database=None,
    deadline=None,
    max_examples=examples(300),
    suppress_health_check=SHARING,
)
@given(st.binary() | st.lists(st.sampled_from(["a", ":", "\n", HASH, "$2b$", "#", " "])))
def test_any_file(file: Path, content: bytes | list[str]) -> None:
    file.write_bytes(content if isinstance(content, bytes) else "".join(content).encode())
    try:
        known = read_htpasswd(file)
    except Unreadable as error:
        assert str(error).startswith(str(file))
    else:
        assert all(value.startswith(b"$2") for value in known.hashes.values())


# -- the check ------------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(reactor, 2, "test")
    yield threads
    threads.stop()


class Checker:
    """Passwords whose file and clock the test moves."""

    def __init__(self, threads: Threads, **users: bytes) -> None:
        self.now = 0.0
        self.passwords = Passwords(lambda: self.known, threads, lambda: self.now)
        self.change(**users)

    def change(self, **users: bytes) -> None:
        dearest = max((one[4:6] for one in users.values()), default=b"04")
        self.known = Htpasswd(users, b"$2b$%s$%s" % (dearest, b"." * 53))

    def ask(self, user: str, password: str, address: str = "192.0.2.1") -> Deferred[bool]:
        return Deferred.fromCoroutine(self.passwords.are_right(user, password.encode(), address))


@pytest.fixture
def checker(threads: Threads) -> Checker:
    return Checker(threads, ann=hashed("sesame"), bob=hashed("b" * 72))


@pytest_twisted.inlineCallbacks
def test_right_and_wrong(checker: Checker) -> Any:
    for user, password, right in (
        ("ann", "sesame", True),
        ("ann", "sesame", True),
        ("ann", "Sesame", False),
        ("ann", "", False),
        ("ann", "sesame\0", False),
        ("bob", "sesame", False),
        ("nobody", "sesame", False),
        ("", "", False),
        ("Ann", "sesame", False),
        ("ann", "sesame" * 1000, False),
    ):
        for _ in range(2):
            assert (yield checker.ask(user, password)) is right, (user, password)


@pytest_twisted.inlineCallbacks
def test_long_passwords_are_cut_where_htpasswd_cuts_them(checker: Checker) -> Any:
    assert (yield checker.ask("bob", "b" * 72 + "what bcrypt never sees"))
    assert not (yield checker.ask("bob", "b" * 71))


@pytest_twisted.inlineCallbacks
def test_a_change_of_the_file_holds_at_once(checker: Checker) -> Any:
    assert (yield checker.ask("ann", "sesame"))
    checker.change(ann=hashed("other"))
    assert not (yield checker.ask("ann", "sesame"))
    assert (yield checker.ask("ann", "other"))
    checker.change(carl=hashed("sesame"))
    assert not (yield checker.ask("ann", "other"))
    assert (yield checker.ask("carl", "sesame"))


def spent(work: Any) -> Any:
    """Return how much of the processor a check takes, in all threads."""
    before = process_time()
    return work().addCallback(lambda _: process_time() - before)


@pytest_twisted.inlineCallbacks
def test_right_passwords_are_hashed_once_in_a_while(threads: Threads) -> Any:
    checker = Checker(threads, ann=hashed("sesame", 10))
    first = yield spent(lambda: checker.ask("ann", "sesame"))
    gc.collect()
    again = yield spent(lambda: checker.ask("ann", "sesame"))
    checker.now += htpasswd.REMEMBERED_FOR
    later = yield spent(lambda: checker.ask("ann", "sesame"))
    assert again < first / 5 and later > first / 5


@pytest_twisted.inlineCallbacks
def test_unknown_users_cost_as_much_as_known_ones(threads: Threads) -> Any:
    checker = Checker(threads, ann=hashed("sesame", 10))
    known = yield spent(lambda: checker.ask("ann", "wrong"))
    unknown = yield spent(lambda: checker.ask("nobody", "wrong"))
    assert known / 2 < unknown < known * 2


@pytest_twisted.inlineCallbacks
def test_same_password_at_the_same_time_is_hashed_once(threads: Threads) -> Any:
    checker = Checker(threads, ann=hashed("sesame", 10))
    one = yield spent(lambda: checker.ask("nobody", "x"))
    many = yield spent(lambda: DeferredList([checker.ask("ann", "sesame") for _ in range(200)]))
    assert many < one * 20
    results = yield DeferredList([checker.ask("ann", "wrong") for _ in range(200)])
    assert results == [(True, False)] * 200


@attrs.define
class Jam:
    """All threads wait for the gate."""

    threads: Threads
    gate: Event

    async def open(self) -> None:
        self.gate.set()
        await self.threads.run(lambda: None)


@pytest_twisted.async_yield_fixture
async def jam(threads: Threads) -> AsyncIterator[Jam]:
    gate = Event()
    for _ in range(2):
        threads.run(gate.wait)
    yield Jam(threads, gate)
    gate.set()


def failed(result: Deferred[bool]) -> Exception:
    failures: list[Failure] = []
    result.addErrback(failures.append)
    assert failures, "it was not refused at once"
    assert isinstance(failures[0].value, Exception)
    return failures[0].value


@pytest_twisted.inlineCallbacks
def test_the_queue_is_bounded(checker: Checker, jam: Jam) -> Any:
    waiting = [
        checker.ask("ann", f"guess {number}", f"192.0.2.{number % 5}")
        for number in range(htpasswd.MOST_WAITING)
    ]
    assert isinstance(failed(checker.ask("ann", "sesame", "192.0.2.99")), Unavailable)
    joined = checker.ask("ann", "guess 1", "192.0.2.99")
    jam.gate.set()
    results = yield DeferredList([*waiting, joined])
    assert results == [(True, False)] * (len(waiting) + 1)
    assert (yield checker.ask("ann", "sesame", "192.0.2.99"))


@pytest_twisted.inlineCallbacks
def test_nobody_who_guesses_keeps_others_out(checker: Checker, jam: Jam) -> Any:
    waiting = [checker.ask("ann", f"guess {number}") for number in range(32)]
    refused = failed(checker.ask("ann", "another guess"))
    assert isinstance(refused, TooManyRequests) and refused.wait >= 1
    honest = checker.ask("ann", "sesame", "192.0.2.2")
    jam.gate.set()
    yield DeferredList(waiting)
    assert (yield honest)
    assert (yield checker.ask("ann", "sesame"))


@pytest_twisted.inlineCallbacks
def test_remembered_passwords_are_right_while_others_wait(
    checker: Checker, threads: Threads
) -> Any:
    assert (yield checker.ask("ann", "sesame"))
    gate = Event()
    blocked = [threads.run(gate.wait) for _ in range(2)]
    try:
        assert (yield checker.ask("ann", "sesame").addTimeout(20, reactor))
    finally:
        gate.set()
    yield DeferredList(blocked)


@pytest_twisted.inlineCallbacks
def test_what_is_remembered_is_bounded(threads: Threads) -> Any:
    secret = hashed("sesame")
    users = {f"user{number}": secret for number in range(10)}
    known = Htpasswd(users, secret)
    passwords = Passwords(lambda: known, threads, most_remembered=3)
    for user in users:
        asking = passwords.are_right(user, b"sesame", "192.0.2.1")
        assert (yield Deferred.fromCoroutine(asking))
    assert len(passwords._right) == 3
