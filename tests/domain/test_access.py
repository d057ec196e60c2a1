"""Who may do what, rule by rule."""

from datetime import datetime

import attrs
import pytest

from imgservice.domain import access
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, ImageNotFound
from imgservice.domain.image import Image, Status, Visibility

NOW = datetime(2026, 1, 2, 3, 4, 5)
OWNED = Image("an-id", Status.QUEUED, NOW, NOW, owner="mine", visibility=Visibility.PRIVATE)
ADMIN = Context("root", "ops", frozenset({"admin", "member", "reader"}), is_admin=True)
MEMBER = Context("me", "mine", frozenset({"member", "reader"}))
READER = Context("me", "mine", frozenset({"reader"}))
STRANGER = Context("she", "hers", frozenset({"member", "reader"}))
ANONYMOUS = Context(roles=frozenset({"member", "reader"}), read_only=True)
CHANGES = (
    "add_image",
    "modify_image",
    "delete_image",
    "upload_image",
    "communitize_image",
    "deactivate",
    "reactivate",
    "add_member",
    "delete_member",
)


@pytest.mark.parametrize("action", CHANGES)
def test_changes_are_for_members_of_the_owner_and_admins(action: str) -> None:
    assert access.may(ADMIN, action, OWNED)
    assert access.may(MEMBER, action, OWNED)
    assert not access.may(READER, action, OWNED)
    assert not access.may(STRANGER, action, OWNED)


@pytest.mark.parametrize("action", [*CHANGES, "publicize_image"])
def test_whoever_may_only_read_changes_nothing(action: str) -> None:
    reading_admin = attrs.evolve(ADMIN, read_only=True)
    assert not access.may(reading_admin, action, OWNED)
    assert not access.may(ANONYMOUS, action, attrs.evolve(OWNED, owner=None))


def test_only_admins_publish() -> None:
    assert access.may(ADMIN, "publicize_image", OWNED)
    assert not access.may(MEMBER, "publicize_image", OWNED)


@pytest.mark.parametrize(
    ("visibility", "membership", "seen"),
    [
        (Visibility.PUBLIC, None, True),
        (Visibility.COMMUNITY, None, True),
        (Visibility.SHARED, None, False),
        (Visibility.SHARED, "pending", True),
        (Visibility.SHARED, "rejected", True),
        (Visibility.PRIVATE, None, False),
        (Visibility.PRIVATE, "accepted", False),
    ],
)
def test_what_a_stranger_sees(visibility: Visibility, membership: str | None, seen: bool) -> None:
    image = attrs.evolve(OWNED, visibility=visibility, membership=membership)
    assert access.may(STRANGER, "get_image", image) is seen
    assert access.may(STRANGER, "download_image", image) is seen


SHARED = attrs.evolve(OWNED, visibility=Visibility.SHARED)
JOINED = attrs.evolve(SHARED, membership="pending")


@pytest.mark.parametrize("action", ["get_member", "get_members"])
def test_who_sees_members(action: str) -> None:
    for asker in (ADMIN, MEMBER, READER):
        assert access.may(asker, action, SHARED)
    assert access.may(STRANGER, action, JOINED)
    assert not access.may(STRANGER, action, SHARED)
    assert access.may(STRANGER, action, attrs.evolve(SHARED, owner=None))
    assert not access.may(attrs.evolve(STRANGER, roles={"member"}), action, JOINED)


def test_only_the_member_itself_decides() -> None:
    assert access.may(STRANGER, "modify_member", JOINED)
    assert access.may(ADMIN, "modify_member", SHARED)
    assert not access.may(STRANGER, "modify_member", SHARED)
    assert not access.may(attrs.evolve(STRANGER, roles={"reader"}), "modify_member", JOINED)
    assert not access.may(MEMBER, "modify_member", SHARED)
    assert not access.may(MEMBER, "modify_member", attrs.evolve(JOINED, owner="mine"))
    assert not access.may(attrs.evolve(ADMIN, read_only=True), "modify_member", JOINED)


def test_a_reader_sees_but_does_not_download() -> None:
    assert access.may(READER, "get_image", OWNED)
    assert not access.may(READER, "download_image", OWNED)


def test_an_image_without_owner_is_for_all_to_see_and_for_admins_to_change() -> None:
    nobodys = attrs.evolve(OWNED, owner=None)
    assert access.may(STRANGER, "get_image", nobodys)
    assert not access.may(STRANGER, "delete_image", nobodys)
    assert not access.may(Context(roles=frozenset({"member"})), "delete_image", nobodys)
    assert access.may(ADMIN, "delete_image", nobodys)


def test_what_may_not_be_seen_is_not_found_rather_than_forbidden() -> None:
    with pytest.raises(ImageNotFound):
        access.require(STRANGER, "delete_image", OWNED)
    with pytest.raises(Forbidden):
        access.require(READER, "delete_image", OWNED)
