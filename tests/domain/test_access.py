"""Who may do what, rule by rule."""

from datetime import datetime

import attrs
import pytest

from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, ImageNotFound
from imgservice.domain.image import Image, Status, Visibility
from imgservice.policy.defaults import DefaultRules

ACCESS = Access(DefaultRules())
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
    assert ACCESS.may(ADMIN, action, OWNED)
    assert ACCESS.may(MEMBER, action, OWNED)
    assert not ACCESS.may(READER, action, OWNED)
    assert not ACCESS.may(STRANGER, action, OWNED)


@pytest.mark.parametrize("action", [*CHANGES, "publicize_image"])
def test_whoever_may_only_read_changes_nothing(action: str) -> None:
    reading_admin = attrs.evolve(ADMIN, read_only=True)
    assert not ACCESS.may(reading_admin, action, OWNED)
    assert not ACCESS.may(ANONYMOUS, action, attrs.evolve(OWNED, owner=None))


def test_only_admins_publish() -> None:
    assert ACCESS.may(ADMIN, "publicize_image", OWNED)
    assert not ACCESS.may(MEMBER, "publicize_image", OWNED)


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
    assert ACCESS.may(STRANGER, "get_image", image) is seen
    assert ACCESS.may(STRANGER, "download_image", image) is seen


SHARED = attrs.evolve(OWNED, visibility=Visibility.SHARED)
JOINED = attrs.evolve(SHARED, membership="pending")


@pytest.mark.parametrize("action", ["get_member", "get_members"])
def test_who_sees_members(action: str) -> None:
    for caller in (ADMIN, MEMBER, READER):
        assert ACCESS.may(caller, action, SHARED)
    assert ACCESS.may(STRANGER, action, JOINED)
    assert not ACCESS.may(STRANGER, action, SHARED)
    assert ACCESS.may(STRANGER, action, attrs.evolve(SHARED, owner=None))
    assert not ACCESS.may(attrs.evolve(STRANGER, roles={"member"}), action, JOINED)


def test_only_the_member_itself_decides() -> None:
    assert ACCESS.may(STRANGER, "modify_member", JOINED)
    assert ACCESS.may(ADMIN, "modify_member", SHARED)
    assert not ACCESS.may(STRANGER, "modify_member", SHARED)
    assert not ACCESS.may(attrs.evolve(STRANGER, roles={"reader"}), "modify_member", JOINED)
    assert not ACCESS.may(MEMBER, "modify_member", SHARED)
    assert not ACCESS.may(MEMBER, "modify_member", attrs.evolve(JOINED, owner="mine"))
    assert not ACCESS.may(attrs.evolve(ADMIN, read_only=True), "modify_member", JOINED)


def test_a_reader_sees_but_does_not_download() -> None:
    assert ACCESS.may(READER, "get_image", OWNED)
    assert not ACCESS.may(READER, "download_image", OWNED)


def test_an_image_without_owner_is_for_all_to_see_and_for_admins_to_change() -> None:
    nobodys = attrs.evolve(OWNED, owner=None, visibility=Visibility.SHARED)
    assert ACCESS.may(STRANGER, "get_image", nobodys)
    private = attrs.evolve(nobodys, visibility=Visibility.PRIVATE)
    assert not ACCESS.may(STRANGER, "get_image", private)
    assert not ACCESS.may(STRANGER, "download_image", private)
    assert not ACCESS.may(STRANGER, "delete_image", nobodys)
    assert not ACCESS.may(Context(roles=frozenset({"member"})), "delete_image", nobodys)
    assert ACCESS.may(ADMIN, "delete_image", nobodys)


def test_what_may_not_be_seen_is_not_found_rather_than_forbidden() -> None:
    with pytest.raises(ImageNotFound):
        ACCESS.require(STRANGER, "delete_image", OWNED)
    with pytest.raises(Forbidden):
        ACCESS.require(READER, "delete_image", OWNED)
