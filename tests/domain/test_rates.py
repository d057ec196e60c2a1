"""Token buckets against a plain account of what they may let through, and places for uploads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgservice.domain.rates import LONGEST_KEY, Buckets, Places, Rate
from tests.examples import examples

quick = settings(database=None, deadline=None, max_examples=examples(300))
TINY = 2e-6
"""Rounding of moments, far below what anybody waits."""


def is_taken(buckets: Buckets, key: str, now: float, count: float = 1) -> bool:
    if buckets.wait(key, now, count) > 0:
        return False
    buckets.take(key, now, count)
    return True


class Level:
    """A bucket as the textbooks have it: a level that rises with time, and is drawn from."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._level = rate.burst
        self._at = 0.0

    def rise(self, now: float) -> float:
        self._level += (now - self._at) * self._rate.per_second
        self._level, self._at = min(self._level, self._rate.burst), now
        return self._level

    def draw(self, count: float) -> None:
        self._level -= count


@given(
    per_second=st.floats(0.01, 1e4),
    burst=st.integers(1, 1000),
    pauses=st.lists(st.floats(0, 50), max_size=60),
    counts=st.lists(st.integers(1, 5), min_size=60, max_size=60),
)
@quick
def test_a_bucket_is_like_a_level(
    per_second: float, burst: int, pauses: list[float], counts: list[int]
) -> None:
    rate = Rate(per_second, burst)
    buckets, level, now = Buckets(rate), Level(rate), 1000.0
    level.rise(now)
    for pause, asked in zip(pauses, counts, strict=False):
        now, count = now + pause, min(asked, burst)
        missing = count - level.rise(now)
        if abs(missing / per_second) < TINY:  # on the edge: rounding decides
            continue
        assert (buckets.wait("key", now, count) <= 0) == (missing <= 0)
        if missing <= 0:
            buckets.take("key", now, count)
            level.draw(count)


@given(per_second=st.floats(0.1, 1e4), burst=st.integers(1, 50), pause=st.floats(0, 3))
@quick
def test_who_waits_as_long_as_told_gets_it_and_not_before(
    per_second: float, burst: int, pause: float
) -> None:
    buckets, now = Buckets(Rate(per_second, burst)), 1000.0
    while is_taken(buckets, "key", now):
        pass
    now += pause
    while is_taken(buckets, "key", now):
        pass
    wait = buckets.wait("key", now)
    assert 0 < wait <= 1 / per_second + TINY
    assert wait < TINY or buckets.wait("key", now + wait * 0.9) > 0
    assert is_taken(buckets, "key", now + wait + TINY)


def test_the_burst_comes_at_once_and_then_the_rate() -> None:
    buckets = Buckets(Rate(10, 100))
    assert sum(is_taken(buckets, "key", 5.0) for _ in range(500)) == 100
    taken = sum(is_taken(buckets, "key", 5 + tick / 1000) for tick in range(60_001))
    assert taken == 600
    assert sum(is_taken(buckets, "key", 200.0) for _ in range(500)) == 100, "it fills, and no more"


def test_a_rate_far_below_one_a_second() -> None:
    buckets = Buckets(Rate(0.01, 1))
    assert is_taken(buckets, "key", 0.0)
    assert buckets.wait("key", 0.0) == pytest.approx(100)
    assert not is_taken(buckets, "key", 99.0)
    assert is_taken(buckets, "key", 100.1)


def test_keys_have_buckets_of_their_own() -> None:
    buckets = Buckets(Rate(1, 1))
    assert is_taken(buckets, "one", 0.0)
    assert not is_taken(buckets, "one", 0.0)
    assert is_taken(buckets, "two", 0.0)


def test_what_was_taken_in_vain_is_given_back() -> None:
    buckets = Buckets(Rate(1, 2))
    for _ in range(100):
        assert is_taken(buckets, "key", 7.0)
        buckets.give_back("key", 7.0)
    assert len(buckets) == 0, "a full bucket is not kept"
    buckets.give_back("key", 7.0)
    buckets.give_back("nobody", 7.0)
    assert sum(is_taken(buckets, "key", 7.0) for _ in range(9)) == 2, "and never more than full"


def test_a_debt_is_paid_off_at_the_rate() -> None:
    buckets = Buckets(Rate(100, 50))
    buckets.take("key", 3.0, 1050)
    assert buckets.debt("key", 3.0) == pytest.approx(10)
    assert buckets.debt("key", 8.0) == pytest.approx(5)
    assert buckets.debt("key", 14.0) == buckets.debt("nobody", 3.0) == 0


def test_more_than_the_burst_is_had_from_a_full_bucket() -> None:
    buckets = Buckets(Rate(10, 5))
    assert is_taken(buckets, "key", 0.0, 20)
    assert not is_taken(buckets, "key", 1.9, 20)
    assert is_taken(buckets, "key", 2.1, 20)


# -- memory ---------------------------------------------------------------------------------------


def test_memory_is_bounded_however_many_come() -> None:
    buckets = Buckets(Rate(1, 10), most=1000)
    for number in range(20_000):
        assert is_taken(buckets, f"key {number}", 0.0)
    assert len(buckets) == 1000


def test_full_buckets_go_first() -> None:
    buckets = Buckets(Rate(1, 10), most=1000)
    for number in range(900):
        is_taken(buckets, f"early {number}", 0.0)
    for _ in range(10):
        is_taken(buckets, "busy", 0.5)
    for number in range(900):  # by now all the early ones are full again
        is_taken(buckets, f"late {number}", 2.0)
    assert len(buckets) == 901
    assert not is_taken(buckets, "busy", 0.5)


def test_memory_shrinks_after_an_attack() -> None:
    buckets = Buckets(Rate(1, 10), most=10_000)
    for number in range(10_000):
        is_taken(buckets, f"attacker {number}", 0.0)
    for number in range(11_000):
        is_taken(buckets, f"client {number}", 60.0 + number)
    assert len(buckets) < 20


def test_who_keeps_coming_stays_known() -> None:
    """An eviction takes as many others as are remembered, in between two tries."""
    buckets = Buckets(Rate(0.001, 5), most=1000)
    assert sum(is_taken(buckets, "guesser", 0.0) for _ in range(9)) == 5
    for number in range(50_000):
        buckets.take(f"helper {number}", 0.0)
        if number % 900 == 0:
            buckets.take("guesser", 0.0)
    assert not is_taken(buckets, "guesser", 1.0)


def test_evicting_costs_more_than_it_gives() -> None:
    burst, most = 50, 1000
    buckets = Buckets(Rate(0.001, burst), most=most)
    spent = gained = 0
    for round_ in range(20):
        while is_taken(buckets, "guesser", 0.0):
            gained += 1
        for number in range(most):
            assert is_taken(buckets, f"helper {round_} {number}", 0.0)
            spent += 1
    assert spent / gained >= most / burst


def test_long_keys_take_no_more_room() -> None:
    buckets = Buckets(Rate(0.001, 1))
    assert is_taken(buckets, "x" * 100_000, 0.0)
    assert not is_taken(buckets, "x" * LONGEST_KEY, 0.0)
    assert is_taken(buckets, "x" * (LONGEST_KEY - 1), 0.0)


# -- places ---------------------------------------------------------------------------------------


def test_places_of_each_and_in_all() -> None:
    places = Places(in_all=3, of_each=2)
    with places.one("a"), places.one("a"):
        assert places.are_taken("a") and not places.are_taken("b")
        with places.one("b"):
            assert places.are_all_taken()
        assert not places.are_all_taken()
    assert not places.are_taken("a")
    assert places.taken == 0


def test_a_place_is_free_again_after_a_failure() -> None:
    places = Places(in_all=1, of_each=1)
    with pytest.raises(KeyError), places.one("a"):
        raise KeyError
    assert not places.are_all_taken() and not places.are_taken("a")


def test_places_without_limits() -> None:
    places = Places(None, None)
    with places.one("a"), places.one("a"):
        assert not places.are_taken("a") and not places.are_all_taken()
