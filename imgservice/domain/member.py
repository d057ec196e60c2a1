"""Members: the projects that a shared image is shared with."""

from datetime import datetime
from enum import StrEnum

import attrs


class MemberStatus(StrEnum):
    """What the project thinks of the offer; only what it accepted is in its lists."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@attrs.frozen
class Member:
    """A project's membership of an image; times are naive UTC."""

    image_id: str
    project: str
    status: MemberStatus
    created_at: datetime
    updated_at: datetime
