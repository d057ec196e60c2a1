"""Answers that are not read do not pile up, and clients that read get theirs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import cast

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from imgservice.http.answer_memory import GRACE, STALL, AnswerMemory
from imgservice.http.request import StreamingRequest
from imgservice.http.response import Response
from tests.http.serving import Serving, Wire

KiB = 1 << 10
MOST = 8 << 20
LONG = bytes(1 << 20)


class Reader:
    """A client with something to read."""

    def __init__(self, unsent: int) -> None:
        self.unsent = unsent
        self.is_cut = False

    def unsent_bytes(self) -> int:
        return 0 if self.is_cut else self.unsent

    def abort(self) -> None:
        self.is_cut = True


class Place:
    """An `AnswerMemory` of a hundred bytes, and its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.memory = AnswerMemory(self.clock, 100)

    def reader(self, unsent: int) -> Reader:
        made = Reader(unsent)
        self.memory.note(made, unsent)
        return made

    def ask(self, size: int) -> "Deferred[AbstractContextManager[None]]":
        return Deferred.fromCoroutine(self.memory.room(size))

    def enter(self, size: int) -> AbstractContextManager[None]:
        asked = self.ask(size)
        assert asked.called
        held = cast(AbstractContextManager[None], asked.result)
        held.__enter__()
        return held


def are_waiting(*asked: "Deferred[AbstractContextManager[None]]") -> bool:
    return not any(one.called for one in asked)


def test_answers_are_made_while_there_is_room() -> None:
    place = Place()
    first, _ = place.enter(50), place.enter(40)
    waiting, behind = place.ask(40), place.ask(1)
    place.clock.advance(60)
    assert are_waiting(waiting, behind)
    first.__exit__(None, None, None)
    place.clock.advance(0)
    assert waiting.called
    assert behind.called


def test_answers_longer_than_all_memory_do_not_wait_for_ever() -> None:
    place = Place()
    held = [place.enter(1000), place.enter(1000)]
    waiting = place.ask(1)
    assert are_waiting(waiting)
    held[0].__exit__(None, None, None)
    assert waiting.called


def test_what_is_unread_takes_room_until_it_is_read() -> None:
    place = Place()
    reader = place.reader(90)
    waiting = place.ask(20)
    while reader.unsent > 80:
        place.clock.advance(STALL / 2)
        assert not waiting.called
        reader.unsent -= 2
    place.clock.advance(STALL / 2)
    assert waiting.called
    assert not reader.is_cut


def test_a_client_that_has_left_takes_no_room() -> None:
    place = Place()
    reader = place.reader(90)
    waiting = place.ask(20)
    place.memory.forget(reader)
    place.clock.advance(0)
    assert waiting.called


def test_those_who_read_most_slowly_are_cut_when_others_need_the_room() -> None:
    place = Place()
    readers = [place.reader(30) for _ in range(3)]
    for reader, unsent in zip(readers, (10, 28, 20), strict=True):
        reader.unsent = unsent
    place.clock.advance(100)
    assert not any(reader.is_cut for reader in readers)  # nobody needs it
    waiting = place.ask(50)
    place.clock.advance(1)
    assert waiting.called
    assert [reader.is_cut for reader in readers] == [False, True, False]


def test_nobody_is_cut_at_once() -> None:
    place = Place()
    reader = place.reader(100)
    waiting = place.ask(50)
    for _ in range(8):
        place.clock.advance(STALL / 10)
    seen = [reader.is_cut]
    for _ in range(8):
        place.clock.advance(STALL / 10)
    assert [*seen, reader.is_cut, waiting.called] == [False, True, True]


def test_a_client_that_reads_slowly_has_some_time() -> None:
    place = Place()
    reader = place.reader(100)
    waiting = place.ask(50)
    seen = []
    for _ in range(12):
        reader.unsent -= 1
        place.clock.advance(GRACE / 10)
        seen.append(reader.is_cut)
    assert seen == [False] * 9 + [True] * 3
    assert waiting.called


def test_an_answer_that_is_made_already_is_refused_or_gets_room() -> None:
    place = Place()
    reader = place.reader(100)
    assert not place.memory.admits(50)
    place.clock.advance(GRACE)
    assert place.memory.admits(50)
    assert reader.is_cut


# -- over real sockets ----------------------------------------------------------------------------


async def long_answer(request: StreamingRequest) -> Response:
    return Response(200, LONG if request.path == b"/long" else b"short", "text/plain")


@pytest_twisted.ensureDeferred
async def test_clients_that_do_not_read(serve: Callable[..., Serving]) -> None:
    """Their answers fill the memory and no more; a client that reads is served all the while."""
    serving = serve(long_answer, answer_memory=MOST)

    def client(wire: Wire) -> tuple[int, int]:
        with ExitStack() as silent:
            for _ in range(100):
                wire = silent.enter_context(serving.open(receive_buffer=4 * KiB))
                wire.ask("GET", "/long")
                wire.head()
            unsent = sum(channel.unsent_bytes() for channel in list(serving.site.channels))
            with serving.open() as wire:
                wire.ask("GET", "/short")
                assert wire.reply().body == b"short"
            statuses = []
            while 200 not in statuses:
                with serving.open() as wire:
                    wire.ask("GET", "/long")
                    reply = wire.reply()
                    statuses.append(reply.status)
                    assert reply.status == 200 or "retry-after" in reply.headers
            return unsent, statuses[-1]

    unsent, status = await serving.talk(client)
    assert unsent <= MOST
    assert status == 200


@pytest_twisted.ensureDeferred
async def test_clients_that_read_get_all_of_it(serve: Callable[..., Serving]) -> None:
    serving = serve(long_answer, answer_memory=MOST)

    def client() -> int:
        with serving.open() as wire:
            for _ in range(10):
                wire.ask("GET", "/long")
                assert wire.reply().body == LONG
        return 10

    clients = [deferToThread(client) for _ in range(4)]
    assert [await one for one in clients] == [10] * 4
