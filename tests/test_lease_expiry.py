"""When a lease has expired: no wall clock has a say in it."""

import pytest

from imgservice.domain.job import Job
from imgservice.jobs.expiry import LeaseExpiry, Marked

LEASE_TIME = 60.0


class Observer:
    """Looks at leases now and then."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.expiry = LeaseExpiry(LEASE_TIME, lambda: self.now)

    def look(self, *found: Marked, takes: float = 0.0) -> set[str]:
        """Look; the database takes so long to answer."""
        asked_at = self.now
        self.now += takes
        return self.expiry.expired(found, asked_at)

    def looks(self, *found: Marked, seconds: float) -> set[str]:
        """Look every half a minute for so long; return what the last look tells."""
        for _ in range(int(seconds // 30)):
            self.now += 30
            expired = self.look(*found)
        return expired


def lease(name: str = "a", owner: str = "node-1") -> Job:
    return Job(name, "upload", f"image-{name}", owner, "local")


@pytest.fixture
def observer() -> Observer:
    return Observer()


def test_a_lease_expires_that_nobody_renews(observer: Observer) -> None:
    assert observer.look((lease(), "mark")) == set()
    assert observer.looks((lease(), "mark"), seconds=30) == set()
    assert observer.looks((lease(), "mark"), seconds=30) == {"a"}


def test_a_lease_lives_as_long_as_its_mark_changes(observer: Observer) -> None:
    for mark in range(100):
        assert observer.look((lease(), mark), (lease("b"), "never")) <= {"b"}
        observer.now += 30
    assert observer.look((lease(), 99), (lease("b"), "never")) == {"b"}


def test_marks_may_jump_as_the_wall_clock_does(observer: Observer) -> None:
    for mark in (1e9, 1e9 + 86400, 5.0, 1e9, -86400.0):
        assert observer.look((lease(), mark)) == set()
        observer.now += 40


def test_a_lease_that_was_taken_begins_anew(observer: Observer) -> None:
    observer.look((lease(), "mark"))
    assert observer.looks((lease(owner="node-2"), "mark"), seconds=60) == set()


def test_who_just_started_watches_first(observer: Observer) -> None:
    assert observer.look((lease(), "years ago")) == set()


def test_a_slow_answer_makes_no_lease_older(observer: Observer) -> None:
    observer.look((lease(), "mark"))
    observer.now += 30
    assert observer.look((lease(), "mark"), takes=300) == set()


def test_nothing_expires_while_the_database_is_away(observer: Observer) -> None:
    observer.look((lease(), "mark"))
    observer.now += 500
    observer.expiry.forget()
    observer.now += 500
    assert observer.look((lease(), "mark")) == set()
    assert observer.looks((lease(), "mark"), seconds=60) == {"a"}
