"""Which bytes a Range header asks for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgservice.domain.errors import ImageServiceError, Invalid, RangeNotSatisfiable
from imgservice.http.ranges import ByteRange, wanted_range
from tests.examples import examples

quick = settings(database=None, deadline=None, max_examples=examples(500))


@pytest.mark.parametrize(
    ("header", "start", "length"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=0-", 0, 100),
        ("bytes=99-", 99, 1),
        ("bytes=10-19", 10, 10),
        ("bytes=10-1000000", 10, 90),
        ("bytes=10-99999999999999999999999999", 10, 90),
        ("bytes=-1", 99, 1),
        ("bytes=-100", 0, 100),
        ("bytes=-1000", 0, 100),
        (" bytes= 5 - 6 ", 5, 2),
    ],
)
def test_range(header: str, start: int, length: int) -> None:
    found = wanted_range(header, None, 100)
    assert found == ByteRange(start, length)
    assert found.content_range(100) == f"bytes {start}-{start + length - 1}/100"


@pytest.mark.parametrize(
    "header",
    [
        "bytes=100-",
        "bytes=100-200",
        "bytes=5-4",
        "bytes=-0",
        "bytes=-",
        "bytes=",
        "bytes",
        "",
        "lines=0-1",
        "bytes=a-b",
        "bytes=1",
        "bytes=--1",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes=0x0-1",
        "bytes=\u0661-\u0662",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_unsatisfiable_range(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        wanted_range(header, None, 100)
    assert caught.value.size == 100


@pytest.mark.parametrize("header", ["bytes=0-1,3-4", "bytes=0-,-1", ","])
def test_several_ranges(header: str) -> None:
    with pytest.raises(Invalid):
        wanted_range(header, None, 100)


def test_no_range() -> None:
    assert wanted_range(None, None, 100) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 0-9/100", ByteRange(0, 10)),
        ("bytes 10-19/*", ByteRange(10, 10)),
        ("bytes 90-99/100", ByteRange(90, 10)),
        ("bytes 0-9/5000", ByteRange(0, 10)),
    ],
)
def test_content_range_in_a_request(header: str, expected: ByteRange) -> None:
    assert wanted_range(None, header, 100) == expected


@pytest.mark.parametrize(
    "header",
    [
        "bytes 90-100/100",
        "bytes 90-100/*",
        "bytes 90-100/101",
        "bytes 0-9/5",
        "bytes 0-99999999999999999999/*",
        "bytes 5-4/100",
        "bytes 100-/100",
        "bytes */100",
        "0-9",
        "",
    ],
)
def test_bad_content_range(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        wanted_range(None, header, 100)


def test_empty_image_has_no_range() -> None:
    for header in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        with pytest.raises(RangeNotSatisfiable):
            wanted_range(header, None, 0)


almost = st.lists(
    st.sampled_from(["bytes", "=", "-", " ", "/", "*", "0", "9", "99", "\u00b2", ","])
)


@quick
@given(st.none() | almost.map("".join) | st.text(), st.none() | st.text(), st.integers(0, 1 << 50))
def test_any_range_lies_within_the_image(
    range_: str | None, content_range: str | None, size: int
) -> None:
    try:
        found = wanted_range(range_, content_range, size)
    except ImageServiceError:
        return
    if found is not None:
        assert 0 <= found.start < size and 0 < found.length <= size - found.start
