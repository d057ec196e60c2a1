"""One line when a trouble begins, one when it ends, whoever reports it and however often."""

import threading
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from imgservice.domain.errors import Unavailable
from imgservice.process.probes import TIMEOUT, Probe, Probes
from imgservice.troubles import MOST, Trouble, TroubleLog, Troubles
from tests.logs import lines

__all__ = ["lines"]  # a fixture

INTERVAL = 5.0


def test_one_line_at_the_beginning_and_one_at_the_end(lines: list[str]) -> None:
    troubles = Troubles()
    assert troubles.report("database", "Database db1:5432", "refused")
    assert not troubles.report("database", "Database db1:5432", "refused")
    assert not troubles.report("database", "Database db1:5432", "starting up")
    [begin] = lines
    assert begin.startswith("Database db1:5432 fails: refused (since 2")
    [present] = troubles.present
    assert present.why == "starting up"
    troubles.clear("database")
    troubles.clear("database")
    assert len(lines) == 2 and lines[1].startswith("Database db1:5432 works again after 0 s (since")
    assert troubles.present == []


def test_troubles_are_bounded(lines: list[str]) -> None:
    troubles = Troubles()
    for number in range(MOST + 50):
        troubles.report(f"key {number}", "something", "x" * 10_000)
    assert len(troubles.present) == len(lines) == MOST
    assert all(len(line) < 500 for line in lines)


def test_many_threads_report_and_clear(lines: list[str]) -> None:
    troubles = Troubles()

    def flap() -> None:
        for _ in range(200):
            troubles.report("a", "A", "b")
            troubles.clear("a")

    threads = [threading.Thread(target=flap) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles.present == []


def one(key: str, began: float) -> Trouble:
    return Trouble(key, key.title(), "why", began, began)


def test_what_several_processes_have_is_one(lines: list[str]) -> None:
    log = TroubleLog()
    log.update("first", [one("database", 5)])
    log.update("second", [one("database", 3), one("store local", 4)])
    assert [line.partition(" fails")[0] for line in lines] == ["Database", "Store Local"]
    assert {trouble.key: trouble.began for trouble in log.present} == {
        "database": 3,
        "store local": 4,
    }
    log.update("second", [])
    assert lines[2].startswith("Store Local works again")
    log.forget("first")
    assert lines[3].startswith("Database works again") and len(lines) == 4


# -- looking --------------------------------------------------------------------------------------


class Thing:
    """Something to look at, which works, fails, or does not answer."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.looks: list[bool] = []
        self.waiting: Deferred[None] | None = None

    async def look(self, thoroughly: bool) -> None:
        self.looks.append(thoroughly)
        if self.waiting is not None:
            await self.waiting
        if self.error is not None:
            raise self.error


def looking(thing: Thing, **more: Any) -> tuple[Clock, Troubles, Probes]:
    clock, troubles = Clock(), Troubles()
    probe = Probe("thing", "Thing", thing.look, **more)
    return clock, troubles, Probes(clock, [probe], troubles, INTERVAL, clock.seconds)


def whys(troubles: Troubles) -> Sequence[str]:
    return [trouble.why for trouble in troubles.present]


def test_a_look_finds_the_beginning_and_the_end(lines: list[str]) -> None:
    thing = Thing()
    clock, troubles, probes = looking(thing)
    probes.start()
    thing.error = Unavailable("away")
    clock.advance(INTERVAL)
    assert whys(troubles) == ["away"]
    clock.advance(INTERVAL)
    thing.error = None
    clock.advance(INTERVAL)
    assert whys(troubles) == [] and len(lines) == 2
    assert thing.looks == [False, False, True, True]
    probes.retire()
    clock.advance(10 * INTERVAL)
    assert len(thing.looks) == 4


def test_what_does_not_answer_is_asked_once() -> None:
    thing = Thing()
    thing.waiting = Deferred()
    clock, troubles, probes = looking(thing)
    probes.start()
    for _ in range(10):
        clock.advance(INTERVAL)
    assert len(thing.looks) == 1
    assert whys(troubles) == [f"no answer within {TIMEOUT:.0f} s"]
    thing.waiting.callback(None)
    assert whys(troubles) == []


def test_a_mistake_of_ours_is_logged_once(lines: list[str]) -> None:
    thing = Thing()
    thing.error = KeyError("secret")
    clock, troubles, probes = looking(thing)
    probes.start()
    for _ in range(5):
        clock.advance(INTERVAL)
    assert whys(troubles) == ["KeyError"]
    assert len(lines) == 2 and lines[1] == "The probe of Thing failed unexpectedly"


def test_what_requests_notice_is_looked_at_in_trouble_only() -> None:
    thing = Thing()
    clock, troubles, probes = looking(thing, only_in_trouble=True)
    probes.start()
    clock.advance(INTERVAL)
    assert thing.looks == []
    troubles.report("thing", "Thing", "a request says so")
    clock.advance(INTERVAL)
    assert thing.looks == [True] and whys(troubles) == []


def test_a_trouble_that_nobody_looks_at_ends_with_its_configuration() -> None:
    _, troubles, probes = looking(Thing())
    troubles.report("store of before", "Store", "gone")
    troubles.report("chore", "Chore", "ended by itself", is_essential=False)
    probes.start()
    assert [trouble.key for trouble in troubles.present] == ["chore"]
