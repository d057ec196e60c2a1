"""A limit of memory that several streams share."""

from twisted.internet.defer import CancelledError, Deferred

from imgservice.concurrency.memory import SharedMemory


def is_had(needed: Deferred[None]) -> bool:
    return needed.called


def test_as_many_pieces_as_there_are() -> None:
    memory = SharedMemory(100)
    assert [memory.take(30, 2), memory.take(30, 5), memory.take(30, 1)] == [2, 1, 0]
    memory.give_back(60)
    assert memory.take(30, 5) == 2
    assert memory.take(1, -1) == 0


def test_whoever_must_have_some_waits_in_order() -> None:
    memory = SharedMemory(100)
    first, second, third = memory.need(80), memory.need(50), memory.need(10)
    assert [is_had(one) for one in (first, second, third)] == [True, False, False]
    assert memory.take(5, 1) == 0  # it is not taken from those who wait
    memory.give_back(80)
    assert is_had(second)
    assert is_had(third)


def test_a_turn_can_be_given_up() -> None:
    memory = SharedMemory(100)
    memory.need(100)
    second, third = memory.need(100), memory.need(100)
    second.addErrback(lambda why: why.trap(CancelledError) and None)
    second.cancel()
    memory.give_back(100)
    assert is_had(third)


def test_more_than_there_is_at_all_is_had_alone() -> None:
    memory = SharedMemory(100)
    small, large, other = memory.need(1), memory.need(1000), memory.need(1)
    assert not is_had(large)
    memory.give_back(1)
    assert is_had(small)
    assert is_had(large)
    assert not is_had(other)
    memory.give_back(1000)
    assert is_had(other)
