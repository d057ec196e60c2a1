"""The repository of members."""

from collections.abc import Callable, Sequence
from datetime import datetime

import sqlalchemy as sa

from imgservice.db.engine.database import Database, Rows, Transaction
from imgservice.db.engine.statement import Row, Statement
from imgservice.db.repositories.locking import lock
from imgservice.db.repositories.rows import is_live, utc_now
from imgservice.db.schema.tables import image_members
from imgservice.domain.errors import DuplicateMember, MemberNotFound
from imgservice.domain.limits import check_count
from imgservice.domain.member import Member, MemberStatus

_MEMBERS = image_members.c
_OF_IMAGE = _MEMBERS.image_id == sa.bindparam("image")
_OF_PROJECT = _MEMBERS.member == sa.bindparam("project")
_ROWS = sa.select(
    _MEMBERS.image_id, _MEMBERS.member, _MEMBERS.status, _MEMBERS.created_at, _MEMBERS.updated_at
).where(_OF_IMAGE, is_live(image_members))
_LIST = Statement(_ROWS.order_by(_MEMBERS.id))
_GET = Statement(_ROWS.where(_OF_PROJECT))
_KNOWN = Statement(
    sa.select(
        sa.select(sa.func.count(_MEMBERS.id))
        .where(_OF_IMAGE, is_live(image_members))
        .scalar_subquery(),
        sa.select(sa.func.max(_MEMBERS.id))
        .where(_OF_IMAGE, _OF_PROJECT, is_live(image_members))
        .scalar_subquery(),
        sa.select(sa.func.max(_MEMBERS.id)).where(_OF_IMAGE, _OF_PROJECT).scalar_subquery(),
    )
)
_NOW: sa.BindParameter[datetime] = sa.bindparam("now")
_ADD = Statement(
    sa.insert(image_members).values(
        image_id=sa.bindparam("image"),
        member=sa.bindparam("project"),
        can_share=sa.false(),
        status=MemberStatus.PENDING.value,
        created_at=_NOW,
        updated_at=_NOW,
        deleted=sa.false(),
    )
)
_REVIVE = Statement(
    sa.update(image_members)
    .where(_MEMBERS.id == sa.bindparam("row"))
    .values(
        status=MemberStatus.PENDING.value,
        updated_at=_NOW,
        deleted=sa.false(),
        deleted_at=sa.null(),
    )
)
_THIS = sa.update(image_members).where(_OF_IMAGE, _OF_PROJECT, is_live(image_members))
_SET_STATUS = Statement(_THIS.values(status=sa.bindparam("new_status"), updated_at=_NOW))
_REMOVE = Statement(_THIS.values(deleted=sa.true(), deleted_at=_NOW, updated_at=_NOW))


class Members:
    """The `MemberRepository` of a database that may be shared with Glance."""

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now

    async def list(self, image_id: str) -> Sequence[Member]:
        return await self._database.fetch(_LIST, {"image": image_id}, _to_members)

    async def get(self, image_id: str, project: str) -> Member:
        values = {"image": image_id, "project": project}
        return _only(await self._database.fetch(_GET, values, _to_members), image_id, project)

    async def add(self, image_id: str, project: str, most: int) -> Member:
        async def work(transaction: Transaction) -> Member:
            await lock(transaction, image_id)
            values = {"image": image_id, "project": project, "now": self._now()}
            count, live, known = (await transaction.execute(_KNOWN, values)).rows[0]
            check_count("members", count + 1, most)
            if live is not None:
                raise DuplicateMember(image_id, project)
            # A purge may have removed the row meanwhile.
            revived = {**values, "row": known}
            if known is None or not (await transaction.execute(_REVIVE, revived)).count:
                await transaction.execute(_ADD, values)
            return await _get(transaction, image_id, project)

        return await self._database.run(work)

    async def set_status(self, image_id: str, project: str, status: MemberStatus) -> Member:
        async def work(transaction: Transaction) -> Member:
            values = {"image": image_id, "project": project, "now": self._now()}
            await transaction.execute(_SET_STATUS, {**values, "new_status": status.value})
            return await _get(transaction, image_id, project)

        return await self._database.run(work)

    async def remove(self, image_id: str, project: str) -> None:
        async def work(transaction: Transaction) -> None:
            values = {"image": image_id, "project": project, "now": self._now()}
            if not (await transaction.execute(_REMOVE, values)).count:
                raise MemberNotFound(image_id, project)

        await self._database.run(work)


async def _get(transaction: Transaction, image_id: str, project: str) -> Member:
    found = await transaction.execute(_GET, {"image": image_id, "project": project})
    return _only(_to_members(found), image_id, project)


def _only(found: Sequence[Member], image_id: str, project: str) -> Member:
    if not found:
        raise MemberNotFound(image_id, project)
    return found[0]


def _to_members(found: Rows) -> Sequence[Member]:
    return [_to_member(row) for row in found.rows]


def _to_member(row: Row) -> Member:
    image_id, project, status, created_at, updated_at = row
    return Member(image_id, project, MemberStatus(status), created_at, updated_at or created_at)
