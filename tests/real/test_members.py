"""Sharing images, as the owner, the member and everybody else see it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.client import Client
from tests.real.roles import Callers, caller, callers, decide, members, patch, replace, trusting
from tests.real.service import Service

NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    auth = {"mode": "trusted_headers", "anonymous_read": True}
    folder = tmp_path_factory.mktemp("members")
    with trusting(folder, limits={"members": 2}, auth=auth) as started:
        yield started


@pytest.fixture
def roles(service: Service) -> Callers:
    return callers(service)


def shared(roles: Callers, **fields: Any) -> str:
    """Create an image that is shared with the project of `roles.other`."""
    image_id = roles.owner.create(**fields)
    assert roles.owner.post(members(image_id), {"member": "theirs"}).status == 200
    return image_id


def listed(client: Client, query: str = "") -> list[str]:
    reply = client.get(f"/v2/images{query}")
    return [image["id"] for image in reply.json()["images"]]


def test_a_member_as_it_is_shown(roles: Callers) -> None:
    image_id = roles.owner.create()
    assert roles.owner.get(members(image_id)).json() == {
        "members": [],
        "schema": "/v2/schemas/members",
    }
    reply = roles.owner.post(members(image_id), {"member": "theirs"})
    member = reply.json()
    assert reply.status == 200
    assert member == {
        "member_id": "theirs",
        "image_id": image_id,
        "status": "pending",
        "created_at": member["created_at"],
        "updated_at": member["created_at"],
        "schema": "/v2/schemas/member",
    }
    assert roles.owner.get(members(image_id, "theirs")).json() == member
    assert roles.owner.get(members(image_id)).json()["members"] == [member]


def test_from_the_offer_to_its_end(service: Service, roles: Callers) -> None:
    image_id = shared(roles)
    assert roles.other.get(f"/v2/images/{image_id}").status == 200
    assert image_id not in listed(roles.other)
    assert image_id in listed(roles.other, "?member_status=pending&visibility=shared")
    reply = decide(roles.other, image_id, "theirs", "accepted")
    assert (reply.status, reply.json()["status"]) == (200, "accepted")
    assert image_id in listed(roles.other)
    assert decide(roles.other, image_id, "theirs", "rejected").status == 200
    assert image_id not in listed(roles.other)
    assert roles.other.get(f"/v2/images/{image_id}").status == 200
    assert roles.owner.delete(members(image_id, "theirs")).status == 204
    assert roles.other.get(f"/v2/images/{image_id}").status == 404
    assert roles.owner.delete(members(image_id, "theirs")).status == 404
    again = roles.owner.post(members(image_id), {"member": "theirs"})
    assert (again.status, again.json()["status"]) == (200, "pending")
    query = "SELECT deleted, deleted_at, can_share FROM image_members WHERE image_id = ?"
    assert service.rows(query, image_id) == [(0, None, 0)]


def test_a_member_sees_itself_only(service: Service, roles: Callers) -> None:
    image_id = shared(roles)
    assert roles.owner.post(members(image_id), {"member": "third"}).status == 200
    third = caller(service, "third", "reader")
    for client, project in ((roles.other, "theirs"), (third, "third")):
        found = client.get(members(image_id)).json()["members"]
        assert [member["member_id"] for member in found] == [project]
    assert third.get(members(image_id, "third")).status == 200
    assert third.get(members(image_id, "theirs")).status == 404
    for client in (roles.owner, roles.reader, roles.admin):
        found = client.get(members(image_id)).json()["members"]
        assert [member["member_id"] for member in found] == ["theirs", "third"]


ACTIONS = ("list", "show", "add", "accept", "remove")


def statuses(client: Client, image_id: str) -> dict[str, int]:
    return {
        "list": client.get(members(image_id)).status,
        "show": client.get(members(image_id, "theirs")).status,
        "add": client.post(members(image_id), {"member": "more"}).status,
        "accept": decide(client, image_id, "theirs", "accepted").status,
        "remove": client.delete(members(image_id, "theirs")).status,
    }


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("admin", (200, 200, 200, 200, 204)),
        ("owner", (200, 200, 200, 403, 204)),
        ("reader", (200, 200, 403, 403, 403)),
        ("other", (200, 200, 403, 200, 403)),
    ],
)
def test_who_may_do_what(roles: Callers, role: str, expected: tuple[int, ...]) -> None:
    image_id = shared(roles)
    found = statuses(getattr(roles, role), image_id)
    assert found == dict(zip(ACTIONS, expected, strict=True))


def test_a_reader_of_the_member_decides_nothing(service: Service, roles: Callers) -> None:
    image_id = shared(roles)
    assert decide(caller(service, "theirs", "reader"), image_id, "theirs", "accepted").status == 403


def test_strangers_find_nothing(service: Service, roles: Callers) -> None:
    image_id = shared(roles)
    stranger = caller(service, "stranger")
    assert statuses(stranger, image_id) == dict.fromkeys(ACTIONS, 404)
    assert statuses(roles.admin, NOWHERE) == dict.fromkeys(ACTIONS, 404)


def test_members_of_an_image_without_owner_see_themselves(service: Service, roles: Callers) -> None:
    image_id = shared(roles)
    assert patch(roles.admin, image_id, replace("owner", None)).status == 200
    stranger = caller(service, "stranger")
    for client, expected in ((roles.admin, 1), (roles.other, 1), (stranger, 0)):
        assert len(client.get(members(image_id)).json()["members"]) == expected
    assert service.client.get(members(image_id)).status == 404  # anonymous
    assert service.client.get(members(image_id, "theirs")).status == 404
    assert stranger.get(members(image_id, "theirs")).status == 404
    assert decide(stranger, image_id, "theirs", "accepted").status == 404
    assert stranger.post(members(image_id), {"member": "stranger"}).status == 403
    assert decide(roles.other, image_id, "theirs", "accepted").status == 200


@pytest.mark.parametrize("visibility", ["private", "community", "public"])
def test_only_shared_images_have_members(roles: Callers, visibility: str) -> None:
    image_id = roles.admin.create(visibility=visibility)
    expected = dict.fromkeys(ACTIONS, 403) | {"show": 404}
    assert statuses(roles.admin, image_id) == expected
    reply = roles.admin.get(members(image_id))
    assert b"Only shared images have members." in reply.body


def test_members_wait_while_an_image_is_not_shared(roles: Callers) -> None:
    image_id = shared(roles)
    assert patch(roles.owner, image_id, replace("visibility", "private")).status == 200
    assert roles.other.get(f"/v2/images/{image_id}").status == 404
    assert patch(roles.owner, image_id, replace("visibility", "shared")).status == 200
    assert roles.other.get(f"/v2/images/{image_id}").status == 200


def test_duplicates_and_limits(roles: Callers) -> None:
    image_id = shared(roles)
    reply = roles.owner.post(members(image_id), {"member": "theirs"})
    assert reply.status == 409 and b"Member theirs is duplicated for image" in reply.body
    assert roles.owner.post(members(image_id), {"member": "second"}).status == 200
    assert roles.owner.post(members(image_id), {"member": "third"}).status == 413


@pytest.mark.parametrize(
    "document",
    [{}, [], None, "x", 5, {"member": 5}, {"member": ""}, {"member": None}, {"member": ["x"]},
     {"member": {"x": 1}}, {"member": "x" * 256}, {"member": "\U0001f600"}, {"member": "\0"}],
    ids=repr,
)  # fmt: skip
def test_members_that_are_none(roles: Callers, document: Any) -> None:
    image_id = roles.owner.create()
    assert roles.owner.post(members(image_id), document).status == 400
    assert roles.owner.get(members(image_id)).json()["members"] == []


@pytest.mark.parametrize(
    "document",
    [{}, [], None, "accepted", {"status": "maybe"}, {"status": 5}, {"status": None},
     {"status": ["accepted"]}, {"status": {}}],
    ids=repr,
)  # fmt: skip
def test_decisions_that_are_none(roles: Callers, document: Any) -> None:
    image_id = shared(roles)
    body = json.dumps(document).encode()
    assert roles.other.put(members(image_id, "theirs"), body).status == 400
    assert roles.other.get(members(image_id, "theirs")).json()["status"] == "pending"
