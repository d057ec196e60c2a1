"""Another node, of Glance, as the database sees it: rows written in plain SQL, as Glance does."""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs
import sqlalchemy as sa

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
Row = tuple[Any, ...]


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


@attrs.frozen
class Other:
    engine: sa.Engine

    @classmethod
    def on(cls, url: str) -> "Other":
        """Return one on the database of this URL, as our configuration has it."""
        parsed = sa.make_url(url)
        driver = DRIVERS[parsed.get_backend_name()]
        return cls(sa.create_engine(parsed.set(drivername=driver), poolclass=sa.NullPool))

    @property
    def kind(self) -> str:
        return self.engine.dialect.name

    def run(self, text: str, **values: Any) -> int:
        """Run a statement by itself; return how many rows it touched."""
        with self.engine.begin() as connection:
            return connection.execute(sa.text(text), values).rowcount

    def rows(self, text: str, **values: Any) -> list[Row]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(text), values)]

    def one(self, text: str, **values: Any) -> Row:
        [row] = self.rows(text, **values)
        return row

    def locations(self, image_id: str) -> list[list[str]]:
        """Return the URLs of an image's locations in the orders in which Glance may read them.

        It names no order: PostgreSQL then reads the table from its beginning, or along an index.
        """
        text = sa.text("SELECT value FROM image_locations WHERE image_id = :id AND deleted = :no")
        plans = {"postgresql": (("indexscan", "bitmapscan"), ("seqscan", "bitmapscan"))}
        found = []
        for unwanted in plans.get(self.kind, ((),)):
            with self.engine.connect() as connection:
                for name in unwanted:
                    connection.execute(sa.text(f"SET enable_{name} = off"))
                rows = connection.execute(text, {"id": image_id, "no": False})
                found.append([url for (url,) in rows])
        return found

    # -- rows as Glance writes them ---------------------------------------------------------------

    def insert(self, table: str, **values: Any) -> None:
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        self.run(f"INSERT INTO {table} ({names}) VALUES ({marks})", **values)  # noqa: S608

    def image(self, **values: Any) -> str:
        """Insert an image, and return its id."""
        row: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "name": "theirs",
            "status": "active",
            "visibility": "shared",
            "owner": "ours",
            "disk_format": "raw",
            "container_format": "bare",
            "min_disk": 0,
            "min_ram": 0,
            "protected": False,
            "os_hidden": False,
            "created_at": now(),
            "updated_at": now(),
            "deleted": False,
            **values,
        }
        self.insert("images", **row)
        return str(row["id"])

    def property(self, image_id: str, name: str, value: str | None, deleted: bool = False) -> None:
        self._child("image_properties", image_id, deleted, name=name, value=value)

    def location(
        self,
        image_id: str,
        url: str,
        metadata: Mapping[str, Any] | None = None,
        status: str = "active",
        deleted: bool = False,
    ) -> None:
        text = json.dumps(metadata if metadata is not None else {})
        self._child("image_locations", image_id, deleted, value=url, meta_data=text, status=status)

    def member(self, image_id: str, project: str, status: str, deleted: bool = False) -> None:
        self._child(
            "image_members", image_id, deleted, member=project, can_share=False, status=status
        )

    def _child(self, table: str, image_id: str, deleted: bool, **values: Any) -> None:
        moment = now()
        self.insert(
            table,
            image_id=image_id,
            created_at=moment,
            updated_at=moment,
            deleted=deleted,
            deleted_at=moment if deleted else None,
            **values,
        )

    def task(self, image_id: str, kind: str, task_input: Mapping[str, Any]) -> str:
        """Insert a task that is running, and return its id."""
        task_id = str(uuid.uuid4())
        self.insert(
            "tasks",
            id=task_id,
            type=kind,
            status="processing",
            owner="ours",
            image_id=image_id,
            request_id="req-theirs",
            user_id="their-user",
            created_at=now(),
            updated_at=now(),
            deleted=False,
        )
        self.insert(
            "task_info",
            task_id=task_id,
            input=json.dumps(task_input),
            message="Copied 15 MiB",
        )
        return task_id
