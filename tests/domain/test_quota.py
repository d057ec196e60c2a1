"""How much a project may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgservice.domain.errors import TooLarge
from imgservice.domain.quota import MEBI, SMALLEST_STEP, Quota, Resource, shown

SIZE, COUNT = Resource.SIZE_TOTAL, Resource.COUNT_TOTAL
amounts = st.integers(0, 1 << 50)


def refusal(quota: Quota, used: dict[Resource, int], more: dict[Resource, int]) -> str:
    with pytest.raises(TooLarge) as caught:
        quota.check(used, more)
    return caught.value.message


def test_up_to_the_limit_and_not_beyond() -> None:
    quota = Quota("p", {SIZE: 10 * MEBI, COUNT: 3})
    quota.check({SIZE: 9 * MEBI, COUNT: 2}, {SIZE: MEBI, COUNT: 1})
    assert refusal(quota, {SIZE: 0, COUNT: 3}, {SIZE: 5, COUNT: 1}) == (
        "Project p is over a limit for [Resource image_count_total is over limit of 3 due to"
        " current usage 3 and delta 1]"
    )
    assert refusal(quota, {SIZE: 9 * MEBI, COUNT: 3}, {SIZE: 2 * MEBI, COUNT: 1}) == (
        "Project p is over a limit for [Resource image_size_total is over limit of 10 MiB due to"
        " current usage 9 MiB and delta 2 MiB, Resource image_count_total is over limit of 3 due to"
        " current usage 3 and delta 1]"
    )


def test_what_is_not_limited_is_not_looked_at() -> None:
    quota = Quota("p", {COUNT: 3})
    assert quota.limited((SIZE, COUNT)) == [COUNT]
    quota.check({}, {SIZE: 1 << 60})


def test_nothing_more_is_refused_only_where_there_is_too_much_already() -> None:
    quota = Quota("p", {SIZE: 10})
    quota.check({SIZE: 10}, {SIZE: 0})
    refusal(quota, {SIZE: 11}, {SIZE: 0})


def test_the_one_limit_on_storage_has_words_of_its_own() -> None:
    quota = Quota("p", {SIZE: 100}, storage_only=True)
    told = (
        "Image exceeds the storage quota: The size of the data {} bytes will exceed the limit. {} "
    )
    assert refusal(quota, {SIZE: 60}, {SIZE: 41}) == told.format(41, 40) + "bytes remaining."
    assert refusal(quota, {SIZE: 160}, {SIZE: 1}) == told.format(1, 0) + "bytes remaining."


@given(most=amounts, used=amounts, more=amounts)
def test_the_told_numbers_exceed_the_told_limit(most: int, used: int, more: int) -> None:
    """Bytes are compared and mebibytes told; what is told must not look as if it fitted."""
    quota = Quota("p", {SIZE: most})
    if used + more <= most:
        quota.check({SIZE: used}, {SIZE: more})
        return
    words = refusal(quota, {SIZE: used}, {SIZE: more}).rstrip("]").split()
    limit, usage, delta = (int(words[words.index(w) + 1]) for w in ("of", "usage", "delta"))
    assert limit == shown(SIZE, most)
    assert usage + delta > limit


@given(most=amounts, used=amounts, needed=amounts, step=amounts)
def test_what_an_upload_is_granted(most: int, used: int, needed: int, step: int) -> None:
    quota = Quota("p", {SIZE: most})
    if used + needed > most:
        with pytest.raises(TooLarge):
            quota.grant(used, needed, step)
        return
    granted = quota.grant(used, needed, step)
    left = most - used - needed
    assert needed <= granted <= min(most - used, needed + step)
    assert granted - needed <= max(SMALLEST_STEP, left // 16)
    assert granted > needed or 0 in (left, step)
