"""Members: the projects that a shared image is shared with."""

from datetime import datetime
from enum import StrEnum

import attrs

from imgservice.domain.errors import Invalid
from imgservice.domain.storable import LONGEST_NAME, check_storable


class MemberStatus(StrEnum):
    """The project's decision. Only accepted images are in its lists."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@attrs.frozen
class Member:
    """A project that an image is shared with; times are naive UTC."""

    image_id: str
    project: str
    status: MemberStatus
    created_at: datetime
    updated_at: datetime


def read_project(value: object) -> str:
    """Return the value as the id of a project; `Invalid` if it cannot be one."""
    if not value:
        raise Invalid("Member can't be empty")
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise Invalid(f"A member is a string of at most {LONGEST_NAME} characters.")
    check_storable("member", value)
    return value


def read_status(value: object) -> MemberStatus:
    """Return the value as a status; `Invalid` if it is none."""
    if not isinstance(value, str) or value not in tuple(MemberStatus):
        raise Invalid('Incorrect request: Status must be "pending", "accepted" or "rejected".')
    return MemberStatus(value)
