"""Whatever clients write into queries, ranges and patches, they are told what is wrong with it."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import SHARING, examples
from tests.real.client import Client, Reply
from tests.real.roles import PATCH, Callers, callers, trusting

DATA = bytes(range(256)) * 4
NAMES = [
    "",
    "a",
    "a,b",
    'say "so"',
    "back\\slash",
    "in:a",
    "gt:1",
    " space ",
    ",",
    '"',
    "\\",
    "ü,\u4f01",
]

quick = settings(
    database=None,
    deadline=None,
    max_examples=examples(150),
    suppress_health_check=SHARING,
)


@attrs.frozen
class Target:
    """An image with data, beside others with difficult names, in a running service."""

    roles: Callers
    image_id: str
    named: dict[str, str]
    """Ids by name."""
    patched: str
    """The id of one that is changed all the time."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with trusting(tmp_path_factory.mktemp("fuzz")) as service:
        roles = callers(service)
        image_id = roles.owner.active(DATA, name="target", k="v", tags=["t"])
        named = {name: roles.owner.create(name=name, tags=["named"]) for name in NAMES}
        yield Target(roles, image_id, named, roles.owner.create(k="v"))


def ask(client: Client, method: str, path: bytes, headers: bytes = b"") -> Reply:
    """Send a request whose path and headers are these bytes, whatever they are."""
    known = "".join(f"{name}: {value}\r\n" for name, value in client.headers.items())
    head = b"%s %s HTTP/1.1\r\nHost: x\r\n%s" % (method.encode(), path, known.encode())
    return client.exchange(head + headers + b"\r\n")


# -- queries --------------------------------------------------------------------------------------

PARAMETERS = st.sampled_from(
    ["limit", "marker", "sort", "sort_key", "sort_dir", "name", "id", "status", "disk_format",
     "size", "size_min", "size_max", "min_ram", "min_disk_max", "virtual_size", "created_at",
     "updated_at", "protected", "visibility", "member_status", "os_hidden", "tag", "owner",
     "checksum", "os_hash_value", "deleted", "is_public", "changes-since", "k", ""]
) | st.text(max_size=6)  # fmt: skip
OPERATORS = st.sampled_from(["in:", "eq:", "neq:", "gt:", "gte:", "lt:", "lte:", "nin:", ":", ""])
PIECES = ['"', ",", "\\", ":", " ", "a", "name", "asc", "true", "all", "public", "queued", "-", "1",
          "2026-01-01T00:00:00Z", "+", "9" * 19, "9" * 40, "1e9", "\0", "%", "'", ";", "\u0661",
          "\U0001f427", "\n"]  # fmt: skip
VALUES = st.builds(
    "{}{}".format, OPERATORS, st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
) | st.text(max_size=12)


def assert_listed_or_refused(reply: Reply) -> None:
    assert reply.status == 200 or 400 <= reply.status < 500, reply
    if reply.status == 200:
        assert reply.json().keys() >= {"images", "first", "schema"}


@quick
@given(pairs=st.lists(st.tuples(PARAMETERS, VALUES), max_size=4), as_admin=st.booleans())
def test_any_filters(target: Target, pairs: list[tuple[str, str]], as_admin: bool) -> None:
    client = target.roles.admin if as_admin else target.roles.owner
    assert_listed_or_refused(client.get(f"/v2/images?{urlencode(pairs)}"))


@quick
@given(raw=st.binary(max_size=40) | st.text("&=%;+0fF8aC\u00fc#?", max_size=20).map(str.encode))
def test_any_query_string(target: Target, raw: bytes) -> None:
    # What ends a request line would be another request, not another query.
    query = b"".join(b"%%%02x" % byte if byte <= 32 else bytes([byte]) for byte in raw)
    assert_listed_or_refused(ask(target.roles.owner, "GET", b"/v2/images?" + query))


def quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@quick
@given(wanted=st.lists(st.sampled_from([*NAMES, "nobody", "nobody, too"]), min_size=1, max_size=8))
def test_in_finds_exactly_what_is_named(target: Target, wanted: list[str]) -> None:
    pairs = {"tag": "named", "name": "in:" + ",".join(map(quoted, wanted))}
    found = target.roles.owner.get(f"/v2/images?{urlencode(pairs)}").json()["images"]
    expected = {target.named[name] for name in wanted if name in target.named}
    assert {image["id"] for image in found} == expected


# -- ranges ---------------------------------------------------------------------------------------

RANGES = st.lists(
    st.sampled_from([b"bytes", b"=", b"-", b" ", b"0", b"7", b"1023", b"1024", b"9" * 30, b",",
                     b"/", b"*", b"+", b"\t", b"\xb2", b"items"]), max_size=8
).map(b"".join)  # fmt: skip
BOUNDS = st.none() | st.integers(0, 2 * len(DATA))
WELL_FORMED = st.builds(
    lambda first, last: f"bytes={'' if first is None else first}-{'' if last is None else last}",
    BOUNDS,
    BOUNDS,
).map(str.encode)
# A header cannot hold these three, whatever it says.
ANYTHING = st.binary(max_size=20).map(lambda raw: raw.translate(None, b"\r\n\0"))


@quick
@given(field=st.sampled_from([b"Range", b"Content-Range"]), value=WELL_FORMED | RANGES | ANYTHING)
def test_any_range(target: Target, field: bytes, value: bytes) -> None:
    path = f"/v2/images/{target.image_id}/file".encode()
    reply = ask(target.roles.owner, "GET", path, b"%s: %s\r\n" % (field, value))
    assert reply.status in (200, 206) or 400 <= reply.status < 500, reply
    if reply.status == 200:
        assert reply.body == DATA
    elif reply.status == 206:
        places, _, total = reply.headers["content-range"].removeprefix("bytes ").partition("/")
        first, last = map(int, places.split("-"))
        assert int(total) == len(DATA) and reply.body == DATA[first : last + 1] != b""


# -- patches --------------------------------------------------------------------------------------

GOOD = st.sampled_from(["/k", "/name", "/tags", "/a~1b", "/~01", "/min_ram", "/visibility"])
POINTERS = (
    GOOD
    | st.lists(
        st.sampled_from(
            ["/", "~", "~0", "~1", "~2", "name", "tags", "locations", "-", "0", "99", "k", " ",
             "url", "\0", "\U0001f427", "os_glance_x", "-1", "visibility"]
        ),
        max_size=6,
    ).map("".join)
    | st.text(max_size=8)
)  # fmt: skip
OPERATION = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "replace", "remove"]),
        "path": POINTERS,
        "value": st.text(max_size=4) | st.none() | st.integers(0, 9) | st.just(["tag"]),
    }
)


@quick
@given(operations=st.lists(OPERATION, min_size=1, max_size=2), as_admin=st.booleans())
def test_any_pointer(target: Target, operations: list[dict[str, Any]], as_admin: bool) -> None:
    """Also in a list of two, since what a first one leaves behind is what a second one finds."""
    client = target.roles.admin if as_admin else target.roles.owner
    body = json.dumps(operations).encode()
    path = f"/v2/images/{target.patched}"
    before = target.roles.admin.show(target.patched)
    reply = client.request("PATCH", path, body, {"Content-Type": PATCH})
    assert reply.status == 200 or 400 <= reply.status < 500, reply
    expected = reply.json() if reply.status == 200 else before
    assert target.roles.admin.show(target.patched) == expected
