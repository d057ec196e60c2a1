"""Conditional and partial requests, and what they rely on, asked of a running service."""

import base64
import hashlib
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate, parsedate_to_datetime
from typing import Any

import pytest

from tests.real.client import Client, Reply
from tests.real.service import Service

DATA = bytes(range(256)) * 100
SHA512 = hashlib.sha512(DATA)
FILE_TAG = f'"{SHA512.hexdigest()}"'
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
WRONG = '"wrong"'


@pytest.fixture(scope="module")
def image_id(service: Service) -> str:
    return service.client.active(DATA)


def patch(client: Client, image_id: str, name: str, **headers: str) -> Reply:
    fields = {**PATCH, **{key.replace("_", "-"): value for key, value in headers.items()}}
    body = f'[{{"op": "replace", "path": "/name", "value": "{name}"}}]'.encode()
    return client.request("PATCH", f"/v2/images/{image_id}", body, fields)


def tag_of(client: Client, image_id: str) -> str:
    return client.get(f"/v2/images/{image_id}").headers["etag"]


# -- data -----------------------------------------------------------------------------------------


def test_headers_of_a_download(client: Client, image_id: str) -> None:
    headers = client.download(image_id).headers
    assert headers["etag"] == FILE_TAG
    assert headers["accept-ranges"] == "bytes"
    digest = base64.b64encode(SHA512.digest()).decode()
    assert headers["repr-digest"] == f"sha-512=:{digest}:"
    modified = parsedate_to_datetime(headers["last-modified"])
    assert modified.strftime("%Y-%m-%dT%H:%M:%SZ") == client.show(image_id)["updated_at"]


@pytest.mark.parametrize("suffix", ["", "/file"])
def test_head_is_get_without_the_body(client: Client, image_id: str, suffix: str) -> None:
    path = f"/v2/images/{image_id}{suffix}"
    shown, told = client.get(path), client.request("HEAD", path)
    assert (told.status, told.body) == (200, b"")
    varying = ("date", "x-openstack-request-id")
    assert [{**one.headers, **dict.fromkeys(varying)} for one in (shown, told)] == [
        {**shown.headers, **dict.fromkeys(varying)}
    ] * 2
    ranged = client.request("HEAD", path, headers={"Range": "bytes=0-1"})
    assert (ranged.status, ranged.headers["content-length"]) == (200, str(len(shown.body)))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": FILE_TAG}, 304),
        ({"If-None-Match": f"W/{FILE_TAG}"}, 304),
        ({"If-None-Match": f"{WRONG}, {FILE_TAG}"}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": WRONG}, 200),
        ({"If-None-Match": "nonsense"}, 200),
        ({"If-Match": FILE_TAG}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": WRONG}, 412),
        ({"If-Match": f"W/{FILE_TAG}"}, 412),
        ({"If-Match": WRONG, "If-None-Match": FILE_TAG}, 412),
        ({"If-Modified-Since": formatdate(time.time() + 86_400, usegmt=True)}, 304),
        ({"If-Modified-Since": formatdate(time.time() - 9999, usegmt=True)}, 200),
        ({"If-Modified-Since": "nonsense"}, 200),
        ({"If-Unmodified-Since": formatdate(time.time() - 9999, usegmt=True)}, 412),
        ({"If-Unmodified-Since": "nonsense"}, 200),
    ],
)
def test_conditional_download(
    client: Client, image_id: str, method: str, headers: Mapping[str, str], status: int
) -> None:
    reply = client.request(method, f"/v2/images/{image_id}/file", headers=headers)
    assert reply.status == status
    if status == 200:
        assert reply.body == (DATA if method == "GET" else b"")
    if status == 304:
        assert (reply.body, reply.headers["etag"]) == (b"", FILE_TAG)
        assert "content-length" not in reply.headers


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (None, 206),
        (FILE_TAG, 206),
        (WRONG, 200),
        (f"W/{FILE_TAG}", 200),
        ("*", 200),
        ("nonsense", 200),
        (formatdate(0, usegmt=True), 200),
    ],
)
def test_range_with_a_condition(
    client: Client, image_id: str, condition: str | None, status: int
) -> None:
    headers = {"If-Range": condition} if condition else {}
    reply = client.request(
        "GET", f"/v2/images/{image_id}/file", None, {"Range": "bytes=5-9", **headers}
    )
    assert reply.status == status
    assert reply.body == (DATA[5:10] if status == 206 else DATA)
    assert reply.headers["etag"] == FILE_TAG
    assert reply.headers["accept-ranges"] == "bytes"


def test_range_with_the_date_of_the_data(client: Client, image_id: str) -> None:
    date = client.download(image_id).headers["last-modified"]
    assert client.download(image_id, Range="bytes=5-9", If_Range=date).status == 206


def test_what_is_known_is_told_before_the_range_is_looked_at(client: Client, image_id: str) -> None:
    for range_ in ("bytes=0-1,3-4", "bytes=99999999-"):
        assert client.download(image_id, Range=range_, If_None_Match=FILE_TAG).status == 304
        assert client.download(image_id, Range=range_, If_Range=WRONG).status == 200


def test_several_ranges_are_refused(client: Client, image_id: str) -> None:
    assert client.download(image_id, Range="bytes=0-1,3-4").status == 400


def test_only_hashes_of_rfc_9530_are_announced(client: Client, service: Service) -> None:
    empty = client.create()
    reply = client.download(empty)
    assert reply.status == 204
    assert not {"etag", "repr-digest", "accept-ranges"} & reply.headers.keys()


# -- metadata -------------------------------------------------------------------------------------


def test_every_answer_with_the_image_has_its_entity_tag(client: Client) -> None:
    created = client.post("/v2/images", {"name": "a", "tags": ["z", "b"], "x": "1", "a": "2"})
    image_id = created.json()["id"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', created.headers["etag"])
    assert tag_of(client, image_id) == created.headers["etag"]
    patched = patch(client, image_id, "b")
    assert patched.status == 200
    assert tag_of(client, image_id) == patched.headers["etag"] != created.headers["etag"]


def test_every_change_changes_the_entity_tag(client: Client) -> None:
    image_id = client.create(name="0")
    seen = [tag_of(client, image_id)]

    def changed() -> None:
        seen.append(tag_of(client, image_id))

    for number in range(1, 4):  # within one second
        assert patch(client, image_id, str(number)).status == 200
        changed()
    client.request("PUT", f"/v2/images/{image_id}/tags/new")
    changed()
    client.upload(image_id, b"data")
    changed()
    client.request("POST", f"/v2/images/{image_id}/actions/deactivate")
    changed()
    assert len(set(seen)) == len(seen) == 7


def test_show_only_what_is_new(client: Client) -> None:
    image_id = client.create()
    path, tag = f"/v2/images/{image_id}", tag_of(client, image_id)
    reply = client.get(path, If_None_Match=tag)
    assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", tag)
    assert "content-type" not in reply.headers
    assert client.get(path, If_None_Match=WRONG).status == 200
    assert client.get(path, If_Match=WRONG).status == 412
    assert client.get(path, If_Match=tag).status == 200
    assert client.request("HEAD", path, headers={"If-None-Match": tag}).status == 304
    patch(client, image_id, "new")
    assert client.get(path, If_None_Match=tag).status == 200


@pytest.mark.parametrize("guard", [WRONG, "nonsense", 'W/"x"', ""])
def test_a_change_of_something_else_is_refused(client: Client, guard: str) -> None:
    image_id = client.active(b"data", name="before")
    refused = patch(client, image_id, "after", If_Match=guard)
    assert (refused.status, refused.reason) == (412, "Precondition Failed")
    assert client.delete(f"/v2/images/{image_id}", If_Match=guard).status == 412
    assert client.show(image_id)["name"] == "before"
    assert client.download(image_id).body == b"data"


def test_a_change_of_what_was_seen(client: Client) -> None:
    image_id = client.create()
    tag = tag_of(client, image_id)
    changed = patch(client, image_id, "mine", If_Match=tag)
    assert changed.status == 200
    assert patch(client, image_id, "too late", If_Match=tag).status == 412
    assert patch(client, image_id, "any", If_Match="*").status == 200
    assert client.delete(f"/v2/images/{image_id}", If_Match=tag).status == 412
    path = f"/v2/images/{image_id}"
    assert client.delete(path, If_Match=tag_of(client, image_id)).status == 204
    assert client.delete(path, If_Match="*").status == 404


def test_no_update_is_lost(client: Client) -> None:
    image_id = client.create(name="0")

    def increment(_: int) -> int:
        for attempt in range(1, 100):
            reply = client.get(f"/v2/images/{image_id}")
            name = str(int(reply.json()["name"]) + 1)
            if patch(client, image_id, name, If_Match=reply.headers["etag"]).status == 200:
                return attempt
        raise AssertionError("never succeeded")

    with ThreadPoolExecutor(8) as threads:
        attempts = sum(threads.map(increment, range(24)))
    assert client.show(image_id)["name"] == "24"
    assert attempts > 24, "nobody was in anybody's way: the test shows nothing"


def test_only_one_of_two_deletes_or_changes(client: Client) -> None:
    for _ in range(5):
        image_id = client.create(name="0")
        tag = tag_of(client, image_id)

        def act(number: int, image_id: str = image_id, tag: str = tag) -> Any:
            if number % 2:
                return patch(client, image_id, "1", If_Match=tag).status
            return client.delete(f"/v2/images/{image_id}", If_Match=tag).status

        with ThreadPoolExecutor(4) as threads:
            done = list(threads.map(act, range(4)))
        assert sum(status in (200, 204) for status in done) == 1, done
        assert set(done) <= {200, 204, 404, 412}
