"""What answers say to caches and browsers, and what they do not say of us."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.client import Client
from tests.real.service import Service, running

PRIVATE = "private, no-cache"
OF_EVERYBODY = {
    "/healthcheck": "no-store",
    "/v2/openapi.json": "public, max-age=300",
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Give a service that knows nobody."""
    options = {"auth": {"mode": "trusted_headers"}}
    with running(tmp_path_factory.mktemp("guarded"), options) as started:
        yield started


def readable(document: Any, image_id: str) -> Iterator[str]:
    """Return every URL that can be read, with the image in place of its variables."""
    for path, item in document["paths"].items():
        if "get" in item:
            filled = path.replace("{image_id}", image_id)
            yield "/v2" + re.sub(r"\{\w+\}", "none", filled)


def test_every_answer_tells_caches_whose_it_is(client: Client) -> None:
    image_id = client.active(b"some", name="Test image")
    paths = list(readable(client.get("/v2/openapi.json").json(), image_id))
    assert len(paths) > 20
    for path in (*paths, *OF_EVERYBODY, "/", "/versions", "/v2", "/v2/none", "/favicon.ico"):
        for method in ("GET", "HEAD"):
            reply = client.request(method, path)
            expected = OF_EVERYBODY.get(path, PRIVATE if reply.status < 400 else "no-store")
            assert (path, reply.headers.get("cache-control")) == (path, expected)
            assert "server" not in reply.headers
    known = {"If-None-Match": client.get(f"/v2/images/{image_id}").headers["etag"]}
    reply = client.request("GET", f"/v2/images/{image_id}", headers=known)
    assert (reply.status, reply.headers["cache-control"]) == (304, PRIVATE)
    part = client.download(image_id, Range="bytes=1-2")
    assert (part.status, part.headers["cache-control"]) == (206, PRIVATE)


def test_refusals_of_the_connection_name_no_program(client: Client) -> None:
    assert "server" not in client.exchange(b"nonsense\r\n\r\n").headers
    assert "server" not in client.exchange(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").headers


def test_downloads_have_a_name(client: Client) -> None:
    image_id = client.active(b"some", name='Ä "test"/image\r\nX-Bad: 1')
    for reply in (
        client.download(image_id),
        client.download(image_id, Range="bytes=0-1"),
        client.request("HEAD", f"/v2/images/{image_id}/file"),
    ):
        assert reply.headers["content-disposition"] == (
            'attachment; filename="A _test__image__X-Bad_ 1.raw";'
            " filename*=UTF-8''%C3%84%20_test__image__X-Bad_%201.raw"
        )
        assert "x-bad" not in reply.headers


@pytest.mark.parametrize(
    "path", ["/favicon.ico", "/robots.txt", "/docs", "/docs/", "/metrics", "/.well-known/x"]
)
def test_what_browsers_and_tools_look_for_is_not_there(guarded: Service, path: str) -> None:
    assert guarded.client.get(path).status == 404


@pytest.mark.parametrize("path", ["/", "/v9", "/other", "/docsx"])
def test_other_paths_show_the_versions(guarded: Service, path: str) -> None:
    assert guarded.client.get(path).status == 300


def test_the_description_of_the_api_needs_no_identity(guarded: Service) -> None:
    client = guarded.client
    reply = client.get("/v2/openapi.json")
    assert reply.status == 200
    assert reply.json()["paths"]["/openapi.json"]["get"]["security"] == []
    assert client.get("/v2.9/openapi.json").status == 200
    for path in ("/v2/images", "/v2/schemas/image", "/v2/openapi.json/x", "/v2/x/openapi.json"):
        assert client.get(path).status == 401
