"""`auth.anonymous_read`: what one who says nothing of himself may see, and that nothing changes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.real.accounts import USERS, basic, user, write_htpasswd, write_users
from tests.real.client import Client
from tests.real.roles import add, patch
from tests.real.service import Service, running

VISIBILITIES = ("public", "community", "private", "shared")


@attrs.frozen
class Open:
    service: Service
    ids: Mapping[str, str]

    @property
    def anybody(self) -> Client:
        return self.service.client


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    directory = tmp_path_factory.mktemp("anonymous")
    htpasswd, users = directory / "htpasswd", directory / "users"
    write_htpasswd(htpasswd, *USERS)
    write_users(users, USERS)
    basic_options = {"file": str(htpasswd), "users": str(users)}
    auth: Any = {"mode": "basic", "basic": basic_options, "anonymous_read": True}
    with running(directory, {"auth": auth}) as service:
        root = user(service, "root")
        ids = {}
        for visibility in VISIBILITIES:
            for owner in ("apollo", None):
                name = f"{owner} {visibility}"
                ids[name] = root.active(b"data", name=name, visibility=visibility, owner=owner)
        member = {"member": "gemini"}
        root.post(f"/v2/images/{ids['apollo shared']}/members", member)
        yield Open(service, ids)


OPEN = {f"{owner} {visibility}" for owner in ("apollo", None) for visibility in VISIBILITIES[:2]}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"apollo public", "None public"}),
        ("?visibility=public", {"apollo public", "None public"}),
        ("?visibility=community", {"apollo community", "None community"}),
        ("?visibility=all", OPEN),
        ("?visibility=private", set()),
        ("?visibility=shared", set()),
        ("?visibility=shared&member_status=all", set()),
        ("?owner=apollo", {"apollo public"}),
        ("?name=apollo+private", set()),
        ("?os_hidden=true", set()),
    ],
)
def test_lists(opened: Open, query: str, found: set[str]) -> None:
    images = opened.anybody.get(f"/v2/images{query}").json()["images"]
    assert {image["name"] for image in images} == found


def test_what_is_hidden_marks_no_page(opened: Open) -> None:
    marker = opened.ids["apollo private"]
    assert opened.anybody.get(f"/v2/images?marker={marker}").status == 400


def test_images_by_id(opened: Open) -> None:
    for name, image_id in opened.ids.items():
        expected = 200 if name in OPEN else 404
        assert opened.anybody.get(f"/v2/images/{image_id}").status == expected, name
        assert opened.anybody.download(image_id).status == expected, name


def test_nothing_changes(opened: Open) -> None:
    before = opened.service.everything()
    anybody, octets = opened.anybody, {"Content-Type": "application/octet-stream"}
    for name, image_id in opened.ids.items():
        image = f"/v2/images/{image_id}"
        found = {
            patch(anybody, image_id, add("name", "mine")).status,
            anybody.delete(image).status,
            anybody.request("PUT", f"{image}/file", b"other", octets).status,
            anybody.request("PUT", f"{image}/tags/mine").status,
            anybody.request("POST", f"{image}/actions/deactivate").status,
            anybody.post(f"{image}/members", {"member": "gemini"}).status,
            anybody.delete(f"{image}/members/gemini").status,
            anybody.post(f"{image}/locations", {"url": "http://192.0.2.1/x"}).status,
        }
        assert found <= ({403} if name in OPEN else {404, 403}), name
    for document in ({}, {"owner": "apollo"}, {"visibility": "public"}):
        assert anybody.post("/v2/images", document).status == 403
    assert opened.service.everything() == before


@pytest.mark.parametrize(
    "headers",
    [
        basic("alice", "wrong"),
        basic("mallory"),
        {"Authorization": ""},
        {"Authorization": "Bearer x"},
    ],
)
def test_wrong_credentials_are_not_anonymous(opened: Open, headers: dict[str, str]) -> None:
    """A client that sends credentials is told that they are not accepted."""
    assert opened.anybody.get("/v2/images", **headers).status == 401


def test_users_are_who_they_are(opened: Open) -> None:
    names = {
        image["name"] for image in user(opened.service, "alice").get("/v2/images").json()["images"]
    }
    assert {"apollo private", "apollo shared"} <= names


def test_by_default_nobody_is_anonymous(tmp_path: Path) -> None:
    with running(tmp_path, {"auth": {"mode": "trusted_headers"}}) as service:
        for path in ("/v2/images", "/v2/schemas/image", "/v2/info/import", "/v2/nothing"):
            assert service.client.get(path).status == 401
        assert service.client.get("/versions").status == 200
        assert service.client.get("/healthcheck").status == 200
