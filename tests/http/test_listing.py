"""Query strings of lists."""

import contextlib
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgservice.api.v2.listing import Paging, image_query, links, parse_query, split_values
from imgservice.domain.context import Context
from imgservice.domain.errors import ImageServiceError, Invalid
from imgservice.domain.image import Visibility
from imgservice.domain.query import Comparison, ImageQuery
from tests.examples import examples

quick = settings(database=None, deadline=None, max_examples=examples(500))


def query(text: str) -> ImageQuery:
    return image_query(parse_query(text.encode()), Context(project="apollo"), Paging(25, 1000))


def test_defaults() -> None:
    found = query("")
    assert (found.limit, found.marker, found.project) == (25, None, "apollo")
    assert found.sort == (("created_at", "desc"), ("id", "desc"))
    assert (found.where, found.properties, found.tags) == ((), (), ())
    assert (found.visibility, found.member_status, found.os_hidden) == (None, "accepted", False)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("limit=0", 0), ("limit=7", 7), ("limit=5000", 1000), ("limit=" + "9" * 5000, 1000)],
)
def test_limit(text: str, limit: int) -> None:
    assert query(text).limit == limit


@pytest.mark.parametrize(
    ("text", "sort"),
    [
        ("sort_key=name", (("name", "desc"), ("created_at", "desc"), ("id", "desc"))),
        ("sort_key=name&sort_dir=asc", (("name", "asc"), ("created_at", "asc"), ("id", "asc"))),
        (
            "sort=name:asc,size",
            (("name", "asc"), ("size", "desc"), ("created_at", "desc"), ("id", "desc")),
        ),
        ("sort=id:asc", (("id", "asc"), ("created_at", "asc"))),
        (
            "sort=name:asc,size,name:desc,name",
            (("name", "asc"), ("size", "desc"), ("created_at", "desc"), ("id", "desc")),
        ),
        (
            "&".join(["sort_key=size", "sort_key=name"] * 700) + "&sort_dir=asc",
            (("size", "asc"), ("name", "asc"), ("created_at", "asc"), ("id", "asc")),
        ),
        ("sort=" + "id," * 3000 + "id", (("id", "desc"), ("created_at", "desc"))),
    ],
)
def test_sort(text: str, sort: Any) -> None:
    found = query(text).sort
    assert found[: len(sort)] == sort
    assert {"id", "created_at"} <= {key for key, _ in found}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name=x", Comparison("name", "eq", "x")),
        ("name=in:a,b", Comparison("name", "in", ("a", "b"))),
        ('name=in:"a,b",c', Comparison("name", "in", ("a,b", "c"))),
        ("size_min=5", Comparison("size", "gte", 5)),
        ("size_max=5", Comparison("size", "lte", 5)),
        ("protected=true", Comparison("protected", "eq", True)),
        (
            "created_at=gte:2026-01-02T03:04:05Z",
            Comparison("created_at", "gte", datetime(2026, 1, 2, 3, 4, 5)),
        ),
        (
            "updated_at=2026-01-02T03:04:05%2B01:00",
            Comparison("updated_at", "eq", datetime(2026, 1, 2, 2, 4, 5)),
        ),
    ],
)
def test_condition(text: str, expected: Comparison) -> None:
    assert query(text).where == (expected,)


def test_other_parameters_are_properties() -> None:
    found = query("os_distro=debian&tag=a&tag=b&visibility=public&os_hidden=true")
    assert found.properties == (("os_distro", "debian"),)
    assert found.tags == ("a", "b")
    assert (found.visibility, found.os_hidden) == (Visibility.PUBLIC, True)


@pytest.mark.parametrize(
    "text",
    [
        "limit=-1",
        "limit=x",
        "limit=",
        "sort=nonsense",
        "sort=name:up",
        "sort=name&sort_key=id",
        "sort_key=id&sort_key=name&sort_dir=asc&sort_dir=asc&sort_dir=asc",
        "sort_dir=sideways",
        "visibility=some",
        "member_status=maybe",
        "size=x",
        "size_min=",
        "protected=1",
        "protected=True",
        "protected=FALSE",
        "created_at=yesterday",
        "created_at=in:2026",
        "name=foo:bar",
        'name=in:"a',
        "changes-since=2026",
        "&".join(f"p{n}=x" for n in range(129)),
        "&".join(f"tag=t{n}" for n in range(129)),
        "&".join(f"tag=t{n}&p{n}=x" for n in range(65)),
        "name=in:" + "a," * 1000,
        "name=in:" + "a," * 500 + "&id=in:" + "b," * 500,
        "name=%ff",
        "os_hidden=2",
    ],
)
def test_bad_query(text: str) -> None:
    with pytest.raises(Invalid):
        query(text)


def test_links_keep_every_parameter() -> None:
    pairs = parse_query(b"tag=a&tag=b&limit=1&marker=old&name=x%26y")
    assert links(pairs, None) == {"first": "/v2/images?tag=a&tag=b&limit=1&name=x%26y"}
    assert links(pairs, "new")["next"] == "/v2/images?tag=a&tag=b&limit=1&name=x%26y&marker=new"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ('"a,b",c', ["a,b", "c"]),
        (r'"a\"b"', ['a"b']),
        (r'"a\\b"', [r"a\b"]),
        ("", [""]),
        ("a,", ["a", ""]),
        (",a", ["", "a"]),
        ('"a",', ["a", ""]),
    ],
)
def test_split_values(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@pytest.mark.parametrize("text", ['"a', 'a"b', '"a"b', '"', '"a\\"'])
def test_quotes_that_do_not_pair_up(text: str) -> None:
    with pytest.raises(Invalid):
        split_values(text)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@quick
@given(st.lists(st.text(), min_size=1))
def test_quoted_values_come_back(values: list[str]) -> None:
    assert split_values(",".join(map(_quoted, values))) == values


@quick
@given(st.text(st.sampled_from('a,"\\ \n')))
def test_any_values(text: str) -> None:
    with contextlib.suppress(ImageServiceError):
        split_values(text)


names = st.sampled_from(
    [
        "limit",
        "marker",
        "sort",
        "sort_key",
        "sort_dir",
        "name",
        "id",
        "status",
        "size",
        "size_min",
        "min_ram_max",
        "created_at",
        "updated_at",
        "protected",
        "visibility",
        "member_status",
        "os_hidden",
        "tag",
        "owner",
        "changes-since",
        "deleted",
        "x",
    ]
)
values = st.text() | st.sampled_from(
    [
        "in:a,b",
        "eq:",
        "gt:2026-01-01",
        "lt:0001-01-01T00:00:00+14:00",
        "gte:9999-12-31T23:59:59-14:00",
        "true",
        "asc",
        "id:asc,name",
        "-1",
        "1e5",
        "\u0661",
        "all",
    ]
)


@quick
@given(st.lists(st.tuples(names, values)))
def test_any_pairs(pairs: list[tuple[str, str]]) -> None:
    with contextlib.suppress(ImageServiceError):
        image_query(pairs, Context(), Paging())


@quick
@given(st.binary())
def test_any_query_string(raw: bytes) -> None:
    with contextlib.suppress(ImageServiceError):
        parse_query(raw)
