"""The database without a service: the one statement that a `show` cannot do without."""

import time

import attrs
import psycopg
import sqlalchemy as sa

from bench.databases import DatabaseServer
from bench.usage import Usage, watched
from imgservice.db.engine.postgresql import Postgresql
from imgservice.db.engine.statement import Statement
from imgservice.db.repositories.rows import image_columns, is_live
from imgservice.db.schema.tables import images

_SELECT = Statement(
    sa.select(*image_columns("project")).where(
        images.c.id == sa.bindparam("image"), is_live(images)
    )
)


@attrs.frozen
class Select:
    """A psycopg connection that waits for each answer and does nothing with it."""

    column = "select"
    url: str = attrs.field(repr=False)
    image: str
    server: DatabaseServer

    def run(self, seconds: float) -> tuple[int, Usage]:
        """Read the image for so long; return how often, and what one thread needed for it."""
        compiled = _SELECT.compiled(Postgresql.dialect)
        values = compiled.values({"image": self.image, "project": None})
        count, deadline = 0, time.monotonic() + seconds
        with (
            psycopg.connect(self.url, autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(compiled.sql, values, prepare=True)
            with watched(None, self.server) as usage:
                begin = time.thread_time()
                while time.monotonic() < deadline:
                    cursor.execute(compiled.sql, values, prepare=True)
                    cursor.fetchall()
                    count += 1
                usage.cpu = time.thread_time() - begin
        return count, usage
