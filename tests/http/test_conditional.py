"""Entity tags and dates of conditional requests."""

from datetime import datetime, timedelta

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.http import http_date

from imgservice.domain.errors import PreconditionFailed
from imgservice.http.conditional import (
    Validators,
    check_unchanged,
    is_known,
    matches,
    read_date,
    wants_part,
)
from tests.examples import examples

quick = settings(database=None, deadline=None, max_examples=examples(300))
MODIFIED = datetime(2026, 5, 4, 3, 2, 1, 999_999)
NOW = Validators('"abc"', MODIFIED)
BEFORE = "Mon, 04 May 2026 03:02:00 GMT"
THEN = "Mon, 04 May 2026 03:02:01 GMT"
LATER = "Mon, 04 May 2026 03:02:02 GMT"
NO_DATES = [
    "",
    "yesterday",
    "Mon, 04 May 2026",
    "99999999999999999999",
    "Mon, 99 May 2026 03:02:01 GMT",
]


@attrs.frozen
class Fields:
    """As much of a request as conditions look at."""

    values: dict[str, list[str]]

    def header(self, name: str) -> str | None:
        return self.values[name][0] if name in self.values else None

    def header_values(self, name: str) -> list[str]:
        return self.values.get(name, [])


def fields(**values: str) -> Fields:
    return Fields({name.replace("_", "-"): [value] for name, value in values.items()})


@pytest.mark.parametrize(
    ("listed", "strong", "weak"),
    [
        ('"abc"', True, True),
        ('  "abc" ', True, True),
        ("*", True, True),
        (" * ", True, True),
        ('"x", "abc"', True, True),
        ('"x","abc",', True, True),
        (', ,"x" , , "abc"', True, True),
        ('W/"abc"', False, True),
        ('W/"x", W/"abc"', False, True),
        ('"x"', False, False),
        ('"ABC"', False, False),
        ('""', False, False),
        ("abc", False, False),
        ('"abc', False, False),
        ('w/"abc"', False, False),
        ('"abc" "x"', False, False),
        ('"a bc"', False, False),
        ('*, "x"', False, False),
        ('"abc", x', False, False),
        ("", False, False),
    ],
)
def test_entity_tags(listed: str, strong: bool, weak: bool) -> None:
    assert matches(listed, '"abc"', "strong") is strong
    assert matches(listed, '"abc"', "weak") is weak
    assert matches(listed, None, "weak") is (listed.strip() == "*")


@quick
@given(st.lists(st.text(st.characters(min_codepoint=0x23, max_codepoint=0x7E)), min_size=1))
def test_one_of_many_entity_tags(tags: list[str]) -> None:
    listed = ", ".join(f'"{tag}"' for tag in tags)
    assert all(matches(listed, f'"{tag}"', "strong") for tag in tags)
    assert not matches(listed, '"not there"', "weak")


almost = st.lists(st.sampled_from(['"', "W/", "*", ",", " ", "a", "\t", "é", "\0"])).map("".join)


@quick
@given(almost | st.text(), almost | st.text(), st.text() | st.sampled_from([THEN, LATER]))
def test_no_header_is_too_strange(first: str, second: str, date: str) -> None:
    request = Fields(
        {
            "if-none-match": [first, second],
            "if-range": [first],
            "if-modified-since": [date],
            "if-unmodified-since": [date],
        }
    )
    assert is_known(request, NOW) in (True, False)
    assert wants_part(request, NOW) in (True, False)
    try:
        check_unchanged(request, NOW)
    except PreconditionFailed:
        assert read_date(date) is not None


def test_a_long_list_takes_no_time() -> None:
    for listed in ('"x",' * 4000 + "x", " ," * 8000 + "x", '"' * 16000, "W/" * 8000):
        assert not matches(listed, '"abc"', "weak")


@quick
@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1)))
def test_dates_there_and_back(moment: datetime) -> None:
    assert read_date(http_date(moment)) == moment.replace(microsecond=0)


@pytest.mark.parametrize("text", NO_DATES)
def test_no_date(text: str) -> None:
    assert read_date(text) is None
    assert not is_known(fields(if_modified_since=text), NOW)
    check_unchanged(fields(if_unmodified_since=text), NOW)
    assert not wants_part(fields(if_range=text), NOW)


def test_dates_in_other_zones() -> None:
    assert read_date("Mon, 04 May 2026 05:02:01 +0200") == MODIFIED.replace(microsecond=0)


@pytest.mark.parametrize(
    ("date", "known", "unchanged", "part"),
    [(BEFORE, False, False, False), (THEN, True, True, True), (LATER, True, True, False)],
)
def test_conditions_by_date(date: str, known: bool, unchanged: bool, part: bool) -> None:
    assert is_known(fields(if_modified_since=date), NOW) is known
    assert wants_part(fields(if_range=date), NOW) is part
    request = fields(if_unmodified_since=date)
    if unchanged:
        check_unchanged(request, NOW)
    else:
        with pytest.raises(PreconditionFailed):
            check_unchanged(request, NOW)


def test_entity_tags_count_more_than_dates() -> None:
    assert not is_known(fields(if_none_match='"x"', if_modified_since=LATER), NOW)
    check_unchanged(fields(if_match='"abc"', if_unmodified_since=BEFORE), NOW)


def test_a_guard_that_cannot_be_read_lets_nothing_pass() -> None:
    with pytest.raises(PreconditionFailed):
        check_unchanged(fields(if_match="abc"), NOW)


def test_without_validators() -> None:
    nothing = Validators()
    assert nothing.headers() == {}
    assert not is_known(fields(if_none_match='"abc"'), nothing)
    assert is_known(fields(if_none_match="*"), nothing)
    assert not is_known(fields(if_modified_since=LATER), nothing)
    assert not wants_part(fields(if_range='"abc"'), nothing)
    check_unchanged(fields(if_unmodified_since=BEFORE), Validators('"abc"'))
    with pytest.raises(PreconditionFailed):
        check_unchanged(fields(if_match='"abc"'), nothing)


def test_no_conditions() -> None:
    check_unchanged(fields(), NOW)
    assert not is_known(fields(), NOW)
    assert wants_part(fields(), NOW)
    assert NOW.headers() == {"etag": '"abc"', "last-modified": THEN}
    assert read_date(LATER) == MODIFIED.replace(microsecond=0) + timedelta(seconds=1)
