"""Who sees which images: the conditions for a project, each with one index that it can use."""

from collections.abc import Iterator, Sequence
from typing import Literal

import sqlalchemy as sa

from imgservice.db.engine.aggregate import unindexed
from imgservice.db.repositories.listing.keys import Condition
from imgservice.db.repositories.listing.shape import Shape
from imgservice.db.repositories.rows import is_live
from imgservice.db.schema.tables import image_members, images
from imgservice.domain.image import Visibility


def ways(shape: Shape) -> Sequence[Condition]:
    """Return the ways in which images are visible to the caller, each a part of the statement."""
    if not shape.is_admin:
        member = is_member(None if shape.any_member_status else "member_status")
        ways = _visible(shape.visibility, member, shape.has_project)
        return [sa.or_(*ways)] if shape.is_long else ways
    if shape.visibility is None:
        return [sa.or_(unindexed(images.c.visibility) != "community", _own())]
    return [sa.true()]


def _visible(
    wanted: Visibility | Literal["all"] | None, member: Condition, has_project: bool
) -> Sequence[Condition]:
    """Return the ways in which a caller, with a project or without, sees images of a visibility.

    Without a visibility in the query, community images of other projects are left out.
    """
    visibility = images.c.visibility
    if wanted in (Visibility.PUBLIC, Visibility.COMMUNITY):
        return [visibility == str(wanted)]
    ways = list(_own_ways(wanted, member)) if has_project else []
    if wanted in (None, "all"):
        ways.append(visibility == "public")
    if wanted == "all":
        ways.append(visibility == "community")
    return ways or [sa.false()]


def _own() -> Condition:
    return images.c.owner == sa.bindparam("project")


def _own_ways(wanted: Visibility | Literal["all"] | None, member: Condition) -> Iterator[Condition]:
    """Yield the ways in which a project sees more than everybody does."""
    yield _own()
    if wanted in (None, "all", Visibility.SHARED):
        # Few images are shared with one project: found by their ids, not by this column.
        yield sa.and_(unindexed(images.c.visibility) == "shared", member)


def shown(member: Condition, has_project: bool) -> Sequence[Condition]:
    """Return the ways in which a caller who knows an image's id sees it: listed, or unowned."""
    unowned = sa.and_(images.c.owner.is_(None), unindexed(images.c.visibility) != "private")
    return [*_visible("all", member, has_project), unowned]


def is_member(status: str | None) -> Condition:
    """The project is a member of the image, in the status of the parameter `status` or in any."""
    members = image_members.c
    found = sa.select(members.image_id).where(
        members.member == sa.bindparam("project"), is_live(image_members)
    )
    if status is not None:
        found = found.where(members.status == sa.bindparam(status))
    return images.c.id.in_(found)


def was_member() -> Condition:
    """The project was a member of the image when that was deleted, and its members with it."""
    members = image_members.c
    found = sa.select(members.id).where(
        members.image_id == images.c.id,
        members.member == sa.bindparam("project"),
        members.deleted_at == images.c.deleted_at,
    )
    return found.exists()
